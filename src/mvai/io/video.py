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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from mvai.io.atomic import written_whole
from mvai.types import MvaiError

if TYPE_CHECKING:
    import av
    import av.container
    import av.video

log = logging.getLogger(__name__)

Frame = UInt8[np.ndarray, "height width 3"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

NOT_VIDEO = {"tty", "concat", "hls", "ass", "srt", "webvtt", "lrc", "ffmetadata"}
"""FFmpeg formats that are refused: text drawn as pictures, and lists that name other files."""

MAX_STRETCH = 10
"""Time stamps that would turn every frame into more than this many are held to be broken."""


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


@dataclass(frozen=True)
class _Timing:
    """How time stamps become a constant rate."""

    fps: float
    frames: int
    constant: bool
    """True when the frames are evenly spaced already and pass through one for one."""


def _open_file(path: Path, max_height_px: int | None) -> Video:
    with _container(path) as (container, stream):
        promised = stream.frames
        times_s, damaged = _packet_times(container, stream)
        fallback_fps = float(stream.average_rate or stream.guessed_rate or 25)
    with _container(path) as (container, stream):
        first = next(_decode(container, stream, []), None)
        if first is None:
            raise MvaiError(
                f"{path}: no frame of this video can be decoded; it is empty or damaged, "
                "re-encode or copy it again."
            )
        width, height = _size(first, max_height_px)
    timing = _timing(times_s, fallback_fps, path)
    if damaged or len(times_s) < promised:
        whole = f" of {promised}" if promised > len(times_s) else ""
        log.warning("%s: the file is damaged or cut off; using %d%s frames.",
                    path, len(times_s), whole)  # fmt: skip
    source = partial(_iterate_file, path, timing)
    return Video(path, timing.fps, timing.frames, width, height, source)


@contextlib.contextmanager
def _container(
    path: Path,
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """Opens `path` and its first video stream."""
    import av
    import av.error

    try:
        # The "file:" prefix and the protocol list keep a file from sending FFmpeg elsewhere.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise MvaiError(f"{path}: not allowed to read this file; check its rights.") from error
        raise MvaiError(
            f"{path}: this is not a video FFmpeg can read, or it is cut off; "
            "re-encode or copy it again."
        ) from error
    with container:
        if set(container.format.name.split(",")) & NOT_VIDEO:
            raise MvaiError(f"{path}: this is not a video; give a video file.")
        # A cover picture of a music file is a video stream of one still image.
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            kind = "only sound" if container.streams.audio else "no video stream"
            raise MvaiError(f"{path}: the file has {kind}; give a file with moving pictures.")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _is_cover(stream: av.video.stream.VideoStream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _packet_times(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> tuple[np.ndarray, bool]:
    """Presentation times (seconds, sorted) of all frames, read without decoding.

    Returns:
        The times, NaN for packets without one, and whether reading broke off.
    """
    import av.error

    times: list[float] = []
    damaged = False
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                pts, unit = packet.pts, packet.time_base
                times.append(np.nan if pts is None or unit is None else float(pts * unit))
    except av.error.FFmpegError:
        damaged = True
    return np.sort(np.array(times)), damaged


def _timing(times_s: np.ndarray, fallback_fps: float, path: Path) -> _Timing:
    """The constant rate for frames shown at `times_s`.

    Evenly spaced frames, up to half an interval of jitter, pass through at their mean rate.
    Others are resampled at the median rate, that is, the rate the camera held most of the time.
    """
    n = len(times_s)
    fallback = _Timing(fallback_fps, max(n, 1), constant=True)
    if n < 2 or np.isnan(times_s).any() or times_s[-1] <= times_s[0]:
        return fallback
    mean_s = (times_s[-1] - times_s[0]) / (n - 1)
    grid = times_s[0] + mean_s * np.arange(n)
    if np.abs(times_s - grid).max() < mean_s / 2:
        fps = 1 / mean_s
        # Containers round times to milliseconds; the declared rate is the truer one.
        return _Timing(fallback_fps if abs(fps / fallback_fps - 1) < 5e-3 else fps, n, True)
    steps = np.diff(times_s)
    fps = float(1 / np.median(steps[steps > 0]))
    count = int((times_s[-1] - times_s[0]) * fps + 0.5) + 1
    if count > MAX_STRETCH * n + 100:
        log.warning("%s: the time stamps are broken; frames are taken as evenly spaced.", path)
        return _Timing(fps, n, constant=True)
    return _Timing(fps, count, constant=False)


def _decode(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    errors: list[Exception],
) -> Iterator[av.VideoFrame]:
    """Frames in order; packets that cannot be decoded are skipped and noted in `errors`."""
    import av
    import av.error

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            decoded = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            errors.append(error)
            # A demuxer that has failed keeps failing; a generator that raised is exhausted.
            continue
        for frame in decoded:
            if isinstance(frame, av.VideoFrame):
                yield frame


def _iterate_file(
    path: Path, timing: _Timing, width: int, height: int, start: int, step: int
) -> Iterator[Frame]:
    errors: list[Exception] = []
    done = 0
    with _container(path) as (container, stream):
        decoded = _decode(container, stream, errors)
        picked = decoded if timing.constant else _resample(decoded, timing.fps)
        last: av.VideoFrame | None = None
        image = np.empty(0, np.uint8)
        for frame in picked:
            done += 1
            if done <= start or (done - 1 - start) % step:
                continue
            if frame is not last:
                image, last = _upright(frame, width, height), frame
            yield image
    if errors:
        log.warning("%s: the file is damaged; %d of %d frames could be decoded.",
                    path, done, timing.frames)  # fmt: skip


def _resample(frames: Iterator[av.VideoFrame], fps: float) -> Iterator[av.VideoFrame]:
    """For every tick of a clock at `fps`, the frame nearest in time."""
    previous: tuple[float, av.VideoFrame] | None = None
    start = 0.0
    tick = 0
    for frame in frames:
        if frame.time is None:
            continue
        if previous is None:
            start = frame.time
        else:
            middle = (previous[0] + frame.time) / 2 - start
            while tick / fps < middle:
                yield previous[1]
                tick += 1
        previous = frame.time, frame
    if previous is not None:
        while tick / fps <= previous[0] - start + 0.5 / fps - 1e-9:
            yield previous[1]
            tick += 1


def _size(frame: av.VideoFrame, max_height_px: int | None) -> tuple[int, int]:
    """Width and height after rotation, in square pixels, scaled to `max_height_px`."""
    aspect = float(getattr(frame, "sample_aspect_ratio", None) or 1)
    width, height = frame.width * aspect, float(frame.height)
    if _turn(frame)[0]:
        width, height = height, width
    scale = min(1.0, max_height_px / height) if max_height_px else 1.0
    return max(1, round(width * scale)), max(1, round(height * scale))


def _turn(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, flip left-right, flip up-down) that make a frame upright.

    The display matrix maps stored (x, y) to shown (a x + c y, b x + d y), in 16.16 fixed point;
    anything but quarter turns and mirrors is rounded to the nearest of them.
    """
    from av.sidedata.sidedata import Type

    side_data: list[Any] = list(frame.side_data)  # Its stubs say str.
    matrix = [bytes(s) for s in side_data if s.type == Type.DISPLAYMATRIX]
    if not matrix:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix[0], np.int32)[:5].astype(float)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _upright(frame: av.VideoFrame, width: int, height: int) -> Frame:
    transpose, flip_x, flip_y = _turn(frame)
    stored = (height, width) if transpose else (width, height)
    image = frame.to_ndarray(format="rgb24", width=stored[0], height=stored[1])
    if transpose:
        image = image.swapaxes(0, 1)
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)


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
