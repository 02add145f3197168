"""Point-wise mesh distance of pose transfer between bodies with known truth.

PMD (Wang et al., CVPR 2020): mean over the vertices and the three coordinates of the squared
difference after both meshes' bounding boxes are centred, in square metres. The four cells are those
of the publications: identities and poses that neural pose transfer was trained on ("seen", its 16
and 800) and others; unseen poses are those of the test people. Bodies differ in shape, posed bodies
also in heading, so every method meets what it meets in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvai import pipeline
from mvai.benchmark.poses import PoseClip, poses_in_folder
from mvai.benchmark.splits import is_held_out
from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.body.skinning import posed_vertices
from mvai.nets.npt_fast import FastNpt
from mvai.nets.npt_files import TrainedNpt
from mvai.progress import Silent, Stopwatch
from mvai.train.npt_poses import (
    FRAMES_PER_CLIP,
    pose_bank,
    random_shapes,
    seen_shapes,
    turns,
    unseen_shapes,
    whole_rotations,
)
from mvai.train.pose_prior import balanced
from mvai.types import Character, MeshSequence, MvaiError, Part

FPS = 30.0
CELLS = tuple((i, p) for i in ("seen", "unseen") for p in ("seen", "unseen"))
"""Identity and pose."""
PAIRS = 6
"""Pairs of a source person and an identity in a cell."""
POSES = 16
"""Poses of each pair."""


@dataclass(frozen=True)
class PmdPoses:
    """Poses to measure on, with the turn of the whole body."""

    seen: Float[Tensor, "n joints 3 3"]
    unseen: Float[Tensor, "m joints 3 3"]


def pmd_poses(data: Path, cache: Path) -> PmdPoses:
    """The poses of both kinds.

    Args:
        data: folder of motion capture (BVH), the one the network was trained on.
        cache: folder for converted clips.

    Raises:
        MvaiError: there are no clips of one kind.
    """
    body = anny_body()
    clips: list[PoseClip] = list(poses_in_folder(data, body, cache))
    train = [c for c in clips if not is_held_out(c.name)]
    test = [c for c in clips if is_held_out(c.name)]
    if not train or not test:
        raise MvaiError(f"{data}: it must hold clips of training people and of test people.")
    bank = pose_bank(body, train)
    seen = bank.seen.clone()
    seen[:, 0] = bank.seen_root
    rng = np.random.default_rng(3)
    frames = balanced(test, FRAMES_PER_CLIP)
    frames = frames[rng.permutation(len(frames))]
    unseen = whole_rotations(body, frames, rng)
    unseen[:, 0] = turns(frames)
    return PmdPoses(seen, unseen)


def pmd_cells(
    method: Any, poses: PmdPoses, known_topology: bool = True, pairs: int = PAIRS
) -> list[dict[str, Any]]:
    """PMD in the four cells.

    Args:
        method: a transfer method's name, or its settings.
        poses: from `pmd_poses`.
        known_topology: say that the sources are in the body's topology; otherwise they are handed
            over with their vertices shuffled, as a mesh in no known topology.
        pairs: source people, each with an identity, in every cell.

    Returns: one row a cell: method, identity ("seen", "unseen"), pose, topology ("known", "none"),
    pmd_mean, pmd_median and pmd_worst over all pairs and poses in 1e-4 square metres, and pmd_copy,
    that of not posing the identity at all; or "refused" with the reason.
    """
    config = pipeline.configured("transfer", method)
    body = anny_body()

    def drive(pair: Pair) -> Float[np.ndarray, "frames verts 3"]:
        V, faces, topology = pair.source, body.faces, body.topology
        if not known_topology:
            order = np.random.default_rng(pair.number).permutation(V.shape[1])
            V, faces, topology = V[:, order], np.argsort(order)[faces].astype(np.int32), ""
        character = Character("body", (Part("body", pair.rest, body.faces),))
        registration = pipeline.register(character, config, Stopwatch(Silent()))
        animation = config.drive(registration, MeshSequence(V, faces, FPS, topology))
        return posed_vertices(animation)

    about = {
        "method": pipeline.method_name("transfer", config),
        "topology": "known" if known_topology else "none",
    }
    return [
        about | _cell(drive, body, i, p, poses.seen if p == "seen" else poses.unseen, pairs)
        for i, p in CELLS
    ]


def network_cells(trained: TrainedNpt, poses: PmdPoses, pairs: int = PAIRS) -> list[dict[str, Any]]:
    """PMD of a network with a free code alone, from pose meshes whose root is not turned.

    Raises:
        MvaiError: the network's code is not free.
    """
    npt, body = trained.npt, anny_body()
    if npt.settings.parents:
        raise MvaiError(
            "These weights read the code as joint rotations; measure them as the methods npt and "
            "npt-detail."
        )
    fast = FastNpt(npt)

    def drive(pair: Pair) -> Float[np.ndarray, "frames verts 3"]:
        low, high = pair.rest.min(0), pair.rest.max(0)
        identity = torch.from_numpy((pair.rest - (low + high) / 2) / (high[1] - low[1]))
        whole = npt.identity_code(identity)
        codes = npt.encode(torch.from_numpy(pair.source))
        out = np.stack([fast.pose_mesh(code, identity, whole).numpy() for code in codes])
        return out * (high[1] - low[1])

    cells = []
    for i, p in CELLS:
        R = (poses.seen if p == "seen" else poses.unseen).clone()
        R[:, 0] = torch.eye(3)
        with torch.no_grad():
            cells.append({"method": "network", **_cell(drive, body, i, p, R, pairs)})
    return cells


@dataclass(frozen=True)
class Pair:
    """A person who acts and an identity that should act alike."""

    number: int
    source: Float[np.ndarray, "frames verts 3"]
    rest: Float[np.ndarray, "verts 3"]
    """The identity as it is given, standing on y = 0."""


def _cell(
    drive: Callable[[Pair], np.ndarray],
    body: LinearBody,
    identity: str,
    pose: str,
    R: Tensor,
    pairs: int,
) -> dict[str, Any]:
    """One cell of the table."""
    cell: dict[str, Any] = {"identity": identity, "pose": pose}
    shapes = seen_shapes(body) if identity == "seen" else unseen_shapes(body)
    if identity == "seen":
        people = seen_shapes(body).roll(5, 0)
    else:
        people = random_shapes(body, len(shapes), np.random.default_rng(1601))
    made, copied = [], []
    for i in range(pairs):
        some = R[i * POSES : (i + 1) * POSES]
        with torch.no_grad():
            rest = body.rest(shapes[i : i + 1])[0][0].numpy()
            truth = body.vertices(shapes[i : i + 1], some, torch.zeros(len(some), 3)).numpy()
            V = body.vertices(people[i : i + 1], some, torch.zeros(len(some), 3)).numpy()
        rest = (rest - [0, rest[:, 1].min(), 0]).astype(np.float32)
        try:
            made.append(pmd(drive(Pair(i, V, rest)), truth))
        except MvaiError as error:
            return cell | {"refused": str(error)}
        copied.append(pmd(np.broadcast_to(rest, truth.shape), truth))
    every = np.concatenate(made)
    return cell | {
        "pmd_mean": 1e4 * float(every.mean()), "pmd_median": 1e4 * float(np.median(every)),
        "pmd_worst": 1e4 * float(every.max()),
        "pmd_copy": 1e4 * float(np.concatenate(copied).mean()),
    }  # fmt: skip


def pmd(
    a: Float[np.ndarray, "frames verts 3"], b: Float[np.ndarray, "frames verts 3"]
) -> Float[np.ndarray, " frames"]:
    """Mean squared difference of coordinates after centring both bounding boxes (m^2)."""
    a, b = (x - (x.max(1, keepdims=True) + x.min(1, keepdims=True)) / 2 for x in (a, b))
    return ((a - b) ** 2).mean((1, 2), dtype=np.float64)
