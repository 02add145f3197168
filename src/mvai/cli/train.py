"""`mvai train`: make the files of weights and the example that come with mvai."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from mvai.cli.numbers import Count, FrameRate, Index, Share, Within
from mvai.cli.outputs import subcommand
from mvai.cli.stage_options import StageOptions
from mvai.io.atomic import check_writable
from mvai.progress import Report
from mvai.types import MvaiError

if TYPE_CHECKING:
    from mvai.benchmark.poses import PoseClip
    from mvai.body.model import LinearBody

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclass(frozen=True)
class Body:
    """The body model's compact arrays, from Anny (needs mvai[anny])."""

    output: Output
    """File to write (.npz)."""

    def run(self, report: Report) -> None:
        from mvai.train.compact_body import build

        build(self.output)


@dataclass(frozen=True)
class PosePrior:
    """Which poses are likely, from motion capture."""

    data: Path
    """Folder of motion capture (BVH)."""
    output: Output
    """File of weights to write (.safetensors)."""

    def run(self, report: Report) -> None:
        from mvai.train.pose_prior import train_pose_prior

        train_pose_prior(self.data, self.output)


@dataclass(frozen=True)
class Landmarks:
    """Where the detector's landmarks sit on the body."""

    benchmark: Path
    """Folder of the benchmark (`mvai benchmark build`)."""
    output: Output
    """Arrays of the body (.npz) to add them to; those of mvai if there is no such file."""

    def run(self, report: Report) -> None:
        from mvai.benchmark.clips import seen_clips
        from mvai.body.anny import anny_body
        from mvai.train.landmarks import train_landmarks

        body = anny_body(self.output) if self.output.exists() else anny_body()
        plain = [(s, k) for s, k in seen_clips(self.benchmark, "train") if not s.hardships]
        train_landmarks(self.output, body, plain)


@dataclass(frozen=True)
class _OnClipsAndPoses:
    benchmark: Path
    """Folder of the benchmark (`mvai benchmark build`)."""
    data: Path
    """Folder of motion capture (BVH)."""
    output: Output
    """File of weights to write (.safetensors)."""

    def _captures(self, body: LinearBody) -> list[PoseClip]:
        """Motion capture of the training people."""
        from mvai.benchmark.poses import poses_in_folder
        from mvai.benchmark.splits import split_of

        poses = poses_in_folder(self.data, body, self.benchmark / "poses")
        return [c for c in poses if split_of(c.name) == "train"]


@dataclass(frozen=True)
class LandmarkCorrection(_OnClipsAndPoses):
    """The detector's errors in 3D."""

    also: tuple[Path, ...] = ()
    """More benchmarks whose training clips are learned from, such as the same clips seen by other
    detectors (`mvai benchmark detect`)."""
    start: Path | None = None
    """Weights at which the training begins instead of at random."""
    keep: Annotated[float, Within(0, 1)] = 0.0
    """Share of these weights that is kept in what is written."""
    steps: Count = 10_000
    """Steps of training."""

    def run(self, report: Report) -> None:
        from mvai.benchmark.clips import seen_clips
        from mvai.body.anny import anny_body
        from mvai.train.landmark_correction import (
            Recipe,
            errors_in_words,
            errors_mm,
            train_landmark_correction,
        )

        if self.keep and not self.start:
            raise MvaiError("--keep is a share of the weights of --start; name them, too.")
        body = anny_body()
        clips = [c for b in (self.benchmark, *self.also) for c in seen_clips(b, "train")]
        with report.stage("train") as progress:
            network = train_landmark_correction(
                body, clips, self._captures(body), self.output, Recipe(steps=self.steps),
                start=self.start, keep=self.keep,
                report=lambda step, steps, _: progress(step + 1, steps),
            )  # fmt: skip
        print(errors_in_words(errors_mm(body, seen_clips(self.benchmark, "validation"), network)))


@dataclass(frozen=True)
class GraphCmr(_OnClipsAndPoses):
    """The body from key-points in one pass, on top of the landmark correction that ships."""

    def run(self, report: Report) -> None:
        from mvai.benchmark.clips import seen_clips
        from mvai.body.anny import anny_body
        from mvai.nets.landmark_correction import load_landmark_correction
        from mvai.train.graphcmr import train_graphcmr

        body = anny_body()
        with report.stage("train") as progress:
            train_graphcmr(
                body, seen_clips(self.benchmark, "train"), self._captures(body),
                load_landmark_correction(), self.output,
                report=lambda step, steps, _: progress(step + 1, steps),
            )  # fmt: skip


@dataclass(frozen=True)
class _Smoother:
    kind: ClassVar[Literal["mesh2mesh", "adaptive", "smoothnet"]]
    benchmark: Path
    """Folder of the benchmark, reconstructed (`mvai benchmark reconstruct`)."""
    output: Output
    """File of weights to write (.safetensors)."""
    backbone: str = "smplify-x"
    """The reconstruction whose errors are learnt."""
    rate: FrameRate | None = None
    """Frames a second; those of the benchmark if none."""
    seed: Index = 0
    """Of the random numbers."""

    def run(self, report: Report) -> None:
        from mvai.train.smoother_weights import train_weights

        print(
            train_weights(
                self.kind, self.benchmark, self.backbone, self.output, report, self.rate, self.seed
            )
        )


@dataclass(frozen=True)
class Mesh2Mesh(_Smoother):
    """The paper's smoother, from what a backbone made of the benchmark."""

    kind: ClassVar = "mesh2mesh"


@dataclass(frozen=True)
class Adaptive(_Smoother):
    """The smoother with a filter for every limb and moment, likewise trained."""

    kind: ClassVar = "adaptive"


@dataclass(frozen=True)
class SmoothNet(_Smoother):
    """SmoothNet (Zeng et al., ECCV 2022), likewise trained."""

    kind: ClassVar = "smoothnet"


@dataclass(frozen=True)
class Npt:
    """Neural pose transfer, from motion capture."""

    data: Path
    """Folder of motion capture (BVH)."""
    output: Output
    """File of weights to write (.safetensors)."""
    minutes: float = 75.0
    """Time granted; started again, the training goes on."""
    form: Literal["shipped", "published"] = "shipped"
    """As mvai ships it, or in the publication's width, form and data."""
    width: Share = 1.0
    """Share of the publication's channels that the published form is given."""
    start: Path | None = None
    """Weights at which the training begins instead of at random."""
    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, ..."""
    devices: Count = 1
    """On how many such devices at once, each in its own process (needs mvai[train])."""

    def run(self, report: Report) -> None:
        from mvai.train.npt_run import train_npt

        with report.stage("train") as progress:
            train_npt(
                self.data, self.output, self.form, self.minutes, self.device, self.devices,
                self.width, self.start, lambda share: progress(round(1000 * share), 1000),
            )  # fmt: skip


@dataclass(frozen=True)
class DemoFiles:
    """The clip and the character of `mvai demo`."""

    output: Output
    """Folder to write clip.mp4 and character.glb to."""

    def run(self, report: Report) -> None:
        from mvai.train.demo_files import build

        build(self.output)


@dataclass(frozen=True)
class Train:
    """Make the files of weights and the example that come with mvai."""

    what: tyro.conf.OmitArgPrefixes[
        Annotated[Body, subcommand("body")]
        | Annotated[Landmarks, subcommand("landmarks")]
        | Annotated[PosePrior, subcommand("pose-prior")]
        | Annotated[LandmarkCorrection, subcommand("landmark-correction")]
        | Annotated[GraphCmr, subcommand("graphcmr")]
        | Annotated[Mesh2Mesh, subcommand("mesh2mesh")]
        | Annotated[Adaptive, subcommand("adaptive")]
        | Annotated[SmoothNet, subcommand("smoothnet")]
        | Annotated[Npt, subcommand("npt")]
        | Annotated[DemoFiles, subcommand("demo-files")]
    ]

    def run(self, options: StageOptions, report: Report) -> None:
        if not isinstance(self.what, DemoFiles):
            # A wrong place should not cost hours of training first.
            check_writable(self.what.output)
        self.what.run(report)
