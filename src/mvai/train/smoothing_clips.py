"""What smoothers learn from: reconstructed clips beside their truth, as far as losses see them.

Smoothers move every vertex by itself, and the losses look at joints, which are regressed from some
vertices. So a clip keeps the vertices that the regressor uses and no others. All positions are in
the camera's axes, where the errors of reconstruction have their directions: depth is the worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mvai.benchmark.clips import clips_in
from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.nets.windows import surface_weights
from mvai.types import MeshSequence, MvaiError

LIMB_JOINTS = tuple(
    f"{side}_{part}"
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
JOINTS = (*LIMB_JOINTS, "neck", "head_top")
"""The 14 joints in which GraphCMR's evaluation measures Human3.6M, in an order of our own."""
HIPS = JOINTS.index("left_hip"), JOINTS.index("right_hip")
"""The root is the middle of the hips."""
EXTREMITIES = (
    "nose", "left_heel", "right_heel", "left_foot_index", "right_foot_index", "left_index",
    "right_index",
)  # fmt: skip
"""Points that are trained on as well, so that head, feet and hands are right, not only the joints
they hang on."""
POINTS = (*JOINTS, *EXTREMITIES)
VERTICES_PER_JOINT = 6
"""What `thinned` leaves of the regressor's 60 for most joints."""
EXAMPLES = 400
"""Frames on which it fits their weights."""


@dataclass(frozen=True)
class SmoothingClip:
    """A reconstructed clip and the truth, in camera axes (x right, y down, z forward), metres."""

    name: str
    vertices: Float[np.ndarray, "frames verts 3"]
    """The reconstructed vertices that the regressor uses, float32."""
    centre: Float[np.ndarray, "frames 3"]
    """Centroid of the whole reconstructed surface."""
    regressor: Float[np.ndarray, "joints verts"]
    """Rows sum to 1."""
    indices: Int[np.ndarray, " verts"]
    """Which vertices of the topology these are."""
    truth: Float[np.ndarray, "frames joints 3"]
    """The true joints."""
    fps: float
    up: Float[np.ndarray, " 3"]
    """The world's +Y axis as the reconstruction has it."""
    confidence: Float[np.ndarray, " frames"]
    """0 (invented) to 1 (well observed)."""

    @property
    def frames(self) -> int:
        return len(self.vertices)

    def joints(self) -> Float[np.ndarray, "frames joints 3"]:
        """The reconstructed joints."""
        return np.einsum("jv,fvd->fjd", self.regressor, self.vertices)

    def at_rate(self, rate: float | None) -> SmoothingClip:
        """Every so many-th frame, for about `rate` frames a second; None keeps all."""
        step = 1 if rate is None else max(1, round(self.fps / rate))
        return replace(
            self, vertices=self.vertices[::step], centre=self.centre[::step],
            truth=self.truth[::step], confidence=self.confidence[::step], fps=self.fps / step,
        )  # fmt: skip


def regressor_for(
    body: LinearBody, names: Sequence[str] = POINTS, reach: int = 0
) -> tuple[Float[np.ndarray, "joints verts"], Int[np.ndarray, " verts"]]:
    """The body's regressor over the vertices that it uses, and which they are.

    Args:
        reach: also take this many neighbours in vertex order on either side, as a network does
            whose kernel is not 1 along the vertices.
    """
    A = body.regressor[[body.regressed.index(n) for n in names]]
    used = np.unique(A.indices)
    if reach:
        near = used[:, None] + np.arange(-reach, reach + 1)
        used = np.unique(near[(near >= 0) & (near < A.shape[1])])
    return A[:, used].toarray().astype(np.float32), used


def with_joints(clip: SmoothingClip, joints: Sequence[int], reach: int = 0) -> SmoothingClip:
    """The clip with only some of its joints and the vertices they need.

    Args:
        reach: keep this many neighbours in vertex order on either side, as `regressor_for` does.
    """
    regressor = clip.regressor[list(joints)]
    used = _near(clip.indices, clip.indices[regressor.any(0)], reach)
    return replace(
        clip, vertices=clip.vertices[:, used], regressor=regressor[:, used],
        indices=clip.indices[used], truth=clip.truth[:, list(joints)],
    )  # fmt: skip


def _near(
    indices: Int[np.ndarray, " verts"], needed: Int[np.ndarray, " needed"], reach: int
) -> Int[np.ndarray, " near"]:
    """Which of the vertices are no farther in vertex order than `reach` from one of some."""
    return np.flatnonzero((np.abs(indices[:, None] - needed) <= reach).any(1))


def smoothing_clip(
    name: str,
    sequence: MeshSequence,
    truth: Float[np.ndarray, "frames joints 3"],
    regressor: tuple[Float[np.ndarray, "joints verts"], Int[np.ndarray, " verts"]],
) -> SmoothingClip:
    """A clip from a reconstruction with its camera and the true joints in camera axes.

    Raises:
        MvaiError: the reconstruction has no camera, or the truth has another number of frames.
    """
    if sequence.camera is None:
        raise MvaiError(f"{name}: this reconstruction has no camera, so it has no camera axes.")
    if len(truth) != sequence.frames:
        raise MvaiError(
            f"{name}: the truth has {len(truth)} frames and the reconstruction {sequence.frames}; "
            "reconstruct it again."
        )
    A, indices = regressor
    R, t = sequence.camera.T_camera_world[:3, :3], sequence.camera.T_camera_world[:3, 3]
    weights = surface_weights(sequence.vertices[0], sequence.faces)
    centre = np.einsum("v,fvd->fd", weights, sequence.vertices)
    confidence = sequence.confidence
    return SmoothingClip(
        name,
        (sequence.vertices[:, indices] @ R.T + t).astype(np.float32),
        (centre @ R.T + t).astype(np.float32),
        A,
        indices,
        truth.astype(np.float32),
        sequence.fps,
        R[:, 1].astype(np.float32),
        np.ones(sequence.frames, np.float32) if confidence is None else confidence,
    )


def read_clips(
    benchmark: Path, backbone: str, pool: str, reach: int = 0, limit: int | None = None
) -> list[SmoothingClip]:
    """The clips of a benchmark's pool that a backbone has reconstructed.

    Raises:
        MvaiError: there are none.
    """
    body = anny_body()
    regressor = regressor_for(body, POINTS, reach)
    clips = []
    for clip in clips_in(benchmark, pool):
        sequence = clip.reconstruction(backbone)
        if sequence is None:
            continue
        camera = clip.scene.camera.T_camera_world
        points = body.regress(POINTS, clip.scene.vertices(body))
        truth = points @ camera[:3, :3].T + camera[:3, 3]
        clips.append(smoothing_clip(clip.name, sequence, truth, regressor))
        if limit is not None and len(clips) == limit:
            break
    if not clips:
        raise MvaiError(
            f"{benchmark}: no {pool} clip has been reconstructed by {backbone}; run "
            "`mvai benchmark reconstruct` first."
        )
    return clips


def thinned(clips: Sequence[SmoothingClip], reach: int = 0) -> list[SmoothingClip]:
    """The same clips with a regressor of few vertices, which makes training as much faster.

    For each joint the vertices that matter least are dropped and the others are fitted again to the
    full regressor's joints (least squares, a little ridge, weights that sum to 1), until
    `VERTICES_PER_JOINT` are left; this moves joints by half a millimetre. To train on: to measure,
    take the full regressor.

    Args:
        clips: all of one regressor.
        reach: keep this many neighbours in vertex order on either side, as `regressor_for` does.
    """
    step = max(1, sum(c.frames for c in clips) // EXAMPLES)
    examples = np.concatenate([c.vertices - c.centre[:, None] for c in clips])[::step]
    examples = examples.astype(np.float64)
    full, indices = clips[0].regressor, clips[0].indices
    thin = np.zeros_like(full)
    for row, out in zip(full, thin, strict=True):
        kept = np.flatnonzero(row)
        target = np.einsum("v,nvd->nd", row, examples)
        weights = row[kept]
        while len(kept) > VERTICES_PER_JOINT:
            # A quarter at a time while there are many.
            drop = max(1, min(len(kept) // 4, len(kept) - VERTICES_PER_JOINT))
            kept = kept[np.sort(np.argsort(np.abs(weights))[drop:])]
            weights = _fitted(examples[:, kept], target)
        out[kept] = weights
    needed = indices[thin.any(0)]
    used = _near(indices, needed, reach)
    return [
        replace(c, vertices=c.vertices[:, used], regressor=thin[:, used], indices=indices[used])
        for c in clips
    ]


def _fitted(
    vertices: Float[np.ndarray, "n kept 3"], target: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, " kept"]:
    """Weights that sum to 1 and take vertices to the target as well as they can."""
    kept = vertices.shape[1]
    relative = (vertices - target[:, None]).transpose(0, 2, 1).reshape(-1, kept)
    # The joint is then at 0, and the ridge keeps the weights alike where the examples do not say.
    gram = relative.T @ relative
    gram[np.diag_indices(kept)] += 1e-3 * np.trace(gram) / kept + 1e-9
    weights = np.linalg.solve(gram, np.ones(kept))
    return (weights / weights.sum()).astype(np.float32)
