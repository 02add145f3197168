"""The paper's Table 1 on data with a truth: every backbone, as it is and after every smoother."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mvai.benchmark.clips import BenchmarkClip, clips_in
from mvai.benchmark.reconstructions import BACKBONES
from mvai.body.anny import anny_body
from mvai.evaluate.metrics import accel, pose_errors, root_relative
from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, csv_text, markdown_table
from mvai.evaluate.work import write_text
from mvai.io.archive import read_archive
from mvai.progress import Report
from mvai.smooth import METHODS, Smoother, method
from mvai.smooth.adaptive import Adaptive
from mvai.smooth.mesh2mesh import SHIPPED, Mesh2Mesh
from mvai.train.smoothing_clips import HIPS, JOINTS
from mvai.types import MeshSequence, MvaiError

FRAMES = 16
"""T of the paper: the middle frames of a clip are measured."""
CALMER_S = 0.12
"""Gaussian after mesh2mesh: of 0.06, 0.08, 0.1 and 0.12 s the one that lowers Accel of the default
setting on the validation people clearly to less than a third (3.3 times; 0.1 s: 3.02 times)."""
PAPER_MM = {"smplify-x-paper": (136.4, 128.4), "graphcmr": (74.7, 72.8)}
"""The paper's Table 1 on Human3.6M: a backbone's MPJPE before and after mesh2mesh."""
MEASURES = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "accel_mm", "accel_error_mm", "true_accel_mm")
COLUMNS = (
    Column("clips", "pool"),
    Column("backbone", "backbone"),
    Column("smoother", "smoother"),
    Column("MPJPE mm", "mpjpe_mm", 1),
    Column("change %", "change", 1),
    Column("median clip", "median_mm", 1),
    Column("worst clip", "worst_mm", 1),
    Column("PA-MPJPE mm", "pa_mpjpe_mm", 1),
    Column("PVE mm", "pve_mm", 1),
    Column("Accel", "accel_mm", 1),
    Column("Accel error", "accel_error_mm", 1),
    Column("processor ms a frame", "smooth_ms", 2),
    Column("backbone, frames/s", "rate", 0),
)


def measures(sequence: MeshSequence, truth: MeshSequence) -> dict[str, float]:
    """Errors of the middle frames, in the axes of each sequence's own camera, millimetres.

    MPJPE and PVE (per-vertex error) are relative to the middle of the hips.
    """
    body = anny_body()
    middle = slice(max(0, (sequence.frames - FRAMES) // 2), None)
    surfaces, joints = [], []
    for s in (sequence, truth):
        assert s.camera is not None
        R, t = s.camera.T_camera_world[:3, :3], s.camera.T_camera_world[:3, 3]
        vertices = s.vertices[middle][:FRAMES] @ R.T.astype(np.float32) + t.astype(np.float32)
        points = body.regress(JOINTS, vertices).astype(np.float64)
        surfaces.append(vertices - points[:, list(HIPS)].mean(1, keepdims=True))
        joints.append(points)
    apart = np.linalg.norm(surfaces[0] - surfaces[1], axis=-1)
    return pose_errors(joints[0], joints[1], HIPS) | {
        "pve_mm": 1000 * float(apart.mean()),
        "true_accel_mm": accel(root_relative(joints[1], HIPS)),
    }


@cache
def smoothers_for(backbone: str) -> dict[str, Smoother]:
    """Every smoother with its shipped weights, and mesh2mesh with weights of the backbone's own."""
    found: dict[str, Smoother] = {name: method(name)() for name in METHODS}
    found["adaptive, corrected"] = Adaptive(correct=1.0)
    found["mesh2mesh and Gaussian"] = Mesh2Mesh(sigma_s=CALMER_S)
    own = SHIPPED.with_name(f"mesh2mesh_{backbone}.safetensors")
    if own.exists():
        found["mesh2mesh trained for it"] = Mesh2Mesh(weights=own)
    return found


def clip_rows(
    clip: BenchmarkClip, backbone: str, smoothers: Mapping[str, Smoother]
) -> list[dict[str, Any]]:
    """One clip by one backbone after every smoother; empty when it was not reconstructed."""
    path = clip.folder / f"{backbone}.npz"
    if not path.exists():
        return []
    archive = read_archive(path)
    assert archive.raw is not None
    truth = clip.scene.sequence(anny_body())
    rows = []
    for name, smoother in smoothers.items():
        start = time.process_time()
        smooth = smoother.smooth(archive.raw)
        seconds = time.process_time() - start
        rows.append(
            measures(smooth, truth)
            | {
                "pool": clip.folder.parent.name,
                "clip": clip.name,
                "backbone": backbone,
                "smoother": name,
                "smooth_ms": 1000 * seconds / archive.raw.frames,
                "rate": archive.raw.frames / archive.stages["reconstruct"].seconds,
            }
        )
    return rows


def evaluate_table1(
    benchmark: Path, output: Path, report: Report, limit: int | None = None,
    pools: Sequence[str] = ("test", "hard"),
) -> str:  # fmt: skip
    """Measure the reconstructions that are there, write the page and the CSV beside it.

    Args:
        benchmark: its folder; `mvai benchmark reconstruct` makes the reconstructions.
        output: Markdown file to write.
        limit: at most so many clips of each pool.
        pools: which clips.

    Raises:
        MvaiError: nothing has been reconstructed, or there is no such pool.
    """
    clips = [c for pool in pools for c in list(clips_in(benchmark, pool))[:limit]]
    found: list[dict[str, Any]] = []
    with report.stage("table 1") as progress:
        for done, clip in enumerate(clips):
            progress(done, len(clips))
            for backbone in BACKBONES:
                found += clip_rows(clip, backbone, smoothers_for(backbone))
        progress(len(clips), len(clips))
    if not found:
        raise MvaiError(
            f"{benchmark}: nothing has been reconstructed here; run `mvai benchmark reconstruct` "
            "first."
        )
    means = summary(found)
    write_text(output.with_suffix(".csv"), csv_text(found))
    write_text(output, page(means))
    return markdown_table(COLUMNS, means)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over clips, medians of times; a group's first smoother is what others change."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r["pool"], r["backbone"], r["smoother"]), []).append(r)
    before: dict[tuple[str, str], float] = {}
    out = []
    for (pool, backbone, smoother), own in groups.items():
        row: dict[str, Any] = {"pool": pool, "backbone": backbone, "smoother": smoother}
        row |= {k: float(np.mean([r[k] for r in own])) for k in MEASURES}
        errors = [r["mpjpe_mm"] for r in own]
        row |= {"median_mm": float(np.median(errors)), "worst_mm": float(np.max(errors))}
        row["count"] = len(own)
        if (pool, backbone) not in before:
            before[pool, backbone] = row["mpjpe_mm"]
            row["rate"] = float(np.median([r["rate"] for r in own]))
        else:
            row["change"] = 100 * (row["mpjpe_mm"] / before[pool, backbone] - 1)
            row["smooth_ms"] = float(np.median([r["smooth_ms"] for r in own]))
        out.append(row)
    return out


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown page."""
    counts = ", ".join(
        f"{r['count']} {r['pool']} clips by {r['backbone']}"
        for r in rows if r["smoother"] == rows[0]["smoother"]
    )  # fmt: skip
    # Backbones differ by a clip or two in which they found nobody; the first stands for all.
    pools = {r["pool"]: r["true_accel_mm"] for r in reversed(rows)}
    true = ", ".join(f"{pools[p]:.1f} on {p} clips" for p in reversed(pools))
    paper = "\n".join(
        f"| {name} | {before} | {after} | {100 * (after / before - 1):.1f} |"
        for name, (before, after) in PAPER_MM.items()
    )
    return f"""# Table 1: backbones with and without mesh2mesh

{header()}
The open benchmark (`mvai benchmark build`, `mvai benchmark reconstruct`): motion capture, drawn and
detected; the people of test and hard clips were seen by no training, those of validation clips
chose the weights. {counts}; the middle {FRAMES} frames of each.

{markdown_table(COLUMNS, rows)}
- MPJPE: mean over frames and 14 joints (shoulders, elbows, wrists, hips, knees, ankles, neck, top
  of the head), relative to the middle of the hips, in camera axes, without scale or rotation; PVE:
  the same of all vertices; PA-MPJPE after the best similarity of every frame.
- Accel: mean norm of the second difference of root-relative joints, mm/frame²; Accel error: of its
  difference to the truth. The truth's own Accel is {true}; below that, motion is lost.
- mesh2mesh has the weights that ship for all backbones, trained on those of smplify-x; where a
  backbone has weights of its own, they have a row of their own.
- "processor ms a frame" is the smoother's time on all its threads for all
  {len(anny_body().template)} vertices (median).

The paper's own Table 1, on Human3.6M:

| backbone | MPJPE mm | with mesh2mesh | change % |
|---|---|---|---|
{paper}
"""
