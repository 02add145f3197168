"""Feet that stand stay where they are, and the camera moves instead."""

from __future__ import annotations

import numpy as np
import pytest

from mvai.reconstruct.steady_feet import moved, sway
from test_stance import FPS, low, standing, walking


def seen(feet: np.ndarray) -> np.ndarray:
    """What `sway` finds for somebody above his feet."""
    return sway(feet, feet.mean((1, 2)) + np.array([0.0, 1, 0]), low(feet), FPS)


def test_a_camera_that_sways_does_not_move_who_stands():
    t = np.arange(200) / FPS
    away = np.zeros((200, 3))
    away[:, 1] = 0.04 * np.exp(-(((t - 3) / 0.6) ** 2))
    away[:, 2] = 0.05 * np.sin(t)
    feet = standing(200) + away[:, None, None]
    feet += np.random.default_rng(0).normal(0, 0.002, feet.shape)
    left = away - seen(feet)
    assert np.ptp(left[:, 1]) < 0.01 and np.ptp(left[:, 2]) < 0.03
    assert np.ptp(away[:, 2]) > 0.09


def test_who_jumps_leaves_the_ground():
    t = np.arange(120) / FPS
    jump = np.maximum(0, 0.3 - 4.9 * (t - 2) ** 2)
    feet = standing(120)
    feet[..., 1] += jump[:, None, None]
    assert np.abs(seen(feet)).max() < 0.02


def test_a_walk_stays_as_it_is():
    feet, _ = walking(150)
    found = seen(feet)
    assert np.abs(found[:, [0, 2]]).max() < 0.05 and np.abs(found[:, 1]).max() < 0.01


def test_a_walk_does_not_climb_a_floor_that_slopes_a_little():
    feet, truth = walking(150)
    feet[..., 1] += 0.08 * feet[..., 2].mean((1, 2))[:, None, None]
    stood = (feet - seen(feet)[:, None, None])[truth][..., 1]
    assert np.ptp(feet[truth][..., 1]) > 0.4 and np.ptp(stood) < 0.1


def test_a_step_up_stays_a_step():
    feet = standing(180)
    feet[90:, ..., 1] += 0.3
    assert np.abs(seen(feet)[:, 1]).max() < 0.1


def test_legs_below_the_picture_keep_to_the_floor():
    feet = standing(90)
    t = np.arange(90) / FPS
    feet[..., 2] += t[:, None, None]
    feet[..., 1] += 0.1 * t[:, None, None]
    centre = feet.mean((1, 2))
    assert not sway(feet, centre, low(feet), FPS).any()
    found = sway(feet, centre, low(feet), FPS, np.ones(90, bool))
    assert np.ptp(feet[:, 0, 0, 1] - found[:, 1]) < 0.05


def test_who_jumps_with_his_legs_below_the_picture_jumps():
    t = np.arange(120) / FPS
    feet = standing(120)
    feet[..., 1] += np.maximum(0, 0.3 - 4.9 * (t - 2) ** 2)[:, None, None]
    feet[..., 1] += np.random.default_rng(0).normal(0, 0.002, feet.shape[:3])
    found = sway(feet, feet.mean((1, 2)), low(feet), FPS, np.ones(120, bool))
    assert np.abs(found[:, 1]).max() < 0.1


@pytest.mark.parametrize("frames", [0, 1, 5, 20])
def test_short_clips_are_left_alone(frames: int):
    assert not seen(standing(frames)).any()


def test_nothing_moves_where_nobody_stands():
    place = np.linspace(0, 1, 50)[:, None]
    assert not moved(place, np.zeros((50, 1), bool), FPS, 0.1, 0.01, 1.0).any()
