"""`mvai evaluate`: the measurements behind the tables in docs/."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from mvai.cli.numbers import Count, Index
from mvai.cli.outputs import subcommand
from mvai.cli.paper_tables import Figure6, Figure7, H36m, Smoothers, Table1, Table2, Table3
from mvai.io.atomic import check_writable
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
    detectors: tuple[str, ...] = ()
    """Further detectors to measure, by name or file as `mvai imitate --detector` takes them."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.videos3d import evaluate_videos3d

        print(evaluate_videos3d(self.data, self.output, self.work, report, self.detectors))


@dataclass(frozen=True)
class Fit:
    """Bodies fitted on the benchmark: errors by people and by the quality of 2D, statures."""

    benchmark: Path
    """Folder of the benchmark (`mvai benchmark build`)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Markdown page to write; a CSV is written beside it."""
    methods: tuple[str, ...] = ("smplify-x",)
    """smplify-x, graphcmr, graphcmr-parameters (as regressed), graphcmr+smplify-x."""
    weights: list[Path] = field(default_factory=list)
    """Weights of the landmark correction or of GraphCMR to measure beside those that ship."""
    train: Index = 60
    """The first so many training clips."""
    limit: Count | None = None
    """At most so many clips of each pool."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.fits import evaluate_fits

        print(
            evaluate_fits(
                self.benchmark, self.output, report, self.methods, self.weights, self.train,
                self.limit,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class EndToEnd:
    """Time and memory of `mvai imitate` on ten seconds of 720p video."""

    video: Path
    """Video to make the clip of."""
    identity: Path
    """Character, of about 20,000 vertices."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Markdown page to write."""
    runs: Count = 3
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
    actions: list[str] = field(default_factory=list)
    """Actions to compare with the truth, by name; all when none is named."""
    work: Path = WORK / "transfer"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.transfer import evaluate_transfer
        from mvai.pipeline import STAGES

        methods = self.methods or list(STAGES["transfer"])
        print(
            evaluate_transfer(
                self.data, self.output, self.work, report, methods, self.only, self.actions
            )
        )


@dataclass(frozen=True)
class RigParts:
    """Parts of method rig with and without: touching hands, planted feet, twist bones."""

    data: Path
    """Folder with `identities` and `mocap`."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Markdown page to write; a CSV is written beside it."""
    only: list[str] = field(default_factory=list)
    """Characters by the names of their files; all when none is named."""
    work: Path = WORK / "rig"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.rig_parts import evaluate_rig

        print(evaluate_rig(self.data, self.output, self.work, report, self.only))


@dataclass(frozen=True)
class Pmd:
    """Point-wise mesh distance of transfer between bodies with known truth (docs/npt.md)."""

    data: Path
    """Folder of motion capture (BVH) that the networks were trained on."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Markdown page to write."""
    rows: list[str] = field(default_factory=list)
    """Rows to measure (mvai.evaluate.transfer_pmd_page.ROWS); all when none is named."""
    pairs: Count = 6
    """Source people, each with an identity, in every cell."""
    weights: list[Path] = field(default_factory=list)
    """Weights in the publication's form that have rows of their own."""
    work: Path = WORK / "pmd"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.transfer_pmd_page import evaluate_pmd

        print(
            evaluate_pmd(
                self.data, self.output, self.work, report, self.rows, self.pairs, self.weights
            )
        )


@dataclass(frozen=True)
class Evaluate:
    """Measure, and write the tables in docs/."""

    what: tyro.conf.OmitArgPrefixes[
        Annotated[MainJob, subcommand("main-job")]
        | Annotated[Videos3d, subcommand("videos3d")]
        | Annotated[Fit, subcommand("fit")]
        | Annotated[EndToEnd, subcommand("end-to-end")]
        | Annotated[TransferMethods, subcommand("transfer")]
        | Annotated[RigParts, subcommand("rig")]
        | Annotated[Pmd, subcommand("pmd")]
        | Annotated[H36m, subcommand("h36m")]
        | Annotated[Smoothers, subcommand("smoothers")]
        | Annotated[Table1, subcommand("table1")]
        | Annotated[Table2, subcommand("table2")]
        | Annotated[Table3, subcommand("table3")]
        | Annotated[Figure6, subcommand("figure6")]
        | Annotated[Figure7, subcommand("figure7")]
    ]

    def run(self, options: Any, report: Report) -> None:
        if not isinstance(self.what, MainJob | TransferMethods):
            # A wrong place for the page should not cost the measurement first.
            check_writable(self.what.output)
        self.what.run(options, report)


def write_sheet(archive: Archive, path: Path) -> None:
    """Writes the contact sheet of an archive."""
    from mvai.imitation import Imitation

    Imitation(archive).save(path)
