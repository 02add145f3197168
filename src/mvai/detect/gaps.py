"""Frames without the person: marked, filled between sightings, and judged for how many they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from mvai.types import Keypoints, NobodyError

MIN_FRAMES = 8
"""A person seen in fewer frames than this has no motion to speak of."""
MIN_FRACTION = 0.02
"""Smallest part of the clip in which the person must be seen."""
MIN_HEIGHT_PX = 40
"""Below this body height the detector's points are noise."""


def fill_gaps(keypoints: Keypoints, present: Bool[np.ndarray, " frames"]) -> Keypoints:
    """Marks frames as absent and bridges them linearly from the sightings on either side.

    Filled values carry confidence 0: they give a fit something to start from, no evidence.
    Frames before the first and after the last sighting repeat it.
    """
    confidence = np.where(present[:, None], keypoints.confidence, 0.0)
    xyz_m = keypoints.xyz_m
    return replace(
        keypoints,
        xy_px=_bridged(keypoints.xy_px, present),
        confidence=confidence,
        xyz_m=None if xyz_m is None else _bridged(xyz_m, present),
        present=present,
    )


def _bridged(
    values: Float[np.ndarray, "frames points dims"], present: Bool[np.ndarray, " frames"]
) -> Float[np.ndarray, "frames points dims"]:
    """Linear interpolation over absent frames; points unseen at either end stay NaN."""
    seen = np.flatnonzero(present)
    if len(seen) in (0, len(present)):
        return values
    frames = np.arange(len(present))
    after = np.clip(np.searchsorted(seen, frames), 0, len(seen) - 1)
    before = np.clip(np.searchsorted(seen, frames, side="right") - 1, 0, len(seen) - 1)
    a, b = seen[before], seen[after]
    w = np.where(b > a, (frames - a) / np.maximum(b - a, 1), 0.0)[:, None, None]
    return np.where(present[:, None, None], values, (1 - w) * values[a] + w * values[b])


def check_enough(keypoints: Keypoints, path: Path) -> None:
    """Refuses a clip in which there is too little of the person to work with.

    Raises:
        NobodyError: nobody is seen, or for too few frames, or too small.
    """
    seen = keypoints.seen()
    count = int(seen.sum())
    if count == 0:
        raise NobodyError(
            f"{path}: no person was found in the video; "
            "give one in which a person is visible and larger."
        )
    if count < max(MIN_FRAMES, MIN_FRACTION * len(seen)):
        raise NobodyError(
            f"{path}: a person is visible in only {count} of {len(seen)} frames; "
            f"give a clip that shows the person in at least {MIN_FRAMES}."
        )
    y = keypoints.xy_px[seen][..., 1]
    known = np.isfinite(y).sum(axis=1) > 1
    height_px = float(np.median([np.nanmax(r) - np.nanmin(r) for r in y[known]] or [0.0]))
    if height_px < MIN_HEIGHT_PX:
        raise NobodyError(
            f"{path}: the person is only {height_px:.0f} pixels tall; "
            f"give a video in which the person is at least {MIN_HEIGHT_PX} pixels tall."
        )
