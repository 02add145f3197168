"""From a benchmark's reconstructions to files of weights of the smoothers that learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from mvai.nets.adaptive_filter import AdaptiveFilterSettings
from mvai.nets.mesh2mesh import Mesh2MeshSettings
from mvai.nets.smoothnet import SmoothNetSettings
from mvai.progress import Report
from mvai.train.mesh2mesh import save_mesh2mesh, train_mesh2mesh
from mvai.train.smoothers import SmootherRecipe
from mvai.train.smoothers_beyond import (
    save_adaptive,
    save_smoothnet,
    train_adaptive,
    train_smoothnet,
)
from mvai.train.smoothing_clips import read_clips
from mvai.types import MvaiError

Kind = Literal["mesh2mesh", "adaptive", "smoothnet"]
MESH2MESH_OVERLAP = 0.25
"""Windows of mesh2mesh overlap by this share: as good as by half, at two thirds of the time."""
RECIPES = {
    "mesh2mesh": SmootherRecipe(steps=1000),
    "adaptive": SmootherRecipe(frames=32, steps=600),
    "smoothnet": SmootherRecipe(frames=32, steps=3000, learning_rate=1e-3),
}
"""How the shipped weights are trained. A clip of the benchmark has 32 frames."""


def train_weights(
    kind: Kind,
    benchmark: Path,
    backbone: str,
    out: Path,
    report: Report,
    rate: float | None = None,
    seed: int = 0,
) -> str:
    """Trains on the training people, validates on the validation people, writes the weights.

    An interrupted run goes on from a checkpoint beside the file of weights.

    Args:
        kind: which smoother.
        benchmark: folder of the benchmark, reconstructed.
        backbone: the reconstruction whose errors are learnt.
        out: file of weights.
        report: hears of the training.
        rate: sampling rate in frames a second; None takes the clips' own.
        seed: of the random numbers.

    Returns:
        A sentence on the loss before and after.

    Raises:
        MvaiError: the rate is none, the benchmark has no such reconstructions, or the file cannot
            be written.
    """
    if rate is not None and not 0 < rate < float("inf"):
        raise MvaiError(f"rate {rate:g}: this is no frame rate; give frames a second.")
    clips, held = (read_clips(benchmark, backbone, p) for p in ("train", "validation"))
    recipe = replace(RECIPES[kind], rate=rate, seed=seed)
    fps = clips[0].at_rate(rate).fps
    checkpoint = out.with_name(out.name + ".checkpoint")
    training = {"backbone": backbone, "clips": len(clips), "validation": len(held)}
    with report.stage(f"train {kind}") as progress:
        if kind == "mesh2mesh":
            settings = Mesh2MeshSettings()
            network, history = train_mesh2mesh(clips, held, settings, recipe, checkpoint, progress)
            save_mesh2mesh(
                network, recipe, fps, MESH2MESH_OVERLAP, out, training | {"history": history}
            )
        elif kind == "adaptive":
            adaptive, history = train_adaptive(
                clips, held, AdaptiveFilterSettings(), recipe, checkpoint, progress
            )
            save_adaptive(adaptive, recipe, fps, out, training | {"history": history})
        else:
            smoothnet, history = train_smoothnet(
                clips, held, SmoothNetSettings(), recipe, checkpoint, progress
            )
            save_smoothnet(smoothnet, recipe, fps, 0.5, out, training | {"history": history})
    best = min(history, key=lambda h: h["validation"])
    return (
        f"{len(clips)} clips; loss on {len(held)} clips of other people {best['validation']:.4g} "
        f"at step {best['step']:.0f}, {history[0]['validation']:.4g} at step "
        f"{history[0]['step']:.0f}."
    )
