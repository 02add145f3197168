"""Keeps what was found in characters, so that the second clip finds nothing anew.

Looking at a character, fitting the template and making weights takes seconds and depends on
nothing but its mesh, some settings and this code. The results lie in the user's cache folder under
a hash of these; the variable MVAI_CACHE names another folder, or is "off".
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mvai.io.atomic import written_whole
from mvai.io.fingerprint import add_arrays, software
from mvai.types import Mesh, MvaiError

FOLDER = "MVAI_CACHE"
OFF = ("off", "no", "0", "")


def cache_folder() -> Path | None:
    """The folder, whether or not it is there; None when nothing shall be kept."""
    named = os.environ.get(FOLDER)
    if named is not None:
        return None if named.lower() in OFF else Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "mvai" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "mvai"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "mvai"


def cache_key(mesh: Mesh, detector: Callable[..., Any]) -> str:
    """Hash of a character's mesh, of the detector's name and of the code that finds bodies."""
    digest = hashlib.sha256(code_sha256().encode())
    digest.update(f"{detector.__module__}.{getattr(detector, '__qualname__', '')}".encode())
    add_arrays(digest, mesh.vertices, mesh.faces)
    return digest.hexdigest()


@cache
def code_sha256() -> str:
    """Hash of this version, its weights (the body among them) and of the files that work on
    characters, so that a checkout that changes does not take what another state of it has found."""
    here = Path(__file__).parent
    digest = hashlib.sha256(software().encode())
    above = here.parent
    for files in (
        here.glob("*.py"),
        above.glob("rig*.py"),
        above.glob("legs.py"),
        above.with_name("geometry").glob("*.py"),
    ):
        for file in sorted(files):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def read_kept(key: str) -> dict[str, np.ndarray] | None:
    """What was kept under a key; None when there is nothing, or nothing that can be read."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        with np.load(folder / f"{key}.npz", allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def keep(key: str, arrays: dict[str, np.ndarray]) -> None:
    """Keeps arrays under a key; where that is not possible, nothing is kept."""
    folder = cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / f"{key}.npz") as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    except (OSError, MvaiError):
        return
