"""Hands of rigs that come with a character: rest directions of fingers, hands of one bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.body.skinning import posed_vertices
from mvai.geometry.rigid import transforms
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_drive import drive
from mvai.transfer.rig_hands import fingerless, resting_fingers, resting_hand, whole_hands
from mvai.transfer.rig_register import register
from mvai.types import Skin
from mvai.types.names import FINGERS
from test_transfer import BODY, JOINT, character, nobody, own_registration, sequence

REST = BODY.joint_template.numpy().astype(np.float64)
IDENTITY = np.tile(np.eye(3), (len(BODY.joints), 1, 1))
LONG = [f"LeftHand{f}{k}" for f in FINGERS[1:] for k in (1, 2, 3)]


def stretched() -> np.ndarray:
    """World position of every joint with the long fingers of the left hand made straight."""
    at = REST.copy()
    palm = np.mean([REST[JOINT[f"LeftHand{f}1"]] for f in FINGERS[1:]], 0) - REST[JOINT["LeftHand"]]
    palm /= np.linalg.norm(palm)
    for finger in FINGERS[1:]:
        for k in (2, 3):
            above, j = JOINT[f"LeftHand{finger}{k - 1}"], JOINT[f"LeftHand{finger}{k}"]
            at[j] = at[above] + palm * np.linalg.norm(REST[j] - REST[above])
    return at


def test_fingers_rest_along_the_bones_of_the_rig():
    at = stretched()
    R = resting_fingers(BODY, IDENTITY, {n: at[j] for n, j in JOINT.items()})
    for finger in FINGERS[1:]:
        for k in (1, 2):
            j, end = JOINT[f"LeftHand{finger}{k}"], JOINT[f"LeftHand{finger}{k + 1}"]
            np.testing.assert_allclose(R[j] @ (REST[end] - REST[j]), at[end] - at[j], atol=1e-6)
    untouched = [j for n, j in JOINT.items() if not n.startswith("LeftHand")]
    np.testing.assert_allclose(R[untouched], IDENTITY[untouched], atol=1e-6)
    as_it_is = resting_fingers(BODY, IDENTITY, {n: REST[j] for n, j in JOINT.items()})
    np.testing.assert_allclose(as_it_is, IDENTITY, atol=1e-6)


def test_a_rig_with_straight_fingers_bends_them_like_the_body():
    """In the template's own rest its fingers are bent, and so must the rig's be."""
    at = stretched()
    T = transforms(IDENTITY, at)
    skin = Skin(BODY.joints, BODY.parents, T, BODY.weight_indices, BODY.weights)
    hero = register(character(BODY.template.numpy().astype(np.float64), BODY.faces, skin), nobody)
    still = sequence(np.zeros((2, len(BODY.joints), 3)))
    done = drive(hero, still, RigTransfer(find_floor=False, keep_touch=False, avoid_body=False))
    assert done.Ts_world_joint is not None
    tips = done.Ts_world_joint[0, :, :3, 3]
    for finger in FINGERS[1:]:
        a, b = JOINT[f"LeftHand{finger}1"], JOINT[f"LeftHand{finger}3"]
        ours, theirs = tips[b] - tips[a], REST[b] - REST[a]
        cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
        assert np.degrees(np.arccos(min(cosine, 1))) < 6
    assert np.isfinite(posed_vertices(done)).all()


@given(st.integers(0, 10_000))
def test_a_hand_that_moves_as_one_keeps_its_turn(seed: int):
    turn = Rotation.random(random_state=seed).as_matrix()
    R = IDENTITY[None].copy()
    R[:, [j for n, j in JOINT.items() if n.startswith("LeftHand")]] = turn
    np.testing.assert_allclose(whole_hands(BODY, R, ("Left", "Right")), R, atol=1e-6)


def test_a_hand_of_one_bone_takes_part_in_its_fingers_bend():
    axis = REST[JOINT["LeftHandIndex1"]] - REST[JOINT["LeftHandPinky1"]]
    bend = Rotation.from_rotvec(np.radians(60) * axis / np.linalg.norm(axis)).as_matrix()
    R = IDENTITY[None].copy()
    R[:, [JOINT[n] for n in LONG]] = bend
    hand = whole_hands(BODY, R, ("Left",))[0, JOINT["LeftHand"]]
    turned = Rotation.from_matrix(hand).as_rotvec(degrees=True)
    assert 10 < np.linalg.norm(turned) < 50
    assert turned @ axis > 0.9 * np.linalg.norm(turned) * np.linalg.norm(axis)


def test_hands_without_fingers_are_told_and_laid_where_they_end():
    skeleton = own_registration().skeleton
    assert fingerless(BODY, skeleton) == ()
    source = skeleton.source.copy()
    source[np.isin(source, [JOINT[n] for n in LONG])] = -1
    assert fingerless(BODY, replace(skeleton, source=source)) == ("Left",)
    skin, hand = skeleton.skin, JOINT["LeftHand"]
    rest = BODY.template.numpy().astype(np.float64)
    as_it_is = resting_hand(BODY, "Left", np.eye(3), skin, rest, hand)
    assert np.degrees(Rotation.from_matrix(as_it_is).magnitude()) < 12
    turn = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    turned = (rest - REST[hand]) @ turn.T + REST[hand]
    moved = resting_hand(BODY, "Left", np.eye(3), skin, turned, hand)
    off = Rotation.from_matrix(as_it_is.T @ moved).magnitude()
    assert 20 < np.degrees(off) < 40
