"""Clips that nobody drew: motion capture before a camera, with errors as a detector makes them.

They cost next to nothing and teach a network bodies and movements; drawn clips teach it the
detector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mvai.benchmark.poses import PoseClip
from mvai.benchmark.scenes import Scene, random_scene, varied
from mvai.benchmark.stances import in_place
from mvai.benchmark.tumbling import TUMBLING, tumbling
from mvai.body.model import LinearBody
from mvai.nets.landmark_correction import MIRROR, POINTS
from mvai.train.true_landmarks import LIMBS, truth
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

FRAMES = 64
"""Length of a projected clip."""
DONORS = 40
"""Drawn clips among which the likest is sought."""
OTHER_ARMS = 0.5
"""Share of the projected clips with the arms of another capture."""
ARMS = [i for i, n in enumerate(BODY_JOINTS) if "Arm" in n or "Hand" in n]


def projected(body: LinearBody, scene: Scene, rng: np.random.Generator) -> Keypoints:
    """Key-points of a scene without drawing it: true landmarks, with errors that last.

    A detector's errors are not white: most of a landmark's error stays for a second. Such clips
    cost next to nothing and teach the network bodies and movements; the drawn ones teach it the
    detector.
    """
    target = truth(body, scene)
    points = scene.joints_and_points(body, BODY_KEYPOINTS)[1]
    frames = len(target)
    xy = scene.camera.project(points.astype(float))
    torso = np.linalg.norm(xy[:, 11:13].mean(1) - xy[:, 23:25].mean(1), axis=-1).max()
    pixel_m = 0.5 / max(torso, 1.0)

    def lasting(scale: float, dims: int) -> np.ndarray:
        """Noise of unit variance times scale: half constant, half changing over about 0.3 s."""
        slow = gaussian_filter1d(rng.normal(size=(frames + 40, POINTS, dims)), 5, axis=0)[20:-20]
        slow = slow / max(slow.std(), 1e-6)
        constant = rng.normal(size=(1, POINTS, dims))
        return scale * (0.7 * slow + 0.7 * constant)

    xy = xy + lasting(rng.uniform(0.005, 0.02) / pixel_m, 2)
    error = lasting(1.0, 3) * np.array([0.025, 0.025, 0.06]) * rng.uniform(0.5, 1.3)
    lean = Rotation.from_euler("X", rng.normal() * 0.12).as_matrix()
    xyz = (target * rng.uniform(0.85, 1.1)) @ lean.T + error
    confidence = np.clip(rng.uniform(0.6, 1.0, POINTS) + 0 * xy[..., 0], 0, 1)
    return Keypoints(
        BODY_KEYPOINTS, xy, confidence, scene.fps, scene.camera.width, scene.camera.height,
        None if rng.random() < 0.3 else xyz,
    )  # fmt: skip


@dataclass(frozen=True)
class DetectorErrors:
    """What a detector got wrong in one drawn clip, as it was or in a mirror."""

    posture: Float[np.ndarray, "frames 33 3"]
    """The truth at which the errors were made, as `truth` gives it."""
    xy: Float[np.ndarray, "frames 33 2"]
    """In sizes of the body in the picture; NaN where nothing was seen."""
    xyz_m: Float[np.ndarray, "frames 33 3"]
    confidence: Float[np.ndarray, "frames 33"]

    def mirrored(self) -> DetectorErrors:
        """The same errors on the other side."""

        def turned(points: np.ndarray) -> np.ndarray:
            points = points[:, MIRROR].copy()
            points[..., 0] *= -1
            return points

        return DetectorErrors(
            turned(self.posture), turned(self.xy), turned(self.xyz_m), self.confidence[:, MIRROR]
        )


def detector_errors(
    scene: Scene, body: LinearBody, keypoints: Keypoints, posture: Float[np.ndarray, "frames 33 3"]
) -> DetectorErrors:
    """The errors of a drawn clip."""
    assert keypoints.xyz_m is not None
    xy = scene.camera.project(scene.joints_and_points(body, BODY_KEYPOINTS)[1].astype(float))
    return DetectorErrors(
        posture,
        (keypoints.xy_px[:, :POINTS] - xy) / picture_size(xy)[:, None, None],
        keypoints.xyz_m[:, :POINTS] - posture,
        keypoints.confidence[:, :POINTS],
    )


def picture_size(xy_px: Float[np.ndarray, "frames 33 2"]) -> Float[np.ndarray, " frames"]:
    """Root mean square distance of a body's landmarks from their middle."""
    centred = xy_px - xy_px.mean(1, keepdims=True)
    return np.sqrt((centred**2).sum(-1).mean(1))


def with_borrowed_errors(
    body: LinearBody, scene: Scene, donors: list[DetectorErrors], rng: np.random.Generator
) -> Keypoints:
    """Key-points of a scene without drawing it, with the errors of a drawn clip.

    The donor is the one of some random clips in which the person stands most alike, because how a
    detector errs depends on the posture and on the side from which it is seen.
    """
    target = truth(body, scene)
    frames = len(target)
    # A donor that is too short is played back and forth.
    turn = lambda n: np.abs((np.arange(frames) + n - 1) % (2 * n - 2) - (n - 1))  # noqa: E731
    chosen = [donors[i] for i in rng.choice(len(donors), DONORS)]
    ordered = [turn(len(d.posture)) for d in chosen]
    apart = [
        np.linalg.norm((d.posture[o] - target)[:, LIMBS], axis=-1).mean()
        for d, o in zip(chosen, ordered, strict=True)
    ]
    best = int(np.argmin(apart))
    donor, order = chosen[best], ordered[best]
    share = rng.uniform(0.0, 1.2)
    xy = scene.camera.project(scene.joints_and_points(body, BODY_KEYPOINTS)[1].astype(float))
    xy = xy + share * donor.xy[order] * picture_size(xy)[:, None, None]
    return Keypoints(
        BODY_KEYPOINTS, xy, donor.confidence[order], scene.fps, scene.camera.width,
        scene.camera.height, target + share * donor.xyz_m[order],
    )  # fmt: skip


def random_posture_clip(
    body: LinearBody, captures: list[PoseClip], rng: np.random.Generator
) -> PoseClip:
    """A stretch of a capture, mirrored or turned in some joints, at times with another's arms, on
    the spot, or lying, crawling, rolling over."""
    clip = stretch(captures, rng)
    if rng.random() < OTHER_ARMS:
        other = stretch(captures, rng)
        frames = min(clip.frames, other.frames)
        pose = clip.pose[:frames].copy()
        pose[:, ARMS] = other.pose[:frames, ARMS]
        clip = replace(
            clip, pose=pose, translation=clip.translation[:frames], measured=clip.measured[:frames]
        )
    clip = tumbling(body, clip, rng) if rng.random() < TUMBLING else in_place(body, clip, rng)
    return varied(clip, rng)


def stretch(captures: list[PoseClip], rng: np.random.Generator) -> PoseClip:
    """At most `FRAMES` frames of a random capture; long captures are as likely as short ones."""
    clip = captures[rng.integers(len(captures))]
    start = int(rng.integers(0, max(1, clip.frames - FRAMES + 1)))
    span = slice(start, start + FRAMES)
    return replace(
        clip, pose=clip.pose[span], translation=clip.translation[span], measured=clip.measured[span]
    )


def projected_clips(
    body: LinearBody,
    drawn: list[tuple[Scene, Keypoints]],
    captures: list[PoseClip],
    count: int,
    borrowed: float,
    rng: np.random.Generator,
) -> list[tuple[Scene, Keypoints]]:
    """Scenes that nobody drew, with key-points as a detector might have found them.

    Args:
        drawn: clips that lend their errors.
        borrowed: share of the clips with such errors; the others have errors drawn at random.
    """
    donors = [detector_errors(s, body, k, truth(body, s)) for s, k in drawn]
    donors += [d.mirrored() for d in donors]
    clips: list[tuple[Scene, Keypoints]] = []
    for seed in range(count):
        scene = random_scene(body, random_posture_clip(body, captures, rng), seed, frames=FRAMES)
        if rng.random() < borrowed:
            clips.append((scene, with_borrowed_errors(body, scene, donors, rng)))
        else:
            clips.append((scene, projected(body, scene, rng)))
    return clips
