"""Sources in no known topology: frames that agree, and meshes unlike people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.evaluate.transfer_pmd import pmd
from mvai.geometry.surface import vertex_normals
from mvai.nets.npt_files import WEIGHTS, load_npt
from mvai.transfer import npt_detail, rig, rig_drive, sa_pd
from mvai.transfer.reading import rest as reading_rest
from mvai.transfer.reading.agree import agreed_vertices, laid_as_agreed
from mvai.transfer.reading.match import body_pool
from mvai.transfer.reading.network import posed_mean
from mvai.transfer.reading.refine import Laid
from mvai.transfer.reading.rest import (
    RestMesh,
    SourceAtRest,
    read_any_source,
    read_through_rest,
)
from mvai.transfer.reading.source import SourcePoses, area_sample
from mvai.types import MvaiError, Skin
from npt_makers import acting, body_character, shuffled

shipped = pytest.mark.skipif(not WEIGHTS.exists(), reason="the weights are not there")
SOME = np.arange(0, 13718, 9)


def laid_wrongly(frames: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, Laid, torch.Tensor]:
    """Vertices drawn from the body, its points and normals in the root's frame; the body as it
    lies on them, an arm far off in one frame; the true rotations."""
    body = anny_body()
    sequence, R, _ = acting(frames)
    upright = sequence.vertices @ Rotation.from_euler("y", 1.0).as_matrix().astype(np.float32)
    ids = area_sample(upright[0], body.faces, 600)
    normals = np.stack([vertex_normals(v, body.faces)[ids] for v in upright])
    points = upright[:, ids] - upright[:, ids].mean(1, keepdims=True)
    wrong = R.clone()
    turn = Rotation.from_rotvec([1.3, 0.4, 0]).as_matrix().astype(np.float32)
    wrong[2, body.joint("RightArm")] = torch.from_numpy(turn)
    hips = body.regress(("Hips",), upright)[:, 0] - upright[:, ids].mean(1)
    shape = 0.7 * torch.randn(1, body.shape_size, generator=torch.Generator().manual_seed(0))[0]
    return ids, points, normals, Laid(wrong, shape, torch.from_numpy(hips.astype(np.float32))), R


def test_frames_outvote_the_one_that_is_wrong() -> None:
    body, pool = anny_body(), body_pool(anny_body())
    ids, points, normals, laid, R = laid_wrongly()
    rest = body.template.numpy()
    arm = np.isin(
        body.strongest_joint[ids],
        [body.joint("RightArm"), body.joint("RightForeArm")],
    )

    def off(voting: list[int]) -> float:
        chosen = agreed_vertices(body, pool, points, normals, laid, np.array(voting))
        at = pool.rest.numpy()[chosen[arm]]
        return float(np.median(np.linalg.norm(at - rest[ids[arm]], axis=1)))

    assert off([0, 1, 2, 3]) < 0.04 < off([2])

    truth = posed_mean(body, R, SOME)
    before = pmd(posed_mean(body, laid.R_local, SOME), truth)
    miss = np.where(np.arange(len(points)) == 2, 0.03, 0.01)
    after = laid_as_agreed(body, pool, points, normals, laid, miss)
    error = pmd(posed_mean(body, after.R_local, SOME), truth)
    assert error[2] < 0.1 * before[2]
    assert error.max() < 2e-4


def test_few_frames_stay_as_they_are() -> None:
    body = anny_body()
    _, points, normals, laid, _ = laid_wrongly()
    few = laid.some(np.arange(3))
    same = laid_as_agreed(body, body_pool(body), points[:3], normals[:3], few, np.full(3, 0.01))
    assert same is few


def toy(frames: int = 6) -> tuple[RestMesh, np.ndarray, torch.Tensor, np.ndarray]:
    """Our body with a head three times as large, at rest and moving; the rotations of its joints,
    and of its root in the world."""
    body = anny_body()
    _, R, _ = acting(frames)
    rest = body.template.numpy().astype(np.float64)
    at = body.joint_template.numpy().astype(np.float64)
    head = body.joint("Head")
    share = ((body.weight_indices == head) * body.weights).sum(1)[:, None]
    rest = rest + share * 2 * (rest - at[head])
    T = np.tile(np.eye(4), (len(at), 1, 1))
    T[:, :3, 3] = at
    skin = Skin(body.joints, body.parents, T, body.weight_indices, body.weights)
    Q = np.tile(Rotation.from_euler("y", 1.0).as_matrix(), (frames, 1, 1))
    world = R.clone()
    world[:, 0] = torch.from_numpy(Q.astype(np.float32))
    offsets = torch.from_numpy(at.astype(np.float32))
    G, t = body.forward_kinematics(offsets[None], world, torch.zeros(frames, 3))
    A = torch.cat([G, (t - (G @ offsets[..., None])[..., 0])[..., None]], -1).numpy()
    M = np.einsum("vj,fjab->fvab", body.dense_weights.numpy(), A)
    V = np.einsum("fvab,vb->fva", M[..., :3], rest) + M[..., 3]
    return RestMesh("toy", rest, skin), V.astype(np.float32), R, Q


def test_a_mesh_unlike_people_is_read_through_its_rest() -> None:
    rest, V, R, Q = toy()
    body = anny_body()
    sequence = replace(acting(6)[0], vertices=V, topology="")
    read = read_through_rest(body, rest, sequence)
    truth = posed_mean(body, R, SOME)
    assert pmd(posed_mean(body, read.R_local, SOME), truth).max() < 0.1e-4
    assert read.R_world_root == pytest.approx(Q, abs=0.02)
    assert read.scale == pytest.approx(1)
    with pytest.raises(MvaiError, match="must be the same mesh"):
        read_through_rest(body, rest, sequence.with_vertices(V[:, :100]))
    broken = V.copy()
    broken[1, 3] = np.inf
    with pytest.raises(MvaiError, match="not numbers"):
        read_through_rest(body, rest, sequence.with_vertices(broken))


@shipped
def test_kinds_are_told_apart() -> None:
    """The toy is read through its rest; a person is not, whose rest is not even asked for."""
    rest, V, R, _ = toy(4)
    body, trained = anny_body(), load_npt()
    source = SourceAtRest(lambda: rest)
    strange = replace(acting(4)[0], vertices=V, topology="")
    read = read_any_source(trained, body, strange, False, 6, source)
    assert source.by_network is False
    truth = posed_mean(body, R, SOME)
    assert pmd(posed_mean(body, read.R_local, SOME), truth).max() < 0.1e-4

    # A rest pose that faces away contradicts the network in every frame.
    turn = Rotation.from_euler("y", np.pi).as_matrix()
    T = rest.skin.T_world_joint.copy()
    T[:, :3, 3] = T[:, :3, 3] @ turn.T
    behind = RestMesh("toy", rest.vertices @ turn.T, replace(rest.skin, T_world_joint=T))
    away = SourceAtRest(lambda: behind)
    read_any_source(trained, body, strange, False, 6, away)
    assert away.by_network is True

    def unasked() -> RestMesh:
        raise AssertionError

    person = SourceAtRest(unasked)
    sequence, R, _ = acting(4)
    read = read_any_source(trained, body, shuffled(sequence), False, 6, person)
    assert person.by_network is True
    assert pmd(posed_mean(body, read.R_local, SOME), posed_mean(body, R, SOME)).max() < 3e-4


@shipped
def test_a_source_whose_joints_are_not_found_is_read_by_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one in our topology is not looked at, nor any where nothing is refined."""
    asked: list[bool] = []

    def read(*given: object) -> SourcePoses:
        asked.append(True)
        return SourcePoses(torch.empty(0), np.empty(0), np.empty(0), 1.0, np.empty(0), 1.0)

    monkeypatch.setattr(reading_rest, "read_source", read)
    sequence, _, at_rest = acting(6)
    body, trained = anny_body(), load_npt()
    lost = SourceAtRest(lambda: None)
    read_any_source(trained, body, shuffled(sequence), False, 6, lost)
    assert lost.by_network is False
    read_any_source(trained, body, shuffled(sequence), False, 6, lost)
    assert len(asked) == 3  # Its kind is known the second time.
    fresh = SourceAtRest(lambda: None)
    read_any_source(trained, body, sequence, True, 6, fresh)
    read_any_source(trained, body, shuffled(sequence), False, 0, fresh)
    assert fresh.by_network is None
    strange = npt_detail.register(body_character(at_rest * [2.5, 1, 1]))
    assert strange.at_rest.mesh is None
    assert npt_detail.register(body_character(at_rest)).at_rest.mesh is not None


def test_only_some_methods_can_do_without_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no body is found in it, SA-PD goes on without it, and rig says so."""

    def refused(method: object) -> None:
        raise MvaiError("no body in the first frame")

    sequence, given = shuffled(acting(1)[0]), []
    hero: Any = None
    for module in (sa_pd, npt_detail):
        monkeypatch.setattr(module, "drive", lambda *arguments: given.append(arguments))
    for method in (sa_pd.SaPdTransfer(), npt_detail.NptDetailTransfer()):
        method.drive(hero, sequence, refused)
    assert [rest for *_, rest in given] == [None, None]
    with pytest.raises(MvaiError, match="no body"):
        rig.RigTransfer().drive(hero, sequence, refused)


def test_the_file_of_joints_is_not_that_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character's corrected joints say nothing about the mesh that moves."""
    hero: Any = None
    given = []
    monkeypatch.setattr(rig_drive, "drive", lambda *arguments: given.append(arguments))
    method = rig.RigTransfer(joints=Path("hero_joints.json"), ignore_rig=True)
    method.drive(hero, shuffled(acting(1)[0]), lambda asked: asked)
    assert given[0][2:] == (method, rig.RigTransfer(ignore_rig=True))
