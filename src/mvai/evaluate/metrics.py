"""Measures of reconstructed and of acting bodies: pure functions of arrays.

Points are in metres, results in millimetres. NaN marks what is not known and is left out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from mvai.geometry.rigid import similarity

ADULT_HEIGHT_M = 1.75
CONTACT_HEIGHT_M = 0.03
"""A foot whose lowest vertex is nearer than this to the floor is in contact, for an adult."""
SOLE_SHARE = 0.02
"""The sole is what lies in this lowest part of a standing character's height."""
SHORTEST_EDGE_M = 1e-4
"""Shorter edges are seams and slivers whose stretch nobody sees."""


def root_relative(
    points: Float[np.ndarray, "frames points 3"], hips: tuple[int, int]
) -> Float[np.ndarray, "frames points 3"]:
    """Points relative to the middle of the hips (VIBE's root; Kocabas et al., CVPR 2020)."""
    return points - points[:, list(hips)].mean(axis=1, keepdims=True)


def joint_errors(
    predicted: Float[np.ndarray, "frames points 3"],
    reference: Float[np.ndarray, "frames points 3"],
    hips: tuple[int, int],
) -> Float[np.ndarray, "frames points"]:
    """Distance of every joint from its reference, both root-relative, in millimetres."""
    difference = root_relative(predicted, hips) - root_relative(reference, hips)
    return 1000 * np.linalg.norm(difference, axis=-1)


def mpjpe(
    predicted: Float[np.ndarray, "frames points 3"],
    reference: Float[np.ndarray, "frames points 3"],
    hips: tuple[int, int],
) -> float:
    """Mean per joint position error in millimetres (Ionescu et al., Human3.6M, 2014).

    Both sides are taken relative to the middle of the hips; no scale, no rotation.
    """
    return float(np.nanmean(joint_errors(predicted, reference, hips)))


def pa_mpjpe(
    predicted: Float[np.ndarray, "frames points 3"],
    reference: Float[np.ndarray, "frames points 3"],
) -> float:
    """MPJPE in millimetres after the best similarity of each frame (Procrustes; Umeyama 1991).

    Frames in which a point is not known are left out.
    """
    errors = []
    for p, q in zip(predicted, reference, strict=True):
        if np.isfinite(p).all() and np.isfinite(q).all():
            s, R, t = similarity(p, q)
            errors.append(np.linalg.norm(s * p @ R.T + t - q, axis=-1).mean())
    return 1000 * float(np.mean(errors)) if errors else float("nan")


def second_difference(
    points: Float[np.ndarray, "frames points 3"],
) -> Float[np.ndarray, "frames-2 points 3"]:
    """x(t-1) - 2 x(t) + x(t+1)."""
    return points[:-2] - 2 * points[1:-1] + points[2:]


def accel(points: Float[np.ndarray, "frames points 3"]) -> float:
    """Mean norm of the second difference, millimetres a frame squared: how much a motion shakes.

    A true motion has some as well; see `accel_error` for what is too much.
    """
    return 1000 * float(np.nanmean(np.linalg.norm(second_difference(points), axis=-1)))


def accel_error(
    predicted: Float[np.ndarray, "frames points 3"],
    reference: Float[np.ndarray, "frames points 3"],
) -> float:
    """Mean norm of the difference of accelerations, millimetres a frame squared.

    Kanazawa et al., "Learning 3D Human Dynamics from Video", CVPR 2019.
    """
    return accel(predicted - reference)


def pose_errors(
    predicted: Float[np.ndarray, "frames points 3"],
    reference: Float[np.ndarray, "frames points 3"],
    hips: tuple[int, int],
    first: int = 0,
) -> dict[str, float]:
    """The measures of a pose over time: MPJPE, PA-MPJPE, Accel and Accel error, by these names.

    Args:
        hips: points whose middle is the root; the same one twice for a root that is one point.
        first: points before this one are the root's only and not measured.
    """
    p, q = (root_relative(x, hips)[:, first:] for x in (predicted, reference))
    return {
        "mpjpe_mm": float(np.nanmean(joint_errors(predicted, reference, hips)[:, first:])),
        "pa_mpjpe_mm": pa_mpjpe(predicted[:, first:], reference[:, first:]),
        "accel_mm": accel(p),
        "accel_error_mm": accel_error(p, q),
    }


def swapped_sides(
    predicted: Float[np.ndarray, "frames points 3"],
    reference: Float[np.ndarray, "frames points 3"],
    mirror: Int[np.ndarray, " points"],
) -> Bool[np.ndarray, " frames"]:
    """Frames that are nearer to the reference with left and right exchanged than to itself.

    Args:
        predicted: root-relative points of a pair of limbs.
        reference: likewise.
        mirror: index of each point's twin on the other side.
    """
    to_itself = np.linalg.norm(predicted - reference, axis=-1).mean(axis=1)
    to_twin = np.linalg.norm(predicted - reference[:, mirror], axis=-1).mean(axis=1)
    return to_twin < to_itself


def residual_px(
    projected: Float[np.ndarray, "frames points 2"],
    detected: Float[np.ndarray, "frames points 2"],
    confidence: Float[np.ndarray, "frames points"],
    least: float = 0.5,
) -> float:
    """Mean distance in pixels, weighted by confidence, of key-points surer than `least`.

    NaN when there are none.
    """
    distance = np.linalg.norm(projected - detected, axis=-1)
    weight = np.where((confidence > least) & np.isfinite(distance), confidence, 0.0)
    if weight.sum() == 0:
        return float("nan")
    return float((weight * np.nan_to_num(distance)).sum() / weight.sum())


def edges_of(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "edges 2"]:
    """Every edge of a triangle mesh once, lower index first."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def edge_stretch(
    rest: Float[np.ndarray, "verts 3"],
    posed: Float[np.ndarray, "frames verts 3"],
    edges: Int[np.ndarray, "edges 2"],
) -> Float[np.ndarray, "frames kept"]:
    """max(r, 1/r) of the ratio r of posed to rest length, of all edges in all frames.

    Edges shorter than a tenth of a millimetre at rest are left out; one that collapses gives inf.
    """
    rest_m = np.linalg.norm(rest[edges[:, 0]] - rest[edges[:, 1]], axis=-1)
    kept = edges[rest_m >= SHORTEST_EDGE_M]
    rest_m = rest_m[rest_m >= SHORTEST_EDGE_M]
    posed_m = np.linalg.norm(posed[:, kept[:, 0]] - posed[:, kept[:, 1]], axis=-1)
    with np.errstate(divide="ignore"):
        ratio = posed_m / rest_m
        return np.maximum(ratio, 1 / ratio).astype(np.float32)


def sole_vertices(
    rest: Float[np.ndarray, "verts 3"],
) -> tuple[Int[np.ndarray, " left"], Int[np.ndarray, " right"]]:
    """Vertices of the left and the right sole of a character that stands facing +Z.

    They lie in the lowest 2 % of its height (3.5 cm of 1.75 m), whatever rig it has; what is left
    of its middle is the left foot.
    """
    low = rest[:, 1].min()
    near = np.flatnonzero(rest[:, 1] < low + SOLE_SHARE * np.ptp(rest[:, 1]))
    middle = (rest[near, 0].min() + rest[near, 0].max()) / 2
    left = rest[near, 0] > middle
    return near[left], near[~left]


def foot_slide(
    feet: list[Float[np.ndarray, "frames verts 3"]],
    height_m: float,
) -> tuple[float, float, float]:
    """How far planted feet slide, and how often feet are planted.

    A vertex of a sole is in contact in a frame when it is within 3 cm of the floor (scaled by the
    character's height over 1.75 m), and it slides by its horizontal movement from a frame in
    contact to the next one. Speed is no part of the rule, since a foot that slides is fast; so a
    foot that rolls, or swings past just above the floor, counts too: the mean of a true walk is
    not 0, and the median says more about feet that stand.

    The floor is the motion's own: the height of the lowest sole vertex in the lower frames (10th
    percentile), so that one frame that sinks in does not move it.

    Args:
        feet: sole vertices of each foot (world, metres, +Y up).
        height_m: height of the character at rest.

    Returns:
        Mean and median over feet and steps with contact of the mean slide of the vertices in
        contact, millimetres a frame (NaN without contact), and the share of feet and steps with
        contact.
    """
    feet = [foot for foot in feet if foot.shape[1]]
    if not feet or len(feet[0]) < 2:
        return float("nan"), float("nan"), 0.0
    lowest = np.min([foot[..., 1].min(axis=1) for foot in feet], axis=0)
    reach = np.quantile(lowest, 0.1) + CONTACT_HEIGHT_M * height_m / ADULT_HEIGHT_M
    slides, steps = [], 0
    for foot in feet:
        near = foot[..., 1] < reach
        both = near[1:] & near[:-1]
        moved = np.linalg.norm(np.diff(foot[..., [0, 2]], axis=0), axis=-1)
        on = both.any(axis=1)
        slides.append((moved * both).sum(axis=1)[on] / both.sum(axis=1)[on])
        steps += len(on)
    slide_mm = 1000 * np.concatenate(slides)
    if not len(slide_mm):
        return float("nan"), float("nan"), 0.0
    return float(slide_mm.mean()), float(np.median(slide_mm)), len(slide_mm) / steps
