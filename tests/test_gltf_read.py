"""glTF in: what other tools write, and damaged files."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from gltf_makers import PNG, box_person, gltf_of, moving
from mvai.io.characters import read_character
from mvai.io.gltf_write import write_glb
from mvai.types import MvaiError


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
    # Under a mirroring scale its left bones are on the right: the mesh stays, the rig does not.
    tree["nodes"][0]["scale"] = [-0.01, 0.01, 0.01]
    (tmp_path / "mirrored").mkdir()
    path = gltf_of([v, joints, weights, inverse], tree, tmp_path / "mirrored")
    with pytest.warns(UserWarning, match="rig is mirrored"):
        mirrored = read_character(path, up="y", facing="+z", unit=1.0)
    assert mirrored.skin is None
    mesh = next(p for p in mirrored.parts if p.name == "mesh_3")
    np.testing.assert_allclose(mesh.vertices, v * [-0.01, 0.01, 0.01], atol=1e-6)


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


def test_missing_pictures_are_left_out_with_a_warning(tmp_path: Path):
    v = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    (tmp_path / "skin.png").write_bytes(PNG)
    material = {
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.2},
        "normalTexture": {"index": 1},
    }
    tree = {
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
        "nodes": [{"mesh": 0}],
        "images": [{"uri": "C:/work/gone.png"}, {"uri": "skin.png"}],
        "textures": [{"source": 0}, {"source": 1}],
        "materials": [material],
    }
    path = gltf_of([v], tree, tmp_path)
    with pytest.warns(UserWarning, match="a.gltf: without the pictures C:/work/gone.png"):
        character = read_character(path, up="y", facing="+z", unit=1.0)
    assert character.images[1].data == PNG
    left = {"pbrMetallicRoughness": {"metallicFactor": 0.2}, "normalTexture": {"index": 1}}
    assert character.materials == (left,)
    write_glb(moving(character), tmp_path / "out.glb")


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


def test_glb_with_random_bytes_changed_never_crashes(tmp_path: Path):
    write_glb(moving(box_person(np.random.default_rng(3))), tmp_path / "a.glb")
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
