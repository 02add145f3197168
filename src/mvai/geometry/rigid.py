"""Rotations and rigid fits in numpy, over any batch shape. Matrices act on column vectors."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def nearest_rotations(M: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The rotations closest to M in the Frobenius norm (Kabsch 1976, by SVD)."""
    U, _, Vt = np.linalg.svd(M)
    U[..., :, 2] *= np.sign(np.linalg.det(U @ Vt))[..., None]
    return U @ Vt


def rotations_near(
    M: Float[np.ndarray, "n 3 3"], R: Float[np.ndarray, "n 3 3"], rounds: int = 4
) -> Float[np.ndarray, "n 3 3"]:
    """Rotations turned from R towards those closest to M.

    Several times as fast as `nearest_rotations` but not exact, the less so the flatter M is. Every
    round turns by sum_k r_k x m_k / |sum_k r_k . m_k| over the columns (Mueller et al., "A robust
    method to extract the rotational part of deformations", 2016).
    """
    # With the components first, every sum over them is one of long arrays.
    r, m = (np.ascontiguousarray(np.moveaxis(a, 0, -1)) for a in (R, M))
    for _ in range(rounds):
        turn = _cross(r, m).sum(1)
        turn /= np.abs(np.einsum("abn,abn->n", r, m)) + np.finfo(float).tiny
        # As a quaternion (q, w): r + 2 q x (q x r + w r).
        half = np.linalg.norm(turn, axis=0) / 2
        q = (turn * np.sinc(half / np.pi) / 2)[:, None]
        r = r + 2 * _cross(q, _cross(q, r) + np.cos(half) * r)
    return np.moveaxis(r, -1, 0)


def _cross(
    a: Float[np.ndarray, "3 *#columns"], b: Float[np.ndarray, "3 *#columns"]
) -> Float[np.ndarray, "3 *columns"]:
    """Cross products of vectors whose components come first."""
    return np.stack(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )


def unit(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Vectors of length 1; without length they stay so."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def similarity(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, " n"] | None = None,
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Scale s, rotation R, translation t that minimise sum w |s R x + t - y|^2 (Umeyama 1991)."""
    w = np.ones(len(source)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    mean_s, mean_t = w @ source, w @ target
    a, b = source - mean_s, target - mean_t
    H = (w[:, None] * b).T @ a
    R = nearest_rotations(H)
    s = float(np.trace(R.T @ H) / (w @ (a * a).sum(1)))
    return s, R, mean_t - s * R @ mean_s


def degrees_between(
    a: Float[np.ndarray, "*#batch 3"], b: Float[np.ndarray, "*#batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Angle between directions of any length (degrees); atan2 keeps small ones exact."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


def shortest_rotation(
    a: Float[np.ndarray, "*batch 3"], b: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """The smallest rotation that takes the direction of a to the direction of b.

    For opposite directions the axis is free and the identity is returned.
    """
    a = a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-12)
    b = b / np.maximum(np.linalg.norm(b, axis=-1, keepdims=True), 1e-12)
    v = np.cross(a, b)
    c = (a * b).sum(-1)
    K = skew(v)
    R = np.eye(3) + K + K @ K / np.maximum(1 + c, 1e-6)[..., None, None]
    return np.where((c > -1 + 1e-6)[..., None, None], R, np.eye(3))


def skew(v: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The matrices K with K x = v cross x."""
    K = np.zeros((*v.shape, 3))
    K[..., 0, 1], K[..., 0, 2], K[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    K[..., 1, 0], K[..., 2, 0], K[..., 2, 1] = v[..., 2], -v[..., 1], v[..., 0]
    return K


def transforms(
    R: Float[np.ndarray, "*batch 3 3"], t: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 4 4"]:
    """Homogeneous matrices from rotations and translations."""
    T = np.zeros((*R.shape[:-2], 4, 4))
    T[..., :3, :3] = R
    T[..., :3, 3] = t
    T[..., 3, 3] = 1
    return T
