"""Clips of any length: windows that overlap, fitted one after another with one shape.

Memory for the banded system grows with the number of frames, so a long clip is cut. The shape is
found first, from frames spread over the whole clip; where two windows overlap, both have seen
enough of the past and future, and one fades into the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.nets.landmark_correction import Lift
from mvai.nets.pose_prior import GaussianMixture
from mvai.reconstruct.clip_energy import ClipWeights
from mvai.reconstruct.fit_clip import ClipFit, fit_clip
from mvai.types import Keypoints

WINDOW = 480
OVERLAP = 40
LONG_GAP_S = 0.5
"""A gap up to this long is left to the fit, which carries a movement through it."""
SETTLE_S = 0.15
"""Who comes out from behind a tree or goes out of the picture is seen wrongly for this long."""
SHAPE_FRAMES = 200
"""Frames that the shape of a long clip is found from."""


def windows(frames: int, size: int = WINDOW, overlap: int = OVERLAP) -> list[slice]:
    """Overlapping windows of nearly equal length, none longer than `size`."""
    if frames <= size:
        return [slice(0, frames)]
    count = int(np.ceil((frames - overlap) / (size - overlap)))
    starts = np.linspace(0, frames - size, count).round().astype(int)
    return [slice(int(a), int(a) + size) for a in starts]


def stretch(keypoints: Keypoints, span: slice) -> Keypoints:
    """Some frames of a clip; a step in `span` lowers its rate."""
    return replace(
        keypoints,
        xy_px=keypoints.xy_px[span],
        confidence=keypoints.confidence[span],
        xyz_m=None if keypoints.xyz_m is None else keypoints.xyz_m[span],
        present=None if keypoints.present is None else keypoints.present[span],
        fps=keypoints.fps / (span.step or 1),
    )


def bridged(
    u: Float[Tensor, "frames unknowns"], seen: Bool[np.ndarray, " frames"], fps: float
) -> Float[Tensor, "frames unknowns"]:
    """The unknowns with what nobody saw made plain: before the first and after the last sighting
    the nearest frame seen well is held, and a long gap is crossed evenly.

    Left to themselves such frames would keep the last movement going, and fall.
    """
    ids = np.flatnonzero(seen_well(seen, fps))
    if not len(ids):
        return u
    out = u.clone()
    out[: ids[0]], out[ids[-1] + 1 :] = u[ids[0]], u[ids[-1]]
    for a, b in itertools.pairwise(ids):
        if b - a > LONG_GAP_S * fps + 1:
            t = torch.linspace(0, 1, int(b - a + 1))[:, None]
            # Starts and ends at rest.
            t = t * t * (3 - 2 * t)
            out[a : b + 1] = u[a] * (1 - t) + u[b] * t
    return out


def seen_well(seen: Bool[np.ndarray, " frames"], fps: float) -> Bool[np.ndarray, " frames"]:
    """The seen frames, less those next to a long absence; all of them if none would be left.

    A detector that catches a glimpse of a leg and an arm makes the rest up, surely.
    """
    ids = np.flatnonzero(seen)
    around = seen.copy()
    for a, b in itertools.pairwise(ids):
        if b - a <= LONG_GAP_S * fps + 1:
            around[a:b] = True
    steps = round(SETTLE_S * fps)
    if steps:
        # The clip's own ends are no absence.
        around = binary_erosion(around, iterations=steps, border_value=1)
    well = seen & around
    return well if well.any() else seen


def fit_long_clip(
    body: LinearBody,
    keypoints: Keypoints,
    prior: GaussianMixture,
    lift: Lift,
    weights: ClipWeights,
    report: Callable[[float], None] = lambda share: None,
) -> ClipFit:
    """`fit_clip` in bounded memory."""
    spans = windows(keypoints.frames)
    if len(spans) == 1:
        fit = fit_clip(body, keypoints, prior, lift, weights, report=report)
        return replace(fit, u=bridged(fit.u, keypoints.seen(), keypoints.fps))
    step = int(np.ceil(keypoints.frames / SHAPE_FRAMES))
    spread = stretch(keypoints, slice(None, None, step))
    shape = fit_clip(body, spread, prior, lift, weights).shape
    whole: ClipFit | None = None
    for k, span in enumerate(spans):
        part = fit_clip(
            body, stretch(keypoints, span), prior, lift, weights, known_shape=shape,
            report=lambda share, k=k: report((k + share) / len(spans)),
        )  # fmt: skip
        whole = part if whole is None else joined(whole, part, span.start)
    assert whole is not None
    return replace(whole, u=bridged(whole.u, keypoints.seen(), keypoints.fps))


def joined(first: ClipFit, second: ClipFit, start: int) -> ClipFit:
    """Two fits of one clip, the second of which begins at frame `start`; they cross-fade."""
    shared = len(first.u) - start
    fade = torch.linspace(0, 1, shared + 2)[1:-1, None]
    u = second.u.clone()
    # The same turn may be written as another rotation vector; take the one the first window used.
    at, there = first.u[start, :3], u[0, :3]
    angle = there.norm()
    if angle > 1e-6:
        turns = [there / angle * (angle + 2 * torch.pi * k) for k in (-2, -1, 0, 1, 2)]
        best = min(range(5), key=lambda i: float((turns[i] - at).norm())) - 2
        lengths = u[:, :3].norm(dim=1, keepdim=True).clamp(min=1e-9)
        u[:, :3] = u[:, :3] / lengths * (lengths + 2 * torch.pi * best)
    blended = first.u[start:] * (1 - fade) + u[:shared] * fade
    return replace(
        first,
        u=torch.cat([first.u[:start], blended, u[shared:]]),
        planted=np.concatenate(
            [first.planted[: start + shared // 2], second.planted[shared // 2 :]]
        ),
        energy=first.energy + second.energy,
    )
