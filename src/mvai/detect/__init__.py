"""Detect: from video to the key-points of one person. A method is one file.

`METHODS` names the methods; each is a frozen dataclass with its settings as fields and one
`detect` method. They are loaded when asked for, since they pull in heavy libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from mvai.io.video import Video
from mvai.types import Keypoints, MvaiError

Progress = Callable[[int, int | None], None]
"""Called with how many frames are done and how many there are (None: unknown)."""


class Detector(Protocol):
    """Finds one person in a video."""

    def detect(self, video: Video, progress: Progress | None = None) -> Keypoints:
        """Key-points of one person, one row a frame of `video`, in its pixels.

        Frames without the person have `present` False and are filled between sightings.

        With a character to look at, this runs in a thread beside that; what `progress` then raises
        stops it and must pass.

        Raises:
            MvaiError: no person, or too little of one to work with.
        """
        ...


METHODS = {
    "mediapipe": "mvai.detect.mediapipe_holistic:MediapipeHolistic",
    "openpose": "mvai.detect.openpose:OpenPoseFiles",
    "keypoint-json": "mvai.detect.keypoint_json:KeypointJson",
    "mediapipe-task": "mvai.detect.mediapipe_task:MediapipeTask",
    "onnx": "mvai.detect.simcc_onnx:SimccOnnx",
}
"""Method name to the class that implements it."""

BY_SUFFIX = {
    ".tflite": "mediapipe",
    ".task": "mediapipe-task",
    ".onnx": "onnx",
    ".json": "keypoint-json",
}
"""Method for a file that is named in a method's place; its path is the setting `file`."""


def method(name: str) -> type:
    """The detector class called `name`.

    Raises:
        MvaiError: there is no such method.
    """
    if name not in METHODS:
        raise MvaiError(f"{name}: no such detector; choose one of {', '.join(METHODS)}.")
    module, cls = METHODS[name].split(":")
    return getattr(import_module(module), cls)
