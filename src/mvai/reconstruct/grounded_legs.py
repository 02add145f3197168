"""Legs that are not in the picture reach the floor: they bend when the hips go down, and step when
the body goes somewhere.

Nothing tells a fit what they do, and straight legs would sink into the floor with every squat and
glide over it.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from mvai.geometry.rigid import shortest_rotation
from mvai.reconstruct.absence import LEG_DEG
from mvai.reconstruct.fit_clip import ClipFit
from mvai.reconstruct.legs_outside import ankle_outside, leg_outside
from mvai.reconstruct.strides import strides, walks
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, SIDES

STANDS_S = 5.0
"""Within this time somebody stands upright once: where the hips are highest, legs are straight."""
AVERAGE_S = 0.15
"""Heights, and what is seen and what is not, are averaged over this time."""
UPRIGHT = 0.5
"""Cosine between pelvis and vertical below which nobody stands."""
SLACK_M = 0.06
"""Hips that are lower by less than this are so by how unevenly their height is found; knees that
bent for it would bend by 30 degrees."""
SLOPE = 0.2
"""How much the floor of a levelled world may slope: the vertical is off by 6 to 9 degrees in the
mean, and depth along the view is uneven besides."""
SHORTEST = 0.35
"""Part of its length to which a leg is bent at most."""
FORWARD = 0.3
"""How far the feet go forward under hips that go down by one: who squats keeps his balance."""
PARTS = ("UpLeg", "Leg", "Foot")


def grounded(fit: ClipFit, keypoints: Keypoints) -> ClipFit:
    """The fit with legs of which neither is in the picture standing on the floor.

    Who walks makes steps, as soon as neither foot is in the picture.
    """
    seen = keypoints.seen()
    legs, feet = seen.copy(), seen.copy()
    for side in ("left", "right"):
        leg = leg_outside(keypoints, side)
        legs &= leg
        feet &= leg | ankle_outside(keypoints, side)
    if not feet.any():
        return fit
    fps = keypoints.fps
    R_level = fit.level()[:3, :3]
    joints = fit.kinematics.linearise(fit.u, fit.shape, derivatives=False).points
    points = joints[:, : len(BODY_JOINTS)].numpy() @ R_level.T
    at = {n: points[:, i] for i, n in enumerate(BODY_JOINTS)}
    root = R_level @ Rotation.from_rotvec(fit.u[:, :3].numpy()).as_matrix()
    upright = root[:, 1, 1] > UPRIGHT

    hips = (at["LeftUpLeg"] + at["RightUpLeg"]) / 2
    tallest = upright_height(gaussian_filter1d(hips, AVERAGE_S * fps, axis=0, mode="nearest"), fps)
    lengths = [
        float(np.median(np.linalg.norm(at[f"Left{a}"] - at[f"Left{b}"], axis=1)))
        for a, b in itertools.pairwise(PARTS)
    ]
    drop = np.maximum(tallest - hips[:, 1], SLACK_M)
    drop = np.sqrt(drop**2 - SLACK_M**2)
    forward = root[:, :, 2]
    heading = Rotation.from_euler("Y", np.arctan2(forward[:, :1], forward[:, 2:]))
    flat = heading.as_matrix()[:, [0, 2], 2]
    apart = ((at["LeftFoot"] - at["RightFoot"])[:, [0, 2]] * flat).sum(1)
    thighs = [(at[f"{s}UpLeg"] - at[f"{s}Leg"])[:, 1] / lengths[0] for s in SIDES]
    stepping = walks(hips, flat, feet & upright & (np.minimum(*thighs) > UPRIGHT), fps)
    ahead, lift = strides(hips, flat, apart, stepping, sum(lengths), fps)
    share = np.maximum(_eased(legs & upright, fps), _eased(stepping, fps))
    pelvis = Rotation.from_matrix(root)
    rest = fit.kinematics.body.joint_template.numpy().astype(float)
    u = fit.u.clone()
    for i, (side, sign) in enumerate(zip(SIDES, (1.0, -1.0), strict=True)):
        turns = bent(drop + lift[:, i], lengths, ahead[:, i])
        columns = {p: 3 + 3 * BODY_JOINTS.index(side + p) for p in PARTS}
        hip, knee, ankle = (rest[fit.kinematics.body.joint(side + p)] for p in PARTS)
        down = Rotation.from_euler("Z", sign * LEG_DEG, degrees=True).apply([0.0, -1.0, 0.0])
        thigh, shank = (
            Rotation.from_matrix(shortest_rotation(bone, down))
            for bone in (knee - hip, ankle - knee)
        )
        wanted = {
            "UpLeg": pelvis.inv() * heading * _about_x(turns[:, 0]) * thigh,
            "Leg": thigh.inv() * _about_x(turns[:, 1]) * shank,
            "Foot": shank.inv() * _about_x(turns[:, 2]),
        }
        for part, there in wanted.items():
            own = np.s_[:, columns[part] : columns[part] + 3]
            now = Rotation.from_rotvec(u[own].numpy())
            way = Rotation.from_rotvec(share[:, None] * (now.inv() * there).as_rotvec())
            u[own] = torch.from_numpy((now * way).as_rotvec()).float()
    return replace(fit, u=u)


def upright_height(hips: Float[np.ndarray, "frames 3"], fps: float) -> Float[np.ndarray, " frames"]:
    """Height of the hips at every moment, were the legs straight (metres; y up).

    It is the greatest within a time; what was seen elsewhere counts less by the distance, as a
    world whose floor slopes by a few degrees lets whoever walks over it go up or down.
    """
    half, frames = round(STANDS_S * fps / 2), len(hips)
    tallest = hips[:, 1].copy()
    for offset in range(1, min(half, frames - 1) + 1):
        apart = np.linalg.norm(hips[offset:, [0, 2]] - hips[:-offset, [0, 2]], axis=1)
        there = hips[:, 1]
        np.maximum(tallest[:-offset], there[offset:] - SLOPE * apart, out=tallest[:-offset])
        np.maximum(tallest[offset:], there[:-offset] - SLOPE * apart, out=tallest[offset:])
    window = min(2 * round(STANDS_S / 4 * fps) + 1, frames - 1 + frames % 2)
    return tallest if window < 3 else np.asarray(savgol_filter(tallest, window, 1))


def _eased(on: Bool[np.ndarray, " frames"], fps: float) -> Float[np.ndarray, " frames"]:
    """1 where a stretch has lasted for a while, less at its ends, 0 outside."""
    return np.where(on, gaussian_filter1d(on.astype(float), AVERAGE_S * fps), 0.0)


def _about_x(angle: Float[np.ndarray, " frames"]) -> Rotation:
    return Rotation.from_rotvec(angle[:, None] * [1.0, 0.0, 0.0])


def bent(
    drop: Float[np.ndarray, " frames"],
    lengths: list[float],
    stride: float | Float[np.ndarray, " frames"] = 0.0,
) -> Float[np.ndarray, "frames 3"]:
    """Turns of hip, knee and ankle about x (radians) that shorten a leg by `drop` (metres) with the
    sole flat on the floor.

    Args:
        lengths: of thigh and shank.
        stride: how far the ankle is ahead of the hip besides; a leg that is too short for it is
            straight.
    """
    a, b = lengths
    down = np.maximum(a + b - drop, SHORTEST * (a + b))
    ahead = FORWARD * (a + b - down) + stride
    reach = np.minimum(np.hypot(down, ahead), a + b)
    knee = np.pi - np.arccos(np.clip((a * a + b * b - reach**2) / (2 * a * b), -1, 1))
    hip = np.arccos(np.clip((a * a + reach**2 - b * b) / (2 * a * reach), -1, 1))
    hip = hip + np.arctan2(ahead, down)
    return np.stack([-hip, knee, hip - knee], 1)
