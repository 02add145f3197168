"""The pose prior of a body, and how the paper's setting moves the body pose under it.

The shipped prior knows rotations from the shipped body's rest pose. Another body of the family
stands differently at rest, so the same posture has other rotations there: with S_j what takes our
rest to the other's, r' = S_parent r S_j^T. The mixture is carried over by that map, its covariances
by the map's derivative at the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.body.retarget import rest_skeleton, swings
from mvai.nets.pose_prior import GaussianMixture, axis_angle_from_matrix, load_pose_prior
from mvai.nets.vposer import LATENT, VPoserDecoder
from mvai.types.names import BODY_JOINTS

STEP = 1e-4


def prior_for(body: LinearBody) -> GaussianMixture:
    """The shipped prior in the rotations of `body`."""
    prior = load_pose_prior()
    assert isinstance(prior, GaussianMixture), "the clip fit needs a quadratic prior"
    ours = anny_body()
    if body.topology == ours.topology:
        return prior
    swing = swings(ours, rest_skeleton(body)[0], {})
    parents = [ours.joints[ours.parents[ours.joint(n)]] for n in BODY_JOINTS[1:]]
    before = np.stack([swing[p] for p in parents])
    after = np.stack([swing[n].T for n in BODY_JOINTS[1:]])
    return carried_over(prior, before, after)


def carried_over(
    prior: GaussianMixture,
    before: Float[np.ndarray, "21 3 3"],
    after: Float[np.ndarray, "21 3 3"],
) -> GaussianMixture:
    """The mixture of before_j r_j after_j, to first order about each mean."""

    def there(a: np.ndarray) -> np.ndarray:
        R = Rotation.from_rotvec(a.reshape(-1, 3)).as_matrix().reshape(*a.shape[:-1], 3, 3)
        out = Rotation.from_matrix((before @ R @ after).reshape(-1, 3, 3)).as_rotvec()
        return out.reshape(a.shape)

    means = prior.means.numpy().astype(np.float64)
    components, size = means.shape
    out = GaussianMixture(components, size)
    centres = means.reshape(components, -1, 3)
    J = np.zeros((components, size, size))
    for axis in range(3):
        e = STEP * np.eye(3)[axis]
        change = (there(centres + e) - there(centres - e)) / (2 * STEP)
        for j in range(size // 3):
            J[:, 3 * j : 3 * j + 3, 3 * j + axis] = change[:, j]
    L = prior.precision_factors.numpy().astype(np.float64)
    inverse = np.linalg.inv(J)
    precision = inverse.transpose(0, 2, 1) @ L @ L.transpose(0, 2, 1) @ inverse
    out.weights.copy_(prior.weights)
    out.means.copy_(torch.from_numpy(there(centres).reshape(components, size)))
    out.precision_factors.copy_(torch.from_numpy(np.linalg.cholesky(precision)))
    return out


class BodyPoseSpace(Protocol):
    """The unknowns that stand for the body pose in a fit, and what they cost."""

    @property
    def size(self) -> int: ...

    def start(self) -> Float[Tensor, " size"]:
        """The unknowns of a usual pose."""
        ...

    def pose(self, x: Float[Tensor, "n size"]) -> Float[Tensor, "n 63"]:
        """Axis-angle vectors of the 21 body joints."""
        ...

    def energy(self, x: Float[Tensor, "n size"]) -> Float[Tensor, " n"]:
        """How unusual the pose is."""
        ...


@dataclass(frozen=True)
class DirectPose:
    """The axis-angle vectors themselves, under a mixture."""

    prior: GaussianMixture
    size: int = 63

    def start(self) -> Tensor:
        return self.prior.mean_pose.flatten()

    def pose(self, x: Tensor) -> Tensor:
        return x

    def energy(self, x: Tensor) -> Tensor:
        return self.prior.energy_of(x.unflatten(-1, (21, 3)))


@dataclass(frozen=True)
class LatentPose:
    """VPoser's latent code, as in the original."""

    decoder: VPoserDecoder
    size: int = LATENT

    def start(self) -> Tensor:
        return torch.zeros(LATENT)

    def pose(self, x: Tensor) -> Tensor:
        return axis_angle_from_matrix(self.decoder(x)).flatten(1)

    def energy(self, x: Tensor) -> Tensor:
        return (x**2).sum(-1)
