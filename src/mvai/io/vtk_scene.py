"""The VTK side of the renderer: a window without a screen, a mesh, a pinhole camera."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int, UInt8

from mvai.types import Camera, MvaiError

Color = tuple[float, float, float]

NO_OPENGL = (
    "No off-screen OpenGL was found here, which previews and fitting a skeleton need; "
    "on Debian or Ubuntu install it with: apt-get install libegl1 libgl1-mesa-dri."
)

_AMBIENT, _DIFFUSE = 0.22, 0.84


@dataclass(frozen=True)
class Drawable:
    """A mesh and its looks. Its arrays must not be changed in place once it has been drawn."""

    vertices: Float[np.ndarray, "verts 3"]
    """World coordinates, metres."""
    faces: Int[np.ndarray, "faces 3"]
    color: Color = (0.75, 0.75, 0.75)
    """Display (sRGB) colour, 0 to 1; multiplies vertex colours and texture."""
    vertex_colors: UInt8[np.ndarray, "verts 3"] | None = None
    """Display (sRGB) colours."""
    uv: Float[np.ndarray, "verts 2"] | None = None
    """Texture coordinates as in glTF: (0, 0) is the outer corner of the top left texel."""
    texture: UInt8[np.ndarray, "h w channels"] | None = None
    """RGB, or RGBA whose pixels under half opacity are cut out."""
    smooth: bool = True
    """Shade with interpolated vertex normals; else each face with its own."""
    normal_groups: Int[np.ndarray, " verts"] | None = None
    """Vertices of the same number share their normal, so that texture seams do not show.
    None: every vertex has its own."""
    lit: bool = True
    """False draws the plain colour."""


def open_window() -> Any:
    """A window without a screen.

    On Linux the EGL and OSMesa classes are named outright: VTK's own choice tries an X server
    first and complains when there is none. VTK takes their libraries for granted and crashes
    without them, so they are looked for beforehand.

    Raises:
        MvaiError: When this machine has no off-screen OpenGL.
    """
    from vtkmodules import vtkRenderingOpenGL2 as opengl2  # noqa: N813
    from vtkmodules.vtkCommonCore import vtkLogger, vtkObject
    from vtkmodules.vtkRenderingCore import vtkRenderWindow

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    vtkObject.GlobalWarningDisplayOff()
    # Mesa's libEGL reports every driver that it tries and leaves.
    os.environ.setdefault("EGL_LOG_LEVEL", "fatal")
    kinds: list[Any] = [vtkRenderWindow]
    if sys.platform == "linux":
        kinds = []
        if _loads("libEGL.so.1"):
            kinds.append(opengl2.vtkEGLRenderWindow)
        if _loads("libOSMesa.so.8") or _loads("libOSMesa.so.6"):
            kinds.append(opengl2.vtkOSOpenGLRenderWindow)
    for kind in kinds:
        window = kind()
        window.SetOffScreenRendering(1)
        window.SetMultiSamples(0)
        window.SetAlphaBitPlanes(1)
        window.SetSize(16, 16)
        window.Initialize()
        if window.GetInitialized():
            return window
    raise MvaiError(NO_OPENGL)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class Actor:
    """One drawable's objects inside VTK."""

    def __init__(self, drawable: Drawable) -> None:
        from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
        from vtkmodules.vtkCommonCore import vtkPoints
        from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
        from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

        self._drawable: Drawable | None = None
        self._points, self._mesh = vtkPoints(), vtkPolyData()
        self._mesh.SetPoints(self._points)
        cells = vtkCellArray()
        cells.SetData(
            3, numpy_to_vtkIdTypeArray(np.ravel(drawable.faces).astype(np.int64), deep=True)
        )
        self._mesh.SetPolys(cells)
        mapper = vtkPolyDataMapper()
        mapper.SetInputData(self._mesh)
        self.actor = vtkActor()
        self.actor.SetMapper(mapper)
        self.actor.ForceOpaqueOn()
        prop = self.actor.GetProperty()
        prop.SetColor(*drawable.color)
        prop.SetAmbient(_AMBIENT)
        prop.SetDiffuse(_DIFFUSE)
        prop.SetLighting(drawable.lit)
        if drawable.smooth:
            prop.SetInterpolationToPhong()
        else:
            prop.SetInterpolationToFlat()
        self._normals_of = (
            _vertex_normals_operator(drawable) if self._has_normals(drawable) else None
        )

        if drawable.vertex_colors is not None:
            colors = np.round(drawable.vertex_colors * np.array(drawable.color))
            self._mesh.GetPointData().SetScalars(numpy_to_vtk(colors.astype(np.uint8), deep=True))
            mapper.SetColorModeToDirectScalars()
        else:
            mapper.ScalarVisibilityOff()
        if drawable.texture is not None and drawable.uv is not None:
            uv = numpy_to_vtk(np.ascontiguousarray(drawable.uv, np.float32), deep=True)
            self._mesh.GetPointData().SetTCoords(uv)
            self.actor.SetTexture(_texture(drawable.texture))
            if drawable.texture.shape[2] == 4:
                self.actor.GetShaderProperty().AddFragmentShaderReplacement(
                    "//VTK::TCoord::Impl",
                    True,
                    "//VTK::TCoord::Impl\n"
                    "  if (gl_FragData[0].a < 0.5) discard;\n"
                    "  gl_FragData[0].a = 1.0;\n",
                    False,
                )
        self.move(drawable)

    @staticmethod
    def _has_normals(drawable: Drawable) -> bool:
        return drawable.smooth and drawable.lit

    def fits(self, drawable: Drawable) -> bool:
        """Whether this actor shows the drawable after nothing but its vertices have moved."""
        old = self._drawable
        assert old is not None
        return (
            drawable.vertices.shape == old.vertices.shape
            and (drawable.color, drawable.smooth, drawable.lit) == (old.color, old.smooth, old.lit)
            and _same(drawable.faces, old.faces)
            and _same(drawable.vertex_colors, old.vertex_colors)
            and _same(drawable.uv, old.uv)
            and _same(drawable.texture, old.texture)
            and _same(drawable.normal_groups, old.normal_groups)
        )

    def move(self, drawable: Drawable) -> None:
        """Takes over the drawable's positions."""
        from vtkmodules.util.numpy_support import numpy_to_vtk

        if drawable is self._drawable:
            return
        vertices = np.ascontiguousarray(drawable.vertices, np.float32)
        # VTK arrays borrow the NumPy memory and keep a reference to it.
        self._points.SetData(numpy_to_vtk(vertices))
        if self._normals_of is not None:
            normals = _vertex_normals(vertices, drawable.faces, self._normals_of)
            self._mesh.GetPointData().SetNormals(numpy_to_vtk(normals))
        self._points.Modified()
        self._mesh.Modified()
        self._drawable = drawable


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _texture(image: UInt8[np.ndarray, "h w channels"]) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkRenderingCore import vtkTexture

    height, width, channels = image.shape
    data = vtkImageData()
    data.SetDimensions(width, height, 1)
    # VTK calls the first row v = 0, as glTF does for the top row: no flip.
    data.GetPointData().SetScalars(numpy_to_vtk(image.reshape(-1, channels), deep=True))
    texture = vtkTexture()
    texture.SetInputData(data)
    texture.SetColorModeToDirectScalars()
    texture.InterpolateOn()
    texture.MipmapOn()
    texture.RepeatOn()
    return texture


def _vertex_normals_operator(drawable: Drawable) -> sparse.csr_matrix:
    """Sums over the faces around each vertex (or around its group): verts x faces."""
    faces, verts = drawable.faces, len(drawable.vertices)
    groups = np.arange(verts) if drawable.normal_groups is None else drawable.normal_groups
    columns = np.repeat(np.arange(len(faces)), 3)
    shape = (int(groups.max(initial=-1)) + 1, len(faces))
    ones = np.ones(faces.size, np.float32)
    around = sparse.csr_matrix((ones, (groups[faces.ravel()], columns)), shape=shape)
    return around if drawable.normal_groups is None else around[groups]


def _vertex_normals(
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    around: sparse.csr_matrix,
) -> Float[np.ndarray, "verts 3"]:
    """Unit vertex normals: the sum of the face normals around, weighted by area."""
    a, b, c = (vertices.take(corner, axis=0) for corner in faces.T)
    normals = around @ np.cross(b - a, c - a)
    length = np.sqrt(np.einsum("ij,ij->i", normals, normals))[:, None]
    return (normals / np.maximum(length, 1e-20)).astype(np.float32)


def set_camera(vtk_camera: Any, camera: Camera, near: float, far: float) -> None:
    """Makes VTK's camera the pinhole camera.

    The projection is the OpenGL matrix of the intrinsics (x right, y up, looking along -z,
    clip coordinates -1 to 1), with pixel centres at halves as in `Camera`.
    """
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    K, w, h = camera.K, camera.width, camera.height
    projection = np.zeros((4, 4))
    projection[0] = [2 * K[0, 0] / w, -2 * K[0, 1] / w, 1 - 2 * K[0, 2] / w, 0]
    projection[1] = [0, 2 * K[1, 1] / h, 2 * K[1, 2] / h - 1, 0]
    projection[2] = [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)]
    projection[3, 2] = -1
    matrix = vtkMatrix4x4()
    matrix.DeepCopy(projection.ravel().tolist())
    vtk_camera.SetUseExplicitProjectionTransformMatrix(True)
    vtk_camera.SetExplicitProjectionTransformMatrix(matrix)

    R, t = camera.T_camera_world[:3, :3], camera.T_camera_world[:3, 3]
    position = -R.T @ t
    vtk_camera.SetPosition(*position)
    vtk_camera.SetFocalPoint(*(position + R[2]))
    vtk_camera.SetViewUp(*-R[1])
    vtk_camera.SetClippingRange(near, far)
