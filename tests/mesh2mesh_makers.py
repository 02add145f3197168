"""Random mesh2mesh networks, loose meshes and noisy clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mvai.nets.mesh2mesh import Mesh2Mesh, Mesh2MeshSettings
from mvai.nets.smoother_files import save_smoother
from mvai.nets.windows import (
    Working,
)
from mvai.train.smoothers import (
    SmootherRecipe,
)
from mvai.train.smoothing_clips import (
    POINTS,
    SmoothingClip,
)
from mvai.types import MeshSequence

PAPER = Mesh2MeshSettings()


def random_network(seed: int = 0, **changes) -> Mesh2Mesh:
    torch.manual_seed(seed)
    network = Mesh2Mesh(dataclasses.replace(PAPER, **changes))
    for layer in network.layers:
        assert isinstance(layer, nn.Conv3d) and layer.bias is not None
        nn.init.normal_(layer.weight, std=0.25)
        nn.init.normal_(layer.bias, std=0.05)
    return network.eval()


def saved(path: Path, network: Mesh2Mesh, rate: float = 25.0, overlap: float = 0.5) -> Path:
    save_smoother(path, "mesh2mesh", network, network.settings, Working(16, rate, overlap), {})
    return path


def tetrahedra(count: int, frames: int, seed: int = 0) -> MeshSequence:
    """A walk of loose tetrahedra, float32."""
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * 0.1
    vertices = (rng.normal(size=(count, 1, 3)) * 0.5 + corners).reshape(-1, 3)
    path = np.cumsum(rng.normal(size=(frames, 1, 3)) * 0.02, axis=0)
    wobble = rng.normal(size=(frames, len(vertices), 3)) * 0.02
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    faces = (faces + 4 * np.arange(count)[:, None, None]).reshape(-1, 3)
    return MeshSequence((vertices + path + wobble).astype(np.float32), faces, 25.0)


def noisy_clips(count: int, seed: int = 0) -> list[SmoothingClip]:
    """Swinging points with noise and a bias in depth; two vertices a joint."""
    rng = np.random.default_rng(seed)
    clips = []
    k = len(POINTS)
    A = np.repeat(np.eye(k, dtype=np.float32), 2, axis=1) / 2
    for i in range(count):
        t = np.arange(32)[:, None, None] / 25
        base = rng.normal(size=(1, k, 3)) * 0.4
        truth = base + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 1, (1, k, 3)) * t + i)
        seen = truth + np.array([0, 0, 0.15]) * truth + rng.normal(size=truth.shape) * 0.03
        vertices = np.repeat(seen, 2, axis=1) + np.tile([[0.02, 0, 0], [-0.02, 0, 0]], (k, 1))
        clips.append(
            SmoothingClip(
                f"clip {i}", (vertices + np.array([0, 0, 3])).astype(np.float32),
                np.tile(np.array([0, 0, 3], np.float32), (32, 1)), A, np.arange(2 * k),
                truth.astype(np.float32), 25.0, np.array([0, -1, 0], np.float32),
                np.ones(32, np.float32),
            )
        )  # fmt: skip
    return clips


RECIPE = SmootherRecipe(steps=60, batch=4, validate_every=20)
