"""The soles of a character: which vertices it stands on.

A sole is the underside of what moves with one foot. At rest the foot may stand on its toes or hang
in the air; its underside then is where the fitted body's is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mvai.body.skinning import share_below, skinned_part
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.types import Skin

SOLE_SHARE = 0.02
"""The sole is what lies in this lowest part of a character's height, counted from the foot's
lowest."""
MINE = 0.5
"""Share of the weights with which a vertex belongs to a foot."""
UPRIGHT = 0.5
"""A foot whose upward axis is turned away by more than 60 degrees was not found rightly."""
LONGER = 1.3
"""A sole must be this many times as long along the foot's own axes for those to be taken."""
MOST = 150
"""Vertices that stand for a heel or for toes."""
DIRECTIONS = 200
"""The vertex that is furthest out in each of so many directions stands for a foot's surface."""


@dataclass(frozen=True)
class Sole:
    """Vertices of a foot."""

    heel: Int[np.ndarray, " heel"]
    """Back third of the underside."""
    toes: Int[np.ndarray, " toes"]
    """Front third."""
    outline: Int[np.ndarray, " outline"]
    """The outermost of the whole foot, among which are its lowest in any pose."""


def soles(skeleton: DrivenSkeleton, rest: Float[np.ndarray, "verts 3"]) -> tuple[Sole, Sole]:
    """The left and the right sole of a character (metres, +Y up, at rest)."""
    left, right = (_sole(skeleton, rest, leg) for leg in skeleton.legs)
    return left, right


def _sole(
    skeleton: DrivenSkeleton, rest: Float[np.ndarray, "verts 3"], leg: tuple[int, int, int]
) -> Sole:
    skin, ids = skeleton.skin, np.zeros(0, int)
    # A leg may end in a peg that no vertex says is a foot.
    for top in reversed(leg):
        ids = np.flatnonzero(share_below(skin, top) > MINE)
        if len(ids):
            break
    if not len(ids):
        ids = np.array([int(rest[:, 1].argmin())])
    band = SOLE_SHARE * float(np.ptp(rest[:, 1]))
    ankle = leg[2]
    # How the foot stands at rest relative to the template's, which is flat on the ground.
    turn = skin.T_world_joint[ankle, :3, :3] @ skeleton.A_template_joint[ankle].T
    best = _underside(rest[ids], np.eye(3), band)
    if turn[1, 1] > UPRIGHT:
        own = _underside(rest[ids], turn, band)
        best = own if own[2] > LONGER * best[2] else best
    heel, toes, _ = best
    return Sole(_some(ids[heel]), _some(ids[toes]), ids[outermost(rest[ids])])


def _some(ids: Int[np.ndarray, " ids"]) -> Int[np.ndarray, " some"]:
    return ids[np.linspace(0, len(ids) - 1, min(len(ids), MOST)).astype(int)]


def _underside(
    foot: Float[np.ndarray, "verts 3"], turn: Float[np.ndarray, "3 3"], band: float
) -> tuple[Int[np.ndarray, " heel"], Int[np.ndarray, " toes"], float]:
    """Back and front third of a foot's underside along the axes `turn`, and its length."""
    height, along = foot @ turn[:, 1], foot @ turn[:, 2]
    low = np.flatnonzero(height < height.min() + band)
    z = along[low]
    third = np.ptp(z) / 3
    return low[z <= z.min() + third], low[z >= z.max() - third], float(np.ptp(z))


def outermost(points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " some"]:
    """The points that are furthest out in directions spread evenly (a Fibonacci lattice)."""
    k = np.arange(DIRECTIONS) + 0.5
    z, turn = 1 - 2 * k / DIRECTIONS, np.pi * (1 + np.sqrt(5)) * k
    flat = np.sqrt(1 - z * z)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), z])
    return np.unique(((points - points.mean(0)) @ directions).argmax(0))


def sole_paths(
    skin: Skin,
    rest: Float[np.ndarray, "verts 3"],
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"],
    sole: Sole,
) -> tuple[Float[np.ndarray, "frames 2 3"], Float[np.ndarray, " frames"]]:
    """Middle of heel and toes, whose height is that of their lowest point, and the height of the
    foot's lowest point."""
    ids = np.concatenate([sole.heel, sole.toes, sole.outline])
    moved = skinned_part(skin, rest, Ts_world_joint, ids).astype(np.float64)
    a, b = len(sole.heel), len(sole.heel) + len(sole.toes)
    groups = (moved[:, :a], moved[:, a:b])
    points = np.stack([group.mean(1) for group in groups], 1)
    points[..., 1] = np.stack([group[..., 1].min(1) for group in groups], 1)
    return points, moved[..., 1].min(1)
