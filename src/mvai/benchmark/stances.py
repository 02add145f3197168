"""People who stand or sit and move their arms: what most videos show and captures seldom do.

Captures are of people who go somewhere. A network that sees nothing else takes whoever stands
straight to be about to move, with bent knees and a stoop. Here legs, trunk and head are drawn at
random from how people stand and sit, and the arms are those of a capture or hang.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mvai.benchmark.poses import PoseClip
from mvai.body.model import LinearBody
from mvai.geometry.rigid import shortest_rotation
from mvai.types.names import BODY_JOINTS, SIDES

STANDING, SEATED = 0.22, 0.06
"""Shares of the training people that stand and sit."""
HANGING = 0.4
"""Share of these whose arms hang, moving little."""
SLOW_S = 0.5
"""Standard deviation of the Gaussian over which posture changes, seconds."""
STRAIGHT = 0.9995
"""Share of its length at which a leg counts as straight, so that the knee keeps its direction."""
TRUNK = ("Spine", "Spine1", "Spine2")

Rotations = Float[np.ndarray, "frames 3 3"]
Path3 = Float[np.ndarray, "frames 3"]
Joints = Mapping[str, Float[np.ndarray, "3"]]
"""Where joints are at rest, by name."""
OUTWARDS: Mapping[str, float] = {"Left": 1.0, "Right": -1.0}
"""Sign of x away from the body."""


def in_place(
    body: LinearBody,
    clip: PoseClip,
    rng: np.random.Generator,
    shares: tuple[float, float] = (STANDING, SEATED),
) -> PoseClip:
    """The clip, or for a share of them somebody who stands or sits with the clip's arms.

    Args:
        body: the body that the clip is of.
        clip: what is captured.
        rng: draws whether, and how.
        shares: of those who stand and of those who sit.
    """
    draw = rng.random()
    if draw >= sum(shares):
        return clip
    stance = standing(clip, rng) if draw < shares[0] else seated(clip, rng)
    return posed(body, clip, stance, rng)


@dataclass(frozen=True)
class Stance:
    """Where hips and ankles are and how the trunk leans. Metres on the mean body, whose hips at
    rest are the origin; x to the person's left, y up, z forward."""

    hips: Path3
    """Relative to where they are at rest; for their height see `on_straight_legs`."""
    ankles: dict[str, Float[np.ndarray, "3"]]
    """Relative to the ground under the hips at rest and to the ankle's height at rest."""
    toes_out_deg: dict[str, float]
    """How far each knee and foot points outwards."""
    turn_deg: Path3
    """Of the hips about x, y and z."""
    bend_deg: Path3
    """Of the trunk against the hips."""
    on_straight_legs: bool
    """Whether the hips' height counts from where both feet are only just reached, not from where
    it is at rest."""


def wandering(
    frames: int, fps: float, mean: Float[np.ndarray, " n"], sway: float, rng: np.random.Generator
) -> Float[np.ndarray, "frames n"]:
    """Values that drift slowly about a mean with the standard deviation `sway`."""
    sigma = SLOW_S * fps
    margin = int(4 * sigma) + 1
    noise = gaussian_filter1d(rng.normal(size=(frames + 2 * margin, len(mean))), sigma, axis=0)
    # White noise keeps 1 / (2 sqrt(pi) sigma) of its variance behind a Gaussian.
    return mean + sway * np.sqrt(2 * np.sqrt(np.pi) * sigma) * noise[margin:-margin]


def standing(clip: PoseClip, rng: np.random.Generator) -> Stance:
    """Upright on two feet: knees straight or nearly so, weight on either leg."""
    n, fps = clip.frames, clip.fps
    width = abs(rng.normal(0.16, 0.08)) + 0.06
    step = rng.normal() * 0.06
    # 7 mm lower is 15 degrees of knee.
    low = 0.0 if rng.random() < 0.5 else abs(rng.normal()) * 0.012
    hips = wandering(n, fps, rng.normal(size=3) * [0.25 * width, 0, 0.01], 0.008, rng)
    hips[:, 1] = -low - 0.1 * np.abs(hips[:, 1])
    ankles = {side: np.array([sign * width / 2, 0, sign * step]) for side, sign in OUTWARDS.items()}
    out = {side: rng.normal(8.0, 7.0) for side in SIDES}
    turn = wandering(n, fps, rng.normal(size=3) * [2.5, 5.0, 2.0], 1.5, rng)
    bend = wandering(n, fps, rng.normal(size=3) * [5.0, 7.0, 4.0], 2.5, rng)
    return Stance(hips, ankles, out, turn, bend, on_straight_legs=True)


def seated(clip: PoseClip, rng: np.random.Generator) -> Stance:
    """On something as high as a shank, feet on the floor before it."""
    n, fps = clip.frames, clip.fps
    width = abs(rng.normal(0.22, 0.1)) + 0.06
    down = -0.42 + rng.normal() * 0.05
    forward = rng.normal(0.38, 0.09, 2)
    ankles = {
        side: np.array([sign * width / 2, 0, z])
        for (side, sign), z in zip(OUTWARDS.items(), forward, strict=True)
    }
    out = {side: rng.normal(10.0, 10.0) for side in SIDES}
    hips = wandering(n, fps, np.array([0.0, down, 0.0]), 0.004, rng)
    turn = wandering(n, fps, rng.normal(size=3) * [5.0, 3.0, 2.0] - [8.0, 0, 0], 1.0, rng)
    bend = wandering(n, fps, rng.normal(size=3) * [10.0, 8.0, 4.0] + [6.0, 0, 0], 3.0, rng)
    return Stance(hips, ankles, out, turn, bend, on_straight_legs=False)


def posed(body: LinearBody, clip: PoseClip, stance: Stance, rng: np.random.Generator) -> PoseClip:
    """The clip with legs, trunk and head of a stance, facing anywhere, feet on the floor."""
    n, fps = clip.frames, clip.fps
    at = {name: body.joint_template[body.joint(name)].numpy().astype(float) for name in BODY_JOINTS}
    local: dict[str, Path3] = dict(zip(BODY_JOINTS, clip.pose.transpose(1, 0, 2), strict=True))
    R_hips = Rotation.from_rotvec(stance.turn_deg, degrees=True).as_matrix()
    for name in TRUNK:
        local[name] = np.radians(stance.bend_deg / len(TRUNK))
    # The head stays up when the trunk leans.
    level = -0.5 * (stance.bend_deg + stance.turn_deg) * [1.0, 0.0, 1.0]
    for name in ("Neck", "Head"):
        nod = wandering(n, fps, rng.normal(size=3) * [5.0, 12.0, 3.0], 3.0, rng)
        local[name] = np.radians(0.5 * (level + nod))
    if rng.random() < HANGING:
        local |= hanging(at, n, fps, rng)
    up = np.array([0.0, 1.0, 0.0])
    feet = {side: a + at[f"{side}Foot"][1] * up for side, a in stance.ankles.items()}
    hips = stance.hips.copy()
    if stance.on_straight_legs:
        hips[:, 1] += height_on_straight_legs(at, R_hips, hips, feet)
    for side, foot in feet.items():
        hip = hips + R_hips @ at[f"{side}UpLeg"]
        out = np.radians(stance.toes_out_deg[side]) * OUTWARDS[side]
        front = np.array([np.sin(out), 0.0, np.cos(out)])
        thigh, shank = leg_rotations(at, side, hip, foot, front)
        R_foot = Rotation.from_euler("Y", out).as_matrix()
        local[f"{side}UpLeg"] = against(R_hips, thigh)
        local[f"{side}Leg"] = against(thigh, shank)
        local[f"{side}Foot"] = against(shank, R_foot)
        local[f"{side}ToeBase"] = np.zeros((n, 3))
    facing = Rotation.from_euler("Y", rng.uniform(0, 2 * np.pi))
    local["Hips"] = (facing * Rotation.from_matrix(R_hips)).as_rotvec()
    floor = float(body.template[:, 1].min())
    return replace(
        clip,
        pose=np.stack([local[name] for name in BODY_JOINTS], 1).astype(np.float32),
        translation=(facing.apply(hips) - [0.0, floor, 0.0]).astype(np.float32),
    )


def height_on_straight_legs(
    at: Joints, R_hips: Rotations, hips: Path3, feet: Mapping[str, Float[np.ndarray, "3"]]
) -> Float[np.ndarray, " frames"]:
    """The greatest height of the hips at which both feet are reached."""
    heights = []
    for side, foot in feet.items():
        hip = R_hips @ at[f"{side}UpLeg"]
        aside = (foot - hips - hip)[:, [0, 2]]
        length = STRAIGHT * sum(np.linalg.norm(bone) for bone in leg_bones(at, side))
        heights.append(foot[1] + np.sqrt(length**2 - (aside**2).sum(-1)) - hip[:, 1])
    return np.min(heights, axis=0)


def leg_bones(at: Joints, side: str) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Thigh and shank at rest."""
    knee = at[f"{side}Leg"]
    return knee - at[f"{side}UpLeg"], at[f"{side}Foot"] - knee


def hanging(at: Joints, frames: int, fps: float, rng: np.random.Generator) -> dict[str, Path3]:
    """Local rotations of arms that hang beside the body, elbows a little bent."""
    local = {}
    for side, sign in OUTWARDS.items():
        mean = np.array([rng.normal(0.2, 0.08), -1.0, rng.normal(-0.02, 0.1)])
        upper = wandering(frames, fps, mean, 0.03, rng) * [sign, 1.0, 1.0]
        mean = np.array([rng.normal(0.08, 0.08), -1.0, abs(rng.normal(0.15, 0.15))])
        fore = wandering(frames, fps, mean, 0.04, rng) * [sign, 1.0, 1.0]
        R_arm = shortest_rotation(at[f"{side}ForeArm"] - at[f"{side}Arm"], upper)
        R_fore = shortest_rotation(at[f"{side}Hand"] - at[f"{side}ForeArm"], fore)
        local[f"{side}Shoulder"] = np.zeros((frames, 3))
        local[f"{side}Arm"] = Rotation.from_matrix(R_arm).as_rotvec()
        local[f"{side}ForeArm"] = against(R_arm, R_fore)
        local[f"{side}Hand"] = np.zeros((frames, 3))
    return local


def leg_rotations(
    at: Joints,
    side: str,
    hip: Path3,
    ankle: Float[np.ndarray, "*#frames 3"],
    front: Float[np.ndarray, "3"],
) -> tuple[Rotations, Rotations]:
    """World rotations of thigh and shank that put the ankle there, or as near as the leg reaches.

    Args:
        at: joints at rest, by name.
        side: "Left" or "Right".
        hip: where the thigh begins.
        ankle: where the shank is to end.
        front: towards which the knee bends.
    """
    thigh, shank = leg_bones(at, side)
    a, b = np.linalg.norm(thigh), np.linalg.norm(shank)
    reach = ankle - hip
    length = np.linalg.norm(reach, axis=-1, keepdims=True)
    axis = reach / length
    distance = np.minimum(length, STRAIGHT * (a + b))
    # The knee of the triangle with sides a, b and `distance` (law of cosines).
    along = (a * a - b * b + distance * distance) / (2 * distance)
    across = front - (axis @ front)[:, None] * axis
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    to_knee = along * axis + np.sqrt(np.maximum(a * a - along * along, 0.0)) * across
    return shortest_rotation(thigh, to_knee), shortest_rotation(shank, distance * axis - to_knee)


def against(R_parent: Rotations, R: Rotations) -> Path3:
    """World rotations as local axis-angle vectors."""
    return Rotation.from_matrix(R_parent.transpose(0, 2, 1) @ R).as_rotvec()
