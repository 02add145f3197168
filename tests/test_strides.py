"""Steps of legs that nobody sees."""

from __future__ import annotations

import numpy as np
import pytest

from mvai.reconstruct.strides import strides, walks

FPS, FRAMES = 25.0, 100
ALWAYS = np.ones(FRAMES, bool)
FORWARD = np.tile([0.0, 1.0], (FRAMES, 1))


def going(speed_m_s: float) -> np.ndarray:
    hips = np.zeros((FRAMES, 3))
    hips[:, 2] = speed_m_s * np.arange(FRAMES) / FPS
    return hips


def steps(ahead: np.ndarray) -> int:
    return int((np.diff(np.sign(ahead[:, 0] - ahead[:, 1])) != 0).sum())


@pytest.mark.parametrize(("speed", "length"), [(1.3, 0.71), (0.8, 0.56)])
def test_steps_are_as_long_as_people_make_them(speed: float, length: float):
    ahead, lift = strides(going(speed), FORWARD, np.zeros(FRAMES), ALWAYS, 0.87, FPS)
    assert np.ptp(ahead[:, 0]) == pytest.approx(length, rel=0.1)
    assert steps(ahead) == pytest.approx(speed * 4 / length, abs=1.1)
    assert lift.min() == 0 and not (lift > 0).all(1).any()


def test_a_foot_that_stands_stays_about_where_it_is():
    hips = going(1.2)
    ahead, lift = strides(hips, FORWARD, np.zeros(FRAMES), ALWAYS, 0.87, FPS)
    speed = np.diff(hips[:, 2] + ahead[:, 0]) * FPS
    down = (lift[1:, 0] == 0) & (lift[:-1, 0] == 0)
    assert np.abs(np.median(speed[down])) < 0.3 and np.median(speed[~down]) > 1.5


def test_backwards_is_a_walk_as_well():
    ahead, _ = strides(going(-1.0), FORWARD, np.zeros(FRAMES), ALWAYS, 0.87, FPS)
    assert steps(ahead) >= 4


@pytest.mark.parametrize("apart", [-0.5, 0.5])
def test_steps_follow_on_from_where_the_feet_were_seen(apart: float):
    outside = np.arange(FRAMES) >= 40
    seen = np.where(outside, 0.0, apart)
    ahead, _ = strides(going(1.3), FORWARD, seen, outside, 0.87, FPS)
    assert not ahead[:40].any()
    assert ahead[40, 0] - ahead[40, 1] == pytest.approx(apart, abs=0.15)


def test_only_who_goes_a_way_walks():
    assert walks(going(1.0), FORWARD, ALWAYS, FPS).all()
    assert not walks(going(0.3), FORWARD, ALWAYS, FPS).any()
    assert not walks(going(1.0), FORWARD, np.arange(FRAMES) < 20, FPS).any()
    # Sideways is no walk.
    assert not walks(going(1.0), FORWARD[:, ::-1], ALWAYS, FPS).any()
    # A glimpse of the feet does not end it.
    glimpse = ALWAYS.copy()
    glimpse[50:52] = False
    assert walks(going(1.0), FORWARD, glimpse, FPS)[20:80].all()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_few_frames(frames: int):
    short = slice(0, frames)
    ahead, lift = strides(
        going(1.0)[short], FORWARD[short], np.zeros(frames), ALWAYS[short], 0.87, FPS
    )
    assert ahead.shape == lift.shape == (frames, 2)
    assert walks(going(1.0)[short], FORWARD[short], ALWAYS[short], FPS).shape == (frames,)
