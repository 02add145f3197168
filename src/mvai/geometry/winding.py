"""Which way faces look: outwards, also where a file has turned some of them inside out.

Neighbours that share an edge are first made to agree (they must run along it in opposite
directions); then each patch looks outwards as a whole, by the sign of the volume that it encloses.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mvai.geometry.surface import face_areas_normals, weld

FLAT = 0.004
"""A patch whose volume is less than this share of its area to the power of 3/2 (a ball has 0.094)
is flat and has no outside."""
MOST = 0.75
"""A mesh of whose other patches more than this share looks inwards is inside out as a whole."""


def outward_faces(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> Int[np.ndarray, "faces 3"]:
    """The faces in their order, those that look inwards turned around.

    Holes are closed by cones from the patch's middle. Flat patches look as most of them did, or
    the other way in a mesh that is inside out as a whole.
    """
    areas, _ = face_areas_normals(vertices, faces)
    if not areas.any():
        return faces
    _, welded = weld(vertices, 1e-5 * max(float(np.ptp(vertices, axis=0).max()), 1e-12))
    patch, turned = _agreeing(welded[faces])
    count = int(patch.max()) + 1
    area = np.bincount(patch, areas, count)
    # Of the two ways to agree, the one that turns less of the patch.
    turned ^= (np.bincount(patch, areas * turned, count) > area / 2)[patch]
    sign = np.where(turned, -1, 1)
    volume = np.bincount(patch, sign * _cones(vertices, faces, patch, areas), count)
    flat = np.abs(volume) < FLAT * area**1.5
    turned ^= (~flat & (volume < 0))[patch]
    solid = ~flat[patch]
    if solid.any():
        inside_out = float(areas[solid] @ turned[solid]) > MOST * float(areas[solid].sum())
    else:
        inside_out = float(sign @ _cones(vertices, faces, np.zeros_like(patch), areas)) < 0
    turned ^= inside_out & ~solid
    return np.where(turned[:, None], faces[:, ::-1], faces)


def _cones(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, areas: np.ndarray
) -> Float[np.ndarray, " faces"]:
    """Signed volume between each face and the middle of its patch (divergence theorem)."""
    corners = vertices[faces].astype(np.float64)
    weight = np.maximum(areas, 1e-12 * areas.max())
    middle = np.stack([np.bincount(patch, weight * x) for x in corners.mean(1).T], 1)
    middle /= np.bincount(patch, weight)[:, None]
    a, b, c = (corners[:, k] - middle[patch] for k in range(3))
    return (np.cross(a, b) * c).sum(1) / 6


def _agreeing(
    faces: Int[np.ndarray, "faces 3"],
) -> tuple[Int[np.ndarray, " faces"], Bool[np.ndarray, " faces"]]:
    """Patch of every face, and whether it must be turned to agree with its patch.

    Patches are joined across edges that exactly two faces share. Every face is two nodes of a
    graph, as it is and turned; faces that agree join like with like, others crosswise. A patch in
    which both nodes of a face meet has one side only and stays as it is.
    """
    n = len(faces)
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    low, high = np.minimum(start, end), np.maximum(start, end)
    key = low.astype(np.int64) * (int(faces.max()) + 1) + high
    empty = np.repeat((start == end).reshape(-1, 3).any(1), 3)
    key[empty] = -1 - np.flatnonzero(empty)  # Faces without area join nothing.
    order = np.argsort(key, kind="stable")
    sorted_key = key[order]
    first = np.flatnonzero(np.r_[True, np.diff(sorted_key) != 0])
    pair = first[np.diff(np.r_[first, len(key)]) == 2]
    one, two = order[pair], order[pair + 1]
    f, g, crossed = one // 3, two // 3, (start[one] == start[two]) * n
    rows, cols = np.concatenate([f, f + n]), np.concatenate([g + crossed, g + n - crossed])
    graph = coo_matrix((np.ones(len(rows), bool), (rows, cols)), shape=(2 * n, 2 * n))
    label = connected_components(graph, directed=False)[1]
    patch = np.unique(np.minimum(label[:n], label[n:]), return_inverse=True)[1]
    return patch, label[:n] > label[n:]
