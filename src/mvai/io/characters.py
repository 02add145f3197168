"""Reads a character from any of the supported mesh formats into the world frame."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from mvai.io.character_checks import checked_geometry, cleaned_attributes, refuse_two_people
from mvai.io.character_scene import Pieces, pieces_of, scenery, surroundings
from mvai.io.files_beside import Loader, folder_loader, open_archive, read_bytes
from mvai.io.orientation import Facing, Up, metres_per_unit, rotation_to_world
from mvai.types import Character, MvaiError, MvaiWarning, Part, Skin

Reader = Callable[[bytes, Loader, str, str], Character]

SMALLEST_M, TALLEST_M = 0.01, 1000.0
"""Heights that a character may be given, from a tin soldier's to more than any monument's."""


def read_character(
    path: str | os.PathLike[str],
    up: Up = "auto",
    facing: Facing = "auto",
    unit: float | None = None,
) -> Character:
    """Reads a character and turns and scales it into the world frame.

    The result is +Y up, faces +Z and is in metres; it is not moved, so the ground stays where the
    file has it. `Character.T_world_file` is what was done. Materials, textures, texture
    coordinates, vertex order, parts and rig are kept. Scenery (floors, walls, skies, pedestals,
    things that stand beside the character) is left out with a warning.

    Args:
        path: .glb, .gltf, .obj (with its MTL and textures beside it, or all in one .zip), .ply,
            .stl or .off.
        up: the file's up axis; "auto" infers it from the shape.
        facing: the file's axis the character faces; "auto" infers it.
        unit: metres per file unit; None infers it from the character's height.

    Raises:
        MvaiError: the file is missing, empty, truncated, not a mesh, without faces, larger than
            2 million vertices, has positions that are not numbers, or shows two people; or `unit`
            makes it too small or too large.
    """
    path = Path(path)
    if up != "auto" and facing.endswith(up):
        raise MvaiError(f"{path}: up {up} and facing {facing} are the same axis; correct one.")
    if unit is not None and not 0 < unit < np.inf:
        raise MvaiError(f"{path}: unit {unit:g} is no length; give the metres per file unit.")
    kind = path.suffix.lower().lstrip(".")
    if kind == "fbx":
        raise MvaiError(
            f"{path}: .fbx is not supported; import it in Blender and export it as glTF (.glb)."
        )
    if kind != "zip" and kind not in READERS:
        raise MvaiError(
            f"{path}: not a character file this can read; give one of "
            f"{', '.join('.' + k for k in READERS)} or .zip."
        )
    data, load, name = read_bytes(path), folder_loader(path.parent), path.stem
    if kind == "zip":
        inner, data, load = open_archive(data, str(path), (".obj", ".glb", ".gltf"))
        kind = inner.rsplit(".", 1)[-1].lower()
    raw = checked_geometry(READERS[kind](data, load, str(path), name), str(path))
    raw = replace(raw, parts=tuple(cleaned_attributes(p) for p in raw.parts))

    usual_up = "z" if kind == "stl" else "y"
    trust = 1.0 if kind in ("glb", "gltf") else 0.0

    raw, left_out, pieces = _without_scenery(raw, up, usual_up)
    character = _placed(raw, str(path), (up, facing, unit), usual_up, trust)
    beside = scenery(pieces.moved(character.T_world_file))
    if beside.any():
        # How the character stands and how large it is shows better without what was beside it.
        left_out |= _parts_of(raw, beside)
        raw = without_faces(raw, beside)
        pieces = pieces_of(raw.mesh)
        character = _placed(raw, str(path), (up, facing, unit), usual_up, trust)
    if left_out:
        warnings.warn(
            f"{path}: left out what is scenery and no part of the character "
            f"({', '.join(sorted(left_out))}).",
            MvaiWarning,
            stacklevel=2,
        )
    refuse_two_people(pieces.moved(character.T_world_file), str(path))
    return loose_vertices_within(character)


def loose_vertices_within(character: Character) -> Character:
    """Vertices that no face uses, brought into the box of what is drawn: whoever asks how tall the
    character is need not ask for them."""
    mesh = character.mesh
    drawn = mesh.vertices[np.unique(mesh.faces)]
    low, high = drawn.min(0), drawn.max(0)

    def within(part: Part) -> Part:
        loose = np.ones(len(part.vertices), bool)
        loose[part.faces] = False
        loose &= ((part.vertices < low) | (part.vertices > high)).any(1)
        if not loose.any():
            return part
        vertices = part.vertices.copy()
        vertices[loose] = np.clip(vertices[loose], low, high)
        return replace(part, vertices=vertices)

    return replace(character, parts=tuple(within(p) for p in character.parts))


def _without_scenery(raw: Character, up: Up, usual_up: str) -> tuple[Character, set[str], Pieces]:
    """The character without scenery that shows before it is known which way is up, the names of
    what that was, and the pieces of what is left."""
    pieces = pieces_of(raw.mesh)
    around = surroundings(pieces)
    left_out = _parts_of(raw, around)
    if around.any():
        raw = without_faces(raw, around)
        pieces = pieces_of(raw.mesh)
    for axis in (usual_up, *({"y", "z"} - {usual_up})) if up == "auto" else (up,):
        T = np.eye(4)
        T[:3, :3] = np.roll(np.eye(3), 1 - "xyz".index(axis), axis=0)
        beside = scenery(pieces.moved(T), surely=True)
        if beside.any():
            left_out |= _parts_of(raw, beside)
            raw = without_faces(raw, beside)
            return raw, left_out, pieces_of(raw.mesh)
    return raw, left_out, pieces


def _parts_of(character: Character, faces: Bool[np.ndarray, " faces"]) -> set[str]:
    """Names of the parts that have some of the faces."""
    ends = np.cumsum([len(p.faces) for p in character.parts])[:-1]
    return {
        f"some of {part.name}" if not own.all() else part.name
        for part, own in zip(character.parts, np.split(faces, ends), strict=True)
        if own.any()
    }


def _placed(
    raw: Character,
    where: str,
    given: tuple[Up, Facing, float | None],
    usual_up: str,
    trust: float,
) -> Character:
    """The character turned and scaled into the world frame."""
    up, facing, unit = given
    # Only what is drawn counts: loose vertices would spoil the height.
    mesh = raw.mesh
    R = rotation_to_world(mesh, raw.skin, up, facing, usual_up, trust)
    height = float(np.ptp((mesh.vertices @ R.T)[np.unique(mesh.faces), 1]))
    if height <= 0:
        raise MvaiError(f"{where}: the mesh has no height; name the right up axis.")
    scale = metres_per_unit(height) if unit is None else unit
    if not SMALLEST_M <= height * scale <= TALLEST_M:
        raise MvaiError(
            f"{where}: unit {scale:g} makes this character {height * scale:.3g} m tall; give the "
            "metres per file unit, such as 0.01 for centimetres, or leave it out."
        )
    T_world_file = np.eye(4)
    T_world_file[:3, :3] = scale * R
    return transformed(raw, T_world_file)


def without_faces(character: Character, faces: Bool[np.ndarray, " faces"]) -> Character:
    """The character without some faces (over all parts), their vertices, and parts that have no
    faces then. Vertices that no face used stay."""
    if not faces.any():
        return character
    parts, kept = [], []
    ends = np.cumsum([len(p.faces) for p in character.parts])[:-1]
    for part, own in zip(character.parts, np.split(faces, ends), strict=True):
        keep = np.ones(len(part.vertices), bool)
        keep[part.faces[own]] = False
        keep[part.faces[~own]] = True
        keep &= bool(len(part.faces) == 0 or not own.all())
        kept.append(keep)
        if keep.any():
            number = np.cumsum(keep) - 1
            parts.append(
                replace(
                    part,
                    vertices=part.vertices[keep],
                    faces=number[part.faces[~own]],
                    attributes={k: v[keep] for k, v in part.attributes.items()},
                )
            )
    skin, rows = character.skin, np.concatenate(kept)
    if skin is not None:
        skin = replace(skin, weight_indices=skin.weight_indices[rows], weights=skin.weights[rows])
    return replace(character, parts=tuple(parts), skin=skin)


def transformed(character: Character, T: Float[np.ndarray, "4 4"]) -> Character:
    """The character under a similarity; `T_world_file` follows.

    Positions, normals, tangents and the rig move; all else is shared with the original.
    """
    scale = float(np.cbrt(np.linalg.det(T[:3, :3])))
    R = T[:3, :3] / scale
    if np.array_equal(T, np.eye(4)):
        return character

    def moved(part: Part) -> Part:
        attributes = dict(part.attributes)
        for key in ("NORMAL", "TANGENT"):
            if key in attributes and not np.array_equal(R, np.eye(3)):
                vectors = attributes[key].copy()
                vectors[:, :3] = vectors[:, :3] @ R.T
                attributes[key] = vectors
        return replace(part, vertices=part.vertices @ T[:3, :3].T + T[:3, 3], attributes=attributes)

    skin = character.skin
    if skin is not None:
        skin = _moved_skin(skin, T, scale)
    return replace(
        character,
        parts=tuple(moved(p) for p in character.parts),
        skin=skin,
        T_world_file=T @ character.T_world_file,
    )


def _moved_skin(skin: Skin, T: Float[np.ndarray, "4 4"], scale: float) -> Skin:
    """Joints stay rigid: the scale goes into their positions only."""
    Ts = T @ skin.T_world_joint
    Ts[:, :3, :3] /= scale
    return replace(skin, T_world_joint=Ts)


def _read_gltf(data: bytes, load: Loader, where: str, name: str) -> Character:
    from mvai.io.gltf_file import parse_gltf
    from mvai.io.gltf_read import character_from_gltf

    return character_from_gltf(parse_gltf(data, load, where), name)


def _read_obj(data: bytes, load: Loader, where: str, name: str) -> Character:
    from mvai.io.obj_read import character_from_obj

    return character_from_obj(data, load, where, name)


def _read_with_trimesh(kind: str) -> Reader:
    def read(data: bytes, load: Loader, where: str, name: str) -> Character:
        from mvai.io.mesh_read import character_from_mesh

        return character_from_mesh(data, kind, load, where, name)

    return read


READERS: dict[str, Reader] = {
    "glb": _read_gltf,
    "gltf": _read_gltf,
    "obj": _read_obj,
    "ply": _read_with_trimesh("ply"),
    "stl": _read_with_trimesh("stl"),
    "off": _read_with_trimesh("off"),
}
