"""What every backbone makes of the benchmark, kept beside its clips.

Smoothers train on these: on the errors that reconstruction really makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from mvai.benchmark.clips import POOLS, clips_in, pools_of
from mvai.io.archive import Archive, StageRecord
from mvai.progress import Progress
from mvai.reconstruct import Reconstructor, method
from mvai.types import MvaiError

BACKBONES: dict[str, Callable[[], Reconstructor]] = {
    "smplify-x-paper": lambda: method("smplify-x")(setting="paper"),
    "smplify-x": lambda: method("smplify-x")(),
    "graphcmr": lambda: method("graphcmr")(),
    "graphcmr+smplify-x": lambda: method("smplify-x")(start="graphcmr"),
}
"""Name of each backbone and how it is made; a name is also a file name."""


def reconstruct_benchmark(
    benchmark: Path,
    backbone: str,
    pools: Sequence[str],
    limit: int | None,
    progress: Progress,
) -> int:
    """Reconstruct the clips that have no result of this backbone yet; returns how many.

    Args:
        pools: Which of `POOLS`; all that the benchmark has when none is named.
        limit: At most the first so many clips of each pool.

    Raises:
        MvaiError: there is no such backbone or pool, or the benchmark has no such clips.
    """
    if backbone not in BACKBONES:
        raise MvaiError(f"{backbone}: no such backbone; choose one of {', '.join(BACKBONES)}.")
    if unknown := set(pools) - set(POOLS):
        raise MvaiError(f"{sorted(unknown)[0]}: no such clips; choose one of {', '.join(POOLS)}.")
    pools = pools or pools_of(benchmark)
    clips = [c for pool in pools for c in list(clips_in(benchmark, pool))[:limit]]
    wanted = [c for c in clips if not (c.folder / f"{backbone}.npz").exists()]
    reconstructor = BACKBONES[backbone]()
    for done, clip in enumerate(wanted):
        progress(len(clips) - len(wanted) + done, len(clips))
        keypoints = clip.keypoints()
        if keypoints is None:
            continue
        start = time.perf_counter()
        raw = reconstructor.reconstruct(keypoints)
        seconds = time.perf_counter() - start
        record = StageRecord(backbone, asdict(cast(Any, reconstructor)), "", seconds)
        clip.keep(backbone, Archive(raw=raw, stages={"reconstruct": record}))
    progress(len(clips), len(clips))
    return len(wanted)
