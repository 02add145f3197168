"""Feet that stand stay where they are, though the camera sways or the depth is found unevenly.

A hand that holds the camera tilts it by a degree now and then, and the person in the picture seems
to rise by some centimetres with the foot he stands on; who walks towards a camera comes nearer by
fits and starts, and up or down a floor that does not slope. The feet that stand tell by how much.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import spsolve

from mvai.geometry.stance import runs, stances

SHORTEST_S = 0.7
"""Of a clip that is looked at."""
SWAY_M_S, NOISE_M, FAR_M = 0.1, 0.03, 0.3
"""Along the floor, deviations of the speed at which the body seems to be moved, of a standing
foot's place from frame to frame, and of how far the body is moved."""
RISES_M_S, LEVEL_M, HIGH_M = 0.05, 0.01, 1.0
"""The same up and down, for somebody who goes nowhere."""
BELOW_M = 0.1
"""Of the lower foot's height where nobody sees it: people jump."""
SLOPE = 0.2
"""Deviation of how much a levelled floor rises by the metre: the vertical is off by 6 to 9
degrees."""
FLOOR_M = 0.05
"""Stands are as high as one another but for this, or on something else: a step, a box."""
ROUNDS = 4
PACE_S = 0.3
"""How fast somebody goes is averaged over this time."""


def sway(
    feet: Float[np.ndarray, "frames 2 points 3"],
    centre: Float[np.ndarray, "frames 3"],
    lowest: Float[np.ndarray, " frames"],
    fps: float,
    below: Bool[np.ndarray, " frames"] | None = None,
) -> Float[np.ndarray, "frames 3"]:
    """How far the body seems to be moved in every frame (metres).

    Args:
        feet: heels and toes of the left and right foot in a level world.
        centre: of the body.
        lowest: height of the body's lowest point.
        fps: frames a second.
        below: frames in which the legs are below the picture and somebody stands or walks on them:
            the lower foot is on the floor, wherever it goes.
    """
    frames = len(feet)
    if frames < SHORTEST_S * fps:
        return np.zeros((frames, 3))
    points = feet.reshape(frames, -1, 3)
    still = stances(feet, lowest, fps).reshape(frames, -1)
    out = np.zeros((frames, 3))
    for k in (0, 2):
        out[:, k] = moved(points[..., k], still, fps, SWAY_M_S, NOISE_M, FAR_M)
    # Heels and toes that stand on one floor are not equally high.
    every = range(points.shape[1])
    usual = [np.median(points[still[:, i], i, 1]) if still[:, i].any() else 0.0 for i in every]
    height, noise = points[..., 1] - usual, np.full(points.shape[1], LEVEL_M)
    if below is not None and below.any():
        low = points[..., 1].min(1)
        stood = still.any(1) if still.any() else below
        height = np.column_stack([height, low - np.median(low[stood])])
        still = np.column_stack([still, below])
        noise = np.append(noise, BELOW_M)
    along = gaussian_filter1d(centre[:, [0, 2]], PACE_S * fps, axis=0, mode="nearest")
    pace = np.linalg.norm(np.diff(along, axis=0), axis=1) * fps
    rising = np.hypot(RISES_M_S, SLOPE * pace)
    out[:, 1] = moved(height, still, fps, rising, noise, HIGH_M, FLOOR_M)
    return out


def moved(
    place: Float[np.ndarray, "frames points"],
    still: Bool[np.ndarray, "frames points"],
    fps: float,
    speed_m_s: float | Float[np.ndarray, " steps"],
    noise_m: float | Float[np.ndarray, " points"],
    far_m: float,
    apart_m: float | None = None,
) -> Float[np.ndarray, " frames"]:
    """How far the body seems to have moved in every frame along one axis, by points that stand.

    Every stand has a place of its own; what all stands move by at a moment is the body's. Least
    squares.

    Args:
        place: of the points along the axis (metres).
        still: when they stand.
        fps: frames a second.
        speed_m_s, noise_m, far_m: deviations, as `SWAY_M_S`, `NOISE_M` and `FAR_M`.
        apart_m: deviation of most stands' places from 0; None where they may be anywhere.
    """
    stood = [(i, a, b) for i, column in enumerate(still.T) for a, b in runs(column)]
    frames = len(place)
    if not stood:
        return np.zeros(frames)
    # The unknowns are the movement in every frame, then the place of every stand.
    every, noise = np.arange(frames), np.broadcast_to(noise_m, still.shape[1])
    step = np.broadcast_to(fps**0.5 / np.asarray(speed_m_s), frames - 1)
    equations = [
        (every[:, None], np.full((frames, 1), 1 / far_m), np.zeros(frames)),
        (np.stack([every[1:], every[:-1]], 1), np.stack([step, -step], 1), np.zeros(frames - 1)),
    ]
    for k, (i, a, b) in enumerate(stood):
        columns = np.stack([every[a:b], np.full(b - a, frames + k)], 1)
        equations.append((columns, np.full((b - a, 2), 1 / noise[i]), place[a:b, i] / noise[i]))
    known = np.concatenate([wanted for _, _, wanted in equations])
    columns = np.concatenate([c.ravel() for c, _, _ in equations])
    values = np.concatenate([v.ravel() for _, v, _ in equations])
    rows = np.arange(len(known)).repeat(
        np.concatenate([np.full(len(c), c.shape[1]) for c, _, _ in equations])
    )
    A = csr_array((values, (rows, columns)), shape=(len(known), frames + len(stood)))
    H, g = A.T @ A, A.T @ known
    found = np.zeros(len(g))
    for _ in range(1 if apart_m is None else ROUNDS):
        own = np.zeros(len(g))
        if apart_m is not None:
            # Geman and McClure: what is far from the floor is on something else.
            far = (found[frames:] / (2 * apart_m)) ** 2
            own[frames:] = 1 / (apart_m * (1 + far)) ** 2
        found = np.asarray(spsolve((H + diags_array(own)).tocsc(), g))
    return found[:frames]
