"""Which feet stand on the floor, told from how both of them move.

While one foot swings the other stands, so the slower of the two stands even where a camera that
sees depth unevenly lets it slide. The floor is as high as the lowest foot was within a stride.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

AVERAGE_S = 0.05
"""Positions are averaged over this time."""
LOW_M, HIGH_M, SWINGS_M_S = 0.06, 0.1, 1.0
"""A point stands surely below a part of this height above the floor, and less surely above."""
RISING_M_S = 0.4
"""Likewise the speed at which it goes up or down."""
SLOW_M_S, OF_OTHER, FAST_M_S = 0.15, 0.3, 0.8
"""Likewise the speed along the floor: a small one, with a part of the other foot's added to it, but
never more than the last."""
STRIDE_S = 1.0
FLOOR_S = 0.3
"""The floor's height is averaged over this time."""
ENTER, STAY = 0.4, 0.2
"""How surely a point stands where it begins to, and where it goes on standing."""
SHORTEST_S = 0.1
LIES_M = 0.12
"""With another part of the body this far below both feet, nobody stands on them."""


def stances(
    feet: Float[np.ndarray, "frames 2 points 3"],
    lowest: Float[np.ndarray, " frames"],
    fps: float,
    size: float = 1.0,
) -> Bool[np.ndarray, "frames 2 points"]:
    """When points of the left and right foot stand.

    Args:
        feet: heels and toes (metres, world, y up).
        lowest: height of the body's lowest point.
        fps: frames a second.
        size: of the body relative to an adult's, by which lengths and speeds are scaled.
    """
    if len(feet) < 2:
        return np.zeros(feet.shape[:3], bool)
    smooth = gaussian_filter1d(feet, max(AVERAGE_S * fps, 0.5), axis=0, mode="nearest") / size
    low = smooth[..., 1].min((1, 2))
    floor = minimum_filter1d(low, 2 * round(STRIDE_S * fps / 2) + 1, mode="nearest")
    floor = gaussian_filter1d(floor, FLOOR_S * fps, mode="nearest")
    height = np.maximum(smooth[..., 1] - floor[:, None, None], 0)
    velocity = np.gradient(smooth, axis=0) * fps
    speed = np.linalg.norm(velocity[..., [0, 2]], axis=-1)
    other = speed.min(2)[:, ::-1, None]
    slow = np.minimum(SLOW_M_S + OF_OTHER * other, FAST_M_S)
    high = LOW_M + (HIGH_M - LOW_M) * np.minimum(other / SWINGS_M_S, 1)
    off = (height / high) ** 2 + (velocity[..., 1] / RISING_M_S) ** 2 + (speed / slow) ** 2
    sure = np.where(lowest / size < low - LIES_M, 0.0, np.exp(-off).transpose(1, 2, 0))
    stand = np.zeros(sure.shape, bool)
    for on, s in zip(stand.reshape(-1, len(feet)), sure.reshape(-1, len(feet)), strict=True):
        for a, b in runs(s > STAY):
            on[a:b] = (s[a:b] > ENTER).any() and (b - a) >= SHORTEST_S * fps
    return stand.transpose(2, 0, 1)


def runs(on: Bool[np.ndarray, " frames"]) -> list[tuple[int, int]]:
    """First frame of every stretch, and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
