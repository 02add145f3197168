"""What every detector does with the points of the person it followed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mvai.detect.gaps import check_enough, fill_gaps
from mvai.detect.left_right import undo_left_right_swaps
from mvai.io.video import Video
from mvai.types import Keypoints


def finished(keypoints: Keypoints, present: Bool[np.ndarray, " frames"], path: Path) -> Keypoints:
    """The key-points with gaps filled and confused sides put right.

    Args:
        keypoints: as seen; what stands in frames without the person does not matter.
        present: the frames in which the person was seen.
        path: what the points were read from, for messages.

    Raises:
        MvaiError: there is too little of the person to work with.
    """
    keypoints = fill_gaps(keypoints, present)
    check_enough(keypoints, path)
    return undo_left_right_swaps(keypoints)


def of_part(keypoints: Keypoints, video: Video, path: Path) -> Keypoints:
    """Key-points of a whole video, cut to the part of it that is asked for.

    Raises:
        MvaiError: there is too little of the person in that part.
    """
    if video.whole is None:
        return keypoints
    span = slice(video.first, video.first + video.frames)
    cut = replace(
        keypoints,
        xy_px=keypoints.xy_px[span],
        confidence=keypoints.confidence[span],
        xyz_m=None if keypoints.xyz_m is None else keypoints.xyz_m[span],
        present=None if keypoints.present is None else keypoints.present[span],
    )
    check_enough(cut, path)
    return cut
