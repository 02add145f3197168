"""From a body in camera-aligned axes to a mesh sequence in a level world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mvai.body.model import LinearBody
from mvai.reconstruct import Progress
from mvai.reconstruct.fit_clip import FOOT_POINTS, planted_points
from mvai.reconstruct.legs_outside import leg_outside
from mvai.reconstruct.level import balance, level, posture
from mvai.reconstruct.steady_feet import sway
from mvai.reconstruct.variables import Pose
from mvai.types import Camera, Keypoints, MeshSequence
from mvai.types.names import BODY_JOINTS

SOLES = ("left_heel", "left_foot_index", "right_heel", "right_foot_index")
BLOCK = 64
"""Frames skinned at a time, to bound memory."""


def to_level(
    body: LinearBody, keypoints: Keypoints, pose: Pose, focal_px: float
) -> Float[np.ndarray, "4 4"]:
    """From camera-aligned axes to a level world with its floor at y = 0."""
    feet = tuple(n for n in FOOT_POINTS if n in body.regressed)
    # A detector that sees no feet cannot say when they rest; the body's own still find the floor.
    names = tuple(n for n in feet if n in keypoints.names) or feet
    joints, points = body.joints_and_keypoints(names, pose.shape, pose.rotations, pose.translation)
    ours = joints[:, [body.joint(n) for n in BODY_JOINTS]].numpy().astype(float)
    lean, standing = balance(BODY_JOINTS, ours)
    held = posture(BODY_JOINTS, ours, pose.rotations[:, body.joint("Hips"), :, 1].numpy())
    xy = np.full((keypoints.frames, len(names), 2), np.nan)
    for i, name in enumerate(names):
        if name in keypoints.names:
            xy[:, i] = keypoints.xy_px[:, keypoints.index(name)]
    pixel_m = -pose.translation[:, 2].numpy() / focal_px
    planted = planted_points(xy, names, pixel_m, keypoints.fps) & keypoints.seen()[1:, None]
    still = np.zeros((keypoints.frames, len(names)), bool)
    still[:-1] |= planted
    still[1:] |= planted
    return level(lean, standing, points.numpy().astype(float), still, held, ours)


def surface(body: LinearBody, pose: Pose, report: Progress) -> Float[np.ndarray, "frames verts 3"]:
    """Skin all vertices, some frames at a time."""
    frames = len(pose.rotations)
    shape = pose.shape.expand(frames, -1)
    out = np.empty((frames, len(body.template), 3), np.float32)
    for start in range(0, frames, BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = body.vertices(shape[part], pose.rotations[part], pose.translation[part]).numpy()
        report(round((0.8 + 0.2 * min(1.0, (start + BLOCK) / frames)) * frames), frames)
    return out


def frame_confidence(keypoints: Keypoints) -> Float[np.ndarray, " frames"]:
    """Mean confidence of the body's key-points; 0 where the person was not seen."""
    body = [i for i, n in enumerate(keypoints.names) if "hand_" not in n and "face_" not in n]
    return keypoints.confidence[:, body].mean(1) * keypoints.seen()


def levelled(
    body: LinearBody,
    vertices: Float[np.ndarray, "frames verts 3"],
    T_level: Float[np.ndarray, "4 4"],
    keypoints: Keypoints,
    focal_px: float,
    steady: bool = True,
) -> MeshSequence:
    """Surfaces in camera-aligned axes as a sequence in the level world, seen by its camera.

    What feet that stand seem to move by is the camera's movement, if `steady`, and not the body's.
    """
    camera = Camera.from_focal(focal_px, keypoints.width, keypoints.height)
    T = T_level.astype(np.float32)
    vertices = vertices @ T[:3, :3].T + T[:3, 3]
    path = None
    if steady:
        feet = body.regress(SOLES, vertices).reshape(-1, 2, 2, 3).astype(float)
        below = keypoints.seen()
        for side in ("left", "right"):
            below = below & leg_outside(keypoints, side)
        away = sway(feet, vertices.mean(1), vertices[..., 1].min(1), keypoints.fps, below)
        if away.any():
            vertices -= away[:, None].astype(np.float32)
            path = -away
    return MeshSequence(
        vertices=vertices,
        faces=body.faces,
        fps=keypoints.fps,
        topology=body.topology,
        camera=replace(
            camera, T_camera_world=camera.T_camera_world @ np.linalg.inv(T_level), path_m=path
        ),
        confidence=frame_confidence(keypoints),
    )
