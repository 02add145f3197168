"""`mvai evaluate rig`: hands, feet and turned skin, with and without what mends them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvai.evaluate import rig_measures, rig_parts
from mvai.evaluate.rig_measures import air_m, arms_inside, thinnest, touch_gaps_m
from mvai.evaluate.rig_parts import (
    evaluate_rig,
    feet_rows,
    hand_rows,
    page_tables,
    source_hand_rows,
    source_touches,
    surely_touching,
    twist_rows,
)
from mvai.evaluate.rig_poses import TOUCHING, touching, turned
from mvai.evaluate.transfer_motions import posed, sit_to_stand
from mvai.evaluate.transfer_page import grouped
from mvai.geometry.rigid import transforms
from mvai.progress import Silent
from mvai.transfer.rig_points import bound_points, point_set
from mvai.transfer.rig_source import body_motion
from mvai.transfer.rig_twist import with_twist_bones
from mvai.types import Mesh, MvaiError, Skin
from test_transfer import BODY, own_registration


def ball(middle: tuple[float, float, float], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed octahedron, its faces outwards."""
    corners = np.concatenate([np.eye(3), -np.eye(3)]) * radius + middle
    faces = [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    return corners, np.array(faces)


def trunk_and_hand() -> tuple[Mesh, Skin]:
    """A trunk around the origin, and beside it a left hand."""
    (trunk, f), (hand, g) = ball((0, 0, 0), 0.3), ball((0.8, 0, 0), 0.05)
    joints = ("Hips", "LeftArm", "LeftForeArm", "LeftHand")
    at = transforms(np.tile(np.eye(3), (4, 1, 1)), np.zeros((4, 3)))
    index = np.repeat([0, 3], 6)[:, None]
    skin = Skin(joints, (-1, 0, 1, 2), at, index, np.ones((12, 1), np.float32))
    return Mesh(np.concatenate([trunk, hand]), np.concatenate([f, g + 6])), skin


def test_a_hand_in_the_trunk_is_inside_and_one_beside_it_is_not():
    mesh, skin = trunk_and_hand()
    moved = np.repeat(mesh.vertices[None], 3, 0)
    moved[1, 6:] -= [0.7, 0, 0]  # Wholly in it.
    moved[2, 6:] -= [0.3, 0, 0]  # Nearer, and still outside.
    np.testing.assert_allclose(arms_inside(mesh, skin, moved), [0, 1, 0])
    touched = np.array([[True, False], [False, True], [True, False]])
    # The right hand, which is not there, has no touch to measure.
    np.testing.assert_allclose(air_m(skin, moved[[0, 2]], touched[[0, 2]]), [0.45, 0.15])


def tube() -> tuple[np.ndarray, Skin]:
    """A forearm along x, whose skin goes over from its bone to the hand's about the wrist."""
    along, round_it = np.linspace(0, 1.3, 66), np.linspace(0, 2 * np.pi, 16, endpoint=False)
    x, a = (v.ravel() for v in np.meshgrid(along, round_it))
    vertices = np.stack([x, 0.1 * np.cos(a), 0.1 * np.sin(a)], 1)
    hand = np.clip((x - 0.8) / 0.4, 0, 1)
    at = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    T = transforms(np.tile(np.eye(3), (2, 1, 1)), at)
    weights = np.stack([1 - hand, hand], 1).astype(np.float32)
    indices = np.tile([0, 1], (len(x), 1))
    return vertices, Skin(("LeftForeArm", "LeftHand"), (-1, 0), T, indices, weights)


def test_the_thinnest_slice_is_where_skin_is_wrung():
    vertices, skin = tube()

    def wrung(degrees: float) -> float:
        turn = Rotation.from_euler("x", degrees, degrees=True).apply(vertices)
        posed_to = skin.weights[:, :1] * vertices + skin.weights[:, 1:] * turn
        return thinnest(vertices, posed_to, skin, skin.T_world_joint, "ForeArm", "Hand")

    assert wrung(0) == pytest.approx(1)
    assert wrung(90) == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert wrung(175) < 0.3  # A slice is wider than the place where it crosses.
    # Another pose of the whole limb changes nothing.
    R = Rotation.from_rotvec([0.3, 1.0, -0.7])
    T = transforms(np.tile(R.as_matrix(), (2, 1, 1)), R.apply(skin.T_world_joint[:, :3, 3]))
    assert thinnest(vertices, R.apply(vertices), skin, T, "ForeArm", "Hand") == pytest.approx(1)
    assert np.isnan(thinnest(vertices, vertices, skin, skin.T_world_joint, "Arm", "ForeArm"))


@pytest.mark.parametrize("pose", TOUCHING)
def test_hands_touch_in_the_middle_of_a_touching_pose_and_not_at_rest(pose: str):
    source = touching(pose, BODY, frames=20)
    touch, size = source_touches(BODY, source)
    assert size == pytest.approx(1, abs=0.1)
    touched = surely_touching(touch, point_set(BODY).hand, source.frames)
    assert touched[9:11].all() and not touched[[0, -1]].any()


def test_gaps_are_what_places_that_touch_were_moved_apart():
    source = touching("hands on thighs", BODY, frames=10)
    touch, _ = source_touches(BODY, source)
    points = point_set(BODY)
    at = source.vertices[:, points.ids].astype(float)
    # Places of a hand that is a little in the source's body by an error are held above it.
    assert touch_gaps_m(touch, points.hand, at, 1.0).max() < 0.005
    apart = at + 0.05 * (points.hand == 0)[:, None] * np.array([0, 0, 1.0])
    gaps = touch_gaps_m(touch, points.hand, apart, 1.0)
    half = len(gaps) // 2
    np.testing.assert_allclose(gaps[:half], 0.05, atol=0.006)
    assert gaps[half:].max() < 0.005


def test_turned_poses_turn_what_they_name():
    for limb, source in turned(BODY).values():
        R = body_motion(BODY, source).R_world_joint[0]
        straight = [BODY.joint(f"Left{n}") for n in ("Arm", "ForeArm", "Hand") if limb != "UpLeg"]
        at = BODY.joint_template.numpy()[straight]
        if limb == "ForeArm":
            np.testing.assert_allclose(R[straight[1]], np.eye(3), atol=0.02)
            way = at[2] - at[1]
            np.testing.assert_allclose(R[straight[2]] @ way, way, atol=0.01)
            assert np.trace(R[straight[2]]) < 1.1


def test_parts_of_the_body_itself(monkeypatch: pytest.MonkeyPatch):
    """On the body itself nothing has to be moved, and twist bones keep its forearms round."""
    monkeypatch.setattr(rig_measures, "ASKED", 10)
    own = own_registration()
    mesh = own.character.mesh
    points = bound_points(BODY, mesh.vertices.astype(float), mesh, own.skeleton.skin)
    own = replace(own, points=points)
    twisted = replace(own, skeleton=with_twist_bones(own.skeleton, BODY, mesh))
    rows = hand_rows(BODY, own, ["hands on thighs"])
    assert [r["setting"] for r in rows] == ["without", "with"]
    assert max(r["gap_cm"] for r in rows) < 1.5 and max(r["air_cm"] for r in rows) < 1.5
    seated = posed(sit_to_stand(BODY, 12), BODY)
    feet = {r["setting"]: r for r in feet_rows(BODY, own, {"sit-to-stand": seated})}
    assert feet["with"]["planted_mm"] <= feet["without"]["planted_mm"] + 0.01
    pose = "hand turned by 175 degrees"
    skin = twist_rows(BODY, {True: twisted, False: own}, {pose: turned(BODY)[pose]})
    assert skin[0]["thinnest"] < 0.5 < 0.8 < skin[1]["thinnest"]
    text = page_tables([r | {"character": "body"} for r in (*rows, *feet.values(), *skin)])
    assert "| hands on thighs | without |" in text and "## Planted feet" in text


def test_the_source_itself_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rig_measures, "ASKED", 10)
    monkeypatch.setattr(rig_parts, "TOUCHING", {"clap": TOUCHING["clap"]})
    (row,) = source_hand_rows()
    assert row["air_cm"] < 1 and row["inside_percent"] < 30


def test_means_leave_out_what_is_not_known():
    rows = [{"who": "a", "x": 1.0, "y": float("nan")}, {"who": "a", "x": float("nan"), "y": np.nan}]
    (mean,) = grouped(rows, ("who",))
    assert mean["x"] == 1.0 and np.isnan(mean["y"])


def test_characters_that_are_not_there_are_named(tmp_path):
    with pytest.raises(MvaiError, match="it must hold"):
        evaluate_rig(tmp_path, tmp_path / "rig.md", tmp_path, Silent())
    hero = tmp_path / "identities" / "rest_obj" / "hero.obj"
    hero.parent.mkdir(parents=True)
    hero.touch()
    with pytest.raises(MvaiError, match="no character nobody"):
        evaluate_rig(tmp_path, tmp_path / "rig.md", tmp_path, Silent(), ["nobody"])
    assert not (tmp_path / "rig.md").exists()
