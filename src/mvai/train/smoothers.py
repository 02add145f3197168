"""Train networks that smooth: the losses of the paper, its recipe, validation and checkpoints.

Section 3.2 and 4.1 of Fu, Fu and Jiang (ICMR 2021): Adam with a learning rate of 3e-3 on random
continuous clips of T = 16 frames, T middle frames at test.

As in the measure (MPJPE), the joints in the losses are relative to the root, the middle of the
hips. Where the body's centre goes is not for these networks to say: from one camera its depth can
be metres off, and vertices reach them relative to it (`mvai.nets.windows`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mvai.io.atomic import written_whole
from mvai.train.smoothing_clips import HIPS, SmoothingClip, with_joints
from mvai.types import MvaiError


@dataclass(frozen=True)
class SmootherRecipe:
    """How a smoother is trained. The defaults are the paper's, where it says something."""

    frames: int = 16
    """T, the frames of a clip."""
    rate: float | None = None
    """Sampling rate in frames a second; None takes the clips' own."""
    learning_rate: float = 3e-3
    steps: int = 2000
    batch: int = 16
    motion_weight: float = 1.0
    """Weight of the motion loss; 0 trains without it."""
    anneal: bool = True
    """The learning rate falls to zero along a cosine; False keeps it as it is."""
    mirror: bool = True
    """Half of the clips are seen in a mirror (x becomes -x)."""
    validate_every: int = 100
    """Steps between validations; the weights with the least loss there are kept."""
    joints: int | None = None
    """Joints beside the hips that the loss of a step looks at, drawn anew each time; None takes
    all. They count for those left out, so the expected loss and gradient are those of all."""
    seed: int = 0


@dataclass(frozen=True)
class SmoothingBatch:
    """Windows of several clips, in camera axes, metres."""

    vertices: Float[Tensor, "batch frames verts 3"]
    """Relative to the surface's centroid of each frame."""
    regressor: Float[Tensor, "joints verts"]
    truth: Float[Tensor, "batch frames joints 3"]
    """True joints; where their origin is does not matter."""
    confidence: Float[Tensor, "batch frames"]
    up: Float[Tensor, "batch 3"]
    """The world's +Y axis."""
    view: Float[Tensor, "batch 3"]
    """Direction from the person to the camera, of length 1."""
    mirrored: Bool[Tensor, " batch"]
    """Where the clip is seen in a mirror, so that joints called left are the person's right."""
    hips: tuple[int, int] = HIPS
    """Which of the joints are the hips."""


Forward = Callable[[SmoothingBatch], Float[Tensor, "batch frames joints 3"]]
"""A network's smoothed joints."""
Loss = Callable[[Tensor, Tensor], Tensor]


def keypoint_loss(
    predicted: Float[Tensor, "*batch frames joints 3"],
    truth: Float[Tensor, "*batch frames joints 3"],
) -> Float[Tensor, ""]:
    """Equation 1: distances from the true joints, summed over joints, mean over frames."""
    return (predicted - truth).norm(dim=-1).sum(-1).mean()


def motion_loss(
    predicted: Float[Tensor, "*batch frames joints 3"],
    truth: Float[Tensor, "*batch frames joints 3"],
) -> Float[Tensor, ""]:
    """Equation 2: how much the joints' movements from frame to frame differ from the true ones.

    The norm is that of the difference of the two movements. As printed, its bracket closes after
    the first of them, which would subtract a vector from a length. The sum over frames 2 to T is
    divided by T.
    """
    frames = predicted.shape[-3]
    movement = predicted[..., 1:, :, :] - predicted[..., :-1, :, :]
    true_movement = truth[..., 1:, :, :] - truth[..., :-1, :, :]
    return (movement - true_movement).norm(dim=-1).sum(-1).sum(-1).mean() / frames


def smoothing_loss(
    predicted: Float[Tensor, "*batch frames joints 3"],
    truth: Float[Tensor, "*batch frames joints 3"],
    motion_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Equation 3: the sum of both."""
    return keypoint_loss(predicted, truth) + motion_weight * motion_loss(predicted, truth)


def root_relative(
    joints: Float[Tensor, "*batch frames joints 3"], hips: tuple[int, int] = HIPS
) -> Float[Tensor, "*batch frames joints 3"]:
    """Joints relative to the middle of the hips in each frame."""
    return joints - joints[..., list(hips), :].mean(-2, keepdim=True)


def drawn_joints(
    joints: int, count: int, rng: np.random.Generator
) -> tuple[list[int], Float[Tensor, "drawn 1"]]:
    """The hips and `count` other joints, drawn at random, and how much each counts.

    Those drawn stand for all that are not hips, so that the expectation of a sum over joints is the
    sum over all. The hips always take part, since the others are relative to them; they come first.
    """
    others = [j for j in range(joints) if j not in HIPS]
    count = min(count, len(others))
    drawn = sorted(rng.choice(others, count, replace=False).tolist())
    return [*HIPS, *drawn], torch.tensor([1.0, 1.0, *[len(others) / count] * count])[:, None]


def batch_of(
    clips: Sequence[SmoothingClip],
    starts: Sequence[int],
    frames: int,
    mirror: Sequence[bool],
    hips: tuple[int, int] = HIPS,
) -> SmoothingBatch:
    """Windows of `frames` frames of some clips. Shorter clips repeat their last frame."""
    rows: dict[str, list[np.ndarray]] = {
        k: [] for k in ("vertices", "truth", "confidence", "up", "view")
    }
    for clip, start, flip in zip(clips, starts, mirror, strict=True):
        index = np.minimum(np.arange(start, start + frames), clip.frames - 1)
        centre = clip.centre[index]
        sign = np.array([-1.0 if flip else 1.0, 1, 1], np.float32)
        rows["vertices"].append((clip.vertices[index] - centre[:, None]) * sign)
        rows["truth"].append(clip.truth[index] * sign)
        rows["confidence"].append(clip.confidence[index])
        rows["up"].append(clip.up * sign)
        towards = -centre.mean(0) * sign
        rows["view"].append(towards / np.linalg.norm(towards))
    tensors = {k: torch.from_numpy(np.stack(v).astype(np.float32)) for k, v in rows.items()}
    return SmoothingBatch(
        regressor=torch.from_numpy(clips[0].regressor), mirrored=torch.tensor(mirror), hips=hips,
        **tensors,
    )  # fmt: skip


def middle_windows(clips: Sequence[SmoothingClip], frames: int) -> SmoothingBatch:
    """The middle `frames` frames of every clip, as the paper tests on them."""
    starts = [max(0, (c.frames - frames) // 2) for c in clips]
    return batch_of(clips, starts, frames, [False] * len(clips))


def train_smoother(
    network: nn.Module,
    forward: Forward,
    clips: Sequence[SmoothingClip],
    validation: Sequence[SmoothingClip],
    recipe: SmootherRecipe,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    loss: Loss | None = None,
    reach: int = 0,
) -> list[dict[str, float]]:
    """Trains a network in place and leaves it with the weights that did best on validation.

    Args:
        forward: calls the network.
        checkpoint: file to go on from, if it is of the same recipe, and to write at every
            validation; removed in the end.
        progress: hears of steps.
        loss: of predicted and true joints; None takes the paper's.
        reach: how far in vertex order the network sees, where the recipe draws joints.

    Returns:
        Loss on both, at every validation.

    Raises:
        MvaiError: there are no clips, or the checkpoint cannot be read or written.
    """
    if not clips or not validation:
        raise MvaiError("A smoother needs clips to train on and clips to validate on.")

    def error(batch: SmoothingBatch, weights: Tensor | float = 1.0) -> Tensor:
        predicted = root_relative(forward(batch), batch.hips)
        truth = root_relative(batch.truth, batch.hips)
        # The losses are sums of norms: a position times a weight counts that much.
        predicted, truth = weights * predicted, weights * truth
        if loss is not None:
            return loss(predicted, truth)
        return smoothing_loss(predicted, truth, recipe.motion_weight)

    clips = [c.at_rate(recipe.rate) for c in clips]
    tested = middle_windows([c.at_rate(recipe.rate) for c in validation], recipe.frames)
    run = _Run(network, recipe)
    if checkpoint is not None and checkpoint.exists():
        run.go_on_from(checkpoint)
    running: list[float] = []
    for step in range(run.step, recipe.steps):
        network.train()
        value = error(*_drawn_batch(clips, recipe, run.rng, reach))
        run.take_step(value)
        running.append(value.item())
        progress(step + 1, recipe.steps)
        if (step + 1) % recipe.validate_every and step + 1 < recipe.steps:
            continue
        network.eval()
        with torch.no_grad():
            run.validated(step + 1, float(np.mean(running)), error(tested).item())
        running.clear()
        if checkpoint is not None:
            run.keep(checkpoint)
    network.load_state_dict(run.best)
    network.eval().requires_grad_(False)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return run.history


def _drawn_batch(
    clips: Sequence[SmoothingClip], recipe: SmootherRecipe, rng: np.random.Generator, reach: int
) -> tuple[SmoothingBatch, Tensor]:
    """Windows of a step, drawn at random, and how much each joint counts."""
    chosen = rng.integers(0, len(clips), recipe.batch)
    starts = [int(rng.integers(0, max(1, clips[i].frames - recipe.frames + 1))) for i in chosen]
    flips = [bool(recipe.mirror and r < 0.5) for r in rng.random(recipe.batch)]
    windows, hips, weights = [clips[i] for i in chosen], HIPS, torch.ones(1)
    if recipe.joints is not None:
        joints, weights = drawn_joints(len(clips[0].regressor), recipe.joints, rng)
        windows, hips = [with_joints(c, joints, reach) for c in windows], (0, 1)
    return batch_of(windows, starts, recipe.frames, flips, hips), weights


class _Run:
    """A training on its way: all that a checkpoint holds."""

    def __init__(self, network: nn.Module, recipe: SmootherRecipe) -> None:
        self.network = network
        self.rng = np.random.default_rng(recipe.seed)
        self.optimiser = torch.optim.Adam(network.parameters(), recipe.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser,
            lambda s: 0.5 + 0.5 * float(np.cos(np.pi * s / recipe.steps)) if recipe.anneal else 1.0,
        )
        self.best = copy.deepcopy(network.state_dict())
        """The weights that did best on validation."""
        self.history: list[dict[str, float]] = []
        self.step = 0
        shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
        self.purpose = repr((asdict(recipe), shapes))

    def take_step(self, value: Tensor) -> None:
        """Down the gradient of a loss."""
        self.optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()

    def validated(self, step: int, trained: float, held: float) -> None:
        """Notes the losses after a step on clips to train on and on those held back."""
        if not self.history or held < min(h["validation"] for h in self.history):
            self.best = copy.deepcopy(self.network.state_dict())
        self.history.append({"step": step, "train": trained, "validation": held})
        self.step = step

    def keep(self, path: Path) -> None:
        state = {
            "purpose": self.purpose, "network": self.network.state_dict(), "best": self.best,
            "optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict(),
            "history": self.history, "step": self.step, "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }  # fmt: skip
        with written_whole(path) as temporary:
            torch.save(state, temporary)

    def go_on_from(self, path: Path) -> None:
        state = _read_checkpoint(path, self.purpose)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.best, self.history, self.step = state["best"], state["history"], state["step"]
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])


def _read_checkpoint(path: Path, purpose: str) -> dict:
    try:
        state = torch.load(path, weights_only=True)
    except Exception as error:
        raise MvaiError(f"{path}: this checkpoint is damaged; delete it to start anew.") from error
    if state.get("purpose") != purpose:
        raise MvaiError(f"{path}: this checkpoint is of another recipe; delete it to start anew.")
    return state
