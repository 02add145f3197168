"""Neural pose transfer that keeps detail: the network drives joints, the surface is kept.

Of the trained network (nets/npt.py) this uses what it knows of a sample of the identity's surface
(its joints, what each vertex belongs to) and of the pose (joint rotations). The resulting local
maps move the character's own vertices, separate parts and all, and a Poisson step takes out what
blending them spoils. The cost no longer grows with the network's width times the number of
vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.body.skinning import skinned, skinning_operator
from mvai.geometry.polish import Polisher, hemispheres, polisher, rotation_quaternions
from mvai.geometry.rigid import transforms
from mvai.nets.npt_files import load_npt
from mvai.transfer import Source, found_source
from mvai.transfer.npt_detail_weights import network_weights
from mvai.transfer.npt_identity import identity_of
from mvai.transfer.npt_place import path_of
from mvai.transfer.npt_rest import KnownCharacter
from mvai.transfer.reading.rest import read_any_source
from mvai.transfer.reading.source import SourcePoses
from mvai.transfer.registration.find_joints import ImageDetector
from mvai.types import Animation, Character, MeshSequence, Skin

LOWEST_VERTICES = 4000


@dataclass(frozen=True)
class NptDetailTransfer:
    """The network drives joints, the character keeps its own surface."""

    known_order: bool = True
    """Read a sequence in our body's topology by the order of its vertices, not by max pooling."""
    refinements: int = 2
    """Gauss-Newton steps that lay a body over the pose mesh from where the network says it is, at
    least six where the order of its vertices is not known; 0 leaves the network alone."""
    polish: bool = False
    """Undo what blending spoils near the joints; the vertices then move freely, and a .glb holds
    few frames."""
    scale_root: bool = True
    """Scale the path of the hips by the ratio of leg lengths, so that steps fit the legs."""
    find_floor: bool = True
    """Lift or lower the character so that it stands on y = 0 when the person stands."""

    def register(self, character: Character, detector: ImageDetector) -> NptDetailRegistration:
        """See `mvai.transfer.TransferMethod`."""
        return register(character, detector, self)

    def drive(
        self,
        registration: NptDetailRegistration,
        sequence: MeshSequence,
        source: Source | None = None,
    ) -> Animation:
        """See `mvai.transfer.TransferMethod`."""
        return drive(registration, sequence, self, found_source(source, self))


@dataclass(frozen=True)
class NptDetailRegistration(KnownCharacter):
    """A character that is ready to be driven."""

    skin: Skin
    polisher: Polisher | None


def register(
    character: Character,
    detector: ImageDetector | None = None,
    config: NptDetailTransfer | None = None,
) -> NptDetailRegistration:
    """Find joints and skin weights with the network; where it does not find the hands, by looking
    at pictures.

    Raises:
        MvaiError: the character has no surface.
    """
    config = config or NptDetailTransfer()
    trained, body = load_npt(), anny_body()
    identity = identity_of(trained, character, detector)
    indices, weights = identity.skin or network_weights(trained, identity)
    positions = identity.metres(identity.joints.positions.numpy().astype(np.float64))
    skin = Skin(
        joints=body.joints,
        parents=body.parents,
        T_world_joint=transforms(np.tile(np.eye(3), (len(positions), 1, 1)), positions),
        weight_indices=indices,
        weights=weights,
    )
    ready = None
    if config.polish:
        mesh = character.mesh
        ready = polisher(mesh.vertices, mesh.faces, indices, weights, len(positions))
    return NptDetailRegistration(trained, identity, skin, ready)


def drive(
    registration: NptDetailRegistration,
    sequence: MeshSequence,
    config: NptDetailTransfer | None = None,
    source: NptDetailRegistration | None = None,
) -> Animation:
    """Make the character do what the sequence does, in whatever topology it is.

    Args:
        registration: the character.
        sequence: what it shall do.
        config: settings.
        source: the sequence's own mesh at rest, registered; helps where it is unlike people.

    Raises:
        MvaiError: the sequence has positions that are not numbers, or no surface, or is not the
            mesh of `source`.
    """
    config = config or NptDetailTransfer()
    body, identity, skin = anny_body(), registration.identity, registration.skin
    trained = registration.trained
    at_rest = None if source is None else source.at_rest
    read = read_any_source(trained, body, sequence, config.known_order, config.refinements, at_rest)
    R, t = joint_transforms(registration, read)
    rest = identity.character.mesh.vertices
    order = np.argsort(rest[:, 1])[: LOWEST_VERTICES // 2]
    some = np.linspace(0, len(rest) - 1, min(len(rest), LOWEST_VERTICES // 2)).round().astype(int)
    ids = np.unique(np.concatenate([order, some]))
    part = Skin(
        skin.joints, skin.parents, skin.T_world_joint, skin.weight_indices[ids], skin.weights[ids]
    )
    low = skinned(skinning_operator(part, rest[ids]), transforms(R, t))[..., 1].min(1)
    path = path_of(
        body, identity, read, low.astype(np.float64), sequence.fps,
        config.scale_root, config.find_floor,
    )  # fmt: skip
    Ts = transforms(R, t + path.root[:, None]).astype(np.float32)
    camera = path.camera(sequence.camera)
    if registration.polisher is None:
        return Animation(
            identity.character, sequence.fps, skin=skin, Ts_world_joint=Ts, camera=camera
        )
    V = skinned(skinning_operator(skin, rest), Ts)
    V = registration.polisher.polish(V, hemispheres(rotation_quaternions(R), skin.parents))
    return Animation(identity.character, sequence.fps, free_vertices=V, camera=camera)


def joint_transforms(
    registration: NptDetailRegistration, source: SourcePoses
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
    """Rotation of every joint's map in world axes, and position about the root (metres)."""
    identity = registration.identity
    maps = registration.trained.npt.maps(source.R_local, identity.joints).numpy().astype(np.float64)
    p = identity.joints.positions.numpy().astype(np.float64)
    t = np.einsum("fjab,jb->fja", maps[..., :3], p) + maps[..., 3]
    t = (t - t[:, :1]) * identity.height
    Q = source.R_world_root
    # The network's rotations are single precision; glTF and its readers want exact ones.
    R = Rotation.from_matrix((Q[:, None] @ maps[..., :3]).reshape(-1, 3, 3)).as_matrix()
    return R.reshape(maps[..., :3].shape), np.einsum("fab,fjb->fja", Q, t)
