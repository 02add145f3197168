"""`mvai evaluate fit`: lengths of bones and angles of joints, on made-up people."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvai.evaluate.fit_bones import (
    BOTH,
    FACTORS,
    POINTS,
    angle_errors,
    angle_summary,
    angles_deg,
    bone_ratios,
    bone_summary,
    bones,
    sections,
)
from mvai.reconstruct.lengthen import ADULT, lengthened
from mvai.types.names import BODY_KEYPOINTS

AHEAD, LEFT, UP = np.eye(3)[[2, 0, 1]]
"""Axes of a person who faces +Z."""


def turned(angle_deg: float) -> np.ndarray:
    """A direction that hangs at 0 and points straight ahead at 90 degrees."""
    a = np.radians(angle_deg)
    return np.sin(a) * AHEAD - np.cos(a) * UP


def person(elbow=0.0, knee=0.0, arm=0.0, neck=0.0, frames: int = 3) -> np.ndarray:
    """`POINTS` of somebody upright, left and right alike; angles in degrees."""
    at = {}
    for side, s in (("left", 1), ("right", -1)):
        at[f"{side}_hip"], at[f"{side}_shoulder"] = 0.1 * s * LEFT, 0.5 * UP + 0.2 * s * LEFT
        at[f"{side}_knee"] = at[f"{side}_hip"] + 0.4 * turned(0)
        at[f"{side}_ankle"] = at[f"{side}_knee"] + 0.4 * turned(-knee)
        at[f"{side}_elbow"] = at[f"{side}_shoulder"] + 0.3 * turned(arm)
        at[f"{side}_wrist"] = at[f"{side}_elbow"] + 0.25 * turned(arm + elbow)
        at[f"{side}_ear"] = 0.5 * UP + 0.07 * s * LEFT - 0.2 * turned(-neck)
    return np.tile([at[n] for n in POINTS], (frames, 1, 1))


def test_angles_are_those_the_person_was_made_with():
    view = Rotation.from_euler("XYZ", [200, 40, -15], degrees=True).as_matrix()
    for arm in (-170.0, -30.0, 0.0, 45.0, 120.0):
        points = person(elbow=70, knee=35, arm=arm, neck=12) @ view.T + [1.0, 2.0, 5.0]
        found = angles_deg(points)
        assert found["neck forward of the trunk"] == pytest.approx(12)
        for side in ("left", "right"):
            assert found[f"{side} elbow"] == pytest.approx(70)
            assert found[f"{side} knee"] == pytest.approx(35)
            assert found[f"{side} upper arm forward"] == pytest.approx(arm)


def test_errors_have_a_sign_and_go_the_short_way_round():
    values = angle_errors(person(elbow=15, arm=-175), person(elbow=40, arm=170))
    assert values["left elbow, true"] == pytest.approx(40)
    assert values["left elbow, off"] == pytest.approx(-25)
    assert values["left elbow, error"] == pytest.approx(25)
    assert values["right upper arm forward, off"] == pytest.approx(15)
    assert values["left knee, error"] == pytest.approx(0, abs=1e-6)


def test_lengthened_landmarks_are_longer_by_the_factors_that_the_table_lists():
    true = np.random.default_rng(0).normal(size=(4, 33, 3))
    hips = [BODY_KEYPOINTS.index(f"{s}_hip") for s in ("left", "right")]
    true -= true[:, hips].mean(1, keepdims=True)
    ratios = bone_ratios(lengthened(true) / ADULT, true)
    assert set(ratios) == {f"bone {name}" for name in bones()}
    for name, (kind, *_) in bones().items():
        assert ratios[f"bone {name}"] == pytest.approx(FACTORS[kind])
    assert bone_ratios(0.8 * true, true)["bone head"] == pytest.approx(0.8)


def rows_of(pools: dict[str, list[float]]) -> list[dict]:
    """Clips whose bones are all shortened by a factor and whose elbows bend by 100 times it, 10
    too much on the left and 20 too little on the right."""
    keys = {"method": "smplify-x", "weights": "shipped"}
    rows = []
    for pool, factors in pools.items():
        for f in factors:
            row = keys | {"pool": pool} | {f"bone {name}": f for name in bones()}
            row |= angle_errors(person(elbow=100 * f + 10), person(elbow=100 * f))
            right = angle_errors(person(elbow=100 * f - 20), person(elbow=100 * f))
            rows.append(row | {k: v for k, v in right.items() if k.startswith("right")})
    return rows


def test_tables_keep_the_test_people_apart():
    rows = rows_of({"validation": [0.5, 0.7], "train": [0.9], "test": [0.25]})
    knee = next(r for r in bone_summary(rows) if r["bone"] == "knee")
    assert knee["validation"] == pytest.approx(0.6) and knee["train"] == pytest.approx(0.9)
    assert knee[BOTH] == pytest.approx(0.7) and knee["test"] == pytest.approx(0.25)
    assert knee["inverse"] == pytest.approx(1 / 0.7) and knee["factor"] == FACTORS["knee"]

    elbow, test = (r for r in angle_summary(rows) if r["angle"] == "elbow")
    # Six elbows in order of the true angle: 50, 50, 70, 70, 90, 90.
    assert (elbow["count"], elbow["error"]) == (6, pytest.approx(15))
    assert elbow["first"] == "-5.0 at 50" and elbow["second"] == "-5.0 at 70"
    assert elbow["third"] in ("+10.0 at 90", "-20.0 at 90")
    assert (test["group"], test["count"], test["first"]) == ("test", 2, "+10.0 at 25")
    assert "third" not in test


def test_what_fits_no_landmarks_has_no_bones():
    rows = rows_of({"train": [0.5]})
    bare = [
        {k: v for k, v in r.items() if not k.startswith("bone")} | {"method": "graphcmr"}
        for r in rows
    ]
    assert {r["method"] for r in bone_summary(rows + bare)} == {"smplify-x"}
    assert {r["method"] for r in angle_summary(rows + bare)} == {"smplify-x", "graphcmr"}
    text = sections(rows)
    assert "| smplify-x | shipped | thumb | – | 0.500 | 0.500 | 0.50, 0.50 | 2.000 |" in text
