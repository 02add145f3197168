"""Transfer by rig: fit a body to the character once, then drive its bones.

`register` looks at the character and needs no motion; its result can be kept and used with any
number of sequences. `drive` needs no pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool
from threadpoolctl import threadpool_limits

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.geometry.rigid import transforms
from mvai.geometry.stance import stances
from mvai.io.characters import transformed
from mvai.transfer import Source
from mvai.transfer.floor import (
    camera_for,
    floor_height,
    lowest_points,
    stand_on_floor,
    what_stands,
)
from mvai.transfer.legs import body_legs, leg_length
from mvai.transfer.registration.find_joints import ImageDetector
from mvai.transfer.registration.fit import FittedTemplate
from mvai.transfer.registration.outward import facing_outward
from mvai.transfer.registration.turned import find_body_in_any_turn
from mvai.transfer.registration.weights import transfer_weights
from mvai.transfer.rig_contact import Target, contact_frames, keep_contact
from mvai.transfer.rig_elastic import elastic_weights
from mvai.transfer.rig_feet import contacts, lock_feet, not_above_the_other
from mvai.transfer.rig_ground import levelled
from mvai.transfer.rig_hands import fingerless, whole_hands
from mvai.transfer.rig_held import above_floor
from mvai.transfer.rig_kept import kept_skeleton
from mvai.transfer.rig_own import own_rig
from mvai.transfer.rig_path import on_its_path
from mvai.transfer.rig_points import (
    ADULT_LEG_M,
    BodyPoints,
    bound_points,
    point_set,
    source_points,
)
from mvai.transfer.rig_polish import polished
from mvai.transfer.rig_retarget import (
    DrivenSkeleton,
    positions_on,
    rotations_on,
    shared_bones,
)
from mvai.transfer.rig_smpl import MODELS as SMPL_TOPOLOGIES
from mvai.transfer.rig_smpl import smpl_motion
from mvai.transfer.rig_soles import sole_paths, soles
from mvai.transfer.rig_source import SourceMotion, body_motion, mesh_motion
from mvai.transfer.rig_touches import hanging_arms, touches
from mvai.transfer.rig_twist import twisted, with_twist_bones
from mvai.types import Animation, Camera, Character, Mesh, MeshSequence, Skin

ADULT_HEIGHT_M = 1.75
ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")
"""The matrices are so small that threads gain nothing, and detection wants the other cores."""


@dataclass(frozen=True)
class RigTransfer:
    """Fits a skeleton to the character and drives it."""

    ignore_rig: bool = False
    """Fit our own skeleton and weights even if the character brings a humanoid rig."""
    twist_bones: bool = True
    """Give forearms, upper arms and thighs extra joints that spread their twist, where we fit our
    own skeleton."""
    path: Literal["auto", "camera", "feet"] = "auto"
    """Path along the ground of a person in a video. camera: as the camera saw it. feet: what
    stands of the feet stands still. auto: feet when the camera goes along with the person."""
    scale_root: bool = True
    """Scale the path of the hips by the ratio of leg lengths, so that steps fit the legs."""
    find_floor: bool = True
    """Lift or lower the character so that it stands on y = 0 when the person stands, and keep what
    its hands hold above."""
    lock_feet: bool = True
    """Hold planted feet still."""
    keep_touch: bool = True
    """Let hands touch what they touch in the source."""
    avoid_body: bool = True
    """Keep hands and forearms out of the body."""
    polish: bool = False
    """Undo what blending bones spoils near the joints; the vertices then move freely, and a .glb
    holds few frames."""
    in_place: bool = False
    """Take out the path along the ground, as games want it; up and down stay."""
    joints: Path | None = None
    """File of the character's joints to correct by hand (.json); written, with a picture beside
    it, where there is none yet."""
    body_model_path: Path | None = None
    """Folder of the SMPL family's model files, for sequences with their vertices."""

    def register(self, character: Character, detector: ImageDetector) -> Registration:
        """See `mvai.transfer.TransferMethod`."""
        return register(character, detector, self)

    def drive(
        self, registration: Registration, sequence: MeshSequence, source: Source | None = None
    ) -> Animation:
        """See `mvai.transfer.TransferMethod`."""
        # The file of joints is the character's.
        rest = None if source is None else source(replace(self, joints=None))
        return drive(registration, sequence, self, rest)


@dataclass(frozen=True)
class Registration:
    """A character that is ready to be driven."""

    character: Character
    skeleton: DrivenSkeleton
    keypoint_error_m: float
    """Mean distance between the fitted body and the key-points found on the character."""
    surface_error_m: float
    """Median distance between the fitted body and the character's surface."""
    coverage: float = float("nan")
    """Share of both surfaces that lies near the other, 0 to 1."""
    confidence: Mapping[str, float] = field(default_factory=dict)
    """How sure the place of each key-point is, 0 to 1."""
    points: BodyPoints | None = None
    """Points of its surface that every body has; None where the surface was not looked at."""


@ONE_THREAD
def register(
    character: Character, detector: ImageDetector, config: RigTransfer | None = None
) -> Registration:
    """Find the body in the character and give it a skeleton and skin weights.

    A humanoid rig that the character brings is used as it is, unless `config.ignore_rig`; then the
    detector is not called.

    Raises:
        MvaiError: When no human body can be found in it.
    """
    config = config or RigTransfer()
    body = anny_body()
    outward = facing_outward(character)
    mesh = outward.mesh
    own = None if config.ignore_rig else own_rig(body, outward)
    if own is not None:
        skeleton, error, surface = own
        points = bound_points(body, surface, mesh, skeleton.skin)
        return Registration(character, skeleton, error, float("nan"), points=points)
    found, T_turned = find_body_in_any_turn(body, outward, detector, config.joints)
    character, mesh = transformed(character, T_turned), transformed(outward, T_turned).mesh
    fit = found.fit
    skeleton, points = kept_skeleton(
        mesh, fit, f"twist {config.twist_bones}", lambda: _made(body, mesh, fit, config)
    )
    return Registration(
        character,
        skeleton,
        fit.keypoint_error_m,
        fit.surface_error_m,
        fit.coverage,
        dict(zip(found.joints.names, found.joints.confidence.tolist(), strict=True)),
        points,
    )


def _made(
    body: LinearBody, mesh: Mesh, fit: FittedTemplate, config: RigTransfer
) -> tuple[DrivenSkeleton, BodyPoints | None]:
    """Skeleton, skin weights and points of the body for a mesh that the template lies on."""
    indices, weights = transfer_weights(body, fit.vertices, mesh)
    skin = Skin(
        joints=body.joints,
        parents=body.parents,
        T_world_joint=transforms(fit.R_world_joint, fit.t_world_joint),
        weight_indices=indices,
        weights=weights,
    )
    J = len(body.joints)
    skeleton = DrivenSkeleton(
        skin=skin,
        source=np.arange(J),
        A_template_joint=np.tile(np.eye(3), (J, 1, 1)),
        legs=body_legs(body),
        root=0,
    )
    if config.twist_bones:
        skeleton = with_twist_bones(skeleton, body, mesh)
    skeleton = elastic_weights(skeleton, body, mesh)
    return skeleton, bound_points(body, fit.vertices, mesh, skeleton.skin)


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
    config: RigTransfer | None = None,
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
    config = config or RigTransfer()
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
    body: LinearBody, sequence: MeshSequence, config: RigTransfer, source: Registration | None
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
    config: RigTransfer,
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
