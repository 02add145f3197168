"""From a detector's 2D and 3D landmarks to better 3D landmarks, with their uncertainty.

A monocular detector is sure about pixels and guesses depth frame by frame: people lean towards the
camera, limbs are too short, left and right depth flip. Seen over a second together with all other
landmarks many of these errors are predictable, and a small temporal convolutional network (in the
manner of Pavllo et al., CVPR 2019) learns them from rendered motion capture, where the same
detector's mistakes have a known truth. It says how far it trusts each landmark along and across
the view (Kendall and Gal, NeurIPS 2017), which the fit uses as weights.

`mvai train landmark-correction` makes the weights; weights/landmark_correction.md is their card.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import maximum_filter1d
from torch import Tensor, nn

from mvai.types import Keypoints, MvaiError
from mvai.types.names import BODY_KEYPOINTS, mirrored

WEIGHTS = Path(str(files("mvai"))) / "weights" / "landmark_correction.safetensors"
ADVICE = "give what `mvai train landmark-correction` wrote, or install mvai again"
POINTS = len(BODY_KEYPOINTS)
MIRROR = [BODY_KEYPOINTS.index(mirrored(n)) for n in BODY_KEYPOINTS]
FEATURES = 7
"""Per landmark: x, y in body sizes; x, y, z in metres; confidence; whether depth is known."""
RATE = 15.0
"""Frames a second the network is meant for; faster video is read at a stride."""
SAME = {f"{side}_foot_index": f"{side}_big_toe" for side in ("left", "right")}
"""MediaPipe's name of a landmark and another detector's for nearly the same place."""
REACH_S = 0.5
"""The body's size in pixels is its largest within this many seconds."""


Lift = Callable[
    [Keypoints], tuple[Float[np.ndarray, "frames 33 3"], Float[np.ndarray, "frames 33 2"]]
]
"""What gives 3D landmarks and their deviations, as `corrected` returns them."""


class LandmarkCorrection(nn.Module):
    """Residual temporal convolutions with a receptive field of 29 frames."""

    def __init__(self, width: int = 256, dropout: float = 0.2) -> None:
        super().__init__()
        self.enter = nn.Conv1d(POINTS * FEATURES, width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Conv1d(width, width, 5, dilation=d, padding=2 * d, padding_mode="replicate"),
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Conv1d(width, width, 1),
            )
            for d in (1, 2, 4)
        )
        self.leave = nn.Conv1d(width, POINTS * 5, 1)
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(
        self, features: Float[Tensor, "batch frames points features"]
    ) -> tuple[Float[Tensor, "batch frames points 3"], Float[Tensor, "batch frames points 2"]]:
        """Corrected landmarks (metres, crop axes) and log deviations across and along the view."""
        return self.landmarks(features, self.hidden(features))

    def hidden(
        self, features: Float[Tensor, "batch frames points features"]
    ) -> Float[Tensor, "batch width frames"]:
        """What the network makes of a moment and those around it."""
        x = self.enter(features.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = x + block(x)
        return x

    def landmarks(
        self,
        features: Float[Tensor, "batch frames points features"],
        hidden: Float[Tensor, "batch width frames"],
    ) -> tuple[Float[Tensor, "batch frames points 3"], Float[Tensor, "batch frames points 2"]]:
        """As `forward` returns them."""
        out = self.leave(hidden).transpose(1, 2).unflatten(2, (POINTS, 5))
        start = features[..., 2:5]
        return start + out[..., :3], (out[..., 3:] - 2.5).clamp(-5.0, 1.0)


def features(keypoints: Keypoints) -> Float[np.ndarray, "frames 33 7"]:
    """The network's input. Landmarks the detector does not have are zero."""
    frames = keypoints.frames
    out = np.zeros((frames, POINTS, FEATURES), np.float32)
    known = [n if n in keypoints.names else SAME.get(n, n) for n in BODY_KEYPOINTS]
    has = [i for i, n in enumerate(known) if n in keypoints.names]
    columns = [keypoints.index(known[i]) for i in has]
    xy = np.full((frames, POINTS, 2), np.nan)
    xy[:, has] = keypoints.xy_px[:, columns]
    seen = np.isfinite(xy).all(-1)
    xyz = np.full((frames, POINTS, 3), np.nan)
    if keypoints.xyz_m is not None:
        xyz[:, has] = keypoints.xyz_m[:, columns]
    count = np.maximum(seen.sum(1), 1)
    # Without metres, the mean of what is seen stands for hips that are not.
    mean = np.where(seen[..., None], xy, 0.0).sum(1) / count[:, None]
    middle = middle_of_hips(xy, xyz)
    middle = np.where(np.isfinite(middle), middle, mean)
    centred = np.where(seen[..., None], xy - middle[:, None], 0.0)
    size = np.sqrt((centred**2).sum((1, 2)) / count)
    size = maximum_filter1d(size, 2 * round(REACH_S * keypoints.fps) + 1, mode="nearest")
    out[..., :2] = centred / np.maximum(size, 1e-3)[:, None, None]
    out[:, has, 5] = np.where(seen[:, has], keypoints.confidence[:, columns], 0.0)
    depth = np.isfinite(xyz).all(-1)
    out[..., 2:5] = np.where(depth[..., None], xyz, 0.0)
    out[..., 6] = depth
    return out


def middle_of_hips(
    xy: Float[np.ndarray, "frames 33 2"], xyz: Float[np.ndarray, "frames 33 3"]
) -> Float[np.ndarray, "frames 2"]:
    """Pixels of the middle of the hips, NaN where they cannot be told.

    Where the hips are out of the picture they are where the landmarks in metres have them, if these
    are laid on the pixels of what is seen (least squares over scale and place).

    Args:
        xy: of `BODY_KEYPOINTS`, pixels, NaN where unseen.
        xyz: the same in metres, NaN where unknown.
    """
    hips = [BODY_KEYPOINTS.index(n) for n in ("left_hip", "right_hip")]
    both = np.isfinite(xy).all(-1) & np.isfinite(xyz).all(-1)
    share = (both / np.maximum(both.sum(1, keepdims=True), 1))[..., None]
    px, m = np.where(both[..., None], xy, 0.0), np.where(both[..., None], xyz[..., :2], 0.0)
    mean_px, mean_m = (share * px).sum(1), (share * m).sum(1)
    off_m = m - mean_m[:, None]
    spread = (share * off_m**2).sum((1, 2))
    scale = (share * off_m * px).sum((1, 2)) / np.where(spread > 0, spread, np.nan)
    laid = mean_px + scale[:, None] * (xyz[:, hips, :2].mean(1) - mean_m)
    seen = np.isfinite(xy[:, hips]).all((1, 2))
    return np.where(seen[:, None], xy[:, hips].mean(1), laid)


def in_mirror(
    points: Float[Tensor, "frames points channels"], sideways: tuple[int, ...]
) -> Float[Tensor, "frames points channels"]:
    """Left and right exchanged; `sideways` are the channels that point to the right."""
    turned = points[:, MIRROR]
    turned[..., sideways] *= -1
    return turned


@torch.no_grad()
def corrected(
    keypoints: Keypoints, network: LandmarkCorrection
) -> tuple[Float[np.ndarray, "frames 33 3"], Float[np.ndarray, "frames 33 2"]]:
    """Corrected landmarks relative to the middle of the hips and their standard deviations.

    Returns: positions in metres in crop axes (x right, y down, z forward along the line of sight
    to the person) and deviations (m) across and along the view.
    """
    x = torch.from_numpy(features(keypoints))
    both = torch.stack([x, in_mirror(x, sideways=(0, 2))])
    stride = max(1, round(keypoints.fps / RATE))
    position, deviation = torch.empty(len(x), POINTS, 3), torch.empty(len(x), POINTS, 2)
    for phase in range(min(stride, len(x))):
        p, s = network(both[:, phase::stride])
        # What the mirror shows is a second opinion that costs next to nothing.
        position[phase::stride] = (p[0] + in_mirror(p[1], sideways=(0,))) / 2
        deviation[phase::stride] = ((s[0] + in_mirror(s[1], sideways=())) / 2).exp()
    return position.numpy(), deviation.numpy()


@lru_cache(maxsize=1)
def expected_landmarks() -> Lift:
    """The shipped network as a source of landmarks, read once."""
    return partial(corrected, network=load_landmark_correction())


def load_landmark_correction(path: Path = WEIGHTS) -> LandmarkCorrection:
    """The trained network.

    Raises:
        MvaiError: the file is missing or does not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        network = LandmarkCorrection(width=tensors["enter.weight"].shape[0])
        network.load_state_dict(tensors, strict=True)
    except FileNotFoundError as error:
        raise MvaiError(
            f"{path}: the landmark correction's weights are missing; {ADVICE}."
        ) from error
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise MvaiError(
            f"{path}: the landmark correction's weights do not match this version; {ADVICE}."
        ) from error
    return network.eval().requires_grad_(False)
