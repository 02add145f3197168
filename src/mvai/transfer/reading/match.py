"""Which vertex of the body the network was trained on each point of a pose mesh is.

A mesh in the body's own topology says so itself. For any other, each point goes with the vertex
that is nearest in three ways at once: in space, in where the surface faces, and in the network's
opinion of where on the body the point belongs. That opinion counts less and less, as does the
distance along the surface (Chen and Medioni 1992), so that points may slide into place, and points
far off lose their say (Geman and McClure 1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.surface import vertex_normals

BELONGS = (0.5, 0.05)
"""How much a metre between places on the body counts against a metre in space, first and last."""
FACES_M = 0.2
"""How much a right angle between normals, nearly, counts in metres."""
SLIDE = (0.1, 0.02)
"""Share of a distance along the surface that counts."""
ROBUST_M = (0.12, 0.04)
"""Points further off than this lose their say."""
A_JOINT = 100
"""Vertices of every joint among which a point's is found."""


@dataclass(frozen=True)
class Surface:
    """Some vertices of the body, the same for all frames or others for each, and what they
    follow."""

    rest: Float[Tensor, "*frames verts 3"]
    directions: Float[Tensor, "shape *frames verts 3"]
    weights: Float[Tensor, "*frames verts joints"]
    normals: Float[Tensor, "*frames verts 3"]

    @staticmethod
    def of(body: LinearBody, ids: Int[np.ndarray, " chosen"]) -> Surface:
        """The chosen vertices."""
        normals = vertex_normals(body.template.numpy(), body.faces)[ids].astype(np.float32)
        return Surface(
            body.template[ids], body.directions[:, ids], body.dense_weights[ids],
            torch.from_numpy(normals),
        )  # fmt: skip

    def some(self, ids: Int[Tensor, "frames points"]) -> Surface:
        """Others for every frame."""
        return Surface(
            self.rest[ids], self.directions[:, ids], self.weights[ids], self.normals[ids]
        )

    def shaped(self, shape: Float[Tensor, " shape"]) -> Float[Tensor, "*frames verts 3"]:
        """The vertices of a person of this shape at rest."""
        return self.rest + torch.tensordot(shape, self.directions, 1)


@dataclass(frozen=True)
class Pairs:
    """What goes with what."""

    surface: Surface
    target: Float[Tensor, "frames verts 3"]
    """Where its vertices should be."""
    slide: float
    """Share of the distance along the surface that counts."""
    robust_m: float
    """Pairs further apart than this lose their say."""


class Match(Protocol):
    """Finds pairs."""

    @property
    def pool(self) -> Surface | None:
        """Vertices that `pairs` has to be told of, as they are now."""
        ...

    def pairs(
        self,
        x: Float[Tensor, "frames points 3"],
        frames: Int[np.ndarray, " frames"],
        whole: tuple[Float[Tensor, "frames pool 3"], Float[Tensor, "frames pool 3"]] | None,
        done: float,
    ) -> Pairs:
        """Pairs for some frames.

        Args:
            x: points of these frames.
            frames: their numbers.
            whole: positions and normals of the pool in its present pose, None at the beginning.
            done: share of the steps that have been made.
        """
        ...


def body_pool(body: LinearBody) -> Surface:
    """Vertices among which those of points are found: as many of every joint."""
    ids = [np.flatnonzero(body.strongest_joint == j) for j in range(len(body.joints))]
    ids = [i[np.linspace(0, len(i) - 1, min(len(i), A_JOINT)).astype(int)] for i in ids]
    return Surface.of(body, np.concatenate(ids))


class KnownMatch:
    """The points are these vertices of the body."""

    pool = None

    def __init__(self, body: LinearBody, ids: Int[np.ndarray, " points"]) -> None:
        self.surface = Surface.of(body, ids)

    def pairs(self, x: Tensor, frames: np.ndarray, whole: object, done: float) -> Pairs:
        """See `Match`."""
        return Pairs(self.surface, x, 1.0, 1e3)


class FoundMatch:
    """The points' vertices are to be found."""

    def __init__(
        self,
        body: LinearBody,
        places: Float[np.ndarray, "frames points 3"],
        normals: Float[np.ndarray, "frames points 3"],
    ) -> None:
        self.places, self.normals = places, normals
        self.pool = body_pool(body)

    def pairs(
        self, x: Tensor, frames: np.ndarray, whole: tuple[Tensor, Tensor] | None, done: float
    ) -> Pairs:
        """See `Match`."""
        rest, share = self.pool.rest.numpy(), _between(BELONGS, done)
        nearest = []
        for i, f in enumerate(frames):
            there, here = [share * rest], [share * self.places[f]]
            if whole is not None:
                there += [whole[0][i].numpy(), FACES_M * whole[1][i].numpy()]
                here += [x[i].numpy(), FACES_M * self.normals[f]]
            nearest.append(KDTree(np.concatenate(there, 1)).query(np.concatenate(here, 1))[1])
        surface = self.pool.some(torch.from_numpy(np.stack(nearest)))
        return Pairs(surface, x, _between(SLIDE, done), _between(ROBUST_M, done))


def _between(ends: tuple[float, float], done: float) -> float:
    """Evenly in the logarithm."""
    return ends[0] ** (1 - done) * ends[1] ** done
