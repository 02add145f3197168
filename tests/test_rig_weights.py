"""Skin weights: how they spread, and what moves as one."""

from __future__ import annotations

import numpy as np
import pytest

from mvai.geometry.laplacian import mesh_laplacian
from mvai.transfer.rig_weights import diffused, softness
from test_transfer import BODY


def strip(step_m: float) -> tuple[np.ndarray, np.ndarray]:
    """A band of one metre by a tenth, along x."""
    x, y = np.arange(0, 1 + 1e-9, step_m), np.arange(0, 0.1 + 1e-9, step_m)
    vertices = np.stack([*np.meshgrid(x, y, indexing="ij"), np.zeros((len(x), len(y)))], -1)
    i, j = np.meshgrid(np.arange(len(x) - 1), np.arange(len(y) - 1), indexing="ij")
    a = (i * len(y) + j).ravel()
    faces = np.concatenate(
        [np.stack([a, a + len(y), a + 1], 1), np.stack([a + 1, a + len(y), a + len(y) + 1], 1)]
    )
    return vertices.reshape(-1, 3), faces


def spread_width(step_m: float, width_m: float) -> float:
    """Length over which a step of weights has become a slope."""
    vertices, faces = strip(step_m)
    L, mass = mesh_laplacian(vertices, faces)
    right = (vertices[:, 0] > 0.5).astype(float)
    W = diffused(np.stack([1 - right, right], 1), L, mass, np.full(len(vertices), width_m))
    np.testing.assert_allclose(W.sum(1), 1, atol=1e-9)
    assert W.min() >= 0
    row = vertices[:, 1] == 0
    x, w = vertices[row, 0], W[row, 1]
    return float(np.interp(0.9, w, x) - np.interp(0.1, w, x))


def test_weights_spread_by_a_length_that_does_not_depend_on_the_mesh():
    coarse, fine = spread_width(0.02, 0.05), spread_width(0.01, 0.05)
    assert coarse == pytest.approx(fine, rel=0.1)
    # A step becomes exp(-|x| / width) / 2 on either side.
    assert fine == pytest.approx(2 * 0.05 * np.log(5), rel=0.1)
    assert spread_width(0.01, 0.0) < 0.011


def test_even_weights_stay():
    vertices, faces = strip(0.02)
    L, mass = mesh_laplacian(vertices, faces)
    W = np.tile([0.3, 0.7], (len(vertices), 1))
    width = np.random.default_rng(0).random(len(vertices)) * 0.1
    np.testing.assert_allclose(diffused(W, L, mass, width), W, atol=1e-9)


def test_hands_keep_their_fingers_apart():
    W = BODY.dense_weights.numpy().astype(float)
    width = softness(BODY, W, 1.7)
    finger = W[:, BODY.joint("LeftHandMiddle2")] > 0.9
    assert width[finger].max() < 0.006 < 0.02 < width[W[:, BODY.joint("Spine1")] > 0.5].min()
