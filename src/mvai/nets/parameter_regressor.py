"""From regressed vertices to the parameters of a body model, as in GraphCMR.

Module names follow the authors' checkpoints (`layers.0.fc_block.0.weight`).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

POLAR_STEPS = 12


class FcBlock(nn.Module):
    """Linear map, batch normalisation, ReLU."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.fc_block = nn.Sequential(nn.Linear(into, out), nn.BatchNorm1d(out), nn.ReLU())

    def forward(self, x: Float[Tensor, "batch into"]) -> Float[Tensor, "batch out"]:
        return self.fc_block(x)


class FcResBlock(nn.Module):
    """Two linear maps with batch normalisation and a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc_block = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, width), nn.BatchNorm1d(width),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        return torch.relu(x + self.fc_block(x))


class ParameterRegressor(nn.Module):
    """Rotations of joints and shape coefficients from a coarse mesh beside its template.

    The published one has 1723 vertices, width 1024, 24 rotations and 10 shape coefficients.
    """

    def __init__(
        self, template: Float[np.ndarray, "n 3"], joints: int, shape: int, width: int = 1024
    ) -> None:
        super().__init__()
        self.register_buffer("template", torch.from_numpy(template.astype(np.float32)), False)
        self.template: Tensor
        self.joints = joints
        self.layers = nn.Sequential(
            FcBlock(len(template) * 6, width),
            FcResBlock(width),
            FcResBlock(width),
            nn.Linear(width, joints * 9 + shape),
        )

    def forward(
        self, vertices: Float[Tensor, "batch n 3"]
    ) -> tuple[Float[Tensor, "batch joints 3 3"], Float[Tensor, "batch shape"]]:
        """Rotations, orthogonal, and shape coefficients."""
        beside = torch.cat([vertices, self.template.expand(len(vertices), -1, -1)], dim=-1)
        out = self.layers(beside.flatten(1))
        matrices = out[:, : self.joints * 9].view(-1, self.joints, 3, 3)
        return nearest_rotations(matrices), out[:, self.joints * 9 :]


def nearest_rotations(matrices: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3 3"]:
    """The orthogonal matrices nearest to the given ones (the SVD with its singular values set to
    one), by Newton-Schulz iteration (Higham, Functions of Matrices, 2008, section 8.3).

    Unlike the SVD it has a bounded gradient where singular values are equal, as those of nearly
    orthogonal matrices are. Matrices that mirror stay mirrored.
    """
    # The Frobenius norm bounds the largest singular value; convergence needs it below sqrt(3).
    norm = matrices.flatten(-2).norm(dim=-1).clamp(min=1e-6)
    x = matrices / (norm / np.sqrt(3) * 1.01)[..., None, None]
    for _ in range(POLAR_STEPS):
        x = 1.5 * x - 0.5 * x @ x.transpose(-1, -2) @ x
    return x
