"""Skin weights that strain the surface little over the range of motion.

Weights say how a surface moves when joints turn. Those carried over from a template know nothing of
how coarse the character's mesh is or where its folds lie, and stretch its edges. Here they are
moved so that the skinned surface is as rigid, piece by piece, as skinning can make it: the sum over
the poses of the energy of mvai.geometry.polish, in which the weights w of a vertex enter linearly
(x_i = sum_j w_ij T_j p_i), plus a term that holds them near those given. So much of what a polish
would do to every frame is done once (Kavan and Sorkine, "Elasticity-inspired deformers for
character articulation", SIGGRAPH Asia 2012, fit deformers to an elastic energy over sampled poses
in this way). Where that leaves edges strained much, mvai.transfer.rig_strain goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array, diags_array

from mvai.body.model import LinearBody
from mvai.geometry.polish import Polisher, hemispheres, polisher, rotation_quaternions
from mvai.geometry.rigid import transforms
from mvai.transfer.registration.weights import LARGE
from mvai.transfer.rig_range import range_of_motion
from mvai.transfer.rig_retarget import DrivenSkeleton, positions_on, rotations_on
from mvai.transfer.rig_strain import edges_at, most_strained, spared
from mvai.transfer.rig_twist import hard_pieces, twisted
from mvai.types import Mesh

MORE = 2
"""Joints that a vertex may choose from on top of the number of its weights."""
HOLD = 0.003
"""Strength of the term that holds the weights, as a share of what stretching costs."""
SPREAD = 3
"""Rounds of averaging over which a vertex learns of joints of its neighbours."""
BLENDED = 0.995
"""Vertices whose strongest weight is less are fitted, with their neighbours."""
REACH = 0.08
"""As a share of the height: wider corrections than those of a polish, since what is far from any
fold is not free anyway."""
STEPS = (40, 25)
"""Of descent with all candidates and with the few that are kept."""
STEPS_SPARED = (100, 60)
"""The same, where edges are strained much."""
LEAST = 0.001
"""Smaller weights are dropped there."""


@dataclass(frozen=True)
class _Energy:
    """sum_i x_i . (A x)_i / 2 - b . x over vertices that are free, all poses side by side."""

    A: csr_array
    b: Float[np.ndarray, "free rows"]
    diagonal: Float[np.ndarray, " free"]


def elastic_weights(skeleton: DrivenSkeleton, body: LinearBody, mesh: Mesh) -> DrivenSkeleton:
    """The skeleton with weights that strain the surface less.

    Pieces that move as one keep their weights, and so do meshes that are so fine that few of their
    edges are long enough to be strained.

    Args:
        skeleton: driven by the body's joints, with weights.
        body: the template.
        mesh: the character at rest.
    """
    skin, kept = skeleton.skin, skeleton.skin.weights.shape[1]
    if len(mesh.vertices) > LARGE:
        return skeleton
    R = twisted(skeleton, rotations_on(skeleton, range_of_motion(body)))
    t = positions_on(skeleton, R, np.zeros((len(R), 3)))
    moves = transforms(R, t) @ np.linalg.inv(skin.T_world_joint)
    P = polisher(
        mesh.vertices, mesh.faces, skin.weight_indices, skin.weights, len(skin.joints), REACH
    )
    W = P.share.toarray()
    hard = hard_pieces(mesh, W[P.welded])
    free = _free(W, P.neighbours) & (hard[P.first] < 0)
    if not free.any():
        return skeleton
    joints, given = (a[free] for a in _candidates(W, P.neighbours, kept + MORE))
    energy = _energy(P, moves, skin.parents, free)
    reach = _reach(P.rest[free], moves, joints)
    w = _descended(energy, reach, given, STEPS[0])
    order = np.argsort(-w, axis=1)[:, :kept]
    joints, given, w = (np.take_along_axis(a, order, 1) for a in (joints, given, w))
    reach = np.take_along_axis(reach, order[:, :, None], 1)
    w = _descended(energy, reach, np.where(w > 0, np.maximum(given, 0), given), STEPS[1], w)
    indices, weights = skin.weight_indices[P.first], skin.weights[P.first]
    indices[free], weights[free] = np.where(w > 0, joints, 0), w
    soft = hard[P.first] < 0
    indices, weights = _spared(P, mesh.faces, moves, skin.parents, soft, indices, weights)
    return replace(
        skeleton,
        skin=replace(skin, weight_indices=indices[P.welded], weights=weights[P.welded]),
    )


def _spared(
    P: Polisher,
    faces: Int[np.ndarray, "faces 3"],
    moves: Float[np.ndarray, "poses joints 4 4"],
    parents: tuple[int, ...],
    soft: Bool[np.ndarray, " verts"],
    indices: Int[np.ndarray, "verts kept"],
    weights: Float[np.ndarray, "verts kept"],
) -> tuple[Int[np.ndarray, "verts kept"], Float[np.ndarray, "verts kept"]]:
    """Joints and weights with those around the most strained edges changed to spare these.

    Args:
        P: the character's surface, with the weights that were given.
        faces: its faces, of vertices that are not welded.
        moves: what each joint does to points at rest, in every pose.
        parents: of the joints.
        soft: vertices that are in no piece that moves as one.
        indices, weights: of every vertex so far.
    """
    W, kept = np.zeros((len(P.rest), len(parents))), indices.shape[1]
    np.add.at(W, (np.arange(len(W))[:, None], indices), weights)
    given, P = _skinned(P, moves), replace(P, share=csr_array(W))
    x = _skinned(P, moves)
    free = most_strained(P, faces, x, _free(W, P.neighbours) & soft)
    if not free.any():
        return indices, weights
    E, target = edges_at(P, faces, free), given[free]
    q = hemispheres(rotation_quaternions(moves[:, :, :3, :3]), parents)
    joints, w = (a[free] for a in _candidates(W, P.neighbours, kept + MORE))
    allowed, w = w >= 0, np.maximum(w, 0)
    reach = _reach(P.rest[free], moves, joints)
    reach = reach.reshape(*joints.shape, -1, 3).swapaxes(2, 3).reshape(reach.shape)
    w = spared(P, E, x, q, free, reach, target, w, allowed, STEPS_SPARED[0])
    order = np.argsort(-w, axis=1)[:, :kept]
    joints, w, allowed = (np.take_along_axis(a, order, 1) for a in (joints, w, allowed))
    reach = np.take_along_axis(reach, order[:, :, None], 1)
    w = spared(P, E, x, q, free, reach, target, w, allowed, STEPS_SPARED[1])
    w = np.where(w < LEAST, 0, w)
    indices[free], weights[free] = np.where(w > 0, joints, 0), w / w.sum(1, keepdims=True)
    return indices, weights


def _skinned(
    P: Polisher, moves: Float[np.ndarray, "poses joints 4 4"]
) -> Float[np.ndarray, "verts 3 poses"]:
    """The surface moved by blended maps. Poses come last, so that lengths are sums of long rows."""
    h = np.concatenate([P.rest, np.ones((len(P.rest), 1))], 1)
    x = np.empty((len(h), 3, len(moves)), np.float32)
    for f, T in enumerate(moves[:, :, :3]):
        blend = (P.share @ T.reshape(-1, 12)).reshape(-1, 3, 4)
        x[:, :, f] = np.einsum("nab,nb->na", blend, h)
    return x


def _energy(
    P: Polisher,
    moves: Float[np.ndarray, "poses joints 4 4"],
    parents: tuple[int, ...],
    free: Bool[np.ndarray, " verts"],
) -> _Energy:
    """What stretching costs, with rotations fitted to the polished surface.

    Args:
        P: the character's surface.
        moves: what each joint does to points at rest, in every pose.
        parents: of the joints.
        free: vertices whose weights may change; the others stay where they are.
    """
    q = hemispheres(rotation_quaternions(moves[:, :, :3, :3]), parents)
    right = []
    for f, x in enumerate(np.moveaxis(_skinned(P, moves), 2, 0)):
        stay, R = P.stays[:, None] * x, P.rotations(q[f])
        R = P.fitted_rotations(R, P.factor.solve(P.pull(R) + stay), free)
        b = P.pull(R) + stay
        right.append((b[free] + P.neighbours[free][:, ~free] @ x[~free]).astype(np.float32))
    diagonal = (P.degree + P.stays)[free].astype(np.float32)
    among = csr_array(P.neighbours[free][:, free], dtype=np.float32)
    return _Energy(csr_array(diags_array(diagonal) - among), np.concatenate(right, 1), diagonal)


def _reach(
    rest: Float[np.ndarray, "free 3"],
    moves: Float[np.ndarray, "poses joints 4 4"],
    joints: Int[np.ndarray, "free k"],
) -> Float[np.ndarray, "free k rows"]:
    """Where each joint alone would take each vertex, all poses side by side."""
    points = np.concatenate([rest, np.ones((len(rest), 1))], 1).astype(np.float32)
    maps = moves[:, :, :3].astype(np.float32).transpose(1, 0, 2, 3).reshape(moves.shape[1], -1, 4)
    reach = np.empty((*joints.shape, maps.shape[1]), np.float32)
    for joint in np.unique(joints):
        vertices, k = np.nonzero(joints == joint)
        reach[vertices, k] = points[vertices] @ maps[joint].T
    return reach


def _descended(
    energy: _Energy,
    reach: Float[np.ndarray, "free k rows"],
    given: Float[np.ndarray, "free k"],
    steps: int,
    start: Float[np.ndarray, "free k"] | None = None,
) -> Float[np.ndarray, "free k"]:
    """Weights after some steps of accelerated projected descent (Nesterov, 1983).

    Args:
        energy: to be lowered.
        reach: from `_reach`.
        given: weights that are held on to; negative where there is no candidate.
        steps: how many.
        start: where to begin; `given` when left out.
    """
    allowed = given >= 0
    held = on_simplex(np.maximum(given, 0), allowed)
    w = held if start is None else on_simplex(start, allowed)
    spread = reach - reach.mean(1, keepdims=True)
    cost = energy.diagonal * np.einsum("nkf,nkf->n", spread, spread)
    cost = (cost + np.finfo(np.float32).tiny)[:, None]
    ahead, momentum = w, 1.0
    for _ in range(steps):
        x = np.einsum("nk,nkf->nf", ahead.astype(np.float32), reach)
        slope = np.einsum("nf,nkf->nk", energy.A @ x - energy.b, spread)
        # Eigenvalues of a Laplacian next to its diagonal go up to 2.
        step = slope / cost + HOLD * (ahead - held)
        new = on_simplex(ahead - step / (2 + HOLD), allowed)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - w)
        w, momentum = new, following
    return w


def _free(
    W: Float[np.ndarray, "verts joints"], neighbours: csr_array
) -> Bool[np.ndarray, " verts"]:
    """Vertices that more than one joint moves, or whose neighbours another joint moves."""
    around = diags_array(1 / np.maximum(neighbours.sum(1), 1e-12)) @ (neighbours @ W)
    return (W.max(1) < BLENDED) | ((around.max(1) < BLENDED) & (around.sum(1) > 0))


def _candidates(
    W: Float[np.ndarray, "verts joints"], neighbours: csr_array, count: int
) -> tuple[Int[np.ndarray, "verts count"], Float[np.ndarray, "verts count"]]:
    """A vertex's joints and those of its surroundings; weights are -1 where there are fewer."""
    out = neighbours.sum(1)
    mean = diags_array(1 / np.maximum(out, 1e-12)) @ neighbours
    around = W
    for _ in range(SPREAD):
        around = np.where((out > 0)[:, None], 0.5 * around + 0.5 * (mean @ around), around)
    # Its own joints come first, however weak.
    rank = np.where(W > 0, 1 + W, around)
    joints = np.argsort(-rank, axis=1)[:, :count]
    weights = np.take_along_axis(W, joints, 1)
    return joints, np.where(np.take_along_axis(rank, joints, 1) > 1e-4, weights, -1.0)


def on_simplex(
    x: Float[np.ndarray, "verts k"], allowed: Bool[np.ndarray, "verts k"]
) -> Float[np.ndarray, "verts k"]:
    """The nearest weights that are not negative and sum to 1, 0 where not allowed (Duchi et al.,
    "Efficient projections onto the l1-ball", ICML 2008)."""
    x = np.where(allowed, x, -1e3)
    u = -np.sort(-x, axis=1)
    over = np.cumsum(u, axis=1) - 1
    rank = np.arange(1, x.shape[1] + 1)
    last = (u * rank > over).sum(1)
    shift = over[np.arange(len(x)), last - 1] / last
    return np.maximum(x - shift[:, None], 0)
