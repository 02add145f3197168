"""Wavefront material libraries to glTF materials.

Statements: Alias|Wavefront MTL, with the physically based additions (Pr, Pm, norm) of Exocortex
and Blender.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

from mvai.io.files_beside import Loader
from mvai.io.gltf_file import mime
from mvai.types import Image, MvaiWarning

OPTION_LENGTHS = {
    "-blendu": 1, "-blendv": 1, "-boost": 1, "-mm": 2, "-o": 3, "-s": 3, "-t": 3, "-texres": 1,
    "-clamp": 1, "-bm": 1, "-imfchan": 1, "-type": 1,
}  # fmt: skip
"""Number of values after each option of a map statement; -o, -s and -t may have fewer."""


@dataclass
class Appearance:
    """glTF materials as they are gathered."""

    materials: list[dict[str, Any]] = field(default_factory=list)
    textures: list[dict[str, Any]] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    """Material index by name."""
    image_of: dict[str, int | None] = field(default_factory=dict)
    """Texture index by file name; None for a file that is missing or cannot be read."""


def read_mtl(data: bytes, load: Loader, where: str, into: Appearance) -> None:
    """Adds the materials of one library to `into`. Unreadable values fall back to defaults."""
    statements: dict[str, str] = {}
    name: str | None = None
    for line in [*data.decode("utf-8", errors="replace").splitlines(), "newmtl"]:
        key, _, rest = line.strip().replace("\t", " ").partition(" ")
        if key.lower() != "newmtl":
            statements[key.lower()] = rest.strip()
            continue
        if name is not None and name not in into.index:
            into.index[name] = len(into.materials)
            into.materials.append(_material(name, statements, load, where, into))
        name, statements = rest.strip(), {}


def _material(
    name: str, statements: dict[str, str], load: Loader, where: str, into: Appearance
) -> dict[str, Any]:
    opacity = _values(statements.get("d", ""), [1.0])[0]
    if "d" not in statements and "tr" in statements:
        opacity = 1.0 - _values(statements["tr"], [0.0])[0]
    # A phong exponent as roughness: alpha^2 = 2 / (Ns + 2) with alpha = roughness^2 (Walter 2007).
    shine = max(0.0, _values(statements.get("ns", ""), [0.0])[0])
    roughness = _values(statements.get("pr", ""), [(2.0 / (shine + 2.0)) ** 0.25])[0]
    pbr: dict[str, Any] = {
        "metallicFactor": _unit(_values(statements.get("pm", ""), [0.0])[0]),
        "roughnessFactor": _unit(roughness),
    }
    color = [_unit(c) for c in _values(statements.get("kd", ""), [0.8, 0.8, 0.8])]
    material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": pbr, "doubleSided": True}
    alpha_map = statements.get("map_d")
    texture = _texture(statements.get("map_kd"), load, where, into)
    if texture is not None:
        pbr["baseColorTexture"] = {"index": texture}
        color = [1.0, 1.0, 1.0]  # Tools take the picture in place of Kd, not times it.
        if alpha_map and _file_name(alpha_map) == _file_name(statements["map_kd"]):
            material["alphaMode"] = "MASK"
    pbr["baseColorFactor"] = [*color, _unit(opacity)]
    if opacity < 1.0 and "alphaMode" not in material:
        # Fully transparent is what exporters write when the picture holds the transparency.
        material["alphaMode"] = "MASK" if texture is not None else "BLEND"
        if opacity <= 0.0:
            pbr["baseColorFactor"][3] = 1.0
    normal = _texture(statements.get("norm"), load, where, into)
    if normal is not None:
        material["normalTexture"] = {"index": normal}
    emission = [_unit(c) for c in _values(statements.get("ke", ""), [0.0, 0.0, 0.0])]
    glow = _texture(statements.get("map_ke"), load, where, into)
    if glow is not None:
        material["emissiveTexture"] = {"index": glow}
        emission = [1.0, 1.0, 1.0]
    if any(emission):
        material["emissiveFactor"] = emission
    return material


def _texture(statement: str | None, load: Loader, where: str, into: Appearance) -> int | None:
    """The texture for a map statement; a picture used twice is kept once."""
    if not statement or not (name := _file_name(statement)):
        return None
    if name not in into.image_of:
        content = load(name)
        picture = None if content is None else _as_png_or_jpeg(content, name)
        if picture is None:
            warnings.warn(
                f"{where}: the picture {name} is missing or unreadable; it is left out.",
                MvaiWarning,
                stacklevel=6,
            )
            into.image_of[name] = None
        else:
            into.image_of[name] = len(into.textures)
            into.textures.append({"source": len(into.images), "sampler": 0})
            into.images.append(picture)
    return into.image_of[name]


def _as_png_or_jpeg(data: bytes, name: str) -> Image | None:
    """The picture as glTF allows it: PNG and JPEG untouched, others (TGA, BMP, ...) as PNG."""
    if (kind := mime(data)) in ("image/png", "image/jpeg"):
        return Image(data=data, mime=kind, name=name)
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            out = io.BytesIO()
            has_alpha = "A" in picture.getbands() or picture.mode == "P"
            picture.convert("RGBA" if has_alpha else "RGB").save(out, "PNG")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None
    return Image(data=out.getvalue(), mime="image/png", name=name)


def _file_name(statement: str) -> str:
    """The file a map statement names, after its options; it may contain spaces."""
    words = statement.split(" ")
    while words and words[0].lower() in OPTION_LENGTHS:
        most = OPTION_LENGTHS[words[0].lower()]
        words = words[1:]
        for _ in range(most):
            if most == 3 and not _is_number(words[0] if words else ""):
                break
            words = words[1:]
    return " ".join(words).strip().strip('"')


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _values(text: str, default: list[float]) -> list[float]:
    """As many numbers as `default` has, or `default` when they cannot be read."""
    words = text.split()[: len(default)]
    if len(words) < len(default) or not all(_is_number(w) for w in words):
        return default
    values = [float(w) for w in words]
    return values if all(math.isfinite(v) for v in values) else default


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
