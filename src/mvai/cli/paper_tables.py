"""`mvai evaluate table1|table2|table3|figure6|figure7|h36m|smoothers`: tables of module F."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mvai.cli.numbers import Count, FrameRate
from mvai.progress import Report

WORK = Path("out/evaluate")
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


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
    rate: FrameRate = 25.0
    """Frames a second: 25, or 2 for every 25th frame. The paper's 1/25 can mean both."""
    root: Literal["pelvis", "hips"] = "pelvis"
    """What joints are relative to: the pelvis joint (GraphCMR) or the middle of the hips (VIBE)."""
    smooth: tuple[str, ...] = ("none", "savgol", "mesh2mesh", "adaptive")
    """Smoothers to compare."""
    limit: Count | None = None
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
class Table1:
    """Every backbone, as it is and after every smoother, on the test people."""

    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`), or of Human3.6M."""
    output: Output
    """Markdown page to write; for the benchmark a CSV is written beside it."""
    limit: Count | None = None
    """At most so many clips of each pool."""
    pools: tuple[str, ...] = ("test", "hard")
    """Which clips of the benchmark: test, hard, validation, close, still, tumbling."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.labelled_clips import is_benchmark
        from mvai.evaluate.table1 import evaluate_table1

        if is_benchmark(self.data):
            print(evaluate_table1(self.data, self.output, report, self.limit, self.pools))
        else:
            H36m(self.data, self.output, smooth=("none", "mesh2mesh"), limit=self.limit).run(
                options, report
            )


@dataclass(frozen=True)
class Smoothers:
    """What every smoother does to bodies from real videos: feet, floor, edges, fast hands, time."""

    videos: list[Path]
    """Videos, or folders of them."""
    output: Output
    """Markdown page to write; a CSV is written beside it."""
    work: Path = WORK / "smoothers"
    """Folder in which finished pieces are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.smoothers import evaluate_smoothers

        print(evaluate_smoothers(self.videos, self.output, self.work, report))


@dataclass(frozen=True)
class _Ablation:
    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`), or of Human3.6M."""
    output: Output
    """Markdown page to write; the CSV is written beside it."""
    backbones: tuple[str, ...] = ("smplify-x-paper",)
    """Backbones whose reconstructions the networks are trained and measured on."""
    seeds: Count = 3
    """Networks trained of each variant."""
    steps: Count = 2000
    """Training steps of each network."""
    batch: Count = 16
    """Clips a step."""
    rate: FrameRate | None = None
    """Frames a second; those of the clips if none."""
    joints: Count | None = None
    """Joints beside the hips in the loss of a step, drawn at random and weighted so that the
    expected loss is that of all; all of them if none."""
    work: Path = WORK / "ablations"
    """Folder in which finished networks' results are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.ablations import evaluate_ablation
        from mvai.train.smoothers import SmootherRecipe

        which = "table2" if isinstance(self, Table2) else "table3"
        recipe = SmootherRecipe(
            steps=self.steps, batch=self.batch, rate=self.rate, joints=self.joints
        )
        print(
            evaluate_ablation(
                which, self.data, self.output, self.work, report, self.backbones, self.seeds, recipe
            )
        )


@dataclass(frozen=True)
class Table2(_Ablation):
    """mesh2mesh trained with and without the motion loss."""


@dataclass(frozen=True)
class Table3(_Ablation):
    """mesh2mesh with other kernels and other numbers of layers."""

    joints: Count | None = 3


def check_png(output: Path) -> None:
    """See that a picture is to be written under the name of one.

    Raises:
        MvaiError: it has another suffix.
    """
    from mvai.types import MvaiError

    if output.suffix.lower() != ".png":
        raise MvaiError(f"{output}: a picture is written, as .png; rename the output.")


@dataclass(frozen=True)
class Figure6:
    """Strips of a test video: frames, the backbone's meshes, the smoothed meshes."""

    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`), or of Human3.6M."""
    output: Output
    """PNG file to write."""
    backbone: str = "smplify-x-paper"
    smoother: str = "mesh2mesh"
    work: Path = WORK / "h36m"
    """Folder in which reconstructions of Human3.6M are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.figures import figure6

        check_png(self.output)
        print(figure6(self.data, self.output, self.work, report, self.backbone, self.smoother))


@dataclass(frozen=True)
class Figure7:
    """For every test video, how much the smoother lowers the error of each backbone."""

    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`), or of Human3.6M."""
    output: Output
    """PNG file to write."""
    backbones: tuple[str, ...] = ("smplify-x-paper", "graphcmr")
    smoother: str = "mesh2mesh"
    work: Path = WORK / "h36m"
    """Folder in which reconstructions of Human3.6M are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.figures import figure7

        check_png(self.output)
        print(figure7(self.data, self.output, self.work, report, self.backbones, self.smoother))
