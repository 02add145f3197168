"""Which way a humanoid mesh stands and faces, and in which unit it is written.

A person is the same left and right, is spread more along the height than from front to back,
stands on two separate feet and under one head, and has toes in front of the ankles. Each of the
24 ways to lay axes along these directions is scored by these cues on points of the surface; small
priors say what file formats usually do. The cues and weights are this project's own, set on
sixteen published characters turned in every way.
"""

from __future__ import annotations

import itertools
import re
from typing import Literal

import numpy as np
from jaxtyping import Float

from mvai.types import Mesh, Skin

Up = Literal["auto", "x", "y", "z"]
Facing = Literal["auto", "+x", "-x", "+y", "-y", "+z", "-z"]

SAMPLES = 6000
UNITS_M = (0.01, 0.001, 0.0254, 0.1)
"""Centimetre, millimetre, inch, decimetre, in the order in which they are tried."""
USUAL_HEIGHT_M = 1.7


def surface_points(mesh: Mesh, count: int = SAMPLES) -> Float[np.ndarray, "points 3"]:
    """Points spread evenly over the surface, the same ones at every call."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    random = np.random.default_rng(0)
    sums = np.cumsum(area)
    face = np.searchsorted(sums, random.random(count) * sums[-1]).clip(0, len(sums) - 1)
    u, v = random.random((2, count, 1))
    over = u + v > 1  # Points beyond the diagonal are folded back into the triangle.
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    return a[face] + u * (b - a)[face] + v * (c - a)[face]


def rotation_to_world(
    mesh: Mesh, skin: Skin | None, up: Up, facing: Facing, usual_up: str, trust: float
) -> Float[np.ndarray, "3 3"]:
    """The rotation that takes the file's axes to +Y up and +Z facing.

    Args:
        mesh: the character in the file's frame.
        skin: its rig, whose joint names tell sides, or None.
        up: the file's up axis if known.
        facing: the file's facing direction if known.
        usual_up: "y" or "z", what files of this format usually have.
        trust: how strongly the format vouches for it; 0 not at all, 1 as a rule of its
            specification.

    Returns:
        R_world_file, a permutation of axes with signs and determinant +1.
    """
    points = surface_points(mesh)
    cues = _Cues(points)
    best, best_score = np.eye(3), -np.inf
    for u, f in itertools.product(_signed_axes(), _signed_axes()):
        if abs(u @ f) > 0 or (up != "auto" and _text(u) != f"+{up}"):
            continue
        if facing != "auto" and _text(f) != facing:
            continue
        R = np.stack([np.cross(u, f), u, f])  # Rows: the world's x, y and z in the file's axes.
        score = cues.score(R) + _prior(u, f, usual_up, trust)
        if skin is not None:
            score += _rig_score(skin, R)
        if score > best_score:
            best, best_score = R, score
    return best


class _Cues:
    """Scores of the shape; what several candidates share is computed once."""

    def __init__(self, points: Float[np.ndarray, "points 3"]) -> None:
        extent = np.ptp(points, axis=0)
        self.points = points
        mirrored = [_mirror_distances(points, axis) for axis in range(3)]
        self.asymmetry = np.array([d.mean() for d in mirrored]) / extent.max() + 1e-4
        # What one side only carries (a sword, a bag) says little about how the body stands.
        self.paired = [points[d <= 0.02 * extent.max()] for d in mirrored]

    def score(self, R: Float[np.ndarray, "3 3"]) -> float:
        """Larger for a more likely R_world_file."""
        lateral = int(np.abs(R[0]).argmax())
        chosen = self.paired[lateral]
        p = (chosen if len(chosen) > len(self.points) // 4 else self.points) @ R.T
        height = np.ptp(p[:, 1])
        if height <= 0:
            return -np.inf
        h = (p[:, 1] - p[:, 1].min()) / height
        side = np.abs(p[:, 0] - np.median(p[:, 0])) / height
        depth = p[:, 2] / height

        def mean(values: np.ndarray, low: float, high: float) -> float:
            inside = (h >= low) & (h <= high)
            return float(values[inside].mean()) if inside.sum() > 5 else 0.0

        symmetry = -np.log(self.asymmetry[lateral])
        tall = np.log((p[:, 1].std() + 1e-9) / (p[:, 2].std() + 1e-9))
        # Two legs leave the middle free at the bottom; one head fills it at the top.
        spread = np.log((mean(side, 0, 0.15) + 0.01) / (mean(side, 0.85, 1) + 0.01))
        middle = mean(side < 0.03, 0.85, 1) - mean(side < 0.03, 0, 0.15)
        # Feet are longer than the shins are deep; the crown is shorter than the head is deep.
        flare = _depth(h, depth, 0, 0.05) - _depth(h, depth, 0.07, 0.15)
        taper = _depth(h, depth, 0.85, 0.93) - _depth(h, depth, 0.95, 1)
        return float(
            2.0 * symmetry
            + 1.5 * np.clip(tall, -1, 1)
            + 0.5 * np.clip(spread, -1.5, 1.5)
            + middle
            + 0.7 * np.clip(flare + taper, -1, 1)
            + _toes(h, depth)
        )


def _depth(h: np.ndarray, depth: np.ndarray, low: float, high: float) -> float:
    """Logarithm of the spread from front to back in a slab of the body."""
    inside = depth[(h >= low) & (h <= high)]
    return float(np.log((inside.std() if len(inside) > 5 else 0.0) + 0.005))


def _toes(h: np.ndarray, depth: np.ndarray) -> float:
    """How clearly the feet reach further forward of the shins than behind them, -1 to 1.

    Heights and depths are in body heights. A cloak or legs without proper feet say little.
    """
    foot, shin = depth[h < 0.06], depth[(h > 0.08) & (h < 0.2)]
    if len(foot) < 10 or len(shin) < 10:
        return 0.0
    shin_back, shin_front = np.quantile(shin, (0.05, 0.95))
    reach = (foot.max() - shin_front) - (shin_back - foot.min())
    is_foot = np.ptp(foot) > 1.2 * np.ptp(shin)
    return float(np.clip(reach / 0.03, -1, 1)) * (1.0 if is_foot else 0.25)


def _mirror_distances(
    points: Float[np.ndarray, "points 3"], axis: int
) -> Float[np.ndarray, " points"]:
    """Distance of every point's mirror image from the surface, for the best of three planes."""
    from scipy.spatial import KDTree

    tree = KDTree(points)
    x = points[:, axis]
    best: np.ndarray | None = None
    for middle in (np.median(x), (x.min() + x.max()) / 2, x.mean()):
        image = points.copy()
        image[:, axis] = 2 * middle - x
        distance = tree.query(image)[0]
        if best is None or distance.mean() < best.mean():
            best = distance
    assert best is not None
    return best


def _prior(u: np.ndarray, f: np.ndarray, usual_up: str, trust: float) -> float:
    """What the format usually does; people on their heads are rare whatever the format."""
    score = (0.5 + 0.5 * trust) * float(u.max() > 0)
    score += (0.3 + trust) * float(_text(u) == f"+{usual_up}")
    score += 0.2 * float(_text(u) in ("+y", "+z"))
    usual_facing = {"+y": "+z", "+z": "-y"}.get(_text(u))
    return score + (0.6 + 0.3 * trust) * float(_text(f) == usual_facing)


SIDE = re.compile(r"(?i)(?:(left|right)|(?<![a-z])([lr])(?![a-z]))")


def _rig_score(skin: Skin, R: Float[np.ndarray, "3 3"]) -> float:
    """Agreement with a rig whose joints are named after sides, heads and feet."""
    where = dict(zip(skin.joints, skin.T_world_joint[:, :3, 3] @ R.T, strict=True))
    across = []
    for name, x in where.items():
        side = SIDE.search(name)
        if side is None or side.group(0).lower() not in ("l", "left"):
            continue
        word = side.group(0)
        other = {"l": "r", "L": "R", "left": "right", "Left": "Right", "LEFT": "RIGHT"}.get(word)
        twin = where.get(f"{name[: side.start()]}{other}{name[side.end() :]}")
        if twin is not None:
            across.append(x - twin)
    score = 0.0
    if len(across) >= 3:
        left = np.mean(across, axis=0)
        score += 3.0 * left[0] / max(float(np.linalg.norm(left)), 1e-9)
    top = [x for n, x in where.items() if re.search("(?i)head|neck", n)]
    bottom = [x for n, x in where.items() if re.search("(?i)foot|toe|ankle", n)]
    if top and bottom:
        rise = np.mean(top, axis=0) - np.mean(bottom, axis=0)
        score += 3.0 * rise[1] / max(float(np.linalg.norm(rise)), 1e-9)
    return float(score)


def metres_per_unit(height: float) -> float:
    """Scale that makes a character of `height` file units a plausible size.

    Kept between 0.3 and 4 (metres already); else the first unit that gives the height of a grown
    person, or failing that 0.5 to 2.6 m; else whatever gives 1.7 m.
    """
    if 0.3 <= height <= 4.0:
        return 1.0
    for low, high in ((1.2, 2.2), (0.5, 2.6)):
        for unit in UNITS_M:
            if low <= height * unit <= high:
                return unit
    return USUAL_HEIGHT_M / height


def _signed_axes() -> list[Float[np.ndarray, "3"]]:
    return [s * row for row in np.eye(3) for s in (1.0, -1.0)]


def _text(axis: np.ndarray) -> str:
    i = int(np.abs(axis).argmax())
    return ("+" if axis[i] > 0 else "-") + "xyz"[i]
