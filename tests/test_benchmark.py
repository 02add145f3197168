"""The open benchmark: splits, scenes, pictures, clips on disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvai.benchmark import build
from mvai.benchmark.build import build_benchmark, by_pool, jobs
from mvai.benchmark.clips import POOLS, clips_in, load_scene, save_scene
from mvai.benchmark.detections import detect_benchmark
from mvai.benchmark.drawing import draw, exposures
from mvai.benchmark.poses import PoseClip, save_pose_clip
from mvai.benchmark.reconstructions import reconstruct_benchmark
from mvai.benchmark.scenes import Scene, random_scene, resampled, varied
from mvai.benchmark.settings import BenchmarkSettings
from mvai.benchmark.splits import HELD_OUT, SPLITS, is_held_out, split_of, subject_of
from mvai.body.anny import anny_body
from mvai.detect.mediapipe_holistic import MediapipeHolistic
from mvai.types import MvaiError, NobodyError
from mvai.types.names import BODY_JOINTS

TINY = Path(__file__).parent / "tiny_benchmark"
SMALL = BenchmarkSettings(
    train=2, validation=1, test=1, hard=1, close=1, still=1, tumbling=1, frames=4, rate=10.0
)


def waving(frames: int = 31, fps: float = 30.0) -> PoseClip:
    """One arm goes up and down while the person walks forward."""
    pose = np.zeros((frames, len(BODY_JOINTS), 3), np.float32)
    pose[:, BODY_JOINTS.index("LeftArm"), 2] = np.sin(np.arange(frames) / fps * 3)
    translation = np.zeros((frames, 3), np.float32)
    translation[:, 2] = np.arange(frames) / fps
    return PoseClip("cmu_07_01", pose, translation, fps, np.ones(frames, bool))


def scene(hardships=(), frames: int = 3) -> Scene:
    return random_scene(anny_body(), waving(), 5, frames, (160, 120), hardships)


# --- splits -------------------------------------------------------------------------------------


@given(st.text("abc_0123456789", min_size=1, max_size=12), st.integers(0, 99), st.integers(0, 99))
def test_all_clips_of_a_person_fall_into_one_split(person, a, b):
    first, second = f"{person}x_{a:02d}", f"{person}x_{b:02d}"
    assert subject_of(first) == subject_of(second)
    assert split_of(first) == split_of(second)


def test_the_package_s_own_people_stay_where_they_are():
    assert all(is_held_out(f"{n}01") for n in HELD_OUT)
    assert split_of("cmu_09_11") == "validation"
    assert split_of("cmu_06_11") == "train"
    strangers = [split_of(f"person{i}_01") for i in range(200)]
    assert set(strangers) == set(SPLITS)


def test_further_pools_show_people_of_the_splits():
    pools = by_pool(["cmu_02_01", "cmu_07_01", "cmu_09_06"])
    assert pools["hard"] == pools["test"] == ["cmu_02_01"]
    assert pools["validation"] == ["cmu_09_06"]
    assert all(pools[p] == pools["validation"] for p in ("close", "still", "tumbling"))
    assert pools["train"] == ["cmu_07_01"]


def test_a_longer_benchmark_begins_with_the_clips_of_a_shorter():
    assert set(jobs(SMALL)) <= set(jobs(BenchmarkSettings()))
    pools = [p for p, _ in jobs(BenchmarkSettings())[:40]]
    assert set(pools) == set(POOLS), "an interrupted build has clips of every pool"


@pytest.mark.parametrize("wrong", [{"train": -1}, {"frames": 0}, {"seed": -1}, {"rate": 0.0}])
def test_numbers_that_no_benchmark_can_have(tmp_path: Path, wrong: dict):
    with pytest.raises(MvaiError, match=next(iter(wrong))):
        build_benchmark(tmp_path, tmp_path / "out", replace(SMALL, **wrong), 1, lambda *_: None)
    assert not (tmp_path / "out").exists()


# --- scenes -------------------------------------------------------------------------------------


def test_resampling_keeps_the_movement():
    clip = waving()
    slow, fast = resampled(clip, 15.0), resampled(clip, 60.0)
    np.testing.assert_allclose(slow.pose, clip.pose[::2], atol=1e-5)
    np.testing.assert_allclose(fast.pose[::2], clip.pose[: fast.frames // 2 + 1], atol=1e-5)
    assert slow.fps == 15 and fast.translation.dtype == np.float32


def test_varied_people_move_alike_but_not_the_same():
    clip = waving()
    rng = np.random.default_rng(0)
    others = [varied(clip, rng) for _ in range(6)]
    assert any(not np.allclose(o.pose, clip.pose) for o in others)
    for other in others:
        np.testing.assert_allclose(other.translation[:, 1:], clip.translation[:, 1:])


def test_the_person_is_in_view_unless_cut_off():
    body = anny_body()
    for seed in range(4):
        whole = random_scene(body, waving(), seed, 3, (160, 120))
        px = whole.camera.project(whole.joints_and_points(body, ("nose",))[0].astype(float))
        assert (px > 0).all() and (px < [160, 120]).all()
    outside = []
    for seed in range(4):
        cut = random_scene(body, waving(), seed, 3, (160, 120), ("cut off",))
        px = cut.camera.project(cut.joints_and_points(body, ("nose",))[0].astype(float))
        outside.append(((px < 0) | (px > [160, 120])).any())
    assert any(outside)


def test_true_joints_and_vertices_are_of_one_body():
    body, s = anny_body(), scene()
    points = s.joints_and_points(body, ("left_wrist", "nose"))[1]
    np.testing.assert_allclose(
        body.regress(("left_wrist", "nose"), s.sequence(body).vertices), points, atol=0.006
    )


# --- pictures -----------------------------------------------------------------------------------


def test_pictures_show_the_person_where_the_camera_says():
    body, s = anny_body(), scene()
    pictures = list(draw(body, s))
    assert len(pictures) == 3 and pictures[0].shape == (120, 160, 3)
    changed = np.abs(pictures[0].astype(int) - pictures[2]).sum(-1) > 60
    ys, xs = np.nonzero(changed)
    px = s.camera.project(s.vertices(body).reshape(-1, 3).astype(float))
    assert xs.min() > px[:, 0].min() - 8 and xs.max() < px[:, 0].max() + 8
    assert ys.min() > px[:, 1].min() - 8 and ys.max() < px[:, 1].max() + 8


def test_the_same_seed_draws_the_same_picture():
    body = anny_body()
    first, again = next(draw(body, scene())), next(draw(body, scene()))
    np.testing.assert_array_equal(first, again)
    other = next(draw(body, replace(scene(), seed=6)))
    assert (first != other).mean() > 0.5


def test_a_cover_hides_part_of_the_person():
    body = anny_body()
    plain, covered = next(draw(body, scene())), next(draw(body, scene(("occluded",))))
    assert 0.02 < (plain != covered).any(-1).mean() < 0.95


def test_blur_averages_what_the_shutter_sees():
    s = scene(("blurred",))
    moments = exposures(s, 1)
    assert np.linalg.norm(moments.translation[0] - moments.translation[-1]) > 0.005
    np.testing.assert_allclose(moments.translation[2], s.translation[1], atol=1e-6)
    np.testing.assert_allclose(
        moments.rotations @ moments.rotations.transpose(0, 1, 3, 2),
        np.broadcast_to(np.eye(3), moments.rotations.shape), atol=1e-5,
    )  # fmt: skip


# --- clips on disk ------------------------------------------------------------------------------


def test_a_scene_survives_the_disk(tmp_path):
    s = scene(("occluded",))
    save_scene(tmp_path / "truth.npz", s)
    back = load_scene(tmp_path / "truth.npz")
    np.testing.assert_allclose(back.vertices(anny_body()), s.vertices(anny_body()), atol=1e-6)
    assert back.hardships == ("occluded",) and back.camera.width == 160


def test_a_damaged_clip_is_named(tmp_path):
    (tmp_path / "truth.npz").write_bytes(b"PK")
    with pytest.raises(MvaiError, match=r"truth\.npz: this is no clip"):
        load_scene(tmp_path / "truth.npz")
    with pytest.raises(MvaiError, match="no test clips"):
        list(clips_in(tmp_path, "test"))


@pytest.fixture
def captured(tmp_path, monkeypatch):
    """Motion capture of one person a pool, without BVH files or a detector."""
    names = {"cmu_07_01", "cmu_09_06", "cmu_02_01"}

    def poses(data, body, cache):
        cache.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            clip = replace(waving(), name=name)
            save_pose_clip(clip, cache / f"{name}.npz")
            yield clip

    monkeypatch.setattr(build, "poses_in_folder", poses)
    drawn = []

    def save(folder, scene):
        drawn.append(folder)
        save_scene(folder / "truth.npz", scene)

    monkeypatch.setattr(build, "save_clip", save)
    build._capture.cache_clear()
    return tmp_path, drawn


def test_an_interrupted_build_goes_on(captured, monkeypatch):
    folder, drawn = captured
    save, calls = build.save_clip, []

    def fails_on_the_third(path, scene):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        save(path, scene)

    monkeypatch.setattr(build, "save_clip", fails_on_the_third)
    with pytest.raises(KeyboardInterrupt):
        build_benchmark(folder, folder / "out", SMALL, 1, lambda done, total: None)
    assert len(list((folder / "out").glob("*/*/truth.npz"))) == 2
    assert not list((folder / "out").glob(".*")), "nothing half-written is left"
    monkeypatch.setattr(build, "save_clip", save)
    seen = []
    build_benchmark(folder, folder / "out", SMALL, 1, lambda *counts: seen.append(counts))
    assert len(drawn) == 8 and seen[0] == (2, 8) and seen[-1] == (8, 8)
    assert all(c.scene.frames == 4 for p in POOLS for c in clips_in(folder / "out", p))
    assert all(c.scene.hardships for c in clips_in(folder / "out", "hard"))


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is held there, nor cleared")
def test_what_a_killed_build_leaves_is_cleared_by_the_next(captured):
    folder, _ = captured
    out = folder / "out"
    others = [out / ".train-notes", out / ".git"]
    for other in others:
        other.mkdir(parents=True)
    works = (
        "import sys, time; from pathlib import Path\n"
        "from mvai.benchmark.work_folders import work_folder\n"
        "with work_folder(Path(sys.argv[1]), 'train', 7) as work:\n"
        "    (work / 'video.mp4').write_bytes(b'half')\n"
        "    print(work, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", works, out], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        work = Path(process.stdout.readline().decode().strip())
        build_benchmark(folder, out, SMALL, 1, lambda done, total: None)
        assert (work / "video.mp4").exists(), "its writer is alive"
        process.terminate()
    assert work.parent == out and (work / "video.mp4").exists(), "no clean-up ran"
    build_benchmark(folder, out, SMALL, 1, lambda done, total: None)
    assert not work.exists() and all(other.is_dir() for other in others)


def test_a_pool_without_people_is_named(captured):
    folder, _ = captured
    settings = replace(SMALL, frames=400)
    with pytest.raises(MvaiError, match="no motion capture of"):
        build_benchmark(folder, folder / "out", settings, 1, lambda done, total: None)


def test_other_detectors_see_the_same_clips(tmp_path, monkeypatch):
    seen = []

    class Detector:
        def detect(self, video, progress=None):
            seen.append(video.path)
            if len(seen) == 2:
                raise KeyboardInterrupt
            if len(seen) == 3:
                raise NobodyError("nobody")
            keypoints = next(clips_in(TINY, "test")).keypoints()
            assert keypoints is not None
            return replace(keypoints, confidence=0 * keypoints.confidence)

    clip = TINY / "test" / "00000"
    for number in ("00000", "00003"):
        shutil.copytree(clip, tmp_path / "a" / "train" / number)
    out = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        detect_benchmark(tmp_path / "a", out, Detector(), (), lambda d, t: None)
    assert [p.name for p in out.glob("*/*")] == ["00000"]
    told = []
    assert detect_benchmark(tmp_path / "a", out, Detector(), (), lambda *n: told.append(n)) == 2
    assert told == [(1, 2), (2, 2)]
    first, second = clips_in(out, "train")
    keypoints = first.keypoints()
    assert keypoints is not None and not keypoints.confidence.any()
    assert second.keypoints() is None, "nobody was found"
    np.testing.assert_array_equal(first.scene.rotations, load_scene(clip / "truth.npz").rotations)
    assert (out / "train/00003/video.mp4").read_bytes() == (clip / "video.mp4").read_bytes()
    for arguments, words in (
        ((out, out, ()), "itself"),
        ((out, tmp_path / "c", ("all",)), "no such"),
    ):
        with pytest.raises(MvaiError, match=words):
            detect_benchmark(*arguments[:2], Detector(), arguments[2], lambda d, t: None)


def test_a_detector_that_cannot_be_read_sees_nobody_nowhere(tmp_path):
    """A wrong file must not make a benchmark without people."""
    detector = MediapipeHolistic(file=tmp_path / "none.tflite")
    with pytest.raises(MvaiError, match="no such file"):
        detect_benchmark(TINY, tmp_path / "out", detector, (), lambda d, t: None)
    assert not list((tmp_path / "out").glob("*/*"))


def test_unknown_backbones_and_pools_are_named(tmp_path):
    with pytest.raises(MvaiError, match="no such backbone"):
        reconstruct_benchmark(tmp_path, "wham", ["test"], None, lambda d, t: None)
    with pytest.raises(MvaiError, match="no such clips"):
        reconstruct_benchmark(tmp_path, "smplify-x", ["all"], None, lambda d, t: None)
    with pytest.raises(MvaiError, match="no benchmark here"):
        reconstruct_benchmark(tmp_path, "smplify-x", [], None, lambda d, t: None)


def test_the_tiny_benchmark_is_reconstructed(tmp_path):
    """The shipped clips: a real detector's key-points, reconstructed near the truth."""
    from mvai.evaluate.table1 import measures

    shutil.copytree(TINY / "test", tmp_path / "b" / "test")
    done = reconstruct_benchmark(tmp_path / "b", "smplify-x", ["test"], None, lambda d, t: None)
    assert done == len(list(clips_in(TINY, "test")))
    for clip in clips_in(tmp_path / "b", "test"):
        raw = clip.reconstruction("smplify-x")
        assert raw is not None and raw.frames == clip.scene.frames
        errors = measures(raw, clip.scene.sequence(anny_body()))
        assert errors["pa_mpjpe_mm"] <= errors["mpjpe_mm"] < 250
    # The benchmark has no other clips, so no pool named means this one.
    again = reconstruct_benchmark(tmp_path / "b", "smplify-x", [], None, lambda d, t: None)
    assert again == 0
