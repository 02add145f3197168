"""How each joint stands at rest, read from a fitted template.

The fit turns joints both for how the character stands and for how its surface differs from the
template's: a chest that bulges is met by a spine that leans. Only the former is pose. So limbs take
the directions that their joints show, without a twist of their own (thighs, whose upper joint is
hidden, that of their surface), the trunk stands upright, and
hands have the index finger in front, unless the fit says otherwise by more than it errs.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.body.retarget import about, angle_about
from mvai.geometry.rigid import shortest_rotation
from mvai.types.names import SIDES

UNSURE_DEG, SURE_DEG = 20.0, 40.0
"""Turns of the fit up to the first are taken for differences of shape, from the second on for
pose; between them, in part."""
FOOT_UNSURE_DEG, FOOT_SURE_DEG = 10.0, 25.0
"""Likewise of feet, whose length shows better where they point."""
LIMBS = {"UpLeg": "Leg", "Leg": "Foot", "Arm": "ForeArm", "ForeArm": "Hand"}
"""Bones that point from a joint to the next."""
FORWARD = np.array([0.0, 0.0, 1.0])


def rest_rotations(
    body: LinearBody,
    rest: Float[np.ndarray, "joints 3"],
    R_fit: Float[np.ndarray, "joints 3 3"],
    t_joint: Float[np.ndarray, "joints 3"],
    thigh_turns: Float[np.ndarray, "2"] | None = None,
) -> Float[np.ndarray, "joints 3 3"]:
    """World rotation of every joint from the template's rest to the character's.

    Args:
        body: the template.
        rest: where its joints are at its own rest, in the character's shape.
        R_fit: what turned its joints onto the character.
        t_joint: where the character's joints are.
        thigh_turns: from `thighs`, where the character's surface is known.
    """
    turns: dict[str, float] = dict.fromkeys(SIDES, 0.0)
    if thigh_turns is not None:
        turns = dict(zip(SIDES, thigh_turns.tolist(), strict=True))
    R = np.empty_like(R_fit)
    for j, p in enumerate(body.parents):
        name = body.joints[j].removeprefix("Left").removeprefix("Right")
        side = body.joints[j].removesuffix(name)
        if not side:
            R[j] = _believed(R_fit[j])
        elif name in LIMBS:
            tip = body.joint(side + LIMBS[name])
            bone = t_joint[tip] - t_joint[j]
            if name == "UpLeg":
                bone = Rotation.from_rotvec(turns[side] * FORWARD).apply(bone)
            R[j] = shortest_rotation(R[p] @ (rest[tip] - rest[j]), bone) @ R[p]
        elif name == "Hand":
            R[j] = _hand(body, rest, side, R, R_fit, t_joint)
        elif name == "Foot":
            R[j] = _believed(R_fit[j], FOOT_UNSURE_DEG, FOOT_SURE_DEG)
        else:
            R[j] = R[p] @ _believed(R_fit[p].T @ R_fit[j])
    return R


def _believed(
    R: Float[np.ndarray, "3 3"], unsure_deg: float = UNSURE_DEG, sure_deg: float = SURE_DEG
) -> Float[np.ndarray, "3 3"]:
    """The part of a turn that is not taken for an error."""
    turn = Rotation.from_matrix(R).as_rotvec()
    at = (np.degrees(np.linalg.norm(turn)) - unsure_deg) / (sure_deg - unsure_deg)
    at = np.clip(at, 0, 1)
    return Rotation.from_rotvec(turn * at * at * (3 - 2 * at)).as_matrix()


def _hand(
    body: LinearBody,
    rest: Float[np.ndarray, "joints 3"],
    side: str,
    R: Float[np.ndarray, "joints 3 3"],
    R_fit: Float[np.ndarray, "joints 3 3"],
    t_joint: Float[np.ndarray, "joints 3"],
) -> Float[np.ndarray, "3 3"]:
    """In line with the forearm and its index finger in front of the little finger, as hands are
    in every usual rest pose; or as the fit has it."""
    hand, arm = body.joint(f"{side}Hand"), body.joint(f"{side}ForeArm")
    axis = t_joint[hand] - t_joint[arm]
    knuckles = rest[body.joint(f"{side}HandIndex1")] - rest[body.joint(f"{side}HandPinky1")]
    usual = R[arm]
    usual = about(axis, angle_about(axis, usual @ knuckles, FORWARD)) @ usual
    return usual @ _believed(usual.T @ R_fit[hand])
