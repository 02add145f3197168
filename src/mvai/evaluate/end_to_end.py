"""Time and memory of `mvai imitate` as a user runs it, in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, markdown_table
from mvai.evaluate.work import isolated, kept, work_folder, write_text
from mvai.io.characters import read_character
from mvai.io.fingerprint import file_sha256
from mvai.io.video import Frame, open_video, write_video
from mvai.progress import Report
from mvai.types import MvaiError

WIDTH, HEIGHT, FPS, SECONDS = 1280, 720, 30, 10
COLUMNS = (
    Column("run", "run"),
    Column("wall clock s", "wall_s", 1),
    Column("frames/s", "frames_per_s", 1),
    Column("peak memory GB", "peak_gb", 2),
    Column("it says of itself", "printed"),
)


def make_clip(source: Path, path: Path) -> int:
    """Ten seconds of 1280x720 at 30 frames a second made of another video; returns the frames.

    The source is taken at its own speed and plays back and forth, so that there is no cut in the
    motion; the middle of each picture is kept.

    Raises:
        MvaiError: the source cannot be read.
    """
    video = open_video(source)
    frames = [filled(f) for f in video.iterate()]
    turn = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    total = SECONDS * FPS
    with write_video(path, FPS, WIDTH, HEIGHT) as writer:
        for i in range(total):
            writer.write(frames[turn[round(i * video.fps / FPS) % len(turn)]])
    return total


def filled(image: Frame) -> Frame:
    """The middle of a picture, scaled to fill 1280x720."""
    from PIL import Image, ImageOps

    fitted = ImageOps.fit(Image.fromarray(image), (WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    return np.asarray(fitted)


def timed_run(arguments: list[str]) -> tuple[float, float, str]:
    """Runs `mvai` with some arguments; seconds, peak memory in GB and what it printed.

    Raises:
        MvaiError: it failed.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "mvai", *arguments], stdout=said, stderr=complained,
            env=os.environ | {"MVAI_CACHE": "off"},  # Every run meets the character anew.
        )  # fmt: skip
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.wait()
            raise
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complained.seek(0)
        if process.returncode != 0:
            lines = complained.read().strip().splitlines()
            raise MvaiError(f"mvai {' '.join(arguments)} failed: {lines[-1] if lines else ''}")
        # Linux counts kilobytes, macOS bytes.
        peak_gb = usage.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
        return seconds, peak_gb, said.read()


def evaluate_end_to_end(
    video: Path, identity: Path, output: Path, runs: int, work: Path, report: Report
) -> str:
    """Measures and writes the page; returns its table.

    Raises:
        MvaiError: an input cannot be used, a run fails, or the page cannot be written.
    """
    if runs < 1:
        raise MvaiError(f"--runs {runs}: there is nothing to measure; run it once at least.")
    vertices = sum(len(p.vertices) for p in read_character(identity).parts)
    work = work_folder(work)
    stem = f"{video.stem}_{file_sha256(video)[:8]}"
    clip = work / f"{stem}.mp4"
    if not clip.exists():
        # In a process of its own, since what this one holds would be counted to those it starts.
        with report.stage("make clip"):
            isolated(make_clip, video, clip)
    frames = open_video(clip).frames
    rows = []
    for run in range(1, runs + 1):

        def make() -> dict[str, Any]:
            # A folder of its own: nothing of an earlier run may be taken up.
            with tempfile.TemporaryDirectory(dir=work) as folder, report.stage("imitate"):
                seconds, peak_gb, text = timed_run(
                    ["imitate", str(clip), "--identity", str(identity),
                     "-o", str(Path(folder) / "out.glb")]
                )  # fmt: skip
            printed = "; ".join(text.strip().splitlines()[1:])
            return {"wall_s": seconds, "peak_gb": peak_gb, "printed": printed}

        name = f"{stem}_{identity.stem}_{file_sha256(identity)[:8]}_{run}.json"
        row = kept(work, name, make)
        rows.append(row | {"run": run, "frames_per_s": frames / row["wall_s"]})
    middle: dict[str, Any] = {"run": "median", "printed": ""}
    for key in ("wall_s", "frames_per_s", "peak_gb"):
        middle[key] = median(row[key] for row in rows)
    table = markdown_table(COLUMNS, [*rows, middle])
    write_text(
        output,
        f"""# The main job end to end

{header()}
`mvai imitate CLIP --identity {identity.name} -o out.glb`, each time in a fresh process and an
empty folder: {frames} frames of {WIDTH}x{HEIGHT} at {FPS} a second ({video.name} played back and
forth at its own speed), a character of {vertices} vertices.

{table}
Wall clock from the start of the process to its end, start of Python and reading and writing
included; peak memory as the system counts it for the whole process.
""",
    )
    return table
