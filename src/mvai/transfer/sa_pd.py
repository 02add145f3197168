"""SA-PD, skeleton-based pose deformation: the animation baseline of mesh-based imitation.

Skeletons are aligned bone by bone from the root, every bone gets its transformation in local
coordinates, and linear blend skinning with Pinocchio's bone heat weights moves the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.geometry.rigid import transforms
from mvai.transfer import Source, found_source
from mvai.transfer.floor import camera_for, lowest_points, stand_on_floor
from mvai.transfer.legs import leg_length, legs_among
from mvai.transfer.registration.find_joints import ImageDetector, find_joints
from mvai.transfer.registration.fit import FittedTemplate, fit_template
from mvai.transfer.registration.outward import facing_outward
from mvai.transfer.registration.weights import transfer_weights
from mvai.transfer.sa_pd_skeleton import Skeleton, aligned, body_skeleton, bone_rotations
from mvai.transfer.sa_pd_weights import bone_heat_weights, strongest
from mvai.types import Animation, Character, MeshSequence, Skin

if TYPE_CHECKING:
    from mvai.transfer.reading.rest import RestMesh, SourceAtRest

REFINEMENTS = 6
"""Steps that lay a body over a mesh in no known topology, as neural pose transfer does."""


@dataclass(frozen=True)
class SaPdTransfer:
    """Aligned skeletons, bone heat weights, linear blend skinning."""

    visibility: bool = True
    """Let a bone heat only what it sees through the inside of the body."""
    scale_root: bool = True
    """Scale the path of the hips by the ratio of leg lengths, so that steps fit the legs."""
    find_floor: bool = True
    """Lift or lower the character so that it stands on y = 0 when the person stands."""

    def register(self, character: Character, detector: ImageDetector) -> SaPdRegistration:
        """See `mvai.transfer.TransferMethod`."""
        return register(character, detector, self)

    def drive(
        self, registration: SaPdRegistration, sequence: MeshSequence, source: Source | None = None
    ) -> Animation:
        """See `mvai.transfer.TransferMethod`."""
        return drive(registration, sequence, self, found_source(source, self))


@dataclass(frozen=True)
class SaPdRegistration:
    """A character that is ready to be driven."""

    character: Character
    skeleton: Skeleton
    points: Float[np.ndarray, "points 3"]
    """The character's skeleton at rest (metres)."""
    skin: Skin
    """One joint a bone, at the bone's head."""
    fit: FittedTemplate | None = None
    """The body that was fitted to the character."""

    @cached_property
    def at_rest(self) -> SourceAtRest:
        """As a source."""
        from mvai.transfer.reading.rest import SourceAtRest

        return SourceAtRest(lambda: _rest_mesh(anny_body(), self))


def register(
    character: Character, detector: ImageDetector, config: SaPdTransfer | None = None
) -> SaPdRegistration:
    """Find the character's skeleton and bind its surface.

    Its joints are those of the body fitted to it, read off with the body's regressor.

    Raises:
        MvaiError: no human body can be found in it.
    """
    body = anny_body()
    outward = facing_outward(character)
    fit = fit_template(body, find_joints(outward, detector), outward.mesh)
    skeleton = body_skeleton(body)
    points = body.regress(skeleton.names, fit.vertices[None])[0].astype(np.float64)
    return replace(bind(character, skeleton, points, config), fit=fit)


def bind(
    character: Character,
    skeleton: Skeleton,
    points: Float[np.ndarray, "points 3"],
    config: SaPdTransfer | None = None,
) -> SaPdRegistration:
    """Bind a character's surface to a skeleton that is known."""
    config = config or SaPdTransfer()
    heads = points[[skeleton.parents[i] for i in skeleton.bones]]
    mesh = character.mesh
    W = bone_heat_weights(mesh.vertices, mesh.faces, heads, points[1:], config.visibility)
    indices, weights = strongest(W)
    skin = Skin(
        joints=skeleton.bone_names(),
        parents=skeleton.bone_parents(),
        T_world_joint=transforms(np.tile(np.eye(3), (len(heads), 1, 1)), heads),
        weight_indices=indices,
        weights=weights,
    )
    return SaPdRegistration(character, skeleton, points, skin)


def drive(
    registration: SaPdRegistration,
    sequence: MeshSequence,
    config: SaPdTransfer | None = None,
    source: SaPdRegistration | None = None,
) -> Animation:
    """Make the character do what the sequence does.

    Points of a sequence in the body's topology are read off with its regressor; those of any other
    mesh as neural pose transfer reads it, `source` being the same mesh at rest.

    Raises:
        MvaiError: positions are not numbers, or there is no surface.
    """
    config = config or SaPdTransfer()
    body, skeleton, rest = anny_body(), registration.skeleton, registration.points
    pose = skeleton_points(body, skeleton, sequence, source)
    posed = aligned(skeleton, pose, rest)
    R = bone_rotations(skeleton, posed, rest)
    heads = posed[:, [skeleton.parents[i] for i in skeleton.bones]]
    legs = legs_among(skeleton.names)
    theirs, own = leg_length(pose[0], legs), leg_length(rest, legs)
    scale = own / max(theirs, 1e-6) if config.scale_root else 1.0
    root = scale * pose[:, 0]
    t = heads - posed[:, :1] + root[:, None]
    lift = np.zeros(len(t))
    vertices = registration.character.mesh.vertices
    if config.find_floor:
        lowest = lowest_points(registration.skin, vertices, transforms(R, t))
        source_lowest = sequence.vertices[..., 1].min(1).astype(np.float64)
        lift = stand_on_floor(source_lowest, lowest, scale, sequence.fps)
    t = t + lift[:, None, None] * [0, 1, 0]
    camera = sequence.camera
    if camera is not None:
        camera = camera_for(camera, scale, np.array([0.0, np.median(lift), 0.0]))
    return Animation(
        character=registration.character,
        fps=sequence.fps,
        skin=registration.skin,
        Ts_world_joint=transforms(R, t).astype(np.float32),
        camera=camera,
    )


def skeleton_points(
    body: LinearBody,
    skeleton: Skeleton,
    sequence: MeshSequence,
    source: SaPdRegistration | None = None,
) -> Float[np.ndarray, "frames points 3"]:
    """The skeleton of every frame of a sequence (metres, world).

    Raises:
        MvaiError: positions are not numbers, or there is no surface.
    """
    from mvai.nets.npt_files import load_npt
    from mvai.transfer.reading.network import posed_mean
    from mvai.transfer.reading.rest import read_any_source

    V = sequence.vertices
    if sequence.topology == body.topology and V.shape[1] == len(body.template):
        return body.regress(skeleton.names, V).astype(np.float64)
    rest = None if source is None else source.at_rest
    read = read_any_source(load_npt(), body, sequence, False, REFINEMENTS, rest)
    mean = posed_mean(body, read.R_local, np.arange(len(body.template)))
    points = body.regress(skeleton.names, mean).astype(np.float64)
    points = read.scale * (points - points[:, :1])
    return np.einsum("fij,fpj->fpi", read.R_world_root, points) + read.root[:, None]


def _rest_mesh(body: LinearBody, source: SaPdRegistration) -> RestMesh | None:
    """The source as neural pose transfer reads meshes unlike people."""
    from mvai.transfer.reading.rest import RestMesh

    fit, mesh = source.fit, facing_outward(source.character).mesh
    if fit is None:
        return None
    T = transforms(fit.R_world_joint, fit.t_world_joint)
    skin = Skin(body.joints, body.parents, T, *transfer_weights(body, fit.vertices, mesh))
    return RestMesh(source.character.name, mesh.vertices, skin)
