"""People who lie, crawl and roll over: on the floor, turned anyhow, in a share of the clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mvai.benchmark import build, tumbling
from mvai.benchmark.build import clip_scene, tumbles
from mvai.benchmark.poses import PoseClip
from mvai.benchmark.settings import BenchmarkSettings
from mvai.body.anny import anny_body
from mvai.types.names import BODY_JOINTS

FRAMES = 8


@pytest.fixture(autouse=True)
def captured(monkeypatch: pytest.MonkeyPatch):
    pose = np.zeros((40, len(BODY_JOINTS), 3), np.float32)
    path = np.linspace([0.0, 0, 0], [0.5, 0, 1.0], 40).astype(np.float32)
    clip = PoseClip("cmu_07_01", pose, path, 25.0, np.ones(40, bool))
    monkeypatch.setattr(build, "_capture", lambda path, rate: clip)


def scenes(pool: str, numbers, tmp_path):
    settings = replace(BenchmarkSettings(), frames=FRAMES)
    return [clip_scene(tmp_path, pool, n, ["cmu_07_01"], settings) for n in numbers]


def joints(scene) -> dict[str, np.ndarray]:
    found = scene.joints_and_points(anny_body(), ("nose",))[0]
    return {n: found[:, anny_body().joint(n)] for n in BODY_JOINTS}


def trunks(drawn) -> np.ndarray:
    """Which way the neck is from the hips, one row a frame."""
    ways = np.concatenate([joints(s)["Neck"] - joints(s)["Hips"] for s in drawn])
    return ways / np.linalg.norm(ways, axis=1, keepdims=True)


def test_they_are_turned_by_any_angle_about_level_axes(tmp_path):
    up = trunks(scenes("tumbling", range(40), tmp_path))[:, 1]
    assert up.min() < -0.8, "some stand on their heads"
    assert up.max() > 0.8, "some stand"
    assert 0.15 < (np.abs(up) < 0.5).mean() < 0.6, "many lie"
    assert trunks(scenes("validation", range(5), tmp_path))[:, 1].min() > 0.9


def test_whatever_is_lowest_is_on_the_floor(tmp_path, monkeypatch):
    monkeypatch.setattr(tumbling, "ALOFT", 0.0)
    for scene in scenes("tumbling", range(20), tmp_path):
        low = min(p[:, 1].min() for p in joints(scene).values())
        assert -0.2 < low < 0.3


def test_some_keep_turning_and_none_faster_than_told(tmp_path):
    turn = []
    for scene in scenes("tumbling", range(40), tmp_path):
        way = trunks([scene])
        step = np.arccos(np.clip((way[1:] * way[:-1]).sum(1), -1, 1))
        turn.append(np.degrees(step.max()) * scene.fps)
    assert max(turn) <= tumbling.FASTEST_DEG_S + 30
    assert 0.15 < (np.array(turn) > 40).mean() < 0.6


def test_a_share_of_the_training_clips_tumble_and_the_others_stay(tmp_path, monkeypatch):
    numbers = range(40)
    drawn = scenes("train", numbers, tmp_path)
    monkeypatch.setattr(build, "TUMBLING", 0.0)
    without = scenes("train", numbers, tmp_path)
    same = [np.array_equal(a.rotations, b.rotations) for a, b in zip(drawn, without, strict=True)]
    assert 0.7 < np.mean(same) < 0.97
    monkeypatch.undo()
    for n, is_same in zip(numbers, same, strict=True):
        assert is_same or tumbles(BenchmarkSettings().seed, n)
