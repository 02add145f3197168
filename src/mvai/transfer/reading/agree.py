"""One vertex of the body for each point of a moving mesh, agreed on by all frames.

The points of a mesh sequence are the same in every frame, whatever their order. So where a limb was
read wrongly in one frame, the others say which part of the body its points are.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.transfer.reading.match import FACES_M, Pairs, Surface
from mvai.transfer.reading.refine import Laid, lay, posed

FEWEST_FRAMES = 4
"""Fewer frames cannot outvote each other."""
VOTING = 24
"""Frames that vote, at most, spread over the sequence,"""
TRUSTED = 0.8
"""of the share that fits best."""
FAR_M = 0.08
"""A vertex further off is as far as any other."""
ROBUST_M = (0.15, 0.05)
"""Points further off than this lose their say, at the first step and the last."""
STEPS = 6


def laid_as_agreed(
    body: LinearBody,
    pool: Surface,
    points: Float[np.ndarray, "frames points 3"],
    normals: Float[np.ndarray, "frames points 3"],
    laid: Laid,
    miss: Float[np.ndarray, " frames"],
) -> Laid:
    """The body laid over the points again, each being the same vertex in all frames.

    Args:
        body: the body.
        pool: the vertices to choose from.
        points: the points, in the frame of the root in which `laid` is.
        normals: where the surface faces there, likewise.
        laid: the body as it lies now, rightly in most frames.
        miss: how well it does (metres).
    """
    if len(points) < FEWEST_FRAMES:
        return laid
    trusted = np.flatnonzero(miss <= np.quantile(miss, TRUSTED))
    at = np.linspace(0, len(trusted) - 1, min(len(trusted), VOTING)).round().astype(int)
    chosen = agreed_vertices(body, pool, points, normals, laid, trusted[np.unique(at)])
    match = AgreedMatch(pool, chosen)
    return lay(body, points, laid.R_local, STEPS, match)


def agreed_vertices(
    body: LinearBody,
    pool: Surface,
    points: Float[np.ndarray, "frames points 3"],
    normals: Float[np.ndarray, "frames points 3"],
    laid: Laid,
    voting: Int[np.ndarray, " voting"],
) -> Int[np.ndarray, " points"]:
    """For each point the vertex of the pool that is nearest to it, in space and in where it
    faces, over the frames that vote: the least sum of squared distances, none of which counts for
    more than `FAR_M`, so that a bad frame cannot outvote the others."""
    cost = np.zeros((points.shape[1], len(pool.rest)), np.float32)
    for f in voting:
        one = laid.some(np.array([f]))
        now = posed(body, pool, one)
        facing = FACES_M * now.normals(pool)[0].numpy()
        there = np.concatenate([now.vertices[0].numpy(), facing], 1)
        here = np.concatenate([points[f], FACES_M * normals[f]], 1).astype(np.float32)
        squared = (here * here).sum(1)[:, None] + (there * there).sum(1) - 2 * here @ there.T
        cost += np.minimum(squared, FAR_M**2)
    return cost.argmin(1)


class AgreedMatch:
    """The points are these vertices of the pool, nearly."""

    pool = None

    def __init__(self, pool: Surface, chosen: Int[np.ndarray, " points"]) -> None:
        self.surface = pool.some(torch.from_numpy(chosen))

    def pairs(self, x: Tensor, frames: np.ndarray, whole: object, done: float) -> Pairs:
        """See `match.Match`."""
        robust = ROBUST_M[0] ** (1 - done) * ROBUST_M[1] ** done
        return Pairs(self.surface, x, 1.0, robust)
