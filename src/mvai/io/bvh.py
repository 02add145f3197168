"""Read motion capture in Biovision's BVH format.

A BVH file is text: a joint tree with offsets and channel lists, then one row of channel values a
frame. Euler angles apply in the order the channels are listed, intrinsically, so the local
rotation is the product of the axis rotations from left to right (Meredith and Maddock, "Motion
Capture File Formats Explained", 2001). Units, up axis and rest pose differ from file to file and
are left as they are; a caller that knows what the joints mean converts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mvai.types import MvaiError

CHANNELS = (
    "XPOSITION", "YPOSITION", "ZPOSITION", "XROTATION", "YROTATION", "ZROTATION",
)  # fmt: skip


@dataclass(frozen=True)
class BvhClip:
    """One skeleton and its movement, in the file's own units and axes."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each joint's parent, -1 for the root; parents come before their children."""
    offsets: Float[np.ndarray, "joints 3"]
    """Position of each joint in its parent's frame when no channel moves it."""
    translations: Float[np.ndarray, "frames joints 3"]
    """Position of each joint in its parent's frame, position channels included."""
    rotations: Float[np.ndarray, "frames joints 3 3"]
    """Local rotation of each joint, child to parent frame."""
    fps: float
    end_sites: Mapping[int, Float[np.ndarray, " 3"]] = field(default_factory=dict)
    """Offset of the End Site of each leaf joint, in the joint's frame."""

    @property
    def frames(self) -> int:
        return self.rotations.shape[0]

    def rest_positions(self) -> Float[np.ndarray, "joints 3"]:
        """World joint positions when every channel is zero."""
        positions = self.offsets.copy()
        for j, p in enumerate(self.parents):
            if p >= 0:
                positions[j] += positions[p]
        return positions

    def world(
        self,
    ) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
        """World rotation and position of every joint (forward kinematics)."""
        R, t = self.rotations.copy(), self.translations.copy()
        for j, p in enumerate(self.parents):
            if p >= 0:
                R[:, j] = R[:, p] @ self.rotations[:, j]
                t[:, j] = t[:, p] + (R[:, p] @ self.translations[:, j, :, None])[..., 0]
        return R, t


@dataclass
class _Joint:
    name: str
    parent: int
    is_end: bool = False
    offset: np.ndarray | None = None
    channels: tuple[str, ...] = ()


def read_bvh(path: str | Path) -> BvhClip:
    """Read one BVH file.

    A root's position channels add to its OFFSET, as the format's description has it; on other
    joints, where the description has none, they hold the whole local position, as the programs
    write that do give every joint six channels.

    Raises:
        MvaiError: the file cannot be read, or is not a complete BVH file of one skeleton.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MvaiError(f"{path}: cannot be read as a BVH text file; check the path.") from error
    try:
        return _parse(text)
    except _FormatError as error:
        raise MvaiError(f"{path}: not a usable BVH file: {error}; export it again.") from error


class _FormatError(Exception):
    """What is wrong with the text; `read_bvh` adds the file's name."""


def _parse(text: str) -> BvhClip:
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip().upper() == "MOTION"), None)
    if start is None:
        raise _FormatError("it has no MOTION section")
    joints = _hierarchy("\n".join(lines[:start]))
    fps, values = _motion(lines[start + 1 :], sum(len(j.channels) for j in joints))

    # End Sites carry no channels, so they are split off after the channels are counted.
    new_index = np.cumsum([not j.is_end for j in joints]) - 1
    real = [j for j in joints if not j.is_end]
    parents = tuple(int(new_index[j.parent]) if j.parent >= 0 else -1 for j in real)
    offsets = np.stack([_offset(j) for j in real])
    translations = np.repeat(offsets[None], len(values), 0)
    rotations = np.broadcast_to(np.eye(3), (len(values), len(real), 3, 3)).copy()
    column = 0
    for i, joint in enumerate(real):
        given = {c[0] for c in joint.channels if c.endswith("POSITION")}
        for axis in given if parents[i] >= 0 else ():
            translations[:, i, "XYZ".index(axis)] = 0.0
        for channel in joint.channels:
            axis = "XYZ".index(channel[0])
            if channel.endswith("POSITION"):
                translations[:, i, axis] += values[:, column]
            else:
                rotations[:, i] = rotations[:, i] @ _axis_rotation(axis, values[:, column])
            column += 1
    return BvhClip(
        names=tuple(j.name for j in real),
        parents=parents,
        offsets=offsets,
        translations=translations,
        rotations=rotations,
        fps=fps,
        end_sites={int(new_index[j.parent]): _offset(j) for j in joints if j.is_end},
    )


def _offset(joint: _Joint) -> np.ndarray:
    if joint.offset is None:
        raise _FormatError(f"joint {joint.name} has no OFFSET")
    return joint.offset


def _axis_rotation(axis: int, angle_deg: np.ndarray) -> Float[np.ndarray, "frames 3 3"]:
    """Rotations about one coordinate axis."""
    angle = np.deg2rad(angle_deg)
    b, c = (axis + 1) % 3, (axis + 2) % 3
    R = np.zeros((len(angle), 3, 3))
    R[:, axis, axis] = 1.0
    R[:, b, b] = R[:, c, c] = np.cos(angle)
    R[:, b, c], R[:, c, b] = -np.sin(angle), np.sin(angle)
    return R


def _numbers(words: list[str], what: str) -> np.ndarray:
    try:
        values = np.array([float(w) for w in words])
    except ValueError as error:
        raise _FormatError(f"{what} holds something that is not a number") from error
    if not np.isfinite(values).all():
        raise _FormatError(f"{what} holds a number that is not finite")
    return values


def _hierarchy(text: str) -> list[_Joint]:
    """Joints and End Sites in file order. Works line by line, since names may hold spaces."""
    for brace in "{}":
        text = text.replace(brace, f"\n{brace}\n")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or lines[0][0].upper() != "HIERARCHY":
        raise _FormatError("it does not begin with HIERARCHY")
    joints: list[_Joint] = []
    open_joints: list[int] = []
    pending: _Joint | None = None
    for words in lines[1:]:
        keyword = words[0].upper()
        if pending is not None and keyword != "{":
            raise _FormatError(f"a brace is missing after {pending.name}")
        if keyword in ("ROOT", "JOINT", "END"):
            if keyword == "ROOT" and joints:
                raise _FormatError("it holds more than one skeleton")
            if keyword != "ROOT" and not open_joints:
                raise _FormatError(f"{' '.join(words)} stands outside the skeleton")
            if open_joints and joints[open_joints[-1]].is_end:
                raise _FormatError("an End Site has a child")
            parent = open_joints[-1] if open_joints else -1
            pending = _Joint(" ".join(words[1:]), parent, is_end=keyword == "END")
            if not pending.name:
                raise _FormatError("a joint has no name")
        elif keyword == "{":
            if pending is None:
                raise _FormatError("a brace opens nothing")
            open_joints.append(len(joints))
            joints.append(pending)
            pending = None
        elif keyword == "}":
            if not open_joints:
                raise _FormatError("a brace closes nothing")
            open_joints.pop()
        elif keyword in ("OFFSET", "CHANNELS"):
            if not open_joints:
                raise _FormatError(f"{keyword} stands outside the skeleton")
            joint = joints[open_joints[-1]]
            if keyword == "CHANNELS":
                joint.channels = _channels(words, joint)
            elif len(words) != 4:
                raise _FormatError(f"the OFFSET of {joint.name} does not have three numbers")
            else:
                joint.offset = _numbers(words[1:], f"the OFFSET of {joint.name}")
        else:
            raise _FormatError(f"the word {words[0][:40]} is unknown")
    if open_joints or pending is not None:
        raise _FormatError("a brace is missing at the end of the skeleton")
    if not joints:
        raise _FormatError("it holds no joint")
    return joints


def _channels(words: list[str], joint: _Joint) -> tuple[str, ...]:
    channels = tuple(w.upper() for w in words[2:])
    if len(words) < 2 or words[1] != str(len(channels)):
        raise _FormatError(f"the CHANNELS of {joint.name} do not match their count")
    unknown = [c for c in channels if c not in CHANNELS]
    if unknown or joint.is_end:
        raise _FormatError(f"{joint.name} has a channel that is unknown or out of place")
    return channels


def _motion(lines: list[str], columns: int) -> tuple[float, Float[np.ndarray, "frames channels"]]:
    """Frames a second and the channel values."""
    rows = [line.split() for line in lines if line.strip()]
    if len(rows) < 2 or rows[0][0].upper() != "FRAMES:" or len(rows[0]) != 2:
        raise _FormatError("the line Frames: is missing")
    if [w.upper() for w in rows[1][:2]] != ["FRAME", "TIME:"] or len(rows[1]) != 3:
        raise _FormatError("the line Frame Time: is missing")
    if not rows[0][1].isdigit() or rows[0][1] == "0" * len(rows[0][1]):
        raise _FormatError("Frames: is not a positive whole number")
    frames = int(rows[0][1])
    frame_time_s = float(_numbers(rows[1][2:], "Frame Time:")[0])
    if frame_time_s <= 0:
        raise _FormatError("Frame Time: is not positive")
    words = [w for row in rows[2:] for w in row]
    if len(words) != frames * columns:
        raise _FormatError(
            f"it announces {frames} frames of {columns} values and holds {len(words)} values"
        )
    return 1.0 / frame_time_s, _numbers(words, "MOTION").reshape(frames, columns)
