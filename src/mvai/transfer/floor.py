"""Finds the height of the floor under a body and puts the character on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d

from mvai.body.skinning import skinned, skinning_operator
from mvai.types import Camera, Skin

FLOOR_PERCENTILE = 10.0
SOLE_SHARE = 0.02
"""The sole is what lies in this lowest part of a character's height, counted from its lowest."""
HAND_LENGTH = 0.14
"""Longest hand, from wrist to finger tip, as a share of the height."""
TOUCH_M = 0.03
"""A source point this near its floor stands on it."""


def floor_height(lowest: Float[np.ndarray, " frames"]) -> float:
    """Height of the floor under a body, from its lowest point in every frame.

    A low percentile: jumps lift the lowest point, and errors of single frames push it down.
    """
    return float(np.percentile(lowest, FLOOR_PERCENTILE))


def lowest_points(
    skin: Skin,
    rest_vertices: Float[np.ndarray, "verts 3"],
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"],
    hands: Sequence[int] = (),
    count: int = 3000,
) -> Float[np.ndarray, " frames"]:
    """Height of the lowest vertex of the posed character in every frame.

    What a hand holds (all that moves with one of the joints `hands` and is further from it than a
    hand is long) does not carry the body and is left out.

    Only some vertices are skinned: for every joint those that lie furthest out, which hold the
    lowest one up to a few millimetres, and the whole of both feet's undersides.
    """
    carries = np.flatnonzero(~_held(skin, rest_vertices, hands))
    order = carries[np.argsort(rest_vertices[carries, 1])]
    soles = order[: count // 2]
    others = carries[np.linspace(0, len(carries) - 1, count // 2).round().astype(int)]
    ids = np.unique(np.concatenate([soles, others]))
    return _skinned(skin, rest_vertices, Ts_world_joint, ids)[..., 1].min(1)


def _held(
    skin: Skin, rest_vertices: Float[np.ndarray, "verts 3"], hands: Sequence[int]
) -> Bool[np.ndarray, " verts"]:
    """Vertices of what the hands hold."""
    held = np.zeros(len(rest_vertices), bool)
    reach = HAND_LENGTH * float(np.ptp(rest_vertices[:, 1]))
    for hand in hands:
        below = np.zeros(len(skin.joints), bool)
        for j, p in enumerate(skin.parents):
            below[j] = j == hand or (p >= 0 and below[p])
        mine = (below[skin.weight_indices] * skin.weights).sum(1) > 0.5
        away = np.linalg.norm(rest_vertices - skin.T_world_joint[hand, :3, 3], axis=1)
        held |= mine & (away > reach)
    return held if not held.all() else np.zeros_like(held)


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


def sole_groups(
    skin: Skin, rest_vertices: Float[np.ndarray, "verts 3"], ankle: int
) -> tuple[Int[np.ndarray, " heel"], Int[np.ndarray, " toes"]]:
    """Vertices of the back and the front third of a foot's underside, the foot being the ankle
    and all below it."""
    below = np.zeros(len(skin.joints), bool)
    for j, p in enumerate(skin.parents):
        below[j] = j == ankle or (p >= 0 and below[p])
    ids = np.flatnonzero((below[skin.weight_indices] * skin.weights).sum(1) > 0.5)
    if not len(ids):
        ids = np.array([int(rest_vertices[:, 1].argmin())])
    height = rest_vertices[ids, 1]
    ids = ids[height < height.min() + SOLE_SHARE * np.ptp(rest_vertices[:, 1])]
    z = rest_vertices[ids, 2]
    third = np.ptp(z) / 3
    return ids[z <= z.min() + third], ids[z >= z.max() - third]


def sole_points(
    skin: Skin,
    rest_vertices: Float[np.ndarray, "verts 3"],
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"],
    ankle: int,
) -> Float[np.ndarray, "frames 2 3"]:
    """Middle of a foot's heel and toes in every frame; the height is that of their lowest point."""
    points = []
    for ids in sole_groups(skin, rest_vertices, ankle):
        some = ids[np.linspace(0, len(ids) - 1, min(len(ids), 150)).astype(int)]
        moved = _skinned(skin, rest_vertices, Ts_world_joint, some)
        middle = moved.mean(1)
        middle[:, 1] = moved[..., 1].min(1)
        points.append(middle)
    return np.stack(points, 1).astype(np.float64)


def _skinned(
    skin: Skin, rest_vertices: np.ndarray, Ts: np.ndarray, ids: Int[np.ndarray, " some"]
) -> Float[np.ndarray, "frames some 3"]:
    part = replace(skin, weight_indices=skin.weight_indices[ids], weights=skin.weights[ids])
    return skinned(skinning_operator(part, rest_vertices[ids]), Ts)


def camera_for(camera: Camera, scale: float, shift: Float[np.ndarray, "3"]) -> Camera:
    """The camera that sees the character, at scale * x + shift, where it saw the source at x."""
    T = camera.T_camera_world.copy()
    T[:3, 3] = scale * T[:3, 3] - T[:3, :3] @ shift
    path = None if camera.path_m is None else scale * camera.path_m
    return replace(camera, T_camera_world=T, path_m=path)
