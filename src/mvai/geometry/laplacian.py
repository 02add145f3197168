"""Laplacians of triangle meshes, also of non-manifold ones, and functions filled in with them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_matrix, csr_matrix, diags
from scipy.sparse.linalg import splu


def mesh_laplacian(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> tuple[csr_matrix, Float[np.ndarray, " verts"]]:
    """Positive semi-definite Laplacian and lumped masses (Sharp and Crane, SGP 2020)."""
    from robust_laplacian import mesh_laplacian as robust

    L, M = robust(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int64))
    return csr_matrix(L), np.asarray(M.diagonal())


def inpaint(
    L: csr_matrix,
    mass: Float[np.ndarray, " verts"],
    known: Bool[np.ndarray, " verts"],
    values: Float[np.ndarray, "verts channels"],
) -> Float[np.ndarray, "verts channels"]:
    """Fill in the unknown rows of `values` as smoothly as the surface allows.

    Minimises tr X^T (L + L M^-1 L) X with the known rows fixed: the energy with which
    Abdrashitov et al. (Robust Skin Weights Transfer via Weight Inpainting, SIGGRAPH Asia 2023)
    inpaint skin weights. Every connected piece must hold at least one known vertex.
    """
    result = values.astype(np.float64).copy()
    free = np.flatnonzero(~known)
    if not len(free):
        return result
    fixed = np.flatnonzero(known)
    floor = 1e-6 * mass.mean()
    size = np.sqrt(mass.mean())
    # Lengths in units of the mean edge, so that both terms weigh alike at any scale.
    Q = csc_matrix(L + size**2 * (L @ diags(1 / np.maximum(mass, floor)) @ L))
    Q_ff = Q[free][:, free] + 1e-9 * diags(np.ones(len(free)))
    rhs = -(Q[free][:, fixed] @ result[fixed])
    result[free] = splu(csc_matrix(Q_ff)).solve(np.ascontiguousarray(rhs))
    return result
