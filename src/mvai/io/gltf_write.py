"""Writes an Animation as one glTF 2.0 binary file (.glb).

A skinned animation becomes joints, one skin and one clip; freely moving vertices become one morph
target a frame. What the character looked like goes back as it came: materials, textures, samplers,
pictures, vertex attributes, vertex order and parts.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mvai.io.atomic import written_whole
from mvai.io.gltf_motion import local_transforms, quaternions_xyzw, reduced_influences
from mvai.io.gltf_pack import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Packer
from mvai.types import Animation, Character, MvaiError, Part, Skin
from mvai.types.names import BODY_JOINTS, FINGERS, SIDES

MAX_MORPH_FRAMES = 240
"""Every frame of a free animation is a whole mesh; beyond this no viewer loads it gladly."""

MIXAMO_JOINTS = frozenset(BODY_JOINTS) | {
    f"{side}Hand{finger}{i}" for side in SIDES for finger in FINGERS for i in (1, 2, 3, 4)
}
MOVES_M = 1e-6
"""A translation that changes less than this is left to the rest pose."""
TURNS = 1e-7
"""The same for a component of a rotation's unit quaternion."""


def write_glb(
    animation: Animation,
    path: str | os.PathLike[str],
    generator_settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes an animated GLB at the animation's own frame times (frame k at k / fps seconds).

    Joints with this package's standard names get the prefix `mixamorig:`. Each vertex keeps its
    four strongest influences, their sum made 1, because that is what engines read.

    Args:
        animation: what to write; positions in the character's world frame, metres.
        path: where to; replaced only once the new file is complete.
        generator_settings: put into `asset.extras` beside the version, for the record.

    Raises:
        MvaiError: nothing to write, values that are not finite, free vertices in more than
            `MAX_MORPH_FRAMES` frames, or the path cannot be written.
    """
    where = os.fspath(path)
    _check(animation, where)
    packer = Packer()
    tree: dict[str, Any] = {
        "asset": {
            "version": "2.0",
            "generator": f"mvai {_version()}",
            "extras": {"mvai": {"version": _version(), "settings": _plain(generator_settings)}},
        },
        "scene": 0,
    }
    if animation.skin is not None:
        tree |= _skinned(animation, animation.skin, packer)
    else:
        tree |= _morphed(animation, packer)
    tree |= _appearance(animation.character, packer)
    with written_whole(path) as temporary:
        temporary.write_bytes(packer.glb(tree))


def _check(animation: Animation, where: str) -> None:
    moving = animation.free_vertices if animation.skin is None else animation.Ts_world_joint
    if moving is None or not len(moving):
        raise MvaiError(f"{where}: the animation has no frames, so there is nothing to write.")
    if not np.isfinite(moving).all() or not np.isfinite(animation.character.mesh.vertices).all():
        raise MvaiError(f"{where}: the animation has positions that are not finite numbers.")
    if not animation.fps > 0:
        raise MvaiError(f"{where}: the animation's frame rate must be above zero.")
    if animation.skin is None and len(moving) > MAX_MORPH_FRAMES:
        raise MvaiError(
            f"{where}: freely moving vertices fit a .glb up to {MAX_MORPH_FRAMES} frames and this "
            f"has {len(moving)}; write an .npz instead."
        )


def _skinned(animation: Animation, skin: Skin, packer: Packer) -> dict[str, Any]:
    """Nodes, meshes, skin and clip of an animation by joints.

    The joints hang below a node with no transform, named after the character, so that a skin of
    several roots has the common root that glTF asks for. Mesh nodes are roots of the scene, since
    a skinned mesh ignores the transforms above it.
    """
    assert animation.Ts_world_joint is not None
    joints, weights = reduced_influences(skin)
    joints = joints.astype(np.uint8 if len(skin.joints) <= 256 else np.uint16)
    rest = local_transforms(skin.T_world_joint[None], skin.parents)
    rest_rotation = quaternions_xyzw(rest)[0]
    nodes: list[dict[str, Any]] = [{"name": animation.character.name or "character"}]
    for j, name in enumerate(skin.joints):
        node: dict[str, Any] = {"name": f"mixamorig:{name}" if name in MIXAMO_JOINTS else name}
        node["translation"] = rest[0, j, :3, 3].tolist()
        node["rotation"] = rest_rotation[j].tolist()
        nodes.append(node)
    for j, parent in enumerate(skin.parents):
        nodes[parent + 1].setdefault("children", []).append(j + 1)
    # The translations and rotations just written are what viewers compose; the inverse of the
    # given transforms is the same to rounding.
    inverse = np.linalg.inv(skin.T_world_joint.astype(float))
    inverse[:, 3] = (0, 0, 0, 1)
    columns = inverse.transpose(0, 2, 1).reshape(-1, 16).astype(np.float32)

    meshes: list[dict[str, Any]] = []
    scene = [0]
    start = 0
    for name, group in _named_groups(animation.character):
        primitives = []
        for part in group:
            rows = slice(start, start + len(part.vertices))
            start = rows.stop
            primitives.append(
                _primitive(part, packer, {"JOINTS_0": joints[rows], "WEIGHTS_0": weights[rows]})
            )
        scene.append(len(nodes))
        nodes.append({"name": name, "mesh": len(meshes), "skin": 0})
        meshes.append({"name": name, "primitives": primitives})
    return {
        "scenes": [{"nodes": scene}],
        "nodes": nodes,
        "meshes": meshes,
        "skins": [
            {
                "joints": list(range(1, len(skin.joints) + 1)),
                "skeleton": 0,
                "inverseBindMatrices": packer.accessor(columns),
            }
        ],
        "animations": [_clip(animation, skin, rest[0], rest_rotation, packer)],
    }


def _clip(
    animation: Animation,
    skin: Skin,
    rest: Float[np.ndarray, "joints 4 4"],
    rest_rotation: Float[np.ndarray, "joints 4"],
    packer: Packer,
) -> dict[str, Any]:
    """The motion of every joint that leaves its rest; roots always carry their translation."""
    assert animation.Ts_world_joint is not None
    local = local_transforms(animation.Ts_world_joint, skin.parents)
    rotation = quaternions_xyzw(local, rest_rotation)
    times = packer.accessor(_times(animation), bounds=True)
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def add(joint: int, what: str, values: np.ndarray) -> None:
        output = packer.accessor(values.astype(np.float32))
        channels.append({"sampler": len(samplers), "target": {"node": joint + 1, "path": what}})
        samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})

    for j, parent in enumerate(skin.parents):
        moved = local[:, j, :3, 3]
        if parent < 0 or np.abs(moved - rest[j, :3, 3]).max() > MOVES_M:
            add(j, "translation", moved)
        if parent < 0 or np.abs(rotation[:, j] - rest_rotation[j]).max() > TURNS:
            add(j, "rotation", rotation[:, j])
    return {"name": "motion", "samplers": samplers, "channels": channels}


def _morphed(animation: Animation, packer: Packer) -> dict[str, Any]:
    """Nodes, meshes and clip of freely moving vertices: frame k is morph target k at weight 1."""
    assert animation.free_vertices is not None
    frames = animation.frames
    times = packer.accessor(_times(animation), bounds=True)
    one_hot = packer.accessor(np.eye(frames, dtype=np.float32).reshape(-1))
    nodes: list[dict[str, Any]] = []
    meshes: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []
    start = 0
    for name, group in _named_groups(animation.character):
        primitives = []
        for part in group:
            rows = slice(start, start + len(part.vertices))
            start = rows.stop
            primitive = _primitive(part, packer, {})
            base = part.vertices.astype(np.float32)
            moved = (animation.free_vertices[:, rows] - base).astype(np.float32)
            primitive["targets"] = [
                {"POSITION": packer.accessor(d, target=ARRAY_BUFFER, bounds=True)} for d in moved
            ]
            primitives.append(primitive)
        channels.append({"sampler": 0, "target": {"node": len(nodes), "path": "weights"}})
        nodes.append({"name": name, "mesh": len(meshes)})
        meshes.append({"name": name, "primitives": primitives, "weights": [0.0] * frames})
    sampler = {"input": times, "output": one_hot, "interpolation": "LINEAR"}
    return {
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
        "animations": [{"name": "motion", "samplers": [sampler], "channels": channels}],
    }


def _named_groups(character: Character) -> list[tuple[str, list[Part]]]:
    """Runs of parts that share a name: the primitives of one mesh."""
    return [(name, list(parts)) for name, parts in groupby(character.parts, lambda p: p.name)]


def _primitive(part: Part, packer: Packer, bindings: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """One part with its own attributes and what binds it to the joints."""
    attributes = {
        "POSITION": packer.accessor(
            part.vertices.astype(np.float32), target=ARRAY_BUFFER, bounds=True
        )
    }
    for key, values in part.attributes.items():
        # Integer colours and texture coordinates are normalised by definition (glTF 2.0, 3.7.2.1).
        normalized = values.dtype.kind == "u" and key.startswith(("COLOR_", "TEXCOORD_"))
        attributes[key] = packer.accessor(values, target=ARRAY_BUFFER, normalized=normalized)
    for key, values in bindings.items():
        attributes[key] = packer.accessor(values, target=ARRAY_BUFFER)
    # The largest index of a type is reserved for restarting a primitive.
    small = np.uint16 if len(part.vertices) < 65535 else np.uint32
    indices: Int[np.ndarray, " corners"] = part.faces.reshape(-1).astype(small)
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": packer.accessor(indices, target=ELEMENT_ARRAY_BUFFER),
    }
    if part.material is not None:
        primitive["material"] = part.material
    return primitive


def _appearance(character: Character, packer: Packer) -> dict[str, Any]:
    """Materials, textures, samplers and pictures; empty lists are not allowed in glTF."""
    images = []
    for image in character.images:
        entry: dict[str, Any] = {"bufferView": packer.view(image.data), "mimeType": image.mime}
        images.append(entry | ({"name": image.name} if image.name else {}))
    lists = {
        "materials": [dict(m) for m in character.materials],
        "textures": [dict(t) for t in character.textures],
        "samplers": [dict(s) for s in character.samplers],
        "images": images,
        "extensionsUsed": list(character.extensions_used),
    }
    return {key: value for key, value in lists.items() if value}


def _times(animation: Animation) -> Float[np.ndarray, " frames"]:
    return (np.arange(animation.frames) / animation.fps).astype(np.float32)


def _version() -> str:
    return importlib.metadata.version("mvai")


def _plain(value: Any) -> Any:
    """Settings as JSON can hold them; what it has no form for is written as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    return str(value)
