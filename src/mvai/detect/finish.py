"""What every detector does with the points of the person it followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mvai.detect.gaps import check_enough, fill_gaps
from mvai.detect.left_right import undo_left_right_swaps
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
