"""MediaPipe graphs without their log noise."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from mvai.io.video import Frame

SETTLED = 5
"""After this many finds all networks of a graph have run and logged what they had to."""

_lock = threading.Lock()
_depth = 0
_saved = -1


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drops what C++ code writes to file descriptor 2; exceptions pass. Nests and is thread-safe.

    MediaPipe's own log level cannot be set from Python.
    """
    global _depth, _saved
    with _lock:
        if _depth == 0:
            _saved = os.dup(2)
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 2)
            os.close(sink)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                os.dup2(_saved, 2)
                os.close(_saved)


@contextlib.contextmanager
def quiet_graph(make: Callable[[], Any]) -> Iterator[Callable[[Frame], Any]]:
    """Builds a MediaPipe solution and yields its `process`, silenced while it settles."""
    found = 0
    with contextlib.ExitStack() as building:
        # The graph's threads go on logging after it is built, until a first frame went through.
        building.enter_context(quiet_stderr())
        graph = make()

        def process(image: Frame) -> Any:
            nonlocal found
            with quiet_stderr() if found < SETTLED else contextlib.nullcontext():
                result = graph.process(image)
                building.close()
            found += result.pose_landmarks is not None
            return result

        try:
            yield process
        finally:
            graph.close()
