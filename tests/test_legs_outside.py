"""Legs that are not in the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mvai.reconstruct.legs_outside import ankle_outside, on_outside_feet, unseen_legs
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

HEIGHTS = {"shoulder": 0.3, "hip": 0.5, "knee": 0.7, "ankle": 0.9, "heel": 0.92, "foot_index": 0.93}
LEG = [BODY_JOINTS.index(f"Left{n}") - 1 for n in ("UpLeg", "Leg", "Foot")]


def standing(**left: float) -> Keypoints:
    """Points of the left leg at some heights of the picture, others as in HEIGHTS, one frame."""
    xy = np.full((1, 33, 2), 300.0)
    for part, at in HEIGHTS.items():
        for side in ("left", "right"):
            y = left.get(part, at) if side == "left" else at
            xy[0, BODY_KEYPOINTS.index(f"{side}_{part}"), 1] = 480 * y
    confidence = np.where(np.isfinite(xy[..., 1]), 0.9, 0.0)
    return Keypoints(BODY_KEYPOINTS, xy, confidence, 30.0, 640, 480)


def landmarks(thigh: tuple[float, float, float] = (0.0, -0.4, 0.0)) -> np.ndarray:
    xyz = np.zeros((1, 33, 3))
    for side in ("left", "right"):
        xyz[:, BODY_KEYPOINTS.index(f"{side}_shoulder")] = [0, 0.5, 0]
        xyz[:, BODY_KEYPOINTS.index(f"{side}_knee")] = thigh
    return xyz


def test_legs_in_the_picture_are_seen():
    keypoints = standing()
    assert not ankle_outside(keypoints, "left").any()
    assert not unseen_legs(keypoints, landmarks(), BODY_KEYPOINTS).any()


@pytest.mark.parametrize(
    "left",
    [
        {"knee": 0.9, "ankle": 1.05, "heel": 1.1, "foot_index": 1.1},
        {"knee": 0.9, "ankle": np.nan, "heel": np.nan, "foot_index": np.nan},
        {"knee": 0.9, "ankle": 0.985, "heel": 1.01, "foot_index": np.nan},
    ],
    ids=["below", "not found", "squeezed in"],
)
def test_who_stands_does_so_on_an_ankle_below_the_picture(left: dict[str, float]):
    keypoints = standing(**left)
    assert ankle_outside(keypoints, "left").all() and not ankle_outside(keypoints, "right").any()
    unseen = unseen_legs(keypoints, landmarks(), BODY_KEYPOINTS)[0]
    assert unseen[LEG].tolist() == [0, 1, 1] and unseen.sum() == 2
    # Somebody who sits has his thigh forward, and may have his foot anywhere.
    sits = landmarks((0.0, -0.05, 0.4))
    assert not unseen_legs(keypoints, sits, BODY_KEYPOINTS).any()
    out = on_outside_feet(keypoints, BODY_KEYPOINTS)[0]
    assert {n for n, o in zip(BODY_KEYPOINTS, out, strict=True) if o} == {
        "left_ankle", "left_heel", "left_foot_index"
    }  # fmt: skip


def test_an_ankle_hidden_in_the_picture_is_not_outside():
    hidden = standing(ankle=np.nan, heel=np.nan, foot_index=np.nan)
    assert not ankle_outside(hidden, "left").any()
    at_the_edge = standing(knee=0.75, ankle=0.98, heel=0.99, foot_index=0.99)
    assert not ankle_outside(at_the_edge, "left").any()


def test_a_leg_outside_from_the_knee_down_stands_wholly():
    keypoints = standing(knee=1.1, ankle=1.3, heel=1.3, foot_index=1.3)
    unseen = unseen_legs(keypoints, landmarks((0.0, -0.05, 0.4)), BODY_KEYPOINTS)[0]
    assert unseen[LEG].tolist() == [1, 1, 1]


def test_a_detector_without_legs_shows_none():
    keypoints = standing()
    kept = [i for i, n in enumerate(BODY_KEYPOINTS) if n.split("_", 1)[-1] in ("shoulder", "hip")]
    trunk = replace(
        keypoints,
        names=tuple(BODY_KEYPOINTS[i] for i in kept),
        xy_px=keypoints.xy_px[:, kept],
        confidence=keypoints.confidence[:, kept],
    )
    unseen = unseen_legs(trunk, landmarks()[:, kept], trunk.names)[0]
    assert unseen[LEG].tolist() == [1, 1, 1]
    assert not ankle_outside(trunk, "left").any()
