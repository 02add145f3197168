"""Hidden folders in which clips are made, beside the folders of the clips that are whole.

A run that is killed leaves its folders behind. While a folder is in use its process holds the
benchmark shared (flock(2), which the system takes back from whoever dies); what is left lying is
cleared only by a run that for a moment holds the benchmark alone, so that nobody is at work.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mvai.benchmark.clips import POOLS

NAME = re.compile(rf"\.({'|'.join(POOLS)})-\d{{5}}\..+")


@contextlib.contextmanager
def work_folder(out: Path, pool: str, number: int) -> Iterator[Path]:
    """A folder for one clip, removed when the block ends if it is still there."""
    with _held(out, alone=False):
        work = Path(tempfile.mkdtemp(prefix=f".{pool}-{number:05d}.", dir=out))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def clear_leftovers(out: Path) -> None:
    """Removes what killed runs have left, unless some other run is at work or the file system
    cannot tell."""
    with _held(out, alone=True) as held:
        if held:
            for path in out.iterdir():
                if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path, alone: bool) -> Iterator[bool]:
    """Holds a folder shared, once nobody holds it alone, or alone, if nobody else holds it; tells
    whether it is held."""
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)
