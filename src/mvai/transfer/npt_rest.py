"""A character as neural pose transfer knows it, and how it looks as a source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations, transforms
from mvai.nets.npt_files import TrainedNpt
from mvai.nets.npt_skeleton import rest_turns
from mvai.transfer.npt_detail_weights import network_weights
from mvai.transfer.npt_identity import NptIdentity
from mvai.transfer.reading.rest import RestMesh, SourceAtRest
from mvai.types import Skin


def rest_mesh(trained: TrainedNpt, body: LinearBody, identity: NptIdentity) -> RestMesh | None:
    """A source's mesh as an identity, None if its joints were not found."""
    if not identity.found:
        return None
    settings = trained.npt.settings
    R = rest_turns(settings.parents, settings.arms, identity.joints).numpy().astype(np.float64)
    at = identity.metres(identity.joints.positions.numpy().astype(np.float64))
    T = transforms(nearest_rotations(R), at)
    skin = Skin(
        body.joints, body.parents, T, *(identity.skin or network_weights(trained, identity))
    )
    return RestMesh(identity.character.name, identity.character.mesh.vertices, skin)


@dataclass(frozen=True)
class KnownCharacter:
    """A character and the network that knows it."""

    trained: TrainedNpt
    identity: NptIdentity

    @cached_property
    def at_rest(self) -> SourceAtRest:
        """As a source."""
        return SourceAtRest(lambda: rest_mesh(self.trained, anny_body(), self.identity))
