"""How a run tells what it is doing, and how long it took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

Progress = Callable[[int, int | None], None]
"""Called with how much is done and how much there is (None: unknown)."""


class Report(Protocol):
    """Hears of every stage of a run."""

    def stage(self, name: str) -> AbstractContextManager[Progress]:
        """Entered when a stage begins and left when it ends; takes its progress meanwhile."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know, in one sentence."""
        ...


class Silent:
    """Says nothing."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        yield lambda done, total: None

    def note(self, text: str) -> None:
        pass


class Stopwatch:
    """Passes everything on to another report and takes the time of each stage."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.seconds: dict[str, float] = {}
        """Wall clock time of each stage that ended well, in order."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        start = time.perf_counter()
        with self._report.stage(name) as progress:
            yield progress
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def note(self, text: str) -> None:
        self._report.note(text)
