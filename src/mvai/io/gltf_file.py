"""The container level of glTF 2.0: JSON, buffers, accessors and images.

JSON is kept as plain dictionaries, so that what this package does not know survives. Numbers in
parentheses are sections of the glTF 2.0 specification (Khronos, ISO/IEC 12113).
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import urllib.parse
from dataclasses import dataclass
from typing import Any

import numpy as np

from mvai.io.files_beside import Loader
from mvai.types import Image, MvaiError

COMPONENT_DTYPES = {
    5120: np.dtype("<i1"),
    5121: np.dtype("<u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
"""Component types (3.6.2.2)."""
TYPE_SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}

COMPRESSIONS = {
    "KHR_draco_mesh_compression": "Draco",
    "EXT_meshopt_compression": "meshopt",
    "KHR_meshopt_compression": "meshopt",
}


@dataclass(frozen=True)
class GltfFile:
    """A parsed glTF file."""

    where: str
    """Its name, for error messages."""
    json: dict[str, Any]
    buffers: tuple[bytes, ...]
    load: Loader
    """Reads what the file names by URI."""

    def items(self, key: str) -> list[dict[str, Any]]:
        """A top-level array, empty when the file has none."""
        return self.json.get(key, [])

    def broken(self, what: str) -> MvaiError:
        """The error for a file that breaks the specification."""
        return MvaiError(f"{self.where}: broken glTF file ({what}); export it again.")


def parse_gltf(data: bytes, load: Loader, where: str) -> GltfFile:
    """Reads a .glb or .gltf from memory.

    Raises:
        MvaiError: not glTF 2.0, truncated, compressed, or a buffer is missing.
    """
    binary: bytes | None = None
    if data[:4] == b"glTF":
        text, binary = _glb_chunks(data, where)
    else:
        text = data
    try:
        tree = json.loads(text.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise MvaiError(
            f"{where}: not a readable glTF file (no valid JSON in it); export it again."
        ) from error
    if not isinstance(tree, dict) or not isinstance(tree.get("asset"), dict):
        raise MvaiError(f"{where}: not a glTF file (it has no asset entry).")
    if str(tree["asset"].get("version", "")).split(".")[0] != "2":
        raise MvaiError(f"{where}: not glTF 2.0; export it again as glTF 2.0.")
    for extension in tree.get("extensionsRequired", []):
        if extension in COMPRESSIONS:
            raise MvaiError(
                f"{where}: the mesh is {COMPRESSIONS[extension]}-compressed, which is not "
                "supported; export it again without compression."
            )
    buffers = tuple(
        _buffer(b, binary if i == 0 else None, load, where)
        for i, b in enumerate(tree.get("buffers", []))
    )
    return GltfFile(where=where, json=tree, buffers=buffers, load=load)


def _glb_chunks(data: bytes, where: str) -> tuple[bytes, bytes | None]:
    """JSON and binary chunk of a GLB container (4.4)."""
    truncated = MvaiError(f"{where}: the file is truncated; copy or export it again.")
    if len(data) < 20:
        raise truncated
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise MvaiError(f"{where}: not glTF 2.0; export it again as glTF 2.0.")
    if length > len(data):
        raise truncated
    text: bytes | None = None
    binary: bytes | None = None
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, offset)
        if offset + 8 + size > length:
            raise truncated
        chunk = data[offset + 8 : offset + 8 + size]
        if kind == b"JSON" and text is None:
            text = chunk
        elif kind == b"BIN\0" and binary is None:
            binary = chunk
        offset += 8 + size
    if text is None:
        raise truncated
    return text, binary


def _buffer(entry: dict[str, Any], binary: bytes | None, load: Loader, where: str) -> bytes:
    uri = entry.get("uri")
    content = binary if uri is None else _resolve(uri, load)
    if content is None:
        missing = "its binary part" if uri is None or uri.startswith("data:") else f"the file {uri}"
        raise MvaiError(f"{where}: {missing} is missing; put it beside the file or export a .glb.")
    if len(content) < int(entry.get("byteLength", 0)):
        raise MvaiError(f"{where}: the file is truncated; copy or export it again.")
    return content


def _resolve(uri: str, load: Loader) -> bytes | None:
    """The content behind a URI: data in the file itself, or a file beside it (2.8)."""
    if not uri.startswith("data:"):
        return load(urllib.parse.unquote(uri))
    head, _, body = uri.partition(",")
    try:
        if head.endswith(";base64"):
            return base64.b64decode(body)
        return urllib.parse.unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        return None


def _view(gltf: GltfFile, index: int) -> tuple[memoryview, int | None]:
    """Bytes and stride of a buffer view."""
    view = gltf.items("bufferViews")[index]
    start = int(view.get("byteOffset", 0))
    end = start + int(view["byteLength"])
    content = gltf.buffers[view["buffer"]]
    if start < 0 or end > len(content):
        raise gltf.broken("a buffer view reaches past the end of its buffer")
    return memoryview(content)[start:end], view.get("byteStride")


def _strided(
    gltf: GltfFile, view_index: int, offset: int, count: int, dtype: np.dtype, size: int
) -> np.ndarray:
    """`count` elements of `size` components from a buffer view, interleaved or not."""
    content, stride = _view(gltf, view_index)
    # Columns of small matrices are padded to four bytes (3.6.2.4); no attribute read here is one.
    element = dtype.itemsize * size
    stride = stride or element
    if count and (offset < 0 or offset + stride * (count - 1) + element > len(content)):
        raise gltf.broken("an accessor reaches past the end of its buffer view")
    return np.ndarray((count, size), dtype, content, offset, (stride, dtype.itemsize)).copy()


def accessor(gltf: GltfFile, index: int) -> tuple[np.ndarray, bool]:
    """An accessor's elements as stored, sparse substitution done (3.6.2).

    Returns:
        (count, components) in the stored component type, and whether integers are normalised.

    Raises:
        MvaiError: the accessor does not fit its data.
    """
    try:
        entry = gltf.items("accessors")[index]
        dtype = COMPONENT_DTYPES[entry["componentType"]]
        size = TYPE_SIZES[entry["type"]]
        count = int(entry["count"])
        if count < 0 or count > 1 << 28:
            raise gltf.broken("an accessor has an impossible count")
        if "bufferView" in entry:
            offset = int(entry.get("byteOffset", 0))
            values = _strided(gltf, entry["bufferView"], offset, count, dtype, size)
        else:
            values = np.zeros((count, size), dtype)
        if (sparse := entry.get("sparse")) is not None:
            n, at, new = int(sparse["count"]), sparse["indices"], sparse["values"]
            at_dtype = COMPONENT_DTYPES[at["componentType"]]
            where = _strided(gltf, at["bufferView"], at.get("byteOffset", 0), n, at_dtype, 1)
            values[where[:, 0]] = _strided(
                gltf, new["bufferView"], new.get("byteOffset", 0), n, dtype, size
            )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise gltf.broken(f"accessor {index} cannot be read") from error
    return values, bool(entry.get("normalized", False))


def as_float(values: np.ndarray, normalized: bool) -> np.ndarray:
    """Stored components as float32; normalised integers by the formulas of 3.6.2.2."""
    if values.dtype.kind == "f" or not normalized:
        return values.astype(np.float32)
    scaled = values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    return np.maximum(scaled, np.float32(-1.0))


def image(gltf: GltfFile, index: int) -> Image | None:
    """An image's encoded bytes, wherever they are kept; None where they are missing."""
    entry = gltf.items("images")[index]
    if "bufferView" in entry:
        data: bytes | None = bytes(_view(gltf, entry["bufferView"])[0])
    else:
        data = _resolve(entry.get("uri", "data:,"), gltf.load)
    if not data:
        return None
    return Image(data=data, mime=mime(data, entry.get("mimeType", "")), name=entry.get("name", ""))


def mime(data: bytes, told: str = "") -> str:
    """The media type of an encoded picture by its first bytes, else what the file says."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return told
