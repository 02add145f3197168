"""Keeps planted feet where they are.

Contacts are read off the source: a foot is planted while it is low and slow, with hysteresis so
that noise at the threshold does not flicker. On the character each planted foot is then held at
its mean place: the part that all planted feet share moves the root, the rest is left to the legs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from mvai.geometry.rigid import transforms
from mvai.geometry.stance import runs
from mvai.transfer.legs import leg_length
from mvai.transfer.rig_leg import out_of_reach, reach, tip_foot
from mvai.transfer.rig_points import ADULT_LEG_M
from mvai.transfer.rig_retarget import DrivenSkeleton, positions_on
from mvai.transfer.rig_soles import Sole, sole_paths

ENTER_SPEED_M_S = 0.25
LEAVE_SPEED_M_S = 0.5
ENTER_HEIGHT_M = 0.05
LEAVE_HEIGHT_M = 0.09
SHORTEST_S = 0.1
ABOVE_M = 0.05
"""A planted foot is no higher than this above the other one."""
HIGHEST_SOLE_M = 0.08
"""A planted foot is brought to the floor from no further than this (of an adult's size)."""
HELD_M = 0.0005
"""Planted feet are held as often as it takes to have them move and sink by no more than this."""
MOST_ROUNDS = 6
LIFT_S = 0.08
LOWEST_M = 0.06
"""The body is lowered by no more than this (of an adult's size)."""
BENT_M = 0.01
"""Likewise by no more than this for a foot while the other foot's leg has to bend for it."""
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


def not_above_the_other(
    planted: list[Bool[np.ndarray, "frames 2"]],
    feet: Sequence[Float[np.ndarray, "frames 2 3"]],
    size: float,
) -> list[Bool[np.ndarray, "frames 2"]]:
    """Leaves out contacts of a foot in frames in which the other is much lower: on a level floor
    that one would be below the ground.

    Args:
        planted: whether heel and toes of the left and right foot are planted.
        feet: heel and toes of the left and right foot (metres, world).
        size: leg length relative to an adult's.
    """
    left, right = (foot[..., 1].min(1) for foot in feet)
    off = (left - right, right - left)
    return [p & (o < ABOVE_M * size)[:, None] for p, o in zip(planted, off, strict=True)]


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
    so this is done again until they are held. Where a planted leg cannot get longer, the foot is
    tipped onto its toes, and then the hips are lowered, but hardly where the other leg has to bend
    for it: a foot a little above the floor is seen later than bent knees. Toes of a swinging foot
    are turned up before its leg bends. The body is lifted where a leg cannot get shorter.

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
    leeway = Leeway.of(len(t), size)
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
        R, t = _held(skeleton, R, t, paths, fixes, planted, fps, leeway if has_floor else None)
    return R, t


@dataclass
class Leeway:
    """What is left of how far the rounds of `lock_feet` may go, in every frame."""

    lower_m: Float[np.ndarray, " frames"]
    """How far the hips may still be lowered."""
    bend_m: Float[np.ndarray, " frames"]
    """Likewise while a leg has to bend for it."""
    tipped_rad: list[Float[np.ndarray, " frames"]]
    """How far the left and the right foot have been tipped."""

    @classmethod
    def of(cls, frames: int, size: float) -> Leeway:
        return cls(
            np.full(frames, LOWEST_M * size),
            np.full(frames, BENT_M * size),
            [np.zeros(frames), np.zeros(frames)],
        )

    def lowered(
        self,
        short: list[Float[np.ndarray, " frames"]],
        room: Float[np.ndarray, " frames"],
        fps: float,
    ) -> Float[np.ndarray, " frames"]:
        """How far to lower the hips (metres), where legs are `short` and nothing bends down to
        `room`; takes it off what is left."""
        wish = np.minimum(np.max(short, axis=0), room + np.maximum(self.bend_m, 0))
        drop = _envelope(np.minimum(wish, np.maximum(self.lower_m, 0)), fps)
        self.lower_m = self.lower_m - drop
        self.bend_m = self.bend_m - np.maximum(drop - room, 0)
        return drop


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
    paths: list[tuple[Float[np.ndarray, "frames 2 3"], Float[np.ndarray, " frames"]]],
    fixes: list[tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, " frames"]]],
    planted: list[Bool[np.ndarray, "frames 2"]],
    fps: float,
    leeway: Leeway | None,
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
    """One round of `lock_feet`, within `leeway`; None leaves heights as they are."""
    shared = root_share([wish for wish, _ in fixes], [p.any(1) for p in planted], fps)
    moves = [shared + weight[:, None] * (wish - shared) for wish, weight in fixes]
    for move, (_, low) in zip(moves, paths, strict=True):
        move[:, 1] = 0 if leeway is None else np.maximum(move[:, 1], -low)
    targets = [t[:, leg[2]] + move for leg, move in zip(skeleton.legs, moves, strict=True)]
    t = t + shared[:, None]
    if leeway is not None:
        stands = [p.any(1) for p in planted]
        out = [out_of_reach(leg, t, at) for leg, at in zip(skeleton.legs, targets, strict=True)]
        # Lowered so far, no leg has to bend.
        room = [
            np.where(on, o, np.maximum(low, 0))
            for on, o, (_, low) in zip(stands, out, paths, strict=True)
        ]
        room = np.minimum(*room)
        first = np.where(stands[0] & stands[1], room, 0)
        short = []
        for i, (leg, (points, low)) in enumerate(zip(skeleton.legs, paths, strict=True)):
            need = fixes[i][1] * np.maximum(out[i] - first, 0)
            R, gain, leeway.tipped_rad[i] = tip_foot(
                skeleton, leg, R, t, points, low, need, stands[i], leeway.tipped_rad[i], fps
            )
            targets[i] = targets[i] + gain[:, None] * [0, 1, 0]
            short.append(stands[i] * np.maximum(out[i] - gain, 0))
        drop = leeway.lowered(short, room, fps)
        t = t - drop[:, None, None] * [0, 1, 0]
    for leg, target in zip(skeleton.legs, targets, strict=True):
        if np.abs(target - t[:, leg[2]]).max() < 1e-5:
            continue
        R = reach(skeleton, leg, R, t, target)
        t = positions_on(skeleton, R, t[:, skeleton.root])
    return R, t
