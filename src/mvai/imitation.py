"""What a run returns, and the files that are written of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mvai.io.archive import Archive, write_archive
from mvai.io.atomic import check_writable
from mvai.io.video import IMAGE_SUFFIXES, Video, open_video
from mvai.progress import Progress, Report, Silent
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


def _write_glb(imitation: Imitation, path: Path, progress: Progress) -> None:
    from mvai.io.gltf_write import write_glb

    stages = imitation.archive.stages
    settings = {
        "video_sha256": imitation.archive.video_sha256,
        "video_part": imitation.archive.video_part,
        **{name: {"method": r.method, **r.settings} for name, r in stages.items()},
    }
    write_glb(imitation.animation, path, settings)


def _write_npz(imitation: Imitation, path: Path, progress: Progress) -> None:
    write_archive(path, imitation.archive)


def _source(archive: Archive, max_height_px: int | None = None) -> Video | None:
    """The video that an archive is of; None where there was none."""
    if not archive.video:
        return None
    video = open_video(archive.video, max_height_px)
    return video if archive.video_part is None else video.part(*archive.video_part)


def _write_mp4(imitation: Imitation, path: Path, progress: Progress) -> None:
    from mvai.view.preview import write_preview

    source = _source(imitation.archive, PREVIEW_HEIGHT_PX)
    video = None if source is None else source.iterate()
    write_preview(path, imitation.animation, imitation.sequence, video, PREVIEW_HEIGHT_PX, progress)


def _write_png(imitation: Imitation, path: Path, progress: Progress) -> None:
    from mvai.view.sheet import write_sheet

    source = _source(imitation.archive)
    read = None if source is None else source.read
    seen = None if imitation.keypoints is None else imitation.keypoints.seen()
    write_sheet(path, imitation.animation, imitation.sequence, read, seen)


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
