"""`mvai evaluate`: the measurements behind the tables in docs/."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from mvai.cli.paper_tables import Figure6, Figure7, Table1, Table2, Table3
from mvai.progress import Report

if TYPE_CHECKING:
    from mvai.io.archive import Archive

WORK = Path("out/evaluate")
"""Where finished pieces are kept by default, so that the same command goes on from there."""


@dataclass(frozen=True)
class MainJob:
    """Every video of a folder with every character: times, residuals, foot-slide, stretch."""

    videos: Path
    """Folder of videos, or one video."""
    identities: list[Path]
    """Character files, or folders, of which the characters of human proportions known by name are
    taken."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write table.md and table.csv to."""
    sheets: bool = False
    """Also write a contact sheet of every pair, to the folder sheets in the output folder."""
    work: Path = WORK / "main_job"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.main_job import evaluate_main_job

        print(
            evaluate_main_job(
                self.videos, self.identities, self.output, self.work, report,
                write_sheet if self.sheets else None,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Videos3d:
    """One-camera reconstruction of a real clip against its 3D reference."""

    data: Path
    """Folder of the clip, its OpenPose files and gt_derived.npz."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Markdown page to write."""
    work: Path = WORK / "videos3d"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.videos3d import evaluate_videos3d

        print(evaluate_videos3d(self.data, self.output, self.work, report))


@dataclass(frozen=True)
class EndToEnd:
    """Time and memory of `mvai imitate` on ten seconds of 720p video."""

    video: Path
    """Video to make the clip of."""
    identity: Path
    """Character, of about 20,000 vertices."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Markdown page to write."""
    runs: int = 3
    """How many times to run; medians are given."""
    work: Path = WORK / "end_to_end"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.end_to_end import evaluate_end_to_end

        print(
            evaluate_end_to_end(
                self.video, self.identity, self.output, self.runs, self.work, report
            )
        )


@dataclass(frozen=True)
class TransferMethods:
    """Methods of transfer side by side: against exact truth and by the surface's faults."""

    data: Path
    """Folder with `identities` and `mocap`."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write table.md, truth.csv and characters.csv to."""
    methods: list[str] = field(default_factory=list)
    """Methods to measure; all when none is named."""
    only: list[str] = field(default_factory=list)
    """Characters to measure without truth, by the names of their files; all when none is named."""
    work: Path = WORK / "transfer"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.transfer import evaluate_transfer
        from mvai.pipeline import STAGES

        methods = self.methods or list(STAGES["transfer"])
        print(evaluate_transfer(self.data, self.output, self.work, report, methods, self.only))


@dataclass(frozen=True)
class H36m:
    """Human3.6M: the middle 16 frames of every video of S9 and S11, before and after smoothing.

    Reads the data set's own folders (S9/.../D3_Positions_mono/*.cdf, S9/Videos/*.mp4), mmpose's
    annotation_body3d, GraphCMR's and SPIN's h36m_valid_protocol*.npz with their images, or
    VideoPose3D's data_3d_h36m.npz with mmpose's cameras.pkl and the videos.
    """

    data: Path
    """Folder of the data set."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Markdown page to write."""
    rate: float = 25.0
    """Frames a second: 25, or 2 for every 25th frame. The paper's 1/25 can mean both."""
    root: Literal["pelvis", "hips"] = "pelvis"
    """What joints are relative to: the pelvis joint (GraphCMR) or the middle of the hips (VIBE)."""
    smooth: tuple[str, ...] = ("none", "savgol", "mesh2mesh", "adaptive")
    """Smoothers to compare."""
    limit: int | None = None
    """At most so many videos."""
    work: Path = WORK / "h36m"
    """Folder in which finished clips are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.benchmark.reconstructions import BACKBONES
        from mvai.detect import method as detector
        from mvai.evaluate.h36m import evaluate_h36m
        from mvai.smooth import method as smoother

        def reconstruct(video: Any, backbone: Any) -> Any:
            return backbone().reconstruct(detector("mediapipe")().detect(video))

        print(
            evaluate_h36m(
                self.data, self.output, self.work,
                {n: partial(reconstruct, backbone=b) for n, b in BACKBONES.items()},
                {n: smoother(n)().smooth for n in self.smooth},
                report, self.rate, self.root, self.limit,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Evaluate:
    """Measure, and write the tables in docs/."""

    what: tyro.conf.OmitArgPrefixes[
        Annotated[MainJob, tyro.conf.subcommand("main-job", prefix_name=False)]
        | Annotated[Videos3d, tyro.conf.subcommand("videos3d", prefix_name=False)]
        | Annotated[EndToEnd, tyro.conf.subcommand("end-to-end", prefix_name=False)]
        | Annotated[TransferMethods, tyro.conf.subcommand("transfer", prefix_name=False)]
        | Annotated[H36m, tyro.conf.subcommand("h36m", prefix_name=False)]
        | Annotated[Table1, tyro.conf.subcommand("table1", prefix_name=False)]
        | Annotated[Table2, tyro.conf.subcommand("table2", prefix_name=False)]
        | Annotated[Table3, tyro.conf.subcommand("table3", prefix_name=False)]
        | Annotated[Figure6, tyro.conf.subcommand("figure6", prefix_name=False)]
        | Annotated[Figure7, tyro.conf.subcommand("figure7", prefix_name=False)]
    ]

    def run(self, options: Any, report: Report) -> None:
        self.what.run(options, report)


def write_sheet(archive: Archive, path: Path) -> None:
    """Writes the contact sheet of an archive."""
    from mvai.api import Imitation

    Imitation(archive).save(path)
