"""Train the landmark correction on rendered motion capture (see nets/landmark_correction.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mvai.benchmark.poses import PoseClip
from mvai.benchmark.scenes import Scene
from mvai.body.model import LinearBody
from mvai.io.atomic import written_whole
from mvai.nets.landmark_correction import (
    POINTS,
    LandmarkCorrection,
    corrected,
    load_landmark_correction,
)
from mvai.train.landmark_windows import augmented, padded, random_view
from mvai.train.projected_clips import projected_clips
from mvai.train.true_landmarks import LIMBS, truth
from mvai.types import Keypoints

FURTHER = 0.5
"""Share of the learning rate when training goes on from weights."""


@dataclass(frozen=True)
class Recipe:
    """How the network is trained."""

    steps: int = 10_000
    batch: int = 32
    drawn: float = 0.75
    """Share of every batch that is drawn clips; the others are projected."""
    learning_rate: float = 1e-3
    width: int = 384
    dropout: float = 0.1
    weight_decay: float = 0.02
    projected: int = 6000
    """How many clips are projected instead of drawn."""
    borrowed: float = 0.7
    """Share of the projected clips with errors that the detector made elsewhere; the others have
    errors drawn at random."""
    seed: int = 0


def loss(position: torch.Tensor, log_deviation: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Laplace negative log-likelihood across and along the view, and the error of velocity."""
    d = position - target
    across, along = d[..., :2].norm(dim=-1), d[..., 2].abs()
    s = log_deviation
    likelihood = (across / s[..., 0].exp() + 2 * s[..., 0]) + (along / s[..., 1].exp() + s[..., 1])
    velocity = (d[:, 1:] - d[:, :-1]).norm(dim=-1)
    return likelihood.mean() + 10 * velocity.mean() + 5 * d.norm(dim=-1).mean()


def train_landmark_correction(
    body: LinearBody,
    clips: list[tuple[Scene, Keypoints]],
    captures: list[PoseClip],
    out: Path,
    recipe: Recipe | None = None,
    start: Path | None = None,
    keep: float = 0.0,
    report: Callable[[int, int, float], None] = lambda step, steps, value: None,
) -> LandmarkCorrection:
    """Fit the network to rendered clips and write its weights, in half precision, to `out`.

    Args:
        start: weights to go on from, at `FURTHER` times the learning rate; None begins at random.
        keep: share of these in the weights that are written. What was learnt before serves better
            where people are unlike the new clips (Wortsman et al., Robust Fine-Tuning of Zero-Shot
            Models, CVPR 2022).

    Raises:
        MvaiError: `start` cannot be read, or `out` not be written.
    """
    from safetensors.torch import save_file

    recipe = recipe or Recipe()
    known = load_landmark_correction(start).state_dict() if start else None
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    drawn, of_drawn = len(clips), round(recipe.drawn * recipe.batch)
    clips = [
        *clips, *projected_clips(body, clips, captures, recipe.projected, recipe.borrowed, rng)
    ]  # fmt: skip
    targets = [truth(body, scene) for scene, _ in clips]
    width = len(known["enter.weight"]) if known else recipe.width
    network = LandmarkCorrection(width, recipe.dropout)
    if known:
        network.load_state_dict(known)
    rate = recipe.learning_rate * (FURTHER if known else 1.0)
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=recipe.steps)
    network.train()
    for step in range(recipe.steps):
        chosen = np.concatenate(
            [
                rng.integers(0, drawn, of_drawn),
                rng.integers(drawn, len(clips), recipe.batch - of_drawn),
            ]
        )
        views = [random_view(clips[i][1], rng) for i in chosen]
        pairs = [
            (augmented(clips[i][1], view, rng), padded(view.points(targets[i])))
            for i, view in zip(chosen, views, strict=True)
        ]
        x, y = (torch.from_numpy(np.stack(a).astype(np.float32)) for a in zip(*pairs, strict=True))
        position, log_deviation = network(x)
        value = loss(position, log_deviation, y)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(step, recipe.steps, value.item())
    tensors = network.state_dict()
    if known:
        tensors = {k: v + keep * (known[k] - v) for k, v in tensors.items()}
    with written_whole(out) as temporary:
        save_file({k: v.half().contiguous() for k, v in tensors.items()}, temporary)
    return load_landmark_correction(out)


def errors_mm(
    body: LinearBody, clips: list[tuple[Scene, Keypoints]], network: LandmarkCorrection
) -> dict[str, float]:
    """Mean error of 12 limb landmarks relative to the hips: the detector's own, corrected, and
    lifted from 2D alone (mm, mean over clips)."""
    rows = []
    for scene, keypoints in clips:
        assert keypoints.xyz_m is not None
        want = truth(body, scene)[:, LIMBS]
        detector = np.nan_to_num(keypoints.xyz_m[:, :POINTS])[:, LIMBS]
        both, _ = corrected(keypoints, network)
        lifted, _ = corrected(replace(keypoints, xyz_m=None), network)
        rows.append(
            [
                np.linalg.norm(p - want, axis=-1).mean()
                for p in (detector, both[:, LIMBS], lifted[:, LIMBS])
            ]
        )
    return dict(zip(("detector", "corrected", "lifted"), 1000 * np.mean(rows, axis=0), strict=True))


def errors_in_words(errors: dict[str, float]) -> str:
    """One sentence for people."""
    return (
        f"Held-out people, 12 limb landmarks: the detector is {errors['detector']:.1f} mm off, "
        f"corrected {errors['corrected']:.1f} mm, from 2D alone {errors['lifted']:.1f} mm."
    )
