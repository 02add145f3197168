"""Bone heat weights (Baran and Popovic, "Automatic Rigging and Animation of 3D Characters", 2007).

Heat spreads over the surface from every bone: -laplace(w) + H (w - p) = 0 with H = 1 / d^2, d the
distance to the nearest visible bone, and p that bone's indicator. With lumped areas A and the
cotangent Laplacian L this is (L + A H) w = A H p, one sparse matrix for all bones. The Laplacian is
that of Sharp and Crane (2020), so the mesh may be non-manifold and in many parts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_matrix, diags
from scipy.sparse.linalg import splu

from mvai.geometry.laplacian import mesh_laplacian
from mvai.geometry.surface import weld
from mvai.transfer.sa_pd_visibility import solid

INFLUENCES = 4
TRIED = 4
"""Bones, nearest first, that are tested; where none of them is visible the nearest counts."""
ALIKE = 1.0001
"""Bones up to this many times as far as the nearest visible one heat a vertex alike."""


def bone_heat_weights(
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    heads: Float[np.ndarray, "bones 3"],
    tails: Float[np.ndarray, "bones 3"],
    visibility: bool = True,
) -> Float[np.ndarray, "verts bones"]:
    """Weights of every bone at every vertex; rows sum to 1.

    Args:
        vertices: the character at rest; vertices at one place get the same weights.
        faces: its triangles.
        heads: where each bone begins.
        tails: where it ends.
        visibility: let a bone heat only what it sees through the inside of the body.
    """
    height = float(np.ptp(vertices[:, 1]))
    first, welded = weld(vertices, 1e-5 * height)
    x = vertices[first].astype(np.float64)
    triangles = welded[faces]
    sides = (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])
    triangles = triangles[sides & (triangles[:, 0] != triangles[:, 2])]
    distance, at = _nearest_on_bones(x, heads, tails)
    chosen = _visible(x, triangles, distance, at) if visibility else distance.argmin(1)
    near = np.take_along_axis(distance, chosen[:, None], 1)
    P = (distance <= ALIKE * near) & (distance >= near / ALIKE)
    P = P / P.sum(1, keepdims=True)
    L, mass = mesh_laplacian(x, triangles)
    # A loose vertex has no area; any will do, since it then takes its nearest bone.
    mass = np.maximum(mass, 1e-6 * max(float(mass.mean()), 1e-12))
    H = mass / np.maximum(near[:, 0], 1e-3 * height) ** 2
    W = splu(csc_matrix(L + diags(H))).solve(H[:, None] * P)
    W = np.clip(W, 0, 1)
    return (W / W.sum(1, keepdims=True))[welded]


def strongest(
    W: Float[np.ndarray, "verts bones"],
) -> tuple[Int[np.ndarray, "verts influences"], Float[np.ndarray, "verts influences"]]:
    """The strongest influences of every vertex, summing to 1."""
    count = min(INFLUENCES, W.shape[1])
    indices = np.argsort(-W, axis=1)[:, :count]
    w = np.take_along_axis(W, indices, 1)
    return indices.astype(np.int32), (w / w.sum(1, keepdims=True)).astype(np.float32)


def _nearest_on_bones(
    x: np.ndarray, heads: np.ndarray, tails: np.ndarray
) -> tuple[Float[np.ndarray, "verts bones"], Float[np.ndarray, "verts bones 3"]]:
    """Distance of every vertex to every bone, and the bone's nearest point."""
    way = tails - heads
    length = np.maximum((way * way).sum(1), 1e-18)
    t = ((x[:, None] - heads) * way).sum(-1) / length
    at = heads + np.clip(t, 0, 1)[..., None] * way
    return np.linalg.norm(x[:, None] - at, axis=-1), at


def _visible(
    x: np.ndarray, faces: np.ndarray, distance: np.ndarray, at: np.ndarray
) -> Int[np.ndarray, " verts"]:
    """The nearest visible bone of every vertex, or the nearest where none of a few is visible."""
    inside = solid(x, faces)
    order = np.argsort(distance, axis=1)
    chosen = order[:, 0].copy()
    open_ = np.arange(len(x))
    for rank in range(min(TRIED, distance.shape[1])):
        bone = order[open_, rank]
        blocked = ~inside.sees(x[open_], at[open_, bone])
        chosen[open_[~blocked]] = bone[~blocked]
        open_ = open_[blocked]
        if not len(open_):
            break
    return chosen
