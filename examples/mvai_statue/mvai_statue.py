"""A backbone, a smoother and a transfer method for mvai: the least that each has to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mvai.body import body_model
from mvai.types import Animation, Camera, Character, Keypoints, MeshSequence, MvaiError


@dataclass(frozen=True)
class Statue:
    """Stands the body at rest where the person is; a real backbone would pose it."""

    focal_px: float = 1000.0
    """Focal length of the camera, in pixels."""

    def reconstruct(self, keypoints: Keypoints, progress=None) -> MeshSequence:
        """A mesh for every frame, in world coordinates, with the camera that sees it.

        Raises:
            MvaiError: the key-points do not suffice.
        """
        if not {"left_shoulder", "right_shoulder", "left_hip", "right_hip"} <= set(keypoints.names):
            raise MvaiError("The statue needs shoulders and hips; take another detector.")
        body = body_model("anny")
        rest = body.template.numpy()
        names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
        points_m = body.regress(names, rest[None])[0]
        xy_px = keypoints.xy_px[:, [keypoints.index(n) for n in names]]
        camera = Camera.from_focal(self.focal_px, keypoints.width, keypoints.height)

        # As tall in the picture as the person's trunk; camera x is world x, y and z are turned.
        trunk_m = np.linalg.norm(points_m[:2].mean(0) - points_m[2:].mean(0))
        trunk_px = np.linalg.norm(xy_px[:, :2].mean(1) - xy_px[:, 2:].mean(1), axis=-1)
        depth = self.focal_px * trunk_m / np.maximum(trunk_px, 1.0)
        middle = (xy_px.mean(1) - camera.K[:2, 2]) / self.focal_px * depth[:, None]
        place = np.stack([middle[:, 0], -middle[:, 1], -depth], 1) - points_m.mean(0)
        if progress is not None:
            progress(keypoints.frames, keypoints.frames)
        return MeshSequence(
            vertices=(rest + place[:, None]).astype(np.float32),
            faces=body.faces,
            fps=keypoints.fps,
            topology=body.topology,
            camera=camera,
            confidence=keypoints.confidence.mean(1),
        )


@dataclass(frozen=True)
class Median:
    """Each coordinate becomes the median of its path around each moment."""

    window_s: float = 0.15
    """Length of the window in seconds."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """The same sequence without single wild frames."""
        from scipy.ndimage import median_filter

        half = round(self.window_s * sequence.fps / 2)
        path = median_filter(sequence.vertices, size=(2 * half + 1, 1, 1), mode="nearest")
        return sequence.with_vertices(path)


@dataclass(frozen=True)
class Figurine:
    """Carries the character along without moving a limb; a real method would pose it."""

    scale: float = 1.0
    """Length of its path, the person's = 1."""

    def register(self, character: Character, detector) -> Character:
        """There is nothing to find out about a character that is only moved."""
        return character

    def drive(self, registration: Character, sequence: MeshSequence, source=None) -> Animation:
        """The character where the middle of the sequence's mesh is, on the ground y = 0."""
        rest = registration.mesh.vertices
        path = self.scale * sequence.vertices.mean(1)
        path[:, 1] = -rest[:, 1].min()
        moved = (rest + path[:, None]).astype(np.float32)
        return Animation(registration, sequence.fps, free_vertices=moved, camera=sequence.camera)
