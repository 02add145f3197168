"""MediaPipe Holistic: body, hands and face of one person.

Lugaresi et al., "MediaPipe: A Framework for Building Perception Pipelines", 2019, and the
BlazePose GHUM landmarks of Bazarevsky et al., 2020. Version 0.10.21 carries its models.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from mvai.detect.finish import finished
from mvai.detect.people import Spotlight, find_people, sighting, static_pose
from mvai.detect.pose_model import check_pose_model, holistic_with
from mvai.detect.quiet import quiet_graph
from mvai.detect.shots import shot_of
from mvai.detect.track import Sighting, Track, chosen, link, overlap
from mvai.detect.upside_down import QUARTERS, doubtful, inverted, trunk, turned, turned_back
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

FACE_ON_BODY = {
    "nose": "face_nose_bridge_3",
    "right_eye_outer": "face_eye_right_0",
    "left_eye_outer": "face_eye_left_3",
    "mouth_right": "face_lip_outer_0",
    "mouth_left": "face_lip_outer_6",
}
"""Body landmarks that are also points of the face mesh."""

LONGEST_PX = 960
"""Frames are scaled down to this: the networks see crops of 256 pixels."""
WARM_UP = 6
"""Frames the second worker starts early, so that its tracker has settled where it takes over."""
PARALLEL_FROM = 60
"""Clips shorter than this are not worth a second worker."""


@dataclass(frozen=True)
class MediapipeHolistic:
    """Body, hands and face with MediaPipe; depth in metres for body and hands."""

    person: int = 0
    """Whom to follow: 0 is the largest, most complete person of the clip."""
    file: Path | None = None
    """A pose landmark network of MediaPipe (.tflite), such as the heavy one, for its wheel's."""

    def detect(
        self, video: Video, progress: Callable[[int, int | None], None] | None = None
    ) -> Keypoints:
        """See `mvai.detect.Detector`."""
        progress = progress or (lambda done, total: None)
        if self.file is not None:
            check_pose_model(self.file)
        progress(0, video.frames)
        small = video.fitted(LONGEST_PX)
        with static_pose() as look:

            def find(image: Frame) -> Float[np.ndarray, "33 3"] | None:
                progress(0, video.frames)
                return look(image)

            people, cuts = find_people(small, find)
        target: Track = ()
        if people or self.person:
            target = chosen(people, self.person, video.path)
        shot = shot_of(target, cuts, video)
        near = [t for t in people if shot.start <= t[0].frame < shot.stop]
        others = tuple(t for t in near if t is not target)
        spotlight = Spotlight(target, others, video.fps)
        points, sightings = follow(small, shot, spotlight, progress, self.file)
        present = _frames_of(target, sightings, video.fps)
        points[..., :2] *= video.width, video.height
        keypoints = Keypoints(
            names=NAMES,
            xy_px=points[..., :2],
            confidence=points[..., 5],
            fps=video.fps,
            width=video.width,
            height=video.height,
            xyz_m=points[..., 2:5],
        )
        return finished(keypoints, present, video.path)


def _frames_of(
    target: Track, sightings: list[Sighting | None], fps: float
) -> Bool[np.ndarray, " frames"]:
    """The frames in which the tracker was on the target, and not on somebody else."""
    tracks = link([[s] for s in sightings if s is not None], fps)
    present = np.zeros(len(sightings), bool)

    def agreement(track: Track) -> float:
        by_frame = {s.frame: s for s in track}
        return sum(overlap(s.box_px, by_frame[s.frame].box_px)
                   for s in target if s.frame in by_frame)  # fmt: skip

    if tracks:
        # `max` takes the first of equals, which is the most important track.
        present[[s.frame for s in max(tracks, key=agreement)]] = True
    return present


# --- running the graph --------------------------------------------------------------------------


def follow(
    video: Video,
    shot: slice,
    spotlight: Spotlight,
    progress: Callable[[int, int | None], None],
    pose_model: Path | None = None,
) -> tuple[Float[np.ndarray, "frames 126 6"], list[Sighting | None]]:
    """Follows the person in the spotlight through a shot.

    Two workers take a half each: measured on 2 cores 24 ms a frame against 36 with one. They are
    threads, since MediaPipe works outside Python's lock.

    Returns:
        Per frame and point (x, y, x_m, y_m, z_m, confidence), x and y from 0 to 1, NaN and
        confidence 0 where unseen; and per frame who was seen.
    """
    length = shot.stop - shot.start
    # A damaged file may have more frames than it says.
    end = None if shot.stop == video.frames else shot.stop
    middle = shot.start + length // 2
    spans: list[tuple[int, int | None]] = [(shot.start, end)]
    if length >= PARALLEL_FROM:
        spans = [(shot.start, middle), (middle, end)]
    done = [0] * len(spans)
    stop = threading.Event()

    def work(worker: int) -> list[tuple[np.ndarray, Sighting | None]]:
        rows = []
        for row in tracked(video, spotlight, *spans[worker], pose_model, begins=shot.start):
            if stop.is_set():
                break
            rows.append(row)
            done[worker] += 1
        return rows

    with ThreadPoolExecutor(len(spans), thread_name_prefix="mediapipe") as pool:
        futures = [pool.submit(work, i) for i in range(len(spans))]
        try:
            while not all(f.done() for f in futures):
                if any(f.done() and f.exception() for f in futures):
                    break
                progress(sum(done), length)
                time.sleep(0.05)
        finally:
            # Also on Ctrl-C: the workers must not run on to the end of a long clip.
            if not all(f.done() for f in futures):
                stop.set()
        rows = [row for f in futures for row in f.result()]
    rows = [(_nothing(), None)] * shot.start + rows
    rows += [(_nothing(), None)] * (0 if end is None else video.frames - end)
    rows = looked_again(video, spotlight, rows, pose_model, shot.start)
    progress(length, length)
    points = np.stack([p for p, _ in rows]) if rows else np.full((0, len(NAMES), 6), np.nan)
    return points, [s for _, s in rows]


def tracked(
    video: Video,
    spotlight: Spotlight,
    start: int,
    end: int | None,
    pose_model: Path | None = None,
    quarters: int = 0,
    begins: int = 0,
) -> Iterator[tuple[Float[np.ndarray, "126 6"], Sighting | None]]:
    """Points and person of frames `start` to `end`, by a tracker that begins some frames earlier.

    Args:
        quarters: look at the pictures turned by so many quarters; what is found is turned back.
        begins: first frame that may be looked at.
    """
    early = max(begins, start - WARM_UP)
    with holistic(pose_model) as process:
        frames = islice(video.iterate(early), None if end is None else end - early)
        for i, image in enumerate(frames, early):
            lit = spotlight(image, i)
            row = turned_back(process(turned(lit, quarters)), quarters)
            if i >= start:
                yield row, sighting(lit, _body_px(row, video), row[BODY, 5], i)


def looked_again(
    video: Video,
    spotlight: Spotlight,
    rows: list[tuple[Float[np.ndarray, "126 6"], Sighting | None]],
    pose_model: Path | None,
    begins: int,
) -> list[tuple[Float[np.ndarray, "126 6"], Sighting | None]]:
    """With what a second look finds where the first doubtfully saw somebody upside down."""
    if not rows:
        return rows
    rows = list(rows)
    for span in doubtful(np.stack([_trunk(row, video) for row, _ in rows])):
        for quarters in QUARTERS:
            start, stop = span.start, span.stop
            again = list(tracked(video, spotlight, start, stop, pose_model, quarters, begins))
            trunks = np.stack([_trunk(row, video) for row, _ in again])
            found = np.isfinite(trunks).all(1)
            if (found & ~inverted(trunks)).mean() > 0.5:
                for i in np.flatnonzero(found):
                    rows[span.start + i] = again[i]
                break
    return rows


def _trunk(row: Float[np.ndarray, "126 6"], video: Video) -> Float[np.ndarray, "2"]:
    return trunk(_body_px(row, video))


def _body_px(row: Float[np.ndarray, "126 6"], video: Video) -> Float[np.ndarray, "33 2"]:
    return row[BODY, :2] * (video.width, video.height)


@contextlib.contextmanager
def holistic(
    pose_model: Path | None = None,
) -> Iterator[Callable[[Frame], Float[np.ndarray, "126 6"]]]:
    """A tracker to be fed consecutive frames; returns points with x, y in units of the image."""
    with quiet_graph(partial(holistic_with, pose_model)) as process:
        yield lambda image: points_from(process(image), image.shape[1], image.shape[0])


# --- reading its results ------------------------------------------------------------------------


def points_from(result, width: int, height: int) -> Float[np.ndarray, "126 6"]:
    """MediaPipe's result as (x, y, x_m, y_m, z_m, confidence) a point; x, y from 0 to 1.

    The metric body landmarks are relative to the middle of the hips, in camera axes. Hands come
    with depth relative to the wrist in units of the image width; they are hung on the body's
    metric wrist with the body's metres per pixel (weak perspective), which is as good as the
    body's own depth. The face gets no metric position.
    """
    points = _nothing()
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
        if landmarks is None:
            continue
        hand = _array(landmarks.landmark)
        wrist = NAMES.index(f"{side}_wrist")
        if _agree(hand[:1, :2], body[wrist : wrist + 1, :2], hand[:, :2], size[:2]):
            points[span, :2] = hand[:, :2]
            points[span, 2:5] = world_m[wrist] + (hand - hand[0]) * size * m_per_px
            points[span, 5] = points[wrist, 5]
    if result.face_landmarks is not None:
        face = _array(result.face_landmarks.landmark)[list(FACE_MESH_INDEX)]
        on_body = body[[NAMES.index(n) for n in FACE_ON_BODY], :2]
        on_mesh = face[[FACE_KEYPOINTS.index(n) for n in FACE_ON_BODY.values()], :2]
        if _agree(on_mesh, on_body, face[:, :2], size[:2]):
            points[FACE, :2] = face[:, :2]
            points[FACE, 5] = points[NAMES.index("nose"), 5]
    outside = ((points[:, :2] < -0.02) | (points[:, :2] > 1.02)).any(axis=1)
    points[outside, :2] = np.nan
    points[outside, 5] = 0.0
    return points


def _nothing() -> Float[np.ndarray, "126 6"]:
    """Points of a frame in which nobody is seen."""
    points = np.full((len(NAMES), 6), np.nan)
    points[:, 5] = 0.0
    return points


def _agree(
    own: Float[np.ndarray, "points 2"],
    on_body: Float[np.ndarray, "points 2"],
    part: Float[np.ndarray, "all 2"],
    size_px: Float[np.ndarray, "2"],
) -> bool:
    """Whether a hand or face lies where the body has it, to within half its own size.

    In back views the face network sees faces in hair and on shoulders.
    """
    off_px = np.linalg.norm((own - on_body) * size_px, axis=1).mean()
    return bool(off_px < 0.5 * (np.ptp(part, axis=0) * size_px).max())


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
