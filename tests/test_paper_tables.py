"""The paper's tables and figures by command, on the tiny benchmark."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvai.benchmark.clips import clips_in
from mvai.benchmark.reconstructions import reconstruct_benchmark
from mvai.body.anny import anny_body
from mvai.evaluate import ablations, smoothers
from mvai.evaluate.ablations import evaluate_ablation, variants
from mvai.evaluate.figures import figure6, figure7
from mvai.evaluate.labelled_clips import is_benchmark, labelled_clips
from mvai.evaluate.table1 import evaluate_table1, measures
from mvai.nets.mesh2mesh import Mesh2MeshSettings
from mvai.progress import Silent
from mvai.smooth import method
from mvai.train.smoothers import SmootherRecipe
from mvai.types import MeshSequence, MvaiError

TINY = Path(__file__).parent / "tiny_benchmark"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "benchmark"
    shutil.copytree(TINY, folder)
    pools = ("train", "validation", "test", "hard")
    reconstruct_benchmark(folder, "smplify-x", pools, None, lambda done, total: None)
    return folder


def test_the_truth_has_no_error_and_a_step_aside_does_not_count(benchmark):
    truth = next(iter(clips_in(benchmark, "test"))).scene.sequence(anny_body())
    same = measures(truth, truth)
    assert max(same["mpjpe_mm"], same["pve_mm"], same["accel_error_mm"]) < 1e-6
    aside = measures(truth.with_vertices(truth.vertices + np.float32(0.5)), truth)
    assert aside["mpjpe_mm"] < 0.01 and aside["pve_mm"] < 0.01
    larger = measures(truth.with_vertices(truth.vertices * np.float32(1.1)), truth)
    assert larger["mpjpe_mm"] > 20 and larger["pa_mpjpe_mm"] < 0.01


def test_table1_says_what_each_smoother_changes(benchmark, tmp_path):
    pools = ("test", "hard", "validation")
    text = evaluate_table1(benchmark, tmp_path / "table1.md", Silent(), None, pools)
    page = (tmp_path / "table1.md").read_text()
    assert text in page and "| 136.4 | 128.4 | -5.9 |" in page
    for smoother in ("none", "mesh2mesh", "savgol"):
        assert f"| test | smplify-x | {smoother} |" in page
    assert (tmp_path / "table1.csv").read_text().count("hard/00000,smplify-x") >= 3
    assert "| validation | smplify-x | adaptive |" in page


def test_tables_and_figures_ask_for_reconstructions(tmp_path):
    shutil.copytree(TINY, tmp_path / "b")
    with pytest.raises(MvaiError, match="mvai benchmark reconstruct"):
        evaluate_table1(tmp_path / "b", tmp_path / "t.md", Silent())
    with pytest.raises(MvaiError, match="mvai benchmark reconstruct"):
        figure6(tmp_path / "b", tmp_path / "f.png", tmp_path, Silent(), "smplify-x", "none")
    with pytest.raises(MvaiError, match="mvai benchmark reconstruct"):
        labelled_clips(tmp_path / "b", "smplify-x", "test", tmp_path)
    assert is_benchmark(TINY) and not is_benchmark(tmp_path / "nowhere")
    assert not (tmp_path / "t.md").exists() and not (tmp_path / "f.png").exists()


def test_the_variants_are_the_papers():
    kernels = [v.settings.kernel for v in variants("table3")[:4]]
    assert kernels == [(5, 3, 3), (3, 1, 3), (5, 1, 1), (5, 1, 3)]
    assert [v.settings.layers for v in variants("table3")[4:]] == [3, 8, 12]
    assert [v.motion_weight for v in variants("table2")] == [0, 1]


def test_table2_trains_measures_and_goes_on(benchmark, tmp_path, monkeypatch):
    small = Mesh2MeshSettings(layers=2, width=2)
    monkeypatch.setattr(
        ablations, "variants",
        lambda which: [replace(v, settings=small, paper_mm=None) for v in variants(which)],
    )  # fmt: skip
    monkeypatch.setattr("mvai.evaluate.work.fingerprint", lambda: "this code")
    trained = []
    real = ablations.trained_result
    monkeypatch.setattr(ablations, "trained_result", lambda *a: trained.append(a) or real(*a))
    recipe = SmootherRecipe(steps=3, batch=2, frames=8, validate_every=2)
    for _ in range(2):
        evaluate_ablation(
            "table2", benchmark, tmp_path / "t2.md", tmp_path, Silent(), ("smplify-x",), 2, recipe
        )
    assert len(trained) == 4, "two variants from two seeds, kept for the second run"
    page = (tmp_path / "t2.md").read_text()
    assert "| smplify-x | none |" in page and "| smplify-x | without motion loss |" in page


def test_an_ablation_without_networks_is_refused(tmp_path):
    with pytest.raises(MvaiError, match="--seeds 1 or more"):
        evaluate_ablation("table2", tmp_path, tmp_path / "t.md", tmp_path, Silent(), seeds=0)
    assert not (tmp_path / "t.md").exists()


def test_figures_show_every_video_and_three_strips(benchmark, tmp_path):
    said = figure7(benchmark, tmp_path / "7.png", tmp_path, Silent(), ["smplify-x"], "gaussian")
    assert "of 1 videos" in said
    said = figure6(benchmark, tmp_path / "6.png", tmp_path, Silent(), "smplify-x", "gaussian")
    assert "test/00000" in said
    picture = np.asarray(Image.open(tmp_path / "6.png"))
    assert picture.shape[0] == 3 * 220
    video, meshes = picture[:220], picture[220:440]
    assert np.abs(video.astype(int) - meshes).mean() > 5
    assert np.asarray(Image.open(tmp_path / "7.png")).std() > 5


def test_what_a_smoother_did_to_a_body_is_seen():
    body = anny_body()
    standing = np.repeat(body.template.numpy()[None], 12, axis=0)
    raw = MeshSequence(standing, body.faces, 25.0, body.topology)
    same = smoothers.measures(raw, raw)
    assert same["deeper_mm"] == 0 and same["edge_p1"] == same["edge_p99"] == 1
    assert same["slide_mm"] < 1e-6 and same["accel_mm"] < 1e-6 and np.isnan(same["fast_mm"])
    # Everything sinks by 5 cm, grows by a tenth and slides by a centimetre a frame.
    changed = standing * 1.1 + np.arange(12)[:, None, None] * np.array([0.01, 0, 0])
    changed[..., 1] += standing[..., 1].min() - changed[..., 1].min() - 0.05
    found = smoothers.measures(raw, raw.with_vertices(changed.astype(np.float32)))
    assert found["deeper_mm"] == pytest.approx(50, abs=0.1)
    assert found["slide_mm"] == pytest.approx(10, abs=0.1)
    assert found["edge_p1"] == pytest.approx(1.1, abs=0.01)
    # The body flies by at 2.5 m/s, and is a centimetre behind.
    flying = standing + np.arange(12)[:, None, None] * np.array([0.1, 0, 0])
    raw = raw.with_vertices(flying.astype(np.float32))
    late = raw.with_vertices((flying - [0.01, 0, 0]).astype(np.float32))
    assert smoothers.measures(raw, late)["fast_mm"] == pytest.approx(10, abs=0.1)


def test_smoothers_on_real_videos_have_a_page(benchmark, tmp_path, monkeypatch):
    raw = next(iter(clips_in(benchmark, "test"))).reconstruction("smplify-x")
    monkeypatch.setattr(smoothers, "reconstructed", lambda video, work: raw)
    few = {name: method(name)() for name in ("none", "adaptive")}
    monkeypatch.setattr(smoothers, "smoothers_for", lambda backbone: few)
    monkeypatch.setattr("mvai.evaluate.work.fingerprint", lambda: "this code")
    folder = benchmark / "test" / "00000"
    text = smoothers.evaluate_smoothers([folder], tmp_path / "s.md", tmp_path, Silent())
    assert "| adaptive |" in text and text in (tmp_path / "s.md").read_text()
    assert (tmp_path / "s.csv").read_text().count("\nvideo,") == 2
    with pytest.raises(MvaiError, match="no video"):
        smoothers.evaluate_smoothers([tmp_path], tmp_path / "n.md", tmp_path, Silent())
