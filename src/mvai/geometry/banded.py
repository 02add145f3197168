"""Solve the symmetric systems that a chain of frames with a few shared unknowns leads to."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve_banded, cholesky_banded
from threadpoolctl import ThreadpoolController


def solve_chain(
    blocks: list[Float[np.ndarray, "frames size size"]],
    border: Float[np.ndarray, "frames size shared"],
    corner: Float[np.ndarray, "shared shared"],
    right: Float[np.ndarray, "frames size"],
    right_shared: Float[np.ndarray, " shared"],
) -> tuple[Float[np.ndarray, "frames size"], Float[np.ndarray, " shared"]]:
    """Solve [[H, B], [B^T, C]] [x, s] = [r, r_s] for a block-banded positive definite H.

    Args:
        blocks: blocks[o][f] is the block of H in row f and column f + o; entries that would fall
            off the end are ignored. blocks[0] is symmetric.
        border, corner: B and C, the coupling to the shared unknowns and their own block.
        right, right_shared: right-hand sides.

    Banded Cholesky for H (LAPACK pbtrf) in the precision of `right`, Schur complement for the
    shared unknowns.

    Raises:
        np.linalg.LinAlgError: H or the Schur complement is not positive definite.
    """
    frames, size = right.shape
    reach = len(blocks) * size
    # LAPACK wants column c of the lower band in one piece: banded[c, k] = H[c + k, c]. Row i of a
    # block row starts at its diagonal, i entries in; written into rows one entry too long and read
    # back with that stride, every row is shifted by its own number.
    wide = reach + size
    padded = np.zeros((frames, size, wide), right.dtype)
    for offset, block in enumerate(blocks):
        rows = frames - offset
        padded[:rows, :, offset * size : (offset + 1) * size] = block[:rows]
    step = padded.itemsize
    shifted = np.lib.stride_tricks.as_strided(
        padded, (frames, size, reach), (size * wide * step, (wide + 1) * step, step)
    )
    banded = np.ascontiguousarray(shifted).reshape(-1, reach).T
    shared = border.shape[2]
    stacked = np.concatenate([right[..., None], border], axis=2).reshape(-1, 1 + shared)
    # The band is too narrow for threads to help; with them it is several times slower.
    with _threads().limit(limits=1, user_api="blas"):
        factor = cholesky_banded(banded, lower=True, overwrite_ab=True, check_finite=False)
        solved = cho_solve_banded((factor, True), stacked, overwrite_b=True, check_finite=False)
    y, Z = solved[:, 0], solved[:, 1:]
    B = border.reshape(frames * size, shared)
    schur = corner - B.T @ Z
    s = np.linalg.solve(schur, right_shared - B.T @ y) if shared else np.zeros(0)
    return (y - Z @ s).reshape(frames, size), s


@cache
def _threads() -> ThreadpoolController:
    """Looking for the libraries that are loaded takes as long as a small system; SciPy's, which
    solves, is loaded before this file."""
    return ThreadpoolController()
