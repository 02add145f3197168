"""Key-points that OpenPose wrote: a folder of JSON files, one a frame.

Cao et al., "OpenPose: Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", 2019.
The order of the points is that of its documentation for BODY_25 and BODY_25B.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mvai.detect.finish import of_part
from mvai.detect.several import Person, one_of
from mvai.io.folders import files_matching
from mvai.io.video import Video, natural_order
from mvai.types import Keypoints, MvaiError
from mvai.types.names import FACE_KEYPOINTS, LEFT_HAND_KEYPOINTS, RIGHT_HAND_KEYPOINTS

Model = Literal["auto", "BODY_25", "BODY_25B"]

BODY_25 = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist",
    "left_shoulder", "left_elbow", "left_wrist",
    "mid_hip",
    "right_hip", "right_knee", "right_ankle",
    "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
    "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
BODY_25B = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "neck", "head_top",
    "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip

BODIES = {"BODY_25": BODY_25, "BODY_25B": BODY_25B}

FIRST_INNER_FACE = 17
"""Of OpenPose's 70 face points the first 17 are the jaw line and the last 2 the pupils."""

PARTS = (
    ("pose_keypoints_2d", 25, slice(None), ()),
    ("hand_left_keypoints_2d", 21, slice(None), LEFT_HAND_KEYPOINTS),
    ("hand_right_keypoints_2d", 21, slice(None), RIGHT_HAND_KEYPOINTS),
    ("face_keypoints_2d", 70, slice(FIRST_INNER_FACE, FIRST_INNER_FACE + 51), FACE_KEYPOINTS),
)
"""JSON field, its number of points, which of them are used, and their names."""


@dataclass(frozen=True)
class OpenPoseFiles:
    """Key-points OpenPose wrote for the video."""

    folder: Path
    """Folder of its JSON files."""
    person: int = 0
    """Whom to follow: 0 is the largest, most complete person of the clip."""
    model: Model = "auto"
    """The body model that OpenPose ran with."""

    def detect(
        self, video: Video, progress: Callable[[int, int | None], None] | None = None
    ) -> Keypoints:
        """See `mvai.detect.Detector`."""
        keypoints = read_openpose(
            self.folder, video.fps, video.width, video.height, self.person, self.model
        )
        whole = video.whole or video
        if abs(keypoints.frames - whole.frames) > max(2, 0.02 * whole.frames):
            raise MvaiError(
                f"{self.folder}: there are {keypoints.frames} key-point files for a video of "
                f"{whole.frames} frames; give the folder made from this video."
            )
        keypoints = of_part(keypoints, video, self.folder)
        if progress is not None:
            progress(keypoints.frames, keypoints.frames)
        return keypoints


def read_openpose(
    folder: str | Path,
    fps: float,
    width: int,
    height: int,
    person: int = 0,
    model: Model = "auto",
) -> Keypoints:
    """Reads one person from a folder of OpenPose JSON files.

    Args:
        folder: `*.json`, one a frame, in natural order of their names.
        fps: frame rate of the video they come from.
        width: of that video, pixels.
        height: of that video, pixels.
        person: 0 is the largest, most complete person.
        model: "auto" tells the body models apart by where the hips lie.

    Raises:
        MvaiError: no or unreadable files, no people, or not enough of the person.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MvaiError(f"{folder}: there is no such folder; give the one OpenPose wrote to.")
    files = sorted(files_matching(folder, "*.json"), key=natural_order)
    if not files:
        raise MvaiError(f"{folder}: the folder has no JSON files; give the one OpenPose wrote to.")
    people = [_read_file(f) for f in files]
    everybody = [p for frame in people for p in frame]
    if not everybody:
        raise MvaiError(
            f"{folder}: OpenPose found nobody in any frame; give a video with a visible person."
        )
    if max(float(p[:, :2].max()) for p in everybody) <= 1.0 < width:
        raise MvaiError(
            f"{folder}: the coordinates are not pixels; run OpenPose with --keypoint_scale 0."
        )
    body = BODIES[_model(everybody) if model == "auto" else model]
    names = (*body, *(n for *_, names_ in PARTS for n in names_))
    return one_of(people, names, len(body), fps, width, height, person, folder)


def _read_file(path: Path) -> list[Person]:
    """All people of one frame."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return [_person(entry, path) for entry in content["people"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise MvaiError(
            f"{path}: this is not a key-point file as OpenPose writes it; "
            "run OpenPose again with --write_json."
        ) from error


def _person(entry: Any, path: Path) -> Person:
    parts = []
    for field, count, used, _ in PARTS:
        flat = entry.get(field) or [0.0] * (3 * count)
        points = np.array(flat, float)
        if field == "pose_keypoints_2d" and points.size != 3 * count:
            raise MvaiError(
                f"{path}: the body has {points.size // 3} points and not 25; "
                "run OpenPose with --model_pose BODY_25."
            )
        points = points.reshape(count, 3)[used]
        # NaN or infinite values count as unseen.
        parts.append(np.where(np.isfinite(points).all(axis=1, keepdims=True), points, 0.0))
    return np.concatenate(parts)


def _model(people: list[Person]) -> Literal["BODY_25", "BODY_25B"]:
    """BODY_25 has its points 1 and 8 midway between both shoulders and both hips."""
    errors = []
    for p in people:
        for middle, a, b in ((1, 2, 5), (8, 9, 12)):
            if (p[[middle, a, b], 2] > 0.1).all():
                off = np.linalg.norm(p[middle, :2] - (p[a, :2] + p[b, :2]) / 2)
                seen = p[:25][p[:25, 2] > 0.1, :2]
                errors.append(off / max(np.ptp(seen, axis=0).max(), 1.0))
    return "BODY_25" if errors and np.median(errors) < 0.06 else "BODY_25B"
