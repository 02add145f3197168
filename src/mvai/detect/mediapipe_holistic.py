"""MediaPipe Holistic: body, hands and face of one person.

Lugaresi et al., "MediaPipe: A Framework for Building Perception Pipelines", 2019, and the
BlazePose GHUM landmarks of Bazarevsky et al., 2020. Version 0.10.21 carries its models.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float

from mvai.detect.gaps import check_enough, fill_gaps
from mvai.io.video import Frame, Video
from mvai.types import Keypoints
from mvai.types.names import (
    BODY_KEYPOINTS,
    FACE_KEYPOINTS,
    LEFT_HAND_KEYPOINTS,
    RIGHT_HAND_KEYPOINTS,
)

NAMES = (*BODY_KEYPOINTS, *LEFT_HAND_KEYPOINTS, *RIGHT_HAND_KEYPOINTS, *FACE_KEYPOINTS)
BODY = slice(0, 33)
LEFT_HAND = slice(33, 54)
RIGHT_HAND = slice(54, 75)
FACE = slice(75, 126)

FACE_MESH_INDEX = (
    70, 63, 105, 66, 107,
    336, 296, 334, 293, 300,
    168, 197, 5, 4,
    98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144,
    362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""Vertex of the 468-point face mesh at each of the 51 iBUG points, in `FACE_KEYPOINTS` order."""

LONGEST_PX = 960
"""Frames are scaled down to this: the networks see crops of 256 pixels."""
WARM_UP = 6
"""Frames the second worker starts early, so that its tracker has settled where it takes over."""
PARALLEL_FROM = 60
"""Clips shorter than this are not worth a second worker."""


@dataclass(frozen=True)
class MediapipeHolistic:
    """Body, hands and face with MediaPipe; depth in metres for body and hands."""

    def detect(
        self, video: Video, progress: Callable[[int, int | None], None] | None = None
    ) -> Keypoints:
        """See `mvai.detect.Detector`."""
        points = track(video, progress or (lambda done, total: None))
        present = np.isfinite(points[:, BODY, 0]).any(axis=1)
        keypoints = Keypoints(
            names=NAMES,
            xy_px=points[..., :2],
            confidence=points[..., 5],
            fps=video.fps,
            width=video.width,
            height=video.height,
            xyz_m=points[..., 2:5],
        )
        keypoints = fill_gaps(keypoints, present)
        check_enough(keypoints, video.path)
        return keypoints


# --- running the graph --------------------------------------------------------------------------


def track(
    video: Video, progress: Callable[[int, int | None], None]
) -> Float[np.ndarray, "frames 126 6"]:
    """Follows one person through the clip.

    Two workers take a half each: measured on 2 cores 24 ms a frame against 36 with one. They are
    threads, since MediaPipe works outside Python's lock.

    Returns:
        Per frame and point (x_px, y_px, x_m, y_m, z_m, confidence) in the pixels of `video`;
        NaN and confidence 0 where unseen.
    """
    small = video.fitted(LONGEST_PX)
    middle = video.frames // 2
    spans: list[tuple[int, int | None]] = [(0, None)]
    if video.frames >= PARALLEL_FROM:
        spans = [(0, middle), (middle, None)]
    done = [0] * len(spans)
    stop = threading.Event()

    def work(worker: int) -> list[np.ndarray]:
        start, end = spans[worker]
        early = max(0, start - WARM_UP)
        rows: list[np.ndarray] = []
        with holistic() as process:
            frames = islice(small.iterate(early), None if end is None else end - early)
            for i, image in enumerate(frames, early):
                if stop.is_set():
                    break
                row = process(image)
                if i >= start:
                    rows.append(row)
                    done[worker] += 1
        return rows

    with ThreadPoolExecutor(len(spans), thread_name_prefix="mediapipe") as pool:
        futures = [pool.submit(work, i) for i in range(len(spans))]
        try:
            while not all(f.done() for f in futures):
                if any(f.done() and f.exception() for f in futures):
                    break
                progress(sum(done), video.frames)
                time.sleep(0.1)
        finally:
            # Also on Ctrl-C: the workers must not run on to the end of a long clip.
            if not all(f.done() for f in futures):
                stop.set()
        rows = [row for f in futures for row in f.result()]
    progress(len(rows), len(rows))
    points = np.stack(rows) if rows else np.full((0, len(NAMES), 6), np.nan)
    points[..., :2] *= video.width, video.height
    return points


@contextlib.contextmanager
def holistic() -> Iterator[Callable[[Frame], Float[np.ndarray, "126 6"]]]:
    """A tracker to be fed consecutive frames; returns points with x, y in units of the image."""
    quiet = contextlib.ExitStack()
    quiet.enter_context(quiet_stderr())
    try:
        from mediapipe.python.solutions.holistic import Holistic

        # The reconstruction smooths; a filter here would only add delay.
        graph = Holistic(model_complexity=1, smooth_landmarks=False)
    except BaseException:
        quiet.close()
        raise
    found = 0

    def process(image: Frame) -> Float[np.ndarray, "126 6"]:
        nonlocal found
        # The networks log from their own threads until they have first run, which is when
        # somebody is first in view.
        with quiet_stderr() if found < 5 else contextlib.nullcontext():
            result = graph.process(image)
            quiet.close()
        found += result.pose_landmarks is not None
        return points_from(result, image.shape[1], image.shape[0])

    try:
        yield process
    finally:
        quiet.close()
        graph.close()


_quiet = threading.Lock()
_quiet_depth = 0
_quiet_saved = -1


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drops what C++ code writes to file descriptor 2; exceptions pass. Nests and is thread-safe.

    MediaPipe's own log level cannot be set from Python.
    """
    global _quiet_depth, _quiet_saved
    with _quiet:
        if _quiet_depth == 0:
            _quiet_saved = os.dup(2)
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 2)
            os.close(sink)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                os.dup2(_quiet_saved, 2)
                os.close(_quiet_saved)


# --- reading its results ------------------------------------------------------------------------


def points_from(result, width: int, height: int) -> Float[np.ndarray, "126 6"]:
    """MediaPipe's result as (x, y, x_m, y_m, z_m, confidence) a point; x, y from 0 to 1.

    The metric body landmarks are relative to the middle of the hips, in camera axes. Hands come
    with depth relative to the wrist in units of the image width; they are hung on the body's
    metric wrist with the body's metres per pixel (weak perspective), which is as good as the
    body's own depth. The face gets no metric position.
    """
    points = np.full((len(NAMES), 6), np.nan)
    points[:, 5] = 0.0
    if result.pose_landmarks is None or result.pose_world_landmarks is None:
        return points
    body = _array(result.pose_landmarks.landmark)
    world_m = _array(result.pose_world_landmarks.landmark)
    points[BODY, :2] = body[:, :2]
    points[BODY, 2:5] = world_m
    points[BODY, 5] = [p.visibility for p in result.pose_landmarks.landmark]
    size = np.array([width, height, width])
    m_per_px = _metres_per_pixel(body[:, :2] * size[:2], world_m[:, :2], points[BODY, 5])
    for side, landmarks, span in (
        ("left", result.left_hand_landmarks, LEFT_HAND),
        ("right", result.right_hand_landmarks, RIGHT_HAND),
    ):
        if landmarks is not None:
            hand = _array(landmarks.landmark)
            wrist = NAMES.index(f"{side}_wrist")
            points[span, :2] = hand[:, :2]
            points[span, 2:5] = world_m[wrist] + (hand - hand[0]) * size * m_per_px
            points[span, 5] = points[wrist, 5]
    if result.face_landmarks is not None:
        face = _array(result.face_landmarks.landmark)[list(FACE_MESH_INDEX)]
        points[FACE, :2] = face[:, :2]
        points[FACE, 5] = points[NAMES.index("nose"), 5]
    outside = ((points[:, :2] < -0.02) | (points[:, :2] > 1.02)).any(axis=1)
    points[outside, :2] = np.nan
    points[outside, 5] = 0.0
    return points


def _array(landmarks) -> Float[np.ndarray, "points 3"]:
    return np.array([(p.x, p.y, p.z) for p in landmarks])


def _metres_per_pixel(
    xy_px: Float[np.ndarray, "33 2"],
    xy_m: Float[np.ndarray, "33 2"],
    confidence: Float[np.ndarray, " 33"],
) -> float:
    """Scale of the least-squares fit of metric to image positions, weighted by confidence."""
    w = confidence[:, None] / max(confidence.sum(), 1e-9)
    a, b = xy_px - (w * xy_px).sum(0), xy_m - (w * xy_m).sum(0)
    return float(np.sqrt((w * b**2).sum() / max((w * a**2).sum(), 1e-9)))
