"""mesh2mesh, the smoother of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mvai.types import T_CAMERA_WORLD, MeshSequence

SHIPPED = Path(str(files("mvai"))) / "weights" / "mesh2mesh.safetensors"

Frame = Float[np.ndarray, "verts 3"]


@dataclass(frozen=True)
class Mesh2Mesh:
    """3D convolutions over the cuboid of frames, vertices and coordinates (Fu et al., ICMR 2021).

    Learned from reconstructed motion capture beside its truth. Works on meshes of any topology.
    The network sees vertices in the camera's axes, because what is wrong with a reconstruction
    depends on the direction of view, relative to the centroid of the surface, so that it does not
    matter where the person is. It may also displace a body that does not move.
    """

    weights: Path | None = None
    """File of weights (.safetensors) that `mvai train mesh2mesh` wrote; those of mvai if none."""
    sigma_s: float = 0.0
    """Standard deviation in seconds of a Gaussian over what the network gives, which the paper does
    not have: it trades fast motion for calm (docs/results.md)."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """See `mvai.smooth.Smoother`.

        Raises:
            MvaiError: the weights are missing or do not match.
        """
        if not sequence.frames:
            return sequence
        camera = T_CAMERA_WORLD if sequence.camera is None else sequence.camera.T_camera_world
        result = np.empty_like(sequence.vertices)
        frames = self.stream(sequence.vertices, sequence.faces, sequence.fps, camera[:3, :3])
        for f, vertices in enumerate(frames):
            result[f] = vertices
        return sequence.with_vertices(result)

    def stream(
        self,
        frames: Iterable[Frame],
        faces: Int[np.ndarray, "faces 3"],
        fps: float,
        R_camera_world: Float[np.ndarray, "3 3"] = T_CAMERA_WORLD[:3, :3],
    ) -> Iterator[Frame]:
        """Frames in, smoothed frames out: a window of the network (16 frames at 25 a second) later.

        The same as `smooth`, in memory that does not depend on the number of frames.

        Args:
            frames: vertices in world axes, metres.
            R_camera_world: rotation from world to camera axes.

        Raises:
            MvaiError: the weights are missing or do not match.
        """
        import torch

        from mvai.nets.mesh2mesh import FoldedMesh2Mesh, Mesh2MeshSettings
        from mvai.nets.mesh2mesh import Mesh2Mesh as Network
        from mvai.nets.smoother_files import load_smoother
        from mvai.nets.windows import smoothed_paths

        def make(settings) -> Network:
            kernel = tuple(settings.pop("kernel"))
            return Network(Mesh2MeshSettings(kernel=kernel, **settings))

        network, working = load_smoother(self.weights or SHIPPED, "mesh2mesh", make)
        R = torch.from_numpy(R_camera_world.astype(np.float32))
        return smoothed_paths(
            frames, faces, fps, working, FoldedMesh2Mesh(network, R), self.sigma_s
        )
