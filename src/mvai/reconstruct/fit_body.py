"""From key-points to a levelled mesh sequence, in both settings of `mvai.reconstruct.smplify_x`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.nets.graphcmr import regressed_landmarks, shipped_graphcmr
from mvai.nets.landmark_correction import Lift, expected_landmarks
from mvai.nets.vposer import find_vposer, load_vposer
from mvai.reconstruct import Progress
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.reconstruct.fit_frames import fit_frames
from mvai.reconstruct.fit_hands import fit_hands
from mvai.reconstruct.fit_windows import fit_long_clip
from mvai.reconstruct.lengthen import lengthening
from mvai.reconstruct.levelled import levelled, surface
from mvai.reconstruct.pose_prior import DirectPose, LatentPose, prior_for
from mvai.types import Keypoints, MeshSequence

THREADS = 2
"""The matrices are small: more threads than this gain nothing."""


@contextlib.contextmanager
def few_threads() -> Iterator[None]:
    """Limits PyTorch to `THREADS`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit_paper(
    body: LinearBody, keypoints: Keypoints, vposer_folder: Path | None, report: Progress
) -> MeshSequence:
    """The paper's setting; VPoser in the folder, if there is one, is its prior."""
    vposer = find_vposer(vposer_folder)
    space = LatentPose(load_vposer(vposer)) if vposer else DirectPose(prior_for(body))
    fit = fit_frames(body, keypoints, space, report=_share(keypoints, report))
    with torch.no_grad():
        vertices = surface(body, fit.pose, report)
    report(keypoints.frames, keypoints.frames)
    return levelled(body, vertices, np.eye(4), keypoints, fit.focal_px, steady=False)


@torch.no_grad()
def fit_default(
    body: LinearBody, keypoints: Keypoints, lift: Lift, weights: ClipWeights, report: Progress
) -> MeshSequence:
    """The default setting, with 3D landmarks from `lift`."""
    fit = fit_long_clip(
        body, keypoints, prior_for(body), lift, weights, report=_share(keypoints, report)
    )
    pose = fit_hands(body, keypoints, fit.pose(), fit.focal_px)
    vertices = surface(body, pose, report)
    report(keypoints.frames, keypoints.frames)
    return levelled(body, vertices, fit.level(), keypoints, fit.focal_px, steady=True)


def landmark_source(start: Literal["landmarks", "graphcmr"]) -> Lift:
    """What gives the fit its 3D landmarks. Both are expectations, whose bones are too short."""
    if start == "landmarks":
        return lengthening(expected_landmarks())
    return lengthening(partial(regressed_landmarks, body=anny_body(), network=shipped_graphcmr()))


def _share(keypoints: Keypoints, report: Progress) -> Callable[[float], None]:
    """Fitting is four fifths of the work."""
    frames = keypoints.frames
    return lambda done: report(round(0.8 * done * frames), frames)
