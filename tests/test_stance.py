"""Which feet stand."""

from __future__ import annotations

import numpy as np
import pytest

from mvai.geometry.stance import runs, stances

FPS = 30.0


def standing(frames: int) -> np.ndarray:
    """Heels and toes of two feet on the floor, 20 cm apart."""
    feet = np.zeros((frames, 2, 2, 3))
    feet[:, 1, :, 0], feet[:, :, 1, 2] = 0.2, 0.2
    return feet


def walking(frames: int, stride_m: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """A walk along z of one stride a second, and when each foot stands."""
    t = np.arange(frames) / FPS
    feet, stands = standing(frames), np.zeros((frames, 2), bool)
    for i in (0, 1):
        phase = (t + 0.5 * i) % 1
        swing = np.clip((phase - 0.6) / 0.4, 0, 1)
        smooth = swing * swing * (3 - 2 * swing)
        feet[:, i, :, 2] += (stride_m * (np.floor(t + 0.5 * i) + smooth))[:, None]
        feet[:, i, :, 1] += (0.12 * np.sin(np.pi * swing))[:, None]
        stands[:, i] = swing == 0
    return feet, stands


def low(feet: np.ndarray) -> np.ndarray:
    return feet[..., 1].min((1, 2)) - 0.02


def test_feet_of_a_walk_stand_in_turn():
    feet, truth = walking(150)
    found = stances(feet, low(feet), FPS).all(2)
    assert (found == truth).mean() > 0.85
    assert not (found[1:-1] & ~truth[1:-1] & ~truth[2:] & ~truth[:-2]).any()


def test_the_slower_foot_stands_though_both_slide_and_the_floor_slopes():
    feet, truth = walking(150)
    t = np.arange(150) / FPS
    feet[..., 2] += 0.2 * t[:, None, None]
    feet[..., 1] += 0.1 * t[:, None, None]
    found = stances(feet, low(feet), FPS).all(2)
    assert found[truth].mean() > 0.75 and found[~truth].mean() < 0.15


def test_a_foot_that_is_held_up_does_not_stand():
    feet = standing(90)
    feet[:, 1, :, 1] += 0.1
    found = stances(feet, low(feet), FPS)
    assert found[:, 0].all() and not found[:, 1].any()


def test_who_glides_does_not_stand():
    feet = standing(90)
    feet[..., 2] += np.arange(90)[:, None, None] / FPS
    assert not stances(feet, low(feet), FPS).any()


def test_who_jumps_leaves_the_floor_and_who_hangs_by_his_hands_has_none():
    t = np.arange(120) / FPS
    jump = np.maximum(0, 0.4 - 4.9 * (t - 2) ** 2)
    feet = standing(120)
    feet[..., 1] += jump[:, None, None]
    found = stances(feet, low(feet), FPS)
    assert found[:45].all() and not found[jump > 0.1].any()
    assert not stances(feet, low(feet) - 1.5, FPS).any()


@pytest.mark.parametrize("size", [0.3, 3.0])
def test_sizes_and_speeds_go_with_the_body(size: float):
    feet, _ = walking(120)
    now = stances(feet, low(feet), FPS)
    assert (stances(size * feet, size * low(feet), FPS, size) == now).all()


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_a_few_frames_are_enough(frames: int):
    feet = standing(frames)
    assert stances(feet, low(feet), FPS).shape == (frames, 2, 2)


def test_runs():
    assert runs(np.array([True, False, True, True])) == [(0, 1), (2, 4)]
    assert runs(np.zeros(3, bool)) == [] and runs(np.zeros(0, bool)) == []
