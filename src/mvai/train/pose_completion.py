"""The test that decides between pose priors: 3D poses from noisy joints seen without depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.nets.pose_prior import GaussianMixture, PoseVae
from mvai.types.names import BODY_JOINTS

NOISE_M = 0.010
"""Noise of the observed coordinates in the common test."""
Prior = GaussianMixture | PoseVae | None


class BodyChain:
    """Positions of the joints (hands' middle knuckles among them) of the mean body."""

    def __init__(self, body: LinearBody) -> None:
        # The other finger joints are left out of the tree, which halves the work.
        names = (*BODY_JOINTS, "LeftHandMiddle1", "RightHandMiddle1")
        rows = [body.joint(n) for n in names]
        self.tree = replace(
            body,
            joints=names,
            parents=(-1, *(rows.index(body.parents[r]) for r in rows[1:])),
            joint_template=body.joint_template[rows],
        )

    def __call__(self, rotations: Float[Tensor, "n 22 3 3"]) -> Float[Tensor, "n points 3"]:
        n = len(rotations)
        R = torch.cat([rotations, torch.eye(3).expand(n, 2, 3, 3)], 1)
        rest = self.tree.joint_template[None]
        t = self.tree.forward_kinematics(rest, R, torch.zeros(n, 3))[1]
        return t - t[:, :1]


def with_root(
    body_rotations: Float[Tensor, "n 21 3 3"], root: Float[Tensor, "n 3 3"] | None = None
) -> Float[Tensor, "n 22 3 3"]:
    """Rotations of all body joints; a root that is not given stands upright."""
    if root is None:
        root = torch.eye(3).expand(len(body_rotations), 3, 3)
    return torch.cat([root[:, None], body_rotations], 1)


def seen_from_the_front(
    poses: Float[Tensor, "n 21 3"], chain: BodyChain, seed: int
) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n points 2"], Float[Tensor, "n points 3"]]:
    """Root rotations (any heading), noisy x and y of the joints, true 3D joints (metres)."""
    generator = torch.Generator().manual_seed(seed)
    heading = torch.rand(len(poses), generator=generator) * 2 * torch.pi
    zero = torch.zeros_like(heading)
    root = matrix_from_axis_angle(torch.stack([zero, heading, zero], -1))
    true = chain(with_root(matrix_from_axis_angle(poses), root))
    noise = torch.randn(true[..., :2].shape, generator=generator)
    return root, true[..., :2] + NOISE_M * noise, true


def fit_observed(
    prior: Prior,
    weight: float,
    start: Float[Tensor, "21 3"],
    root: Float[Tensor, "n 3 3"],
    seen: Float[Tensor, "n points 2"],
    chain: BodyChain,
    steps: int = 200,
) -> Float[Tensor, "n points 3"]:
    """3D joints of the poses that explain the seen coordinates under a prior (None: plain L2).

    Minimises sum |xy - seen|^2 / (2 sigma^2) + weight * energy by Adam. The heading is given.
    """
    n = len(seen)
    if isinstance(prior, PoseVae):
        free = torch.zeros(n, prior.latent, requires_grad=True)
    else:
        free = start.expand(n, -1, -1).clone().requires_grad_(True)

    def rotations() -> Tensor:
        return prior.decode(free) if isinstance(prior, PoseVae) else matrix_from_axis_angle(free)

    optimiser = torch.optim.Adam([free], 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 1e-3)
    for _ in range(steps):
        R = rotations()
        data = ((chain(with_root(R, root))[..., :2] - seen) ** 2).sum((-1, -2)) / (2 * NOISE_M**2)
        if isinstance(prior, GaussianMixture):
            energy = prior.energy(R)
        else:
            away = free if isinstance(prior, PoseVae) else free - start
            energy = 0.5 * away.flatten(1).square().sum(-1)
        optimiser.zero_grad()
        (data + weight * energy).sum().backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return chain(with_root(rotations(), root))


WEIGHT_GRID: Mapping[str, tuple[float, ...]] = {
    "plain L2": (10.0, 30.0, 100.0, 300.0),
    "Gaussian mixture": (1.0, 3.0, 10.0, 30.0),
    "VAE": (1.0, 3.0, 10.0),
}
"""Prior weights tried on training poses; the best is used on held-out ones."""


def completion_errors_mm(
    priors: Mapping[str, Prior],
    train: Float[Tensor, "n 21 3"],
    held_out: Float[Tensor, "m 21 3"],
    chain: BodyChain,
    report: Callable[[float], None],
    count: int = 192,
) -> dict[str, dict[str, float]]:
    """Mean 3D joint error (mm) on held-out poses for every prior at its best weight."""
    start = train.mean(0)

    def sample(poses: Tensor) -> Tensor:
        return poses[torch.linspace(0, len(poses) - 1, count).round().long()]

    tuning, test = sample(train), sample(held_out)
    results: dict[str, dict[str, float]] = {}
    for i, (name, prior) in enumerate(priors.items()):

        def error(poses: Tensor, weight: float, seed: int, prior: Prior = prior) -> float:
            root, seen, true = seen_from_the_front(poses, chain, seed)
            found = fit_observed(prior, weight, start, root, seen, chain)
            return 1000 * float((found - true).norm(dim=-1).mean())

        tuned = {w: error(tuning, w, 1) for w in WEIGHT_GRID[name]}
        best = min(tuned, key=lambda w: tuned[w])
        results[name] = {
            "weight": best, "training_mm": tuned[best], "held_out_mm": error(test, best, 2),
        }  # fmt: skip
        report((i + 1) / len(priors))
    return results
