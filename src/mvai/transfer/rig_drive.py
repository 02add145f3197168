"""A registered character does what a mesh sequence does (method `rig`)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.geometry.rigid import transforms
from mvai.geometry.stance import stances
from mvai.transfer.floor import camera_for, floor_height, lowest_points, stand_on_floor, what_stands
from mvai.transfer.legs import leg_length
from mvai.transfer.rig_contact import Target, contact_frames, keep_contact
from mvai.transfer.rig_feet import contacts, lock_feet, not_above_the_other
from mvai.transfer.rig_ground import levelled
from mvai.transfer.rig_hands import fingerless, whole_hands
from mvai.transfer.rig_held import above_floor
from mvai.transfer.rig_path import on_its_path
from mvai.transfer.rig_points import ADULT_LEG_M, point_set, source_points
from mvai.transfer.rig_polish import polished
from mvai.transfer.rig_register import ONE_THREAD, Registration
from mvai.transfer.rig_retarget import DrivenSkeleton, positions_on, rotations_on, shared_bones
from mvai.transfer.rig_settings import RigSettings
from mvai.transfer.rig_smpl import MODELS as SMPL_TOPOLOGIES
from mvai.transfer.rig_smpl import smpl_motion
from mvai.transfer.rig_soles import sole_paths, soles
from mvai.transfer.rig_source import SourceMotion, body_motion, mesh_motion
from mvai.transfer.rig_touches import hanging_arms, touches
from mvai.transfer.rig_twist import twisted
from mvai.types import Animation, Camera, MeshSequence

ADULT_HEIGHT_M = 1.75


def _rotations(registration: Registration, motion: SourceMotion) -> np.ndarray:
    """World rotations of the character's joints (frames, joints, 3, 3)."""
    skeleton, own = registration.skeleton, registration.character.skin
    body = anny_body()
    R = whole_hands(body, motion.R_world_joint, fingerless(body, skeleton))
    if own is not None and motion.skin is not None and own.joints == skeleton.skin.joints:
        assert motion.R_world_bone is not None
        pairs = shared_bones(motion.skin, skeleton.skin)
        given = {j: motion.R_world_bone[:, i] for j, i in pairs.items()}
        return rotations_on(skeleton, R, given)
    return rotations_on(skeleton, R)


@ONE_THREAD
def drive(
    registration: Registration,
    sequence: MeshSequence,
    config: RigSettings | None = None,
    source: Registration | None = None,
) -> Animation:
    """Make the character do what the sequence does.

    Args:
        registration: the character.
        sequence: what it shall do.
        config: settings.
        source: the sequence's own mesh at rest, registered; needed unless it is our body.

    Raises:
        MvaiError: When the sequence cannot be read.
    """
    config = config or RigSettings()
    body, skeleton, fps = anny_body(), registration.skeleton, sequence.fps
    motion, camera = _seen_motion(body, sequence, config, source)
    motion = levelled(motion, fps, motion.leg_m / ADULT_LEG_M)
    skin, rest = skeleton.skin, registration.character.mesh.vertices
    own_legs = leg_length(skin.T_world_joint[:, :3, 3], skeleton.legs)
    path_scale = own_legs / max(motion.leg_m, 1e-6) if config.scale_root else 1.0

    R = twisted(skeleton, _rotations(registration, motion))
    t = positions_on(skeleton, R, path_scale * motion.root)
    shift = np.zeros(3)
    planted, both = _planted(motion, fps, sequence.camera is not None), soles(skeleton, rest)
    if config.find_floor:
        Ts = transforms(R, t)
        lows = [sole_paths(skin, rest, Ts, sole)[1] for sole in both]
        feet = [leg[2] for leg in skeleton.legs]
        other = lowest_points(skin, rest, Ts, _hands(body, skeleton), feet)
        lowest = what_stands(lows, other, [foot.any(1) for foot in planted])
        lift = stand_on_floor(motion.lowest, lowest, path_scale, fps)
        shift[1] = float(np.median(lift))
        t = t + lift[:, None, None] * [0, 1, 0]
    if config.lock_feet:
        R, t = lock_feet(skeleton, rest, both, R, t, planted, fps, config.find_floor)
    if config.keep_touch or config.avoid_body:
        R, t = _contact(registration, body, motion, sequence, source, R, t, config)
    if config.find_floor:
        R, t = above_floor(skeleton, rest, _hands(body, skeleton), R, t, fps)
    R = twisted(skeleton, R)
    if config.in_place:
        along = t[:, skeleton.root] * [1, 0, 1]
        t = t - along[:, None]
    animation = Animation(
        character=registration.character,
        fps=fps,
        skin=skin,
        Ts_world_joint=transforms(R, t).astype(np.float32),
        camera=None if camera is None or config.in_place else camera_for(camera, path_scale, shift),
    )
    return polished(animation) if config.polish else animation


def _seen_motion(
    body: LinearBody, sequence: MeshSequence, config: RigSettings, source: Registration | None
) -> tuple[SourceMotion, Camera | None]:
    """What the body does along its path, and the camera that shows where the character goes.

    Raises:
        MvaiError: When the sequence cannot be read.
    """
    if source is None and sequence.topology in SMPL_TOPOLOGIES:
        motion = smpl_motion(body, sequence, config.body_model_path)
    elif source is None:
        motion = body_motion(body, sequence)
    else:
        motion = mesh_motion(body, sequence, source.character, source.skeleton)
    camera = sequence.camera
    if camera is None and config.path != "feet":
        return motion, None
    seen = np.ones(len(motion.root), bool)
    if sequence.confidence is not None:
        seen = sequence.confidence > 0
    motion, by_feet = on_its_path(motion, sequence.fps, seen, config.path)
    # What moves with the person shows nothing of where the character goes.
    return motion, None if by_feet else camera


def _hands(body: LinearBody, skeleton: DrivenSkeleton) -> list[int]:
    """The character's joints that are the body's hands."""
    return [
        j
        for j, s in enumerate(skeleton.source)
        if s >= 0 and body.joints[s] in ("LeftHand", "RightHand")
    ]


def _planted(motion: SourceMotion, fps: float, seen: bool) -> list[Bool[np.ndarray, "frames 2"]]:
    """Where heel and toes of the left and the right foot of the source stand.

    What a camera has seen (`seen`) may slide where it stands. A movement that is known exactly does
    not: feet that crawl or fly are slower than each other, too, and stand on nothing.
    """
    floor, size = floor_height(motion.lowest), motion.leg_m / ADULT_LEG_M
    planted = [
        np.stack([contacts(foot[:, k], floor, fps, size) for k in (0, 1)], 1)
        for foot in motion.feet
    ]
    if seen:
        stand = stances(np.stack(motion.feet, 1), motion.lowest, fps, size)
        planted = [stand[:, i] | foot for i, foot in enumerate(planted)]
    return not_above_the_other(planted, motion.feet, size)


def _contact(
    registration: Registration,
    body: LinearBody,
    motion: SourceMotion,
    sequence: MeshSequence,
    source: Registration | None,
    R: np.ndarray,
    t: np.ndarray,
    config: RigSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """World rotations and positions in which hands touch and keep out of the body."""
    if registration.points is None:
        return R, t
    points, touch, size_source = point_set(body), None, 1.0
    some = contact_frames(len(R), sequence.fps)
    if config.keep_touch:
        given = (
            None if source is None or source.points is None else (source.skeleton, source.points)
        )
        x, n, size_source = source_points(points, body, sequence, motion, given, some)
        hanging = hanging_arms(body, motion.R_world_joint[some])
        touch = touches(points, x, n, size_source, hanging)
    size = float(np.ptp(registration.character.mesh.vertices[:, 1])) / ADULT_HEIGHT_M
    target = Target(registration.skeleton, registration.points, size, size / size_source)
    return keep_contact(target, body, R, t, some, touch, config.avoid_body, sequence.fps)
