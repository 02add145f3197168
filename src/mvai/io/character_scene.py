"""Tells a figure from the scene around it: ground, backdrop, sky, furniture, other figures.

Everything is judged by loose pieces (faces joined by vertices in one place). What is taken away is
only what no character has: planes as large as itself, shells around it, slabs under its feet, and
things that stand apart from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from mvai.geometry.surface import components, face_areas_normals, sample_surface, weld
from mvai.geometry.winding import outward_faces
from mvai.types import Mesh

CONSIDERED = 300
"""Pieces that are looked at, the largest first; crumbs cannot decide."""
PLANE, PLANE_SIZE = 0.02, 0.7
"""A piece this thin, as a share of its width, and this wide, as a share of all else, is a plane."""
TERRAIN, TERRAIN_SIZE = 0.15, 1.3
SHELL_SIZE, SHELL_FULL = 1.5, 0.3
"""A piece that reaches this many times as far as all else on every side, and encloses this share
of its box, is a room or a sky."""
SLAB_STEP, SLAB_SIZE, BLOCK = 0.02, 0.2, 0.4
"""What all else stands on ends at most the first above its feet, is wider than the second, both as
shares of its height, and is low or fills more than the third of its box, as no person does."""
NEAR, OF_PIECE = 0.04, 2.5
"""Pieces this near to each other, as a share of the height, hang together; the height of a scene
says little of the figure's where it is more than the second times the largest piece's."""
APART, FAR_APART, ON_GROUND = 0.08, 0.25, 0.12
"""As shares of the figure's height: gap to what does not belong to it if that stands on the ground,
gap if not, and how high above its feet the ground may be."""
TWIN = 0.05
"""Largest difference of a mirrored box from another's, likewise, for the two to be a pair."""
COMPANION = 0.6
"""Least height of a second person, as a share of the first's."""
SOLID, SPARSE, UPRIGHT, NARROW_TOP = 0.02, 0.8, 0.75, 0.65
"""A figure is thicker than the first, as a share of its height (twice its volume by its surface),
fills less than the second of its box, is taller than the third of its width, and its top tenth is
narrower than the last of that."""
LEVELS = np.arange(0.06, 0.36, 0.03)
"""Heights, as shares of a figure's, at which its legs are looked at."""
KNEES, COLUMNS_APART = 0.25, 0.04
"""Columns are counted up to the first of them, and are as far apart as the second."""


@dataclass(frozen=True)
class Pieces:
    """The loose pieces of a mesh."""

    mesh: Mesh
    of_face: Int[np.ndarray, " faces"]
    area: Float[np.ndarray, " pieces"]
    low: Float[np.ndarray, "pieces 3"]
    high: Float[np.ndarray, "pieces 3"]

    @property
    def count(self) -> int:
        return len(self.area)

    def faces(self, which: Bool[np.ndarray, " pieces"]) -> Int[np.ndarray, "some 3"]:
        return self.mesh.faces[which[self.of_face]]

    def moved(self, T: Float[np.ndarray, "4 4"]) -> Pieces:
        """The same under a similarity that takes axes to axes."""
        ends = np.stack([self.low, self.high]) @ T[:3, :3].T + T[:3, 3]
        scale = float(np.cbrt(abs(np.linalg.det(T[:3, :3]))))
        mesh = Mesh(self.mesh.vertices @ T[:3, :3].T + T[:3, 3], self.mesh.faces)
        return replace(
            self, mesh=mesh, area=scale**2 * self.area, low=ends.min(0), high=ends.max(0)
        )


def pieces_of(mesh: Mesh) -> Pieces:
    """The loose pieces; vertices at equal places count as one."""
    _, welded = weld(mesh.vertices, 1e-5 * float(np.ptp(mesh.vertices, axis=0).max()))
    label = components(int(welded.max()) + 1, welded[mesh.faces])[welded[mesh.faces[:, 0]]]
    of_face = np.unique(label, return_inverse=True)[1]
    count = int(of_face.max()) + 1
    corners = mesh.vertices[mesh.faces]
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, of_face, corners.min(axis=1))
    np.maximum.at(high, of_face, corners.max(axis=1))
    area = np.bincount(of_face, face_areas_normals(mesh.vertices, mesh.faces)[0], count)
    return Pieces(mesh, of_face, area, low, high)


def surroundings(pieces: Pieces) -> Bool[np.ndarray, " faces"]:
    """Faces of floors, walls, terrain, rooms and skies, whichever way is up."""
    out = np.zeros(pieces.count, bool)
    for piece in np.argsort(-np.linalg.norm(pieces.high - pieces.low, axis=1))[:10]:
        rest = ~out
        rest[piece] = False
        if rest.any():
            out[piece] = _is_plane(pieces, piece, rest) or _is_shell(pieces, piece, rest)
    return out[pieces.of_face]


def _is_plane(pieces: Pieces, piece: int, rest: Bool[np.ndarray, " pieces"]) -> bool:
    corners = pieces.mesh.vertices[np.unique(pieces.mesh.faces[pieces.of_face == piece])]
    axes = np.linalg.svd(np.cov((corners - corners.mean(0)).T))[0]
    _, width, thickness = np.ptp(corners @ axes, axis=0)
    size = float((pieces.high[rest].max(0) - pieces.low[rest].min(0)).max())
    return bool(
        (thickness < PLANE * width and width > PLANE_SIZE * size)
        or (thickness < TERRAIN * width and width > TERRAIN_SIZE * size)
    )


def _is_shell(pieces: Pieces, piece: int, rest: Bool[np.ndarray, " pieces"]) -> bool:
    low, high = pieces.low[rest].min(0), pieces.high[rest].max(0)
    size = pieces.high[piece] - pieces.low[piece]
    middle = (low + high) / 2
    around = (pieces.low[piece] <= middle).all() and (middle <= pieces.high[piece]).all()
    if not around or (size < SHELL_SIZE * (high - low)).any():
        return False
    mesh = Mesh(pieces.mesh.vertices, pieces.mesh.faces[pieces.of_face == piece])
    return _volume(mesh) > SHELL_FULL * float(size.prod())


def _volume(mesh: Mesh) -> float:
    """What a surface encloses, holes closed by cones, whichever way its faces look."""
    faces = outward_faces(mesh.vertices, mesh.faces)
    corners = mesh.vertices[faces] - mesh.vertices[faces].mean((0, 1))
    return abs(float((np.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum())) / 6


def scenery(pieces: Pieces, surely: bool = False) -> Bool[np.ndarray, " faces"]:
    """Faces of what is under or beside the one figure of a mesh (+Y up).

    None where no figure is made out; with `surely`, where none is that stands on two legs.
    """
    if pieces.count == 1:
        return np.zeros(len(pieces.of_face), bool)
    out = _slabs(pieces)
    cluster = _clusters(pieces, ~out)
    groups = [cluster == c for c in range(cluster.max() + 1)]
    if len(groups) == 1 and not out.any():
        return np.zeros(len(pieces.of_face), bool)
    spared = people(pieces, groups)
    if surely and not (spared and _has_legs(pieces, groups[spared[0]])):
        return np.zeros(len(pieces.of_face), bool)
    if spared:
        belonging = _belonging(pieces, groups, spared[0])
        for c, group in enumerate(groups):
            if c not in spared and c not in belonging:
                out |= group
    return out[pieces.of_face]


def people(pieces: Pieces, groups: list[Bool[np.ndarray, " pieces"]]) -> list[int]:
    """Which groups of pieces (+Y up) are people, the likeliest first.

    Others beside the first are people if they are nearly as tall and stand on two legs; robes and
    skirts hide those, so where the first has none the others need none. None of them stands on
    four, unless all do.
    """
    heights = [float(pieces.high[g, 1].max() - pieces.low[g, 1].min()) for g in groups]
    tall = [k for k, h in enumerate(heights) if h > 0.3 * max(heights)]
    figures = [k for k in tall if is_figure(pieces, groups[k])]
    # A horse beside a rider is as tall; alone it is what the user gave.
    figures = [k for k in figures if not _on_four_legs(pieces, groups[k])] or figures
    legs = {k: _has_legs(pieces, groups[k]) for k in figures}
    figures.sort(key=lambda k: (legs[k], pieces.area[groups[k]].sum()), reverse=True)
    return [
        k
        for k in figures
        if heights[k] > COMPANION * heights[figures[0]] and legs[k] >= legs[figures[0]]
    ]


def _slabs(pieces: Pieces) -> Bool[np.ndarray, " pieces"]:
    """Pedestals, discs and floors: wide pieces that end where all else begins."""
    out = np.zeros(pieces.count, bool)
    for piece in np.argsort(pieces.low[:, 1])[:CONSIDERED]:
        rest = ~out
        rest[piece] = False
        if not rest.any():
            break
        foot = float(pieces.low[rest, 1].min())
        height = float(pieces.high[rest, 1].max()) - foot
        size = pieces.high[piece] - pieces.low[piece]
        under = pieces.high[piece, 1] < foot + SLAB_STEP * height
        if under and (size[[0, 2]] > SLAB_SIZE * height).all():
            own = Mesh(pieces.mesh.vertices, pieces.mesh.faces[pieces.of_face == piece])
            out[piece] = size[1] < SLAB_SIZE * height or _volume(own) > BLOCK * float(size.prod())
    return out


def _clusters(pieces: Pieces, kept: Bool[np.ndarray, " pieces"]) -> Int[np.ndarray, " pieces"]:
    """Pieces that come near each other, numbered from 0; -1 for those that are not kept."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    cluster = np.full(pieces.count, -1)
    which = np.flatnonzero(kept)
    if not len(which):
        return cluster
    largest = which[pieces.area[which].argmax()]
    tall = float(pieces.high[which, 1].max() - pieces.low[which, 1].min())
    near = NEAR * min(tall, OF_PIECE * float(pieces.high[largest, 1] - pieces.low[largest, 1]))
    if near <= 0:
        return np.where(kept, 0, -1)
    points, owner = [], []
    large = which[np.argsort(-pieces.area[which])[:CONSIDERED]]
    for piece in large:
        count = int(np.clip(8 * pieces.area[piece] / near**2, 8, 3000))
        faces = pieces.mesh.faces[pieces.of_face == piece]
        points.append(sample_surface(pieces.mesh.vertices, faces, count)[0])
        owner.append(np.full(count, piece))
    at, of = np.concatenate(points), np.concatenate(owner)
    tree = KDTree(at)
    pairs = tree.query_pairs(near, output_type="ndarray")
    a, b = of[pairs[:, 0]], of[pairs[:, 1]]
    crumbs = np.setdiff1d(which, large)
    middles = (pieces.low[crumbs] + pieces.high[crumbs]) / 2
    if len(crumbs):
        a, b = np.r_[a, crumbs], np.r_[b, of[tree.query(middles)[1]]]
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(pieces.count, pieces.count))
    label = connected_components(graph, directed=False)[1]
    cluster[which] = np.unique(label[which], return_inverse=True)[1]
    return cluster


def is_figure(pieces: Pieces, which: Bool[np.ndarray, " pieces"]) -> bool:
    """Whether pieces together have the bulk of a person: upright, neither a sheet nor a block, and
    narrower at the top."""
    faces = pieces.faces(which)
    mesh = Mesh(pieces.mesh.vertices, faces)
    area = float(pieces.area[which].sum())
    low, high = pieces.low[which].min(0), pieces.high[which].max(0)
    size = high - low
    if area <= 0 or size[1] < UPRIGHT * max(size[0], size[2]):
        return False
    volume = _volume(mesh)
    if 2 * volume < SOLID * size[1] * area or volume > SPARSE * float(size.prod()):
        return False
    points = sample_surface(mesh.vertices, faces, 4000)[0]
    top = points[points[:, 1] > high[1] - 0.1 * size[1]]
    return bool((np.ptp(top, axis=0)[[0, 2]] < NARROW_TOP * max(size[0], size[2])).all())


def _belonging(pieces: Pieces, groups: list[Bool[np.ndarray, " pieces"]], figure: int) -> set[int]:
    """The groups that are part of the figure, by way of others of its parts or at once.

    Others stand on the ground beside it or far away. What comes in pairs on both sides (hands that
    float, shoulder lamps) belongs to it.
    """
    from scipy.spatial import KDTree

    low, high = _box(pieces, groups[figure])
    height = float(high[1] - low[1])
    vertices = pieces.mesh.vertices
    points = [
        sample_surface(vertices, pieces.faces(g), 4000 if c == figure else 1000)[0]
        for c, g in enumerate(groups)
    ]
    boxes = [_box(pieces, g) for g in groups]
    found, newest = {figure}, {figure}
    gap = np.full(len(groups), np.inf)
    while newest:
        tree = KDTree(np.concatenate([points[c] for c in newest]))
        newest = set()
        for c in set(range(len(groups))) - found:
            gap[c] = min(gap[c], float(tree.query(points[c])[0].min()) / height)
            grounded = boxes[c][0, 1] < low[1] + ON_GROUND * height
            near = gap[c] <= FAR_APART
            if near and (gap[c] <= APART or not grounded or _has_pair(boxes, c, low, high)):
                newest.add(c)
        found |= newest
    return found


def _box(pieces: Pieces, group: Bool[np.ndarray, " pieces"]) -> Float[np.ndarray, "2 3"]:
    return np.stack([pieces.low[group].min(0), pieces.high[group].max(0)])


def _has_pair(
    boxes: list[Float[np.ndarray, "2 3"]],
    one: int,
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
) -> bool:
    """Whether another box is its mirror image about the middle of the figure (`low` to `high`)."""
    for axis in (0, 2):
        mirrored = boxes[one].copy()
        mirrored[:, axis] = low[axis] + high[axis] - boxes[one][::-1, axis]
        for c, box in enumerate(boxes):
            if c != one and np.abs(mirrored - box).max() < TWIN * (high[1] - low[1]):
                return True
    return False


def _has_legs(pieces: Pieces, which: Bool[np.ndarray, " pieces"]) -> bool:
    return legs_part(sample_surface(pieces.mesh.vertices, pieces.faces(which), 6000)[0])


def _on_four_legs(pieces: Pieces, which: Bool[np.ndarray, " pieces"]) -> bool:
    points = sample_surface(pieces.mesh.vertices, pieces.faces(which), 6000)[0]
    return columns(points) > 3


def columns(points: Float[np.ndarray, "points 3"]) -> int:
    """On how many columns a figure (+Y up) stands at most heights below its knees."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    low, height = points[:, 1].min(), np.ptp(points[:, 1])
    counts = []
    for level in LEVELS[LEVELS < KNEES]:
        inside = points[np.abs(points[:, 1] - low - level * height) < 0.02 * height][:, [0, 2]]
        a, b = KDTree(inside).query_pairs(COLUMNS_APART * height, output_type="ndarray").T
        graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(inside),) * 2)
        label = connected_components(graph, directed=False)[1]
        counts.append(int((np.bincount(label) > 0.05 * len(inside)).sum()) if len(inside) else 0)
    return int(np.median(counts))


def legs_part(points: Float[np.ndarray, "points 3"]) -> bool:
    """Whether a figure (+Y up) stands on two columns, side by side or one before the other."""
    low, height = points[:, 1].min(), np.ptp(points[:, 1])
    free = {0: 0, 2: 0}
    for level in LEVELS:
        inside = points[np.abs(points[:, 1] - low - level * height) < 0.02 * height]
        for axis in free:
            gaps = np.diff(np.sort(inside[:, axis]))
            free[axis] += len(gaps) > 8 and gaps.max() > 0.025 * height
    return max(free.values()) > len(LEVELS) / 2
