"""Steps of somebody who walks on legs that are not in the picture.

How fast he goes is seen, and people of one speed make steps of one length; when he makes them is
not seen, and follows on from where his feet were last.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_closing, gaussian_filter1d

from mvai.geometry.stance import runs

WALK_RATIO = 0.39
"""Length of a step over how many are made in a second, m s: 0.0065 m by steps a minute (Sekiya and
Nagasaki, Gait & Posture 7, 1998)."""
LEG_M = 0.87
"""Legs of the people whom that was measured on."""
STANDS = 0.6
"""Share of a stride in which a foot stands."""
WALKS_M_S = 0.4
"""Who is slower merely sways."""
FAR_M = 1.0
"""Who goes less far than this may have made any step, or none."""
GLIMPSE_S = 0.1
"""For twice as long feet may come into the picture without being believed."""
PACE_S = 0.2
"""The speed is averaged over this time."""
LIFT = 0.3
"""How high the foot that swings is lifted, as a part of how far it is ahead at most."""
PHASES = 48


def walks(
    hips: Float[np.ndarray, "frames 3"],
    forward: Float[np.ndarray, "frames 2"],
    outside: Bool[np.ndarray, " frames"],
    fps: float,
) -> Bool[np.ndarray, " frames"]:
    """Frames in which somebody walks a way on legs that are outside the picture.

    Args:
        hips, forward, fps: as of `strides`.
        outside: frames in which somebody may stand on feet that are not in the picture.
    """
    speed = np.abs(_speed(hips, forward, fps))
    steps = round(GLIMPSE_S * fps)
    out = outside & (speed > WALKS_M_S)
    if steps:
        out |= binary_closing(out, iterations=steps)
    for a, b in runs(out):
        out[a:b] = speed[a:b].sum() / fps > FAR_M
    return out


def _speed(
    hips: Float[np.ndarray, "frames 3"], forward: Float[np.ndarray, "frames 2"], fps: float
) -> Float[np.ndarray, " frames"]:
    """Forwards, m/s."""
    if len(hips) < 2:
        return np.zeros(len(hips))
    along = gaussian_filter1d(hips[:, [0, 2]], PACE_S * fps, axis=0, mode="nearest")
    return (np.gradient(along, axis=0) * fps * forward).sum(1)


def strides(
    hips: Float[np.ndarray, "frames 3"],
    forward: Float[np.ndarray, "frames 2"],
    apart: Float[np.ndarray, " frames"],
    outside: Bool[np.ndarray, " frames"],
    leg_m: float,
    fps: float,
) -> tuple[Float[np.ndarray, "frames 2"], Float[np.ndarray, "frames 2"]]:
    """How far the left and right ankle are ahead of the hips and how far they are lifted (metres).

    Args:
        hips: middle of the hips in a level world.
        forward: where the body faces, along x and z, of length 1.
        apart: how far the left ankle is ahead of the right one, where they are seen.
        outside: frames that want steps.
        leg_m: length of the legs.
        fps: frames a second.
    """
    frames = len(hips)
    ahead, lift = np.zeros((frames, 2)), np.zeros((frames, 2))
    if frames < 3:
        return ahead, lift
    speed = _speed(hips, forward, fps)
    step = np.sqrt(WALK_RATIO * np.abs(speed) * leg_m / LEG_M)
    reach = step / 2
    turns = np.cumsum(speed / np.maximum(2 * step, 1e-3)) / fps
    for a, b in runs(outside):
        # From the frames before, or those after where it begins so; two of them tell how feet move.
        edge, beside, beyond = (a, a - 1, a - 2) if a > 0 else (b - 1, b, b + 1)
        beside, beyond = (int(np.clip(f, 0, frames - 1)) for f in (beside, beyond))
        way = 1 if a > 0 else -1
        rate = (apart[beside] - apart[beyond]) * fps * way
        phases = np.linspace(0, 1, PHASES, endpoint=False)
        later = phases + (turns[min(edge + 1, frames - 1)] - turns[edge])
        now, then = (reach[edge] * (_ahead(p) - _ahead(p + 0.5)) for p in (phases, later))
        off = (now - apart[beside]) ** 2 + (PACE_S * ((then - now) * fps - rate)) ** 2
        start = phases[off.argmin()] - turns[edge]
        for side in (0, 1):
            phase = start + turns[a:b] + 0.5 * side
            ahead[a:b, side] = reach[a:b] * _ahead(phase)
            swing = np.clip((phase % 1 - STANDS) / (1 - STANDS), 0, 1)
            lift[a:b, side] = LIFT * reach[a:b] * np.sin(np.pi * swing)
    return ahead, lift


def _ahead(phase: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Place of a foot before the hips (1) or behind them (-1), by how much of a stride has passed
    since it was set down: it stands and falls behind evenly, then swings."""
    phase = phase % 1
    swing = np.clip((phase - STANDS) / (1 - STANDS), 0, 1)
    return np.where(phase < STANDS, 1 - 2 * phase / STANDS, -np.cos(np.pi * swing))
