"""People whom the detector sees upside down are looked at again in turned pictures."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from mvai.detect import mediapipe_holistic as holistic_detector
from mvai.detect.people import Spotlight
from mvai.detect.upside_down import doubtful, inverted, trunk, turned, turned_back
from mvai.io.video import open_video, write_video
from mvai.types.names import BODY_KEYPOINTS

UP, DOWN = np.array([0.0, -1.0]), np.array([0.0, 1.0])
UNSEEN = np.full(2, np.nan)


def at(degrees: float) -> np.ndarray:
    """A trunk turned away from hanging down."""
    return np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_points_of_a_turned_picture_are_turned_back(quarters: int):
    image = np.zeros((30, 50, 3), np.uint8)
    image[7, 41] = 255
    there = turned(image, quarters)
    y, x = np.argwhere(there[..., 0])[0] + 0.5
    found = np.array([[x / there.shape[1], y / there.shape[0], 0.0, 0.0, 0.0, 1.0]])
    back = turned_back(found, quarters)
    np.testing.assert_allclose(back[0, :2], [41.5 / 50, 7.5 / 30])
    # Metres turn as pixels do, without the shift of the origin.
    step = np.array([[x / there.shape[1], y / there.shape[0], 0.2, -0.7, 0.4, 1.0]])
    moved = step.copy()
    moved[0, :2] += 1e-3 * step[0, 2:4] / (there.shape[1], there.shape[0])
    by = (turned_back(moved, quarters) - turned_back(step, quarters))[0, :2] * (50, 30)
    np.testing.assert_allclose(by, 1e-3 * turned_back(step, quarters)[0, 2:4], atol=1e-12)
    assert turned_back(step, quarters)[0, 4] == 0.4


def test_mistakes_begin_and_end_at_once():
    path = np.stack([DOWN, DOWN, UP, UP, UP, DOWN, DOWN])
    assert doubtful(path) == [slice(2, 5)]
    assert doubtful(np.stack([UP, UP, UP])) == [slice(0, 3)]


def test_frames_around_in_which_nobody_is_found_belong_to_it():
    path = np.stack([DOWN, UNSEEN, UP, UNSEEN, UP, UNSEEN, DOWN, UNSEEN, DOWN])
    assert doubtful(path) == [slice(1, 6)]


def test_who_bends_down_gradually_is_believed():
    bending = np.stack([at(a) for a in (*range(0, 160, 20), *range(160, -1, -20))])
    assert inverted(bending).any() and doubtful(bending) == []
    # Also when the clip begins bent down.
    assert doubtful(bending[8:]) == []


def test_nobody_is_not_upside_down():
    assert not inverted(trunk(np.full((4, 33, 2), np.nan))).any()
    assert doubtful(np.full((4, 2), np.nan)) == [] and doubtful(np.zeros((0, 2))) == []


def person(head_up: bool) -> np.ndarray:
    """Points of somebody in the middle of the picture."""
    row = np.full((len(holistic_detector.NAMES), 6), np.nan)
    row[:, 5] = 0.0
    for i, n in enumerate(BODY_KEYPOINTS):
        height = {"shoulder": 0.3, "hip": 0.5, "knee": 0.65, "ankle": 0.8}.get(
            n.split("_")[-1], 0.3
        )
        row[i] = [0.4 + 0.1 * ("left" in n), height, 0.0, 2 * (height - 0.5), 0.0, 0.9]
    return row if head_up else turned_back(row, 2)


def looked(monkeypatch, tmp_path: Path, cured_by: int | None) -> list[bool]:
    """Which frames come out upside down of a tracker that errs in frames 3 to 5 unless the
    picture is turned by `cured_by` quarters (a mark in its corner tells)."""
    path = tmp_path / "clip.mp4"
    with write_video(path, 10.0, 96, 64) as writer:
        for _ in range(8):
            image = np.zeros((64, 96, 3), np.uint8)
            image[:16, :16] = 255
            writer.write(image)

    @contextlib.contextmanager
    def holistic(pose_model):
        seen = 0

        def process(image: np.ndarray) -> np.ndarray:
            nonlocal seen
            corners = [image[0, 0, 0], image[-1, 0, 0], image[-1, -1, 0], image[0, -1, 0]]
            quarters = int(np.argmax(corners))
            first = max(0, 3 - holistic_detector.WARM_UP) if quarters else 0
            wrong = 3 <= first + seen <= 5 and quarters != cured_by
            seen += 1
            return turned_back(person(head_up=not wrong), -quarters)

        yield process

    monkeypatch.setattr(holistic_detector, "holistic", holistic)
    video = open_video(path)
    points, _ = holistic_detector.follow(
        video, slice(0, video.frames), Spotlight((), (), 10.0), lambda done, total: None
    )
    return list(inverted(trunk(points[:, :33, :2] * (96, 64))))


def test_a_second_look_turns_people_round(monkeypatch, tmp_path: Path):
    for quarters in (2, 1, 3):
        assert not any(looked(monkeypatch, tmp_path, cured_by=quarters))


def test_who_stays_upside_down_is_left(monkeypatch, tmp_path: Path):
    assert looked(monkeypatch, tmp_path, cured_by=None) == [False] * 3 + [True] * 3 + [False] * 2
