"""Where the landmarks of a scene truly are, as the landmark correction is to give them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.benchmark.scenes import Scene
from mvai.body.model import LinearBody
from mvai.types.names import BODY_KEYPOINTS

LIMBS = tuple(
    BODY_KEYPOINTS.index(f"{side}_{joint}")
    for side in ("left", "right")
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)


def _landmarks(body: LinearBody, scene: Scene) -> Float[np.ndarray, "frames 33 3"]:
    """True landmarks in camera axes, metres."""
    points = scene.joints_and_points(body, BODY_KEYPOINTS)[1]
    T = scene.camera.T_camera_world
    return points @ T[:3, :3].T + T[:3, 3]


def crop_rotation(body: LinearBody, scene: Scene) -> Float[np.ndarray, "frames 3 3"]:
    """From camera axes to those of a crop on the person, whose z axis points at the torso."""
    torso = [
        BODY_KEYPOINTS.index(f"{s}_{p}") for s in ("left", "right") for p in ("shoulder", "hip")
    ]
    centre = _landmarks(body, scene)[:, torso].mean(1)
    yaw = np.arctan2(centre[:, 0], centre[:, 2])
    pitch = np.arctan2(centre[:, 1], np.hypot(centre[:, 0], centre[:, 2]))
    turned = Rotation.from_euler("YX", np.stack([yaw, -pitch], 1)).as_matrix()
    return turned.transpose(0, 2, 1)


def truth(body: LinearBody, scene: Scene) -> Float[np.ndarray, "frames 33 3"]:
    """True landmarks relative to the middle of the hips, in the axes of a crop on the person."""
    camera = _landmarks(body, scene)
    hips = [BODY_KEYPOINTS.index(f"{s}_hip") for s in ("left", "right")]
    relative = camera - camera[:, hips].mean(1, keepdims=True)
    R = crop_rotation(body, scene)
    return np.einsum("fab,fpb->fpa", R, relative).astype(np.float32)
