"""What neural pose transfer reads off a moving mesh: joint rotations, and the body's path.

The network sees bodies in the frame of their root. For a mesh in the body's own topology that frame
is fitted to the vertices of the hips. For any other mesh it is searched: the encoder says of every
point where on the body at rest it belongs and how the joints turn, so the mean body can be laid
over the points, and the turn that is left between the two corrects the frame. What the network
read may then be refined (npt_refine.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations, similarity
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.geometry.surface import face_areas_normals, vertex_normals
from mvai.nets.npt_files import TrainedNpt
from mvai.nets.npt_parts import RoundsEncoder
from mvai.nets.npt_skeleton import kinematics, rotations_from
from mvai.transfer.npt_match import FoundMatch, KnownMatch
from mvai.transfer.npt_refine import Laid, lay, misses
from mvai.types import MeshSequence, MvaiError

POINTS = 1024
"""Points of a pose mesh that the encoder sees."""
HIPS_SHARE = 0.95
"""Least weight of the root joint in the vertices that its frame is fitted to."""
SHAPE_FRAMES = 12
YAWS = 8
"""Headings tried for a mesh in no known topology."""
SEARCH_ROUNDS = 5
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
        refinements: Gauss-Newton steps that follow (`npt_refine.lay`).

    Raises:
        MvaiError: positions are not numbers, or there is no surface.
    """
    V = np.asarray(sequence.vertices, np.float32)
    if not np.isfinite(V).all():
        raise MvaiError("The mesh sequence has positions that are not numbers; make it again.")
    ours = sequence.topology == body.topology and V.shape[1] == len(body.template)
    lowest = V[..., 1].min(1).astype(np.float64)
    ids = area_sample(V[0], sequence.faces, POINTS)
    normals = np.stack([vertex_normals(v, sequence.faces)[ids] for v in V])
    if ours:
        reading = _read_ours(trained, body, V, ids, normals, known_order)
    else:
        reading = _searched(trained, body, V[:, ids], normals)
    if refinements:
        reading = _refined(trained, body, reading, refinements)
    R_local = reading.R_local.clone()
    R_local[:, 0] = torch.eye(3)
    root = body.regress((body.joints[0],), V)[:, 0] if ours else reading.root
    return SourcePoses(R_local, reading.R_root, root.astype(np.float64), reading.scale, lowest)


@dataclass(frozen=True)
class _Reading:
    """Points of a moving mesh and what they show."""

    points: Float[np.ndarray, "frames points 3"]
    """World (metres)."""
    R_local: Float[Tensor, "frames joints 3 3"]
    R_root: Float[np.ndarray, "frames 3 3"]
    root: Float[np.ndarray, "frames 3"]
    scale: float
    normals: Float[np.ndarray, "frames points 3"]
    ids: Int[np.ndarray, " points"] | None
    """The body's vertices that the points are, or None, and then"""
    places: Float[np.ndarray, "frames points 3"] | None
    """where on the body at rest they are taken to belong."""


def _read_ours(
    trained: TrainedNpt,
    body: LinearBody,
    V: np.ndarray,
    ids: np.ndarray,
    normals: np.ndarray,
    known_order: bool,
) -> _Reading:
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
            R_local, places = _read_places(trained, x)
    R_local[:, 0] = torch.eye(3)
    posed = posed_mean(body, R_local, chosen).astype(np.float64)
    posed = posed - posed.mean(1, keepdims=True)
    target = V[:, chosen].astype(np.float64)
    target = target - target.mean(1, keepdims=True)
    # The hips' own shape hides a few degrees of their turn; the whole body shows it.
    R_root = nearest_rotations(np.einsum("fvi,fvj->fij", target, posed))
    scale = float(np.median(np.sqrt((target**2).sum((1, 2)) / (posed**2).sum((1, 2)))))
    return _Reading(
        points, R_local, R_root, points.mean(1), scale,
        normals, chosen if known_order else None, places,
    )  # fmt: skip


def _read_places(
    trained: TrainedNpt, x: Float[Tensor, "meshes points 3"]
) -> tuple[Tensor, Float[np.ndarray, "meshes points 3"]]:
    """Rotations by max pooling, and where on the body at rest each point is taken to belong."""
    encoder = trained.npt.encoder
    assert isinstance(encoder, RoundsEncoder)
    code, places = encoder.with_places(x)
    return rotations_from(trained.npt.rotations(code)), places.numpy()


def _refined(trained: TrainedNpt, body: LinearBody, reading: _Reading, steps: int) -> _Reading:
    """The body laid over the points, from what was read."""
    R, mean = reading.R_root, reading.points.mean(1)
    x = np.einsum("fji,fvj->fvi", R, reading.points - mean[:, None]) / reading.scale
    if reading.ids is not None:
        laid = lay(body, x, reading.R_local, steps, KnownMatch(body, reading.ids))
    else:
        assert reading.places is not None
        normals = np.einsum("fji,fvj->fvi", R, reading.normals)
        laid = _laid_from_several(trained, body, x, normals, reading, steps)
    R_root = R @ laid.R_local[:, 0].numpy().astype(np.float64)
    root = np.einsum("fij,fj->fi", R, reading.scale * laid.root.numpy()) + mean
    return replace(reading, R_local=laid.R_local, R_root=R_root, root=root)


def _laid_from_several(
    trained: TrainedNpt,
    body: LinearBody,
    x: Float[np.ndarray, "frames points 3"],
    normals: Float[np.ndarray, "frames points 3"],
    reading: _Reading,
    steps: int,
) -> Laid:
    """The body laid over points of no known order.

    Where it lies worse than in the other frames, a limb may have been read so wrongly that no step
    finds it. The network is then asked again, the mesh turned a little, and the best start is kept.
    """
    assert reading.places is not None
    match = FoundMatch(body, reading.places, normals)
    laid = lay(body, x, reading.R_local, steps, match)
    miss = misses(body, x, laid, match.pool)
    worse = np.flatnonzero(miss >= WORSE * np.median(miss))
    R_local, root = laid.R_local.clone(), laid.root.clone()
    for vector in TURNED_RAD if len(worse) else ():
        Q = matrix_from_axis_angle(torch.tensor(vector))
        with torch.no_grad():
            start, places = _read_places(trained, torch.from_numpy(x[worse]).float() @ Q.T)
        start[:, 0] = torch.eye(3)
        other = FoundMatch(body, places, normals[worse])
        again = lay(body, x[worse], start, steps, other, laid.shape)
        better = misses(body, x[worse], again, other.pool)
        won = np.flatnonzero(better < miss[worse])
        R_local[worse[won]], root[worse[won]] = again.R_local[won], again.root[won]
        miss[worse[won]] = better[won]
    return Laid(R_local, laid.shape, root)


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


def posed_mean(
    body: LinearBody, R_local: Float[Tensor, "frames joints 3 3"], ids: Int[np.ndarray, " some"]
) -> Float[np.ndarray, "frames some 3"]:
    """Vertices of the mean body under local rotations, its root at rest (metres)."""
    joints = body.joint_template
    offsets = joints - joints[[max(p, 0) for p in body.parents]]
    offsets = torch.cat([joints[:1], offsets[1:]])
    R, t = kinematics(body.parents, R_local, offsets)
    t = t - (R @ joints[..., None])[..., 0]
    A = torch.cat([R, t[..., None]], -1).flatten(-2)
    M = (body.dense_weights[ids] @ A).unflatten(-1, (3, 4))
    return ((M[..., :3] @ body.template[ids][..., None])[..., 0] + M[..., 3]).numpy()


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


def _searched(
    trained: TrainedNpt,
    body: LinearBody,
    points: Float[np.ndarray, "frames points 3"],
    normals: Float[np.ndarray, "frames points 3"],
) -> _Reading:
    """Points of no known order.

    Every frame starts from several headings; the one whose mean body lies best on the points in
    the end is taken.
    """
    angle = torch.arange(YAWS) * (2 * torch.pi / YAWS)
    starts = matrix_from_axis_angle(angle[:, None] * torch.tensor([0.0, 1.0, 0.0])).numpy()
    tree = KDTree(body.template.numpy())
    found: list[tuple[Tensor, np.ndarray, _Fit]] = []
    for frame in points.astype(np.float64):
        x = frame - frame.mean(0)
        R = starts.copy()
        if found:
            R = np.concatenate([R, found[-1][2][1][None]])
        local, places, posed, fits = _laid(trained, body, tree, R, x)
        for _ in range(SEARCH_ROUNDS - 1):
            R = np.stack([f[1] for f in fits])
            local, places, posed, fits = _laid(trained, body, tree, R, x)
        miss = [
            np.median(np.linalg.norm(s * p @ Rk.T + t - x, axis=1))
            for p, (s, Rk, t) in zip(posed, fits, strict=True)
        ]
        best = int(np.argmin(miss))
        found.append((local[best], places[best], fits[best]))
    scale = np.array([s for _, _, (s, _, _) in found])
    R_root = np.stack([R for _, _, (_, R, _) in found])
    t = np.stack([t for _, _, (_, _, t) in found]) + points.mean(1)
    root = scale[:, None] * (R_root @ body.joint_template[0].numpy()) + t
    R_local = torch.stack([local for local, _, _ in found])
    places = np.stack([p for _, p, _ in found])
    return _Reading(points, R_local, R_root, root, float(np.median(scale)), normals, None, places)


_Fit = tuple[float, np.ndarray, np.ndarray]
"""Size, rotation and place of the mean body."""


def _laid(
    trained: TrainedNpt, body: LinearBody, tree: KDTree, R: np.ndarray, x: np.ndarray
) -> tuple[Tensor, np.ndarray, np.ndarray, list[_Fit]]:
    """For every guess of the root's frame: rotations, places of the points, the mean body in the
    rotations, and how it fits."""
    with torch.no_grad():
        seen = torch.from_numpy(np.einsum("kji,vj->kvi", R, x).astype(np.float32))
        local, places = _read_places(trained, seen)
    local[:, 0] = torch.eye(3)
    ids = np.asarray(tree.query(places)[1])
    posed = np.stack(
        [posed_mean(body, R[None], i)[0] for R, i in zip(local, ids, strict=True)]
    ).astype(np.float64)
    return local, places, posed, [similarity(p, x) for p in posed]
