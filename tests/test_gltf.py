"""glTF out and in again: appearance to the bit, motion to a tenth of a millimetre, validity."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from mvai.io.atomic import written_whole
from mvai.io.characters import read_character
from mvai.io.gltf_motion import quaternions_xyzw, reduced_influences
from mvai.io.gltf_write import write_glb
from mvai.types import Animation, Character, Image, MvaiError, Part, Skin

TESTS = Path(__file__).parent
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


@pytest.fixture
def character() -> Character:
    return box_person(np.random.default_rng(3))


def test_motion_survives(tmp_path: Path, character: Character):
    animation = moving(character)
    write_glb(animation, tmp_path / "a.glb")
    played = Played(tmp_path / "a.glb")
    expected = skinned_directly(animation)
    for frame in range(animation.frames):
        np.testing.assert_allclose(played.vertices(frame), expected[frame], atol=1e-4)
    np.testing.assert_allclose(played.times(), np.arange(7) / 29.97, rtol=1e-6)


def test_names_settings_and_untouched_joints(tmp_path: Path, character: Character):
    animation = moving(character)
    assert animation.skin is not None and animation.Ts_world_joint is not None
    Ts = np.repeat(animation.skin.T_world_joint[None], 3, axis=0)
    Ts[:, 5, 0, 3] += (0.0, 0.1, 0.2)
    still = replace(animation, Ts_world_joint=Ts)
    settings = {"seed": 3, "loss": float("nan"), "path": Path("clip.mp4"), "w": (1.0, 2.0)}
    write_glb(still, tmp_path / "a.glb", settings)
    gltf = Played(tmp_path / "a.glb").gltf
    names = [gltf.nodes[j].name for j in gltf.skins[0].joints]
    assert names == [
        *("mixamorig:Hips", "mixamorig:Spine", "mixamorig:Head", "mixamorig:LeftArm"),
        *("mixamorig:LeftHandThumb1", "tail"),
    ]
    moved = {(gltf.nodes[c.target.node].name, c.target.path) for c in gltf.animations[0].channels}
    assert moved == {(n, p) for n in (names[0], "tail") for p in ("translation", "rotation")}
    extras = gltf.asset.extras["mvai"]
    assert extras["settings"] == {"seed": 3, "loss": "nan", "path": "clip.mp4", "w": [1.0, 2.0]}
    assert extras["version"]


def test_appearance_survives_to_the_bit(tmp_path: Path, character: Character):
    write_glb(moving(character), tmp_path / "a.glb")
    # The box has no shape to tell its axes by, so they are given.
    again = read_character(tmp_path / "a.glb", up="y", facing="+z", unit=1.0)
    for key in ("materials", "textures", "samplers", "images", "extensions_used"):
        assert getattr(again, key) == getattr(character, key)
    assert [p.name for p in again.parts] == ["legs", "top", "top"]
    for new, old in zip(again.parts, character.parts, strict=True):
        assert new.material == old.material
        np.testing.assert_array_equal(new.faces, old.faces)
        np.testing.assert_allclose(new.vertices, old.vertices, atol=2e-6)
        assert new.attributes.keys() == old.attributes.keys()
        for key in ("TEXCOORD_0", "TEXCOORD_1", "COLOR_0", "_HEAT"):
            assert new.attributes[key].dtype == old.attributes[key].dtype
            np.testing.assert_array_equal(new.attributes[key], old.attributes[key])
        for key in ("NORMAL", "TANGENT"):
            np.testing.assert_allclose(new.attributes[key], old.attributes[key], atol=1e-5)


def test_positions_are_exact_without_a_rig(tmp_path: Path, character: Character):
    free = character.mesh.vertices[None] + np.linspace(0, 1, 4)[:, None, None]
    write_glb(Animation(character, fps=24, free_vertices=free), tmp_path / "a.glb")
    again = read_character(tmp_path / "a.glb", up="y", facing="+z", unit=1.0)
    for new, old in zip(again.parts, character.parts, strict=True):
        np.testing.assert_array_equal(new.vertices, old.vertices)
        for key, values in old.attributes.items():
            np.testing.assert_array_equal(new.attributes[key], values)
    played = Played(tmp_path / "a.glb")
    for frame in range(4):
        np.testing.assert_allclose(played.vertices(frame), free[frame], atol=1e-6)


def test_rig_is_read_back(tmp_path: Path, character: Character):
    animation = moving(character)
    old = animation.skin
    write_glb(animation, tmp_path / "a.glb")
    new = read_character(tmp_path / "a.glb", up="y", facing="+z", unit=1.0).skin
    assert new is not None and old is not None
    where = [new.joints.index(n if n == "tail" else f"mixamorig:{n}") for n in old.joints]
    np.testing.assert_allclose(new.T_world_joint[where], old.T_world_joint, atol=1e-6)
    dense = np.zeros((2, len(old.weights), 6))
    for table, skin in zip(dense, (old, new), strict=True):
        # Padding names joint 0 with weight 0, so weights are added, not put.
        np.add.at(table, (np.arange(len(table))[:, None], skin.weight_indices), skin.weights)
    np.testing.assert_allclose(dense[1][:, where], dense[0], atol=1e-6)
    parents = [new.parents[w] for w in where]
    assert [where.index(p) if p >= 0 else -1 for p in parents] == list(old.parents)


def test_influences_are_reduced_to_the_strongest_four():
    weights = np.array([[0.3, 0.05, 0.2, 0.1, 0.35], [0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 0]])
    indices = np.array([[4, 1, 2, 3, 4], [2, 2, 5, 6, 7], [3, 1, 2, 5, 6]])
    skin = Skin(tuple("abcdefgh"), (-1,) * 8, np.tile(np.eye(4), (8, 1, 1)), indices, weights)
    joints, w = reduced_influences(skin)
    np.testing.assert_array_equal(joints[0], [4, 2, 3, 1])
    np.testing.assert_allclose(w[0], [0.65, 0.2, 0.1, 0.05], rtol=1e-6)
    np.testing.assert_array_equal(joints[1], [2, 0, 0, 0])
    np.testing.assert_array_equal(w[1], [1, 0, 0, 0])
    assert w[2].sum() == 1


def test_quaternion_signs_do_not_jump():
    angles = np.linspace(0, 6 * np.pi, 200)
    T = np.tile(np.eye(4), (200, 1, 1, 1))
    T[:, 0, :3, :3] = Rotation.from_rotvec(angles[:, None] * [0, 0.6, 0.8]).as_matrix()
    q = quaternions_xyzw(T)
    assert (q[1:] * q[:-1]).sum(axis=-1).min() > 0.99


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, character: Character, monkeypatch: pytest.MonkeyPatch
):
    animation = moving(character)
    assert animation.Ts_world_joint is not None
    path = tmp_path / "a.glb"
    path.write_bytes(b"what was there before")
    free = character.mesh.vertices[None]
    bad = animation.Ts_world_joint.copy()
    bad[2, 1, 0, 3] = np.nan
    for wrong, word in (
        (replace(animation, Ts_world_joint=bad), "finite"),
        (replace(animation, Ts_world_joint=animation.Ts_world_joint[:0]), "no frames"),
        (replace(animation, fps=0.0), "frame rate"),
        (Animation(character, 30, free_vertices=np.repeat(free, 241, axis=0)), "npz"),
    ):
        with pytest.raises(MvaiError, match=word):
            write_glb(wrong, path)
    with pytest.raises(MvaiError, match="does not exist"):
        write_glb(animation, tmp_path / "none" / "a.glb")

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MvaiError, match="no space"):
        write_glb(animation, path)
    assert path.read_bytes() == b"what was there before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.glb"]


def test_interrupted_writing_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


# Reading what other tools write ----------------------------------------------------------------


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


def test_interleaved_sparse_normalized_strip_and_mirrored_node(tmp_path: Path):
    corners = np.array([[0, 0, 0], [1, 0, 0.2], [0, 1, 0], [1, 1, 0], [0, 2, 0.1]], np.float32)
    uv = np.array([[0, 255], [51, 0], [102, 0], [153, 0], [204, 0]], np.uint8)
    interleaved = np.zeros(5, np.dtype([("p", "<f4", 3), ("uv", "u1", 4)]))
    interleaved["p"], interleaved["uv"][:, :2] = corners, uv
    sparse_at, sparse_to = np.array([3], np.uint16), np.array([[1, 1, 0.5]], np.float32)
    tree = {
        "viewExtras": [{"byteStride": 16}, {}, {}],
        "accessors": [
            {
                "bufferView": 0, "componentType": 5126, "count": 5, "type": "VEC3",
                "sparse": {
                    "count": 1,
                    "indices": {"bufferView": 1, "componentType": 5123},
                    "values": {"bufferView": 2},
                },
            },
            {
                "bufferView": 0, "byteOffset": 12, "componentType": 5121, "count": 5,
                "type": "VEC2", "normalized": True,
            },
        ],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "mode": 5}]}
        ],
        "nodes": [
            {"children": [1], "translation": [1, 0, 0]},
            {"mesh": 0, "scale": [-1, 1, 1], "name": "flipped"},
        ],
        "scenes": [{"nodes": [0]}],
    }  # fmt: skip
    path = gltf_of([interleaved, sparse_at, sparse_to], tree, tmp_path)
    part = read_character(path, up="y", facing="+z", unit=1.0).parts[0]
    corners[3] = (1, 1, 0.5)
    np.testing.assert_allclose(part.vertices, corners * [-1, 1, 1] + [1, 0, 0])
    np.testing.assert_array_equal(part.faces, np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4]])[:, ::-1])
    np.testing.assert_array_equal(part.attributes["TEXCOORD_0"], uv)
    assert part.name == "flipped"


def test_rigid_parts_follow_the_joint_above_and_scale_leaves_the_rig(tmp_path: Path):
    """A rig in centimetres under a node that scales, as exporters from FBX write it."""
    v = np.array([[0, 0, 0], [50, 150, 0], [-50, 150, 10]], np.float32)
    joints = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], np.uint8)
    weights = np.array([[255, 0, 0, 0]] * 3, np.uint8)
    inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    inverse[1, 3, 1] = -100.0  # Column-major: the joint stands 100 units up.
    flat = {"componentType": 5126, "count": 3, "type": "VEC3"}
    four = {"componentType": 5121, "count": 3, "type": "VEC4"}
    tree = {
        "accessors": [
            {"bufferView": 0} | flat,
            {"bufferView": 1} | four,
            {"bufferView": 2, "normalized": True} | four,
            {"bufferView": 3, "componentType": 5126, "count": 2, "type": "MAT4"},
        ],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 2}}]},
            {"primitives": [{"attributes": {"POSITION": 0}}]},
        ],
        "skins": [{"joints": [1, 2], "inverseBindMatrices": 3}],
        "nodes": [
            {"children": [1], "scale": [0.01, 0.01, 0.01]},
            {"children": [2], "name": "hip"},
            {"children": [4], "translation": [0, 100, 0], "name": "hip"},
            {"mesh": 0, "skin": 0},
            {"mesh": 1, "name": "hat"},
        ],
        "scenes": [{"nodes": [0, 3]}],
    }
    path = gltf_of([v, joints, weights, inverse], tree, tmp_path)
    character = read_character(path, up="y", facing="+z", unit=1.0)
    by_name = {p.name: p for p in character.parts}
    np.testing.assert_allclose(by_name["mesh_3"].vertices, v * 0.01, atol=1e-6)
    np.testing.assert_allclose(by_name["hat"].vertices, v * 0.01 + [0, 1, 0], atol=1e-6)
    skin = character.skin
    assert skin is not None
    assert skin.joints == ("hip", "hip_2") and skin.parents == (-1, 0)
    np.testing.assert_allclose(skin.T_world_joint[1, :3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(skin.T_world_joint[1, :3, 3], [0, 1, 0])
    first = [p.name for p in character.parts].index("hat") * 3
    np.testing.assert_array_equal(skin.weight_indices[first : first + 3, 0], 1)


def test_buffer_inside_the_json(tmp_path: Path):
    v = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    accessor = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
    tree = {
        "accessors": [accessor],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
    }
    path = gltf_of([v], tree, tmp_path)
    inline = base64.b64encode((tmp_path / "data file.bin").read_bytes()).decode()
    uri = f"data:application/octet-stream;base64,{inline}"
    whole = json.loads(path.read_text()) | {"buffers": [{"uri": uri, "byteLength": v.nbytes}]}
    path.write_text(json.dumps(whole))
    (tmp_path / "data file.bin").unlink()
    character = read_character(path, up="y", facing="+z", unit=1.0)
    np.testing.assert_array_equal(character.mesh.vertices, v)


@pytest.mark.parametrize(
    "damage",
    [
        {"accessors": [{"bufferView": 9, "componentType": 5126, "count": 3, "type": "VEC3"}]},
        {"accessors": [{"bufferView": 0, "componentType": 5126, "count": 99, "type": "VEC3"}]},
        {"accessors": [{"bufferView": 0, "componentType": 1, "count": 3, "type": "VEC3"}]},
        {"nodes": [{"mesh": 7}]},
        {"nodes": [{"mesh": 0, "children": [0]}]},
        {"nodes": [{"mesh": 0, "skin": 3}]},
        {"scenes": [{"nodes": [5]}]},
        {"nodes": [{}]},
        {"buffers": [{"uri": "gone.bin", "byteLength": 36}]},
        {"buffers": [{"uri": "data%20file.bin", "byteLength": 9999}]},
        {"images": [{"uri": "gone.png"}]},
    ],
)
def test_broken_gltf_is_refused(tmp_path: Path, damage: dict):
    v = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    tree = {
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
    }
    path = gltf_of([v], tree, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(MvaiError) as caught:
        read_character(path)
    assert "a.gltf" in str(caught.value)


def test_glb_with_random_bytes_changed_never_crashes(tmp_path: Path, character: Character):
    write_glb(moving(character), tmp_path / "a.glb")
    sound = (tmp_path / "a.glb").read_bytes()
    length = struct.unpack_from("<I", sound, 12)[0]
    random = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(sound)
        for at in random.integers(20, 20 + length, 3):
            broken[at] = random.integers(32, 127)
        path = tmp_path / "broken.glb"
        path.write_bytes(broken)
        try:
            read_character(path, up="y", facing="+z")
        except MvaiError:
            continue


# The Khronos validator -------------------------------------------------------------------------


def validator_folder() -> Path | None:
    """Where the npm package gltf-validator is installed, if it is."""
    for folder in (os.environ.get("MVAI_GLTF_VALIDATOR"), TESTS.parent):
        if folder and (Path(folder) / "node_modules" / "gltf-validator").is_dir():
            return Path(folder)
    return None


needs_validator = pytest.mark.skipif(
    shutil.which("node") is None or validator_folder() is None,
    reason="needs node and `npm install gltf-validator` in MVAI_GLTF_VALIDATOR",
)


def validated(path: Path) -> list[dict]:
    """Errors and warnings of the Khronos validator."""
    script = TESTS / "gltf_validate.mjs"
    run = subprocess.run(
        ["node", str(script), str(validator_folder()), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [m for m in json.loads(run.stdout)["messages"] if m["severity"] <= 1]


@needs_validator
@pytest.mark.parametrize("influences", [2, 4, 6])
def test_skinned_file_is_valid(tmp_path: Path, character: Character, influences: int):
    write_glb(moving(character, influences=influences), tmp_path / "a.glb", {"x": 1})
    assert validated(tmp_path / "a.glb") == []


@needs_validator
def test_morphed_file_is_valid(tmp_path: Path, character: Character):
    free = np.repeat(character.mesh.vertices[None], 3, axis=0)
    write_glb(Animation(character, fps=24, free_vertices=free), tmp_path / "a.glb")
    assert validated(tmp_path / "a.glb") == []


def _characters() -> list[Path]:
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MVAI_DATA", default)) / "identities" / "orig"
    return sorted(folder.glob("*.glb"))


@needs_validator
@pytest.mark.parametrize("path", _characters(), ids=lambda p: p.stem)
def test_published_characters_are_written_validly(tmp_path: Path, path: Path):
    character = read_character(path)
    skin = character.skin
    assert skin is not None
    Ts = np.repeat(skin.T_world_joint[None], 3, axis=0)
    Ts[1:, :, 0, 3] += 0.5
    animation = Animation(character, fps=30, skin=skin, Ts_world_joint=Ts)
    write_glb(animation, tmp_path / "a.glb")
    assert validated(tmp_path / "a.glb") == []
    played = Played(tmp_path / "a.glb")
    expected = skinned_directly(animation)
    np.testing.assert_allclose(played.vertices(0), expected[0], atol=1e-4)
    np.testing.assert_allclose(played.vertices(2), expected[2], atol=1e-4)
