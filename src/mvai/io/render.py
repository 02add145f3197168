"""Draws meshes off-screen through VTK's OpenGL, under exactly the pinhole camera given.

VTK's own classes are used rather than PyVista's: they load in a fifth of the time, and a mesh
whose positions alone change is drawn again without being built again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np
from jaxtyping import Float, UInt8

from mvai.io.vtk_scene import NO_OPENGL, Actor, Color, Drawable, open_window, set_camera
from mvai.types import Camera, Mesh, MvaiError

__all__ = [
    "Color",
    "Drawable",
    "Lights",
    "Renderer",
    "orbit_camera",
    "render_views",
    "renderer_works",
]

# Directions towards the lights in camera axes of OpenGL (x right, y up, z to the viewer), and
# their strengths: a key light above the left shoulder and a weaker one at the camera, so that
# nothing that the camera sees is black.
_LIGHTS = (((-0.5, 0.9, 1.0), 0.62), ((0.0, 0.0, 1.0), 0.38))
Lights = Sequence[tuple[tuple[float, float, float], float]]


class Renderer:
    """An off-screen OpenGL context; use it in a `with` block and from one thread.

    Draw a moving mesh by passing, frame after frame, drawables with the same `faces`, `uv`,
    `texture`, ... at the same place of the list: then only positions travel to OpenGL.

    Raises:
        MvaiError: When this machine has no off-screen OpenGL.
    """

    def __init__(self, lights: Lights = _LIGHTS) -> None:
        from vtkmodules.vtkCommonCore import vtkUnsignedCharArray
        from vtkmodules.vtkRenderingCore import vtkLight, vtkRenderer

        self._window = open_window()
        self._scene = vtkRenderer()
        self._scene.SetBackground(0, 0, 0)
        self._scene.SetBackgroundAlpha(0)
        self._scene.SetAutomaticLightCreation(False)
        self._scene.RemoveAllLights()
        for direction, strength in lights:
            light = vtkLight()
            light.SetLightTypeToCameraLight()
            light.SetPosition(*direction)
            light.SetFocalPoint(0, 0, 0)
            light.SetIntensity(strength)
            self._scene.AddLight(light)
        self._window.AddRenderer(self._scene)
        self._pixels = vtkUnsignedCharArray()
        self._actors: list[Actor] = []

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._window.Finalize()

    def render(
        self,
        drawables: Sequence[Drawable],
        camera: Camera,
        background: Color | UInt8[np.ndarray, "h w 3"] = (1.0, 1.0, 1.0),
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The drawables over a colour (0 to 1) or over a picture of the camera's size."""
        if isinstance(background, np.ndarray):
            rgba = self.render_rgba(drawables, camera)
            return np.where(rgba[..., 3:] > 0, rgba[..., :3], background)
        from vtkmodules.util.numpy_support import vtk_to_numpy

        self._scene.SetBackground(*background)
        self._draw(drawables, camera)
        w, h = camera.width, camera.height
        self._window.GetPixelData(0, 0, w - 1, h - 1, 0, self._pixels, 0)
        # OpenGL's first row is the lowest; the copy outlives the next frame.
        return vtk_to_numpy(self._pixels).reshape(h, w, 3)[::-1].copy()

    def render_rgba(
        self, drawables: Sequence[Drawable], camera: Camera
    ) -> UInt8[np.ndarray, "h w 4"]:
        """The drawables alone: RGB, and 255 where any of them is seen, else 0.

        There is no anti-aliasing; for smooth edges draw larger and scale down.
        """
        from vtkmodules.util.numpy_support import vtk_to_numpy

        self._scene.SetBackground(0, 0, 0)
        self._draw(drawables, camera)
        w, h = camera.width, camera.height
        self._window.GetRGBACharPixelData(0, 0, w - 1, h - 1, 0, self._pixels)
        return vtk_to_numpy(self._pixels).reshape(h, w, 4)[::-1].copy()

    def render_smooth(
        self, drawables: Sequence[Drawable], camera: Camera, background: Color = (1.0, 1.0, 1.0)
    ) -> UInt8[np.ndarray, "h w 3"]:
        """As `render`, with smooth edges: drawn at twice the size and averaged (4 x slower)."""
        double = replace(
            camera,
            K=np.diag([2.0, 2.0, 1.0]) @ camera.K,
            width=2 * camera.width,
            height=2 * camera.height,
        )
        large = self.render(drawables, double, background).astype(np.uint16)
        rows = large[::2] + large[1::2]
        return ((rows[:, ::2] + rows[:, 1::2] + 2) // 4).astype(np.uint8)

    def _draw(self, drawables: Sequence[Drawable], camera: Camera) -> None:
        """Brings the scene up to date and draws it."""
        for i, drawable in enumerate(drawables):
            if i < len(self._actors) and self._actors[i].fits(drawable):
                self._actors[i].move(drawable)
                continue
            actor = Actor(drawable)
            if i < len(self._actors):
                self._scene.RemoveActor(self._actors[i].actor)
                self._actors[i] = actor
            else:
                self._actors.append(actor)
            self._scene.AddActor(actor.actor)
        for actor in self._actors[len(drawables) :]:
            self._scene.RemoveActor(actor.actor)
        del self._actors[len(drawables) :]

        set_camera(self._scene.GetActiveCamera(), camera, *_depth_range(drawables, camera))
        if self._window.GetSize() != (camera.width, camera.height):
            self._window.SetSize(camera.width, camera.height)
        self._window.Render()


def renderer_works() -> tuple[bool, str]:
    """Whether meshes can be drawn here, and with what (or what to install)."""
    try:
        with Renderer() as renderer:
            triangle = Drawable(
                vertices=np.array([[-1, -1, -2], [1, -1, -2], [0, 1, -2]], np.float32),
                faces=np.array([[0, 1, 2]]),
            )
            drawn = renderer.render_rgba([triangle], Camera.from_focal(16, 16, 16))
            report = renderer._window.ReportCapabilities() or ""
    except MvaiError as error:
        return False, str(error)
    if not drawn[..., 3].any():
        return False, NO_OPENGL
    names = [
        line.split(":", 1)[1].strip()
        for line in report.splitlines()
        if line.startswith(("OpenGL renderer string", "OpenGL version string"))
    ]
    return True, ", OpenGL ".join(names)


def _depth_range(drawables: Sequence[Drawable], camera: Camera) -> tuple[float, float]:
    """Near and far planes in metres that hold everything in front of the camera."""
    row = camera.T_camera_world[2, :3].astype(np.float32)
    depths = [d.vertices @ row for d in drawables if len(d.vertices)]
    if not depths:
        return 0.1, 10.0
    z = np.concatenate(depths) + camera.T_camera_world[2, 3]
    far = max(float(z.max()) * 1.01 + 1e-3, 1e-2)
    # The near plane stays clear of zero, where depth would lose its resolution.
    near = max(float(z.min()) * 0.99 - 1e-3, far * 2e-3)
    return min(near, far * 0.99), far


def _corners(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "8 3"]:
    """The corners of the points' bounding box."""
    ends = np.stack([points.min(0), points.max(0)])
    return np.stack(np.meshgrid(*ends.T, indexing="ij"), -1).reshape(8, 3).astype(float)


def orbit_camera(
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
    azimuth_deg: float,
    elevation_deg: float,
    width: int,
    height: int,
    fov_deg: float = 20.0,
    margin: float = 0.06,
) -> Camera:
    """A camera that turns about +Y and frames the box from `low` to `high` (world, metres).

    At azimuth 0 it stands on +Z and sees the face of a character in rest; 90 is on +X, the
    character's left. `elevation_deg` raises it. `fov_deg` is the angle over the smaller side of
    the picture, of which `margin` stays free on every side.
    """
    azimuth, elevation = np.radians([azimuth_deg, elevation_deg])
    back = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    R = np.stack([right, -np.cross(back, right), -back])
    focal_px = min(width, height) / 2 / np.tan(np.radians(fov_deg) / 2)
    centre = (np.asarray(low, float) + high) / 2
    corners = (_corners(np.stack([low, high])) - centre) @ R.T
    # A corner at depth z from the centre is inside the picture once the camera is further away
    # than focal |x| / half - z.
    half = (1 - 2 * margin) * np.array([width, height]) / 2
    distance = (focal_px * np.abs(corners[:, :2]) / half - corners[:, 2:]).max()
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = -R @ centre + [0, 0, max(float(distance), 1e-3)]
    K = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1.0]])
    return Camera(K=K, width=width, height=height, T_camera_world=T)


def render_views(
    mesh: Mesh | Sequence[Drawable],
    views: Sequence[tuple[float, float]],
    size_px: int,
    background: Color = (0.5, 0.5, 0.5),
) -> list[tuple[UInt8[np.ndarray, "size size 3"], Camera]]:
    """Square pictures of a mesh, or of drawables, from (azimuth, elevation) pairs in degrees.

    Edges are smoothed, so that a detector trained on photographs is at home.

    Raises:
        MvaiError: When this machine has no off-screen OpenGL.
    """
    drawables = [Drawable(mesh.vertices, mesh.faces)] if isinstance(mesh, Mesh) else mesh
    low = np.min([d.vertices.min(0) for d in drawables], axis=0)
    high = np.max([d.vertices.max(0) for d in drawables], axis=0)
    cameras = [orbit_camera(low, high, *view, size_px, size_px) for view in views]
    with Renderer() as renderer:
        return [(renderer.render_smooth(drawables, c, background), c) for c in cameras]
