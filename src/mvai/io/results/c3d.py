"""Marker positions in the binary C3D format (c3d.org, "The C3D File Format", 2023).

Blocks of 512 bytes: a header, parameters in named groups, then frames of points (x, y, z, residual)
and analogue samples, as 16-bit integers with a scale or as floats, in one of three byte orders.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai.io.results.data import PointTracks, chosen_person
from mvai.io.results.markers import point_tracks

BLOCK = 512
INTEL, DEC, MIPS = 84, 85, 86
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}


@dataclass(frozen=True)
class C3d:
    """Markers in the file's own axes and names."""

    names: tuple[str, ...]
    xyz_m: Float[np.ndarray, "frames markers 3"]
    """NaN where a marker was not seen."""
    fps: float


@dataclass
class _Bytes:
    """Numbers of a byte order."""

    data: bytes
    processor: int
    order: str = field(init=False)

    def __post_init__(self) -> None:
        if self.processor not in (INTEL, DEC, MIPS):
            raise ValueError("the processor type")
        self.order = ">" if self.processor == MIPS else "<"

    def integers(self, at: int, count: int, kind: str = "i2") -> np.ndarray:
        return np.frombuffer(self.data, self.order + kind, count, at)

    def floats(self, at: int, count: int) -> np.ndarray:
        if self.processor != DEC:
            return np.frombuffer(self.data, self.order + "f4", count, at)
        # DEC's floats have their 16-bit words swapped and are four times an IEEE float.
        words = np.frombuffer(self.data, "<u2", 2 * count, at).reshape(-1, 2)[:, ::-1]
        return np.ascontiguousarray(words).view("<f4").ravel() / 4


def read_c3d(path: Path, person: int) -> PointTracks:
    """The markers of a C3D file that name a point of the body.

    Raises:
        MvaiError: too few of its markers are known, or there are fewer people.
        ValueError, KeyError, IndexError, struct.error: it is damaged.
    """
    clip = c3d_markers(path.read_bytes())
    # Several subjects stand in one file as "name:MARKER".
    subjects: dict[str, int] = {}
    for name in clip.names:
        subjects[name.split(":")[0] if ":" in name else ""] = 0
    for i, name in enumerate(clip.names):
        who = name.split(":")[0] if ":" in name else ""
        subjects[who] += int(np.isfinite(clip.xyz_m[:, i, 0]).sum())
    if len(subjects) > 1:
        subjects.pop("", None)
    who = chosen_person(subjects, person, path)
    mine = [i for i, n in enumerate(clip.names) if (n.split(":")[0] if ":" in n else "") == who]
    return point_tracks("C3D", [clip.names[i] for i in mine], clip.xyz_m[:, mine], clip.fps, path)


def c3d_markers(data: bytes) -> C3d:
    """All markers of a file's bytes."""
    start = BLOCK * (data[0] - 1)
    if data[1] != 0x50:
        raise ValueError("the key word")
    numbers = _Bytes(data, data[start + 3])
    groups = _parameters(numbers, start)
    point = groups["POINT"]
    used = int(np.atleast_1d(point["USED"])[0]) & 0xFFFF
    scale = float(np.atleast_1d(point["SCALE"])[0])
    fps = float(np.atleast_1d(point["RATE"])[0])
    unit = UNITS[str(np.atleast_1d(point.get("UNITS", ["mm"]))[0]).strip().lower() or "mm"]
    labels = [str(n).strip() for k in ("LABELS", "LABELS2") for n in point.get(k, [])]
    header = numbers.integers(0, 10, "u2")
    analogue, first, last = int(header[2]), int(header[3]), int(header[4])
    frames = last - first + 1
    if point.get("FRAMES") is not None and last == 0xFFFF:
        frames = int(np.atleast_1d(point["FRAMES"])[0]) & 0xFFFF
    at = BLOCK * (int(header[8]) - 1)
    width = 4 * used + analogue
    if scale < 0:
        room = (len(data) - at) // (4 * width)
        frames = min(frames, room)
        rows = numbers.floats(at, frames * width).reshape(frames, width)
        xyzr = rows[:, : 4 * used].reshape(frames, used, 4)
        seen = xyzr[..., 3] >= 0
        xyz = xyzr[..., :3].astype(np.float64)
    else:
        frames = min(frames, (len(data) - at) // (2 * width))
        rows = numbers.integers(at, frames * width).reshape(frames, width)
        xyzr = rows[:, : 4 * used].reshape(frames, used, 4)
        seen = xyzr[..., 3] >= 0
        xyz = xyzr[..., :3] * scale
    if frames < 1 or used < 1 or not fps > 0:
        raise ValueError("no frames or points")
    labels += [f"point {i}" for i in range(len(labels), used)]
    return C3d(tuple(labels[:used]), np.where(seen[..., None], xyz * unit, np.nan), fps)


def _parameters(numbers: _Bytes, start: int) -> dict[str, dict[str, Any]]:
    """Group name to parameter name to value; names in capitals."""
    data = numbers.data
    at = start + 4
    names: dict[int, str] = {}
    found: list[tuple[int, str, Any]] = []
    while True:
        length, group = struct.unpack_from("bb", data, at)
        if length == 0:
            break
        name = data[at + 2 : at + 2 + abs(length)].decode("latin1").upper()
        here = at + 2 + abs(length)
        offset = int(numbers.integers(here, 1)[0])
        if group < 0:
            names[-group] = name
        else:
            found.append((group, name, _value(numbers, here + 2)))
        if offset <= 0:
            break
        at = here + offset
    groups: dict[str, dict[str, Any]] = {}
    for group, name, value in found:
        groups.setdefault(names.get(group, ""), {})[name] = value
    return groups


def _value(numbers: _Bytes, at: int) -> Any:
    """A parameter's array; text comes as a list of strings."""
    data = numbers.data
    (kind,) = struct.unpack_from("b", data, at)
    shape = [int(n) for n in data[at + 2 : at + 2 + data[at + 1]]]
    count = int(np.prod(shape)) if shape else 1
    at += 2 + len(shape)
    if kind == -1:
        text = data[at : at + count].decode("latin1")
        width = shape[0] if shape else 1
        return [text[i : i + width] for i in range(0, count, width)] if width else []
    if kind == 4:
        return numbers.floats(at, count)
    if kind == 2:
        return numbers.integers(at, count)
    return np.frombuffer(data, "i1", count, at)
