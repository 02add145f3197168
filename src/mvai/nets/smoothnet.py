"""A SmoothNet-style network: every coordinate's path by itself, through a perceptron over time.

After Zeng et al., "SmoothNet: A Plug-and-Play Network for Refining Human Poses in Videos" (ECCV
2022): fully connected layers over the frames of a window, with residual blocks between them, shared
by all coordinates. Two things differ from the paper's basic network: its output is a correction,
not the path itself, so that it starts from no change; and it moves vertices instead of joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class SmoothNetSettings:
    """Size of the network."""

    frames: int = 32
    """Window; the paper's."""
    hidden: int = 128
    """Values between the residual blocks."""
    inner: int = 64
    """Values within them."""
    blocks: int = 3
    dropout: float = 0.1


class SmoothNet(nn.Module):
    """From paths over a window to smoother ones."""

    def __init__(self, settings: SmoothNetSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or SmoothNetSettings()
        self.encoder = nn.Sequential(nn.Linear(s.frames, s.hidden), nn.LeakyReLU(0.1))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(s.hidden, s.inner),
                nn.Dropout(s.dropout),
                nn.LeakyReLU(0.2),
                nn.Linear(s.inner, s.hidden),
                nn.LeakyReLU(0.2),
            )
            for _ in range(s.blocks)
        )
        self.decoder = nn.Linear(s.hidden, s.frames)
        nn.init.zeros_(self.decoder.weight)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, paths: Float[Tensor, "*paths frames"]) -> Float[Tensor, "*paths frames"]:
        """Smoothed coordinates (metres); the last axis is time."""
        x = self.encoder(paths)
        for block in self.blocks:
            x = x + block(x)
        return paths + self.decoder(x)

    def window(self, paths: Float[Tensor, "frames 3 verts"]) -> Float[Tensor, "frames 3 verts"]:
        """The same on a window of vertices' paths."""
        return self(paths.movedim(0, -1)).movedim(-1, 0)


def smoothnet_loss(
    predicted: Float[Tensor, "*batch frames joints 3"],
    truth: Float[Tensor, "*batch frames joints 3"],
) -> Float[Tensor, ""]:
    """The paper's: mean absolute error of position and of acceleration, both weighted 1."""
    error = predicted - truth
    return error.abs().mean() + torch.diff(error, n=2, dim=-3).abs().mean()
