"""What a detector sees in the clips of the benchmark.

The same clips through another detector are another benchmark: its own errors to train on, and a
comparison of detectors whose truth is exact.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from mvai.benchmark.clips import KEYPOINTS, POOLS, TRUTH, VIDEO, clips_in, pools_of
from mvai.benchmark.work_folders import clear_leftovers, work_folder
from mvai.detect import Detector
from mvai.io.archive import Archive, write_archive
from mvai.io.atomic import make_folder
from mvai.io.video import open_video
from mvai.progress import Progress
from mvai.types import MvaiError, NobodyError


def detect_clip(folder: Path, detector: Detector) -> None:
    """Key-points of one clip; a clip in which nobody is found has none."""
    try:
        keypoints = detector.detect(open_video(folder / VIDEO))
    except NobodyError:
        return
    write_archive(folder / KEYPOINTS, Archive(video=VIDEO, keypoints=keypoints))


def detect_benchmark(
    source: Path, out: Path, detector: Detector, pools: Sequence[str], progress: Progress
) -> int:
    """The clips of a benchmark, seen by another detector; returns how many there are.

    Args:
        source: folder of the benchmark.
        out: folder of the new one; clips that are there already are left as they are.
        pools: which of `POOLS`; all that the benchmark has when none is named.

    Raises:
        MvaiError: there is no such pool, or the benchmark has no such clips.
    """
    if unknown := set(pools) - set(POOLS):
        raise MvaiError(f"{sorted(unknown)[0]}: no such clips; choose one of {', '.join(POOLS)}.")
    if out.resolve() == source.resolve():
        raise MvaiError(f"{out}: this is the benchmark itself; name another folder to write to.")
    clips = [(p, c) for p in pools or pools_of(source) for c in clips_in(source, p)]
    make_folder(out)
    clear_leftovers(out)
    wanted = [(p, c) for p, c in clips if not (out / p / c.folder.name / TRUTH).exists()]
    progress(done := len(clips) - len(wanted), len(clips))
    for pool, clip in wanted:
        (out / pool).mkdir(exist_ok=True)
        with work_folder(out, pool, int(clip.folder.name)) as work:
            for name in (VIDEO, TRUTH):
                shutil.copyfile(clip.folder / name, work / name)
            detect_clip(work, detector)
            work.chmod(0o755)
            work.replace(out / pool / clip.folder.name)
        progress(done := done + 1, len(clips))
    return len(clips)
