"""Decoding of video files with FFmpeg: frames upright, with square pixels, at a constant rate."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from mvai.types import MvaiError

if TYPE_CHECKING:
    import av
    import av.container
    import av.video
    from av.video.reformatter import VideoReformatter

log = logging.getLogger(__name__)

Frame = UInt8[np.ndarray, "height width 3"]

NOT_VIDEO = {"tty", "concat", "hls", "ass", "srt", "webvtt", "lrc", "ffmetadata"}
"""FFmpeg formats that are refused: text drawn as pictures, and lists that name other files."""

MAX_STRETCH = 10
"""Time stamps that would turn every frame into more than this many are held to be broken."""


@dataclass(frozen=True)
class Timing:
    """How time stamps become a constant rate."""

    fps: float
    frames: int
    constant: bool
    """True when the frames are evenly spaced already and pass through one for one."""
    times_s: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    """When every frame of the file is shown, sorted; empty where that cannot be relied on."""
    keys_s: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    """When those are shown that decoding can begin with, sorted."""


@contextlib.contextmanager
def opened(
    path: Path,
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """Opens `path` and its first video stream.

    Raises:
        MvaiError: it may not be read, or is no video.
    """
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


def packet_times(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Presentation times (seconds, sorted) of all frames, read without decoding.

    Returns:
        The times, NaN for packets without one, those of key frames, and whether reading broke off.
    """
    import av.error

    times: list[float] = []
    keys: list[float] = []
    damaged = False
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                pts, unit = packet.pts, packet.time_base
                times.append(np.nan if pts is None or unit is None else float(pts * unit))
                if packet.is_keyframe:
                    keys.append(times[-1])
    except av.error.FFmpegError:
        damaged = True
    return np.sort(np.array(times)), np.sort(np.array(keys)), damaged


def in_order(times_s: np.ndarray) -> bool:
    """Whether every frame has a time of its own."""
    return len(times_s) > 1 and bool((np.diff(times_s) > 0).all())


def timing_of(times_s: np.ndarray, fallback_fps: float, path: Path) -> Timing:
    """The constant rate for frames shown at `times_s`.

    Evenly spaced frames, up to half an interval of jitter, pass through at their mean rate.
    Others are resampled at the median rate, that is, the rate the camera held most of the time.
    """
    n = len(times_s)
    fallback = Timing(fallback_fps, max(n, 1), constant=True)
    if n < 2 or np.isnan(times_s).any() or times_s[-1] <= times_s[0]:
        return fallback
    mean_s = (times_s[-1] - times_s[0]) / (n - 1)
    grid = times_s[0] + mean_s * np.arange(n)
    if np.abs(times_s - grid).max() < mean_s / 2:
        fps = 1 / mean_s
        # Containers round times to milliseconds; the declared rate is the truer one.
        return Timing(fallback_fps if abs(fps / fallback_fps - 1) < 5e-3 else fps, n, True)
    steps = np.diff(times_s)
    fps = float(1 / np.median(steps[steps > 0]))
    count = int((times_s[-1] - times_s[0]) * fps + 0.5) + 1
    if count > MAX_STRETCH * n + 100:
        log.warning("%s: the time stamps are broken; frames are taken as evenly spaced.", path)
        return Timing(fps, n, constant=True)
    return Timing(fps, count, constant=False)


def decoded_frames(
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


def iterate_file(
    path: Path, timing: Timing, width: int, height: int, start: int, step: int
) -> Iterator[Frame]:
    """Every `step`-th frame from `start` on at `timing`'s rate, upright, in the size given.

    Frames that cannot be decoded are left out; how many is said in the end.
    """
    from av.video.reformatter import VideoReformatter

    errors: list[Exception] = []
    done = 0
    # One for all frames: a frame's own is built anew for each.
    reformatter = VideoReformatter()
    with contextlib.ExitStack() as files:
        found = from_key_frame(*files.enter_context(opened(path)), timing, start, errors)
        skipped, picked = found or (
            0, decoded_frames(*files.enter_context(opened(path)), errors),
        )  # fmt: skip
        if timing.constant:
            done = skipped
        else:
            origin = float(timing.times_s[0]) if len(timing.times_s) else None
            picked = _resample(picked, timing.fps, origin)
        last: av.VideoFrame | None = None
        image = np.empty(0, np.uint8)
        for frame in picked:
            done += 1
            if done <= start or (done - 1 - start) % step:
                continue
            if frame is not last:
                image, last = _upright(frame, width, height, reformatter), frame
            yield image
    if errors:
        log.warning("%s: the file is damaged; %d of %d frames could be decoded.",
                    path, done, timing.frames)  # fmt: skip


def from_key_frame(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    timing: Timing,
    start: int,
    errors: list[Exception],
) -> tuple[int, Iterator[av.VideoFrame]] | None:
    """The file's frames from the key frame on that comes last before a frame at `timing`'s rate.

    Args:
        start: which frame is wanted first.
        errors: takes those of decoding; empty so far.

    Returns:
        How many frames of the file were skipped, and the others. None where seeking does not end
        at that key frame; the file must be opened anew to be decoded from its beginning then.
    """
    import av.error

    times = timing.times_s
    decoded = decoded_frames(container, stream, errors)
    if start <= 0 or not len(times):
        return 0, decoded
    wanted = times[0] + start / timing.fps
    if timing.constant:
        wanted = times[min(start, len(times) - 1)]
    keys = timing.keys_s[timing.keys_s <= wanted]
    if not len(keys) or keys[-1] <= times[0] or stream.time_base is None:
        return 0, decoded
    try:
        container.seek(round(keys[-1] / float(stream.time_base)), stream=stream)
    except av.error.FFmpegError:
        return None
    first = next(decoded, None)
    if first is not None and first.time is not None:
        index = int(np.abs(times - first.time).argmin())
        if abs(first.time - keys[-1]) < np.diff(times).min() / 2:
            return index, chain([first], decoded)
    errors.clear()
    return None


def _resample(
    frames: Iterator[av.VideoFrame], fps: float, start: float | None
) -> Iterator[av.VideoFrame]:
    """For every tick of a clock at `fps`, the frame nearest in time.

    Args:
        frames: in order; the first stands for all ticks before it.
        start: when the clock ticks first, seconds; None for when the first frame is shown.
    """
    previous: tuple[float, av.VideoFrame] | None = None
    tick = 0
    for frame in frames:
        if frame.time is None:
            continue
        if start is None:
            start = frame.time
        if previous is not None:
            middle = (previous[0] + frame.time) / 2 - start
            while tick / fps < middle:
                yield previous[1]
                tick += 1
        previous = frame.time, frame
    if previous is not None and start is not None:
        while tick / fps <= previous[0] - start + 0.5 / fps - 1e-9:
            yield previous[1]
            tick += 1


def shown_size(frame: av.VideoFrame, max_height_px: int | None) -> tuple[int, int]:
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


def _upright(frame: av.VideoFrame, width: int, height: int, reformatter: VideoReformatter) -> Frame:
    transpose, flip_x, flip_y = _turn(frame)
    stored = (height, width) if transpose else (width, height)
    image = reformatter.reformat(frame, *stored, format="rgb24").to_ndarray()
    if transpose:
        image = image.swapaxes(0, 1)
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)
