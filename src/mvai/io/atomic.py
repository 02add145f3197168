"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mvai.types import MvaiError


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block ends well.

    The temporary file keeps the suffix of `path`, because many writers choose the format by it.
    When the block raises (or is interrupted) the temporary file is removed and whatever stood at
    `path` before is left as it was.

    Raises:
        MvaiError: the folder is missing or not writable, the disk is full, or any other OSError
            met while writing.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        if path.is_dir():
            raise MvaiError(f"{path}: this is a folder; name a file to write to.")
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:40]}.", suffix=path.suffix, dir=path.parent
        )
        temporary = Path(name)
        os.close(handle)
        yield temporary
        # mkstemp makes the file private; the result gets the permissions of any new file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise MvaiError(_sentence(path, error)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


class _TriedError(Exception):
    """Leaves `written_whole` without writing."""


def check_writable(path: str | os.PathLike[str]) -> None:
    """See, before the work that a file is to hold, that it can be written.

    Raises:
        MvaiError: as `written_whole`.
    """
    try:
        with written_whole(path):
            raise _TriedError
    except _TriedError:
        pass


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        MvaiError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MvaiError(
            f"{folder}: this folder cannot be made ({error.strerror}); choose another with -o."
        ) from error


def _umask() -> int:
    """The process's file mode mask, which the system only tells while setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sentence(path: Path, error: OSError) -> str:
    """What an OSError met while writing `path` means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: there is no space left on the disk; free some or write elsewhere."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: not allowed to write here; choose a folder you may write to."
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return f"{path}: the folder {path.parent} does not exist; create it first."
    if isinstance(error, NotADirectoryError):
        return f"{path}: {path.parent} is not a folder; choose another place to write to."
    return f"{path}: could not be written ({error.strerror or error}); try another place."
