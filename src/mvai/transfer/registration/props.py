"""Weights of things that are carried: loose pieces that lie away from the body's own surface.

A spear is a shaft, a tip and a ring; only the shaft comes near the hand. Each piece without a match
on the body is fastened to what it is nearest to, which may be another such piece. And a shield is
hard, although one half of it lies at the hand and the other at the forearm.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from mvai.body.model import LinearBody
from mvai.geometry.surface import edges
from mvai.types.names import SIDES

STEP = 0.01
"""Long edges are looked at in steps of this share of the height: a shaft has vertices at its ends
alone."""
TOUCHES = 0.02
"""A piece is fastened where it is this near to its least distance from the rest, as a share of the
height; pieces this near touch."""
CARRIED, AWAY = 0.9, 0.5
"""A loose piece with more than this share of one arm's weight, of which more than this share lies
away from the body, is carried by that arm."""
MOSTLY = 0.5
"""Likewise of a piece without any match, by the weights of what it is fastened to."""
HELD = 0.25
"""Of that weight, the share of the hand from which it is the hand that holds it: at the wrist the
forearm is as near."""
LARGE = 0.25
"""Only what is larger than any hand, as a share of the height."""


def fastened(
    body: LinearBody,
    W: Float[np.ndarray, "verts joints"],
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    piece: Int[np.ndarray, " verts"],
    loose: Bool[np.ndarray, " pieces"],
    height: float,
) -> Float[np.ndarray, "verts joints"]:
    """The weights with those of the loose pieces taken from what they are fastened to.

    What touches the rest comes first, then what touches that; what touches nothing follows the
    nearest. What an arm carries moves with the hand or the forearm alone.

    Args:
        body: the template, whose joints the weights are of.
        W: weights so far; those of the loose pieces are not looked at.
        vertices, faces: the character.
        piece: number of the connected piece of each vertex.
        loose: the pieces to fasten.
        height: of the character.
    """
    if not loose.any() or loose.all():
        return W
    a, b, t = _along_edges(vertices, faces, STEP * height)
    points, of = (1 - t)[:, None] * vertices[a] + t[:, None] * vertices[b], piece[a]
    W, open_pieces = W.copy(), np.unique(of[loose[of]])
    waiting = np.flatnonzero(loose[of])
    distance = np.full(len(points), np.inf)
    nearest = np.zeros(len(points), int)
    new = np.flatnonzero(~loose[of])
    while len(open_pieces):
        d, i = (np.asarray(a) for a in KDTree(points[new]).query(points[waiting]))
        closer = d < distance[waiting]
        distance[waiting[closer]], nearest[waiting[closer]] = d[closer], new[i[closer]]
        least = np.full(len(loose), np.inf)
        np.minimum.at(least, of[waiting], distance[waiting])
        now = open_pieces[least[open_pieces] <= max(TOUCHES * height, least[open_pieces].min())]
        for p in now:
            mine = waiting[of[waiting] == p]
            held = nearest[mine[distance[mine] <= least[p] + TOUCHES * height]]
            along = t[held][:, None]
            weights = ((1 - along) * W[a[held]] + along * W[b[held]]).mean(0)
            for side in SIDES:
                forearm, hand = (float(w) for w in _arm(body, side, weights))
                if forearm + hand > MOSTLY:  # A hand that hangs down lies at the thigh.
                    weights = np.eye(len(weights))[_carrier(body, side, forearm, hand)]
            W[piece == p] = weights
        attached = np.isin(of[waiting], now)
        new, waiting = waiting[attached], waiting[~attached]
        open_pieces = np.setdiff1d(open_pieces, now)
    return W


def carried(
    body: LinearBody,
    W: Float[np.ndarray, "verts joints"],
    vertices: Float[np.ndarray, "verts 3"],
    piece: Int[np.ndarray, " verts"],
    known: Bool[np.ndarray, " verts"],
    distance: Float[np.ndarray, " verts"],
    height: float,
) -> Float[np.ndarray, "verts joints"]:
    """The weights with one joint, hand or forearm, for each loose piece that an arm carries.

    Args:
        body: the template, whose joints the weights are of.
        W: weights so far.
        vertices: the character's.
        piece: number of the connected piece of each vertex.
        known: vertices that have a match on the body.
        distance: from each vertex to the body's surface.
        height: of the character.
    """
    count = int(piece.max()) + 1
    n = np.bincount(piece, minlength=count)
    away = np.bincount(piece, weights=~known, minlength=count) / n > AWAY
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, piece, vertices)
    np.maximum.at(high, piece, vertices)
    away &= np.linalg.norm(high - low, axis=1) > LARGE * height
    for side in SIDES:
        arm = np.add(*_arm(body, side, W))
        share = np.bincount(piece, weights=arm, minlength=count) / n
        for p in np.flatnonzero(away & (share > CARRIED)):
            mine = piece == p
            near = mine & (distance <= distance[mine].min() + TOUCHES * height)
            forearm, hand = (float(w) for w in _arm(body, side, W[near].sum(0)))
            W = np.where(mine[:, None], 0.0, W)
            W[mine, _carrier(body, side, forearm, hand)] = 1
    return W


def _arm(
    body: LinearBody, side: str, weights: Float[np.ndarray, "... joints"]
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Weights of a forearm, and of the hand with its fingers."""
    forearm, hand = (
        weights[..., _joints(body, f"{side}{part}")].sum(-1) for part in ("ForeArm", "Hand")
    )
    return forearm, hand


def _carrier(body: LinearBody, side: str, forearm: float, hand: float) -> int:
    return body.joint(f"{side}Hand" if hand > HELD * (forearm + hand) else f"{side}ForeArm")


def _joints(body: LinearBody, start: str) -> list[int]:
    """The joints whose names start so."""
    return [j for j, name in enumerate(body.joints) if name.startswith(start)]


def _along_edges(
    vertices: np.ndarray, faces: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along all edges: two vertices and the share of the second, vertices themselves too."""
    e = edges(faces)
    length = np.linalg.norm(vertices[e[:, 0]] - vertices[e[:, 1]], axis=1)
    parts = np.clip(np.ceil(length / step).astype(int), 1, int(2 / STEP))
    edge = np.repeat(np.arange(len(e)), parts - 1)
    start = np.cumsum(parts - 1) - (parts - 1)
    t = (np.arange(len(edge)) - start[edge] + 1) / parts[edge]
    own = np.arange(len(vertices))
    a, b = np.concatenate([own, e[edge, 0]]), np.concatenate([own, e[edge, 1]])
    return a, b, np.concatenate([np.zeros(len(vertices)), t])
