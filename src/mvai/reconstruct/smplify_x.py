"""SMPLify-X (Pavlakos et al., CVPR 2019): fit a body model to key-points.

Two settings of one method. `paper` is the original's energy, frame by frame, from 2D key-points
alone with its five stages of annealing. `default` adds 3D landmarks, one shape for the clip and
the time axis, and fits all frames together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mvai.body import BodyName, body_model
from mvai.body.anny import anny_body
from mvai.nets.graphcmr import regressed_landmarks, shipped_graphcmr
from mvai.nets.landmark_correction import Lift, expected_landmarks
from mvai.nets.vposer import find_vposer, load_vposer
from mvai.reconstruct import Progress
from mvai.reconstruct.clip_energy import ClipWeights
from mvai.reconstruct.fit_frames import fit_frames
from mvai.reconstruct.fit_hands import fit_hands
from mvai.reconstruct.fit_windows import fit_long_clip
from mvai.reconstruct.lengthen import lengthening
from mvai.reconstruct.levelled import levelled, surface
from mvai.reconstruct.pose_prior import DirectPose, LatentPose, prior_for
from mvai.types import Keypoints, MeshSequence

THREADS = 2
"""The matrices are small: more threads than this gain nothing."""


@dataclass(frozen=True)
class SmplifyX:
    """Fit the body model to the key-points of every frame."""

    setting: Literal["default", "paper"] = "default"
    """default: 2D and 3D landmarks, one shape, all frames together. paper: the original's energy,
    2D only, frame by frame."""
    start: Literal["landmarks", "graphcmr"] = "landmarks"
    """Where the default setting has its 3D landmarks from: landmarks, the detector's, corrected;
    graphcmr, the body that GraphCMR regresses (regression, then fitting)."""
    weights: ClipWeights = field(default_factory=ClipWeights)
    """Terms of the default setting."""
    body_model: BodyName = "anny"
    """anny ships with mvai; smpl, smplh and smplx need the user's own files."""
    body_model_path: Path | None = None
    """Folder (or file) of those files; VPoser in it is the prior of the paper's setting."""

    def reconstruct(self, keypoints: Keypoints, progress: Progress | None = None) -> MeshSequence:
        """See `mvai.reconstruct.Reconstructor`."""
        report = progress or (lambda done, total: None)
        frames = keypoints.frames
        body = body_model(self.body_model, self.body_model_path)
        prior = prior_for(body)

        def share(done: float) -> None:
            report(round(0.8 * done * frames), frames)

        threads = torch.get_num_threads()
        torch.set_num_threads(min(threads, THREADS))
        try:
            if self.setting == "paper":
                vposer = None if self.body_model == "anny" else find_vposer(self.body_model_path)
                space = LatentPose(load_vposer(vposer)) if vposer else DirectPose(prior)
                fit = fit_frames(body, keypoints, space, report=share)
                pose = fit.pose
                T_level = np.eye(4)
            else:
                with torch.no_grad():
                    fit = fit_long_clip(
                        body,
                        keypoints,
                        prior,
                        landmark_source(self.start),
                        self.weights,
                        report=share,
                    )
                    pose = fit_hands(body, keypoints, fit.pose(), fit.focal_px)
                    T_level = fit.level()
            with torch.no_grad():
                vertices = surface(body, pose, report)
        finally:
            torch.set_num_threads(threads)
        report(frames, frames)
        return levelled(
            body, vertices, T_level, keypoints, fit.focal_px, steady=self.setting == "default"
        )


def landmark_source(start: Literal["landmarks", "graphcmr"]) -> Lift:
    """What gives the fit its 3D landmarks. Both are expectations, whose bones are too short."""
    if start == "landmarks":
        return lengthening(expected_landmarks())
    return lengthening(partial(regressed_landmarks, body=anny_body(), network=shipped_graphcmr()))
