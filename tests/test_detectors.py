"""Detectors that read a user's files: MediaPipe, ONNX networks, COCO and MMPose JSON."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import fake_stages
from mvai.cli import main
from mvai.detect import mediapipe_holistic, simcc_onnx
from mvai.detect.keypoint_json import KeypointJson
from mvai.detect.layouts import COCO_17, HALPE_26, LAYOUTS, WHOLE_BODY_133
from mvai.detect.mediapipe_holistic import MediapipeHolistic
from mvai.detect.mediapipe_task import MediapipeTask
from mvai.detect.simcc_onnx import Network, SimccOnnx
from mvai.detect.track import Sighting
from mvai.io.archive import read_archive
from mvai.io.video import open_video, write_video
from mvai.pipeline import configured, named
from mvai.types import MvaiError
from mvai.types.names import KEYPOINTS

SIZE = 240
BODY_PX = {
    "nose": (0, -80), "eye": (5, -85), "ear": (9, -82), "shoulder": (22, -60), "elbow": (30, -25),
    "wrist": (32, 5), "hip": (14, 0), "knee": (15, 40), "ankle": (15, 80),
}  # fmt: skip


def person_px(centre: tuple[float, float], names=COCO_17) -> np.ndarray:
    """(points, 2): somebody who faces the camera."""
    out = np.zeros((len(names), 2))
    for i, name in enumerate(names):
        part = name.split("_", 1)[-1]
        x, y = BODY_PX.get(part, (16, 84))
        out[i] = centre + np.array([x * (1 if "left" in name else -1 if "right" in name else 0), y])
    return out


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return fake_stages.clip(tmp_path / "clip.mp4", frames=12, size=SIZE)


def test_layouts_name_known_points():
    assert {len(COCO_17), len(HALPE_26), len(WHOLE_BODY_133)} == {17, 26, 133} == set(LAYOUTS)
    for names in LAYOUTS.values():
        used = [n for n in names if n]
        assert len(used) == len(set(used)) and set(used) <= set(KEYPOINTS)
    assert WHOLE_BODY_133[91] == "left_hand_wrist" and WHOLE_BODY_133[112] == "right_hand_wrist"
    assert WHOLE_BODY_133[17] == "left_big_toe" and WHOLE_BODY_133[40] == "face_brow_right_0"


# --- JSON ---------------------------------------------------------------------------------------


def two_people() -> list[list[np.ndarray]]:
    """Twelve frames: a large person who moves right, and a small one who is not always there."""
    frames = []
    for f in range(12):
        large = np.concatenate([person_px((90 + 2 * f, 120)), np.full((17, 1), 0.9)], 1)
        small = np.concatenate([0.5 * person_px((400, 240)), np.full((17, 1), 0.8)], 1)
        frames.append([small, large] if f % 3 else [large])
    return frames


def coco_results(people: list[list[np.ndarray]]) -> object:
    return [
        {"image_id": f, "category_id": 1, "keypoints": p.ravel().tolist(), "score": 0.9}
        for f, frame in enumerate(people) for p in frame
    ]  # fmt: skip


def coco_annotations(people: list[list[np.ndarray]]) -> object:
    visible = [
        np.concatenate([p[:, :2], np.full((17, 1), 2)], 1) for frame in people for p in frame
    ]
    ids = [100 + f for f, frame in enumerate(people) for _ in frame]
    return {
        "images": [{"id": 100 + f, "file_name": f"clip_{f}.jpg"} for f in range(len(people))],
        "annotations": [{"image_id": i, "keypoints": v.ravel().tolist(), "num_keypoints": 17}
                        for i, v in zip(ids, visible, strict=True)],
    }  # fmt: skip


def alphapose(people: list[list[np.ndarray]]) -> object:
    return [
        {"image_id": f"{f}.jpg", "category_id": 1, "keypoints": p.ravel().tolist(), "idx": i}
        for f, frame in enumerate(people) for i, p in enumerate(frame)
    ]  # fmt: skip


def mmpose(people: list[list[np.ndarray]]) -> object:
    return {
        "meta_info": {"dataset_name": "coco"},
        "instance_info": [
            {"frame_id": f + 1, "instances": instances(frame)} for f, frame in enumerate(people)
        ],
    }


def instances(frame: list[np.ndarray]) -> list[dict]:
    return [
        {"keypoints": p[:, :2].tolist(), "keypoint_scores": p[:, 2].tolist(), "bbox_score": 0.9}
        for p in frame
    ]


@pytest.mark.parametrize("write", [coco_results, coco_annotations, alphapose, mmpose])
def test_reads_every_layout_and_follows_one_person(clip: Path, tmp_path: Path, write: Callable):
    path = tmp_path / "points.json"
    people = two_people()
    path.write_text(json.dumps(write(people)))
    video = open_video(clip)
    for who, pick in ((0, -1), (1, 0)):
        keypoints = KeypointJson(path, person=who).detect(video)
        assert keypoints.names == COCO_17 and keypoints.frames == 12
        expected = people[1][pick][:, :2] if who else people[2][pick][:, :2]
        np.testing.assert_allclose(keypoints.xy_px[1 if who else 2], expected, atol=1e-6)
    assert not keypoints.seen()[0] and keypoints.seen()[1]


def test_a_folder_of_mmpose_files(clip: Path, tmp_path: Path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    for f, frame in enumerate(two_people()):
        (folder / f"{f}.json").write_text(json.dumps(instances(frame)))
    keypoints = KeypointJson(folder).detect(open_video(clip))
    np.testing.assert_allclose(keypoints.xy_px[11], person_px((112, 120)))
    part = KeypointJson(folder).detect(open_video(clip).between(0.1, None))
    np.testing.assert_array_equal(part.xy_px, keypoints.xy_px[3:])


def test_whole_body_results(clip: Path, tmp_path: Path):
    rows = []
    for f in range(12):
        body = np.concatenate([person_px((100, 120)), np.full((17, 1), 0.9)], 1)
        rows.append({
            "image_id": f, "keypoints": body.ravel().tolist(),
            "foot_kpts": [10.0, 20.0, 0.5] * 6, "face_kpts": [1.0, 2.0, 0.7] * 68,
            "lefthand_kpts": [5.0, 6.0, 0.6] * 21, "righthand_kpts": [0.0, 0.0, 0.0] * 21,
        })  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    keypoints = KeypointJson(tmp_path / "a.json").detect(open_video(clip))
    toe = keypoints.index("left_big_toe")
    np.testing.assert_allclose(keypoints.xy_px[0, toe], [10, 20])
    assert keypoints.confidence[0, keypoints.index("left_hand_index_4")] == pytest.approx(0.6)
    assert "face_lip_inner_7" in keypoints.names and "right_hand_wrist" not in keypoints.names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json", "no key-points"),
        ("[]", "holds no frames"),
        (json.dumps([{"image_id": 0, "keypoints": [1.0] * 24}]), "8 points"),
        (
            json.dumps([{"image_id": 900 + f, "keypoints": [1.0] * 51} for f in range(3)]),
            "3 frames",
        ),
        (json.dumps([{"image_id": f, "keypoints": [0.5] * 51} for f in range(12)]), "not pixels"),
        (json.dumps([{"image_id": 0, "keypoints": "abc"}]), "no key-points"),
    ],
)
def test_other_json_gives_a_sentence(clip: Path, tmp_path: Path, content: str, words: str):
    path = tmp_path / "points.json"
    path.write_text(content)
    with pytest.raises(MvaiError, match=rf"points\.json.*{words}"):
        KeypointJson(path).detect(open_video(clip))


# --- ONNX ---------------------------------------------------------------------------------------


def write_onnx(path: Path, points: int, width: int = 48, height: int = 64) -> Path:
    """A network that finds coloured spots: point k has a hue of its own in the picture.

    Each point's score is a 1 x 1 convolution of the picture that is largest on its colour; the
    largest value over rows gives the classification over x, over columns that over y, and two bins
    stand for a pixel, as in RTMPose.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    # Undo the normalisation, then -|rgb - colour|^2 = 2 rgb.colour - |rgb|^2 - |colour|^2.
    colours = spot_colours(points) / 255
    a = (simcc_onnx.DEVIATION / 255)[None, :]
    weight = (2 * colours * a).astype(np.float32)[..., None, None]
    mean = simcc_onnx.MEAN / 255
    bias = (2 * colours @ mean - (colours**2).sum(1)).astype(np.float32)
    scale = (simcc_onnx.DEVIATION / 255).astype(np.float32).reshape(1, 3, 1, 1)
    constants = {
        "w": weight, "b": bias, "scale": scale,
        "shift": mean.astype(np.float32).reshape(1, 3, 1, 1),
        "one": np.float32(1.0).reshape(1, 1, 1), "sizes_x": np.array([1, 1, 2], np.float32),
        "axes1": np.array([1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["dot"]),
        helper.make_node("Mul", ["input", "scale"], ["s"]),
        helper.make_node("Add", ["s", "shift"], ["rgb"]),
        helper.make_node("Mul", ["rgb", "rgb"], ["sq"]),
        helper.make_node("ReduceSum", ["sq", "axes1"], ["norm"], keepdims=1),
        helper.make_node("Sub", ["dot", "norm"], ["near"]),
        helper.make_node("ReduceMax", ["near"], ["max_x"], axes=[2], keepdims=0),
        helper.make_node("ReduceMax", ["near"], ["max_y"], axes=[3], keepdims=0),
        helper.make_node("Add", ["max_x", "one"], ["score_x"]),
        helper.make_node("Add", ["max_y", "one"], ["score_y"]),
        helper.make_node("Resize", ["score_x", "", "sizes_x"], ["simcc_x"], mode="nearest"),
        helper.make_node("Resize", ["score_y", "", "sizes_x"], ["simcc_y"], mode="nearest"),
    ]
    graph = helper.make_graph(
        nodes, "spots",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, height, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", points, 2 * size])
         for name, size in (("simcc_x", width), ("simcc_y", height))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def spot_colours(points: int) -> np.ndarray:
    """Colours far from one another and from grey."""
    rng = np.random.default_rng(1)
    pool = rng.integers(0, 256, (4000, 3))
    chosen = [np.array([255, 0, 0])]
    far = np.linalg.norm(pool - 128, axis=1)
    for _ in range(points - 1):
        far = np.minimum(far, np.linalg.norm(pool - chosen[-1], axis=1))
        chosen.append(pool[far.argmax()])
    return np.array(chosen, float)


def draw_spots(points: np.ndarray, size: int = SIZE) -> np.ndarray:
    image = np.full((size, size, 3), 128, np.uint8)
    for (x, y), colour in zip(points, spot_colours(len(points)), strict=True):
        image[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = colour
    return image


@pytest.mark.parametrize("layout", [17, 26, 133])
def test_a_network_finds_points_wherever_the_box_is(tmp_path: Path, layout: int):
    network = Network.load(write_onnx(tmp_path / "pose.onnx", layout, 96, 128))
    assert (network.points, network.width, network.height) == (layout, 96, 128)
    grid = np.stack(np.meshgrid(np.arange(40, 180, 12), np.arange(40, 180, 12)), -1).reshape(-1, 2)
    points = grid[:layout].astype(float)
    image = draw_spots(points)
    for box in ([50, 50, 180, 180], [30, 40, 200, 190]):
        found = network(image, np.array(box, float))
        # Two bins a pixel of a crop of 96 x 128: a few pixels of the picture.
        assert np.abs(found[:, :2] - points).max() < 5
        assert found[:, 2].min() > 0.5


def test_the_onnx_detector_follows_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spread = np.array([1.0, 1.0])
    truth = np.stack([spread * person_px((100 + 4 * f, 120)) for f in range(12)])
    path = tmp_path / "clip.mkv"
    with write_video(path, 30, SIZE, SIZE) as writer:
        for points in truth:
            writer.write(draw_spots(points))
    video = open_video(path)

    @contextmanager
    def nobody_looks():
        yield None

    def found(small, find):
        box = lambda f: np.concatenate([truth[f].min(0), truth[f].max(0)])  # noqa: E731
        return [tuple(Sighting(f, box(f), 1.0) for f in (0, 11))], ()

    monkeypatch.setattr(simcc_onnx, "static_pose", nobody_looks)
    monkeypatch.setattr(simcc_onnx, "find_people", found)
    network = write_onnx(tmp_path / "pose.onnx", 17, 96, 128)
    keypoints = SimccOnnx(network).detect(video)
    assert keypoints.seen().all()
    off = np.linalg.norm(keypoints.xy_px - truth, axis=-1)
    # Eyes and nose lie over one another in this figure.
    apart = [i for i, n in enumerate(COCO_17) if not n.endswith(("nose", "eye", "ear"))]
    assert np.median(off[:, apart]) < 3
    with pytest.raises(MvaiError, match="person 3"):
        replace(SimccOnnx(network), person=3).detect(video)


def test_files_that_are_no_network(tmp_path: Path):
    pytest.importorskip("onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x01 nothing")
    with pytest.raises(MvaiError, match=r"bad\.onnx.*no pose network"):
        Network.load(tmp_path / "bad.onnx")
    with pytest.raises(MvaiError, match="no such file"):
        Network.load(tmp_path / "none.onnx")
    with pytest.raises(MvaiError, match=r"odd\.onnx.*17, 26, 133"):
        Network.load(write_onnx(tmp_path / "odd.onnx", 5))


# --- MediaPipe bundles --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pose landmarker bundle out of the two networks in MediaPipe's own wheel."""
    writer = pytest.importorskip("mediapipe.tasks.python.metadata.metadata_writers.metadata_writer")
    modules = Path(str(files("mediapipe"))) / "modules"
    parts = {
        "pose_detector.tflite": ("pose_detection/pose_detection.tflite", 127.5, 127.5),
        "pose_landmarks_detector.tflite": ("pose_landmark/pose_landmark_full.tflite", 0.0, 255.0),
    }
    path = tmp_path_factory.mktemp("task") / "pose_landmarker.task"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name, (source, mean, deviation) in parts.items():
            model = writer.MetadataWriter.create(bytearray((modules / source).read_bytes()))
            model.add_image_input([mean], [deviation])
            bundle.writestr(name, bytes(model.populate()[0]))
    return path


def test_a_bundle_sees_what_the_built_in_model_sees(task_file: Path, tmp_path: Path):
    from mvai.detect.people import static_pose

    source = open_video(Path(str(files("mvai"))) / "demo_files" / "clip.mp4", 360)
    images = [image for _, image in zip(range(10), source.iterate(), strict=False)]
    path = tmp_path / "clip.mp4"
    with write_video(path, source.fps, images[0].shape[1], images[0].shape[0]) as writer:
        for image in images:
            writer.write(image)
    video = open_video(path)
    keypoints = MediapipeTask(task_file).detect(video)
    assert keypoints.frames == video.frames and keypoints.seen().all()
    assert keypoints.xyz_m is not None and np.ptp(keypoints.xyz_m[0, :, 1]) > 1.0
    with static_pose() as find:
        expected = find(next(iter(video.iterate())))
    off = keypoints.xy_px[0] - expected[:, :2] * (video.width, video.height)
    assert np.abs(off[expected[:, 2] > 0.9]).max() < 4


def test_other_files_are_no_bundle(clip: Path, tmp_path: Path):
    (tmp_path / "bad.task").write_bytes(b"PK\x03\x04 nothing")
    for name, words in (("bad.task", "no pose landmarker"), ("none.task", "no such file")):
        with pytest.raises(MvaiError, match=rf"{name}.*{words}"):
            MediapipeTask(tmp_path / name).detect(open_video(clip))


# --- pose landmark networks ---------------------------------------------------------------------


def test_a_pose_network_takes_the_place_of_the_wheels(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(mediapipe_holistic, "PARALLEL_FROM", 4)
    source = open_video(Path(str(files("mvai"))) / "demo_files" / "clip.mp4", 360)
    images = [image for _, image in zip(range(12), source.iterate(), strict=False)]
    with write_video(tmp_path / "clip.mp4", source.fps, *images[0].shape[1::-1]) as writer:
        for image in images:
            writer.write(image)
    video = open_video(tmp_path / "clip.mp4")
    expected = MediapipeHolistic().detect(video)
    networks = Path(str(files("mediapipe"))) / "modules" / "pose_landmark"
    mine = shutil.copy(networks / "pose_landmark_full.tflite", tmp_path / "mine.tflite")
    found = MediapipeHolistic(file=mine).detect(video)
    np.testing.assert_array_equal(found.xy_px, expected.xy_px)
    np.testing.assert_array_equal(found.xyz_m, expected.xyz_m)
    assert not (networks / "pose_landmark_heavy.tflite").exists()
    # The wheel's own can still be asked for.
    np.testing.assert_array_equal(MediapipeHolistic().detect(video).xy_px, expected.xy_px)


@pytest.mark.parametrize(
    ("name", "words"),
    [("none", "no such file"), ("cut", "cannot be read"), ("text", "cannot be read"),
     ("hand", "another one")],
)  # fmt: skip
def test_other_files_are_no_pose_network(tmp_path: Path, clip: Path, name: str, words: str):
    modules = Path(str(files("mediapipe"))) / "modules"
    hand = (modules / "hand_landmark" / "hand_landmark_full.tflite").read_bytes()
    content = {"cut": hand[:64], "text": b"not a network", "hand": hand}
    if name in content:
        (tmp_path / f"{name}.tflite").write_bytes(content[name])
    with pytest.raises(MvaiError, match=rf"{name}\.tflite.*{words}"):
        MediapipeHolistic(file=tmp_path / f"{name}.tflite").detect(open_video(clip))


# --- named by a file ----------------------------------------------------------------------------


def test_a_file_names_its_detector(tmp_path: Path):
    assert named("detect", "heavy.tflite") == ("mediapipe", {"file": Path("heavy.tflite")})
    assert named("detect", "heavy.task") == ("mediapipe-task", {"file": Path("heavy.task")})
    assert configured("detect", "a/pose.onnx") == SimccOnnx(Path("a/pose.onnx"))
    assert named("detect", str(tmp_path)) == ("openpose", {"folder": tmp_path})
    assert named("detect", "mediapipe") == ("mediapipe", {})
    with pytest.raises(MvaiError, match="no such method"):
        configured("detect", "pose.xyz")


def test_the_command_takes_a_file_as_detector(tmp_path: Path, clip: Path, monkeypatch, capfd):
    fake_stages.install(monkeypatch, "reconstruct", "transfer")
    hero = fake_stages.character(tmp_path / "hero.ply")
    points = tmp_path / "points.json"
    points.write_text(json.dumps(coco_results(two_people())))
    out = tmp_path / "out.npz"
    arguments = ["imitate", str(clip), "--identity", str(hero), "-o", str(out)]
    assert main([*arguments, "--detector", str(points)]) == 0, capfd.readouterr().err
    stored = read_archive(out)
    assert stored.stages["detect"].method == "keypoint-json"
    assert stored.keypoints.names == COCO_17
