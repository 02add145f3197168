"""The library's front door: a video and a character in, an acting character out.

import mvai
animation = mvai.imitate("clip.mp4", "hero.glb")
animation.save("hero_acting.glb")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvai import pipeline
from mvai.detect import Detector
from mvai.imitation import Imitation, PathLike, check_outputs, kept_path
from mvai.io.archive import Archive, read_archive
from mvai.io.characters import read_character
from mvai.io.orientation import Facing, Up
from mvai.io.video import open_video
from mvai.progress import Report, Silent, Stopwatch
from mvai.reconstruct import PictureReconstructor, Reconstructor
from mvai.smooth import Smoother
from mvai.transfer import TransferMethod
from mvai.types import MvaiError

AnyReconstructor = Reconstructor | PictureReconstructor


def imitate(
    video: PathLike,
    identity: PathLike,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    person: int = 0,
    detect: str | Detector = pipeline.DEFAULTS["detect"],
    reconstruct: str | AnyReconstructor = pipeline.DEFAULTS["reconstruct"],
    smooth: str | Smoother = pipeline.DEFAULTS["smooth"],
    transfer: str | TransferMethod = pipeline.DEFAULTS["transfer"],
    up: Up = "auto",
    facing: Facing = "auto",
    unit: float | None = None,
    outputs: Sequence[PathLike] = (),
    resume: bool = True,
    report: Report | None = None,
) -> Imitation:
    """Make a character do what a person in a video does.

    Args:
        video: any file FFmpeg reads, or a folder of images.
        identity: the character: .glb, .gltf, .obj, .zip, .ply, .stl or .off.
        start_s: only what the video shows from this time on, seconds.
        end_s: and up to this one.
        person: whom to follow; 0 is the largest, most complete person.
        detect: a method's name, or its settings; likewise for the other stages.
        reconstruct: see detect.
        smooth: see detect.
        transfer: see detect.
        up: up axis of the character's file.
        facing: axis of the file the character faces.
        unit: metres per file unit; None infers it.
        outputs: files to write (see `Imitation.save`). While there are any, finished stages are
            kept beside the first one until all are written.
        resume: go on from stages that an interrupted run has kept.
        report: hears of progress.

    Raises:
        MvaiError: an input cannot be used or an output cannot be written.
    """
    check_outputs(outputs, inputs=(video, identity))
    watch = Stopwatch(report or Silent())
    methods = _methods(person, detect, reconstruct, smooth, transfer)
    # A character that cannot be used stops the detection that goes on beside it.
    with watch.stage("read inputs"):
        source = open_video(video).between(start_s, end_s)
        character = read_character(identity, up, facing, unit)
    keep = kept_path(outputs)
    registration: Any = None

    def register() -> None:
        nonlocal registration
        registration = pipeline.register(character, methods.transfer, watch)

    done = pipeline.reconstruct_video(source, methods, watch, keep, resume, register)
    done = pipeline.transfer_archive(done, registration, methods.transfer, watch)
    return _written(done, outputs, keep, watch)


def reconstruct_video(
    video: PathLike,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    person: int = 0,
    detect: str | Detector = pipeline.DEFAULTS["detect"],
    reconstruct: str | AnyReconstructor = pipeline.DEFAULTS["reconstruct"],
    smooth: str | Smoother = pipeline.DEFAULTS["smooth"],
    outputs: Sequence[PathLike] = (),
    resume: bool = True,
    report: Report | None = None,
) -> Imitation:
    """The body in a video, without a character yet; arguments as for `imitate`.

    Raises:
        MvaiError: the video cannot be used or an output cannot be written.
    """
    check_outputs(outputs, allowed=(".npz",), inputs=(video,))
    watch = Stopwatch(report or Silent())
    methods = _methods(person, detect, reconstruct, smooth, pipeline.DEFAULTS["transfer"])
    with watch.stage("read inputs"):
        source = open_video(video).between(start_s, end_s)
    keep = kept_path(outputs)
    done = pipeline.reconstruct_video(source, methods, watch, keep, resume)
    return _written(done, outputs, keep, watch)


def import_results(
    path: PathLike,
    *,
    person: int = 0,
    body_model: str | None = None,
    body_model_path: PathLike | None = None,
    fps: float | None = None,
    outputs: Sequence[PathLike] = (),
    report: Report | None = None,
) -> Imitation:
    """The body in a file that another tool wrote (docs/formats.md lists which).

    Args:
        path: a file, or a folder of files; its kind is told by its content.
        person: whom to take; 0 is the one seen in the most frames.
        body_model: smpl, smplh or smplx instead of the model the file is of; anny poses the
            shipped body, for which no file is needed.
        body_model_path: folder of the files of the SMPL family.
        fps: frames a second, where the file does not say.
        outputs: archives (.npz) to write.
        report: hears of progress.

    Raises:
        MvaiError: the file cannot be used, or a body-model file is needed.
    """
    check_outputs(outputs, allowed=(".npz",), inputs=(path,))
    watch = Stopwatch(report or Silent())
    done = _imported(path, person, body_model, body_model_path, fps, watch)
    return _written(done, outputs, None, watch)


def imitate_results(
    path: PathLike,
    identity: PathLike,
    *,
    person: int = 0,
    body_model: str | None = None,
    body_model_path: PathLike | None = None,
    fps: float | None = None,
    smooth: str | Smoother = pipeline.DEFAULTS["smooth"],
    transfer: str | TransferMethod = pipeline.DEFAULTS["transfer"],
    up: Up = "auto",
    facing: Facing = "auto",
    unit: float | None = None,
    outputs: Sequence[PathLike] = (),
    report: Report | None = None,
) -> Imitation:
    """Make a character do what a person in another tool's result does.

    Arguments as for `import_results` and `imitate`.

    Raises:
        MvaiError: an input cannot be used or an output cannot be written.
    """
    check_outputs(outputs, inputs=(path, identity))
    watch = Stopwatch(report or Silent())
    folder = None if body_model_path is None else Path(body_model_path)
    config = pipeline.with_body_model(pipeline.configured("transfer", transfer), None, folder)
    smoother = pipeline.configured("smooth", smooth)
    with watch.stage("read inputs"):
        character = read_character(identity, up, facing, unit)
    done = _imported(path, person, body_model, body_model_path, fps, watch)
    if done.raw is not None and done.smoothed is None:
        done = pipeline.smooth_archive(done, smoother, watch)
    elif "smooth" in done.stages and not pipeline.made_by(
        done.stages["smooth"], "smooth", smoother
    ):
        watch.note(f"{path} is smoothed already, by {done.stages['smooth'].method}, and stays so.")
    registration = pipeline.register(character, config, watch)
    done = pipeline.transfer_archive(done, registration, config, watch)
    return _written(done, outputs, None, watch)


def _imported(
    path: PathLike,
    person: int,
    body_model: str | None,
    body_model_path: PathLike | None,
    fps: float | None,
    watch: Stopwatch,
) -> Archive:
    from mvai.reconstruct.imported import ImportSettings

    folder = None if body_model_path is None else Path(body_model_path)
    settings = ImportSettings(body_model, folder, fps)  # type: ignore[arg-type]
    return pipeline.import_results(Path(path), person, settings, watch)


def transfer_sequence(
    sequence: PathLike | Archive,
    identity: PathLike,
    *,
    transfer: str | TransferMethod = pipeline.DEFAULTS["transfer"],
    up: Up = "auto",
    facing: Facing = "auto",
    unit: float | None = None,
    outputs: Sequence[PathLike] = (),
    report: Report | None = None,
) -> Imitation:
    """Make a character do what a mesh sequence does; arguments as for `imitate`.

    Args:
        sequence: an archive, or a folder that `import_results` reads, such as one of meshes.

    Raises:
        MvaiError: an input cannot be used or an output cannot be written.
    """
    read = (identity,) if isinstance(sequence, Archive) else (sequence, identity)
    check_outputs(outputs, inputs=read)
    watch = Stopwatch(report or Silent())
    config = pipeline.configured("transfer", transfer)
    if isinstance(sequence, Archive):
        done = sequence
    elif Path(sequence).is_dir():
        done = _imported(sequence, 0, None, None, None, watch)
    else:
        done = read_archive(sequence)
    if done.sequence is None:
        raise MvaiError(f"{sequence}: it holds no mesh sequence; run `mvai reconstruct` again.")
    with watch.stage("read inputs"):
        character = read_character(identity, up, facing, unit)
    registration = pipeline.register(character, config, watch)
    done = pipeline.transfer_archive(done, registration, config, watch)
    return _written(done, outputs, None, watch)


def open_archive(path: PathLike, video: PathLike | None = None) -> Imitation:
    """An archive that `Imitation.save` wrote.

    Args:
        path: the .npz file.
        video: where the video is now, if not where it was.

    Raises:
        MvaiError: it is missing, damaged or no archive.
    """
    archive = read_archive(path)
    return Imitation(archive if video is None else replace(archive, video=str(video)))


def _methods(
    person: int,
    detect: str | Detector,
    reconstruct: str | AnyReconstructor,
    smooth: str | Smoother,
    transfer: str | TransferMethod,
) -> pipeline.Methods:
    detector = pipeline.configured("detect", detect)
    if person < 0:
        raise MvaiError(f"person {person}: people are counted from 0, the largest one.")
    if person:
        if not hasattr(detector, "person"):
            name = pipeline.method_name("detect", detector)
            raise MvaiError(f"person {person}: {name} knows only one person; leave it at 0.")
        detector = replace(detector, person=person)
    return pipeline.Methods(
        detect=detector,
        reconstruct=pipeline.configured("reconstruct", reconstruct),
        smooth=pipeline.configured("smooth", smooth),
        transfer=pipeline.configured("transfer", transfer),
    )


def _written(
    done: Archive, outputs: Sequence[PathLike], keep: Path | None, watch: Stopwatch
) -> Imitation:
    """Writes all outputs, then removes the kept stages."""
    for path in outputs:
        Imitation(done).save(path, watch)
    if keep is not None:
        keep.unlink(missing_ok=True)
    return Imitation(done, dict(watch.seconds))
