"""`mvai train`: make the files of weights and the example that come with mvai."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from mvai.cli.stage_options import StageOptions
from mvai.progress import Report


@dataclass(frozen=True)
class Train:
    """Make the files of weights and the example that come with mvai."""

    what: Positional[
        Literal[
            "body",
            "pose-prior",
            "landmarks",
            "landmark-correction",
            "graphcmr",
            "demo-files",
            "mesh2mesh",
            "adaptive",
            "smoothnet",
            "npt",
        ]
    ]
    """body: compact arrays of the body model (needs mvai[anny]). pose-prior: which poses are
    likely, from motion capture. landmarks: where the detector's landmarks sit on the body; adds
    them to the body's arrays. landmark-correction: the detector's 3D errors. graphcmr: the body
    from key-points in one pass, on top of the landmark correction that ships. demo-files: the clip
    and the character of `mvai demo`. mesh2mesh, adaptive, smoothnet: the smoothers that learn,
    from what a backbone made of the benchmark."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File of weights to write (.npz for the body, .safetensors for the networks); for
    demo-files the folder."""
    data: Path | None = None
    """Folder of motion capture (BVH)."""
    benchmark: Path | None = None
    """Folder of the benchmark (`mvai benchmark build`), for landmarks, landmark-correction,
    graphcmr and smoothers."""
    backbone: str = "smplify-x"
    """The reconstruction (`mvai benchmark reconstruct`) whose errors a smoother learns."""
    rate: float | None = None
    """Frames a second at which a smoother is trained; those of the benchmark if none."""
    seed: int = 0
    """Of a smoother's random numbers."""
    minutes: float = 75.0
    """Time granted to npt."""
    form: Literal["shipped", "published"] = "shipped"
    """npt as it is shipped, or in the publication's width, form and data."""
    device: str = "cpu"
    """Where npt is trained: cpu, cuda, cuda:1, ..."""
    devices: int = 1
    """On how many such devices at once, each in its own process (needs mvai[train])."""
    width: float = 1.0
    """Share of the publication's channels that npt is given in its form."""
    start: Path | None = None
    """Weights at which the training of npt begins instead of at random."""

    def run(self, options: StageOptions, report: Report) -> None:
        if self.what == "body":
            from mvai.train.compact_body import build

            build(self.output)
        elif self.what == "demo-files":
            from mvai.train import demo_files

            demo_files.build(self.output)
        elif self.what == "npt":
            from mvai.train.npt_run import train_npt

            data = self._given(self.data, "--data", "motion capture")
            with report.stage("train") as progress:
                train_npt(
                    data, self.output, self.form, self.minutes, self.device, self.devices,
                    self.width, self.start,
                    lambda share: progress(round(1000 * share), 1000),
                )  # fmt: skip
        elif self.what == "pose-prior":
            from mvai.train.pose_prior import train_pose_prior

            train_pose_prior(self._given(self.data, "--data", "motion capture"), self.output)
        elif self.what in ("mesh2mesh", "adaptive", "smoothnet"):
            from mvai.train.smoother_weights import train_weights

            benchmark = self._given(self.benchmark, "--benchmark", "clips of the benchmark")
            print(
                train_weights(
                    self.what, benchmark, self.backbone, self.output, report, self.rate, self.seed
                )
            )
        else:
            self._on_benchmark(report)

    def _on_benchmark(self, report: Report) -> None:
        from mvai.benchmark.clips import seen_clips
        from mvai.body.anny import anny_body

        body = anny_body()
        benchmark = self._given(self.benchmark, "--benchmark", "clips of the benchmark")
        if self.what == "landmarks":
            from mvai.train.landmarks import train_landmarks

            if self.output.exists():
                body = anny_body(self.output)
            plain = [(s, k) for s, k in seen_clips(benchmark, "train") if not s.hardships]
            train_landmarks(self.output, body, plain)
            return
        from mvai.benchmark.poses import poses_in_folder
        from mvai.benchmark.splits import split_of
        from mvai.train.landmark_correction import (
            errors_in_words,
            errors_mm,
            train_landmark_correction,
        )

        data = self._given(self.data, "--data", "motion capture")
        poses = poses_in_folder(data, body, benchmark / "poses")
        captures = [c for c in poses if split_of(c.name) == "train"]
        if self.what == "graphcmr":
            from mvai.nets.landmark_correction import load_landmark_correction
            from mvai.train.graphcmr import train_graphcmr

            with report.stage("train") as progress:
                train_graphcmr(
                    body, seen_clips(benchmark, "train"), captures, load_landmark_correction(),
                    self.output, report=lambda step, steps, _: progress(step + 1, steps),
                )  # fmt: skip
            return
        with report.stage("train") as progress:
            network = train_landmark_correction(
                body, seen_clips(benchmark, "train"), captures, self.output,
                report=lambda step, steps, _: progress(step + 1, steps),
            )  # fmt: skip
        print(errors_in_words(errors_mm(body, seen_clips(benchmark, "validation"), network)))

    def _given(self, path: Path | None, option: str, content: str) -> Path:
        from mvai.types import MvaiError

        if path is None:
            raise MvaiError(f"{self.what} is made from {content}; name their folder with {option}.")
        return path
