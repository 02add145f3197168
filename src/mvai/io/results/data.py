"""What a file of another tool may hold, in that tool's terms but named and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mvai.types import Mesh, MvaiError

T_WORLD_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])
"""From camera axes (x right, y down, z forward) to the world's."""
T_WORLD_Y_UP = np.eye(4)
T_WORLD_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From axes with z up, in which x stays, to the world's."""


@dataclass(frozen=True)
class BodyParameters:
    """A person as shape and joint rotations of a body of the SMPL family."""

    kind: str
    """The tool or data set that wrote it."""
    model: str
    """smpl, smplh or smplx."""
    frames: Int[np.ndarray, " frames"]
    """Number of each frame in its video, increasing; gaps are frames without the person."""
    R_parent_joint: Float[np.ndarray, "frames joints 3 3"]
    """Local rotations of the model's first joints in its own order; the others are at rest."""
    shape: Float[np.ndarray, " coefficients"]
    translation: Float[np.ndarray, "frames 3"]
    """As the model's own files count it: added to every vertex, in the file's axes."""
    T_world_file: Float[np.ndarray, "#frames 4 4"]
    """Rigid, from the file's axes to the world's (+Y up); one for all frames or one a frame."""
    gender: str = "neutral"
    fps: float | None = None
    """None when the file does not say."""
    K: Float[np.ndarray, "3 3"] | None = None
    """Intrinsics in pixels, when the file is in the axes of a still camera and tells them."""


@dataclass(frozen=True)
class AnnyParameters:
    """A person as phenotypes and bone poses of the body model Anny, in camera axes."""

    kind: str
    frames: Int[np.ndarray, " frames"]
    phenotypes: Float[np.ndarray, " 11"]
    T_camera_bone: Float[np.ndarray, "frames bones 4 4"]
    """Pose of every bone in Anny's parameterisation "world"."""
    K: Float[np.ndarray, "3 3"] | None = None
    fps: float | None = None


@dataclass(frozen=True)
class PointTracks:
    """A person as named points over time."""

    kind: str
    names: tuple[str, ...]
    """Names of `mvai.types.names.KEYPOINTS`."""
    xyz_m: Float[np.ndarray, "frames points 3"]
    """World axes (+Y up), metres; NaN where unseen."""
    sigma_m: Float[np.ndarray, " points"]
    """How far each may lie from the body's point of that name."""
    fps: float | None = None


@dataclass(frozen=True)
class MovingMesh:
    """A surface over time."""

    kind: str
    vertices: Float[np.ndarray, "frames verts 3"]
    """World axes (+Y up), metres."""
    faces: Int[np.ndarray, "faces 3"]
    fps: float | None = None

    @property
    def mesh(self) -> Mesh:
        """The first frame."""
        return Mesh(self.vertices[0], self.faces)


@dataclass(frozen=True)
class MotionCapture:
    """A skeleton over time, in a BVH file."""

    kind: str
    path: str


Results = BodyParameters | AnnyParameters | PointTracks | MovingMesh | MotionCapture


def chosen_person(lengths: Mapping[Any, int], person: int, path: object) -> Any:
    """The person asked for; 0 is the one seen in the most frames.

    Args:
        lengths: how many frames each person is in, by the file's own names.
        person: counted from 0.
        path: of the file, for the message.

    Raises:
        MvaiError: there are fewer people.
    """
    ranked = sorted(lengths, key=lambda k: -lengths[k])
    if 0 <= person < len(ranked):
        return ranked[person]
    found = {0: "nobody", 1: "1 person"}.get(len(ranked), f"{len(ranked)} people")
    raise MvaiError(
        f"{path}: person {person} was asked for and the file holds {found}; "
        "count from 0, the one seen longest first."
    )


def increasing(frames: np.ndarray) -> np.ndarray:
    """Frame numbers as integers, checked."""
    frames = np.asarray(frames).astype(np.int64).ravel()
    if len(frames) == 0 or (np.diff(frames) <= 0).any():
        raise ValueError("frame numbers do not increase")
    return frames
