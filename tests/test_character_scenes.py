"""What else lies in a character's file: other people, scenery, and what belongs to the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from mvai.io.character_checks import looks_like_two
from mvai.io.character_scene import pieces_of
from mvai.io.characters import read_character, without_faces
from mvai.types import Character, Mesh, Part, Skin
from test_characters import humanoid, refused, write_obj


def test_two_people_are_refused_and_props_are_not(tmp_path: Path):
    one = humanoid()
    staff = trimesh.creation.cylinder(0.02, 1.8).apply_transform(
        trimesh.geometry.align_vectors([0, 0, 1], [0, 1, 0])
    )
    staff.apply_translation([0.9, 0.9, 0.1])

    def with_(other_v, other_f) -> Mesh:
        faces = np.concatenate([one.faces, np.asarray(other_f) + len(one.vertices)])
        return Mesh(np.concatenate([one.vertices, other_v]), faces)

    child = one.vertices * 0.8 + [1.1, 0, 0]
    refused(write_obj(tmp_path / "two.obj", with_(child, one.faces)), "two people", "separate")
    assert not looks_like_two(pieces_of(one))
    assert not looks_like_two(pieces_of(with_(staff.vertices, staff.faces)))
    assert not looks_like_two(
        pieces_of(with_(one.vertices * 1.03, one.faces))
    )  # A layer of clothing.


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    faces = [m.faces + start for m, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([m.vertices for m in meshes]), np.concatenate(faces))


def block(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    box = trimesh.creation.box(bounds=[low, high])
    return Mesh(np.asarray(box.vertices), np.asarray(box.faces))


def cape(thickness_m: float) -> Mesh:
    """Hangs free behind the back, from the neck to the ankles, widening."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(1.5, 0.1, 15))
    front = np.stack([x * (0.5 + 0.5 * (1.5 - y)), y, -0.25 - 0.1 * (1.5 - y)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(14), np.arange(8), indexing="ij")
    q = (9 * i + j).ravel()
    faces = np.concatenate([np.stack([q, q + 1, q + 9], 1), np.stack([q + 1, q + 10, q + 9], 1)])
    back = Mesh(front - [0, 0, thickness_m], faces)
    return joined(Mesh(front, faces[:, ::-1]), back)


SKY = trimesh.creation.icosphere(2, 9.0)


def horse() -> Mesh:
    """Stands beside the figure, and is as tall."""
    legs = [block((x, 0, z), (x + 0.1, 0.95, z + 0.1)) for x in (1.12, 1.38) for z in (-0.68, 0.58)]
    trunk, head = block((1.1, 0.9, -0.7), (1.5, 1.4, 0.7)), block((1.2, 1.2, 0.6), (1.4, 1.9, 1))
    return joined(trunk, head, *legs)


SCENES = {
    "horse": horse(),
    "floor": block((-3, -0.02, -3), (3, 0, 3)),
    "wall behind": block((-2, -0.5, -1.02), (2, 3, -1)),
    "sky": Mesh(np.asarray(SKY.vertices), np.asarray(SKY.faces)),
    "pedestal": block((-0.4, -0.4, -0.4), (0.4, 0, 0.4)),
    "column": block((-0.4, -1.5, -0.4), (0.4, 0, 0.4)),
    "wall beside": block((1.2, 0, -1), (1.4, 2.5, 1)),
    "crate": block((-1.6, 0, -0.3), (-1.0, 0.6, 0.3)),
    "lamp above": block((-0.2, 2.4, -0.2), (0.2, 2.6, 0.2)),
}


@pytest.mark.parametrize("what", SCENES)
@pytest.mark.parametrize("kind", ["obj", "glb"])
def test_scenery_is_left_out_with_a_warning(tmp_path: Path, what: str, kind: str):
    one = humanoid()
    path = tmp_path / f"scene.{kind}"
    if kind == "obj":
        write_obj(path, joined(one, SCENES[what]))
    else:
        scene = trimesh.Scene()
        for name, mesh in (("hero", one), (what, SCENES[what])):
            scene.add_geometry(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False),
                               node_name=name, geom_name=name)  # fmt: skip
        scene.export(path)
    with pytest.warns(UserWarning, match="scenery") as told:
        character = read_character(path)
    np.testing.assert_allclose(character.mesh.vertices, one.vertices, atol=1e-5)
    np.testing.assert_array_equal(character.mesh.faces, one.faces)
    if kind == "glb":
        assert f"({what})" in str(told[0].message)


@pytest.mark.parametrize(
    "kept",
    [
        cape(0.0),
        cape(0.02),
        block((0.5, 0.9, 0.3), (0.9, 1.3, 0.32)),  # A shield before the hand.
        block((-0.12, 1.85, -0.12), (0.12, 1.87, 0.12)),  # A halo.
        joined(
            *(block((s * 0.6 - 0.05, 1.6, -0.05), (s * 0.6 + 0.05, 1.7, 0.05)) for s in (1, -1))
        ),
    ],
    ids=["cape", "thick cape", "shield", "halo", "shoulder lamps"],
)
def test_what_belongs_to_the_figure_is_kept(tmp_path: Path, kept: Mesh):
    whole = joined(humanoid(), kept)
    character = read_character(write_obj(tmp_path / "hero.obj", whole))
    np.testing.assert_array_equal(character.mesh.faces, whole.faces)


def test_taking_faces_away_keeps_rows_together():
    one = humanoid()
    n = len(one.vertices)
    skin = Skin(
        ("a",), (-1,), np.eye(4)[None], np.arange(2 * n)[:, None] * 0, np.arange(2.0 * n)[:, None]
    )
    ids = np.arange(n)[:, None]
    parts = (
        Part("a", one.vertices, one.faces, {"_ID": ids}),
        Part("b", one.vertices, one.faces, {}),
    )
    character = Character("two", parts, skin=skin)
    gone = np.zeros(2 * len(one.faces), bool)
    gone[:10] = True
    gone[len(one.faces) :] = True
    left = without_faces(character, gone)
    assert [p.name for p in left.parts] == ["a"] and left.skin is not None
    kept = left.parts[0].attributes["_ID"][:, 0]
    np.testing.assert_array_equal(left.parts[0].vertices, one.vertices[kept])
    np.testing.assert_array_equal(left.skin.weights[:, 0], kept)
    np.testing.assert_array_equal(kept[left.parts[0].faces], one.faces[10:])
