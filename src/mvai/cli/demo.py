"""The clip and the character that come with the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

from mvai.types import MvaiError


@contextlib.contextmanager
def demo_files() -> Iterator[tuple[Path, Path]]:
    """Paths of the clip and the character.

    Raises:
        MvaiError: they are not in this installation.
    """
    folder = files("mvai") / "demo_files"
    clip, character = folder / "clip.mp4", folder / "character.glb"
    for file in (clip, character):
        if not file.is_file():
            raise MvaiError(f"{file}: this file of the demo is missing; install mvai again.")
    with as_file(clip) as clip_path, as_file(character) as character_path:
        yield clip_path, character_path
