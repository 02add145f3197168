"""SA-PD: skeleton alignment, bone transformations, bone heat with visibility, skinning."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.body.skinning import posed_vertices
from mvai.geometry.rigid import transforms
from mvai.transfer.sa_pd import bind
from mvai.transfer.sa_pd_skeleton import Skeleton, aligned, bone_rotations
from mvai.transfer.sa_pd_visibility import solid
from mvai.transfer.sa_pd_weights import bone_heat_weights, strongest
from mvai.types import Animation, Character, Part

TREE = Skeleton(("root", "a", "b", "left", "left_end", "up"), (-1, 0, 1, 0, 3, 0))
REST = np.array([[0, 0, 0], [0, -1, 0], [0, -2, 0.1], [1, 0, 0], [1.5, 0, 0], [0, 0.7, 0.2]], float)


def tube(
    length: float, radius: float, around: int = 16, along: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """A closed tube along y from 0 to `length`."""
    angle = np.arange(around) * 2 * np.pi / around
    ring = radius * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)
    y = np.linspace(0, length, along)
    v = (ring[None] + y[:, None, None] * [0, 1, 0]).reshape(-1, 3)
    v = np.concatenate([v, [[0, 0, 0], [0, length, 0]]])
    i, j = np.meshgrid(np.arange(along - 1), np.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    f = np.stack([np.stack([a, a + around, b], -1), np.stack([b, a + around, b + around], -1)], 2)
    k = np.arange(around)
    n, top = len(v), (along - 1) * around
    caps = [
        np.stack([k, (k + 1) % around, 0 * k + n - 2], 1),
        np.stack([top + (k + 1) % around, top + k, 0 * k + n - 1], 1),
    ]
    return v, np.concatenate([f.reshape(-1, 3), *caps])


def random_pose(seed: int, frames: int = 3) -> np.ndarray:
    return REST + np.random.default_rng(seed).normal(0, 0.4, (frames, len(REST), 3))


@given(st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_alignment_keeps_lengths_and_directions(seed: int) -> None:
    pose = random_pose(seed)
    out = aligned(TREE, pose, REST)
    assert np.allclose(out[:, 0], REST[0])
    for i in TREE.bones:
        p = TREE.parents[i]
        own, theirs = out[:, i] - out[:, p], pose[:, i] - pose[:, p]
        assert np.allclose(np.linalg.norm(own, axis=1), np.linalg.norm(REST[i] - REST[p]))
        cosine = (own * theirs).sum(1) / np.linalg.norm(own, axis=1)
        assert np.allclose(cosine, np.linalg.norm(theirs, axis=1))


@given(st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_bones_reach_the_aligned_skeleton(seed: int) -> None:
    posed = aligned(TREE, random_pose(seed), REST)
    R = bone_rotations(TREE, posed, REST)
    assert np.allclose(R @ R.transpose(0, 1, 3, 2), np.eye(3), atol=1e-6)
    for b, i in enumerate(TREE.bones):
        p = TREE.parents[i]
        assert np.allclose(R[:, b] @ (REST[i] - REST[p]), posed[:, i] - posed[:, p], atol=1e-6)


@given(st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_a_turn_of_the_whole_body_turns_every_bone(seed: int) -> None:
    Q = Rotation.random(random_state=seed).as_matrix()
    R = bone_rotations(TREE, (REST @ Q.T)[None], REST)
    assert np.allclose(R, Q, atol=1e-6)


def test_heat_follows_the_nearest_bone_and_sums_to_one() -> None:
    v, f = tube(2.0, 0.15)
    heads, tails = np.array([[0, 0.05, 0], [0, 1, 0]]), np.array([[0, 1, 0], [0, 1.95, 0]])
    W = bone_heat_weights(v, f, heads, tails)
    assert np.allclose(W.sum(1), 1)
    assert (W[v[:, 1] < 0.6, 0] > 0.95).all()
    assert (W[v[:, 1] > 1.4, 1] > 0.95).all()
    # Smooth across the joint, and symmetric about it.
    middle = np.abs(v[:, 1] - 1) < 0.1
    assert (W[middle].min(1) > 0.05).all()
    assert np.isclose(W[:, 0].mean(), 0.5, atol=0.02)


def test_only_visible_bones_heat() -> None:
    """Two tubes side by side: the skin between them is nearer to the other tube's bone."""
    v, f = tube(2.0, 0.25, along=60)
    off = np.array([0.62, 0, 0])
    vertices, faces = np.concatenate([v, v + off]), np.concatenate([f, f + len(v)])
    # The second tube's bone lies near its wall, towards the first tube.
    x = 0.62 - 0.23
    heads = np.array([[-0.2, 0.1, 0], [x, 0.1, 0]])
    tails = np.array([[-0.2, 1.9, 0], [x, 1.9, 0]])
    facing = np.flatnonzero(v[:, 0] > 0.24)
    blind = bone_heat_weights(vertices, faces, heads, tails, visibility=False)
    seeing = bone_heat_weights(vertices, faces, heads, tails)
    assert (blind[facing, 1] > 0.5).all()
    assert (seeing[facing, 0] > 0.99).all()


def test_inner_layers_and_open_borders_do_not_block() -> None:
    outer, f = tube(2.0, 0.3)
    inner, _ = tube(2.0, 0.2)
    faces = np.concatenate([f[:-16], f + len(outer)])  # the outer tube is open at its top
    cells = solid(np.concatenate([outer, inner]), faces)
    start = outer[np.abs(outer[:, 1] - 1) < 0.3]
    assert cells.sees(start, start * [0, 1, 0]).all()
    assert not cells.sees(start, start * [3, 1, 3]).any()


def test_non_manifold_parts_and_loose_vertices() -> None:
    v, f = tube(2.0, 0.15)
    fin = np.array([v[5], v[6], [0.6, 0.1, 0.0]])
    button, g = tube(0.05, 0.02, along=4)
    vertices = np.concatenate([v, fin, button + np.array([0.17, 1.6, 0]), [[0.4, 0.4, 0.4]]])
    faces = np.concatenate([f, [[5, 6, len(v) + 2]], g + len(v) + 3])
    heads, tails = np.array([[0, 0.05, 0], [0, 1, 0]]), np.array([[0, 1, 0], [0, 1.95, 0]])
    W = bone_heat_weights(vertices, faces, heads, tails)
    assert np.isfinite(W).all()
    assert np.allclose(W.sum(1), 1)
    assert (W[len(v) + 3 : -1, 1] > 0.95).all()
    assert W[-1, 0] > 0.9
    # Vertices at one place move together.
    assert np.allclose(W[len(v)], W[5])


def test_bound_character_follows_its_bones() -> None:
    v, f = tube(2.0, 0.15)
    skeleton = Skeleton(("root", "middle", "end"), (-1, 0, 1))
    points = np.array([[0, 0.05, 0], [0, 1, 0], [0, 1.95, 0]])
    ready = bind(Character("tube", (Part("tube", v, f),)), skeleton, points)
    assert ready.skin.joints == ("root_middle", "middle_end")
    assert ready.skin.parents == (-1, 0)
    bent = points.copy()
    bent[2] = [0.95, 1, 0]
    R = bone_rotations(skeleton, aligned(skeleton, bent[None], points), points)
    Ts = transforms(R, points[None, :2])
    out = posed_vertices(Animation(ready.character, 30.0, ready.skin, Ts))[0]
    far = v[:, 1] > 1.5
    expected = np.stack([v[:, 1] - 1, 1 - v[:, 0], v[:, 2]], 1)
    assert np.abs(out[far] - expected[far]).max() < 0.02
    assert np.abs(out[v[:, 1] < 0.5] - v[v[:, 1] < 0.5]).max() < 0.02


def test_strongest_influences() -> None:
    W = np.random.default_rng(0).dirichlet(np.ones(9), 50)
    indices, weights = strongest(W)
    assert indices.shape == (50, 4)
    assert np.allclose(weights.sum(1), 1, atol=1e-6)
    assert (np.diff(weights, axis=1) <= 1e-7).all()
