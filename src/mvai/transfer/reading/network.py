"""What the network's encoder reads off the points of a moving mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.nets.npt_files import TrainedNpt
from mvai.nets.npt_parts import RoundsEncoder
from mvai.nets.npt_skeleton import kinematics, rotations_from


@dataclass(frozen=True)
class Reading:
    """Points of a moving mesh and what they show."""

    points: Float[np.ndarray, "frames points 3"]
    """World (metres)."""
    R_local: Float[Tensor, "frames joints 3 3"]
    R_root: Float[np.ndarray, "frames 3 3"]
    root: Float[np.ndarray, "frames 3"]
    scale: float
    normals: Float[np.ndarray, "frames points 3"]
    ids: Int[np.ndarray, " points"] | None
    """The body's vertices that the points are, or None, and then"""
    places: Float[np.ndarray, "frames points 3"] | None
    """where on the body at rest they are taken to belong."""

    def framed(
        self, R_root: Float[np.ndarray, "frames 3 3"]
    ) -> Float[np.ndarray, "frames points 3"]:
        """The points about their mean, in axes of the root and in the mean body's size."""
        x = self.points - self.points.mean(1, keepdims=True)
        return np.einsum("fji,fvj->fvi", R_root, x) / self.scale

    def some(self, frames: Int[np.ndarray, " some"]) -> Reading:
        """These frames alone."""
        return replace(
            self, points=self.points[frames], R_local=self.R_local[frames],
            R_root=self.R_root[frames], root=self.root[frames], normals=self.normals[frames],
            places=None if self.places is None else self.places[frames],
        )  # fmt: skip


def read_places(
    trained: TrainedNpt, x: Float[Tensor, "meshes points 3"]
) -> tuple[Tensor, Float[np.ndarray, "meshes points 3"]]:
    """Rotations by max pooling, and where on the body at rest each point is taken to belong."""
    encoder = trained.npt.encoder
    assert isinstance(encoder, RoundsEncoder)
    code, places = encoder.with_places(x)
    return rotations_from(trained.npt.rotations(code)), places.numpy()


def posed_mean(
    body: LinearBody, R_local: Float[Tensor, "frames joints 3 3"], ids: Int[np.ndarray, " some"]
) -> Float[np.ndarray, "frames some 3"]:
    """Vertices of the mean body under local rotations, its root at rest (metres)."""
    joints = body.joint_template
    offsets = joints - joints[[max(p, 0) for p in body.parents]]
    offsets = torch.cat([joints[:1], offsets[1:]])
    R, t = kinematics(body.parents, R_local, offsets)
    t = t - (R @ joints[..., None])[..., 0]
    A = torch.cat([R, t[..., None]], -1).flatten(-2)
    M = (body.dense_weights[ids] @ A).unflatten(-1, (3, 4))
    return ((M[..., :3] @ body.template[ids][..., None])[..., 0] + M[..., 3]).numpy()
