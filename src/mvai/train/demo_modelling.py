"""Tools for modelling clothes on the body: cut from its skin, or turned around an axis.

Textures are painted from each texel's place on the body, so a pattern knows nothing of the
texture coordinates it ends up in.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Bool, Float, Int, UInt8

from mvai.geometry.surface import vertex_normals
from mvai.types import Image, Part

Made = tuple[Part, Image]
"""A part and its texture."""
Paint = Callable[[Float[np.ndarray, "n 3"]], Float[np.ndarray, "n 3"]]
"""Colours (0 to 255) of points given by their place in the rest pose, metres."""


@dataclass(frozen=True)
class Figure:
    """A naked body and what clothes are cut by."""

    vertices: Float[np.ndarray, "verts 3"]
    """Rest pose, feet on y = 0, metres."""
    faces: Int[np.ndarray, "faces 3"]
    uv: Float[np.ndarray, "uvs 2"]
    uv_faces: Int[np.ndarray, "faces 3"]
    joints: dict[str, Float[np.ndarray, " 3"]]
    bone: np.ndarray
    """Name of the joint that moves each vertex most."""
    normals: Float[np.ndarray, "verts 3"]

    def on(self, *names: str) -> Bool[np.ndarray, " verts"]:
        """Vertices moved most by one of the joints (any side, any finger)."""
        plain = np.char.replace(np.char.replace(self.bone, "Left", ""), "Right", "")
        return np.any([plain == n for n in names], axis=0) | (
            np.char.startswith(plain, "HandI") | np.char.startswith(plain, "HandM")
            | np.char.startswith(plain, "HandP") | np.char.startswith(plain, "HandR")
            | np.char.startswith(plain, "HandT")
            if "Hand" in names else False
        )  # fmt: skip

    def along(self, start: str, end: str) -> Float[np.ndarray, " verts"]:
        """How far each vertex is from joint `start` (0) to joint `end` (1) on its own side."""
        share = np.empty(len(self.vertices))
        for side, rows in (("Left", self.vertices[:, 0] >= 0), ("Right", self.vertices[:, 0] < 0)):
            a, b = self.joints[side + start], self.joints[side + end]
            share[rows] = (self.vertices[rows] - a) @ (b - a) / ((b - a) @ (b - a))
        return share


def smoothed(
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    rounds: int,
) -> Float[np.ndarray, "verts 3"]:
    """Details taken out without shrinking (Taubin, SIGGRAPH 1995); the edges of holes stay."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    n = len(vertices)
    directed = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (n, n)).tocsr()
    rim = np.zeros(n, bool)
    rim[np.unique((directed - directed.T).nonzero()[0])] = True
    near = directed.maximum(directed.T)
    mean = sparse.diags(1 / np.maximum(np.asarray(near.sum(1)).ravel(), 1)) @ near
    out = vertices.copy()
    for _ in range(rounds):
        for step in (0.6, -0.62):
            out = np.where(rim[:, None], out, out + step * (mean @ out - out))
    return out


# --- parts cut from the body ---------------------------------------------------------------------


def cut(
    figure: Figure,
    name: str,
    region: Bool[np.ndarray, " verts"],
    paint: Paint,
    inside: Callable[[Float[np.ndarray, "n 3"]], Float[np.ndarray, " n"]] | None = None,
    offset_m: Float[np.ndarray, " verts"] | float = 0.0,
    rounds: int = 0,
    texture_px: int = 256,
    shape: Callable[[np.ndarray], np.ndarray] = lambda v: v,
) -> Made:
    """A region of the skin as a part of its own: smoothed, pushed out, with its own texture.

    A face belongs to the region when all its vertices do; it is then trimmed where `inside`, a
    function of the place on the body, is below zero. Texture coordinates are the body's, scaled
    so that the part fills the picture.
    """
    faces = region[figure.faces].all(1)
    rows, corner = np.unique(figure.faces[faces], return_inverse=True)
    corner = corner.reshape(-1, 3)
    places = smoothed(figure.vertices[rows], corner, rounds)
    push = np.broadcast_to(offset_m, len(figure.vertices))[rows][:, None]
    surface = shape(places + push * vertex_normals(places, corner))
    normals = vertex_normals(surface, corner)
    # A vertex on a texture seam is written once for each of its texture coordinates.
    both = np.stack([corner.ravel(), figure.uv_faces[faces].ravel()], axis=1)
    unique, index = np.unique(both, axis=0, return_inverse=True)
    corner = index.reshape(-1, 3)
    values = np.concatenate([a[unique[:, 0]] for a in (surface, normals, places)], axis=1)
    values = np.concatenate([values, figure.uv[unique[:, 1]]], axis=1)
    if inside is not None:
        values, corner = trimmed(values, corner, inside(values[:, 6:9]))
    surface, normals, places, uv = np.split(values, (3, 6, 9), axis=1)
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    low, high = uv.min(0), uv.max(0)
    uv = 0.02 + 0.96 * (uv - low) / (high - low)
    texture = painted(uv, corner, places, paint, texture_px)
    return textured_part(name, surface, corner, normals, uv), texture


def trimmed(
    values: Float[np.ndarray, "verts k"],
    faces: Int[np.ndarray, "faces 3"],
    level: Float[np.ndarray, " verts"],
) -> tuple[Float[np.ndarray, "verts2 k"], Int[np.ndarray, "faces2 3"]]:
    """The part of a surface where `level`, linear on each face, is not below zero.

    New vertices on the cut take all their values by linear interpolation.
    """
    keep = level >= 0
    count = keep[faces].sum(1)
    out = [tuple(f) for f in faces[count == 3]]
    rows = list(values)
    on_edge: dict[tuple[int, int], int] = {}

    def crossing(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in on_edge:
            t = level[a] / (level[a] - level[b])
            on_edge[key] = len(rows)
            rows.append(values[a] * (1 - t) + values[b] * t)
        return on_edge[key]

    for face in faces[(count == 1) | (count == 2)]:
        # The corner that is alone on its side of the cut comes first.
        alone = int(np.flatnonzero(keep[face] == (keep[face].sum() == 1))[0])
        a, b, c = (int(x) for x in np.roll(face, -alone))
        ab, ac = crossing(a, b), crossing(a, c)
        out += [(a, ab, ac)] if keep[a] else [(ab, b, c), (ab, c, ac)]
    used, index = np.unique(np.array(out), return_inverse=True)
    return np.array(rows)[used], index.reshape(-1, 3)


def painted(
    uv: Float[np.ndarray, "verts 2"],
    faces: Int[np.ndarray, "faces 3"],
    places: Float[np.ndarray, "verts 3"],
    paint: Paint,
    size_px: int,
) -> Image:
    """A texture whose every texel is painted by the place on the body that it shows."""
    from scipy.ndimage import distance_transform_edt

    where = np.full((size_px, size_px, 3), np.nan)
    corners = uv[faces] * size_px - 0.5
    for triangle, xyz in zip(corners, places[faces], strict=True):
        low = np.maximum(np.floor(triangle.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(triangle.max(0)).astype(int) + 1, size_px)
        edges = np.stack([triangle[1] - triangle[0], triangle[2] - triangle[0]], axis=1)
        if abs(np.linalg.det(edges)) < 1e-9:
            continue
        column, row = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        b = np.stack([column, row], -1) - triangle[0]
        st = b @ np.linalg.inv(edges).T
        weights = np.concatenate([1 - st.sum(-1, keepdims=True), st], -1)
        inside = (weights > -1e-6).all(-1)
        where[row[inside], column[inside]] = weights[inside] @ xyz
    # Texels beside the islands take the nearest one's place, so that no seam shows.
    row, column = distance_transform_edt(
        np.isnan(where[..., 0]), return_distances=False, return_indices=True
    )  # type: ignore[misc]  # the stub knows only the distances
    where = where[row, column]
    return picture(paint(where.reshape(-1, 3)).reshape(size_px, size_px, 3))


def picture(colors: Float[np.ndarray, "h w 3"]) -> Image:
    """Colours from 0 to 255 as a PNG of at most 64 different ones, which keeps it small."""
    from PIL import Image as Pillow

    rgb: UInt8[np.ndarray, "h w 3"] = np.clip(np.round(colors), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(rgb).quantize(64, dither=Pillow.Dither.NONE).save(buffer, "PNG", optimize=True)
    return Image(buffer.getvalue(), "image/png")


def textured_part(
    name: str,
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    normals: Float[np.ndarray, "verts 3"],
    uv: Float[np.ndarray, "verts 2"],
) -> Part:
    attributes = {"NORMAL": normals.astype(np.float32), "TEXCOORD_0": uv.astype(np.float32)}
    return Part(name, vertices.astype(np.float32), faces.astype(np.int32), attributes)


# --- turned solids -------------------------------------------------------------------------------


def turned(
    name: str,
    rings: Sequence[tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "segments 2"]]],
    colors: Callable[[np.ndarray, np.ndarray], np.ndarray],
    size_px: tuple[int, int] = (256, 64),
) -> Made:
    """A surface through rings: each a centre and its outline (x, z) around it, from top to bottom.

    `colors` gives the texture from u (0 to 1 around) and v (0 to 1 from the first ring to the
    last).
    """
    segments = len(rings[0][1])
    points = np.stack([c + np.insert(o, 1, 0.0, axis=1) for c, o in rings])
    closed = np.concatenate([points, points[:, :1]], axis=1)
    n = segments + 1
    i, j = np.meshgrid(np.arange(len(rings) - 1), np.arange(segments), indexing="ij")
    a, b, c, d = i * n + j, i * n + j + 1, (i + 1) * n + j, (i + 1) * n + j + 1
    faces = np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    )
    vertices = closed.reshape(-1, 3)
    # Normals are those of the closed surface, in which first and last column are one.
    index = np.arange(len(vertices)).reshape(len(rings), n)
    index[:, -1] = index[:, 0]
    normals = vertex_normals(vertices, index.ravel()[faces])[index.ravel()]
    u, v = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, len(rings)))
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    width, height = size_px
    tu, tv = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    part = textured_part(name, vertices, faces, normals, uv)
    return part, picture(colors(tu, tv))


def outline(
    points: Float[np.ndarray, "n 3"], centre: Float[np.ndarray, " 3"], segments: int = 48
) -> Float[np.ndarray, "segments 2"]:
    """How far points reach around a centre, seen from above, rounded a little."""
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d

    angle = np.arange(segments) / segments * 2 * np.pi
    flat = (points - centre)[:, [0, 2]]
    # Counter-clockwise seen from above with x to the right, so that faces look outwards.
    sector = np.arctan2(flat[:, 0], flat[:, 1]) / (2 * np.pi) * segments
    reach = np.zeros(segments)
    np.maximum.at(reach, np.round(sector).astype(int) % segments, np.linalg.norm(flat, axis=1))
    reach = gaussian_filter1d(maximum_filter1d(reach, 3, mode="wrap"), 1.0, mode="wrap")
    return np.stack([np.sin(angle), np.cos(angle)], axis=1) * reach[:, None]
