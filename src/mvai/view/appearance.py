"""How a character looks: its glTF materials as colours and textures the renderer can draw."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from mvai.io.render import Drawable
from mvai.types import Character, Mesh, MvaiError, Part
from mvai.view.simplify import simplified

MAX_TEXTURE_PX = 1024
"""Larger textures are scaled down: a preview shows no more, and they would fill memory."""

PLAIN = (0.80, 0.79, 0.77)
"""Display colour of parts without a material."""

Texture = UInt8[np.ndarray, "h w channels"]


@dataclass(frozen=True)
class Appearance:
    """What a character looks like, ready to be drawn with any positions."""

    layers: tuple[tuple[Int[np.ndarray, " layer_verts"], Drawable], ...]
    """Drawables in rest and, for each, its vertices among the character's concatenated ones."""

    def drawables(self, vertices: Float[np.ndarray, "verts 3"]) -> list[Drawable]:
        """The character at `vertices` (world, metres)."""
        return [
            Drawable(
                vertices=vertices[rows],
                faces=rest.faces,
                vertex_colors=rest.vertex_colors,
                color=rest.color,
                uv=rest.uv,
                texture=rest.texture,
                normal_groups=rest.normal_groups,
            )
            for rows, rest in self.layers
        ]

    def coarser(self, max_faces: int) -> Appearance:
        """The same with fewer triangles, for meshes much finer than the picture's pixels."""
        total = sum(len(rest.faces) for _, rest in self.layers)
        if total <= max_faces:
            return self
        layers = []
        for rows, rest in self.layers:
            share = max(1, max_faces * len(rest.faces) // total)
            kept, faces = simplified(Mesh(rest.vertices, rest.faces), share)
            fewer = replace(
                rest,
                vertices=rest.vertices[kept],
                faces=faces,
                vertex_colors=_rows(rest.vertex_colors, kept),
                uv=_rows(rest.uv, kept),
                normal_groups=_rows(rest.normal_groups, kept),
            )
            layers.append((rows[kept], fewer))
        return Appearance(tuple(layers))


def _rows(values: np.ndarray | None, kept: Int[np.ndarray, " kept"]) -> np.ndarray | None:
    return None if values is None else values[kept]


def drawables(character: Character, vertices: Float[np.ndarray, "verts 3"]) -> list[Drawable]:
    """A character at `vertices`; for many frames make its `appearance` once instead."""
    return appearance(character).drawables(vertices)


def appearance(character: Character) -> Appearance:
    """Base colour, base colour texture and vertex colours of every part.

    All parts that have no texture are drawn in one go, as are all that share one. Everything is
    double-sided; opacity only cuts out (at half).

    Raises:
        MvaiError: A texture cannot be decoded.
    """
    parts = [p for p in character.parts if len(p.faces)]
    starts = np.cumsum([0] + [len(p.vertices) for p in character.parts])
    start_of = {id(p): int(s) for p, s in zip(character.parts, starts, strict=False)}
    by_texture: dict[tuple[int, bool] | None, list[Part]] = {}
    for part in parts:
        by_texture.setdefault(_texture_key(character, part), []).append(part)
    layers = []
    for key, members in by_texture.items():
        rows = np.concatenate([start_of[id(p)] + np.arange(len(p.vertices)) for p in members])
        offsets = np.cumsum([0] + [len(p.vertices) for p in members])
        rest = Drawable(
            vertices=np.concatenate([p.vertices for p in members]),
            faces=np.concatenate([p.faces + o for p, o in zip(members, offsets, strict=False)]),
            color=(1.0, 1.0, 1.0),
            vertex_colors=np.concatenate([_colors(character, p) for p in members]),
            uv=None if key is None else np.concatenate([_uv(character, p) for p in members]),
            texture=None if key is None else _decode(character, *key),
            normal_groups=_normal_groups(members),
        )
        layers.append((rows, rest))
    return Appearance(tuple(layers))


def _material(character: Character, part: Part) -> Mapping[str, Any]:
    return {} if part.material is None else character.materials[part.material]


def _base(material: Mapping[str, Any]) -> tuple[tuple[float, ...], Mapping[str, Any] | None]:
    """Linear base colour factor, and glTF's textureInfo of the base colour texture."""
    old = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
    if old is not None:
        return tuple(old.get("diffuseFactor", (1, 1, 1, 1))), old.get("diffuseTexture")
    pbr = material.get("pbrMetallicRoughness", {})
    return tuple(pbr.get("baseColorFactor", (1, 1, 1, 1))), pbr.get("baseColorTexture")


def _texture_key(character: Character, part: Part) -> tuple[int, bool] | None:
    """The image a part is covered with, and whether its opacity cuts out; None without one."""
    material = _material(character, part)
    info = _base(material)[1]
    if info is None or f"TEXCOORD_{info.get('texCoord', 0)}" not in part.attributes:
        return None
    texture = character.textures[info["index"]]
    # WebP textures stand in an extension, beside or instead of a plain source.
    webp = texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source")
    source = texture.get("source", webp)
    if source is None:
        return None
    return int(source), material.get("alphaMode", "OPAQUE") != "OPAQUE"


def _uv(character: Character, part: Part) -> Float[np.ndarray, "verts 2"]:
    info = _base(_material(character, part))[1] or {}
    move = info.get("extensions", {}).get("KHR_texture_transform", {})
    values = part.attributes[f"TEXCOORD_{move.get('texCoord', info.get('texCoord', 0))}"]
    uv = _unit_range(values)[:, :2]
    angle = move.get("rotation", 0.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    uv = (uv * np.array(move.get("scale", (1, 1)))) @ turn.T + np.array(move.get("offset", (0, 0)))
    return uv.astype(np.float32)


def _colors(character: Character, part: Part) -> UInt8[np.ndarray, "verts 3"]:
    """Vertex colour times base colour factor, as display colours."""
    if part.material is None and "COLOR_0" not in part.attributes:
        plain = np.round(np.array(PLAIN) * 255).astype(np.uint8)
        return np.broadcast_to(plain, (len(part.vertices), 3)).copy()
    linear = np.ones((len(part.vertices), 3)) * _base(_material(character, part))[0][:3]
    if "COLOR_0" in part.attributes:
        linear = linear * _unit_range(part.attributes["COLOR_0"])[:, :3]
    return np.round(_srgb(np.clip(linear, 0, 1)) * 255).astype(np.uint8)


def _unit_range(values: np.ndarray) -> np.ndarray:
    """Integers, which glTF stores for 0 to 1, as floats."""
    return values / np.iinfo(values.dtype).max if values.dtype.kind in "iu" else values


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to display values (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _decode(character: Character, source: int, cut_out: bool) -> Texture:
    from PIL import Image, UnidentifiedImageError

    image = character.images[source]
    try:
        with Image.open(io.BytesIO(image.data)) as picture:
            # Decoding a JPEG at a fraction of its size is much faster.
            picture.draft("RGB", (MAX_TEXTURE_PX, MAX_TEXTURE_PX))
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            decoded = picture.convert("RGBA" if cut_out and has_alpha else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        name = image.name or f"number {source}"
        raise MvaiError(
            f"{character.name}: the texture {name} cannot be decoded; save it again as PNG or JPEG."
        ) from error
    decoded.thumbnail((MAX_TEXTURE_PX, MAX_TEXTURE_PX), Image.Resampling.BOX)
    return np.asarray(decoded)


def _normal_groups(parts: list[Part]) -> Int[np.ndarray, " verts"]:
    """Numbers the vertices that stand in one place in rest and share a normal there.

    Files split vertices where the texture has a seam; those must be shaded alike. Where the
    file itself gives two normals, there is a hard edge, which stays.
    """
    keys, number = [], 0
    for part in parts:
        size = max(float(np.ptp(part.vertices, axis=0).max()), 1e-9)
        columns = [np.round((part.vertices - part.vertices.min(0)) / size * 1e5)]
        normals = part.attributes.get("NORMAL")
        if normals is not None and len(normals) == len(part.vertices):
            columns.append(np.round(normals * 20))
        grid = np.ascontiguousarray(np.concatenate(columns, axis=1).astype(np.int32))
        rows = grid.view(np.dtype((np.void, grid.strides[0]))).ravel()
        _, groups = np.unique(rows, return_inverse=True)
        keys.append(groups.ravel() + number)
        number += int(groups.max(initial=-1)) + 1
    return np.concatenate(keys)
