"""Weights that strain the surface little, and the polish of animations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.body.skinning import posed_vertices
from mvai.evaluate.metrics import edge_stretch, edges_of
from mvai.geometry.rigid import nearest_rotations, rotations_near
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_drive import drive
from mvai.transfer.rig_elastic import elastic_weights, on_simplex
from mvai.transfer.rig_range import RANGE, range_of_motion
from mvai.transfer.rig_register import Registration
from mvai.types import Mesh, MeshSequence
from test_transfer import BODY, JOINT, character, own_registration, sequence

AS_IS = RigTransfer(
    find_floor=False, lock_feet=False, keep_touch=False, avoid_body=False, twist_bones=False
)


def sharp(with_cube: bool = False) -> Registration:
    """Our body with weights that change too suddenly; a cube may float at its knee."""
    own = own_registration()
    mesh, skin = own.character.mesh, own.skeleton.skin
    weights = skin.weights**4 / (skin.weights**4).sum(1, keepdims=True)
    vertices, faces, indices = mesh.vertices, mesh.faces, skin.weight_indices
    if with_cube:
        corners = np.stack(np.meshgrid([0, 0.05], [0, 0.05], [0, 0.05], indexing="ij"), -1)
        knee = skin.T_world_joint[JOINT["LeftLeg"], :3, 3] + [0, 0, 0.2]
        sides = [(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1)]
        sides += [(2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)]
        faces = np.concatenate([faces, np.array(sides) + len(vertices)])
        vertices = np.concatenate([vertices, knee + corners.reshape(-1, 3)])
        both = np.zeros((8, indices.shape[1]), indices.dtype)
        both[:, :2] = JOINT["LeftLeg"], JOINT["LeftUpLeg"]
        indices = np.concatenate([indices, both])
        halves = np.zeros((8, weights.shape[1]), np.float32)
        halves[:, :2] = 0.5
        weights = np.concatenate([weights, halves])
    skin = replace(skin, weight_indices=indices, weights=weights)
    return replace(
        own,
        character=character(vertices, faces),
        skeleton=replace(own.skeleton, skin=skin),
    )


def bent() -> MeshSequence:
    rotvecs = np.zeros((2, len(BODY.joints), 3))
    rotvecs[1, JOINT["LeftLeg"], 0] = 1.3
    rotvecs[1, JOINT["RightForeArm"], 1] = 1.2
    rotvecs[1, JOINT["LeftArm"], 2] = 0.9
    return sequence(rotvecs)


def strain(mesh: Mesh, vertices: np.ndarray) -> float:
    rest = mesh.vertices.astype(np.float64)
    return float(np.percentile(edge_stretch(rest, vertices[-1:], edges_of(mesh.faces)), 99.9))


def test_weights_strain_less_and_pieces_keep_theirs():
    before = sharp(with_cube=True)
    mesh = before.character.mesh
    after = replace(before, skeleton=elastic_weights(before.skeleton, BODY, mesh))
    weights = after.skeleton.skin.weights
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(weights[-8:], before.skeleton.skin.weights[-8:])
    torn = posed_vertices(drive(before, bent(), AS_IS)).astype(np.float64)
    soft = posed_vertices(drive(after, bent(), AS_IS)).astype(np.float64)
    assert strain(mesh, soft) - 1 < 0.8 * (strain(mesh, torn) - 1)
    # What is far from joints stays.
    crown = mesh.vertices[:, 1] > mesh.vertices[:, 1].max() - 0.05
    assert np.abs(soft - torn)[:, crown].max() < 1e-4


def test_polish_moves_the_joints_and_nothing_else():
    """The surface is strained less where it bends, and soles and hands stay to a millimetre."""
    registration = own_registration()
    mesh = registration.character.mesh
    plain = drive(registration, bent(), AS_IS)
    polished = drive(registration, bent(), replace(AS_IS, polish=True))
    assert polished.skin is None and polished.free_vertices is not None
    before, after = posed_vertices(plain), posed_vertices(polished)
    assert strain(mesh, after) < strain(mesh, before)
    moved = np.linalg.norm(after - before, axis=-1)
    weights = BODY.dense_weights.numpy()
    far = weights[:, [JOINT["LeftFoot"], JOINT["RightToeBase"], JOINT["LeftHand"]]].max(1) > 0.999
    assert moved[:, far].max() < 1e-3 < 5e-3 < moved.max()


@given(st.integers(0, 10_000))
def test_simplex_is_reached_and_kept(seed: int):
    random = np.random.default_rng(seed)
    x, allowed = random.normal(size=(7, 5)), random.random((7, 5)) < 0.7
    allowed[:, 0] = True
    w = on_simplex(x, allowed)
    assert (w >= 0).all() and (w[~allowed] == 0).all()
    np.testing.assert_allclose(w.sum(1), 1)
    np.testing.assert_allclose(on_simplex(w, allowed), w, atol=1e-12)
    # No other weights are nearer: the direction to them makes a blunt angle with what is left.
    other = on_simplex(random.normal(size=x.shape), allowed)
    assert (((x - w) * allowed * (other - w)).sum(1) < 1e-9).all()


def test_rotations_near_go_to_the_nearest():
    random = np.random.default_rng(0)
    true = Rotation.from_rotvec(random.normal(size=(200, 3))).as_matrix()
    M = true @ (np.eye(3) + 0.1 * random.normal(size=(200, 3, 3)))
    start = Rotation.from_rotvec(random.normal(size=(200, 3)) * 0.4).as_matrix() @ true
    np.testing.assert_allclose(rotations_near(M, start, 8), nearest_rotations(M), atol=1e-3)


def test_range_of_motion_is_the_same_on_both_sides():
    R = range_of_motion(BODY)
    assert R.shape == (len(RANGE), len(BODY.joints), 3, 3)
    # Seated, with the arms up: thighs forward, shins down, upper arms above the shoulders.
    seated = R[0]
    rest = BODY.joint_template.numpy()
    for side, sign in (("Left", 1), ("Right", -1)):
        thigh, shin, arm = (
            seated[JOINT[side + a]] @ (rest[JOINT[side + b]] - rest[JOINT[side + a]])
            for a, b in (("UpLeg", "Leg"), ("Leg", "Foot"), ("Arm", "ForeArm"))
        )
        assert thigh[2] > 0.9 * np.linalg.norm(thigh)
        assert -shin[1] > 0.9 * np.linalg.norm(shin)
        assert arm[1] > 0.7 * np.linalg.norm(arm) and sign * arm[0] > 0
