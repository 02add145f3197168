"""Contacts that smoothing must keep: feet that stand, hands that touch.

Smoothing rounds a path. A foot then no longer stops where it stood, and two hands no longer meet.
Where the input shows a contact, the smoothed points are led back to it, softly in and out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

STANDING_M_S = (0.15, 0.4)
"""A foot slower than the first stands, one faster than the second does not."""
STANDING_HEIGHT_M = (0.08, 0.16)
"""Likewise for its height over the lowest place where a foot was."""
TOUCHING_M = (0.10, 0.22)
"""Likewise for the distance between two hands."""
HOLD_S = 0.15
"""A standing foot is held at the mean of its places over about this time."""
CORRECTED_S = 0.5
"""What smoothing changed on purpose is what it changed in the mean over about this time."""
CALM_S = 0.08
"""Paths of feet are looked at through a Gaussian of this standard deviation."""
CHANGE_S = 0.08
"""How softly a foot is taken and let go."""
CLAP_S = 0.025
"""Paths of hands are looked at through a narrow Gaussian, since a clap is short."""

Points = Float[np.ndarray, "frames points 3"]


def contact_displacement(
    seen: Points, smooth: Points, names: tuple[str, ...], fps: float
) -> Points:
    """What has to be added to smoothed points (world axes, metres, +Y up) to keep contacts.

    Args:
        seen: the points before smoothing.
        smooth: the points after it.
        names: what they are called; feet and hands are looked for by name.
    """
    out = np.zeros_like(smooth)
    at = {n: i for i, n in enumerate(names)}
    calm = _calm(seen, CALM_S * fps)
    soles = [f"{s}_{p}" for s in ("left", "right") for p in ("heel", "foot_index")]
    floor = np.quantile(calm[:, [at[n] for n in soles], 1].min(1), 0.05)
    for side in ("left", "right"):
        pulls, shares = [], []
        for part in ("heel", "foot_index"):
            i = at[f"{side}_{part}"]
            path = calm[:, i]
            speed = np.linalg.norm(np.gradient(path, axis=0), axis=-1) * fps
            stands = _below(speed, STANDING_M_S) * _below(path[:, 1] - floor, STANDING_HEIGHT_M)
            stands = gaussian_filter1d(stands, CHANGE_S * fps, mode="nearest")
            # A correction of the pose may have moved the foot; it is held where that put it.
            corrected = _held(smooth[:, i] - seen[:, i], stands, CORRECTED_S * fps)
            held = _held(seen[:, i], stands, HOLD_S * fps) + corrected
            out[:, i] += stands[:, None] * (held - smooth[:, i])
            pulls.append(out[:, i])
            shares.append(stands)
        ankle = np.mean(pulls, axis=0)
        out[:, at[f"{side}_ankle"]] += ankle
        out[:, at[f"{side}_knee"]] += ankle / 2
    left, right = ([at[f"{s}_wrist"], at[f"{s}_index"]] for s in ("left", "right"))
    hands = _calm(seen, CLAP_S * fps)
    apart = hands[:, left] - hands[:, right]
    touch = _below(np.linalg.norm(apart[:, 1], axis=-1), TOUCHING_M)
    # A clap lasts a frame or two; the way to it is kept as well.
    touch = maximum_filter1d(touch, 2 * max(1, round(CLAP_S * fps)) + 1, mode="nearest")
    touch = gaussian_filter1d(touch, CLAP_S * fps, mode="nearest")
    pull = touch[:, None, None] * (apart - (smooth[:, left] - smooth[:, right])) / 2
    out[:, left] += pull
    out[:, right] -= pull
    out[:, at["left_elbow"]] += pull[:, 0] / 2
    out[:, at["right_elbow"]] -= pull[:, 0] / 2
    return out


def _below(value: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """1 below the first limit, 0 above the second."""
    low, high = limits
    return np.clip((high - value) / (high - low), 0.0, 1.0)


def _calm(points: Points, sigma: float) -> Points:
    return gaussian_filter1d(points, sigma, axis=0, mode="nearest")


def _held(
    path: Float[np.ndarray, "frames 3"], stands: Float[np.ndarray, " frames"], sigma: float
) -> Float[np.ndarray, "frames 3"]:
    """Mean over the moments around each one at which the foot stood."""
    weight = gaussian_filter1d(stands, sigma, mode="constant")
    total = gaussian_filter1d(stands[:, None] * path, sigma, axis=0, mode="constant")
    return total / np.maximum(weight, 1e-6)[:, None]
