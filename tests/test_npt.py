"""Neural pose transfer: the network against its naive twin, its invariances, its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.nets.npt import Npt, NptSettings
from mvai.nets.npt_fast import FastNpt
from mvai.nets.npt_files import TrainedNpt, load_npt, load_original, save_npt
from mvai.nets.npt_parts import OrderedEncoder
from mvai.nets.npt_skeleton import IdentityJoints, joint_maps, kinematics
from mvai.nets.npt_tiles import spatial_order
from mvai.types import MvaiError
from npt_original import body_surface, seconds, twins

SMALL = NptSettings(code=48, widths=(51, 25, 12))
BEYOND = NptSettings(
    code=32, widths=(24, 16, 8), encoder="rounds", encoder_width=16, identity="features",
    features=8, normalise=False, output="blended", parents=(-1, 0, 1, 0), arms=(1, 3),
)  # fmt: skip
FORMS = pytest.mark.parametrize("form", [SMALL, BEYOND], ids=["published", "beyond"])


def some(*shape: int, seed: int = 0) -> Tensor:
    return 0.4 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@given(st.integers(1, 3), st.integers(8, 70), st.integers(8, 70))
@settings(max_examples=15, deadline=None)
def test_equals_the_naive_twin(meshes: int, points: int, verts: int) -> None:
    naive, ours = twins(SMALL)
    pose, identity = some(meshes, points, 3), some(meshes, verts, 3, seed=1)
    assert torch.allclose(ours(pose, identity), naive(pose, identity), atol=1e-4)


def test_the_published_sizes() -> None:
    form = NptSettings()
    naive, ours = twins(form)
    pose, identity = some(1, 300, 3), some(1, 200, 3, seed=1)
    assert (ours(pose, identity) - naive(pose, identity)).abs().max() < 1e-4


@FORMS
@pytest.mark.parametrize("tile", [7, 64, 1000])
def test_tiles_change_nothing(form: NptSettings, tile: int) -> None:
    torch.manual_seed(0)
    npt = Npt(form).eval()
    pose, identity = some(100, 3), some(333, 3, seed=1)
    whole, code = npt.identity_code(identity), npt.encode(pose)
    if form.parents:
        code = npt.maps(npt.pose_rotations(pose), npt.joint_finder(identity))
    tiled = FastNpt(npt, tile).pose_mesh(code, identity, whole)
    assert torch.allclose(tiled, npt(pose, identity), atol=1e-5)


@FORMS
@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_order_and_place_of_the_pose_mesh_do_not_matter(form: NptSettings, seed: int) -> None:
    torch.manual_seed(0)
    npt = Npt(form).eval()
    g = torch.Generator().manual_seed(seed)
    pose = some(60, 3, seed=seed)
    # Instance normalisation adds 1e-5 to variances, so scale cancels only nearly.
    scale = 1.0 if form is SMALL else 1.7
    moved = scale * pose[torch.randperm(60, generator=g)] + torch.randn(3, generator=g)
    assert torch.allclose(npt.encode(moved), npt.encode(pose), atol=1e-3)


@FORMS
def test_vertices_keep_their_order(form: NptSettings) -> None:
    torch.manual_seed(0)
    npt = Npt(form).eval()
    pose, identity = some(60, 3), some(80, 3, seed=1)
    order = torch.randperm(80)
    assert torch.allclose(npt(pose, identity[order]), npt(pose, identity)[order], atol=1e-5)


@FORMS
def test_the_pose_reaches_the_output(form: NptSettings) -> None:
    """With instance normalisation in the first block it would not: the code is subtracted."""
    torch.manual_seed(0)
    npt = Npt(form).eval()
    for layer in npt.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    identity = some(80, 3, seed=1)
    change = (npt(some(60, 3), identity) - npt(some(60, 3, seed=2), identity)).abs().max()
    assert change > 1e-2
    if form is SMALL:
        block = npt.decoder.spadain_block1
        for layer in (block.spadain1, block.spadain2, block.spadain_res):
            layer.normalise = True
        gone = (npt(some(60, 3), identity) - npt(some(60, 3, seed=2), identity)).abs().max()
        assert gone < change / 10


def test_one_identity_takes_many_poses() -> None:
    torch.manual_seed(0)
    npt = Npt(BEYOND).eval()
    poses, identity = some(4, 60, 3), some(80, 3, seed=1)
    together = npt(poses, identity[None])
    for pose, out in zip(poses, together, strict=True):
        assert torch.allclose(npt(pose, identity), out, atol=1e-5)


def test_original_checkpoint_loads(tmp_path: Path) -> None:
    naive, ours = twins(SMALL)
    for name, prefix in (("plain.model", ""), ("parallel.model", "module.")):
        torch.save({prefix + k: v for k, v in naive.state_dict().items()}, tmp_path / name)
        loaded = load_original(tmp_path / name)
        assert loaded.settings == SMALL
        pose, identity = some(50, 3), some(40, 3, seed=1)
        assert torch.equal(loaded(pose, identity), ours(pose, identity))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.model").write_bytes(b"noise")
    torch.save({"encoder.conv1.weight": torch.zeros(64, 3, 1)}, tmp_path / "few.model")
    for name in ("noise.model", "few.model", "missing.model"):
        with pytest.raises(MvaiError, match=name):
            load_original(tmp_path / name)


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ordered, vertices = OrderedEncoder(9, 6 * 4), torch.arange(9)
    trained = TrainedNpt(Npt(BEYOND), ordered, vertices, {"steps": 3})
    save_npt(trained, tmp_path / "npt.safetensors")
    back = load_npt(tmp_path / "npt.safetensors")
    assert back.npt.settings == BEYOND
    assert back.card == {"steps": 3}
    pose, identity = some(50, 3), some(40, 3, seed=1)
    assert torch.allclose(back.npt(pose, identity), trained.npt(pose, identity), atol=2e-2)
    assert back.ordered is not None
    assert torch.allclose(back.ordered(some(9, 3)), ordered(some(9, 3)), atol=1e-2)
    (tmp_path / "npt.safetensors").write_bytes(b"noise")
    with pytest.raises(MvaiError, match="not weights"):
        load_npt(tmp_path / "npt.safetensors")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for one another count as processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_faster_than_the_original_layout() -> None:
    """A loose bound on processor time, measured in turns, since others use the machine as well;
    npt_original.py measures at full width."""
    naive, ours = twins(NptSettings(code=512, widths=(515, 257, 128)))
    fast = FastNpt(ours)
    pose, identity = some(500, 3), body_surface(6000)

    def times_faster() -> float:
        slow = seconds(lambda: naive(pose[None], identity[None])[0])[1]
        return slow / seconds(lambda: fast.pose_mesh(fast.encode(pose), identity))[1]

    assert np.median([times_faster() for _ in range(5)]) > 2.5


@given(st.integers(8, 300), st.integers(5, 70))
@settings(max_examples=15, deadline=None)
def test_fast_encoder(points: int, tile: int) -> None:
    _, ours = twins(SMALL)
    pose = 3 + some(points, 3)
    assert torch.allclose(FastNpt(ours, tile).encode(pose), ours.encode(pose), atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_fast_form_whatever_the_signs(scale: float) -> None:
    """Tiny bodies leave all signs of a tile alone, huge ones change most; large meshes are not
    held."""
    naive, ours = twins(SMALL, seed=4)
    pose, identity = some(60, 3), scale * body_surface(700)
    expected = naive(pose[None], identity[None])[0]
    with pytest.MonkeyPatch.context() as patch:
        for held in (2**24, 0):
            patch.setattr("mvai.nets.npt_fast.HELD", held)
            out = FastNpt(ours, 64).pose_mesh(ours.encode(pose), identity)
            assert torch.allclose(out, expected, atol=1e-4)


@given(st.integers(1, 500), st.integers(1, 100))
@settings(max_examples=20, deadline=None)
def test_spatial_order_is_an_order(verts: int, tile: int) -> None:
    order = spatial_order(some(verts, 3), tile)
    assert order.sort().values.tolist() == list(range(verts))


def test_joint_maps_against_the_body_model() -> None:
    """On a small body the maps are those of plain forward kinematics, arms raised or all turned."""
    parents, arms = (-1, 0, 1, 0), (1, 3)
    g = torch.Generator().manual_seed(0)
    rest, x = torch.randn(4, 3, generator=g), torch.randn(5, 3, generator=g)
    R_pose = matrix_from_axis_angle(torch.randn(4, 3, generator=g))
    R_pose[0] = torch.eye(3)
    vector = torch.zeros(4, 3)
    vector[1, 2], vector[3, 2] = 0.5, -0.3
    offsets = torch.cat([rest[:1], rest[1:] - rest[list(parents[1:])]])

    def skin(R_local: Tensor, points: Tensor, joint: int) -> Tensor:
        R, t = kinematics(parents, R_local, offsets)
        return (points - rest[joint]) @ R[joint].T + t[joint]

    everywhere = torch.randn(4, 3, generator=g)
    for turn, known in ((vector, False), (everywhere, True)):
        turns, given = kinematics(parents, matrix_from_axis_angle(turn), offsets)
        joints = IdentityJoints(given, torch.tensor([0.5, 0.3]), turns if known else None)
        maps = joint_maps(parents, arms, R_pose, joints)
        for joint in range(4):
            as_given = skin(matrix_from_axis_angle(turn), x, joint)
            moved = as_given @ maps[joint, :, :3].T + maps[joint, :, 3]
            assert torch.allclose(moved, skin(R_pose, x, joint), atol=1e-5)
