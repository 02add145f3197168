"""`mvai evaluate table1|table2|table3|figure6|figure7`: the paper's tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from mvai.progress import Report

WORK = Path("out/evaluate")
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclass(frozen=True)
class Table1:
    """Every backbone, as it is and after every smoother, on the benchmark's test people."""

    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`)."""
    output: Output
    """Markdown page to write; the CSV is written beside it."""
    limit: int | None = None
    """At most so many clips of each pool."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.table1 import evaluate_table1

        print(evaluate_table1(self.data, self.output, report, self.limit))


@dataclass(frozen=True)
class _Ablation:
    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`)."""
    output: Output
    """Markdown page to write; the CSV is written beside it."""
    backbones: tuple[str, ...] = ("smplify-x-paper",)
    """Backbones whose reconstructions the networks are trained and measured on."""
    seeds: int = 3
    """Networks trained of each variant."""
    steps: int = 2000
    """Training steps of each network."""
    rate: float | None = None
    """Frames a second; those of the clips if none."""
    work: Path = WORK / "ablations"
    """Folder in which finished networks' results are kept."""

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.ablations import evaluate_ablation
        from mvai.train.smoothers import SmootherRecipe

        which = "table2" if isinstance(self, Table2) else "table3"
        recipe = SmootherRecipe(steps=self.steps, rate=self.rate)
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


@dataclass(frozen=True)
class Figure6:
    """Strips of a test video: frames, the backbone's meshes, the smoothed meshes."""

    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`)."""
    output: Output
    """PNG file to write."""
    backbone: str = "smplify-x-paper"
    smoother: str = "mesh2mesh"

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.figures import figure6

        print(figure6(self.data, self.output, report, self.backbone, self.smoother))


@dataclass(frozen=True)
class Figure7:
    """For every test video, how much the smoother lowers the error of each backbone."""

    data: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`)."""
    output: Output
    """PNG file to write."""
    backbones: tuple[str, ...] = ("smplify-x-paper", "graphcmr")
    smoother: str = "mesh2mesh"

    def run(self, options: Any, report: Report) -> None:
        from mvai.evaluate.figures import figure7

        print(figure7(self.data, self.output, report, self.backbones, self.smoother))
