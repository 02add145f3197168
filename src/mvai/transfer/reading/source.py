"""What neural pose transfer reads off a moving mesh: joint rotations, and the body's path.

The network sees bodies in the frame of their root. For a mesh in the body's own topology that frame
is fitted to the vertices of the hips. For any other mesh it is searched (search.py). What the
network read may then be refined (refine.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.geometry.surface import face_areas_normals, vertex_normals
from mvai.geometry.winding import outward_faces
from mvai.nets.npt_files import TrainedNpt
from mvai.nets.npt_skeleton import rotations_from
from mvai.transfer.reading.agree import laid_as_agreed
from mvai.transfer.reading.match import FoundMatch, KnownMatch, Surface, body_pool
from mvai.transfer.reading.network import Reading, posed_mean, read_places
from mvai.transfer.reading.refine import Laid, lay, misses
from mvai.transfer.reading.search import searched
from mvai.types import MeshSequence, MvaiError

POINTS = 1024
"""Points of a pose mesh that the encoder sees."""
HIPS_SHARE = 0.95
"""Least weight of the root joint in the vertices that its frame is fitted to."""
SHAPE_FRAMES = 12
LEAST_STEPS = 6
"""Refinements of points whose order is not known."""
WORSE = 1.0
"""A frame that is missed by so many times the median is read again"""
TURNED_RAD = ((0.0, 0.15, 0.0), (0.0, -0.15, 0.0), (-0.15, 0.0, 0.0))
"""turned by these vectors."""


@dataclass(frozen=True)
class SourcePoses:
    """A movement as the network reads it."""

    R_local: Float[Tensor, "frames joints 3 3"]
    """Local rotations; the root's is the identity."""
    R_world_root: Float[np.ndarray, "frames 3 3"]
    root: Float[np.ndarray, "frames 3"]
    """World position of the root joint (metres)."""
    scale: float
    """Size of the body, mean body = 1."""
    lowest: Float[np.ndarray, " frames"]
    """Height of its lowest vertex (metres)."""
    miss_m: float = 0.0
    """How far points of a mesh in no known order are from the body laid over it, where it was: the
    median over frames of the mean, on a body of the mean body's size."""


def read_source(
    trained: TrainedNpt,
    body: LinearBody,
    sequence: MeshSequence,
    known_order: bool,
    refinements: int = 0,
) -> SourcePoses:
    """Read a mesh sequence.

    Args:
        trained: the network.
        body: the body it was trained on.
        sequence: any moving mesh.
        known_order: where the sequence is in the body's topology, read the rotations off its
            vertices in their order instead of by max pooling.
        refinements: Gauss-Newton steps that follow (`refine.lay`), where there are any at least
            six for points whose order is not known.

    Raises:
        MvaiError: positions are not numbers, or there is no surface.
    """
    V = np.asarray(sequence.vertices, np.float32)
    if not np.isfinite(V).all():
        raise MvaiError("The mesh sequence has positions that are not numbers; make it again.")
    ours = sequence.topology == body.topology and V.shape[1] == len(body.template)
    lowest = V[..., 1].min(1).astype(np.float64)
    ids = area_sample(V[0], sequence.faces, POINTS)
    faces = sequence.faces if ours else outward_faces(V[0], sequence.faces)
    normals = np.stack([vertex_normals(v, faces)[ids] for v in V])
    if ours:
        readings = [_read_ours(trained, body, V, ids, normals, known_order)]
    else:
        readings = searched(trained, body, V[:, ids], normals)
    reading, miss = readings[0], 0.0
    if refinements:
        reading, miss = _refined(trained, body, readings, refinements)
    R_local = reading.R_local.clone()
    R_local[:, 0] = torch.eye(3)
    root = body.regress((body.joints[0],), V)[:, 0] if ours else reading.root
    root = root.astype(np.float64)
    return SourcePoses(R_local, reading.R_root, root, reading.scale, lowest, miss)


def _read_ours(
    trained: TrainedNpt,
    body: LinearBody,
    V: np.ndarray,
    ids: np.ndarray,
    normals: np.ndarray,
    known_order: bool,
) -> Reading:
    """A mesh in the body's own topology: its root's frame is known well, its size too."""
    assert trained.ordered is not None and trained.ordered_vertices is not None
    chosen = trained.ordered_vertices.numpy()
    points = V[:, chosen if known_order else ids].astype(np.float64)
    places = None
    with torch.no_grad():
        x = torch.from_numpy(_in_frame(points, root_rotations(body, V)))
        if known_order:
            R_local = rotations_from(trained.ordered(x))
        else:
            R_local, places = read_places(trained, x)
    R_local[:, 0] = torch.eye(3)
    posed = posed_mean(body, R_local, chosen).astype(np.float64)
    posed = posed - posed.mean(1, keepdims=True)
    target = V[:, chosen].astype(np.float64)
    target = target - target.mean(1, keepdims=True)
    # The hips' own shape hides a few degrees of their turn; the whole body shows it.
    R_root = nearest_rotations(np.einsum("fvi,fvj->fij", target, posed))
    scale = float(np.median(np.sqrt((target**2).sum((1, 2)) / (posed**2).sum((1, 2)))))
    return Reading(
        points, R_local, R_root, points.mean(1), scale,
        normals, chosen if known_order else None, places,
    )  # fmt: skip


def _refined(
    trained: TrainedNpt, body: LinearBody, readings: list[Reading], steps: int
) -> tuple[Reading, float]:
    """The body laid over the points, from what was read, and how far they are from it."""
    first = readings[0]
    if first.ids is not None:
        match = KnownMatch(body, first.ids)
        laid = lay(body, first.framed(first.R_root), first.R_local, steps, match)
        best = _Best(first.R_root, laid, np.zeros(len(first.points)))
    else:
        best = _laid_from_several(trained, body, readings, max(steps, LEAST_STEPS))
    R_root = best.R @ best.laid.R_local[:, 0].numpy().astype(np.float64)
    root = np.einsum("fij,fj->fi", best.R, first.scale * best.laid.root.numpy())
    reading = replace(
        first, R_local=best.laid.R_local, R_root=R_root, root=root + first.points.mean(1)
    )
    if first.ids is not None:
        return reading, 0.0
    some = np.unique(np.linspace(0, len(root) - 1, min(len(root), SHAPE_FRAMES)).astype(int))
    whole = Surface.of(body, np.arange(len(body.template)))
    miss = misses(body, first.framed(best.R)[some], best.laid.some(some), whole)
    return reading, float(np.median(miss))


@dataclass(frozen=True)
class _Best:
    """The best of what was tried for each frame."""

    R: Float[np.ndarray, "frames 3 3"]
    """Frame of the root in which it was found."""
    laid: Laid
    miss: Float[np.ndarray, " frames"]
    """Mean distance of the points from the laid body (metres)."""

    def with_better(self, other: _Best, at: Int[np.ndarray, " some"]) -> _Best:
        """With what `other` has for the frames `at`, where that is better."""
        won = np.flatnonzero(other.miss < self.miss[at])
        R, miss = self.R.copy(), self.miss.copy()
        R_local, root = self.laid.R_local.clone(), self.laid.root.clone()
        R[at[won]], miss[at[won]] = other.R[won], other.miss[won]
        R_local[at[won]], root[at[won]] = other.laid.R_local[won], other.laid.root[won]
        return _Best(R, Laid(R_local, self.laid.shape, root), miss)


def _laid_from_several(
    trained: TrainedNpt, body: LinearBody, readings: list[Reading], steps: int
) -> _Best:
    """The body laid over points of no known order, from every reading; the better fit is kept.

    Where it lies worse than in the other frames, a limb may have been read so wrongly that no step
    finds it. The network is then asked again, the mesh turned a little. In the end all frames agree
    on which vertex each point is (agree.py).
    """

    def laid(reading: Reading, shape: Tensor | None) -> _Best:
        assert reading.places is not None
        x = reading.framed(reading.R_root)
        normals = np.einsum("fji,fvj->fvi", reading.R_root, reading.normals)
        match = FoundMatch(body, reading.places, normals)
        found = lay(body, x, reading.R_local, steps, match, shape)
        return _Best(reading.R_root, found, misses(body, x, found, match.pool))

    first = readings[0]
    best = laid(first, None)
    for other in readings[1:]:
        best = best.with_better(laid(other, best.laid.shape), np.arange(len(best.miss)))
    worse = np.flatnonzero(best.miss >= WORSE * np.median(best.miss))
    some = first.some(worse)
    x, R = torch.from_numpy(first.framed(best.R)[worse]).float(), best.R[worse]
    for vector in TURNED_RAD if len(worse) else ():
        with torch.no_grad():
            start, places = read_places(trained, x @ matrix_from_axis_angle(torch.tensor(vector)).T)
        start[:, 0] = torch.eye(3)
        again = replace(some, R_local=start, places=places, R_root=R)
        best = best.with_better(laid(again, best.laid.shape), worse)
    normals = np.einsum("fji,fvj->fvi", best.R, first.normals)
    pool = body_pool(body)
    agreed = laid_as_agreed(body, pool, first.framed(best.R), normals, best.laid, best.miss)
    return _Best(best.R, agreed, misses(body, first.framed(best.R), agreed, pool))


def area_sample(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"], count: int
) -> Int[np.ndarray, " points"]:
    """Vertices drawn in proportion to the area around them; a vertex may come up repeatedly.

    Raises:
        MvaiError: the surface has no area.
    """
    areas, _ = face_areas_normals(vertices.astype(np.float64), faces)
    share = np.bincount(faces.ravel(), np.repeat(areas, 3), len(vertices))
    if not share.sum() > 0:
        raise MvaiError("The mesh sequence has no surface (all faces are without area).")
    steps = (np.arange(count) + 0.5) / count * share.sum()
    # Vertices in spatial order, so that equal steps in area spread over the body.
    order = np.lexsort(np.floor(vertices / (0.05 * np.ptp(vertices[:, 1]))).T)
    return order[np.minimum(np.searchsorted(np.cumsum(share[order]), steps), len(order) - 1)]


def root_rotations(
    body: LinearBody, V: Float[np.ndarray, "frames verts 3"]
) -> Float[np.ndarray, "frames 3 3"]:
    """World rotation of the root joint from the vertices that follow it alone.

    The rest shape of the hips is fitted along with the rotations, on some frames: alternating
    least squares, a few rounds.
    """
    own = (body.weights * (body.weight_indices == 0)).sum(1)
    ids = np.flatnonzero(own > min(HIPS_SHARE, np.sort(own)[-16]))
    D = body.directions[:, ids].numpy().astype(np.float64)
    D = D - D.mean(1, keepdims=True)
    mean = body.template[ids].numpy().astype(np.float64)
    mean = mean - mean.mean(0)
    X = V[:, ids].astype(np.float64)
    X = X - X.mean(1, keepdims=True)
    some = np.unique(np.linspace(0, len(X) - 1, min(len(X), SHAPE_FRAMES)).round().astype(int))
    rest = mean
    flat = D.reshape(len(D), -1).T
    # A ridge worth a millimetre a vertex for a shape of one standard deviation.
    normal = flat.T @ flat + 1e-6 * len(ids) * np.eye(len(D))
    for _ in range(6):
        R = nearest_rotations(np.einsum("fvi,vj->fij", X[some], rest))
        back = np.einsum("fji,fvj->fvi", R, X[some]).mean(0)
        shape = np.linalg.solve(normal, flat.T @ (back - mean).ravel())
        rest = mean + np.einsum("b,bvd->vd", shape, D)
    return nearest_rotations(np.einsum("fvi,vj->fij", X, rest))


def _in_frame(V: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Points in the root's axes, about their mean."""
    X = V - V.mean(1, keepdims=True)
    return np.einsum("fji,fvj->fvi", R, X).astype(np.float32)
