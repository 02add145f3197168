"""The path along the ground from standing feet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvai.transfer.rig_path import on_its_path
from mvai.transfer.rig_points import ADULT_LEG_M
from mvai.transfer.rig_source import SourceMotion

FPS = 30.0
FRAMES = 120


def striding(speed: float, goes: float, heading: float = 0.0, flight: float = 0.1) -> SourceMotion:
    """Feet that step at a body's `speed` (m/s) while the hips are seen to go at `goes`.

    Every foot stands for a part of its cycle of 0.7 s and swings forward, raised, for the rest.
    """
    t = np.arange(FRAMES) / FPS
    stance = 0.5 - flight
    ahead = np.array([np.sin(heading), 0, np.cos(heading)])
    feet = []
    for offset in (0.0, 0.5):
        phase = (t / 0.7 + offset) % 1
        swing = np.clip((phase - stance) / (1 - stance), 0, 1)
        step = speed * 0.7 * stance
        along = np.where(phase < stance, step * (0.5 - phase / stance), step * (swing - 0.5))
        up = 0.25 * np.sin(np.pi * swing) ** 2
        foot = along[:, None] * ahead + up[:, None] * [0, 1, 0]
        feet.append(np.stack([foot - 0.1 * ahead, foot + 0.1 * ahead], 1))
    travelled = (goes * t)[:, None] * ahead
    return SourceMotion(
        R_world_joint=np.tile(np.eye(3), (FRAMES, 1, 1, 1)),
        root=travelled + np.array([0, 0.9, 0]),
        leg_m=ADULT_LEG_M,
        feet=(feet[0] + travelled[:, None], feet[1] + travelled[:, None]),
        lowest=np.minimum(feet[0][..., 1].min(1), feet[1][..., 1].min(1)) - 0.03,
    )


SEEN = np.ones(FRAMES, bool)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.9, 3.0), st.floats(-np.pi, np.pi))
def test_who_runs_before_a_camera_that_follows_gets_on(speed, heading):
    motion, by_feet = on_its_path(striding(speed, 0.0, heading), FPS, SEEN, "auto")
    assert by_feet
    way = motion.root[-1] - motion.root[0]
    ahead = np.array([np.sin(heading), 0, np.cos(heading)])
    assert way @ ahead == pytest.approx(speed * (FRAMES - 1) / FPS, rel=0.12)
    assert np.linalg.norm(way - (way @ ahead) * ahead) < 0.02
    # The feet go along, and stand while they stand.
    moved = motion.feet[0] - striding(speed, 0.0, heading).feet[0]
    np.testing.assert_allclose(moved[:, 0], motion.root - striding(speed, 0.0, heading).root)


def test_a_still_camera_keeps_its_path():
    for seen in (
        striding(1.2, 1.2),
        striding(0.8, 1.2),
        striding(0.0, 0.0),
    ):
        motion, by_feet = on_its_path(seen, FPS, SEEN, "auto")
        assert not by_feet and motion is seen


def test_the_user_may_decide():
    still = striding(1.5, 0.0)
    assert on_its_path(still, FPS, SEEN, "camera") == (still, False)
    walk = striding(1.2, 1.2)
    motion, by_feet = on_its_path(walk, FPS, SEEN, "feet")
    assert by_feet
    np.testing.assert_allclose(motion.root, walk.root, atol=0.08 * 1.2 * FRAMES / FPS)


def test_nobody_stands_on_feet_in_the_air():
    motion = striding(1.5, 0.0)
    lying = SourceMotion(
        motion.R_world_joint, motion.root, motion.leg_m, motion.feet, motion.lowest - 0.5
    )
    assert not on_its_path(lying, FPS, SEEN, "auto")[1]
    assert not on_its_path(motion, FPS, ~SEEN, "auto")[1]


def test_one_frame_has_no_path():
    motion = striding(1.5, 0.0)
    one = SourceMotion(
        motion.R_world_joint[:1], motion.root[:1], motion.leg_m,
        (motion.feet[0][:1], motion.feet[1][:1]), motion.lowest[:1],
    )  # fmt: skip
    assert on_its_path(one, FPS, SEEN[:1], "feet") == (one, False)
