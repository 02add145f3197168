"""Fingerprints: whether an input or a stage's settings are still what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mvai.types import Character, MvaiError

CHUNK = 1 << 20


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, or of the names and contents of the files in a folder.

    Raises:
        MvaiError: it cannot be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for inner in sorted(p for p in path.iterdir() if p.is_file()):
                digest.update(f"{inner.name}\0{file_sha256(inner)}\0".encode())
        else:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise MvaiError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    return digest.hexdigest()


def character_sha256(character: Character) -> str:
    """SHA-256 of what a character is, wherever it was read from and whatever it is called."""
    digest = hashlib.sha256()
    for part in character.parts:
        add_arrays(
            digest,
            part.vertices,
            part.faces,
            *(part.attributes[k] for k in sorted(part.attributes)),
        )
        digest.update(repr((sorted(part.attributes), part.material)).encode())
    looks = [character.materials, character.textures, character.samplers]
    digest.update(json.dumps(looks, sort_keys=True, default=dict).encode())
    for image in character.images:
        digest.update(image.data)
    if (skin := character.skin) is not None:
        add_arrays(digest, skin.T_world_joint, skin.weight_indices, skin.weights)
        digest.update(repr((skin.joints, skin.parents)).encode())
    return digest.hexdigest()


def add_arrays(digest: Any, *arrays: np.ndarray) -> None:
    """Take arrays, their types and their shapes into a digest."""
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)


def plain_settings(config: Any) -> dict[str, Any]:
    """A stage's settings as JSON knows them."""
    assert is_dataclass(config) and not isinstance(config, type)
    return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}


@cache
def software() -> str:
    """This package's version and a digest of the weights in it: training makes stages anew."""
    return f"{version('mvai')} {file_sha256(str(files('mvai') / 'weights'))}"


def stage_key(method: str, settings: Mapping[str, Any], software: str, *inputs: str) -> str:
    """Fingerprint of a stage's result: same key, same result.

    Args:
        method: name of the method.
        settings: as `plain_settings` gives them.
        software: what the stage was run by (see `software`).
        inputs: fingerprints of everything the stage takes in.
    """
    text = json.dumps([method, dict(settings), software, inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
