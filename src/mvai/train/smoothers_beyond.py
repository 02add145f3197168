"""Train the adaptive filter and the SmoothNet-style network on the clips that mesh2mesh has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from mvai.body.anny import anny_body
from mvai.nets.adaptive_filter import POINTS, AdaptiveFilter, AdaptiveFilterSettings
from mvai.nets.smoother_files import save_smoother
from mvai.nets.smoothnet import SmoothNet, SmoothNetSettings, smoothnet_loss
from mvai.nets.windows import Working
from mvai.smooth.adaptive_handles import body_handles
from mvai.train import smoothing_clips
from mvai.train.smoothers import SmootherRecipe, SmoothingBatch, train_smoother
from mvai.train.smoothing_clips import SmoothingClip, thinned

assert POINTS == smoothing_clips.POINTS, "the clips' joints are those of the network"


def joints_of(batch: SmoothingBatch) -> torch.Tensor:
    """Reconstructed joints of a batch."""
    return torch.einsum("jv,bfvd->bfjd", batch.regressor, batch.vertices)


def train_adaptive(
    clips: Sequence[SmoothingClip],
    validation: Sequence[SmoothingClip],
    settings: AdaptiveFilterSettings,
    recipe: SmootherRecipe,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[AdaptiveFilter, list[dict[str, float]]]:
    """A trained adaptive filter and its history. It sees joints only.

    Raises:
        MvaiError: see `train_smoother`.
    """
    torch.manual_seed(recipe.seed)
    network = AdaptiveFilter(settings)
    fps = clips[0].at_rate(recipe.rate).fps
    # Vertices follow several joints; what comes out must be right after that.
    handles = torch.from_numpy(body_handles(anny_body(), POINTS)[clips[0].indices])
    spread = torch.from_numpy(clips[0].regressor) @ handles

    def forward(batch: SmoothingBatch) -> torch.Tensor:
        # Without a view where a batch says so at random, so that it also works without a camera.
        view = batch.view
        if network.training:
            view = view * (torch.rand(len(view), 1) > 0.1)
        return network(
            joints_of(batch), batch.confidence, batch.up, view, fps, batch.mirrored, spread
        )

    history = train_smoother(
        network, forward, [as_joints(c) for c in clips], [as_joints(c) for c in validation],
        recipe, checkpoint, progress,
    )  # fmt: skip
    return network, history


def as_joints(clip: SmoothingClip) -> SmoothingClip:
    """A clip whose vertices are its joints."""
    eye = np.eye(len(clip.regressor), dtype=np.float32)
    return replace(
        clip, vertices=clip.joints().astype(np.float32), regressor=eye, indices=np.arange(len(eye))
    )


def train_smoothnet(
    clips: Sequence[SmoothingClip],
    validation: Sequence[SmoothingClip],
    settings: SmoothNetSettings,
    recipe: SmootherRecipe,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[SmoothNet, list[dict[str, float]]]:
    """A trained SmoothNet-style network and its history, with that paper's losses.

    Raises:
        MvaiError: see `train_smoother`.
    """
    torch.manual_seed(recipe.seed)
    network = SmoothNet(settings)

    def forward(batch: SmoothingBatch) -> torch.Tensor:
        smooth = network(batch.vertices.movedim(1, -1)).movedim(-1, 1)
        return torch.einsum("jv,bfvd->bfjd", batch.regressor, smooth)

    thin = thinned([*clips, *validation])
    history = train_smoother(
        network, forward, thin[: len(clips)], thin[len(clips) :], recipe, checkpoint, progress,
        smoothnet_loss,
    )  # fmt: skip
    return network, history


def save_adaptive(
    network: AdaptiveFilter, recipe: SmootherRecipe, rate: float, out: Path, training: dict
) -> None:
    """Writes a file of weights for `mvai.smooth.adaptive`."""
    save_smoother(
        out, "adaptive", network, network.settings, Working(recipe.frames, rate),
        {"recipe": asdict(recipe), **training},
    )  # fmt: skip


def save_smoothnet(
    network: SmoothNet, recipe: SmootherRecipe, rate: float, overlap: float, out: Path,
    training: dict,
) -> None:  # fmt: skip
    """Writes a file of weights for `mvai.smooth.smoothnet`."""
    save_smoother(
        out, "smoothnet", network, network.settings, Working(recipe.frames, rate, overlap),
        {"recipe": asdict(recipe), **training},
    )  # fmt: skip
