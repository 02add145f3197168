"""GraphCMR with the authors' checkpoint: networks and files."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from torch.nn.functional import conv2d, max_pool2d, relu

from graphcmr_image_makers import (
    COARSE,
    REGRESSOR,
    write_files,
)
from graphcmr_makers import (
    STAGES,
    graph_cnn_shapes,
    learned,
    objects,
    regressor_shapes,
    resnet_shapes,
    tensors,
    write_checkpoint,
)
from mvai.body.smpl import smpl_body
from mvai.io.mesh_downsampling import MeshDownsampling, read_mesh_downsampling
from mvai.nets.graphcmr_image import (
    ImageGraphCmr,
    ImageGraphCmrSize,
    load_image_graphcmr,
    normalised,
    prepared,
    proper_rotations,
    read_checkpoint,
    size_of,
)
from mvai.nets.resnet import ResNet50
from mvai.types import MvaiError
from smpl_makers import FILES, arrays


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("graphcmr"))


def twin_resnet(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """ResNet-50 spelt out from its weights."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = (state[f"{name}.running_{k}"][:, None, None] for k in ("mean", "var"))
        weight, bias = (state[f"{name}.{k}"][:, None, None] for k in ("weight", "bias"))
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def convolved(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        kernel = state[f"{name}.weight"]
        return conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    x = max_pool2d(relu(norm(convolved(x, "conv1", 2), "bn1")), 3, 2, 1)
    for stage, (_, blocks) in enumerate(STAGES, 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = relu(norm(convolved(x, f"{name}.conv1"), f"{name}.bn1"))
            y = relu(norm(convolved(y, f"{name}.conv2", stride), f"{name}.bn2"))
            y = norm(convolved(y, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                skip = f"{name}.downsample"
                x = norm(convolved(x, f"{skip}.0", stride), f"{skip}.1")
            x = relu(x + y)
    assert x.shape[1] == 2048
    return x.mean((2, 3))


def test_resnet_is_that_of_torchvision():
    """Names, shapes, 25.557 million parameters (He et al. 2016), and what it computes."""
    network = ResNet50().eval()
    own = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    assert own == resnet_shapes()
    assert sum(p.numel() for p in network.parameters()) == 25_557_032
    state = tensors(resnet_shapes())
    network.load_state_dict(state)
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        ours, twin = network(x), twin_resnet(state, x)
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, twin, rtol=1e-3, atol=1e-4)


def test_names_and_sizes_of_the_whole():
    """27.64 million parameters in graph_cnn and 15.03 million in the regressor."""
    graph, regressor = graph_cnn_shapes(1723, 256, 5), regressor_shapes(1723, 1024)
    assert learned(graph) == pytest.approx(27.64e6, abs=5e3)
    assert learned(regressor) == pytest.approx(15.03e6, abs=5e3)


def test_a_checkpoint_of_full_size_loads(tmp_path: Path):
    """Every tensor of the file ends up in the network, and none is left over."""
    path = write_checkpoint(tmp_path / "full.pt", 1723, 256, 5, 1024, old_format=True)
    content = read_checkpoint(path)
    assert size_of(content) == ImageGraphCmrSize()
    select = sparse.csr_matrix(sparse.eye(1723, 6890))
    graph = MeshDownsampling(
        sparse.csr_matrix(sparse.identity(1723)), select, sparse.csr_matrix(select.T)
    )
    template = np.random.default_rng(0).random((6890, 3))
    network = load_image_graphcmr(path, content, graph, template)
    parts = sum(p.numel() for n in (network.resnet, network.graph_cnn) for p in n.parameters())
    assert parts == pytest.approx(27.64e6, abs=5e3)
    assert sum(p.numel() for p in network.regressor.parameters()) == pytest.approx(15.03e6, abs=5e3)
    wanted = content["graph_cnn"]
    for name in ("resnet.layer4.2.conv2.weight", "resnet.bn1.running_var", "gc.0.W", "shape.4.b"):
        part = network.resnet if name.startswith("resnet.") else network.graph_cnn
        assert torch.equal(part.state_dict()[name.removeprefix("resnet.")], wanted[name])
    with torch.no_grad():
        vertices, camera, R, shape = network(prepared(torch.full((1, 50, 50, 3), 99)))
    assert [tuple(x.shape[1:]) for x in (vertices, camera, R, shape)] == [
        (1723, 3), (3,), (24, 3, 3), (10,)
    ]  # fmt: skip


def test_the_network_follows_the_original_step_by_step(files: Path):
    """Template beside feature, graph network, mesh beside template, SVD."""
    path = files / "models" / "random.pt"
    content = read_checkpoint(path)
    body = smpl_body(files / FILES["smpl"], "smpl")
    graph = read_mesh_downsampling(files / "mesh_downsampling.npz", 6890, COARSE)
    network = load_image_graphcmr(path, content, graph, body.template.numpy())
    pictures = prepared(torch.randint(0, 256, (2, 70, 70, 3)))
    state = content["graph_cnn"]
    # The template of the file, which lies elsewhere than the body's.
    template = arrays("smpl")["v_template"]
    low, high = template.min(0), template.max(0)
    template = template - (low + high) / 2
    template = torch.from_numpy(graph.down @ (template / np.abs(template).max())).float()
    assert float(template.abs().max()) == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        vertices, camera, R, shape = network(pictures)
        encoder = {k.removeprefix("resnet."): v for k, v in state.items()}
        feature = twin_resnet(encoder, pictures)
        beside = [template.T.expand(2, -1, -1), feature[..., None].expand(-1, -1, COARSE)]
        x = network.graph_cnn.gc(torch.cat(beside, 1))
        want = network.graph_cnn.shape(x).transpose(1, 2)
        out = network.regressor.layers(torch.cat([want, template.expand(2, -1, -1)], -1).flatten(1))
        U, _, V = torch.svd(out[:, :216].view(2, 24, 3, 3))
        want_R = U @ V.mT
        want_R = want_R * torch.det(want_R)[..., None, None]
    assert (vertices[0] - vertices[1]).abs().max() > 1e-3
    torch.testing.assert_close(vertices, want, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shape, out[:, 216:], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(R, want_R, rtol=0.02, atol=0.02)
    torch.testing.assert_close(
        camera, network.graph_cnn.camera_fc(x).flatten(1), rtol=1e-3, atol=1e-3
    )


def test_rotations_never_mirror():
    matrices = torch.stack([torch.eye(3), torch.diag(torch.tensor([-1.0, -1, -1])),
                            torch.randn(3, 3)])  # fmt: skip
    R = proper_rotations(matrices)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(3))
    torch.testing.assert_close(R[:2], torch.eye(3).expand(2, 3, 3))


def test_pictures_are_scaled_and_normalised():
    one = torch.tensor([255, 128, 0]).expand(1, 30, 30, 3)
    want = (np.array([1, 128 / 255, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(prepared(one)[0, :, 100, 7], want, rtol=1e-5)
    # At half the size every pixel is the mean of four.
    fine = torch.randint(0, 256, (1, 448, 448, 3))
    mean = fine[0].view(224, 2, 224, 2, 3).float().mean((1, 3)) / 255
    want = (mean - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    np.testing.assert_allclose(prepared(fine)[0].permute(1, 2, 0), want, atol=1e-5)


def test_the_template_is_centred_and_fills_the_unit_cube():
    points = np.random.default_rng(0).random((50, 3)) * [3, 1, 2] + 5
    out = normalised(points)
    np.testing.assert_allclose(out.max(0), -out.min(0))
    assert np.abs(out).max() == 1
    np.testing.assert_allclose(normalised(3 * points - 7), out)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array"])
def test_graphs_come_in_any_kind_of_sparse_matrix(tmp_path: Path, kind: str):
    rng = np.random.default_rng(0)
    ring = np.roll(np.eye(6), 1, 1) + np.roll(np.eye(6), -1, 1)
    A = [ring, ring[:4, :4], ring[:2, :2]]
    U, D = [rng.random((6, 4)), rng.random((4, 2))], [np.eye(4, 6), np.eye(2, 4)]
    stored = {k: objects(*(getattr(sparse, kind)(m) for m in v)) for k, v in
              (("A", A), ("U", U), ("D", D))}  # fmt: skip
    np.savez(tmp_path / "m.npz", **stored)
    graph = read_mesh_downsampling(tmp_path / "m.npz", 6, 2)
    np.testing.assert_allclose(graph.up.toarray(), U[0] @ U[1])
    np.testing.assert_allclose(graph.down.toarray(), np.eye(2, 6))
    np.testing.assert_allclose(graph.adjacency.toarray(), np.full((2, 2), 0.5))
    whole = read_mesh_downsampling(tmp_path / "m.npz", 6, 6)
    np.testing.assert_allclose(whole.adjacency.toarray(), (ring + np.eye(6)) / 3)
    with pytest.raises(MvaiError, match="graphs of 6, 4, 2 vertices, and one of 5"):
        read_mesh_downsampling(tmp_path / "m.npz", 6, 5)


class Hostile:
    def __reduce__(self):
        return os.mkdir, (str(Path(os.environ["HOSTILE"])),)


def test_nothing_in_the_files_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOSTILE", str(tmp_path / "done"))
    np.savez(tmp_path / "m.npz", A=objects(Hostile()), U=objects(1), D=objects(1))  # type: ignore[arg-type]
    with pytest.raises(MvaiError, match="mkdir"):
        read_mesh_downsampling(tmp_path / "m.npz", 6, 2)
    torch.save({"graph_cnn": Hostile()}, tmp_path / "c.pt")
    with pytest.raises(MvaiError, match="no file of torch tensors"):
        read_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "done").exists()


def test_indices_outside_a_matrix_are_refused(tmp_path: Path):
    bad = sparse.csc_matrix(np.eye(3))
    bad.indices[1] = 10**6
    np.savez(tmp_path / "m.npz", A=objects(bad), U=objects(bad), D=objects(bad))
    with pytest.raises(MvaiError, match="damaged"):
        read_mesh_downsampling(tmp_path / "m.npz", 3, 3)


def test_other_files_are_named(tmp_path: Path, files: Path):
    path = tmp_path / "a.pt"
    with pytest.raises(MvaiError, match="cannot be read"):
        read_checkpoint(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(MvaiError, match="no file of torch tensors"):
        read_checkpoint(path)
    for content in ({"a": torch.ones(2)}, [1], {"graph_cnn": 1, "smpl_param_regressor": {}}):
        torch.save(content, path)
        with pytest.raises(MvaiError, match="no checkpoint of GraphCMR"):
            read_checkpoint(path)
    body = smpl_body(files / FILES["smpl"], "smpl")
    graph = read_mesh_downsampling(files / "mesh_downsampling.npz", 6890, COARSE)

    def lacking(content: dict) -> None:
        del content["graph_cnn"]["resnet.conv1.weight"]

    write_checkpoint(path, COARSE, 64, 2, REGRESSOR, change=lacking)
    with pytest.raises(MvaiError, match="not those of GraphCMR"):
        load_image_graphcmr(path, read_checkpoint(path), graph, body.template.numpy())
    np.savez(tmp_path / "m.npz", A=np.eye(3), U=np.eye(3), D=np.eye(3))
    with pytest.raises(MvaiError, match=r"no mesh_downsampling.npz"):
        read_mesh_downsampling(tmp_path / "m.npz", 3, 3)
    np.savez(tmp_path / "m.npz", A=np.eye(3))
    with pytest.raises(MvaiError, match="no U, D"):
        read_mesh_downsampling(tmp_path / "m.npz", 3, 3)
    damaged = io.BytesIO()
    np.savez(damaged, A=objects(sparse.csc_matrix(np.eye(3))))
    (tmp_path / "m.npz").write_bytes(damaged.getvalue()[:200])
    with pytest.raises(MvaiError, match="no npz file"):
        read_mesh_downsampling(tmp_path / "m.npz", 3, 3)
    (tmp_path / "m.npz").write_bytes(pickle.dumps({}))
    with pytest.raises(MvaiError, match="no npz file"):
        read_mesh_downsampling(tmp_path / "m.npz", 3, 3)


def test_a_random_network_of_the_class_can_be_made_on_any_graph():
    """Also on one made from the mesh itself, for training."""
    from mvai.geometry.downsampling import downsampling

    rng = np.random.default_rng(0)
    points = rng.random((40, 3))
    faces = np.stack([np.arange(38), np.arange(1, 39), np.arange(2, 40)], 1)
    small = downsampling(points, faces, 12)
    down = sparse.csr_matrix((np.ones(12), (np.arange(12), small.kept)), shape=(12, 40))
    size = ImageGraphCmrSize(12, 64, 1, 32)
    network = ImageGraphCmr(MeshDownsampling(small.adjacency, down, small.up), points, size).eval()
    with torch.no_grad():
        vertices, *_ = network(prepared(torch.zeros(1, 9, 9, 3)))
    assert vertices.shape == (1, 12, 3)
