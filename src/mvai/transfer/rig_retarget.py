"""Puts a body's movement on a character's skeleton.

World rotations are copied, because source and character share their rest frames: a joint of the
character stands in `A` of the template's frame at rest and in `R A` when the source's joint has
turned by R. Positions follow along the character's own bones. The root path is scaled by leg
length, so that steps fit the legs, and set on the floor by the lowest point of both surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from mvai.body.skinning import skinned, skinning_operator
from mvai.geometry.rigid import transforms
from mvai.types import Camera, Skin

FLOOR_PERCENTILE = 10.0
TOUCH_M = 0.03
"""A source point this near its floor stands on it."""


@dataclass(frozen=True)
class DrivenSkeleton:
    """A character's skeleton and how the body's joints drive it."""

    skin: Skin
    source: Int[np.ndarray, " joints"]
    """The body's joint whose rotation each joint takes; -1 follows its parent."""
    A_template_joint: Float[np.ndarray, "joints 3 3"]
    """Orientation of each joint's frame when the body's joint is at the template's rest."""
    legs: tuple[tuple[int, int, int], tuple[int, int, int]]
    """Upper leg, lower leg and foot of the left and right leg."""
    root: int
    """The joint that stands for the hips."""


def rotations_on(
    skeleton: DrivenSkeleton, R_source: Float[np.ndarray, "frames body_joints 3 3"]
) -> Float[np.ndarray, "frames joints 3 3"]:
    """World rotation of the character's joints in every frame."""
    skin = skeleton.skin
    rest = skin.T_world_joint[:, :3, :3]
    R = np.empty((len(R_source), len(skin.joints), 3, 3))
    for j, p in enumerate(skin.parents):
        s = skeleton.source[j]
        if s >= 0:
            R[:, j] = R_source[:, s] @ skeleton.A_template_joint[j]
        elif p >= 0:
            R[:, j] = R[:, p] @ rest[p].T @ rest[j]
        else:
            R[:, j] = rest[j]
    return R


def positions_on(
    skeleton: DrivenSkeleton,
    R: Float[np.ndarray, "frames joints 3 3"],
    root_position: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, "frames joints 3"]:
    """World positions along the character's own bones, with its hips at `root_position`."""
    skin = skeleton.skin
    rest, at = skin.T_world_joint[:, :3, :3], skin.T_world_joint[:, :3, 3]
    t = np.zeros((*R.shape[:2], 3))
    for j, p in enumerate(skin.parents):
        if p >= 0:
            t[:, j] = t[:, p] + R[:, p] @ (rest[p].T @ (at[j] - at[p]))
    return t + (root_position - t[:, skeleton.root])[:, None]


def leg_length(
    t_joint: Float[np.ndarray, "joints 3"], legs: tuple[tuple[int, int, int], ...]
) -> float:
    """Mean length from hip over knee to ankle (metres)."""
    return float(
        np.mean(
            [
                np.linalg.norm(t_joint[b] - t_joint[a]) + np.linalg.norm(t_joint[c] - t_joint[b])
                for a, b, c in legs
            ]
        )
    )


def floor_height(lowest: Float[np.ndarray, " frames"]) -> float:
    """Height of the floor under a body, from its lowest point in every frame.

    A low percentile: jumps lift the lowest point, and errors of single frames push it down.
    """
    return float(np.percentile(lowest, FLOOR_PERCENTILE))


def lowest_points(
    skin: Skin,
    rest_vertices: Float[np.ndarray, "verts 3"],
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"],
    count: int = 3000,
) -> Float[np.ndarray, " frames"]:
    """Height of the lowest vertex of the posed character in every frame.

    Only some vertices are skinned: for every joint those that lie furthest out, which hold the
    lowest one up to a few millimetres, and the whole of both feet's undersides.
    """
    order = np.argsort(rest_vertices[:, 1])
    soles = order[: count // 2]
    others = np.linspace(0, len(rest_vertices) - 1, count // 2).round().astype(int)
    ids = np.unique(np.concatenate([soles, others]))
    part = replace(skin, weight_indices=skin.weight_indices[ids], weights=skin.weights[ids])
    operator = skinning_operator(part, rest_vertices[ids])
    return skinned(operator, Ts_world_joint)[..., 1].min(1)


def stand_on_floor(
    source_lowest: Float[np.ndarray, " frames"],
    character_lowest: Float[np.ndarray, " frames"],
    scale: float,
    fps: float,
) -> Float[np.ndarray, " frames"]:
    """How far to lift the character in every frame so that it touches y = 0 when the source
    touches its floor, and is as far above it, in its own scale, when the source is.

    The lift is smoothed over a tenth of a second, so that a foot that rolls does not shake the
    body.
    """
    above = source_lowest - floor_height(source_lowest)
    above = np.sign(above) * np.maximum(np.abs(above) - TOUCH_M, 0)
    above = np.maximum(above, 0) * scale
    return gaussian_filter1d(above - character_lowest, 0.1 * fps, mode="nearest")


def camera_for(camera: Camera, scale: float, shift: Float[np.ndarray, "3"]) -> Camera:
    """The camera that sees the character, at scale * x + shift, where it saw the source at x."""
    T = camera.T_camera_world.copy()
    T[:3, 3] = scale * T[:3, 3] - T[:3, :3] @ shift
    return replace(camera, T_camera_world=T)


def joint_transforms(
    R: Float[np.ndarray, "frames joints 3 3"], t: Float[np.ndarray, "frames joints 3"]
) -> Float[np.ndarray, "frames joints 4 4"]:
    """Rotations and positions as one array of transforms."""
    return transforms(R, t)
