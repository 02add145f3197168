"""Long sequences through networks of a fixed window: overlapping windows, blended without seams.

Frames go in one after the other and come out in the same order, a fixed number of frames later, so
that a sequence and a stream are the same thing and memory does not grow with length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

SAME_RATE = 0.05
"""Rates that differ by less than this share are taken as equal (29.97 and 30)."""

PATH_SIGMA_S = 0.1
"""Standard deviation of the Gaussian over the path of the body's centre, in seconds."""

Window = Float[np.ndarray, "frames *shape"]
Paths = Float[Tensor, "frames 3 verts"]


@dataclass(frozen=True)
class Working:
    """The conditions under which a network was trained, and works."""

    frames: int
    """Frames of its window."""
    rate: float
    """Frames a second."""
    overlap: float = 0.5
    """Share of a window that the next one covers again."""


@dataclass(frozen=True)
class Windows:
    """How a sequence is cut: windows of `length` frames, one every `stride` frames."""

    length: int
    stride: int

    @classmethod
    def of(cls, working: Working, fps: float) -> Windows:
        """Windows of a sequence of `fps` frames a second that last as long as the network's."""
        length = working.frames
        if not same_rate(working.rate, fps):
            length = max(2, round(length * fps / working.rate))
        return cls(length, max(1, round(length * (1 - working.overlap))))

    def weights(self) -> Float[np.ndarray, " length"]:
        """How much each frame of a window counts: a triangle, so no window begins at once."""
        k = np.arange(self.length) + 0.5
        return np.minimum(k, self.length - k).astype(np.float32)


def same_rate(rate: float, fps: float) -> bool:
    """Whether two frame rates are taken as equal."""
    return abs(fps / rate - 1) < SAME_RATE


def blended(
    frames: Iterable[Window],
    smooth: Callable[[Window], Window],
    windows: Windows,
) -> Iterator[Window]:
    """Smoothed frames in their order.

    Windows begin at frame 0, `stride`, twice `stride` and so on; the last one ends with the last
    frame. A frame is given out once every window that covers it is done: at most `length` frames
    later. Away from the end the result therefore does not depend on what is still to come. Where
    there are fewer frames than a window has, the last one is repeated.

    Args:
        frames: arrays of one shape.
        smooth: takes a window of `length` frames to one of the same size.
    """
    length, stride = windows.length, windows.stride
    weights = windows.weights()
    raw: list[np.ndarray] = []
    sums: list[np.ndarray] = []
    totals: list[float] = []
    count = 0  # frames taken in
    begin = 0  # where the next window begins
    given = 0  # frames given out; sums[0] belongs to this frame
    oldest = 0  # raw[0] is this frame

    def add(start: int) -> None:
        window = np.stack(raw[start - oldest : start - oldest + length])
        result = smooth(window)
        for k in range(max(0, given - start), length):
            place = start + k - given
            if place == len(sums):
                sums.append(weights[k] * result[k])
                totals.append(float(weights[k]))
            else:
                sums[place] += weights[k] * result[k]
                totals[place] += float(weights[k])

    def give(number: int) -> Iterator[np.ndarray]:
        for total in totals[:number]:
            yield sums.pop(0) / np.float32(total)
        del totals[:number]

    for frame in frames:
        raw.append(frame)
        count += 1
        if count < begin + length:
            continue
        add(begin)
        begin += stride
        yield from give(begin - given)
        given = begin
        # The last window begins less than a stride before the next one would have.
        del raw[: max(0, begin - stride - oldest)]
        oldest = max(oldest, begin - stride)
    if 0 < count < length:
        raw.extend([raw[-1]] * (length - count))
        add(0)
    elif count > begin - stride + length:
        add(count - length)
    yield from give(count - given)


def resampling(
    length: int, samples: int
) -> tuple[Float[np.ndarray, "samples length"], Float[np.ndarray, "length samples"]]:
    """From the frames of a window to evenly spaced samples of it, and back.

    The first and the last frame are among them. Where there are fewer samples than frames, a sample
    is a mean over the frames around it (weights of a triangle), as that of a slower camera. The way
    back is a cubic spline. Both leave steady motion as it is.
    """
    from scipy.interpolate import CubicSpline

    frames, moments = np.arange(length), np.linspace(0, length - 1, samples)
    spacing = (length - 1) / (samples - 1)
    down = np.zeros((samples, length))
    for row, moment in zip(down, moments, strict=True):
        # Near the ends the triangle gets narrower, so that it stays symmetric.
        reach = max(1.0, min(spacing, moment + 1e-9, length - 1 - moment + 1e-9))
        weight = np.maximum(0.0, 1 - np.abs(frames - moment) / reach)
        near = np.flatnonzero(weight)
        if len(near) > 1:
            # The smallest change after which a constant and a line are reproduced.
            A = np.stack([np.ones(len(near)), frames[near] - moment])
            lack = np.array([1.0, 0.0]) - A @ weight[near]
            weight[near] += np.linalg.lstsq(A, lack, rcond=None)[0]
        row[:] = weight / weight.sum()
    if samples > 3:
        up = CubicSpline(moments, np.eye(samples), axis=0)(frames)
    else:
        up = np.stack([np.interp(frames, moments, e) for e in np.eye(samples)], 1)
    return down.astype(np.float32), up.astype(np.float32)


def surface_weights(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, " verts"]:
    """Weights of a mesh's vertices whose mean is the centroid of its surface.

    Unlike the mean of the vertices it does not depend on how finely a mesh is divided where, so two
    meshes of one body have the same centroid.
    """
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    weights = np.bincount(faces.ravel(), np.repeat(area, 3), minlength=len(vertices))
    if weights.sum() <= 0:
        weights = np.ones(len(vertices))
    return (weights / weights.sum()).astype(np.float32)


def gaussian_matrix(frames: int, sigma: float) -> Float[np.ndarray, "frames frames"]:
    """Gaussian smoothing of a window with `sigma` frames, as a matrix.

    Beyond its ends a path is continued by its point reflection, so the ends and steady motion stay.
    """
    at = np.arange(frames)
    matrix = np.zeros((frames, frames))
    reach = min(int(np.ceil(4 * sigma)), frames - 1)
    for k in range(-reach, reach + 1):
        weight = np.exp(-0.5 * (k / max(sigma, 1e-6)) ** 2)
        source = at + k
        before, after = source < 0, source >= frames
        inside = ~(before | after)
        matrix[at[inside], source[inside]] += weight
        # 2 x(end) - x(mirrored).
        matrix[at[before], 0] += 2 * weight
        matrix[at[before], -source[before]] -= weight
        matrix[at[after], frames - 1] += 2 * weight
        matrix[at[after], 2 * (frames - 1) - source[after]] -= weight
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def smoothed_paths(
    frames: Iterable[Float[np.ndarray, "verts 3"]],
    faces: Int[np.ndarray, "faces 3"],
    fps: float,
    working: Working,
    network: Callable[[Paths], Paths],
    sigma_s: float = 0.0,
) -> Iterator[Float[np.ndarray, "verts 3"]]:
    """Frames of a mesh, smoothed by a network that sees the paths of vertices through a window.

    It is given them relative to the surface's centroid of each frame, and at the rate at which it
    works, whatever that of the frames. So it does not matter where the person is and goes, and
    depth, which one camera sees badly, does not shake what the network sees. The centroid's own
    path gets a Gaussian.

    Args:
        sigma_s: standard deviation, in seconds, of a Gaussian over what the network gives; 0: none.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return
    weights = surface_weights(first, faces)
    windows = Windows.of(working, fps)
    down, up = (torch.from_numpy(m) for m in resampling(windows.length, working.frames))
    path_filter = gaussian_matrix(windows.length, PATH_SIGMA_S * fps)
    after = torch.from_numpy(gaussian_matrix(windows.length, sigma_s * fps))

    def smooth(window: Float[np.ndarray, "frames 3 verts"]) -> Float[np.ndarray, "frames 3 verts"]:
        centre = window @ weights
        x = torch.from_numpy(window - centre[:, :, None])
        if windows.length == working.frames:
            x = network(x)
        else:
            x = network((down @ x.flatten(1)).unflatten(1, x.shape[1:]))
            x = (up @ x.flatten(1)).unflatten(1, x.shape[1:])
        if sigma_s > 0:
            x = (after @ x.flatten(1)).unflatten(1, x.shape[1:])
        return x.numpy() + (path_filter @ centre)[:, :, None]

    paths = (np.ascontiguousarray(f.T, dtype=np.float32) for f in chain([first], frames))
    for path in blended(paths, smooth, windows):
        yield path.T
