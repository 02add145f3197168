"""Turn the camera's frame into a level world with its floor at y = 0.

A camera that looks down sees a standing person lean and a walking one climb. What points to the
vertical is weak on its own: planted feet share a floor, people are upright on average, and cameras
are held nearly level. The pitch and roll that agree best with all three are found together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class LevelWeights:
    """Standard deviations of what points to the vertical."""

    floor_m: float = 0.05
    upright_rad: float = np.deg2rad(12)
    pitch_rad: float = np.deg2rad(10)
    roll_rad: float = np.deg2rad(3)


def level(
    trunk: Float[np.ndarray, "frames 3"],
    feet: Float[np.ndarray, "frames points 3"],
    planted: Bool[np.ndarray, "frames points"],
    weights: LevelWeights | None = None,
) -> Float[np.ndarray, "4 4"]:
    """Rigid transform from camera-aligned to level coordinates, floor at y = 0.

    Args:
        trunk: from the middle of the hips to the neck, any length, x right, y up, z back.
        feet, planted: points of the feet and when they stand still.
    """
    w = weights or LevelWeights()
    up = trunk / np.linalg.norm(trunk, axis=1, keepdims=True)
    # Bent-over frames say nothing about the vertical; the median drops them.
    up = np.median(up, axis=0)
    contacts = (
        np.stack([feet[on, i].mean(0) for i, on in _stretches(planted)])
        if planted.any()
        else np.zeros((0, 3))
    )

    def residuals(angles: np.ndarray) -> np.ndarray:
        R = Rotation.from_euler("XZ", angles).as_matrix()
        tilted = R @ up
        parts = [
            np.arctan2(tilted[[0, 2]], tilted[1]) / w.upright_rad,
            angles / [w.pitch_rad, w.roll_rad],
        ]
        if len(contacts) > 1:
            height = contacts @ R[1]
            d = (height - np.median(height)) / w.floor_m
            # A few dozen steps are one floor, not dozens of witnesses.
            parts.append(2 * np.tanh(d / 2) * np.sqrt(min(len(d), 8) / len(d)))
        return np.concatenate(parts)

    R = Rotation.from_euler("XZ", least_squares(residuals, np.zeros(2)).x).as_matrix()
    lowest = feet.reshape(-1, 3) @ R[1]
    floor = np.median(contacts @ R[1]) if len(contacts) else np.percentile(lowest, 5)
    T = np.eye(4)
    T[:3, :3] = R
    T[1, 3] = -floor
    return T


def _stretches(planted: Bool[np.ndarray, "frames points"]) -> list[tuple[int, slice]]:
    """Every run of frames in which a point stands still."""
    out = []
    for i in range(planted.shape[1]):
        edges = np.diff(np.concatenate([[0], planted[:, i].astype(int), [0]]))
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        out += [(i, slice(a, b)) for a, b in zip(starts, ends, strict=True) if b - a >= 3]
    return out
