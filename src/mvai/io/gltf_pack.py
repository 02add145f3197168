"""Packs arrays into the binary chunk of a GLB."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

TYPE_OF_SIZE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
COMPONENT_OF_DTYPE = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963


class Packer:
    """Grows the accessors, buffer views and bytes of one file."""

    def __init__(self) -> None:
        self.accessors: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self._content = bytearray()

    def view(self, data: bytes, **properties: Any) -> int:
        """Adds a buffer view, aligned to four bytes."""
        self._content += b"\0" * (-len(self._content) % 4)
        entry = {"buffer": 0, "byteOffset": len(self._content), "byteLength": len(data)}
        self.views.append(entry | properties)
        self._content += data
        return len(self.views) - 1

    def accessor(
        self,
        values: np.ndarray,
        *,
        target: int | None = None,
        normalized: bool = False,
        bounds: bool = False,
    ) -> int:
        """Adds an accessor over (count,) or (count, components).

        Args:
            values: in a component type of glTF; written as it is, to the bit.
            target: the kind of GPU buffer, for vertex attributes and indices.
            normalized: whether integers stand for 0..1 or -1..1.
            bounds: whether to write the smallest and largest value of each component.
        """
        rows = values.reshape(len(values), -1)
        kind = rows.dtype.str.lstrip("<|=")
        entry: dict[str, Any] = {
            "componentType": COMPONENT_OF_DTYPE[kind],
            "count": len(rows),
            "type": TYPE_OF_SIZE[rows.shape[1]],
        }
        if bounds:
            # The bounds must be the stored values, so they are not rounded as text.
            entry["min"] = [float(x) if kind == "f4" else int(x) for x in rows.min(axis=0)]
            entry["max"] = [float(x) if kind == "f4" else int(x) for x in rows.max(axis=0)]
        if normalized:
            entry["normalized"] = True
        properties: dict[str, Any] = {} if target is None else {"target": target}
        element = rows.dtype.itemsize * rows.shape[1]
        if target == ARRAY_BUFFER and element % 4:
            # Vertex attributes start at multiples of four bytes (glTF 2.0, 3.6.2.4).
            stride = element + -element % 4
            padded = np.zeros((len(rows), stride), np.uint8)
            padded[:, :element] = np.ascontiguousarray(rows).view(np.uint8).reshape(-1, element)
            data = padded.tobytes()
            properties["byteStride"] = stride
        else:
            data = np.ascontiguousarray(rows).tobytes()
        entry["bufferView"] = self.view(data, **properties)
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def glb(self, tree: dict[str, Any]) -> bytes:
        """The whole file: `tree` completed by accessors, views and buffer, and the bytes."""
        self._content += b"\0" * (-len(self._content) % 4)
        tree = tree | {
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self._content)}],
        }
        text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + len(self._content)
        return b"".join(
            (
                struct.pack("<4sII", b"glTF", 2, length),
                struct.pack("<I4s", len(text), b"JSON"),
                text,
                struct.pack("<I4s", len(self._content), b"BIN\0"),
                bytes(self._content),
            )
        )
