"""People who stand and sit: knees, trunk, feet on the floor, arms of the capture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvai.benchmark.poses import PoseClip
from mvai.benchmark.stances import (
    HANGING,
    SEATED,
    STANDING,
    Stance,
    in_place,
    leg_rotations,
    posed,
    seated,
    standing,
    wandering,
)
from mvai.body.anny import anny_body
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.types.names import BODY_JOINTS, SIDES

FRAMES = 40


def gesturing(frames: int = FRAMES) -> PoseClip:
    """Somebody who bends his knees and moves his arms."""
    pose = np.random.default_rng(5).normal(size=(frames, len(BODY_JOINTS), 3)) * 0.05
    pose[:, BODY_JOINTS.index("LeftLeg"), 0] = 1.2
    pose[:, BODY_JOINTS.index("LeftForeArm"), 1] -= np.linspace(0, 1.5, frames)
    return PoseClip(
        "made_01", pose.astype(np.float32), np.zeros((frames, 3), np.float32), 25.0,
        np.ones(frames, bool),
    )  # fmt: skip


def joints_of(clip: PoseClip) -> dict[str, np.ndarray]:
    body = anny_body()
    R = torch.eye(3).repeat(clip.frames, len(body.joints), 1, 1)
    R[:, [body.joint(n) for n in BODY_JOINTS]] = matrix_from_axis_angle(torch.from_numpy(clip.pose))
    rest = body.rest_joints(torch.zeros(1, body.shape_size))
    at = body.forward_kinematics(rest, R, torch.from_numpy(clip.translation))[1].numpy()
    return {n: at[:, body.joint(n)].astype(float) for n in BODY_JOINTS}


def knee_deg(at: dict[str, np.ndarray], side: str) -> np.ndarray:
    """How far the shank turns from the thigh, less what it does at rest."""
    body = anny_body()
    rest = {n: body.joint_template[body.joint(n)].numpy()[None] for n in BODY_JOINTS}

    def bend(p: dict[str, np.ndarray]) -> np.ndarray:
        thigh = p[f"{side}Leg"] - p[f"{side}UpLeg"]
        shank = p[f"{side}Foot"] - p[f"{side}Leg"]
        cosine = (thigh * shank).sum(-1) / np.linalg.norm(thigh, axis=-1)
        return np.degrees(np.arccos(np.clip(cosine / np.linalg.norm(shank, axis=-1), -1, 1)))

    return bend(at) - bend(rest)


def many(kind: Callable[[PoseClip, np.random.Generator], Stance], count: int = 40):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        clip = gesturing()
        yield posed(anny_body(), clip, kind(clip, rng), rng)


def test_who_stands_is_upright_on_nearly_straight_legs():
    knees, leans = [], []
    for clip in many(standing):
        at = joints_of(clip)
        knees.append(min(knee_deg(at, s).mean() for s in SIDES))
        trunk = at["Neck"] - at["Hips"]
        leans.append(np.degrees(np.arccos(trunk[:, 1] / np.linalg.norm(trunk, axis=1))).mean())
    assert np.median(knees) < 6
    assert max(knees) < 30
    assert np.median(leans) < 10


def test_who_sits_has_thighs_that_lie():
    for clip in many(seated):
        at = joints_of(clip)
        for side in SIDES:
            thigh = at[f"{side}Leg"] - at[f"{side}UpLeg"]
            assert (np.abs(thigh[:, 1]) < 0.75 * np.linalg.norm(thigh, axis=1)).all()
        assert (at["Neck"] - at["Hips"])[:, 1].min() > 0.3


@pytest.mark.parametrize("kind", [standing, seated])
def test_feet_stay_where_they_stand(kind):
    body = anny_body()
    height = (body.joint_template[body.joint("LeftFoot"), 1] - body.template[:, 1].min()).item()
    for clip in many(kind, 12):
        at = joints_of(clip)
        for side in SIDES:
            np.testing.assert_allclose(at[f"{side}Foot"][:, 1], height, atol=0.02)
            assert np.ptp(at[f"{side}Foot"], axis=0).max() < 0.01


def test_arms_are_those_of_the_capture_or_hang():
    arm = BODY_JOINTS.index("LeftForeArm")
    kept, hanging = 0, 0
    for clip in many(standing, 60):
        if np.allclose(clip.pose[:, arm], gesturing().pose[:, arm], atol=1e-6):
            kept += 1
            continue
        hanging += 1
        at = joints_of(clip)
        for side in SIDES:
            assert (at[f"{side}Hand"] - at[f"{side}Arm"])[:, 1].max() < -0.3
    assert hanging / (kept + hanging) == pytest.approx(HANGING, abs=0.2)


def test_a_share_of_the_people_stays_in_place():
    rng = np.random.default_rng(0)
    clip = gesturing(8)
    stayed = [in_place(anny_body(), clip, rng) is not clip for _ in range(400)]
    assert np.mean(stayed) == pytest.approx(STANDING + SEATED, abs=0.07)


def test_a_leg_ends_at_the_ankle_or_points_there():
    body = anny_body()
    at = {n: body.joint_template[body.joint(n)].numpy().astype(float) for n in BODY_JOINTS}
    rng = np.random.default_rng(1)
    hip = rng.normal(size=(20, 3)) * 0.02 + at["LeftUpLeg"]
    ankle = hip + [0.05, -0.6, 0.1] + rng.normal(size=(20, 3)) * 0.05
    ankle[10:] += [0.0, -1.0, 0.0]
    thigh, shank = leg_rotations(at, "Left", hip, ankle, np.array([0.0, 0.0, 1.0]))
    knee = hip + thigh @ (at["LeftLeg"] - at["LeftUpLeg"])
    end = knee + shank @ (at["LeftFoot"] - at["LeftLeg"])
    np.testing.assert_allclose(end[:10], ankle[:10], atol=1e-6)
    way, wanted = end[10:] - hip[10:], ankle[10:] - hip[10:]
    np.testing.assert_allclose(np.cross(way, wanted), 0, atol=1e-6)
    middle = (hip + end) / 2
    assert ((knee - middle)[:10, 2] > 0).all()
    for R in (thigh, shank):
        assert Rotation.from_matrix(R).magnitude().max() < np.pi


def test_drifts_have_the_spread_they_are_asked_for():
    path = wandering(20000, 25.0, np.array([3.0, -1.0]), 0.5, np.random.default_rng(0))
    np.testing.assert_allclose(path.mean(0), [3, -1], atol=0.1)
    np.testing.assert_allclose(path.std(0), 0.5, rtol=0.1)
    assert np.abs(np.diff(path, axis=0)).max() < 0.2
