"""Savitzky-Golay smoothing over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mvai.types import MeshSequence

BLOCK = 1024
"""Vertices filtered at a time, which bounds the memory beside the result."""


@dataclass(frozen=True)
class SavitzkyGolay:
    """Each vertex becomes the value of a polynomial fitted to its path around each moment.

    Savitzky and Golay, Smoothing and Differentiation of Data by Simplified Least Squares
    Procedures (1964). Motion that is a polynomial of the order stays as it is, so that, unlike
    with a mean, a swinging limb is not shortened. The first and last half window lie on the
    polynomial of the outermost window.
    """

    window_s: float = 0.25
    """Length of the window in seconds. A window that holds no more frames than the polynomial
    has coefficients leaves the sequence as it is."""
    order: int = 2
    """Order of the polynomial."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """See `mvai.smooth.Smoother`."""
        from scipy.ndimage import correlate1d

        half = round(self.window_s * sequence.fps / 2)
        # A clip shorter than the window is one window.
        half = min(half, (sequence.frames - 1) // 2)
        if 2 * half <= self.order:
            return sequence
        fit = least_squares_fit(half, self.order)
        vertices = sequence.vertices
        result = np.empty_like(vertices)
        for start in range(0, vertices.shape[1], BLOCK):
            block = vertices[:, start : start + BLOCK]
            smooth = correlate1d(block, fit[half], axis=0)
            smooth[:half] = np.einsum("ij,jvd->ivd", fit[:half], block[: 2 * half + 1])
            smooth[-half:] = np.einsum("ij,jvd->ivd", fit[-half:], block[-2 * half - 1 :])
            result[:, start : start + BLOCK] = smooth
        return sequence.with_vertices(result)


def least_squares_fit(half: int, order: int) -> Float[np.ndarray, "window window"]:
    """Maps the 2 * half + 1 values of a window to those of the polynomial fitted to them.

    Its middle row is the filter's kernel; the others serve the ends of a clip.
    """
    moments = np.linspace(-1, 1, 2 * half + 1)
    powers = np.linalg.qr(np.vander(moments, order + 1))[0]
    return (powers @ powers.T).astype(np.float32)
