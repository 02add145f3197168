"""VPoser (Pavlakos et al., CVPR 2019): the pose prior that SMPLify-X was published with.

Only its decoder is needed: the fit moves a latent code z, poses the body with what the decoder
makes of it, and pays |z|^2. The weights belong to their makers and are read from the user's copy,
of version 1 (`vposer_v1_0/snapshots/*.pt`) or 2 (`V02_05/snapshots/*.ckpt`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvai.body.smpl import BODY
from mvai.io.unpickle import read_pickle
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS

LATENT, WIDTH, JOINTS = 32, 512, 21
LAYERS = {
    "vp_model.decoder_net.": ("0", "3", "5"),
    "decoder_net.": ("0", "3", "5"),
    "bodyprior_": ("dec_fc1", "dec_fc2", "dec_out"),
}
"""The decoder's three linear layers by the names that the versions give them."""
SLOPE = {"bodyprior_": 0.2}
"""Slope of the leaky rectifier below zero; 0.01 unless it stands here."""
WHERE = (
    "V02_*/snapshots/*.ckpt", "vposer*/V02_*/snapshots/*.ckpt", "vposer*/snapshots/*.pt",
    "snapshots/*.ckpt", "snapshots/*.pt",
)  # fmt: skip


class VPoserDecoder(nn.Module):
    """From a latent code to the rotations of the 21 body joints."""

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(LATENT, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, JOINTS * 6)]
        )
        self.slope = slope
        # VPoser counts joints as SMPL does.
        self.order = [BODY[1:].index(n) for n in BODY_JOINTS[1:]]

    def forward(self, z: Float[Tensor, "n 32"]) -> Float[Tensor, "n 21 3 3"]:
        """Rotations in the order of BODY_JOINTS, root left out."""
        x = z
        for layer in self.layers[:2]:
            x = nn.functional.leaky_relu(layer(x), self.slope)
        # Pairs of numbers are the rows of a 3 x 2 matrix whose columns are orthonormalised.
        a = self.layers[2](x).unflatten(-1, (JOINTS, 3, 2))
        first = nn.functional.normalize(a[..., 0], dim=-1)
        second = a[..., 1] - (first * a[..., 1]).sum(-1, keepdim=True) * first
        second = nn.functional.normalize(second, dim=-1)
        R = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
        return R[:, self.order]


def find_vposer(folder: Path | None) -> Path | None:
    """VPoser's weights in or under a folder of body models; None when there are none."""
    if folder is None or not folder.is_dir():
        return None
    found = [p for pattern in WHERE for p in sorted(folder.glob(pattern))]
    return found[0] if found else None


def load_vposer(path: Path) -> VPoserDecoder:
    """The decoder of a VPoser file, without gradients on its weights.

    Raises:
        MvaiError: the file cannot be read or is no VPoser.
    """
    content = read_pickle(path, skip_unknown=True)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    for prefix, names in LAYERS.items():
        keys = [f"{prefix}{n}.{kind}" for n in names for kind in ("weight", "bias")]
        if not all(k in state for k in keys):
            continue
        model = VPoserDecoder(SLOPE.get(prefix, 0.01))
        try:
            for target, key in zip(model.parameters(), keys, strict=True):
                with torch.no_grad():
                    target.copy_(torch.from_numpy(state[key].copy()))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise MvaiError(
                f"{path}: its layers do not have VPoser's sizes; download it again."
            ) from error
        return model.eval().requires_grad_(False)
    raise MvaiError(f"{path}: this is no VPoser file; give vposer_v1_0 or V02_05 as published.")
