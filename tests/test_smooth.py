"""Smoothing: what every method must leave alone, and what it must take out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvai.smooth import METHODS, method
from mvai.smooth.gaussian import Gaussian
from mvai.smooth.one_euro import OneEuro
from mvai.smooth.savgol import SavitzkyGolay
from mvai.types import MeshSequence, MvaiError

FACES = np.array([[0, 1, 2]])
LINEAR = ["gaussian", "savgol"]
ACTIVE = [*LINEAR, "one-euro"]
DISPLACING = ["mesh2mesh", "smoothnet"]
"""Networks that may also displace what does not move."""


def sequence(vertices: np.ndarray, fps: float = 30.0) -> MeshSequence:
    return MeshSequence(vertices.astype(np.float32), FACES, fps)


def smoothed(name: str, vertices: np.ndarray, fps: float = 30.0) -> np.ndarray:
    return method(name)().smooth(sequence(vertices, fps)).vertices


def waving(fps: float, seconds: float = 3.0) -> np.ndarray:
    """Three vertices swinging at up to 1 Hz."""
    t = np.arange(round(seconds * fps)) / fps
    phase = 2 * np.pi * t[:, None, None] + np.arange(3)[None, :, None]
    return 0.3 * np.sin(phase * np.array([1.0, 0.7, 0.4]))


def jitter(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.01, size=shape)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in DISPLACING])
@settings(deadline=None, max_examples=15)
@given(frames=st.integers(1, 40), fps=st.sampled_from([5.0, 24.0, 29.97, 60.0, 240.0]))
def test_rest_is_left_alone(name: str, frames: int, fps: float):
    rest = np.tile(np.array([[0.1, 2.0, -3.0], [0, 0, 0], [1, 1, 1]]), (frames, 1, 1))
    out = smoothed(name, rest, fps)
    assert out.dtype == np.float32 and out.shape == rest.shape
    np.testing.assert_allclose(out, rest, atol=2e-6)


@pytest.mark.parametrize("name", LINEAR)
@settings(deadline=None, max_examples=15)
@given(frames=st.integers(2, 80), fps=st.sampled_from([12.5, 30.0, 60.0, 120.0]))
def test_steady_motion_is_left_alone_up_to_the_ends(name: str, frames: int, fps: float):
    t = np.arange(frames)[:, None, None] / fps
    steady = np.array([[0, 1, 0], [0.5, 0, 2], [0, 0, 0]]) + t * np.array([1.2, -0.1, 0.4])
    np.testing.assert_allclose(smoothed(name, steady, fps), steady, atol=1e-5)


def test_one_euro_does_not_lag_behind_steady_motion():
    t = np.arange(120)[:, None, None] / 30
    steady = np.zeros((1, 3, 3)) + t * np.array([1.2, 0, 0])
    inner = slice(40, -40)
    np.testing.assert_allclose(smoothed("one-euro", steady)[inner], steady[inner], atol=1e-3)
    causal = OneEuro(zero_phase=False).smooth(sequence(steady)).vertices
    assert (causal[inner, :, 0] < steady[inner, :, 0] - 0.01).all()


@pytest.mark.parametrize("name", ACTIVE)
def test_frame_rate_does_not_matter(name: str):
    slow, fast = waving(30), waving(60)
    difference = smoothed(name, fast, 60)[::2] - smoothed(name, slow, 30)
    effect = np.abs(smoothed(name, slow, 30) - slow).max()
    inner = np.abs(difference[15:-15]).max()
    assert inner < 0.003
    # Methods that change this motion by more than that must change it alike at both rates.
    assert inner < max(0.35 * effect, 1e-3)


@pytest.mark.parametrize("name", ACTIVE)
def test_noise_is_reduced_and_motion_kept(name: str):
    truth = waving(30)
    noisy = truth + jitter(truth.shape)
    out = smoothed(name, noisy)
    before, after = (np.abs(v - truth).mean() for v in (noisy, out))
    assert after < 0.85 * before

    def acceleration(v: np.ndarray) -> float:
        return float(np.abs(np.diff(v, 2, axis=0)).mean())

    assert acceleration(out) < 0.65 * acceleration(noisy)


@pytest.mark.parametrize("name", ACTIVE)
@settings(deadline=None, max_examples=15)
@given(shift=st.tuples(*[st.floats(-5, 5)] * 3), angle=st.floats(-3, 3))
def test_world_frame_does_not_matter(name: str, shift, angle: float):
    c, s = np.cos(angle), np.sin(angle)
    R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    path = waving(30, 1.0) + jitter((30, 3, 3))
    moved = smoothed(name, path @ R.T + shift)
    np.testing.assert_allclose(moved, smoothed(name, path) @ R.T + shift, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVE)
def test_time_reversal_does_not_matter(name: str):
    path = waving(30, 1.0) + jitter((30, 3, 3))
    np.testing.assert_allclose(smoothed(name, path[::-1])[::-1], smoothed(name, path), atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_input_and_the_rest_of_the_sequence_stay(name: str):
    path = waving(30).astype(np.float32)
    given_in = MeshSequence(path.copy(), FACES, 30.0, "anny", confidence=np.ones(len(path)))
    out = method(name)().smooth(given_in)
    np.testing.assert_array_equal(given_in.vertices, path)
    assert (out.fps, out.topology) == (30.0, "anny")
    assert out.faces is FACES and out.confidence is given_in.confidence


@pytest.mark.parametrize("name", ACTIVE)
def test_vertices_are_filtered_one_like_the_other(name: str):
    """Blocks of vertices must not show: more vertices than a block, all with one path."""
    path = waving(30, 1.0)[:, :1] + jitter((30, 1, 3))
    out = smoothed(name, np.repeat(path, 5000, axis=1))
    np.testing.assert_allclose(out, np.repeat(out[:, :1], 5000, axis=1), atol=1e-6)


def test_savgol_is_a_least_squares_fit():
    """The fast filter against one polynomial fit for every frame."""
    path = waving(30, 1.0) + jitter((30, 3, 3))
    half, n = 4, 30
    expected = np.empty_like(path)
    for i in range(n):
        start = min(max(i - half, 0), n - 2 * half - 1)
        t = np.arange(start, start + 2 * half + 1)
        for v in range(3):
            for d in range(3):
                expected[i, v, d] = np.polyval(np.polyfit(t - i, path[t, v, d], 2), 0)
    out = SavitzkyGolay(window_s=2 * half / 30).smooth(sequence(path)).vertices
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_one_euro_is_the_filter_of_the_paper():
    """Algorithm 1 of Casiez et al. in one dimension, value by value."""
    x = np.cumsum(np.random.default_rng(1).normal(size=50)) * 0.05
    fps, cutoff, beta, derivative = 30.0, 1.5, 2.0, 1.0

    def alpha(hz: float) -> float:
        tau = 1 / (2 * np.pi * hz)
        return 1 / (1 + tau * fps)

    expected, speed = [x[0]], 0.0
    for value in x[1:]:
        slope = (value - expected[-1]) * fps
        speed = alpha(derivative) * slope + (1 - alpha(derivative)) * speed
        a = alpha(cutoff + beta * abs(speed))
        expected.append(a * value + (1 - a) * expected[-1])
    path = np.zeros((50, 1, 3))
    path[:, 0, 1] = x
    out = OneEuro(cutoff, beta, derivative, zero_phase=False).smooth(sequence(path, fps)).vertices
    np.testing.assert_allclose(out[:, 0, 1], expected, atol=1e-5)


def test_gaussian_is_as_wide_as_it_says():
    pulse = np.zeros((201, 1, 3))
    pulse[100] = 1.0
    out = Gaussian(sigma_s=0.1).smooth(sequence(pulse, 100.0)).vertices[:, 0, 0]
    t = (np.arange(201) - 100) / 100
    assert np.sqrt((out * t**2).sum() / out.sum()) == pytest.approx(0.1, rel=0.01)


def test_gaussian_wider_than_the_clip_needs_no_more_memory():
    path = np.random.default_rng(0).normal(size=(20, 3, 3))
    widest = Gaussian(sigma_s=20 / 100.0).smooth(sequence(path, 100.0))
    beyond = Gaussian(sigma_s=1e9).smooth(sequence(path, 100.0))
    np.testing.assert_array_equal(beyond.vertices, widest.vertices)


def test_unknown_method_is_named():
    with pytest.raises(MvaiError, match=r"wobble.*none, gaussian, savgol, one-euro"):
        method("wobble")
