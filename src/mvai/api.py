"""The library's front door: a video and a character in, an acting character out.

import mvai
animation = mvai.imitate("clip.mp4", "hero.glb")
animation.save("hero_acting.glb")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mvai import pipeline
from mvai.io.archive import Archive, read_archive, write_archive
from mvai.io.atomic import check_writable
from mvai.io.characters import read_character
from mvai.io.orientation import Facing, Up
from mvai.io.video import IMAGE_SUFFIXES, open_video
from mvai.progress import Progress, Report, Silent, Stopwatch
from mvai.types import Animation, Keypoints, MeshSequence, MvaiError

PREVIEW_HEIGHT_PX = 480

PathLike = str | Path


@dataclass(frozen=True)
class Imitation:
    """A character that acts a video out, and everything on the way there."""

    archive: Archive
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall clock time of every stage that was run."""

    @property
    def keypoints(self) -> Keypoints | None:
        return self.archive.keypoints

    @property
    def sequence_raw(self) -> MeshSequence | None:
        """The body as reconstructed."""
        return self.archive.raw

    @property
    def sequence(self) -> MeshSequence | None:
        """The body after smoothing."""
        return self.archive.sequence

    @property
    def animation(self) -> Animation:
        """The acting character.

        Raises:
            MvaiError: the archive has not come that far.
        """
        if self.archive.animation is None:
            raise MvaiError(
                "There is no character in this archive yet; give it one with `mvai transfer`."
            )
        return self.archive.animation

    def save(self, path: PathLike, report: Report | None = None) -> None:
        """Write a .glb, .npz, .mp4 (preview) or .png (contact sheet), by the suffix of `path`.

        Raises:
            MvaiError: another suffix, a place that cannot be written to, or nothing to write.
        """
        writer = _writer(path)
        if self.archive.video:
            _check_apart(path, (self.archive.video,))
        with (report or Silent()).stage(f"write {Path(path).name}") as progress:
            writer(self, Path(path), progress)


def imitate(
    video: PathLike,
    identity: PathLike,
    *,
    person: int = 0,
    detect: Any = pipeline.DEFAULTS["detect"],
    reconstruct: Any = pipeline.DEFAULTS["reconstruct"],
    smooth: Any = pipeline.DEFAULTS["smooth"],
    transfer: Any = pipeline.DEFAULTS["transfer"],
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
        source = open_video(video)
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
    person: int = 0,
    detect: Any = pipeline.DEFAULTS["detect"],
    reconstruct: Any = pipeline.DEFAULTS["reconstruct"],
    smooth: Any = pipeline.DEFAULTS["smooth"],
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
        source = open_video(video)
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
    smooth: Any = pipeline.DEFAULTS["smooth"],
    transfer: Any = pipeline.DEFAULTS["transfer"],
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
    transfer: Any = pipeline.DEFAULTS["transfer"],
    up: Up = "auto",
    facing: Facing = "auto",
    unit: float | None = None,
    outputs: Sequence[PathLike] = (),
    report: Report | None = None,
) -> Imitation:
    """Make a character do what a mesh sequence does; arguments as for `imitate`.

    Args:
        sequence: an archive, or what `import_results` reads, such as a folder of meshes.

    Raises:
        MvaiError: an input cannot be used or an output cannot be written.
    """
    read = (identity,) if isinstance(sequence, Archive) else (sequence, identity)
    check_outputs(outputs, inputs=read)
    watch = Stopwatch(report or Silent())
    config = pipeline.configured("transfer", transfer)
    with watch.stage("read inputs"):
        if isinstance(sequence, Archive):
            done = sequence
        elif Path(sequence).is_dir():
            done = _imported(sequence, 0, None, None, None, watch)
        else:
            done = read_archive(sequence)
        if done.sequence is None:
            raise MvaiError(f"{sequence}: it holds no mesh sequence; run `mvai reconstruct` again.")
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


def _methods(person: int, detect: Any, reconstruct: Any, smooth: Any, transfer: Any) -> Any:
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


# --- outputs ------------------------------------------------------------------------------------


def _write_glb(imitation: Imitation, path: Path, progress: Progress) -> None:
    from mvai.io.gltf_write import write_glb

    stages = imitation.archive.stages
    settings = {
        "video_sha256": imitation.archive.video_sha256,
        **{name: {"method": r.method, **r.settings} for name, r in stages.items()},
    }
    write_glb(imitation.animation, path, settings)


def _write_npz(imitation: Imitation, path: Path, progress: Progress) -> None:
    write_archive(path, imitation.archive)


def _write_mp4(imitation: Imitation, path: Path, progress: Progress) -> None:
    from mvai.view.preview import write_preview

    source = imitation.archive.video
    video = open_video(source, PREVIEW_HEIGHT_PX).iterate() if source else None
    write_preview(path, imitation.animation, imitation.sequence, video, PREVIEW_HEIGHT_PX, progress)


def _write_png(imitation: Imitation, path: Path, progress: Progress) -> None:
    from mvai.view.sheet import write_sheet

    source = imitation.archive.video
    read = open_video(source).read if source else None
    write_sheet(path, imitation.animation, imitation.sequence, read)


WRITERS: dict[str, Callable[[Imitation, Path, Progress], None]] = {
    ".glb": _write_glb,
    ".npz": _write_npz,
    ".mp4": _write_mp4,
    ".png": _write_png,
}
"""What writes a file of each suffix."""


def _writer(path: PathLike) -> Callable[[Imitation, Path, Progress], None]:
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise MvaiError(
            f"{path}: cannot write a file of this kind; end its name in {', '.join(WRITERS)}."
        )
    return WRITERS[suffix]


def check_outputs(
    outputs: Sequence[PathLike],
    allowed: Sequence[str] = tuple(WRITERS),
    inputs: Sequence[PathLike] = (),
) -> None:
    """See before any work whether the outputs can be written.

    Args:
        outputs: files to write.
        allowed: suffixes that they may have.
        inputs: files and folders that are read; none of them is written over.

    Raises:
        MvaiError: a suffix is unknown, two outputs are the same file, one is an input, or a file
            cannot be made at one of the places.
    """
    places: set[Path] = set()
    for path in outputs:
        _writer(path)
        if Path(path).suffix.lower() not in allowed:
            raise MvaiError(f"{path}: this command writes {', '.join(allowed)}; rename the output.")
        _check_apart(path, inputs)
        place = Path(path).resolve()
        if place in places:
            raise MvaiError(f"{path}: this output is named twice; name it once.")
        places.add(place)
        check_writable(path)
    keep = kept_path(outputs)
    if keep is not None and keep.resolve() in places:
        raise MvaiError(
            f"{keep}: under this name finished stages are kept until all is done; rename the "
            "output."
        )


def _check_apart(path: PathLike, inputs: Sequence[PathLike]) -> None:
    """See that a file to write is none that is read, nor would become one.

    Raises:
        MvaiError: it is one of the inputs, or an image in a folder that is one.
    """
    place = Path(path).resolve()
    for given in inputs:
        source = Path(given).resolve()
        if place == source:
            raise MvaiError(f"{path}: this file is read, too; name another to write to.")
        if place.parent == source and place.suffix.lower() in IMAGE_SUFFIXES:
            raise MvaiError(
                f"{path}: an image written here would be a frame of {given}; write it elsewhere."
            )


def kept_path(outputs: Sequence[PathLike]) -> Path | None:
    """Where finished stages are kept while a run is under way."""
    return Path(outputs[0]).with_suffix(".mvai.npz") if outputs else None


def _written(
    done: Archive, outputs: Sequence[PathLike], keep: Path | None, watch: Stopwatch
) -> Imitation:
    """Writes all outputs, then removes the kept stages."""
    for path in outputs:
        Imitation(done).save(path, watch)
    if keep is not None:
        keep.unlink(missing_ok=True)
    return Imitation(done, dict(watch.seconds))
