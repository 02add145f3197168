"""Skin weights: how they spread, and what moves as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from mvai.body.skinning import posed_vertices
from mvai.geometry.laplacian import mesh_laplacian
from mvai.geometry.surface import components
from mvai.transfer.registration.fingers import merged_fingers
from mvai.transfer.registration.skirt import hanging_cloth
from mvai.transfer.registration.weights import diffused, softness, transfer_weights
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_drive import drive
from mvai.transfer.rig_register import Registration
from mvai.transfer.rig_twist import with_twist_bones
from mvai.types import Mesh
from test_transfer import BODY, JOINT, character, own_registration, sequence, smooth_motion


def strip(step_m: float) -> tuple[np.ndarray, np.ndarray]:
    """A band of one metre by a tenth, along x."""
    x, y = np.arange(0, 1 + 1e-9, step_m), np.arange(0, 0.1 + 1e-9, step_m)
    vertices = np.stack([*np.meshgrid(x, y, indexing="ij"), np.zeros((len(x), len(y)))], -1)
    i, j = np.meshgrid(np.arange(len(x) - 1), np.arange(len(y) - 1), indexing="ij")
    a = (i * len(y) + j).ravel()
    faces = np.concatenate(
        [np.stack([a, a + len(y), a + 1], 1), np.stack([a + 1, a + len(y), a + len(y) + 1], 1)]
    )
    return vertices.reshape(-1, 3), faces


def spread_width(step_m: float, width_m: float) -> float:
    """Length over which a step of weights has become a slope."""
    vertices, faces = strip(step_m)
    L, mass = mesh_laplacian(vertices, faces)
    right = (vertices[:, 0] > 0.5).astype(float)
    W = diffused(np.stack([1 - right, right], 1), L, mass, np.full(len(vertices), width_m))
    np.testing.assert_allclose(W.sum(1), 1, atol=1e-9)
    assert W.min() >= 0
    row = vertices[:, 1] == 0
    x, w = vertices[row, 0], W[row, 1]
    return float(np.interp(0.9, w, x) - np.interp(0.1, w, x))


def test_weights_spread_by_a_length_that_does_not_depend_on_the_mesh():
    coarse, fine = spread_width(0.02, 0.05), spread_width(0.01, 0.05)
    assert coarse == pytest.approx(fine, rel=0.1)
    # A step becomes exp(-|x| / width) / 2 on either side.
    assert fine == pytest.approx(2 * 0.05 * np.log(5), rel=0.1)
    assert spread_width(0.01, 0.0) < 0.011


def test_even_weights_stay():
    vertices, faces = strip(0.02)
    L, mass = mesh_laplacian(vertices, faces)
    W = np.tile([0.3, 0.7], (len(vertices), 1))
    width = np.random.default_rng(0).random(len(vertices)) * 0.1
    np.testing.assert_allclose(diffused(W, L, mass, width), W, atol=1e-9)


def test_hands_keep_their_fingers_apart():
    W = BODY.dense_weights.numpy().astype(float)
    width = softness(BODY, W, 1.7)
    finger = W[:, BODY.joint("LeftHandMiddle2")] > 0.9
    assert width[finger].max() < 0.006 < 0.02 < width[W[:, BODY.joint("Spine1")] > 0.5].min()


@pytest.mark.parametrize(
    ("near", "extents"),
    [("LeftForeArm", (0.12, 0.12, 0.12)), ("RightHandIndex2", (0.02, 0.02, 0.8))],
    ids=["armour", "sword"],
)
def test_what_is_hard_moves_as_one(near: str, extents: tuple[float, float, float]):
    """A plate around the forearm, whose surface twists, and a sword at a finger that bends."""
    own = own_registration()
    rest = own.character.mesh.vertices
    where = BODY.weights.max(1) * (BODY.weight_indices[:, 0] == BODY.joint(near))
    centre = rest[where > 0.6 * where.max()].mean(0)
    box = trimesh.creation.box(extents).subdivide().subdivide()
    vertices = np.concatenate([rest, np.asarray(box.vertices) + centre])
    faces = np.concatenate([BODY.faces, np.asarray(box.faces) + len(rest)])
    mesh = Mesh(vertices, faces)
    indices, weights = transfer_weights(BODY, rest, mesh)
    skin = replace(own.skeleton.skin, weight_indices=indices, weights=weights)
    skeleton = with_twist_bones(replace(own.skeleton, skin=skin), BODY, mesh)
    hero = Registration(character(vertices, faces), skeleton, 0.0, 0.0)
    posed = posed_vertices(drive(hero, sequence(smooth_motion(3, seed=5, size=1.0)), RigTransfer()))
    plate = np.arange(len(rest), len(vertices))
    lengths = [np.linalg.norm(v[plate][:, None] - v[plate][None], axis=-1) for v in posed]
    before = np.linalg.norm(vertices[plate][:, None] - vertices[plate][None], axis=-1)
    assert max(np.abs(length - before).max() for length in lengths) < 1e-4
    if near.startswith("RightHand"):
        joints = {skeleton.skin.joints[j] for j in skeleton.skin.weight_indices[plate, 0]}
        assert joints == {"RightHand"}


def posed_with(*meshes: trimesh.Trimesh) -> tuple[Registration, list[np.ndarray], list[np.ndarray]]:
    """The body with loose pieces, in some poses: where each piece is at rest and in every frame."""
    own = own_registration()
    rest = own.character.mesh.vertices
    starts = np.cumsum([len(rest), *(len(m.vertices) for m in meshes)])
    vertices = np.concatenate([rest, *(np.asarray(m.vertices) for m in meshes)])
    faces = [np.asarray(m.faces) + k for m, k in zip(meshes, starts[:-1], strict=True)]
    mesh = Mesh(vertices, np.concatenate([BODY.faces, *faces]))
    indices, weights = transfer_weights(BODY, rest, mesh)
    skin = replace(own.skeleton.skin, weight_indices=indices, weights=weights)
    skeleton = with_twist_bones(replace(own.skeleton, skin=skin), BODY, mesh)
    hero = Registration(character(vertices, mesh.faces), skeleton, 0.0, 0.0)
    posed = posed_vertices(drive(hero, sequence(smooth_motion(3, seed=5, size=1.0)), RigTransfer()))
    pieces = np.split(np.arange(len(rest), len(vertices)), starts[1:-1] - len(rest))
    return hero, [vertices[p] for p in pieces], [posed[:, p] for p in pieces]


def assert_rigid(rest: np.ndarray, posed: np.ndarray) -> None:
    before = np.linalg.norm(rest[:, None] - rest[None], axis=-1)
    for v in posed:
        after = np.linalg.norm(v[:, None] - v[None], axis=-1)
        np.testing.assert_allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("held", ["RightHandMiddle1", "RightHand"])
def test_a_spear_of_three_pieces_stays_whole(held: str):
    """Its tip is nearer to the leg than to the hand, and its shaft has vertices at its ends."""
    joints = BODY.joint_template.numpy()
    hand, foot = (joints[BODY.joint(n)] for n in (held, "RightFoot"))
    along = foot - [0.15, 0, 0] - hand
    along /= np.linalg.norm(along)
    turn = trimesh.geometry.align_vectors([0, 0, 1], along)
    shaft = trimesh.creation.box((0.02, 0.02, 1.6))
    ring = trimesh.creation.box((0.04, 0.04, 0.04))
    tip = trimesh.creation.box((0.05, 0.05, 0.3))
    for part, at in ((shaft, 0.0), (ring, 0.81), (tip, 0.94)):
        part.apply_transform(turn)
        part.apply_translation(hand + along * at)
    hero, rest, posed = posed_with(shaft, ring, tip)
    assert_rigid(np.concatenate(rest), np.concatenate(posed, axis=1))
    skin = hero.skeleton.skin
    assert skin.joints[skin.weight_indices[-1, 0]] == "RightHand"


def test_a_shield_beside_hand_and_forearm_is_hard():
    joints = BODY.joint_template.numpy()
    elbow, wrist = (joints[BODY.joint(f"Left{n}")] for n in ("ForeArm", "Hand"))
    shield = trimesh.creation.box((0.02, 1.0, 0.6)).subdivide().subdivide().subdivide()
    shield.apply_translation(0.4 * elbow + 0.6 * wrist + [0.05, 0, 0])
    _, rest, posed = posed_with(shield)
    assert_rigid(rest[0], posed[0])


def fingers(gap_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Faces of two fingers, index and ring, that are one piece without a gap, and their weights."""
    vertices, faces = strip(0.05)
    if gap_m:
        x = vertices[faces, 0].mean(1)
        faces = faces[abs(x - 0.5) > gap_m]
    W = np.zeros((len(vertices), len(BODY.joints)))
    ring = vertices[:, 0] > 0.6
    for name, on in (("Index", ~ring), ("Ring", ring)):
        for k, share in ((1, 0.2), (2, 0.3), (3, 0.5)):
            W[on, BODY.joint(f"LeftHand{name}{k}")] = share
    return faces, W


def test_a_wing_moves_with_the_back_that_it_is_fastened_to():
    """Not with the arm that most of it is nearest to."""
    body = BODY.template.numpy().astype(np.float64)
    chest = BODY.joint_template.numpy()[BODY.joint("Spine2")]
    wing = trimesh.creation.box((1.0, 0.5, 0.02)).subdivide().subdivide()
    back = body[np.abs(body[:, :2] - chest[:2]).max(1) < 0.1, 2].min()
    wing.apply_transform(trimesh.transformations.rotation_matrix(0.3, [0, 1, 0]))
    wing.apply_translation([0.52, chest[1], 0])
    wing.apply_translation([0, 0, back - 0.08 - np.asarray(wing.vertices)[:, 2].max()])
    faces = np.concatenate([BODY.faces, np.asarray(wing.faces) + len(body)])
    mesh = Mesh(np.concatenate([body, np.asarray(wing.vertices)]), faces)
    indices, weights = transfer_weights(BODY, body, mesh)
    own = np.zeros((len(wing.vertices), len(BODY.joints)))
    np.add.at(own, (np.arange(len(own))[:, None], indices[len(body) :]), weights[len(body) :])
    assert np.ptp(own, axis=0).max() < 1e-3
    assert own[0, [n.startswith("Spine") for n in BODY.joints]].sum() > 0.6


def test_a_mitten_moves_as_one_and_fingers_do_not():
    faces, W = fingers(0.0)
    mitten = merged_fingers(BODY, faces, W)
    np.testing.assert_allclose(mitten, mitten[:1].repeat(len(W), 0))
    np.testing.assert_allclose(mitten.sum(1), 1)
    assert mitten[0, BODY.joint("LeftHandIndex3")] == pytest.approx(0.5)
    faces, W = fingers(0.1)
    np.testing.assert_array_equal(merged_fingers(BODY, faces, W), W)
    np.testing.assert_array_equal(
        merged_fingers(BODY, BODY.faces, BODY.dense_weights.numpy()), BODY.dense_weights.numpy()
    )


def test_arms_that_hang_beside_the_thighs_are_no_cloth():
    """Arm and cloth are one piece; cloth to which weights of a hand have strayed is cloth still."""
    surface = BODY.template.numpy().astype(np.float64)
    hip, knee = (BODY.regress((n,), surface[None])[0, 0] for n in ("LeftUpLeg", "LeftLeg"))
    heights = np.linspace(hip[1] + 0.3, (hip[1] + knee[1]) / 2, 9)
    # Two bands, in front of both legs and to the left of them, joined at the top.
    across = np.array([[-0.2, 0, 0.1], [0, 0, 0.12], [0.2, 0, 0.1]])
    beside = np.array([[0.4, 0, 0.05], [0.45, 0, 0.05]])
    cloth = np.concatenate([across + np.array([0, y, hip[2]]) for y in heights])
    arm = np.concatenate([beside + np.array([0, y, hip[2]]) for y in heights])
    faces, n = [], len(cloth)
    for k in range(len(heights) - 1):
        for a, width in ((3 * k, 3), (3 * k + 1, 3), (n + 2 * k, 2)):
            faces += [(a, a + width, a + 1), (a + 1, a + width, a + width + 1)]
    faces = np.array([*faces, (2, n, 5)])
    vertices = np.concatenate([cloth, arm])
    W = np.zeros((len(vertices), len(BODY.joints)))
    W[:n, JOINT["Hips"]] = 1
    W[n:, JOINT["LeftForeArm"]] = 1
    strayed = n - 3 + np.array([0, 1])
    W[strayed] = np.eye(len(BODY.joints))[JOINT["LeftHand"]]
    piece = components(len(vertices), faces)
    assert piece.max() == 0
    far = np.full(len(vertices), 0.1)
    done = hanging_cloth(BODY, surface, vertices, faces, piece, far, W)
    # A band's lower end is far from where cloth is smoothed into it.
    assert done[n + 8 :, JOINT["LeftForeArm"]].min() > 0.95
    assert done[strayed, JOINT["LeftHand"]].max() < 0.1
