"""Motion capture on the body model, seen by a static camera of random azimuth, height and distance.

What is drawn has an exact truth, and a detector that looks at it makes its own real mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.benchmark.poses import PoseClip, mirrored_pose
from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.types import Camera, MeshSequence
from mvai.types.names import BODY_JOINTS

Hardship = Literal["occluded", "cut off", "blurred", "low resolution"]
HARDSHIPS: tuple[Hardship, ...] = get_args(Hardship)
"""Limbs behind a thing, partly out of the picture, motion blur, a tiny picture."""

SIZES = ((480, 360), (360, 480), (640, 360))
LOW_SIZES = ((200, 150), (150, 200), (240, 136))
"""Picture sizes (width, height) in pixels."""
LOOSENED = {"Arm": 0.35, "ForeArm": 0.15, "Neck": 0.15, "Head": 0.15, "Spine1": 0.1, "UpLeg": 0.1}
"""Standard deviation, in radians, of the turns that make other people's poses of captured ones."""


@dataclass(frozen=True)
class Scene:
    """One person, one camera, some frames."""

    shape: Float[np.ndarray, " shape"]
    rotations: Float[np.ndarray, "frames joints 3 3"]
    translation: Float[np.ndarray, "frames 3"]
    camera: Camera
    fps: float
    seed: int
    """Draws clothing, background and light."""
    hardships: tuple[Hardship, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.rotations)

    def joints_and_points(
        self, body: LinearBody, names: tuple[str, ...]
    ) -> tuple[Float[np.ndarray, "frames joints 3"], Float[np.ndarray, "frames points 3"]]:
        """The true joints of the body's skeleton and named key-points, metres, world."""
        with torch.no_grad():
            joints, points = body.joints_and_keypoints(
                names, torch.from_numpy(self.shape).float()[None],
                torch.from_numpy(self.rotations).float(),
                torch.from_numpy(self.translation).float(),
            )  # fmt: skip
        return joints.numpy(), points.numpy()

    def vertices(self, body: LinearBody, frames: slice = slice(None)) -> np.ndarray:
        """The true surface (frames, verts, 3), metres, world."""
        with torch.no_grad():
            return body.vertices(
                torch.from_numpy(self.shape).float()[None],
                torch.from_numpy(self.rotations[frames]).float(),
                torch.from_numpy(self.translation[frames]).float(),
            ).numpy()

    def sequence(self, body: LinearBody) -> MeshSequence:
        """The true mesh sequence with its camera."""
        return MeshSequence(
            self.vertices(body), body.faces, self.fps, body.topology, camera=self.camera
        )


def resampled(clip: PoseClip, fps: float) -> PoseClip:
    """The clip at another frame rate; rotations between two frames lie on the shortest arc."""
    length = (clip.frames - 1) / clip.fps
    times = np.arange(int(length * fps + 1e-6) + 1) / fps * clip.fps
    before = np.minimum(times.astype(int), clip.frames - 2)
    share = times - before
    start = Rotation.from_rotvec(clip.pose[before].reshape(-1, 3))
    end = Rotation.from_rotvec(clip.pose[before + 1].reshape(-1, 3))
    turn = (start.inv() * end).as_rotvec() * np.repeat(share, len(BODY_JOINTS))[:, None]
    pose = (start * Rotation.from_rotvec(turn)).as_rotvec().reshape(-1, len(BODY_JOINTS), 3)
    path = clip.translation
    moved = path[before] + share[:, None] * (path[before + 1] - path[before])
    return replace(
        clip,
        pose=pose.astype(np.float32),
        translation=moved.astype(np.float32),
        fps=fps,
        measured=clip.measured[before] & clip.measured[before + 1],
    )


def varied(clip: PoseClip, rng: np.random.Generator) -> PoseClip:
    """The clip as another person might do it: mirrored or not, some joints turned throughout."""
    pose = clip.pose
    translation = clip.translation
    if rng.random() < 0.5:
        pose, translation = mirrored_pose(pose), translation * np.array([-1.0, 1, 1], np.float32)
    if rng.random() < 0.6:
        turns = np.zeros((len(BODY_JOINTS), 3))
        for i, name in enumerate(BODY_JOINTS):
            part = name.removeprefix("Left").removeprefix("Right")
            turns[i] = rng.normal(size=3) * LOOSENED.get(part, 0.0)
        turned = Rotation.from_rotvec(np.tile(turns, (len(pose), 1)))
        pose = (Rotation.from_rotvec(pose.reshape(-1, 3)) * turned).as_rotvec().reshape(pose.shape)
    return replace(clip, pose=pose.astype(np.float32), translation=translation)


def random_scene(
    body: LinearBody,
    clip: PoseClip,
    seed: int,
    frames: int,
    size: tuple[int, int] = (640, 480),
    hardships: Sequence[Hardship] = (),
) -> Scene:
    """A stretch of `clip` with a random body, seen from a random side.

    Camera: azimuth over the full circle, height 0.4 to 4.5 m (a third of them above 2 m), vertical
    field of view 30 to 65 degrees, distance such that the person's movement fills most of the
    picture, or too near for it when the person is to be cut off.
    """
    rng = np.random.default_rng(seed)
    start = int(rng.integers(0, max(1, clip.frames - frames + 1)))
    span = slice(start, start + frames)
    shape = rng.normal(size=body.shape_size) * 0.8
    pose = torch.from_numpy(clip.pose[span]).float()
    rotations = torch.eye(3).repeat(len(pose), len(body.joints), 1, 1)
    rotations[:, [body.joint(n) for n in BODY_JOINTS]] = matrix_from_axis_angle(pose)
    scene = Scene(
        shape, rotations.numpy(), clip.translation[span], Camera.from_focal(1.0, *size),
        clip.fps, seed, tuple(hardships),
    )  # fmt: skip
    reach = scene.joints_and_points(body, ("nose",))[0].reshape(-1, 3)
    return replace(scene, camera=random_camera(reach, size, "cut off" in hardships, rng))


def random_camera(
    reach: Float[np.ndarray, "n 3"],
    size: tuple[int, int],
    cut_off: bool,
    rng: np.random.Generator,
) -> Camera:
    """A level camera that has the points well in view, or is too near for them."""
    middle = (reach.min(0) + reach.max(0)) / 2
    azimuth = rng.uniform(0, 2 * np.pi)
    # Mostly hand-held or on a tripod, sometimes high on a wall.
    height = rng.uniform(0.4, 2.0) if rng.random() < 0.65 else rng.uniform(2.0, 4.5)
    height_px = size[1]
    focal_px = height_px / 2 / np.tan(np.radians(rng.uniform(30, 65)) / 2)
    aim = middle + rng.normal(size=3) * 0.08
    if cut_off:
        aim = aim + rng.normal(size=3) * [0.1, 0.3, 0.1]
    border_px = 0.07 * height_px
    camera = Camera.from_focal(focal_px, *size)
    for distance in np.geomspace(1.8, 30, 60):
        eye = aim + distance * np.array([np.sin(azimuth), 0, np.cos(azimuth)])
        eye[1] = height
        camera = look_at(eye, aim, focal_px, *size)
        depth = (reach @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3])[:, 2]
        px = camera.project(reach)
        inside = ((px > border_px) & (px < np.array(size) - border_px)).all(1)
        enough = inside.mean() > 0.6 if cut_off else inside.all()
        if depth.min() > 0.8 and enough:
            break
    return camera


def look_at(
    eye: Float[np.ndarray, "3"],
    target: Float[np.ndarray, "3"],
    focal_px: float,
    width: int,
    height: int,
) -> Camera:
    """A level camera at `eye` that looks at `target` (world, metres)."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right = right / np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, -R @ eye
    camera = Camera.from_focal(focal_px, width, height)
    return Camera(camera.K, width, height, T)
