"""Gaussian smoothing over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mvai.types import MeshSequence

BLOCK = 1024
"""Vertices filtered at a time, which bounds the memory beside the result."""
REACH = 4.0
"""The kernel is cut off at this many standard deviations."""


@dataclass(frozen=True)
class Gaussian:
    """Each vertex becomes the Gaussian-weighted mean of its path around each moment.

    Beyond its ends the path is continued by its own point reflection, so that the first and last
    frame stay where they are and steady motion stays steady up to them.
    """

    sigma_s: float = 0.05
    """Standard deviation of the kernel in seconds."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """See `mvai.smooth.Smoother`."""
        from scipy.ndimage import gaussian_filter1d

        # Wider than the clip there is nothing more to average, only more memory to take.
        sigma = min(self.sigma_s * sequence.fps, float(sequence.frames))
        reach = int(REACH * sigma + 0.5)
        if reach == 0 or sequence.frames < 2:
            return sequence
        vertices = sequence.vertices
        result = np.empty_like(vertices)
        for start in range(0, vertices.shape[1], BLOCK):
            block = vertices[:, start : start + BLOCK]
            longer = np.pad(
                block, ((reach, reach), (0, 0), (0, 0)), mode="reflect", reflect_type="odd"
            )
            blurred = gaussian_filter1d(longer, sigma, axis=0, radius=reach)
            result[:, start : start + BLOCK] = blurred[reach:-reach]
        return sequence.with_vertices(result)
