"""Finds the floor under a body and puts the character on it.

A video's camera is seldom level, and its height over the floor is unknown; both show in where the
resting feet are. The floor is the plane through them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from mvai.body.skinning import skinned, skinning_operator
from mvai.geometry.rigid import shortest_rotation
from mvai.types import Camera, Skin

FLOOR_PERCENTILE = 10.0
TOUCH_M = 0.03
"""A source point this near its floor stands on it."""
RESTING_M_S = 0.3
"""A foot slower than this may rest on the floor."""
PITCH_PRIOR = 0.15
ROLL_PRIOR = 0.04
"""Slopes (radians) that a floor commonly has in a camera's view: forward, and sideways."""
FOOT_NOISE_M, FOOT_CUES = 0.03, 5
LEAN_NOISE, LEAN_CUES = 0.05, 4
"""Errors of the two cues (metres; radians). Errors of neighbouring frames are alike, so that all
frames together count as so many independent ones."""
SEGMENTS = (
    (0.028, "Arm", "ForeArm"),
    (0.022, "ForeArm", "Hand"),
    (0.100, "UpLeg", "Leg"),
    (0.0465, "Leg", "Foot"),
    (0.0145, "Foot", "ToeBase"),
)


def levelling(
    feet: Float[np.ndarray, "frames points 3"],
    lean: Float[np.ndarray, "frames 3"],
    standing: Float[np.ndarray, " frames"],
    camera: Camera,
    fps: float,
) -> Float[np.ndarray, "3 3"]:
    """The rotation that makes the floor under the feet level.

    Two cues and a prior. A plane y = a + slopes * (x, z) passes through the points of feet that
    rest, re-weighted after Geman and McClure so that lifted feet drop out. A person who stands is
    balanced: on average the centre of mass is above the feet. Cameras are nearly level, above all
    sideways.

    Args:
        feet: points of the feet that touch the floor when the foot does (metres, world).
        lean: from the middle of the feet to the centre of mass.
        standing: 0 (sitting, lying) to 1.
        camera: whose view direction tells pitch from roll.
        fps: frames a second.
    """
    if len(feet) < 2:
        return np.eye(3)
    speed = np.linalg.norm(np.gradient(feet, axis=0), axis=-1) * fps
    forward = camera.T_camera_world[2, :3] * [1, 0, 1]
    forward = forward / max(np.linalg.norm(forward), 1e-9)
    sideways = np.cross([0.0, 1.0, 0.0], forward)
    above = feet[..., 1] - np.percentile(feet[..., 1].min(1), FLOOR_PERCENTILE)
    slow = 1 / (1 + (speed / RESTING_M_S) ** 4)
    w = (slow * (above < 0.3)).ravel()
    # Who runs leans; balance is asked for only while the feet rest.
    standing = standing * slow.mean(1) ** 2
    x = feet.reshape(-1, 3)
    d = x - (w @ x) / max(w.sum(), 1e-9)
    A = np.stack([np.ones(len(d)), d @ forward, d @ sideways], 1)
    # Up is along the lean, whose horizontal parts are the negative slopes.
    tilt = -np.stack([lean @ forward, lean @ sideways], 1) / np.maximum(lean[:, 1:2], 0.3)
    slopes = np.zeros(3)
    for _ in range(10):
        residual = d[:, 1] - A @ slopes
        unit = w / (1 + (residual / (2 * FOOT_NOISE_M)) ** 2) ** 2
        unit *= FOOT_CUES / FOOT_NOISE_M**2 / max(unit.sum(), 1e-9)
        off = np.linalg.norm(tilt - slopes[1:], axis=1)
        upright = standing / (1 + (off / (6 * LEAN_NOISE)) ** 2) ** 2
        upright *= LEAN_CUES / LEAN_NOISE**2 / len(standing)
        N = A.T @ (unit[:, None] * A)
        N += np.diag([1e-9, 1 / PITCH_PRIOR**2, 1 / ROLL_PRIOR**2])
        N += np.diag([0, 1, 1]) * upright.sum()
        g = A.T @ (unit * d[:, 1])
        g[1:] += upright @ tilt
        slopes = np.linalg.solve(N, g)
    normal = np.array([0, 1.0, 0]) - slopes[1] * forward - slopes[2] * sideways
    return shortest_rotation(normal, np.array([0, 1.0, 0]))


def balance(
    joints: tuple[str, ...], t_world_joint: Float[np.ndarray, "frames joints 3"]
) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, " frames"]]:
    """From the middle of the feet to the centre of mass, and how upright the legs are (0 to 1).

    Segment masses after Winter, Biomechanics and Motor Control of Human Movement, table 4.1, each
    at the middle of its segment.
    """

    def at(name: str) -> np.ndarray:
        return t_world_joint[:, joints.index(name)]

    mass = 0.081 * at("Head") + 0.497 * (at("Hips") + at("Neck")) / 2
    upright = np.zeros(len(t_world_joint))
    support = np.zeros_like(mass)
    for side in ("Left", "Right"):
        for share, a, b in SEGMENTS:
            mass = mass + share * (at(side + a) + at(side + b)) / 2
        thigh = at(f"{side}UpLeg") - at(f"{side}Leg")
        upright += thigh[:, 1] / np.maximum(np.linalg.norm(thigh, axis=1), 1e-9) / 2
        support = support + (at(f"{side}Foot") + at(f"{side}ToeBase")) / 4
    total = 0.578 + 2 * sum(share for share, _, _ in SEGMENTS)
    return mass / total - support, np.clip((upright - 0.6) / 0.3, 0, 1)


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
    return _skinned(skin, rest_vertices, Ts_world_joint, ids)[..., 1].min(1)


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


def sole_heights(
    skin: Skin,
    rest_vertices: Float[np.ndarray, "verts 3"],
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"],
    ankle: int,
) -> Float[np.ndarray, " frames"]:
    """Height of the lowest vertex that a foot (the ankle and all below) moves; zero without any."""
    below = np.zeros(len(skin.joints), bool)
    for j, p in enumerate(skin.parents):
        below[j] = j == ankle or (p >= 0 and below[p])
    share = (below[skin.weight_indices] * skin.weights).sum(1)
    ids = np.flatnonzero(share > 0.5)
    if not len(ids):
        return np.zeros(len(Ts_world_joint))
    ids = ids[np.argsort(rest_vertices[ids, 1])[:400]]
    return _skinned(skin, rest_vertices, Ts_world_joint, ids)[..., 1].min(1)


def _skinned(
    skin: Skin, rest_vertices: np.ndarray, Ts: np.ndarray, ids: Int[np.ndarray, " some"]
) -> Float[np.ndarray, "frames some 3"]:
    part = replace(skin, weight_indices=skin.weight_indices[ids], weights=skin.weights[ids])
    return skinned(skinning_operator(part, rest_vertices[ids]), Ts)


def camera_for(camera: Camera, scale: float, shift: Float[np.ndarray, "3"]) -> Camera:
    """The camera that sees the character, at scale * x + shift, where it saw the source at x."""
    T = camera.T_camera_world.copy()
    T[:3, 3] = scale * T[:3, 3] - T[:3, :3] @ shift
    return replace(camera, T_camera_world=T)


def turned_camera(camera: Camera, R: Float[np.ndarray, "3 3"]) -> Camera:
    """The camera that sees R x where it saw x."""
    T = camera.T_camera_world.copy()
    T[:3, :3] = T[:3, :3] @ R.T
    return replace(camera, T_camera_world=T)
