"""Feet that stand keep their height, though the camera sways or the depth is found unevenly.

A hand that holds the camera tilts it by a degree now and then, and the person in the picture seems
to rise by some centimetres with the foot he stands on. That foot tells how far, and the body is
moved back by it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, minimum_filter1d
from scipy.sparse import csr_array
from scipy.sparse.linalg import spsolve

from mvai.reconstruct.fit_clip import FOOT_POINTS, ClipFit
from mvai.types.names import BODY_JOINTS

LONG_S = 0.7
"""A foot stands if it is still for this long."""
STILL_M_S = 0.25
"""Slower than this is still, averaged over `AVERAGE_S`."""
AVERAGE_S = 0.15
LOW_M = 0.08
"""Higher than this above the lowest point of the feet within `FLOOR_S` is in the air."""
FLOOR_S = 2.0
NOISE_M, SWAY_M_S, FAR_M = 0.01, 0.05, 0.1
"""Deviations of a standing foot's height, of the speed at which the body seems to rise, and of how
far it does."""


def steadied(fit: ClipFit, fps: float) -> ClipFit:
    """The fit with its body moved up and down so that feet that stand stay where they are."""
    names = fit.kinematics.names
    rows = [len(BODY_JOINTS) + i for i, n in enumerate(names) if n in FOOT_POINTS]
    if not rows or len(fit.u) < LONG_S * fps:
        return fit
    R_level = fit.level()[:3, :3]
    points = fit.kinematics.linearise(fit.u, fit.shape, derivatives=False).points[:, rows]
    feet = points.numpy() @ R_level.T
    rise = risen(feet[..., 1], stands(feet, fps), fps)
    u = fit.u.clone()
    u[:, 3:6] -= torch.from_numpy(rise[:, None] * R_level[1]).float()
    return replace(fit, u=u)


def stands(
    feet: Float[np.ndarray, "frames points 3"], fps: float
) -> Bool[np.ndarray, "frames points"]:
    """When points of the feet rest on the floor for long."""
    smooth = gaussian_filter1d(feet, AVERAGE_S * fps, axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(smooth, axis=0), axis=-1) * fps
    window = 2 * round(FLOOR_S * fps / 2) + 1
    floor = minimum_filter1d(smooth[..., 1].min(1), window, mode="nearest")
    still = (speed < STILL_M_S) & (smooth[..., 1] < floor[:, None] + LOW_M)
    for column in still.T:
        for start, stop in _runs(column):
            if stop - start < LONG_S * fps:
                column[start:stop] = False
    return still


def risen(
    height: Float[np.ndarray, "frames points"],
    still: Bool[np.ndarray, "frames points"],
    fps: float,
) -> Float[np.ndarray, " frames"]:
    """How far the body seems to have risen in every frame, by points that stand.

    Every stand has a height of its own; what all stands rise by at a moment is the body's. Linear
    least squares.
    """
    stood = [(i, a, b) for i, column in enumerate(still.T) for a, b in _runs(column)]
    frames = len(height)
    if not stood:
        return np.zeros(frames)
    # The unknowns are the rise in every frame, then the height of every stand.
    every = np.arange(frames)
    step = fps**0.5 / SWAY_M_S
    equations = [
        (every, np.full(frames, 1 / FAR_M), np.zeros(frames)),
        (np.stack([every[1:], every[:-1]], 1), np.array([step, -step]), np.zeros(frames - 1)),
    ]
    for k, (i, a, b) in enumerate(stood):
        columns = np.stack([every[a:b], np.full(b - a, frames + k)], 1)
        equations.append((columns, np.full(2, 1 / NOISE_M), height[a:b, i] / NOISE_M))
    known = np.concatenate([wanted for _, _, wanted in equations])
    columns = np.concatenate([c.ravel() for c, _, _ in equations])
    values = np.concatenate([np.broadcast_to(v, c.shape).ravel() for c, v, _ in equations])
    rows = np.arange(len(known)).repeat(
        np.concatenate([np.full(len(c), c[0].size) for c, _, _ in equations if len(c)])
    )
    A = csr_array((values, (rows, columns)), shape=(len(known), frames + len(stood)))
    return np.asarray(spsolve((A.T @ A).tocsc(), A.T @ known))[:frames]


def _runs(on: Bool[np.ndarray, " frames"]) -> list[tuple[int, int]]:
    """First frame of every stretch, and the one after its last."""
    edges = np.diff(np.concatenate([[0], on.astype(int), [0]]))
    return list(
        zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True)
    )
