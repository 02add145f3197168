"""The chain of stages: detect, reconstruct, smooth, transfer; finished ones are reused.

What a stage returned is filed under a key: a fingerprint of its method, its settings, this
version with its weights and all that went in. A kept archive is written after each costly stage,
so that a run that is interrupted or fails later goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import mvai.detect
import mvai.reconstruct
import mvai.smooth
import mvai.transfer
from mvai.detect import Detector
from mvai.detect.ahead import detecting
from mvai.io.archive import Archive, StageRecord, read_archive, write_archive
from mvai.io.fingerprint import character_sha256, file_sha256, plain_settings, software, stage_key
from mvai.io.plugins import with_installed
from mvai.io.video import Video
from mvai.progress import Stopwatch
from mvai.reconstruct import PictureReconstructor, Reconstructor
from mvai.smooth import Smoother
from mvai.transfer import TransferMethod
from mvai.types import Character, Keypoints, MeshSequence, MvaiError, Part

STAGES = {
    "detect": with_installed("detect", mvai.detect.METHODS),
    "reconstruct": with_installed("reconstruct", mvai.reconstruct.METHODS),
    "smooth": with_installed("smooth", mvai.smooth.METHODS),
    "transfer": with_installed("transfer", mvai.transfer.METHODS),
}
"""Methods of every stage, in the order of the stages, with those of other installed packages."""
DEFAULTS = {
    "detect": "mediapipe",
    "reconstruct": "smplify-x",
    "smooth": "adaptive",
    "transfer": "rig",
}


@dataclass(frozen=True)
class Methods:
    """One method with its settings for every stage."""

    detect: Detector
    reconstruct: Reconstructor | PictureReconstructor
    smooth: Smoother
    transfer: TransferMethod


def method_class(stage: str, name: str) -> type:
    """The settings of a stage's method, a frozen dataclass.

    Raises:
        MvaiError: the stage has no such method.
    """
    methods = STAGES[stage]
    if name not in methods:
        raise MvaiError(f"{name}: no such method to {stage}; choose one of {', '.join(methods)}.")
    module, cls = methods[name].split(":")
    try:
        return getattr(import_module(module), cls)
    except (ImportError, AttributeError) as error:
        if module.startswith("mvai."):
            raise
        raise MvaiError(
            f"{name}: this method to {stage} of another package ({methods[name]}) cannot be loaded "
            f"({error}); install that package again or remove it."
        ) from error


def named(stage: str, choice: str) -> tuple[str, dict[str, Path]]:
    """The method that a word on the command line means, and the settings that follow from it.

    A file or folder in the place of a detector's name is the detector that reads it.
    """
    if stage == "detect" and choice not in STAGES[stage]:
        path = Path(choice)
        if path.is_dir():
            return "openpose", {"folder": path}
        if path.suffix.lower() in mvai.detect.BY_SUFFIX:
            return mvai.detect.BY_SUFFIX[path.suffix.lower()], {"file": path}
    return choice, {}


def method_name(stage: str, config: Any) -> str:
    """Name of the method that some settings belong to."""
    where = f"{type(config).__module__}:{type(config).__qualname__}"
    return next((name for name, place in STAGES[stage].items() if place == where), where)


def configured(stage: str, choice: Any) -> Any:
    """The settings meant by `choice`: themselves, or a method's name for its defaults.

    Raises:
        MvaiError: there is no such method, or it has settings without a default.
    """
    if not isinstance(choice, str):
        return choice
    name, given = named(stage, choice)
    cls = method_class(stage, name)
    try:
        return cls(**given)
    except TypeError as error:
        raise MvaiError(
            f"{choice}: this method to {stage} needs settings; `mvai methods` lists them."
        ) from error


def _stored(stage: str, config: Any, *inputs: str) -> StageRecord:
    """What is stored about a stage's result; files that the settings name are inputs too."""
    name, settings = method_name(stage, config), plain_settings(config)
    paths = [getattr(config, f.name) for f in fields(config)]
    hashes = [file_sha256(p) for p in paths if isinstance(p, Path)]
    return StageRecord(name, settings, stage_key(name, settings, software(), *inputs, *hashes))


def made_by(record: StageRecord, stage: str, config: Any) -> bool:
    """Whether a stage's stored result is of this method under these settings."""
    return (record.method, record.settings) == (method_name(stage, config), plain_settings(config))


def _same(kept: Archive, stage: str, record: StageRecord) -> bool:
    return stage in kept.stages and kept.stages[stage].key == record.key


def kept_results(keep: Path | None) -> Archive:
    """The archive at `keep`, empty when it is missing or cannot be used."""
    if keep is None or not keep.exists():
        return Archive()
    try:
        return read_archive(keep)
    except MvaiError:
        return Archive()


def reconstruct_video(
    video: Video,
    methods: Methods,
    watch: Stopwatch,
    keep: Path | None = None,
    resume: bool = True,
    meanwhile: Callable[[], None] | None = None,
) -> Archive:
    """Detect, reconstruct and smooth.

    Args:
        video: what to look at.
        methods: how.
        watch: hears of the stages.
        keep: archive to file finished stages in, and to take them from.
        resume: take finished stages from `keep`.
        meanwhile: something else to be done while the detection runs; if it fails, the detection
            is stopped.

    Raises:
        MvaiError: a stage cannot do its work; what was finished stays in `keep`.
    """
    if isinstance(methods.reconstruct, PictureReconstructor):
        methods.reconstruct.check()
    kept = kept_results(keep) if resume else Archive()
    sha256 = file_sha256(video.path)
    part = None if video.whole is None else (video.first, video.first + video.frames)
    done = Archive(video=str(video.path.absolute()), video_sha256=sha256, video_part=part)

    record = _stored("detect", methods.detect, sha256, *map(str, part or ()))
    if kept.keypoints is not None and _same(kept, "detect", record):
        if meanwhile is not None:
            meanwhile()
        keypoints, record = kept.keypoints, kept.stages["detect"]
        watch.note("Key-points are taken from an earlier run.")
    else:
        keypoints = _detected(video, methods.detect, watch, meanwhile)
        record = replace(record, seconds=watch.seconds["detect"])
    done = replace(done, keypoints=keypoints, stages={"detect": record})
    if keep is not None:
        # Also drops what an earlier run left under other settings.
        still = _stored("reconstruct", methods.reconstruct, record.key)
        if not _same(kept, "reconstruct", still):
            write_archive(keep, done)

    record = _stored("reconstruct", methods.reconstruct, record.key)
    if kept.raw is not None and _same(kept, "reconstruct", record):
        raw, record = kept.raw, kept.stages["reconstruct"]
        watch.note("The reconstruction is taken from an earlier run.")
    else:
        with watch.stage("reconstruct") as progress:
            if isinstance(methods.reconstruct, PictureReconstructor):
                raw = methods.reconstruct.reconstruct_pictures(keypoints, video, progress)
            else:
                raw = methods.reconstruct.reconstruct(keypoints, progress)
        record = replace(record, seconds=watch.seconds["reconstruct"])
        done = replace(done, raw=raw, stages={**done.stages, "reconstruct": record})
        if keep is not None:
            write_archive(keep, done)
    done = replace(done, raw=raw, stages={**done.stages, "reconstruct": record})
    return smooth_archive(done, methods.smooth, watch)


def _detected(
    video: Video, detector: Detector, watch: Stopwatch, meanwhile: Callable[[], None] | None
) -> Keypoints:
    if meanwhile is None:
        with watch.stage("detect") as progress:
            return detector.detect(video, progress)
    with detecting(detector, video) as detect:
        meanwhile()
        # What is left of it is the stage's time, so that the stages sum to the whole.
        with watch.stage("detect") as progress:
            return detect(progress)


def import_results(path: Path, person: int, settings: Any, watch: Stopwatch) -> Archive:
    """What another tool wrote, as an archive without a video; an archive of ours as it is.

    Args:
        path: file or folder.
        person: 0 is the one seen longest.
        settings: `mvai.reconstruct.imported.ImportSettings`.
        watch: hears of the stage.

    Raises:
        MvaiError: the content is of no known kind, does not suffice, or is an archive that other
            settings are asked of.
    """
    from mvai.io.archive import is_archive
    from mvai.io.results.read import read_results
    from mvai.reconstruct.imported import FPS, mesh_sequence

    with watch.stage("import") as progress:
        if is_archive(path):
            if person or settings.fps is not None or settings.body_model is not None:
                raise MvaiError(
                    f"{path}: an archive of mvai's own is taken as it is; leave out the person, "
                    "the frame rate and the body model."
                )
            return read_archive(path)
        results = read_results(path, person)
        _check_import(path, results, settings)
        sequence = mesh_sequence(results, settings, lambda done: progress(round(100 * done), 100))
    if settings.fps is None and sequence.fps == FPS and getattr(results, "fps", None) is None:
        watch.note(f"{path} does not say its frame rate; {FPS:g} are taken (see --fps).")
    name, plain = f"import {results.kind}", {"person": person, **plain_settings(settings)}
    key = stage_key(name, plain, software(), file_sha256(path))
    record = StageRecord(name, plain, key, watch.seconds["import"])
    return Archive(raw=sequence, stages={"reconstruct": record})


SLOWEST_FPS = 1.0
"""Slower, what a person does between two frames cannot be followed."""


def _check_import(path: Path, results: Any, settings: Any) -> None:
    """See that what is asked of a result fits to it.

    Raises:
        MvaiError: the frame rate is none, or the result has no body that another could stand for.
    """
    from mvai.io.results.data import BodyParameters, MovingMesh

    if settings.fps is not None and not settings.fps >= SLOWEST_FPS:
        raise MvaiError(
            f"{settings.fps:g}: this is no frame rate; give frames a second with --fps, at least "
            f"{SLOWEST_FPS:g}."
        )
    name = settings.body_model
    if name is None or isinstance(results, BodyParameters):
        return
    if isinstance(results, MovingMesh):
        raise MvaiError(
            f"{path}: a sequence of meshes is taken as it is; leave out --body-model {name}."
        )
    if name != "anny":
        raise MvaiError(
            f"{path}: what is in this file ({results.kind}) can only pose the body that mvai "
            f"ships; leave out --body-model {name}."
        )


def with_body_model(config: Any, name: str | None, path: Path | None) -> Any:
    """A stage's settings with the body model that the user asked for, where it has one."""
    known = {f.name for f in fields(config)}
    changes = {"body_model": name, "body_model_path": path}
    return replace(config, **{k: v for k, v in changes.items() if k in known and v is not None})


def smooth_archive(done: Archive, smoother: Smoother, watch: Stopwatch) -> Archive:
    """Smooth the reconstructed sequence of an archive."""
    assert done.raw is not None
    record = _stored("smooth", smoother, done.stages["reconstruct"].key)
    with watch.stage("smooth"):
        smoothed = smoother.smooth(done.raw)
    record = replace(record, seconds=watch.seconds["smooth"])
    return replace(done, smoothed=smoothed, stages={**done.stages, "smooth": record})


def register(character: Character, method: TransferMethod, watch: Stopwatch) -> Any:
    """Make a character ready to be driven (see `TransferMethod.register`).

    Raises:
        MvaiError: the method cannot work with this character.
    """
    with watch.stage("fit skeleton"), _detector_when_needed() as detector:
        return method.register(character, detector)


@contextlib.contextmanager
def _detector_when_needed() -> Iterator[Callable[[np.ndarray], Keypoints | None]]:
    """An image detector whose networks are loaded at the first picture, if there is one."""
    with contextlib.ExitStack() as stack:
        loaded: list[Callable[[np.ndarray], Keypoints | None]] = []

        def detect(image: np.ndarray) -> Keypoints | None:
            if not loaded:
                from mvai.detect.image import image_detector

                loaded.append(stack.enter_context(image_detector()))
            return loaded[0](image)

        yield detect


def _first_frame(sequence: MeshSequence) -> Callable[[TransferMethod], Any] | None:
    """What registers the first frame of a sequence in no known vertex order (`transfer.Source`)."""
    if sequence.topology:
        return None
    part = Part("body", sequence.vertices[0].astype(np.float64), sequence.faces)
    first = Character("the first frame of the mesh sequence", (part,))

    def registered(method: TransferMethod) -> Any:
        with _detector_when_needed() as detector:
            return method.register(first, detector)

    return registered


def transfer_archive(
    done: Archive, registration: Any, method: TransferMethod, watch: Stopwatch
) -> Archive:
    """Drive a registered character with an archive's sequence.

    Raises:
        MvaiError: the archive has no sequence, or the method cannot read its topology.
    """
    sequence = done.sequence
    if sequence is None:
        raise MvaiError("The archive holds no mesh sequence; reconstruct the video first.")
    with watch.stage("transfer"):
        animation = method.drive(registration, sequence, _first_frame(sequence))
    before = done.stages.get("smooth") or done.stages.get("reconstruct")
    identity = character_sha256(animation.character)
    record = _stored("transfer", method, before.key if before else "", identity)
    record = replace(record, seconds=watch.seconds["transfer"])
    return replace(done, animation=animation, stages={**done.stages, "transfer": record})
