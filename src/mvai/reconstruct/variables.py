"""The unknowns of a fit as one flat vector, and the body they describe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.types.names import BODY_JOINTS

ROOT, BODY, HAND = 6, 63, 90
"""Unknowns a frame: root rotation and translation, 21 body joints, 2 x 15 finger joints."""


@dataclass(frozen=True)
class Pose:
    """A body in some frames, ready for a `BodyModel`."""

    shape: Float[Tensor, "#frames shape"]
    rotations: Float[Tensor, "frames joints 3 3"]
    translation: Float[Tensor, "frames 3"]
    body: Float[Tensor, "frames 21 3"]
    """Axis-angle of the body joints in the order of BODY_JOINTS, root left out."""
    hands: Float[Tensor, "frames 30 3"]
    """Axis-angle of the finger joints, left hand first."""


@dataclass(frozen=True)
class Variables:
    """Layout of the flat vector: the shape first, then the frames one after another.

    The root's rotation is an axis-angle turn after `R0`; its translation is held as
    (x / z, y / z, log(z / z0)) after `t0`, because a pixel fixes the first two far better than
    the depth, and a flat scale keeps the optimiser's steps even.
    """

    body: LinearBody
    shape_size: int
    R0: Float[Tensor, "frames 3 3"]
    t0: Float[Tensor, "frames 3"]
    hands: bool

    @property
    def per_frame(self) -> int:
        return ROOT + BODY + (HAND if self.hands else 0)

    def start(self, shape: Tensor, body: Tensor, hands: Tensor | None = None) -> Tensor:
        """The flat vector (1, size) at the initial root and the given pose."""
        frames = len(self.R0)
        root = torch.zeros(frames, ROOT)
        root[:, 3:5] = self.t0[:, :2] / self.t0[:, 2:]
        parts = [root, body.reshape(frames, BODY)]
        if self.hands:
            parts.append(
                torch.zeros(frames, HAND) if hands is None else hands.reshape(frames, HAND)
            )
        return torch.cat([shape.reshape(-1), torch.cat(parts, 1).reshape(-1)])[None]

    def pose(self, x: Float[Tensor, "1 size"]) -> Pose:
        """Read a pose from the flat vector."""
        frames = len(self.R0)
        used = x[0, : self.shape_size]
        shape = torch.cat([used, used.new_zeros(self.body.shape_size - self.shape_size)])[None]
        rows = x[0, self.shape_size :].reshape(frames, self.per_frame)
        hands = rows[:, ROOT + BODY :] if self.hands else rows.new_zeros(frames, HAND)
        return assemble(
            self.body, shape, rows[:, :ROOT], rows[:, ROOT : ROOT + BODY], hands, self.R0, self.t0
        )


def assemble(
    body: LinearBody,
    shape: Float[Tensor, "#frames shape"],
    root: Float[Tensor, "frames 6"],
    body_pose: Float[Tensor, "frames 63"],
    hand_pose: Float[Tensor, "frames 90"],
    R0: Float[Tensor, "frames 3 3"],
    t0: Float[Tensor, "frames 3"],
) -> Pose:
    """Joint rotations and root translation from the unknowns of every frame."""
    frames = len(root)
    depth = t0[:, 2:] * torch.exp(root[:, 5:6])
    translation = torch.cat([root[:, 3:5] * depth, depth], 1)
    body_aa = body_pose.reshape(frames, 21, 3)
    hand_aa = hand_pose.reshape(frames, 30, 3)
    R_root = R0 @ matrix_from_axis_angle(root[:, :3])
    R = torch.cat([R_root[:, None], matrix_from_axis_angle(torch.cat([body_aa, hand_aa], 1))], 1)
    return Pose(shape, R[:, _storage_order(body)], translation, body_aa, hand_aa)


def _storage_order(body: LinearBody) -> list[int]:
    """For every joint of the body its row among root, body joints and fingers."""
    fingers = [j for j in body.joints if "Hand" in j and j[-1].isdigit()]
    fingers.sort(key=lambda j: j.startswith("Right"))
    rows = [*BODY_JOINTS, *fingers]
    return [rows.index(j) for j in body.joints]
