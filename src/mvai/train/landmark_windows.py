"""What the landmark correction is shown of a clip: a window, seen in one of many ways."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mvai.nets.landmark_correction import MIRROR, POINTS, features
from mvai.types import Keypoints
from mvai.types.names import BODY_KEYPOINTS

WINDOW = 24
_DETAILS = tuple(
    n
    for n in BODY_KEYPOINTS
    if n.split("_")[-1] in ("inner", "outer", "pinky", "thumb")
    or "mouth" in n
    or n in ("left_index", "right_index")
)
_FEET = tuple(n for n in BODY_KEYPOINTS if "heel" in n or "foot" in n)
UNCOMMON = ((), _DETAILS, _DETAILS, (*_DETAILS, *_FEET))
"""Landmarks that other detectors lack: OpenPose has no details, COCO no feet either."""
ROLLED = 0.15
"""Share of the windows turned in the picture by any angle; the others are turned a little. The
detector aligns its crop with the trunk, so that its errors turn with the person."""
RATES = (15.0, 15.0, 15.0, 15.0, 10.0, 7.5, 5.0)
"""Frame rates drawn in training: the network's own, and those of slower video."""


@dataclass(frozen=True)
class View:
    """A stretch of a clip seen another way: at another rate, in a mirror, by a rolled camera."""

    span: slice
    mirror: bool
    roll: Float[np.ndarray, "2 2"]
    """Turns the picture."""

    @property
    def frames(self) -> int:
        return len(range(self.span.start, self.span.stop, self.span.step))

    def points(self, points: Float[np.ndarray, "frames 33 d"]) -> Float[np.ndarray, "n 33 d"]:
        """Landmarks (pixels or metres, y down) in this view."""
        points = points[self.span].copy()
        if self.mirror:
            points = points[:, MIRROR]
            points[..., 0] *= -1
        points[..., :2] = points[..., :2] @ self.roll.T
        return points


def random_view(keypoints: Keypoints, rng: np.random.Generator) -> View:
    """A stretch of a clip at some rate, now and then mirrored, turned in the picture."""
    stride = max(1, round(keypoints.fps / rng.choice(RATES)))
    stride = min(stride, max(1, keypoints.frames // 8))
    length = min(WINDOW, keypoints.frames // stride)
    start = int(rng.integers(0, keypoints.frames - length * stride + 1))
    a = rng.uniform(-np.pi, np.pi) if rng.random() < ROLLED else rng.normal() * 0.1
    c, s = np.cos(a), np.sin(a)
    return View(
        slice(start, start + length * stride, stride),
        bool(rng.random() < 0.5),
        np.array([[c, -s], [s, c]]),
    )


def augmented(
    keypoints: Keypoints, view: View, rng: np.random.Generator
) -> Float[np.ndarray, "window 33 7"]:
    """The network's input for a view of a clip, with noise and missing landmarks; short windows
    repeat their last frame."""
    xy = view.points(keypoints.xy_px[:, :POINTS])
    xyz = np.full((*xy.shape[:2], 3), np.nan)
    if keypoints.xyz_m is not None:
        xyz = view.points(keypoints.xyz_m[:, :POINTS])
    confidence = keypoints.confidence[view.span, :POINTS].copy()
    if view.mirror:
        confidence = confidence[:, MIRROR]
    xy += rng.normal(size=xy.shape) * rng.uniform(0, 0.012) * np.nanstd(xy[..., 1])
    xyz += rng.normal(size=xyz.shape) * rng.uniform(0, 0.03)
    gone = rng.random(POINTS) < (rng.random() < 0.3) * 0.2
    # Detectors other than MediaPipe mostly give pixels only, and fewer landmarks.
    pixels_only = rng.random() < 0.3
    if pixels_only:
        xyz[:] = np.nan
        confidence = np.where(
            np.isfinite(confidence), np.clip(confidence + rng.normal() * 0.1, 0, 1), 0
        )
    if pixels_only or rng.random() < 0.1:
        gone |= np.isin(BODY_KEYPOINTS, UNCOMMON[int(rng.integers(len(UNCOMMON)))])
    xy[:, gone], xyz[:, gone], confidence[:, gone] = np.nan, np.nan, 0.0
    x = features(replace(
        keypoints, names=BODY_KEYPOINTS, xy_px=xy, xyz_m=xyz, confidence=confidence,
        fps=keypoints.fps / view.span.step, present=None,
    ))  # fmt: skip
    return padded(x)


def padded(x: Float[np.ndarray, "frames *rest"]) -> Float[np.ndarray, "window *rest"]:
    """Fills a window up by repeating the last frame."""
    return np.pad(x, ((0, WINDOW - len(x)), *(((0, 0),) * (x.ndim - 1))), mode="edge")
