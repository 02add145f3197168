"""Posed points and their derivatives with respect to every unknown of a frame, in closed form.

Turning joint j about a world axis a moves a point that hangs on it by a x (p - t_j); everything
else is the chain rule. This costs a few matrix products for all frames together, where automatic
differentiation would need one backward pass for every coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.types.names import BODY_JOINTS


@dataclass(frozen=True)
class Linearised:
    """Points of all frames and their derivatives."""

    points: Float[Tensor, "frames points 3"]
    by_frame: Float[Tensor, "frames points 3 unknowns"]
    """Unknowns of a frame: root rotation 3, root translation 3, 21 body joints x 3."""
    by_shape: Float[Tensor, "frames points 3 shape"]


@dataclass(frozen=True)
class Kinematics:
    """The body joints and some key-points of a body as functions of the unknowns.

    The unknowns of a frame are u = (root axis-angle, root translation, body axis-angles); joints
    that are not among BODY_JOINTS stay at rest.
    """

    body: LinearBody
    names: tuple[str, ...]
    """Key-points that follow the 22 body joints in the list of points."""
    shape_size: int

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.body.attached_points(self.names)

    @cached_property
    def _joint_ids(self) -> list[int]:
        return [self.body.joint(n) for n in BODY_JOINTS]

    @cached_property
    def _above(self) -> Float[Tensor, "joints body_joints"]:
        """1 where the second joint is the first one or one of its ancestors."""
        parents, ids = self.body.parents, self._joint_ids
        above = torch.zeros(len(parents), len(ids))
        for j in range(len(parents)):
            k = j
            while k >= 0:
                if k in ids:
                    above[j, ids.index(k)] = 1.0
                k = parents[k]
        return above

    @cached_property
    def _attachment(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Joints, weights, rest positions and shape directions of all points (joints first)."""
        template, directions, indices, weights = self._points
        ids = torch.tensor(self._joint_ids)
        K = indices.shape[1]
        joint_indices = ids[:, None].expand(-1, K)
        joint_weights = torch.zeros(len(ids), K)
        joint_weights[:, 0] = 1.0
        return (
            torch.cat([joint_indices, indices]),
            torch.cat([joint_weights, weights]),
            torch.cat([self.body.joint_template[ids], template]),
            torch.cat([self.body.joint_directions[:, ids], directions], 1)[: self.shape_size],
        )

    def rotations(self, u: Float[Tensor, "frames unknowns"]) -> Float[Tensor, "frames joints 3 3"]:
        """Local rotation of every joint of the body; fingers at rest."""
        R = torch.eye(3).repeat(len(u), len(self.body.joints), 1, 1)
        aa = torch.cat([u[:, :3], u[:, 6:]], 1).unflatten(1, (22, 3))
        R[:, self._joint_ids] = matrix_from_axis_angle(aa)
        return R

    def linearise(
        self, u: Float[Tensor, "frames unknowns"], shape: Float[Tensor, " shape"], derivatives: bool
    ) -> Linearised:
        """Points at u, with derivatives unless they are not asked for (then empty tensors)."""
        indices, weights, rest, directions = self._attachment
        frames = len(u)
        full = torch.zeros(self.body.shape_size)
        full[: self.shape_size] = shape
        rest_joints = self.body.rest_joints(full)
        R, t = self.body.forward_kinematics(
            rest_joints[None].expand(frames, -1, -1), self.rotations(u), u[:, 3:6]
        )
        local = (rest + torch.einsum("b,bpd->pd", shape, directions))[:, None] - rest_joints[
            indices
        ]
        by_bone = torch.einsum("fpkab,pkb->fpka", R[:, indices], local) + t[:, indices]
        points = torch.einsum("pk,fpka->fpa", weights, by_bone)
        if not derivatives:
            return Linearised(points, points.new_zeros(0), points.new_zeros(0))

        ids = self._joint_ids
        hang = weights[..., None] * self._above[indices]  # points, influences, body joints
        lever = torch.einsum("pkj,fpka->fpja", hang, by_bone) - (
            hang.sum(1)[None, :, :, None] * t[:, None, ids]
        )
        aa = torch.cat([u[:, :3], u[:, 6:]], 1).unflatten(1, (22, 3))
        # World rotation vector per unit change of the axis-angle: R_j J_r(aa).
        axes = R[:, ids] @ right_jacobian(aa)
        turn = torch.linalg.cross(
            axes.transpose(-1, -2)[:, None], lever[..., None, :], dim=-1
        ).movedim(-1, 2)  # frames, points, xyz, joints, 3
        move = torch.eye(3).expand(frames, len(rest), 3, 3)
        by_frame = torch.cat([turn[..., 0, :], move, turn[..., 1:, :].flatten(3)], -1)

        # Shape moves the joints along the chain and the point within its bone's frame.
        joint_directions = self.body.joint_directions[: self.shape_size]
        moved = torch.empty(frames, len(self.body.joints), 3, self.shape_size)
        for j, p in enumerate(self.body.parents):
            offset = joint_directions[:, j] - (joint_directions[:, p] if p >= 0 else 0)
            if p < 0:
                moved[:, j] = offset.T
            else:
                moved[:, j] = moved[:, p] + R[:, p] @ offset.T
        inner = directions[:, :, None] - joint_directions[:, indices]
        by_shape = torch.einsum(
            "pk,fpkas->fpas",
            weights,
            torch.einsum("fpkab,spkb->fpkas", R[:, indices], inner) + moved[:, indices],
        )
        return Linearised(points, by_frame, by_shape)


def right_jacobian(v: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """d(log(exp(-v) exp(v + e)))/de at e = 0 (Chirikjian 2012, eq. 10.86)."""
    sq = (v * v).sum(-1)
    small = sq < 1e-6
    angle = torch.where(small, torch.ones_like(sq), sq).sqrt()
    b = torch.where(small, 0.5 - sq / 24, (1 - angle.cos()) / angle**2)
    c = torch.where(small, 1 / 6 - sq / 120, (angle - angle.sin()) / angle**3)
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    K = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=v.dtype)
    return eye - b[..., None, None] * K + c[..., None, None] * (K @ K)
