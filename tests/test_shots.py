"""Cuts in a video: found, told from flashes and fast cameras, and nobody followed across them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvai.detect.mediapipe_holistic import MediapipeHolistic
from mvai.detect.people import find_people
from mvai.detect.shots import cuts_in, cuts_of, shot_of, thumbnail
from mvai.detect.track import Sighting, link
from mvai.io.video import Frame, open_video, write_video

DEMO = Path(__file__).parents[1] / "src" / "mvai" / "demo_files" / "clip.mp4"


def scene(seed: int, width: int = 400) -> Frame:
    """Patches of colour, as different from another seed's as two places are."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 12, 3)).astype(np.uint8)
    return patches.repeat(20, 0).repeat(width // 12 + 1, 1)[:, :width]


def panned(frames: int, px: int, seed: int = 0) -> list[Frame]:
    """A camera that turns by so many pixels a frame."""
    wide = scene(seed, 160 + frames * px)
    return [wide[:, i * px : i * px + 160] for i in range(frames)]


def small(frames: list[Frame]) -> list[np.ndarray]:
    return [thumbnail(f) for f in frames]


@given(st.integers(1, 29), st.integers(0, 2), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_cut_is_found_where_it_is(at: int, px: int, seed: int):
    frames = [*panned(at, px, 2 * seed), *panned(30 - at, px, 2 * seed + 1)]
    assert cuts_in(small(frames)) == (at,)


@given(st.integers(0, 40), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_one_shot_has_no_cut(px: int, seed: int):
    assert cuts_in(small(panned(20, px, seed))) == ()


def test_flashes_and_changes_of_light_are_no_cuts():
    flash = panned(20, 2)
    flash[10] = np.full_like(flash[10], 255)
    flash[11] = np.full_like(flash[11], 255)
    flash[11][:60] = flash[9][:60]
    assert cuts_in(small(flash)) == ()
    dimmed = panned(20, 2)
    dimmed[10:] = [(0.8 * f + 50).astype(np.uint8) for f in dimmed[10:]]
    assert cuts_in(small(dimmed)) == ()


def test_too_few_frames_have_no_cut():
    assert cuts_in([]) == cuts_in(small([scene(0)])) == ()


def in_shots(path: Path, *shots: list[Frame]) -> Path:
    height, width = shots[0][0].shape[:2]
    with write_video(path, 30.0, width, height) as writer:
        for frame in [f for shot in shots for f in shot]:
            writer.write(np.ascontiguousarray(frame))
    return path


def test_a_video_is_read_again_only_where_it_changes(tmp_path: Path):
    still = open_video(in_shots(tmp_path / "still.mp4", panned(30, 0)))
    cut = open_video(in_shots(tmp_path / "cut.mp4", panned(12, 0), panned(18, 0, 1)))
    for video, cuts, times in ((still, (), 0), (cut, (12,), 1)):
        sampled = small(list(video.iterate(step=10)))
        read = []

        def counted(*given, source=video.source, read=read):
            read.append(given)
            return source(*given)

        watched = type(video)(
            video.path, video.fps, video.frames, video.width, video.height, counted
        )
        assert cuts_of(watched, sampled) == cuts
        assert len(read) == times


def test_nobody_is_followed_across_a_cut():
    steps = [[Sighting(f, np.array([10.0, 10, 60, 160]), 0.9)] for f in range(0, 60, 5)]
    (whole,) = link(steps, 30.0)
    assert len(whole) == 12
    first, second = sorted(link(steps, 30.0, (20,)), key=lambda t: t[0].frame)
    assert [s.frame for s in first] == [0, 5, 10, 15]
    assert [s.frame for s in second] == list(range(20, 60, 5))


def test_people_are_told_apart_by_shot(tmp_path: Path):
    def find(image: Frame) -> np.ndarray:
        # Somebody at the same place in every frame.
        corners = np.array([[0.3, 0.2], [0.5, 0.2], [0.5, 0.9], [0.3, 0.9]])
        return np.concatenate([corners[np.arange(33) % 4], np.ones((33, 1))], 1)

    video = open_video(in_shots(tmp_path / "a.mp4", panned(60, 0), panned(90, 0, 1)))
    tracks, cuts = find_people(video, find)
    assert cuts == (60,)
    assert [(t[0].frame, t[-1].frame) for t in tracks] == [(60, 135), (0, 45)]


def test_which_shot_is_followed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    video = open_video(in_shots(tmp_path / "a.mp4", panned(60, 0)))
    track = (Sighting(35, np.array([0.0, 0, 10, 20]), 0.9),)
    with caplog.at_level(logging.WARNING):
        assert shot_of(track, (), video) == slice(0, 60)
        assert shot_of((), (30,), video) == slice(0, 60)
        assert not caplog.records
        assert shot_of(track, (15, 45), video) == slice(15, 45)
    assert "a.mp4" in caplog.text and "3 shots" in caplog.text
    assert "from 0.5 to 1.5 s" in caplog.text


def test_the_person_of_one_shot_is_followed(tmp_path: Path):
    demo = list(open_video(DEMO).fitted(320).iterate())[:40]
    height, width = demo[0].shape[:2]
    # The same person in another place: in the mirror, smaller, before patches of colour.
    far = []
    for frame in demo:
        image = scene(3, width)[:height]
        image = np.pad(image, ((0, height - len(image)), (0, 0), (0, 0)), mode="wrap").copy()
        part = frame[::2, ::-2]
        image[height // 4 :, width // 4 :][: part.shape[0], : part.shape[1]] = part
        far.append(image)
    path = in_shots(tmp_path / "a.mp4", far, demo)
    keypoints = MediapipeHolistic().detect(open_video(path))
    assert not keypoints.seen()[:40].any()
    assert keypoints.seen()[40:].mean() > 0.9
