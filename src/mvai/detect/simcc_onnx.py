"""Pose networks of RTMPose's kind in ONNX files: one person's crop in, coordinates as
classifications out (SimCC; Li et al., ECCV 2022; Jiang et al., "RTMPose", 2023).

Input (1, 3, height, width), RGB normalised by ImageNet's mean and deviation. Two outputs
(1, points, bins), over the width and the height; the bin with the largest value is the coordinate.
Who is where is found with MediaPipe, as for its own detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai.detect.finish import finished
from mvai.detect.layouts import COCO_17, LAYOUTS
from mvai.detect.people import SPACING_S, find_people, static_pose
from mvai.detect.shots import shot_of
from mvai.detect.track import Track, box_at, chosen
from mvai.io.video import Frame, Video
from mvai.types import Keypoints, MvaiError

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
PADDING = 1.25
"""The crop is this much larger than the person's box, as in training."""
LONGEST_PX = 960
SURE = 0.3
"""Mean confidence of the body above which the next crop may follow the points."""


@dataclass(frozen=True)
class SimccOnnx:
    """Body, hands and face with an RTMPose network (.onnx; needs mvai[onnx])."""

    file: Path
    """The network: 17 (COCO), 26 (Halpe) or 133 (COCO-WholeBody) points."""
    person: int = 0
    """Whom to follow: 0 is the largest, most complete person of the clip."""

    def detect(
        self, video: Video, progress: Callable[[int, int | None], None] | None = None
    ) -> Keypoints:
        """See `mvai.detect.Detector`."""
        progress = progress or (lambda done, total: None)
        network = Network.load(self.file)
        progress(0, video.frames)
        small = video.fitted(LONGEST_PX)
        with static_pose() as find:
            people, cuts = find_people(small, find)
        target: Track = chosen(people, self.person, video.path) if people or self.person else ()
        names = LAYOUTS[network.points]
        values = np.zeros((video.frames, len(names), 3))
        present = np.zeros(video.frames, bool)
        scale = video.width / small.width
        last: np.ndarray | None = None
        shot = shot_of(target, cuts, video)
        part = video.part(shot.start, shot.stop)
        for f, image in enumerate(part.iterate(), shot.start):
            box = last
            if target and (found := box_at(target, f, 1.5 * SPACING_S * video.fps)) is not None:
                box = found * scale if last is None else _union(found * scale, last)
            if box is not None:
                points = network(image, box)
                sure = points[: len(COCO_17), 2].mean() > SURE
                last = _box(points[: len(COCO_17)]) if sure else None
                if sure:
                    values[f], present[f] = points, True
            progress(f + 1 - shot.start, part.frames)
        used = np.array([bool(n) for n in names])
        keypoints = Keypoints(
            names=tuple(n for n in names if n),
            xy_px=np.where(values[..., 2:] > 0, values[..., :2], np.nan)[:, used],
            confidence=np.clip(values[:, used, 2], 0.0, 1.0),
            fps=video.fps,
            width=video.width,
            height=video.height,
        )
        return finished(keypoints, present, video.path)


@dataclass(frozen=True)
class Network:
    """A SimCC network and its sizes."""

    session: Any
    width: int
    height: int
    points: int

    @classmethod
    def load(cls, file: Path) -> Network:
        """Opens an ONNX file.

        Raises:
            MvaiError: onnxruntime is missing, or the file is no such network.
        """
        if not file.is_file():
            raise MvaiError(f"{file}: there is no such file; give an RTMPose network (.onnx).")
        try:
            import onnxruntime
        except ImportError as error:
            raise MvaiError(
                f"{file}: ONNX files need onnxruntime: pip install 'mvai[onnx]'."
            ) from (error)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            session: Any = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
            (entry,) = session.get_inputs()
            _, channels, height, width = entry.shape
            picture = np.zeros((1, 3, int(height), int(width)), np.float32)
            x, y = session.run(None, {entry.name: picture})
            fits = channels == 3 and x.ndim == y.ndim == 3 and x.shape[:2] == y.shape[:2]
        # onnxruntime raises classes of its own, which share no base but Exception.
        except Exception as error:
            raise MvaiError(_no_network(file)) from error
        if not fits or x.shape[1] not in LAYOUTS:
            raise MvaiError(_no_network(file))
        return cls(session, int(width), int(height), int(x.shape[1]))

    def __call__(
        self, image: Frame, box_px: Float[np.ndarray, "4"]
    ) -> Float[np.ndarray, "points 3"]:
        """Pixels in the image and confidence of every point of the person in the box."""
        import cv2

        centre = (box_px[:2] + box_px[2:]) / 2
        size = (box_px[2:] - box_px[:2]) * PADDING
        # The crop keeps the network's aspect ratio.
        per_px = max(size[0] / self.width, size[1] / self.height, 1e-3)
        corner = centre - per_px * np.array([self.width, self.height]) / 2
        T_crop_image = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]]) / per_px
        crop = cv2.warpAffine(image, T_crop_image, (self.width, self.height))
        x = ((crop.astype(np.float32) - MEAN) / DEVIATION).transpose(2, 0, 1)[None]
        bins_x, bins_y = self.session.run(None, {self.session.get_inputs()[0].name: x})
        at = np.stack([bins_x[0].argmax(-1) * self.width / bins_x.shape[-1],
                       bins_y[0].argmax(-1) * self.height / bins_y.shape[-1]], 1)  # fmt: skip
        score = np.minimum(bins_x[0].max(-1), bins_y[0].max(-1))
        return np.concatenate([at * per_px + corner, np.clip(score, 0, 1)[:, None]], 1)


def _no_network(file: Path) -> str:
    return (
        f"{file}: this is no pose network with SimCC outputs over "
        f"{', '.join(map(str, LAYOUTS))} points; give an RTMPose network (.onnx)."
    )


def _box(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "4"] | None:
    """Around the points that are seen."""
    seen = points[points[:, 2] > SURE, :2]
    if len(seen) < 5:
        return None
    return np.concatenate([seen.min(0), seen.max(0)])


def _union(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
