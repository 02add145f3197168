"""The archive: one NPZ file with the results of all finished stages and how they were made.

It holds what any later stage needs to go on from there: key-points, the sequence before and
after smoothing, and the animation with its character (geometry, materials, pictures). `np.load`
without pickles reads it; its member `archive` is JSON text that says what is what, in which an
array stands as {"__array__": its member}. docs/conventions.md names frames and units; how meshes
are quantised stands in `archive_packing`.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mvai.io.archive_packing import (
    pack_animation,
    pack_keypoints,
    pack_sequence,
    unpack_animation,
    unpack_keypoints,
    unpack_sequence,
)
from mvai.io.atomic import written_whole
from mvai.types import Animation, Keypoints, MeshSequence, MvaiError

FORMAT = "mvai archive"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class StageRecord:
    """How a stage's result was made."""

    method: str
    settings: Mapping[str, Any]
    key: str
    """Fingerprint of method, settings, version and inputs (`fingerprint.stage_key`)."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Archive:
    """Results of the stages that are finished, None for the others."""

    video: str = ""
    """Path of the video, empty when there was none."""
    video_sha256: str = ""
    video_part: tuple[int, int] | None = None
    """Of which frames of the video this is: the first, and the one after the last; None for all."""
    keypoints: Keypoints | None = None
    raw: MeshSequence | None = None
    """What reconstruct returned."""
    smoothed: MeshSequence | None = None
    animation: Animation | None = None
    stages: Mapping[str, StageRecord] = field(default_factory=dict)
    """By the names of the stages: detect, reconstruct, smooth, transfer."""

    @property
    def sequence(self) -> MeshSequence | None:
        """The sequence as far as it has come."""
        return self.raw if self.smoothed is None else self.smoothed


RESULTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "keypoints": (pack_keypoints, unpack_keypoints),
    "raw": (pack_sequence, unpack_sequence),
    "smoothed": (pack_sequence, unpack_sequence),
    "animation": (pack_animation, unpack_animation),
}
"""Fields of `Archive` that hold results, and how they are stored."""


def write_archive(path: str | os.PathLike[str], archive: Archive) -> None:
    """Write an archive, whole or not at all.

    Raises:
        MvaiError: the path cannot be written, or a position is not a finite number.
    """
    tree: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "mvai_version": version("mvai"),
        "video": archive.video,
        "video_sha256": archive.video_sha256,
        "video_part": archive.video_part,
        "stages": {name: vars(record) for name, record in archive.stages.items()},
    }
    for name, (pack, _) in RESULTS.items():
        value = getattr(archive, name)
        try:
            tree[name] = None if value is None else pack(value)
        except ValueError as error:
            raise MvaiError(f"{os.fspath(path)}: cannot store {name}: {error}.") from error
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_without_arrays(tree, "", arrays))
    with (
        written_whole(path) as temporary,
        # Level 1 packs differences of positions nearly as well as higher ones and far faster.
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        for name, array in {"archive": np.array(text), **arrays}.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _without_arrays(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """`value` with every array moved to `arrays` under its place."""
    if isinstance(value, np.ndarray):
        arrays[where] = np.ascontiguousarray(value)
        return {"__array__": where}
    if isinstance(value, Mapping):
        return {str(k): _without_arrays(v, f"{where}/{k}".lstrip("/"), arrays)
                for k, v in value.items()}  # fmt: skip
    if isinstance(value, tuple | list):
        return [_without_arrays(v, f"{where}/{i}", arrays) for i, v in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"__array__"}:
            return arrays[value["__array__"]]
        return {k: _with_arrays(v, arrays) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_arrays(v, arrays) for v in value]
    return value


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an archive of ours, whatever its name."""
    try:
        with zipfile.ZipFile(path) as file:
            return "archive.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Read an archive; nothing in it can run code.

    Raises:
        MvaiError: the file is missing, damaged, no archive, or of a newer version.
    """
    path = Path(path)
    if path.is_dir():
        raise MvaiError(f"{path}: this is a folder; give an archive (.npz) that mvai wrote.")
    if not path.is_file():
        raise MvaiError(f"{path}: there is no such file; give an archive (.npz) that mvai wrote.")
    try:
        with np.load(path, allow_pickle=False) as file:
            if "archive" not in getattr(file, "files", ()):
                raise MvaiError(
                    f"{path}: this is not an mvai archive; give an .npz that mvai wrote."
                )
            tree = json.loads(str(file["archive"]))
            if tree["format"] != FORMAT:
                raise ValueError("wrong format")
            if tree["format_version"] > FORMAT_VERSION:
                raise MvaiError(
                    f"{path}: written by a newer mvai ({tree['mvai_version']}); update mvai, "
                    f"this one is {version('mvai')}."
                )
            tree = _with_arrays(tree, file)
        results = {
            name: None if tree[name] is None else unpack(tree[name])
            for name, (_, unpack) in RESULTS.items()
        }
        _check_frames(results)
        return Archive(
            video=str(tree["video"]),
            video_sha256=str(tree["video_sha256"]),
            video_part=_part(tree.get("video_part")),
            stages={str(name): StageRecord(**record) for name, record in tree["stages"].items()},
            **results,
        )
    except OSError as error:
        raise MvaiError(
            f"{path}: cannot be read ({error.strerror or error}); check its rights."
        ) from error
    except (
        ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, OverflowError,
        NotImplementedError, RecursionError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise MvaiError(
            f"{path}: this is not an mvai archive (.npz), or it is damaged; make it again from the "
            "video, or with `mvai convert` from what another tool wrote."
        ) from error


def _part(value: Any) -> tuple[int, int] | None:
    """`Archive.video_part`, which archives of before do not have."""
    if value is None:
        return None
    start, end = (int(v) for v in value)
    if not 0 <= start < end:
        raise ValueError("no part of a video")
    return start, end


def _check_frames(results: Mapping[str, Any]) -> None:
    """All results are of one clip."""
    if len({r.frames for r in results.values() if r is not None}) > 1:
        raise ValueError("the stages have different numbers of frames")
