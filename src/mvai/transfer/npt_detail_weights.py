"""Skin weights for a character from the network, smoothed over its surface."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from mvai.geometry.surface import averaged, components, neighbour_mean, weld
from mvai.nets.npt_files import TrainedNpt
from mvai.transfer.npt_identity import NptIdentity, without_far_bones

INFLUENCES = 6
SMOOTHING_ROUNDS = 4
SMALL_PIECE = 0.06
"""Loose pieces up to this size, as a share of the height, move rigidly (buttons, eyes, buckles)."""
CHUNK = 16_384


def network_weights(
    trained: TrainedNpt, identity: NptIdentity
) -> tuple[Int[np.ndarray, "verts influences"], Float[np.ndarray, "verts influences"]]:
    """Joint indices and weights of every vertex.

    Vertices at the same place get the same weights, so that seams stay closed.
    """
    mesh = identity.character.mesh
    first, welded = weld(mesh.vertices, 1e-5 * identity.height)
    faces = welded[mesh.faces]
    W = []
    with torch.no_grad():
        for i in range(0, len(first), CHUNK):
            x = identity.vertices[first[i : i + CHUNK]]
            own = trained.npt.weights(trained.npt.known(x, identity.whole))
            W.append(without_far_bones(trained, identity, x, own).numpy())
    W = np.concatenate(W)
    W = averaged(W, neighbour_mean(len(W), faces), SMOOTHING_ROUNDS)
    W = _rigid_pieces(W, mesh.vertices[first], faces, SMALL_PIECE * identity.height)
    indices = np.argsort(-W, axis=1)[:, :INFLUENCES]
    w = np.take_along_axis(W, indices, 1)
    w = w / w.sum(1, keepdims=True)
    return indices[welded].astype(np.int32), w[welded].astype(np.float32)


def _rigid_pieces(
    W: np.ndarray, vertices: np.ndarray, faces: np.ndarray, size: float
) -> np.ndarray:
    """One weight vector for each small loose piece."""
    piece = components(len(vertices), faces)
    count = piece.max() + 1
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, piece, vertices)
    np.maximum.at(high, piece, vertices)
    small = np.linalg.norm(high - low, axis=1) < size
    n = np.bincount(piece, minlength=count)
    mean = csr_matrix((1 / n[piece], (piece, np.arange(len(W)))), shape=(count, len(W))) @ W
    return np.where(small[piece][:, None], mean[piece], W)
