"""A pose code that is read as joint rotations, and what it means for one identity.

The code of a mesh becomes one local rotation a joint. The identity's joints are found from a max
pooling over its surface. Forward kinematics then gives the affine map of every joint of this
identity, and these maps, side by side, are the code that is repeated for each of its vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvai.geometry.rotations import matrix_from_6d, matrix_from_axis_angle
from mvai.nets.npt_parts import IDENTITY_OCTAVES, encoded_position, encoded_size


@dataclass(frozen=True)
class IdentityJoints:
    """Joints of an identity as it is given, in units of its height about its box's centre."""

    positions: Float[Tensor, "*mesh joints 3"]
    lift: Float[Tensor, "*mesh 2"]
    """How far its left and right arm are raised from the body's rest pose (radians)."""
    turns: Float[Tensor, "*mesh joints 3 3"] | None = None
    """How each joint stands relative to the body's rest pose, where more is known than `lift`."""


class JointFinder(nn.Module):
    """Joints from the surface of an identity near its rest pose, by max pooling."""

    def __init__(self, joints: int, width: int = 128, pool: int = 384) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Linear(encoded_size(IDENTITY_OCTAVES), width), nn.ReLU(), nn.Linear(width, width),
            nn.ReLU(), nn.Linear(width, pool),
        )  # fmt: skip
        self.whole = nn.Sequential(
            nn.Linear(pool, pool), nn.ReLU(), nn.Linear(pool, 3 * joints + 2)
        )

    def forward(self, points: Float[Tensor, "*mesh points 3"]) -> IdentityJoints:
        e = encoded_position(points, IDENTITY_OCTAVES).to(next(self.parameters()).dtype)
        out = self.whole(self.points(e).amax(-2)).float()
        return IdentityJoints(out[..., :-2].unflatten(-1, (-1, 3)), out[..., -2:])


def rotations_from(out: Float[Tensor, "*mesh numbers"]) -> Float[Tensor, "*mesh joints 3 3"]:
    """Local rotations from six numbers a joint; zeros mean rest."""
    sixd = out.float().unflatten(-1, (-1, 6))
    rest = torch.tensor([1.0, 0, 0, 0, 1, 0], device=sixd.device)
    return matrix_from_6d(sixd + rest)


@lru_cache(maxsize=8)
def _levels(parents: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    depth: list[int] = []
    for p in parents:
        depth.append(0 if p < 0 else depth[p] + 1)
    by_depth = [[j for j, d in enumerate(depth) if d == k] for k in range(1, max(depth) + 1)]
    return [(js, [parents[j] for j in js]) for js in by_depth]


def kinematics(
    parents: tuple[int, ...],
    R_local: Float[Tensor, "*mesh joints 3 3"],
    offsets: Float[Tensor, "*mesh joints 3"],
) -> tuple[Float[Tensor, "*mesh joints 3 3"], Float[Tensor, "*mesh joints 3"]]:
    """World rotation and position of every joint; the first joint stays at its offset."""
    shape = torch.broadcast_shapes(R_local.shape[:-3], offsets.shape[:-2])
    R_local = R_local.expand(*shape, -1, -1, -1)
    offsets = offsets.expand(*shape, -1, -1)
    order = [0]
    R, t = R_local[..., :1, :, :], offsets[..., :1, :]
    for js, ps in _levels(parents):
        at = [order.index(p) for p in ps]
        above = R[..., at, :, :]
        t = torch.cat([t, t[..., at, :] + (above @ offsets[..., js, :, None])[..., 0]], -2)
        R = torch.cat([R, above @ R_local[..., js, :, :]], -3)
        order += js
    back = [order.index(j) for j in range(len(order))]
    return R[..., back, :, :], t[..., back, :]


def rest_turns(
    parents: tuple[int, ...], arms: tuple[int, int], identity: IdentityJoints
) -> Float[Tensor, "*mesh joints 3 3"]:
    """How each joint of the identity as it is given stands relative to the body's rest pose.

    Args:
        parents: each joint's parent.
        arms: the joints about whose z axis the identity's arms are raised.
        identity: what is known of it.
    """
    if identity.turns is not None:
        return identity.turns
    vector = identity.lift.new_zeros(*identity.lift.shape[:-1], len(parents), 3)
    vector[..., arms[0], 2] = identity.lift[..., 0]
    vector[..., arms[1], 2] = -identity.lift[..., 1]
    R, _ = kinematics(parents, matrix_from_axis_angle(vector), torch.zeros_like(identity.positions))
    return R


def joint_maps(
    parents: tuple[int, ...],
    arms: tuple[int, int],
    R_local: Float[Tensor, "*mesh joints 3 3"],
    identity: IdentityJoints,
) -> Float[Tensor, "*mesh joints 3 4"]:
    """For every joint the affine map that takes its part of the identity to the pose.

    Args:
        parents: each joint's parent.
        arms: the joints about whose z axis the identity's arms are raised.
        R_local: rotations of the pose.
        identity: where the identity's joints are as it is given.
    """
    R_given = rest_turns(parents, arms, identity)
    p = identity.positions
    above = [max(q, 0) for q in parents]
    bone = p - p[..., above, :]
    offsets = (R_given[..., above, :, :].mT @ bone[..., None])[..., 0]
    offsets = torch.cat([p[..., :1, :], offsets[..., 1:, :]], -2)
    R, t = kinematics(parents, R_local, offsets)
    A = R @ R_given.mT
    return torch.cat([A, (t - (A @ p[..., None])[..., 0])[..., None]], -1)
