"""Turn the camera's frame into a level world with its floor at y = 0.

A camera that looks down sees a standing person lean and a walking one climb. What points to the
vertical is weak on its own: planted feet share a floor, the centre of mass of a standing person is
above the feet, and cameras are held nearly level. The pitch and roll that agree best with all
three are found together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

SEGMENTS = (
    (0.028, "Arm", "ForeArm"),
    (0.022, "ForeArm", "Hand"),
    (0.100, "UpLeg", "Leg"),
    (0.0465, "Leg", "Foot"),
    (0.0145, "Foot", "ToeBase"),
)
"""Mass of the limbs' segments as a share of the body's, and their ends."""

STEEPEST_RAD = np.deg2rad(55)
"""A person tilted more than this in the camera's view is taken to lie, not to stand."""


@dataclass(frozen=True)
class LevelWeights:
    """Standard deviations of what points to the vertical."""

    floor_m: float = 0.05
    upright_rad: float = np.deg2rad(6)
    pitch_rad: float = np.deg2rad(15)
    roll_rad: float = np.deg2rad(3)


def level(
    lean: Float[np.ndarray, "frames 3"],
    standing: Float[np.ndarray, " frames"],
    feet: Float[np.ndarray, "frames points 3"],
    planted: Bool[np.ndarray, "frames points"],
    weights: LevelWeights | None = None,
) -> Float[np.ndarray, "4 4"]:
    """Rigid transform from camera-aligned to level coordinates, floor at y = 0.

    Args:
        lean, standing: as `balance` gives them; x right, y up, z back.
        feet, planted: points of the feet and when they stand still.
    """
    w = weights or LevelWeights()
    upright = standing > 0.5
    up = lean / np.linalg.norm(lean, axis=1, keepdims=True)
    # The median drops frames in which the person reaches, turns or runs.
    up = np.median(up[upright], axis=0) if upright.sum() >= 3 else None
    rests = [feet[on, i].mean(0) for i, on in _stretches(planted)]
    contacts = np.array(rests).reshape(-1, 3)

    def residuals(angles: np.ndarray) -> np.ndarray:
        R = Rotation.from_euler("XZ", angles).as_matrix()
        parts = [angles / [w.pitch_rad, w.roll_rad]]
        if up is not None:
            tilted = R @ up
            parts.append(np.arctan2(tilted[[0, 2]], tilted[1]) / w.upright_rad)
        # Somebody who never stands may rest a foot anywhere.
        if up is not None and len(contacts) > 1:
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


def balance(
    joints: tuple[str, ...], t_world_joint: Float[np.ndarray, "frames joints 3"]
) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, " frames"]]:
    """From the middle of the feet to the centre of mass, and whether the legs stand (0 to 1).

    Segment masses after Winter, Biomechanics and Motor Control of Human Movement, table 4.1, each
    at the middle of its segment.
    """

    def at(name: str) -> np.ndarray:
        return t_world_joint[:, joints.index(name)]

    mass = 0.081 * at("Head") + 0.497 * (at("Hips") + at("Neck")) / 2
    straight = np.ones(len(t_world_joint))
    support = np.zeros_like(mass)
    for side in ("Left", "Right"):
        for share, a, b in SEGMENTS:
            mass = mass + share * (at(side + a) + at(side + b)) / 2
        hip, knee, ankle = (at(side + n) for n in ("UpLeg", "Leg", "Foot"))
        length = np.linalg.norm(hip - knee, axis=1) + np.linalg.norm(knee - ankle, axis=1)
        reach = np.linalg.norm(hip - ankle, axis=1) / np.maximum(length, 1e-9)
        straight = np.minimum(straight, np.clip((reach - 0.85) / 0.1, 0, 1))
        support = support + (at(f"{side}Foot") + at(f"{side}ToeBase")) / 4
    total = 0.578 + 2 * sum(share for share, _, _ in SEGMENTS)
    lean = mass / total - support
    tilt = np.arccos(np.clip(lean[:, 1] / np.maximum(np.linalg.norm(lean, axis=1), 1e-9), -1, 1))
    # Straight legs that lie are not standing, and no camera is tilted that far.
    return lean, straight * (tilt < STEEPEST_RAD)


def _stretches(planted: Bool[np.ndarray, "frames points"]) -> list[tuple[int, slice]]:
    """Every run of frames in which a point stands still."""
    out = []
    for i in range(planted.shape[1]):
        edges = np.diff(np.concatenate([[0], planted[:, i].astype(int), [0]]))
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        out += [(i, slice(a, b)) for a, b in zip(starts, ends, strict=True) if b - a >= 3]
    return out
