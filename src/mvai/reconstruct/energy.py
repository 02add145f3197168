"""Terms of the SMPLify-X energy (Pavlakos et al., CVPR 2019, section 3.3) as plain functions.

Every function returns one value a frame; weights are applied by the caller.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.types.names import SIDES

PAPER_RHO_PX = 100.0
"""Scale of the robust data term in the original's settings."""

STRAIGHT = 0.1
"""Sine of the bend under which an elbow at rest does not show which way it flexes."""


def gmof(squared: Float[Tensor, "*n"], rho: float) -> Float[Tensor, "*n"]:
    """Geman-McClure robust function of squared residuals (Geman and McClure 1987)."""
    return rho * rho * squared / (squared + rho * rho)


def project(
    points: Float[Tensor, "frames points 3"], focal_px: float, centre_px: Float[Tensor, "2"]
) -> Float[Tensor, "frames points 2"]:
    """World points to pixels of the camera that stands at the origin and looks along -Z.

    Points behind the camera or very near it are pushed to 5 cm, where the gradient still leads
    them out.
    """
    depth = (-points[..., 2:]).clamp(min=0.05)
    x, y = points[..., :1], -points[..., 1:2]
    return focal_px * torch.cat([x, y], -1) / depth + centre_px


def hinge_axes(body: LinearBody) -> tuple[list[int], Float[Tensor, "4 3"], Float[Tensor, "4"]]:
    """Knees and elbows: joint index, flexion axis, and the bend that the rest pose already has.

    A knee flexes about +x (the shank goes back); an elbow about the normal of the plane in which
    the rest pose bends it, or, where it rests straight, so that the forearm comes forward.
    """
    rest = body.joint_template
    joints, axes, bends = [], [], []
    for side in SIDES:
        up, mid, low = (body.joint(side + n) for n in ("Arm", "ForeArm", "Hand"))
        a = torch.nn.functional.normalize(rest[mid] - rest[up], dim=0)
        b = torch.nn.functional.normalize(rest[low] - rest[mid], dim=0)
        axis = torch.linalg.cross(a, b)
        if axis.norm() < STRAIGHT:
            axis, b = torch.linalg.cross(a, torch.tensor([0.0, 0.0, 1.0])), a
        joints.append(mid)
        axes.append(torch.nn.functional.normalize(axis, dim=0))
        bends.append(torch.atan2(torch.linalg.cross(a, b).norm(), (a * b).sum()))
        joints.append(body.joint(side + "Leg"))
        axes.append(torch.tensor([1.0, 0.0, 0.0]))
        bends.append(torch.tensor(0.0))
    return joints, torch.stack(axes), torch.stack(bends)


def angle_prior(
    hinge_rotations: Float[Tensor, "frames 4 3"],
    axes: Float[Tensor, "4 3"],
    bends: Float[Tensor, "4"],
) -> Float[Tensor, " frames"]:
    """exp(-bend)^2 of knees and elbows: steep for joints bent the wrong way.

    Args: axis-angle rotations of the hinge joints; `axes` and `bends` of `hinge_axes`.
    """
    bend = (hinge_rotations * axes).sum(-1) + bends
    return torch.exp(-2 * bend.clamp(min=-3.0, max=8.0)).sum(-1)
