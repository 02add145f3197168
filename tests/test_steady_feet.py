"""Feet that stand keep their height."""

from __future__ import annotations

import numpy as np

from mvai.reconstruct.steady_feet import risen, stands

FPS = 30.0


def feet(frames: int) -> np.ndarray:
    """Two points that stand on the floor and one of a leg that is crossed over."""
    points = np.zeros((frames, 3, 3))
    points[:, 1, 2], points[:, 2, 1] = 0.2, 0.5
    return points


def test_a_camera_that_sways_does_not_lift_who_stands():
    t = np.arange(200) / FPS
    sway = 0.04 * np.exp(-(((t - 3) / 0.6) ** 2))
    points = feet(200)
    points[..., 1] += sway[:, None]
    points += np.random.default_rng(0).normal(0, 0.002, points.shape)
    still = stands(points, FPS)
    assert still[:, :2].mean() > 0.95 and not still[:, 2].any()
    rise = risen(points[..., 1], still, FPS)
    left = sway - rise
    assert np.ptp(left) < 0.01


def test_who_jumps_leaves_the_ground():
    t = np.arange(120) / FPS
    jump = np.maximum(0, 0.3 - 4.9 * (t - 2) ** 2)
    points = feet(120)[:, :2]
    points[..., 1] += jump[:, None]
    still = stands(points, FPS)
    assert not still[jump > 0.05].any() and still[:45].all()
    assert np.abs(risen(points[..., 1], still, FPS)).max() < 0.01


def test_steps_are_no_stands():
    t = np.arange(120) / FPS
    points = feet(120)[:, :2]
    for i in (0, 1):
        phase = (t / 1.0 + 0.5 * i) % 1
        swing = np.clip((phase - 0.6) / 0.4, 0, 1)
        points[:, i, 2] += 1.2 * (np.floor(t / 1.0 + 0.5 * i) + swing)
        points[:, i, 1] += 0.1 * np.sin(np.pi * swing)
    assert stands(points, FPS).mean() < 0.1


def test_nothing_moves_where_nobody_stands():
    height = np.linspace(0, 1, 50)[:, None]
    assert not risen(height, np.zeros((50, 1), bool), FPS).any()
