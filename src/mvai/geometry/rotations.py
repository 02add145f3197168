"""Rotations in torch, any batch shape. Matrices act on column vectors from the left.

Conversions that need no gradient use scipy's Rotation (quaternions x, y, z, w) instead.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def matrix_from_axis_angle(v: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rodrigues' formula, with its series near zero so that the gradient stays finite."""
    sq = (v * v).sum(-1)
    small = sq < 1e-8
    angle = torch.where(small, torch.ones_like(sq), sq).sqrt()
    a = torch.where(small, 1 - sq / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - sq / 24, (1 - angle.cos()) / (angle * angle))
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    K = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    return eye + a[..., None, None] * K + b[..., None, None] * (K @ K)


def matrix_from_6d(d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """First two columns, orthonormalised (Zhou et al., CVPR 2019)."""
    a, b = d[..., :3], d[..., 3:]
    x = torch.nn.functional.normalize(a, dim=-1)
    y = torch.nn.functional.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def sixd_from_matrix(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The first two columns, the inverse of `matrix_from_6d` on rotations."""
    return torch.cat([R[..., 0], R[..., 1]], dim=-1)
