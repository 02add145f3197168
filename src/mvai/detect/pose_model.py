"""Another pose landmark network of MediaPipe in the place of the one that its wheel carries.

MediaPipe comes in three sizes, of which the wheel has the middle one and the others are fetched
when they are first asked for. They are found by name below one folder of the process, so a folder
of links to the wheel's models and to the user's file stands in for it. With it the graph's hands
and face stay as they are, which MediaPipe's own bundles (.task) do not have.
"""

from __future__ import annotations

import shutil
import threading
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

from mvai.detect.mediapipe_import import solution
from mvai.types import MvaiError

INSIDE = Path("mediapipe/modules/pose_landmark/pose_landmark_heavy.tflite")
"""Where MediaPipe looks for the network of the highest complexity."""
INPUT, OUTPUTS = (1, 256, 256, 3), {(1, 195), (1, 117), (1, 64, 64, 39)}
"""A crop; 39 landmarks in the picture with two scores each, in metres, and as heat maps."""

_lock = threading.Lock()


def holistic_with(pose_model: Path | None) -> Any:
    """MediaPipe Holistic for consecutive frames, with a pose landmark network of the user's.

    Args:
        pose_model: a file that passed `check_pose_model`; None for the wheel's.
    """
    if pose_model is not None:
        with _lock:
            _look_in(_folder(pose_model.resolve()))
    # The reconstruction smooths; a filter here would only add delay.
    return solution("holistic", "Holistic")(
        model_complexity=1 if pose_model is None else 2,
        smooth_landmarks=False,
        min_detection_confidence=0.3,
    )


def check_pose_model(file: Path) -> None:
    """Whether a file is one of MediaPipe's pose landmark networks.

    Raises:
        MvaiError: the file is missing, or is another one.
    """
    kind = "a pose landmark network of MediaPipe (pose_landmark_lite, _full or _heavy, .tflite)"
    if not file.is_file():
        raise MvaiError(f"{file}: there is no such file; name {kind}.")
    from mediapipe.tasks.metadata import schema_py_generated as schema

    try:
        content = file.read_bytes()
        graph = schema.Model.GetRootAsModel(content, 0).Subgraphs(0)
        if content[4:8] != b"TFL3" or graph is None:
            raise ValueError
        takes = _shape(graph.Tensors(graph.Inputs(0)))
        gives = {_shape(graph.Tensors(graph.Outputs(i))) for i in range(graph.OutputsLength())}
    # The reader of this format checks nothing, so a damaged file raises whatever comes along.
    except Exception as error:
        raise MvaiError(f"{file}: the file cannot be read; name {kind}.") from error
    if takes != INPUT or not gives >= OUTPUTS:
        raise MvaiError(f"{file}: this network is another one; name {kind}.")


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor.ShapeAsNumpy())


@lru_cache
def _folder(pose_model: Path) -> TemporaryDirectory[str]:
    """MediaPipe's models with the user's among them; goes when the process ends."""
    import mediapipe

    folder = TemporaryDirectory(prefix="mvai-mediapipe-")
    package = Path(str(mediapipe.__file__)).parent
    for source in (package / "modules").rglob("*"):
        if source.suffix in (".tflite", ".txt"):
            _link(source, Path(folder.name) / source.relative_to(package.parent))
    (Path(folder.name) / INSIDE).unlink(missing_ok=True)
    _link(pose_model, Path(folder.name) / INSIDE)
    return folder


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source)
    except OSError:  # Windows asks for a privilege.
        shutil.copyfile(source, target)


def _look_in(folder: TemporaryDirectory[str]) -> None:
    """Makes MediaPipe look for models in a folder, now and for graphs that are built later.

    Every graph sets the process's folder to the package anew when it is built, also beside another
    one that has not read its models yet, and fetches what the package lacks.
    """
    from mediapipe.python import solution_base
    from mediapipe.python._framework_bindings import resource_util
    from mediapipe.python.solutions import holistic

    resource_util.set_resource_dir(folder.name)
    _replace(solution_base, "resource_util", SimpleNamespace(set_resource_dir=lambda root: None))
    _replace(holistic, "_download_oss_pose_landmark_model", lambda complexity: None)


def _replace(module: ModuleType, name: str, value: object) -> None:
    """Fails where MediaPipe no longer has what is replaced, instead of doing nothing."""
    getattr(module, name)
    setattr(module, name, value)
