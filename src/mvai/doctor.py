"""What is installed and whether it works here, one finding at a time."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import numpy as np

from mvai.io.fingerprint import file_sha256
from mvai.types import MvaiError

PACKAGES = (
    "numpy", "scipy", "torch", "mediapipe", "vtk", "av", "trimesh",
    "safetensors", "pillow", "tyro", "rich",
)  # fmt: skip
WEIGHTS = (
    "body_anny.npz", "pose_prior.safetensors", "landmark_correction.safetensors",
    "graphcmr.safetensors", "adaptive.safetensors", "smoothnet.safetensors",
    "mesh2mesh.safetensors", "mesh2mesh_graphcmr.safetensors",
    "mesh2mesh_smplify-x-paper.safetensors", "npt.safetensors",
)  # fmt: skip
"""All files of weights that mvai ships."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    text: str
    ok: bool = True


def examine() -> Iterator[Finding]:
    """Looks at everything the main job needs."""
    yield Finding(
        "mvai", f"{version('mvai')}, Python {platform.python_version()}, {platform.platform()}"
    )
    yield from _packages()
    yield from _weights()
    checks: dict[str, Callable[[], str]] = {
        "body model": _body,
        "renderer": _renderer,
        "MediaPipe": _mediapipe,
        "video": _video,
        "torch": _torch,
    }
    for what, check in checks.items():
        try:
            yield Finding(what, check())
        # Whatever a broken installation raises is the finding.
        except (Exception, SystemExit) as error:
            yield Finding(what, str(error) or type(error).__name__, ok=False)


def _packages() -> Iterator[Finding]:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding("packages", ", ".join(found))
    if missing:
        text = f"{', '.join(missing)} not installed; install mvai again."
        yield Finding("packages", text, ok=False)


def _weights() -> Iterator[Finding]:
    folder = Path(str(files("mvai"))) / "weights"
    for name in WEIGHTS:
        path = folder / name
        if not path.is_file():
            yield Finding("weights", f"{path} is missing; install mvai again.", ok=False)
            continue
        size_mb = path.stat().st_size / 1e6
        yield Finding("weights", f"{name}, {size_mb:.1f} MB, sha256 {file_sha256(path)[:16]}")


def _body() -> str:
    from mvai.body.anny import anny_body

    body = anny_body()
    return f"{len(body.template)} vertices, {len(body.joints)} joints"


def _renderer() -> str:
    from mvai.io.render import Drawable, Renderer
    from mvai.types import Camera

    triangle = Drawable(
        np.array([[-1, -1, -3], [1, -1, -3], [0, 1, -3]], np.float32), np.array([[0, 1, 2]])
    )
    with Renderer() as renderer:
        rgba = renderer.render_rgba([triangle], Camera.from_focal(64, 64, 64))
        kind = type(renderer).__name__
    covered = float((rgba[..., 3] > 0).mean())
    if not 0.1 < covered < 0.9:
        raise MvaiError("it draws nothing; install a software OpenGL (libgl1-mesa-dri).")
    return f"off-screen {kind} draws"


def _mediapipe() -> str:
    from mvai.detect.image import image_detector

    with image_detector() as detect:
        detect(np.zeros((64, 64, 3), np.uint8))
    return "its networks load and run"


def _video() -> str:
    import av

    names = ("h264", "hevc", "vp9", "av1", "mpeg4")
    readable = [n for n in names if n in av.codecs_available]
    writer = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"FFmpeg (libavcodec {libavcodec}) reads {', '.join(readable)}; writes with {writer}"


def _torch() -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{torch.get_num_threads()} threads on {cores} cores; the fit uses up to two"
