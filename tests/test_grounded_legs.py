"""Legs that are not in the picture stand on the floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mvai.body.anny import anny_body
from mvai.geometry.rigid import degrees_between
from mvai.reconstruct.fit_clip import ClipFit
from mvai.reconstruct.grounded_legs import bent, grounded
from mvai.reconstruct.kinematics import Kinematics
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

FPS = 30.0


def sinking(frames: int = 90, deep_m: float = 0.4) -> tuple[ClipFit, Keypoints]:
    """A body with straight legs that goes down and up again, pelvis tilted, and what is seen of
    it: all but the legs."""
    kinematics = Kinematics(anny_body(), ("left_hip", "right_hip"), 10)
    t = np.arange(frames) / FPS
    u = torch.zeros(frames, 69)
    u[:, 0] = 0.2
    u[:, 4] = torch.from_numpy(-deep_m * np.exp(-(((t - 1.5) / 0.4) ** 2))).float()
    u[:, 5] = -3
    planted = np.zeros((frames - 1, 2), bool)
    fit = ClipFit(kinematics, u, torch.zeros(10), 800.0, 0.0, planted, R_level=np.eye(3))
    xy = np.full((frames, 33, 2), 300.0)
    below = [i for i, n in enumerate(BODY_KEYPOINTS) if n.split("_", 1)[-1] in
             ("knee", "ankle", "heel", "foot_index")]  # fmt: skip
    xy[:, below, 1] = 600.0
    return fit, Keypoints(BODY_KEYPOINTS, xy, np.full((frames, 33), 0.9), FPS, 640, 480)


def joints(fit: ClipFit) -> dict[str, np.ndarray]:
    """In level axes."""
    points = fit.kinematics.linearise(fit.u, fit.shape, derivatives=False).points.numpy()
    points = points @ fit.level()[:3, :3].T
    return {n: points[:, i] for i, n in enumerate(BODY_JOINTS)}


def test_knees_bend_when_the_hips_go_down():
    before, keypoints = sinking()
    fit = grounded(before, keypoints)
    was, now = joints(before), joints(fit)
    assert np.ptp(was["LeftFoot"][:, 1]) > 0.35
    for side in ("Left", "Right"):
        assert np.ptp(now[f"{side}Foot"][:, 1]) < 0.075
        flat = now[f"{side}ToeBase"] - now[f"{side}Foot"]
        assert np.ptp(np.degrees(np.arcsin(flat[:, 1] / np.linalg.norm(flat, axis=1)))) < 2
        thigh = now[f"{side}UpLeg"] - now[f"{side}Leg"]
        tilt = degrees_between(thigh, np.array([0.0, 1.0, 0.0]))
        assert tilt[0] < 8 and tilt[45] > 40
        # Knees go forward.
        assert now[f"{side}Leg"][45, 2] > now[f"{side}UpLeg"][45, 2] + 0.2
    # Nothing else moves.
    np.testing.assert_allclose(now["Head"], was["Head"], atol=1e-5)


def test_who_walks_down_a_slope_does_not_squat():
    before, keypoints = sinking(deep_m=0.0)
    u = before.u.clone()
    walked = torch.linspace(0, 2.5, 90)
    u[:, 5] += walked
    u[:, 4] -= 0.15 * walked
    now = joints(grounded(replace(before, u=u), keypoints))
    assert straighter(now).min() > 0.98


def straighter(now: dict[str, np.ndarray]) -> np.ndarray:
    """How straight the straighter leg is."""
    reach = []
    for side in ("Left", "Right"):
        hip, knee, ankle = (now[side + part] for part in ("UpLeg", "Leg", "Foot"))
        bones = np.linalg.norm(hip - knee, axis=1) + np.linalg.norm(knee - ankle, axis=1)
        reach.append(np.linalg.norm(hip - ankle, axis=1) / bones)
    return np.maximum(*reach)


def test_who_walks_makes_steps():
    before, keypoints = sinking(deep_m=0.0)
    u = before.u.clone()
    u[:, 5] += torch.linspace(0, 3.6, 90)
    now = joints(grounded(replace(before, u=u), keypoints))
    feet = np.stack([now["LeftFoot"], now["RightFoot"]], 1)
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * FPS
    low, high = np.sort(speed, axis=1)[5:-5].T
    # The slower foot stands but for its roll, the other one goes faster than the body.
    assert np.median(low) < 0.35 and np.percentile(high, 60) > 1.5
    ahead = feet[:, 0, 2] - feet[:, 1, 2]
    assert np.ptp(ahead) > 0.8 and 2 <= (np.diff(np.sign(ahead)) != 0).sum() <= 8
    assert straighter(now).min() > 0.95
    moved = joints(replace(before, u=u))
    np.testing.assert_allclose(now["Head"], moved["Head"], atol=1e-5)


@pytest.mark.parametrize("way", [0.8, 0.1])
def test_who_goes_a_little_way_or_slowly_makes_none(way: float):
    before, keypoints = sinking(deep_m=0.0)
    u = before.u.clone()
    u[:, 5] += torch.linspace(0, way, 90).clamp(max=0.8)
    now = joints(grounded(replace(before, u=u), keypoints))
    assert np.abs(now["LeftFoot"][:, 2] - now["RightFoot"][:, 2]).max() < 0.02


def test_thighs_that_are_seen_stand_still_unless_he_walks():
    """Knees in the picture, feet below it."""
    before, keypoints = sinking(deep_m=0.0)
    xy = keypoints.xy_px.copy()
    for side in ("left", "right"):
        xy[:, keypoints.index(f"{side}_knee"), 1] = 400.0
    cut = replace(keypoints, xy_px=xy)
    still = grounded(before, cut)
    assert torch.equal(still.u, before.u)
    u = before.u.clone()
    u[:, 5] += torch.linspace(0, 3.6, 90)
    now = joints(grounded(replace(before, u=u), cut))
    assert np.ptp(now["LeftFoot"][:, 2] - now["RightFoot"][:, 2]) > 0.8


def test_legs_that_are_seen_are_left_alone():
    fit, keypoints = sinking()
    seen = replace(keypoints, xy_px=np.full((90, 33, 2), 300.0))
    assert grounded(fit, seen) is fit


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.3, 0.5])
def test_a_bent_leg_is_shorter_by_the_drop_and_its_sole_is_flat(drop: float):
    a, b = 0.42, 0.40
    hip, knee, ankle = bent(np.array([drop]), [a, b])[0]
    assert np.isclose(hip + knee + ankle, 0) and knee >= 0 >= hip
    # A turn about x by t takes down, (0, -1, 0), to (0, -cos t, -sin t).
    height = a * np.cos(hip) + b * np.cos(hip + knee)
    assert np.isclose(height, a + b - drop, atol=1e-6)
