"""An adaptive temporal filter: how strongly to smooth which limb when, and a correction.

mesh2mesh smooths every vertex alike and by its coordinates. This network looks at the joints
instead and predicts two things:

- for every joint and frame the weights of a bank of symmetric low-pass filters (kernel prediction,
  Bako et al., SIGGRAPH 2017; here over time). They sum to 1, so rest and steady motion stay as
  they are, and the filters continue a path by its point reflection, so the ends of a clip stay,
  too. The weights come from lengths alone (speed, acceleration, what each filter would change,
  confidence) and thus do not depend on the axes;
- a slow displacement of every joint, for what no filter over time can take out. It is predicted in
  the body's heading frame, and the direction of view comes into it as an input, so it turns with
  the body and the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mvai.nets.windows import gaussian_matrix
from mvai.types.names import mirrored

POINTS = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "neck", "head_top", "nose", "left_heel", "right_heel", "left_foot_index", "right_foot_index",
    "left_index", "right_index",
)  # fmt: skip
"""The joints it looks at, by the names of a body's regressor."""
MIRROR = [POINTS.index(mirrored(n)) for n in POINTS]
SIDED = [(i, j) for i, j in enumerate(MIRROR) if POINTS[i] in ("left_shoulder", "left_hip")]
"""Pairs of left and right joints that say where the body faces."""

GAUSSIANS_S = (0.03, 0.06, 0.12, 0.24)
"""Standard deviations of the bank's Gaussians, in seconds."""
SHARP_S = (0.06, 0.12, 0.24)
"""Those of its filters that leave curved paths as they are up to second order: twice a Gaussian
less one of twice the variance."""
FILTERS = 1 + len(GAUSSIANS_S) + len(SHARP_S)
"""The first filter changes nothing."""
FEATURES = FILTERS + 2
"""Per joint and frame: what each filter but the first changes, speed, acceleration, confidence."""
START = 3
"""The filter a fresh network prefers."""
CORRECTION_SIGMA_S = 0.12
"""The correction is as slow as a Gaussian of this standard deviation makes it."""


@dataclass(frozen=True)
class AdaptiveFilterSettings:
    """Size of the network."""

    width: int = 32
    """Channels of the part that weighs filters."""
    correction_width: int = 64
    """Channels of the part that corrects; 0 leaves it out."""
    dropout: float = 0.2


def filter_bank(frames: int, fps: float) -> Float[Tensor, "filters frames frames"]:
    """The filters as matrices over a window."""
    bank = [torch.eye(frames)]
    bank += [torch.from_numpy(gaussian_matrix(frames, s * fps)) for s in GAUSSIANS_S]
    for s in SHARP_S:
        narrow, wide = (gaussian_matrix(frames, s * fps * f) for f in (1.0, 2**0.5))
        bank.append(torch.from_numpy(2 * narrow - wide))
    return torch.stack(bank)


class AdaptiveFilter(nn.Module):
    """The network. It works at one frame rate; see `mvai.smooth.adaptive` for others."""

    def __init__(self, settings: AdaptiveFilterSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or AdaptiveFilterSettings()
        self.names = nn.Parameter(0.1 * torch.randn(len(POINTS) + 1, 8))
        """What is particular to each joint; the last is for points that are no joint of ours."""
        self.enter = nn.Conv1d(FEATURES + 8, s.width, 1)
        self.local = nn.Conv1d(s.width, s.width, 5, padding=2, padding_mode="replicate")
        self.shared = nn.Conv1d(2 * s.width, s.width, 1)
        self.wide = nn.Conv1d(
            s.width, s.width, 5, padding=4, dilation=2, padding_mode="replicate"
        )  # fmt: skip
        self.leave = nn.Conv1d(s.width, FILTERS, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)
        with torch.no_grad():
            self.leave.bias[START] = 2.0
        if s.correction_width:
            self.correct = Correction(s.correction_width, s.dropout)

    def filter_weights(
        self,
        points: Float[Tensor, "batch frames points 3"],
        bank: Float[Tensor, "filters frames frames"],
        confidence: Float[Tensor, "batch frames"],
        names: Int[Tensor, " points"],
        fps: float,
    ) -> Float[Tensor, "batch frames points filters"]:
        """How much of each filter every point gets in every frame; sums to 1.

        Args:
            points: relative to the body's centre, metres; the axes do not matter.
            names: which of `POINTS` they are; `len(POINTS)` for any other.
        """
        x = invariants(points, bank, confidence, fps)
        batch, frames, count, _ = x.shape
        own = self.names[names].expand(batch, frames, count, 8)
        x = torch.cat([x, own], -1).permute(0, 2, 3, 1).flatten(0, 1)
        x = nn.functional.silu(self.enter(x))
        x = x + nn.functional.silu(self.local(x))
        x = x.unflatten(0, (batch, count))
        everywhere = x.mean(1, keepdim=True).expand_as(x)
        x = x + nn.functional.silu(
            self.shared(torch.cat([x, everywhere], 2).flatten(0, 1))
        ).unflatten(0, (batch, count))
        x = x.flatten(0, 1)
        x = x + nn.functional.silu(self.wide(x))
        logits = self.leave(x).unflatten(0, (batch, count)).permute(0, 3, 1, 2)
        return logits.softmax(-1)

    def forward(
        self,
        points: Float[Tensor, "batch frames points 3"],
        confidence: Float[Tensor, "batch frames"],
        up: Float[Tensor, "batch 3"],
        view: Float[Tensor, "batch 3"],
        fps: float,
        flipped: Bool[Tensor, " batch"] | None = None,
        spread: Float[Tensor, "points points"] | None = None,
    ) -> Float[Tensor, "batch frames points 3"]:
        """Smoothed and corrected joints (`POINTS`, relative to the body's centre, metres).

        Args:
            up: the world's +Y axis.
            view: direction from the person to the camera; zero where it is not known.
            flipped: where the joints called left are the person's right.
            spread: which share every joint takes of what is said about each. Joints are regressed
                from vertices that follow more than one of them.
        """
        if flipped is not None:
            points = torch.where(flipped[:, None, None, None], points[:, :, MIRROR], points)
        bank = filter_bank(points.shape[1], fps)
        names = torch.arange(len(POINTS))
        weights = self.filter_weights(points, bank, confidence, names, fps)
        if spread is not None:
            weights = torch.einsum("pq,btqk->btpk", spread, weights)
        points = mixed(bank, points, weights)
        if self.settings.correction_width:
            move = self.correction(points, confidence, up, view, fps)
            if spread is not None:
                move = torch.einsum("pq,btqd->btpd", spread, move)
            points = points + move
        if flipped is not None:
            points = torch.where(flipped[:, None, None, None], points[:, :, MIRROR], points)
        return points

    def correction(
        self,
        points: Float[Tensor, "batch frames points 3"],
        confidence: Float[Tensor, "batch frames"],
        up: Float[Tensor, "batch 3"],
        view: Float[Tensor, "batch 3"],
        fps: float,
    ) -> Float[Tensor, "batch frames points 3"]:
        """Displacement of smoothed joints, in their axes, metres."""
        frames = points.shape[1]
        slow = torch.from_numpy(gaussian_matrix(frames, CORRECTION_SIGMA_S * fps))
        R = heading(points, up, slow)
        hips = [POINTS.index(f"{s}_hip") for s in ("left", "right")]
        relative = points - points[:, :, hips].mean(2, keepdim=True)
        local = torch.einsum("btij,btpj->btpi", R, relative)
        seen_from = torch.einsum("btij,bj->bti", R, view)
        x = torch.cat([local.flatten(2), seen_from, confidence[..., None]], -1)
        out = self.correct(x).unflatten(2, (len(POINTS), 3))
        out = torch.einsum("btij,btpi->btpj", R, out)
        return torch.einsum("ts,bspd->btpd", slow, out)


class Correction(nn.Module):
    """Residual temporal convolutions from a posture to its correction (metres)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Conv1d(3 * len(POINTS) + 4, width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Conv1d(width, width, 3, dilation=d, padding=d, padding_mode="replicate"),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Conv1d(width, width, 1),
            )
            for d in (1, 3)
        )
        self.leave = nn.Conv1d(width, 3 * len(POINTS), 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, x: Float[Tensor, "batch frames features"]
    ) -> Float[Tensor, "batch frames out"]:
        x = self.enter(x.transpose(1, 2))
        for block in self.blocks:
            x = x + block(x)
        return 0.1 * self.leave(x).transpose(1, 2)


def mixed(
    bank: Float[Tensor, "filters frames frames"],
    points: Float[Tensor, "batch frames points 3"],
    weights: Float[Tensor, "batch frames points filters"],
) -> Float[Tensor, "batch frames points 3"]:
    """Every point through its own mixture of the filters."""
    filtered = torch.einsum("kts,bspd->ktbpd", bank, points)
    return torch.einsum("ktbpd,btpk->btpd", filtered, weights)


def invariants(
    points: Float[Tensor, "batch frames points 3"],
    bank: Float[Tensor, "filters frames frames"],
    confidence: Float[Tensor, "batch frames"],
    fps: float,
) -> Float[Tensor, "batch frames points features"]:
    """What filters would change (metres), speed and acceleration, all as logarithms; confidence."""
    filtered = torch.einsum("kts,bspd->kbtpd", bank[1:], points)
    change = (filtered - points).norm(dim=-1).movedim(0, -1)
    calm = filtered[START - 1]
    velocity = torch.diff(calm, dim=1) * fps
    velocity = torch.cat([velocity[:, :1], velocity], 1)
    push = torch.diff(velocity, dim=1) * fps
    push = torch.cat([push, push[:, -1:]], 1)
    sure = confidence[:, :, None, None].expand(*points.shape[:3], 1)
    return torch.cat(
        [
            torch.log1p(change / 0.005),
            torch.log1p(velocity.norm(dim=-1, keepdim=True) / 0.2),
            torch.log1p(push.norm(dim=-1, keepdim=True) / 2.0),
            sure,
        ],
        -1,
    )


def heading(
    points: Float[Tensor, "batch frames points 3"],
    up: Float[Tensor, "batch 3"],
    slow: Float[Tensor, "frames frames"],
) -> Float[Tensor, "batch frames 3 3"]:
    """Rotations from the points' axes to the body's heading frame: x to its left, y up, z ahead.

    Left is where the left shoulder and hip lie from the right ones, seen from above.
    """
    left = torch.stack([points[:, :, i] - points[:, :, j] for i, j in SIDED]).sum(0)
    left = torch.einsum("ts,bsd->btd", slow, left)
    y = up[:, None].expand_as(left)
    left = left - (left * y).sum(-1, keepdim=True) * y
    x = nn.functional.normalize(left, dim=-1, eps=1e-3)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -2)
