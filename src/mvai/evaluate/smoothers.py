"""What smoothers do to bodies from real videos: feet, floor, edges, fast hands, and their time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvai.benchmark.reconstructions import BACKBONES
from mvai.body.anny import anny_body
from mvai.detect.mediapipe_holistic import MediapipeHolistic
from mvai.evaluate.metrics import (
    SHORTEST_EDGE_M,
    accel,
    edges_of,
    foot_slide,
    root_relative,
    sole_vertices,
)
from mvai.evaluate.provenance import header
from mvai.evaluate.table1 import smoothers_for
from mvai.evaluate.tables import Column, csv_text, markdown_table
from mvai.evaluate.work import kept, work_folder, write_text
from mvai.io.archive import Archive, read_archive, write_archive
from mvai.io.fingerprint import file_sha256
from mvai.io.video import open_video
from mvai.progress import Report
from mvai.smooth import Smoother
from mvai.train.smoothing_clips import HIPS, JOINTS
from mvai.types import MeshSequence, MvaiError

BACKBONE = "smplify-x"
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".gif")
SAMPLES = 64
"""Frames in which edges are looked at."""
FAST_M_S = 1.5
"""A wrist faster than this is fast."""
RUNS = 3
"""The least of so many times is the time: a busy machine only adds to it."""
COLUMNS = (
    Column("smoother", "smoother"),
    Column("Accel", "accel_mm", 2),
    Column("fast wrists moved mm", "fast_mm", 1),
    Column("foot slide mm/frame", "slide_mm", 2),
    Column("its median", "slide_median_mm", 2),
    Column("through the floor mm", "deeper_mm", 1),
    Column("shortest edges", "edge_p1", 3),
    Column("longest edges", "edge_p99", 3),
    Column("ms a frame", "wall_ms", 2),
    Column("processor ms a frame", "processor_ms", 2),
)


def measures(raw: MeshSequence, smooth: MeshSequence) -> dict[str, float]:
    """What a smoother made of a reconstruction of our body."""
    body = anny_body()
    rest = body.template.numpy()
    soles = sole_vertices(rest)
    feet = [smooth.vertices[:, s].astype(np.float64) for s in soles]
    slide, median, _ = foot_slide(feet, float(np.ptp(rest[:, 1])))
    floor = min(float(raw.vertices[:, s, 1].min()) for s in soles)
    deepest = min(float(f[..., 1].min()) for f in feet)
    edges = edges_of(body.faces)
    step = max(1, raw.frames // SAMPLES)
    before, after = (
        np.linalg.norm(s.vertices[::step, edges[:, 0]] - s.vertices[::step, edges[:, 1]], axis=-1)
        for s in (raw, smooth)
    )
    ratio = after[before > SHORTEST_EDGE_M] / before[before > SHORTEST_EDGE_M]
    low, high = np.percentile(ratio, [1, 99])
    wrists = ("left_wrist", "right_wrist")
    seen, moved = (body.regress(wrists, s.vertices).astype(np.float64) for s in (raw, smooth))
    # Speed between the frames before and after, which jitter does not make.
    speed = np.linalg.norm(seen[2:] - seen[:-2], axis=-1) * raw.fps / 2
    distance = np.linalg.norm(moved - seen, axis=-1)[1:-1][speed > FAST_M_S]
    joints = body.regress(JOINTS, smooth.vertices).astype(np.float64)
    return {
        "accel_mm": accel(root_relative(joints, HIPS)),
        "fast_mm": 1000 * float(distance.mean()) if len(distance) else float("nan"),
        "slide_mm": slide,
        "slide_median_mm": median,
        "deeper_mm": 1000 * max(0.0, floor - deepest),
        "edge_p1": float(low),
        "edge_p99": float(high),
    }


def video_rows(raw: MeshSequence, smoothers: Mapping[str, Smoother]) -> list[dict[str, Any]]:
    """One reconstruction after every smoother, with the time that took."""
    rows = []
    for name, smoother in smoothers.items():
        smooth, wall, processor = raw, [], []
        for _ in range(RUNS):
            begin, spent = time.perf_counter(), time.process_time()
            smooth = smoother.smooth(raw)
            wall.append(time.perf_counter() - begin)
            processor.append(time.process_time() - spent)
        rows.append(
            {"smoother": name}
            | measures(raw, smooth)
            | {
                "wall_ms": 1000 * min(wall) / raw.frames,
                "processor_ms": 1000 * min(processor) / raw.frames,
            }
        )
    return rows


def reconstructed(video: Path, work: Path) -> MeshSequence:
    """The body in a video, found once."""
    path = work / f"{video.stem}_{file_sha256(video)[:8]}.npz"
    if not path.exists():
        keypoints = MediapipeHolistic().detect(open_video(video))
        write_archive(path, Archive(raw=BACKBONES[BACKBONE]().reconstruct(keypoints)))
    raw = read_archive(path).raw
    assert raw is not None, f"{path} was written by this function"
    return raw


def evaluate_smoothers(videos: Sequence[Path], output: Path, work: Path, report: Report) -> str:
    """Measures every smoother on every video, writes the page and the CSV beside it.

    Args:
        videos: files, or folders of them.
        output: Markdown file to write.
        work: folder in which reconstructions and finished videos are kept.

    Raises:
        MvaiError: there is no video, or one cannot be read.
    """
    files = [f for v in videos for f in (sorted(v.iterdir()) if v.is_dir() else [v])]
    files = [f for f in files if f.suffix.lower() in VIDEOS]
    if not files:
        raise MvaiError(f"{', '.join(map(str, videos))}: there is no video here; name some.")
    work = work_folder(work)
    rows: list[dict[str, Any]] = []
    with report.stage("smoothers") as progress:
        for done, file in enumerate(files):
            progress(done, len(files))

            def make(file: Path = file) -> dict[str, Any]:
                return {"rows": video_rows(reconstructed(file, work), smoothers_for(BACKBONE))}

            name = f"{file.stem}_{file_sha256(file)[:8]}.json"
            rows += [{"video": file.stem} | r for r in kept(work, name, make)["rows"]]
        progress(len(files), len(files))
    means = summary(rows)
    write_text(output.with_suffix(".csv"), csv_text(rows))
    write_text(output, page(means, files))
    return markdown_table(COLUMNS, means)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over videos; of what goes through the floor and of edges, the worst video; medians of
    times."""
    worst = {"deeper_mm": np.max, "edge_p1": np.min, "edge_p99": np.max}
    medians = {"wall_ms": np.median, "processor_ms": np.median}
    out = []
    for smoother in dict.fromkeys(r["smoother"] for r in rows):
        own = [r for r in rows if r["smoother"] == smoother]
        row: dict[str, Any] = {"smoother": smoother}
        for column in COLUMNS[1:]:
            values = np.array([r[column.key] for r in own], float)
            values = values[np.isfinite(values)]
            reduce = (worst | medians).get(column.key, np.mean)
            row[column.key] = float(reduce(values)) if len(values) else float("nan")
        out.append(row)
    return out


def page(rows: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> str:
    """The Markdown page."""
    return f"""# What smoothers do to bodies from real videos

{header()}
{len(files)} videos, reconstructed by {BACKBONE}; nothing here is compared with a truth:
{", ".join(f.stem for f in files)}.

{markdown_table(COLUMNS, rows)}
- Accel: mean norm of the second difference of 14 root-relative joints, mm/frame².
- Fast wrists: those faster than {FAST_M_S} m/s; how far the smoother moves them from where the
  reconstruction has them, which is what an arm that trails looks like.
- Foot slide: horizontal movement of the vertices of a sole within 3 cm of the floor, from frame to
  frame; mean over videos of its mean and its median.
- Through the floor: how much lower the lowest vertex of a sole gets than any does in the
  reconstruction; the worst video.
- Edges: smoothed length over that in the reconstruction, first and 99th percentile; the worst
  video.
- Times are for {len(anny_body().template)} vertices, the least of {RUNS} runs, the median over
  videos: wall clock, and processor time of all threads.
"""
