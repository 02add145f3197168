"""The template body with a scale for every limb, so that it fits people of any proportions.

The body model knows proportions of real people; a character may have longer legs or larger hands
than any of them. Each limb therefore gets a scale of its own on top of the shape coefficients. A
joint's scale applies to the surface that it moves and to the way to its children, and is not
handed on to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle

LIMBS = (
    ("Hips",),
    ("Spine", "Spine1", "Spine2"),
    ("Shoulder",),
    ("Arm",),
    ("ForeArm",),
    ("Hand",),
    ("UpLeg",),
    ("Leg",),
    ("Foot",),
    ("ToeBase",),
    ("Neck",),
    ("Head",),
)
"""Joints that share a scale; both sides of the body do, and fingers share the hand's."""


@dataclass(frozen=True)
class TemplatePoints:
    """Points that ride on the template: rest position, shape directions and joint weights."""

    rest: Float[Tensor, "points 3"]
    directions: Float[Tensor, "shape points 3"]
    weights: Float[Tensor, "points joints"]


@dataclass(frozen=True)
class Pose:
    """The template's unknowns in one vector, taken apart."""

    shape: Float[Tensor, " shape"]
    log_scale: Float[Tensor, ""]
    log_limb: Float[Tensor, " limbs"]
    rotations: Float[Tensor, "joints 3"]
    """Axis-angle of each joint in its parent's frame."""
    translation: Float[Tensor, "3"]


class ScaledTemplate:
    """Poses points of a body under shape, limb scales and rotations."""

    def __init__(self, body: LinearBody) -> None:
        self.body = body
        self.limb = limb_of_joints(body.joints)
        self.size = body.shape_size + 1 + len(LIMBS) + 3 * len(body.joints) + 3

    def start(self) -> Float[Tensor, " size"]:
        return torch.zeros(self.size)

    def split(self, x: Float[Tensor, " size"]) -> Pose:
        S, G, J = self.body.shape_size, len(LIMBS), len(self.body.joints)
        shape, log_scale, log_limb, rotations, translation = x.split([S, 1, G, 3 * J, 3])
        return Pose(shape, log_scale[0], log_limb, rotations.view(J, 3), translation)

    def joint_transforms(
        self, pose: Pose
    ) -> tuple[Float[Tensor, "joints 3 3"], Float[Tensor, "joints 3"], Float[Tensor, " joints"]]:
        """World rotation, position and scale of every joint."""
        joints = self.body.rest_joints(pose.shape)
        scale = torch.exp(pose.log_scale + pose.log_limb[self.limb])
        local = matrix_from_axis_angle(pose.rotations)
        Rs: list[Tensor] = []
        ts: list[Tensor] = []
        for j, p in enumerate(self.body.parents):
            if p < 0:
                Rs.append(local[j])
                ts.append(joints[j] + pose.translation)
            else:
                Rs.append(Rs[p] @ local[j])
                ts.append(ts[p] + scale[p] * (Rs[p] @ (joints[j] - joints[p])))
        return torch.stack(Rs), torch.stack(ts), scale

    def place(self, points: TemplatePoints, pose: Pose) -> Float[Tensor, "points 3"]:
        """World positions of the points (linear blend skinning of scaled rotations)."""
        R, t, scale = self.joint_transforms(pose)
        joints = self.body.rest_joints(pose.shape)
        sR = scale[:, None, None] * R
        A = torch.cat([sR, (t - (sR @ joints[..., None])[..., 0])[..., None]], -1)
        blend = (points.weights @ A.flatten(1)).unflatten(-1, (3, 4))
        rest = points.rest + torch.einsum("b,bpd->pd", pose.shape, points.directions)
        return (blend[..., :3] @ rest[..., None])[..., 0] + blend[..., 3]

    def vertices(self, ids: Int[np.ndarray, " points"] | None = None) -> TemplatePoints:
        """Some or all vertices of the surface."""
        body = self.body
        ids = np.arange(len(body.template)) if ids is None else ids
        weights = torch.zeros(len(ids), len(body.joints))
        weights.scatter_add_(
            1,
            torch.from_numpy(body.weight_indices[ids].astype(np.int64)),
            torch.from_numpy(body.weights[ids].astype(np.float32)),
        )
        return TemplatePoints(body.template[ids], body.directions[:, ids], weights)

    def named(self, names: tuple[str, ...]) -> TemplatePoints:
        """Key-points by their names."""
        A = self.body.regressor[[self.body.regressed.index(n) for n in names]]
        used = np.unique(A.indices)
        at = self.vertices(used)
        M = torch.from_numpy(A[:, used].toarray().astype(np.float32))
        return TemplatePoints(
            M @ at.rest, torch.einsum("pv,bvd->bpd", M, at.directions), M @ at.weights
        )


def limb_of_joints(joints: tuple[str, ...]) -> list[int]:
    """Index into `LIMBS` of each joint."""
    limb = {name: i for i, names in enumerate(LIMBS) for name in names}
    result = []
    for joint in joints:
        name = joint.removeprefix("Left").removeprefix("Right")
        result.append(limb["Hand" if name.startswith("Hand") else name])
    return result
