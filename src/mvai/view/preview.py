"""The preview: source video with the reconstructed body, and beside it the acting character."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np

from mvai.body.skinning import posed_vertices
from mvai.io.render import Drawable, Renderer
from mvai.io.video import write_video
from mvai.types import Animation, Camera, Mesh, MeshSequence
from mvai.view.appearance import appearance
from mvai.view.scene import (
    BODY_COLOR,
    OVERLAY_OPACITY,
    PAPER,
    Picture,
    extent,
    floor,
    one_by_one,
    overlaid,
    resized,
    scaled,
)
from mvai.view.simplify import simplified

OVERLAY_FACES = 12_000
"""The overlaid body is drawn with no more triangles than this; the difference does not show."""
CHARACTER_FACES = 60_000
"""So is the character, which only matters for scans and sculptures."""

Progress = Callable[[int, int], None]


def write_preview(
    path: str | Path,
    animation: Animation,
    sequence: MeshSequence | None = None,
    video: Iterable[Picture] | None = None,
    height_px: int = 480,
    progress: Progress | None = None,
) -> None:
    """Writes an MP4, as many frames as the animation has, at its frame rate.

    Left: the video with the body of `sequence` over it, where both are given and the sequence
    knows its camera; the one that is there, where one is missing; nothing without both. Right:
    the character from the front under a fixed camera that sees the whole motion, on a floor of
    squares.

    Args:
        path: Where to write.
        animation: The acting character.
        sequence: The body that was reconstructed, frame for frame the same motion.
        video: RGB frames from the animation's first frame on. A video decoded at `height_px`
            is faster than one that is scaled down here. When it ends early its last frame stays.
        height_px: Height of the preview.
        progress: Called after every frame with the number done and the total.

    Raises:
        MvaiError: The file cannot be written, or this machine has no off-screen OpenGL.
    """
    left = _left(sequence, video, height_px)
    first = next(left, None)
    width = height_px + (0 if first is None else first.shape[1])
    frames = animation.frames
    if sequence is not None:
        frames = min(frames, sequence.frames)
    right = _character(animation, height_px, height_px)
    pictures = repeat(None) if first is None else chain([first], left)
    # The encoder runs beside the renderer, one frame behind it.
    with (
        write_video(path, animation.fps, width, height_px) as writer,
        ThreadPoolExecutor(1) as encoder,
    ):
        written: Future[None] | None = None
        for done, (a, b) in enumerate(islice(zip(pictures, right, strict=False), frames), 1):
            if written is not None:
                written.result()
            both = b if a is None else np.concatenate([a, b], axis=1)
            written = encoder.submit(writer.write, both)
            if progress is not None:
                progress(done, frames)
        if written is not None:
            written.result()


def _left(
    sequence: MeshSequence | None, video: Iterable[Picture] | None, height: int
) -> Iterator[Picture]:
    """Source pictures, with the body over them; without a video the body alone."""
    if video is None:
        return iter(()) if sequence is None else _body(sequence, height)
    pictures = _fitted(video, height)
    if sequence is None or sequence.camera is None:
        return pictures
    return _overlay(sequence, sequence.camera, pictures)


def _fitted(video: Iterable[Picture], height: int) -> Iterator[Picture]:
    """Frames at the preview's height; the last one is repeated for ever."""
    picture = None
    for frame in _ahead(video):
        width = max(1, round(frame.shape[1] * height / frame.shape[0]))
        picture = resized(frame, width, height)
        yield picture
    if picture is not None:
        yield from repeat(picture)


def _ahead(video: Iterable[Picture]) -> Iterator[Picture]:
    """The same frames; the next one is decoded while this one is in use."""
    frames = iter(video)
    with ThreadPoolExecutor(1) as decoder:
        coming = decoder.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = decoder.submit(next, frames, None)
            yield frame


def _overlay(
    sequence: MeshSequence, camera: Camera, pictures: Iterator[Picture]
) -> Iterator[Picture]:
    rows, faces = simplified(Mesh(sequence.vertices[0], sequence.faces), OVERLAY_FACES)
    with Renderer() as renderer:
        for i, (vertices, picture) in enumerate(zip(sequence.vertices, pictures, strict=False)):
            body = Drawable(vertices[rows], faces, color=BODY_COLOR)
            fitted = scaled(camera.at(i), picture.shape[1], picture.shape[0])
            yield overlaid(renderer, body, fitted, picture, OVERLAY_OPACITY)


def _body(sequence: MeshSequence, size: int) -> Iterator[Picture]:
    room = extent(lambda frames: sequence.vertices[frames], sequence.frames)
    ground, camera = floor(room), room.camera(0, size, size)
    with Renderer() as renderer:
        for vertices in sequence.vertices:
            body = Drawable(vertices, sequence.faces, color=BODY_COLOR)
            yield renderer.render([ground, body], camera, PAPER)


def _character(animation: Animation, width: int, height: int) -> Iterator[Picture]:
    def positions(frames: slice) -> np.ndarray:
        return posed_vertices(animation, frames)

    looks = appearance(animation.character).coarser(CHARACTER_FACES)
    room = extent(positions, animation.frames)
    ground, camera = floor(room), room.camera(0, width, height)
    with Renderer() as renderer:
        for vertices in one_by_one(positions, animation.frames):
            yield renderer.render([ground, *looks.drawables(vertices)], camera, PAPER)
