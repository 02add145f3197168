"""Measures: what they must not depend on, worked examples, and the pages they are written to."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import fake_stages
from mvai.body.anny import anny_body
from mvai.cli.commands import parse
from mvai.cli.evaluate import Evaluate, MainJob, Videos3d
from mvai.evaluate import end_to_end, videos3d
from mvai.evaluate.character_measures import measure_animation
from mvai.evaluate.main_job import CHARACTERS, chosen_characters, chosen_videos
from mvai.evaluate.main_job_page import page
from mvai.evaluate.metrics import (
    accel,
    accel_error,
    edge_stretch,
    edges_of,
    foot_slide,
    joint_errors,
    mpjpe,
    pa_mpjpe,
    residual_px,
    sole_vertices,
    swapped_sides,
)
from mvai.evaluate.provenance import header
from mvai.evaluate.reprojection import reprojection
from mvai.evaluate.tables import Column, csv_text, markdown_table
from mvai.evaluate.work import isolated, kept, work_folder
from mvai.io.atomic import make_folder
from mvai.io.video import open_video, write_video
from mvai.progress import Silent
from mvai.types import Animation, Camera, Character, Keypoints, MeshSequence, MvaiError, Part

HIPS = (0, 1)
seeds = st.integers(0, 2**32 - 1)


def motion(seed: int, frames: int = 7, points: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, points, 3))


# --- joints -------------------------------------------------------------------------------------


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_mpjpe_sees_turns_and_size_but_not_place(seed: int):
    rng = np.random.default_rng(seed)
    a, b = motion(seed), motion(seed + 1)
    moved = a + rng.normal(size=(7, 1, 3))
    assert mpjpe(moved, b, HIPS) == pytest.approx(mpjpe(a, b, HIPS))
    assert mpjpe(a, b, HIPS) == pytest.approx(mpjpe(b, a, HIPS))
    R = Rotation.random(random_state=seed).as_matrix()
    assert mpjpe(a @ R.T, b @ R.T, HIPS) == pytest.approx(mpjpe(a, b, HIPS))
    assert mpjpe(1.5 * a, a, HIPS) > 1


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_pa_mpjpe_forgives_every_similarity(seed: int):
    rng = np.random.default_rng(seed)
    a, b = motion(seed), motion(seed + 1)
    R = Rotation.random(7, random_state=seed).as_matrix()
    scale = rng.uniform(0.3, 3, size=(7, 1, 1))
    moved = scale * np.einsum("fab,fpb->fpa", R, a) + rng.normal(size=(7, 1, 3))
    assert pa_mpjpe(moved, a) == pytest.approx(0, abs=1e-6)
    assert pa_mpjpe(moved, b) == pytest.approx(pa_mpjpe(a, b))
    # It minimises squares, so that no other placing has a smaller root mean square.
    mirrored = a * [-1, 1, 1]
    assert pa_mpjpe(mirrored, a) > 1


def test_joint_errors_worked_example():
    reference = np.zeros((1, 3, 3))
    predicted = reference.copy()
    predicted[0, 2] = [0.03, 0.04, 0]
    np.testing.assert_allclose(joint_errors(predicted, reference, HIPS), [[0, 0, 50]])
    assert mpjpe(predicted, reference, HIPS) == pytest.approx(50 / 3)


def test_unseen_frames_are_left_out():
    a, b = motion(1), motion(2)
    gap = a.copy()
    gap[3] = np.nan
    keep = [0, 1, 2, 4, 5, 6]
    assert mpjpe(gap, b, HIPS) == pytest.approx(mpjpe(a[keep], b[keep], HIPS))
    assert pa_mpjpe(gap, b) == pytest.approx(pa_mpjpe(a[keep], b[keep]))
    assert np.isfinite(accel(gap))


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_accel_ignores_steady_movement(seed: int):
    rng = np.random.default_rng(seed)
    a = motion(seed)
    steady = a + np.arange(7)[:, None, None] * rng.normal(size=(1, 1, 3))
    assert accel(steady) == pytest.approx(accel(a))
    assert accel_error(a, steady) == pytest.approx(0, abs=1e-6)
    R = Rotation.random(random_state=seed).as_matrix()
    assert accel(a @ R.T) == pytest.approx(accel(a))


def test_accel_worked_example():
    t = np.arange(5.0)
    fall = np.zeros((5, 1, 3))
    fall[:, 0, 1] = -0.5 * 0.003 * t**2
    assert accel(fall) == pytest.approx(3)
    assert accel_error(fall, np.zeros_like(fall)) == pytest.approx(3)


def test_swapped_frames_are_found():
    reference = motion(3, frames=5)
    mirror = np.array([1, 0, 3, 2, 5, 4])
    predicted = reference + 0.01
    predicted[[1, 4]] = predicted[[1, 4]][:, mirror]
    assert swapped_sides(predicted, reference, mirror).tolist() == [False, True, False, False, True]


# --- key-points ---------------------------------------------------------------------------------


def test_residual_counts_sure_points_by_confidence():
    detected = np.zeros((1, 4, 2))
    projected = np.array([[[3.0, 4.0], [0, 10], [100, 0], [0, 0]]])
    detected[0, 3] = np.nan
    confidence = np.array([[1.0, 0.6, 0.5, 1.0]])
    assert residual_px(projected, detected, confidence) == pytest.approx((5 + 6) / 1.6)
    assert np.isnan(residual_px(projected, detected, 0 * confidence))


def standing_body(frames: int = 4) -> tuple[MeshSequence, Keypoints]:
    """A body at rest 4 m before a camera, and key-points that lie on it."""
    body = anny_body()
    vertices = np.repeat(body.template.numpy()[None] + [0.0, 0.0, -4.0], frames, 0)
    camera = Camera.from_focal(800, 640, 960)
    sequence = MeshSequence(
        vertices.astype(np.float32), body.faces, 30.0, body.topology, camera=camera
    )
    names = ("nose", *videos3d.JOINTS, "left_hand_wrist")
    xy = camera.project(body.regress(names, sequence.vertices))
    keypoints = Keypoints(names, xy, np.ones(xy.shape[:2]), 30.0, 640, 960)
    return sequence, keypoints


def test_reprojection_of_a_shifted_body():
    sequence, keypoints = standing_body()
    assert reprojection(sequence, keypoints)[0] == pytest.approx(0, abs=1e-3)
    hand = keypoints.xy_px.copy()
    hand[:, -1] += 500
    assert reprojection(sequence, replace(keypoints, xy_px=hand))[0] == pytest.approx(0, abs=1e-3)
    px, percent = reprojection(
        sequence, replace(keypoints, xy_px=keypoints.xy_px + np.array([3, 4]))
    )
    assert px == pytest.approx(5, abs=1e-3)
    # Some 1.7 m at 4 m under a focal length of 800 pixels.
    assert percent == pytest.approx(100 * 5 / 340, rel=0.15)
    with pytest.raises(MvaiError, match="smplx"):
        reprojection(replace(sequence, topology="smplx"), keypoints)


# --- characters ---------------------------------------------------------------------------------


def figure() -> tuple[np.ndarray, np.ndarray]:
    """Two columns 1.75 m high, 0.4 m apart: a pair of legs with square soles."""
    square = np.array([[-0.05, 0, -0.1], [0.05, 0, -0.1], [0.05, 0, 0.1], [-0.05, 0, 0.1]])
    up, aside = np.array([0, 1.75, 0]), np.array([0.2, 0, 0])
    leg = np.concatenate([square, square + up])
    sides = [[i, (i + 1) % 4, 4 + i] for i in range(4)]
    sides += [[(i + 1) % 4, 4 + (i + 1) % 4, 4 + i] for i in range(4)]
    vertices = np.concatenate([leg + aside, leg - aside])
    faces = np.array(sides)
    return vertices, np.concatenate([faces, faces + 8])


def acting(posed: np.ndarray) -> Animation:
    vertices, faces = figure()
    character = Character("legs", (Part("legs", vertices, faces),))
    return Animation(character, 30.0, free_vertices=posed.astype(np.float32))


def test_soles_are_left_and_right():
    left, right = sole_vertices(figure()[0])
    assert left.tolist() == [0, 1, 2, 3] and right.tolist() == [8, 9, 10, 11]


def test_foot_slide_counts_feet_on_the_floor_only():
    vertices, _ = figure()
    left, right = sole_vertices(vertices)
    posed = np.repeat(vertices[None], 11, 0)
    # The left foot slides 4 mm a frame; the right one is in the air and 50 times as fast.
    posed[:, left] += np.arange(11)[:, None, None] * [0, 0, 0.004]
    posed[:, right] += [0, 0.1, 0] + np.arange(11)[:, None, None] * [0.2, 0, 0]
    slide, middle, share = foot_slide([posed[:, left], posed[:, right]], 1.75)
    assert (slide, middle) == pytest.approx((4, 4))
    assert share == pytest.approx(0.5)
    # For a child's height 3 cm is too far.
    posed[:, right] = vertices[right] + [0, 0.02, 0]
    assert foot_slide([posed[:, left], posed[:, right]], 1.75)[2] == 1
    assert foot_slide([posed[:, left], posed[:, right]], 1.0)[2] == 0.5


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_foot_slide_does_not_depend_on_where_the_floor_is(seed: int):
    rng = np.random.default_rng(seed)
    vertices, _ = figure()
    left, right = sole_vertices(vertices)
    posed = vertices[None] + 0.02 * rng.normal(size=(9, 1, 3))
    turn = Rotation.from_euler("Y", rng.uniform(0, 6)).as_matrix()
    moved = posed @ turn.T + rng.normal(size=3)
    feet = [posed[:, left], posed[:, right]]
    assert foot_slide([moved[:, left], moved[:, right]], 1.75) == pytest.approx(
        foot_slide(feet, 1.75), nan_ok=True
    )


def test_no_contact_gives_no_number():
    assert np.isnan(foot_slide([np.zeros((1, 4, 3))], 1.75)[0])
    assert np.isnan(foot_slide([np.zeros((5, 0, 3))], 1.75)[0])
    jump = np.zeros((5, 4, 3))
    jump[1::2, :, 1] = 1
    assert np.isnan(foot_slide([jump], 1.75)[0])


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_rigid_motion_stretches_nothing(seed: int):
    vertices, faces = figure()
    edges = edges_of(faces)
    R = Rotation.random(3, random_state=seed).as_matrix()
    rigid = np.einsum("fab,vb->fva", R, vertices) + motion(seed, 3, 1)
    np.testing.assert_allclose(edge_stretch(vertices, rigid, edges), 1, atol=1e-6)
    np.testing.assert_allclose(edge_stretch(vertices, 2 * rigid, edges), 2, atol=1e-5)
    np.testing.assert_allclose(edge_stretch(vertices, rigid / 4, edges), 4, atol=1e-5)


def test_edges_once_and_without_slivers():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    edges = edges_of(faces)
    assert edges.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    rest = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1e-6]])
    assert edge_stretch(rest, rest[None], edges).shape == (1, 4)


def test_measures_of_an_animation_by_blocks():
    vertices, _ = figure()
    posed = np.repeat(vertices[None], 70, 0)
    posed += np.arange(70)[:, None, None] * [0.002, 0, 0]
    posed[-1] *= 3
    measured = measure_animation(acting(posed))
    assert measured["stretch_median"] == pytest.approx(1, abs=1e-4)
    assert measured["stretch_p99"] == pytest.approx(3, abs=1e-4)
    posed[-1] /= 3
    assert measure_animation(acting(posed))["foot_slide_mm"] == pytest.approx(2, rel=1e-3)


# --- the clip with a reference ------------------------------------------------------------------


def test_measures_of_a_perfect_and_of_a_swapped_prediction():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(6, 12, 3))
    perfect = videos3d.measures(reference + 5.0, reference)
    assert perfect["mpjpe_mm"] == pytest.approx(0, abs=1e-9)
    assert perfect["swapped_arms"] == perfect["swapped_legs"] == 0
    predicted = reference.copy()
    arms = [i for i, n in enumerate(videos3d.JOINTS) if n.endswith(("shoulder", "elbow", "wrist"))]
    predicted[:2, arms] = reference[:2][:, videos3d.MIRROR[arms]]
    predicted[5] = np.nan
    found = videos3d.measures(predicted, reference)
    assert (found["swapped_arms"], found["swapped_legs"], found["frames"]) == (2, 0, 5)


def test_joints_of_a_body_are_in_camera_axes():
    sequence, _ = standing_body()
    joints = videos3d.joints_of(sequence)
    at = {n: joints[0, i] for i, n in enumerate(videos3d.JOINTS)}
    assert at["left_hip"][2] == pytest.approx(4, abs=0.3)
    assert at["left_ankle"][1] > at["left_shoulder"][1]
    # Who faces the camera has the left side on the right of the image.
    assert at["left_shoulder"][0] > at["right_shoulder"][0]


def test_reference_is_read_by_marker_names(tmp_path: Path):
    names = [n for s in "RL" for n in (f"{s}Hip", f"{s}Knee", f"{s}Ankle", f"{s}Shoulder",
                                       f"{s}Elbow", f"{s}Wrist")]  # fmt: skip
    points = motion(0, 3, 12)
    np.savez(tmp_path / "gt_derived.npz", names=np.array(names), Xcam3=points)
    clip = videos3d.read_clip(tmp_path, "cam03")
    np.testing.assert_array_equal(
        clip.reference[:, videos3d.JOINTS.index("left_knee")], points[:, names.index("LKnee")]
    )
    with pytest.raises(MvaiError, match=r"gt_derived\.npz"):
        videos3d.read_clip(tmp_path, "cam01")
    with pytest.raises(MvaiError, match=r"gt_derived\.npz"):
        videos3d.read_clip(tmp_path / "nothing", "cam01")


# --- pages --------------------------------------------------------------------------------------


def test_markdown_table_golden():
    columns = (Column("name", "name"), Column("mm", "mm", 1), Column("n", "n", 0))
    rows = [{"name": "a|b", "mm": 1.25, "n": 3}, {"name": "c", "mm": float("nan")}]
    assert markdown_table(columns, rows) == (
        "| name | mm | n |\n|---|--:|--:|\n| a\\|b | 1.2 | 3 |\n| c | – | – |\n"
    )


def test_csv_has_every_key():
    text = csv_text([{"a": 1, "b": "x, y"}, {"a": 2, "c": 0.1}])
    assert text == 'a,b,c\n1,"x, y",\n2,,0.1\n'
    assert list(csv.DictReader(io.StringIO(text)))[1]["c"] == "0.1"


def test_main_job_page_has_medians_and_refusals():
    pair = {
        "video": "clip", "size": "64x48", "frames": 30, "video_fps": 30.0, "person_in": 30,
        "detect_s": 1.0, "reconstruct_s": 0.5, "smooth_s": 0.1, "residual_px": 2.0,
        "residual_percent": 0.5, "character": "one", "file": ".obj", "vertices": 100, "parts": 2,
        "rig": "own", "transfer_s": 0.2, "write_s": 0.1, "total_s": 2.0, "frames_per_s": 15.0,
        "foot_slide_mm": 1.0, "foot_slide_median_mm": 0.4, "contact_share": 0.5,
        "stretch_median": 1.01, "stretch_p99": 1.5, "peak_gb": 1.0,
    }  # fmt: skip
    other = pair | {"character": "two", "foot_slide_mm": float("nan"), "peak_gb": 2.0}
    text = page([pair, other, {"video": "bad", "character": "one", "refused": "no person."}])
    assert "2 of 3 pairs of 2 videos and 2 characters" in text
    assert "| clip | one | 0.2 | 0.1 | 2.0 | 15.0 | 1.0 | 0.4 | 50 | 1.010 | 1.50 | 1.00 |" in text
    assert (
        "| median of all |  | 0.2 | 0.1 | 2.0 | 15.0 | 1.0 | 0.4 | 50 | 1.010 | 1.50 | 1.50 |"
        in text
    )
    assert "| bad | one | no person. |" in text
    assert text.count("| clip | 64x48 |") == 1


def test_header_says_where_numbers_come_from():
    text = header(["evaluate", "videos3d", "--data", "my data"])
    assert "`mvai evaluate videos3d --data 'my data'`" in text
    for word in ("Commit:", "date:", "cores", "Python", "mediapipe", "torch"):
        assert word in text


# --- pieces that are kept -----------------------------------------------------------------------


def test_a_finished_piece_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    work, calls = work_folder(tmp_path), []

    def make() -> dict:
        calls.append(1)
        return {"x": float("nan"), "n": 1}

    first, second = (kept(work, "piece.json", make) for _ in range(2))
    assert len(calls) == 1 and first["n"] == second["n"] == 1 and np.isnan(second["x"])

    def fail() -> dict:
        raise MvaiError("no")

    with pytest.raises(MvaiError):
        kept(work, "other.json", fail)
    # A piece of which nobody knows by which code it was made is not kept.
    monkeypatch.setattr("mvai.evaluate.work.fingerprint", lambda: "other code")
    with pytest.raises(MvaiError, match="changed"):
        kept(work, "other.json", make)
    assert [p.name for p in work.iterdir()] == ["piece.json"]


def test_isolated_runs_elsewhere_and_passes_errors_on(tmp_path: Path):
    pid, peak_gb = isolated(os.getpid)
    assert pid != os.getpid()
    # Python with what `work` imports, not what this process holds.
    assert 0.005 < peak_gb < 0.2
    (tmp_path / "file").write_text("")
    with pytest.raises(MvaiError, match="inside"):
        isolated(make_folder, tmp_path / "file" / "inside")


def test_work_folder_belongs_to_this_code(tmp_path: Path):
    assert work_folder(tmp_path) == work_folder(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MvaiError, match="file"):
        work_folder(tmp_path / "file")


def test_which_videos_and_characters(tmp_path: Path):
    for name in ("b.mkv", "a.MP4", "README.md", "x.obj", "y.fbx"):
        (tmp_path / name).write_text("")
    assert [p.name for p in chosen_videos(tmp_path)] == ["a.MP4", "b.mkv"]
    assert chosen_characters([tmp_path]) == [tmp_path / "x.obj"]
    # Of a folder what cannot be used stands in the table; a file that is named must be of its kind.
    clip, hero = fake_stages.clip(tmp_path / "c.mp4"), fake_stages.character(tmp_path / "hero.ply")
    assert chosen_videos(clip) == [clip] and chosen_characters([hero]) == [hero]
    for wrong in ("README.md", "a.MP4"):
        with pytest.raises(MvaiError, match=wrong):
            chosen_videos(tmp_path / wrong)
    for wrong in ("README.md", "x.obj", "y.fbx"):
        with pytest.raises(MvaiError, match=wrong):
            chosen_characters([hero, tmp_path / wrong])
    hero.unlink()
    for known in CHARACTERS[1::3]:
        (tmp_path / known).parent.mkdir(exist_ok=True)
        (tmp_path / known).write_text("")
    assert chosen_characters([tmp_path]) == [tmp_path / c for c in CHARACTERS[1::3]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(MvaiError, match="empty"):
        chosen_videos(tmp_path / "empty")
    with pytest.raises(MvaiError, match="empty"):
        chosen_characters([tmp_path / "empty"])


def test_commands_are_understood():
    command, _ = parse(
        ["evaluate", "main-job", "--videos", "v", "--identities", "a.obj", "b.glb", "-o", "docs/x"]
    )
    assert isinstance(command, Evaluate) and isinstance(command.what, MainJob)
    assert command.what.identities == [Path("a.obj"), Path("b.glb")]
    assert command.what.output == Path("docs/x") and not command.what.sheets
    command, _ = parse(["evaluate", "videos3d", "--data", "d", "-o", "x.md"])
    assert isinstance(command, Evaluate) and isinstance(command.what, Videos3d)


def test_a_clip_of_another_length_and_shape(tmp_path: Path):
    with write_video(tmp_path / "small.mp4", 10, 48, 64) as writer:
        for i in range(12):
            writer.write(np.full((64, 48, 3), 20 * i, np.uint8))
    assert end_to_end.make_clip(tmp_path / "small.mp4", tmp_path / "clip.mp4") == 300
    clip = open_video(tmp_path / "clip.mp4")
    assert (clip.width, clip.height, clip.frames) == (1280, 720, 300)
    assert clip.fps == pytest.approx(30)
    # At its own speed: the twelfth picture after 1.1 s, the first again after 2.2 s.
    first, last, again = (f.mean() for f in clip.read([0, 33, 66]))
    assert first == pytest.approx(again, abs=8) and last > first + 150


def test_a_run_that_fails_says_why(tmp_path: Path):
    with pytest.raises(MvaiError, match="no such file"):
        end_to_end.timed_run(["imitate", "nowhere.mp4", "--identity", "x.obj", "-o", "y.glb"])
    with pytest.raises(MvaiError, match="once at least"):
        end_to_end.evaluate_end_to_end(
            tmp_path / "a.mp4", tmp_path / "a.obj", tmp_path / "e.md", 0, tmp_path / "w", Silent()
        )
    assert not (tmp_path / "w").exists()


def test_table1_gives_means_and_changes_against_the_unsmoothed() -> None:
    from mvai.evaluate.table1 import summary

    same = {"pa_mpjpe_mm": 1.0, "pve_mm": 3.0, "accel_mm": 2.0, "accel_error_mm": 2.0,
            "true_accel_mm": 2.0}  # fmt: skip
    rows = [
        same | {"pool": "test", "backbone": "b", "smoother": s, "mpjpe_mm": e, "rate": 5.0,
                "smooth_ms": 1.0}
        for s, errors in (("none", (10.0, 30.0)), ("savgol", (12.0, 18.0)))
        for e in errors
    ]  # fmt: skip
    before, after = summary(rows)
    assert (before["mpjpe_mm"], before["worst_mm"], before["count"]) == (20.0, 30.0, 2)
    assert after["change"] == pytest.approx(-25.0)
    assert before["rate"] == 5.0 and "rate" not in after
