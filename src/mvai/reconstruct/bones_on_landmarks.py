"""Turn the bones of a regressed body onto 3D landmarks, so that its joints are where those are.

A network that regresses rotations is sure of twists and vague about directions; landmarks are the
other way round. Trunk and limbs take the landmarks' directions, each bone by the smallest rotation
that does it, from the root outwards; twists, collar bones, neck and head stay as regressed.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rigid import shortest_rotation
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

BONES = {
    "Arm": ("shoulder", "elbow"),
    "ForeArm": ("elbow", "wrist"),
    "UpLeg": ("hip", "knee"),
    "Leg": ("knee", "ankle"),
    "Foot": ("ankle", "foot_index"),
}
"""Joints of either side and the landmarks between which their bones lie."""
SPINE = {"Spine": 1 / 3, "Spine1": 2 / 3, "Spine2": 1.0}
"""How far each joint of the spine has turned from the pelvis to the chest."""


def bones_on_landmarks(
    body: LinearBody,
    shape: Float[Tensor, "1 shape"],
    rotations: Float[np.ndarray, "frames 22 3 3"],
    landmarks: Float[np.ndarray, "frames 33 3"],
) -> Float[np.ndarray, "frames 22 3 3"]:
    """Rotations of `BODY_JOINTS` relative to their parents.

    Args:
        rotations: as regressed, relative to the parents; made proper where they are not.
        landmarks: `BODY_KEYPOINTS` in metres, in the axes of the rotations (y up).
    """
    still = torch.eye(3).expand(1, len(body.joints), 3, 3)
    with torch.no_grad():
        _, rest = body.joints_and_keypoints(BODY_KEYPOINTS, shape, still, torch.zeros(1, 3))
    rest_points = rest.numpy().astype(np.float64)
    U, _, Vh = np.linalg.svd(rotations)
    local = U @ Vh
    local = local * np.linalg.det(local)[..., None, None]

    turned = np.empty_like(local)
    pelvis, chest = (
        _frame(landmarks, part) @ _frame(rest_points, part).swapaxes(-1, -2)
        for part in ("hip", "shoulder")
    )
    twist = Rotation.from_matrix(pelvis.swapaxes(-1, -2) @ chest).as_rotvec()
    for j, name in enumerate(BODY_JOINTS):
        if name == "Hips":
            turned[:, j] = pelvis
            continue
        if name in SPINE:
            turned[:, j] = pelvis @ Rotation.from_rotvec(twist * SPINE[name]).as_matrix()
            continue
        parent = BODY_JOINTS.index(body.joints[body.parents[body.joint(name)]])
        turned[:, j] = turned[:, parent] @ local[:, j]
        side = "left" if name.startswith("Left") else "right"
        ends = BONES.get(name.removeprefix("Left").removeprefix("Right"))
        if ends is not None:
            a, b = (BODY_KEYPOINTS.index(f"{side}_{n}") for n in ends)
            now = turned[:, j] @ (rest_points[0, b] - rest_points[0, a])
            turned[:, j] = shortest_rotation(now, landmarks[:, b] - landmarks[:, a]) @ turned[:, j]
    out = turned.copy()
    for j, name in enumerate(BODY_JOINTS[1:], 1):
        parent = BODY_JOINTS.index(body.joints[body.parents[body.joint(name)]])
        out[:, j] = turned[:, parent].swapaxes(-1, -2) @ turned[:, j]
    return out


def _frame(points: Float[np.ndarray, "n 33 3"], part: str) -> Float[np.ndarray, "n 3 3"]:
    """Columns: along the line of both hips or shoulders to the left, up the trunk, forward."""
    at = {n: points[:, BODY_KEYPOINTS.index(n)] for n in
          ("left_hip", "right_hip", "left_shoulder", "right_shoulder")}  # fmt: skip
    up = at["left_shoulder"] + at["right_shoulder"] - at["left_hip"] - at["right_hip"]
    up = up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-9)
    left = at[f"left_{part}"] - at[f"right_{part}"]
    left = left - (left * up).sum(-1, keepdims=True) * up
    left = left / np.maximum(np.linalg.norm(left, axis=-1, keepdims=True), 1e-9)
    return np.stack([left, up, np.cross(left, up)], axis=-1)
