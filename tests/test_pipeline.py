"""The chain: what is reused, what is kept, what is written. Stages that take no time stand in."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fake_stages
import mvai
from fake_stages import CALLS, FakeReconstructor, FakeTransfer, fails
from mvai import pipeline
from mvai.detect.openpose import OpenPoseFiles
from mvai.imitation import check_outputs, kept_path
from mvai.io.archive import read_archive
from mvai.smooth.gaussian import Gaussian
from mvai.types import MvaiError


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    fake_stages.install(monkeypatch)
    return fake_stages.clip(tmp_path / "clip.mp4"), fake_stages.character(tmp_path / "hero.ply")


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def assert_all_ran() -> None:
    """Every stage once; the character is looked at while the detection runs."""
    assert sorted(CALLS[:2]) == ["detect", "register"]
    assert CALLS[2:] == ["reconstruct", "transfer"]


def test_three_lines_of_python(inputs, tmp_path: Path):
    animation = mvai.imitate(*inputs)
    animation.save(tmp_path / "hero_acting.glb")
    assert (tmp_path / "hero_acting.glb").stat().st_size > 1000
    assert_all_ran()
    assert animation.keypoints.frames == animation.sequence.frames == animation.animation.frames
    assert animation.sequence_raw is not animation.sequence
    assert {"read inputs", "detect", "reconstruct", "smooth", "transfer"} <= set(animation.seconds)
    assert names(tmp_path) == {"clip.mp4", "hero.ply", "hero_acting.glb"}


def test_archive_says_how_it_was_made(inputs, tmp_path: Path):
    mvai.imitate(*inputs, smooth=Gaussian(0.2), outputs=[tmp_path / "a.npz"])
    archive = read_archive(tmp_path / "a.npz")
    assert list(archive.stages) == ["detect", "reconstruct", "smooth", "transfer"]
    assert archive.stages["smooth"].method == "gaussian"
    assert archive.stages["smooth"].settings == {"sigma_s": 0.2}
    assert len(archive.video_sha256) == 64 and Path(archive.video).samefile(inputs[0])
    assert names(tmp_path) == {"clip.mp4", "hero.ply", "a.npz"}


def test_a_part_of_the_video(inputs, tmp_path: Path, monkeypatch):
    shown = []

    def written(path, animation, sequence, video, height_px, progress):
        shown.extend(float(f.mean()) for f in video)

    monkeypatch.setattr("mvai.view.preview.write_preview", written)
    done = mvai.imitate(*inputs, start_s=0.1, end_s=0.3, outputs=[tmp_path / "a.npz"])
    assert done.animation.frames == done.sequence.frames == 6
    again = mvai.open_archive(tmp_path / "a.npz")
    assert again.archive.video_part == (3, 9)
    again.save(tmp_path / "a.mp4")
    # The picture grows brighter by 5 a frame.
    np.testing.assert_allclose(shown, [40 + 5 * i for i in range(3, 9)], atol=2)
    with pytest.raises(MvaiError, match="nothing is shown from 9 s on"):
        mvai.imitate(*inputs, start_s=9.0)


def test_another_part_is_not_taken_from_an_earlier_run(inputs, tmp_path: Path):
    out = tmp_path / "out.glb"
    fails("transfer")
    with pytest.raises(MvaiError, match="does not like"):
        mvai.imitate(*inputs, end_s=0.3, outputs=[out])
    CALLS.clear()
    fake_stages.RAISES.clear()
    done = mvai.imitate(*inputs, start_s=0.1, outputs=[out])
    assert_all_ran()
    assert done.animation.frames == 9


@pytest.mark.parametrize(
    ("stage", "finished", "ran_again"),
    [
        ("reconstruct", {"keypoints"}, ["register", "reconstruct", "transfer"]),
        ("transfer", {"keypoints", "raw"}, ["register", "transfer"]),
    ],
)
def test_a_later_failure_keeps_finished_stages(inputs, tmp_path, stage, finished, ran_again):
    out = tmp_path / "out.glb"
    fails(stage)
    with pytest.raises(MvaiError, match="does not like"):
        mvai.imitate(*inputs, outputs=[out])
    assert names(tmp_path) == {"clip.mp4", "hero.ply", "out.mvai.npz"}
    kept = read_archive(kept_path([out]))
    results = ("keypoints", "raw", "smoothed", "animation")
    assert {r for r in results if getattr(kept, r) is not None} == finished

    CALLS.clear()
    fake_stages.RAISES.clear()
    mvai.imitate(*inputs, outputs=[out])
    assert ran_again == CALLS
    assert names(tmp_path) == {"clip.mp4", "hero.ply", "out.glb"}


def interrupted(inputs, out: Path, stage: str = "transfer", **settings) -> None:
    fails(stage, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        mvai.imitate(*inputs, outputs=[out], **settings)
    CALLS.clear()
    fake_stages.RAISES.clear()


def test_the_result_does_not_depend_on_the_interruption(inputs, tmp_path: Path):
    mvai.imitate(*inputs, outputs=[tmp_path / "whole.npz"])
    interrupted(inputs, tmp_path / "parts.npz")
    mvai.imitate(*inputs, outputs=[tmp_path / "parts.npz"])
    whole, parts = (read_archive(tmp_path / f"{n}.npz") for n in ("whole", "parts"))
    np.testing.assert_allclose(whole.smoothed.vertices, parts.smoothed.vertices, atol=1e-4)
    np.testing.assert_allclose(
        whole.animation.Ts_world_joint, parts.animation.Ts_world_joint, atol=1e-4
    )
    assert {k: r.key for k, r in whole.stages.items()} == {
        k: r.key for k, r in parts.stages.items()
    }


def test_other_settings_are_not_taken_from_an_earlier_run(inputs, tmp_path: Path):
    out = tmp_path / "out.glb"
    interrupted(inputs, out)
    mvai.imitate(*inputs, outputs=[out], reconstruct=FakeReconstructor(stiffness=2.0))
    assert CALLS == ["register", "reconstruct", "transfer"]
    interrupted(inputs, out)
    mvai.imitate(*inputs, outputs=[out], person=1)
    assert_all_ran()


def test_another_video_of_the_same_name_is_not_mistaken(inputs, tmp_path: Path):
    out = tmp_path / "out.glb"
    interrupted(inputs, out)
    fake_stages.clip(inputs[0], frames=9)
    assert mvai.imitate(*inputs, outputs=[out]).sequence.frames == 9
    assert_all_ran()


def test_smoothing_and_transfer_change_without_detection(inputs, tmp_path: Path):
    out = tmp_path / "out.glb"
    interrupted(inputs, out)
    mvai.imitate(*inputs, outputs=[out], smooth="none", transfer=FakeTransfer(spin=True))
    assert CALLS == ["register", "transfer"]


def test_a_damaged_or_unwanted_kept_file_is_not_used(inputs, tmp_path: Path):
    out = tmp_path / "out.glb"
    kept_path([out]).write_text("rubbish")
    mvai.imitate(*inputs, outputs=[out])
    assert_all_ran()
    interrupted(inputs, out)
    mvai.imitate(*inputs, outputs=[out], resume=False)
    assert_all_ran()
    assert names(tmp_path) == {"clip.mp4", "hero.ply", "out.glb"}


def test_a_bad_character_stops_the_detection(inputs, tmp_path: Path, monkeypatch):
    fails("register")
    frames = []

    def endless(self, video, progress=None):
        for frame in range(10_000):
            frames.append(frame)
            progress(frame, None)
            time.sleep(0.01)
        raise AssertionError("It was not stopped.")

    monkeypatch.setattr(fake_stages.FakeDetector, "detect", endless)
    with pytest.raises(MvaiError, match="register"):
        mvai.imitate(*inputs, outputs=[tmp_path / "out.glb"])
    assert CALLS == ["register"] and len(frames) < 1000
    assert names(tmp_path) == {"clip.mp4", "hero.ply"}
    assert not [t for t in threading.enumerate() if t.name.startswith("detect")]


def test_the_detection_goes_on_while_the_character_is_looked_at(inputs, monkeypatch):
    met = threading.Barrier(2, timeout=20)
    register, detect = fake_stages.FakeTransfer.register, fake_stages.FakeDetector.detect

    def meets(function):
        def wrapped(*args, **kwargs):
            met.wait()
            return function(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(fake_stages.FakeTransfer, "register", meets(register))
    monkeypatch.setattr(fake_stages.FakeDetector, "detect", meets(detect))
    mvai.imitate(*inputs)
    assert_all_ran()


def test_an_archive_goes_on_with_another_character(inputs, tmp_path: Path):
    mvai.reconstruct_video(inputs[0], outputs=[tmp_path / "seq.npz"])
    assert CALLS == ["detect", "reconstruct"]
    other = fake_stages.character(tmp_path / "other.obj")
    CALLS.clear()
    done = mvai.transfer_sequence(
        tmp_path / "seq.npz", other, outputs=[tmp_path / "o.glb", tmp_path / "o.npz"]
    )
    assert CALLS == ["register", "transfer"]
    assert done.animation.character.name == "other"
    again = mvai.open_archive(tmp_path / "o.npz")
    assert again.animation.frames == done.animation.frames
    with pytest.raises(MvaiError, match="no character"):
        _ = mvai.open_archive(tmp_path / "seq.npz").animation


def test_outputs_are_checked_before_any_work(inputs, tmp_path: Path):
    (tmp_path / "folder.glb").mkdir()
    before = names(tmp_path)
    for bad, word in (
        ("out.fbx", ".glb, .npz, .mp4, .png"),
        ("out", ".glb"),
        ("nowhere/out.glb", "nowhere"),
        ("folder.glb", "folder"),
        ("clip.mp4/out.glb", "not a folder"),
    ):
        with pytest.raises(MvaiError, match=word):
            mvai.imitate(*inputs, outputs=[tmp_path / "good.glb", tmp_path / bad])
    with pytest.raises(MvaiError, match=r"\.npz"):
        mvai.reconstruct_video(inputs[0], outputs=[tmp_path / "out.glb"])
    assert CALLS == [] and names(tmp_path) == before


def test_checking_an_output_leaves_what_is_there(tmp_path: Path):
    (tmp_path / "old.glb").write_text("precious")
    check_outputs([tmp_path / "old.glb", tmp_path / "new.glb"])
    assert (tmp_path / "old.glb").read_text() == "precious"
    assert names(tmp_path) == {"old.glb"}


def test_methods_by_name_and_by_settings():
    assert pipeline.configured("smooth", "gaussian") == Gaussian()
    assert pipeline.configured("smooth", Gaussian(0.3)) == Gaussian(0.3)
    assert pipeline.method_name("smooth", Gaussian()) == "gaussian"
    with pytest.raises(MvaiError, match=r"wobble.*savgol"):
        pipeline.configured("smooth", "wobble")
    with pytest.raises(MvaiError, match="openpose"):
        pipeline.configured("detect", "openpose")


def test_files_named_in_settings_are_inputs(tmp_path: Path):
    (tmp_path / "0.json").write_text("{}")
    before = pipeline._stored("detect", OpenPoseFiles(tmp_path), "video").key
    (tmp_path / "0.json").write_text("{ }")
    assert pipeline._stored("detect", OpenPoseFiles(tmp_path), "video").key != before


def test_every_default_is_a_method():
    for stage, name in pipeline.DEFAULTS.items():
        assert name in pipeline.STAGES[stage]
