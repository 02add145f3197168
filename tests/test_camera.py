"""Cameras that stand and cameras that move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mvai.transfer.floor import camera_for
from mvai.types import Camera

PATH = np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.2, -0.3]])


def test_a_camera_that_moves_sees_the_same_when_all_moves_along():
    camera = Camera.from_focal(500, 640, 480)
    points = np.random.default_rng(0).normal(size=(3, 5, 3)) - [0, 0, 5]
    still = camera.project(points)
    along = replace(camera, path_m=PATH)
    np.testing.assert_allclose(along.project(points + PATH[:, None]), still)
    assert np.abs(along.project(points) - still).max() > 5


def test_one_frame_of_it_is_a_camera_that_stands():
    camera = replace(Camera.from_focal(500, 640, 480), path_m=PATH)
    points = np.random.default_rng(1).normal(size=(3, 5, 3)) - [0, 0, 5]
    for f in range(3):
        assert camera.at(f).path_m is None
        np.testing.assert_allclose(camera.at(f).project(points[f]), camera.project(points)[f])
    still = Camera.from_focal(500, 640, 480)
    assert still.at(2) is still


def test_a_characters_camera_moves_in_its_own_scale():
    camera = replace(Camera.from_focal(500, 640, 480), path_m=PATH)
    points = np.random.default_rng(2).normal(size=(3, 5, 3)) - [0, 0, 5]
    shift = np.array([0.0, 0.4, 0.0])
    np.testing.assert_allclose(
        camera_for(camera, 0.5, shift).project(0.5 * points + shift), camera.project(points)
    )
