"""glTF out: appearance to the bit, motion to a tenth of a millimetre, nothing half-written."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gltf_makers import Played, box_person, moving, skinned_directly
from mvai.io.atomic import written_whole
from mvai.io.characters import read_character
from mvai.io.gltf_motion import quaternions_xyzw, reduced_influences
from mvai.io.gltf_write import write_glb
from mvai.types import Animation, Character, MvaiError, Skin


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
