"""Who is who: sightings of several people linked into one track a person."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from mvai.types import MvaiError

LOST_AFTER_S = 1.5
"""A track without a sighting for this long is no longer followed by its motion."""
REACH = 0.35
"""How far a box may move between sightings at once, in body sizes: detector noise."""
REACH_PER_S = 3.0
"""And for every second between them: a sprinter covers about this many body heights."""
UNLIKE = 0.55
"""Hellinger distance of clothing colours above which two sightings are different people."""


@dataclass(frozen=True)
class Sighting:
    """One person in one frame."""

    frame: int
    box_px: Float[np.ndarray, "4"]
    """Left, top, right, bottom."""
    score: float
    """0 to 1: how completely the person is seen."""
    index: int = 0
    """Which detection of its frame this is."""
    appearance: Float[np.ndarray, " bins"] | None = None
    """Colour histogram of the torso, summing to 1; None when there is no image."""

    @property
    def centre_px(self) -> Float[np.ndarray, "2"]:
        return (self.box_px[:2] + self.box_px[2:]) / 2

    @property
    def size_px(self) -> float:
        """The longer side of the box, at least a pixel."""
        return float(max(*(self.box_px[2:] - self.box_px[:2]), 1.0))

    @property
    def area_px2(self) -> float:
        return float(np.prod(np.maximum(self.box_px[2:] - self.box_px[:2], 0.0)))


Track = tuple[Sighting, ...]
"""Sightings of one person, in frame order."""


def link(
    sightings: Sequence[Sequence[Sighting]], fps: float, cuts: Sequence[int] = ()
) -> list[Track]:
    """One track a person, the largest and most complete first.

    Sightings of consecutive steps are matched by predicted position, size and clothing
    (Hungarian method); tracks that broke are then joined by clothing.

    Args:
        sightings: per step, those made in one frame; frames increase from step to step.
        fps: frame rate that `Sighting.frame` counts in.
        cuts: frames that begin another shot; no track goes from one to another.
    """
    tracks: list[list[Sighting]] = []
    for step in sightings:
        alive = [
            t
            for t in tracks
            if step
            and _seconds(t[-1], step[0], fps) <= LOST_AFTER_S
            and bisect_right(cuts, t[-1].frame) == bisect_right(cuts, step[0].frame)
        ]
        cost = np.array([[_step_cost(t, s, fps) for s in step] for t in alive])
        taken: set[int] = set()
        if cost.size:
            # An infinite cost cannot be assigned, a huge one can and is then dropped.
            rows, cols = linear_sum_assignment(np.minimum(cost, 1e6))
            for r, c in zip(rows, cols, strict=True):
                if np.isfinite(cost[r, c]):
                    alive[r].append(step[c])
                    taken.add(int(c))
        tracks += [[s] for i, s in enumerate(step) if i not in taken]
    shots: dict[int, list[Track]] = {}
    for track in tracks:
        shots.setdefault(bisect_right(cuts, track[0].frame), []).append(tuple(track))
    joined = [t for shot in shots.values() for t in _join(shot, fps)]
    return sorted(joined, key=lambda t: -importance(t))


def importance(track: Track) -> float:
    """Mean area times completeness (up to a factor that is the same for all tracks)."""
    return sum(s.area_px2 * s.score for s in track)


def box_at(track: Track, frame: int, reach_frames: float) -> Float[np.ndarray, "4"] | None:
    """The track's box in any frame, interpolated; None further than `reach_frames` from it."""
    frames = np.array([s.frame for s in track])
    if np.abs(frames - frame).min() > reach_frames:
        return None
    return np.array([np.interp(frame, frames, [s.box_px[i] for s in track]) for i in range(4)])


def overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes."""
    side = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0.0)
    both = side.prod()
    return float(both / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both, 1e-9))


def chosen(tracks: list[Track], person: int, path: object) -> Track:
    """The track asked for.

    Raises:
        MvaiError: there are fewer people.
    """
    if 0 <= person < len(tracks):
        return tracks[person]
    found = {0: "nobody", 1: "1 person"}.get(len(tracks), f"{len(tracks)} people")
    raise MvaiError(
        f"{path}: person {person} was asked for and {found} found; "
        "count from 0, the largest and most complete first."
    )


def unlike(a: Sighting, b: Sighting) -> float:
    """Hellinger distance of the two appearances, 0 to 1; 0 when one is unknown."""
    if a.appearance is None or b.appearance is None:
        return 0.0
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(a.appearance * b.appearance).sum())))


def _seconds(a: Sighting, b: Sighting, fps: float) -> float:
    return (b.frame - a.frame) / fps


def _step_cost(track: Sequence[Sighting], new: Sighting, fps: float) -> float:
    """How badly `new` continues `track`; infinite when it cannot."""
    last = track[-1]
    seconds = _seconds(last, new, fps)
    predicted = last.centre_px
    if len(track) > 1:
        before = track[-2]
        velocity = (last.centre_px - before.centre_px) / max(_seconds(before, last, fps), 1e-6)
        # Half the velocity: people stop and turn, and the noise of it grows with time.
        predicted = predicted + 0.5 * velocity * min(seconds, 0.5)
    # The larger of both: a box shrinks to a part of the body when limbs drop out.
    size = max(last.size_px, new.size_px)
    moved = np.linalg.norm(new.centre_px - predicted) / size / (REACH + REACH_PER_S * seconds)
    grown = abs(np.log(new.size_px / last.size_px)) / (1.0 + seconds)
    colour = min(unlike(s, new) for s in track[-5:]) / UNLIKE
    if moved > 1 or grown > 1 or colour > 1.3:
        return np.inf
    return float(moved + grown + colour)


def _join(tracks: list[Track], fps: float) -> list[Track]:
    """Joins tracks that follow one another and look alike, the most alike pair first."""
    tracks = list(tracks)
    while True:
        best, pair = 1.0, None
        for i, a in enumerate(tracks):
            for j, b in enumerate(tracks):
                if i != j and a[-1].frame < b[0].frame:
                    cost = _join_cost(a, b, fps)
                    if cost < best:
                        best, pair = cost, (i, j)
        if pair is None:
            return tracks
        i, j = pair
        merged = tracks[i] + tracks[j]
        tracks = [t for k, t in enumerate(tracks) if k not in pair] + [merged]


def _join_cost(a: Track, b: Track, fps: float) -> float:
    """Below 1 where `b` may be the same person as `a`, come back."""
    if abs(np.log(b[0].size_px / a[-1].size_px)) > 1.0:
        return np.inf
    known_a = [s for s in a if s.appearance is not None]
    known_b = [s for s in b if s.appearance is not None]
    if known_a and known_b:
        # A few of the best views of either: the ends of a track are the worst ones.
        views_a = sorted(known_a, key=lambda s: -s.area_px2 * s.score)[:3]
        views_b = sorted(known_b, key=lambda s: -s.area_px2 * s.score)[:3]
        return float(np.median([unlike(p, q) for p in views_a for q in views_b])) / UNLIKE
    # Without an image only the place can tell.
    size = (a[-1].size_px + b[0].size_px) / 2
    moved = float(np.linalg.norm(b[0].centre_px - a[-1].centre_px)) / size
    return moved / min(2.0, REACH + REACH_PER_S * _seconds(a[-1], b[0], fps))
