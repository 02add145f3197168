"""Measures of an acting character where no truth is known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix

from mvai.evaluate.metrics import accel, edge_stretch, edges_of, foot_slide
from mvai.evaluate.metrics import sole_vertices as soles_of
from mvai.geometry.rigid import nearest_rotations
from mvai.geometry.surface import face_areas_normals, vertex_normals, weld
from mvai.types import Mesh

COLLAPSED = 0.05
"""A face that keeps less than this share of its area has collapsed."""
SKIN_DEPTH = 0.004
"""Points this far outside the surface, as a share of the height, are asked whether they are in
it."""
QUERIES = 500


def measure_motion(
    mesh: Mesh, vertices: Float[np.ndarray, "frames verts 3"], looked_at: Int[np.ndarray, " some"]
) -> dict[str, float]:
    """All measures of one motion.

    Args:
        mesh: the character at rest.
        vertices: its motion (metres), every frame.
        looked_at: frames in which surfaces are measured; paths are measured in all.
    """
    rest = mesh.vertices.astype(np.float64)
    height = float(np.ptp(rest[:, 1]))
    posed = vertices[looked_at].astype(np.float64)
    stretch = edge_stretch(rest, posed, edges_of(mesh.faces))
    left, right = soles_of(rest)
    slide, slide_median, contact = foot_slide([vertices[:, left], vertices[:, right]], height)
    volume = np.array([enclosed_volume(v, mesh.faces) for v in posed])
    lowest = vertices[..., 1].min(1)
    return {
        "stretch_median": float(np.median(stretch)),
        "stretch_p99": float(np.percentile(stretch, 99)),
        "inverted_percent": 100 * float(inverted_faces(rest, posed, mesh.faces).mean()),
        "penetration_percent": 100 * penetration_added(mesh, posed),
        "volume_percent": 100
        * float(np.abs(volume / enclosed_volume(rest, mesh.faces) - 1).mean()),
        "jitter_mm": accel(vertices[:, ::7]),
        "slide_mm": slide,
        "slide_median_mm": slide_median,
        "contact": contact,
        "sinks_mm": 1000 * max(0.0, -float(np.percentile(lowest, 5))),
    }  # fmt: skip


def enclosed_volume(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> float:
    """Signed volume by the divergence theorem, about the middle; holes are closed by cones."""
    a, b, c = (vertices[faces[:, k]] - vertices.mean(0) for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def inverted_faces(
    rest: Float[np.ndarray, "verts 3"],
    posed: Float[np.ndarray, "frames verts 3"],
    faces: Int[np.ndarray, "faces 3"],
) -> Bool[np.ndarray, "frames faces"]:
    """Faces that look away from where their surroundings have turned them, or have collapsed.

    The turn of the surroundings is the rotation that best takes the edges around a face's three
    vertices from rest to the pose. Vertices in one place are taken as one; faces without area at
    rest are not asked.
    """
    first, welded = weld(rest, 1e-5 * float(np.ptp(rest[:, 1])))
    rest, posed, faces = rest[first], posed[:, first], welded[faces]
    area, normal = face_areas_normals(rest, faces)
    asked = area > 1e-8 * np.ptp(rest[:, 1]) ** 2
    faces, area, normal = faces[asked], area[asked], normal[asked]
    e = edges_of(faces)
    n = len(rest)
    ones = np.ones(len(e))
    touch = csr_matrix((ones, (e[:, 0], np.arange(len(e)))), (n, len(e)))
    touch = touch + csr_matrix((ones, (e[:, 1], np.arange(len(e)))), (n, len(e)))
    around = csr_matrix(
        (np.ones(3 * len(faces)), (np.repeat(np.arange(len(faces)), 3), faces.ravel())),
        (len(faces), n),
    )
    around = around @ touch
    before = rest[e[:, 1]] - rest[e[:, 0]]
    out = np.zeros((len(posed), len(faces)), bool)
    for f, v in enumerate(posed):
        after = v[e[:, 1]] - v[e[:, 0]]
        H = around @ (after[:, :, None] * before[:, None]).reshape(len(e), 9)
        # A flat patch leaves its side open; its normal decides it.
        now_area, now = face_areas_normals(v, faces)
        vn = vertex_normals(v, faces)[faces].sum(1)
        rn = vertex_normals(rest, faces)[faces].sum(1)
        weight = np.sqrt((H * H).sum(1))[:, None, None] * 0.05
        M = H.reshape(-1, 3, 3) + weight * vn[:, :, None] * rn[:, None]
        R = nearest_rotations(M)
        facing = np.einsum("fab,fb,fa->f", R, normal, now)
        out[f] = (facing < 0) | (now_area < COLLAPSED * area)
    return out


def penetration_added(mesh: Mesh, posed: Float[np.ndarray, "frames verts 3"]) -> float:
    """Share of the outer surface that is inside the character when posed and was not at rest.

    Points just outside the surface are asked for their winding number (Jacobson et al., SIGGRAPH
    2013), which is about 1 inside; layers and holes change it alike at rest and when posed.
    """
    rest = mesh.vertices.astype(np.float64)
    depth = SKIN_DEPTH * float(np.ptp(rest[:, 1]))
    used = np.unique(mesh.faces)
    ids = used[np.linspace(0, len(used) - 1, min(QUERIES, len(used))).astype(int)]

    def numbers(v: np.ndarray) -> np.ndarray:
        points = v[ids] + depth * vertex_normals(v, mesh.faces)[ids]
        return winding_numbers(points, v, mesh.faces)

    before = numbers(rest)
    outside = before < 0.5
    if not outside.any() or not len(posed):
        return 0.0
    inside = [numbers(v)[outside] - before[outside] > 0.5 for v in posed]
    return float(np.mean(inside))


def winding_numbers(
    points: Float[np.ndarray, "n 3"],
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
) -> Float[np.ndarray, " n"]:
    """How often the surface winds around each point: the sum of its triangles' solid angles
    (Van Oosterom and Strackee, 1983) over 4 pi."""
    import torch

    p = torch.from_numpy(points.astype(np.float32))
    corners = torch.from_numpy(vertices[faces].astype(np.float32))
    total = torch.zeros(len(p))
    for some in torch.split(corners, 8192):
        a, b, c = (some[None, :, k] - p[:, None] for k in range(3))
        la, lb, lc = (x.norm(dim=-1) for x in (a, b, c))
        top = (a * torch.linalg.cross(b, c)).sum(-1)
        bottom = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
        total += 2 * torch.atan2(top, bottom).sum(1)
    return (total / (4 * np.pi)).numpy().astype(np.float64)
