"""Where straight limbs would bend, read from how the mesh is made.

At rest nothing in the shape of a straight arm says where its elbow is, but who made the mesh knew.
A mannequin's limb is cut into rigid pieces, and bends where these meet. Another's is cut into more
rings of edges where it has to bend than elsewhere ("edge loops"), so that vertices are dense there.
Clothes are pieces too, but a sleeve goes over the elbow and a boot over the ankle; so a limb only
counts as cut when it is cut at its end as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from mvai.body.model import LinearBody
from mvai.geometry.surface import components, weld
from mvai.types import Mesh
from mvai.types.names import SIDES

LIMBS = tuple(
    (side + a, side + b, side + c)
    for side in SIDES
    for a, b, c in (("Arm", "ForeArm", "Hand"), ("UpLeg", "Leg", "Foot"))
)
"""First joint, the one in the middle, and the end of each limb."""
WINDOW = 0.13
"""How far, as a share of the limb, a bend may be from where the template has it."""
LONG = 0.2
"""Pieces that reach less far along a limb are balls, buckles and screws."""
OVERLAP = 0.03
"""How far pieces may reach into each other."""
GAP = 0.1
"""How far apart pieces may be that meet."""
BLUR = 0.035
"""Width over which vertices are counted."""
LEAST, CLEAR = 1.9, 2.9
"""Vertices at a bend, as a multiple of those along the limb: a hint from the first on, sure from
the second."""
FEW = 20
"""Limbs with fewer vertices show no density."""


@dataclass(frozen=True)
class Bend:
    """Where a limb bends."""

    share: float
    """From its first joint to its end, 0 to 1."""
    confidence: float
    """0 to 1."""


def limb_bends(
    body: LinearBody,
    fitted: Float[np.ndarray, "body_verts 3"],
    t_joint: Float[np.ndarray, "joints 3"],
    mesh: Mesh,
) -> list[Bend | None]:
    """The bend of each of `LIMBS`, None where the mesh does not show it.

    Args:
        body: the template.
        fitted: its vertices on the character.
        t_joint: its joints there.
        mesh: the character at rest.
    """
    first, welded = weld(mesh.vertices, 1e-5 * float(np.ptp(mesh.vertices[:, 1])))
    vertices = mesh.vertices[first].astype(np.float64)
    piece = components(len(vertices), welded[mesh.faces])
    bone = _nearest_bone(body, fitted, vertices)
    found: list[Bend | None] = []
    for limb in LIMBS:
        start, middle, end = (t_joint[body.joint(n)] for n in limb)
        way = end - start
        along = (vertices - start) @ way / (way @ way)
        expected = float((middle - start) @ way / (way @ way))
        below = _below(body, body.joint(limb[0]))
        on_limb = np.isin(bone, below)
        found.append(
            _cut(along, piece, on_limb, expected)
            or _dense(along[np.isin(bone, below[:2])], piece[np.isin(bone, below[:2])], expected)
        )
    return _alike(found)


def _below(body: LinearBody, top: int) -> list[int]:
    """A joint and all that hang from it, parents first."""
    found = [top]
    for j in range(top + 1, len(body.joints)):
        if body.parents[j] in found:
            found.append(j)
    return found


def _nearest_bone(
    body: LinearBody, fitted: np.ndarray, points: Float[np.ndarray, "n 3"]
) -> Int[np.ndarray, " n"]:
    return body.strongest_joint[KDTree(fitted).query(points)[1]]


def _cut(along: np.ndarray, piece: np.ndarray, on_limb: np.ndarray, expected: float) -> Bend | None:
    """Where pieces meet at the middle of a limb that is also cut at its end."""
    low, high = [], []
    for p in np.unique(piece[on_limb]):
        mine = piece == p
        if on_limb[mine].mean() > 0.6 and np.ptp(along[mine]) > LONG:
            low.append(along[mine].min())
            high.append(along[mine].max())
    if len(low) < 2:
        return None
    starts, ends = np.array(low), np.array(high)

    def through(s: np.ndarray) -> np.ndarray:
        """How far pieces reach past both sides of a cut."""
        s = s[:, None]
        return np.clip(np.minimum(ends - s, s - starts), 0, None).sum(1)

    at_end = through(1 + np.linspace(-WINDOW, WINDOW, 105))
    s = expected + np.linspace(-WINDOW, WINDOW, 105)
    across = through(s)
    if max(across.min(), at_end.min()) > OVERLAP:
        return None
    free = s[across < across.min() + 1e-3]
    cut = float(free[np.abs(free - np.median(free)).argmin()])
    before, after = ends[ends < cut + 2 * OVERLAP], starts[starts > cut - 2 * OVERLAP]
    if not len(before) or not len(after) or after.min() - before.max() > GAP:
        return None
    return Bend(cut, 1.0)


def _dense(along: np.ndarray, piece: np.ndarray, expected: float) -> Bend | None:
    """Where vertices of what bends there are densest."""
    bending = np.zeros(len(along), bool)
    for p in np.unique(piece):
        mine = piece == p
        low, high = np.percentile(along[mine], [2, 98])
        bending |= mine & (low < expected - LONG) & (high > expected + LONG)
    if bending.sum() < FEW:
        return None
    grid = np.linspace(0.1, 0.9, 161)
    density = np.exp(-(((grid[:, None] - along[bending]) / BLUR) ** 2) / 2).sum(1)
    usual = float(np.median(density))
    near = np.exp(-(((grid - expected) / WINDOW) ** 2) / 2) * (np.abs(grid - expected) < WINDOW)
    peak = float((density * (near > 0)).max() / usual)
    weight = (np.clip(density - usual, 0, None) * near) ** 2
    confidence = float(np.clip((peak - LEAST) / (CLEAR - LEAST), 0, 1)) ** 2
    if confidence == 0 or weight.sum() == 0:
        return None
    return Bend(float(weight @ grid / weight.sum()), confidence)


def _alike(found: list[Bend | None]) -> list[Bend | None]:
    """Left and right limbs bend at one place."""
    half = len(found) // 2
    both: list[Bend | None] = []
    for pair in zip(found[:half], found[half:], strict=True):
        seen = [b for b in pair if b is not None]
        weight = sum(b.confidence for b in seen)
        if not seen:
            both.append(None)
            continue
        share = sum(b.share * b.confidence for b in seen) / weight
        both.append(Bend(share, weight / 2))
    return both + both
