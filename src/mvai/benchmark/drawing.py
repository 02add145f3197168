"""The pictures of a scene, with whatever makes it hard to see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from mvai.benchmark.looks import Looks, random_background, random_lights, random_looks
from mvai.benchmark.scenes import Scene
from mvai.body.model import LinearBody
from mvai.geometry.surface import vertex_normals
from mvai.io.render import Drawable, Renderer

EXPOSURES = 5
"""Pictures averaged for one blurred frame."""
SHUTTER = 0.9
"""Share of the time between two frames in which the shutter of a blurring camera is open."""


def draw(body: LinearBody, scene: Scene) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Pictures of the scene: a clothed person before a room, in the light of that room."""
    rng = np.random.default_rng(scene.seed + 1)
    width, height = scene.camera.width, scene.camera.height
    looks, lights = random_looks(body, rng), random_lights(rng)
    backdrop = random_background(width, height, rng)
    cover = occluder(body, scene, rng) if "occluded" in scene.hardships else None
    blurred = "blurred" in scene.hardships
    with Renderer(lights) as renderer:
        for f in range(scene.frames):
            moment = exposures(scene, f) if blurred else _frame(scene, f)
            pictures = [
                renderer.render([d], scene.camera, backdrop)
                for d in (dressed(body, looks, v) for v in moment.vertices(body))
            ]
            picture = pictures[0] if len(pictures) == 1 else _mean(pictures)
            yield (
                picture if cover is None else np.where(cover[..., 3:] > 0, cover[..., :3], picture)
            )


def dressed(body: LinearBody, looks: Looks, vertices: Float[np.ndarray, "verts 3"]) -> Drawable:
    """The surface with its clothes on."""
    normals = vertex_normals(vertices, body.faces).astype(np.float32)
    outside = vertices + normals * looks.thickness_m[:, None].astype(np.float32)
    return Drawable(outside, body.faces, vertex_colors=looks.colors)


def _frame(scene: Scene, f: int) -> Scene:
    return replace(
        scene, rotations=scene.rotations[f : f + 1], translation=scene.translation[f : f + 1]
    )


def _mean(pictures: list[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    return np.mean(pictures, axis=0, dtype=np.float32).round().astype(np.uint8)


def exposures(scene: Scene, f: int) -> Scene:
    """The poses on the way through frame `f` while the shutter is open, centred on it."""
    before, after = max(f - 1, 0), min(f + 1, scene.frames - 1)
    shares = np.linspace(-0.5, 0.5, EXPOSURES) * SHUTTER / max(1, after - before)
    turn = Rotation.from_matrix(
        scene.rotations[before].transpose(0, 2, 1) @ scene.rotations[after]
    ).as_rotvec()
    step = scene.translation[after] - scene.translation[before]
    rotations = np.stack(
        [scene.rotations[f] @ Rotation.from_rotvec(turn * s).as_matrix() for s in shares]
    )
    return replace(
        scene, rotations=rotations, translation=scene.translation[f] + shares[:, None] * step
    )


def occluder(
    body: LinearBody, scene: Scene, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 4"]:
    """A board in front of the person that hides part of it: a table, a wall's edge, a pillar."""
    width, height = scene.camera.width, scene.camera.height
    joints = scene.joints_and_points(body, ("nose",))[0]
    px = scene.camera.project(joints.reshape(-1, 3).astype(float))
    (left, top), (right, bottom) = px.min(0), px.max(0)
    w, h = right - left, bottom - top
    box = {
        0: (0, bottom - h * rng.uniform(0.2, 0.45), width, height),
        1: (0, 0, left + w * rng.uniform(0.2, 0.4), height),
        2: (right - w * rng.uniform(0.2, 0.4), 0, width, height),
        3: (px[0, 0] - 0.12 * w, top + h * rng.uniform(0.3, 0.6), px[0, 0] + 0.3 * w, height),
    }[int(rng.integers(4))]
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int)
    cover = np.zeros((height, width, 4), np.uint8)
    cover[y0:y1, x0:x1, :3] = random_background(width, height, rng)[y0:y1, x0:x1]
    cover[y0:y1, x0:x1, 3] = 255
    return cover
