"""Registration: the template's unknowns, where limbs bend, how joints stand at rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from mvai.transfer.registration.bends import LIMBS, limb_bends
from mvai.transfer.registration.find_body import find_body
from mvai.transfer.registration.find_joints import BODY_NEEDED, FoundJoints
from mvai.transfer.registration.fit import coverage
from mvai.transfer.registration.joints_file import write_joints
from mvai.transfer.registration.rest import rest_rotations
from mvai.transfer.registration.template import ScaledTemplate
from mvai.transfer.registration.thighs import thigh_turns
from mvai.types import Mesh, MvaiError
from test_transfer import BODY, JOINT, character, nobody, sequence

REST = BODY.joint_template.numpy().astype(np.float64)
VERTICES = BODY.template.numpy().astype(np.float64)
LEFT_ARM = LIMBS.index(("LeftArm", "LeftForeArm", "LeftHand"))


def along_arm(points: np.ndarray) -> np.ndarray:
    start, end = REST[JOINT["LeftArm"]], REST[JOINT["LeftHand"]]
    return (points - start) @ (end - start) / ((end - start) @ (end - start))


def arm_faces() -> np.ndarray:
    """True for faces of the left arm and hand."""
    names = [BODY.joints[j] for j in BODY.strongest_joint]
    arm = np.array([n.startswith(("LeftArm", "LeftForeArm", "LeftHand")) for n in names])
    return arm[BODY.faces].all(1)


def test_jacobian_is_the_derivative_by_every_unknown():
    template, rng = ScaledTemplate(BODY), np.random.default_rng(0)
    pose = template.moved(template.start(), 0.1 * rng.normal(size=template.size))
    points = template.vertices(rng.integers(0, len(VERTICES), 25))
    at, J = template.jacobian(points, pose)
    np.testing.assert_allclose(at, template.place(points, pose), atol=1e-9)
    for columns in template.columns.values():
        for k in range(columns.start, min(columns.stop, columns.start + 40)):
            step = np.zeros(template.size)
            step[k] = 1e-5
            ahead = template.place(points, template.moved(pose, step))
            behind = template.place(points, template.moved(pose, -step))
            np.testing.assert_allclose((ahead - behind) / 2e-5, J[..., k], atol=1e-6)


def test_a_limb_bends_where_its_pieces_meet():
    """An arm cut at 45 % of its way and at the wrist; one that is only cut at 45 % has a sleeve."""
    middle = along_arm(VERTICES[BODY.faces].mean(1))
    for ends, seen in (((0.0, 0.45, 1.0), True), ((0.45,), False)):
        piece = np.where(arm_faces(), 1 + np.searchsorted(ends, middle), 0)
        key = BODY.faces + len(VERTICES) * piece[:, None]
        used, faces = np.unique(key, return_inverse=True)
        # Pieces shrink a little, so that they do not touch.
        cut = VERTICES[used % len(VERTICES)]
        for p in np.unique(piece):
            mine = used // len(VERTICES) == p
            cut[mine] += 0.02 * (cut[mine].mean(0) - cut[mine])
        bend = limb_bends(BODY, VERTICES, REST, Mesh(cut, faces.reshape(-1, 3)))[LEFT_ARM]
        if seen:
            assert bend is not None and bend.share == np.clip(bend.share, 0.42, 0.48)
        else:
            assert bend is None or bend.confidence < 0.5


def test_a_limb_bends_where_its_rings_are_dense():
    at = along_arm(VERTICES[BODY.faces].mean(1))
    for share in (0.46, 0.58):
        near = np.flatnonzero(arm_faces() & (np.abs(at - share) < 0.05))
        vertices, faces = trimesh.remesh.subdivide(VERTICES, BODY.faces, near)
        nearer = np.abs(along_arm(vertices[faces].mean(1)) - share) < 0.04
        vertices, faces = trimesh.remesh.subdivide(vertices, faces, np.flatnonzero(nearer))
        bend = limb_bends(BODY, VERTICES, REST, Mesh(vertices, faces))[LEFT_ARM]
        assert bend is not None
        assert abs(bend.share - share) < 0.025


def test_rest_is_upright_unless_much_speaks_against_it():
    J = len(BODY.joints)
    slightly, far = (Rotation.from_euler("x", a, degrees=True).as_matrix() for a in (12, 60))
    R = rest_rotations(BODY, REST, np.tile(slightly, (J, 1, 1)), REST)
    np.testing.assert_allclose(R[JOINT["Hips"]], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(R[JOINT["Head"]], np.eye(3), atol=1e-9)
    R = rest_rotations(BODY, REST, np.tile(far, (J, 1, 1)), REST @ far.T)
    np.testing.assert_allclose(R, np.tile(far, (J, 1, 1)), atol=0.15)


def test_limbs_take_their_joints_directions_and_no_twist():
    J = len(BODY.joints)
    raised = REST.copy()
    lift = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    arm = [
        j for j, n in enumerate(BODY.joints) if n.startswith(("LeftArm", "LeftFore", "LeftHand"))
    ]
    raised[arm] = (REST[arm] - REST[JOINT["LeftArm"]]) @ lift.T + REST[JOINT["LeftArm"]]
    R_fit = np.tile(np.eye(3), (J, 1, 1))
    R_fit[arm] = lift
    bone = REST[JOINT["LeftForeArm"]] - REST[JOINT["LeftArm"]]
    twist = Rotation.from_rotvec(0.3 * bone / np.linalg.norm(bone)).as_matrix()
    R_fit[JOINT["LeftArm"]] = lift @ twist
    R = rest_rotations(BODY, REST, R_fit, raised)
    way = raised[JOINT["LeftForeArm"]] - raised[JOINT["LeftArm"]]
    np.testing.assert_allclose(R[JOINT["LeftArm"]] @ bone, way, atol=1e-9)
    turn = Rotation.from_matrix(R[JOINT["LeftArm"]]).as_rotvec(degrees=True)
    assert abs(turn @ way / np.linalg.norm(way)) < 5
    palm_up = Rotation.from_rotvec(2.5 * way / np.linalg.norm(way)).as_matrix() @ lift
    hand = [j for j in arm if "Hand" in BODY.joints[j]]
    R_fit[hand] = palm_up
    R = rest_rotations(BODY, REST, R_fit, raised)
    off = Rotation.from_matrix(palm_up.T @ R[JOINT["LeftHand"]]).magnitude()
    assert np.degrees(off) < 2


@pytest.mark.parametrize("outwards_m", [-0.02, 0.015])
def test_thighs_point_as_they_are_seen(outwards_m: float):
    """Hips that a fit puts too far in or out do not turn the thighs."""
    mesh, moved = Mesh(VERTICES, BODY.faces), REST.copy()
    expected = []
    for side, sign in (("Left", 1), ("Right", -1)):
        hip, knee = JOINT[f"{side}UpLeg"], JOINT[f"{side}Leg"]
        moved[hip, 0] += sign * outwards_m
        seen, found = (np.arctan2(*(t[hip] - t[knee])[:2]) for t in (REST, moved))
        expected.append(found - seen)
    np.testing.assert_allclose(
        thigh_turns(BODY, VERTICES, moved, mesh, VERTICES, REST), expected, atol=0.01
    )
    at_rest = thigh_turns(BODY, VERTICES, REST, mesh, VERTICES, REST)
    np.testing.assert_allclose(at_rest, 0, atol=1e-9)


def test_what_is_far_from_the_thighs_does_not_turn_them():
    block = trimesh.creation.box((0.3, 1.2, 0.3)).subdivide().subdivide()
    block.apply_translation([5.0, 3.0, 0.0])
    beside = Mesh(np.asarray(block.vertices), np.asarray(block.faces))
    assert (thigh_turns(BODY, VERTICES, REST, beside, VERTICES, REST) == 0).all()


def test_hands_that_lie_on_each_other_are_refused(tmp_path: Path):
    rotvecs = np.zeros((1, len(BODY.joints), 3))
    rotvecs[0, JOINT["LeftArm"]], rotvecs[0, JOINT["RightArm"]] = [0, -1.4, 0], [0, 1.4, 0]
    vertices = sequence(rotvecs).vertices[0].astype(np.float64)
    at = BODY.regress(BODY_NEEDED, vertices[None].astype(np.float32))[0]
    hero, file = character(vertices, BODY.faces), tmp_path / "hero.json"
    write_joints(file, hero, FoundJoints(BODY_NEEDED, at, np.ones(len(at))))
    with pytest.raises(MvaiError, match="hands lie on each other"):
        find_body(BODY, hero, nobody, file)


def test_a_limb_in_the_wrong_place_counts_for_the_whole():
    rotvecs = np.zeros((1, len(BODY.joints), 3))
    rotvecs[0, JOINT["LeftForeArm"]] = [0, 0, 1.5]
    astray = sequence(rotvecs).vertices[0].astype(np.float64)
    mesh = Mesh(VERTICES, BODY.faces)
    assert coverage(BODY, VERTICES, mesh, 1.7) > 0.99
    assert coverage(BODY, astray, mesh, 1.7) < 0.6


def test_what_is_worn_does_not_hide_that_a_body_was_found():
    """Wings larger than the body, and a robe around it; but a body that lacks a leg is none."""
    wings = [
        trimesh.creation.box((1.5, 0.9, 0.01)).subdivide().apply_translation((s * 0.8, 1.3, -0.25))
        for s in (1, -1)
    ]
    robe = trimesh.creation.cone(0.6, 1.6, sections=64).apply_transform(
        trimesh.geometry.align_vectors([0, 0, 1], [0, 1, 0])
    )
    floor = VERTICES[:, 1].min()
    robe.apply_translation((0, floor, 0))
    for worn in (trimesh.util.concatenate(wings), robe):
        worn.apply_translation((0, 0 if worn is robe else floor, 0))
        faces = np.concatenate([BODY.faces, np.asarray(worn.faces) + len(VERTICES)])
        mesh = Mesh(np.concatenate([VERTICES, np.asarray(worn.vertices)]), faces)
        assert coverage(BODY, VERTICES, mesh, 1.7) > 0.97
        aside = VERTICES + np.array([0.12, 0, 0])  # Found beside where it is.
        assert coverage(BODY, aside, mesh, 1.7) < 0.8
