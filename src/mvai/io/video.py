"""Read and write video: any file FFmpeg reads, or a folder of images.

Frames come out as a viewer would see them: turned by the display matrix, with square pixels, at
a constant rate. They are decoded one at a time, so a long video needs no more memory than a
short one.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvai.io.atomic import written_whole
from mvai.io.video_file import (
    Frame,
    decoded_frames,
    in_order,
    iterate_file,
    opened,
    packet_times,
    shown_size,
    timing_of,
)
from mvai.types import MvaiError

if TYPE_CHECKING:
    import av
    import av.container
    import av.video

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Video:
    """An open-able video at a constant rate; holds no frames and no open file."""

    path: Path
    fps: float
    """Frames a second of what `iterate` yields."""
    frames: int
    """How many frames `iterate` should yield; a damaged file may yield fewer."""
    width: int
    """Pixels, after rotation and scaling."""
    height: int
    source: Callable[[int, int, int, int], Iterator[Frame]] = field(repr=False, compare=False)
    """Starts a fresh decoding; takes width, height, the first frame to yield and the step."""
    first: int = 0
    """Which frame of the file is the first of this."""
    whole: Video | None = None
    """The whole file, where this is a part of it."""

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[Frame]:
        """Yields every `step`-th frame from `start` on, in order, RGB."""
        return self.source(self.width, self.height, start, step)

    def fitted(self, longest_px: int) -> Video:
        """The same video scaled down so that its longer side is at most `longest_px`."""
        scale = min(1.0, longest_px / max(self.width, self.height))
        return replace(
            self,
            width=max(1, round(self.width * scale)),
            height=max(1, round(self.height * scale)),
        )

    def part(self, start: int, end: int) -> Video:
        """The frames from `start` up to `end`, as a video of its own."""
        source = partial(_frames_of_part, self.source, start, end)
        return replace(
            self,
            frames=end - start,
            source=source,
            first=self.first + start,
            whole=self.whole or self,
        )

    def between(self, start_s: float | None, end_s: float | None) -> Video:
        """What is shown from one time to another, seconds; None for the video's own ends.

        Raises:
            MvaiError: nothing is.
        """
        if start_s is None and end_s is None:
            return self
        start = round((start_s or 0.0) * self.fps)
        end = self.frames if end_s is None else min(round(end_s * self.fps), self.frames)
        if not 0 <= start < end:
            span = f"from {start_s or 0.0:g} s on"
            if end_s is not None:
                span = f"from {start_s or 0.0:g} to {end_s:g} s"
            raise MvaiError(
                f"{self.path}: nothing is shown {span}; the video lasts "
                f"{self.frames / self.fps:.2f} s."
            )
        return self.part(start, end)

    def read(self, indices: Sequence[int]) -> list[Frame]:
        """The frames at `indices`, in the order asked for.

        Raises:
            MvaiError: the video ends before one of them.
        """
        wanted = set(indices)
        found: dict[int, Frame] = {}
        for i, frame in enumerate(self.iterate()):
            if i in wanted:
                found[i] = frame
                if len(found) == len(wanted):
                    break
        if missing := wanted - found.keys():
            raise MvaiError(
                f"{self.path}: the video has no frame {min(missing)}; "
                "re-encode it if a player shows more frames."
            )
        return [found[i] for i in indices]


def _frames_of_part(
    source: Callable[[int, int, int, int], Iterator[Frame]],
    first: int,
    end: int,
    width: int,
    height: int,
    start: int,
    step: int,
) -> Iterator[Frame]:
    """What `Video.source` gives, of the frames from `first` up to `end` alone."""
    left = max(0, -(-(end - first - start) // step))
    return islice(source(width, height, first + start, step), left)


def open_video(
    path: str | Path, max_height_px: int | None = None, folder_fps: float = 30.0
) -> Video:
    """Looks at a video file or a folder of images and says how to read it.

    Args:
        path: any file FFmpeg reads, or a folder with images named in order.
        max_height_px: frames taller than this are scaled down to it.
        folder_fps: frame rate given to a folder of images.

    Raises:
        MvaiError: the path is missing, empty, truncated before the first frame, without video,
            or not a video.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, max_height_px, folder_fps)
    if not path.exists():
        raise MvaiError(f"{path}: there is no such file; check the path.")
    if path.stat().st_size == 0:
        raise MvaiError(f"{path}: the file is empty; copy or record it again.")
    return _open_file(path, max_height_px)


# --- files --------------------------------------------------------------------------------------


def _open_file(path: Path, max_height_px: int | None) -> Video:
    with opened(path) as (container, stream):
        promised = stream.frames
        times_s, keys_s, damaged = packet_times(container, stream)
        fallback_fps = float(stream.average_rate or stream.guessed_rate or 25)
    with opened(path) as (container, stream):
        first = next(decoded_frames(container, stream, []), None)
        if first is None:
            raise MvaiError(
                f"{path}: no frame of this video can be decoded; it is empty or damaged, "
                "re-encode or copy it again."
            )
        width, height = shown_size(first, max_height_px)
    timing = timing_of(times_s, fallback_fps, path)
    if not damaged and in_order(times_s):
        timing = replace(timing, times_s=times_s, keys_s=keys_s)
    if damaged or len(times_s) < promised:
        whole = f" of {promised}" if promised > len(times_s) else ""
        log.warning("%s: the file is damaged or cut off; using %d%s frames.",
                    path, len(times_s), whole)  # fmt: skip
    source = partial(iterate_file, path, timing)
    return Video(path, timing.fps, timing.frames, width, height, source)


# --- folders of images --------------------------------------------------------------------------


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key under which frame2 comes before frame10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p.lower()) for p in parts]


def _open_folder(folder: Path, max_height_px: int | None, fps: float) -> Video:
    images = tuple(
        sorted(
            (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES),
            key=natural_order,
        )
    )
    if not images:
        raise MvaiError(f"{folder}: the folder has no images (png, jpg); give a folder of frames.")
    height, width = _read_image(images[0]).shape[:2]
    scale = min(1.0, max_height_px / height) if max_height_px else 1.0
    size = max(1, round(width * scale)), max(1, round(height * scale))
    source = partial(_iterate_folder, images, (width, height))
    return Video(folder, fps, len(images), *size, source)


def _read_image(path: Path) -> Frame:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise MvaiError(f"{path}: this image cannot be read; replace or remove it.") from error
    return np.asarray(image)


def _iterate_folder(
    images: tuple[Path, ...],
    stored: tuple[int, int],
    width: int,
    height: int,
    start: int,
    step: int,
) -> Iterator[Frame]:
    from PIL import Image

    size = width, height
    for path in images[start::step]:
        image = _read_image(path)
        if image.shape[1::-1] != stored:
            raise MvaiError(
                f"{path}: this image is {image.shape[1]}x{image.shape[0]} and the first one "
                f"{stored[0]}x{stored[1]}; give frames of one size."
            )
        if stored != size:
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        yield image


# --- writing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoWriter:
    """Takes frames one by one; made by `write_video`."""

    container: av.container.OutputContainer
    stream: av.video.stream.VideoStream
    width: int
    height: int

    def write(self, image: Frame) -> None:
        """Appends an RGB frame of the size given to `write_video`."""
        import av

        assert image.shape == (self.height, self.width, 3), f"frame of shape {image.shape}"
        # 4:2:0 colour needs even sides; the last row or column is repeated.
        image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        for packet in self.stream.encode(frame):
            self.container.mux(packet)


@contextlib.contextmanager
def write_video(path: str | Path, fps: float, width: int, height: int) -> Iterator[VideoWriter]:
    """Writes an MP4 (H.264 where the encoder is there, else MPEG-4), whole or not at all.

    Raises:
        MvaiError: the place cannot be written to.
    """
    from fractions import Fraction

    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with written_whole(Path(path)) as temporary:
        container = av.open(str(temporary), "w")
        with container:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            stream.width, stream.height = width + width % 2, height + height % 2
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {}
            yield VideoWriter(container, stream, width, height)
            for packet in stream.encode():
                container.mux(packet)
