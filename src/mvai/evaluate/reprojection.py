"""How well a reconstructed body lies on the key-points it was made from."""

from __future__ import annotations

import numpy as np

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.evaluate.metrics import residual_px
from mvai.types import Keypoints, MeshSequence, MvaiError
from mvai.types.names import BODY_KEYPOINTS, EXTRA_KEYPOINTS

SAMPLES = 64
"""Frames in which the person's height in pixels is looked up."""


def body_of(sequence: MeshSequence) -> LinearBody:
    """The body model whose surface a sequence shows.

    Raises:
        MvaiError: it is not known here.
    """
    body = anny_body()
    if sequence.topology != body.topology:
        raise MvaiError(
            f"The sequence is in topology '{sequence.topology}'; only {body.topology} "
            "can be evaluated."
        )
    return body


def reprojection(sequence: MeshSequence, keypoints: Keypoints) -> tuple[float, float]:
    """Mean distance of reprojected body landmarks from the detected ones.

    Hands and face are left out; detections count by their confidence, above 0.5.

    Returns:
        In pixels, and as a percentage of the person's height: the median over the clip of the
        height of the reprojected body, with the parts that the image cuts off.
    """
    body, camera = body_of(sequence), sequence.camera
    assert camera is not None
    names = tuple(
        n for n in keypoints.names if n in BODY_KEYPOINTS + EXTRA_KEYPOINTS and n in body.regressed
    )
    columns = [keypoints.index(n) for n in names]
    projected = camera.project(body.regress(names, sequence.vertices))
    mean_px = residual_px(projected, keypoints.xy_px[:, columns], keypoints.confidence[:, columns])
    step = max(1, sequence.frames // SAMPLES)
    heights = [
        float(np.ptp(camera.at(f).project(sequence.vertices[f].astype(np.float64))[:, 1]))
        for f in range(0, sequence.frames, step)
    ]
    return mean_px, 100 * mean_px / float(np.median(heights))
