"""The node hierarchy of a glTF file: world transforms and the joints of its skins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai.io.gltf_file import GltfFile, accessor, as_float


@dataclass(frozen=True)
class Nodes:
    """The nodes of the scene that the file shows."""

    order: tuple[int, ...]
    """Node indices, parents before children."""
    parent: Mapping[int, int]
    """Parent of each node in the scene, -1 for a root."""
    T_world_node: Mapping[int, Float[np.ndarray, "4 4"]]
    """In the file's world, with the transforms as they stand."""


@dataclass(frozen=True)
class Joints:
    """The joints of all skins of a file, merged."""

    nodes: tuple[int, ...]
    """Node of every joint, parents before children."""
    names: tuple[str, ...]
    parents: tuple[int, ...]
    """Index into the joints, -1 for a root."""

    def index(self) -> dict[int, int]:
        """Joint index of each node."""
        return {node: i for i, node in enumerate(self.nodes)}


def local_transform(node: Mapping[str, Any]) -> Float[np.ndarray, "4 4"]:
    """Node to parent coordinates: a column-major matrix, or its three factors (3.5.3)."""
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), float) / max(
        float(np.linalg.norm(node.get("rotation", (0, 0, 0, 1)))), 1e-12
    )
    R = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    T = np.eye(4)
    T[:3, :3] = R * np.array(node.get("scale", (1, 1, 1)), float)
    T[:3, 3] = node.get("translation", (0, 0, 0))
    return T


def scene_nodes(gltf: GltfFile) -> Nodes:
    """Walks the default scene, or every root where the file names no scene.

    Raises:
        MvaiError: the hierarchy has a loop or names a node that is not there.
    """
    nodes = gltf.items("nodes")
    scenes = gltf.items("scenes")
    try:
        if scenes:
            roots = scenes[gltf.json.get("scene", 0)].get("nodes", [])
        else:
            children = {c for n in nodes for c in n.get("children", [])}
            roots = [i for i in range(len(nodes)) if i not in children]
        order: list[int] = []
        parent: dict[int, int] = {}
        T_world_node: dict[int, np.ndarray] = {}
        waiting = [(r, -1) for r in reversed(roots)]
        while waiting:
            i, above = waiting.pop()
            if i in parent or i < 0:
                raise gltf.broken(f"node {i} hangs in the scene twice")
            parent[i] = above
            order.append(i)
            T = local_transform(nodes[i])
            T_world_node[i] = T if above < 0 else T_world_node[above] @ T
            waiting += [(c, i) for c in reversed(nodes[i].get("children", []))]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise gltf.broken("its nodes cannot be read") from error
    return Nodes(tuple(order), parent, T_world_node)


def merged_joints(gltf: GltfFile, nodes: Nodes) -> Joints:
    """One list of joints for all skins that the scene's nodes use.

    Names are made unique; a joint's parent is the nearest node above it that is a joint.
    """
    file_nodes = gltf.items("nodes")
    used = {n["skin"] for i in nodes.order if "skin" in (n := file_nodes[i]) and "mesh" in n}
    try:
        wanted = {j for s in used for j in gltf.items("skins")[s]["joints"]}
    except (KeyError, IndexError, TypeError) as error:
        raise gltf.broken("its skin cannot be read") from error
    if not wanted <= set(nodes.order):
        raise gltf.broken("a joint is not part of the scene")
    joints = [i for i in nodes.order if i in wanted]
    index = {node: k for k, node in enumerate(joints)}
    names: list[str] = []
    for node in joints:
        name = base = str(file_nodes[node].get("name") or f"joint_{node}")
        count = 1
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    parents = tuple(nearest_joint(nodes, nodes.parent[i], index) for i in joints)
    return Joints(tuple(joints), tuple(names), parents)


def nearest_joint(nodes: Nodes, node: int, index: Mapping[int, int]) -> int:
    """The joint that `node` is or hangs below, -1 if none."""
    while node >= 0 and node not in index:
        node = nodes.parent[node]
    return index[node] if node >= 0 else -1


def skin_matrices(
    gltf: GltfFile, nodes: Nodes, skin: Mapping[str, Any]
) -> Float[np.ndarray, "joints 4 4"]:
    """World from mesh for every joint of a skin, node transforms as they stand (3.7.3.3)."""
    joints = skin["joints"]
    Ts_world_joint = np.stack([nodes.T_world_node[j] for j in joints])
    if "inverseBindMatrices" not in skin:
        return Ts_world_joint
    values = as_float(*accessor(gltf, skin["inverseBindMatrices"])).astype(float)
    if values.shape[1] != 16 or len(values) < len(joints):
        raise gltf.broken("a skin has too few inverse bind matrices")
    Ts_joint_mesh = values[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)
    return Ts_world_joint @ Ts_joint_mesh


def rigid_part(T: Float[np.ndarray, "*n 4 4"]) -> Float[np.ndarray, "*n 4 4"]:
    """The nearest rigid transform with the same origin: scale and shear are dropped."""
    U, _, Vt = np.linalg.svd(T[..., :3, :3])
    sign = np.linalg.det(U @ Vt)
    U = U.copy()
    U[..., :, 2] *= sign[..., None]
    rigid = np.zeros_like(T)
    rigid[..., :3, :3] = U @ Vt
    rigid[..., :3, 3] = T[..., :3, 3]
    rigid[..., 3, 3] = 1
    return rigid
