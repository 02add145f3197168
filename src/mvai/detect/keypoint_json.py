"""Key-points in one JSON file: COCO's layout (results or annotations) and MMPose's.

COCO results are a list of people with `image_id` and a flat `keypoints` (x, y, score); annotations
hold the same list beside the list of `images`. Whole-body files add `foot_kpts`, `face_kpts`,
`lefthand_kpts` and `righthand_kpts`. MMPose writes `instance_info` with a list of `instances` a
frame. A folder holds one file a frame, each a list of instances.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvai.detect.finish import of_part
from mvai.detect.layouts import COCO_17, LAYOUTS
from mvai.detect.several import Person, one_of
from mvai.io.folders import files_matching
from mvai.io.video import Video, natural_order
from mvai.types import Keypoints, MvaiError

PARTS = (("keypoints", 17), ("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21),
         ("righthand_kpts", 21))  # fmt: skip
"""Fields of a whole-body entry and their numbers of points."""


@dataclass(frozen=True)
class KeypointJson:
    """Key-points of the video in a COCO or MMPose JSON file."""

    file: Path
    """The file, or a folder with one a frame."""
    person: int = 0
    """Whom to follow: 0 is the largest, most complete person of the clip."""

    def detect(
        self, video: Video, progress: Callable[[int, int | None], None] | None = None
    ) -> Keypoints:
        """See `mvai.detect.Detector`."""
        found = _read(self.file)
        people = _by_frame(found, (video.whole or video).frames, self.file)
        everybody = [p for frame in people for p in frame]
        counts = {len(p) for p in everybody}
        if len(counts) > 1 or (counts and not counts <= LAYOUTS.keys()):
            raise MvaiError(
                f"{self.file}: people have {', '.join(map(str, sorted(counts)))} points; "
                f"{', '.join(map(str, LAYOUTS))} (COCO, Halpe, COCO-WholeBody) can be read."
            )
        if everybody and max(float(p[:, :2].max()) for p in everybody) <= 1.0 < video.width:
            raise MvaiError(f"{self.file}: the coordinates are not pixels; write them as pixels.")
        names = LAYOUTS[counts.pop()] if counts else COCO_17
        body = len(COCO_17)
        if progress is not None:
            progress(video.frames, video.frames)
        keypoints = one_of(
            people, names, body, video.fps, video.width, video.height, self.person, self.file
        )
        return of_part(keypoints, video, self.file)


def _read(path: Path) -> dict[Any, list[Person]]:
    """Everybody by the file's own frame."""
    if not path.exists():
        raise MvaiError(f"{path}: there is no such file; give a COCO or MMPose JSON file.")
    files = sorted(files_matching(path, "*.json"), key=natural_order) if path.is_dir() else [path]
    found: dict[Any, list[Person]] = {}
    for number, file in enumerate(files):
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
            if path.is_dir():
                entries = content.get("instances", []) if isinstance(content, dict) else content
                found[number] = [_person(e) for e in entries]
            else:
                found = _people(content)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
                OSError) as error:  # fmt: skip
            raise MvaiError(
                f"{file}: these are no key-points as COCO or MMPose have them; write them again."
            ) from error
    if not found:
        raise MvaiError(f"{path}: it holds no frames; give a COCO or MMPose JSON file.")
    return found


def _people(content: Any) -> dict[Any, list[Person]]:
    found: dict[Any, list[Person]] = {}
    if isinstance(content, Mapping) and "instance_info" in content:
        for row in content["instance_info"]:
            found[int(row["frame_id"])] = [_person(e) for e in row["instances"]]
        return found
    names: dict[Any, Any] = {}
    entries = content
    if isinstance(content, Mapping):
        entries = content["annotations"]
        ordered = sorted(content["images"], key=lambda i: natural_order(Path(str(i["file_name"]))))
        names = {image["id"]: f"{i}" for i, image in enumerate(ordered)}
        found = {i: [] for i in range(len(ordered))}
    for entry in entries:
        frame = _number(names.get(entry["image_id"], entry["image_id"]))
        found.setdefault(frame, []).append(_person(entry))
    return found


def _number(image: Any) -> int:
    """The frame that an image's number or name stands for."""
    if isinstance(image, int):
        return image
    return int(re.findall(r"\d+", str(image))[-1])


def _person(entry: Mapping[str, Any]) -> Person:
    """Points of one entry, all parts one after the other."""
    points = np.array(entry["keypoints"], np.float64)
    if "keypoint_scores" in entry:
        scores = np.array(entry["keypoint_scores"], np.float64)
        points = np.concatenate([points.reshape(-1, 2), scores.reshape(-1, 1)], 1)
    points = points.reshape(-1, 3)
    if any(field in entry for field, _ in PARTS[1:]):
        parts = [np.array(entry.get(f) or [0.0] * 3 * n, np.float64) for f, n in PARTS[1:]]
        points = np.concatenate([points, *(p.reshape(-1, 3) for p in parts)])
    if (points[:, 2] > 1.0).any() and set(np.unique(points[:, 2])) <= {0.0, 1.0, 2.0}:
        # COCO's visibility: 0 not labelled, 1 hidden, 2 visible.
        points[:, 2] /= 2
    # NaN or infinite values count as unseen.
    return np.where(np.isfinite(points).all(axis=1, keepdims=True), points, 0.0)


def _by_frame(found: dict[Any, list[Person]], frames: int, path: Path) -> list[list[Person]]:
    """Everybody by frame of the video.

    Frame numbers count from 0 or from 1; numbers of other kinds only tell the order.
    """
    first, last = min(found), max(found)
    if last < frames and first >= 0 and not (first == 1 and len(found) == frames):
        start = 0
    elif first >= 1 and last <= frames:
        start = 1
    elif abs(len(found) - frames) <= max(2, 0.02 * frames):
        found = {i: found[k] for i, k in enumerate(sorted(found))}
        start = 0
    else:
        raise MvaiError(
            f"{path}: it has {len(found)} frames, numbered {first} to {last}, for a video of "
            f"{frames}; give the file made from this video."
        )
    return [found.get(i + start, []) for i in range(frames)]
