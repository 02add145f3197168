"""Legs that are not in the picture, wholly or from the ankles down.

Detectors guess what is below the picture's edge, or squeeze it in above; a fit that believes them
lets people kneel. Nobody sees these legs, and people whose thighs hang down stand on them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, SIDES

SEEN = 0.2
"""Confidence below which a knee or an ankle is a guess."""
EDGE = 0.03
"""An ankle this near to the picture's edge (part of its size) whose foot is outside is squeezed."""
HANGS = (0.5, 0.85)
"""Cosine between thigh and trunk from which on somebody may stand on the leg, and surely does."""
FEET = ("heel", "foot_index", "big_toe", "small_toe")


def ankle_outside(keypoints: Keypoints, side: str) -> Bool[np.ndarray, " frames"]:
    """Whether the ankle of a side ("left") is outside the picture, or was squeezed into it.

    One that is hidden by something in the picture is not outside.
    """
    hip, knee, ankle = (_xy(keypoints, (f"{side}_{n}",))[:, 0] for n in ("hip", "knee", "ankle"))
    feet = tuple(n for p in FEET if (n := f"{side}_{p}") in keypoints.names)
    known = np.isfinite(ankle).all(-1)
    # The leg drawn on straight from the knee.
    below = np.where(known[:, None], ankle, 2 * knee - hip)
    out = np.isfinite(below).all(-1) & ~_within(below)
    if feet:
        out |= known & ~_within(ankle, EDGE) & ~_within(_xy(keypoints, feet)).any(1)
    return out


def _xy(keypoints: Keypoints, names: tuple[str, ...]) -> Float[np.ndarray, "frames points 2"]:
    """Positions in parts of the picture's size; NaN where nothing was found."""
    out = np.full((keypoints.frames, len(names), 2), np.nan)
    for i, name in enumerate(names):
        if name in keypoints.names:
            column = keypoints.index(name)
            found = keypoints.confidence[:, column] > 0
            out[found, i] = keypoints.xy_px[found, column]
    return out / [keypoints.width, keypoints.height]


def _within(xy: Float[np.ndarray, "*points 2"], edge: float = 0.0) -> Bool[np.ndarray, "*points"]:
    """Whether positions are in the picture, at least `edge` of its size from its border."""
    with np.errstate(invalid="ignore"):
        return ((xy >= edge) & (xy < 1 - edge)).all(-1)


def leg_outside(keypoints: Keypoints, side: str) -> Bool[np.ndarray, " frames"]:
    """Whether neither knee nor ankle of a side ("left") is in the picture; so it is, too, where
    something hides them both."""
    names = tuple(n for p in ("knee", "ankle") if (n := f"{side}_{p}") in keypoints.names)
    sure = keypoints.confidence[:, [keypoints.index(n) for n in names]] > SEEN
    return ~(_within(_xy(keypoints, names)) & sure).any(1)


def on_outside_feet(
    keypoints: Keypoints, names: tuple[str, ...]
) -> Bool[np.ndarray, "frames points"]:
    """Which of the named points hang on an ankle that is outside, itself included."""
    out = np.zeros((keypoints.frames, len(names)), bool)
    for side in ("left", "right"):
        below = [i for i, n in enumerate(names) if n in {f"{side}_{p}" for p in (*FEET, "ankle")}]
        out[:, below] = ankle_outside(keypoints, side)[:, None]
    return out


def unseen_legs(
    keypoints: Keypoints,
    xyz_m: Float[np.ndarray, "frames points 3"],
    names: tuple[str, ...],
) -> Float[np.ndarray, "frames 21"]:
    """How surely somebody stands on joints of legs that are not in the picture (0 to 1).

    For `BODY_JOINTS` but the root: 1 for a leg of which neither knee nor ankle is in the picture;
    where only the ankle is outside, knee and ankle as surely as the thigh hangs down from the
    trunk. 0 where the whole person is out of sight.

    Args:
        xyz_m: landmarks of `names`, 0 where unknown.
    """
    unseen = np.zeros((keypoints.frames, len(BODY_JOINTS) - 1))

    def middle(part: str) -> Float[np.ndarray, "frames 3"]:
        left, right = (xyz_m[:, names.index(f"{s.lower()}_{part}")] for s in SIDES)
        return (left + right) / 2

    trunk = middle("shoulder") - middle("hip")
    for side in SIDES:
        low = side.lower()
        gone = leg_outside(keypoints, low)
        knee = names.index(f"{low}_knee") if f"{low}_knee" in names else names.index(f"{low}_hip")
        thigh = xyz_m[:, names.index(f"{low}_hip")] - xyz_m[:, knee]
        length = np.linalg.norm(thigh, axis=1) * np.linalg.norm(trunk, axis=1)
        cosine = (thigh * trunk).sum(1) / np.maximum(length, 1e-9)
        hangs = np.clip((cosine - HANGS[0]) / (HANGS[1] - HANGS[0]), 0, 1)
        below = np.maximum(gone, hangs * ankle_outside(keypoints, low))
        for part, stands in (("UpLeg", gone), ("Leg", below), ("Foot", below)):
            unseen[:, BODY_JOINTS.index(side + part) - 1] = stands * keypoints.seen()
    return unseen
