"""The unknowns of a frame and the posed body they describe."""

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
    """A body in some frames, ready for a `LinearBody`."""

    shape: Float[Tensor, "#frames shape"]
    rotations: Float[Tensor, "frames joints 3 3"]
    translation: Float[Tensor, "frames 3"]
    body: Float[Tensor, "frames 21 3"]
    """Axis-angle of the body joints in the order of BODY_JOINTS, root left out."""
    hands: Float[Tensor, "frames 30 3"]
    """Axis-angle of the finger joints, left hand first."""


def assemble(
    body: LinearBody,
    shape: Float[Tensor, "#frames shape"],
    root: Float[Tensor, "frames 6"],
    body_pose: Float[Tensor, "frames 63"],
    hand_pose: Float[Tensor, "frames 90"],
    R0: Float[Tensor, "frames 3 3"],
    t0: Float[Tensor, "frames 3"],
) -> Pose:
    """Joint rotations and root translation from the unknowns of every frame.

    The root's rotation is an axis-angle turn after `R0`; its translation is held as
    (x / z, y / z, log(z / z0)) after `t0`, because a pixel fixes the first two far better than the
    depth, and a flat scale keeps a quasi-Newton optimiser's steps even.
    """
    frames = len(root)
    depth = t0[:, 2:] * torch.exp(root[:, 5:6])
    translation = torch.cat([root[:, 3:5] * depth, depth], 1)
    body_aa = body_pose.reshape(frames, 21, 3)
    hand_aa = hand_pose.reshape(frames, 30, 3)
    R_root = R0 @ matrix_from_axis_angle(root[:, :3])
    still = torch.eye(3).expand(frames, 1, 3, 3)
    turned = matrix_from_axis_angle(torch.cat([body_aa, hand_aa], 1))
    R = torch.cat([R_root[:, None], turned, still], 1)
    return Pose(shape, R[:, _storage_order(body)], translation, body_aa, hand_aa)


def _storage_order(body: LinearBody) -> list[int]:
    """For every joint of the body its row among root, body joints and fingers; the last row is
    that of joints which stay at rest, such as a jaw."""
    rows = [*BODY_JOINTS, *finger_joints(body)]
    return [rows.index(j) if j in rows else -1 for j in body.joints]


def finger_joints(body: LinearBody) -> list[str]:
    """Names of the 30 finger joints, left hand first (of what there is, for a body without)."""
    fingers = [j for j in body.joints if "Hand" in j and j[-1].isdigit()]
    return sorted(fingers, key=lambda j: j.startswith("Right"))
