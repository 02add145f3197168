"""A coarser graph on some of a mesh's vertices, and the way back.

GraphCMR (Kolotouros et al., CVPR 2019) regresses a down-sampled mesh; its graphs come from quadric
simplification (Ranjan et al., ECCV 2018). Here the kept vertices are spread evenly over the surface
and each speaks for the vertices nearest to it along edges, which needs no manifold and works on
meshes in several pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import dijkstra

from mvai.geometry.surface import components, edges

SUPPORT = 3
"""Coarse vertices that a fine one is interpolated from, as in GraphCMR's up-sampling matrices."""


@dataclass(frozen=True)
class Downsampling:
    """A coarse graph on a mesh."""

    kept: Int[np.ndarray, " coarse"]
    """Fine vertices that the coarse graph keeps."""
    adjacency: sparse.csr_matrix
    """(coarse, coarse), with self-loops, rows sum to 1."""
    up: sparse.csr_matrix
    """(fine, coarse), `SUPPORT` entries a row at most, rows sum to 1."""


def downsampling(
    vertices: Float[np.ndarray, "fine 3"], faces: Int[np.ndarray, "faces 3"], count: int
) -> Downsampling:
    """A graph of `count` vertices, or one for each piece of the mesh if those are more."""
    graph = edge_graph(vertices, faces)
    kept = farthest_vertices(vertices, faces, graph, count)
    _, _, owner = dijkstra(
        graph, directed=False, indices=kept, min_only=True, return_predecessors=True
    )
    position = np.zeros(len(vertices), int)
    position[kept] = np.arange(len(kept))
    owner = position[owner]
    ends = owner[edges(faces)]
    ends = ends[ends[:, 0] != ends[:, 1]]
    n = len(kept)
    touching = sparse.coo_matrix((np.ones(len(ends)), ends.T), (n, n))
    adjacency = ((touching + touching.T) > 0).astype(np.float64) + sparse.identity(n)
    adjacency = sparse.diags_array(1 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency
    return Downsampling(
        kept, sparse.csr_matrix(adjacency), _interpolation(vertices, kept, owner, adjacency)
    )


def edge_graph(vertices: np.ndarray, faces: np.ndarray) -> sparse.csr_matrix:
    """Edge lengths as a symmetric sparse matrix."""
    a, b = edges(faces).T
    length = np.maximum(np.linalg.norm(vertices[a] - vertices[b], axis=1), 1e-9)
    half = sparse.coo_matrix((length, (a, b)), (len(vertices), len(vertices)))
    return sparse.csr_matrix(half.maximum(half.T))


def farthest_vertices(
    vertices: np.ndarray, faces: np.ndarray, graph: sparse.csr_matrix, count: int
) -> Int[np.ndarray, " coarse"]:
    """Vertices far from each other along edges, one at least in every piece, in rising order."""
    pieces = components(len(vertices), faces)
    kept = list(np.unique(pieces, return_index=True)[1])
    distance = dijkstra(graph, directed=False, indices=kept, min_only=True)
    while len(kept) < count:
        kept.append(int(np.argmax(np.where(np.isfinite(distance), distance, -1))))
        near = dijkstra(graph, directed=False, indices=kept[-1], limit=float(distance.max()))
        distance = np.minimum(distance, near)
    return np.sort(np.array(kept))


def _interpolation(
    vertices: np.ndarray, kept: np.ndarray, owner: np.ndarray, adjacency: sparse.csr_matrix
) -> sparse.csr_matrix:
    """Weights of inverse square distance over the nearest of the owner and its neighbours."""
    adjacency = sparse.csr_matrix(adjacency)
    rows, columns, values = [], [], []
    for coarse in range(len(kept)):
        fine = np.flatnonzero(owner == coarse)
        around = adjacency.indices[adjacency.indptr[coarse] : adjacency.indptr[coarse + 1]]
        d = np.linalg.norm(vertices[fine, None] - vertices[kept[around]][None], axis=-1)
        nearest = np.argsort(d, axis=1)[:, :SUPPORT]
        w = 1 / np.maximum(np.take_along_axis(d, nearest, 1), 1e-6) ** 2
        rows.append(np.repeat(fine, nearest.shape[1]))
        columns.append(around[nearest].ravel())
        values.append((w / w.sum(1, keepdims=True)).ravel())
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(sparse.coo_matrix(parts, (len(vertices), len(kept))))
