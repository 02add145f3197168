"""The contact sheet: frames of source, reconstruction and character, evenly spaced, as a picture.

Its rows are those of Figure 4 of the paper; the views from the side show depth, which the view
of the camera hides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from mvai.body.skinning import posed_vertices
from mvai.io.atomic import written_whole
from mvai.io.render import Drawable, Renderer, orbit_camera
from mvai.types import Animation, MeshSequence
from mvai.view.appearance import appearance
from mvai.view.scene import (
    BODY_COLOR,
    OVERLAY_OPACITY,
    PAPER,
    Extent,
    Picture,
    extent,
    floor,
    overlaid,
    resized,
    scaled,
)

if TYPE_CHECKING:
    from PIL import Image

CELL_PX = (240, 320)
"""Width and height of a cell."""
GAP_PX, LABEL_PX, HEAD_PX = 8, 150, 34
INK, FAINT = (30, 30, 30), (120, 120, 120)

Row = tuple[str, list[Picture]]


def write_sheet(
    path: str | Path,
    animation: Animation,
    sequence: MeshSequence | None = None,
    read_frames: Callable[[Sequence[int]], list[Picture]] | None = None,
    seen: Bool[np.ndarray, " frames"] | None = None,
    columns: int = 8,
) -> None:
    """Writes a PNG with one column for each of some frames, evenly spaced.

    Args:
        path: Where to write.
        animation: The acting character.
        sequence: The body that was reconstructed, frame for frame the same motion; gives the
            rows of the reconstruction.
        read_frames: Gives the source frames (RGB) at some indices, as `Video.read` does; gives
            the row of source frames, and the picture under the overlay.
        seen: In which frames somebody was seen; the others are left out, unless that is all.
        columns: How many frames; fewer when the animation is shorter.

    Raises:
        MvaiError: The file cannot be written, or this machine has no off-screen OpenGL.
    """
    frames = animation.frames if sequence is None else min(animation.frames, sequence.frames)
    shown = np.arange(frames)
    if seen is not None and seen[:frames].any():
        shown = np.flatnonzero(seen[:frames])
    even = np.unique(np.linspace(0, len(shown) - 1, columns).round().astype(int))
    chosen = [int(i) for i in shown[even]]
    sources = None if read_frames is None else read_frames(chosen)
    rows: list[Row] = []
    with Renderer() as renderer:
        if sequence is not None:
            rows += _source_rows(renderer, sequence, sources, chosen)
        elif sources is not None:
            rows.append(("Source", [_padded(s) for s in sources]))
        vertices = [posed_vertices(animation, [i])[0] for i in chosen]
        room = extent(lambda f: np.stack(vertices[f]), len(chosen))
        looks = appearance(animation.character)
        drawn = [looks.drawables(v) for v in vertices]
        rows.append(("Character", _turntable(renderer, drawn, room, 0)))
        rows.append(("Character,\nfrom the side", _turntable(renderer, drawn, room, 90)))
    heads = [f"{i / animation.fps:.2f} s" for i in chosen]
    with written_whole(path) as temporary:
        _compose(rows, heads).save(temporary, format="PNG")


def _source_rows(
    renderer: Renderer,
    sequence: MeshSequence,
    sources: list[Picture] | None,
    chosen: list[int],
) -> list[Row]:
    """Source, overlay and side view; without a video the body from the front and the side."""
    vertices = [sequence.vertices[i] for i in chosen]
    bodies = [Drawable(v, sequence.faces, color=BODY_COLOR) for v in vertices]
    room = extent(lambda f: np.stack(vertices[f]), len(chosen))
    side = _turntable(renderer, [[b] for b in bodies], room, 90)
    rows: list[Row] = []
    camera = sequence.camera
    if sources is None or camera is None:
        if sources is not None:
            rows.append(("Source", [_padded(s) for s in sources]))
        front = _turntable(renderer, [[b] for b in bodies], room, 0)
        rows.append(("Reconstruction", front))
    else:
        height, width = sources[0].shape[:2]
        cameras = [scaled(camera.at(i), width, height) for i in chosen]
        views = list(zip(cameras, vertices, bodies, sources, strict=True))
        boxes = [_box_px(c.project(v), width, height) for c, v, _, _ in views]
        over = [overlaid(renderer, b, c, s, OVERLAY_OPACITY) for c, _, b, s in views]
        rows.append(("Source", _crops(sources, boxes)))
        rows.append(("Reconstruction", _crops(over, boxes)))
    rows.append(("Reconstruction,\nfrom the side", side))
    return rows


def _box_px(points: Float[np.ndarray, "n 2"], width: int, height: int) -> np.ndarray:
    """Left, top, right and bottom of points, inside the picture."""
    low, high = points.min(0), points.max(0)
    size = np.array([width, height])
    low, high = np.clip(low, 0, size - 1), np.clip(high, 1, size)
    return np.concatenate([low, np.maximum(high, low + 1)])


def _crops(pictures: list[Picture], boxes: list[np.ndarray]) -> list[Picture]:
    """A window of one size around the person in every picture, shown in a cell.

    Where the window leaves the picture there is paper.
    """
    from PIL import Image

    box = np.array(boxes)
    need = (box[:, 2:] - box[:, :2]).max(0) * 1.15
    cell = np.array(CELL_PX)
    window = np.ceil(cell * (need / cell).max()).astype(int)
    out = []
    for picture, (left, top, right, bottom) in zip(pictures, boxes, strict=True):
        size = np.array(picture.shape[1::-1])
        corner = np.round((np.array([left + right, top + bottom]) - window) / 2)
        # A window that fits into the picture is kept inside it.
        corner = np.where(window <= size, np.clip(corner, 0, size - window), corner).astype(int)
        paper = Image.new("RGB", tuple(window.tolist()), tuple(round(255 * c) for c in PAPER))
        paper.paste(Image.fromarray(picture), tuple((-corner).tolist()))
        out.append(np.asarray(paper.resize(CELL_PX, Image.Resampling.LANCZOS)))
    return out


def _padded(picture: Picture) -> Picture:
    """The whole picture in the middle of a cell."""
    width, height = CELL_PX
    scale = min(width / picture.shape[1], height / picture.shape[0])
    w, h = (max(1, int(n * scale)) for n in (picture.shape[1], picture.shape[0]))
    out = np.full((height, width, 3), round(255 * PAPER[0]), np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    out[top : top + h, left : left + w] = resized(picture, w, h)
    return out


def _turntable(
    renderer: Renderer, drawn: list[list[Drawable]], room: Extent, azimuth_deg: float
) -> list[Picture]:
    """Every frame at one scale, with the camera moved along beside the figure.

    Only sideways: heights stay, so that a jump and a fall can be told.
    """
    lows = np.array([np.min([d.vertices.min(0) for d in ds], axis=0) for ds in drawn])
    highs = np.array([np.max([d.vertices.max(0) for d in ds], axis=0) for ds in drawn])
    half = (highs - lows).max(0) / 2
    out = []
    for drawables, low, high in zip(drawn, lows, highs, strict=True):
        centre = (low + high) / 2
        low, high = centre - half, centre + half
        low[1], high[1] = min(room.low[1], room.floor_m), room.high[1]
        camera = orbit_camera(low, high, azimuth_deg, 8.0, *CELL_PX, margin=0.03)
        ground = floor(Extent(low, high, room.floor_m))
        out.append(renderer.render_smooth([ground, *drawables], camera, PAPER))
    return out


def _compose(rows: list[Row], heads: list[str]) -> Image.Image:
    """Cells, row labels and column heads on white."""
    from PIL import Image, ImageDraw, ImageFont

    (width, height), columns = CELL_PX, len(heads)
    size = (
        LABEL_PX + columns * (width + GAP_PX) + GAP_PX,
        HEAD_PX + len(rows) * (height + GAP_PX) + GAP_PX,
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    label_font, head_font = ImageFont.load_default(size=17), ImageFont.load_default(size=15)
    for column, head in enumerate(heads):
        x = LABEL_PX + column * (width + GAP_PX) + width // 2
        draw.text((x, HEAD_PX // 2 + 2), head, FAINT, head_font, anchor="mm")
    for row, (label, pictures) in enumerate(rows):
        y = HEAD_PX + row * (height + GAP_PX)
        draw.multiline_text(
            (LABEL_PX - 14, y + height // 2), label, INK, label_font, anchor="rm", align="right"
        )
        for column, picture in enumerate(pictures):
            x = LABEL_PX + column * (width + GAP_PX)
            sheet.paste(Image.fromarray(picture), (x, y))
    return sheet
