"""Training of neural pose transfer: its data against the body model, its parts, going on."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mvai.benchmark.poses import PoseClip
from mvai.body.anny import anny_body
from mvai.nets.npt import NptSettings
from mvai.nets.npt_files import load_npt, save_npt
from mvai.train import npt
from mvai.train.npt import NptTraining, Part, shipped_form, train_part
from mvai.train.npt_data import Maker, ordered_vertices
from mvai.train.npt_devices import Several, Team, in_processes
from mvai.train.npt_poses import PoseBank, finger_rotations, pose_bank, unseen_shapes
from mvai.train.npt_run import assembled, published_form, train_npt
from mvai.types import MvaiError

SMALL = {"code": 16, "widths": (24, 12, 8), "encoder_width": 16, "features": 8}


@pytest.fixture(scope="module")
def bank() -> PoseBank:
    rng = np.random.default_rng(0)
    pose = (0.3 * rng.normal(size=(30, 22, 3))).astype(np.float32)
    clip = PoseClip("made", pose, np.zeros((30, 3), np.float32), 30.0, np.ones(30, bool))
    return pose_bank(anny_body(), [clip])


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of training goes on by 0.1 s at every look, however busy the machine is."""
    ticks = count(step=0.1)
    monkeypatch.setattr("mvai.train.npt.time", SimpleNamespace(perf_counter=lambda: next(ticks)))


def test_pose_bank(bank: PoseBank) -> None:
    assert bank.seen.shape == (30, 52, 3, 3)
    assert len(bank.wide) == 60
    assert torch.allclose(bank.seen[:, 0], torch.eye(3).expand(30, 3, 3))
    assert torch.allclose(bank.seen @ bank.seen.mT, torch.eye(3).expand(30, 52, 3, 3), atol=1e-5)
    again = unseen_shapes(anny_body())
    assert torch.equal(again, unseen_shapes(anny_body()))
    assert (again - Maker(anny_body(), bank).shapes).abs().max() > 0.1


def test_fingers_close_into_the_palm() -> None:
    body = anny_body()
    curl = np.zeros((1, 2, 5))
    curl[0, :, 1:] = 1.2
    R = torch.eye(3).repeat(2, len(body.joints), 1, 1)
    for joint, local in finger_rotations(body, curl, np.zeros((1, 2, 5))).items():
        R[1, joint] = torch.from_numpy(local[0].astype(np.float32))
    V = body.vertices(torch.zeros(1, body.shape_size), R, torch.zeros(2, 3)).numpy()
    for side in ("left", "right"):
        names = (f"{side}_hand_middle_4", f"{side}_hand_wrist", f"{side}_hand_thumb_4")
        tip, wrist, thumb = np.moveaxis(body.regress(names, V), 1, 0)
        reach = np.linalg.norm(tip - wrist, axis=1)
        assert reach[1] < 0.75 * reach[0]
        # The palm is the side on which the thumb lies.
        assert np.linalg.norm(tip[1] - thumb[0]) < np.linalg.norm(tip[0] - thumb[0])


def test_pose_meshes_are_those_of_the_body(bank: PoseBank) -> None:
    body = anny_body()
    maker = replace(Maker(body, bank, points=50, seen_share=1.0), turn_rad=0.0)
    b = maker.poses(4, np.random.default_rng(1))
    assert b.points.shape == (4, 50, 3)
    # Which shape was drawn is not told, but it is one of the sixteen.
    every = [
        body.vertices(shape[None], b.rotations, torch.zeros(4, 3))[:, ordered_vertices(body)]
        for shape in maker.shapes
    ]
    miss = torch.stack([(e - b.ordered).norm(dim=-1).mean(-1) for e in every]).amin(0)
    # They are turned by about a degree.
    assert (miss < 0.08).all()
    miss = torch.cdist(b.points, body.vertices(maker.shapes[:1], b.rotations, torch.zeros(4, 3)))
    assert miss.amin(-1).median() < 0.08


def test_identities_are_posed_by_their_own_joints(bank: PoseBank) -> None:
    """With true joints and weights, blended maps take the identity to the target, arms raised,
    puffed up, stretched or not."""
    from mvai.nets.npt_skeleton import IdentityJoints, joint_maps

    body = anny_body()
    form = shipped_form(body)
    b = Maker(body, bank, verts=60, edge_pairs=10, seen_share=0.25).identities(
        8, 3, np.random.default_rng(0)
    )
    assert b.identity.shape == (8, 1, 60, 3)
    assert b.target.shape == (8, 3, 60, 3)
    assert (b.lift != 0).any()
    maps = joint_maps(form.parents, form.arms, b.rotations, IdentityJoints(b.joints, b.lift))
    M = (b.weights @ maps.flatten(-2)).unflatten(-1, (3, 4))
    out = (M[..., :3] @ b.identity[..., None])[..., 0] + M[..., 3]
    still = (b.lift == 0)[:, 0, 0]
    assert torch.allclose(out[still], b.target[still], atol=1e-4)
    # Raised arms were themselves blended, so the way back is not exact near the shoulders.
    assert (out - b.target).norm(dim=-1).mean() < 0.01
    assert (b.identity - b.target).norm(dim=-1).mean() > 0.02


@pytest.mark.parametrize("part", ["pose", "ordered", "identity", "whole"])
def test_parts_learn_and_go_on(bank: PoseBank, tmp_path: Path, part: Part) -> None:
    body = anny_body()
    form = NptSettings(code=16, widths=(19, 9, 4))
    if part != "whole":
        form = replace(shipped_form(body), **SMALL)
    s = NptTraining(part, minutes=2.0 / 60, identities=4, poses=2, points=40, verts=80, warm_up=5)
    train_part(body, bank, tmp_path, form, s, every_s=0.5)
    first = torch.load(tmp_path / f"{part}.pt", weights_only=True)
    train_part(body, bank, tmp_path, form, replace(s, minutes=3.5 / 60), every_s=0.5)
    second = torch.load(tmp_path / f"{part}.pt", weights_only=True)
    assert second["step"] > first["step"] > 3
    assert second["spent_s"] > first["spent_s"]
    # Other settings do not go on from it.
    train_part(body, bank, tmp_path, form, replace(s, minutes=0.5 / 60, seed=1), every_s=9)
    third = torch.load(tmp_path / f"{part}.pt", weights_only=True)
    assert third["step"] < second["step"]
    lines = [json.loads(x) for x in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
    assert lines[0]["step"] < lines[-1]["step"]
    assert all(np.isfinite(x["pmd"]) for x in lines)


def test_parts_make_one_file(bank: PoseBank, tmp_path: Path) -> None:
    body = anny_body()
    form = replace(shipped_form(body), **SMALL)
    base = NptTraining(minutes=0.3 / 60, identities=2, poses=2, points=20, verts=30)
    parts = [replace(base, part=p, edge_weight=0) for p in ("pose", "ordered", "identity")]
    parts = [replace(p, verts=80) for p in parts]
    for p in parts:
        train_part(body, bank, tmp_path, form, p)
    save_npt(assembled(tmp_path, body, form, parts), tmp_path / "npt.safetensors")
    back = load_npt(tmp_path / "npt.safetensors")
    assert back.npt.settings == form
    state = torch.load(tmp_path / "pose.pt", weights_only=True)["mean"]
    mine = back.npt.encoder.state_dict()["point1.weight"]
    assert torch.allclose(mine, state["npt.encoder.point1.weight"], atol=1e-3)
    assert back.card is not None
    assert set(back.card["parts"]) == {"pose", "ordered", "identity"}


def one_step(team: Team, bank: PoseBank, work: Path, form: NptSettings, s: NptTraining) -> None:
    """In a process of its own: train, and say what became of the weights."""
    torch.set_num_threads(1)
    # The fixture's clock does not go along; by the true one a busy machine gets no second step.
    ticks = count(step=0.1)
    npt.time = SimpleNamespace(perf_counter=lambda: next(ticks))  # type: ignore[assignment]
    model = train_part(anny_body(), bank, work, form, s, team=team)
    state = torch.cat([p.flatten() for p in model.npt.parameters()])
    torch.save((team.agreed(team.rank), state), work / f"rank_{team.rank}.pt")


def test_several_processes_agree(bank: PoseBank, tmp_path: Path) -> None:
    """Two processes draw different batches and hold the same weights in the end."""
    pytest.importorskip("lightning_fabric")
    form = NptSettings(code=16, widths=(19, 9, 4))
    s = NptTraining("whole", minutes=1.5 / 60, identities=2, poses=2, points=40, verts=80,
                    warm_up=2)  # fmt: skip
    in_processes(one_step, 2, "cpu", bank, tmp_path, form, s)
    (said, first), (heard, second) = (torch.load(tmp_path / f"rank_{i}.pt") for i in (0, 1))
    assert said == heard == 0
    assert torch.equal(first, second)
    assert torch.load(tmp_path / "whole.pt", weights_only=True)["step"] > 1


def test_gradients_are_averaged() -> None:
    """Against the mean that a process works out for itself, in a stand-in for Fabric."""
    other = [torch.full((2, 3), 5.0), torch.full((4,), -1.0)]
    flat = torch.cat([g.flatten() for g in other])
    fabric = SimpleNamespace(
        global_rank=0, device=torch.device("cpu"),
        all_reduce=lambda x, reduce_op: (x + flat) / 2,
    )  # fmt: skip
    own = [torch.ones(2, 3, requires_grad=True), torch.ones(4, requires_grad=True)]
    own[0].sum().backward()
    Several(fabric).average(own)
    assert torch.equal(own[0].grad, torch.full((2, 3), 3.0))
    assert torch.equal(own[1].grad, torch.full((4,), -0.5))


def test_several_devices_without_fabric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MvaiError, match=r"mvai\[train\]"):
        in_processes(one_step, 2, "cpu")


@pytest.mark.parametrize(
    "wrong", [{"minutes": -1.0}, {"width": 0.0}, {"devices": 0}, {"device": "abacus"}]
)
def test_what_nothing_can_be_trained_with(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(MvaiError, match=r"minutes|width|devices|abacus"):
        train_npt(tmp_path, tmp_path / "w.safetensors", **wrong)
    assert not list(tmp_path.iterdir())


def test_the_published_form_at_a_share_of_its_width() -> None:
    assert published_form() == NptSettings()
    assert published_form(0.25) == NptSettings(code=256, widths=(259, 128, 64))
