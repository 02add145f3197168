"""The frame of the root of a mesh in no known topology, searched.

The encoder says of every point where on the body at rest it belongs and how the joints turn, so the
mean body can be laid over the points, and the turn that is left between the two corrects the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rigid import similarity
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.nets.npt_files import TrainedNpt
from mvai.transfer.reading.network import Reading, posed_mean, read_places

YAWS = 8
"""Headings that are tried,"""
PITCHES_RAD = (0.0, 0.9, -0.9)
"""each upright, bent to the front and to the back."""
SEARCH_ROUNDS = 5
KEPT = 12
"""Guesses that go on after the first round."""
FEWER = 3
"""All rounds but the last look at one point of so many."""
APART_RAD = np.pi / 3
"""Frames of the root that are not the same answer differ by more."""


def searched(
    trained: TrainedNpt,
    body: LinearBody,
    points: Float[np.ndarray, "frames points 3"],
    normals: Float[np.ndarray, "frames points 3"],
) -> list[Reading]:
    """Two readings of points of no known order, the likelier one first.

    Every frame starts from several headings. A body and its mirror image from behind look alike to
    the encoder at times; so besides the frame of the root in which the mean body lies best on the
    points in the end the best of those far from it is kept, and which is right shows when the
    body is laid over the points (source.py).
    """
    yaw = torch.arange(YAWS) * (2 * torch.pi / YAWS)
    turn = matrix_from_axis_angle(yaw[:, None] * torch.tensor([0.0, 1.0, 0.0]))
    bend = matrix_from_axis_angle(torch.tensor([[p, 0.0, 0.0] for p in PITCHES_RAD]))
    starts = (turn[:, None] @ bend).flatten(0, 1).numpy()
    tree = KDTree(body.template.numpy())
    found: list[tuple[_Guess, _Guess]] = []
    for frame in points.astype(np.float64):
        x = frame - frame.mean(0)
        R = starts
        if found:
            R = np.concatenate([R, np.stack([guess.R for guess in found[-1]])])
        for _ in range(SEARCH_ROUNDS - 1):
            guesses = _laid(trained, body, tree, R, x[::FEWER])[:KEPT]
            R = np.stack([g.R for g in guesses])
        guesses = _laid(trained, body, tree, R, x)
        best = guesses[0]
        far = [g for g in guesses if np.trace(g.R @ best.R.T) < 1 + 2 * np.cos(APART_RAD)]
        found.append((best, (far or guesses)[0]))
    size = float(np.median([best.size for best, _ in found]))
    return [_reading(body, points, normals, guesses, size) for guesses in zip(*found, strict=True)]


@dataclass(frozen=True)
class _Guess:
    """A frame of the root, what the network reads in it, and the mean body laid over the points."""

    R_local: Float[Tensor, "joints 3 3"]
    places: Float[np.ndarray, "points 3"]
    size: float
    """Mean body = 1."""
    R: Float[np.ndarray, "3 3"]
    t: Float[np.ndarray, "3"]
    """Of the mean body's origin, from the mean of the points (metres)."""
    miss: float
    """Median distance of the points from where they belong (metres)."""


def _laid(
    trained: TrainedNpt, body: LinearBody, tree: KDTree, R: np.ndarray, x: np.ndarray
) -> list[_Guess]:
    """One step from every guess of the root's frame, the best first."""
    with torch.no_grad():
        seen = torch.from_numpy(np.einsum("kji,vj->kvi", R, x).astype(np.float32))
        local, places = read_places(trained, seen)
    local[:, 0] = torch.eye(3)
    guesses = []
    for R_local, place in zip(local, places, strict=True):
        posed = posed_mean(body, R_local[None], np.asarray(tree.query(place)[1]))[0]
        size, turn, t = similarity(posed.astype(np.float64), x)
        off = np.linalg.norm(size * posed @ turn.T + t - x, axis=1)
        guesses.append(_Guess(R_local, place, size, turn, t, float(np.median(off))))
    return sorted(guesses, key=lambda guess: guess.miss)


def _reading(
    body: LinearBody,
    points: np.ndarray,
    normals: np.ndarray,
    guesses: tuple[_Guess, ...],
    size: float,
) -> Reading:
    """One guess of each frame."""
    R_root = np.stack([g.R for g in guesses])
    offset = np.stack([g.t + g.size * g.R @ body.joint_template[0].numpy() for g in guesses])
    return Reading(
        points, torch.stack([g.R_local for g in guesses]), R_root, offset + points.mean(1), size,
        normals, None, np.stack([g.places for g in guesses]),
    )  # fmt: skip
