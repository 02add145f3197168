"""MediaPipe's solutions without what it brings along for drawing and for microphones."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from types import ModuleType
from typing import Any

DRAWING = ("matplotlib", "matplotlib.pyplot")
"""Imported by MediaPipe's plotting helpers, which nobody calls here; takes longer than the rest."""
RECORDING = "sounddevice"
"""Looks for an audio library by starting other programs; MediaPipe does without it."""

_lock = threading.Lock()


def solution(module: str, name: str) -> Any:
    """The class `name` of `mediapipe.python.solutions.<module>`.

    While MediaPipe is imported for the first time, empty modules stand in for those that it does
    not need here. Afterwards they can be imported as ever.
    """
    with _lock:
        stand_ins: dict[str, ModuleType | None] = {}
        if "mediapipe" not in sys.modules:
            stand_ins = {n: ModuleType(n) for n in DRAWING if "matplotlib" not in sys.modules}
            if RECORDING not in sys.modules:
                stand_ins[RECORDING] = None  # The import fails, which MediaPipe expects.
        sys.modules.update(stand_ins)  # type: ignore[arg-type]
        try:
            return getattr(import_module(f"mediapipe.python.solutions.{module}"), name)
        finally:
            for stand_in in stand_ins:
                sys.modules.pop(stand_in, None)
