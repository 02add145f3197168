"""Stages that take no time, in place of the real ones, and small inputs for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import trimesh

from mvai import pipeline
from mvai.io.video import Video, write_video
from mvai.types import Animation, Camera, Character, Keypoints, MeshSequence, MvaiError, Skin

CALLS: list[str] = []
"""Names of the stages that ran, in order."""
RAISES: dict[str, BaseException] = {}
"""What a stage raises instead of returning."""

BOX = trimesh.creation.box((0.5, 1.8, 0.3))


def _begin(stage: str) -> None:
    CALLS.append(stage)
    if stage in RAISES:
        raise RAISES[stage]


@dataclass(frozen=True)
class FakeDetector:
    person: int = 0

    def detect(self, video: Video, progress=None) -> Keypoints:
        _begin("detect")
        frames = video.frames
        if progress is not None:
            progress(frames, frames)
        names = ("nose", "left_hip")
        xy_px = np.random.default_rng(0).random((frames, len(names), 2)) * video.width
        return Keypoints(
            names, xy_px, np.ones(xy_px.shape[:2]), video.fps, video.width, video.height
        )


@dataclass(frozen=True)
class FakeReconstructor:
    stiffness: float = 1.0

    def reconstruct(self, keypoints: Keypoints, progress=None) -> MeshSequence:
        _begin("reconstruct")
        path = np.linspace(0, 1, keypoints.frames)[:, None, None] * [0.3, 0.0, 0.1]
        vertices = (np.asarray(BOX.vertices) + np.array([0, 0.9, -4]) + path).astype(np.float32)
        camera = Camera.from_focal(keypoints.width, keypoints.width, keypoints.height)
        return MeshSequence(vertices, np.asarray(BOX.faces), keypoints.fps, "box", camera)


@dataclass(frozen=True)
class FakeTransfer:
    spin: bool = False

    def register(self, character: Character, detector) -> Character:
        _begin("register")
        return character

    def drive(self, registration: Character, sequence: MeshSequence, source=None) -> Animation:
        _begin("transfer")
        verts = len(registration.mesh.vertices)
        zeros = np.zeros((verts, 1), np.int32)
        skin = Skin(("Hips",), (-1,), np.eye(4)[None], zeros, np.ones((verts, 1), np.float32))
        Ts = np.tile(np.eye(4, dtype=np.float32), (sequence.frames, 1, 1, 1))
        Ts[:, 0, :3, 3] = sequence.vertices.mean(axis=1) - sequence.vertices[0].mean(axis=0)
        return Animation(registration, sequence.fps, skin, Ts, camera=sequence.camera)


def install(monkeypatch: pytest.MonkeyPatch, *stages: str) -> None:
    """Puts the fakes in the place of the default methods, for some stages or all of them."""
    CALLS.clear()
    RAISES.clear()
    fakes = {
        "detect": "FakeDetector",
        "reconstruct": "FakeReconstructor",
        "transfer": "FakeTransfer",
    }
    for stage in stages or fakes:
        name = pipeline.DEFAULTS[stage]
        monkeypatch.setitem(pipeline.STAGES[stage], name, f"fake_stages:{fakes[stage]}")


def fails(stage: str, error: BaseException | None = None) -> None:
    """Makes a stage raise from now on."""
    RAISES[stage] = error or MvaiError(f"the stage {stage} does not like this.")


def clip(path: Path, frames: int = 12, size: int = 64) -> Path:
    """A short video of a grey picture that grows brighter."""
    with write_video(path, 30, size, size) as writer:
        for i in range(frames):
            writer.write(np.full((size, size, 3), 40 + 5 * i, np.uint8))
    return path


def sound_only(path: Path) -> Path:
    """A file with a tone and no picture."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode()]:
            file.mux(packet)
    return path


def without_frames(path: Path) -> Path:
    """A file that announces a video stream and holds none of its frames."""
    whole = clip(path.with_name("whole.mp4"), frames=1)
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        out.add_stream_from_template(source.streams.video[0])
        out.start_encoding()
    whole.unlink()
    return path


def character(path: Path) -> Path:
    """Something of a person's size that is not symmetric from front to back."""
    mesh = BOX.copy()
    mesh.vertices[mesh.vertices[:, 1] < 0] += [0, 0, 0.05]
    mesh.export(path)
    return path
