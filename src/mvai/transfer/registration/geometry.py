"""Finds the body in a character by its shape alone, for what key-point detectors cannot see.

An upright figure that faces +Z stands on two columns that meet at the crotch and holds its arms
away from the trunk. Legs are followed from slice to slice of equal height, arms from the tips
inwards through slices of equal distance from the middle. What one side only carries (a sword, a
bag) is left out. Proportions within a limb are those of people (Winter, Biomechanics and Motor
Control of Human Movement, 2009, table 4.1).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from mvai.geometry.surface import sample_surface
from mvai.transfer.registration.find_joints import FoundJoints
from mvai.types import Mesh

SAMPLES = 12000
PAIRED = 0.02
"""A point whose mirror image is further than this from the surface, as a share of the height,
belongs to one side only."""
SLICE = 0.015
"""Thickness of slices as a share of the height."""
GAP = 0.03
"""Points further apart than this, as a share of the height, belong to different limbs."""
ELBOW, WRIST = 0.40, 0.74
"""Where the joints of an arm are between the shoulder and the tip of the hand."""
KNEE = 0.50
"""Where the knee is between hip and ankle."""
SOLE = 0.03
"""Height of the slice that feet stand in, as a share of the character's."""
HEEL, TOES = 0.1, 0.1
"""How far heel and big toe's joint are from the ends of the foot, as shares of its length."""
SHORT_ARM = 0.12
"""Arms that reach out less than this from the trunk hang at its side and cannot be followed."""
CONFIDENCE = 0.7
PROPORTIONS_BETWEEN = {
    "leg": ("hip", "ankle"),
    "arm": ("shoulder", "wrist"),
    "trunk": ("shoulder", "hip"),
}
PROPORTIONS = {"leg": (0.33, 0.62), "arm": (0.22, 0.5), "trunk": (0.17, 0.4)}
"""Lengths of people's limbs and trunk as shares of the height, widened by a third (Winter 2009)."""


def joints_by_shape(mesh: Mesh) -> FoundJoints:
    """Joints of arms and legs, heels and toes, as far as the shape shows them.

    Names that are not found are left out.
    """
    points, _ = sample_surface(mesh.vertices, mesh.faces, SAMPLES)
    height = float(np.ptp(points[:, 1]))
    points = _paired(points, height)
    low = float(points[:, 1].min())
    height = float(points[:, 1].max()) - low
    half = points * [-1, 1, 1]
    half = np.concatenate([points, half])
    half = half[half[:, 0] >= 0] - [0, low, 0]  # Both sides laid over each other.
    found: dict[str, np.ndarray] = {}
    crotch = _crotch(half, height)
    if crotch is not None:
        found |= _leg(half, height, crotch)
    found |= _arm(half, height, 0.45 * height if crotch is None else crotch)
    names, xyz = [], []
    for sign, side in ((1, "left"), (-1, "right")):
        for name, at in found.items():
            names.append(f"{side}_{name}")
            xyz.append((at + np.array([0, low, 0])) * [sign, 1, 1])
    return FoundJoints(tuple(names), np.array(xyz).reshape(-1, 3), np.full(len(names), CONFIDENCE))


def of_human_proportions(found: FoundJoints, height: float) -> bool:
    """Whether legs, arms and trunk are as long as people's, give or take a third, as shares of the
    height."""
    at = dict(zip(found.names, found.xyz_m / height, strict=True))
    if not at.keys() >= {f"left_{n}" for n in ("hip", "ankle", "shoulder", "wrist")}:
        return False
    lengths = {
        part: float(np.linalg.norm(at[f"left_{a}"] - at[f"left_{b}"]))
        for part, (a, b) in PROPORTIONS_BETWEEN.items()
    }
    return all(low < lengths[part] < high for part, (low, high) in PROPORTIONS.items())


def _paired(points: Float[np.ndarray, "n 3"], height: float) -> Float[np.ndarray, "m 3"]:
    """The points that have a mirror image about x = 0; all, when that is less than half."""
    distance, _ = KDTree(points).query(points * [-1, 1, 1])
    kept = points[distance < PAIRED * height]
    return kept if len(kept) > len(points) / 2 else points


def _cluster(values: np.ndarray, near: float, gap: float) -> tuple[float, float] | None:
    """Range of the values around `near` without a gap; None when there is nothing near."""
    v = np.sort(values)
    if not len(v):
        return None
    breaks = np.flatnonzero(np.diff(v) > gap)
    starts, ends = np.r_[0, breaks + 1], np.r_[breaks, len(v) - 1]
    away = np.maximum(np.maximum(v[starts] - near, near - v[ends]), 0)
    best = int(away.argmin())
    return None if away[best] > 2 * gap else (float(v[starts[best]]), float(v[ends[best]]))


def _slice(half: np.ndarray, axis: int, at: float, thickness: float) -> np.ndarray:
    return half[np.abs(half[:, axis] - at) < thickness / 2]


def _crotch(half: np.ndarray, height: float) -> float | None:
    """Height at which the legs part; None when they do not (a robe, a long skirt)."""
    steps = np.arange(0.01, 0.6, SLICE / 2) * height
    open_between = []
    for y in steps:
        inside = _slice(half, 1, y, SLICE * height)
        open_between.append(len(inside) > 3 and inside[:, 0].min() > 0.008 * height)
    ground = np.flatnonzero(open_between)
    if len(ground) < 4:
        return None
    top = ground[0]
    for i in ground[1:]:
        if i - top > 4:
            break
        top = i
    # A gap only between the shoes is no pair of legs.
    return float(steps[top]) if steps[top] - steps[ground[0]] > 0.05 * height else None


def _leg(half: np.ndarray, height: float, crotch: float) -> dict[str, np.ndarray]:
    def centre(y: float, near: float) -> np.ndarray:
        inside = _slice(half, 1, y, 1.5 * SLICE * height)
        span = _cluster(inside[:, 0], near, GAP * height)
        if span is None:
            return np.array([near, y, float(half[:, 2].mean())])
        leg = inside[(inside[:, 0] >= span[0]) & (inside[:, 0] <= span[1])]
        return np.array([(span[0] + span[1]) / 2, y, (leg[:, 2].min() + leg[:, 2].max()) / 2])

    near = _slice(half, 1, 0.9 * crotch, 2 * SLICE * height)[:, 0].min()
    thigh = centre(0.92 * crotch, near)
    shin = centre(0.2 * crotch, thigh[0])
    ankle = shin + (shin - centre(0.35 * crotch, thigh[0])) * 0.6
    ankle[1] = 0.11 * crotch
    hip = thigh + np.array([-0.1 * thigh[0], 0.17 * crotch, 0])
    knee = centre(float(ankle[1] + (1 - KNEE) * (hip[1] - ankle[1])), (thigh[0] + shin[0]) / 2)
    return {"hip": hip, "knee": knee, "ankle": ankle} | _foot(half, height, ankle[0])


def _foot(half: np.ndarray, height: float, near: float) -> dict[str, np.ndarray]:
    """Heel and toes: the back and the front of what stands on the ground under the ankle."""
    sole = half[half[:, 1] < SOLE * height]
    span = _cluster(sole[:, 0], near, GAP * height)
    if span is None:
        return {}
    sole = sole[(sole[:, 0] >= span[0]) & (sole[:, 0] <= span[1])]
    x, y = (span[0] + span[1]) / 2, 0.5 * SOLE * height
    back, front = sole[:, 2].min(), sole[:, 2].max()
    return {
        "heel": np.array([x, y, back + HEEL * (front - back)]),
        "foot_index": np.array([x, y, front - TOES * (front - back)]),
    }


def _arm(half: np.ndarray, height: float, crotch: float) -> dict[str, np.ndarray]:
    trunk = _slice(half, 1, 1.25 * crotch, 2 * SLICE * height)
    span = _cluster(trunk[:, 0], 0.0, GAP * height)
    if span is None:
        return {}
    width = span[1]
    above = half[half[:, 1] > 0.6 * crotch]
    tip_x = float(above[:, 0].max())
    if tip_x - width < SHORT_ARM * height:
        return {}
    tips = above[above[:, 0] > tip_x - SLICE * height]
    y = float(np.median(tips[:, 1]))
    line = [np.array([tip_x, y, float(np.median(tips[:, 2]))])]
    for x in np.arange(tip_x - SLICE * height, 0.9 * width, -SLICE / 2 * height):
        column = _slice(above, 0, x, SLICE * height)
        reach = _cluster(column[:, 1], y, GAP * height)
        if reach is None or reach[1] - reach[0] > 0.3 * height:
            break
        inside = column[(column[:, 1] >= reach[0]) & (column[:, 1] <= reach[1])]
        y = (reach[0] + reach[1]) / 2
        line.append(np.array([x, y, (inside[:, 2].min() + inside[:, 2].max()) / 2]))
    path = np.array(line[::-1])
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    if along[-1] < SHORT_ARM * height:
        return {}

    def at(share: float) -> np.ndarray:
        return np.array([np.interp(share * along[-1], along, path[:, k]) for k in range(3)])

    return {"shoulder": at(0.0), "elbow": at(ELBOW), "wrist": at(WRIST)}
