"""What several commands share: arguments, and what is said at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from mvai.progress import peak_memory_gb

if TYPE_CHECKING:
    from mvai.imitation import Imitation

Positional = tyro.conf.Positional
Outputs = Annotated[
    tyro.conf.UseAppendAction[list[Path]], tyro.conf.arg(name="output", aliases=["-o"])
]
Body = Literal["anny", "smpl", "smplh", "smplx"]


def subcommand(name: str) -> Any:
    """For the type of a command: what it is called on the command line."""
    return tyro.conf.subcommand(name, prefix_name=False)


def required(outputs: list[Path], suggestion: Path) -> list[Path]:
    from mvai.types import MvaiError

    if not outputs:
        raise MvaiError(f"Name a file to write, for example: -o {suggestion}.")
    return outputs


def summary(done: Imitation, outputs: Sequence[Path], seconds: float) -> str:
    """What was written, how long it took and how much memory at most."""
    sequence = done.sequence
    frames = 0 if sequence is None else sequence.frames
    stages = ", ".join(f"{name} {s:.1f} s" for name, s in done.seconds.items())
    return "\n".join(
        [
            *(f"wrote {path}" for path in outputs),
            stages,
            f"{frames} frames in {seconds:.1f} s: {frames / seconds:.1f} frames a second; "
            f"peak memory {peak_memory_gb():.2f} GB",
        ]
    )
