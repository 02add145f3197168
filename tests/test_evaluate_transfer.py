"""Measures of transfer: worked examples, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.evaluate.transfer_joints import PARTS, joint_errors
from mvai.evaluate.transfer_measures import (
    enclosed_volume,
    inverted_faces,
    measure_motion,
    penetration_added,
    winding_numbers,
)
from mvai.evaluate.transfer_motions import posed, sit_to_stand
from mvai.evaluate.transfer_page import grouped, page
from mvai.evaluate.transfer_truth import RigAction, acted, truth_errors
from mvai.types import Character, Mesh, MvaiError, Part, Skin

BALL = trimesh.creation.icosphere(subdivisions=3)
VERTICES, FACES = np.asarray(BALL.vertices, float), np.asarray(BALL.faces)


def arm() -> tuple[Character, Skin]:
    """Two rigid boxes in a row: a pelvis and a bone that hangs from it."""
    box = trimesh.creation.box((0.2, 1.0, 0.1))
    v = np.asarray(box.vertices)
    vertices = np.concatenate([v + np.array([0, 1.5, 0]), v + np.array([0, 0.5, 0])])
    faces = np.concatenate([np.asarray(box.faces), np.asarray(box.faces) + len(v)])
    T = np.tile(np.eye(4), (2, 1, 1))
    T[0, 1, 3], T[1, 1, 3] = 2.0, 1.0
    indices = np.repeat([[0], [1]], len(v), axis=0)
    skin = Skin(("pelvis", "leg"), (-1, 0), T, indices, np.ones((2 * len(v), 1)))
    return Character("arm", (Part("a", vertices, faces),), skin=skin), skin


def test_action_turns_the_bones_about_their_joints():
    character, _ = arm()
    R = Rotation.from_euler("z", [[0], [90]], degrees=True).as_matrix()
    action = RigAction(
        "swing", 30.0, {"pelvis": np.tile(np.eye(3), (2, 1, 1)), "leg": R},
        np.array([[0, 1.0, 0], [0, 1.0, 0]]), 1.0,
    )  # fmt: skip
    sequence, _ = acted(character, action)
    np.testing.assert_allclose(sequence.vertices[0], character.mesh.vertices, atol=1e-6)
    lower = sequence.vertices[1][8:]
    assert abs(lower[:, 1].mean() - 1.0) < 1e-6 and abs(lower[:, 0].mean() - 0.5) < 1e-6
    np.testing.assert_allclose(sequence.vertices[1][:8], character.mesh.vertices[:8], atol=1e-6)


def test_a_character_without_the_rig_is_refused():
    action = RigAction("none", 30.0, {}, np.zeros((2, 3)), 1.0)
    with pytest.raises(MvaiError, match="rig of the actions"):
        acted(Character("ball", (Part("a", VERTICES, FACES),)), action)


def test_truth_errors_see_pose_but_not_place():
    character, skin = arm()
    truth = np.tile(character.mesh.vertices, (3, 1, 1))
    same = truth_errors(truth + np.array([0.3, 0, -2]), truth, skin, 2.0)
    assert same["error_percent"] < 1e-9 and same["angle_deg"] < 1e-3
    bent = truth.copy()
    R = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    bent[:, 8:] = (truth[:, 8:] - [0, 1, 0]) @ R.T + [0, 1, 0]
    found = truth_errors(bent, truth, skin, 2.0)
    assert abs(found["angle_deg"] - 15) < 0.1  # one of two bones is 30 degrees off
    assert found["worst_percent"] >= found["error_percent"] > 1


def test_winding_number_is_one_inside_and_zero_outside():
    numbers = winding_numbers(np.array([[0.0, 0, 0], [0, 0, 2.0], [0.5, 0.2, 0]]), VERTICES, FACES)
    np.testing.assert_allclose(numbers, [1, 0, 1], atol=1e-3)
    assert abs(enclosed_volume(VERTICES, FACES) - BALL.volume) < 1e-9


def test_a_turned_face_is_inverted_and_a_turned_body_is_not():
    R = Rotation.from_rotvec([0.4, 1.0, 0.2]).as_matrix()
    posed_ball = np.stack([VERTICES @ R.T, VERTICES.copy()])
    corner = FACES[0, 0]
    across = VERTICES[FACES[0, 1:]].mean(0)
    posed_ball[1, corner] = across + 0.9 * (across - VERTICES[corner])
    found = inverted_faces(VERTICES, posed_ball, FACES)
    assert not found[0].any() and 0 < found[1].sum() < 20


def test_collapsed_faces_count():
    flat = VERTICES.copy()
    flat[FACES[5]] = flat[FACES[5]].mean(0)
    assert inverted_faces(VERTICES, flat[None], FACES)[0, 5]


def test_penetration_is_what_was_not_there_at_rest():
    apart = np.concatenate([VERTICES, VERTICES + np.array([3.0, 0, 0])])
    two = Mesh(apart, np.concatenate([FACES, FACES + len(VERTICES)]))
    into = two.vertices.copy()
    into[len(VERTICES) :, 0] -= 1.8
    assert penetration_added(two, two.vertices[None]) == 0
    assert 0.02 < penetration_added(two, into[None]) < 0.5
    nested = Mesh(np.concatenate([VERTICES, 0.8 * VERTICES]), two.faces)
    assert penetration_added(nested, nested.vertices[None]) == 0


def test_rigid_motion_has_no_faults():
    path = np.zeros((10, 1, 3))
    path[:, 0, 1] = np.linspace(1, 2, 10)
    row = measure_motion(Mesh(VERTICES, FACES), VERTICES + path, np.arange(0, 10, 3))
    assert abs(row["stretch_p99"] - 1) < 1e-5 and row["inverted_percent"] == 0
    assert row["volume_percent"] < 1e-6 and row["jitter_mm"] < 1e-6 and row["sinks_mm"] == 0


def test_sit_to_stand_keeps_its_feet():
    body = anny_body()
    moving = posed(sit_to_stand(body, 24), body)
    feet = body.regress(("LeftFoot", "RightFoot"), moving.vertices)
    assert np.linalg.norm(np.diff(feet, axis=0), axis=-1).max() < 0.004
    head = body.regress(("Head",), moving.vertices)[:, 0, 1]
    assert head[-1] - head[0] > 0.35


def test_groups_are_means_in_order():
    rows = [{"m": "b", "x": 1.0}, {"m": "a", "x": 5.0}, {"m": "b", "x": 3.0}]
    assert grouped(rows, ("m",), count=len) == [
        {"m": "b", "x": 2.0, "count": 2}, {"m": "a", "x": 5.0, "count": 1},
    ]  # fmt: skip


def test_joint_errors_are_shares_of_the_height():
    found = {f"{s}{n}": np.zeros(3) for s in ("Left", "Right") for n in PARTS.values()}
    own = {"LeftLeg": np.array([0.0, 0.02, 0.0]), "RightLeg": np.zeros(3), "LeftArm": np.zeros(3)}
    errors = joint_errors(found, own, 2.0)
    assert errors == pytest.approx(
        {"knee_percent": 0.5, "shoulder_percent": 0, "joints_percent": 0.25}
    )
    assert "| knee |" in page([], [], [{"character": "one"} | errors])
