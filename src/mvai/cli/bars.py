"""Progress on the terminal: a bar with rate and time left for each stage, on stderr.

Where stderr is no terminal there is one line a stage.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from mvai.progress import Progress, Report


def terminal_report() -> Report:
    """The report that fits where stderr goes."""
    return Bars() if sys.stderr.isatty() else Lines()


def _own_stderr() -> TextIO:
    """Stderr by a descriptor of its own: detection silences file descriptor 2 for moments, also
    while other stages run. Where stderr goes elsewhere, that place."""
    try:
        silenced = sys.stderr.fileno() == 2
    except OSError:
        silenced = False
    return os.fdopen(os.dup(2), "w", buffering=1) if silenced else sys.stderr


class Lines:
    """One line when a stage is done."""

    def __init__(self) -> None:
        self._file = _own_stderr()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        start, most = time.perf_counter(), 0

        def progress(done: int, total: int | None) -> None:
            nonlocal most
            most = max(most, done)

        yield progress
        seconds = time.perf_counter() - start
        self.note(f"{name}: {seconds:.1f} s{_rate(most, seconds)}")

    def note(self, text: str) -> None:
        print(text, file=self._file, flush=True)


def _rate(done: int, seconds: float) -> str:
    return f", {done} at {done / max(seconds, 1e-9):.1f} a second" if done > 1 else ""


class Bars:
    """A bar for the stage that runs, and a line for each one that is done."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=_own_stderr(), force_terminal=True)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        from rich import progress as rich_progress

        bars = rich_progress.Progress(
            rich_progress.TextColumn("{task.description:16}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            _RateColumn.make(),
            rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            transient=True,
        )
        start, most = time.perf_counter(), 0
        with bars:
            task = bars.add_task(name, total=None)

            def progress(done: int, total: int | None) -> None:
                nonlocal most
                most = max(most, done)
                bars.update(task, completed=done, total=total)

            yield progress
        seconds = time.perf_counter() - start
        self._console.print(
            f"[green]✓[/] {name:16} {seconds:6.1f} s{_rate(most, seconds)}", highlight=False
        )

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class _RateColumn:
    """Frames a second so far."""

    @staticmethod
    def make():
        from rich.progress import ProgressColumn, Task
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.speed:.1f}/s" if task.speed else "")

        return Rate()
