"""Tracks, gaps, left-right swaps, and the two detectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fake_stages
from conftest import data_dir
from mvai.detect import METHODS, method
from mvai.detect.gaps import check_enough, fill_gaps
from mvai.detect.left_right import undo_left_right_swaps
from mvai.detect.mediapipe_holistic import (
    FACE,
    FACE_MESH_INDEX,
    LEFT_HAND,
    NAMES,
    MediapipeHolistic,
    points_from,
)
from mvai.detect.openpose import BODY_25, BODY_25B, OpenPoseFiles, read_openpose
from mvai.detect.people import Spotlight
from mvai.detect.quiet import quiet_stderr
from mvai.detect.track import Sighting, box_at, chosen, link, overlap
from mvai.io.video import open_video, write_video
from mvai.types import Keypoints, MvaiError
from mvai.types.names import KEYPOINTS, mirrored

# --- a walker ----------------------------------------------------------------------------------

REST_M = {
    "nose": (0.0, -0.7), "shoulder": (0.18, -0.5), "elbow": (0.25, -0.25), "wrist": (0.25, 0.0),
    "hip": (0.1, 0.0), "knee": (0.1, 0.45), "ankle": (0.1, 0.9),
    "heel": (0.1, 0.95), "foot_index": (0.1, 0.95),
}  # fmt: skip


def walker(frames: int = 60, fps: float = 30.0, heading_rad: float = 0.6) -> Keypoints:
    """Somebody walking on the spot, turned by `heading_rad` from the camera; 400 px a metre."""
    names = ["nose"] + [f"{s}_{p}" for p in REST_M if p != "nose" for s in ("left", "right")]
    phase = 2 * np.pi * np.arange(frames) / fps
    xyz = np.zeros((frames, len(names), 3))
    for i, name in enumerate(names):
        part = name.split("_", 1)[-1]
        side = 1.0 if name.startswith("left") else -1.0 if name.startswith("right") else 0.0
        x, y = REST_M[part]
        reach = {"wrist": -0.3, "elbow": -0.15, "knee": 0.15}.get(part, 0.0)
        reach = 0.3 if part in ("ankle", "heel", "foot_index") else reach
        xyz[:, i] = np.stack(
            [np.full(frames, side * x), np.full(frames, y), side * reach * np.sin(phase)], axis=1
        )
    c, s = np.cos(heading_rad), np.sin(heading_rad)
    xyz = xyz @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T
    return Keypoints(
        names=tuple(names),
        xy_px=xyz[..., :2] * 400 + (640, 500),
        confidence=np.full((frames, len(names)), 0.9),
        fps=fps,
        width=1280,
        height=1000,
        xyz_m=xyz,
    )


def swapped(keypoints: Keypoints, rows: slice, part: str = "") -> Keypoints:
    """Left and right exchanged in `rows`, for names with `part` in them."""
    order = [
        keypoints.index(mirrored(n)) if part in n else i for i, n in enumerate(keypoints.names)
    ]
    assert keypoints.xyz_m is not None
    xy_px, xyz_m = keypoints.xy_px.copy(), keypoints.xyz_m.copy()
    xy_px[rows], xyz_m[rows] = xy_px[rows][:, order], xyz_m[rows][:, order]
    return replace(keypoints, xy_px=xy_px, xyz_m=xyz_m)


# --- left and right ----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(1, 50),
    length=st.integers(1, 25),
    heading=st.floats(-3.1, 3.1),
    with_depth=st.booleans(),
)
def test_swapped_stretch_is_undone(start: int, length: int, heading: float, with_depth: bool):
    truth = walker(heading_rad=heading)
    # Never half the clip, for then nobody can know which half is the true one.
    broken = swapped(truth, slice(start, start + length))
    if not with_depth:
        # In profile the limbs cross in the image, and which came out of it is anyone's guess.
        assume(abs(np.cos(heading)) > 0.4)
        truth, broken = replace(truth, xyz_m=None), replace(broken, xyz_m=None)
    mended = undo_left_right_swaps(broken)
    # In 2D alone, sides that lie on each other cannot be told apart, and need not be.
    allowed_px = 1.0 if with_depth else 40.0
    assert np.abs(mended.xy_px - truth.xy_px).mean(axis=(1, 2)).max() < allowed_px


def test_legs_alone_are_undone() -> None:
    truth = walker()
    broken = truth
    for leg in ("hip", "knee", "ankle", "heel", "foot"):
        broken = swapped(broken, slice(20, 35), leg)
    assert np.abs(broken.xy_px - truth.xy_px).max() > 10
    np.testing.assert_allclose(undo_left_right_swaps(broken).xy_px, truth.xy_px)


def test_a_whole_clip_is_swapped_only_for_the_face() -> None:
    truth = walker()
    assert truth.xyz_m is not None
    face = np.full((60, 51, 2), 640.0)
    names = (*truth.names, *(n for n in KEYPOINTS if n.startswith("face_")))
    xy_px = np.concatenate([truth.xy_px, face], axis=1)
    confidence = np.concatenate([truth.confidence, np.full((60, 51), 0.9)], axis=1)
    shown = replace(truth, names=names, xy_px=xy_px, confidence=confidence, xyz_m=None)
    order = [truth.index(mirrored(n)) for n in truth.names]
    back = replace(shown, xy_px=np.concatenate([truth.xy_px[:, order], face], axis=1))
    np.testing.assert_allclose(undo_left_right_swaps(back).xy_px, shown.xy_px)
    # A face in a few frames of a back view is a mistake.
    hidden = confidence.copy()
    hidden[5:50, len(truth.names) :] = 0.0
    back = replace(back, confidence=hidden)
    np.testing.assert_allclose(undo_left_right_swaps(back).xy_px, back.xy_px)


def test_right_labels_are_left_alone() -> None:
    for heading in np.linspace(-3, 3, 13):
        truth = walker(heading_rad=float(heading))
        noise = np.random.default_rng(0).normal(0, 4, truth.xy_px.shape)
        noisy = replace(truth, xy_px=truth.xy_px + noise)
        np.testing.assert_array_equal(undo_left_right_swaps(noisy).xy_px, noisy.xy_px)


# --- gaps --------------------------------------------------------------------------------------


def test_gaps_are_marked_and_bridged() -> None:
    truth = walker(20)
    present = np.ones(20, bool)
    present[[0, 1, 8, 9, 10, 19]] = False
    filled = fill_gaps(truth, present)
    np.testing.assert_array_equal(filled.seen(), present)
    assert (filled.confidence[~present] == 0).all() and (filled.confidence[present] > 0).all()
    np.testing.assert_allclose(filled.xy_px[0], truth.xy_px[2])
    np.testing.assert_allclose(filled.xy_px[19], truth.xy_px[18])
    np.testing.assert_allclose(filled.xy_px[9], (truth.xy_px[7] + truth.xy_px[11]) / 2)
    assert filled.xyz_m is not None and truth.xyz_m is not None
    np.testing.assert_allclose(filled.xyz_m[8], 0.75 * truth.xyz_m[7] + 0.25 * truth.xyz_m[11])


def test_too_little_of_a_person_is_refused() -> None:
    path = Path("clip.mp4")
    whole = walker(40)
    check_enough(whole, path)
    nobody = replace(whole, present=np.zeros(40, bool))
    with pytest.raises(MvaiError, match=r"clip\.mp4: no person"):
        check_enough(nobody, path)
    brief = replace(whole, present=np.arange(40) < 3)
    with pytest.raises(MvaiError, match=r"clip\.mp4.*only 3 of 40"):
        check_enough(brief, path)
    tiny = replace(whole, xy_px=whole.xy_px / 60)
    with pytest.raises(MvaiError, match=r"clip\.mp4.*only 11 pixels"):
        check_enough(tiny, path)


# --- tracks ------------------------------------------------------------------------------------


def seen(frame: int, x: float, size: float = 100, index: int = 0, colour: int | None = None):
    box = np.array([x, 50.0, x + size / 2, 50 + size])
    appearance = None
    if colour is not None:
        appearance = np.full(8, 0.01)
        appearance[colour] = 0.93
    return Sighting(frame, box, 0.9, index, appearance)


def test_people_who_cross_keep_their_tracks() -> None:
    steps = []
    for f in range(60):
        a, b = seen(f, 10 * f, 120, colour=1), seen(f, 590 - 10 * f, 100, colour=5)
        steps.append([a, b] if f % 2 else [b, a])
    tracks = link(steps, 30.0)
    assert [len(t) for t in tracks] == [60, 60]
    for track, size in zip(tracks, (120, 100), strict=True):
        assert {round(s.size_px) for s in track} == {size}


def test_a_jump_to_another_person_starts_a_new_track() -> None:
    steps = [[seen(f, 100 if f < 30 else 700, colour=1 if f < 30 else 5)] for f in range(50)]
    assert [len(t) for t in link(steps, 30.0)] == [30, 20]


def test_who_leaves_and_returns_is_the_same_person() -> None:
    steps = [[seen(f, 100 if f < 40 else 600, colour=2)] if not 20 < f < 100 else []
             for f in range(130)]  # fmt: skip
    assert [len(t) for t in link(steps, 30.0)] == [51]


def test_choosing_beyond_the_last_person_is_refused() -> None:
    tracks = link([[seen(0, 0), seen(0, 400, 50, 1)]], 30.0)
    assert chosen(tracks, 1, "a.mp4")[0].size_px == 50
    with pytest.raises(MvaiError, match=r"a\.mp4: person 2 .* 2 people"):
        chosen(tracks, 2, "a.mp4")


def test_boxes() -> None:
    track = (seen(0, 0), seen(10, 100))
    box = box_at(track, 5, 5)
    assert box is not None and box[0] == 50
    assert box_at(track, 30, 5) is None
    assert overlap(track[0].box_px, track[0].box_px) == pytest.approx(1)
    assert overlap(track[0].box_px, track[1].box_px) == 0


def test_spotlight_covers_the_others_only() -> None:
    image = np.full((300, 600, 3), 7, np.uint8)
    me, other = (seen(0, 100), seen(10, 100)), (seen(0, 400), seen(10, 400))
    lit = Spotlight(me, (other,), 10.0)(image, 5)
    assert (lit[50:150, 100:150] == 7).all()
    assert (lit[50:150, 400:450] == 128).all()
    assert Spotlight(me, (), 10.0)(image, 5) is image


# --- MediaPipe ---------------------------------------------------------------------------------


def fake_result(side: str = "left"):
    """A body 1 m tall that is 500 px tall in a 1000 x 500 image, with one hand and a face."""

    def marks(n, f):
        return SimpleNamespace(landmark=[SimpleNamespace(visibility=0.8, **f(i)) for i in range(n)])

    body = marks(33, lambda i: {"x": 0.5, "y": i / 32, "z": 0.0})
    body.landmark[15].y = 0.5
    world = marks(33, lambda i: {"x": 0.0, "y": i / 32 - 0.5, "z": 0.1})
    world.landmark[15].y = 0.0
    hand = marks(21, lambda i: {"x": 0.5 + i / 1000, "y": 0.5, "z": -i / 1000})
    face = marks(468, lambda i: {"x": 0.4 + i / 2340, "y": 0.2, "z": 0.0})
    return SimpleNamespace(
        pose_landmarks=body, pose_world_landmarks=world, face_landmarks=face,
        left_hand_landmarks=hand, right_hand_landmarks=None,
    )  # fmt: skip


def test_landmarks_become_points() -> None:
    points = points_from(fake_result(), 1000, 500)
    assert points.shape == (126, 6)
    assert set(NAMES) <= set(KEYPOINTS) and len(FACE_MESH_INDEX) == 51
    # 500 px to the metre: one pixel of the hand is 2 mm, away from the body's metric wrist.
    wrist_m = points[NAMES.index("left_wrist"), 2:5]
    np.testing.assert_allclose(points[LEFT_HAND, 2] - wrist_m[0], np.arange(21) * 0.002, atol=1e-9)
    np.testing.assert_allclose(points[LEFT_HAND, 4] - wrist_m[2], -np.arange(21) * 0.002, atol=1e-9)
    assert np.isnan(points[54:75, :5]).all() and (points[54:75, 5] == 0).all()
    np.testing.assert_allclose(points[FACE, 0], 0.4 + np.array(FACE_MESH_INDEX) / 2340)


def test_a_face_or_hand_away_from_the_body_is_dropped() -> None:
    result = fake_result()
    for point in (*result.face_landmarks.landmark, *result.left_hand_landmarks.landmark):
        point.y += 0.4
    points = points_from(result, 1000, 500)
    assert np.isnan(points[LEFT_HAND]).any(axis=1).all() and (points[LEFT_HAND, 5] == 0).all()
    assert np.isnan(points[FACE, :2]).all() and (points[FACE, 5] == 0).all()


def test_points_outside_the_image_are_unseen() -> None:
    result = fake_result()
    result.pose_landmarks.landmark[31].y = 1.4
    points = points_from(result, 1000, 500)
    assert points[31, 5] == 0 and np.isnan(points[31, :2]).all()
    assert points[30, 5] == 0.8


def test_no_person_is_an_error_without_noise(tmp_path: Path, capfd) -> None:
    path = tmp_path / "empty_room.mp4"
    with write_video(path, 10.0, 160, 120) as writer:
        for i in range(10):
            image = np.full((120, 160, 3), 200, np.uint8)
            image[80:, :] = 90 + i
            writer.write(image)
    steps: list[tuple[int, int | None]] = []
    with pytest.raises(MvaiError, match=r"empty_room\.mp4: no person"):
        MediapipeHolistic().detect(open_video(path), lambda d, t: steps.append((d, t)))
    assert steps[-1] == (10, 10)
    assert capfd.readouterr().err == ""


def test_quiet_stderr_lets_exceptions_pass(capfd) -> None:
    with pytest.raises(ValueError, match="kept"), quiet_stderr(), quiet_stderr():
        os.write(2, b"noise")
        raise ValueError("kept")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_real_clip_with_two_people(tmp_path: Path, capfd) -> None:
    video = open_video(data_dir() / "videos" / "intel_two_people_walk.mp4")
    people = [MediapipeHolistic(person=i).detect(video) for i in range(2)]
    hips = [(k.xy_px[:, 23] + k.xy_px[:, 24]) / 2 for k in people]
    both = people[0].seen() & people[1].seen()
    assert both.sum() > 25
    # They walk side by side; whoever is followed is followed throughout.
    assert (hips[0][both, 0] - hips[1][both, 0] > 20).all()
    xyz_m = people[0].xyz_m
    assert xyz_m is not None
    body = xyz_m[people[0].seen()]
    names = people[0].names
    # Camera axes: the head is up (negative y); walking towards us, toes are nearer than heels.
    assert np.median(body[:, names.index("nose"), 1]) < -0.4
    assert np.median(body[:, 31, 2] - body[:, 29, 2]) < 0
    assert np.abs((body[:, 23] + body[:, 24]) / 2).max() < 0.02
    assert capfd.readouterr().err == ""


# --- OpenPose ----------------------------------------------------------------------------------


def openpose_folder(
    folder: Path, names: tuple[str, ...], people: list[Keypoints], extras: bool = False
) -> Path:
    """Writes what OpenPose would have written; people alternate their place in the file."""
    folder.mkdir()
    for f in range(people[0].frames):
        entries = []
        for person in people[:: 1 if f % 2 else -1]:
            if not person.seen()[f]:
                continue
            points = np.zeros((25, 3))
            at = dict(zip(person.names, person.xy_px[f], strict=True))
            for i, name in enumerate(names):
                source = name.replace("big_toe", "foot_index")
                if name == "mid_hip":
                    xy = (at["left_hip"] + at["right_hip"]) / 2
                elif name == "neck":
                    xy = (at["left_shoulder"] + at["right_shoulder"]) / 2
                elif source in at:
                    xy = at[source]
                else:
                    continue
                points[i] = *xy, 0.8
            entry = {"pose_keypoints_2d": points.ravel().tolist()}
            if extras:
                hand = np.c_[np.arange(21), np.full(21, f), np.full(21, 0.7)]
                face = np.c_[np.arange(70), np.full(70, f), np.full(70, 0.6)]
                entry |= {"hand_left_keypoints_2d": hand.ravel().tolist(),
                          "face_keypoints_2d": face.ravel().tolist()}  # fmt: skip
            entries.append(entry)
        text = json.dumps({"version": 1.3, "people": entries})
        (folder / f"clip_{f}_keypoints.json").write_text(text)
    return folder


@pytest.mark.parametrize("names", [BODY_25, BODY_25B])
def test_openpose_body_is_recognised_and_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    truth = walker(30)
    folder = openpose_folder(tmp_path / "json", names, [truth])
    got = read_openpose(folder, 30.0, 1280, 1000)
    assert got.names == names and set(names) <= set(KEYPOINTS)
    for name in ("left_shoulder", "right_wrist", "left_ankle", "right_heel"):
        np.testing.assert_allclose(got.xy_px[:, got.index(name)], truth.xy_px[:, truth.index(name)])
    ear = got.index("left_ear")
    assert np.isnan(got.xy_px[:, ear]).all() and (got.confidence[:, ear] == 0).all()


def test_openpose_hands_face_gap_and_two_people(tmp_path: Path) -> None:
    present = np.ones(30, bool)
    present[10:14] = False
    near = replace(walker(30), present=present)
    far = walker(30)
    far = replace(far, xy_px=far.xy_px * 0.4 + (50, 100))
    folder = openpose_folder(tmp_path / "json", BODY_25, [near, far], extras=True)
    first = read_openpose(folder, 30.0, 1280, 1000)
    np.testing.assert_array_equal(first.seen(), present)
    nose = first.index("nose")
    np.testing.assert_allclose(first.xy_px[present, nose], near.xy_px[present, 0])
    assert first.xy_px[5, first.index("left_hand_pinky_4"), 0] == 20
    assert first.xy_px[5, first.index("face_brow_right_0"), 0] == 17
    assert first.xy_px[5, first.index("face_lip_inner_7"), 0] == 67
    assert "right_hand_wrist" not in first.names
    second = read_openpose(folder, 30.0, 1280, 1000, person=1)
    assert second.seen().all()
    np.testing.assert_allclose(second.xy_px[:, nose], far.xy_px[:, 0])


def test_bad_openpose_folders_are_named(tmp_path: Path) -> None:
    def read(folder: Path) -> None:
        read_openpose(folder, 30.0, 1280, 1000)

    with pytest.raises(MvaiError, match="no such folder"):
        read(tmp_path / "missing")
    folder = tmp_path / "json"
    folder.mkdir()
    with pytest.raises(MvaiError, match="no JSON"):
        read(folder)
    file = folder / "a.json"
    for text in ("{", "[1]", "{}", '{"people": 3}', '{"people": [5]}',
                 '{"people": [{"pose_keypoints_2d": "abc"}]}'):  # fmt: skip
        file.write_text(text)
        with pytest.raises(MvaiError, match=r"a\.json: this is not a key-point file"):
            read(folder)
    file.write_text('{"people": []}')
    with pytest.raises(MvaiError, match="nobody"):
        read(folder)
    file.write_text(json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 54}]}))
    with pytest.raises(MvaiError, match=r"18 points"):
        read(folder)
    file.write_text(json.dumps({"people": [{"pose_keypoints_2d": [0.5] * 75}]}))
    with pytest.raises(MvaiError, match="keypoint_scale"):
        read(folder)
    few = openpose_folder(tmp_path / "few", BODY_25, [walker(3)])
    with pytest.raises(MvaiError, match="only 3 of 3"):
        read(few)


def test_openpose_must_match_its_video(tmp_path: Path) -> None:
    folder = openpose_folder(tmp_path / "json", BODY_25, [walker(30)])
    frames = fake_stages.clip(tmp_path / "frames.mp4", 12)
    with pytest.raises(MvaiError, match="30 key-point files for a video of 12"):
        OpenPoseFiles(folder).detect(open_video(frames))


def test_openpose_files_of_a_part_of_their_video(tmp_path: Path) -> None:
    folder = openpose_folder(tmp_path / "json", BODY_25, [walker(30)])
    frames = fake_stages.clip(tmp_path / "frames.mp4", 30)
    whole = OpenPoseFiles(folder).detect(open_video(frames))
    part = OpenPoseFiles(folder).detect(open_video(frames).between(0.2, 0.8))
    np.testing.assert_array_equal(part.xy_px, whole.xy_px[6:24])
    assert part.seen().all() and len(part.seen()) == 18
    with pytest.raises(MvaiError, match=r"visible in only 4 of 4"):
        OpenPoseFiles(folder).detect(open_video(frames).between(0.2, 0.34))


def test_real_openpose_files_give_one_whole_track() -> None:
    folder = data_dir() / "videos3d" / "pose2sim_single" / "openpose_json" / "cam01"
    keypoints = read_openpose(folder, 60.0, 1080, 1920)
    assert keypoints.names == BODY_25B
    assert keypoints.seen().all()


def test_methods_load() -> None:
    for name in METHODS:
        assert method(name).__doc__
    assert method("mediapipe").__name__ == "MediapipeHolistic"
    with pytest.raises(MvaiError, match="no such detector"):
        method("mediapip")


def test_mediapipe_comes_without_drawing_and_leaves_no_stand_ins():
    script = textwrap.dedent(
        """
        import sys
        from mvai.detect.mediapipe_import import solution
        assert solution("pose", "Pose").__name__ == "Pose"
        assert not {"matplotlib", "matplotlib.pyplot", "sounddevice"} & set(sys.modules)
        from matplotlib import pyplot
        print(pyplot.figure.__module__)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "matplotlib.pyplot"
