"""Points in space from their images under known cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mvai.types import Camera


def triangulate(
    xy_px: Float[np.ndarray, "views points 2"],
    confidence: Float[np.ndarray, "views points"],
    cameras: Sequence[Camera],
    tolerance_px: float,
    iterations: int = 12,
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, " points"]]:
    """Robust linear triangulation, all points at once.

    Each view adds the two rows x P_3 - P_1 and y P_3 - P_2 (Hartley and Zisserman, section
    12.2), divided by depth so that they measure pixels, and re-weighted after Geman and McClure.
    The start is the best of all pairs of views, so that one wrong view cannot pull the rest.

    Returns: world positions (metres; NaN where fewer than two views agree), and the summed
    weights of the agreeing views.
    """
    views, points = confidence.shape
    conf = np.where(np.isfinite(xy_px).all(-1), confidence, 0.0)
    xy = np.nan_to_num(xy_px)
    P = np.stack([c.K @ c.T_camera_world[:3] for c in cameras])
    rows = xy[..., None] * P[:, None, 2:3] - P[:, None, :2]

    def solve(w: np.ndarray) -> np.ndarray:
        A, b = rows[..., :3], -rows[..., 3]
        N = np.einsum("vp,vpij,vpik->pjk", w, A, A) + 1e-9 * np.eye(3)
        r = np.einsum("vp,vpij,vpi->pj", w, A, b)
        return np.linalg.solve(N, r[..., None])[..., 0]

    def residuals(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = np.einsum("vij,pj->vpi", P[..., :3], X) + P[:, None, :, 3]
        depth = np.maximum(p[..., 2], 1e-6)
        return np.linalg.norm(p[..., :2] / depth[..., None] - xy, axis=-1), depth

    def votes(X: np.ndarray) -> np.ndarray:
        e, _ = residuals(X)
        return conf / (1 + (e / tolerance_px) ** 2) ** 2

    best = np.full((points, 3), np.nan)
    score = np.full(points, -1.0)
    for a in range(views):
        for b in range(a + 1, views):
            w = np.zeros_like(conf)
            w[[a, b]] = np.minimum(conf[a], conf[b])
            X = solve(w)
            s = np.where(np.minimum(conf[a], conf[b]) > 0, votes(X).sum(0), -1)
            better = s > score
            best[better], score[better] = X[better], s[better]
    known = score > 0
    X = np.where(known[:, None], best, 0.0)
    for _ in range(iterations):
        _, depth = residuals(X)
        X = solve(votes(X) / depth**2 * np.mean(depth) ** 2)
    e, _ = residuals(X)
    agree = ((e < 2 * tolerance_px) & (conf > 0)).sum(0)
    known &= agree >= 2
    return np.where(known[:, None], X, np.nan), np.where(known, votes(X).sum(0), 0.0)
