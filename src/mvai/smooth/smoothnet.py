"""A SmoothNet-style temporal network."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from mvai.types import T_CAMERA_WORLD, MeshSequence

SHIPPED = Path(str(files("mvai"))) / "weights" / "smoothnet.safetensors"


@dataclass(frozen=True)
class SmoothNet:
    """A perceptron over time, shared by all coordinates of all vertices (Zeng et al., ECCV 2022).

    Learned from reconstructed motion capture beside its truth. Works on meshes of any topology.
    """

    weights: Path | None = None
    """File of weights (.safetensors); those of mvai if none."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """See `mvai.smooth.Smoother`.

        Raises:
            MvaiError: the weights are missing or do not match.
        """
        import torch

        from mvai.nets.smoother_files import load_smoother
        from mvai.nets.smoothnet import SmoothNet as Network
        from mvai.nets.smoothnet import SmoothNetSettings
        from mvai.nets.windows import smoothed_paths

        network, working = load_smoother(
            self.weights or SHIPPED,
            "smoothnet",
            lambda settings: Network(SmoothNetSettings(**settings)),
        )
        camera = T_CAMERA_WORLD if sequence.camera is None else sequence.camera.T_camera_world
        # It has learned in the camera's axes, as all smoothers here.
        R = torch.from_numpy(camera[:3, :3].astype(np.float32))

        @torch.no_grad()
        def window(paths: torch.Tensor) -> torch.Tensor:
            return R.T @ network.window(R @ paths)

        result = np.empty_like(sequence.vertices)
        frames = smoothed_paths(sequence.vertices, sequence.faces, sequence.fps, working, window)
        for f, vertices in enumerate(frames):
            result[f] = vertices
        return sequence.with_vertices(result)
