"""Linear blend skinning of characters in numpy (Magnenat-Thalmann et al. 1988)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from mvai.types import Animation, Skin


def share_below(skin: Skin, top: int) -> Float[np.ndarray, " verts"]:
    """How much of every vertex's weights a joint and all that hang from it have."""
    below = np.zeros(len(skin.joints), bool)
    for j, p in enumerate(skin.parents):
        below[j] = j == top or (p >= 0 and below[p])
    return (below[skin.weight_indices] * skin.weights).sum(1)


def skinning_operator(skin: Skin, rest_vertices: Float[np.ndarray, "verts 3"]) -> csr_matrix:
    """The sparse matrix (verts, joints * 4) that turns stacked transforms into positions.

    Row v holds, for each joint j that moves v, w_vj * (T_joint_world @ [v, 1]); multiplied by the
    transposed upper 3 x 4 blocks of all joints' world transforms it gives the skinned position, so
    any number of frames is one sparse product.
    """
    inverse = np.linalg.inv(skin.T_world_joint)
    homogeneous = np.concatenate([rest_vertices, np.ones((len(rest_vertices), 1))], axis=1)
    indices, weights = skin.weight_indices, skin.weights
    local = np.einsum("vkab,vb->vka", inverse[indices], homogeneous)
    values = (weights[..., None] * local).astype(np.float32)
    columns = indices[..., None] * 4 + np.arange(4)
    rows = np.broadcast_to(np.arange(len(rest_vertices))[:, None, None], columns.shape)
    return csr_matrix(
        (values.ravel(), (rows.ravel(), columns.ravel())),
        shape=(len(rest_vertices), 4 * len(skin.joints)),
    )


def skinned(
    operator: csr_matrix, Ts_world_joint: Float[np.ndarray, "frames joints 4 4"]
) -> Float[np.ndarray, "frames verts 3"]:
    """Apply `skinning_operator` to the joint transforms of some frames."""
    frames = len(Ts_world_joint)
    stacked = Ts_world_joint[:, :, :3].transpose(1, 3, 0, 2).reshape(-1, frames * 3)
    moved = operator @ stacked.astype(np.float32)
    return np.ascontiguousarray(moved.reshape(-1, frames, 3).transpose(1, 0, 2))


def skinned_part(
    skin: Skin,
    rest_vertices: Float[np.ndarray, "verts 3"],
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"],
    ids: Int[np.ndarray, " some"],
) -> Float[np.ndarray, "frames some 3"]:
    """Positions of some vertices in all frames."""
    part = replace(skin, weight_indices=skin.weight_indices[ids], weights=skin.weights[ids])
    return skinned(skinning_operator(part, rest_vertices[ids]), Ts_world_joint)


def posed_vertices(
    animation: Animation, frames: slice | Sequence[int] = slice(None)
) -> Float[np.ndarray, "frames verts 3"]:
    """Positions of the character's concatenated vertices in the chosen frames (metres, world)."""
    if animation.free_vertices is not None:
        return animation.free_vertices[frames]
    assert animation.skin is not None and animation.Ts_world_joint is not None
    operator = skinning_operator(animation.skin, animation.character.mesh.vertices)
    return skinned(operator, animation.Ts_world_joint[frames])
