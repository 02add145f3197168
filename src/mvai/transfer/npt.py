"""Neural pose transfer: every vertex of the character goes through the network.

The publication's method (nets/npt.py), frame by frame; the character's surface is whatever the
network makes of it. `npt_detail` keeps the character's own surface instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvai.body.anny import anny_body
from mvai.nets.npt_files import TrainedNpt, load_npt
from mvai.transfer import Source, found_source
from mvai.transfer.npt_identity import NptIdentity, identity_of, vertex_weights
from mvai.transfer.npt_place import path_of
from mvai.transfer.npt_rest import KnownCharacter
from mvai.transfer.reading.rest import read_any_source
from mvai.transfer.registration.find_joints import ImageDetector
from mvai.types import Animation, Character, MeshSequence

VALUES = 2**23
"""Numbers of a layer that are in memory at a time, which sets how many frames go together."""


@dataclass(frozen=True)
class NptTransfer:
    """The network of the publication moves every vertex."""

    known_order: bool = False
    """Read a sequence in our body's topology by the order of its vertices, not by max pooling."""
    refinements: int = 6
    """Gauss-Newton steps that lay a body over the pose mesh from where the network says it is, at
    least six where the order of its vertices is not known; 0 leaves the network alone."""
    scale_root: bool = True
    """Scale the path of the hips by the ratio of leg lengths, so that steps fit the legs."""
    find_floor: bool = True
    """Lift or lower the character so that it stands on y = 0 when the person stands."""

    def register(self, character: Character, detector: ImageDetector) -> NptRegistration:
        """See `mvai.transfer.TransferMethod`."""
        return register(character, detector, self)

    def drive(
        self, registration: NptRegistration, sequence: MeshSequence, source: Source | None = None
    ) -> Animation:
        """See `mvai.transfer.TransferMethod`."""
        return drive(registration, sequence, self, found_source(source, self))


@dataclass(frozen=True)
class NptRegistration(KnownCharacter):
    """A character that is ready to be driven."""


def register(
    character: Character, detector: ImageDetector | None = None, config: NptTransfer | None = None
) -> NptRegistration:
    """Find out what the network needs to know of a character; pictures are looked at where it does
    not find the hands.

    Raises:
        MvaiError: the character has no surface.
    """
    trained = load_npt()
    return NptRegistration(trained, identity_of(trained, character, detector))


def drive(
    registration: NptRegistration,
    sequence: MeshSequence,
    config: NptTransfer | None = None,
    source: NptRegistration | None = None,
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
    config = config or NptTransfer()
    body, identity = anny_body(), registration.identity
    trained = registration.trained
    rest = None if source is None else source.at_rest
    read = read_any_source(trained, body, sequence, config.known_order, config.refinements, rest)
    posed = posed_vertices(trained, identity, read.R_local)
    hips = identity.joints.positions[0].numpy()
    turned = np.einsum("fij,fvj->fvi", read.R_world_root, (posed - hips) * identity.height)
    turned = turned.astype(np.float32)
    path = path_of(
        body, identity, read, turned[..., 1].min(1).astype(np.float64), sequence.fps,
        config.scale_root, config.find_floor,
    )  # fmt: skip
    return Animation(
        character=identity.character,
        fps=sequence.fps,
        free_vertices=turned + path.root[:, None].astype(np.float32),
        camera=path.camera(sequence.camera),
    )


def posed_vertices(
    trained: TrainedNpt, identity: NptIdentity, R_local: Float[Tensor, "frames joints 3 3"]
) -> Float[np.ndarray, "frames verts 3"]:
    """All vertices in all poses, root at rest, in units of the identity's height."""
    npt, x = trained.npt, identity.vertices
    frames, verts = len(R_local), len(x)
    out = np.empty((frames, verts, 3), np.float32)
    with torch.no_grad():
        maps = npt.maps(R_local, identity.joints)
        codes = npt.code_of_maps(maps)
        tile = max(1, VALUES // (npt.settings.widths[0] * min(frames, 8)))
        for v in range(0, verts, tile):
            some = x[v : v + tile]
            known = npt.known(some, identity.whole)
            weights = vertex_weights(trained, identity, slice(v, v + tile), known)
            for f in range(0, frames, 8):
                with torch.autocast("cpu", torch.bfloat16):
                    raw = npt.decoder(codes[f : f + 8], known)
                blend = npt.blend(maps[f : f + 8], weights)
                out[f : f + 8, v : v + tile] = npt.placed(raw, some, blend).numpy()
    return out
