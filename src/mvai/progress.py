"""How a run tells what it is doing, and what time and memory it took."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
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


def peak_memory_gb() -> float:
    """The most memory this process has had resident."""
    if sys.platform == "linux":
        # getrusage also counts what the parent held when it started this process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak / (1e9 if sys.platform == "darwin" else 1e6)
