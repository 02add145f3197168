"""PLY, STL and OFF to Character, parsed by trimesh."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from mvai.io.files_beside import Loader
from mvai.io.gltf_file import mime
from mvai.types import Character, Image, MvaiError, Part


def character_from_mesh(data: bytes, kind: str, load: Loader, where: str, name: str) -> Character:
    """Reads one mesh with vertex colours, normals or texture coordinates where it has them.

    Args:
        data: the file's content.
        kind: "ply", "stl" or "off".
        load: gives the picture that a PLY names.
        where: the name for error messages.
        name: the character's.

    Returns:
        A Character of one part in the file's own coordinates. The vertices of an STL, which
        stores every triangle on its own, are merged where they are equal to the bit.

    Raises:
        MvaiError: the file is not what its suffix says, or truncated.
    """
    import trimesh

    loaded: Any
    try:
        loaded = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_mesh()
        vertices = np.array(getattr(loaded, "vertices", np.zeros((0, 3))), float)
        faces = np.array(getattr(loaded, "faces", np.zeros((0, 3))), np.int64).reshape(-1, 3)
    except Exception as error:  # The parser lets any exception of its parts through.
        raise MvaiError(
            f"{where}: not a readable .{kind} mesh, or truncated; export it again."
        ) from error
    if not len(faces):
        return Character(name=name, parts=())
    if kind == "stl":
        _, first, inverse = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        vertices, faces = vertices[first[order]], rank[inverse.reshape(-1)][faces]
        return Character(name=name, parts=(Part(name, vertices, faces),))
    attributes, material = {}, None
    images: tuple[Image, ...] = ()
    visual = loaded.visual
    if visual.kind == "vertex":
        attributes["COLOR_0"] = np.asarray(visual.vertex_colors, np.uint8)
    elif visual.kind == "texture" and visual.uv is not None and len(visual.uv) == len(vertices):
        uv = np.asarray(visual.uv, float) * [1, -1] + [0, 1]
        attributes["TEXCOORD_0"] = uv.astype(np.float32)
        named = re.search(rb"comment TextureFile ([^\r\n]+)", data[:100_000])
        picture = load(named.group(1).decode("utf-8", "replace")) if named else None
        if picture is not None and mime(picture):
            images = (Image(picture, mime(picture), name),)
            material = 0
    if "vertex_normals" in loaded._cache:
        attributes["NORMAL"] = np.asarray(loaded.vertex_normals, np.float32)
    base = {"metallicFactor": 0.0, "roughnessFactor": 1.0, "baseColorTexture": {"index": 0}}
    return Character(
        name=name,
        parts=(Part(name, vertices, faces, attributes, material),),
        materials=({"pbrMetallicRoughness": base},) if images else (),
        textures=({"source": 0},) if images else (),
        images=images,
    )
