"""Any character: found by shape, corrected by hand, driven by any mesh, dressed, on its feet."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

import fake_stages
from mvai import pipeline
from mvai.body.skinning import posed_vertices
from mvai.cli import main
from mvai.geometry.surface import components
from mvai.io.archive import Archive, read_archive
from mvai.progress import Silent, Stopwatch
from mvai.transfer.floor import lowest_points
from mvai.transfer.registration import find_body
from mvai.transfer.registration.find_joints import BODY_NEEDED, FoundJoints
from mvai.transfer.registration.geometry import joints_by_shape, of_human_proportions
from mvai.transfer.registration.joints_file import read_joints, write_joints
from mvai.transfer.registration.skirt import hanging_cloth
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_drive import drive
from mvai.transfer.rig_feet import corrections
from mvai.transfer.rig_retarget import shared_bones
from mvai.types import Mesh, MeshSequence, MvaiError
from test_transfer import (
    BODY,
    JOINT,
    character,
    nobody,
    own_registration,
    sequence,
    smooth_motion,
)


def t_pose() -> np.ndarray:
    rotvecs = np.zeros((1, len(BODY.joints), 3))
    for side, sign in (("Left", 1), ("Right", -1)):
        rotvecs[0, JOINT[f"{side}Arm"]] = [0, 0, 0.7 * sign]
    return sequence(rotvecs).vertices[0].astype(np.float64)


def test_shape_alone_shows_the_limbs():
    vertices = t_pose()
    found = joints_by_shape(Mesh(vertices, BODY.faces))
    feet = {f"{side}_{p}" for side in ("left", "right") for p in ("heel", "foot_index")}
    assert set(found.names) == set(BODY_NEEDED) | feet
    true = BODY.regress(found.names, vertices[None].astype(np.float32))[0]
    off = np.linalg.norm(found.xyz_m - true, axis=1) / np.ptp(vertices[:, 1])
    assert off.mean() < 0.03 and off.max() < 0.06


def test_shape_ignores_what_one_side_carries():
    vertices = t_pose()
    hand = vertices[np.argmax(vertices[:, 0])]
    sword = trimesh.creation.box((0.03, 0.03, 1.2))
    held = np.asarray(sword.vertices) + hand + [0.1, 0, 0.5]
    faces = np.concatenate([BODY.faces, np.asarray(sword.faces) + len(vertices)])
    bare = joints_by_shape(Mesh(vertices, BODY.faces))
    armed = joints_by_shape(Mesh(np.concatenate([vertices, held]), faces))
    assert armed.names == bare.names
    assert np.abs(armed.xyz_m - bare.xyz_m).max() < 0.05


def robot(legs_m: float) -> Mesh:
    """A trunk, a head and limbs of three blocks each, with gaps between."""
    blocks = [
        ((-0.14, legs_m + 0.06, -0.1), (0.14, 1.45, 0.12)),
        ((-0.1, 1.52, -0.1), (0.1, 1.8, 0.12)),
        ((-0.13, legs_m - 0.05, -0.07), (0.13, legs_m + 0.05, 0.07)),
    ]
    knee = legs_m / 2
    for side in (1, -1):
        for a, b in ((0.18, 0.45), (0.48, 0.7), (0.72, 0.85)):
            x = sorted((side * a, side * b))
            blocks.append(((x[0], 1.31, -0.05), (x[1], 1.41, 0.05)))
        for a, b in ((0.0, 0.06), (0.08, knee - 0.02), (knee + 0.02, legs_m - 0.06)):
            x = side * 0.1
            blocks.append(((x - 0.05, a, -0.05), (x + 0.05, b, 0.05 if a else 0.2)))
    whole = trimesh.util.concatenate([trimesh.creation.box(bounds=b).subdivide() for b in blocks])
    return Mesh(np.asarray(whole.vertices), np.asarray(whole.faces))


def test_limbs_as_long_as_peoples_make_up_for_a_strange_surface(monkeypatch):
    """Of two robots that a body fits as badly, the one with stub legs is refused."""
    fit = find_body.fit_template
    monkeypatch.setattr(
        find_body, "fit_template", lambda *given: replace(fit(*given), coverage=0.8)
    )
    for legs_m, human in ((0.85, True), (0.3, False)):
        mesh = robot(legs_m)
        assert of_human_proportions(joints_by_shape(mesh), 1.8) == human
        hero = character(mesh.vertices, mesh.faces)
        if human:
            found = find_body.find_body(BODY, hero, nobody).joints
            at = dict(zip(found.names, found.xyz_m, strict=True))
            assert abs(at["left_knee"][1] - legs_m / 2) < 0.1
            assert abs(at["right_elbow"][0] + 0.465) < 0.1
        else:
            with pytest.raises(MvaiError, match=r"no human body fits the character \(only 80 %"):
                find_body.find_body(BODY, hero, nobody)


def test_corrected_joints_come_back_from_the_file(tmp_path: Path):
    vertices = t_pose()
    at = BODY.regress(BODY_NEEDED, vertices[None].astype(np.float32))[0]
    file = tmp_path / "hero_joints.json"
    write_joints(file, character(vertices, BODY.faces), FoundJoints(BODY_NEEDED, at, np.ones(12)))
    assert (tmp_path / "hero_joints.png").stat().st_size > 1000
    stored = json.loads(file.read_text())
    stored["joints"]["left_knee"]["xyz"][1] = 0.25
    file.write_text(json.dumps(stored))
    back = read_joints(file)
    assert back.xyz_m[back.names.index("left_knee"), 1] == 0.25
    others = [n for n in BODY_NEEDED if n != "left_knee"]
    expected = at[[BODY_NEEDED.index(n) for n in others]]
    np.testing.assert_allclose(
        back.xyz_m[[back.names.index(n) for n in others]], expected, atol=1e-4
    )
    del stored["joints"]["right_hip"]
    file.write_text(json.dumps(stored))
    with pytest.raises(MvaiError, match="right_hip is missing"):
        read_joints(file)
    file.write_text("[]")
    with pytest.raises(MvaiError, match="remove it"):
        read_joints(file)


def test_any_mesh_with_its_rest_pose_drives_like_the_body():
    given = sequence(smooth_motion(12, seed=7))
    source = own_registration()
    unknown = replace(given, topology="")
    as_is = RigTransfer(find_floor=False, lock_feet=False)
    result = posed_vertices(drive(own_registration(), unknown, as_is, source))
    error = np.linalg.norm(result - given.vertices, axis=-1)
    assert error.mean() < 0.006


def test_a_sequence_in_no_known_order_is_read_through_its_first_frame(tmp_path, monkeypatch):
    """No detector sees anyone here, so the first frame is registered by its shape; the joints that
    the user has corrected are the character's and say nothing about it."""
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    monkeypatch.setattr(pipeline, "_detector_when_needed", lambda: nullcontext(nobody))
    rotvecs = smooth_motion(6, seed=7)
    rotvecs[0] = 0
    rotvecs[0, JOINT["LeftArm"]], rotvecs[0, JOINT["RightArm"]] = [0, 0, 0.7], [0, 0, -0.7]
    given = sequence(rotvecs)
    order = np.random.default_rng(0).permutation(given.vertices.shape[1])
    faces = np.argsort(order)[given.faces].astype(np.int32)
    shuffled = MeshSequence(given.vertices[:, order], faces, given.fps)
    as_is = RigTransfer(find_floor=False, lock_feet=False, joints=mine)
    watch = Stopwatch(Silent())
    done = pipeline.transfer_archive(Archive(raw=shuffled), own_registration(), as_is, watch)
    assert done.animation is not None
    error = np.linalg.norm(posed_vertices(done.animation) - given.vertices, axis=-1)
    assert error.mean() < 0.03


def test_transfer_takes_a_folder_of_meshes(tmp_path: Path, monkeypatch):
    fake_stages.install(monkeypatch, "transfer")
    folder = tmp_path / "meshes"
    folder.mkdir()
    box = trimesh.creation.box((0.5, 1.8, 0.3))
    for i in range(3):
        box.apply_translation([0.1, 0, 0])
        box.export(folder / f"{i}.obj")
    hero = fake_stages.character(tmp_path / "hero.ply")
    out = tmp_path / "out.npz"
    arguments = ["transfer", str(folder), "--identity", str(hero), "--method", "rig"]
    assert main([*arguments, "-o", str(out)]) == 0
    archive = read_archive(out)
    assert archive.animation.frames == 3 and archive.stages["transfer"].method == "rig"


def test_source_of_another_size_is_refused():
    short = MeshSequence(np.zeros((2, 5, 3), np.float32), np.array([[0, 1, 2]]), 30.0)
    with pytest.raises(MvaiError, match="same mesh"):
        drive(own_registration(), short, None, own_registration())


def test_bones_are_shared_by_name_and_by_frame():
    skin = own_registration().skeleton.skin
    assert shared_bones(skin, skin) == {j: j for j in range(len(skin.joints))}
    other = replace(skin, joints=tuple(f"bone_{j}" for j in range(len(skin.joints))))
    assert shared_bones(skin, other) == {}
    turned = skin.T_world_joint.copy()
    turned[:, :3, :3] = turned[:, :3, :3] @ [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    assert shared_bones(skin, replace(skin, T_world_joint=turned)) == {}


def test_a_foot_rolls_about_what_is_planted():
    """The heel stands, then the toes do, while the foot drifts: only what stands must not move."""
    frames = 20
    points = np.zeros((frames, 2, 3))
    points[:, 1, 2] = 0.2
    points[:, :, 0] += np.linspace(0, 0.3, frames)[:, None]
    planted = np.zeros((frames, 2), bool)
    planted[:12, 0], planted[8:, 1] = True, True
    points[12:, 0, 1] = 0.05
    wish, weight = corrections(points, points[..., 1].min(1), planted, 30.0)
    assert (weight == 1).all()
    held = points + wish[:, None]
    assert np.abs(np.diff(held[:12, 0], axis=0)).max() < 1e-9
    assert np.abs(np.diff(held[8:, 1], axis=0)).max() < 1e-9


def test_feet_do_not_sink():
    rotvecs = np.zeros((30, len(BODY.joints), 3))
    rotvecs[:, JOINT["LeftLeg"], 0] = np.linspace(0, 0.1, 30)
    path = np.zeros((30, 3))
    path[12:16, 1] = -0.06
    result = posed_vertices(drive(own_registration(), sequence(rotvecs, path=path)))
    assert result[..., 1].min() > -0.012


def test_in_place_stays_over_one_point():
    path = np.zeros((20, 3))
    path[:, 2] = np.linspace(0, 2, 20)
    given = sequence(smooth_motion(20, seed=8, size=0.1), path=path)
    moving = drive(own_registration(), given, RigTransfer(in_place=True)).Ts_world_joint
    assert moving is not None
    assert np.abs(moving[:, 0, [0, 2], 3]).max() < 1e-6 and np.ptp(moving[:, 0, 1, 3]) > 0


def test_what_a_hand_holds_does_not_carry_the_body():
    registration = own_registration()
    skin, rest = registration.skeleton.skin, registration.character.mesh.vertices
    hand = skin.joints.index("LeftHand")
    n = skin.weight_indices.shape[1]
    tip = skin.T_world_joint[hand, :3, 3] + [0.2, -3.0, 0]
    longer = replace(
        skin,
        weight_indices=np.concatenate([skin.weight_indices, np.full((1, n), hand)]),
        weights=np.concatenate([skin.weights, np.eye(1, n)]),
    )
    vertices = np.concatenate([rest, tip[None]])
    Ts = skin.T_world_joint[None]
    assert lowest_points(longer, vertices, Ts)[0] < rest[:, 1].min() - 1
    assert abs(lowest_points(longer, vertices, Ts, [hand])[0] - rest[:, 1].min()) < 0.01


def test_a_skirt_passes_smoothly_from_thigh_to_thigh():
    surface = BODY.template.numpy().astype(np.float64)
    hip, knee = (BODY.regress((n,), surface[None])[0, 0] for n in ("LeftUpLeg", "LeftLeg"))
    angle = np.linspace(0, 2 * np.pi, 41)[:-1]
    heights = np.linspace(hip[1] + 0.05, (hip[1] + 2 * knee[1]) / 3, 12)
    ring = np.stack([0.3 * np.sin(angle), 0 * angle, hip[2] + 0.25 * np.cos(angle)], 1)
    skirt = np.concatenate([ring + np.array([0, y, 0]) for y in heights])
    i = np.arange(11 * 40)
    right = i // 40 * 40 + (i + 1) % 40
    faces = np.concatenate(
        [np.stack(f, 1) for f in ((i, right, i + 40), (right, right + 40, i + 40))]
    )
    torn = np.zeros((len(skirt), len(BODY.joints)))
    thigh = np.where(skirt[:, 0] > 0, JOINT["LeftUpLeg"], JOINT["RightUpLeg"])
    torn[np.arange(len(skirt)), np.where(skirt[:, 1] > hip[1], JOINT["Hips"], thigh)] = 1
    both = np.concatenate([surface, skirt])
    all_faces = np.concatenate([BODY.faces, faces + len(surface)])
    W = np.concatenate([BODY.dense_weights.numpy().astype(float), torn])
    distance = np.concatenate([np.zeros(len(surface)), np.full(len(skirt), 0.1)])
    piece = components(len(both), all_faces)
    done = hanging_cloth(BODY, surface, both, all_faces, piece, distance, W)[len(surface) :]
    np.testing.assert_allclose(done.sum(1), 1, atol=1e-9)
    hem = done[-40:]
    side = hem[:, JOINT["LeftUpLeg"]] - hem[:, JOINT["RightUpLeg"]]
    assert np.abs(np.diff(np.r_[side, side[0]])).max() < 0.6  # torn weights jump by 2
    top = 40 * int((heights > hip[1]).sum())
    assert hem[:, JOINT["Hips"]].max() < 0.3 < 0.6 < done[top : top + 40, JOINT["Hips"]].min()
    # What hangs far away follows raised thighs in front of them and stays behind them.
    far = np.where(distance > 0, 0.4, 0.0)
    wide = hanging_cloth(BODY, surface, both, all_faces, piece, far, W)[len(surface) :][-40:]
    stays = wide[:, JOINT["Hips"]]
    assert stays[np.cos(angle) > 0.9].max() < 0.3 < 0.7 < stays[np.cos(angle) < -0.9].min()
