"""NPT in use: reading sources, placing results, keeping detail, polishing; training's data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.body.skinning import posed_vertices
from mvai.evaluate.transfer_pmd import pmd
from mvai.geometry.polish import hemispheres, polisher
from mvai.geometry.surface import vertex_normals
from mvai.nets.npt_files import WEIGHTS, load_npt
from mvai.transfer import npt, npt_detail
from mvai.transfer.npt_identity import identity_of, without_far_bones
from mvai.transfer.reading.match import FoundMatch, KnownMatch
from mvai.transfer.reading.network import posed_mean
from mvai.transfer.reading.refine import lay
from mvai.transfer.reading.source import area_sample, read_source, root_rotations
from mvai.transfer.registration.find_body import FoundBody
from mvai.transfer.registration.find_joints import FoundJoints
from mvai.transfer.registration.fit import FittedTemplate
from mvai.types import Character, MvaiError, Part
from npt_makers import acting, body_character, shuffled

shipped = pytest.mark.skipif(not WEIGHTS.exists(), reason="the weights are not there")


def test_frame_of_the_root() -> None:
    sequence, _, _ = acting()
    R = root_rotations(anny_body(), sequence.vertices)
    turn = Rotation.from_matrix(R) * Rotation.from_euler("y", -1.0)
    assert np.rad2deg(turn.magnitude()).max() < 5


def test_area_sample_is_spread_by_area() -> None:
    body = anny_body()
    v = body.template.numpy()
    ids = area_sample(v, body.faces, 1000)
    # The head has a third of the vertices and a tenth of the area.
    head = body.joint("Head")
    assert 0.06 < (body.strongest_joint[ids] == head).mean() < 0.14
    with pytest.raises(MvaiError, match="no surface"):
        area_sample(np.ones((3, 3)), np.array([[0, 1, 2]]), 10)


@shipped
@pytest.mark.parametrize("known_order", [True, False])
def test_rotations_are_read(known_order: bool) -> None:
    sequence, R, _ = acting()
    source = read_source(load_npt(), anny_body(), sequence, known_order)
    some = np.arange(0, 13718, 9)
    ours, truth = (posed_mean(anny_body(), r, some) for r in (source.R_local, R))
    assert pmd(ours, truth).mean() < (4e-4 if known_order else 20e-4)
    assert source.lowest == pytest.approx(sequence.vertices[..., 1].min(1))
    assert 0.8 < source.scale < 1.25


@pytest.mark.parametrize("found", [False, True])
def test_refinement_finds_the_pose(found: bool) -> None:
    """From rotations that are wrong by ten degrees a joint, with or without knowing which vertex
    a point is (places on the body wrong by 3 cm)."""
    body, rng = anny_body(), np.random.default_rng(2)
    sequence, R, _ = acting()
    wrong = Rotation.from_rotvec(rng.normal(0, 0.1, (R.shape[0] * R.shape[1], 3))).as_matrix()
    start = R @ torch.from_numpy(wrong.reshape(R.shape).astype(np.float32))
    start[:, 0] = torch.eye(3)
    ids = area_sample(sequence.vertices[0], body.faces, 600)
    V = sequence.vertices @ Rotation.from_euler("y", 1.0).as_matrix().astype(np.float32)
    if found:
        places = body.template.numpy()[ids] + rng.normal(0, 0.03, (len(V), 600, 3))
        normals = np.stack([vertex_normals(v, body.faces)[ids] for v in V])
        match = FoundMatch(body, places, normals)
    else:
        match = KnownMatch(body, ids)
    laid = lay(body, V[:, ids] - V[:, ids].mean(1, keepdims=True), start, 6, match)
    some = np.arange(0, 13718, 9)
    truth = posed_mean(body, R, some)
    before, after = (pmd(posed_mean(body, r, some), truth).mean() for r in (start, laid.R_local))
    assert after < (2e-4 if found else 0.1e-4) < before


@shipped
@pytest.mark.parametrize("known_order", [True, False])
def test_refinements_help(known_order: bool) -> None:
    sequence, R, _ = acting()
    some = np.arange(0, 13718, 9)
    truth = posed_mean(anny_body(), R, some)
    alone, refined = (
        pmd(posed_mean(anny_body(), source.R_local, some), truth).mean()
        for steps in (0, 6)
        for source in [read_source(load_npt(), anny_body(), sequence, known_order, steps)]
    )
    assert refined < 0.7 * alone
    assert refined < (0.3e-4 if known_order else 2e-4)


@shipped
def test_any_order_of_vertices_will_do() -> None:
    """The search finds heading, place and pose of a mesh of which nothing is known."""
    sequence, R, _ = acting()
    source = read_source(load_npt(), anny_body(), shuffled(sequence), known_order=True)
    some = np.arange(0, 13718, 9)
    posed = posed_mean(anny_body(), source.R_local, some)
    world = np.einsum("fij,fvj->fvi", source.R_world_root, posed)
    truth = np.einsum(
        "ij,fvj->fvi", Rotation.from_euler("y", 1.0).as_matrix(), posed_mean(anny_body(), R, some)
    )
    assert pmd(world, truth).mean() < 40e-4
    hips = anny_body().regress(("Hips",), sequence.vertices)[:, 0]
    assert np.linalg.norm(source.root - hips, axis=1).max() < 0.15


@shipped
def test_every_frame_finds_its_own_heading() -> None:
    """Turned and bent at random from one frame to the next, in no known topology."""
    sequence, R, _ = acting()
    turns = Rotation.from_euler("yx", [[0.3, 0.1], [2.5, 0.8], [-2.0, -0.5], [3.1, 0.0]])
    Q = turns.as_matrix()
    upright = sequence.vertices @ Rotation.from_euler("y", 1.0).as_matrix()
    V = np.einsum("fij,fvj->fvi", Q, upright).astype(np.float32)
    moved = shuffled(sequence.with_vertices(V))
    source = read_source(load_npt(), anny_body(), moved, False, 6)
    some = np.arange(0, 13718, 9)
    posed = posed_mean(anny_body(), source.R_local, some)
    world = np.einsum("fij,fvj->fvi", source.R_world_root, posed)
    truth = np.einsum("fij,fvj->fvi", Q, posed_mean(anny_body(), R, some))
    assert pmd(world, truth).max() < 8e-4


@shipped
def test_methods_pose_a_body() -> None:
    sequence, R, _ = acting()
    _, _, rest = acting(seed=3)
    body, character = anny_body(), body_character(rest)
    shape = 0.7 * torch.randn(1, body.shape_size, generator=torch.Generator().manual_seed(3))
    world = R.clone()
    world[:, 0] = torch.from_numpy(Rotation.from_euler("y", 1.0).as_matrix().astype(np.float32))
    truth = body.vertices(shape, world, torch.zeros(len(R), 3)).numpy()
    copied = pmd(np.broadcast_to(rest, truth.shape), truth).mean()
    for module, config, most in (
        (npt, npt.NptTransfer(), 20e-4),
        (npt_detail, npt_detail.NptDetailTransfer(), 4e-4),
        (npt_detail, npt_detail.NptDetailTransfer(polish=True), 4e-4),
    ):
        made = module.drive(module.register(character, None, config), sequence, config)
        error = pmd(posed_vertices(made), truth)
        assert error.mean() < most, config
        assert error.mean() < copied / 5
        # Standing feet are near the floor.
        assert abs(posed_vertices(made)[..., 1].min(1)).max() < 0.1
        assert made.frames == sequence.frames


@shipped
def test_bad_sequences_and_characters_are_refused() -> None:
    sequence, _, rest = acting(1)
    ready = npt_detail.register(body_character(rest))
    broken = sequence.vertices.copy()
    broken[0, 5] = np.nan
    with pytest.raises(MvaiError, match="not numbers"):
        npt_detail.drive(ready, sequence.with_vertices(broken))
    flat = Character("flat", (Part("flat", rest * [1, 0, 1], anny_body().faces),))
    with pytest.raises(MvaiError, match="flat"):
        npt.register(flat)


@shipped
def test_joints_of_a_strange_character_are_those_of_the_fitted_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the network's hands are off the surface, and only there."""
    body, trained = anny_body(), load_npt()
    _, _, rest = acting(1)
    strange = rest * [2.5, 1, 1]
    where = body.joint_template.numpy().astype(np.float64)
    turns = np.tile(Rotation.from_euler("x", 0.1).as_matrix(), (len(where), 1, 1))
    asked = []

    def found(*given: object) -> FoundBody:
        asked.append(given)
        fit = FittedTemplate(strange, turns, where, 0.0, 0.0)
        return FoundBody(fit, FoundJoints((), np.empty((0, 3)), np.empty(0)))

    def refused(*given: object) -> FoundBody:
        raise MvaiError("no body")

    monkeypatch.setattr("mvai.transfer.npt_identity.find_body", found)
    near = identity_of(trained, body_character(rest), detector)
    assert not asked
    assert near.skin is None
    far = identity_of(trained, body_character(strange), detector)
    assert far.metres(far.joints.positions.numpy()) == pytest.approx(where, abs=1e-5)
    assert far.joints.turns is not None
    assert far.joints.turns.numpy() == pytest.approx(turns)
    assert far.skin is not None
    # The template lies on the character exactly, so its weights are the body's.
    main = far.skin[0][np.arange(len(rest)), far.skin[1].argmax(1)]
    assert (main == body.strongest_joint).mean() > 0.9
    monkeypatch.setattr("mvai.transfer.npt_identity.find_body", refused)
    alone = identity_of(trained, body_character(strange), detector)
    assert alone.skin is None
    assert torch.equal(
        alone.joints.positions, identity_of(trained, body_character(strange)).joints.positions
    )


def detector(picture: np.ndarray) -> None:
    """Sees nobody."""


@shipped
def test_fingers_do_not_follow_the_trunk() -> None:
    """A share in a bone far off is taken away, one in a near bone stays."""
    body, trained = anny_body(), load_npt()
    _, _, rest = acting(1)
    identity = identity_of(trained, body_character(rest))
    p = identity.joints.positions
    tip, hand, trunk = (body.joint(n) for n in ("LeftHandIndex3", "LeftHand", "Spine"))
    W = torch.zeros(2, len(p))
    W[0, tip], W[0, hand], W[0, trunk] = 0.3, 0.3, 0.4
    W[1, trunk] = 1
    x = torch.stack([p[tip], p[trunk] + torch.tensor([0.0, 0.0, 0.08])])
    out = without_far_bones(trained, identity, x, W)
    assert out.sum(1).tolist() == pytest.approx([1, 1])
    assert out[0, trunk] == 0
    assert out[0, tip] == pytest.approx(0.5, abs=1e-3)
    assert out[1, trunk] > 0.99


def bar() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A bumpy sheet along y and weights that go over from one joint to the other."""
    u, y = np.meshgrid(np.linspace(-0.2, 0.2, 9), np.linspace(0, 2, 41), indexing="ij")
    v = np.stack([u, y, 0.01 * np.sin(40 * y) * np.cos(30 * u)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(8), np.arange(40), indexing="ij")
    a = (i * 41 + j).ravel()
    f = np.concatenate([np.stack([a, a + 41, a + 1], 1), np.stack([a + 1, a + 41, a + 42], 1)])
    w = np.clip((v[:, 1] - 0.9) / 0.2, 0, 1)
    return v, f, np.tile([0, 1], (len(v), 1)), np.stack([1 - w, w], 1)


def test_polish_keeps_what_moves_rigidly() -> None:
    v, f, indices, weights = bar()
    Q = Rotation.from_euler("xyz", [0.3, 1.2, -0.4])
    moved = (Q.apply(v) + np.array([1, 2, 3]))[None]
    q = np.tile(Q.as_quat(), (1, 2, 1))
    assert np.allclose(polisher(v, f, indices, weights, 2).polish(moved, q), moved, atol=1e-6)


def test_polish_takes_out_shear() -> None:
    """Linear blending of a sheet bent about its middle shortens the way across the bend."""
    v, f, indices, weights = bar()
    Q = Rotation.from_euler("x", 2.2)
    turned = Q.apply(v - [0, 1, 0]) + np.array([0, 1, 0])
    skinned = weights[:, :1] * v + weights[:, 1:] * turned
    q = np.stack([[0, 0, 0, 1.0], Q.as_quat()])[None]
    out = polisher(v, f, indices, weights, 2).polish(skinned[None], q)[0]

    def stretch(x: np.ndarray) -> float:
        e = np.concatenate([f[:, :2], f[:, 1:]])
        length = [np.linalg.norm(p[e[:, 0]] - p[e[:, 1]], axis=1) for p in (x, v)]
        return float(np.abs(length[0] / length[1] - 1).mean())

    assert stretch(out) < 0.7 * stretch(skinned)


def test_hemispheres_change_no_rotation() -> None:
    q = Rotation.random(12, random_state=0).as_quat().reshape(3, 4, 4)
    out = hemispheres(q, (-1, 0, 1, 0))
    assert np.allclose(np.abs((out * q).sum(-1)), 1)
    for j, p in ((1, 0), (2, 1), (3, 0)):
        assert ((out[:, j] * out[:, p]).sum(-1) >= 0).all()
