"""Bodies that move, for tests of neural pose transfer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.types import Character, MeshSequence, Part


def acting(frames: int = 4, seed: int = 0) -> tuple[MeshSequence, torch.Tensor, np.ndarray]:
    """Our body waving an arm, turned and moved; its local rotations; its vertices at rest."""
    body = anny_body()
    shape = 0.7 * torch.randn(1, body.shape_size, generator=torch.Generator().manual_seed(seed))
    R = torch.eye(3).repeat(frames, len(body.joints), 1, 1)
    for joint, axis in (("LeftArm", [0, 0, 0.9]), ("RightUpLeg", [-0.7, 0, 0])):
        turn = np.linspace(0, 1, frames)[:, None] * np.array(axis)
        matrix = Rotation.from_rotvec(turn).as_matrix().astype(np.float32)
        R[:, body.joint(joint)] = torch.from_numpy(matrix)
    world = R.clone()
    world[:, 0] = torch.from_numpy(Rotation.from_euler("y", 1.0).as_matrix().astype(np.float32))
    V = body.vertices(shape, world, torch.tensor([[0.3, 1.0, -2.0]]).expand(frames, 3)).numpy()
    rest = body.rest(shape)[0][0].numpy()
    return MeshSequence(V, body.faces, 30.0, body.topology), R, rest - [0, rest[:, 1].min(), 0]


def body_character(rest: np.ndarray) -> Character:
    return Character("body", (Part("body", rest.astype(np.float32), anny_body().faces),))


def shuffled(sequence: MeshSequence) -> MeshSequence:
    """The same mesh with its vertices in another order, in no known topology."""
    order = np.random.default_rng(0).permutation(sequence.vertices.shape[1])
    faces = np.argsort(order)[sequence.faces].astype(np.int32)
    return replace(sequence, vertices=sequence.vertices[:, order], faces=faces, topology="")
