"""Twist bones: no candy wrappers, and the skeleton stays what it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.body.skinning import posed_vertices, skinned, skinning_operator
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_drive import drive
from mvai.transfer.rig_register import Registration
from mvai.transfer.rig_twist import LIMBS, twist_angle, with_twist_bones
from test_transfer import BODY, JOINT, own_registration, sequence, smooth_motion

AS_IS = RigTransfer(find_floor=False, lock_feet=False)


def with_twists() -> Registration:
    own = own_registration()
    skeleton = with_twist_bones(own.skeleton, BODY, own.character.mesh)
    return replace(own, skeleton=skeleton)


def along(bone: str, end: str) -> np.ndarray:
    joints = BODY.joint_template.numpy().astype(float)
    way = joints[JOINT[end]] - joints[JOINT[bone]]
    return way / np.linalg.norm(way)


def girth(vertices: np.ndarray, bone: str, end: str) -> float:
    """Mean distance of the vertices around the middle of a bone from their own middle line."""
    rest = BODY.template.numpy().astype(float)
    start = BODY.joint_template.numpy()[JOINT[bone]]
    axis = along(bone, end)
    length = np.linalg.norm(BODY.joint_template.numpy()[JOINT[end]] - start)
    at = (rest - start) @ axis / length
    ring = (abs(at - 0.5) < 0.4) & (BODY.dense_weights.numpy()[:, JOINT[bone]] > 0.5)
    slices = [ring & (abs(at - k) < 0.06) for k in np.linspace(0.15, 0.9, 9)]
    return min(
        np.linalg.norm(vertices[s] - vertices[s].mean(0), axis=1).mean()
        / np.linalg.norm(rest[s] - rest[s].mean(0), axis=1).mean()
        for s in slices
        if s.sum() > 5
    )


@pytest.mark.parametrize(
    ("turned", "bone", "end"),
    [("LeftHand", "LeftForeArm", "LeftHand"), ("RightArm", "RightArm", "RightForeArm")],
)
def test_a_twisted_limb_keeps_its_girth(turned: str, bone: str, end: str):
    rotvecs = np.zeros((5, len(BODY.joints), 3))
    turn = 3.0 if turned.endswith("Hand") else 1.5
    rotvecs[:, JOINT[turned]] = np.linspace(0, turn, 5)[:, None] * along(bone, end)
    vertices = posed_vertices(drive(with_twists(), sequence(rotvecs), AS_IS))
    assert girth(vertices[-1], bone, end) > 0.85
    hand = BODY.dense_weights.numpy()[:, JOINT["LeftHandMiddle1"]] > 0.5
    plain = posed_vertices(drive(own_registration(), sequence(rotvecs), AS_IS))
    assert np.abs(vertices - plain)[:, hand].max() < 1e-4


def test_the_hierarchy_stays():
    plain, twists = own_registration().skeleton, with_twists().skeleton
    J = len(BODY.joints)
    assert twists.skin.joints[:J] == plain.skin.joints and twists.skin.parents[:J] == BODY.parents
    assert len(twists.skin.joints) == J + sum(limb.joints for limb in LIMBS)
    assert len(set(twists.skin.joints)) == len(twists.skin.joints)
    assert all("Twist" in name for name in twists.skin.joints[J:])
    assert all(p < j for j, p in enumerate(twists.skin.parents))
    np.testing.assert_allclose(twists.skin.weights.sum(1), 1, atol=1e-5)
    # At rest nothing moves, and a turn of everything turns everything.
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    vertices = own_registration().character.mesh.vertices
    moved = skinned(
        skinning_operator(twists.skin, vertices), (turn @ twists.skin.T_world_joint)[None]
    )[0]
    np.testing.assert_allclose(moved, vertices @ turn[:3, :3].T, atol=1e-5)


def test_twists_do_not_depend_on_where_the_body_faces():
    rotvecs = smooth_motion(4, seed=3)
    turned = rotvecs.copy()
    about = Rotation.from_rotvec([0.0, 2.0, 0.0])
    turned[:, 0] = (about * Rotation.from_rotvec(rotvecs[:, 0])).as_rotvec()
    hero = with_twists()
    a = drive(hero, sequence(rotvecs), AS_IS).Ts_world_joint
    b = drive(hero, sequence(turned), AS_IS).Ts_world_joint
    assert a is not None and b is not None
    np.testing.assert_allclose(about.as_matrix() @ a[..., :3, :3], b[..., :3, :3], atol=0.02)


@given(st.floats(-3.1, 3.1), st.floats(-2.5, 2.5), st.floats(0, 6.28))
def test_twist_is_what_the_swing_leaves(angle: float, swing: float, direction: float):
    axis = np.array([0.6, 0.0, 0.8])
    across = np.cos(direction) * np.array([0.8, 0, -0.6]) + np.sin(direction) * np.array([0, 1, 0])
    Q = Rotation.from_rotvec(swing * across) * Rotation.from_rotvec(angle * axis)
    assert twist_angle(Q.as_matrix()[None], axis)[0] == pytest.approx(angle, abs=1e-6)


def test_a_twist_runs_on_past_half_a_turn():
    angle = np.linspace(0, 3.6, 40)
    Q = Rotation.from_rotvec(angle[:, None] * [0, 0, 1.0]).as_matrix()
    np.testing.assert_allclose(twist_angle(Q, np.array([0, 0, 1.0])), angle, atol=1e-9)
