"""Surfaces, Laplacians, rigid fits and triangulation."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.geometry.laplacian import inpaint, mesh_laplacian
from mvai.geometry.rigid import degrees_between, nearest_rotations, shortest_rotation, similarity
from mvai.geometry.surface import (
    asymmetry_about_x,
    averaged,
    components,
    edges,
    neighbour_mean,
    sample_surface,
    vertex_normals,
    weld,
)
from mvai.geometry.triangulate import triangulate
from mvai.geometry.winding import outward_faces
from mvai.types import Camera

seeds = st.integers(0, 10_000)


@given(seeds)
def test_nearest_rotation_leaves_rotations_alone(seed: int) -> None:
    R = Rotation.random(3, random_state=seed).as_matrix()
    np.testing.assert_allclose(nearest_rotations(R * 2.5), R, atol=1e-9)
    mirrored = R @ np.diag([1, 1, -1.0])
    np.testing.assert_allclose(np.linalg.det(nearest_rotations(mirrored)), 1, atol=1e-9)


@given(seeds)
def test_similarity_recovers_what_was_applied(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 3))
    R = Rotation.random(random_state=seed).as_matrix()
    s, t = rng.uniform(0.2, 3), rng.normal(size=3)
    s2, R2, t2 = similarity(x, s * x @ R.T + t)
    np.testing.assert_allclose([s2, *R2.ravel(), *t2], [s, *R.ravel(), *t], atol=1e-8)


@given(seeds)
def test_shortest_rotation_turns_one_direction_into_the_other(seed: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 3))
    R = shortest_rotation(a, b)
    np.testing.assert_allclose(R @ a / np.linalg.norm(a), b / np.linalg.norm(b), atol=1e-7)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)


@pytest.fixture(scope="module")
def ball() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_degrees_between_directions():
    x = np.array([2.0, 0, 0])
    others = np.array([[1.0, 0, 0], [1, 1e-9, 0], [1, 1, 0], [0, 0, 3], [-5, 0, 0]])
    expected = [0, np.degrees(1e-9), 45, 90, 180]
    np.testing.assert_allclose(degrees_between(x, others), expected, rtol=1e-9)


def test_sphere_normals_and_samples(ball: tuple[np.ndarray, np.ndarray]) -> None:
    vertices, faces = ball
    assert (vertex_normals(vertices, faces) * vertices).sum(1).min() > 0.99
    points, normals = sample_surface(vertices, faces, 2000)
    assert np.abs(points.mean(0)).max() < 0.05
    assert (points * normals).sum(1).min() > 0.9


def test_weld_and_components(ball: tuple[np.ndarray, np.ndarray]) -> None:
    vertices, faces = ball
    split = vertices[faces.ravel()]
    first, welded = weld(split, 1e-5)
    assert len(first) == len(vertices)
    np.testing.assert_allclose(split[first][welded], split, atol=1e-5)
    two = np.concatenate([faces, faces + len(vertices)])
    assert len(np.unique(components(2 * len(vertices), two))) == 2
    assert len(edges(faces)) == len(faces) * 3 // 2


def test_averaging_over_neighbours() -> None:
    """Two triangles on one edge, and a vertex that nothing touches."""
    mean = neighbour_mean(5, np.array([[0, 1, 2], [1, 3, 2]]))
    values = np.array([[0.0], [3.0], [6.0], [9.0], [5.0]])
    once = averaged(values, mean, 1)
    np.testing.assert_allclose(once[:, 0], [2.25, 4.0, 5.0, 6.75, 5.0])
    np.testing.assert_allclose(averaged(values, mean, 2), averaged(once, mean, 1))
    apart = averaged(values, mean, 1, np.array([1.0, 0.0, 0.5, 0.0, 1.0]))
    np.testing.assert_allclose(apart[:, 0], [2.25, 3.0, 5.5, 9.0, 5.0])


def test_asymmetry() -> None:
    points = np.random.default_rng(0).normal(size=(200, 3))
    both = np.concatenate([points, points * [-1, 1, 1]])
    assert asymmetry_about_x(both) < 1e-12 < asymmetry_about_x(both + np.array([1, 0, 0]))


def test_inpainting_is_smooth_and_keeps_what_is_known(
    ball: tuple[np.ndarray, np.ndarray],
) -> None:
    vertices, faces = ball
    L, mass = mesh_laplacian(vertices, faces)
    height = vertices[:, 1:2]
    known = np.abs(vertices[:, 1]) > 0.5
    values = np.where(known[:, None], height, 0)
    filled = inpaint(L, mass, known, np.concatenate([values, np.ones_like(values)], 1))
    np.testing.assert_array_equal(filled[known, :1], height[known])
    # Height is nearly what a smooth function between two caps is; a constant stays constant.
    assert np.abs(filled[:, :1] - height).max() < 0.1
    np.testing.assert_allclose(filled[:, 1], 1, atol=1e-6)


def test_triangulation_outvotes_wrong_views() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(10, 3)) * 0.5
    cameras = []
    for angle in np.linspace(-1, 1, 6):
        T = np.eye(4)
        T[:3, :3] = np.diag([1, -1, -1]) @ Rotation.from_rotvec([0, angle, 0]).as_matrix()
        T[2, 3] = 4
        cameras.append(Camera(np.array([[600, 0, 320], [0, 600, 320], [0, 0, 1.0]]), 640, 640, T))
    xy = np.stack([c.project(points) for c in cameras]) + rng.normal(size=(6, 10, 2)) * 0.5
    confidence = np.ones((6, 10))
    xy[0, :5] += 100
    xy[3, 5] = np.nan
    confidence[1:, 9] = 0
    found, votes = triangulate(xy, confidence, cameras, tolerance_px=5)
    assert np.linalg.norm(found[:9] - points[:9], axis=1).max() < 0.02
    assert np.isnan(found[9]).all() and votes[9] == 0


def _ball_and_card() -> tuple[np.ndarray, np.ndarray]:
    """A ball with a hole, a smaller one in it, and a flat card of two faces beside them."""
    ball = trimesh.creation.icosphere(3)
    v, f = np.asarray(ball.vertices), np.asarray(ball.faces)
    card = np.array([[3, 0, 0], [4, 0, 0], [4, 1, 0], [3, 1, 0]], float)
    vertices = np.concatenate([v, 0.5 * v, card])
    pair = np.array([[0, 1, 2], [0, 2, 3]]) + 2 * len(v)
    return vertices, np.concatenate([f[40:], f + len(v), pair])


@given(seeds, st.booleans())
def test_faces_turned_at_random_look_outwards_again(seed: int, soup: bool) -> None:
    vertices, faces = _ball_and_card()
    wrong = np.random.default_rng(seed).random(len(faces)) < 0.5
    wrong[-2:] = False
    given_faces = np.where(wrong[:, None], faces[:, ::-1], faces)
    empty = given_faces[:, [0, 0, 1]]  # As strips of triangles have them.
    given_faces = np.concatenate([empty, given_faces])
    if soup:  # Every face has its own vertices, as in an STL file.
        vertices, given_faces = (
            vertices[given_faces.ravel()],
            np.arange(given_faces.size).reshape(-1, 3),
        )
    found = outward_faces(vertices, given_faces)[len(faces) :]
    n = np.cross(*(vertices[found[:, k]] - vertices[found[:, 0]] for k in (1, 2)))
    out = (n * vertices[found].mean(1)).sum(1)
    assert (out[:-2] > 0).all()
    np.testing.assert_array_equal(found[-2:], given_faces[-2:])  # A card has no outside.


def test_one_sided_and_empty_faces_do_no_harm() -> None:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    edge = np.stack([np.cos(t), np.sin(t), 0 * t], 1)
    up = np.stack([np.cos(t) * np.cos(t / 2), np.sin(t) * np.cos(t / 2), np.sin(t / 2)], 1)
    strip = np.stack([edge - 0.3 * up, edge + 0.3 * up], 1).reshape(-1, 3)
    i = 2 * np.arange(39)
    faces = np.concatenate([np.stack([i, i + 2, i + 1], 1), np.stack([i + 1, i + 2, i + 3], 1)])
    moebius = np.concatenate([faces, [[78, 1, 79], [79, 1, 0]], [[5, 5, 6], [7, 7, 7]]])
    found = outward_faces(strip, moebius)
    np.testing.assert_array_equal(np.sort(found, 1), np.sort(moebius, 1))
    for nothing in (np.empty((0, 3), int), np.zeros((2, 3), int)):
        np.testing.assert_array_equal(outward_faces(strip, nothing), nothing)
