"""Reading characters: formats, orientation and unit, bad input."""

from __future__ import annotations

import io
import itertools
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from mvai.io.characters import read_character, transformed
from mvai.types import Mesh, MvaiError

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


def humanoid(arms_deg: float = 50.0, scale: float = 1.0) -> Mesh:
    """A crude person of capsules, +Y up, facing +Z, arms this far below level."""

    def capsule(a, b, radius):
        a, b = np.array(a, float), np.array(b, float)
        mesh = trimesh.creation.capsule(height=np.linalg.norm(b - a), radius=radius, count=[8, 8])
        mesh.apply_translation(-mesh.bounds.mean(axis=0))
        mesh.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], b - a))
        mesh.apply_translation((a + b) / 2)
        return mesh

    down = np.deg2rad(arms_deg)
    reach = 0.6 * np.array([np.cos(down), -np.sin(down), 0])
    pieces = [capsule((0, 0.95, 0), (0, 1.4, 0), 0.13), capsule((0, 1.58, 0.01), (0, 1.66, 0), 0.1)]
    for side in (1, -1):
        flip = np.array([side, 1, 1])
        shoulder = np.array([0.18, 1.42, 0])
        pieces += [
            capsule(shoulder * flip, (shoulder + reach) * flip, 0.045),
            capsule((0.11 * side, 0.08, 0), (0.11 * side, 0.95, 0), 0.065),
            capsule((0.11 * side, 0.04, -0.03), (0.11 * side, 0.04, 0.17), 0.04),
        ]
    whole = trimesh.util.concatenate(pieces)
    return Mesh(np.asarray(whole.vertices) * scale, np.asarray(whole.faces))


def write_obj(path: Path, mesh: Mesh) -> Path:
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in mesh.vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in mesh.faces + 1]
    path.write_text("\n".join(lines) + "\n")
    return path


def right_angle_rotations() -> list[np.ndarray]:
    axes = [s * row for row in np.eye(3) for s in (1, -1)]
    return [
        np.stack([np.cross(u, f), u, f])
        for u, f in itertools.product(axes, axes)
        if abs(u @ f) < 0.5
    ]


def refused(path: Path, *words: str) -> None:
    """The file gives one sentence that names it and says these words."""
    with pytest.raises(MvaiError) as caught:
        read_character(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("R_world_file", right_angle_rotations())
def test_every_right_angle_rotation_is_recovered(tmp_path: Path, R_world_file: np.ndarray):
    mesh = humanoid()
    turned = Mesh(mesh.vertices @ R_world_file, mesh.faces)
    character = read_character(write_obj(tmp_path / "a.obj", turned))
    np.testing.assert_allclose(character.T_world_file[:3, :3], R_world_file, atol=1e-9)
    np.testing.assert_allclose(character.mesh.vertices, mesh.vertices, atol=1e-5)


@settings(max_examples=6, deadline=None)
@given(
    arms_deg=st.sampled_from([0.0, 20.0, 45.0, 75.0]),
    rotation=st.sampled_from(right_angle_rotations()),
)
def test_pose_does_not_disturb_orientation(tmp_path_factory, arms_deg, rotation):
    mesh = humanoid(arms_deg)
    path = tmp_path_factory.mktemp("pose") / "a.obj"
    character = read_character(write_obj(path, Mesh(mesh.vertices @ rotation, mesh.faces)))
    np.testing.assert_allclose(character.T_world_file[:3, :3], rotation, atol=1e-9)


@pytest.mark.parametrize("file_unit_m", [1.0, 0.01, 0.001, 0.0254, 0.1])
def test_unit_is_inferred_from_height(tmp_path: Path, file_unit_m: float):
    path = write_obj(tmp_path / "a.obj", humanoid(scale=1 / file_unit_m))
    scale = read_character(path).T_world_file[1, 1]
    assert scale == pytest.approx(file_unit_m)


@pytest.mark.parametrize("unit", [1e9, 1e-9, 1e300, 1e-300])
def test_a_unit_that_makes_no_size_for_a_character_is_refused(tmp_path: Path, unit: float):
    path = write_obj(tmp_path / "a.obj", humanoid())
    with pytest.raises(MvaiError, match="makes this character"):
        read_character(path, unit=unit)
    # A tin soldier and a monument are.
    for size in (0.02, 100.0):
        assert np.isfinite(read_character(path, unit=size).mesh.vertices).all()


def test_absurd_size_becomes_a_person_and_given_unit_wins(tmp_path: Path):
    path = write_obj(tmp_path / "a.obj", humanoid(scale=2.6))
    heights = [np.ptp(read_character(path, unit=u).mesh.vertices[:, 1]) for u in (None, 2.0)]
    assert heights[0] == pytest.approx(1.7)
    assert heights[1] == pytest.approx(2 * 2.6 * np.ptp(humanoid().vertices[:, 1]), rel=1e-5)


def test_given_axes_win_over_the_shape(tmp_path: Path):
    mesh = humanoid()
    character = read_character(write_obj(tmp_path / "a.obj", mesh), up="y", facing="-x")
    np.testing.assert_array_equal(character.T_world_file[1, :3], [0, 1, 0])
    np.testing.assert_array_equal(character.T_world_file[2, :3], [-1, 0, 0])
    with pytest.raises(MvaiError, match="up"):
        read_character(tmp_path / "a.obj", up="y", facing="+y")


def test_ground_is_not_moved(tmp_path: Path):
    mesh = humanoid()
    elsewhere = mesh.vertices + np.array([3, 7, -2])
    path = write_obj(tmp_path / "a.obj", Mesh(elsewhere, mesh.faces))
    np.testing.assert_allclose(read_character(path).mesh.vertices, elsewhere, atol=1e-5)


def test_transformed_moves_rig_and_normals_alike(tmp_path: Path):
    character = read_character(write_obj(tmp_path / "a.obj", humanoid()))
    T = np.eye(4)
    T[:3, :3] = 2.0 * np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    T[:3, 3] = (1, 2, 3)
    moved = transformed(character, T)
    there_and_back = transformed(moved, np.linalg.inv(T))
    np.testing.assert_allclose(there_and_back.mesh.vertices, character.mesh.vertices, atol=1e-9)
    np.testing.assert_allclose(there_and_back.T_world_file, character.T_world_file, atol=1e-12)


def obj_with_materials(mesh: Mesh) -> dict[str, bytes]:
    """OBJ, MTL and texture of a person whose upper half has another material and a seam."""
    v, f = mesh.vertices, mesh.faces
    upper = v[f].mean(axis=1)[:, 1] > 1.0
    lines = ["mtllib look.mtl", *(f"v {x} {y} {z}" for x, y, z in v)]
    lines += [f"vt {x:.5f} {y:.5f}" for x, y in np.abs(v[:, :2]) % 1.0] + ["vt 0.25 0.75"]
    for name, chosen in (("top", f[upper]), ("bottom", f[~upper])):
        lines += [f"g {name}", f"usemtl {name}_mat"]
        for i, row in enumerate(chosen + 1):
            seam = len(v) + 1
            corners = [f"{c}/{seam if i == 0 and k == 0 else c}" for k, c in enumerate(row)]
            lines.append("f " + " ".join(corners))
    look = (
        "newmtl top_mat\nKd 0.1 0.2 0.3\nmap_Kd -s 1 1 1 skins/my top.png\n"
        "newmtl bottom_mat\nKd 0.5 0.25 0.125\nNs 98\n"
    )
    return {
        "body.obj": "\n".join(lines).encode(),
        "look.mtl": look.encode(),
        "skins/my top.png": PNG,
    }


@pytest.mark.parametrize("zipped", [False, True])
def test_obj_keeps_materials_textures_and_order(tmp_path: Path, zipped: bool):
    mesh = humanoid()
    files = obj_with_materials(mesh)
    if zipped:
        path = tmp_path / "body.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"export/{name}", content)
    else:
        path = tmp_path / "body.obj"
        (tmp_path / "skins").mkdir()
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
    character = read_character(path)
    assert [p.name for p in character.parts] == ["top", "bottom"]
    top, bottom = (character.materials[p.material] for p in character.parts)
    texture = character.textures[top["pbrMetallicRoughness"]["baseColorTexture"]["index"]]
    assert character.images[texture["source"]].data == PNG
    assert bottom["pbrMetallicRoughness"]["baseColorFactor"] == [0.5, 0.25, 0.125, 1.0]
    upper = mesh.vertices[mesh.faces].mean(axis=1)[:, 1] > 1.0
    for part, faces in zip(character.parts, (mesh.faces[upper], mesh.faces[~upper]), strict=True):
        used = np.unique(faces)
        # File order first; the copies that the seam made come last.
        np.testing.assert_array_equal(part.vertices[: len(used)], mesh.vertices[used])
        assert len(part.vertices) == len(used) + 1
        np.testing.assert_array_equal(part.vertices[part.faces], mesh.vertices[faces])
        uv = part.attributes["TEXCOORD_0"][part.faces]
        np.testing.assert_allclose(uv[0, 0], [0.25, 0.25])
        expected = np.abs(mesh.vertices[faces][1:, :, :2]) % 1.0 * [1, -1] + [0, 1]
        np.testing.assert_allclose(uv[1:], expected, atol=2e-5)


def test_obj_dialects(tmp_path: Path):
    """Quads, negative indices, colours, normals, comments, tabs and continued lines."""
    v = humanoid().vertices
    faces = humanoid().faces
    lines = ["# a person", *(f"v\t{x} {y} {z} 255 0 51" for x, y, z in v), "vn 0 0 1", "vt 0.5 1"]
    lines += [f"f {a - len(v)}//1 {b - len(v)}//-1 \\\n {c - len(v)}//1" for a, b, c in faces]
    lines += ["f 1//1 2//1 3//1 4//1 # quad", "f 1/1 2/1 3/1", "l 1 2"]
    path = tmp_path / "a.obj"
    path.write_text("\r\n".join(lines))
    part = read_character(path).parts[0]
    assert len(part.faces) == len(faces) + 3
    np.testing.assert_array_equal(part.vertices[: len(v)], v)
    np.testing.assert_allclose(part.attributes["COLOR_0"][0], [1, 0, 0.2])
    np.testing.assert_array_equal(part.faces[-3:-1], [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("kind", ["ply", "stl", "off"])
def test_other_formats(tmp_path: Path, kind: str):
    mesh = humanoid()
    R = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # Written Z-up, facing -Y.
    path = tmp_path / f"a.{kind}"
    trimesh.Trimesh(mesh.vertices @ R, mesh.faces, process=False).export(path)
    character = read_character(path)
    np.testing.assert_array_equal(character.T_world_file[:3, :3], R)
    if kind == "stl":
        assert len(character.mesh.vertices) == len(np.unique(np.float32(mesh.vertices), axis=0))
    else:
        np.testing.assert_allclose(character.mesh.vertices, mesh.vertices, atol=1e-5)
        np.testing.assert_array_equal(character.mesh.faces, mesh.faces)


def test_duplicated_and_empty_faces_are_kept(tmp_path: Path):
    mesh = humanoid()
    faces = np.concatenate([mesh.faces, mesh.faces[:5], [[0, 0, 1], [2, 2, 2]]])
    loose = np.concatenate([mesh.vertices, [[50.0, 50.0, 50.0]]])
    character = read_character(write_obj(tmp_path / "a.obj", Mesh(loose, faces)))
    assert len(character.mesh.faces) == len(faces)
    assert len(character.mesh.vertices) == len(loose)
    assert character.T_world_file[0, 0] == 1.0  # The loose vertex did not spoil the height.
    extents = np.ptp(character.mesh.vertices, 0)
    np.testing.assert_allclose(extents, np.ptp(mesh.vertices, 0), atol=1e-5)


# Bad input -------------------------------------------------------------------------------------


def test_missing_empty_folder_and_unknown(tmp_path: Path):
    refused(tmp_path / "none.glb", "no such file")
    for kind in ("glb", "obj", "ply", "stl", "off", "zip", "gltf"):
        path = tmp_path / f"empty.{kind}"
        path.write_bytes(b"")
        refused(path, "empty")
    (tmp_path / "folder.glb").mkdir()
    refused(tmp_path / "folder.glb", "folder")
    (tmp_path / "a.docx").write_bytes(b"x")
    refused(tmp_path / "a.docx", ".glb")
    (tmp_path / "a.fbx").write_bytes(b"Kaydara")
    refused(tmp_path / "a.fbx", "Blender", "glTF")


@pytest.mark.parametrize("kind", ["glb", "obj", "ply", "stl", "off", "zip", "gltf"])
@pytest.mark.parametrize("content", [b"hello, this is a letter\n" * 50, os.urandom(3000)])
def test_not_a_mesh(tmp_path: Path, kind: str, content: bytes):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("kind", ["glb", "ply", "stl"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated(tmp_path: Path, kind: str, share: float):
    path = tmp_path / f"a.{kind}"
    mesh = humanoid()
    trimesh.Trimesh(mesh.vertices, mesh.faces).export(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path)


@pytest.mark.parametrize("bad", ["nan", "inf", "1e30"])
def test_positions_that_are_not_numbers(tmp_path: Path, bad: str):
    path = write_obj(tmp_path / "a.obj", humanoid())
    path.write_text(f"v {bad} 0 0\n" + path.read_text())
    refused(path, "not finite")


def test_obj_without_faces_size_or_sense(tmp_path: Path):
    for name, text, word in (
        ("points", "v 0 0 0\nv 1 1 1\n", "no faces"),
        ("flat", "v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "no size"),
        ("line", "v 0 0 0\nv 0 1 0\nv 0 2 0\nf 1 2 3\n", "no size"),
        ("range", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", "not there"),
        ("early", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -4\n", "not there"),
        ("words", "v 0 0 zero\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "cannot be read"),
        ("mixed", "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2 3\n", "mixes"),
    ):
        path = tmp_path / f"{name}.obj"
        path.write_text(text)
        refused(path, word)


def test_too_many_vertices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mvai.io.character_checks.MAX_VERTICES", 100)
    refused(write_obj(tmp_path / "a.obj", humanoid()), "simplify")


def test_missing_material_library_is_warned_of(tmp_path: Path):
    path = write_obj(tmp_path / "a.obj", humanoid())
    path.write_text("mtllib gone.mtl\n" + path.read_text())
    with pytest.warns(UserWarning, match=r"gone\.mtl"):
        assert read_character(path).materials == ()


def test_zip_cannot_climb_out_or_explode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    obj = write_obj(tmp_path / "person.obj", humanoid()).read_bytes()
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.obj", obj)
        archive.writestr("person.obj", b"mtllib m.mtl\n" + obj)
        archive.writestr("m.mtl", "newmtl m\nmap_Kd ../secret.png\n")
    with pytest.warns(UserWarning, match="missing"):
        assert read_character(path).images == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inner", "person.obj", "secret.png"]

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.obj", obj)
        archive.writestr("zeros.png", bytes(2 << 20))
    monkeypatch.setattr("mvai.io.files_beside.MAX_FILE_BYTES", 1 << 20)
    refused(path, "1 GiB")
    monkeypatch.undo()

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    refused(path, "no character")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.obj", obj)
        archive.writestr("b.obj", obj)
    refused(path, "2 mesh files")


def test_names_in_a_file_stay_in_its_folder(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    tree = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": "../secret.bin", "byteLength": 64}],
    }
    path = tmp_path / "in" / "a.gltf"
    path.write_text(json.dumps(tree))
    refused(path, "missing")


def test_glb_versions_and_compression(tmp_path: Path):
    path = tmp_path / "a.glb"
    path.write_bytes(b"glTF" + struct.pack("<II", 1, 100) + bytes(88))
    refused(path, "2.0")
    path = tmp_path / "a.gltf"
    extension = "KHR_draco_mesh_compression"
    path.write_text(json.dumps({"asset": {"version": "2.0"}, "extensionsRequired": [extension]}))
    refused(path, "Draco", "without compression")


def _data() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("MVAI_DATA", default)) / "identities"


@pytest.mark.skipif(not _data().is_dir(), reason="the published characters are not here")
def test_published_characters_stand_and_face_right():
    originals = sorted(_data().glob("orig/*.[go][lb]*"))
    known = {p.stem for p in originals}
    others = [p for p in sorted(_data().glob("rest_obj/*.obj")) if p.stem not in known]
    for path in originals + others:
        T = read_character(path).T_world_file
        np.testing.assert_array_equal(T[:3, :3] / T[1, 1], np.eye(3), path.name)


@pytest.mark.skipif(not _data().is_dir(), reason="the published characters are not here")
@pytest.mark.parametrize("name", ["m2m_human-male", "rocketbox_Female_Adult_09", "mh_male_generic"])
def test_published_characters_are_recovered_when_turned(tmp_path: Path, name: str):
    upright = read_character(_data() / "rest_obj" / f"{name}.obj").mesh
    for R in right_angle_rotations()[::5]:
        path = tmp_path / "turned.ply"
        turned = trimesh.Trimesh(upright.vertices @ R, upright.faces, process=False)
        path.write_bytes(trimesh.exchange.ply.export_ply(turned))
        np.testing.assert_allclose(read_character(path).T_world_file[:3, :3], R, atol=1e-9)


def test_a_million_vertices_are_read_in_time(tmp_path: Path):
    """A tenth of a million here, so that the suite stays fast; time grows in proportion."""
    import time

    fine = trimesh.Trimesh(humanoid().vertices, humanoid().faces, process=False)
    while len(fine.faces) < 200_000:
        fine = fine.subdivide()
    buffer = io.StringIO()
    np.savetxt(buffer, fine.vertices, "v %.6f %.6f %.6f")
    np.savetxt(buffer, fine.faces + 1, "f %d %d %d")
    path = tmp_path / "a.obj"
    path.write_text(buffer.getvalue())
    start = time.perf_counter()
    read_character(path)
    assert time.perf_counter() - start < 30 * len(fine.vertices) / 1e6 + 5
