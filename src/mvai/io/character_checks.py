"""What a character must be before anything else looks at it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from mvai.io.character_scene import CONSIDERED, Pieces, people
from mvai.types import Character, MvaiError, Part

MAX_VERTICES = 2_000_000
MAX_FACES = 4_000_000


def checked_geometry(character: Character, where: str) -> Character:
    """The character if its geometry can be used.

    Duplicated faces, faces without area and loose vertices are left in; they are part of the
    appearance or harmless.

    Raises:
        MvaiError: no vertices or faces, too many, positions that are not finite, all in one point.
    """
    parts = [p for p in character.parts if len(p.faces)]
    if not parts:
        raise MvaiError(f"{where}: there are no faces in it; a character needs a surface.")
    vertices = sum(len(p.vertices) for p in parts)
    faces = sum(len(p.faces) for p in parts)
    if vertices > MAX_VERTICES or faces > MAX_FACES:
        raise MvaiError(
            f"{where}: {vertices} vertices and {faces} faces are too many (the limits are "
            f"{MAX_VERTICES} and {MAX_FACES}); simplify the character first."
        )
    for part in parts:
        if part.faces.min() < 0 or part.faces.max() >= len(part.vertices):
            raise MvaiError(f"{where}: a face names a vertex that is not there; export it again.")
        if not np.isfinite(part.vertices).all() or np.abs(part.vertices).max() > 1e18:
            raise MvaiError(
                f"{where}: some vertex positions are not finite numbers; repair and export again."
            )
    drawn = np.concatenate([p.vertices[np.unique(p.faces)] for p in parts])
    extent = float(np.ptp(drawn, axis=0).max())
    mesh = replace(character, parts=tuple(parts)).mesh
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    if extent <= 0 or area <= 1e-9 * extent**2:
        raise MvaiError(f"{where}: the mesh has no size (all its faces are points or lines).")
    return replace(character, parts=tuple(parts)) if character.skin is None else character


def cleaned_attributes(part: Part) -> Part:
    """Attributes as glTF demands them: finite, unit normals and tangents, colours in 0..1.

    What is already right is untouched, to the bit.
    """
    return replace(part, attributes={k: _cleaned(k, v) for k, v in part.attributes.items()})


def _cleaned(key: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        return values
    out = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if key in ("NORMAL", "TANGENT"):
        length = np.linalg.norm(out[:, :3].astype(float), axis=1)
        wrong = np.abs(length - 1) > 5e-4
        out[wrong, :3] /= np.maximum(length[wrong, None], 1e-30).astype(out.dtype)
        out[length < 1e-12, :3] = (0, 1, 0)
    if key == "TANGENT":
        out[:, 3] = np.where(out[:, 3] < 0, -1, 1)
    if key.startswith("COLOR_"):
        out = np.clip(out, 0, 1)
    return out


def refuse_two_people(pieces: Pieces, where: str) -> None:
    """Raises an MvaiError when the pieces of a character look like two people side by side."""
    if looks_like_two(pieces):
        raise MvaiError(
            f"{where}: this looks like two people; separate them (in Blender: Edit Mode, P, By "
            "Loose Parts) and export one at a time."
        )


def looks_like_two(pieces: Pieces) -> bool:
    """Whether a mesh (+Y up) consists of two figures of their own.

    Loose pieces whose footprints overlap are taken together, so that layers of clothing, props
    in a hand and bodies built of many pieces make one figure. Two figures are two such groups
    that both stand near the ground, both reach more than 0.6 of the whole height, each have more
    than half of the other's surface, and have the bulk of people: a cape is a sheet.
    """
    # Crumbs cannot decide; without them the comparison of all pairs stays small.
    large = np.argsort(pieces.area)[::-1][:CONSIDERED]
    low, high = pieces.low[large], pieces.high[large]
    group = _overlapping(low[:, [0, 2]], high[:, [0, 2]])
    bottom, whole = low[:, 1].min(), high[:, 1].max() - low[:, 1].min()
    figures = []
    for g in np.unique(group):
        inside = group == g
        top, foot = high[inside, 1].max(), low[inside, 1].min()
        if top - foot > 0.6 * whole and foot - bottom < 0.15 * whole:
            figures.append(np.isin(np.arange(pieces.count), large[inside]))
    area = [float(pieces.area[f].sum()) for f in figures]
    alike = [f for f, a in zip(figures, area, strict=True) if a > 0.5 * max(area)]
    return len(alike) > 1 and len(people(pieces, alike)) > 1


def _overlapping(
    low: Float[np.ndarray, "boxes 2"], high: Float[np.ndarray, "boxes 2"]
) -> Int[np.ndarray, " boxes"]:
    """Groups of rectangles that share at least a fifth of the smaller one's area."""
    from scipy.sparse.csgraph import connected_components

    size = np.maximum(high - low, 1e-9)
    shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = np.clip(shared, 0, None).prod(axis=-1)
    smaller = np.minimum(size.prod(axis=1)[:, None], size.prod(axis=1))
    return connected_components(shared > 0.2 * smaller, directed=False)[1]
