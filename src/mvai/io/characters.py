"""Reads a character from any of the supported mesh formats into the world frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mvai.io.character_checks import checked_geometry, cleaned_attributes, refuse_two_people
from mvai.io.files_beside import Loader, folder_loader, open_archive, read_bytes
from mvai.io.orientation import Facing, Up, metres_per_unit, rotation_to_world
from mvai.types import Character, MvaiError, Part, Skin

Reader = Callable[[bytes, Loader, str, str], Character]


def read_character(
    path: str | os.PathLike[str],
    up: Up = "auto",
    facing: Facing = "auto",
    unit: float | None = None,
) -> Character:
    """Reads a character and turns and scales it into the world frame.

    The result is +Y up, faces +Z and is in metres; it is not moved, so the ground stays where the
    file has it. `Character.T_world_file` is what was done. Materials, textures, texture
    coordinates, vertex order, parts and rig are kept.

    Args:
        path: .glb, .gltf, .obj (with its MTL and textures beside it, or all in one .zip), .ply,
            .stl or .off.
        up: the file's up axis; "auto" infers it from the shape.
        facing: the file's axis the character faces; "auto" infers it.
        unit: metres per file unit; None infers it from the character's height.

    Raises:
        MvaiError: the file is missing, empty, truncated, not a mesh, without faces, larger than
            2 million vertices, has positions that are not numbers, or shows two people.
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

    # Only what is drawn counts: loose vertices would spoil the height.
    mesh = raw.mesh
    usual_up = "z" if kind == "stl" else "y"
    trust = 1.0 if kind in ("glb", "gltf") else 0.0
    R = rotation_to_world(mesh, raw.skin, up, facing, usual_up, trust)
    height = float(np.ptp((mesh.vertices @ R.T)[np.unique(mesh.faces), 1]))
    if height <= 0:
        raise MvaiError(f"{path}: the mesh has no height; name the right up axis.")
    scale = metres_per_unit(height) if unit is None else unit
    T_world_file = np.eye(4)
    T_world_file[:3, :3] = scale * R
    character = transformed(raw, T_world_file)
    refuse_two_people(character, str(path))
    return character


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
