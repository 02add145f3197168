"""Point-wise mesh distance of pose transfer between bodies with known truth.

PMD (Wang et al., CVPR 2020): mean over the vertices and the three coordinates of the squared
difference after both meshes' bounding boxes are centred, in square metres. The four cells are those
of the publications: identities and poses that neural pose transfer was trained on ("seen", its 16
and 800) and others; unseen poses are those of the test people. Bodies differ in shape, posed bodies
also in heading, so every method meets what it meets in use.
"""

from __future__ import annotations

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
from mvai.progress import Silent, Stopwatch
from mvai.train.npt_data import (
    FRAMES_PER_CLIP,
    balanced,
    pose_bank,
    random_shapes,
    seen_shapes,
    turns,
    unseen_shapes,
    whole_rotations,
)
from mvai.types import Character, MeshSequence, MvaiError, Part

FPS = 30.0
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
    pmd_mean and pmd_worst over all pairs and poses in 1e-4 square metres, and pmd_copy, that of not
    posing the identity at all; or "refused" with the reason.
    """
    config = pipeline.configured("transfer", method)
    body = anny_body()
    rows = []
    for identity in ("seen", "unseen"):
        for pose, R in (("seen", poses.seen), ("unseen", poses.unseen)):
            row: dict[str, Any] = {
                "method": pipeline.method_name("transfer", config), "identity": identity,
                "pose": pose, "topology": "known" if known_topology else "none",
            }  # fmt: skip
            try:
                made, copied = _cell(config, body, identity, R, known_topology, pairs)
            except MvaiError as error:
                rows.append(row | {"refused": str(error)})
                continue
            rows.append(
                row
                | {
                    "pmd_mean": 1e4 * float(made.mean()), "pmd_worst": 1e4 * float(made.max()),
                    "pmd_copy": 1e4 * float(copied.mean()),
                }
            )  # fmt: skip
    return rows


def _cell(
    config: Any, body: LinearBody, identity: str, R: Tensor, known_topology: bool, pairs: int
) -> tuple[np.ndarray, np.ndarray]:
    """PMD of every pair and pose, and that of the identity as it is given."""
    from importlib import import_module

    module = import_module(type(config).__module__)
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
        faces, topology = body.faces, body.topology
        if not known_topology:
            order = np.random.default_rng(i).permutation(V.shape[1])
            V, faces, topology = V[:, order], np.argsort(order)[faces].astype(np.int32), ""
        rest = rest - [0, rest[:, 1].min(), 0]
        character = Character(
            f"{identity}_{i}", (Part("body", rest.astype(np.float32), body.faces),)
        )
        registration = pipeline.register(character, config, Stopwatch(Silent()))
        animation = module.drive(registration, MeshSequence(V, faces, FPS, topology), config)
        made.append(pmd(posed_vertices(animation), truth))
        copied.append(pmd(np.broadcast_to(rest, truth.shape), truth))
    return np.concatenate(made), np.concatenate(copied)


def pmd(
    a: Float[np.ndarray, "frames verts 3"], b: Float[np.ndarray, "frames verts 3"]
) -> Float[np.ndarray, " frames"]:
    """Mean squared difference of coordinates after centring both bounding boxes (m^2)."""
    a, b = (x - (x.max(1, keepdims=True) + x.min(1, keepdims=True)) / 2 for x in (a, b))
    return ((a - b) ** 2).mean((1, 2), dtype=np.float64)
