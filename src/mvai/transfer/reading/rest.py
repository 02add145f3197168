"""Reads a moving mesh unlike the bodies of the training through the mesh at rest.

The network knows people. A source of another build, such as one whose head is a third of its
height, is read as a character is made ready: where it stands in a pose in which joints and skin
weights can be found, what its bones did follows from all its vertices at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from mvai.body.bone_transforms import bone_transforms
from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations
from mvai.nets.npt_files import TrainedNpt
from mvai.transfer.legs import body_legs, leg_length
from mvai.transfer.reading.source import SourcePoses, read_source
from mvai.types import MeshSequence, MvaiError, Skin

LIKE_PEOPLE_M = 0.008
"""The body of the training, laid over a mesh of its kind, is no further from its points: 4 to 5 mm
on random people in their poses, 11 to 27 mm on mannequins and a zombie."""
TRIED_FRAMES = 8
"""Frames in which it is laid over to find out."""


@dataclass(frozen=True)
class RestMesh:
    """A source's mesh at rest and what moves it."""

    name: str
    vertices: Float[np.ndarray, "verts 3"]
    skin: Skin
    """The body's joints; each stands as it is turned from the body's own rest pose."""


class SourceAtRest:
    """A source's mesh at rest, made when it is asked for, and of what kind it was found to be."""

    def __init__(self, make: Callable[[], RestMesh | None]) -> None:
        self._make = make
        self.by_network: bool | None = None
        """Whether the network reads it better; unknown before a sequence was looked at."""

    @cached_property
    def mesh(self) -> RestMesh | None:
        """None if its joints were not found."""
        return self._make()


def read_any_source(
    trained: TrainedNpt,
    body: LinearBody,
    sequence: MeshSequence,
    known_order: bool,
    refinements: int,
    source: SourceAtRest | None = None,
) -> SourcePoses:
    """Read a mesh sequence by the network, or through its rest pose where it is of another kind.

    Args:
        trained: the network.
        body: the body it was trained on.
        sequence: any moving mesh.
        known_order: see `read_source`.
        refinements: see `read_source`; without any the network alone reads every source.
        source: the same mesh at rest.

    Raises:
        MvaiError: positions are not numbers, there is no surface, or the rest pose is that of
            another mesh.
    """
    known = sequence.topology == body.topology
    if source is not None and refinements and not known:
        if source.by_network is None:
            F = sequence.frames
            some = np.unique(np.linspace(0, F - 1, min(F, TRIED_FRAMES)).round().astype(int))
            few = replace(sequence, vertices=sequence.vertices[some], confidence=None)
            tried = read_source(trained, body, few, known_order, refinements)
            source.by_network = tried.miss_m <= LIKE_PEOPLE_M or _facing_away(
                body, source, few, tried
            )
        if not source.by_network and source.mesh is not None:
            return read_through_rest(body, source.mesh, sequence)
    return read_source(trained, body, sequence, known_order, refinements)


def _facing_away(
    body: LinearBody, source: SourceAtRest, few: MeshSequence, tried: SourcePoses
) -> bool:
    """Whether the rest pose, which is taken to face +Z, did not: the network, which takes a person
    for one seen from behind now and then, says so in every frame."""
    if source.mesh is None:
        return False
    R = read_through_rest(body, source.mesh, few).R_world_root
    cosine = (np.einsum("fij,fij->f", R, tried.R_world_root) - 1) / 2
    return bool((cosine < 0).all())


def read_through_rest(body: LinearBody, rest: RestMesh, sequence: MeshSequence) -> SourcePoses:
    """Read a mesh sequence whose mesh at rest is known.

    Raises:
        MvaiError: the two are not the same mesh, or positions are not numbers.
    """
    V = np.asarray(sequence.vertices, np.float32)
    if V.shape[1] != len(rest.vertices):
        raise MvaiError(
            f"The mesh sequence has {V.shape[1]} vertices and its rest pose {rest.name} "
            f"{len(rest.vertices)}; they must be the same mesh."
        )
    if not np.isfinite(V).all():
        raise MvaiError("The mesh sequence has positions that are not numbers; make it again.")
    at, legs = rest.skin.T_world_joint[:, :3, 3], body_legs(body)
    D = bone_transforms(rest.skin, rest.vertices, V)
    R = nearest_rotations(D[..., :3]) @ rest.skin.T_world_joint[:, :3, :3]
    R_local = R[:, [max(p, 0) for p in body.parents]].swapaxes(-1, -2) @ R
    R_local[:, 0] = np.eye(3)
    return SourcePoses(
        R_local=torch.from_numpy(R_local.astype(np.float32)),
        R_world_root=R[:, 0],
        root=D[:, 0, :, :3] @ at[0] + D[:, 0, :, 3],
        scale=leg_length(at, legs) / leg_length(body.joint_template.numpy(), legs),
        lowest=V[..., 1].min(1).astype(np.float64),
    )
