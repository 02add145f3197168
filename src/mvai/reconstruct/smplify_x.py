"""SMPLify-X (Pavlakos et al., CVPR 2019): fit a body model to key-points.

Two settings of one method. `paper` is the original's energy, frame by frame, from 2D key-points
alone with its five stages of annealing. `default` adds 3D landmarks, one shape for the clip and
the time axis, and fits all frames together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mvai.body import BodyName
from mvai.reconstruct import Progress
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.types import Keypoints, MeshSequence


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
        from mvai.body import body_model
        from mvai.reconstruct import fit_body

        report = progress or (lambda done, total: None)
        body = body_model(self.body_model, self.body_model_path)
        with fit_body.few_threads():
            if self.setting == "paper":
                folder = None if self.body_model == "anny" else self.body_model_path
                return fit_body.fit_paper(body, keypoints, folder, report)
            lift = fit_body.landmark_source(self.start)
            return fit_body.fit_default(body, keypoints, lift, self.weights, report)
