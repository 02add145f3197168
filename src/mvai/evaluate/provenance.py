"""Where numbers come from: command, commit, date, machine and versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

PACKAGES = ("numpy", "scipy", "torch", "mediapipe", "vtk", "av")


def header(argv: Sequence[str] | None = None) -> str:
    """A Markdown list of what has to be known to repeat a measurement.

    Args:
        argv: the command's arguments; None takes those of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    versions = ", ".join(f"{n} {v}" for n in PACKAGES if (v := _version(n)))
    load = ", ".join(f"{v:.1f}" for v in os.getloadavg())
    return "\n".join(
        [
            f"- Command: `{shlex.join(['mvai', *arguments])}`",
            f"- Commit: {commit()}; date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"- Machine: {processor()}, {cores()} cores, {memory_gb():.0f} GB memory, "
            f"{platform.system()}; load when it was written (1, 5, 15 minutes): {load}",
            f"- Python {platform.python_version()}, mvai {version('mvai')}, {versions}",
            "",
        ]
    )


def commit() -> str:
    """The commit of the checkout this package runs from, and whether its files were changed."""
    folder = Path(str(files("mvai")))

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = " with uncommitted changes" if git("status", "--porcelain", ".") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a checkout)"


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gb() -> float:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
