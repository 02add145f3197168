"""The data types as trees of plain values and arrays, as the archive stores them.

`pack_*` gives dictionaries, lists, numbers, text and arrays; `unpack_*` turns them back and
raises ValueError, KeyError or TypeError for anything that is not right.

Meshes over time are quantised: positions relative to the centre of each frame's bounding box, in
16-bit steps that divide the sequence's largest such offset by 32,767. For a person of 2 m that is
0.03 mm, so no position is off by more than 0.02 mm. Each frame is stored as its difference
from the frame before (16-bit arithmetic wraps around, so this loses nothing), which packs better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai.types import Animation, Camera, Character, Image, Keypoints, MeshSequence, Part, Skin

Tree = Mapping[str, Any]
LARGEST = 32767


def _shallow(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _array(value: Any, *shape: int, kind: str = "f") -> np.ndarray:
    """`value` if it is an array of this kind and shape (-1 for any length)."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in kind:
        raise ValueError("an array is of the wrong type")
    if value.ndim != len(shape) or any(
        s not in (-1, n) for s, n in zip(shape, value.shape, strict=True)
    ):
        raise ValueError("an array has the wrong shape")
    return value


def _optional(value: Any, *shape: int, kind: str = "f") -> np.ndarray | None:
    return None if value is None else _array(value, *shape, kind=kind)


def _indices(value: Any, count: int, *shape: int) -> np.ndarray:
    """Whole numbers from 0 to `count` - 1."""
    array = _array(value, *shape, kind="iu")
    if array.size and not 0 <= array.min() <= array.max() < count:
        raise ValueError("an index points outside")
    return array


def _finite(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise ValueError("a value is not a finite number")
    return array


def _positive(value: Any) -> float:
    if not (isinstance(value, int | float) and 0 < value < float("inf")):
        raise ValueError("a frame rate or step is not a positive number")
    return value


def _size(value: Any) -> int:
    if not (isinstance(value, int) and value > 0):
        raise ValueError("a size is not a positive whole number")
    return value


# --- key-points and cameras ---------------------------------------------------------------------


def pack_keypoints(keypoints: Keypoints) -> Tree:
    return _shallow(keypoints)


def unpack_keypoints(tree: Tree) -> Keypoints:
    names = tuple(str(n) for n in tree["names"])
    xy_px = _array(tree["xy_px"], -1, len(names), 2)
    frames = len(xy_px)
    return Keypoints(
        names=names,
        xy_px=xy_px,
        confidence=_array(tree["confidence"], frames, len(names)),
        fps=_positive(tree["fps"]),
        width=_size(tree["width"]),
        height=_size(tree["height"]),
        xyz_m=_optional(tree["xyz_m"], frames, len(names), 3),
        present=_optional(tree["present"], frames, kind="b"),
    )


def _pack_camera(camera: Camera | None) -> Tree | None:
    return None if camera is None else _shallow(camera)


def _unpack_camera(tree: Tree | None, frames: int) -> Camera | None:
    if tree is None:
        return None
    # Archives of before cameras moved have no path.
    path = _optional(tree.get("path_m"), frames, 3)
    return Camera(
        K=_finite(_array(tree["K"], 3, 3)),
        width=_size(tree["width"]),
        height=_size(tree["height"]),
        T_camera_world=_finite(_array(tree["T_camera_world"], 4, 4)),
        path_m=None if path is None else _finite(path),
    )


# --- meshes over time ---------------------------------------------------------------------------


def _pack_moving(vertices: Float[np.ndarray, "frames verts 3"]) -> Tree:
    if not np.isfinite(vertices).all():
        raise ValueError("positions are not finite numbers")
    origin = (vertices.min(axis=1) + vertices.max(axis=1)) / 2
    reach = float(max(np.abs(v - o).max() for v, o in zip(vertices, origin, strict=True)))
    step_m = max(reach / LARGEST, 1e-9)
    steps = np.empty(vertices.shape, np.int16)
    for out, frame, centre in zip(steps, vertices, origin, strict=True):
        # The origin is float32 and so is the offset; clipping undoes rounding beyond the reach.
        out[:] = np.clip(np.rint((frame - centre) / step_m), -LARGEST, LARGEST)
    steps[1:] -= steps[:-1].copy()
    return {"origin": origin, "step_m": step_m, "differences": steps}


def _unpack_moving(tree: Tree) -> Float[np.ndarray, "frames verts 3"]:
    steps = _array(tree["differences"], -1, -1, 3, kind="i")
    origin = _finite(_array(tree["origin"], len(steps), 3)).astype(np.float32)
    step_m = np.float32(_positive(tree["step_m"]))
    vertices = np.empty(steps.shape, np.float32)
    now = np.zeros(steps.shape[1:], np.int16)
    for out, difference, centre in zip(vertices, steps, origin, strict=True):
        now += difference
        np.multiply(now, step_m, out=out)
        out += centre
    return vertices


def pack_sequence(sequence: MeshSequence) -> Tree:
    return {
        "vertices": _pack_moving(sequence.vertices),
        "faces": sequence.faces.astype(np.int32),
        "fps": sequence.fps,
        "topology": sequence.topology,
        "camera": _pack_camera(sequence.camera),
        "confidence": sequence.confidence,
    }


def unpack_sequence(tree: Tree) -> MeshSequence:
    vertices = _unpack_moving(tree["vertices"])
    return MeshSequence(
        vertices=vertices,
        faces=_indices(tree["faces"], vertices.shape[1], -1, 3),
        fps=_positive(tree["fps"]),
        topology=str(tree["topology"]),
        camera=_unpack_camera(tree["camera"], len(vertices)),
        confidence=_optional(tree["confidence"], len(vertices)),
    )


# --- characters and animations ------------------------------------------------------------------


def _pack_skin(skin: Skin | None) -> Tree | None:
    return None if skin is None else _shallow(skin)


def _unpack_skin(tree: Tree | None, verts: int) -> Skin | None:
    if tree is None:
        return None
    joints = tuple(str(j) for j in tree["joints"])
    parents = tuple(int(p) for p in tree["parents"])
    if len(parents) != len(joints) or any(not -1 <= p < j for j, p in enumerate(parents)):
        raise ValueError("the joints are no tree")
    indices = _indices(tree["weight_indices"], len(joints), verts, -1)
    return Skin(
        joints=joints,
        parents=parents,
        T_world_joint=_finite(_array(tree["T_world_joint"], len(joints), 4, 4)),
        weight_indices=indices,
        weights=_finite(_array(tree["weights"], *indices.shape)),
    )


def _pack_character(character: Character) -> Tree:
    return {
        **_shallow(character),
        "parts": [{**_shallow(p), "attributes": dict(p.attributes)} for p in character.parts],
        "images": [
            {**_shallow(i), "data": np.frombuffer(i.data, np.uint8)} for i in character.images
        ],
        "skin": _pack_skin(character.skin),
    }


def _unpack_character(tree: Tree) -> Character:
    parts = tuple(_unpack_part(p) for p in tree["parts"])
    images = tuple(
        Image(_array(i["data"], -1, kind="u").tobytes(), str(i["mime"]), str(i["name"]))
        for i in tree["images"]
    )
    return Character(
        name=str(tree["name"]),
        parts=parts,
        materials=tuple(dict(m) for m in tree["materials"]),
        textures=tuple(dict(t) for t in tree["textures"]),
        samplers=tuple(dict(s) for s in tree["samplers"]),
        images=images,
        extensions_used=tuple(str(e) for e in tree["extensions_used"]),
        skin=_unpack_skin(tree["skin"], sum(len(p.vertices) for p in parts)),
        T_world_file=_array(tree["T_world_file"], 4, 4),
    )


def _unpack_part(tree: Tree) -> Part:
    vertices = _finite(_array(tree["vertices"], -1, 3))
    attributes = {str(k): np.asarray(v) for k, v in tree["attributes"].items()}
    if any(len(v) != len(vertices) for v in attributes.values()):
        raise ValueError("a vertex attribute has the wrong length")
    return Part(
        name=str(tree["name"]),
        vertices=vertices,
        faces=_indices(tree["faces"], len(vertices), -1, 3),
        attributes=attributes,
        material=None if tree["material"] is None else int(tree["material"]),
    )


def pack_animation(animation: Animation) -> Tree:
    free = animation.free_vertices
    return {
        "character": _pack_character(animation.character),
        "fps": animation.fps,
        "skin": _pack_skin(animation.skin),
        "Ts_world_joint": animation.Ts_world_joint,
        "free_vertices": None if free is None else _pack_moving(free),
        "camera": _pack_camera(animation.camera),
    }


def unpack_animation(tree: Tree) -> Animation:
    character = _unpack_character(tree["character"])
    verts = sum(len(p.vertices) for p in character.parts)
    skin = _unpack_skin(tree["skin"], verts)
    free = tree["free_vertices"]
    if (skin is None) == (free is None):
        raise ValueError("an animation moves either joints or vertices")
    free = None if free is None else _array(_unpack_moving(free), -1, verts, 3)
    Ts = None if skin is None else _array(tree["Ts_world_joint"], -1, len(skin.joints), 4, 4)
    moving = free if Ts is None else Ts
    assert moving is not None
    return Animation(
        character=character,
        fps=_positive(tree["fps"]),
        skin=skin,
        Ts_world_joint=None if Ts is None else _finite(Ts),
        free_vertices=free,
        camera=_unpack_camera(tree["camera"], len(moving)),
    )
