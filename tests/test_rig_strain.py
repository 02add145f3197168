"""Weights that spare the most strained edges."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

import mvai.transfer.rig_elastic as rig_elastic
from mvai.body.skinning import posed_vertices
from mvai.evaluate.metrics import edge_stretch, edges_of
from mvai.geometry.polish import Polisher, polisher
from mvai.transfer import rig_strain
from mvai.transfer.legs import body_legs
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.transfer.rig_strain import edges_at, most_strained
from mvai.types import Animation, Mesh, Skin
from test_transfer import BODY, character

RINGS, AROUND = 12, 6


def tube() -> tuple[Mesh, Skin]:
    """A coarse upright tube of 1.1 m that two joints move, with a sudden change between them."""
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    ring = np.stack([0.1 * np.cos(angle), 0 * angle, 0.1 * np.sin(angle)], 1)
    vertices = np.concatenate([ring + np.array([0, 0.1 * k, 0]) for k in range(RINGS)])
    i = np.arange((RINGS - 1) * AROUND)
    right = i // AROUND * AROUND + (i + 1) % AROUND
    faces = np.concatenate(
        [np.stack(f, 1) for f in ((i, i + AROUND, right), (right, i + AROUND, right + AROUND))]
    )
    upper = np.clip((vertices[:, 1] - 0.45) / 0.2, 0, 1)
    Ts = np.tile(np.eye(4), (2, 1, 1))
    Ts[1, 1, 3] = 0.55
    return Mesh(vertices.astype(np.float32), faces), Skin(
        joints=("Hips", "Spine"),
        parents=(-1, 0),
        T_world_joint=Ts,
        weight_indices=np.tile(np.array([0, 1], np.int32), (len(vertices), 1)),
        weights=np.stack([1 - upper, upper], 1).astype(np.float32),
    )


def surface(mesh: Mesh, skin: Skin) -> Polisher:
    return polisher(mesh.vertices, mesh.faces, skin.weight_indices, skin.weights, len(skin.joints))


def bends(skin: Skin) -> np.ndarray:
    """What the joints do to points at rest when the upper one bends to either side."""
    moves = np.tile(np.eye(4), (4, 2, 1, 1))
    turns = Rotation.from_euler("z", [[80], [-80], [40], [-40]], degrees=True).as_matrix()
    moves[:, 1, :3, :3] = turns
    at = skin.T_world_joint[1, :3, 3]
    moves[:, 1, :3, 3] = at - turns @ at
    return moves


def posed(mesh: Mesh, skin: Skin) -> np.ndarray:
    Ts = (bends(skin) @ skin.T_world_joint).astype(np.float32)
    moving = Animation(character(mesh.vertices, mesh.faces), 30.0, skin, Ts)
    return posed_vertices(moving).astype(np.float64)


def spared_skin(mesh: Mesh, skin: Skin) -> Skin:
    P = surface(mesh, skin)
    indices, weights = rig_elastic._spared(
        P, mesh.faces, bends(skin), skin.parents, np.ones(len(P.rest), bool),
        skin.weight_indices[P.first], skin.weights[P.first],
    )  # fmt: skip
    return Skin(skin.joints, skin.parents, skin.T_world_joint, indices[P.welded], weights[P.welded])


def worst(mesh: Mesh, skin: Skin) -> float:
    stretch = edge_stretch(mesh.vertices.astype(float), posed(mesh, skin), edges_of(mesh.faces))
    return float(np.percentile(stretch, 99))


def test_the_most_strained_edges_are_spared_and_the_tube_stays_on_its_bones():
    mesh, skin = tube()
    done = spared_skin(mesh, skin)
    np.testing.assert_allclose(done.weights.sum(1), 1, atol=1e-5)
    assert (done.weights >= 0).all()
    assert worst(mesh, done) - 1 < 0.85 * (worst(mesh, skin) - 1)
    moved = np.linalg.norm(posed(mesh, done) - posed(mesh, skin), axis=-1)
    assert moved.max() < 0.1 * np.ptp(mesh.vertices[:, 1])
    # What only one joint moves, with its neighbours, is not touched.
    ends = np.abs(mesh.vertices[:, 1] - 0.55) > 0.4
    assert moved[:, ends].max() < 1e-6


def test_only_the_surroundings_of_strained_edges_are_free():
    mesh, skin = tube()
    P = surface(mesh, skin)
    x = rig_elastic._skinned(P, bends(skin))
    everywhere = np.ones(len(P.rest), bool)
    free = most_strained(P, mesh.faces, x, everywhere)
    assert free.any() and np.abs(P.rest[free, 1] - 0.55).max() < 0.3
    allowed = P.rest[:, 0] > 0
    assert not (most_strained(P, mesh.faces, x, allowed) & ~allowed).any()
    # Where hardly an edge is strained, nothing is.
    few = 0.2 * x + 0.8 * P.rest[:, :, None].astype(np.float32)
    assert not most_strained(P, mesh.faces, few, everywhere).any()


def test_of_very_many_strained_vertices_the_worst_are_taken(monkeypatch):
    mesh, skin = tube()
    P = surface(mesh, skin)
    x = rig_elastic._skinned(P, bends(skin))
    everywhere = np.ones(len(P.rest), bool)
    monkeypatch.setattr(rig_strain, "MOST", 10)
    few = most_strained(P, mesh.faces, x, everywhere)
    assert 10 <= few.sum() <= 10 + 2 * AROUND
    assert np.abs(P.rest[few, 1] - 0.55).max() < 0.2


def test_slope_is_that_of_the_sum():
    mesh, skin = tube()
    P = surface(mesh, skin)
    E = edges_at(P, mesh.faces, np.ones(len(P.rest), bool))
    random = np.random.default_rng(0)
    d = E.rest[:, :, None] * [1.0, 1.3] + 0.02 * random.normal(size=(len(E.rest), 3, 2))
    turned = E.rest[:, :, None] + 0.02 * random.normal(size=d.shape)

    def total(d: np.ndarray) -> float:
        strain = np.abs(np.log(np.linalg.norm(d, axis=1) / E.length))
        off = np.linalg.norm(d - turned, axis=1) / E.length
        return float((strain**3 + rig_strain.TURNED * off**3).sum() / 3)

    way = random.normal(size=d.shape)
    numeric = (total(d + 1e-5 * way) - total(d - 1e-5 * way)) / 2e-5
    assert np.isclose((rig_strain._slope(E, d, turned) * way).sum(), numeric, rtol=1e-4)


def test_a_whole_fit_strains_less_with_it(monkeypatch):
    """On our body, coarse where it is clustered; with sudden weights, over the range of motion."""
    rest = BODY.template.numpy().astype(np.float64)
    cell = np.unique(np.round(rest / 0.06), axis=0, return_inverse=True)[1].ravel()
    first = np.unique(cell, return_index=True)[1]
    faces = cell[BODY.faces]
    faces = faces[(np.diff(np.sort(faces, 1), axis=1) > 0).all(1)]
    mesh = Mesh(rest[first].astype(np.float32), faces)
    Ts = np.tile(np.eye(4), (len(BODY.joints), 1, 1))
    Ts[:, :3, 3] = BODY.joint_template.numpy()
    skin = Skin(BODY.joints, BODY.parents, Ts, BODY.weight_indices[first], BODY.weights[first])
    J = len(BODY.joints)
    whole = DrivenSkeleton(
        skin, np.arange(J), np.tile(np.eye(3), (J, 1, 1)), body_legs(BODY), root=0
    )
    after = rig_elastic.elastic_weights(whole, BODY, mesh).skin
    monkeypatch.setattr(rig_elastic, "_spared", lambda *a: a[-2:])
    before = rig_elastic.elastic_weights(whole, BODY, mesh).skin
    R = rig_elastic.range_of_motion(BODY)
    T = rig_elastic.transforms(R, rig_elastic.positions_on(whole, R, np.zeros((len(R), 3))))

    def p99(skin: Skin) -> float:
        moving = Animation(character(mesh.vertices, faces), 30.0, skin, T.astype(np.float32))
        x = posed_vertices(moving).astype(np.float64)
        return float(np.percentile(edge_stretch(rest[first], x, edges_of(faces)), 99))

    assert p99(after) - 1 < 0.85 * (p99(before) - 1)
