"""MediaPipe on single pictures, such as renders of a character."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mvai.detect.mediapipe_holistic import NAMES, points_from
from mvai.detect.quiet import quiet_graph
from mvai.types import Keypoints


@contextlib.contextmanager
def image_detector() -> Iterator[Callable[[UInt8[np.ndarray, "h w 3"]], Keypoints | None]]:
    """A function that finds the most prominent person's key-points in an RGB picture.

    It takes each picture for itself and returns `Keypoints` of one frame, or None when nobody is
    seen. The networks are loaded once for the `with` block.
    """

    def make() -> Any:
        from mediapipe.python.solutions.holistic import Holistic

        return Holistic(static_image_mode=True, model_complexity=1)

    with quiet_graph(make) as process:

        def detect(image: np.ndarray) -> Keypoints | None:
            height, width = image.shape[:2]
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
