"""Keyframed poses of the mean body in which hands touch it, and in which skin is turned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from mvai.body.bvh_poses import PoseClip
from mvai.body.model import LinearBody
from mvai.evaluate.transfer_motions import FPS, posed
from mvai.types import MeshSequence
from mvai.types.names import BODY_JOINTS

Turns = Mapping[str, tuple[float, float, float]]

TOUCHING: dict[str, Turns] = {
    "clap": {"Arm": (-33.0, -36.0, -62.9), "ForeArm": (-29.9, -28.1, 31.1)},
    "hands on hips": {"Arm": (53.5, 33.5, -28.0), "ForeArm": (-44.4, -55.0, -10.3)},
    "hands on head": {"Arm": (-86.3, -45.5, 21.5), "ForeArm": (-65.9, -29.1, -20.1)},
    "hands on belly": {"Arm": (-13.2, -46.7, 19.9), "ForeArm": (-5.1, -44.0, -67.1)},
    "hands on thighs": {"Arm": (8.4, -49.0, -29.9), "ForeArm": (44.4, -14.0, 9.0)},
}
"""Rotation vectors of the left side's joints in degrees, local; the right side's are mirrored. They
were solved for on the shipped mean body, so that the palms lie on its surface."""
RISE = 0.3
"""Share of a clip in which the pose is taken up, and in which it is left."""


def touching(name: str, body: LinearBody, frames: int = 60) -> MeshSequence:
    """From rest into a touching pose and back, two seconds."""
    at = np.linspace(0, 1, frames)
    share = np.clip(np.minimum(at - 0.1, 0.9 - at) / RISE, 0, 1)
    share = share * share * (3 - 2 * share)
    pose = share[:, None, None] * both_sides(TOUCHING[name])
    return _standing(pose.astype(np.float32), body)


def turned(body: LinearBody) -> dict[str, tuple[str, MeshSequence]]:
    """Poses that turn skin, one frame each, and the limb whose skin each turns most.

    The limb is named as its joint without the side; it is empty where joints bend.
    """
    rest = body.joint_template.numpy().astype(float)

    def along(start: str, end: str, angle_deg: float) -> tuple[float, float, float]:
        way = rest[body.joint(f"Left{end}")] - rest[body.joint(f"Left{start}")]
        x, y, z = (angle_deg * way / np.linalg.norm(way)).tolist()
        return x, y, z

    poses: dict[str, tuple[str, Turns]] = {
        "hand turned by 90 degrees": ("ForeArm", {"Hand": along("ForeArm", "Hand", 90)}),
        "hand turned by 175 degrees": ("ForeArm", {"Hand": along("ForeArm", "Hand", 175)}),
        "upper arm twisted by 80 degrees": ("Arm", {"Arm": along("Arm", "ForeArm", 80)}),
        "thigh twisted by 50 degrees": ("UpLeg", {"UpLeg": along("UpLeg", "Leg", 50)}),
        "arm raised": ("", {"Arm": (0.0, 0.0, 95.0)}),
        "knee bent": ("", {"UpLeg": (-115.0, 0.0, 0.0), "Leg": (130.0, 0.0, 0.0)}),
    }
    return {
        name: (limb, _standing(both_sides(turns)[None].astype(np.float32), body))
        for name, (limb, turns) in poses.items()
    }


def both_sides(turns: Turns) -> Float[np.ndarray, "joints 3"]:
    """Rotation vectors (radians) of `BODY_JOINTS` with the right side's mirrored."""
    pose = np.zeros((len(BODY_JOINTS), 3))
    for joint, degrees in turns.items():
        vector = np.radians(np.array(degrees))
        pose[BODY_JOINTS.index(f"Left{joint}")] = vector
        pose[BODY_JOINTS.index(f"Right{joint}")] = vector * [1, -1, -1]
    return pose


def _standing(pose: Float[np.ndarray, "frames joints 3"], body: LinearBody) -> MeshSequence:
    """The mean body in poses, its soles at rest on the ground."""
    up = -float(body.template[:, 1].min())
    path = np.tile(np.array([0, up, 0], np.float32), (len(pose), 1))
    return posed(PoseClip("keyed", pose, path, FPS, np.ones(len(pose), bool)), body)
