"""Turn the camera's frame into a level world with its floor at y = 0.

A camera that looks down sees a standing person lean and a walking one climb. What points to the
vertical is weak on its own: planted feet share a floor, the centre of mass of a standing person is
above the feet, a pelvis is upright on most legs, and cameras are held nearly level. The pitch and
roll that agree best with all four are found together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from mvai.geometry.rigid import unit
from mvai.geometry.stance import runs
from mvai.types.names import SIDES

SEGMENTS = (
    (0.028, "Arm", "ForeArm"),
    (0.022, "ForeArm", "Hand"),
    (0.100, "UpLeg", "Leg"),
    (0.0465, "Leg", "Foot"),
    (0.0145, "Foot", "ToeBase"),
)
"""Mass of the limbs' segments as a share of the body's, and their ends."""

RAISED_M = 0.15
"""A foot this far above the other one is off the floor."""
STEEPEST_RAD = np.deg2rad(66)
"""A person tilted more than this in the camera's view is taken to lie, not to stand: cameras rarely
look down more steeply, and one that is held nearly level sees whoever lies along its view tilted
by more."""

POSTURE = (0.59, 0.27, 0.17)
"""How much of up the directions of pelvis, thighs and shanks tell: least squares on the training
people's motion capture, 6.0 degrees off in the median there and 4.5 on validation people."""
RARELY = 0.2
"""Share of frames below which posture is not asked."""
HELD_UP_M = 0.15
"""A still foot this far above the lowest ones does not stand on their floor."""
BURIED_M = 0.3
"""Nobody is deeper than this in the floor."""
SITS = 0.5
"""Cosine of pelvis and thighs below which a person sits or lies, and posture tells nothing."""


@dataclass(frozen=True)
class LevelWeights:
    """Standard deviations of what points to the vertical."""

    floor_m: float = 0.05
    upright_rad: float = np.deg2rad(6)
    posture_rad: float = np.deg2rad(9)
    pitch_rad: float = np.deg2rad(15)
    """Of a Cauchy distribution: most cameras are held nearly level, some hang under a ceiling."""
    roll_rad: float = np.deg2rad(3)


def level(
    lean: Float[np.ndarray, "frames 3"],
    standing: Float[np.ndarray, " frames"],
    feet: Float[np.ndarray, "frames points 3"],
    planted: Bool[np.ndarray, "frames points"],
    held: Float[np.ndarray, "frames 3"],
    joints: Float[np.ndarray, "frames joints 3"],
    weights: LevelWeights | None = None,
) -> Float[np.ndarray, "4 4"]:
    """Rigid transform from camera-aligned to level coordinates, floor at y = 0.

    Args:
        lean, standing: as `balance` gives them; x right, y up, z back.
        feet, planted: points of the feet and when they stand still.
        held: as `posture` gives it.
        joints: of the whole body.
    """
    w = weights or LevelWeights()
    upright = standing > 0.5
    up = lean / np.linalg.norm(lean, axis=1, keepdims=True)
    # The median drops frames in which the person reaches, turns or runs.
    up = np.median(up[upright], axis=0) if upright.sum() >= 3 else None
    tells = held.any(1)
    # Somebody who mostly sits or lies says little by the moments in which he does not.
    often = tells.sum() >= 3 and tells.mean() > RARELY
    stance = np.median(held[tells], axis=0) if often else None
    rests = [feet[on, i].mean(0) for i, on in _stretches(planted)]
    contacts = np.array(rests).reshape(-1, 3)

    def residuals(angles: np.ndarray) -> np.ndarray:
        R = Rotation.from_euler("XZ", angles).as_matrix()
        pitch, roll = angles / [w.pitch_rad, w.roll_rad]
        parts = [np.array([np.sign(pitch) * np.sqrt(np.log1p(pitch**2)), roll])]
        for direction, deviation in ((up, w.upright_rad), (stance, w.posture_rad)):
            if direction is not None:
                tilted = R @ direction
                parts.append(np.arctan2(tilted[[0, 2]], tilted[1]) / deviation)
        # Somebody who never stands may rest a foot anywhere.
        if up is not None and len(contacts) > 1:
            height = contacts @ R[1]
            d = (height - np.median(height)) / w.floor_m
            # A few dozen steps are one floor, not dozens of witnesses.
            parts.append(2 * np.tanh(d / 2) * np.sqrt(min(len(d), 8) / len(d)))
        return np.concatenate(parts)

    # A camera that looks down steeply is not found from a level one.
    starts = [np.zeros(2)]
    starts += [np.array([-np.arctan2(d[2], d[1]), 0.0]) for d in (up, stance) if d is not None]
    best = min((least_squares(residuals, s) for s in starts), key=lambda found: found.cost)
    R = Rotation.from_euler("XZ", best.x).as_matrix()
    T = np.eye(4)
    T[:3, :3] = R
    T[1, 3] = -floor_height(feet, planted, R, joints)
    return T


def floor_height(
    feet: Float[np.ndarray, "frames points 3"],
    planted: Bool[np.ndarray, "frames points"],
    R_level: Float[np.ndarray, "3 3"],
    joints: Float[np.ndarray, "frames joints 3"],
) -> float:
    """Height of the floor in level axes, by the feet and joints as `level` takes them."""
    rests = [feet[on, i].mean(0) for i, on in _stretches(planted)]
    height = np.array(rests).reshape(-1, 3) @ R_level[1]
    if len(height):
        # A foot may be still in the air, of legs that are crossed or laid up.
        floor = float(np.median(height[height < np.percentile(height, 10) + HELD_UP_M]))
    else:
        floor = float(np.percentile(feet.reshape(-1, 3) @ R_level[1], 5))
    # Whoever stands on his hands holds still feet, too.
    lowest = float(np.percentile((joints @ R_level[1]).min(1), 20))
    return lowest if floor - lowest > BURIED_M else floor


def balance(
    joints: tuple[str, ...], t_world_joint: Float[np.ndarray, "frames joints 3"]
) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, " frames"]]:
    """From the middle of the feet to the centre of mass, and whether the legs stand (0 to 1).

    Of somebody who stands on one leg and holds the other foot up it is that leg's foot.

    Segment masses after Winter, Biomechanics and Motor Control of Human Movement, table 4.1, each
    at the middle of its segment.
    """

    def at(name: str) -> np.ndarray:
        return t_world_joint[:, joints.index(name)]

    mass = 0.081 * at("Head") + 0.497 * (at("Hips") + at("Neck")) / 2
    straight, support, raised = [], [], []
    for side, other in (SIDES, SIDES[::-1]):
        for share, a, b in SEGMENTS:
            mass = mass + share * (at(side + a) + at(side + b)) / 2
        hip, knee, ankle = (at(side + n) for n in ("UpLeg", "Leg", "Foot"))
        length = np.linalg.norm(hip - knee, axis=1) + np.linalg.norm(knee - ankle, axis=1)
        reach = np.linalg.norm(hip - ankle, axis=1) / np.maximum(length, 1e-9)
        straight.append(np.clip((reach - 0.85) / 0.1, 0, 1))
        support.append((ankle + at(f"{side}ToeBase")) / 2)
        # Up is along the leg, if this one stands.
        raised.append(((at(f"{other}Foot") - ankle) * unit(hip - ankle)).sum(1) > RAISED_M)
    mass = mass / (0.578 + 2 * sum(share for share, _, _ in SEGMENTS))
    ways = [
        (np.minimum(*straight), (support[0] + support[1]) / 2),
        *((straight[i] * raised[i], support[i]) for i in (0, 1)),
    ]
    lean, standing = np.zeros_like(mass), np.full(len(mass), -1.0)
    for sure, feet in ways:
        d = mass - feet
        tilt = np.arccos(np.clip(unit(d)[:, 1], -1, 1))
        # Straight legs that lie are not standing, and no camera is tilted that far.
        surely = sure * (tilt < STEEPEST_RAD)
        better = surely > standing
        lean[better], standing[better] = d[better], surely[better]
    return lean, standing


def posture(
    joints: tuple[str, ...],
    t_world_joint: Float[np.ndarray, "frames joints 3"],
    pelvis_up: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, "frames 3"]:
    """Where up is to a body held like this, one that walks and bends as well as one that stands.

    Zero in frames in which the person sits or lies, where it cannot be told.

    Args:
        pelvis_up: second column of the hips' rotation.
    """

    def limbs(upper: str, lower: str) -> np.ndarray:
        ends = [(joints.index(s + upper), joints.index(s + lower)) for s in SIDES]
        both = [unit(t_world_joint[:, a] - t_world_joint[:, b]) for a, b in ends]
        return unit(both[0] + both[1])

    thighs, shanks = limbs("UpLeg", "Leg"), limbs("Leg", "Foot")
    up = unit(np.einsum("d,dfa->fa", POSTURE, np.stack([pelvis_up, thighs, shanks])))
    sits = (pelvis_up * thighs).sum(1) < SITS
    lies = up[:, 1] < np.cos(STEEPEST_RAD)
    return np.where((sits | lies)[:, None], 0.0, up)


def _stretches(planted: Bool[np.ndarray, "frames points"]) -> list[tuple[int, slice]]:
    """Every run of frames in which a point stands still."""
    return [
        (i, slice(a, b))
        for i, column in enumerate(planted.T)
        for a, b in runs(column)
        if b - a >= 3
    ]
