"""The 1 Euro filter over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mvai.types import MeshSequence

BLOCK = 2048
"""Vertices filtered at a time, which keeps their state in the processor's cache."""


@dataclass(frozen=True)
class OneEuro:
    """A low-pass filter whose cut-off rises with speed: steady at rest, prompt in motion.

    Casiez, Roussel and Vogel, 1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input
    in Interactive Systems (CHI 2012). Speed is that of the vertex, so that the result does not
    depend on the axes.
    """

    min_cutoff_hz: float = 3.0
    """Cut-off frequency at rest."""
    beta_per_m: float = 4.0
    """Growth of the cut-off with speed: Hz for each metre a second."""
    derivative_cutoff_hz: float = 1.0
    """Cut-off frequency of the speed's own filter."""
    zero_phase: bool = True
    """Average a pass forwards and a pass backwards in time, whose lags cancel. False gives the
    filter of the paper, which sees no future and so comes late."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """See `mvai.smooth.Smoother`."""
        vertices = sequence.vertices
        result = np.empty_like(vertices)
        for start in range(0, vertices.shape[1], BLOCK):
            block = vertices[:, start : start + BLOCK]
            filtered = self._pass(block, sequence.fps)
            if self.zero_phase:
                filtered += self._pass(block[::-1], sequence.fps)[::-1]
                filtered *= 0.5
            result[:, start : start + BLOCK] = filtered
        return sequence.with_vertices(result)

    def _pass(
        self, path: Float[np.ndarray, "frames verts 3"], fps: float
    ) -> Float[np.ndarray, "frames verts 3"]:
        """Algorithm 1 of the paper, for all vertices at once."""
        result = np.empty_like(path)
        if not len(path):
            return result
        result[0] = state = path[0].copy()
        velocity = np.zeros_like(state)
        share = _share(self.derivative_cutoff_hz, fps)
        for i in range(1, len(path)):
            # As in the authors' code, the derivative is taken against the filtered position.
            velocity += np.float32(share) * ((path[i] - state) * np.float32(fps) - velocity)
            speed = np.sqrt(np.einsum("vd,vd->v", velocity, velocity))[:, None]
            state += _share(self.min_cutoff_hz + self.beta_per_m * speed, fps) * (path[i] - state)
            result[i] = state
        return result


def _share(cutoff_hz, fps: float):
    """The paper's alpha: how much of the new value goes into the filtered one."""
    rate = 2 * np.pi * cutoff_hz / fps
    return rate / (rate + 1)
