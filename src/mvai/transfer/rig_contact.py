"""Keeps hands where they touch, and hands and forearms out of the body.

A copied pose puts the hands of a body of other proportions elsewhere: short of each other when they
clap, inside a stouter belly. Pairs of a point of a hand and the nearest point of the rest of the
body are read off the source, and the same pairs of places keep the same offset on the character
(after Ho, Komura and Tai, "Spatial relationship preserving character motion adaptation", SIGGRAPH
2010, reduced to what is near). Points that end up inside the body are pushed out along its normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
from scipy.special import expit

from mvai.body.model import LinearBody
from mvai.geometry.rigid import transforms
from mvai.transfer.rig_arms import Arms, Terms, solve_arms
from mvai.transfer.rig_nearest import Nearest, Surroundings, nearest
from mvai.transfer.rig_points import BodyPoints, PointSet, arm_joints, point_set
from mvai.transfer.rig_retarget import DrivenSkeleton, positions_on
from mvai.transfer.rig_touches import Touches

PUSH = 3.0
"""Weight of being inside the body, next to that of a touch."""
WALL_M = 0.04
"""Points that are this near to the body may come into it by one step."""
SOFT_M = 0.003
"""Width of the border between being in the body and not."""
LOOK_HZ = 15.0
"""How often hands are looked at; corrections of the pose are slower than that (see `SMOOTH_S` of
the arms)."""
ROUNDS, FLAT_ROUNDS = 6, 3
SETTLED_RAD = 2e-3


@dataclass(frozen=True)
class Target:
    """The character whose hands are to be kept."""

    skeleton: DrivenSkeleton
    points: BodyPoints
    size: float
    """Its height relative to an adult's."""
    scale: float
    """Its size relative to the source's."""


def contact_frames(frames: int, fps: float) -> Int[np.ndarray, " some"]:
    """Frames in which hands are looked at: first, last and about `LOOK_HZ` between them."""
    steps = int(np.ceil(max(frames - 1, 1) / max(1, round(fps / LOOK_HZ))))
    return np.unique(np.linspace(0, frames - 1, steps + 1).round().astype(int))


def keep_contact(
    target: Target,
    body: LinearBody,
    R: Float[np.ndarray, "frames joints 3 3"],
    t: Float[np.ndarray, "frames joints 3"],
    some: Int[np.ndarray, " some"],
    touch: Touches | None,
    avoid_body: bool,
    fps: float,
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
    """World rotations and positions in which hands touch what they touch in the source and
    neither they nor the forearms are deeper in the body than at rest.

    A skeleton without a whole arm stays as it is.

    Args:
        target: the character.
        body: the template.
        R, t: the character's motion so far.
        some: frames in which hands are looked at; corrections between them follow smoothly.
        touch: from these frames of the source; None leaves touches out.
        avoid_body: False leaves collisions out.
        fps: frames a second.
    """
    skeleton, points = target.skeleton, point_set(body)
    joints = arm_joints(skeleton, body)
    if joints is None:
        return R, t
    x, n = target.points.posed(skeleton.skin, transforms(R[some], t[some]))
    arms = Arms.of(skeleton, joints, R[some], t[some], points)
    rate = fps * max(len(some) - 1, 1) / max(len(R) - 1, 1)
    angles = _solved(target, points, arms, x, n, touch, avoid_body, rate)
    if not angles.any():
        return R, t
    if len(some) < len(R):
        arms = Arms.of(skeleton, joints, R, t, points)
        angles = arms.limited(CubicSpline(some, angles)(np.arange(len(R))))
    R = arms.turned(skeleton, joints, R, angles)
    return R, positions_on(skeleton, R, t[:, skeleton.root])


def _solved(
    target: Target,
    points: PointSet,
    arms: Arms,
    x: Float[np.ndarray, "frames points 3"],
    n: Float[np.ndarray, "frames points 3"],
    touch: Touches | None,
    avoid_body: bool,
    fps: float,
) -> Float[np.ndarray, "frames 8"]:
    """The arms' angles; zero where nothing has to move."""
    size, on = target.size, target.points
    at_rest = nearest(points, on.rest[None], on.normals[None], size)
    surroundings = Surroundings(points, on.rest, size)
    angles = np.zeros((len(x), 8))
    for _ in range(ROUNDS):
        y, ny = arms.moved(x, n, angles)
        terms = Terms(len(x))
        if touch is not None and len(touch.frame):
            _hold_together(arms, touch, target.scale, y, angles, terms)
        walls = Walls.none()
        if avoid_body:
            near = surroundings.of(y, ny)
            walls = _walls(arms, points, near, at_rest, y, ny, angles, WALL_M * size)
        if not terms.any() and not (walls.room_m < 0).any() and not angles.any():
            return angles
        before, angles = angles, _step(arms, terms, walls, angles, fps)
        if np.abs(angles - before).max() < SETTLED_RAD:
            break
    return angles


def _hold_together(
    arms: Arms, touch: Touches, scale: float, y: np.ndarray, angles: np.ndarray, terms: Terms
) -> None:
    """Adds a term for every pair that touches."""
    f, i, j = touch.frame, touch.hand, touch.other
    J = arms.jacobian(y, angles, f, i) - arms.jacobian(y, angles, f, j)
    terms.add(f, J, y[f, i] - y[f, j] - scale * touch.offset, touch.weight)


@dataclass(frozen=True)
class Walls:
    """Points of hands and forearms near to the body, and how they come nearer."""

    frame: Int[np.ndarray, " walls"]
    side: Int[np.ndarray, " walls"]
    room_m: Float[np.ndarray, " walls"]
    """How much nearer the point may come, below zero where it is too deep."""
    J: Float[np.ndarray, "walls unknowns"]

    @classmethod
    def none(cls) -> Walls:
        empty = np.zeros(0, int)
        return cls(empty, empty, np.zeros(0), np.zeros((0, 8)))


def _walls(
    arms: Arms,
    points: PointSet,
    near: Nearest,
    at_rest: Nearest,
    y: np.ndarray,
    ny: np.ndarray,
    angles: np.ndarray,
    reach_m: float,
) -> Walls:
    room = near.height_m - np.minimum(at_rest.height_m[0], 0)
    frame, k = np.nonzero(room < reach_m)
    i, j = near.movers[k], near.other[frame, k]
    J = arms.jacobian(y, angles, frame, i) - arms.jacobian(y, angles, frame, j)
    J = np.einsum("pa,pau->pu", ny[frame, j], J)
    return Walls(frame, points.side()[i], room[frame, k], J)


def _step(
    arms: Arms, touch: Terms, walls: Walls, angles: np.ndarray, fps: float
) -> Float[np.ndarray, "frames 8"]:
    """The angles after some steps over which the body's surface is taken to be flat.

    The penalty of a point is the square of a soft maximum of its depth and 0: were it to end at the
    surface, a point that came out in one step would go back in the next.
    """
    ahead = angles
    key = 2 * walls.frame + walls.side
    for _ in range(FLAT_ROUNDS):
        terms = Terms(len(angles))
        terms.H += touch.H
        terms.g += touch.g - np.einsum("fuv,fv->fu", touch.H, ahead - angles)
        room = walls.room_m + np.einsum("pu,pu->p", walls.J, (ahead - angles)[walls.frame])
        depth = SOFT_M * np.logaddexp(0, -room / SOFT_M)
        slope = -expit(-room / SOFT_M)
        # The deepest points lead: where they come out the others do, too.
        total = np.maximum(np.bincount(key, depth, 2 * len(angles))[key], np.finfo(float).tiny)
        terms.add(
            walls.frame,
            slope[:, None, None] * walls.J[:, None],
            depth[:, None],
            PUSH * depth / total,
        )
        ahead = solve_arms(arms, terms, ahead, fps)
    return ahead
