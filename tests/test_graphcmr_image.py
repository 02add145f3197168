"""GraphCMR with the authors' checkpoint: pictures to the body, and the chain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fake_stages
from graphcmr_image_makers import (
    BOX_SIDE,
    CAMERA,
    COARSE,
    FPS,
    FRAMES,
    HEIGHT,
    REGRESSOR,
    UPRIGHT,
    WIDTH,
    known_answer,
    seen,
    write_files,
)
from graphcmr_makers import (
    write_checkpoint,
)
from mvai import pipeline
from mvai.body.smpl import smpl_body
from mvai.cli import main
from mvai.io.archive import read_archive
from mvai.io.video import open_video, write_video
from mvai.pipeline import Methods, reconstruct_video
from mvai.progress import Silent, Stopwatch
from mvai.reconstruct.graphcmr_image import GraphCmrImage, crop, person_boxes, placed
from mvai.types import Keypoints, MvaiError
from smpl_makers import FILES


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("graphcmr"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    rng = np.random.default_rng(0)
    with write_video(path, FPS, WIDTH, HEIGHT) as writer:
        for i in range(FRAMES):
            image = np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((20, 20, 1)))
            writer.write((image * (0.3 + 0.2 * i)).astype(np.uint8))
    return path


@dataclass(frozen=True)
class KnownDetector:
    person: int = 0

    def detect(self, video, progress=None) -> Keypoints:
        fake_stages.CALLS.append("detect")
        return seen()


def test_the_crop_is_square_and_black_outside():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) + 1
    np.testing.assert_array_equal(crop(image, np.array([1, 0, 3])), image[:3, 1:4])
    out = crop(image, np.array([-2, 2, 5]))
    np.testing.assert_array_equal(out[:2, 2:], image[2:, :3])
    assert out.shape == (5, 5, 3) and not out[2:].any() and not out[:, :2].any()
    assert not crop(image, np.array([50, 50, 4])).any()


def test_the_box_is_around_the_body_that_is_seen():
    keypoints = seen()
    boxes, found = person_boxes(keypoints)
    # Of the body's key-points alone: the stray wrist of the hand does not count.
    np.testing.assert_array_equal(boxes[0], [120 - BOX_SIDE / 2, 126 - BOX_SIDE / 2, BOX_SIDE])
    assert found.all()
    present = np.arange(FRAMES) != 1
    xy = keypoints.xy_px.copy()
    xy[3] = np.nan
    boxes, found = person_boxes(replace(keypoints, xy_px=xy, present=present))
    assert np.flatnonzero(~found).tolist() == [1, 3]
    np.testing.assert_array_equal(boxes[3], boxes[2])
    with pytest.raises(MvaiError, match="three key-points"):
        person_boxes(replace(keypoints, confidence=0.1 * keypoints.confidence))


def test_the_crops_camera_becomes_that_of_the_picture():
    """The body's origin falls on the pixel that the crop's camera says, at the original's depth."""
    rng = np.random.default_rng(0)
    camera = rng.uniform([0.5, -0.3, -0.3], [1.2, 0.3, 0.3], (20, 3))
    boxes = rng.integers([-50, -50, 60], [250, 180, 200], (20, 3))
    f = 350.0
    view = placed(camera, boxes, f, WIDTH, HEIGHT)
    pixel = f * view.t[:, :2] / view.t[:, 2:] + [WIDTH / 2, HEIGHT / 2]
    crop_unit = camera[:, :1] * camera[:, 1:]
    side = boxes[:, 2:]
    np.testing.assert_allclose(pixel, boxes[:, :2] + side * (crop_unit + 1) / 2)
    np.testing.assert_allclose(view.t[:, 2], 2 * f / (side[:, 0] * camera[:, 0]))
    # What the network takes for the way it looks is the way to the crop's middle.
    middle = boxes[:, :2] + side / 2 - [WIDTH / 2, HEIGHT / 2]
    ray = np.concatenate([middle / f, np.ones((20, 1))], 1)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    np.testing.assert_allclose(view.R[:, :, 2], ray)


def test_a_known_answer_lands_where_it_must(files: Path, video: Path):
    """Weak perspective in the crop and perspective in the picture agree."""
    keypoints = seen(left=40)
    method = GraphCmrImage(files / "models" / "known.pt", files)
    method.check()
    steps: list[tuple[int, int | None]] = []
    opened = open_video(video)
    sequence = method.reconstruct_pictures(
        keypoints, opened, lambda done, total: steps.append((done, total))
    )
    assert sequence.vertices.shape == (FRAMES, 6890, 3) and sequence.vertices.dtype == np.float32
    assert (sequence.topology, sequence.fps) == ("smpl", FPS)
    assert steps[-1] == (FRAMES, FRAMES) and sequence.camera is not None
    body = smpl_body(files / FILES["smpl"], "smpl")
    assert body.origin is not None
    # The body turns about its root joint, and the network counts from the origin of the file.
    surface = body.template.numpy() @ UPRIGHT - body.origin.numpy()
    scale, *shift = CAMERA
    boxes, _ = person_boxes(keypoints)
    want = boxes[0, :2] + BOX_SIDE / 2 * (1 + scale * (surface[:, :2] + shift))
    error = np.linalg.norm(sequence.camera.project(sequence.vertices[3]) - want, axis=1)
    # The body is half a metre deep and stands 3.8 m away.
    assert np.median(error) < 4 and error.max() < 20
    # Level, on the floor, and facing the camera.
    frame = sequence.vertices[0]
    head = body.regress(("Head", "left_ankle"), frame[None])[0]
    assert head[0, 1] - head[1, 1] > 1.2
    assert abs(frame[:, 1].min()) < 0.05
    nose, hips = body.regress(("nose", "Head"), frame[None])[0]
    centre = np.linalg.inv(sequence.camera.T_camera_world)[:3, 3]
    assert (nose - hips) @ (centre - hips) > 0
    # The same without parameters: here all vertices are one point.
    graph = replace(method, mesh="graph").reconstruct_pictures(keypoints, opened)
    point = graph.vertices[0]
    np.testing.assert_allclose(point, np.broadcast_to(point[0], point.shape), atol=1e-3)
    want = boxes[0, :2] + BOX_SIDE / 2 * (1 + scale * (np.array([0.2, -0.3]) + shift))
    assert np.linalg.norm(graph.camera.project(point[:1])[0] - want) < 3  # type: ignore[union-attr]


def test_frames_without_the_person_repeat_their_neighbours(files: Path, video: Path):
    whole = seen()
    # Without feet, as a detector of COCO's points gives it.
    keep = [i for i, n in enumerate(whole.names) if "foot" not in n]
    keypoints = replace(
        whole,
        names=tuple(whole.names[i] for i in keep),
        xy_px=whole.xy_px[:, keep],
        confidence=whole.confidence[:, keep],
        present=np.arange(FRAMES) != 2,
    )
    method = GraphCmrImage(files / "models" / "random.pt", files)
    sequence = method.reconstruct_pictures(keypoints, open_video(video))
    assert sequence.confidence is not None
    assert np.flatnonzero(sequence.confidence == 0).tolist() == [2]
    moved = np.abs(np.diff(sequence.vertices, axis=0)).max((1, 2))
    # A random network says something else of every picture.
    assert moved[1] == 0 and (moved[[0, 2]] > 1e-4).all()
    with pytest.raises(MvaiError, match="4 frames and the key-points 3"):
        short = replace(keypoints, xy_px=keypoints.xy_px[1:], confidence=keypoints.confidence[1:],
                        present=None)  # fmt: skip
        method.reconstruct_pictures(short, open_video(video))


def test_a_checkpoint_that_sees_nobody_is_named(files: Path, video: Path, tmp_path: Path):
    def nobody(content: dict) -> None:
        known_answer(content)
        content["graph_cnn"]["camera_fc.4.bias"] = torch.tensor([-0.5, 0.0, 0.0])

    path = write_checkpoint(tmp_path / "n.pt", COARSE, 64, 2, REGRESSOR, change=nobody)
    method = GraphCmrImage(path, files, files / "mesh_downsampling.npz")
    with pytest.raises(MvaiError, match="sees nobody"):
        method.reconstruct_pictures(seen(), open_video(video))


# --- in the chain --------------------------------------------------------------------------------


def test_missing_files_are_named_before_anything_is_detected(files: Path, video: Path):
    methods = Methods(
        KnownDetector(),
        GraphCmrImage(files / "no.pt", files),
        pipeline.configured("smooth", "none"),
        None,
    )
    fake_stages.CALLS.clear()
    with pytest.raises(MvaiError, match="no such checkpoint"):
        reconstruct_video(open_video(video), methods, Stopwatch(Silent()))
    assert fake_stages.CALLS == []


def test_the_command(
    files: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    place = f"{__name__}:KnownDetector"
    monkeypatch.setitem(pipeline.STAGES["detect"], pipeline.DEFAULTS["detect"], place)
    hero = str(fake_stages.character(tmp_path / "hero.ply"))
    monkeypatch.setitem(pipeline.STAGES["transfer"], "rig", "fake_stages:FakeTransfer")
    out = tmp_path / "out.npz"
    command = ["imitate", str(video), "--identity", hero, "-o", str(out),
               "--reconstruct", "graphcmr-image"]  # fmt: skip
    known = ["--reconstruct.checkpoint", str(files / "models" / "known.pt")]
    model = ["--body-model-path", str(files)]
    for arguments, sentence in (
        ([], "name it with --reconstruct.checkpoint"),
        (known, "--body-model-path"),
        ([*known, *model, "--reconstruct.downsampling", str(tmp_path / "no.npz")], "own graph"),
    ):
        assert main([*command, *arguments]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert sentence in " ".join(said) and "Traceback" not in " ".join(said)
        assert not out.exists()
    assert main([*command, *known, *model]) == 0
    done = read_archive(out)
    assert done.stages["reconstruct"].method == "graphcmr-image"
    assert done.raw is not None and done.raw.topology == "smpl"
