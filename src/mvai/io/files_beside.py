"""Files that a mesh file refers to: those beside it in a folder, or with it in a .zip.

A mesh file is not trusted: a name in it can only lead to files in its own folder (or below), and
an archive is read in memory, so that nothing is ever written where an entry's name says.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mvai.types import MvaiError

Loader = Callable[[str], bytes | None]
"""Gives the content of the file a mesh file names, or None when there is no such file."""

MAX_FILE_BYTES = 1 << 30
MAX_ARCHIVE_ENTRIES = 10_000


def read_bytes(path: Path) -> bytes:
    """The content of a file the user named.

    Raises:
        MvaiError: missing, a folder, empty, larger than `MAX_FILE_BYTES`, or not readable.
    """
    try:
        if not path.exists():
            raise MvaiError(f"{path}: there is no such file; check the path.")
        if path.is_dir():
            raise MvaiError(f"{path}: this is a folder; name the character file in it.")
        size = path.stat().st_size
        if size == 0:
            raise MvaiError(f"{path}: the file is empty; export or copy it again.")
        if size > MAX_FILE_BYTES:
            raise MvaiError(f"{path}: the file is larger than 1 GiB; simplify the character first.")
        return path.read_bytes()
    except OSError as error:
        raise MvaiError(
            f"{path}: could not be read ({error.strerror or error}); check its rights."
        ) from error


def folder_loader(folder: Path) -> Loader:
    """A loader for the files in `folder` and below it."""
    root = folder.resolve()

    def load(name: str) -> bytes | None:
        relative = _relative(name)
        if relative is None:
            return None
        try:
            path = (root / relative).resolve()
            if path.is_relative_to(root) and path.is_file():
                return _bounded(path)
            # Writers leave the absolute path of their own machine or another case in the file.
            wanted = relative.name.lower()
            for candidate in sorted(root.iterdir()):
                if candidate.name.lower() == wanted and candidate.is_file():
                    return _bounded(candidate)
        except (OSError, ValueError):
            return None
        return None

    return load


def _bounded(path: Path) -> bytes | None:
    return path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else None


def open_archive(data: bytes, where: str, suffixes: tuple[str, ...]) -> tuple[str, bytes, Loader]:
    """The one mesh file in a .zip, and a loader for what lies with it.

    Args:
        data: the archive.
        where: the name for error messages.
        suffixes: what counts as a mesh file, in lower case, most wanted first.

    Returns:
        The name of the mesh file, its content, and the loader.

    Raises:
        MvaiError: broken, encrypted, too large when unpacked, or not exactly one mesh file.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = [e for e in archive.infolist() if not e.is_dir()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise MvaiError(f"{where}: not a readable .zip file; pack it again.") from error
    unpacked = sum(e.file_size for e in entries)
    if len(entries) > MAX_ARCHIVE_ENTRIES or unpacked > MAX_FILE_BYTES:
        raise MvaiError(
            f"{where}: the archive unpacks to more than 1 GiB or 10000 files; "
            "pack only the character and its textures."
        )
    by_name = {
        str(relative).lower(): e
        for e in entries
        if (relative := _relative(e.filename)) is not None and "__MACOSX" not in e.filename
    }
    meshes = [n for n in by_name if n.endswith(suffixes) and not n.split("/")[-1].startswith(".")]
    if not meshes:
        raise MvaiError(
            f"{where}: no character in this archive; it needs one {' or '.join(suffixes)} file."
        )
    if len(meshes) > 1:
        raise MvaiError(
            f"{where}: {len(meshes)} mesh files in this archive; leave only the character's."
        )
    name = meshes[0]
    folder = PurePosixPath(name).parent

    def entry_bytes(entry: zipfile.ZipInfo) -> bytes:
        try:
            with archive.open(entry) as stream:
                # An entry may claim to be smaller than it is, so the read itself is bounded.
                content = stream.read(entry.file_size + 1)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError) as e:
            raise MvaiError(
                f"{where}: {entry.filename} in the archive is damaged, encrypted or packed in an "
                "unknown way; pack it again without a password."
            ) from e
        if len(content) > entry.file_size:
            raise MvaiError(f"{where}: the archive lies about its sizes; pack it again.")
        return content

    def load(wanted: str) -> bytes | None:
        relative = _relative(wanted)
        if relative is None:
            return None
        entry = by_name.get(str(folder / relative).lower())
        if entry is None:
            same = [e for n, e in by_name.items() if n.split("/")[-1] == relative.name.lower()]
            entry = same[0] if same else None
        return None if entry is None else entry_bytes(entry)

    return PurePosixPath(by_name[name].filename).name, entry_bytes(by_name[name]), load


def _relative(name: str) -> PurePosixPath | None:
    """A name from a file as a path that stays below its folder.

    Absolute paths and drive letters keep only their last component; a name that climbs out with
    `..` leads nowhere.
    """
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if "\0" in name or not path.parts:
        return None
    if path.is_absolute() or ":" in path.parts[0]:
        path = PurePosixPath(path.name)
    if ".." in path.parts or not path.parts:
        return None
    return path
