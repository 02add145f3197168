"""The ground under a source: a floor that seems to slope is taken to be level.

Cameras that were calibrated against a floor a degree or two off, or whose tilt was found a little
wrong, have people climb as they walk. Measured from one height for the whole clip, half of their
steps then never touch the floor. The slope is read off what stands of the feet.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from mvai.transfer.rig_source import SourceMotion

SLOW_M_S = 0.3
LOW_M = 0.06
"""A point of the feet stands if it is slower than the one and at most the other above the body's
lowest point."""
FEWEST = 10
"""Points that a slope is read off."""
NOISE_M = 0.03
"""Points further off the plane than this are on something else, a box or a stair."""
ROUNDS = 10
LEVEL = 3.0
"""Strength of the wish for a level floor, as metres squared that points spread over: who stays in
place shows no slope, only that heels are not as high as toes."""
STEEPEST = 0.05
"""What climbs by more than this (3 degrees) is no floor found wrongly; it is left as it is."""


def floor_slope(
    points: Float[np.ndarray, "frames points 3"],
    lowest: Float[np.ndarray, " frames"],
    fps: float,
    size: float = 1.0,
) -> Float[np.ndarray, "2"]:
    """Rise of the floor along x and z (metres a metre), zero where none is made out.

    A plane through the points that stand, by least squares with Geman-McClure's weights.

    Args:
        points: heels and toes (metres, world).
        lowest: height of the body's lowest point.
        fps: frames a second.
        size: leg length relative to an adult's.
    """
    level = np.zeros(2)
    if len(points) < 3:
        return level
    smooth = gaussian_filter1d(points, max(0.03 * fps, 0.5), axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(smooth, axis=0), axis=2) * fps
    stands = (speed < SLOW_M_S * size) & (points[..., 1] < lowest[:, None] + LOW_M * size)
    if stands.sum() < FEWEST:
        return level
    along, height = points[stands][:, [0, 2]] / size, points[stands][:, 1] / size
    A = np.column_stack([along - along.mean(0), np.ones(len(along))])
    weight = np.ones(len(A))
    plane = np.zeros(3)
    for _ in range(ROUNDS):
        N = A.T @ (weight[:, None] * A) + LEVEL * np.diag([1, 1, 0])
        plane = np.linalg.solve(N, A.T @ (weight * height))
        weight = 1 / (1 + ((height - A @ plane) / NOISE_M) ** 2) ** 2
    slope = plane[:2]
    return slope if np.linalg.norm(slope) < STEEPEST else level


def levelled(motion: SourceMotion, fps: float, size: float) -> SourceMotion:
    """The movement over a level floor: heights of feet and of the lowest point change.

    The hips stay; how high they are follows from the character's own legs and floor.
    """
    points = np.concatenate(motion.feet, axis=1)
    slope = floor_slope(points, motion.lowest, fps, size)
    if not slope.any():
        return motion
    middle = motion.root[:, [0, 2]].mean(0)
    left, right = (
        np.stack([f[..., 0], f[..., 1] - (f[..., [0, 2]] - middle) @ slope, f[..., 2]], -1)
        for f in motion.feet
    )
    lowest = motion.lowest - (motion.root[:, [0, 2]] - middle) @ slope
    return replace(motion, feet=(left, right), lowest=lowest)
