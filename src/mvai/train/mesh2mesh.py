"""Train mesh2mesh by the paper's recipe on what reconstruction makes of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from mvai.nets.mesh2mesh import Mesh2Mesh, Mesh2MeshSettings
from mvai.nets.smoother_files import save_smoother
from mvai.nets.windows import Working
from mvai.train.smoothers import SmootherRecipe, SmoothingBatch, train_smoother
from mvai.train.smoothing_clips import SmoothingClip, thinned


def vertex_reach(settings: Mesh2MeshSettings) -> int:
    """How far in vertex order a network sees; its clips need that many neighbours."""
    return settings.layers * settings.padding[1]


def train_mesh2mesh(
    clips: Sequence[SmoothingClip],
    validation: Sequence[SmoothingClip],
    settings: Mesh2MeshSettings,
    recipe: SmootherRecipe,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Mesh2Mesh, list[dict[str, float]]]:
    """A trained network and its history.

    Args:
        clips: with `vertex_reach(settings)` neighbours of the regressor's vertices.

    Raises:
        MvaiError: see `train_smoother`.
    """
    torch.manual_seed(recipe.seed)
    network = Mesh2Mesh(settings)
    reach = vertex_reach(settings)
    thin = thinned([*clips, *validation], reach)

    def forward(batch: SmoothingBatch) -> torch.Tensor:
        smooth = network.training_forward(batch.vertices)
        return torch.einsum("jv,bfvd->bfjd", batch.regressor, smooth)

    history = train_smoother(
        network, forward, thin[: len(clips)], thin[len(clips) :], recipe, checkpoint, progress,
        reach=reach,
    )  # fmt: skip
    return network, history


def save_mesh2mesh(
    network: Mesh2Mesh, recipe: SmootherRecipe, rate: float, overlap: float, out: Path,
    training: dict,
) -> None:  # fmt: skip
    """Writes a file of weights for `mvai.smooth.mesh2mesh`.

    Args:
        rate: frames a second that the network was trained at.
        overlap: share of a window that the next one covers again when a sequence is smoothed.
    """
    save_smoother(
        out, "mesh2mesh", network, network.settings, Working(recipe.frames, rate, overlap),
        {"recipe": asdict(recipe), **training},
    )  # fmt: skip
