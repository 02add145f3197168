"""The renderer draws what the camera says; previews and sheets hold what they promise."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mvai.io.render import Drawable, Renderer, orbit_camera, render_views, renderer_works
from mvai.io.vtk_scene import NO_OPENGL
from mvai.types import Animation, Camera, Character, Image, Mesh, MeshSequence, MvaiError, Part
from mvai.view.appearance import appearance, drawables
from mvai.view.preview import write_preview
from mvai.view.scene import extent, floor
from mvai.view.sheet import CELL_PX, GAP_PX, HEAD_PX, LABEL_PX, write_sheet
from mvai.view.simplify import simplified

pytestmark = pytest.mark.skipif(
    renderer_works() == (False, NO_OPENGL), reason="no off-screen OpenGL here"
)


@pytest.fixture(scope="module")
def renderer():
    with Renderer() as shared:
        yield shared


def ball(centre=(0.0, 0.0, 0.0), radius=1.0, rings=12) -> Mesh:
    """A sphere of latitude rings, wound outwards."""
    a, b = np.meshgrid(
        np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij"
    )
    xyz = np.stack([np.sin(a) * np.sin(b), np.cos(a), np.sin(a) * np.cos(b)], axis=-1)
    i = np.arange(rings * 2 * rings).reshape(rings, 2 * rings)
    p, q, r, s = i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((p, q, r), (p, r, s))])
    vertices = xyz.reshape(-1, 3) * radius + np.array(centre)
    return Mesh(vertices.astype(np.float32), faces)


def square(z=-3.0, half=1.0, x=0.0) -> Mesh:
    """A square across the view of the default camera."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + [x, 0]
    vertices = np.column_stack([corners, np.full(4, z)]).astype(np.float32)
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]))


def drawn(mesh: Mesh, **looks) -> Drawable:
    return Drawable(mesh.vertices, mesh.faces, **looks)


def turned(yaw: float, pitch: float, shift) -> np.ndarray:
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    T = np.diag([1.0, -1.0, -1.0, 1.0])
    T[:3, :3] = T[:3, :3] @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    T[:3, :3] = T[:3, :3] @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    T[:3, 3] = shift
    return T


unit = st.floats(-1, 1)


@settings(max_examples=25, deadline=None)
@given(
    point=st.tuples(unit, unit, unit),
    yaw=st.floats(-3, 3),
    pitch=unit,
    principal=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
    size=st.sampled_from([(320, 320), (431, 240), (200, 333)]),
    stretch=st.floats(0.8, 1.25),
)
def test_points_appear_where_the_camera_projects_them(
    renderer, point, yaw, pitch, principal, size, stretch
):
    width, height = size
    K = np.array([[300.0, 0, 0], [0, 300.0 * stretch, 0], [0, 0, 1]])
    K[:2, 2] = np.array(principal) * size
    camera = Camera(K, width, height, turned(yaw, pitch, (0.1, -0.2, 4.0)))
    expected = camera.project(np.array(point) * 0.4)
    assume(((expected > 8) & (expected < np.array(size) - 8)).all())
    alpha = renderer.render_rgba([drawn(ball(np.array(point) * 0.4, 0.03))], camera)[..., 3]
    y, x = np.nonzero(alpha)
    # Pixel centres lie at halves.
    assert np.abs([x.mean() + 0.5, y.mean() + 0.5] - expected).max() < 0.7


def test_edges_lie_on_the_exact_pixel(renderer):
    camera = Camera.from_focal(100, 120, 90)
    # At 2 m a half side of 0.5 m spans 25 pixels on each side of the centre (60, 45).
    alpha = renderer.render_rgba([drawn(square(-2, 0.5))], camera)[..., 3]
    expected = np.zeros((90, 120), bool)
    expected[20:70, 35:85] = True
    np.testing.assert_array_equal(alpha > 0, expected)


def test_the_nearer_surface_wins(renderer):
    camera = Camera.from_focal(100, 100, 100)
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    scene = [
        drawn(square(-5.0, 2.0), color=blue, lit=False),
        drawn(square(-3.0, 0.5), color=red, lit=False),
    ]
    picture = renderer.render(scene, camera, (1.0, 1.0, 1.0))
    assert picture[50, 50].tolist() == [255, 0, 0]
    assert picture[50, 20].tolist() == [0, 0, 255]
    assert picture[2, 2].tolist() == [255, 255, 255]


def test_moved_vertices_are_drawn_as_if_new(renderer):
    camera, mesh = Camera.from_focal(150, 96, 96), ball((0, 0, -4))
    moved = replace(mesh, vertices=mesh.vertices * np.float32([1, 0.5, 1]))
    renderer.render_rgba([drawn(mesh)], camera)
    updated = renderer.render_rgba([drawn(moved)], camera)
    with Renderer() as fresh:
        np.testing.assert_array_equal(updated, fresh.render_rgba([drawn(moved)], camera))


def test_a_picture_stays_behind_the_drawing(renderer):
    behind = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    camera = Camera.from_focal(100, 80, 60)
    picture = renderer.render([drawn(square(-4, 0.5))], camera, behind)
    seen = renderer.render_rgba([drawn(square(-4, 0.5))], camera)[..., 3] > 0
    assert seen.any() and not seen.all()
    np.testing.assert_array_equal(picture[~seen], behind[~seen])


@pytest.mark.parametrize("azimuth", [0, 45, 90, 180, -60])
def test_orbiting_views_frame_the_mesh(azimuth):
    mesh = ball((3, 1, -2), 0.5)
    mesh = replace(mesh, vertices=mesh.vertices * np.float32([1, 3, 1]))
    ((picture, camera),) = render_views(mesh, [(azimuth, 15)], 120)
    assert picture.shape == (120, 120, 3)
    y, x = np.nonzero((picture != picture[0, 0]).any(2))
    assert min(x.min(), y.min()) >= 3 and max(x.max(), y.max()) <= 116
    assert y.max() - y.min() > 70
    back = camera.T_camera_world[:3, :3].T @ [0, 0, -1]
    a, e = np.radians([azimuth, 15])
    np.testing.assert_allclose(
        back, [np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], atol=1e-12
    )


def test_texture_coordinates_start_at_the_top_left(renderer):
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0], image[0, 1], image[1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = image.repeat(16, axis=0).repeat(16, axis=1)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    surface = drawn(square(-2), uv=uv, texture=image, color=(1, 1, 1), lit=False)
    picture = renderer.render([surface], Camera.from_focal(100, 100, 100))
    assert picture[8, 8].argmax() == 0 and picture[8, 91].argmax() == 1
    assert picture[91, 8].argmax() == 2 and picture[91, 91].max() < 5


# --- characters ---------------------------------------------------------------------------------


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Picture.fromarray(array).save(out, format="PNG")
    return out.getvalue()


def character(offset=(0.0, 0.0, 0.0)) -> Character:
    """A red head and, below it, a textured trunk whose right half is cut out."""
    texture = np.zeros((8, 8, 4), np.uint8)
    texture[:, :4] = (0, 255, 0, 255)
    head, trunk = ball((0, 1.6, 0), 0.2), square(0.0, 0.5)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    return Character(
        name="test",
        parts=(
            Part("head", head.vertices + np.float32(offset), head.faces, material=0),
            Part(
                "trunk",
                trunk.vertices + np.float32([0, 0.9, 0]) + np.float32(offset),
                trunk.faces,
                {"TEXCOORD_0": uv},
                material=1,
            ),
        ),
        materials=(
            {"pbrMetallicRoughness": {"baseColorFactor": [1.0, 0.0, 0.0, 1.0]}},
            {
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}},
                "alphaMode": "MASK",
            },
        ),
        textures=({"source": 0},),
        images=(Image(png(texture), "image/png", "trunk"),),
    )


def test_materials_and_cut_outs_are_drawn(renderer):
    hero = character((0, -0.9, -3))
    picture = renderer.render(
        drawables(hero, hero.mesh.vertices), Camera.from_focal(150, 150, 150), (0.0, 0.0, 1.0)
    )
    middle = Camera.from_focal(150, 150, 150).project(np.array([0, 0.7, -3]))
    x, y = middle.astype(int)
    assert picture[y, x, 0] > 90 and picture[y, x, 1:].max() < 10
    assert picture[75, 60, 1] > 90 and picture[75, 60, 2] < 10
    assert picture[75, 90].tolist() == [0, 0, 255]


def test_linear_factors_become_display_colours():
    grey = replace(
        character(),
        materials=({"pbrMetallicRoughness": {"baseColorFactor": [0.2140] * 3 + [1]}}, {}),
    )
    layers = appearance(grey).layers
    # 0.214 in linear light is half of full scale in sRGB.
    colors = layers[0][1].vertex_colors
    assert colors is not None and colors[0].tolist() == [127, 127, 127]


def test_a_broken_texture_is_named():
    broken = replace(character(), images=(Image(b"no picture", "image/png", "skin.png"),))
    with pytest.raises(MvaiError, match=r"skin\.png"):
        appearance(broken)


def test_texture_seams_are_shaded_alike():
    # Two vertices in one place without normals of their own, as at a seam of the texture.
    vertices = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 0]])
    part = Part("p", vertices, np.array([[0, 1, 2], [3, 4, 5]]))
    groups = appearance(Character("c", (part,))).layers[0][1].normal_groups
    assert groups is not None
    assert groups[1] == groups[3] and groups[2] == groups[5] and len(set(groups)) == 4


def test_a_coarser_mesh_keeps_some_of_the_vertices():
    mesh = ball(rings=24)
    welded, inverse = np.unique(mesh.vertices.round(5), axis=0, return_inverse=True)
    faces = inverse.ravel()[mesh.faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    kept, coarse = simplified(Mesh(welded, faces), 600)
    assert len(coarse) <= 700 < len(faces) and coarse.max() < len(kept)
    corners = welded[kept][coarse].astype(float)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi, rel=0.05)


def test_a_coarser_character_keeps_its_looks(renderer):
    hero = character()
    fine = ball((0, 1.6, 0), 0.2, rings=80)
    hero = replace(hero, parts=(replace(hero.parts[0], vertices=fine.vertices, faces=fine.faces),
                                hero.parts[1]))  # fmt: skip
    looks = appearance(hero)
    coarse = looks.coarser(4000)
    assert sum(len(d.faces) for _, d in coarse.layers) < 5000
    camera = orbit_camera(hero.mesh.vertices.min(0), hero.mesh.vertices.max(0), 0, 0, 96, 96)
    a = renderer.render_rgba(looks.drawables(hero.mesh.vertices), camera).astype(int)
    b = renderer.render_rgba(coarse.drawables(hero.mesh.vertices), camera).astype(int)
    assert (np.abs(a - b).max(2) > 40).mean() < 0.01


# --- preview and sheet --------------------------------------------------------------------------


def acting(frames: int) -> tuple[Animation, MeshSequence]:
    """The test character and a ball as body, both moving sideways."""
    hero = character()
    x = np.linspace(-0.5, 0.5, frames)[:, None, None] * np.array([1.0, 0, 0])
    body = ball((0, 0, -4), 0.6)
    return (
        Animation(hero, 12.5, free_vertices=(hero.mesh.vertices + x).astype(np.float32)),
        MeshSequence(
            (body.vertices + x).astype(np.float32),
            body.faces,
            12.5,
            camera=Camera.from_focal(200, 160, 120),
        ),
    )


def grey_frames(indices) -> list[np.ndarray]:
    return [np.full((120, 160, 3), 100, np.uint8) for _ in indices]


def decoded(path: Path) -> tuple[list[np.ndarray], float]:
    import av

    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate or 0)
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)], rate


def test_preview_has_every_frame_and_shows_body_and_character(tmp_path):
    animation, sequence = acting(7)
    calls = []
    out = tmp_path / "preview.mp4"
    write_preview(
        out,
        animation,
        sequence,
        iter(grey_frames(range(5))),
        height_px=96,
        progress=lambda done, total: calls.append((done, total)),
    )
    frames, rate = decoded(out)
    assert len(frames) == 7 and rate == pytest.approx(12.5)
    assert frames[0].shape == (96, 128 + 96, 3)
    assert calls == [(i, 7) for i in range(1, 8)]
    for i, frame in enumerate(frames):
        left = frame[:, :128].astype(int)
        blue = left[..., 2] - left[..., 0] > 30
        assert sequence.camera is not None
        centre = sequence.camera.project(sequence.vertices[i].mean(0))[0] * 128 / 160
        assert abs(np.nonzero(blue)[1].mean() - centre) < 2
        right = frame[:, 128:].astype(int)
        assert (right[..., 0] - right[..., 1] > 60).any(), "no red head"
        assert (right[..., 1] - right[..., 0] > 60).any(), "no green trunk"


def test_the_overlay_follows_a_camera_that_moves(tmp_path):
    animation, sequence = acting(4)
    assert sequence.camera is not None
    path = sequence.vertices.mean(1) - sequence.vertices[0].mean(0)
    sequence = replace(sequence, camera=replace(sequence.camera, path_m=path))
    write_preview(tmp_path / "p.mp4", animation, sequence, iter(grey_frames(range(4))), 96)
    frames, _ = decoded(tmp_path / "p.mp4")
    blue = [f[:, :128, 2].astype(int) - f[:, :128, 0] > 30 for f in frames]
    middle = [float(np.nonzero(b)[1].mean()) for b in blue]
    # It goes along with the ball, which therefore stays where it is in the picture.
    assert np.ptp(middle) < 1


@pytest.mark.parametrize("given_sequence", [True, False])
def test_preview_without_a_video(tmp_path, given_sequence):
    animation, sequence = acting(3)
    write_preview(tmp_path / "p.mp4", animation, sequence if given_sequence else None, height_px=64)
    frames, _ = decoded(tmp_path / "p.mp4")
    assert len(frames) == 3
    assert frames[0].shape == (64, 128 if given_sequence else 64, 3)


def test_a_preview_that_fails_leaves_nothing(tmp_path):
    animation, sequence = acting(4)

    def broken():
        yield grey_frames([0])[0]
        raise MvaiError("the video ends in the middle")

    with pytest.raises(MvaiError, match="ends in the middle"):
        write_preview(tmp_path / "p.mp4", animation, sequence, broken(), height_px=64)
    assert list(tmp_path.iterdir()) == []


def test_sheet_has_something_in_every_cell(tmp_path):
    animation, sequence = acting(9)
    write_sheet(tmp_path / "sheet.png", animation, sequence, grey_frames, columns=4)
    sheet = np.asarray(Picture.open(tmp_path / "sheet.png"))
    (width, height), rows = CELL_PX, 5
    assert sheet.shape == (
        HEAD_PX + rows * (height + GAP_PX) + GAP_PX,
        LABEL_PX + 4 * (width + GAP_PX) + GAP_PX,
        3,
    )
    for row in range(rows):
        for column in range(4):
            y = HEAD_PX + row * (height + GAP_PX)
            x = LABEL_PX + column * (width + GAP_PX)
            cell = sheet[y : y + height, x : x + width].astype(int)
            assert (cell.sum(2) < 700).mean() > 0.05, (row, column)
            if row in (1, 2):
                assert ((cell[..., 2] - cell[..., 0]) > 30).mean() > 0.02, (row, column)
    assert (sheet[HEAD_PX:, :LABEL_PX] < 100).any(), "no labels"


def test_sheet_of_a_single_frame_without_video(tmp_path):
    animation, _ = acting(1)
    write_sheet(tmp_path / "sheet.png", animation)
    assert Picture.open(tmp_path / "sheet.png").width == LABEL_PX + CELL_PX[0] + 2 * GAP_PX


def test_a_sheet_shows_the_frames_in_which_somebody_is_seen(tmp_path):
    animation, sequence = acting(9)
    asked = []

    def read(indices):
        asked.append(list(indices))
        return grey_frames(indices)

    seen = np.zeros(9, bool)
    for there, frames in ((slice(5, 8), [5, 6, 7]), (slice(0), [0, 3, 5, 8])):
        seen[there] = True
        write_sheet(tmp_path / "sheet.png", animation, sequence, read, seen, columns=4)
        assert asked.pop() == frames
        seen[:] = False


def test_the_floor_lies_under_the_feet():
    frames = np.repeat(ball((0, 1, 0), 1.0).vertices[None], 10, axis=0)
    frames[3, :, 1] += 0.5  # A jump.
    frames[7, :, 1] -= 0.02  # One frame that sinks in.
    room = extent(lambda f: frames[f], 10)
    assert -0.02 <= room.floor_m <= 0.0
    ground = floor(room)
    assert np.allclose(ground.vertices[:, 1], room.floor_m)
    camera = room.camera(0, 100, 100)
    seen = camera.project(frames.reshape(-1, 3))
    assert seen.min() >= 0 and seen.max() <= 100


def test_orbit_camera_stands_in_front_of_the_face():
    camera = orbit_camera(np.array([-1.0, 0, -1]), np.array([1.0, 2, 1]), 0, 0, 64, 64)
    position = -camera.T_camera_world[:3, :3].T @ camera.T_camera_world[:3, 3]
    assert position[2] > 1 and abs(position[0]) < 1e-9
    assert camera.project(np.array([1.0, 1, 0]))[0] > 32, "the character's left is on the right"
