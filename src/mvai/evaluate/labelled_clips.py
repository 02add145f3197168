"""Reconstructed clips with true joints, from the benchmark or from Human3.6M."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mvai.benchmark.clips import TRUTH, VIDEO, clips_in
from mvai.benchmark.reconstructions import BACKBONES
from mvai.body.anny import anny_body
from mvai.detect.mediapipe_holistic import MediapipeHolistic
from mvai.evaluate.h36m import FRAMES, clip_video
from mvai.evaluate.h36m import measures as h36m_measures
from mvai.evaluate.table1 import measures as benchmark_measures
from mvai.io.archive import Archive, read_archive, write_archive
from mvai.io.atomic import make_folder
from mvai.io.folders import files_matching
from mvai.io.h36m import POINTS as H36M_POINTS
from mvai.io.h36m import TESTING, TRAINING, H36mView, middle_clip, read_h36m
from mvai.io.video import open_video
from mvai.train.smoothing_clips import (
    JOINTS,
    SmoothingClip,
    read_clips,
    regressor_for,
    smoothing_clip,
)
from mvai.types import MeshSequence, MvaiError

PEOPLE = {"train": TRAINING[:-1], "validation": TRAINING[-1:], "test": TESTING}
"""The paper trains on S1, S6, S7 and S8; we choose weights on the last of them."""
H36M_RATE = 25.0
"""Frames a second, one reading of the paper's sampling frequency of 1/25."""


def is_benchmark(data: Path) -> bool:
    """Whether a folder is a benchmark, and not one of Human3.6M."""
    return bool(files_matching(data, f"*/*/{TRUTH}"))


@dataclass(frozen=True)
class LabelledSequence:
    """A reconstruction whose error can be told."""

    name: str
    raw: MeshSequence
    error_mm: Callable[[MeshSequence], float]
    """MPJPE of the middle frames of it, or of what a smoother makes of it."""
    pictures: Callable[[Sequence[int]], list[UInt8[np.ndarray, "h w 3"]]]
    """Frames of the video."""


def labelled_sequences(data: Path, backbone: str, work: Path) -> Iterator[LabelledSequence]:
    """The test clips as a backbone reconstructs them.

    Raises:
        MvaiError: as `labelled_clips`.
    """
    if is_benchmark(data):
        body, found = anny_body(), False
        for clip in clips_in(data, "test"):
            raw = clip.reconstruction(backbone)
            if raw is None:
                continue
            found, truth = True, clip.scene.sequence(body)
            yield LabelledSequence(
                clip.name, raw,
                lambda s, truth=truth: benchmark_measures(s, truth)["mpjpe_mm"],
                lambda frames, clip=clip: open_video(clip.folder / VIDEO).read(frames),
            )  # fmt: skip
        if not found:
            raise MvaiError(
                f"{data}: no test clip has been reconstructed by {backbone}; run `mvai benchmark "
                "reconstruct` first."
            )
        return
    for view in read_h36m(data, TESTING):
        sampled = middle_clip(view, H36M_RATE, FRAMES)
        if sampled is None:
            continue

        def pictures(
            frames: Sequence[int], sampled: H36mView = sampled
        ) -> list[UInt8[np.ndarray, "h w 3"]]:
            with tempfile.TemporaryDirectory() as folder:
                return clip_video(data, sampled, H36M_RATE, Path(folder)).read(frames)

        yield LabelledSequence(
            view.name,
            reconstructed(data, sampled, backbone, H36M_RATE, work),
            lambda s, v=sampled: h36m_measures(s, v.points, "pelvis")["mpjpe_mm"],
            pictures,
        )


def labelled_clips(
    data: Path, backbone: str, pool: str, work: Path, reach: int = 0, rate: float | None = None
) -> list[SmoothingClip]:
    """The clips of a pool ("train", "validation" or "test") as a backbone reconstructs them.

    Args:
        data: the benchmark's folder, or that of Human3.6M in one of its layouts.
        work: folder in which reconstructions of Human3.6M are kept.
        reach: see `regressor_for`.
        rate: frames a second to read Human3.6M at; `H36M_RATE` if none.

    Raises:
        MvaiError: there are no such clips, or they cannot be read.
    """
    if is_benchmark(data):
        return read_clips(data, backbone, pool, reach)
    body, rate = anny_body(), rate or H36M_RATE
    regressor = regressor_for(body, JOINTS, reach)
    columns = [H36M_POINTS.index(n) for n in JOINTS]
    clips = []
    for view in read_h36m(data, PEOPLE[pool]):
        frames = int(len(view.numbers) / view.fps * rate)
        sampled = middle_clip(view, rate, frames) if frames >= FRAMES else None
        if sampled is None:
            continue
        sequence = reconstructed(data, sampled, backbone, rate, work)
        clips.append(smoothing_clip(view.name, sequence, sampled.points[:, columns], regressor))
    if not clips:
        raise MvaiError(
            f"{data}: no video of {', '.join(PEOPLE[pool])} has {FRAMES} frames at {rate:g} frames "
            "a second; choose a higher rate."
        )
    return clips


def reconstructed(
    data: Path, view: H36mView, backbone: str, rate: float, work: Path
) -> MeshSequence:
    """A view by a backbone, made once.

    Raises:
        MvaiError: its pictures are missing, or nobody is seen in them.
    """
    make_folder(work)
    path = work / f"{view.name} {backbone} {rate:g}.npz".replace(" ", "_")
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            keypoints = MediapipeHolistic().detect(clip_video(data, view, rate, Path(folder)))
        write_archive(path, Archive(raw=BACKBONES[backbone]().reconstruct(keypoints)))
    raw = read_archive(path).raw
    assert raw is not None, f"{path} was written by this function"
    return raw


def pools(
    data: Path, backbone: str, work: Path, reach: int, rate: float | None
) -> Sequence[list[SmoothingClip]]:
    """Clips to train on, to choose weights on and to measure on."""
    return [labelled_clips(data, backbone, p, work, reach, rate)
            for p in ("train", "validation", "test")]  # fmt: skip
