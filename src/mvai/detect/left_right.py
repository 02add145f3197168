"""Left and right put back where a detector confused them for a stretch.

Seen from behind or from the side, a detector may call the left limbs right and the right ones
left for many frames. A body does not change sides between two frames, so the labelling of the
whole clip that moves least is found by dynamic programming (Viterbi 1967), upper and lower body
apart.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from mvai.types import Keypoints
from mvai.types.names import mirrored

LOWER = ("hip", "knee", "ankle", "heel", "foot_index", "big_toe", "small_toe")
FLIP = 0.15
"""Cost, in torso lengths of movement, of one change of sides."""
TWIST = 0.02
"""Cost a frame of the upper and the lower body being labelled differently."""
SWAPPED = 0.001
"""Cost a frame of not believing the detector; decides what motion cannot."""
FACING = 0.01
"""Cost a frame of the order of the shoulders contradicting whether the face is seen."""
LONGEST_GAP_S = 0.3
"""Across longer gaps the movement says nothing."""
FURTHEST = 1.0
"""Movement of a point between two frames counts up to this many torso lengths."""

STATES = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
"""Whether (upper, lower) body are swapped."""


def undo_left_right_swaps(keypoints: Keypoints) -> Keypoints:
    """The same key-points with left and right exchanged where they were confused."""
    frames = np.flatnonzero(keypoints.seen())
    names = keypoints.names
    if len(frames) < 2 or not {"left_shoulder", "right_shoulder"} <= set(names):
        return keypoints
    # The face mesh cannot be mirrored, so its points always have their right names.
    body = [i for i, n in enumerate(names) if not n.startswith("face_")]
    sides = [i for i in body if mirrored(names[i]) != names[i] and mirrored(names[i]) in names]
    groups = [
        np.array([i for i in sides if names[i].endswith(LOWER) == lower], int)
        for lower in (False, True)
    ]
    swapped = _least_movement(keypoints, frames, groups)
    # Filled frames follow the sighting before them.
    everywhere = np.zeros((keypoints.frames, 2), bool)
    latest = np.clip(np.searchsorted(frames, np.arange(keypoints.frames), "right") - 1, 0, None)
    everywhere[:] = swapped[latest]
    for group, rows in zip(groups, everywhere.T, strict=True):
        keypoints = _exchanged(keypoints, group, rows)
    return keypoints


def _exchanged(
    keypoints: Keypoints, group: Int[np.ndarray, " points"], rows: Bool[np.ndarray, " frames"]
) -> Keypoints:
    """Key-points of `group` under each other's names in the frames of `rows`."""
    order = np.arange(len(keypoints.names))
    order[group] = [keypoints.index(mirrored(keypoints.names[i])) for i in group]

    def exchange(values: np.ndarray) -> np.ndarray:
        out = values.copy()
        out[rows] = values[rows][:, order]
        return out

    return replace(
        keypoints,
        xy_px=exchange(keypoints.xy_px),
        confidence=exchange(keypoints.confidence),
        xyz_m=None if keypoints.xyz_m is None else exchange(keypoints.xyz_m),
    )


def _least_movement(
    keypoints: Keypoints, frames: Int[np.ndarray, " seen"], groups: list[np.ndarray]
) -> Bool[np.ndarray, "seen 2"]:
    """Which of the seen frames are swapped, per group."""
    step_cost = np.zeros((len(frames) - 1, len(STATES), len(STATES)))
    near = np.diff(frames) <= max(1.0, LONGEST_GAP_S * keypoints.fps)
    for g, group in enumerate(groups):
        kept, flipped = _movement(keypoints, frames, group)
        change = STATES[:, None, g] != STATES[None, :, g]
        cost = np.where(change, (flipped + FLIP)[:, None, None], kept[:, None, None])
        step_cost += np.where(near[:, None, None], cost, 0.0)
    own_cost = SWAPPED * STATES.sum(axis=1) + TWIST * (STATES[:, 0] != STATES[:, 1])
    own_costs = own_cost[None] + _facing_cost(keypoints, frames)[:, STATES[:, 0]]
    return STATES[_viterbi(own_costs, step_cost)].astype(bool)


def _viterbi(
    own: Float[np.ndarray, "steps states"], step: Float[np.ndarray, "changes states states"]
) -> Int[np.ndarray, " steps"]:
    """The cheapest path: `own[t, s]` for being in s, `step[t, s, r]` for going from s to r."""
    total = own[0]
    back = np.zeros((len(step), own.shape[1]), int)
    for t in range(len(step)):
        reached = total[:, None] + step[t]
        back[t] = reached.argmin(axis=0)
        total = reached.min(axis=0) + own[t + 1]
    path = [int(total.argmin())]
    for previous in back[::-1]:
        path.append(int(previous[path[-1]]))
    return np.array(path[::-1])


def _movement(
    keypoints: Keypoints, frames: Int[np.ndarray, " seen"], group: Int[np.ndarray, " points"]
) -> tuple[Float[np.ndarray, " changes"], Float[np.ndarray, " changes"]]:
    """Mean movement between seen frames, in torso lengths: labels kept, and labels exchanged."""
    confidence = keypoints.confidence[frames][:, group]
    twins = [keypoints.index(mirrored(keypoints.names[i])) for i in group]
    kept = flipped = np.zeros(len(frames) - 1)
    spaces = [keypoints.xy_px[frames]]
    if keypoints.xyz_m is not None:
        spaces.append(keypoints.xyz_m[frames])
    for points in spaces:
        unit = _torso_length(keypoints, points)
        a, b, twin = points[:-1][:, group], points[1:][:, group], points[1:][:, twins]
        twin_confidence = keypoints.confidence[frames][1:][:, twins]
        kept = kept + _mean_distance(a, b, confidence[:-1] * confidence[1:], unit)
        flipped = flipped + _mean_distance(a, twin, confidence[:-1] * twin_confidence, unit)
    return kept / len(spaces), flipped / len(spaces)


def _mean_distance(
    a: Float[np.ndarray, "changes points dims"],
    b: Float[np.ndarray, "changes points dims"],
    weight: Float[np.ndarray, "changes points"],
    unit: float,
) -> Float[np.ndarray, " changes"]:
    distance = np.minimum(np.linalg.norm(a - b, axis=-1) / unit, FURTHEST)
    weight = np.where(np.isfinite(distance), weight, 0.0)
    return (weight * np.nan_to_num(distance)).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-6)


def _torso_length(keypoints: Keypoints, points: Float[np.ndarray, "seen points dims"]) -> float:
    """Median distance of shoulders and hips on one side; shoulder width where hips are unseen."""
    pairs = [(f"{s}_shoulder", f"{s}_hip") for s in ("left", "right")]
    lengths = [
        np.linalg.norm(points[:, keypoints.index(a)] - points[:, keypoints.index(b)], axis=-1)
        for a, b in (*pairs, ("left_shoulder", "right_shoulder"))
        if {a, b} <= set(keypoints.names)
    ]
    known = [v[np.isfinite(v)] for v in lengths]
    torso = next((float(np.median(v)) for v in known if len(v)), 1.0)
    return max(torso, 1e-6)


def _facing_cost(
    keypoints: Keypoints, frames: Int[np.ndarray, " seen"]
) -> Float[np.ndarray, "seen 2"]:
    """Cost of leaving (column 0) or exchanging (column 1) the sides of the upper body.

    A person who shows the face has the left shoulder on the right of the image. Not seeing a face
    proves no back view, since faces may be hidden; but where the detector says back view, it
    outvotes the odd face found in hair.
    """
    face = [i for i, n in enumerate(keypoints.names) if n.startswith("face_")]
    cost = np.zeros((len(frames), 2))
    if not face:
        return cost
    shown = keypoints.confidence[frames][:, face].mean(axis=1) > 0.5
    left, right = (keypoints.index(f"{s}_shoulder") for s in ("left", "right"))
    across = keypoints.xy_px[frames, left, 0] - keypoints.xy_px[frames, right, 0]
    # Near profile the order of the shoulders says nothing.
    wide = 0.4 * _torso_length(keypoints, keypoints.xy_px[frames])
    cost[shown & (across < -wide), 0] = FACING
    cost[~shown & (across < -wide), 1] = FACING
    cost[shown & (across > wide), 1] = FACING
    return cost
