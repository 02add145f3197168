"""Limited-memory BFGS over many independent problems at once.

Fitting a body to every frame of a clip is the same small problem a few hundred times. Solved one
after another almost all the time goes into launching tiny tensor operations; here the problems
keep their own curvature history and their own step length but share every operation. A sum of
coupled terms is the special case of one problem.

Algorithm: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 7.4 (two-loop
recursion) and 3.1 (backtracking under the Armijo condition); pairs that would break positive
curvature are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

TRIES = 3
"""Step lengths tried before a problem sits an iteration out."""

Energy = Callable[[Tensor], Tensor]


def minimise(
    energy: Energy,
    x: Float[Tensor, "problems size"],
    iterations: int,
    history: int = 10,
    tolerance: float = 1e-6,
) -> Float[Tensor, "problems size"]:
    """Minimise `energy` from `x`.

    Args:
        energy: maps (problems, size) to (problems,); problem i must depend on row i alone.
        x: where to start.
        iterations: at most this many steps; each costs one energy with gradient, and seldom more.
        history: curvature pairs kept.
        tolerance: a problem stops once a step lowers its energy by less than this share.

    Returns: the best point met, detached.
    """
    x = x.detach().clone()
    e, g = _value_and_gradient(energy, x)
    problems = x.shape[0]
    S = x.new_zeros(history, *x.shape)
    Y = torch.zeros_like(S)
    rho = x.new_zeros(history, problems)
    step = (1.0 / g.norm(dim=1).clamp(min=1e-12)).clamp(max=1.0) * 0.1
    alive = torch.ones(problems, dtype=torch.bool)
    patience = torch.zeros(problems, dtype=torch.int)
    for k in range(iterations):
        d = -_two_loop(g, S, Y, rho, k)
        slope = (d * g).sum(1)
        d = torch.where((slope < 0)[:, None], d, -g)
        slope = torch.where(slope < 0, slope, -(g * g).sum(1))
        t = step if k == 0 else torch.ones_like(step)
        t = torch.where(alive, t, torch.zeros_like(t))
        x_new, e_new, g_new = x, e, g
        pending = alive.clone()
        for _ in range(TRIES):
            trial = x + t[:, None] * d
            e_trial, g_trial = _value_and_gradient(energy, trial)
            good = pending & (e_trial <= e + 1e-4 * t * slope) & g_trial.isfinite().all(1)
            x_new = torch.where(good[:, None], trial, x_new)
            e_new = torch.where(good, e_trial, e_new)
            g_new = torch.where(good[:, None], g_trial, g_new)
            pending = pending & ~good
            if not pending.any():
                break
            t = torch.where(pending, t * 0.3, torch.zeros_like(t))
        s, y = x_new - x, g_new - g
        sy = (s * y).sum(1)
        keep = sy > 1e-10 * (y * y).sum(1)
        slot = k % history
        S[slot] = torch.where(keep[:, None], s, torch.zeros_like(s))
        Y[slot] = torch.where(keep[:, None], y, torch.zeros_like(y))
        rho[slot] = torch.where(keep, 1 / torch.where(keep, sy, torch.ones_like(sy)), 0 * sy)
        flat = (e - e_new) <= tolerance * e.abs().clamp(min=1e-12)
        patience = torch.where(flat, patience + 1, torch.zeros_like(patience))
        alive = alive & (patience < 3)
        x, e, g = x_new, e_new, g_new
        if not alive.any():
            break
    return x


def _value_and_gradient(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        e = energy(x)
        (g,) = torch.autograd.grad(e.sum(), x)
    return e.detach(), g


def _two_loop(g: Tensor, S: Tensor, Y: Tensor, rho: Tensor, k: int) -> Tensor:
    """The product of the inverse Hessian estimate with the gradient, for every problem."""
    history = len(S)
    newest_first = [i % history for i in range(k - 1, max(k - 1 - history, -1), -1)]
    q = g.clone()
    alpha = {}
    for i in newest_first:
        alpha[i] = rho[i] * (S[i] * q).sum(1)
        q = q - alpha[i][:, None] * Y[i]
    if newest_first:
        i = newest_first[0]
        yy = (Y[i] * Y[i]).sum(1)
        sy = (S[i] * Y[i]).sum(1)
        gamma = torch.where(yy > 0, sy / yy.clamp(min=1e-20), torch.ones_like(yy))
        q = q * gamma[:, None]
    for i in reversed(newest_first):
        beta = rho[i] * (Y[i] * q).sum(1)
        q = q + (alpha[i] - beta)[:, None] * S[i]
    return q
