"""A folder of rendered clips with what a detector saw in them and the truth, for training.

Every clip is a file of its own, written whole, named by its number; a run that was interrupted
goes on where it stopped. Clips of people held out from the pose prior are kept apart for testing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mvai.body.model import LinearBody
from mvai.detect.mediapipe_holistic import NAMES, holistic
from mvai.io.atomic import written_whole
from mvai.train.pose_prior import is_held_out
from mvai.train.poses import PoseClip, poses_in_folder
from mvai.train.rendered import Scene, draw, random_scene
from mvai.types import Camera, Keypoints, MvaiError

FRAMES, STEP = 24, 2
"""Frames a clip, and how many frames of capture (30 a second) lie between them."""
SIZES = ((480, 360), (360, 480), (480, 270))
TEST_EVERY = 12
"""One clip of a held-out person comes to so many others."""
STEEPEST = 0.7
"""Scenes in which the camera looks down more steeply than this (sine) are left out."""
PER_TRACKER = 20
"""Clips seen by one tracker; grey pictures between them make it let go of the last person."""


def render_clips(
    data: Path,
    out: Path,
    count: int,
    body: LinearBody,
    seed: int = 0,
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Draw `count` clips of the BVH files below `data` and keep what MediaPipe sees in them.

    Raises:
        MvaiError: there is no usable motion capture below `data`.
    """
    out.mkdir(parents=True, exist_ok=True)
    captures = [thinned(c) for c in poses_in_folder(data, body, out / "poses")]
    captures = [c for c in captures if c.frames >= FRAMES]
    pools = {
        "train": [c for c in captures if not is_held_out(c.name)],
        "test": [c for c in captures if is_held_out(c.name)],
    }
    if not all(pools.values()):
        raise MvaiError(
            f"{data}: too little motion capture here; clips of both trained and held-out people "
            "are needed."
        )
    done = 0
    while done < count:
        with holistic() as detect:
            for number in range(done, min(done + PER_TRACKER, count)):
                pool = "test" if number % TEST_EVERY == 0 else "train"
                path = out / f"{pool}_{number:05d}.npz"
                if not path.exists():
                    rng = np.random.default_rng([seed, number])
                    lengths = np.minimum([c.frames for c in pools[pool]], 300).astype(float)
                    capture = pools[pool][rng.choice(len(lengths), p=lengths / lengths.sum())]
                    scene = random_scene(
                        body, capture, int(rng.integers(2**31)), FRAMES, SIZES[rng.integers(3)]
                    )
                    save_clip(path, scene, seen_by(detect, body, scene))
                report(number + 1, count)
        done = min(done + PER_TRACKER, count)


def thinned(capture: PoseClip) -> PoseClip:
    """Every other frame: neighbours teach little, and drawing costs most of the time."""
    return replace(
        capture,
        pose=capture.pose[::STEP],
        translation=capture.translation[::STEP],
        measured=capture.measured[::STEP],
        fps=capture.fps / STEP,
    )


def seen_by(detect, body: LinearBody, scene: Scene) -> Keypoints:
    """What the tracker sees of a scene."""
    width, height = scene.camera.width, scene.camera.height
    for _ in range(2):
        detect(np.full((height, width, 3), 127, np.uint8))
    points = np.stack([detect(picture) for picture in draw(body, scene)])
    return Keypoints(
        names=NAMES,
        xy_px=points[..., :2] * [width, height],
        confidence=points[..., 5],
        fps=scene.fps,
        width=width,
        height=height,
        xyz_m=points[..., 2:5],
    )


def save_clip(path: Path, scene: Scene, keypoints: Keypoints) -> None:
    """Write one clip, whole or not at all."""
    assert keypoints.xyz_m is not None
    with written_whole(path) as temporary:
        np.savez_compressed(
            temporary,
            shape=scene.shape,
            rotations=scene.rotations.astype(np.float32),
            translation=scene.translation,
            K=scene.camera.K,
            T_camera_world=scene.camera.T_camera_world,
            size=[scene.camera.width, scene.camera.height],
            fps=scene.fps,
            seed=scene.seed,
            xy_px=keypoints.xy_px.astype(np.float32),
            xyz_m=keypoints.xyz_m.astype(np.float32),
            confidence=keypoints.confidence.astype(np.float32),
        )


def load_clips(folder: Path, pool: str) -> list[tuple[Scene, Keypoints]]:
    """The clips of a pool ("train" or "test") in which the person was followed throughout.

    Raises:
        MvaiError: there are none.
    """
    clips = []
    for path in sorted(folder.glob(f"{pool}_*.npz")):
        with np.load(path, allow_pickle=False) as a:
            width, height = (int(v) for v in a["size"])
            camera = Camera(a["K"], width, height, a["T_camera_world"])
            fps, seed = float(a["fps"]), int(a["seed"])
            scene = Scene(a["shape"], a["rotations"], a["translation"], camera, fps, seed)
            keypoints = Keypoints(
                NAMES, a["xy_px"], a["confidence"], fps, width, height, a["xyz_m"]
            )
        followed = np.isfinite(keypoints.xy_px[:, 0, 0]).mean() > 0.9
        if followed and camera.T_camera_world[2, 1] > -STEEPEST:
            clips.append((scene, keypoints))
    if not clips:
        raise MvaiError(
            f"{folder}: there are no rendered clips here; make some with `mvai train render-clips`."
        )
    return clips
