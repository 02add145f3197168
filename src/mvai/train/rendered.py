"""Motion capture on the body model, seen by a random static camera and drawn to pixels.

What is drawn has an exact truth, and a detector that looks at it makes its own real mistakes. Used
to learn where on the body a detector's landmarks sit and, by the benchmark, to measure and train.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.io.render import Renderer
from mvai.io.vtk_scene import Drawable
from mvai.train.poses import PoseClip
from mvai.types import Camera
from mvai.types.names import BODY_JOINTS


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

    def vertices(self, body: LinearBody, frames: slice = slice(None)) -> np.ndarray:
        """The true surface (frames, verts, 3), metres, world."""
        with torch.no_grad():
            return body.vertices(
                torch.from_numpy(self.shape).float()[None],
                torch.from_numpy(self.rotations[frames]).float(),
                torch.from_numpy(self.translation[frames]).float(),
            ).numpy()


def random_scene(
    body: LinearBody, clip: PoseClip, seed: int, frames: int, size: tuple[int, int] = (640, 480)
) -> Scene:
    """A stretch of `clip` with a random body, seen from a random side, whole in view.

    Camera: azimuth over the full circle, height 0.4 to 4.5 m (a third of them above 2 m), vertical
    field of view 30 to 65 degrees, distance such that the person's movement fills most of the
    picture.
    """
    rng = np.random.default_rng(seed)
    start = int(rng.integers(0, max(1, clip.frames - frames + 1)))
    span = slice(start, start + frames)
    shape = rng.normal(size=body.shape_size) * 0.8
    pose = torch.from_numpy(clip.pose[span]).float()
    rotations = torch.eye(3).repeat(len(pose), len(body.joints), 1, 1)
    rotations[:, [body.joint(n) for n in BODY_JOINTS]] = matrix_from_axis_angle(pose)
    translation = clip.translation[span]
    joints, _ = body.joints_and_keypoints(
        ("nose",), torch.from_numpy(shape).float()[None], rotations,
        torch.from_numpy(translation).float(),
    )  # fmt: skip
    reach = joints.numpy().reshape(-1, 3)
    middle = (reach.min(0) + reach.max(0)) / 2
    azimuth = rng.uniform(0, 2 * np.pi)
    # Mostly hand-held or on a tripod, sometimes high on a wall.
    height = rng.uniform(0.4, 2.0) if rng.random() < 0.65 else rng.uniform(2.0, 4.5)
    height_px = size[1]
    focal_px = height_px / 2 / np.tan(np.radians(rng.uniform(30, 65)) / 2)
    aim = middle + rng.normal(size=3) * 0.08
    camera = Camera.from_focal(focal_px, *size)
    for distance in np.geomspace(1.8, 30, 60):
        eye = aim + distance * np.array([np.sin(azimuth), 0, np.cos(azimuth)])
        eye[1] = height
        camera = look_at(eye, aim, focal_px, *size)
        depth = (reach @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3])[:, 2]
        px = camera.project(reach)
        border = 0.07 * height_px
        inside = (px > border).all() and (px < np.array(size) - border).all()
        if depth.min() > 0.8 and inside:
            break
    return Scene(shape, rotations.numpy(), translation, camera, clip.fps, seed)


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


def draw(body: LinearBody, scene: Scene) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Pictures of the scene: a person in plain clothes before a soft background with a floor."""
    rng = np.random.default_rng(scene.seed + 1)
    colors = clothing(body, rng)
    backdrop = background(scene.camera.width, scene.camera.height, rng)
    with Renderer() as renderer:
        for f in range(len(scene.rotations)):
            vertices = scene.vertices(body, slice(f, f + 1))[0]
            drawable = Drawable(vertices, body.faces, vertex_colors=colors)
            yield renderer.render([drawable], scene.camera, backdrop)


def clothing(body: LinearBody, rng: np.random.Generator) -> UInt8[np.ndarray, "verts 3"]:
    """Skin, shirt, trousers, shoes and hair as vertex colours, cut along the bones."""
    strongest = np.take_along_axis(body.weight_indices, body.weights.argmax(1)[:, None], 1)[:, 0]
    names = np.array(body.joints)[strongest]
    rest = body.template.numpy()
    skin = np.array([224, 172, 140]) * rng.uniform(0.35, 1.08)
    shirt, trousers, shoes, hair = (rng.integers(20, 235, 3) for _ in range(4))
    color = np.tile(skin, (len(rest), 1))
    trunk = np.char.find(names, "Spine") >= 0
    color[trunk | np.isin(names, ["LeftShoulder", "RightShoulder", "Neck"])] = shirt
    sleeves = ["LeftArm", "RightArm"] + (
        ["LeftForeArm", "RightForeArm"] if rng.random() < 0.5 else []
    )
    color[np.isin(names, sleeves)] = shirt
    legs = ["Hips", "LeftUpLeg", "RightUpLeg"] + (
        ["LeftLeg", "RightLeg"] if rng.random() < 0.7 else []
    )
    color[np.isin(names, legs)] = trousers
    feet = [s + n for s in ("Left", "Right") for n in ("Foot", "ToeBase")]
    color[np.isin(names, feet)] = shoes
    head = names == "Head"
    top = rest[head, 1].max()
    crown = head & (
        (rest[:, 1] > top - 0.07)
        | ((rest[:, 2] < rest[head, 2].mean() - 0.02) & (rest[:, 1] > top - 0.18))
    )
    color[crown] = hair
    # The neck's skin shows above the collar.
    color[(names == "Neck") & (rest[:, 1] > rest[names == "Neck", 1].mean())] = skin
    return np.clip(color, 0, 255).astype(np.uint8)


def background(width: int, height: int, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """A wall and a floor of two shades with blotches, so that the person is not cut out of void."""
    from scipy.ndimage import zoom

    horizon = int(height * rng.uniform(0.45, 0.75))
    picture = np.empty((height, width, 3))
    picture[:horizon], picture[horizon:] = rng.uniform(60, 230, 3), rng.uniform(40, 200, 3)
    coarse = rng.normal(size=(7, 9, 1)) * rng.uniform(5, 25)
    blotches = np.asarray(zoom(coarse, (height / 7, width / 9, 1), order=1))[:height, :width]
    picture += blotches + rng.normal(size=picture.shape) * 3
    return np.clip(picture, 0, 255).astype(np.uint8)
