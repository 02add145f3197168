"""What preview and contact sheet have in common: the overlay, the floor, the framing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from mvai.io.render import Color, Drawable, Renderer, orbit_camera
from mvai.types import Camera

BODY_COLOR: Color = (0.42, 0.66, 0.94)
"""Display colour of the reconstructed body."""
OVERLAY_OPACITY = 0.7
PAPER: Color = (1.0, 1.0, 1.0)

Picture = UInt8[np.ndarray, "h w 3"]
Positions = Callable[[slice], Float[np.ndarray, "frames verts 3"]]
"""Gives the vertices (world, metres) of a range of frames."""

BLOCK = 32
"""Frames posed at a time: enough to be fast, few enough to need little memory."""


def one_by_one(positions: Positions, frames: int) -> Iterator[Float[np.ndarray, "verts 3"]]:
    """The vertices of every frame in turn, asked for in blocks."""
    for start in range(0, frames, BLOCK):
        yield from positions(slice(start, min(start + BLOCK, frames)))


@dataclass(frozen=True)
class Extent:
    """The room a motion takes."""

    low: Float[np.ndarray, "3"]
    """Lowest corner of the bounding box over time, world, metres."""
    high: Float[np.ndarray, "3"]
    floor_m: float
    """Height of the ground."""

    def camera(
        self, azimuth_deg: float, width: int, height: int, elevation_deg: float = 8.0
    ) -> Camera:
        """A fixed camera that sees all of it."""
        low = np.array([self.low[0], min(self.low[1], self.floor_m), self.low[2]])
        return orbit_camera(low, self.high, azimuth_deg, elevation_deg, width, height, margin=0.04)


def extent(positions: Positions, frames: int, samples: int = 48) -> Extent:
    """Looks at frames spread evenly over a motion.

    The ground is where the lowest point is in the lower frames (10th percentile over time), so
    that neither a jump nor one frame that sinks in moves it.
    """
    chosen = np.unique(np.linspace(0, frames - 1, min(frames, samples)).round().astype(int))
    boxes = []
    for i in chosen:
        vertices = positions(slice(i, i + 1))[0]
        boxes.append((vertices.min(0), vertices.max(0)))
    lows, highs = (np.array(side, np.float64) for side in zip(*boxes, strict=True))
    return Extent(lows.min(0), highs.max(0), float(np.quantile(lows[:, 1], 0.1)))


def floor(room: Extent, paper: Color = PAPER) -> Drawable:
    """A checkerboard on the ground that fades into the background, on which sliding shows.

    Squares are half a metre for a person, and grow with the motion's height and reach.
    """
    tall = max(float(room.high[1] - room.floor_m), 1e-3)
    # A square is the tidy length (1, 2 or 5 times a power of ten) nearest to 0.3 heights.
    tidy = np.array([m * 10.0**e for e in range(-4, 5) for m in (1, 2, 5)])
    square = tidy[np.abs(np.log(tidy / (0.3 * tall))).argmin()]
    centre = (room.low[[0, 2]] + room.high[[0, 2]]) / 2
    reach = float((room.high[[0, 2]] - room.low[[0, 2]]).max()) / 2 + 2.0 * tall
    while reach / square > 40:
        square *= 2
    steps = np.arange(np.floor(-reach / square), np.ceil(reach / square))
    # Squares stand on multiples of their side in the world, not around this motion's centre.
    corner = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    corner = (corner + np.round(centre / square)) * square
    ring = np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) * square
    xz = (corner[:, None] + ring).reshape(-1, 2)
    vertices = np.stack([xz[:, 0], np.full(len(xz), room.floor_m), xz[:, 1]], axis=1)
    first = 4 * np.arange(len(corner))[:, None]
    faces = np.concatenate([first + np.array([0, 1, 2]), first + np.array([0, 2, 3])])
    dark = np.round(corner / square).sum(1).astype(int) % 2 == 0
    shade = np.repeat(np.where(dark, 0.74, 0.87), 4)[:, None]
    away = np.linalg.norm(xz - centre, axis=1)[:, None] / reach
    fade = np.clip((away - 0.5) / 0.45, 0, 1)
    colors = np.array(paper) * fade + shade * (1 - fade)
    return Drawable(
        vertices=vertices.astype(np.float32),
        faces=faces,
        color=(1.0, 1.0, 1.0),
        vertex_colors=np.round(colors * 255).astype(np.uint8),
        smooth=False,
        lit=False,
    )


def scaled(camera: Camera, width: int, height: int) -> Camera:
    """The camera of the same picture at another size."""
    scale = np.diag([width / camera.width, height / camera.height, 1.0])
    return replace(camera, K=scale @ camera.K, width=width, height=height)


def overlaid(
    renderer: Renderer, body: Drawable, camera: Camera, picture: Picture, opacity: float
) -> Picture:
    """The picture with the body drawn over it, half transparent."""
    rgba = renderer.render_rgba([body], camera)
    seen = rgba[..., 3] > 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    out = picture.copy()
    if len(rows) == 0:
        return out
    # Only the body's bounding box is blended, in integers: this runs for every frame.
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    weight = np.uint16(round(opacity * 256))
    under, over = out[box].astype(np.uint16), rgba[..., :3][box].astype(np.uint16)
    blended = (under * (np.uint16(256) - weight) + over * weight) >> 8
    np.copyto(out[box], blended.astype(np.uint8), where=seen[box][..., None])
    return out


def resized(picture: Picture, width: int, height: int) -> Picture:
    """The picture at another size."""
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image

    size = (width, height)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX, reducing_gap=2))
