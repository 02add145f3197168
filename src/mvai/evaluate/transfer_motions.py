"""The motions that characters are measured with where no truth is known, as moving bodies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mvai.body.bvh_poses import PoseClip, body_positions, poses_from_bvh
from mvai.body.model import LinearBody
from mvai.types import MeshSequence, MvaiError
from mvai.types.names import BODY_JOINTS, SIDES

CAPTURED = {
    "walk": ("cmu_07_01", 0, 79),
    "jump": ("cmu_jumping_4", 0, 84),
    "dance": ("animdraw_fair1_dab", 40, 130),
}
"""Clip and range of frames of each captured motion."""
SIT_DEG, LEAN_DEG = 88.0, 42.0
FPS = 30.0


def motions(captures: Path, body: LinearBody) -> dict[str, MeshSequence]:
    """A walk, a jump, a dance and a sit-to-stand of the mean body.

    Args:
        captures: folder of the captured clips (BVH).
        body: the body.

    Raises:
        MvaiError: a clip is missing or cannot be read.
    """
    moving = {}
    for name, (clip, first, last) in CAPTURED.items():
        path = captures / f"{clip}.bvh"
        if not path.exists():
            raise MvaiError(f"{path}: this clip is missing; name the folder that has it.")
        whole = poses_from_bvh(path, body)
        part = slice(first, last)
        moving[name] = replace(
            whole, pose=whole.pose[part], translation=whole.translation[part],
            measured=whole.measured[part],
        )  # fmt: skip
    moving["sit-to-stand"] = sit_to_stand(body)
    return {name: posed(clip, body) for name, clip in moving.items()}


def posed(clip: PoseClip, body: LinearBody) -> MeshSequence:
    """The mean body in the clip's poses."""
    R = np.tile(np.eye(3, dtype=np.float32), (clip.frames, len(body.joints), 1, 1))
    local = Rotation.from_rotvec(clip.pose.reshape(-1, 3)).as_matrix()
    R[:, [body.joint(n) for n in BODY_JOINTS]] = local.reshape(clip.frames, -1, 3, 3)
    vertices = body.vertices(
        torch.zeros(1, body.shape_size),
        torch.from_numpy(R),
        torch.from_numpy(clip.translation.astype(np.float32)),
    )
    return MeshSequence(vertices.numpy(), body.faces, clip.fps, body.topology)


def sit_to_stand(body: LinearBody, frames: int = 60) -> PoseClip:
    """Rises from a chair that is not there; keyframed, because captures of it are rare.

    Seated with upright trunk, it leans forward to bring the weight over the feet and rises. Feet
    stay flat and in place.
    """
    at = np.linspace(0, 1, frames)
    seated = np.interp(at, [0, 0.15, 0.35, 0.75, 1], [1, 1, 0.95, 0, 0])
    lean = np.interp(at, [0, 0.15, 0.4, 0.75, 1], [0, 0, 1, 0, 0])
    width = max(1, frames // 12)
    window = np.hanning(2 * width + 1)
    window /= window.sum()

    def smooth(x: np.ndarray) -> np.ndarray:
        return np.convolve(np.pad(x, width, mode="edge"), window, "valid")

    thigh, trunk = np.radians(SIT_DEG) * smooth(seated), np.radians(LEAN_DEG) * smooth(lean)
    pose = np.zeros((frames, len(BODY_JOINTS), 3), np.float32)
    index = {n: i for i, n in enumerate(BODY_JOINTS)}
    pose[:, index["Hips"], 0] = trunk
    for side in SIDES:
        pose[:, index[f"{side}UpLeg"], 0] = -thigh - trunk
        pose[:, index[f"{side}Leg"], 0] = thigh
        # Arms come forward with the lean, as they do for balance.
        pose[:, index[f"{side}Arm"], 0] = -0.8 * trunk
    still = body_positions(pose, np.zeros((frames, 3), np.float32), body)
    ankles = still[:, [body.joint("LeftFoot"), body.joint("RightFoot")]].mean(1)
    rest = body.joint_template.numpy()
    floor = float(body.template[:, 1].min())
    target = (rest[body.joint("LeftFoot")] + rest[body.joint("RightFoot")]) / 2 - [0, floor, 0]
    translation = (target - ankles).astype(np.float32)
    return PoseClip("sit-to-stand", pose, translation, FPS, np.ones(frames, bool))
