"""A limit to what smoothing may take from a motion that was clearly seen.

A filter strong enough for jitter also rounds a fast swing: the arm then stands beside the person's.
The two differ in time: jitter changes sign from frame to frame, lost amplitude lasts. So what a
filter displaces is divided into both, and the lasting part may be no longer than the joint's own
jitter: next to nothing for an arm that is followed well, much for one that leaps about because it
is lost.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

LASTING_S = 0.05
"""A displacement lasts if the sharp filter of this standard deviation leaves it."""
JITTER_S = 0.03
"""Jitter is what the sharp filter of this standard deviation takes away,"""
AROUND_S = 0.12
"""as a root mean square over about this time."""
UNSEEN_M = 0.003
"""A lasting displacement may be longer than the jitter by this much, which nobody sees."""

Points = Float[np.ndarray, "frames points 3"]


def limited(seen: Points, smooth: Points, fps: float) -> Points:
    """Smoothed points that stay on what was seen.

    Args:
        seen: the points before smoothing, metres.
        smooth: the points after it.
    """
    taken = 1 - lasting_share(seen, smooth, fps)[..., None]
    return smooth - taken * sharp(smooth - seen, LASTING_S * fps)


def lasting_share(seen: Points, smooth: Points, fps: float) -> Float[np.ndarray, "frames points"]:
    """How much of their lasting displacement points may keep, from 0 to 1.

    It does not depend on the axes.

    Args:
        seen: the points before smoothing, metres.
        smooth: the points after it.
    """
    lasting = sharp(smooth - seen, LASTING_S * fps)
    jitter = np.linalg.norm(seen - sharp(seen, JITTER_S * fps), axis=-1)
    power = calm(np.square(jitter), AROUND_S * fps)
    # Continued by its point reflection, a square can fall below zero beside the ends.
    allowed = UNSEEN_M + np.sqrt(np.maximum(power, 0.0))
    length = np.linalg.norm(lasting, axis=-1)
    share = calm(np.minimum(1.0, allowed / np.maximum(length, 1e-9)), LASTING_S * fps)
    return np.clip(share, 0.0, 1.0)


def sharp_taps(sigma: float) -> Float[np.ndarray, " taps"]:
    """The kernel of `sharp`, of an odd number of taps."""
    wide = int(np.ceil(4 * sigma * 2**0.5))
    impulse = np.zeros(4 * wide + 1)
    impulse[2 * wide] = 1.0
    return sharp(impulse, sigma)[wide : 3 * wide + 1]


def sharp(path: Float[np.ndarray, "frames *shape"], sigma: float) -> np.ndarray:
    """Twice a Gaussian less one of twice the variance: curves stay up to second order."""
    return 2 * calm(path, sigma) - calm(path, sigma * 2**0.5)


def calm(path: Float[np.ndarray, "frames *shape"], sigma: float) -> np.ndarray:
    """Rows through a Gaussian of `sigma` frames that leaves steady motion and the ends."""
    reach = min(int(np.ceil(4 * sigma)), len(path) - 1)
    if reach == 0:
        return path
    width = [(reach, reach)] + [(0, 0)] * (path.ndim - 1)
    longer = np.pad(path, width, mode="reflect", reflect_type="odd")
    return gaussian_filter1d(longer, sigma, axis=0, radius=reach)[reach:-reach]
