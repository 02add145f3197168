"""The range of motion of a person: each joint at the ends of what it does.

Angles are rounded from usual ranges (American Academy of Orthopaedic Surgeons, "Joint Motion:
Method of Measuring and Recording", 1965), held within what films of everyday movements show.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.geometry.rigid import unit
from mvai.types.names import FINGERS

Turns = Mapping[str, tuple[float, float, float]]
"""Rotation vectors in degrees of joints in their parents' frames, parallel to the world's at
rest (x to the left, y up, z forward)."""
ALONG = (0.7071, -0.7071, 0.0)
"""Direction of the left arm in the body's A-pose."""
FOLD = (-0.7071, -0.7071, 0.0)
"""Axis about which the left elbow bends."""


def _times(axis: tuple[float, float, float], angle_deg: float) -> tuple[float, float, float]:
    x, y, z = axis
    return x * angle_deg, y * angle_deg, z * angle_deg


def _arm_towards(*direction: float) -> tuple[float, float, float]:
    """The turn of the left arm that lets it point there."""
    axis = np.cross(ALONG, direction)
    angle_deg = np.degrees(np.arctan2(np.linalg.norm(axis), np.dot(ALONG, direction)))
    x, y, z = unit(axis)
    return _times((x, y, z), angle_deg)


def _both(turns: Turns) -> Turns:
    """Turns of the left side's joints and their mirror images."""
    return {**_left(turns), **_right(turns)}


def _left(turns: Turns) -> Turns:
    return {f"Left{n}": v for n, v in turns.items()}


def _right(turns: Turns) -> Turns:
    return {f"Right{n}": (x, -y, -z) for n, (x, y, z) in turns.items()}


def _trunk(x: float, y: float, z: float) -> Turns:
    return {name: (x, y, z) for name in ("Spine", "Spine1", "Spine2")}


def _head(x: float, y: float, z: float) -> Turns:
    return {"Neck": (x, y, z), "Head": (x, y, z)}


_FRONT: Turns = {"UpLeg": (-100, 0, 0), "Leg": (120, 0, 0), "Foot": (20, 0, 0)}
_BACK: Turns = {"UpLeg": (25, 0, 0), "Leg": (30, 0, 0), "Foot": (-20, 0, 0)}
_FIST: Turns = {f"Hand{f}{k}": (0, 0, -70) for f in FINGERS[1:] for k in (1, 2, 3)}

_LEGS: tuple[Turns, ...] = (
    _both({"UpLeg": (-90, 0, 0), "Leg": (90, 0, 0)}),
    {**_left(_FRONT), **_right(_BACK)},
    {**_right(_FRONT), **_left(_BACK)},
    _both({"UpLeg": (0, 0, 40)}),
    _both({"UpLeg": (0, 30, -12)}),
    _both({"UpLeg": (-110, -20, 30), "Leg": (130, 0, 0), "Foot": (-20, 0, 0)}),
    _both({"UpLeg": (-45, 0, 0), "Leg": (45, 0, 0)}),
    _both({"UpLeg": (0, -35, 0)}),
    _both({"Leg": (60, 0, 0)}),
)
"""Seated, striding, apart, crossed, squatting, half bent, turned in, heels drawn up."""
_ARMS: tuple[Turns, ...] = (
    _both({"Shoulder": (0, 0, 15), "Arm": (0, 0, 105)}),
    _both({"Arm": (0, 0, -40)}),
    _both({"Arm": (0, 0, 45)}),
    _both({"Shoulder": (0, -10, 0), "Arm": (0, -85, 0)}),
    _both({"Arm": (0, 35, 0)}),
    _both({"Arm": (0, -100, 20), "ForeArm": _times(FOLD, 60)}),
    _both({"ForeArm": _times(FOLD, 130)}),
    _both({"ForeArm": _times(FOLD, 80), "Arm": _times(ALONG, 50)}),
    _both({"ForeArm": _times(FOLD, 80), "Arm": _times(ALONG, -50)}),
    _both({"Arm": _arm_towards(0.15, 0, 1)}),
    _both({"Shoulder": (0, 0, 15), "Arm": _arm_towards(0.2, 0.9, 0.5)}),
    _both({"Arm": _arm_towards(-0.5, 0, 0.85), "ForeArm": _times(FOLD, 60)}),
    _both({"Shoulder": (0, 0, 10), "Arm": _arm_towards(0.7, 0.7, 0.2)}),
)
"""Up, down, level, half forward, back, across, elbows bent, bent with the upper arm turned,
forward, forward and up, across at the height of the shoulders, up to the side."""
_HANDS: tuple[Turns, ...] = (
    _both({"Hand": _times(ALONG, 75)}),
    _both({"Hand": _times(ALONG, -75)}),
    _both({"Hand": _times(FOLD, 60)}),
    _both({"Hand": _times(FOLD, -60)}),
    _both(_FIST),
)
_HEAD = (
    _head(22, 0, 0), _head(-20, 0, 0),
    _head(0, 30, 0), _head(0, -30, 0), _head(0, 0, 18), _head(0, 0, -18),
)  # fmt: skip
_TRUNK: tuple[Turns, ...] = (
    {**_trunk(18, 0, 0), **_both({"UpLeg": (-90, 0, 0), "Leg": (90, 0, 0)})},
    _trunk(-10, 0, 0), _trunk(0, 16, 0), _trunk(0, -16, 0), _trunk(0, 0, 12), _trunk(0, 0, -12),
)  # fmt: skip

RANGE: tuple[Turns, ...] = (
    # Joints far from each other do not share any surface, so that they may move at once.
    *(
        {**legs, **arms, **hands, **head}
        for legs, arms, hands, head in zip_longest(_LEGS, _ARMS, _HANDS, _HEAD, fillvalue={})
    ),
    *_TRUNK,
)
"""Poses, as turns from the body's rest pose."""


def range_of_motion(body: LinearBody) -> Float[np.ndarray, "poses joints 3 3"]:
    """World rotations of the body's joints in every pose of `RANGE`."""
    R = np.tile(np.eye(3), (len(RANGE), len(body.joints), 1, 1))
    for k, turns in enumerate(RANGE):
        for name, turn in turns.items():
            R[k, body.joint(name)] = Rotation.from_rotvec(turn, degrees=True).as_matrix()
    for j, p in enumerate(body.parents):
        if p >= 0:
            R[:, j] = R[:, p] @ R[:, j]
    return R
