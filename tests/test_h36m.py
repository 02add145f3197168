"""Human3.6M in its four layouts, made small, and the measure on it."""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.evaluate.h36m import OURS, evaluate_h36m, measures
from mvai.io.h36m import (
    CAMERAS,
    OF_24,
    OF_32,
    POINTS,
    H36mView,
    middle_clip,
    read_h36m,
    video_of,
)
from mvai.io.video import write_video
from mvai.progress import Silent
from mvai.types import Camera, MeshSequence, MvaiError

FRAMES = 40


def raw_pose(seed: int = 0, frames: int = FRAMES) -> np.ndarray:
    """32 joints in camera axes, metres, all different."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(1, 32, 3))
    return base + 0.01 * np.arange(frames)[:, None, None] + [0, 0, 4.0]


def wanted(pose: np.ndarray) -> np.ndarray:
    """`POINTS` by the data set's own numbers, written out once more."""
    number = {
        "pelvis": 0, "right_hip": 1, "right_knee": 2, "right_ankle": 3, "left_hip": 6,
        "left_knee": 7, "left_ankle": 8, "neck": 13, "head_top": 15, "left_shoulder": 17,
        "left_elbow": 18, "left_wrist": 19, "right_shoulder": 25, "right_elbow": 26,
        "right_wrist": 27,
    }  # fmt: skip
    return pose[:, [number[n] for n in POINTS]]


def mmpose_layout(folder: Path, step: int = 5) -> np.ndarray:
    """annotation_body3d/fps10: 17 joints of 3 numbers and a 1, one row an image."""
    names, rows = [], []
    keep = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    for seed, (subject, action) in enumerate([("S9", "Directions_1"), ("S11", "Walking")]):
        pose = raw_pose(seed)
        for f in range(0, FRAMES, step):
            stem = f"{subject}_{action}.54138969"
            names.append(f"{subject}/{stem}/{stem}_{f + 1:06d}.jpg")
            rows.append(np.concatenate([pose[f, keep], np.ones((17, 1))], 1))
    table = folder / "annotation_body3d" / f"fps{50 // step}"
    table.mkdir(parents=True)
    np.savez(table / "h36m_test.npz", imgname=np.array(names), S=np.array(rows))
    for name in names:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(path)
    return raw_pose(0)


def test_mmpose(tmp_path: Path):
    pose = mmpose_layout(tmp_path)
    walk, directions = read_h36m(tmp_path)
    assert (directions.subject, directions.action, directions.camera) == (
        "S9", "Directions 1", "54138969",
    )  # fmt: skip
    assert walk.name == "S11 Walking 54138969"
    np.testing.assert_allclose(directions.points, wanted(pose)[::5])
    np.testing.assert_array_equal(directions.numbers, np.arange(0, FRAMES, 5))
    assert directions.fps == 10.0
    assert directions.images is not None and all(p.is_file() for p in directions.images)
    assert [v.subject for v in read_h36m(tmp_path, ("S11",))] == ["S11"]


def test_graphcmr_and_spin(tmp_path: Path):
    pose = raw_pose()
    S = np.zeros((FRAMES, 24, 4), np.float32)
    # SPIN: the first six are the legs from the right ankle to the left one, 12 the neck, 14 the
    # pelvis and 18 the head.
    spin = {0: 3, 1: 2, 2: 1, 3: 6, 4: 7, 5: 8, 6: 27, 7: 26, 8: 25, 9: 17, 10: 18, 11: 19,
            12: 13, 14: 0, 18: 15}  # fmt: skip
    for ours, theirs in spin.items():
        S[:, ours, :3] = pose[:, theirs]
    names = [f"images/S9_Eating_2.60457274_{f + 1:06d}.jpg" for f in range(FRAMES)]
    np.savez(
        tmp_path / "h36m_valid_protocol2.npz", imgname=names, S=S,
        center=np.zeros((FRAMES, 2)), scale=np.ones(FRAMES),
    )  # fmt: skip
    (view,) = read_h36m(tmp_path)
    assert view.name == "S9 Eating 2 60457274" and view.fps == 50.0
    np.testing.assert_allclose(view.points, wanted(pose), atol=1e-5)


def test_videopose3d_is_taken_to_the_camera(tmp_path: Path):
    pose = raw_pose()
    R = Rotation.from_euler("xyz", [0.3, -1.2, 0.4]).as_matrix()
    t = np.array([1.0, -2.0, 1.5])
    # A camera at t in the world whose axes are the columns of R.
    world = pose @ R.T + t
    cameras = {("S9", CAMERAS[1]): {"R": R, "T": t.reshape(3, 1), "w": 1000, "h": 1000}}
    (tmp_path / "annotation_body3d").mkdir()
    positions = {"S9": {"WalkDog 1": world.astype(np.float32)}, "S1": {"Walking": world}}
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=np.array(positions, dtype=object))
    with pytest.raises(MvaiError, match=r"data_3d_h36m\.npz.*cameras\.pkl"):
        read_h36m(tmp_path)
    with (tmp_path / "annotation_body3d" / "cameras.pkl").open("wb") as file:
        pickle.dump(cameras, file)
    (view,) = read_h36m(tmp_path)
    assert view.name == f"S9 WalkDog 1 {CAMERAS[1]}"
    np.testing.assert_allclose(view.points, wanted(pose), atol=1e-5)
    with pytest.raises(MvaiError, match=r"S9/Videos/WalkDog 1\.55011271\.mp4 is missing"):
        video_of(tmp_path, view)
    path = tmp_path / "S9" / "Videos" / "WalkingDog 1.55011271.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert video_of(tmp_path, view) == path


@pytest.mark.skipif(importlib.util.find_spec("cdflib") is None, reason="needs cdflib")
@pytest.mark.parametrize("place", ["MyPoseFeatures/D3_Positions_mono", "Poses_D3_Positions_mono"])
def test_the_data_set_s_own_files(tmp_path: Path, place: str):
    from cdflib.cdfwrite import CDF  # type: ignore[import-not-found]

    pose = raw_pose()
    folder = tmp_path / "S9" / place
    folder.mkdir(parents=True)
    for name in ("Directions 1.54138969", "_ALL.54138969"):
        file = CDF(str(folder / f"{name}.cdf"), cdf_spec={"Compressed": 6})
        spec = {
            "Variable": "Pose", "Data_Type": 45, "Num_Elements": 1, "Rec_Vary": True,
            "Var_Type": "zVariable", "Dim_Sizes": [FRAMES, 96],
        }  # fmt: skip
        file.write_var(spec, var_data=1000 * pose.reshape(1, FRAMES, 96))
        file.close()
    (view,) = read_h36m(tmp_path)
    assert view.name == "S9 Directions 1 54138969"
    np.testing.assert_allclose(view.points, wanted(pose), atol=1e-6)


def test_cdf_without_its_package_says_what_to_do(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cdflib", None)
    path = tmp_path / "S9" / "Poses_D3_Positions_mono" / "Directions 1.54138969.cdf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(MvaiError, match="pip install cdflib"):
        read_h36m(tmp_path)


def test_what_is_not_human36m_is_refused(tmp_path: Path):
    with pytest.raises(MvaiError, match=r"no Human3\.6M poses of S9, S11"):
        read_h36m(tmp_path)
    np.savez(tmp_path / "h36m_valid_protocol1.npz", imgname=["cat.jpg"], S=np.zeros((1, 24, 4)))
    with pytest.raises(MvaiError, match=r"cat\.jpg is not the name"):
        read_h36m(tmp_path)
    np.savez(tmp_path / "h36m_valid_protocol1.npz", imgname=["cat.jpg"], S=np.zeros((1, 9, 4)))
    with pytest.raises(MvaiError, match="not images x 17 or 24 joints"):
        read_h36m(tmp_path)
    (tmp_path / "h36m_valid_protocol1.npz").write_bytes(b"PK broken")
    with pytest.raises(MvaiError, match=r"protocol1\.npz.*damaged"):
        read_h36m(tmp_path)


class Evil:
    def __reduce__(self):
        return (Path("evil_was_here").write_text, ("x",))


def test_pickles_are_not_executed(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "cameras.pkl").open("wb") as file:
        pickle.dump({("S9", CAMERAS[0]): Evil()}, file)
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=np.array({"S9": {}}, dtype=object))
    with pytest.raises(MvaiError, match=r"cameras\.pkl"):
        read_h36m(tmp_path)
    assert not (tmp_path / "evil_was_here").exists()


def test_middle_clip_in_both_readings_of_the_sampling():
    pose = raw_pose(frames=1000)
    view = H36mView("S9", "a", CAMERAS[0], wanted(pose), np.arange(1000), None)
    fast = middle_clip(view, 25.0, 16)
    assert fast is not None
    np.testing.assert_array_equal(fast.numbers, 2 * np.arange(242, 258))
    slow = middle_clip(view, 2.0, 16)
    assert slow is not None
    np.testing.assert_array_equal(slow.numbers, 25 * np.arange(12, 28))
    np.testing.assert_array_equal(slow.points, view.points[slow.numbers])
    short = dataclasses.replace(view, points=view.points[:300], numbers=view.numbers[:300])
    assert middle_clip(short, 2.0, 16) is None
    sparse = dataclasses.replace(view, points=view.points[::5], numbers=view.numbers[::5])
    with pytest.raises(MvaiError, match="10 times a second, which cannot be sampled at 25"):
        middle_clip(sparse, 25.0, 16)


def standing(frames: int) -> MeshSequence:
    body = anny_body()
    rotations = torch.eye(3).repeat(frames, len(body.joints), 1, 1)
    shape, place = torch.zeros(1, body.shape_size), torch.zeros(frames, 3)
    vertices = body.vertices(shape, rotations, place).numpy() - [0, 0, 4]
    camera = Camera.from_focal(1000, 1000, 1000)
    return MeshSequence(vertices.astype(np.float32), body.faces, 25.0, "anny", camera)


def test_measure_of_a_known_error():
    sequence = standing(5)
    points = anny_body().regress(OURS, sequence.vertices) * [1, -1, -1]
    result = measures(sequence, points + np.array([0.5, 0, 3]), "pelvis")
    assert result["mpjpe_mm"] == pytest.approx(0, abs=1e-2)
    off = points.copy()
    off[:, POINTS.index("left_wrist"), 2] += 0.14
    off[2, POINTS.index("left_wrist"), 0] += 0.07
    result = measures(sequence, off, "hips")
    # One of 14 joints is 140 mm off, and in one of 5 frames 70 mm more to the side.
    want = (4 * 140 + np.hypot(140, 70)) / 14 / 5
    assert result["mpjpe_mm"] == pytest.approx(want, rel=1e-3)
    assert result["accel_mm"] == pytest.approx(0, abs=1e-2)
    assert result["accel_error_mm"] == pytest.approx((70 + 140 + 70) / 3 / 14, rel=1e-3)
    with pytest.raises(MvaiError, match="topology 'smpl'"):
        measures(dataclasses.replace(sequence, topology="smpl"), points, "hips")


def run(data: Path, out: Path, **options) -> str:
    return evaluate_h36m(
        data, out, out.parent / "work", {"standing": lambda video: standing(video.frames)},
        {"none": lambda s: s, "half": lambda s: s.with_vertices(s.vertices * 1.1)}, Silent(),
        **options,
    )  # fmt: skip


def test_evaluation_from_images_and_videos(tmp_path: Path):
    data = tmp_path / "data"
    mmpose_layout(data, step=1)
    table = run(data, tmp_path / "images.md")
    text = (tmp_path / "images.md").read_text()
    assert table in text and table.count("standing") == 2
    for word in ("S9 and S11", "2 clips", "middle 16 frames", "25 frames a second", "pelvis joint",
                 "head top"):  # fmt: skip
        assert word in text
    assert "10" not in text.split("clips of the subjects")[0].splitlines()[-1]

    videos = tmp_path / "videos"
    pose = raw_pose()
    (videos / "S9" / "Videos").mkdir(parents=True)
    np.savez(videos / "data_3d_h36m.npz",
             positions_3d=np.array({"S9": {"Walking": pose}}, dtype=object))  # fmt: skip
    with (videos / "cameras.pkl").open("wb") as file:
        pickle.dump({("S9", CAMERAS[0]): {"R": np.eye(3), "T": np.zeros((3, 1))}}, file)
    with write_video(videos / "S9" / "Videos" / f"Walking.{CAMERAS[0]}.mp4", 50, 32, 32) as writer:
        for _ in range(FRAMES):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    run(videos, tmp_path / "videos.md", root="hips")
    assert "middle of the hips" in (tmp_path / "videos.md").read_text()
    with pytest.raises(MvaiError, match="no video has 16 frames at 2"):
        run(videos, tmp_path / "videos.md", rate=2.0)
    (videos / "S9" / "Videos" / f"Walking.{CAMERAS[0]}.mp4").unlink()
    with pytest.raises(MvaiError, match="is missing"):
        run(videos, tmp_path / "other.md", root="pelvis")


def test_indices_agree_with_each_other():
    assert len(POINTS) == len(OURS) == len(OF_32) == len(OF_24) == 15
