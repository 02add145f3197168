"""MediaPipe's pose landmarker from a `.task` file that the user downloaded.

The bundles of MediaPipe Tasks (lite, full, heavy) see several people at once; version 0.10.21 runs
them beside the models that it carries itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvai.detect.finish import finished
from mvai.detect.people import sighting
from mvai.detect.quiet import quiet_stderr
from mvai.detect.shots import cuts_in, shot_of, thumbnail
from mvai.detect.track import Sighting, chosen, link
from mvai.io.video import Video
from mvai.types import Keypoints, MvaiError
from mvai.types.names import BODY_KEYPOINTS

LONGEST_PX = 960
"""Frames are scaled down to this: the networks see crops of 256 pixels."""
MOST_PEOPLE = 4


@dataclass(frozen=True)
class MediapipeTask:
    """Body landmarks with a pose model (.task) of MediaPipe; follows one of several people."""

    file: Path
    """The downloaded file, such as pose_landmarker_heavy.task."""
    person: int = 0
    """Whom to follow: 0 is the largest, most complete person of the clip."""

    def detect(
        self, video: Video, progress: Callable[[int, int | None], None] | None = None
    ) -> Keypoints:
        """See `mvai.detect.Detector`."""
        import mediapipe as mp

        progress = progress or (lambda done, total: None)
        small = video.fitted(LONGEST_PX)
        landmarker = _landmarker(self.file)
        points: list[list[np.ndarray]] = []
        sightings: list[list[Sighting]] = []
        small_pictures = []
        with landmarker:
            for f, image in enumerate(small.iterate()):
                picture = mp.Image(
                    image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)
                )
                with quiet_stderr():
                    result = landmarker.detect_for_video(picture, round(1000 * f / video.fps))
                people = _people(result)
                found = []
                for i, p in enumerate(people):
                    xy_px = p[:, :2] * (small.width, small.height)
                    seen = sighting(image, xy_px, p[:, 5], f, i)
                    found += [] if seen is None else [seen]
                points.append(people)
                small_pictures.append(thumbnail(image))
                sightings.append(found)
                progress(f + 1, video.frames)
        cuts = cuts_in(small_pictures)
        tracks = link(sightings, video.fps, cuts)
        target = chosen(tracks, self.person, video.path) if tracks or self.person else ()
        shot_of(target, cuts, video)
        values = np.full((len(points), len(BODY_KEYPOINTS), 6), np.nan)
        values[..., 5] = 0.0
        present = np.zeros(len(points), bool)
        for s in target:
            values[s.frame], present[s.frame] = points[s.frame][s.index], True
        keypoints = Keypoints(
            names=BODY_KEYPOINTS,
            xy_px=values[..., :2] * (video.width, video.height),
            confidence=values[..., 5],
            fps=video.fps,
            width=video.width,
            height=video.height,
            xyz_m=values[..., 2:5],
        )
        return finished(keypoints, present, video.path)


def _landmarker(file: Path) -> Any:
    """The model, ready for a video's frames in order."""
    if not file.is_file():
        raise MvaiError(f"{file}: there is no such file; download a pose landmarker (.task).")
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(file)),
        running_mode=vision.RunningMode.VIDEO,
        num_poses=MOST_PEOPLE,
        min_pose_detection_confidence=0.3,
    )
    try:
        with quiet_stderr():
            return vision.PoseLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        raise MvaiError(
            f"{file}: this is no pose landmarker of MediaPipe; "
            "download pose_landmarker_lite, _full or _heavy (.task)."
        ) from error


def _people(result: Any) -> list[np.ndarray]:
    """(33, 6) a person: x, y from 0 to 1, metres relative to the hips, confidence."""
    out = []
    for image, world in zip(result.pose_landmarks, result.pose_world_landmarks, strict=True):
        out.append(
            np.array(
                [(a.x, a.y, b.x, b.y, b.z, a.visibility) for a, b in zip(image, world, strict=True)]
            )
        )
    return out
