"""Triangle surfaces: normals, samples, welding, pieces, mirror symmetry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree


def face_areas_normals(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> tuple[Float[np.ndarray, " faces"], Float[np.ndarray, "faces 3"]]:
    """Areas and unit normals; the normal of a face without area is zero."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    n = np.cross(b - a, c - a)
    double = np.linalg.norm(n, axis=1)
    return double / 2, n / np.maximum(double, 1e-20)[:, None]


def vertex_normals(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "verts 3"]:
    """Area-weighted unit normals; zero where no face with area is met."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    n = np.cross(b - a, c - a)
    total = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(n[:, k], 3), minlength=len(vertices))
            for k in range(3)
        ],
        1,
    )
    return total / np.maximum(np.linalg.norm(total, axis=1), 1e-20)[:, None]


def sample_surface(
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    count: int,
) -> tuple[Float[np.ndarray, "count 3"], Float[np.ndarray, "count 3"]]:
    """Points spread evenly over the area, with the normals of their faces.

    Deterministic: faces are walked in order with a constant step in area, and the position inside
    a face comes from a fixed generator.
    """
    areas, normals = face_areas_normals(vertices, faces)
    chosen = _walked(areas, count)
    u = np.random.default_rng(0).random((count, 2))
    root = np.sqrt(u[:, :1])
    bary = np.concatenate([1 - root, root * (1 - u[:, 1:]), root * u[:, 1:]], 1)
    return np.einsum("nk,nkd->nd", bary, vertices[faces[chosen]]), normals[chosen]


def sampled_faces(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"], count: int
) -> Int[np.ndarray, " count"]:
    """The face of each point of `sample_surface`."""
    return _walked(face_areas_normals(vertices, faces)[0], count)


def _walked(areas: Float[np.ndarray, " faces"], count: int) -> Int[np.ndarray, " count"]:
    cumulative = np.cumsum(areas)
    steps = (np.arange(count) + 0.5) / count * cumulative[-1]
    return np.minimum(np.searchsorted(cumulative, steps), len(areas) - 1)


def weld(
    vertices: Float[np.ndarray, "verts 3"], tolerance: float
) -> tuple[Int[np.ndarray, " welded"], Int[np.ndarray, " verts"]]:
    """Vertices at the same place, up to a grid of `tolerance`, become one.

    Returns: an original vertex for each welded one, and the welded vertex of each original.
    """
    keys = np.round(vertices / tolerance).astype(np.int64)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, inverse.ravel()


def components(count: int, faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, " verts"]:
    """The number of the connected piece that each of `count` vertices belongs to."""
    rows = faces[:, [0, 1]].ravel()
    cols = faces[:, [1, 2]].ravel()
    graph = coo_matrix((np.ones(len(rows), bool), (rows, cols)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def edges(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "edges 2"]:
    """Every edge once, its lower vertex first."""
    e = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return np.unique(e, axis=0)


def neighbour_mean(count: int, faces: Int[np.ndarray, "faces 3"]) -> csr_matrix:
    """Maps values at `count` vertices to the mean over the neighbours of each; a vertex without
    neighbours keeps its own."""
    e = edges(faces)
    alone = np.setdiff1d(np.arange(count), e)
    rows, columns = (np.concatenate([*p, alone]) for p in (e.T, e.T[::-1]))
    A = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    return csr_matrix(diags(1 / np.asarray(A.sum(1)).ravel()) @ A)


def averaged(
    values: Float[np.ndarray, "verts d"],
    mean: csr_matrix,
    rounds: int,
    share: Float[np.ndarray, " verts"] | float = 1.0,
) -> Float[np.ndarray, "verts d"]:
    """Values moved half-way to the mean of their neighbours, some rounds long.

    Args:
        mean: as `neighbour_mean` gives it.
        share: how much each vertex takes part, from 0 to 1.
    """
    step = 0.5 * np.broadcast_to(share, len(values))[:, None]
    for _ in range(rounds):
        values = (1 - step) * values + step * (mean @ values)
    return values


def asymmetry_about_x(points: Float[np.ndarray, "n 3"]) -> float:
    """Median distance from the points, mirrored at x = 0, to the nearest of the points."""
    distance, _ = KDTree(points).query(points * [-1, 1, 1])
    return float(np.median(distance))
