"""The commands and their arguments. Field docstrings are the help texts."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import tyro

from mvai.cli import stage_options
from mvai.cli.benchmark import Benchmark
from mvai.cli.convert import Convert
from mvai.cli.evaluate import Evaluate
from mvai.cli.numbers import Seconds, check_command
from mvai.cli.outputs import Body, Outputs, Positional, required, subcommand, summary
from mvai.cli.stage_options import StageOptions
from mvai.cli.train import Train
from mvai.io.orientation import Facing, Up
from mvai.pipeline import DEFAULTS, STAGES, method_name, with_body_model
from mvai.progress import Report


def _methods(stage: str, *aliases: str, more: str = "") -> Any:
    return tyro.conf.arg(metavar="{" + ",".join(STAGES[stage]) + more + "}", aliases=list(aliases))


Detect = Annotated[str, _methods("detect", "--detector", more=",FILE")]
Reconstruct = Annotated[str, _methods("reconstruct")]
Smooth = Annotated[str, _methods("smooth")]
Transfer = Annotated[str, _methods("transfer")]


class Command(Protocol):
    """One of the classes below."""

    def run(self, options: StageOptions, report: Report) -> None: ...


@dataclass(frozen=True)
class Imitate:
    """Make a character do what the person in a video does.

    Every stage's method has settings, such as --smooth.window-s 0.4 or --reconstruct.setting
    paper; see `mvai methods` for all of them.
    """

    identity: Path
    """The character: .glb, .gltf, .obj (or .zip), .ply, .stl, .off."""
    video: Positional[Path | None] = None
    """Any file FFmpeg reads, or a folder of images."""
    results: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FILE")] = None
    """Instead of a video: what another tool wrote, by its content (docs/formats.md)."""
    outputs: Outputs = field(default_factory=list)
    """File to write: .glb, .npz, .mp4 (preview) or .png (contact sheet)."""
    start: Seconds | None = None
    """Only what the video shows from this second on."""
    end: Seconds | None = None
    """And up to this second."""
    person: int = 0
    """Whom to follow; 0 is the largest, most complete person."""
    body_model: Body | None = None
    """Body to reconstruct with; the SMPL family needs --body-model-path."""
    body_model_path: Path | None = None
    """Folder (or file) of the SMPL family's models, which you have to get from their makers."""
    fps: float | None = None
    """Frames a second of --from, where the file does not say."""
    detect: Detect = DEFAULTS["detect"]
    """How to find the person; or a FILE.tflite, .task, .onnx, .json, or a folder of OpenPose's."""
    reconstruct: Reconstruct = DEFAULTS["reconstruct"]
    """How to get from key-points to a body."""
    smooth: Smooth = DEFAULTS["smooth"]
    """How to take out jitter."""
    transfer: Transfer = DEFAULTS["transfer"]
    """How to move the character."""
    up: Up = "auto"
    """Up axis of the character's file."""
    facing: Facing = "auto"
    """Axis of the file that the character faces."""
    unit: float | None = None
    """Metres per unit of the file."""
    resume: bool = True
    """Go on from stages that an interrupted run has kept."""

    def run(self, options: StageOptions, report: Report) -> None:
        start = time.perf_counter()
        outputs = required(self.outputs, Path(f"{self.identity.stem}_acting.glb"))
        configs = {
            stage: stage_options.config(stage, getattr(self, stage), options) for stage in STAGES
        }
        from mvai import api
        from mvai.types import MvaiError

        if (self.video is None) == (self.results is None):
            raise MvaiError(
                "Name a video, or a result of another tool with --from; one of the two."
            )
        where = {"up": self.up, "facing": self.facing, "unit": self.unit, "outputs": outputs}
        if self.results is not None:
            self._check_unused(options)
            done = api.imitate_results(
                self.results, self.identity, person=self.person, body_model=self.body_model,
                body_model_path=self.body_model_path, fps=self.fps, smooth=configs["smooth"],
                transfer=configs["transfer"], report=report, **where,
            )  # fmt: skip
        else:
            assert self.video is not None
            if self.fps is not None:
                raise MvaiError(f"--fps {self.fps:g}: a video says this itself; leave it out.")
            configs = _with_body(configs, self.body_model, self.body_model_path)
            done = api.imitate(
                self.video, self.identity, start_s=self.start, end_s=self.end, person=self.person,
                **configs, resume=self.resume, report=report, **where,
            )  # fmt: skip
        print(summary(done, outputs, time.perf_counter() - start))

    def _check_unused(self, options: StageOptions) -> None:
        """See that nothing is asked of stages which a result of another tool has behind it.

        Raises:
            MvaiError: something is.
        """
        from mvai.types import MvaiError

        if self.start is not None or self.end is not None:
            raise MvaiError("--start and --end cut a video; leave them out with --from.")
        for stage in ("detect", "reconstruct"):
            if getattr(self, stage) != DEFAULTS[stage] or options.get(stage):
                raise MvaiError(
                    f"--{stage}: a result that another tool wrote (--from) has this stage behind "
                    "it; leave the option out."
                )


@dataclass(frozen=True)
class ReconstructVideo:
    """Find the body in a video and store it with its key-points."""

    video: Positional[Path]
    """Any file FFmpeg reads, or a folder of images."""
    outputs: Outputs = field(default_factory=list)
    """Archive to write (.npz)."""
    start: Seconds | None = None
    """Only what the video shows from this second on."""
    end: Seconds | None = None
    """And up to this second."""
    person: int = 0
    """Whom to follow; 0 is the largest, most complete person."""
    body_model: Body | None = None
    """Body to reconstruct with; the SMPL family needs --body-model-path."""
    body_model_path: Path | None = None
    """Folder (or file) of the SMPL family's models, which you have to get from their makers."""
    detect: Detect = DEFAULTS["detect"]
    """How to find the person; or a FILE.tflite, .task, .onnx, .json, or a folder of OpenPose's."""
    reconstruct: Reconstruct = DEFAULTS["reconstruct"]
    """How to get from key-points to a body."""
    smooth: Smooth = DEFAULTS["smooth"]
    """How to take out jitter."""
    resume: bool = True
    """Go on from stages that an interrupted run has kept."""

    def run(self, options: StageOptions, report: Report) -> None:
        start = time.perf_counter()
        outputs = required(self.outputs, Path(f"{self.video.stem}.npz"))
        configs = {
            stage: stage_options.config(stage, getattr(self, stage), options)
            for stage in ("detect", "reconstruct", "smooth")
        }
        from mvai import api

        configs = _with_body(configs, self.body_model, self.body_model_path)
        done = api.reconstruct_video(
            self.video, start_s=self.start, end_s=self.end, person=self.person, **configs,
            outputs=outputs, resume=self.resume, report=report,
        )  # fmt: skip
        print(summary(done, outputs, time.perf_counter() - start))


@dataclass(frozen=True)
class TransferSequence:
    """Make a character do what a mesh sequence does."""

    sequence: Positional[Path]
    """Archive (.npz) of a moving body that mvai wrote, or a folder of meshes."""
    identity: Path
    """The character: .glb, .gltf, .obj (or .zip), .ply, .stl, .off."""
    outputs: Outputs = field(default_factory=list)
    """File to write: .glb, .npz, .mp4 (preview) or .png (contact sheet)."""
    body_model_path: Path | None = None
    """Folder (or file) of the SMPL family's models, for sequences with their vertices."""
    transfer: Annotated[str, _methods("transfer", "--method")] = DEFAULTS["transfer"]
    """How to move the character."""
    up: Up = "auto"
    """Up axis of the character's file."""
    facing: Facing = "auto"
    """Axis of the file that the character faces."""
    unit: float | None = None
    """Metres per unit of the file."""

    def run(self, options: StageOptions, report: Report) -> None:
        start = time.perf_counter()
        outputs = required(self.outputs, Path(f"{self.identity.stem}_acting.glb"))
        config = stage_options.config("transfer", self.transfer, options)
        config = with_body_model(config, None, self.body_model_path)
        from mvai import api

        done = api.transfer_sequence(
            self.sequence, self.identity, transfer=config,
            up=self.up, facing=self.facing, unit=self.unit, outputs=outputs, report=report,
        )  # fmt: skip
        print(summary(done, outputs, time.perf_counter() - start))


@dataclass(frozen=True)
class Preview:
    """Show what an archive holds: as a video or as a contact sheet."""

    archive: Positional[Path]
    """Archive (.npz) that `mvai imitate` wrote."""
    outputs: Outputs = field(default_factory=list)
    """File to write: .mp4, .png; also .glb."""
    video: Path | None = None
    """Where the video is now, if it was moved."""

    def run(self, options: StageOptions, report: Report) -> None:
        from mvai import api
        from mvai.imitation import check_outputs

        outputs = required(self.outputs, Path(f"{self.archive.stem}.mp4"))
        inputs = (self.archive,) if self.video is None else (self.archive, self.video)
        check_outputs(outputs, inputs=inputs)
        opened = api.open_archive(self.archive, self.video)
        for path in outputs:
            opened.save(path, report)
            print(path)


@dataclass(frozen=True)
class Demo:
    """Run the whole chain on a clip and a character that come with mvai."""

    folder: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("mvai_demo")
    """Where to write demo.glb, demo.mp4, demo.png and demo.npz."""

    def run(self, options: StageOptions, report: Report) -> None:
        from mvai.cli.demo import demo_files
        from mvai.io.atomic import make_folder

        with demo_files() as (clip, character):
            make_folder(self.folder)
            outputs = [self.folder / f"demo{suffix}" for suffix in (".glb", ".mp4", ".png", ".npz")]
            Imitate(character, clip, outputs=outputs).run(options, report)


@dataclass(frozen=True)
class Doctor:
    """Say what is installed and whether it works here."""

    def run(self, options: StageOptions, report: Report) -> None:
        from mvai.doctor import examine

        healthy = True
        for finding in examine():
            print(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}: {finding.text}", flush=True)
            healthy = healthy and finding.ok
        if not healthy:
            sys.exit(2)


@dataclass(frozen=True)
class ListMethods:
    """List every stage's methods and their settings."""

    def run(self, options: StageOptions, report: Report) -> None:
        print(stage_options.describe())


AnyCommand = (
    Annotated[Imitate, subcommand("imitate")]
    | Annotated[ReconstructVideo, subcommand("reconstruct")]
    | Annotated[TransferSequence, subcommand("transfer")]
    | Annotated[Convert, subcommand("convert")]
    | Annotated[Preview, subcommand("preview")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Doctor, subcommand("doctor")]
    | Annotated[ListMethods, subcommand("methods")]
    | Annotated[Benchmark, subcommand("benchmark")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
)


def parse(argv: Sequence[str]) -> tuple[Command, StageOptions]:
    """The command that some arguments ask for, and the settings of its stages.

    Raises:
        SystemExit: help was asked for (code 0) or the arguments are wrong (code 2).
        MvaiError: a number is beyond reason, or a setting is of a stage that the command has not.
    """
    rest, options = stage_options.split(argv)
    command = tyro.cli(
        AnyCommand, args=rest, prog="mvai",
        description="Give it a video of a person and any 3D character mesh: the character "
        "performs the same action.",
        config=(tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName),
    )  # type: ignore[call-overload]  # fmt: skip
    check_command(command)
    known = STAGES if isinstance(command, Demo) else [s for s in STAGES if hasattr(command, s)]
    stage_options.check_stages(options, known, "this command")
    return command, options


def _with_body(configs: dict[str, Any], name: str | None, path: Path | None) -> dict[str, Any]:
    """All stages' settings with the body model that the user asked for."""
    from mvai.types import MvaiError

    method = configs["reconstruct"]
    if name is None and path is not None and getattr(method, "body_model", "") == "anny":
        raise MvaiError(
            f"--body-model-path {path}: the body that mvai ships needs no file; say which other is "
            "meant with --body-model."
        )
    if name not in (None, "anny") and not hasattr(method, "body_model"):
        raise MvaiError(
            f"--body-model {name}: {method_name('reconstruct', method)} has a body of its own; "
            f"leave the option out, or choose --reconstruct {DEFAULTS['reconstruct']}."
        )
    if name not in (None, "anny"):
        from mvai.body.smpl_files import find_model

        # A missing file should not cost a detection first.
        find_model(name, path)
    return {stage: with_body_model(config, name, path) for stage, config in configs.items()}
