"""mesh2mesh: losses and training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mesh2mesh_makers import PAPER, RECIPE, noisy_clips, random_network, tetrahedra
from mvai.smooth.mesh2mesh import Mesh2Mesh as Smoother
from mvai.train.mesh2mesh import save_mesh2mesh, train_mesh2mesh, vertex_reach
from mvai.train.smoothers import (
    batch_of,
    drawn_joints,
    keypoint_loss,
    motion_loss,
    root_relative,
    smoothing_loss,
)
from mvai.train.smoothing_clips import (
    JOINTS,
    POINTS,
    SmoothingClip,
    regressor_for,
    smoothing_clip,
    thinned,
    with_joints,
)
from mvai.types import Camera, MeshSequence, MvaiError


def test_losses_on_a_worked_example():
    """Two joints, three frames; every number by hand."""
    truth = torch.zeros(3, 2, 3)
    predicted = torch.zeros(3, 2, 3)
    predicted[0, 0] = torch.tensor([3.0, 4.0, 0.0])  # off by 5 in frame 1
    predicted[2, 1] = torch.tensor([0.0, 0.0, 2.0])  # off by 2 in frame 3
    # (5 + 0 + 2) / 3
    assert keypoint_loss(predicted, truth).item() == pytest.approx(7 / 3)
    # Joint 1 moves back by 5 and joint 2 by 2 where nothing should move; divided by T = 3.
    assert motion_loss(predicted, truth).item() == pytest.approx((5 + 2) / 3)
    assert smoothing_loss(predicted, truth).item() == pytest.approx(14 / 3)
    assert smoothing_loss(predicted, truth, motion_weight=0).item() == pytest.approx(7 / 3)


def test_motion_loss_compares_movements_not_their_lengths():
    """A joint that moves as far as it should in the wrong direction is wrong."""
    truth, predicted = torch.zeros(2, 1, 3), torch.zeros(2, 1, 3)
    truth[1, 0, 0], predicted[1, 0, 0] = 1.0, -1.0
    assert motion_loss(predicted, truth).item() == pytest.approx(2 / 2)
    assert motion_loss(truth + 5.0, truth).item() == 0.0


def test_losses_are_means_over_a_batch():
    predicted, truth = torch.randn(4, 16, 5, 3), torch.randn(4, 16, 5, 3)
    each = [smoothing_loss(p, t).item() for p, t in zip(predicted, truth, strict=True)]
    assert smoothing_loss(predicted, truth).item() == pytest.approx(np.mean(each), rel=1e-5)


def test_training_improves_joints_and_goes_on_from_a_checkpoint(tmp_path: Path):
    clips, held = noisy_clips(12), noisy_clips(4, 1)
    small = dataclasses.replace(PAPER, width=2)
    network, history = train_mesh2mesh(clips, held, small, RECIPE)
    assert history[-1]["validation"] < 0.9 * history[0]["validation"]

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 45:
            raise StopError

    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(StopError):
        train_mesh2mesh(clips, held, small, RECIPE, checkpoint, stop)
    steps: list[int] = []
    resumed, again = train_mesh2mesh(
        clips, held, small, RECIPE, checkpoint, lambda done, _: steps.append(done)
    )
    assert steps[0] == 41 and not checkpoint.exists()
    assert [h["validation"] for h in again] == pytest.approx([h["validation"] for h in history])
    for a, b in zip(network.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    save_mesh2mesh(network, RECIPE, 25.0, 0.5, tmp_path / "w.safetensors", {"data": "made up"})
    assert Smoother(tmp_path / "w.safetensors").smooth(tetrahedra(2, 30)).frames == 30


def test_joints_drawn_at_random_stand_for_all():
    clip = noisy_clips(1)[0]
    full = batch_of([clip], [0], 16, [False])
    predicted = torch.einsum("jv,bfvd->bfjd", full.regressor, full.vertices)
    want = smoothing_loss(root_relative(predicted), root_relative(full.truth)).item()
    rng, found = np.random.default_rng(0), []
    for _ in range(600):
        joints, weights = drawn_joints(len(POINTS), 2, rng)
        few = batch_of([with_joints(clip, joints)], [0], 16, [False])
        predicted = torch.einsum("jv,bfvd->bfjd", few.regressor, few.vertices)
        a, b = (weights * root_relative(x, (0, 1)) for x in (predicted, few.truth))
        found.append(smoothing_loss(a, b).item())
    spread = np.std(found) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(want, abs=4 * spread) and spread < 0.02 * want


def test_a_kernel_over_vertices_sees_its_true_neighbours_in_a_part_of_the_mesh():
    network = random_network(kernel=(3, 3, 3), layers=3, width=2)
    rng = np.random.default_rng(0)
    k, verts = len(POINTS), 400
    A = np.zeros((k, verts), np.float32)
    # The first and the last vertex are among them: beyond the mesh there is nothing.
    A[np.arange(k), np.linspace(0, verts - 1, k).astype(int)] = 1
    clip = dataclasses.replace(
        noisy_clips(1)[0], vertices=rng.normal(size=(32, verts, 3)).astype(np.float32),
        regressor=A, indices=np.arange(verts),
    )  # fmt: skip
    joints = [0, 3, k - 1]
    few = with_joints(clip, joints, vertex_reach(network.settings))
    assert len(few.indices) == 4 + 7 + 4 and few.truth.shape[1] == 3

    def smoothed(c: SmoothingClip) -> np.ndarray:
        with torch.no_grad():
            surface = network.training_forward(torch.from_numpy(c.vertices)[None])[0].numpy()
        return np.einsum("jv,fvd->fjd", c.regressor, surface)

    np.testing.assert_allclose(smoothed(few), smoothed(clip)[:, joints], atol=1e-4)


def test_training_on_joints_drawn_at_random():
    recipe = dataclasses.replace(RECIPE, joints=3)
    form = dataclasses.replace(PAPER, width=2, layers=3, kernel=(5, 3, 3))
    _, history = train_mesh2mesh(noisy_clips(12), noisy_clips(4, 1), form, recipe)
    assert history[-1]["validation"] < 0.95 * history[0]["validation"]


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path):
    checkpoint = tmp_path / "run.checkpoint"

    def stop(done: int, total: int) -> None:
        if done == 25:
            raise KeyboardInterrupt

    clips = noisy_clips(4)
    with pytest.raises(KeyboardInterrupt):
        train_mesh2mesh(clips, clips, dataclasses.replace(PAPER, width=2), RECIPE, checkpoint, stop)
    other = dataclasses.replace(PAPER, width=4)
    with pytest.raises(MvaiError, match=r"run\.checkpoint.*another recipe"):
        train_mesh2mesh(clips, clips, other, RECIPE, checkpoint)
    checkpoint.write_bytes(b"broken")
    with pytest.raises(MvaiError, match=r"run\.checkpoint.*damaged"):
        train_mesh2mesh(clips, clips, other, RECIPE, checkpoint)


def test_sampling_rate():
    clip = noisy_clips(1)[0]
    assert clip.at_rate(None).frames == 32
    half = clip.at_rate(12.5)
    assert (half.frames, half.fps) == (16, 12.5)
    np.testing.assert_array_equal(half.truth, clip.truth[::2])


def test_clips_of_the_body():
    """Joints of a clip are those of the body's regressor, and few vertices give nearly the same."""
    from mvai.body.anny import anny_body

    body = anny_body()
    rng = np.random.default_rng(0)
    rotations = torch.eye(3).repeat(40, len(body.joints), 1, 1)
    from mvai.geometry.rotations import matrix_from_axis_angle

    turns = torch.from_numpy(rng.normal(size=(40, 22, 3)) * 0.3).float()
    rotations[:, :22] = matrix_from_axis_angle(turns)
    shape = torch.from_numpy(rng.normal(size=(40, body.shape_size)) * 0.7).float()
    vertices = body.vertices(shape, rotations, torch.zeros(40, 3)).numpy()
    camera = Camera.from_focal(500, 640, 480)
    sequence = MeshSequence(vertices - [0, 0, 4.0], body.faces, 25.0, "anny", camera)
    truth = np.zeros((40, len(POINTS), 3), np.float32)
    clip = smoothing_clip("a", sequence, truth, regressor_for(body))
    want = body.regress(POINTS, sequence.vertices) * [1, -1, -1]
    np.testing.assert_allclose(clip.joints(), want, atol=1e-4)
    np.testing.assert_allclose(clip.up, [0, -1, 0])
    thin = thinned([clip])[0]
    assert thin.vertices.shape[1] <= 6 * len(POINTS) < clip.vertices.shape[1] / 8
    assert np.linalg.norm(thin.joints() - want, axis=-1).mean() < 0.002
    near = thinned([smoothing_clip("a", sequence, truth, regressor_for(body, reach=2))], 2)[0]
    np.testing.assert_allclose(near.joints(), thin.joints(), atol=1e-5)
    for joint in range(len(POINTS)):
        for index in near.indices[near.regressor[joint] != 0]:
            assert {index - 1, index + 1} <= set(near.indices) | {-1, len(body.template)}
    with pytest.raises(MvaiError, match=r"a: the truth has 40 frames"):
        smoothing_clip("a", tetrahedra_with_camera(), truth, regressor_for(body))


def tetrahedra_with_camera() -> MeshSequence:
    return dataclasses.replace(tetrahedra(2, 10), camera=Camera.from_focal(500, 640, 480))


def test_root_relative_joints():
    joints = torch.randn(16, len(JOINTS), 3)
    shift = torch.randn(16, 1, 3)
    torch.testing.assert_close(root_relative(joints + shift), root_relative(joints))
