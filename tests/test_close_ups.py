"""Close-ups: the head is in the picture, the feet are not, and some are trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mvai.benchmark import build
from mvai.benchmark.build import clip_scene
from mvai.benchmark.clips import POOLS
from mvai.benchmark.close_ups import CLOSE_UPS, close_camera
from mvai.benchmark.poses import PoseClip
from mvai.benchmark.settings import BenchmarkSettings
from mvai.body.anny import anny_body
from mvai.types.names import BODY_JOINTS

FRAMES = 6
SIZE = (480, 360)


def still(frames: int = 40) -> PoseClip:
    pose = np.zeros((frames, len(BODY_JOINTS), 3), np.float32)
    # Arms down, so that no hand is far from the body.
    for side, sign in (("Left", -1), ("Right", 1)):
        pose[:, BODY_JOINTS.index(f"{side}Arm"), 2] = sign * 1.2
    path = np.zeros((frames, 3), np.float32)
    return PoseClip("cmu_07_01", pose, path, 25.0, np.ones(frames, bool))


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "_capture", lambda path, rate: still())


def scenes(pool: str, count: int, tmp_path):
    settings = replace(BenchmarkSettings(), frames=FRAMES)
    return [clip_scene(tmp_path, pool, n, ["cmu_07_01"], settings) for n in range(count)]


def share_inside(scene, *names: str) -> float:
    body = anny_body()
    joints = scene.joints_and_points(body, ("nose",))[0][:, [body.joint(n) for n in names]]
    depth = joints @ scene.camera.T_camera_world[2, :3] + scene.camera.T_camera_world[2, 3]
    px = scene.camera.project(joints.astype(float))
    size = scene.camera.width, scene.camera.height
    return float(((px > 0) & (px < size)).all(-1)[depth > 0].mean())


def test_close_ups_have_the_head_in_the_picture_and_the_feet_out_of_it(captured, tmp_path):
    for scene in scenes("close", 12, tmp_path):
        assert share_inside(scene, "Neck", "Head") == 1
        assert share_inside(scene, "LeftFoot", "RightFoot") < 0.5
    for scene in scenes("still", 4, tmp_path):
        assert share_inside(scene, "Head", "LeftFoot", "RightFoot") == 1


def test_a_share_of_the_training_clips_are_close_ups(captured, tmp_path, monkeypatch):
    drawn = scenes("train", 60, tmp_path)
    near = np.array([share_inside(s, "LeftFoot", "RightFoot") < 0.5 for s in drawn])
    assert 0.5 * CLOSE_UPS < near.mean() < 1.7 * CLOSE_UPS
    # The others are those of a benchmark without close-ups.
    monkeypatch.setattr(build, "CLOSE_UPS", 0.0)
    for scene, same in zip(drawn, scenes("train", 60, tmp_path), strict=True):
        if np.array_equal(scene.camera.K, same.camera.K):
            np.testing.assert_array_equal(scene.rotations, same.rotations)
    same = [
        np.array_equal(a.camera.K, b.camera.K)
        for a, b in zip(drawn, scenes("train", 60, tmp_path), strict=True)
    ]
    assert np.mean(same) == pytest.approx(1 - near.mean(), abs=0.1)


def test_most_people_face_the_camera(captured, tmp_path):
    body = anny_body()
    toward = []
    for scene in scenes("close", 40, tmp_path):
        joints = scene.joints_and_points(body, ("nose",))[0][0]
        across = joints[body.joint("LeftUpLeg")] - joints[body.joint("RightUpLeg")]
        front = np.cross(across, [0.0, 1.0, 0.0])
        view = scene.camera.T_camera_world[2, :3]
        toward.append(-(front @ view) / np.linalg.norm(front) / np.linalg.norm(view[[0, 2]]))
    assert (np.array(toward) > 0.5).mean() > 0.5
    assert (np.array(toward) < 0).any(), "some are seen from behind"


def test_pools_keep_their_places():
    # A clip's seed holds the place of its pool, so pools are only ever added at the end.
    assert POOLS == ("train", "validation", "test", "hard", "close", "still", "tumbling")


def test_a_camera_is_repeatable():
    body = anny_body()
    joints = body.joint_template[[body.joint(n) for n in BODY_JOINTS]].numpy()[None]
    nose = joints[:, BODY_JOINTS.index("Head")] + [0, 0.05, 0.1]
    a, b = (close_camera(joints, nose, SIZE, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(a.T_camera_world, b.T_camera_world)
