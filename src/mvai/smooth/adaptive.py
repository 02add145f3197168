"""An adaptive filter: strength by limb and moment, clearly seen motion and contacts kept."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai.types import MeshSequence

SHIPPED = Path(str(files("mvai"))) / "weights" / "adaptive.safetensors"
SAMPLED = 48
"""Points by which a mesh that is not our body is looked at."""
TILE = 1024
"""Vertices filtered at a time."""
CHUNK = 32
"""Frames filtered at a time."""
WINDOW = 128
"""Frames that the network sees at a time, at its own rate; windows overlap by half."""
SURE = 0.5
"""Frames of less confidence than this are replaced in part by what is around them,"""
BRIDGED = 0.5
"""and the less so, the less of that is sure, from this share on."""
AROUND_S = 0.1
"""Around means a Gaussian of this standard deviation."""

Paths = Float[np.ndarray, "frames points 3"]


@dataclass(frozen=True)
class Adaptive:
    """Every limb gets its own filter over time at every moment; a network says which.

    A limb that is followed well keeps its swing, whatever the network says: it is not led away from
    where it was seen by more than it shakes. Rest, steady motion and the ends of a clip stay as
    they are under the filters; only the learned correction of the pose, where it is asked for,
    moves them. It turns with the body. On meshes that are not our own body it works by points
    sampled from them, with neither the correction nor contacts.
    """

    weights: Path | None = None
    """File of weights (.safetensors); those of mvai if none."""
    arms: float = 1.0
    """Strength on the arms, from 0 (leave them) to 1."""
    legs: float = 1.0
    """Strength on the legs."""
    trunk: float = 1.0
    """Strength on trunk and head."""
    correct: float = 0.0
    """Strength of the learned correction of the pose, 1 for all of it. Off: in the mean over the
    validation people it harms."""
    keep_contacts: bool = True
    """Feet that stand keep their place, hands that touch keep touching."""

    def smooth(self, sequence: MeshSequence) -> MeshSequence:
        """See `mvai.smooth.Smoother`.

        Raises:
            MvaiError: the weights are missing or do not match.
        """
        from mvai.nets.adaptive_filter import (
            POINTS,
            AdaptiveFilter,
            AdaptiveFilterSettings,
        )
        from mvai.nets.smoother_files import load_smoother
        from mvai.nets.windows import surface_weights
        from mvai.smooth.adaptive_contacts import contact_displacement
        from mvai.smooth.adaptive_handles import body_handles, sampled_handles
        from mvai.smooth.adaptive_limit import lasting_share

        network, working = load_smoother(
            self.weights or SHIPPED, "adaptive",
            lambda s: AdaptiveFilter(AdaptiveFilterSettings(**s)),
        )  # fmt: skip
        if sequence.frames < 3:
            return sequence
        fps, vertices = sequence.fps, sequence.vertices
        body = _body_of(sequence)
        index, handles = np.zeros(0, int), np.zeros((0, 0), np.float32)
        if body is not None:
            handles = body_handles(body, POINTS)
        else:
            index, handles = sampled_handles(vertices[0], SAMPLED)

        def points_of(surface: Float[np.ndarray, "frames verts 3"]) -> Paths:
            chosen = surface[:, index] if body is None else body.regress(POINTS, surface)
            return chosen.astype(np.float64)

        points = points_of(vertices)
        centre = np.einsum("v,fvd->fd", surface_weights(vertices[0], sequence.faces), vertices)
        view = np.zeros(3)
        if sequence.camera is not None:
            T = sequence.camera.T_camera_world
            towards = -T[:3, :3].T @ T[:3, 3] - centre.mean(0)
            view = towards / max(float(np.linalg.norm(towards)), 1e-6)
        sure = np.ones(sequence.frames) if sequence.confidence is None else sequence.confidence
        weights, correction = predicted(
            network, points - centre[:, None], sure, view, body is not None, fps, working.rate
        )
        strength = np.ones(points.shape[1])
        if body is not None:
            strength = np.array([self._strength(n) for n in POINTS])
        weights = weights * strength[:, None]
        weights[..., 0] += 1 - strength
        moved = correction * (strength[:, None] * self.correct)
        path = smoothed_centre(centre, view, fps)
        repair = confident_means(np.minimum(sure / SURE, 1.0), fps)
        result = filtered(vertices, centre, path, handles, weights, repair, fps)
        seen = points - centre[:, None]
        if repair is not None:
            seen = (repair @ seen.reshape(len(seen), -1)).reshape(seen.shape)
        share = lasting_share(seen, points_of(result) - path[:, None], fps)
        limit(result, vertices, centre, path, handles, share, repair, fps)
        led(result, handles, moved)
        if self.keep_contacts and body is not None:
            led(result, handles, contact_displacement(points, points_of(result), POINTS, fps))
        return sequence.with_vertices(result)

    def _strength(self, point: str) -> float:
        part = point.split("_", 1)[1] if "_" in point else point
        if part in ("elbow", "wrist", "index"):
            return self.arms
        return self.legs if part in ("knee", "ankle", "heel", "foot_index") else self.trunk


def _body_of(sequence: MeshSequence) -> Any:
    """Our body, if the sequence is in its topology."""
    if sequence.topology != "anny":
        return None
    from mvai.body.anny import anny_body

    body = anny_body()
    return body if len(body.template) == sequence.vertices.shape[1] else None


def smoothed_centre(
    centre: Float[np.ndarray, "frames 3"], view: Float[np.ndarray, " 3"], fps: float
) -> Float[np.ndarray, "frames 3"]:
    """The path of the body's centre through a Gaussian, with its own limit along the view.

    One camera sees depth much worse than the rest, and what shakes there must not cost a jump its
    height.

    Args:
        view: direction to the camera; zero where it is not known.
    """
    from mvai.nets.windows import PATH_SIGMA_S
    from mvai.smooth.adaptive_limit import calm, limited

    depth = (centre @ view)[:, None] * view
    parts = np.stack([depth, centre - depth], 1).astype(np.float64)
    return limited(parts, calm(parts, PATH_SIGMA_S * fps), fps).sum(1)


def led(
    surface: Float[np.ndarray, "frames verts 3"], handles: Float[np.ndarray, "verts points"],
    pull: Paths,
) -> None:  # fmt: skip
    """Displaces vertices in place with the points that they follow."""
    for vertices, row in zip(surface, pull.astype(np.float32), strict=True):
        vertices += handles @ row


def predicted(
    network: Any, points: Paths, sure: Float[np.ndarray, " frames"],
    view: Float[np.ndarray, " 3"], named: bool, fps: float, rate: float,
) -> tuple[Float[np.ndarray, "frames points filters"], Paths]:  # fmt: skip
    """What the network says about every frame: filter weights and the displacement of points.

    Args:
        points: relative to the body's centre, world axes, metres.
        named: whether they are the network's joints; others get no displacement.
    """
    import torch

    from mvai.nets.adaptive_filter import POINTS, filter_bank, mixed
    from mvai.nets.windows import Windows, Working, blended, resampling, same_rate

    frames, count = points.shape[:2]
    windows = Windows.of(Working(WINDOW, rate), fps)
    if frames < windows.length:
        # The clip is one window, so that its ends are its own.
        windows = Windows(frames, frames)
    samples = windows.length
    if not same_rate(rate, fps):
        samples = max(3, round((windows.length - 1) * rate / fps) + 1)
    down, _ = resampling(windows.length, samples)
    moments = np.linspace(0, windows.length - 1, samples)
    up = np.stack(
        [np.interp(np.arange(windows.length), moments, e) for e in np.eye(samples)], 1
    ).astype(np.float32)
    names = torch.arange(count) if named else torch.full((count,), len(POINTS))
    one = torch.ones(1)

    @torch.no_grad()
    def window(rows: Float[np.ndarray, "frames values"]) -> Float[np.ndarray, "frames values"]:
        x = torch.from_numpy(down @ rows.astype(np.float32))
        p, c = x[:, :-1].reshape(1, samples, count, 3), x[None, :, -1]
        bank = filter_bank(samples, rate)
        weights = network.filter_weights(p, bank, c, names, rate)
        move = torch.zeros_like(p)
        if named and network.settings.correction_width:
            move = network.correction(
                mixed(bank, p, weights), c, torch.tensor([[0.0, 1.0, 0.0]]),
                torch.from_numpy(view).float()[None] * one, rate,
            )  # fmt: skip
        return up @ torch.cat([weights, move], -1)[0].flatten(1).numpy()

    rows = np.concatenate([points.reshape(frames, -1), sure[:, None]], 1)
    out = np.stack(list(blended(iter(rows), window, windows))).reshape(frames, count, -1)
    return out[..., :-3], out[..., -3:]


def filtered(
    vertices: Float[np.ndarray, "frames verts 3"], centre: Float[np.ndarray, "frames 3"],
    path: Float[np.ndarray, "frames 3"], handles: Float[np.ndarray, "verts points"],
    weights: Float[np.ndarray, "frames points filters"],
    repair: Any, fps: float,
) -> Float[np.ndarray, "frames verts 3"]:  # fmt: skip
    """Every vertex through its own mixture of the bank's filters, on the path given.

    Args:
        centre: the surface's centroid.
        path: what it is to be.
        repair: what `confident_means` says.
    """
    import torch

    taps = bank_taps(len(vertices), fps)
    reach = taps.shape[1] // 2
    frames = len(vertices)
    result = np.empty_like(vertices)
    w = torch.from_numpy(weights.astype(np.float32))
    for begin in range(0, vertices.shape[1], TILE):
        span = slice(begin, begin + TILE)
        B = torch.from_numpy(handles[span])
        x = continued(relative(vertices[:, span], centre, repair).transpose(0, 2, 1), reach)
        for start in range(0, frames, CHUNK):
            count = min(CHUNK, frames - start)
            rows = toeplitz(taps, count)
            y = (rows @ x[start : start + count + 2 * reach].flatten(1)).unflatten(0, (-1, count))
            y = y.unflatten(2, x.shape[1:])
            at = slice(start, start + count)
            shares = torch.einsum("fpk,vp->kfv", w[at], B)
            smooth = (y * shares[:, :, None]).sum(0)
            result[at, span] = smooth.transpose(1, 2).numpy() + path[at, None]
    return result


def limit(
    result: Float[np.ndarray, "frames verts 3"], vertices: Float[np.ndarray, "frames verts 3"],
    centre: Float[np.ndarray, "frames 3"], path: Float[np.ndarray, "frames 3"],
    handles: Float[np.ndarray, "verts points"], share: Float[np.ndarray, "frames points"],
    repair: Any, fps: float,
) -> None:  # fmt: skip
    """Leads smoothed vertices back in place, as `mvai.smooth.adaptive_limit.limited` does points.

    Every vertex by its own displacement: leading it back with its joint would leave a fast limb
    thinner, since a filter draws in what turns about the joint.

    Args:
        share: which every point may keep of its lasting displacement.
    """
    import torch

    from mvai.smooth.adaptive_limit import LASTING_S, sharp_taps

    frames = len(vertices)
    taps = torch.from_numpy(sharp_taps(LASTING_S * fps).astype(np.float32))[None]
    taken = (1 - share).astype(np.float32)
    reach = min(taps.shape[1] // 2, frames - 1)
    taps = taps[:, taps.shape[1] // 2 - reach : taps.shape[1] // 2 + reach + 1]
    taps = taps / taps.sum()
    for begin in range(0, vertices.shape[1], TILE):
        span = slice(begin, begin + TILE)
        moved = result[:, span] - path[:, None] - relative(vertices[:, span], centre, repair)
        x = continued(moved, reach)
        for start in range(0, frames, CHUNK):
            count = min(CHUNK, frames - start)
            y = toeplitz(taps, count) @ x[start : start + count + 2 * reach].flatten(1)
            at = slice(start, start + count)
            back = y.unflatten(1, x.shape[1:]).numpy() * (taken[at] @ handles[span].T)[..., None]
            result[at, span] -= back


def relative(
    vertices: Float[np.ndarray, "frames verts 3"], centre: Float[np.ndarray, "frames 3"],
    repair: Any,
) -> Float[np.ndarray, "frames verts 3"]:  # fmt: skip
    """Vertices relative to the body's centre, frames that are not sure replaced."""
    x = vertices - centre[:, None]
    return x if repair is None else (repair @ x.reshape(len(x), -1)).reshape(x.shape)


def continued(x: np.ndarray, reach: int) -> Any:
    """Frames with `reach` more at either end, by point reflection, as a tensor."""
    import torch

    x = np.pad(x, ((reach, reach), (0, 0), (0, 0)), mode="reflect", reflect_type="odd")
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def bank_taps(frames: int, fps: float) -> Any:
    """Kernels of the network's filters over the frames around one, (filters, taps)."""
    import torch

    from mvai.nets.adaptive_filter import GAUSSIANS_S, SHARP_S

    def gaussian(sigma: float) -> np.ndarray:
        own = min(int(np.ceil(4 * sigma)), frames - 1)
        k = np.arange(-own, own + 1)
        kernel = np.exp(-0.5 * (k / max(sigma, 1e-6)) ** 2)
        return kernel / kernel.sum()

    kernels = [np.ones(1), *(gaussian(s * fps) for s in GAUSSIANS_S)]
    reach = max(len(gaussian(s * fps * 2**0.5)) for s in (*GAUSSIANS_S, *SHARP_S)) // 2

    def wide(kernel: np.ndarray) -> np.ndarray:
        return np.pad(kernel, reach - len(kernel) // 2)

    sharp = [2 * wide(gaussian(s * fps)) - wide(gaussian(s * fps * 2**0.5)) for s in SHARP_S]
    return torch.from_numpy(np.stack([*map(wide, kernels), *sharp]).astype(np.float32))


def toeplitz(taps: Any, count: int) -> Any:
    """The filters as one matrix from count + 2 * reach frames to count results each."""
    import torch

    filters, width = taps.shape
    rows = torch.zeros(filters, count, count + width - 1)
    for i in range(count):
        rows[:, i, i : i + width] = taps
    return rows.flatten(0, 1)


def confident_means(sure: Float[np.ndarray, " frames"], fps: float) -> Any:
    """Replaces short stretches of frames that are not sure by the sure ones around them.

    A sparse matrix over frames, since a long video has many; None if all frames are sure, or none.
    """
    if (sure >= 1).all() or (sure <= 0).all():
        return None
    from scipy.sparse import csr_array, diags_array

    reach = min(int(np.ceil(4 * AROUND_S * fps)), len(sure) - 1)
    offsets: Any = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / (AROUND_S * fps)) ** 2)
    near = diags_array(kernel, offsets=offsets, shape=(len(sure), len(sure)))
    known = csr_array(near @ diags_array(sure))
    total = known.sum(1)
    # A long stretch without anything sure is no gap to be bridged: what lies beyond is too far.
    bridge = (1 - sure) * np.minimum(1.0, total / near.sum(1) / BRIDGED)
    means = diags_array(bridge / np.maximum(total, 1e-9)) @ known + diags_array(1 - bridge)
    return csr_array(means).astype(np.float32)
