"""Fit the body to points in space: markers, or the joints that another program found.

The energy is the clip energy of SMPLify-X's default setting with the pixels left out: positions
instead of landmarks relative to the hips, the pose prior, steady joints and one shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.nets.pose_prior import GaussianMixture
from mvai.reconstruct.clip_energy import ClipEnergy, Observation
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.reconstruct.collision import spheres_of
from mvai.reconstruct.energy import hinge_axes
from mvai.reconstruct.fit_clip import ClipFit, levenberg_marquardt, unwrapped
from mvai.reconstruct.fit_windows import joined, windows
from mvai.reconstruct.initial import nearest_seen, torso_orientation
from mvai.reconstruct.kinematics import Kinematics
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS

WEIGHTS = ClipWeights(shape=1.0, acceleration=60.0, pose=0.3)
"""Markers are measured, so they decide over the shape, the prior and smoothness."""
SHAPE = 10
SHAPE_FRAMES = 120
OUTLIER = 4.0
"""A point farther off than this multiple of its deviation is taken to be wrong."""
LEAST = 1e-3
"""Steps that gain less than this share of the energy are the last."""


def fit_points(
    body: LinearBody,
    names: tuple[str, ...],
    xyz_m: Float[np.ndarray, "frames points 3"],
    sigma_m: Float[np.ndarray, " points"],
    fps: float,
    prior: GaussianMixture,
    report: Callable[[float], None] = lambda share: None,
) -> ClipFit:
    """Fit shape and pose to points of a clip.

    Args:
        body: what is fitted.
        names: key-points of the body; shoulders and hips must be among them.
        xyz_m: world positions; NaN where unseen.
        sigma_m: standard deviation of each point.
        fps: frames a second.
        prior: of poses, in the body's own rest frames.
        report: called with the share of the work done.

    Raises:
        MvaiError: the shoulders and hips are never all seen.
    """
    known = [i for i, n in enumerate(names) if n in body.regressed]
    names, xyz_m, sigma_m = tuple(names[i] for i in known), xyz_m[:, known], sigma_m[known]
    torso = [names.index(f"{s}_{p}") for p in ("shoulder", "hip") for s in ("left", "right")]
    seen = np.isfinite(xyz_m[:, torso]).all((1, 2))
    if not seen.any():
        raise MvaiError("The shoulders and hips are never seen together; check the markers.")
    R0 = nearest_seen(torso_orientation(body, names, xyz_m), seen)
    rest = body.regress(("left_hip", "right_hip"), body.template.numpy()[None])[0].mean(0)
    hips = nearest_seen(np.nan_to_num(xyz_m[:, torso[2:]].mean(1)), seen)
    start = torch.zeros(len(xyz_m), 69)
    start[:, :3] = torch.from_numpy(unwrapped(Rotation.from_matrix(R0).as_rotvec())).float()
    start[:, 3:6] = torch.from_numpy(hips - np.einsum("fab,b->fa", R0, rest)).float()

    kinematics = Kinematics(body, names, SHAPE)

    def fit(span: slice, shape: Tensor | None, part: Callable[[float], None]) -> ClipFit:
        return _fit_window(
            kinematics,
            xyz_m[span],
            sigma_m,
            fps / (span.step or 1),
            prior,
            start[span],
            shape,
            part,
        )

    spans = windows(len(xyz_m))
    shape = None
    if len(spans) > 1:
        step = int(np.ceil(len(xyz_m) / SHAPE_FRAMES))
        shape = fit(slice(None, None, step), None, lambda share: None).shape
    whole: ClipFit | None = None
    for k, span in enumerate(spans):
        done = fit(span, shape, lambda share, k=k: report((k + share) / len(spans)))
        whole = done if whole is None else joined(whole, done, span.start)
    assert whole is not None
    return whole


def _fit_window(
    kinematics: Kinematics,
    xyz_m: Float[np.ndarray, "frames points 3"],
    sigma_m: Float[np.ndarray, " points"],
    fps: float,
    prior: GaussianMixture,
    start: Float[Tensor, "frames 69"],
    shape: Float[Tensor, " shape"] | None,
    report: Callable[[float], None],
) -> ClipFit:
    body = kinematics.body
    frames, points = xyz_m.shape[:2]
    seen = np.isfinite(xyz_m).all(-1)
    inverse = np.where(seen[..., None], 1 / sigma_m[:, None], 0.0).repeat(3, -1)
    joints, axes, bends = hinge_axes(body)
    weights = replace(WEIGHTS, landmark_rho=OUTLIER)
    if shape is not None:
        weights = replace(weights, shape=0.01)
    energy = ClipEnergy(
        observation=Observation(
            xy_px=torch.zeros(frames, points, 2),
            confidence=torch.zeros(frames, points),
            xyz_m=torch.from_numpy(np.nan_to_num(xyz_m)).float(),
            landmark_inverse_m=torch.from_numpy(inverse).float(),
            pixel_m=torch.zeros(frames),
            planted=torch.zeros(max(frames - 1, 0), points, dtype=torch.bool),
            unseen=torch.zeros(frames, 21),
            focal_px=1.0,
            centre_px=torch.zeros(2),
            fps=fps,
        ),
        weights=weights,
        prior=prior,
        spheres=spheres_of(body),
        joints=len(BODY_JOINTS),
        hips=None,
        hinges=[BODY_JOINTS.index(body.joints[j]) - 1 for j in joints],
        hinge_axes=axes,
        hinge_bends=bends,
        shape_mean=torch.zeros(SHAPE) if shape is None else shape,
    )
    # Wide robust terms first, so that limbs far from the start still feel a pull.
    wide = replace(weights, landmark_rho=100 * OUTLIER)
    u, at = start, energy.shape_mean.clone()
    u, at, _ = levenberg_marquardt(
        replace(energy, weights=wide), kinematics, u, at, 12, LEAST, lambda k: report(k / 30)
    )
    u, at, value = levenberg_marquardt(
        energy, kinematics, u, at, 18, LEAST, lambda k: report((12 + k) / 30)
    )
    return ClipFit(kinematics, u, at, 1.0, value, energy.observation.planted.numpy())
