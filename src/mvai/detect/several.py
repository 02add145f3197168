"""One person out of the points of everybody in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mvai.detect.finish import finished
from mvai.detect.track import Sighting, chosen, link
from mvai.types import Keypoints, MvaiError

SEEN = 0.1
"""Confidence above which a point counts as seen when people are told apart."""

Person = Float[np.ndarray, "points 3"]
"""x_px, y_px, confidence; confidence 0 where unseen."""


def one_of(
    people: Sequence[Sequence[Person]],
    names: Sequence[str],
    body: int,
    fps: float,
    width: int,
    height: int,
    person: int,
    path: Path,
) -> Keypoints:
    """The key-points of one person who is followed through the clip.

    Args:
        people: everybody, frame by frame.
        names: of the points; empty for points to leave out.
        body: how many of the first points are the body; they say where and who somebody is.
        fps: of the video.
        width: of the video, pixels.
        height: of the video, pixels.
        person: 0 is the largest, most complete person.
        path: what the points were read from, for messages.

    Raises:
        MvaiError: nobody, fewer people, or not enough of the person.
    """
    if not any(len(frame) for frame in people):
        raise MvaiError(f"{path}: nobody is in any frame; give a video with a visible person.")
    sightings = [
        [s for i, p in enumerate(frame) if (s := _sighting(p[:body], f, i)) is not None]
        for f, frame in enumerate(people)
    ]
    track = chosen(link(sightings, fps), person, path)
    values = np.zeros((len(people), len(names), 3))
    present = np.zeros(len(people), bool)
    for s in track:
        values[s.frame], present[s.frame] = people[s.frame][s.index], True
    used = (values[..., 2] > 0).any(axis=0)
    # Hands and face that nobody was asked for do not become points that nobody ever saw.
    used[:body] = True
    used &= np.array([bool(n) for n in names])
    keypoints = Keypoints(
        names=tuple(n for n, u in zip(names, used, strict=True) if u),
        xy_px=np.where(values[..., 2:] > 0, values[..., :2], np.nan)[:, used],
        confidence=np.clip(values[:, used, 2], 0.0, 1.0),
        fps=fps,
        width=width,
        height=height,
    )
    return finished(keypoints, present, path)


def _sighting(body: Person, frame: int, index: int) -> Sighting | None:
    """Box and completeness; None for a stray limb."""
    seen = body[:, 2] > SEEN
    if seen.sum() < 5:
        return None
    box = np.concatenate([body[seen, :2].min(axis=0), body[seen, :2].max(axis=0)])
    return Sighting(frame, box, float(body[seen, 2].sum() / len(body)), index)
