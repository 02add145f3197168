"""The archive: everything comes back, and what is wrong with a file is said."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvai.io.archive import Archive, StageRecord, read_archive, write_archive
from mvai.io.archive_packing import pack_sequence, unpack_sequence
from mvai.io.fingerprint import character_sha256, file_sha256, plain_settings, stage_key
from mvai.smooth.gaussian import Gaussian
from mvai.types import (
    Animation,
    Camera,
    Character,
    Image,
    Keypoints,
    MeshSequence,
    MvaiError,
    Part,
    Skin,
)

FRAMES, VERTS = 7, 30


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def mesh_sequence(frames: int = FRAMES, scale: float = 1.0) -> MeshSequence:
    return MeshSequence(
        vertices=(scale * random(frames, VERTS, 3) + [0, 0, -4]).astype(np.float32),
        faces=np.arange(VERTS).reshape(-1, 3),
        fps=30000 / 1001,
        topology="anny",
        camera=replace(Camera.from_focal(1000, 1280, 720), path_m=random(frames, 3)),
        confidence=np.linspace(0, 1, frames),
    )


def skin(joints: int = 3) -> Skin:
    return Skin(
        joints=tuple(f"Joint{i}" for i in range(joints)),
        parents=tuple(range(-1, joints - 1)),
        T_world_joint=np.tile(np.eye(4), (joints, 1, 1)),
        weight_indices=np.zeros((VERTS, 4), np.int32),
        weights=np.full((VERTS, 4), 0.25, np.float32),
    )


def full_archive() -> Archive:
    character = Character(
        name="Ünïcode hero",
        parts=(
            Part(
                "body",
                random(VERTS, 3),
                np.arange(VERTS).reshape(-1, 3),
                {"TEXCOORD_0": random(VERTS, 2).astype(np.float32)},
                material=0,
            ),
        ),
        materials=({"name": "skin", "extras": {"array": [1, {"deep": None}]}},),
        textures=({"source": 0},),
        images=(Image(b"\x89PNG\x00\xff", "image/png", "skin"),),
        skin=skin(),
    )
    Ts = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 3, 1, 1))
    names = ("nose", "left_hip")
    xy_px = random(FRAMES, 2, 2)
    xy_px[2] = np.nan
    sequence = mesh_sequence()
    return Archive(
        video="/videos/clip.mp4",
        video_sha256="ab" * 32,
        video_part=(3, 9),
        keypoints=Keypoints(
            names, xy_px, np.ones((FRAMES, 2)), 29.97, 1280, 720, random(FRAMES, 2, 3),
            np.arange(FRAMES) != 2,
        ),
        raw=sequence,
        smoothed=sequence.with_vertices(sequence.vertices + 0.01),
        animation=Animation(character, 29.97, skin(), Ts, camera=sequence.camera),
        stages={"detect": StageRecord("mediapipe", {"person": 0}, "cd" * 32, 7.5)},
    )  # fmt: skip


def same(a, b, where: str = "") -> None:
    """Equal to the bit, apart from the positions of meshes over time."""
    if where.endswith(("raw.vertices", "smoothed.vertices", "free_vertices")) and a is not None:
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=where)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, err_msg=where)
    elif hasattr(a, "__dataclass_fields__"):
        for name in a.__dataclass_fields__:
            same(getattr(a, name), getattr(b, name), f"{where}.{name}")
    elif isinstance(a, tuple | list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    else:
        assert a == b, where


def test_everything_comes_back(tmp_path: Path):
    archive = full_archive()
    write_archive(tmp_path / "a.npz", archive)
    same(archive, read_archive(tmp_path / "a.npz"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_camera_path_is_as_long_as_the_clip_and_need_not_be_there():
    tree = dict(pack_sequence(mesh_sequence()))
    camera = dict(tree["camera"])
    with pytest.raises(ValueError, match="shape"):
        unpack_sequence(tree | {"camera": camera | {"path_m": random(FRAMES + 1, 3)}})
    with pytest.raises(ValueError, match="finite"):
        unpack_sequence(tree | {"camera": camera | {"path_m": np.full((FRAMES, 3), np.nan)}})
    del camera["path_m"]
    # Archives of before cameras moved have none.
    back = unpack_sequence(tree | {"camera": camera}).camera
    assert back is not None and back.path_m is None


def test_unfinished_stages_stay_none(tmp_path: Path):
    archive = replace(full_archive(), raw=None, smoothed=None, animation=None)
    write_archive(tmp_path / "a.npz", archive)
    same(archive, read_archive(tmp_path / "a.npz"))


def test_free_vertices_come_back(tmp_path: Path):
    archive = full_archive()
    assert archive.animation is not None
    free = random(FRAMES, VERTS, 3).astype(np.float32)
    archive = replace(
        archive,
        animation=replace(archive.animation, skin=None, Ts_world_joint=None, free_vertices=free),
    )
    write_archive(tmp_path / "a.npz", archive)
    same(archive, read_archive(tmp_path / "a.npz"))


@settings(deadline=None, max_examples=25)
@given(
    frames=st.integers(1, 9),
    scale=st.sampled_from([1e-3, 0.3, 1.0, 10.0]),
    far=st.floats(-500, 500),
)
def test_quantised_positions_are_near(frames: int, scale: float, far: float):
    sequence = mesh_sequence(frames, scale)
    sequence = sequence.with_vertices(sequence.vertices + np.float32(far))
    back = unpack_sequence(pack_sequence(sequence)).vertices
    extent = np.ptp(sequence.vertices, axis=1).max()
    # Half a step, and what float32 knows about the place in the world.
    allowed = extent / 32767 / 4 + 4 * np.spacing(np.float32(abs(far) + 10 * scale + 4))
    assert np.abs(back - sequence.vertices).max() <= allowed
    if scale <= 1 and abs(far) < 100:
        assert np.abs(back - sequence.vertices).max() < 1e-3


def test_a_single_point_is_a_sequence(tmp_path: Path):
    still = MeshSequence(np.ones((4, 3, 3), np.float32), np.array([[0, 1, 2]]), 30.0)
    write_archive(tmp_path / "a.npz", Archive(raw=still))
    np.testing.assert_allclose(read_archive(tmp_path / "a.npz").raw.vertices, 1.0)


def test_numpy_alone_reads_it(tmp_path: Path):
    write_archive(tmp_path / "a.npz", full_archive())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        tree = json.loads(str(file["archive"]))
        assert tree["mvai_version"] and tree["stages"]["detect"]["method"] == "mediapipe"
        assert file[tree["keypoints"]["xy_px"]["__array__"]].shape == (FRAMES, 2, 2)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(MvaiError) as caught:
        read_archive(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    for word in words:
        assert word in message, message


def rewritten(path: Path, out: Path, change) -> Path:
    """A copy of an archive with its JSON changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name != "archive.npy":
                new.writestr(name, old.read(name))
        with np.load(path) as file:
            tree = json.loads(str(file["archive"]))
        change(tree)
        with new.open("archive.npy", "w") as member:
            np.lib.format.write_array(member, np.array(json.dumps(tree)), allow_pickle=False)
    return out


def test_wrong_files_are_named(tmp_path: Path):
    refused(tmp_path / "missing.npz", "no such file")
    (tmp_path / "empty.npz").touch()
    refused(tmp_path / "empty.npz", "damaged")
    (tmp_path / "text.npz").write_text("hello")
    refused(tmp_path / "text.npz", "damaged")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    refused(tmp_path / "other.npz", "not an mvai archive")
    np.save(tmp_path / "array.npy", np.zeros(3))
    refused(tmp_path / "array.npy", "damaged")
    np.savez(tmp_path / "pickle.npz", archive=np.array([{}], dtype=object))
    refused(tmp_path / "pickle.npz", "damaged")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float):
    write_archive(tmp_path / "a.npz", full_archive())
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / "b.npz", "damaged")


def test_a_flipped_bit_is_found(tmp_path: Path):
    write_archive(tmp_path / "a.npz", full_archive())
    data = bytearray((tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        start = file.getinfo("raw/vertices/differences.npy").header_offset
    data[start + 300] ^= 0x10
    (tmp_path / "b.npz").write_bytes(data)
    refused(tmp_path / "b.npz", "damaged")


def _set(path: str, value):
    def change(tree) -> None:
        *parents, last = path.split("/")
        for key in parents:
            tree = tree[int(key) if isinstance(tree, list) else key]
        tree[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "something"),
        ("keypoints/names", ["nose"]),
        ("keypoints/fps", 0),
        ("keypoints/width", "wide"),
        ("keypoints/xy_px", {"__array__": "raw/faces"}),
        ("raw/vertices", None),
        ("raw/faces", {"__array__": "missing"}),
        ("raw/fps", float("nan")),
        ("animation/skin/parents", [0, 1, 2]),
        ("animation/skin/joints", ["one"]),
        ("animation/Ts_world_joint", None),
        ("animation/skin", None),
        ("stages/detect", {"method": "x"}),
        ("smoothed", []),
    ],
)
def test_anything_wrong_inside_is_refused(tmp_path: Path, path: str, value):
    write_archive(tmp_path / "a.npz", full_archive())
    refused(rewritten(tmp_path / "a.npz", tmp_path / "b.npz", _set(path, value)), "damaged")


def test_newer_format_asks_for_an_update(tmp_path: Path):
    write_archive(tmp_path / "a.npz", full_archive())
    newer = rewritten(tmp_path / "a.npz", tmp_path / "b.npz", _set("format_version", 99))
    refused(newer, "newer mvai", "update")


def test_stages_of_different_clips_are_refused(tmp_path: Path):
    write_archive(tmp_path / "a.npz", replace(full_archive(), raw=mesh_sequence(FRAMES + 1)))
    refused(tmp_path / "a.npz", "damaged")


def test_positions_that_are_not_numbers_are_not_written(tmp_path: Path):
    bad = mesh_sequence()
    bad.vertices[1, 2] = np.nan
    with pytest.raises(MvaiError, match="finite"):
        write_archive(tmp_path / "a.npz", Archive(raw=bad))
    assert not list(tmp_path.iterdir())


def test_fingerprints(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    assert file_sha256(tmp_path / "a") != file_sha256(tmp_path / "b")
    whole = file_sha256(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    assert file_sha256(tmp_path) != whole
    with pytest.raises(MvaiError, match="nowhere"):
        file_sha256(tmp_path / "nowhere")

    character = full_archive().animation.character
    renamed = replace(character, name="other")
    assert character_sha256(renamed) == character_sha256(character)
    moved = replace(character.parts[0], vertices=character.parts[0].vertices + 1e-6)
    assert character_sha256(replace(character, parts=(moved,))) != character_sha256(character)
    assert character_sha256(replace(character, skin=None)) != character_sha256(character)

    settings_ = plain_settings(Gaussian(0.1))
    key = stage_key("gaussian", settings_, "1", "input")
    assert key == stage_key("gaussian", dict(settings_), "1", "input")
    others = [
        ("savgol", settings_, "1", "input"),
        ("gaussian", {"sigma_s": 0.2}, "1", "input"),
        ("gaussian", settings_, "2", "input"),
        ("gaussian", settings_, "1", "output"),
    ]
    assert key not in [stage_key(*other) for other in others]


def test_retrained_weights_make_stages_anew(monkeypatch, tmp_path):
    from mvai.io import fingerprint

    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "net.safetensors").write_bytes(b"before")
    monkeypatch.setattr(fingerprint, "files", lambda package: tmp_path)
    before = fingerprint.software.__wrapped__()
    assert fingerprint.software.__wrapped__() == before
    (weights / "net.safetensors").write_bytes(b"after")
    assert fingerprint.software.__wrapped__() != before
