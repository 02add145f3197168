"""Finished pieces of a long evaluation: kept, and made in processes of their own."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mvai.io.atomic import make_folder, written_whole
from mvai.progress import peak_memory_gb
from mvai.types import MvaiError

P = ParamSpec("P")
T = TypeVar("T")

NOT_MEASURED = ("cli", "evaluate", "train", "view", "batch", "demo_files")
"""Parts of the package that do not change what is measured."""


def work_folder(base: Path) -> Path:
    """A folder in `base` for results of this very code, named by its fingerprint.

    Results of other code are thus never taken for those of this one.

    Raises:
        MvaiError: it cannot be made.
    """
    folder = base / fingerprint()
    make_folder(folder)
    return folder


def fingerprint() -> str:
    """Fingerprint of the package's files, as far as they change what is measured."""
    root = Path(str(files("mvai")))
    digest = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        inner = file.relative_to(root)
        if inner.parts[0] not in NOT_MEASURED and file.suffix in (".py", ".npz", ".safetensors"):
            digest.update(f"{inner}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def kept(work: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A finished piece: read from a file of a work folder, or made and written there.

    Raises:
        MvaiError: the code changed while it was made, or it cannot be written.
    """
    path = work / name
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    result = make()
    check_unchanged(work)
    write_text(path, json.dumps(result, indent=1))
    return result


def check_unchanged(work: Path) -> None:
    """Sees that the code is still what a work folder was made for.

    Raises:
        MvaiError: it is not; new processes have run other code.
    """
    if fingerprint() != work.name:
        raise MvaiError(
            f"{Path(str(files('mvai')))}: these files changed while they were measured; "
            "run the command again and leave them alone meanwhile."
        )


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all.

    Raises:
        MvaiError: the place cannot be written to.
    """
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def isolated(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """Calls a module's function in a fresh process.

    Returns:
        Its result, and the most memory that process had resident, in GB.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, function, args, kwargs).result()


def _measured(function: Callable[..., T], args: Any, kwargs: Any) -> tuple[T, float]:
    # The libraries' warnings would stand between the lines of progress.
    warnings.simplefilter("ignore")
    return function(*args, **kwargs), peak_memory_gb()
