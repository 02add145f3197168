"""Clips of any length: windows that overlap, fitted one after another with one shape.

Memory for the banded system grows with the number of frames, so a long clip is cut. The shape is
found first, from frames spread over the whole clip; where two windows overlap, both have seen
enough of the past and future, and one fades into the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from mvai.body.model import LinearBody
from mvai.nets.landmark_correction import Lift
from mvai.nets.pose_prior import GaussianMixture
from mvai.reconstruct.absence import leaving, rested, seen_well
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.reconstruct.fit_clip import ClipFit, fit_clip
from mvai.reconstruct.grounded_legs import grounded
from mvai.types import Keypoints

WINDOW = 480
OVERLAP = 40
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
        return finished(fit_clip(body, keypoints, prior, lift, weights, report=report), keypoints)
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
    return finished(whole, keypoints)


def finished(fit: ClipFit, keypoints: Keypoints) -> ClipFit:
    """With what nobody saw made plain."""
    well = seen_well(keypoints.seen(), keypoints.fps, leaving(keypoints))
    fit = replace(fit, told=well)
    fit = replace(fit, R_level=fit.level()[:3, :3])
    return rested(grounded(fit, keypoints), keypoints.fps)


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
