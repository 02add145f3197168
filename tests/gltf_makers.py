"""Characters and animations to write as glTF, and a player that reads them by the specification."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pygltflib
from scipy.spatial.transform import Rotation

from mvai.types import Animation, Character, Image, Part, Skin

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


def box_person(random: np.random.Generator) -> Character:
    """Three parts of which two share a name, with every kind of attribute and a texture."""

    def part(name: str, low: float, high: float, material: int | None) -> Part:
        n = 30
        v = random.uniform((-0.3, low, -0.1), (0.3, high, 0.1), (n, 3)).astype(np.float32)
        normal = random.standard_normal((n, 3))
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        tangent = np.concatenate([np.roll(normal, 1, axis=1), np.ones((n, 1))], axis=1)
        attributes = {
            "NORMAL": normal.astype(np.float32),
            "TANGENT": tangent.astype(np.float32),
            "TEXCOORD_0": random.uniform(-2, 2, (n, 2)).astype(np.float32),
            "TEXCOORD_1": random.integers(0, 65536, (n, 2)).astype(np.uint16),
            "COLOR_0": random.integers(0, 256, (n, 3)).astype(np.uint8),
            "_HEAT": random.standard_normal(n).astype(np.float32)[:, None],
        }
        faces = random.integers(0, n, (50, 3))
        faces[0] = faces[1]  # A doubled and an empty face are part of the bargain.
        faces[2] = 7
        return Part(name, v.astype(float), faces, attributes, material)

    return Character(
        name="box person",
        parts=(part("legs", 0, 0.8, 1), part("top", 0.8, 1.5, 0), part("top", 1.5, 1.8, None)),
        materials=(
            {
                "name": "cloth",
                "pbrMetallicRoughness": {
                    "baseColorTexture": {
                        "index": 0,
                        "extensions": {"KHR_texture_transform": {"scale": [2, 2]}},
                    },
                    "metallicFactor": 0.1,
                },
                "alphaMode": "MASK",
                "alphaCutoff": 0.25,
                "extensions": {"KHR_materials_unlit": {}},
                "extras": {"note": "kept"},
            },
            {"emissiveFactor": [0.1, 0.2, 0.3], "doubleSided": True},
        ),
        textures=({"sampler": 0, "source": 0, "name": "weave"},),
        samplers=({"magFilter": 9728, "wrapS": 33071},),
        images=(Image(PNG, "image/png", "weave.png"),),
        extensions_used=("KHR_materials_unlit", "KHR_texture_transform"),
    )


def rig(character: Character, random: np.random.Generator, influences: int = 4) -> Skin:
    """Six joints, two of them roots, with weights at random."""
    names = ("Hips", "Spine", "Head", "LeftArm", "LeftHandThumb1", "tail")
    parents = (-1, 0, 1, 1, 3, -1)
    T = np.tile(np.eye(4), (6, 1, 1))
    T[:, :3, :3] = Rotation.random(6, random_state=1).as_matrix()
    T[:, :3, 3] = random.uniform(-0.3, 1.5, (6, 3))
    verts = len(character.mesh.vertices)
    weights = random.dirichlet(np.ones(influences), verts)
    indices = np.stack([random.permutation(6)[:influences] for _ in range(verts)])
    return Skin(names, parents, T, indices, weights)


def moving(character: Character, frames: int = 7, influences: int = 4) -> Animation:
    random = np.random.default_rng(5)
    skin = rig(character, random, influences)
    turns = Rotation.from_rotvec(random.standard_normal((frames * 6, 3)) * 0.8).as_matrix()
    Ts = np.tile(np.eye(4), (frames, 6, 1, 1))
    Ts[:, :, :3, :3] = turns.reshape(frames, 6, 3, 3) @ skin.T_world_joint[:, :3, :3]
    Ts[:, :, :3, 3] = skin.T_world_joint[:, :3, 3] + random.uniform(-1, 1, (frames, 6, 3))
    return Animation(character, fps=29.97, skin=skin, Ts_world_joint=Ts)


def skinned_directly(animation: Animation) -> np.ndarray:
    """Linear blend skinning in float64, (frames, verts, 3)."""
    skin = animation.skin
    assert skin is not None and animation.Ts_world_joint is not None
    Ts = animation.Ts_world_joint @ np.linalg.inv(skin.T_world_joint)
    v = np.pad(animation.character.mesh.vertices, ((0, 0), (0, 1)), constant_values=1.0)
    blend = np.einsum("vk,fvkij->fvij", skin.weights, Ts[:, skin.weight_indices])
    return np.einsum("fvij,vj->fvi", blend, v)[..., :3]


class Played:
    """Evaluates a GLB by the specification, independently of the writer."""

    def __init__(self, path: Path) -> None:
        loaded = pygltflib.GLTF2().load(str(path))
        assert loaded is not None
        self.gltf = loaded
        self.blob = loaded.binary_blob()

    def array(self, index: int) -> np.ndarray:
        a = self.gltf.accessors[index]
        view = self.gltf.bufferViews[a.bufferView]
        dtype = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}[a.componentType]
        size = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[a.type]
        item = np.dtype(dtype).itemsize
        return np.ndarray(
            (a.count, size),
            dtype,
            self.blob,
            view.byteOffset + (a.byteOffset or 0),
            (view.byteStride or item * size, item),
        )

    def times(self) -> np.ndarray:
        return self.array(self.gltf.animations[0].samplers[0].input)[:, 0]

    def vertices(self, frame: int) -> np.ndarray:
        gltf = self.gltf
        pose = {}
        for channel in gltf.animations[0].channels:
            output = self.array(gltf.animations[0].samplers[channel.sampler].output)
            pose[channel.target.node, channel.target.path] = output
        T_world: dict[int, np.ndarray] = {}

        def walk(i: int, T_parent: np.ndarray) -> None:
            node = gltf.nodes[i]
            t = pose.get((i, "translation"), {frame: node.translation or [0, 0, 0]})[frame]
            q = pose.get((i, "rotation"), {frame: node.rotation or [0, 0, 0, 1]})[frame]
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = Rotation.from_quat(q).as_matrix(), t
            T_world[i] = T_parent @ T
            for child in node.children or []:
                walk(child, T_world[i])

        for root in gltf.scenes[gltf.scene].nodes:
            walk(root, np.eye(4))
        found = []
        for i, node in enumerate(gltf.nodes):
            if node.mesh is None:
                continue
            for primitive in gltf.meshes[node.mesh].primitives:
                v = self.array(primitive.attributes.POSITION).astype(float)
                if node.skin is None:
                    weights = pose[i, "weights"].reshape(len(self.times()), -1)[frame]
                    for w, target in zip(weights, primitive.targets, strict=True):
                        v = v + w * self.array(target["POSITION"])
                    found.append(v)
                    continue
                skin = gltf.skins[node.skin]
                inverse = self.array(skin.inverseBindMatrices).reshape(-1, 4, 4)
                Ts = np.stack([T_world[j] for j in skin.joints]) @ inverse.transpose(0, 2, 1)
                joints = self.array(primitive.attributes.JOINTS_0)
                weights = self.array(primitive.attributes.WEIGHTS_0)
                blend = np.einsum("vk,vkij->vij", weights, Ts[joints])
                found.append(np.einsum("vij,vj->vi", blend[:, :3, :3], v) + blend[:, :3, 3])
        return np.concatenate(found)


def gltf_of(buffers: list[np.ndarray], tree: dict, folder: Path) -> Path:
    """A .gltf with an external .bin of the given arrays, one buffer view each."""
    content, views = b"", []
    for array in buffers:
        content += b"\0" * (-len(content) % 4)
        data = array.tobytes()
        views.append({"buffer": 0, "byteOffset": len(content), "byteLength": len(data)})
        content += data
    (folder / "data file.bin").write_bytes(content)
    for view, extra in zip(views, tree.pop("viewExtras", [{}] * len(views)), strict=True):
        view.update(extra)
    tree |= {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": "data%20file.bin", "byteLength": len(content)}],
        "bufferViews": views,
    }
    path = folder / "a.gltf"
    path.write_text(json.dumps(tree))
    return path
