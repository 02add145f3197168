"""`mvai benchmark`: make the open benchmark and what the backbones see in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from tyro.conf import Positional

from mvai.benchmark.settings import BenchmarkSettings
from mvai.cli.numbers import Count
from mvai.cli.stage_options import StageOptions
from mvai.progress import Report


@dataclass(frozen=True)
class Build:
    """Draw motion capture to video with its exact truth, and let the detector look at it."""

    out: Positional[Path]
    """Folder of the benchmark; a run that was interrupted goes on where it stopped."""
    data: Path
    """Folder of motion capture (BVH)."""
    settings: tyro.conf.OmitArgPrefixes[BenchmarkSettings] = field(
        default_factory=BenchmarkSettings
    )
    workers: Count = 1
    """Processes that draw at the same time."""

    def run(self, options: StageOptions, report: Report) -> None:
        from mvai.benchmark.build import build_benchmark

        with report.stage("build") as progress:
            clips = build_benchmark(self.data, self.out, self.settings, self.workers, progress)
        print(f"{self.out}: {clips} clips.")


@dataclass(frozen=True)
class Detect:
    """Let another detector look at the clips of a benchmark: they become another benchmark."""

    out: Positional[Path]
    """Folder of the new benchmark; a run that was interrupted goes on where it stopped."""
    source: Path
    """Folder of the benchmark whose clips it looks at."""
    detector: str
    """A detector's name or its file, as `mvai imitate --detector` takes them."""
    pools: tuple[str, ...] = ()
    """Which clips: train, validation, test, hard, close, still, tumbling; all when none is
    named."""

    def run(self, options: StageOptions, report: Report) -> None:
        from mvai.benchmark.detections import detect_benchmark
        from mvai.pipeline import configured

        detector = configured("detect", self.detector)
        with report.stage("detect") as progress:
            clips = detect_benchmark(self.source, self.out, detector, self.pools, progress)
        print(f"{self.out}: {clips} clips.")


@dataclass(frozen=True)
class Reconstruct:
    """Reconstruct the clips of the benchmark by one or more backbones and keep the results."""

    out: Positional[Path]
    """Folder of the benchmark."""
    backbones: tuple[str, ...] = ()
    """Any of: smplify-x-paper, smplify-x, graphcmr, graphcmr+smplify-x; all when none is named."""
    pools: tuple[str, ...] = ()
    """Which clips: train, validation, test, hard, close, still, tumbling; all when none is
    named."""
    limit: Count | None = None
    """At most so many clips of each pool."""

    def run(self, options: StageOptions, report: Report) -> None:
        from mvai.benchmark.reconstructions import BACKBONES, reconstruct_benchmark

        for backbone in self.backbones or BACKBONES:
            with report.stage(backbone) as progress:
                reconstruct_benchmark(self.out, backbone, self.pools, self.limit, progress)


@dataclass(frozen=True)
class Benchmark:
    """Make the open benchmark: motion capture drawn to video, with its exact truth."""

    what: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Build | Detect | Reconstruct]]

    def run(self, options: StageOptions, report: Report) -> None:
        self.what.run(options, report)
