"""Skin weights that spare the edges that are strained most.

Weights fitted to an elastic energy (mvai.transfer.rig_elastic) strain the surface little on the
whole, and leave it to the few edges across an armpit or a groin to pay for that; a mesh of few and
large triangles shows each of them. Around such edges weights go on to lower a sum of third powers,
in which the worst count most: over edges and poses, of how much longer or shorter an edge is than
at rest, |log(l / l_0)|, and of how far it is from where its surroundings turn it, which keeps faces
from folding over (the residual of Sorkine and Alexa, "As-rigid-as-possible surface modeling", SGP
2007); over vertices and poses, of how far one is from where the given weights take it, since a limb
that leaves its bones is not strained either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from mvai.geometry.polish import Polisher
from mvai.geometry.surface import edges

TURNED = 4.0
"""How much an edge's distance from where its surroundings turn it counts, next to its length."""
FAR = 0.04
"""As a share of the height: a vertex this far from where the given weights take it counts as much
as an edge e times as long."""
COARSE = float(np.log(1.4))
"""Weights are changed where a hundredth of all edges in all poses is strained more."""
STRAINED = float(np.log(1.2))
"""Weights of an edge's surroundings are changed if some pose strains it more."""
MOST = 3000
"""Vertices whose weights are changed; those of the most strained edges, where there are more."""
ROOT = 1e-3
"""Least weight to begin with, since the slope at none is 0."""
RATE = 0.015
"""The first step of a root of a weight; later ones become smaller."""
TURNS_AGAIN = 35
"""After so many steps rotations of the surroundings are fitted again."""
FLAT = 1e-3
"""Slopes that are smaller than this share of the usual are not followed at full rate."""
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Edges:
    """Edges of the surface with at least one end that may move freely."""

    ends: Int[np.ndarray, "edges 2"]
    rest: Float[np.ndarray, "edges 3"]
    """First end less second, at rest."""
    length: Float[np.ndarray, "edges 1"]
    difference: csr_array
    """Takes the same of any vertices."""

    def of(self, x: Float[np.ndarray, "verts 3 poses"]) -> Float[np.ndarray, "edges 3 poses"]:
        """The edges in poses."""
        return (self.difference @ x.reshape(len(x), -1)).reshape(len(self.ends), 3, -1)


def edges_at(P: Polisher, faces: Int[np.ndarray, "faces 3"], free: Bool[np.ndarray, " v"]) -> Edges:
    """Edges with an end that is free; those without length at rest are left out."""
    e = edges(P.welded[faces])
    rest = P.rest[e[:, 0]] - P.rest[e[:, 1]]
    length = np.linalg.norm(rest, axis=1)
    some = free[e].any(1) & (length > 1e-5 * float(np.ptp(P.rest[:, 1])))
    e, rest, length = e[some], rest[some], length[some]
    difference = csr_array(
        (
            np.repeat(np.array([1, -1], np.float32), len(e)),
            (np.tile(np.arange(len(e)), 2), e.T.ravel()),
        ),
        shape=(len(e), len(P.rest)),
    )
    return Edges(e, rest.astype(np.float32), length.astype(np.float32)[:, None], difference)


def most_strained(
    P: Polisher,
    faces: Int[np.ndarray, "faces 3"],
    x: Float[np.ndarray, "verts 3 poses"],
    free: Bool[np.ndarray, " verts"],
) -> Bool[np.ndarray, " verts"]:
    """Those of the free vertices that end a strained edge, and free neighbours of these; none where
    few edges are strained.

    Args:
        P: the character's surface.
        faces: its faces, of vertices that are not welded.
        x: welded vertices in every pose.
        free: vertices to choose from.
    """
    E = edges_at(P, faces, np.ones(len(P.rest), bool))
    strain = np.abs(np.log(_length(E.of(x)) / E.length))
    if not len(strain) or np.percentile(strain, 99) < COARSE:
        return np.zeros(len(P.rest), bool)
    worst = np.zeros(len(P.rest))
    np.maximum.at(worst, E.ends, strain.max(1)[:, None])
    around = worst.copy()
    np.maximum.at(around, E.ends, worst[E.ends[:, ::-1]])
    around[~free] = 0
    # Where very many are strained equally, a few more than MOST are taken.
    least = np.partition(around, -MOST)[-MOST] if len(around) > MOST else 0.0
    return around >= max(STRAINED, float(least))


def spared(
    P: Polisher,
    E: Edges,
    x: Float[np.ndarray, "verts 3 poses"],
    quaternions: Float[np.ndarray, "poses joints 4"],
    free: Bool[np.ndarray, " verts"],
    reach: Float[np.ndarray, "free k rows"],
    target: Float[np.ndarray, "free 3 poses"],
    w: Float[np.ndarray, "free k"],
    allowed: Bool[np.ndarray, "free k"],
    steps: int,
) -> Float[np.ndarray, "free k"]:
    """Weights after some steps of descent (Kingma and Ba, "Adam", ICLR 2015) on their roots.

    Args:
        P: the character's surface.
        E: its edges at free vertices.
        x: its vertices in every pose; of those that are not free.
        quaternions: what each joint turns by in every pose, in its parent's hemisphere.
        free: vertices whose weights change.
        reach: where each candidate joint alone takes each of them, x in all poses, then y, then z.
        target: where the given weights take them.
        w: weights to begin with.
        allowed: where there is a candidate.
        steps: how many.
    """
    x = x.astype(np.float32)
    still = E.of(np.where(free[:, None, None], 0, x))
    move = csr_array(E.difference[:, np.flatnonzero(free)])
    back = csr_array(move.T)
    far = FAR * float(np.ptp(P.rest[:, 1]))
    turned = still
    u = np.sqrt(np.maximum(w, ROOT) * allowed)
    mean, square = np.zeros_like(u), np.zeros_like(u)
    for k in range(steps):
        size = (u * u).sum(1, keepdims=True)
        w = u * u / size
        moved = np.einsum("nk,nkf->nf", w.astype(np.float32), reach)
        if k % TURNS_AGAIN == 0:
            x[free] = moved.reshape(target.shape)
            turned = _turned(P, E, x, quaternions)
        d = still + (move @ moved).reshape(still.shape)
        slope = (back @ _slope(E, d, turned).reshape(len(d), -1)).reshape(target.shape)
        away = moved.reshape(target.shape) - target
        slope += (_length(away) / far**3)[:, None] * away
        down = np.einsum("nf,nkf->nk", slope.reshape(moved.shape), reach)
        down = 2 * u / size * (down - (w * down).sum(1, keepdims=True))
        mean, square = 0.9 * mean + 0.1 * down, 0.999 * square + 0.001 * down**2
        root = np.sqrt(square / (1 - 0.999 ** (k + 1)))
        rate = RATE * (1 - k / steps)
        u = u - rate * mean / (1 - 0.9 ** (k + 1)) / (root + FLAT * root.mean() + TINY)
    return u * u / (u * u).sum(1, keepdims=True)


def _slope(
    E: Edges,
    d: Float[np.ndarray, "edges 3 poses"],
    turned: Float[np.ndarray, "edges 3 poses"],
) -> Float[np.ndarray, "edges 3 poses"]:
    """How a third of the sum rises with each edge."""
    length, off = _length(d), d - turned
    s = np.log(length / E.length)
    longer = s * np.abs(s) / length**2
    turn = TURNED * _length(off) / E.length**3
    return longer[:, None] * d + turn[:, None] * off


def _turned(
    P: Polisher,
    E: Edges,
    x: Float[np.ndarray, "verts 3 poses"],
    quaternions: Float[np.ndarray, "poses joints 4"],
) -> Float[np.ndarray, "edges 3 poses"]:
    """Edges at rest, turned as the surroundings of their ends are, in every pose."""
    ends = np.zeros(len(P.rest), bool)
    ends[E.ends] = True
    out = np.empty((len(E.ends), 3, len(quaternions)), np.float32)
    for f, q in enumerate(quaternions):
        R = P.fitted_rotations(P.rotations(q), x[:, :, f].astype(np.float64), ends)
        out[:, :, f] = np.einsum("eab,eb->ea", (R[E.ends[:, 0]] + R[E.ends[:, 1]]) / 2, E.rest)
    return out


def _length(d: Float[np.ndarray, "n 3 poses"]) -> Float[np.ndarray, "n poses"]:
    return np.sqrt(d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2) + TINY
