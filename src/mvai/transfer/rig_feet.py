"""Keeps planted feet where they are.

Contacts are read off the source: a foot is planted while it is low and slow, with hysteresis so
that noise at the threshold does not flicker. On the character each planted foot is then held at
its mean place: the part that all planted feet share moves the root, the rest is left to the legs.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.spatial.transform import Rotation

from mvai.geometry.rigid import shortest_rotation, transforms
from mvai.geometry.stance import runs
from mvai.transfer.legs import leg_length
from mvai.transfer.rig_points import ADULT_LEG_M
from mvai.transfer.rig_retarget import DrivenSkeleton, positions_on
from mvai.transfer.rig_soles import Sole, sole_paths

ENTER_SPEED_M_S = 0.25
LEAVE_SPEED_M_S = 0.5
ENTER_HEIGHT_M = 0.05
LEAVE_HEIGHT_M = 0.09
SHORTEST_S = 0.1
HIGHEST_SOLE_M = 0.08
"""A planted foot is brought to the floor from no further than this (of an adult's size)."""
HELD_M = 0.0005
"""Planted feet are held as often as it takes to have them move and sink by no more than this."""
MOST_ROUNDS = 5
LIFT_S = 0.08
LOWEST_M = 0.06
"""The body is lowered by no more than this (of an adult's size)."""
STRAIGHT = 0.998
"""A leg never quite straightens, so that it cannot snap."""
EASE_S = 0.12
"""Time over which a correction comes in before a contact and goes out after it."""


def contacts(
    foot: Float[np.ndarray, "frames 3"], floor: float, fps: float, size: float = 1.0
) -> Bool[np.ndarray, " frames"]:
    """Frames in which a foot is planted.

    Args:
        foot: position of its lowest point or sole (metres, world).
        floor: height of the floor under it.
        fps: frames a second.
        size: leg length relative to an adult's, by which the thresholds are scaled.
    """
    smooth = gaussian_filter1d(foot, max(0.03 * fps, 0.5), axis=0, mode="nearest")
    speed = (
        np.linalg.norm(np.gradient(smooth, axis=0), axis=1) * fps if len(foot) > 1 else np.zeros(1)
    )
    height = smooth[:, 1] - floor
    enter = (speed < ENTER_SPEED_M_S * size) & (height < ENTER_HEIGHT_M * size)
    stay = (speed < LEAVE_SPEED_M_S * size) & (height < LEAVE_HEIGHT_M * size)
    planted = np.zeros(len(foot), bool)
    for sequence in (range(len(foot)), range(len(foot) - 1, -1, -1)):
        on = False
        for f in sequence:
            on = bool(enter[f] or (on and stay[f]))
            planted[f] |= on
    for a, b in runs(planted):
        if (b - a) / fps < SHORTEST_S:
            planted[a:b] = False
    return planted


def corrections(
    points: Float[np.ndarray, "frames 2 3"],
    lowest: Float[np.ndarray, " frames"],
    planted: Bool[np.ndarray, "frames 2"],
    fps: float,
    size: float = 1.0,
) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, " frames"]]:
    """What to add to a foot's path so that what is planted of it stands still on y = 0.

    A foot rolls: first the heel stands, then all of it, then the toes. The correction takes back
    what the planted points have moved from frame to frame, so that it is free to turn about them.

    Args:
        points: heel and toes (metres, world).
        lowest: height of the foot's lowest point.
        planted: whether heel and toes are planted, from `contacts`.
        fps: frames a second.
        size: leg length relative to an adult's.

    Returns: the corrections (metres), and how far they count: 1 while planted, easing to 0 around.
    """
    frames = len(points)
    ease = max(1, round(EASE_S * fps))
    both = (planted[1:] & planted[:-1])[..., None].astype(float)
    moved = (np.diff(points, axis=0) * both).sum(1) / np.maximum(both.sum(1), 1)
    wish = np.zeros((frames, 3))
    weight = np.zeros(frames)
    for a, b in runs(planted.any(1)):
        back = np.zeros((b - a, 3))
        back[1:] = -np.cumsum(moved[a : b - 1], axis=0)
        back -= np.median(back, axis=0)
        back[:, 1] = -np.clip(lowest[a:b], -HIGHEST_SOLE_M * size, HIGHEST_SOLE_M * size)
        for f in range(max(0, a - ease), min(frames, b + ease)):
            away = max(a - f, f - b + 1, 0)
            w = 0.5 + 0.5 * np.cos(np.pi * away / (ease + 1))
            wish[f] += w * back[min(max(f, a), b - 1) - a]
            weight[f] += w
    return wish / np.maximum(weight, 1e-9)[:, None], np.minimum(weight, 1)


def root_share(
    wishes: list[Float[np.ndarray, "frames 3"]],
    planted: list[Bool[np.ndarray, " frames"]],
    fps: float,
) -> Float[np.ndarray, "frames 3"]:
    """The slow part of the corrections that planted feet agree on; it moves the whole body."""
    w = np.stack([p.astype(float) for p in planted])
    total = w.sum(0)
    mean = np.einsum("sf,sfd->fd", w, np.stack(wishes)) / np.maximum(total, 1)[:, None]
    known = np.flatnonzero(total > 0)
    if not len(known):
        return np.zeros_like(mean)
    frames = np.arange(len(mean))
    mean = np.stack([np.interp(frames, known, mean[known, k]) for k in range(3)], 1)
    mean[:, 1] = 0
    return gaussian_filter1d(mean, 0.15 * fps, axis=0, mode="nearest")


def lock_feet(
    skeleton: DrivenSkeleton,
    rest: Float[np.ndarray, "verts 3"],
    both: tuple[Sole, Sole],
    R: Float[np.ndarray, "frames joints 3 3"],
    t: Float[np.ndarray, "frames joints 3"],
    planted: list[Bool[np.ndarray, "frames 2"]],
    fps: float,
    has_floor: bool = True,
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
    """World rotations and positions in which planted feet stand still on the floor, and no foot
    is below it.

    Soles may hang partly from the shin, and then move less than the ankle that is moved for them;
    so this is done again until they are held. The body is lifted where a leg cannot get shorter,
    and lowered where one that is planted cannot get longer.

    Args:
        skeleton: the character's.
        rest: its vertices at rest.
        both: its soles.
        R: world rotations.
        t: world positions.
        planted: whether heel and toes of the left and right foot are planted in the source.
        fps: frames a second.
        has_floor: without one, heights stay.
    """
    size = leg_length(skeleton.skin.T_world_joint[:, :3, 3], skeleton.legs) / ADULT_LEG_M
    left_m = np.full(len(t), LOWEST_M * size)
    for last in range(MOST_ROUNDS):
        paths = [sole_paths(skeleton.skin, rest, transforms(R, t), sole) for sole in both]
        sinks = np.maximum(0, -np.min([low for _, low in paths], axis=0))
        if last == MOST_ROUNDS - 2 and has_floor and sinks.max() > HELD_M * size:
            t = t + _envelope(sinks, fps)[:, None, None] * [0, 1, 0]
            continue
        fixes = [
            corrections(points, low, stands, fps, size)
            for (points, low), stands in zip(paths, planted, strict=True)
        ]
        off = [
            np.abs(wish[stands.any(1)]) for (wish, _), stands in zip(fixes, planted, strict=True)
        ]
        if not has_floor:
            off = [o[:, [0, 2]] for o in off]
        if max([sinks.max() * has_floor, *(o.max() for o in off if o.size)]) < HELD_M * size:
            break
        lows = [low for _, low in paths]
        high = t[:, skeleton.root, 1]
        R, t = _held(skeleton, R, t, lows, fixes, planted, fps, left_m if has_floor else None)
        left_m = left_m - (high - t[:, skeleton.root, 1])
    return R, t


def _envelope(sinks: Float[np.ndarray, " frames"], fps: float) -> Float[np.ndarray, " frames"]:
    """A smooth curve that is nowhere below `sinks`."""
    wide = 2 * round(2 * LIFT_S * fps) + 1
    return gaussian_filter1d(
        maximum_filter1d(sinks, wide), LIFT_S * fps, mode="nearest", truncate=2
    )


def _held(
    skeleton: DrivenSkeleton,
    R: Float[np.ndarray, "frames joints 3 3"],
    t: Float[np.ndarray, "frames joints 3"],
    lows: list[Float[np.ndarray, " frames"]],
    fixes: list[tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, " frames"]]],
    planted: list[Bool[np.ndarray, "frames 2"]],
    fps: float,
    left_m: Float[np.ndarray, " frames"] | None,
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
    """One round of `lock_feet`. The body may be lowered by `left_m`; None without a floor."""
    shared = root_share([wish for wish, _ in fixes], [p.any(1) for p in planted], fps)
    moves = [shared + weight[:, None] * (wish - shared) for wish, weight in fixes]
    for move, low in zip(moves, lows, strict=True):
        move[:, 1] = 0 if left_m is None else np.maximum(move[:, 1], -low)
    targets = [t[:, leg[2]] + move for leg, move in zip(skeleton.legs, moves, strict=True)]
    t = t + shared[:, None]
    if left_m is not None:
        short = [
            weight * _out_of_reach(skeleton, leg, t, target)
            for leg, target, (_, weight) in zip(skeleton.legs, targets, fixes, strict=True)
        ]
        drop = _envelope(np.minimum(np.max(short, axis=0), np.maximum(left_m, 0)), fps)
        t = t - drop[:, None, None] * [0, 1, 0]
    for leg, target in zip(skeleton.legs, targets, strict=True):
        if np.abs(target - t[:, leg[2]]).max() < 1e-5:
            continue
        R = reach(skeleton, leg, R, t, target)
        t = positions_on(skeleton, R, t[:, skeleton.root])
    return R, t


def _out_of_reach(
    skeleton: DrivenSkeleton,
    leg: tuple[int, int, int],
    t: Float[np.ndarray, "frames joints 3"],
    target: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, " frames"]:
    """How far the hip is too high for the ankle to meet `target` (metres)."""
    hip, knee, ankle = (t[:, j] for j in leg)
    length = np.linalg.norm(knee - hip, axis=1) + np.linalg.norm(ankle - knee, axis=1)
    away = hip - target
    aside = np.linalg.norm(away[:, [0, 2]], axis=1)
    upright = np.sqrt(np.maximum((STRAIGHT * length) ** 2 - aside**2, 0))
    return np.where(aside < STRAIGHT * length, np.maximum(0, away[:, 1] - upright), 0)


def reach(
    skeleton: DrivenSkeleton,
    leg: tuple[int, int, int],
    R: Float[np.ndarray, "frames joints 3 3"],
    t: Float[np.ndarray, "frames joints 3"],
    target: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, "frames joints 3 3"]:
    """World rotations in which a leg's ankle meets `target`; the foot keeps its orientation.

    Two-bone inverse kinematics: the knee's angle follows from the law of cosines, about the axis
    it already bends about, then the whole leg swings the shortest way.
    """
    hip, knee, ankle = leg
    a, b, c = t[:, hip], t[:, knee], t[:, ankle]
    thigh, shin = np.linalg.norm(b - a, axis=1), np.linalg.norm(c - b, axis=1)
    now = np.linalg.norm(c - a, axis=1)
    longest = np.maximum(STRAIGHT * (thigh + shin), np.minimum(now, thigh + shin))
    wanted = np.clip(np.linalg.norm(target - a, axis=1), np.abs(thigh - shin) + 1e-4, longest)

    def inner(d: np.ndarray) -> np.ndarray:
        cosine = (thigh**2 + shin**2 - d**2) / np.maximum(2 * thigh * shin, 1e-9)
        return np.arccos(np.clip(cosine, -1, 1))

    axis = np.cross(b - a, c - b)
    straight = np.linalg.norm(axis, axis=1) < 1e-3 * thigh * shin
    # A straight leg bends about the knee's own sideways axis: knees fold backwards.
    sideways = R[:, knee] @ skeleton.skin.T_world_joint[knee, :3, :3].T @ np.array([1.0, 0, 0])
    axis = np.where(straight[:, None], sideways, axis)
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-12)
    bend = inner(now) - inner(wanted)
    D_knee = Rotation.from_rotvec(axis * bend[:, None]).as_matrix()
    c_bent = b + (D_knee @ (c - b)[..., None])[..., 0]
    D_hip = shortest_rotation(c_bent - a, target - a)
    result = R.copy()
    result[:, hip] = D_hip @ R[:, hip]
    below = D_hip @ D_knee
    for j in _between(skeleton, knee, ankle):
        result[:, j] = below @ R[:, j]
    return result


def _between(skeleton: DrivenSkeleton, knee: int, ankle: int) -> list[int]:
    """The knee and what hangs from it, apart from the foot and what hangs from that."""
    parents = skeleton.skin.parents

    def under(j: int, top: int) -> bool:
        while j >= 0 and j != top:
            j = parents[j]
        return j == top

    return [j for j in range(len(parents)) if under(j, knee) and not under(j, ankle)]
