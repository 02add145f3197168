"""What passes from stage to stage. Frames, axes and units are those of docs/conventions.md.

World: right-handed, +Y up, metres. A person or character in rest faces +Z.
Camera: x right, y down, z forward (OpenCV). Without a known camera pose the camera stands at the
world origin and looks along -Z, so `T_camera_world` is a half turn about x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

T_CAMERA_WORLD = np.diag([1.0, -1.0, -1.0, 1.0])
"""World to camera for a camera at the world's origin that looks along -Z."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion."""

    K: Float[np.ndarray, "3 3"]
    """Intrinsics in pixels; the centre of the top left pixel is (0.5, 0.5)."""
    width: int
    height: int
    T_camera_world: Float[np.ndarray, "4 4"] = field(default_factory=T_CAMERA_WORLD.copy)
    """Rigid transform from world to camera coordinates."""
    path_m: Float[np.ndarray, "frames 3"] | None = None
    """How far the camera is from that place in every frame (world axes); None where it stands
    still."""

    @classmethod
    def from_focal(cls, focal_px: float, width: int, height: int) -> Camera:
        """A camera with its principal point at the image centre."""
        K = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1.0]])
        return cls(K=K, width=width, height=height)

    def at(self, frame: int) -> Camera:
        """The camera of one frame, which stands still."""
        if self.path_m is None:
            return self
        T = self.T_camera_world.copy()
        T[:3, 3] -= T[:3, :3] @ self.path_m[frame]
        return replace(self, T_camera_world=T, path_m=None)

    def project(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """World points (metres) to pixels; for a camera that moves, points of every frame."""
        R, t = self.T_camera_world[:3, :3], self.T_camera_world[:3, 3]
        if self.path_m is not None:
            points = points - self.path_m.reshape(-1, *[1] * (points.ndim - 2), 3)
        p = points @ R.T + t
        return p[..., :2] / p[..., 2:] * np.diag(self.K)[:2] + self.K[:2, 2]


@dataclass(frozen=True)
class Keypoints:
    """Key-points of one person over a clip."""

    names: tuple[str, ...]
    """A subset of `names.KEYPOINTS`."""
    xy_px: Float[np.ndarray, "frames points 2"]
    """Image position in pixels; NaN where the point was not seen."""
    confidence: Float[np.ndarray, "frames points"]
    """0 (not seen) to 1."""
    fps: float
    width: int
    height: int
    xyz_m: Float[np.ndarray, "frames points 3"] | None = None
    """Metric position relative to the middle of the hips, in camera axes (x right, y down,
    z forward); NaN where unknown. None when the detector gives no depth."""
    present: Bool[np.ndarray, " frames"] | None = None
    """False where the person was not seen and the values are filled in. None: seen throughout."""

    @property
    def frames(self) -> int:
        return self.xy_px.shape[0]

    def index(self, name: str) -> int:
        return self.names.index(name)

    def seen(self) -> Bool[np.ndarray, " frames"]:
        """True where the person was seen."""
        return np.ones(self.frames, bool) if self.present is None else self.present


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh."""

    vertices: Float[np.ndarray, "verts 3"]
    faces: Int[np.ndarray, "faces 3"]


@dataclass(frozen=True)
class MeshSequence:
    """A moving body: the only thing that passes between reconstruct, smooth and transfer."""

    vertices: Float[np.ndarray, "frames verts 3"]
    """World coordinates, metres, float32."""
    faces: Int[np.ndarray, "faces 3"]
    fps: float
    topology: str = ""
    """"anny", "smpl", "smplx", or empty when the vertex order is unknown."""
    camera: Camera | None = None
    confidence: Float[np.ndarray, " frames"] | None = None
    """0 (invented) to 1 (well observed) per frame; None when unknown."""

    @property
    def frames(self) -> int:
        return self.vertices.shape[0]

    def with_vertices(self, vertices: Float[np.ndarray, "frames verts 3"]) -> MeshSequence:
        """The same sequence with other positions."""
        return replace(self, vertices=vertices)


@dataclass(frozen=True)
class Image:
    """An encoded picture as it stood in the source file."""

    data: bytes
    mime: str
    """"image/png" or "image/jpeg"."""
    name: str = ""


@dataclass(frozen=True)
class Part:
    """One drawable piece of a character: a glTF primitive, an OBJ material group."""

    name: str
    vertices: Float[np.ndarray, "verts 3"]
    """Rest position in the character's world frame (+Y up, facing +Z, metres)."""
    faces: Int[np.ndarray, "faces 3"]
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further vertex attributes under their glTF names (NORMAL, TEXCOORD_0, COLOR_0, ...)."""
    material: int | None = None
    """Index into `Character.materials`."""


@dataclass(frozen=True)
class Skin:
    """Bones and weights that move a character."""

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each joint's parent, -1 for a root; parents come before their children."""
    T_world_joint: Float[np.ndarray, "joints 4 4"]
    """Rest (bind) transform of every joint, in the character's world frame."""
    weight_indices: Int[np.ndarray, "verts influences"]
    """Joints that move each vertex, over the concatenated vertices of all parts."""
    weights: Float[np.ndarray, "verts influences"]
    """Their weights; each row sums to 1."""


@dataclass(frozen=True)
class Character:
    """An identity: geometry plus everything that must survive the trip.

    Appearance is kept in glTF's own terms, so that what came from a glTF file goes back into one
    unchanged; other formats are translated into them on reading.
    """

    name: str
    parts: tuple[Part, ...]
    materials: tuple[Mapping[str, Any], ...] = ()
    """glTF material objects (JSON); texture indices point into `textures`."""
    textures: tuple[Mapping[str, Any], ...] = ()
    """glTF texture objects; `source` points into `images`, `sampler` into `samplers`."""
    samplers: tuple[Mapping[str, Any], ...] = ()
    images: tuple[Image, ...] = ()
    extensions_used: tuple[str, ...] = ()
    """glTF extensions that the materials and textures rely on."""
    skin: Skin | None = None
    """The rig the character came with, if any."""
    T_world_file: Float[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))
    """Similarity that took the file's coordinates to the world frame."""

    @property
    def mesh(self) -> Mesh:
        """All parts as one mesh, vertices concatenated in part order."""
        offsets = np.cumsum([0] + [len(p.vertices) for p in self.parts])
        return Mesh(
            vertices=np.concatenate([p.vertices for p in self.parts]),
            faces=np.concatenate([p.faces + o for p, o in zip(self.parts, offsets, strict=False)]),
        )


@dataclass(frozen=True)
class Animation:
    """What transfer returns: a character and its movement.

    A method that works with bones sets `skin` and `Ts_world_joint`; one that moves vertices
    freely sets `free_vertices`. Exactly one of the two is given.
    """

    character: Character
    fps: float
    skin: Skin | None = None
    """The bones and weights that were driven."""
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"] | None = None
    """Rigid transform of every joint of `skin` in every frame, in the character's world frame."""
    free_vertices: Float[np.ndarray, "frames verts 3"] | None = None
    """Positions over the concatenated vertices of all parts."""
    camera: Camera | None = None
    """Camera under which the character stands where the person stood in the video."""

    @property
    def frames(self) -> int:
        moving = self.free_vertices if self.Ts_world_joint is None else self.Ts_world_joint
        assert moving is not None
        return moving.shape[0]
