"""The path along the ground, from the camera or from the feet.

A camera that follows a runner sees a person who stays where he is and whose feet slide backwards.
Where the sole stands, it stands still in the world, whatever the camera does; so the feet tell how
far the body has come (as legged robots measure their way, and as world-grounded methods such as
WHAM, Shin et al., CVPR 2024, do with a network).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from mvai.transfer.rig_points import ADULT_LEG_M
from mvai.transfer.rig_source import SourceMotion

LOW_M = 0.03
"""A point of the sole stands surely below a part of this height, and less surely above."""
STEADY_M_S = 0.3
"""Likewise the speed at which it goes up or down."""
LIES_M = 0.12
"""With another part of the body this far below both feet, nobody stands on them."""
FLOOR_S = 1.5
"""The floor is as high as the lowest sole within this time: longer than a jump."""
SLIDES_M_S = 0.3
"""A standing foot that slides at this speed for half of the time shows that the camera moves."""
FLIGHT_S = 0.12
"""What the feet say is averaged over this time, and kept while neither stands."""
AGREE_M_S = 0.4
"""Points that differ by more than this from what the others around them say have left the floor,
or are not on it yet."""
ROUNDS = 5


def standing(
    feet: Float[np.ndarray, "frames points 3"],
    lowest: Float[np.ndarray, " frames"],
    fps: float,
    size: float,
) -> Float[np.ndarray, "frames points"]:
    """How surely points of the soles stand (0 to 1), by their height and by how fast it changes.

    Args:
        feet: heels and toes (metres, world).
        lowest: height of the body's lowest point.
        fps: frames a second.
        size: leg length relative to an adult's.
    """
    height = feet[..., 1]
    low = gaussian_filter1d(height.min(1), 0.05 * fps, mode="nearest")
    floor = minimum_filter1d(low, 2 * round(0.5 * FLOOR_S * fps) + 1, mode="nearest")
    floor = gaussian_filter1d(floor, 0.4 * fps, mode="nearest")
    above = np.maximum(height - floor[:, None], 0) / size
    rising = np.gradient(height, axis=0) * fps / size
    sure = np.exp(-((above / LOW_M) ** 2) - (rising / STEADY_M_S) ** 2)
    lies = lowest < height.min(1) - LIES_M * size
    return sure * ~lies[:, None]


def sliding(
    motion: SourceMotion, fps: float, seen: Bool[np.ndarray, " frames"]
) -> tuple[Float[np.ndarray, "frames 2"], Float[np.ndarray, " frames"]]:
    """Velocity (m/s, along x and z) at which standing feet slide, and how surely one stands.

    The velocity is smooth, and goes on while neither foot stands. A foot that is about to leave
    the floor is as low as one that stands, but faster: points count the less, the further they are
    from what was found before (Welsch's weights, a few times over).
    """
    size = motion.leg_m / ADULT_LEG_M
    feet = np.concatenate(motion.feet, 1)
    feet = gaussian_filter1d(feet, max(0.03 * fps, 0.5), axis=0, mode="nearest")
    sure = standing(feet, motion.lowest, fps, size) * seen[:, None]
    speed = np.gradient(feet[..., [0, 2]], axis=0) * fps
    slide, weight = _smoothly(speed, sure, fps), sure
    for _ in range(ROUNDS):
        apart = np.linalg.norm(speed - slide[:, None], axis=-1) / (AGREE_M_S * size)
        weight = sure * np.exp(-(apart**2))
        slide = _smoothly(speed, weight, fps)
    return slide, np.minimum(weight.sum(1), 1.0)


def _smoothly(
    speed: Float[np.ndarray, "frames points 2"],
    weight: Float[np.ndarray, "frames points"],
    fps: float,
) -> Float[np.ndarray, "frames 2"]:
    """Weighted mean over points and a short time, interpolated where nothing has any weight."""
    total = gaussian_filter1d(weight.sum(1), FLIGHT_S * fps, mode="nearest")
    mean = (weight[..., None] * speed).sum(1)
    mean = gaussian_filter1d(mean, FLIGHT_S * fps, axis=0, mode="nearest")
    known = np.flatnonzero(total > 0.05)
    if not len(known):
        return np.zeros_like(mean)
    frames = np.arange(len(mean))
    return np.stack([np.interp(frames, known, mean[known, k] / total[known]) for k in (0, 1)], 1)


def camera_moves(
    motion: SourceMotion,
    slide: Float[np.ndarray, "frames 2"],
    sure: Float[np.ndarray, " frames"],
    fps: float,
) -> bool:
    """Whether standing feet slide, and faster than the body goes anywhere.

    The second half of it keeps the path of people who walk past a camera that stands still and
    whose steps were merely found too short.
    """
    stands = sure > 0.5
    if stands.sum() < 0.3 * fps:
        return False
    size = motion.leg_m / ADULT_LEG_M
    slides = float(np.linalg.norm(np.median(slide[stands], axis=0)))
    along = gaussian_filter1d(motion.root[:, [0, 2]], 0.1 * fps, axis=0, mode="nearest")
    goes = np.linalg.norm(np.gradient(along, axis=0) * fps, axis=1)
    return slides > SLIDES_M_S * size and slides > float(np.median(goes))


def on_its_path(
    motion: SourceMotion,
    fps: float,
    seen: Bool[np.ndarray, " frames"],
    path: Literal["auto", "camera", "feet"],
) -> tuple[SourceMotion, bool]:
    """The movement along the path that was asked for, and whether the feet gave it.

    Args:
        motion: as the camera saw it.
        fps: frames a second.
        seen: frames in which the person was in the picture.
        path: camera keeps it; feet takes it from the standing feet; auto does so when the camera
            moves.
    """
    if path == "camera" or len(motion.root) < 3:
        return motion, False
    slide, sure = sliding(motion, fps, seen)
    if path == "auto" and not camera_moves(motion, slide, sure, fps):
        return motion, False
    away = np.zeros_like(motion.root)
    # The foot in the first frame stays where it is; all later ones go on from there.
    away[1:, [0, 2]] = -np.cumsum(slide[1:], axis=0) / fps
    left, right = motion.feet
    away_feet = away[:, None]
    return replace(
        motion, root=motion.root + away, feet=(left + away_feet, right + away_feet)
    ), True
