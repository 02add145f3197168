"""Make the example that ships with the package: a short clip and a character to act it out.

The clip's motion is written down here as key poses, so no recording of a person and no motion
capture stands behind it; the person is the project's own body model. `mvai.train.demo_character`
makes the character.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from mvai.benchmark.drawing import dressed
from mvai.benchmark.looks import random_background, random_looks
from mvai.benchmark.scenes import look_at
from mvai.benchmark.stances import leg_rotations
from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.geometry.rigid import shortest_rotation
from mvai.io.render import Renderer
from mvai.io.video import write_video
from mvai.train.demo_character import demo_character, write_character
from mvai.types import Camera

FPS = 30.0
WIDTH_PX, HEIGHT_PX = 480, 640
SHAPE = (0.9, 0.5, -0.3)
"""First shape coefficients of the person in the clip: an adult, rather slim."""
SCENE_SEED = 9
"""Draws the colours of clothes, wall and floor."""

HANG = ((0.22, -0.97, -0.05), (0.12, -0.95, 0.25))
SIDE = ((0.99, -0.05, 0.0), (0.95, 0.05, 0.3))
OVERHEAD = ((0.55, 0.83, 0.0), (0.25, 0.97, 0.05))
FORWARD = ((0.15, 0.4, 0.9), (0.0, 0.5, 0.87))
HIP = ((0.62, -0.75, -0.22), (-0.62, -0.62, 0.48))
WAVE_OUT = ((0.92, 0.12, 0.2), (0.62, 0.75, 0.2))
WAVE_IN = ((0.92, 0.15, 0.2), (-0.28, 0.93, 0.2))
FLEX = ((0.98, 0.08, 0.1), (-0.05, 0.99, 0.1))


@dataclass(frozen=True)
class Key:
    """A pose at a time. Positions in metres, x to the person's left, before the body's scale."""

    time_s: float
    left_arm: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Directions of upper arm and forearm in the trunk's axes."""
    right_arm: tuple[tuple[float, float, float], tuple[float, float, float]]
    """The same in mirror: x away from the body."""
    left_foot: tuple[float, float, float] = (0.10, 0.0, 0.0)
    """Ankle relative to where it stands under the body's middle."""
    right_foot: tuple[float, float, float] = (-0.10, 0.0, 0.0)
    hips: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Hips relative to standing."""
    lean_deg: float = 0.0
    """Forward bend of the trunk."""
    bend_deg: float = 0.0
    """Sideways bend of the trunk, to the person's left."""


WIDE_LEFT, WIDE_RIGHT = (0.30, 0.0, 0.0), (-0.30, 0.0, 0.0)
KEYS = (
    Key(0.00, HANG, HANG),
    Key(0.45, HIP, WAVE_OUT, bend_deg=3),
    Key(0.70, HIP, WAVE_IN, bend_deg=6),
    Key(0.95, HIP, WAVE_OUT, bend_deg=3),
    Key(1.20, HIP, WAVE_IN, bend_deg=6),
    Key(1.55, HANG, HANG),
    Key(2.00, FORWARD, FORWARD, hips=(0, -0.30, -0.16), lean_deg=28),
    Key(2.20, FORWARD, FORWARD, hips=(0, -0.30, -0.16), lean_deg=28),
    Key(2.50, HANG, HANG, hips=(0, 0.0, 0.0)),
    Key(2.64, SIDE, SIDE, (0.18, 0.14, 0), (-0.18, 0.14, 0), (0, 0.13, 0)),
    Key(2.80, OVERHEAD, OVERHEAD, WIDE_LEFT, WIDE_RIGHT, (0, -0.09, 0)),
    Key(2.95, OVERHEAD, OVERHEAD, WIDE_LEFT, WIDE_RIGHT, (0, -0.09, 0)),
    Key(3.12, SIDE, SIDE, (0.18, 0.14, 0), (-0.18, 0.14, 0), (0, 0.13, 0)),
    Key(3.30, HANG, HANG, hips=(0, -0.05, 0), lean_deg=4),
    Key(3.50, HANG, HANG, hips=(0, 0, 0)),
    Key(3.85, FLEX, FLEX, (0.36, 0.0, 0.0), hips=(0.13, -0.06, 0), bend_deg=-4),
    Key(4.20, FLEX, FLEX, (0.36, 0.0, 0.0), hips=(0.13, -0.06, 0), bend_deg=-4),
)


def scripted_motion(
    body: LinearBody, shape: Float[np.ndarray, " shape"], fps: float = FPS
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames 3"]]:
    """Joint rotations and root translation, as the body takes them, through all key poses.

    Every quantity runs through its key values without overshoot (monotone cubic interpolation of
    Fritsch and Carlson, 1980). Legs follow from hips and ankles, so a standing foot stands still.
    """
    times = np.array([k.time_s for k in KEYS])
    frames = np.arange(round(times[-1] * fps) + 1) / fps

    def curve(values: list[object]) -> np.ndarray:
        return PchipInterpolator(times, np.array(values, float))(frames)

    arms = {"Left": curve([k.left_arm for k in KEYS]), "Right": curve([k.right_arm for k in KEYS])}
    arms["Right"] = arms["Right"] * [-1, 1, 1]
    feet = {
        "Left": curve([k.left_foot for k in KEYS]),
        "Right": curve([k.right_foot for k in KEYS]),
    }
    hips = curve([k.hips for k in KEYS])
    lean = curve([(k.lean_deg, 0, -k.bend_deg) for k in KEYS])

    rest = body.rest_joints(torch.from_numpy(shape).float()).numpy().astype(float)
    at = {name: rest[body.joint(name)] for name in body.joints}
    # Ankles under the hips at 99.5 % of the straight leg, so that the knee keeps its direction.
    leg = sum(
        float(np.linalg.norm(at[b] - at[a]))
        for a, b in (("LeftUpLeg", "LeftLeg"), ("LeftLeg", "LeftFoot"))
    )
    size = leg / 0.785
    stand = at["LeftUpLeg"][1] - 0.995 * leg
    poses = [
        _pose(
            body,
            at,
            {side: a[f] for side, a in arms.items()},
            {side: np.array([0, stand, 0]) + size * p[f] for side, p in feet.items()},
            size * hips[f],
            lean[f],
        )
        for f in range(len(frames))
    ]
    return np.stack(poses), size * hips


def _pose(
    body: LinearBody,
    at: dict[str, Float[np.ndarray, " 3"]],
    arms: dict[str, Float[np.ndarray, "2 3"]],
    ankles: dict[str, Float[np.ndarray, " 3"]],
    hips: Float[np.ndarray, " 3"],
    lean_deg: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "joints 3 3"]:
    """Local rotations that give one pose; `at` are the joints at rest."""
    world = {name: np.eye(3) for name in body.joints}
    trunk = ("Spine", "Spine1", "Spine2")
    for i, name in enumerate(trunk):
        world[name] = Rotation.from_rotvec(lean_deg * (i + 1) / 3, degrees=True).as_matrix()
    chest = world["Spine2"]
    # The head stays up when the trunk leans.
    half = Rotation.from_rotvec(lean_deg * 0.4, degrees=True).as_matrix()
    world["Neck"] = world["Head"] = half
    for side, (upper, fore) in arms.items():
        lift = np.degrees(np.arctan2(upper[1], np.linalg.norm(upper[[0, 2]])))
        raised = np.clip(lift + 20, 0, 90) / 90 * 28 * (1 if side == "Left" else -1)
        world[f"{side}Shoulder"] = (
            chest @ Rotation.from_rotvec([0, 0, raised], degrees=True).as_matrix()
        )
        for bone, tip, direction in (("Arm", "ForeArm", upper), ("ForeArm", "Hand", fore)):
            rest = at[side + tip] - at[side + bone]
            world[side + bone] = chest @ shortest_rotation(rest, direction)
        world[f"{side}Hand"] = world[f"{side}ForeArm"]
    for side, ankle in ankles.items():
        hip = at[f"{side}UpLeg"] + hips
        # Knees point a little outwards.
        front = np.array([0.25 * np.sign(at[f"{side}UpLeg"][0]), 0.0, 1.0])
        thigh, shank = leg_rotations(at, side, hip[None], ankle, front)
        world[f"{side}UpLeg"], world[f"{side}Leg"] = thigh[0], shank[0]
    local = np.tile(np.eye(3), (len(body.joints), 1, 1))
    for j, (name, parent) in enumerate(zip(body.joints, body.parents, strict=True)):
        above = np.eye(3) if parent < 0 else world[body.joints[parent]]
        if name.startswith(("LeftHand", "RightHand")) and not name.endswith("Hand"):
            world[name] = above  # fingers stay as they are at rest
        local[j] = above.T @ world[name]
    return local


def clip_frames(body: LinearBody) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The pictures of the clip, with smoothed edges."""
    shape = np.zeros(body.shape_size)
    shape[: len(SHAPE)] = SHAPE
    rotations, translation = scripted_motion(body, shape)
    with torch.no_grad():
        vertices = body.vertices(
            torch.from_numpy(shape).float()[None],
            torch.from_numpy(rotations).float(),
            torch.from_numpy(translation).float(),
        ).numpy()
    floor = vertices[0, :, 1].min()
    eye = np.array([0.75, floor + 1.25, 3.6])
    camera = look_at(eye, np.array([0.0, floor + 0.98, 0.0]), 1.50 * HEIGHT_PX, WIDTH_PX, HEIGHT_PX)
    double = Camera(
        np.diag([2.0, 2.0, 1.0]) @ camera.K, 2 * WIDTH_PX, 2 * HEIGHT_PX, camera.T_camera_world
    )
    looks = random_looks(body, np.random.default_rng(SCENE_SEED))
    wall = random_background(WIDTH_PX, HEIGHT_PX, np.random.default_rng(SCENE_SEED))
    ankles = body.regress(("LeftFoot", "RightFoot"), vertices)
    with Renderer() as renderer:
        for surface, feet in zip(vertices, ankles, strict=True):
            rgba = renderer.render_rgba([dressed(body, looks, surface)], double).astype(np.float32)
            seen = rgba[..., 3:] / 255
            over = _halved(rgba[..., :3] * seen)
            under = wall * (1 - _shadow(feet, floor, camera))[..., None]
            yield np.round(over + under * (1 - _halved(seen))).astype(np.uint8)


def _shadow(
    feet: Float[np.ndarray, "2 3"], floor_m: float, camera: Camera
) -> Float[np.ndarray, "h w"]:
    """How much darker the ground is under the feet (0 to 1); fainter when they leave it."""
    column, row = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    dark = np.zeros(column.shape)
    for foot in feet:
        x, y = camera.project(np.array([foot[0], floor_m, foot[2] + 0.06]))
        lifted = np.clip((foot[1] - floor_m - 0.07) / 0.25, 0, 1)
        spread = np.exp(-0.5 * (((column - x) / 26) ** 2 + ((row - y) / 8) ** 2))
        dark = np.maximum(dark, (0.55 - 0.4 * lifted) * spread)
    return dark


def _halved(picture: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h2 w2 c"]:
    h, w, c = picture.shape
    return picture.reshape(h // 2, 2, w // 2, 2, c).mean((1, 3))


def build(folder: Path) -> None:
    """Write clip.mp4 and character.glb to `folder`. Takes about half a minute.

    Raises:
        MvaiError: the folder cannot be written to, or there is no off-screen OpenGL.
    """
    body = anny_body()
    with write_video(folder / "clip.mp4", FPS, WIDTH_PX, HEIGHT_PX) as writer:
        for picture in clip_frames(body):
            writer.write(picture)
    write_character(demo_character(body), folder / "character.glb")
