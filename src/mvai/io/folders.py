"""Looks for files in a folder, and says when it may not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from mvai.types import MvaiError


def files_matching(folder: Path, pattern: str) -> list[Path]:
    """What lies below a folder under names that match a pattern, sorted.

    As `sorted(folder.glob(pattern))`, but a folder that may not be looked into is an error:
    `Path.glob` passes it over, so that it seems to be empty. Of a folder that does not exist
    nothing is found.

    Args:
        folder: where to look.
        pattern: as for `Path.glob`; `**` stands for any number of folders.

    Raises:
        MvaiError: a folder on the way may not be looked into.
    """
    try:
        return sorted(_matching(folder, PurePosixPath(pattern).parts))
    except PermissionError as error:
        raise MvaiError(
            f"{error.filename}: not allowed to look into this folder; check its rights."
        ) from error


def _matching(folder: Path, pattern: Sequence[str]) -> Iterator[Path]:
    name, rest = pattern[0], pattern[1:]
    if not set(name) & set("*?["):
        if rest:
            yield from _matching(folder / name, rest)
        elif (folder / name).exists():
            yield folder / name
        return
    if name == "**":
        yield from _matching(folder, rest)
    for entry in _entries(folder):
        if name == "**":
            if entry.is_dir(follow_symlinks=False):
                yield from _matching(Path(entry.path), pattern)
        elif fnmatchcase(entry.name, name):
            if not rest:
                yield Path(entry.path)
            elif entry.is_dir():
                yield from _matching(Path(entry.path), rest)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
