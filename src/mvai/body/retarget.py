"""Bring two skeletons into one pose, so that one can turn as the other does.

Rest poses differ from skeleton to skeleton, so rotations are not copied. The two skeletons are
first brought into one pose: each limb bone of our body is swung, by the smallest rotation and from
the trunk outwards, onto the direction that the other skeleton's bone has at rest. From there both
turn by the same world rotations. Every limb bone then has exactly the source's direction in every
frame, and its twist is the source's own. Trunk, neck, head and collar bones keep their own rest
directions, because the skeletons put those joints at different places in the body; they take the
source's rotation only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.geometry.rigid import shortest_rotation
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS, mirrored

LIMBS = {
    "LeftUpLeg": "LeftLeg", "LeftLeg": "LeftFoot", "LeftFoot": "LeftToeBase",
    "LeftArm": "LeftForeArm", "LeftForeArm": "LeftHand", "LeftHand": "LeftHandMiddle1",
}  # fmt: skip
"""Bones of the left side that take the source's direction: joint and the joint it points at."""


class BoneWithoutLengthError(MvaiError):
    """A bone points nowhere."""

    def __init__(self, joint: str) -> None:
        super().__init__(
            f"the bone at {joint} has no length, so it points nowhere; "
            "give the joint below it an offset."
        )
        self.joint = joint
        """Where the bone begins, by our name."""


def _pointed_at(joint: str) -> str:
    return LIMBS[joint] if joint in LIMBS else mirrored(LIMBS[mirrored(joint)])


def _is_limb(joint: str) -> bool:
    return joint in LIMBS or mirrored(joint) in LIMBS


def rest_skeleton(body: LinearBody) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Rest positions (metres) of the body's joints and parents of its body joints, by name."""
    rest = body.joint_template.numpy().astype(float)
    positions = {n: rest[body.joint(n)] for n in body.joints}
    parents = {n: body.joints[body.parents[body.joint(n)]] for n in BODY_JOINTS[1:]}
    return positions, parents


def swings(
    body: LinearBody,
    rest: Mapping[str, Float[np.ndarray, " 3"]],
    tips: Mapping[str, Float[np.ndarray, " 3"]],
) -> dict[str, Float[np.ndarray, "3 3"]]:
    """World rotation of each body joint that takes the body from its rest pose to another one's.

    Args:
        body: what shall stand as the other skeleton does at rest.
        rest: positions of the other's joints at rest by our names, +Y up and facing +Z, in any
            unit.
        tips: where its last bones end, from their joint, for bones without a joint below.

    Raises:
        BoneWithoutLengthError: a bone has no length.
    """
    ours, parents = rest_skeleton(body)
    size = np.ptp(np.stack(list(rest.values())))
    swing: dict[str, np.ndarray] = {}
    for joint in BODY_JOINTS:
        if _is_limb(joint):
            tip = _pointed_at(joint)
            above = swing.get(parents[joint], np.eye(3))
            if joint.endswith("Foot"):
                # Soles are taken to be flat under a vertical shank, whichever way it splays at
                # rest in either skeleton.
                shank = rest[joint] - rest[parents[joint]]
                above = shortest_rotation(np.array([0.0, -1.0, 0.0]), shank)
            theirs = rest[tip] - rest[joint] if tip in rest else np.zeros(3)
            if np.linalg.norm(theirs) < 1e-3 * size:
                # A foot without a toe joint: its end says where it points.
                theirs = tips.get(joint, np.zeros(3))
            if np.linalg.norm(theirs) < 1e-6 * size:
                raise BoneWithoutLengthError(joint)
            swing[joint] = shortest_rotation(above @ (ours[tip] - ours[joint]), theirs) @ above
            if joint.endswith("Hand"):
                side = joint.removesuffix("Hand")
                knuckles = ours[f"{side}HandIndex1"] - ours[f"{side}HandPinky1"]
                swing[joint] = _forward_about(theirs, swing[joint] @ knuckles) @ swing[joint]
        elif joint.endswith("ToeBase"):
            swing[joint] = swing[parents[joint]]
        else:
            swing[joint] = np.eye(3)
    return swing


def _forward_about(
    axis: Float[np.ndarray, " 3"], a: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "3 3"]:
    """The rotation about `axis` that brings a as near to +Z as it goes.

    Rest poses of all known skeletons hold the index finger in front of the little finger: palms
    down with the arms out, palms in with the arms down.
    """
    return about(axis, angle_about(axis, a, np.array([0.0, 0.0, 1.0])))


def about(axis: Float[np.ndarray, " 3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """The rotation by `angle` (radians) about an axis of any length."""
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()


def angle_about(
    axis: Float[np.ndarray, " 3"], a: Float[np.ndarray, " 3"], b: Float[np.ndarray, " 3"]
) -> float:
    """Signed angle (radians) from a to b, both seen along the axis."""
    axis = axis / np.linalg.norm(axis)
    return float(np.arctan2(axis @ np.cross(a, b), a @ b - (a @ axis) * (b @ axis)))
