"""Fewer triangles for drawing: software OpenGL spends its time on them, not on pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from mvai.types import Mesh


def simplified(
    mesh: Mesh, max_faces: int
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, "faces 3"]]:
    """A coarser mesh whose vertices are some of the given ones.

    Because no vertex is new, the coarser mesh follows every movement of the finer one.
    The method is that of Schroeder, Zarge and Lorensen, Decimation of Triangle Meshes (1992), in
    VTK's implementation; borders and splits between vertices of one position are kept, so a mesh
    made of loose triangles stays as it is.

    Returns:
        The indices of the vertices kept, and faces over them.
    """
    from vtkmodules.util.numpy_support import (
        numpy_to_vtk,
        numpy_to_vtkIdTypeArray,
        vtk_to_numpy,
    )
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkDecimatePro

    every = np.arange(len(mesh.vertices)), mesh.faces
    if len(mesh.faces) <= max_faces:
        return every
    fine, points, cells = vtkPolyData(), vtkPoints(), vtkCellArray()
    vertices = np.ascontiguousarray(mesh.vertices, np.float32)
    points.SetData(numpy_to_vtk(vertices))
    cells.SetData(3, numpy_to_vtkIdTypeArray(mesh.faces.ravel().astype(np.int64), deep=True))
    fine.SetPoints(points)
    fine.SetPolys(cells)
    # Point data goes along with the vertices that stay, so it tells which they are.
    index = numpy_to_vtk(np.arange(len(vertices), dtype=np.int32))
    index.SetName("index")
    fine.GetPointData().AddArray(index)
    decimate = vtkDecimatePro()
    decimate.SetInputData(fine)
    decimate.SetTargetReduction(1 - max_faces / len(mesh.faces))
    decimate.PreserveTopologyOn()
    decimate.BoundaryVertexDeletionOff()
    decimate.Update()
    coarse = decimate.GetOutput()
    if coarse.GetNumberOfPolys() == 0:
        return every
    kept = vtk_to_numpy(coarse.GetPointData().GetArray("index")).copy()
    faces = vtk_to_numpy(coarse.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return kept, faces.astype(np.int64)
