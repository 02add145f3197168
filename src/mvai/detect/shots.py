"""Where a video cuts from one shot to the next.

What is seen on either side of a cut is another place, another time or another person, so nobody is
followed across one. A cut is a change of the picture that is large, and large beside the changes
around it, which those of a hand-held camera are not (the measure of PySceneDetect's adaptive
detector; that package brings a second build of OpenCV, which MediaPipe's would overwrite).
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from mvai.detect.track import Track
from mvai.io.video import Frame, Video

log = logging.getLogger(__name__)

THUMBNAIL_PX = 64
"""Longer side of the pictures that are compared."""
CHANGE = 22.0
"""Mean change of a colour channel (of 255, brightness apart) from which on it may be a cut. The sun
through leaves reaches 14 in `sports2d_demo`; 99 of 100 pairs of frames of different videos differ
by more than 27."""
TIMES = 3.0
"""A cut changes the picture so many times as much as the frames around it do."""
AROUND = 2
"""How many changes on either side a change is compared with."""
DOUBT = 0.6
"""Frames that are some time apart and differ by less than this part of `CHANGE` are of one shot."""

Thumbnail = Float[np.ndarray, "height width 3"]


def thumbnail(image: Frame) -> Thumbnail:
    """The picture made small, each channel around its mean."""
    import cv2

    scale = THUMBNAIL_PX / max(image.shape[:2])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return small - small.mean((0, 1))


def cuts_in(thumbnails: Sequence[Thumbnail]) -> tuple[int, ...]:
    """The frames that begin another shot.

    Args:
        thumbnails: of all frames, in order.
    """
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(thumbnails)])
    cuts = []
    for i in np.flatnonzero(change >= CHANGE):
        around = np.delete(change[max(i - AROUND, 0) : i + AROUND + 1], min(i, AROUND))
        if change[i] >= TIMES * (around.mean() if len(around) else 0.0):
            cuts.append(int(i) + 1)
    return tuple(cuts)


def cuts_of(video: Video, sampled: Sequence[Thumbnail]) -> tuple[int, ...]:
    """The frames that begin another shot.

    Args:
        video: read once more only where frames that are some time apart are unlike.
        sampled: of frames spread evenly over the video, its first among them.
    """
    apart = [np.abs(b - a).mean() for a, b in pairwise(sampled)]
    if max(apart, default=0.0) < DOUBT * CHANGE:
        return ()
    return cuts_in([thumbnail(image) for image in video.fitted(THUMBNAIL_PX).iterate()])


def shot_of(track: Track, cuts: Sequence[int], video: Video) -> slice:
    """The frames of the shot in which somebody is seen; says so where there are others.

    Args:
        track: of the person who is followed; empty for nobody.
        cuts: the frames that begin another shot, in order.
        video: as a whole.
    """
    if not cuts or not track:
        return slice(0, video.frames)
    shot = bisect_right(cuts, track[0].frame)
    start, stop = (0, *cuts)[shot], (*cuts, video.frames)[shot]
    log.warning(
        "%s: the video has %d shots; whoever is seen from %.1f to %.1f s is followed, and stands "
        "still in the others. --person 1, 2, ... follows somebody else; --start and --end take a "
        "part of the video.",
        video.path, len(cuts) + 1, start / video.fps, stop / video.fps,
    )  # fmt: skip
    return slice(start, stop)
