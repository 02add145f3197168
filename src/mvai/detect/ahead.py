"""A detection that runs while the character is looked at.

Detection leaves a part of two cores idle, and fitting a skeleton uses one. So both go on at once:
the detection in a thread of its own, since drawing is bound to the main thread on some systems.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

from mvai.detect import Detector, Progress
from mvai.io.video import Video
from mvai.types import Keypoints

Detect = Callable[[Progress], Keypoints]
LOOK_S = 0.05


class _StoppedError(Exception):
    """Leaves a detection whose result nobody waits for any more."""


@contextlib.contextmanager
def detecting(detector: Detector, video: Video) -> Iterator[Detect]:
    """Starts a detection and yields what waits for its result.

    It is stopped, at the next word of its progress, when the `with` block is left before.
    """
    done: tuple[int, int | None] = (0, None)
    stop = threading.Event()

    def hear(*now: int | None) -> None:
        nonlocal done
        if stop.is_set():
            raise _StoppedError
        done = now  # type: ignore[assignment]

    with ThreadPoolExecutor(1, thread_name_prefix="detect") as pool:
        future = pool.submit(detector.detect, video, hear)

        def detect(progress: Progress) -> Keypoints:
            while not wait([future], LOOK_S).done:
                progress(*done)
            progress(*done)
            return future.result()

        try:
            yield detect
        finally:
            stop.set()
