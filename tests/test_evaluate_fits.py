"""`mvai evaluate fit`: errors of fitted bodies by people and by the quality of detection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvai.benchmark.clips import clips_in
from mvai.body.anny import anny_body
from mvai.evaluate.fits import (
    Fitted,
    error_2d,
    errors,
    evaluate_fits,
    is_graphcmr,
    known,
    measured,
    stature_m,
    summary,
)
from mvai.nets.landmark_correction import LandmarkCorrection
from mvai.progress import Silent
from mvai.train.smoothing_clips import LIMB_JOINTS
from mvai.types import MvaiError

TINY = Path(__file__).parent / "tiny_benchmark"


@pytest.fixture(scope="module")
def truth():
    clip = known(anny_body(), next(iter(clips_in(TINY, "test"))))
    assert clip is not None
    return clip


def test_the_truth_has_no_error_and_a_larger_body_only_its_size(truth):
    body = anny_body()
    scene = next(iter(clips_in(TINY, "test"))).scene
    shape = torch.from_numpy(np.asarray(scene.shape)).reshape(-1)
    same = errors(Fitted(truth.points + 3.0, shape, truth.up), truth, body)
    assert same["mpjpe_mm"] < 1e-6 and same["stature"] == pytest.approx(1.0)
    assert same["vertical_deg"] < 1e-6
    tilt = Rotation.from_euler("X", 20, degrees=True).as_matrix()
    larger = errors(Fitted(truth.points * 1.1, shape, tilt @ truth.up), truth, body)
    assert larger["vertical_deg"] == pytest.approx(20)
    assert np.isnan(errors(Fitted(truth.points, shape, None), truth, body)["vertical_deg"])
    assert larger["mpjpe_mm"] > 20 and larger["scaled_mm"] < 1e-6


def test_stature_is_the_height_at_rest():
    body = anny_body()
    mean = stature_m(body, torch.zeros(body.shape_size))
    assert mean == pytest.approx(np.ptp(body.template.numpy()[:, 1]))
    assert 1.4 < mean < 2.0


def test_quality_of_detection_is_measured_in_heights(truth):
    scene = next(iter(clips_in(TINY, "test"))).scene
    xy = scene.camera.project(scene.joints_and_points(anny_body(), LIMB_JOINTS)[1].astype(float))
    height_px = np.ptp(xy[..., 1], axis=1).mean()
    aside = replace(truth.keypoints, xy_px=truth.keypoints.xy_px + height_px)
    assert 0 < truth.error_2d < 0.2
    assert error_2d(aside, xy) == pytest.approx(np.sqrt(2), abs=2 * truth.error_2d)


def test_quarters_are_by_2d_error():
    rows = [
        {"method": "a", "weights": "shipped", "pool": "test", "clip": str(i), "error_2d": i / 100,
         "mpjpe_mm": 10.0 * i, "scaled_mm": 9.0 * i, "stature": 1.0, "vertical_deg": 0.0}
        for i in range(8)
    ]  # fmt: skip
    found = {r["group"]: r for r in summary(rows[::-1])}
    assert found["2D: best quarter"]["mpjpe_mm"] == 5 and found["2D: best quarter"]["count"] == 2
    assert found["2D: worst quarter"]["mpjpe_mm"] == 65
    assert found["all"]["mpjpe_mm"] == found["test"]["mpjpe_mm"] == 35
    # Close-ups have a row of their own and change no other.
    near = [r | {"pool": "close", "mpjpe_mm": 900.0, "error_2d": 0.9} for r in rows[:3]]
    with_near = {r["group"]: r for r in summary([*rows, *near])}
    assert with_near.pop("close")["mpjpe_mm"] == 900
    assert with_near == found


def test_page_has_the_shipped_weights_and_others(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(LandmarkCorrection(8).state_dict(), tmp_path / "mine.safetensors")
    text = evaluate_fits(
        TINY, tmp_path / "fit.md", Silent(), weights=[tmp_path / "mine.safetensors"], train=1
    )
    page = (tmp_path / "fit.md").read_text()
    assert text in page and "| smplify-x | shipped | validation | 1 |" in page
    assert f"| smplify-x | {tmp_path / 'mine.safetensors'} | train | 1 |" in page
    # An untrained correction passes the detector's depth on, which is another result.
    values = {line.split("|")[2].strip(): line.split("|")[5] for line in text.splitlines()
              if "| test |" in line}  # fmt: skip
    assert len(set(values.values())) == 2
    assert (tmp_path / "fit.csv").read_text().count("test/00000") == 2


def test_what_cannot_be_measured_is_said_in_a_sentence(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(MvaiError, match="choose one of smplify-x, graphcmr"):
        measured(["smplify"], [])
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(MvaiError, match="no file of weights"):
        measured(["smplify-x"], [tmp_path / "a.safetensors"])
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(MvaiError, match="neither"):
        is_graphcmr(tmp_path / "b.safetensors")
    save_file(LandmarkCorrection(8).state_dict(), tmp_path / "c.safetensors")
    with pytest.raises(MvaiError, match="none of the methods uses"):
        measured(["graphcmr"], [tmp_path / "c.safetensors"])
    with pytest.raises(MvaiError, match="mvai benchmark build"):
        evaluate_fits(tmp_path, tmp_path / "fit.md", Silent())
    assert not (tmp_path / "fit.md").exists()
