"""Poses of our body from motion capture clips of other skeletons.

How the rest poses are brought together stands in `mvai.body.retarget`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.body.retarget import BoneWithoutLengthError, about, angle_about, rest_skeleton, swings
from mvai.body.skeletons import source_joints
from mvai.io.bvh import BvhClip, read_bvh
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS, SIDES

SPIKE_SPEED = 0.35
"""A joint that moves this share of the body's height in one frame is an error of capture."""
SPIKE_TURN_RAD = np.deg2rad(100.0)
"""A joint whose local rotation turns this far in one frame is an error of capture, too."""
STRAIGHT = 0.1
"""Mean sine of the elbow's bend under which a clip does not show which way the elbow faces."""
STEADIER = 0.3
"""Share of the unsteadiness along another axis below which an axis is that of the floor."""
SPIKE_FPS = 30.0
"""The frame rate the two limits are meant for."""


@dataclass(frozen=True)
class PoseClip:
    """A movement of our body."""

    name: str
    pose: Float[np.ndarray, "frames 22 3"]
    """Local rotations as axis-angle vectors (radians), in the order of `BODY_JOINTS`; world
    frame, +Y up."""
    translation: Float[np.ndarray, "frames 3"]
    """What moves the root joint (metres), as `forward_kinematics` takes it; floor at y = 0."""
    fps: float
    measured: Bool[np.ndarray, " frames"]
    """False where the capture jumped and the frame was filled in from its neighbours."""

    @property
    def frames(self) -> int:
        return self.pose.shape[0]


def _axis_rotation(R: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation by quarter turns about the coordinate axes that is nearest to R."""
    quarter_turns = Rotation.create_group("O").as_matrix()
    return quarter_turns[np.argmax(np.einsum("kij,ij->k", quarter_turns, R))]


def _rest_frame(rest: np.ndarray, index: Mapping[str, int]) -> Float[np.ndarray, "3 3"]:
    """Rotation from our rest frame (+Y up, facing +Z) to that of a skeleton at zero channels."""
    x = rest[index["LeftUpLeg"]] - rest[index["RightUpLeg"]]
    y = rest[index["Head"]] - (rest[index["LeftUpLeg"]] + rest[index["RightUpLeg"]]) / 2
    x = x / np.linalg.norm(x)
    y = y - (x @ y) * x
    y = y / np.linalg.norm(y)
    return _axis_rotation(np.stack([x, y, np.cross(x, y)], axis=1))


def up_rotation(
    C: Float[np.ndarray, "3 3"],
    world: Float[np.ndarray, "frames joints 3"],
    index: Mapping[str, int],
) -> Float[np.ndarray, "3 3"]:
    """Rotation from the clip's world to ours: none for +Y up, a quarter turn for +Z up.

    Up is where the skeleton at rest has its head (so in all of 109 clips tried, push-ups and
    crawling among them). It is the other axis where people rise along that and their lowest joint
    is much steadier along it, as on a floor.

    Args:
        C: rotation from our rest frame to that of the skeleton.
        world: all joints of the clip.
        index: the clip's joint for each of ours.
    """
    feet = (world[:, index["LeftFoot"]] + world[:, index["RightFoot"]]) / 2
    rise = (world[:, index["Head"]] - feet).mean(0)
    up, other = (2, 1) if abs(C[2, 1]) > 0.5 else (1, 2)
    unsteady = world.min(1).std(0)
    if rise[other] > rise[up] and unsteady[other] < STEADIER * unsteady[up]:
        up = other
    if up == 1:
        return np.eye(3)
    return np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def rotations_like(
    clip: BvhClip, index: Mapping[str, int], body: LinearBody
) -> tuple[dict[str, Float[np.ndarray, "frames 3 3"]], Float[np.ndarray, "frames joints 3"]]:
    """World rotation of each of our joints that gives the body the clip's posture, and the clip's
    joints in our axes.

    Args:
        clip: motion capture.
        index: its joint for each of ours (`source_joints`).
        body: what shall move.

    Raises:
        MvaiError: a bone of the clip has no length.
    """
    rest = clip.rest_positions()
    C = _rest_frame(rest, index)
    R_source, world = clip.world()
    U = up_rotation(C, world, index)
    ends = {n: clip.end_sites.get(j, np.zeros(3)) @ C for n, j in index.items()}
    try:
        swing = swings(body, {n: rest[j] @ C for n, j in index.items()}, ends)
    except BoneWithoutLengthError as error:
        raise BoneWithoutLengthError(clip.names[index[error.joint]]) from error
    return {n: U @ R_source[:, index[n]] @ C @ swing[n] for n in BODY_JOINTS}, world @ U.T


def _align_elbow(
    R: dict[str, Float[np.ndarray, "frames 3 3"]], ours: Mapping[str, np.ndarray], side: str
) -> None:
    """Turn upper arm and forearm about themselves so that the elbow bends as our elbow does.

    Skeletons disagree by some 25 degrees on which way the elbow faces at rest. An elbow is a hinge,
    so the mean normal of the bent arm, seen from the upper arm, is the source's hinge axis; ours is
    the normal of our bent rest arm. The angle between the two is one constant of a clip.
    """
    upper = ours[f"{side}ForeArm"] - ours[f"{side}Arm"]
    fore = ours[f"{side}Hand"] - ours[f"{side}ForeArm"]
    local = R[f"{side}Arm"].transpose(0, 2, 1) @ R[f"{side}ForeArm"]
    normal = np.cross(upper / np.linalg.norm(upper), local @ (fore / np.linalg.norm(fore))).mean(0)
    if np.linalg.norm(normal) < STRAIGHT:
        return
    angle = angle_about(upper, np.cross(upper, fore), normal)
    R[f"{side}Arm"] = R[f"{side}Arm"] @ about(upper, angle)
    R[f"{side}ForeArm"] = R[f"{side}ForeArm"] @ about(fore, angle)


def _share_twist(
    forearm: np.ndarray, hand: np.ndarray, axis: np.ndarray, share: float = 0.5
) -> np.ndarray:
    """The forearm turned about itself by a share of the hand's twist against it.

    Many captures turn only the wrist, which wrings the skin there; radius and ulna turn over the
    whole length of the forearm. Args: world rotations (frames, 3, 3), bone direction at rest.
    """
    axis = axis / np.linalg.norm(axis)
    q = Rotation.from_matrix(forearm.transpose(0, 2, 1) @ hand).as_quat()
    twist = 2 * np.arctan2(q[:, :3] @ axis, q[:, 3])
    twist = (twist + np.pi) % (2 * np.pi) - np.pi
    return forearm @ Rotation.from_rotvec(share * twist[:, None] * axis).as_matrix()


def spikes(
    positions: Float[np.ndarray, "frames joints 3"],
    pose: Float[np.ndarray, "frames joints 3"],
    height_m: float,
    fps: float,
) -> Bool[np.ndarray, " frames"]:
    """Frames into or out of which a joint jumps."""
    scale = SPIKE_FPS / fps
    speed = np.linalg.norm(np.diff(positions, axis=0), axis=-1).max(1) / height_m
    R = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(*pose.shape[:2], 3, 3)
    cosine = (np.einsum("fjab,fjab->fj", R[1:], R[:-1]) - 1) / 2
    turn = np.arccos(np.clip(cosine, -1, 1)).max(1)
    jump = (speed > SPIKE_SPEED * scale) | (turn > SPIKE_TURN_RAD * scale)
    return np.concatenate([[False], jump]) | np.concatenate([jump, [False]])


def filled(
    pose: Float[np.ndarray, "frames joints 3"],
    translation: Float[np.ndarray, "frames 3"],
    good: Bool[np.ndarray, " frames"],
) -> tuple[Float[np.ndarray, "frames joints 3"], Float[np.ndarray, "frames 3"]]:
    """Bad frames interpolated between the nearest good ones: chords turned to rotations."""
    frames = np.arange(len(pose))
    known = frames[good]
    R = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(len(pose), -1)
    blend = np.stack([np.interp(frames, known, R[good, k]) for k in range(R.shape[1])], 1)
    full = Rotation.from_matrix(blend[~good].reshape(-1, 3, 3)).as_rotvec()
    pose, translation = pose.copy(), translation.copy()
    pose[~good] = full.reshape(-1, *pose.shape[1:])
    for a in range(3):
        translation[~good, a] = np.interp(frames[~good], known, translation[good, a])
    return pose, translation


def body_positions(
    pose: Float[np.ndarray, "frames 22 3"],
    translation: Float[np.ndarray, "frames 3"],
    body: LinearBody,
) -> Float[np.ndarray, "frames joints 3"]:
    """World positions (metres) of all joints of the mean body."""
    import torch

    R = np.tile(np.eye(3, dtype=np.float32), (len(pose), len(body.joints), 1, 1))
    local = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(len(pose), -1, 3, 3)
    R[:, [body.joint(n) for n in BODY_JOINTS]] = local
    rest = body.joint_template[None]
    t = torch.from_numpy(translation.astype(np.float32))
    return body.forward_kinematics(rest, torch.from_numpy(R), t)[1].numpy()


def poses_from_bvh(path: str | Path, body: LinearBody) -> PoseClip:
    """The clip's movement on our mean body.

    The root is placed so that the middle of the hip joints follows the clip's, scaled by the ratio
    of leg lengths, and the floor (the lowest that the toes come, leaving out the lowest 2 % of
    frames) is at y = 0.

    Raises:
        MvaiError: the file is no BVH file, or its skeleton is of no known kind or lacks a bone.
    """
    clip = read_bvh(path)
    ours, parents = rest_skeleton(body)
    try:
        index = source_joints(clip)
        R, theirs = rotations_like(clip, index, body)
    except MvaiError as error:
        raise MvaiError(f"{path}: {error}") from error
    for side in SIDES:
        _align_elbow(R, ours, side)
        axis = ours[f"{side}Hand"] - ours[f"{side}ForeArm"]
        R[f"{side}ForeArm"] = _share_twist(R[f"{side}ForeArm"], R[f"{side}Hand"], axis)
    local = [R["Hips"]] + [R[parents[n]].transpose(0, 2, 1) @ R[n] for n in BODY_JOINTS[1:]]
    pose = Rotation.from_matrix(np.stack(local, 1).reshape(-1, 3, 3)).as_rotvec()
    pose = pose.reshape(clip.frames, len(BODY_JOINTS), 3)

    scale = _leg_length(ours) / _leg_length(
        {n: clip.rest_positions()[index[n]] for n in index}  # joint positions by our names
    )
    hips = (theirs[:, index["LeftUpLeg"]] + theirs[:, index["RightUpLeg"]]) / 2 * scale
    still = body_positions(pose, np.zeros_like(hips), body)
    up_legs = [body.joint("LeftUpLeg"), body.joint("RightUpLeg")]
    translation = hips - still[:, up_legs].mean(1)
    positions = still + translation[:, None]
    toes = positions[:, [body.joint("LeftToeBase"), body.joint("RightToeBase")], 1].min(1)
    sole = float(body.template[:, 1].min())
    translation[:, 1] += ours["LeftToeBase"][1] - sole - np.percentile(toes, 2)

    height = ours["Head"][1] - sole
    used = [body.joint(n) for n in BODY_JOINTS]
    measured = ~spikes(positions[:, used], pose, height, clip.fps)
    if 2 <= measured.sum() < len(measured):
        pose, translation = filled(pose, translation, measured)
    return PoseClip(
        Path(path).stem,
        pose.astype(np.float32),
        translation.astype(np.float32),
        clip.fps,
        measured,
    )


def _leg_length(positions: Mapping[str, np.ndarray]) -> float:
    chain = ("LeftUpLeg", "LeftLeg", "LeftFoot", "RightUpLeg", "RightLeg", "RightFoot")
    p = [positions[n] for n in chain]
    return float(sum(np.linalg.norm(p[i + 1] - p[i]) for i in (0, 1, 3, 4)) / 2)
