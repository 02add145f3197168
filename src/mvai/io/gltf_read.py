"""glTF 2.0 to Character, with materials, textures, attributes, vertex order and rig kept.

Not kept: animations, morph targets (their default weights are applied), lines and points, cameras
and lights.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mvai.io.gltf_file import GltfFile, accessor, as_float
from mvai.io.gltf_nodes import (
    Joints,
    Nodes,
    merged_joints,
    nearest_joint,
    rigid_part,
    scene_nodes,
    skin_matrices,
)
from mvai.io.gltf_pictures import pictures
from mvai.types import Character, MvaiWarning, Part, Skin


def character_from_gltf(gltf: GltfFile, name: str) -> Character:
    """The default scene of a parsed file, meshes baked to the file's world.

    A skinned mesh is taken as its skin deforms it with the node transforms as they stand. A mesh
    without a skin in a rigged file moves with the joint it hangs below, else with the first one.

    Returns:
        A Character in the file's own coordinates; no part without faces.

    Raises:
        MvaiError: the file breaks the specification.
    """
    nodes = scene_nodes(gltf)
    joints = merged_joints(gltf, nodes)
    parts: list[Part] = []
    bindings: list[tuple[np.ndarray, np.ndarray]] = []
    for node_index in nodes.order:
        if "mesh" not in gltf.items("nodes")[node_index]:
            continue
        try:
            for part, binding in _mesh_parts(gltf, nodes, joints, node_index):
                parts.append(part)
                bindings.append(binding)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise gltf.broken(f"the mesh of node {node_index} cannot be read") from error
    images, materials = pictures(gltf)
    textures, samplers = tuple(gltf.items("textures")), tuple(gltf.items("samplers"))
    return Character(
        name=name,
        parts=tuple(parts),
        materials=materials,
        textures=textures,
        samplers=samplers,
        images=images,
        extensions_used=tuple(sorted(_extensions([materials, textures, samplers]))),
        skin=_skin(nodes, joints, bindings, gltf.where) if joints.nodes and parts else None,
    )


def _mesh_parts(
    gltf: GltfFile, nodes: Nodes, joints: Joints, node_index: int
) -> list[tuple[Part, tuple[np.ndarray, np.ndarray]]]:
    """The primitives of one node, each with its (weight_indices, weights) over `joints`."""
    node = gltf.items("nodes")[node_index]
    mesh = gltf.items("meshes")[node["mesh"]]
    shared = [p["attributes"].get("POSITION") for p in mesh["primitives"]]
    joint_of_node = joints.index()
    skin = gltf.items("skins")[node["skin"]] if "skin" in node else None
    found = []
    for primitive in mesh["primitives"]:
        if "POSITION" not in primitive["attributes"]:
            continue
        stored = {k: accessor(gltf, a) for k, a in primitive["attributes"].items()}
        vertices = as_float(*stored.pop("POSITION")).astype(float)
        weights_of_mesh = node.get("weights", mesh.get("weights", []))
        for weight, target in zip(weights_of_mesh, primitive.get("targets", []), strict=False):
            if weight and "POSITION" in target:
                vertices += weight * as_float(*accessor(gltf, target["POSITION"]))
        faces = _triangles(gltf, primitive, len(vertices))
        if not len(faces):
            continue
        if any(len(values) != len(vertices) for values, _ in stored.values()):
            raise gltf.broken("vertex attributes differ in length")
        if skin is not None and "JOINTS_0" in stored:
            local, weights = _influences(stored)
            Ts_world_mesh = skin_matrices(gltf, nodes, skin)
            if local.max() >= len(skin["joints"]):
                raise gltf.broken("a vertex names a joint that is not there")
            indices = np.array([joint_of_node[j] for j in skin["joints"]])[local]
        else:
            Ts_world_mesh = nodes.T_world_node[node_index][None]
            local, weights = np.zeros((len(vertices), 1), int), np.ones((len(vertices), 1))
            indices = np.full_like(local, max(0, nearest_joint(nodes, node_index, joint_of_node)))
        blend = np.zeros((len(vertices), 3, 4))
        for k in range(local.shape[1]):  # One influence at a time keeps memory small.
            blend += weights[:, k, None, None] * Ts_world_mesh[local[:, k], :3]
        vertices = np.einsum("vij,vj->vi", blend[:, :, :3], vertices) + blend[:, :, 3]
        if np.linalg.det(blend[0, :, :3]) < 0:
            faces = faces[:, ::-1]  # A mirroring transform turns triangles inside out (3.7.4).
        attributes = {
            key: _attribute(key, values, normalized, blend[:, :, :3])
            for key, (values, normalized) in stored.items()
            if not key.startswith(("JOINTS_", "WEIGHTS_"))
        }
        if shared.count(primitive["attributes"]["POSITION"]) > 1:
            # Primitives that share one vertex buffer each keep only the vertices they draw.
            used, faces = np.unique(faces, return_inverse=True)
            faces = faces.reshape(-1, 3)
            vertices, indices, weights = vertices[used], indices[used], weights[used]
            attributes = {k: v[used] for k, v in attributes.items()}
        part = Part(
            name=str(node.get("name") or mesh.get("name") or f"mesh_{node_index}"),
            vertices=vertices,
            faces=faces.astype(np.int64),
            attributes=attributes,
            material=primitive.get("material"),
        )
        found.append((part, (indices, weights)))
    return found


def _triangles(gltf: GltfFile, primitive: dict[str, Any], count: int) -> Int[np.ndarray, "faces 3"]:
    """Triangles of a primitive, strips and fans unrolled; none for lines and points (3.7.2)."""
    mode = primitive.get("mode", 4)
    if "indices" in primitive:
        corners = accessor(gltf, primitive["indices"])[0][:, 0].astype(np.int64)
    else:
        corners = np.arange(count)
    if len(corners) and corners.max() >= count:
        raise gltf.broken("a face names a vertex that is not there")
    i = np.arange(max(0, len(corners) - 2))
    if mode == 4:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == 5:
        odd = i % 2
        return np.stack([corners[i], corners[i + 1 + odd], corners[i + 2 - odd]], axis=1)
    if mode == 6:
        return np.stack([corners[i + 1], corners[i + 2], np.full_like(i, corners[0])], axis=1)
    return np.zeros((0, 3), np.int64)


def _influences(stored: dict[str, tuple[np.ndarray, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """All JOINTS_n and WEIGHTS_n side by side; rows sum to 1."""
    sets = [n for n in range(8) if f"JOINTS_{n}" in stored and f"WEIGHTS_{n}" in stored]
    indices = np.concatenate([stored[f"JOINTS_{n}"][0] for n in sets], axis=1).astype(np.int64)
    weights = np.concatenate([as_float(*stored[f"WEIGHTS_{n}"]) for n in sets], axis=1)
    weights = np.clip(np.nan_to_num(weights.astype(float)), 0, None)
    total = weights.sum(axis=1, keepdims=True)
    weights[total[:, 0] == 0, 0] = 1.0
    weights /= np.where(total == 0, 1.0, total)
    return np.where(weights > 0, indices, 0), weights


def _attribute(
    key: str, values: np.ndarray, normalized: bool, R: Float[np.ndarray, "verts 3 3"]
) -> np.ndarray:
    """An attribute in the file's world; colours and texture coordinates stay as they are stored."""
    if key == "NORMAL":
        # Normals follow the cofactor matrix, which needs no inverse.
        cofactor = np.stack(
            [np.cross(R[:, (i + 1) % 3], R[:, (i + 2) % 3]) for i in range(3)], axis=1
        )
        return turned(as_float(values, normalized), cofactor)
    if key == "TANGENT":
        return turned(as_float(values, normalized), R)
    if values.dtype.kind in "iu" and normalized != key.startswith(("COLOR_", "TEXCOORD_")):
        return as_float(values, normalized)
    return values


def turned(
    vectors: Float[np.ndarray, "verts c"], R: Float[np.ndarray, "verts 3 3"]
) -> Float[np.ndarray, "verts c"]:
    """Unit vectors (xyz, further components kept) turned by a matrix a vertex, float32.

    Left untouched, to the bit, where the matrices are the identity.
    """
    if np.array_equal(R, np.broadcast_to(np.eye(3), R.shape)):
        return vectors
    out = vectors.astype(float)
    out[:, :3] = np.einsum("vij,vj->vi", R, out[:, :3])
    out[:, :3] /= np.maximum(np.linalg.norm(out[:, :3], axis=1, keepdims=True), 1e-30)
    return out.astype(np.float32)


def _skin(
    nodes: Nodes, joints: Joints, bindings: list[tuple[np.ndarray, np.ndarray]], where: str
) -> Skin | None:
    """All parts' weights in one table, padded to the widest.

    None for a rig under a mirroring transform: its left bones are on the right, and no rigid
    transform of a joint says so.
    """
    Ts_world_joint = np.stack([nodes.T_world_node[j] for j in joints.nodes])
    if np.median(np.linalg.det(Ts_world_joint[:, :3, :3])) < 0:
        warnings.warn(
            f"{where}: the rig is mirrored (by a negative scale) and is left out.",
            MvaiWarning,
            stacklevel=4,
        )
        return None
    width = max(indices.shape[1] for indices, _ in bindings)

    def padded(rows: np.ndarray) -> np.ndarray:
        return np.pad(rows, ((0, 0), (0, width - rows.shape[1])))

    return Skin(
        joints=joints.names,
        parents=joints.parents,
        T_world_joint=rigid_part(Ts_world_joint),
        weight_indices=np.concatenate([padded(i) for i, _ in bindings]),
        weights=np.concatenate([padded(w) for _, w in bindings]),
    )


def _extensions(tree: Any) -> set[str]:
    """Names of the extensions that a piece of JSON carries, at any depth."""
    if isinstance(tree, dict):
        names = set(tree.get("extensions", {}))
        return names.union(*(_extensions(v) for v in tree.values()))
    if isinstance(tree, list | tuple):
        return set().union(*(_extensions(v) for v in tree))
    return set()
