"""What lies nearest to the points of hands and forearms, on a body in every frame.

Most of a body is far from the hands most of the time. So only what lies around the arms is
searched, and no further than to where it matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from mvai.transfer.rig_points import PointSet

REACH_M = 0.08
"""How far the nearest point is sought; what is further away is neither touched nor entered."""
DEEP_M = 0.25
"""Likewise for the rest of an arm of which a part is in the body."""
ABOVE_M = 0.035
"""Points further aside than this from the nearest one are not above it."""
ASIDE = 0.75
"""How far aside a point below the surface lies at most from the nearest one, in their spacing."""

BESIDE = 16
"""Neighbours of a point among which the next nearest one is sought."""
FOLLOWED_M = 0.03
"""Arms that have together moved further than this are asked anew what lies near them."""

QUICKLY = {"compact_nodes": False, "balanced_tree": False, "leafsize": 32}
"""A tree that is asked once is better made fast than searched fast."""


@dataclass(frozen=True)
class Nearest:
    """What lies nearest to the points of hands and forearms."""

    movers: Int[np.ndarray, " movers"]
    """Points of hands and forearms, left before right."""
    other: Int[np.ndarray, "frames movers"]
    """The nearest point that is not of the same arm."""
    distance_m: Float[np.ndarray, "frames movers"]
    """To that point; infinite where none is in reach."""
    height_m: Float[np.ndarray, "frames movers"]
    """Distance above the surface there, below zero inside the body."""

    def renewed(self, frames: Int[np.ndarray, " some"], newer: Nearest) -> Nearest:
        """This with another one of some frames in its place there."""
        other, distance, height = (
            old.copy() for old in (self.other, self.distance_m, self.height_m)
        )
        other[frames], distance[frames] = newer.other, newer.distance_m
        height[frames] = newer.height_m
        return Nearest(self.movers, other, distance, height)


class Surroundings:
    """What lies near to hands and forearms that move little by little.

    Where an arm has not moved far since everything around it was searched, the nearest point is
    sought among the neighbours of the one that was nearest before.
    """

    def __init__(self, points: PointSet, rest: Float[np.ndarray, "points 3"], size: float) -> None:
        self.points, self.size = points, size
        self.movers = movers_of(points)
        self.left = points.side()[self.movers] == 0
        self.beside = np.asarray(KDTree(rest).query(rest, k=BESIDE)[1])
        self.near: Nearest | None = None
        self.at = np.zeros(0)

    def of(
        self, x: Float[np.ndarray, "frames points 3"], n: Float[np.ndarray, "frames points 3"]
    ) -> Nearest:
        """The nearest points where the points are now."""
        at = x[:, self.movers]
        if self.near is None:
            self.near, self.at = nearest(self.points, x, n, self.size), at
            return self.near
        step = np.linalg.norm(at - self.at, axis=-1)
        # The nearest point may be of the other arm, which has moved, too.
        both = step[:, self.left].max(1) + step[:, ~self.left].max(1)
        self.near = self._followed(x, n, self.near)
        frames = np.flatnonzero(both > FOLLOWED_M * self.size)
        if len(frames):
            newer = nearest(self.points, x[frames], n[frames], self.size)
            self.near, self.at[frames] = self.near.renewed(frames, newer), at[frames]
        return self.near

    def _followed(self, x: np.ndarray, n: np.ndarray, before: Nearest) -> Nearest:
        """The nearest among the neighbours of those that were nearest."""
        f, k = np.nonzero(np.isfinite(before.distance_m))
        mover = self.movers[k]
        maybe = self.beside[before.other[f, k]]
        away = x[f[:, None], maybe] - x[f, mover][:, None]
        square = np.einsum("pkd,pkd->pk", away, away)
        square[self.points.side()[maybe] == self.points.side()[mover][:, None]] = np.inf
        best = square.argmin(1)
        rows = np.arange(len(f))
        other, distance, height = (
            old.copy() for old in (before.other, before.distance_m, before.height_m)
        )
        other[f, k], distance[f, k] = maybe[rows, best], np.sqrt(square[rows, best])
        height[f, k] = _heights(self.points, x, n, f, mover, other[f, k], distance[f, k], self.size)
        return Nearest(self.movers, other, distance, height)


def movers_of(points: PointSet) -> Int[np.ndarray, " movers"]:
    """Points of hands and forearms, left before right."""
    moves = np.maximum(points.hand, points.forearm)
    return np.concatenate([np.flatnonzero(moves == s) for s in (0, 1)])


def nearest(
    points: PointSet,
    x: Float[np.ndarray, "frames points 3"],
    n: Float[np.ndarray, "frames points 3"],
    size: float,
    asked: Bool[np.ndarray, "frames movers"] | None = None,
) -> Nearest:
    """The nearest point of the body, or of the other arm, for every point of hands and forearms.

    Args:
        points: which point is of which part.
        x: their positions (metres, world).
        n: their unit normals.
        size: of the body relative to an adult.
        asked: leaves out the others, which are then far from everything.
    """
    movers = movers_of(points)
    asked = np.ones((len(x), len(movers)), bool) if asked is None else asked
    other = np.zeros((len(x), len(movers)), int)
    distance = np.full((len(x), len(movers)), np.inf)
    height = np.full((len(x), len(movers)), np.inf)
    of_left = points.side()[movers] == 0

    def look(wanted: Bool[np.ndarray, "frames movers"], reach_m: float) -> None:
        for f, mine, near, d in _searched(points, x, movers, wanted, reach_m):
            other[f, mine], distance[f, mine] = near, d
        f, k = np.nonzero(wanted & np.isfinite(distance))
        height[f, k] = _heights(points, x, n, f, movers[k], other[f, k], distance[f, k], size)

    look(asked, REACH_M * size)
    # A part of a hand that is far inside is out of reach, and the rest of its arm shows it.
    inside = height < 0
    if inside.any():
        enters = np.where(
            of_left, inside[:, of_left].any(1)[:, None], inside[:, ~of_left].any(1)[:, None]
        )
        look(asked & enters & np.isinf(distance), DEEP_M * size)
    return Nearest(movers, other, distance, height)


def _searched(
    points: PointSet,
    x: Float[np.ndarray, "frames points 3"],
    movers: Int[np.ndarray, " movers"],
    wanted: Bool[np.ndarray, "frames movers"],
    reach_m: float,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Frame, movers of one arm, the points nearest to them and the distances; only those in
    reach."""
    side = points.side()
    # Coordinates first: NumPy compares long rows faster than triples.
    columns = np.ascontiguousarray(x.transpose(2, 0, 1))
    for s in (0, 1):
        mine, others = np.flatnonzero(side[movers] == s), np.flatnonzero(side != s)
        frames = np.flatnonzero(wanted[:, mine].any(1))
        around = np.ones((len(frames), len(others)), bool)
        for row in columns[:, frames]:
            arm, rest = row[:, movers[mine]], row[:, others]
            around &= rest > arm.min(1, keepdims=True) - reach_m
            around &= rest < arm.max(1, keepdims=True) + reach_m
        for f, near_arm in zip(frames.tolist(), around, strict=True):
            there = others[near_arm]
            if not len(there):
                continue
            k = mine[wanted[f, mine]]
            tree = KDTree(x[f, there], **QUICKLY)
            d, i = map(np.asarray, tree.query(x[f, movers[k]], distance_upper_bound=reach_m))
            found = np.isfinite(d)
            yield f, k[found], there[i[found]], d[found]


def _heights(
    points: PointSet,
    x: np.ndarray,
    n: np.ndarray,
    frame: Int[np.ndarray, " pairs"],
    mover: Int[np.ndarray, " pairs"],
    other: Int[np.ndarray, " pairs"],
    distance: Float[np.ndarray, " pairs"],
    size: float,
) -> Float[np.ndarray, " pairs"]:
    """Distance above the surface at the other point; where the mover is beside it, to the point."""
    out = ((x[frame, mover] - x[frame, other]) * n[frame, other]).sum(-1)
    # A point beside the edge of a surface is below its plane, and yet not in the body.
    aside = np.sqrt(np.maximum(distance**2 - out**2, 0))
    inside = (out < 0) & ((aside < ASIDE * size * points.spacing_m()[other]) | (aside < -out))
    above = (out >= 0) & (aside < ABOVE_M * size)
    return np.where(inside | above, out, distance)
