"""Lays the body of the training on a pose mesh, from where the network says it is.

Gauss-Newton steps on the rotations of all joints, which the network's answer starts and holds on
to; the shape is fitted to all frames together. Which vertex of the body each point is, match.py
knows or finds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import normalize

from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.transfer.reading.match import Match, Surface

POINT_SPREAD_M = 0.01
"""How far a point of the right pose and shape may be off."""
TURN_SPREAD_RAD = 0.2
"""How far the network's rotations may be off."""
SHAPE_FRAMES = 8
CHUNK = 16
"""Frames that are solved together, which bounds the memory."""


@dataclass(frozen=True)
class Laid:
    """The body as it lies over a pose mesh."""

    R_local: Float[Tensor, "frames joints 3 3"]
    """Local rotations; the root's is the turn that was left of the frame the points are in."""
    shape: Float[Tensor, " shape"]
    """The same in all frames."""
    root: Float[Tensor, "frames 3"]
    """Position of the root joint (metres)."""

    def some(self, frames: Int[np.ndarray, " some"]) -> Laid:
        """These frames alone."""
        return Laid(self.R_local[frames], self.shape, self.root[frames])


@dataclass(frozen=True)
class Posed:
    """A surface in its poses and what its derivatives need."""

    R: Float[Tensor, "frames joints 3 3"]
    t: Float[Tensor, "frames joints 3"]
    R_vertex: Float[Tensor, "frames verts 3 3"]
    """Blended rotations."""
    each: Float[Tensor, "frames verts joints 3"]
    """Where each joint alone would take a vertex, times its weight."""

    @property
    def vertices(self) -> Float[Tensor, "frames verts 3"]:
        return self.each.sum(2)

    def normals(self, surface: Surface) -> Float[Tensor, "frames verts 3"]:
        """Where the surface faces, as far as rotations alone tell."""
        return normalize((self.R_vertex @ surface.normals[..., None])[..., 0], dim=-1)


def posed(body: LinearBody, surface: Surface, laid: Laid) -> Posed:
    """Linear blend skinning of the mean shape's joints and the surface as it is given."""
    joints = body.rest_joints(laid.shape)
    R, t = body.forward_kinematics(joints[None], laid.R_local, laid.root - joints[0])
    offset = t - (R @ joints[..., None])[..., 0]
    rest = surface.shaped(laid.shape).expand(len(R), -1, 3)
    turned = (R.flatten(1, 2)[:, None] @ rest[..., None])[..., 0].unflatten(-1, (-1, 3))
    R_vertex = (surface.weights @ R.flatten(2)).unflatten(-1, (3, 3))
    each = surface.weights[..., None] * (turned + offset[:, None])
    return Posed(R, t, R_vertex, each)


def lay(
    body: LinearBody,
    points: Float[np.ndarray, "frames points 3"],
    start: Float[Tensor, "frames joints 3 3"],
    steps: int,
    match: Match,
    shape: Float[Tensor, " shape"] | None = None,
) -> Laid:
    """Lay the body over points.

    Args:
        body: the body the network was trained on.
        points: points of the pose mesh, near the size of the mean body.
        start: the network's rotations.
        steps: Gauss-Newton steps.
        match: which vertices of the body the points are.
        shape: the person's shape where it is known.
    """
    x = torch.from_numpy(points.astype(np.float32))
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), SHAPE_FRAMES)).round().astype(int))

    def solved(at: np.ndarray, shape: Tensor, fit_shape: bool) -> Laid:
        first = start[at]
        laid = Laid(first, shape, torch.zeros(len(at), 3))
        pairs = match.pairs(x[at], at, None, 0.0)
        shift = pairs.target.mean(1) - posed(body, pairs.surface, laid).vertices.mean(1)
        laid = Laid(first, shape, shift)
        for step in range(steps):
            done = step / max(steps - 1, 1)
            laid = _step(body, match, x[at], laid, first, at, done, fit_shape)
        return laid

    if shape is None:
        shape = solved(some, torch.zeros(body.shape_size), True).shape
    chunks = np.array_split(np.arange(len(x)), -(-len(x) // CHUNK))
    parts = [solved(at, shape, False) for at in chunks]
    return Laid(
        torch.cat([p.R_local for p in parts]),
        shape,
        torch.cat([p.root for p in parts]),
    )


def solve(
    A: Float[Tensor, "*batch n n"], b: Float[Tensor, "*batch n k"]
) -> Float[Tensor, "*batch n k"]:
    """Solves A x = b, by NumPy: torch's own batched solver fails on CPUs at times, with "Pivots
    given to lu_solve must all be greater or equal to 1", when the number of its threads was changed
    before."""
    return torch.from_numpy(np.linalg.solve(A.numpy(), b.numpy()))


def misses(
    body: LinearBody,
    points: Float[np.ndarray, "frames points 3"],
    laid: Laid,
    surface: Surface,
) -> Float[np.ndarray, " frames"]:
    """Mean distance of points from the nearest vertex of the laid body, 10 cm at most (metres)."""
    out = np.empty(len(points))
    for f, x in enumerate(points):
        one = laid.some(np.array([f]))
        out[f] = (
            KDTree(posed(body, surface, one).vertices[0].numpy()).query(x)[0].clip(max=0.1).mean()
        )
    return out


def _step(
    body: LinearBody,
    match: Match,
    x: Float[Tensor, "frames points 3"],
    laid: Laid,
    first: Float[Tensor, "frames joints 3 3"],
    frames: Int[np.ndarray, " frames"],
    done: float,
    fit_shape: bool,
) -> Laid:
    """One Gauss-Newton step on rotations and root, and on the shape that all frames share."""
    whole = None
    if match.pool is not None and done:
        all_of_it = posed(body, match.pool, laid)
        whole = all_of_it.vertices, all_of_it.normals(match.pool)
    pairs = match.pairs(x, frames, whole, done)
    surface = pairs.surface
    now = posed(body, surface, laid)
    left = pairs.target - now.vertices
    # Distances along the surface count for less where it is only found which vertex a point is.
    along = torch.eye(3)
    if pairs.slide < 1:
        n, free_way = now.normals(surface), pairs.slide**0.5
        along = free_way * along + (1 - free_way) * n[..., :, None] * n[..., None, :]
    off = (along @ left[..., None])[..., 0].square().sum(-1, keepdim=True)
    trust = pairs.robust_m**2 / (pairs.robust_m**2 + off) / POINT_SPREAD_M

    def rows(J: Float[Tensor, "frames points 3 unknowns"]) -> Tensor:
        return ((along @ J if pairs.slide < 1 else J) * trust[..., None]).flatten(1, 2)

    J, r = rows(_by_turns(body, surface, now)), rows(left[..., None])
    free = 3 * len(body.parents)
    ridge = torch.full((free + 3,), TURN_SPREAD_RAD**-2)
    ridge[free:] = 0
    g = J.mT @ r
    g[:, :free, 0] -= TURN_SPREAD_RAD**-2 * _vectors(laid.R_local @ first.mT).flatten(1)
    H = J.mT @ J + torch.diag(ridge)
    shape = laid.shape
    if fit_shape:
        B = rows(_by_shape(body, surface, now, laid.R_local))
        # The turns that go best with each shape direction are eliminated (Schur complement).
        JB = J.mT @ B
        solved = solve(H, torch.cat([JB, g], -1))
        S = (B.mT @ B - JB.mT @ solved[..., :-1]).sum(0) + torch.eye(len(shape))
        h = (B.mT @ r - JB.mT @ solved[..., -1:]).sum(0)[:, 0] - shape
        change = solve(S, h)
        delta = solved[..., -1] - solved[..., :-1] @ change
        shape = shape + change
    else:
        delta = solve(H, g)[..., 0]
    turn = matrix_from_axis_angle(delta[:, :free].unflatten(1, (-1, 3)))
    return Laid(turn @ laid.R_local, shape, laid.root + delta[:, free:])


def _by_turns(
    body: LinearBody, surface: Surface, now: Posed
) -> Float[Tensor, "frames verts 3 unknowns"]:
    """Derivative of the vertices by small turns, each in the frame of the joint's parent, and by
    the root's position."""
    below = torch.eye(len(body.parents))
    for j in reversed(range(1, len(body.parents))):
        below[body.parents[j]] += below[j]
    # A turn w about a joint moves a vertex by w x arm, for its share in what hangs from the joint.
    arm = torch.einsum("jk,fvka->fvja", below, now.each)
    arm = arm - (surface.weights @ below.T)[..., None] * now.t[:, None]
    R = now.R[:, [max(p, 0) for p in body.parents]].clone()
    R[:, 0] = torch.eye(3)
    J = torch.linalg.cross(R.mT[:, None], arm[..., None, :]).flatten(2, 3).mT
    return torch.cat([J, torch.eye(3).expand(*J.shape[:2], 3, 3)], -1)


def _by_shape(
    body: LinearBody, surface: Surface, now: Posed, R_local: Float[Tensor, "frames joints 3 3"]
) -> Float[Tensor, "frames verts 3 shape"]:
    """Derivative of the vertices by the shape, the root joint staying where it is."""
    D, S, F = body.joint_directions, body.shape_size, len(R_local)
    Rs = R_local.repeat_interleave(S, 0)
    _, t = body.forward_kinematics(D.repeat(F, 1, 1), Rs, -D[:, 0].repeat(F, 1))
    offset = t.unflatten(0, (F, S)) - torch.einsum("fjab,sjb->fsja", now.R, D)
    by_joint = surface.weights @ offset.permute(0, 2, 3, 1).flatten(2)
    return now.R_vertex @ surface.directions.movedim(0, -1) + by_joint.unflatten(-1, (3, S))


def _vectors(R: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """Rotation vectors, to first order."""
    return (
        torch.stack(
            [R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]],
            -1,
        )
        / 2
    )
