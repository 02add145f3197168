"""Bad input at the command: one sentence, exit code 2, nothing left, finished stages kept."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import trimesh

import fake_stages
from fake_stages import CALLS, fails
from mvai.cli import main
from mvai.detect.openpose import BODY_25
from mvai.io.archive import read_archive
from mvai.io.video import write_video


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A good clip and a good character, and stages that take no time."""
    fake_stages.install(monkeypatch)
    return fake_stages.clip(tmp_path / "clip.mp4"), fake_stages.character(tmp_path / "hero.ply")


def refused(capfd, video: Path, character: Path, out: Path, *words: str, options=()) -> None:
    """The command says one sentence with these words, exits with 2 and leaves nothing behind."""
    folder = video.parent
    before = sorted(folder.rglob("*"))
    capfd.readouterr()
    code = main(["imitate", str(video), "--identity", str(character), "-o", str(out), *options])
    assert code == 2
    said = capfd.readouterr()
    # Stages that were finished have a line of their own before the sentence.
    *stages, sentence = said.err.strip().splitlines()
    assert all(" s" in line and ": " in line for line in stages), said.err
    assert "Traceback" not in said.err and said.out == ""
    assert sentence.endswith((".", ")."))
    for word in words:
        assert word in sentence, sentence
    assert [p for p in sorted(folder.rglob("*")) if not p.name.endswith(".mvai.npz")] == before


# --- video --------------------------------------------------------------------------------------


def bad_videos(folder: Path) -> dict[str, Path]:
    whole = fake_stages.clip(folder / "whole.mp4", frames=40)
    (folder / "empty.mp4").touch()
    (folder / "truncated.mp4").write_bytes(whole.read_bytes()[:300])
    (folder / "text.mp4").write_text("not a video, whatever its name says\n" * 50)
    (folder / "no_images").mkdir()
    return {
        "missing": folder / "missing.mp4",
        "empty": folder / "empty.mp4",
        "truncated": folder / "truncated.mp4",
        "text": folder / "text.mp4",
        "sound": fake_stages.sound_only(folder / "sound.mp4"),
        "frames": fake_stages.without_frames(folder / "frames.mkv"),
        "folder": folder / "no_images",
    }


def test_videos_that_cannot_be_used(inputs, tmp_path: Path, capfd):
    words = {"missing": "no such file", "empty": "empty", "sound": "video", "folder": "no images"}
    for kind, path in bad_videos(tmp_path).items():
        refused(capfd, path, inputs[1], tmp_path / "out.glb", path.name, words.get(kind, ""))
    assert CALLS == []


def test_a_video_that_is_cut_off_is_used_and_named(inputs, tmp_path: Path, capfd):
    """Frames that are there are worth having; the user is told that some are not."""
    whole = tmp_path / "whole.mkv"
    with write_video(whole, 30, 64, 64) as writer:
        for i in range(60):
            writer.write(np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    out = tmp_path / "out.npz"
    assert main(["imitate", str(cut), "--identity", str(inputs[1]), "-o", str(out)]) == 0
    assert 20 < read_archive(out).keypoints.frames < 60


# --- people -------------------------------------------------------------------------------------


def test_nobody_in_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    """With the real detector, whose libraries must not add words of their own."""
    fake_stages.install(monkeypatch, "reconstruct", "transfer")
    clip = fake_stages.clip(tmp_path / "clip.mp4", frames=9, size=96)
    hero = fake_stages.character(tmp_path / "hero.ply")
    refused(capfd, clip, hero, tmp_path / "out.glb", "clip.mp4", "no person")
    assert CALLS == ["register"]


def openpose(folder: Path, frames: int, seen: range, height_px: float) -> Path:
    """Files of a person who stands in the middle of a picture of 640 by 480 pixels."""
    folder.mkdir()
    y = {"nose": 0.05, "neck": 0.15, "shoulder": 0.16, "elbow": 0.35, "wrist": 0.5,
         "eye": 0.03, "ear": 0.04, "hip": 0.5, "knee": 0.75, "ankle": 0.95, "toe": 1.0,
         "heel": 0.98}  # fmt: skip
    points = []
    for name in BODY_25:
        side = 0.1 * (("left" in name) - ("right" in name))
        down = next(v for k, v in y.items() if k in name)
        points += [320 + height_px * side, 200 + height_px * (down - 0.5), 0.9]
    for i in range(frames):
        people = [{"pose_keypoints_2d": points}] if i in seen else []
        (folder / f"clip_{i:06}_keypoints.json").write_text(json.dumps({"people": people}))
    return folder


@pytest.mark.parametrize(
    ("seen", "height_px", "words"),
    [
        (range(5, 8), 300, ("3 of 30 frames",)),
        (range(30), 10, ("10 pixels tall",)),
        (range(0), 300, ("nobody",)),
    ],
)
def test_too_little_of_a_person(tmp_path, monkeypatch, capfd, seen, height_px, words):
    fake_stages.install(monkeypatch, "reconstruct", "transfer")
    clip = fake_stages.clip(tmp_path / "clip.mp4", frames=30, size=480)
    hero = fake_stages.character(tmp_path / "hero.ply")
    folder = openpose(tmp_path / "openpose", 30, seen, height_px)
    options = ["--detect", "openpose", "--detect.folder", str(folder)]
    refused(capfd, clip, hero, tmp_path / "out.glb", "openpose", *words, options=options)


def test_a_person_who_is_not_there(tmp_path, monkeypatch, capfd):
    fake_stages.install(monkeypatch, "reconstruct", "transfer")
    clip = fake_stages.clip(tmp_path / "clip.mp4", frames=30, size=480)
    hero = fake_stages.character(tmp_path / "hero.ply")
    folder = openpose(tmp_path / "openpose", 30, range(30), 300)
    options = ["--detect", "openpose", "--detect.folder", str(folder), "--person", "3"]
    refused(capfd, clip, hero, tmp_path / "out.glb", "person", options=options)


# --- characters ---------------------------------------------------------------------------------


def box_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    lines = [f"v {x} {y} {z}" for x, y, z in vertices]
    path.write_text("\n".join(lines + [f"f {a} {b} {c}" for a, b, c in faces + 1]) + "\n")
    return path


def bad_characters(folder: Path) -> dict[str, Path]:
    vertices, faces = np.asarray(fake_stages.BOX.vertices), np.asarray(fake_stages.BOX.faces)
    nan = vertices.copy()
    nan[3, 1] = np.nan
    (folder / "text.glb").write_text("no mesh in here")
    (folder / "empty.obj").touch()
    (folder / "hero.fbx").write_bytes(b"Kaydara FBX Binary")
    (folder / "hero.txt").write_text("v 0 0 0")
    return {
        "missing": folder / "missing.obj",
        "empty": folder / "empty.obj",
        "text": folder / "text.glb",
        "fbx": folder / "hero.fbx",
        "txt": folder / "hero.txt",
        "faces": box_obj(folder / "points.obj", vertices, faces[:0]),
        "nan": box_obj(folder / "nan.obj", nan, faces),
        "flat": box_obj(folder / "flat.obj", vertices * 0, faces),
    }


def test_characters_that_cannot_be_used(inputs, tmp_path: Path, capfd):
    words = {"missing": "no such file", "faces": "faces", "nan": "finite", "fbx": ".glb"}
    for kind, path in bad_characters(tmp_path).items():
        refused(capfd, inputs[0], path, tmp_path / "out.glb", path.name, words.get(kind, ""))
    assert CALLS == []


def person(x: float) -> trimesh.Trimesh:
    """A torso with a head, two legs and two arms, x metres to the side."""
    pieces = [((0.35, 0.7, 0.2), (0, 1.15, 0)), ((0.2, 0.25, 0.22), (0, 1.62, 0.01))]
    for side in (-1, 1):
        pieces.append(((0.13, 0.8, 0.14), (0.11 * side, 0.4, 0)))
        pieces.append(((0.1, 0.65, 0.1), (0.27 * side, 1.1, 0)))
    boxes = [trimesh.creation.box(s).apply_translation(np.add(c, (x, 0, 0))) for s, c in pieces]
    return trimesh.util.concatenate([b.subdivide().subdivide() for b in boxes])


def test_two_people_in_one_file(inputs, tmp_path: Path, capfd):
    trimesh.util.concatenate([person(-0.6), person(0.6)]).export(tmp_path / "two.ply")
    refused(capfd, inputs[0], tmp_path / "two.ply", tmp_path / "out.glb", "two.ply", "two people")
    person(0).export(tmp_path / "one.ply")
    arguments = ["imitate", str(inputs[0]), "--identity", str(tmp_path / "one.ply")]
    assert main([*arguments, "-o", str(tmp_path / "out.glb")]) == 0


def test_scenery_is_left_out_with_a_note(inputs, tmp_path: Path, capfd):
    floor = trimesh.creation.box((6, 0.02, 6)).apply_translation((0, -0.01, 0))
    trimesh.util.concatenate([person(0), floor]).export(tmp_path / "scene.ply")
    arguments = ["imitate", str(inputs[0]), "--identity", str(tmp_path / "scene.ply")]
    assert main([*arguments, "-o", str(tmp_path / "out.glb")]) == 0
    said = capfd.readouterr().err
    assert "scenery" in said and "scene.ply" in said and "Warning" not in said


def test_duplicated_and_flat_faces_are_tolerated(inputs, tmp_path: Path, capfd):
    vertices, faces = np.asarray(fake_stages.BOX.vertices), np.asarray(fake_stages.BOX.faces)
    messy = box_obj(
        tmp_path / "messy.obj", vertices, np.concatenate([faces, faces[:4], [[1, 1, 2], [3, 3, 3]]])
    )
    out = tmp_path / "out.glb"
    assert main(["imitate", str(inputs[0]), "--identity", str(messy), "-o", str(out)]) == 0
    assert out.exists()


def test_a_million_vertices_are_carried_through(inputs, tmp_path: Path, capfd):
    side = 1000
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    height = 1.7 * grid[:, 1] / side
    turn = 2 * np.pi * grid[:, 0] / side
    vertices = np.stack([0.3 * np.cos(turn), height, 0.2 * np.sin(turn)], axis=1)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.stack([corner, corner + 1, corner + side], axis=1)
    trimesh.Trimesh(vertices, faces, process=False).export(tmp_path / "scan.ply")
    out = tmp_path / "out.glb"
    arguments = ["imitate", str(inputs[0]), "--identity", str(tmp_path / "scan.ply")]
    assert main([*arguments, "-o", str(out)]) == 0
    assert out.stat().st_size > 12e6


def test_what_the_system_refuses_is_said_in_words(inputs, tmp_path: Path, monkeypatch, capfd):
    """Whoever tests as root may read everything, so the refusal is made up."""

    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    refused(capfd, locked, inputs[1], tmp_path / "out.glb", "locked", "permission denied")


# --- outputs and interruptions ------------------------------------------------------------------


def test_outputs_that_cannot_be_written(inputs, tmp_path: Path, capfd):
    (tmp_path / "folder.glb").mkdir()
    for out, word in (
        (tmp_path / "nowhere" / "out.glb", "does not exist"),
        (tmp_path / "folder.glb", "folder"),
        (inputs[0] / "out.glb", "not a folder"),
        (tmp_path / "out.blend", ".glb, .npz, .mp4, .png"),
        (Path("/proc/out.glb"), "/proc/out.glb"),
        (Path("/dev/full"), "/dev/full"),
    ):
        refused(capfd, *inputs, out, word)
    assert CALLS == []


def test_outputs_over_inputs_and_over_each_other(inputs, tmp_path: Path, capfd):
    clip, hero = inputs
    frames = tmp_path / "frames"
    frames.mkdir()
    out = tmp_path / "out.glb"
    refused(capfd, clip, hero, clip, "clip.mp4", "is read")
    refused(capfd, frames, hero, frames / "sheet.png", "sheet.png", "a frame of")
    refused(capfd, clip, hero, out, "out.glb", "twice", options=["-o", f"{tmp_path}/./out.glb"])
    kept = str(tmp_path / "out.mvai.npz")
    refused(capfd, clip, hero, out, kept, "kept", options=["-o", kept])
    refused(capfd, clip, hero, tmp_path / f"{'long' * 100}.glb", "too long")
    assert CALLS == []

    archive = tmp_path / "all.npz"
    assert main(["imitate", str(clip), "--identity", str(hero), "-o", str(archive)]) == 0
    before = clip.read_bytes()
    assert main(["preview", str(archive), "-o", str(clip)]) == 2
    assert clip.read_bytes() == before and "is read" in capfd.readouterr().err


def test_an_archive_is_not_made_over(inputs, tmp_path: Path, capfd):
    archive = tmp_path / "all.npz"
    assert main(["imitate", *map(str, (inputs[0], "--identity", inputs[1], "-o", archive))]) == 0
    for options in (["--fps", "-1"], ["--person", "1"], ["--body-model", "anny"]):
        assert main(["convert", str(archive), "-o", str(tmp_path / "new.npz"), *options]) == 2
        assert "as it is" in capfd.readouterr().err
    assert main(["preview", "", "-o", str(tmp_path / "sheet.png")]) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(inputs, tmp_path: Path, capfd):
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(capfd, *inputs, tmp_path / "locked" / "out.glb", "not allowed")


def test_full_disk_keeps_finished_stages(inputs, tmp_path: Path, monkeypatch, capfd):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out.glb"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        refused(capfd, *inputs, out, "out.glb", "no space left")
    assert read_archive(tmp_path / "out.mvai.npz").raw is not None
    CALLS.clear()
    assert main(["imitate", str(inputs[0]), "--identity", str(inputs[1]), "-o", str(out)]) == 0
    assert CALLS == ["register", "transfer"]


def test_full_disk_while_stages_are_kept(inputs, tmp_path: Path, monkeypatch, capfd):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array", full)
    refused(capfd, *inputs, tmp_path / "out.glb", "no space left")
    assert not list(tmp_path.glob("*.mvai.npz"))


def test_a_file_that_outgrows_its_limit(inputs, tmp_path: Path, capfd):
    """A real write that fails half-way, by the system's limit on the size of files."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, old[1]))
    try:
        refused(capfd, *inputs, tmp_path / "out.glb", "could not be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("stage", ["register", "detect", "reconstruct", "transfer"])
def test_ctrl_c_in_a_stage(inputs, tmp_path: Path, capfd, stage: str):
    fails(stage, KeyboardInterrupt())
    kept = tmp_path / "out.mvai.npz"
    early = stage in ("register", "detect")
    words = ["Interrupted", "nothing was left half-written" if early else str(kept)]
    refused(capfd, *inputs, tmp_path / "out.glb", *words)
    assert kept.exists() is not early
    if not early:
        assert read_archive(kept).keypoints is not None


def test_ctrl_c_while_writing(inputs, tmp_path: Path, monkeypatch, capfd):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    (tmp_path / "out.glb").write_text("an older result")
    refused(capfd, *inputs, tmp_path / "out.glb", "Interrupted")
    assert (tmp_path / "out.glb").read_text() == "an older result"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_real_interrupt_of_a_real_process(tmp_path: Path):
    clip = fake_stages.clip(tmp_path / "clip.mp4")
    hero = fake_stages.character(tmp_path / "hero.ply")
    out = tmp_path / "out.glb"
    script = textwrap.dedent(
        f"""
        import signal, sys, time
        # A job in the background of a shell starts with interrupts ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import fake_stages, pytest
        from mvai.cli import main
        fake_stages.install(pytest.MonkeyPatch())
        def slow(self, keypoints, progress=None):
            print("now", flush=True)
            time.sleep(60)
        fake_stages.FakeReconstructor.reconstruct = slow
        sys.exit(main(["imitate", {str(clip)!r}, "--identity", {str(hero)!r}, "-o", {str(out)!r}]))
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2, err
    assert err.strip().splitlines()[-1].startswith("Interrupted") and "Traceback" not in err
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"clip.mp4", "hero.ply", "out.mvai.npz"}
