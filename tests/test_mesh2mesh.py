"""mesh2mesh: the paper's network, its fast twin, sequences and streams."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mesh2mesh_makers import PAPER, random_network, saved, tetrahedra
from mvai.nets.mesh2mesh import FoldedMesh2Mesh, Mesh2Mesh
from mvai.nets.smoother_files import save_smoother
from mvai.nets.windows import (
    Windows,
    Working,
    blended,
    gaussian_matrix,
    resampling,
    surface_weights,
)
from mvai.smooth.mesh2mesh import Mesh2Mesh as Smoother
from mvai.train.mesh2mesh import vertex_reach
from mvai.types import T_CAMERA_WORLD, Camera, MeshSequence, MvaiError

# The network.


def test_the_paper_s_form():
    network = Mesh2Mesh()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert len(convolutions) == 8
    for layer in convolutions:
        assert layer.kernel_size == (5, 1, 3)
        assert layer.stride == (1, 1, 1)
        assert layer.padding == (2, 0, 1)
    assert convolutions[0].in_channels == convolutions[-1].out_channels == 1
    for vertices in (1, 7, 431):
        cuboid = torch.randn(2, 16, vertices, 3)
        assert network(cuboid).shape == cuboid.shape


@pytest.mark.parametrize("kernel", [(5, 1, 3), (5, 3, 3), (3, 1, 3), (5, 1, 1)])
@pytest.mark.parametrize("layers", [3, 8, 12])
def test_every_form_of_the_ablation_keeps_the_volume(kernel, layers):
    network = Mesh2Mesh(dataclasses.replace(PAPER, kernel=kernel, layers=layers, width=2))
    assert len(network.layers) == layers
    cuboid = torch.randn(1, 16, 9, 3)
    assert network(cuboid).shape == cuboid.shape
    reach = vertex_reach(network.settings)
    assert reach == (layers if kernel[1] == 3 else 0)


def test_zero_edges_are_the_padding_of_the_convolution():
    """With `edges="zero"` the network is nothing but a chain of padded convolutions."""
    network = random_network(edges="zero", activation="relu")
    x = cuboid = torch.randn(1, 16, 5, 3)
    x = x.unsqueeze(1)
    for i, layer in enumerate(network.layers):
        x = layer(x) if i == 7 else torch.relu(layer(x))
    torch.testing.assert_close(network(cuboid), x.squeeze(1))


def test_vertices_do_not_see_each_other():
    network = random_network()
    cuboid = torch.randn(1, 16, 20, 3)
    order = torch.randperm(20)
    torch.testing.assert_close(network(cuboid[:, :, order]), network(cuboid)[:, :, order])
    torch.testing.assert_close(network(cuboid[:, :, 3:4]), network(cuboid)[:, :, 3:4])


def test_a_frame_sees_sixteen_frames_either_side():
    network = random_network()
    cuboid = torch.randn(1, 50, 1, 3, requires_grad=True)
    network(cuboid)[0, 25].sum().backward()
    assert cuboid.grad is not None
    seen = torch.nonzero(cuboid.grad[0].abs().sum((1, 2)))[:, 0]
    assert seen.min() == 25 - 16 and seen.max() == 25 + 16


def test_a_fresh_network_is_a_low_pass_or_changes_nothing():
    torch.manual_seed(0)
    steps = torch.cumsum(torch.randn(1, 16, 50, 3) * 0.01, 1)
    noisy = steps + 0.02 * torch.randn_like(steps)

    def shake(x: torch.Tensor) -> float:
        return float(torch.diff(x, n=2, dim=1).norm(dim=-1).mean())

    fresh = Mesh2Mesh()(noisy).detach()
    assert shake(fresh) < 0.35 * shake(noisy)
    inner = slice(4, -4)
    assert (fresh - steps)[:, inner].norm() < 0.9 * (noisy - steps)[:, inner].norm()
    same = Mesh2Mesh(dataclasses.replace(PAPER, residual=True))
    torch.testing.assert_close(same(noisy), noisy)


@pytest.mark.parametrize("edges", ["zero", "replicate"])
@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "tanh", "none"])
@pytest.mark.parametrize(
    ("kernel", "residual"), [((5, 1, 3), False), ((3, 1, 5), True), ((3, 3, 3), False)]
)
def test_the_fast_twin_gives_the_same(edges, activation, kernel, residual):
    network = random_network(
        edges=edges, activation=activation, kernel=kernel, residual=residual, width=4
    )
    cuboid = torch.randn(16, 600, 3)
    want = network(cuboid[None])[0].detach()
    paths = cuboid.transpose(1, 2).contiguous()
    scale = float(want.abs().max())
    for threads in (1, 2) if kernel[1] == 1 else ():
        got = FoldedMesh2Mesh(network)(paths, threads).transpose(1, 2)
        assert float((got - want).abs().max()) < 1e-5 * max(scale, 1)
    trained = network.training_forward(cuboid[None].expand(2, -1, -1, -1))[1].detach()
    assert float((trained - want).abs().max()) < 1e-5 * max(scale, 1)


def test_the_fast_twin_can_work_in_rotated_axes():
    network = random_network(width=4)
    R = torch.linalg.qr(torch.randn(3, 3))[0]
    cuboid = torch.randn(16, 10, 3)
    want = network((cuboid @ R.T)[None])[0].detach() @ R
    got = FoldedMesh2Mesh(network, R)(cuboid.transpose(1, 2).contiguous()).transpose(1, 2)
    torch.testing.assert_close(got, want, atol=1e-5 * float(want.abs().max()), rtol=0)


def test_the_fast_twin_refuses_kernels_over_vertices():
    with pytest.raises(ValueError, match="vertices"):
        FoldedMesh2Mesh(Mesh2Mesh(dataclasses.replace(PAPER, kernel=(5, 3, 3))))


@settings(deadline=None, max_examples=30)
@given(frames=st.integers(0, 60), length=st.integers(2, 20), share=st.floats(0.05, 1.0))
def test_windows_put_a_sequence_back_together(frames: int, length: int, share: float):
    windows = Windows(length, max(1, round(share * length)))
    sequence = [np.array([float(f), 1.0], np.float32) for f in range(frames)]
    out = list(blended(iter(sequence), lambda w: 2 * w, windows))
    assert len(out) == frames
    for a, b in zip(out, sequence, strict=True):
        np.testing.assert_allclose(a, 2 * b, rtol=1e-5)


def test_a_stream_gives_frames_out_in_time():
    """No frame waits for more than a window, and none depends on what comes later than that."""
    windows = Windows(16, 8)
    taken = 0

    def frames():
        nonlocal taken
        for f in range(100):
            taken = f + 1
            yield np.array([float(f)], np.float32)

    waits = [taken - f for f, _ in enumerate(blended(frames(), lambda w: w, windows))]
    assert max(waits) <= windows.length + 1
    assert max(waits[:-16]) <= windows.length


def test_stream_and_sequence_are_the_same_away_from_the_end(tmp_path: Path):
    smoother = Smoother(saved(tmp_path / "w.safetensors", random_network(width=4)))
    sequence = tetrahedra(5, 70)
    whole = smoother.smooth(sequence).vertices
    assert whole.shape == sequence.vertices.shape and whole.dtype == np.float32
    stream = smoother.stream(iter(sequence.vertices), sequence.faces, 25.0)
    np.testing.assert_array_equal(np.stack(list(stream)), whole)
    cut = list(smoother.stream(iter(sequence.vertices[:50]), sequence.faces, 25.0))
    np.testing.assert_array_equal(np.stack(cut)[:34], whole[:34])


def test_a_gaussian_after_the_network_calms_and_keeps_steady_motion(tmp_path: Path):
    weights = saved(tmp_path / "w.safetensors", Mesh2Mesh())
    sequence = tetrahedra(5, 60)

    def acceleration(sigma_s: float) -> float:
        smooth = Smoother(weights, sigma_s=sigma_s).smooth(sequence).vertices
        return float(np.linalg.norm(np.diff(smooth, 2, axis=0), axis=-1).mean())

    assert acceleration(0.08) < 0.8 * acceleration(0.0)
    assert acceleration(0.16) < acceleration(0.08)
    still = sequence.with_vertices(np.repeat(sequence.vertices[:1], 60, axis=0))
    np.testing.assert_allclose(
        Smoother(weights, sigma_s=0.1).smooth(still).vertices,
        Smoother(weights).smooth(still).vertices, atol=1e-5,
    )  # fmt: skip


def test_windows_leave_no_seam(tmp_path: Path):
    """A network that is a filter with replicated edges: blended windows shake less than frames."""
    torch.manual_seed(1)
    smoother = Smoother(saved(tmp_path / "w.safetensors", Mesh2Mesh()))
    sequence = tetrahedra(3, 120)
    still = sequence.with_vertices(
        sequence.vertices - sequence.vertices.mean(1, keepdims=True) + 0.0
    )
    out = smoother.smooth(still).vertices
    jumps = np.linalg.norm(np.diff(out, 2, axis=0), axis=-1).mean(1)
    # Second differences around the windows' beginnings against those elsewhere.
    near = np.array([min(f % 8, -f % 8) <= 1 for f in range(1, 119)])
    assert jumps[near].mean() < 1.3 * jumps[~near].mean()


def test_other_topologies_need_no_training(tmp_path: Path):
    """The same surface, divided otherwise: its vertices move as before."""
    smoother = Smoother(saved(tmp_path / "w.safetensors", random_network(width=4)))
    coarse = tetrahedra(40, 30)
    a, b, c = (coarse.vertices[:, coarse.faces[:, i]] for i in range(3))
    middle = (a + b + c) / 3
    n, m = coarse.vertices.shape[1], len(coarse.faces)
    new = n + np.arange(m)
    faces = np.concatenate(
        [np.stack([coarse.faces[:, i], coarse.faces[:, (i + 1) % 3], new], 1) for i in range(3)]
    )
    fine = MeshSequence(np.concatenate([coarse.vertices, middle], 1), faces, 25.0)
    fine_out, coarse_out = smoother.smooth(fine).vertices, smoother.smooth(coarse).vertices
    np.testing.assert_allclose(fine_out[:, :n], coarse_out, atol=1e-4)


def test_where_the_person_is_does_not_matter(tmp_path: Path):
    smoother = Smoother(saved(tmp_path / "w.safetensors", random_network(width=4)))
    sequence = tetrahedra(5, 40)
    shift = np.array([3.0, -1.0, 20.0], np.float32)
    moved = smoother.smooth(sequence.with_vertices(sequence.vertices + shift)).vertices
    np.testing.assert_allclose(moved, smoother.smooth(sequence).vertices + shift, atol=1e-4)


def test_the_network_works_in_camera_axes(tmp_path: Path):
    """Person and camera turned together: the result turns with them."""
    smoother = Smoother(saved(tmp_path / "w.safetensors", random_network(width=4)))
    sequence = tetrahedra(5, 40)
    a = 0.7
    R = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    T = T_CAMERA_WORLD.copy()
    T[:3, :3] = T[:3, :3] @ R.T
    turned = dataclasses.replace(
        sequence,
        vertices=(sequence.vertices @ R.T).astype(np.float32),
        camera=Camera(np.eye(3), 640, 480, T),
    )
    want = smoother.smooth(sequence).vertices @ R.T
    np.testing.assert_allclose(smoother.smooth(turned).vertices, want, atol=1e-4)


@pytest.mark.parametrize("fps", [12.5, 24.0, 30.0, 50.0, 60.0])
def test_other_frame_rates_are_brought_to_the_network_s(tmp_path: Path, fps: float):
    """The same motion at another rate comes out as the same motion."""
    network = Mesh2Mesh()
    smoother = Smoother(saved(tmp_path / "w.safetensors", network))

    def swing(rate: float) -> MeshSequence:
        t = np.arange(round(3 * rate)) / rate
        base = tetrahedra(3, 1).vertices
        sway = 0.2 * np.sin(2 * np.pi * 0.8 * t)[:, None, None] * base
        return MeshSequence((base + sway).astype(np.float32), tetrahedra(3, 1).faces, rate)

    out = smoother.smooth(swing(fps)).vertices
    want = smoother.smooth(swing(25.0)).vertices
    assert len(out) == round(3 * fps)
    moments = np.arange(5, 70) / 25.0
    got = np.stack(
        [np.interp(moments, np.arange(len(out)) / fps, x) for x in out.reshape(len(out), -1).T], 1
    )
    np.testing.assert_allclose(got, want.reshape(len(want), -1)[5:70], atol=0.012)


@pytest.mark.parametrize("frames", [0, 1, 2, 15, 16, 17])
def test_short_sequences(tmp_path: Path, frames: int):
    smoother = Smoother(saved(tmp_path / "w.safetensors", random_network(width=2)))
    assert smoother.smooth(tetrahedra(2, frames)).vertices.shape == (frames, 8, 3)


@settings(deadline=None, max_examples=30)
@given(length=st.integers(2, 70), samples=st.integers(2, 40))
def test_resampling_keeps_steady_motion(length: int, samples: int):
    down, up = resampling(length, samples)
    line = 0.3 * np.arange(length) + 2
    np.testing.assert_allclose(up @ (down @ line), line, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(frames=st.integers(1, 40), sigma=st.floats(0.0, 8.0))
def test_gaussian_matrix_keeps_steady_motion_and_ends(frames: int, sigma: float):
    line = 0.3 * np.arange(frames) + 2
    matrix = gaussian_matrix(frames, sigma)
    np.testing.assert_allclose(matrix @ line, line, atol=1e-4)
    rough = np.random.default_rng(0).normal(size=frames)
    np.testing.assert_allclose((matrix @ rough)[[0, -1]], rough[[0, -1]], atol=1e-5)


def test_gaussian_matrix_is_the_filter_of_gaussian():
    from mvai.smooth.gaussian import Gaussian

    path = np.random.default_rng(0).normal(size=(30, 1, 3)).astype(np.float32)
    want = Gaussian(sigma_s=0.06).smooth(MeshSequence(path, np.array([[0, 0, 0]]), 25.0)).vertices
    np.testing.assert_allclose(gaussian_matrix(30, 1.5) @ path[:, 0], want[:, 0], atol=1e-5)


def test_surface_centroid_does_not_depend_on_the_division():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    w = surface_weights(square, np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(w @ square, [0.5, 0.5, 0], atol=1e-6)
    finer = np.concatenate([square, [[0.9, 0.9, 0]]])
    w = surface_weights(finer, np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]))
    exact = [[0.5, 0.5, 0]]
    np.testing.assert_allclose(w @ finer, exact[0], atol=0.15)
    assert np.isfinite(surface_weights(np.zeros((3, 3)), np.array([[0, 1, 2]]))).all()


# Files of weights.


def test_missing_and_wrong_weights_are_named(tmp_path: Path):
    sequence = tetrahedra(2, 20)
    missing = tmp_path / "none.safetensors"
    with pytest.raises(MvaiError, match=r"none\.safetensors.*no such weights"):
        Smoother(missing).smooth(sequence)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(saved(tmp_path / "w.safetensors", random_network()).read_bytes()[:300])
    with pytest.raises(MvaiError, match=r"damaged\.safetensors.*damaged"):
        Smoother(damaged).smooth(sequence)
    other = tmp_path / "other.safetensors"
    save_smoother(other, "smoothnet", random_network(), PAPER, Working(16, 25.0), {})
    with pytest.raises(MvaiError, match=r"other\.safetensors.*smoothnet, not of mesh2mesh"):
        Smoother(other).smooth(sequence)
    narrow = tmp_path / "narrow.safetensors"
    wide = dataclasses.replace(PAPER, width=8)
    save_smoother(narrow, "mesh2mesh", random_network(width=4), wide, Working(16, 25.0), {})
    with pytest.raises(MvaiError, match=r"narrow\.safetensors.*do not match"):
        Smoother(narrow).smooth(sequence)
