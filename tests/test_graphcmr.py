"""GraphCMR: down-sampling, graph network, parameter regressor, reconstruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mvai.benchmark.clips import clips_in, seen_clips
from mvai.body.anny import anny_body
from mvai.evaluate.table1 import measures
from mvai.geometry.downsampling import downsampling
from mvai.nets.graph_cnn import GraphCnn, GraphConvolution
from mvai.nets.graphcmr import (
    CROP_AXES,
    GraphCmr,
    GraphCmrSettings,
    coarse_graph,
    load_graphcmr,
    save_graphcmr,
)
from mvai.nets.landmark_correction import load_landmark_correction
from mvai.nets.parameter_regressor import ParameterRegressor, nearest_rotations
from mvai.reconstruct import method
from mvai.reconstruct.bones_on_landmarks import bones_on_landmarks
from mvai.reconstruct.graphcmr import lengthened
from mvai.train.graphcmr import GraphCmrRecipe, coarse_body, posed, target_of, train_graphcmr
from mvai.train.landmark_windows import View
from mvai.train.true_landmarks import truth
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

TINY = Path(__file__).parent / "tiny_benchmark"


@pytest.fixture(scope="module")
def coarse():
    return coarse_graph(anny_body(), 100)


def test_the_coarse_graph_spans_every_piece_of_the_mesh(coarse):
    body = anny_body()
    vertices = body.template.numpy().astype(float)
    assert len(np.unique(coarse.kept)) == 100
    np.testing.assert_allclose(coarse.adjacency.sum(1), 1)
    assert (coarse.adjacency.diagonal() > 0).all()
    np.testing.assert_allclose(coarse.up.sum(1), 1)
    assert np.diff(coarse.up.indptr).max() <= 3
    # A linear map of the coarse vertices comes near the fine ones everywhere.
    error = np.linalg.norm(coarse.up @ vertices[coarse.kept] - vertices, axis=1)
    assert error.mean() < 0.035 and error.max() < 0.2


def test_downsampling_takes_meshes_in_pieces():
    quad = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    vertices = np.concatenate([quad, quad + np.array([5, 0, 0])])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    d = downsampling(vertices, faces, 2)
    assert {int(k) // 4 for k in d.kept} == {0, 1}
    assert d.adjacency[0, 1] == 0


def test_graph_convolution_is_the_mean_over_neighbours():
    A = torch.tensor([[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.5, 0.5]])
    layer = GraphConvolution(1, 1, A)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(1.0)
        out = layer(torch.tensor([[[3.0, 0.0, 6.0]]]))
    np.testing.assert_allclose(out.numpy().ravel(), [4.0, 7.0, 7.0], rtol=1e-6)


def test_names_and_sizes_are_those_of_the_authors_checkpoints():
    """27.64 M parameters together with a ResNet-50's 25.56 M, 15.03 M in the regressor."""
    from scipy.sparse import identity

    template = np.zeros((1723, 3))
    network = GraphCnn(identity(1723, format="csr"), template, 2048)
    names = dict(network.named_parameters())
    assert names["gc.1.lin1.W"].shape == (128, 512)
    assert names["gc.2.conv.weight"].shape == (128, 128)
    assert names["shape.4.W"].shape == (3, 32)
    assert names["camera_fc.4.weight"].shape == (3, 1723)
    own = sum(p.numel() for p in names.values())
    assert own == pytest.approx(27.64e6 - 25.557e6, rel=0.01)
    regressor = ParameterRegressor(template, 24, 10)
    assert sum(p.numel() for p in regressor.parameters()) == pytest.approx(15.03e6, rel=0.001)
    assert dict(regressor.named_parameters())["layers.0.fc_block.0.weight"].shape == (1024, 10338)


def test_folding_the_feature_changes_nothing(coarse):
    body = anny_body()
    template = body.template.numpy()[coarse.kept]
    torch.manual_seed(0)
    network = GraphCnn(coarse.adjacency, template, 7, channels=16, layers=1).eval()
    feature = torch.randn(2, 7)
    with torch.no_grad():
        vertices, camera = network(feature)
        beside = torch.cat(
            [
                torch.from_numpy(template.T).expand(2, -1, -1),
                feature[..., None].expand(-1, -1, 100),
            ],
            dim=1,
        )
        x = network.gc(beside)
    np.testing.assert_allclose(vertices, network.shape(x).transpose(1, 2).detach(), atol=1e-5)
    assert camera.shape == (2, 3)


def test_nearest_rotations_are_those_of_the_svd():
    torch.manual_seed(1)
    exact = torch.linalg.qr(torch.randn(50, 3, 3)).Q
    exact = exact * torch.linalg.det(exact)[:, None, None]
    noisy = exact + 0.2 * torch.randn(50, 3, 3)
    U, _, V = torch.linalg.svd(noisy)
    want = U @ V
    np.testing.assert_allclose(nearest_rotations(noisy), want, atol=1e-3)
    noisy = exact.clone().requires_grad_()
    nearest_rotations(noisy).square().sum().backward()
    assert noisy.grad is not None and torch.isfinite(noisy.grad).all()


def test_targets_agree_with_the_landmarks_they_come_from(coarse):
    """Also in a mirror and with the camera rolled."""
    body = anny_body()
    scene = next(iter(clips_in(TINY, "train"))).scene
    small = coarse_body(body, coarse.kept)
    c, s = np.cos(0.3), np.sin(0.3)
    for mirror, roll in ((False, np.eye(2)), (True, np.array([[c, -s], [s, c]]))):
        R, shape = target_of(body, scene).of(np.arange(4), mirror, roll)
        vertices, points = posed(body, small, R, shape)
        view = View(slice(0, 4, 1), mirror, roll)
        want = view.points(truth(body, scene)) * np.array(CROP_AXES)
        np.testing.assert_allclose(points, want, atol=0.012 if mirror else 1e-4)
        assert vertices.shape == (4, 100, 3)


def test_training_lowers_the_error_and_the_file_keeps_it(tmp_path):
    body = anny_body()
    clips = seen_clips(TINY, "train")
    encoder = load_landmark_correction()
    width = encoder.enter.out_channels
    settings = GraphCmrSettings(vertices=60, channels=16, layers=1, regressor=32, encoder=width)
    recipe = GraphCmrRecipe(steps=40, clips=4, frames=3, projected=2, learning_rate=1e-2)
    values = []
    from mvai.benchmark.poses import PoseClip

    still = PoseClip("cmu_07_01", np.zeros((64, 22, 3), np.float32), np.zeros((64, 3), np.float32),
                     25.0, np.ones(64, bool))  # fmt: skip
    out = tmp_path / "g.safetensors"
    network = train_graphcmr(
        body, clips, [still], encoder, out, settings, recipe,
        lambda step, steps, value: values.append(value),
    )  # fmt: skip
    assert np.mean(values[-5:]) < 0.7 * np.mean(values[:3])
    again = load_graphcmr(body, out)
    feature = torch.randn(3, width + 99)
    with torch.no_grad():
        a, b = network.mesh(feature), again.mesh(feature)
    np.testing.assert_allclose(a.vertices, b.vertices, atol=5e-3)
    # Half precision turns a matrix that is nearly degenerate much further than the others.
    off = (a.rotations - b.rotations).abs().amax((2, 3))
    assert off.median() < 2e-3 and off.quantile(0.95) < 5e-3


def test_missing_and_mismatched_weights_are_named(tmp_path):
    body = anny_body()
    with pytest.raises(MvaiError, match="weights are missing"):
        load_graphcmr(body, tmp_path / "none.safetensors")
    settings = GraphCmrSettings(vertices=60, channels=16, layers=1, regressor=32)
    network = GraphCmr(body, settings)
    wrong = tmp_path / "wrong.safetensors"
    save_graphcmr(wrong, network, GraphCmrSettings(vertices=60, channels=24, layers=1))
    with pytest.raises(MvaiError, match="do not match"):
        load_graphcmr(body, wrong)


def test_bones_lie_on_the_landmarks_and_keep_their_lengths():
    """From rotations that know nothing, the joints of a posed body are found again."""
    body = anny_body()
    scene = next(iter(clips_in(TINY, "test"))).scene
    shape = torch.from_numpy(scene.shape).float()[None]
    points = scene.joints_and_points(body, BODY_KEYPOINTS)[1].astype(float)
    ignorant = np.tile(np.eye(3), (scene.frames, len(BODY_JOINTS), 1, 1))
    # A matrix that mirrors must not reach the body.
    ignorant[:, 3] = np.diag([1.0, 1, -1])
    local = bones_on_landmarks(body, shape, ignorant, points)
    np.testing.assert_allclose(np.linalg.det(local), 1, atol=1e-6)
    rotations = torch.eye(3).repeat(scene.frames, len(body.joints), 1, 1)
    rotations[:, [body.joint(n) for n in BODY_JOINTS]] = torch.from_numpy(local).float()
    _, found = body.joints_and_keypoints(
        BODY_KEYPOINTS, shape, rotations, torch.zeros(scene.frames, 3)
    )
    hips = [BODY_KEYPOINTS.index(n) for n in ("left_hip", "right_hip")]
    limbs = [
        BODY_KEYPOINTS.index(f"{side}_{n}")
        for side in ("left", "right")
        for n in ("knee", "ankle", "elbow", "wrist")
    ]
    found = found.numpy() - found.numpy()[:, hips].mean(1, keepdims=True)
    want = points - points[:, hips].mean(1, keepdims=True)
    assert np.linalg.norm(found - want, axis=-1)[:, limbs].mean() < 0.06


def test_a_lengthened_body_has_its_limbs_longer_by_the_factor():
    body = anny_body()
    shape = torch.randn(1, body.shape_size, generator=torch.Generator().manual_seed(0))
    longer = lengthened(body, shape, 1.05)

    def limbs(shape):
        joints = body.rest_joints(shape)[0]
        ends = ("LeftUpLeg", "LeftLeg"), ("LeftLeg", "LeftFoot"), ("LeftArm", "LeftForeArm")
        return torch.stack(
            [(joints[body.joint(a)] - joints[body.joint(b)]).norm() for a, b in ends]
        )

    assert (limbs(longer) / limbs(shape)).numpy() == pytest.approx([1.05] * 3, abs=0.015)
    assert torch.allclose(lengthened(body, shape, 1.0), shape)


def test_graphcmr_reconstructs_the_tiny_benchmark_near_the_fit():
    clip = next(iter(clips_in(TINY, "test")))
    keypoints = clip.keypoints()
    assert keypoints is not None
    truth = clip.scene.sequence(anny_body())
    regressed = method("graphcmr")().reconstruct(keypoints)
    fitted = method("smplify-x")().reconstruct(keypoints)
    errors = [measures(s, truth)["mpjpe_mm"] for s in (regressed, fitted)]
    assert errors[0] < 1.5 * errors[1]
    assert regressed.topology == "anny" and regressed.camera is not None
