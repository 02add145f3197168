"""Finds the height of the floor under a body and puts the character on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

from mvai.body.skinning import share_below, skinned_part
from mvai.types import Camera, Skin

FLOOR_PERCENTILE = 10.0
HAND_LENGTH = 0.14
"""Longest hand, from wrist to finger tip, as a share of the height."""
MINE = 0.5
"""Share of the weights with which a vertex belongs to a hand or a foot."""
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
    feet: Sequence[int] = (),
    count: int = 3000,
) -> Float[np.ndarray, " frames"]:
    """Height of the lowest vertex of the posed character in every frame.

    What a hand holds (all that moves with one of the joints `hands` and is further from it than a
    hand is long) does not carry the body and is left out; so is what moves with the joints `feet`.

    Only some vertices are skinned: half of them are the lowest at rest, half spread over all.
    """
    left_out = held(skin, rest_vertices, hands)
    for foot in feet:
        left_out |= share_below(skin, foot) > MINE
    carries = np.flatnonzero(~left_out)
    if not len(carries):
        return np.full(len(Ts_world_joint), np.inf)
    order = carries[np.argsort(rest_vertices[carries, 1])]
    soles = order[: count // 2]
    others = carries[np.linspace(0, len(carries) - 1, count // 2).round().astype(int)]
    ids = np.unique(np.concatenate([soles, others]))
    return skinned_part(skin, rest_vertices, Ts_world_joint, ids)[..., 1].min(1)


def held(
    skin: Skin, rest_vertices: Float[np.ndarray, "verts 3"], hands: Sequence[int]
) -> Bool[np.ndarray, " verts"]:
    """Vertices of what the hands hold: further from them than a hand is long."""
    held = np.zeros(len(rest_vertices), bool)
    reach = HAND_LENGTH * float(np.ptp(rest_vertices[:, 1]))
    for hand in hands:
        mine = share_below(skin, hand) > MINE
        away = np.linalg.norm(rest_vertices - skin.T_world_joint[hand, :3, 3], axis=1)
        held |= mine & (away > reach)
    return held if not held.all() else np.zeros_like(held)


def what_stands(
    feet: list[Float[np.ndarray, " frames"]],
    other: Float[np.ndarray, " frames"],
    planted: list[Bool[np.ndarray, " frames"]],
) -> Float[np.ndarray, " frames"]:
    """Height of the lowest point that the body may stand on.

    A foot that swings past one that is planted does not carry, however deep its long toes reach.

    Args:
        feet: height of the lowest point of the left and right foot.
        other: likewise of all else.
        planted: whether they are planted in the source.
    """
    neither = ~np.any(planted, axis=0)
    carry = [np.where(p | neither, low, np.inf) for low, p in zip(feet, planted, strict=True)]
    return np.minimum(other, np.min(carry, axis=0))


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
    path = None if camera.path_m is None else scale * camera.path_m
    return replace(camera, T_camera_world=T, path_m=path)
