"""Foot-slide where the source's feet stand."""

from __future__ import annotations

import numpy as np
import pytest

from mvai.evaluate.character_measures import planted_in_source, planted_slide
from test_transfer import BODY, JOINT, sequence


def legs() -> np.ndarray:
    """Two flat soles, heel at z = 0 and toes at z = 0.25, and a head."""
    sole = np.linspace(0, 0.25, 6)[:, None] * [0.0, 0, 1]
    return np.concatenate(
        [sole + np.array([0.1, 0, 0]), sole - np.array([0.1, 0, 0]), [[0, 1.75, 0]]]
    )


def both(heel: np.ndarray, toes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stands = np.stack([heel, toes], 1)
    return stands, stands


def test_a_slide_counts_only_while_the_source_stands():
    rest = legs()
    at = np.concatenate([np.arange(5) * 0.002, 0.008 + np.arange(1, 6) * 0.1])
    vertices = rest + at[:, None, None] * [0.0, 0, 1]
    stands = np.arange(10) < 5
    mean, high = planted_slide(rest, vertices, both(stands, stands))
    assert mean == pytest.approx(2.0) and high == pytest.approx(2.0)
    swings = np.zeros(10, bool)
    assert np.isnan(planted_slide(rest, vertices, both(swings, swings))[0])


def test_a_foot_that_rolls_about_its_toes_does_not_slide():
    rest = legs()
    vertices = np.repeat(rest[None], 8, 0)
    for f in range(8):
        lift = np.clip((0.2 - rest[:12, 2]) * 0.1 * f, 0, None)
        vertices[f, :12, 1] += lift
        vertices[f, :12, 2] += lift  # The heel moves along as it rises, the toes do not.
    toes = np.ones(8, bool)
    assert planted_slide(rest, vertices, both(~toes, toes))[0] < 1e-9
    assert planted_slide(rest, vertices, both(toes, ~toes))[0] > 5


def test_standing_and_swinging_feet_are_told_apart():
    """The right foot swings forward 2 cm above the floor, which is contact by its height."""
    frames = 30
    rotvecs = np.zeros((frames, len(BODY.joints), 3))
    swing = np.concatenate([np.linspace(0.5, -0.5, 15), np.full(15, -0.5)])
    rotvecs[:, JOINT["RightUpLeg"], 0] = swing
    left, right = planted_in_source(BODY, sequence(rotvecs))
    assert left.all()
    assert not right[:12].any()
