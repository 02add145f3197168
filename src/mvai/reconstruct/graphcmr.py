"""GraphCMR (Kolotouros et al., CVPR 2019): one forward pass a frame instead of an optimisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.nets.graphcmr import CROP_AXES, GraphCmr, regress, shipped_graphcmr
from mvai.nets.landmark_correction import Lift, expected_landmarks
from mvai.reconstruct import Progress
from mvai.reconstruct.bones_on_landmarks import bones_on_landmarks
from mvai.reconstruct.fit_hands import fit_hands
from mvai.reconstruct.initial import (
    default_focal_px,
    nearest_seen,
    solve_translation,
    viewing_rotation,
)
from mvai.reconstruct.levelled import levelled, surface, to_level
from mvai.reconstruct.variables import Pose
from mvai.types import Keypoints, MeshSequence
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

LENGTHENED = 1.03
"""Regressed shapes are expectations and too small: bodies had 0.975 of the stature of 123
validation people of the benchmark (`mvai evaluate fit --methods graphcmr-parameters`)."""


@dataclass(frozen=True)
class GraphCmrRegression:
    """Regress the body from the key-points of every frame and those around it, then turn its bones
    onto the landmarks of the landmark correction."""

    hands: bool = False
    """Fit the fingers to the hands' key-points afterwards, at half the speed."""

    def reconstruct(self, keypoints: Keypoints, progress: Progress | None = None) -> MeshSequence:
        """See `mvai.reconstruct.Reconstructor`."""
        report = progress or (lambda done, total: None)
        body = anny_body()
        focal_px = default_focal_px(keypoints.width, keypoints.height)
        with torch.no_grad():
            pose = regressed_pose(
                body, shipped_graphcmr(), expected_landmarks(), keypoints, focal_px
            )
            T_level = to_level(body, keypoints, pose, focal_px)
            if self.hands:
                pose = fit_hands(body, keypoints, pose, focal_px)
            vertices = surface(body, pose, report)
        report(keypoints.frames, keypoints.frames)
        return levelled(body, vertices, T_level, keypoints, focal_px)


def regressed_pose(
    body: LinearBody, network: GraphCmr, lift: Lift, keypoints: Keypoints, focal_px: float
) -> Pose:
    """The body in camera-aligned world axes; one shape for the clip, fingers at rest.

    Trunk and limbs are turned onto the landmarks that `lift` gives; shape, twists, head, hands and
    collar bones are the network's.
    The translation is the one under which the regressed key-points fall on the seen ones.
    """
    frames = keypoints.frames
    said, _ = regress(network, keypoints)
    landmarks, _ = lift(keypoints)
    seen = torch.from_numpy(keypoints.seen())
    shape = (said.shape[seen] if bool(seen.any()) else said.shape).median(0).values[None]
    shape = lengthened(body, shape, LENGTHENED)
    local = bones_on_landmarks(
        body, shape, said.rotations.numpy().astype(float), landmarks * np.array(CROP_AXES)
    )
    crop_to_world = viewing_rotation(keypoints, focal_px) * np.array([[1.0], [-1.0], [-1.0]])
    local[:, 0] = crop_to_world * np.array(CROP_AXES) @ local[:, 0]
    rotations = torch.eye(3).repeat(frames, len(body.joints), 1, 1)
    rotations[:, [body.joint(n) for n in BODY_JOINTS]] = torch.from_numpy(local).float()

    names = tuple(n for n in BODY_KEYPOINTS if n in keypoints.names)
    columns = [keypoints.index(n) for n in names]
    _, points = body.joints_and_keypoints(names, shape, rotations, torch.zeros(frames, 3))
    xy = keypoints.xy_px[:, columns]
    confidence = np.where(np.isfinite(xy).all(-1), keypoints.confidence[:, columns], 0.0)
    centre = np.array([keypoints.width / 2, keypoints.height / 2])
    t = solve_translation(points.numpy().astype(float), xy, confidence, focal_px, centre)
    t = nearest_seen(t, (confidence > 0.3).sum(1) >= 3)
    zero = torch.zeros(frames, 21, 3)
    return Pose(shape, rotations, torch.from_numpy(t).float(), zero, torch.zeros(frames, 30, 3))


def lengthened(
    body: LinearBody, shape: Float[torch.Tensor, "1 shape"], factor: float
) -> Float[torch.Tensor, "1 shape"]:
    """The nearest shape whose joints at rest are `factor` times as far apart, as nearly as
    the body can (least squares)."""
    joints = body.rest_joints(shape)[0]
    wanted = (factor - 1) * (joints - joints[body.joint("Hips")])
    directions = body.joint_directions - body.joint_directions[:, [body.joint("Hips")]]
    change = torch.linalg.lstsq(directions.flatten(1).T, wanted.flatten()[:, None]).solution
    return shape + change.T
