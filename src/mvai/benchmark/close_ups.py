"""People who are seen only down to the chest, waist, thighs or knees, as in most videos of talk.

A detector squeezes what lies below the picture into it or makes it up, and its own size and depth
of what it does see are worse for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from mvai.benchmark.scenes import look_at
from mvai.types import Camera
from mvai.types.names import BODY_JOINTS

CLOSE_UPS = 0.25
"""Share of the training clips that are close-ups."""
STANDING, SEATED = 0.5, 0.3
"""Shares of the people in them who stand and sit."""
SEEN: Mapping[str, tuple[str, ...]] = {
    "chest": ("Neck", "LeftArm", "RightArm", "Spine2"),
    "waist": ("Neck", "LeftArm", "RightArm", "Spine2", "Spine", "LeftForeArm", "RightForeArm"),
    "thighs": ("Neck", "LeftArm", "RightArm", "LeftForeArm", "RightForeArm", "Hips"),
    "knees": ("Neck", "LeftArm", "RightArm", "Hips", "LeftHand", "RightHand"),
}
"""What is in the picture, by where its lower border cuts, besides the head."""
BELOW = {"chest": 0.0, "waist": 0.0, "thighs": 0.15, "knees": 0.42}
"""How far below the lowest of these the picture reaches, metres."""
HEADROOM_M = 0.2
"""Above the nose."""
FACING = 0.75
"""Share of the people who face the camera, within about an eighth of a turn."""
BORDER = 0.03
"""Of the picture's height, that stays free beside what is seen."""


def close_camera(
    joints: Float[np.ndarray, "frames joints 3"],
    nose: Float[np.ndarray, "frames 3"],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Camera:
    """A camera so near that the lower part of a body is out of the picture.

    Args:
        joints: those of `BODY_JOINTS`, metres, world.
        nose: metres, world.
        size: width and height of the picture.
        rng: draws where the border cuts, and the camera.
    """
    cut = tuple(SEEN)[rng.integers(len(SEEN))]
    reach = joints[:, [BODY_JOINTS.index(n) for n in SEEN[cut]]].reshape(-1, 3)
    low, high = reach[:, 1].min() - BELOW[cut], nose[:, 1].max() + HEADROOM_M
    floor, top = reach * [1, 0, 1] + [0, low, 0], reach * [1, 0, 1] + [0, high, 0]
    reach = np.concatenate([reach, nose, floor, top])
    across = joints[:, BODY_JOINTS.index("LeftUpLeg")] - joints[:, BODY_JOINTS.index("RightUpLeg")]
    x, _, z = across.mean(0)
    azimuth = rng.uniform(0, 2 * np.pi)
    if rng.random() < FACING:
        azimuth = np.arctan2(-z, x) + rng.normal() * np.radians(40)
    pitch = np.radians(rng.normal(5.0, 9.0))
    focal_px = size[1] / 2 / np.tan(np.radians(rng.uniform(30, 65)) / 2)
    aim = (reach.min(0) + reach.max(0)) / 2 + rng.normal(size=3) * [0.05, 0.02, 0.05]
    toward = np.array([np.sin(azimuth), np.tan(pitch), np.cos(azimuth)])
    border_px = BORDER * size[1]
    camera = look_at(aim + toward, aim, focal_px, *size)
    for distance in np.geomspace(0.6, 15, 60):
        camera = look_at(aim + distance * toward, aim, focal_px, *size)
        depth = (reach @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3])[:, 2]
        px = camera.project(reach)
        inside = ((px > border_px) & (px < np.array(size) - border_px)).all(1)
        if depth.min() > 0.3 and inside.mean() > 0.97:
            break
    return camera
