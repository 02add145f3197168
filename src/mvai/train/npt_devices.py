"""Training in several processes at once, one a device, through Lightning Fabric.

Every process draws its own batches and the gradients are averaged before each step, so all of them
hold the same weights throughout. One process does without Fabric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from mvai.types import MvaiError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Team(Protocol):
    """The processes that train together, seen from one of them."""

    @property
    def rank(self) -> int:
        """Its number; only number 0 writes files."""
        ...

    @property
    def device(self) -> str | torch.device: ...

    def average(self, parameters: Sequence[Tensor]) -> None:
        """Give all processes the mean of their gradients."""
        ...

    def agreed(self, value: float) -> float:
        """What number 0 says."""
        ...


class Alone:
    """One process."""

    rank = 0

    def __init__(self, device: str) -> None:
        self.device = device

    def average(self, parameters: Sequence[Tensor]) -> None:
        """See `Team`."""

    def agreed(self, value: float) -> float:
        """See `Team`."""
        return value


class Several:
    """One of the processes that Fabric started."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.rank = fabric.global_rank
        self.device = fabric.device

    def average(self, parameters: Sequence[Tensor]) -> None:
        """See `Team`."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = self.fabric.all_reduce(_flatten_dense_tensors(gradients), reduce_op="mean")
        for p, mean in zip(parameters, _unflatten_dense_tensors(flat, gradients), strict=True):
            p.grad = mean

    def agreed(self, value: float) -> float:
        """See `Team`."""
        return float(self.fabric.broadcast(torch.tensor(value, dtype=torch.double)))


def in_processes(function: Callable[..., Any], devices: int, device: str, *args: Any) -> None:
    """Call `function(team, *args)` in as many processes as there are devices to use.

    Raises:
        MvaiError: Fabric is not installed, or there are not so many devices.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise MvaiError(
            "Training on several devices needs Lightning Fabric; install it with "
            "`pip install 'mvai[train]'`."
        ) from error
    kind = device.split(":")[0]
    if kind == "cuda" and torch.cuda.device_count() < devices:
        raise MvaiError(
            f"--devices {devices}: there are {torch.cuda.device_count()} GPUs here; ask for no "
            "more than there are."
        )
    fabric = Fabric(accelerator=kind, devices=devices, strategy="ddp_spawn")
    # Fabric looks into its arguments and refuses frozen dataclasses; a partial it leaves alone.
    # Its type knows of no arguments beside itself, its documentation does.
    launch = cast(Callable[..., Any], fabric.launch)
    launch(_one, partial(_in_team, function, args), torch.get_num_threads())


def _one(fabric: Fabric, work: Callable[[Team], None], threads: int) -> None:
    """What each process does; processes on one CPU share its threads."""
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, threads // fabric.world_size))
    work(Several(fabric))
    # Threads of the process group that are left to the end of the interpreter abort it at times.
    fabric.barrier()
    torch.distributed.destroy_process_group()


def _in_team(function: Callable[..., Any], args: tuple[Any, ...], team: Team) -> None:
    function(team, *args)
