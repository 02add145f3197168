"""The graphs of GraphCMR: `mesh_downsampling.npz` of the authors' repository.

It holds three arrays of SciPy matrices (Ranjan et al., ECCV 2018, made by quadric simplification):
`A`, the adjacency of every level (6890, 1723 and 431 vertices); `D[i]`, from level i to the coarser
level i + 1; `U[i]`, back again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from mvai.io.unpickle import read_npz
from mvai.types import MvaiError


@dataclass(frozen=True)
class MeshDownsampling:
    """A coarse graph of a mesh, and the ways there and back."""

    adjacency: sparse.csr_matrix
    """(coarse, coarse), with self-loops, rows sum to 1."""
    down: sparse.csr_matrix
    """(coarse, fine)."""
    up: sparse.csr_matrix
    """(fine, coarse)."""

    @property
    def fine(self) -> int:
        return len(self.up.indptr) - 1

    @property
    def coarse(self) -> int:
        return len(self.adjacency.indptr) - 1


def read_mesh_downsampling(path: Path, fine: int, coarse: int) -> MeshDownsampling:
    """The level of `coarse` vertices of a mesh of `fine` vertices; nothing of the file is executed.

    Raises:
        MvaiError: the file cannot be read, is of another kind, or has no such level.
    """
    content = read_npz(path, ("A", "U", "D"))
    A, U, D = (_matrices(path, content[name]) for name in "AUD")
    sizes = [len(a.indptr) - 1 for a in A]
    fits = (
        [a.shape for a in A] == [(n, n) for n in sizes]
        and [u.shape for u in U] == list(pairwise(sizes))
        and [d.T.shape for d in D] == list(pairwise(sizes))
    )
    if not fits:
        raise MvaiError(f"{path}: its matrices A, U and D do not fit together; download it again.")
    if sizes[0] != fine or coarse not in sizes:
        raise MvaiError(
            f"{path}: it has graphs of {', '.join(map(str, sizes))} vertices, and one of {coarse} "
            f"of {fine} is needed; give the file that belongs to the checkpoint."
        )
    level = sizes.index(coarse)
    down = up = sparse.csr_matrix(sparse.identity(fine))
    for i in range(level):
        down, up = D[i] @ down, up @ U[i]
    return MeshDownsampling(neighbour_mean(A[level]), sparse.csr_matrix(down), up)


def neighbour_mean(adjacency: sparse.csr_matrix) -> sparse.csr_matrix:
    """The matrix that takes the mean over each vertex and its neighbours: all stored entries."""
    joined = adjacency.copy()
    joined.data = np.ones_like(joined.data)
    joined = joined.maximum(sparse.identity(len(joined.indptr) - 1))
    return sparse.csr_matrix(sparse.diags_array(1 / np.asarray(joined.sum(1)).ravel()) @ joined)


def _matrices(path: Path, array: np.ndarray) -> list[sparse.csr_matrix]:
    found = list(array.ravel()) if array.dtype == object else []
    if not found or not all(sparse.issparse(m) for m in found):
        raise MvaiError(
            f"{path}: this is no mesh_downsampling.npz (sparse matrices A, U and D); "
            "give the file of GraphCMR's repository."
        )
    return [sparse.csr_matrix(m, dtype=np.float64) for m in found]
