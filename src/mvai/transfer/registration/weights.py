"""Skin weights for a character from a template that lies on it.

After Abdrashitov et al., "Robust Skin Weights Transfer via Weight Inpainting" (SIGGRAPH Asia
2023): weights are copied where the template is near and faces the same way, and filled in
elsewhere. Small loose pieces (buttons, eyes, buckles) move rigidly.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_matrix, csr_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from mvai.body.model import LinearBody
from mvai.geometry.laplacian import inpaint, mesh_laplacian
from mvai.geometry.surface import averaged, components, neighbour_mean, vertex_normals, weld
from mvai.transfer.registration.fingers import merged_fingers
from mvai.transfer.registration.props import TOUCHES, carried, fastened
from mvai.transfer.registration.skirt import hanging_cloth
from mvai.types import Mesh
from mvai.types.names import SIDES

INFLUENCES = 4
NEAR = 0.03
"""A match is trusted up to this distance, as a share of the height."""
AGREE = 0.5
"""Least cosine between the normals of a match."""
SMALL_PIECE = 0.06
"""Loose pieces up to this size, as a share of the height, move rigidly."""
SOFT, SOFT_HAND = 0.02, 0.003
"""Width, as a share of the height, over which weights are spread on the body and on hands."""
OWNED, OWNED_LEAST = 0.75, 0.3
"""Mean and least weight of one joint on a loose piece that is hard and belongs to it."""
HELD, HAND_SIZE = 0.9, 0.25
"""A loose piece with more of a hand's weight, larger than any hand as a share of the height, is
held by it."""
HUNG = 0.01
"""What hangs from the hips needs no match; its weights have changed by more than this."""
NEIGHBOURS = 6
ROUNDS = 3
"""Weights are averaged over neighbours so often, which softens the border of copied regions."""
LARGE = 120_000
"""Meshes with more vertices get their weights by way of a coarser one."""
COARSE = 1 / 300
"""Its grid, as a share of the height."""


def transfer_weights(
    body: LinearBody, surface: Float[np.ndarray, "body_verts 3"], mesh: Mesh
) -> tuple[Int[np.ndarray, "verts 4"], Float[np.ndarray, "verts 4"]]:
    """Joint indices and weights for every vertex of the character.

    Args:
        body: the template, whose weights are carried over.
        surface: the template's vertices as they lie on the character.
        mesh: the character at rest.
    """
    height = float(np.ptp(mesh.vertices[:, 1]))
    large = len(mesh.vertices) > LARGE
    first, welded = weld(mesh.vertices, (COARSE if large else 1e-5) * height)
    vertices = mesh.vertices[first].astype(np.float64)
    faces = welded[mesh.faces]
    sides = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])
    faces = faces[sides & (faces[:, 0] != faces[:, 2])]
    faces = faces[np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]]
    normals = vertex_normals(vertices, faces)

    known, copied = _copy(body, surface, vertices, normals, height)
    piece = components(len(vertices), faces)
    L, mass = mesh_laplacian(vertices, faces)
    W = _fill(L, mass, vertices, piece, known, copied)
    distance = np.asarray(KDTree(surface).query(vertices)[0])
    filled = W
    W = hanging_cloth(body, surface, vertices, faces, piece, distance, W)
    matched = np.bincount(piece, weights=known | (abs(W - filled).sum(1) > HUNG)) > 0
    soft = softness(body, W, height)
    W = diffused(averaged(W, neighbour_mean(len(W), faces), ROUNDS), L, mass, soft)
    W = merged_fingers(body, faces, W)
    W = _rigid_pieces(body, W, vertices, piece, height)
    W = carried(body, W, vertices, piece, known, distance, height)
    W = fastened(body, W, vertices, faces, piece, ~matched, height)
    if large:
        return _blended(W, vertices, mesh.vertices)
    indices, weights = prune(W)
    return indices[welded], weights[welded]


def _blended(
    W: np.ndarray, vertices: np.ndarray, wanted: np.ndarray, chunk: int = 50_000
) -> tuple[Int[np.ndarray, "verts 4"], Float[np.ndarray, "verts 4"]]:
    """Weights at other points from the nearest vertices, a part at a time to save memory."""
    tree, scale = KDTree(vertices), np.finfo(float).tiny
    indices, weights = [], []
    for start in range(0, len(wanted), chunk):
        distance, near = tree.query(wanted[start : start + chunk], k=4)
        w = 1 / (np.asarray(distance) + 0.2 * np.asarray(distance)[:, -1:] + scale)
        w /= w.sum(1, keepdims=True)
        i, v = prune(np.einsum("vk,vkj->vj", w, W[near]))
        indices.append(i)
        weights.append(v)
    return np.concatenate(indices), np.concatenate(weights)


def _copy(
    body: LinearBody,
    surface: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    height: float,
) -> tuple[Bool[np.ndarray, " verts"], Float[np.ndarray, "verts joints"]]:
    """Weights blended from the nearest template vertices that face the same way."""
    dense = np.zeros((len(surface), len(body.joints)))
    np.add.at(dense, (np.arange(len(surface))[:, None], body.weight_indices), body.weights)
    own = vertex_normals(surface, body.faces)
    distance, index = KDTree(surface).query(vertices, k=24)
    agree = (normals[:, None] * own[index]).sum(-1) > AGREE
    # The nearest few of those that agree; blending them stands for a point inside a triangle.
    rank = np.where(agree, distance, np.inf)
    order = np.argsort(rank, axis=1)[:, :NEIGHBOURS]
    d = np.take_along_axis(rank, order, 1)
    picked = np.take_along_axis(index, order, 1)
    nearest = d[:, :1]
    known = nearest[:, 0] < NEAR * height
    with np.errstate(invalid="ignore"):
        blur = nearest + 0.003 * height
        w = np.where(np.isfinite(d), np.exp(-(((d - nearest) / blur) ** 2) * 4), 0.0)
    w[~known] = 0
    w[~known, 0] = 1
    w /= w.sum(1, keepdims=True)
    return known, np.einsum("vk,vkj->vj", w, dense[picked])


def _fill(
    L: csr_matrix,
    mass: np.ndarray,
    vertices: np.ndarray,
    piece: np.ndarray,
    known: np.ndarray,
    copied: np.ndarray,
) -> np.ndarray:
    """Inpaint the unknown vertices; pieces without any match follow the nearest one that has."""
    has = np.bincount(piece, weights=known, minlength=piece.max() + 1) > 0
    known = known.copy()
    lost = np.flatnonzero(~has[piece])
    if len(lost) and known.any():
        at = np.flatnonzero(known)
        distance, near = KDTree(vertices[at]).query(vertices[lost])
        nearest, reach = at[near], TOUCHES * np.ptp(vertices[:, 1])
        for p in np.unique(piece[lost]):
            mine = np.flatnonzero(piece[lost] == p)
            # What it is fastened by counts, not what the rest of it happens to be near.
            held = mine[distance[mine] <= distance[mine].min() + reach]
            copied[lost[mine]] = copied[nearest[held]].mean(0)
        known[lost] = True
    loose = mass <= 0
    known |= loose
    W = np.clip(inpaint(L, mass, known, copied), 0, None)
    return W / np.maximum(W.sum(1, keepdims=True), 1e-9)


def softness(
    body: LinearBody, W: Float[np.ndarray, "verts joints"], height: float
) -> Float[np.ndarray, " verts"]:
    """How far weights are spread around each vertex (metres): little on hands, whose fingers are
    thin."""
    hand = W[:, ["Hand" in name for name in body.joints]].sum(1)
    return height * (SOFT + (SOFT_HAND - SOFT) * np.clip(hand, 0, 1))


def diffused(
    W: Float[np.ndarray, "verts joints"],
    L: csr_matrix,
    mass: Float[np.ndarray, " verts"],
    width_m: Float[np.ndarray, " verts"],
) -> Float[np.ndarray, "verts joints"]:
    """Weights spread along the surface by one implicit step of heat diffusion.

    Weights copied from the nearest surface change within a crease, where the template's own folds
    lie; on a coarse or layered mesh that tears single faces. The width is a length on the surface,
    so that the result does not depend on how fine the mesh is (Desbrun et al., "Implicit fairing",
    SIGGRAPH 1999).
    """
    at = L.tocoo()
    off = (at.row != at.col) & (at.data < 0)
    i, j = at.row[off], at.col[off]
    flow = csr_matrix((-at.data[off] * width_m[i] * width_m[j], (i, j)), L.shape)
    out = np.asarray(flow.sum(1)).ravel()
    held = np.maximum(mass, 1e-6 * mass.mean())
    A = csc_matrix(diags(held + out) - flow)
    spread = np.clip(splu(A).solve(held[:, None] * W), 0, None)
    spread /= np.maximum(spread.sum(1, keepdims=True), 1e-9)
    return np.where((mass > 0)[:, None], spread, W)


def _rigid_pieces(
    body: LinearBody, W: np.ndarray, vertices: np.ndarray, piece: np.ndarray, height: float
) -> np.ndarray:
    """One weight vector for each small loose piece, and one joint for each that belongs to it.

    A loose piece all of which moves mostly with one joint is a part of a robot, a helmet or a plate
    of armour; one that reaches over to another joint is cloth. What a hand holds moves with the
    hand and not with the finger that it lies nearest to.
    """
    count = piece.max() + 1
    low = np.full((count, 3), np.inf)
    high = np.full((count, 3), -np.inf)
    np.minimum.at(low, piece, vertices)
    np.maximum.at(high, piece, vertices)
    size = np.linalg.norm(high - low, axis=1)
    small = size < SMALL_PIECE * height
    n = np.bincount(piece, minlength=count)
    mean = csr_matrix((1 / n[piece], (piece, np.arange(len(W)))), shape=(count, len(W))) @ W
    owner = mean.argmax(1)
    least = np.ones(count)
    np.minimum.at(least, piece, W[np.arange(len(W)), owner[piece]])
    hard = ~small & (mean.max(1) > OWNED) & (least > OWNED_LEAST)
    mean[hard] = np.eye(W.shape[1])[owner[hard]]
    for side in SIDES:
        of_hand = mean[:, [n.startswith(f"{side}Hand") for n in body.joints]].sum(1)
        held = (of_hand > HELD) & (size > HAND_SIZE * height)
        mean[held] = np.eye(W.shape[1])[body.joint(f"{side}Hand")]
        hard |= held
    return np.where((small | hard)[piece][:, None], mean[piece], W)


def prune(
    W: Float[np.ndarray, "verts joints"], influences: int = INFLUENCES
) -> tuple[Int[np.ndarray, "verts influences"], Float[np.ndarray, "verts influences"]]:
    """The strongest influences of every vertex, summing to 1."""
    indices = np.argsort(-W, axis=1)[:, :influences]
    weights = np.take_along_axis(W, indices, 1)
    weights = np.where(weights < 0.01 * weights[:, :1], 0, weights)
    weights /= weights.sum(1, keepdims=True)
    return np.where(weights > 0, indices, 0).astype(np.int32), weights.astype(np.float32)
