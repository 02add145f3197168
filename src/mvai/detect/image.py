"""MediaPipe on views of one subject, such as renders of a character."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mvai.detect.mediapipe_holistic import NAMES, points_from
from mvai.detect.mediapipe_import import solution
from mvai.detect.quiet import quiet_graph
from mvai.types import Keypoints

LOOKS = 3
"""Times each picture is looked at."""


@contextlib.contextmanager
def image_detector() -> Iterator[Callable[[UInt8[np.ndarray, "h w 3"]], Keypoints | None]]:
    """A function that finds the most prominent person's key-points in an RGB picture.

    It returns `Keypoints` of one frame, or None when nobody is seen. The networks are loaded once
    for the `with` block. Each picture is looked at several times by a graph that tracks: the crop
    it looks at settles on the body, where a single look at a figure without a face often has the
    wrong size. Feed pictures of one subject that are framed alike, neighbouring views in a row.
    """

    def make() -> Any:
        return solution("holistic", "Holistic")(
            model_complexity=1,
            smooth_landmarks=False,
            min_detection_confidence=0.3,
            min_tracking_confidence=0.3,
        )

    with quiet_graph(make) as process:

        def detect(image: np.ndarray) -> Keypoints | None:
            height, width = image.shape[:2]
            for _ in range(LOOKS - 1):
                process(image)
            points = points_from(process(image), width, height)
            if not points[:, 5].any():
                return None
            return Keypoints(
                names=NAMES,
                xy_px=points[None, :, :2] * (width, height),
                confidence=points[None, :, 5],
                fps=1.0,
                width=width,
                height=height,
                xyz_m=points[None, :, 2:5],
            )

        yield detect
