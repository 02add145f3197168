"""The pictures of a glTF file, and its materials without those that are missing.

Models are handed on without their pictures, or name them where they lay on another machine; what
moves does not depend on them.
"""

from __future__ import annotations

import warnings
from typing import Any

from mvai.io.gltf_file import GltfFile, image
from mvai.types import Image, MvaiWarning

WHITE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
"""A PNG of one white pixel, which stands for a missing picture so that indices hold."""


def pictures(gltf: GltfFile) -> tuple[tuple[Image, ...], tuple[dict[str, Any], ...]]:
    """Images, and materials that ask for none of those that are missing; these are warned of."""
    found = [image(gltf, i) for i in range(len(gltf.items("images")))]
    lost = {i for i, picture in enumerate(found) if picture is None}
    materials = tuple(gltf.items("materials"))
    if lost:
        names = ", ".join(f"{gltf.items('images')[i].get('uri', i)!s:.80}" for i in sorted(lost))
        warnings.warn(
            f"{gltf.where}: without the pictures {names}, which are missing.",
            MvaiWarning,
            stacklevel=5,
        )
        gone = {t for t, entry in enumerate(gltf.items("textures")) if _sources(entry) <= lost}
        materials = tuple(_without(material, gone) for material in materials)
    return tuple(p or Image(data=WHITE, mime="image/png") for p in found), materials


def _sources(texture: dict[str, Any]) -> set[int]:
    """The images of a texture; extensions name others in place of the first."""
    named = [texture, *texture.get("extensions", {}).values()]
    return {entry["source"] for entry in named if isinstance(entry, dict) and "source" in entry}


def _without(material: dict[str, Any], gone: set[int]) -> dict[str, Any]:
    """The material, and what is nested in it, without references to these textures."""
    kept = {}
    for key, value in material.items():
        if isinstance(value, dict):
            if key.endswith("Texture") and value.get("index") in gone:
                continue
            value = _without(value, gone)
        kept[key] = value
    return kept
