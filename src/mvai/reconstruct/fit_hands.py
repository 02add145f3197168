"""Fingers: fitted to the hand key-points once the arms are known.

The hands of a whole-body video are small and often unseen, so they must not pull at the arms;
each frame's fingers are fitted relative to the wrist, and frames without a seen hand take what
their neighbours show.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.lbfgs import minimise
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.reconstruct.energy import gmof, project
from mvai.reconstruct.variables import Pose, finger_joints
from mvai.types import Keypoints
from mvai.types.names import FINGERS, HAND_POINTS, SIDES

PIXEL_M = 0.006
"""Standard deviation of a hand key-point, as metres at the person's depth."""
RHO_M = 0.03
FLEXION_RAD, THUMB_RAD, SIDEWAYS_RAD = 0.7, 0.35, 0.12
"""Standard deviations of a finger's curl, of the thumb's, and of all other turns."""
SMOOTH_S = 0.06
"""Fingers are averaged over this time, weighted by how well the hand was seen."""
FORGET_S = 0.5
"""How long a hand that is no longer seen keeps its last pose."""


def fit_hands(
    body: LinearBody, keypoints: Keypoints, pose: Pose, focal_px: float, iterations: int = 12
) -> Pose:
    """The pose with its fingers fitted; unchanged where no hand was ever seen."""
    names = tuple(
        f"{side}_hand_{p}"
        for side in ("left", "right")
        for p in HAND_POINTS
        if f"{side}_hand_{p}" in keypoints.names and f"{side}_hand_{p}" in body.regressed
    )
    sides = [n.split("_")[0] for n in names]
    if "left" not in sides or "right" not in sides:
        return pose
    columns = [keypoints.index(n) for n in names]
    xy = keypoints.xy_px[:, columns]
    seen = np.isfinite(xy).all(-1) * keypoints.confidence[:, columns] > 0.3
    if not seen.any():
        return pose
    left = np.array([s == "left" for s in sides])
    wrists = [names.index("left_hand_wrist"), names.index("right_hand_wrist")]
    root = [wrists[0] if flag else wrists[1] for flag in left]
    relative = torch.from_numpy(np.nan_to_num(xy - xy[:, root])).float()
    weight = torch.from_numpy((seen & seen[:, root]).astype(np.float32))
    with torch.no_grad():
        _, points = body.joints_and_keypoints(names, pose.shape, pose.rotations, pose.translation)
        pixel_m = (-points[:, wrists, 2] / focal_px)[:, [0 if flag else 1 for flag in left]]
    centre = torch.zeros(2)
    fingers = [body.joint(j) for j in finger_joints(body)]
    inverse = _stiffness(body)

    def energy(x: Tensor) -> Tensor:
        hands = x.unflatten(1, (30, 3))
        R = pose.rotations.clone()
        R[:, fingers] = matrix_from_axis_angle(hands)
        _, p = body.joints_and_keypoints(names, pose.shape, R, pose.translation)
        px = project(p, focal_px, centre)
        squared = (((px - px[:, root] - relative) * pixel_m[..., None]) ** 2).sum(-1)
        data = (weight * gmof(squared, RHO_M)).sum(1) / (2 * PIXEL_M**2)
        turned = (inverse @ hands[..., None])[..., 0]
        return data + 0.5 * (turned**2).sum((1, 2))

    with torch.enable_grad():
        x = minimise(energy, torch.zeros(len(xy), 90), iterations, tolerance=1e-3)
    hands = np.zeros((len(xy), 2, 15, 3))
    fitted = x.numpy().reshape(len(xy), 2, 15, 3)
    for k in range(2):
        share = weight[:, left if k == 0 else ~left].mean(1).numpy()
        hands[:, k] = _over_time(fitted[:, k], share, keypoints.fps)
    flat = torch.from_numpy(hands.reshape(len(xy), 30, 3)).float()
    rotations = pose.rotations.clone()
    rotations[:, fingers] = matrix_from_axis_angle(flat)
    return replace(pose, rotations=rotations, hands=flat)


def _over_time(
    values: Float[np.ndarray, "frames joints 3"], share: Float[np.ndarray, " frames"], fps: float
) -> np.ndarray:
    """Weighted running mean; where nothing was seen the pose fades to rest."""
    out, total = np.zeros_like(values), np.zeros(len(values))
    for sigma_s, trust in ((SMOOTH_S, 1.0), (FORGET_S / 2, 1e-2)):
        sigma = max(sigma_s * fps, 1e-3)
        w = gaussian_filter1d(share, sigma, mode="constant") * trust
        out += (
            gaussian_filter1d(values * share[:, None, None], sigma, axis=0, mode="constant") * trust
        )
        total += w
    # A trace of rest pose, so that frames far from any sighting come to rest.
    return out / (total + 1e-4)[:, None, None]


def _stiffness(body: LinearBody) -> Float[Tensor, "30 3 3"]:
    """Inverse deviations of every finger joint, in the axes of its curl.

    The curl axis is perpendicular to the finger and to the palm's normal; the normal's sign is
    the side to which the fingers of the rest pose already bend.
    """
    rest = body.joint_template.numpy()
    out = []
    for side in SIDES:
        at = lambda n, s=side: rest[body.joint(f"{s}Hand{n}")]  # noqa: E731
        palm = np.cross(at("Index1") - at(""), at("Pinky1") - at(""))
        bend = sum(
            (at(f"{f}3") - at(f"{f}2")) / np.linalg.norm(at(f"{f}3") - at(f"{f}2"))
            - (at(f"{f}2") - at(f"{f}1")) / np.linalg.norm(at(f"{f}2") - at(f"{f}1"))
            for f in FINGERS[1:]
        )
        palm = palm * np.sign(palm @ bend) / np.linalg.norm(palm)
        for joint in finger_joints(body):
            if not joint.startswith(side):
                continue
            finger, i = joint.removeprefix(f"{side}Hand")[:-1], int(joint[-1])
            a, b = (i, i + 1) if i < 3 else (2, 3)
            along = at(f"{finger}{b}") - at(f"{finger}{a}")
            along = along / np.linalg.norm(along)
            curl = np.cross(along, palm)
            curl = curl / np.linalg.norm(curl)
            third = np.cross(curl, along)
            flexion = THUMB_RAD if finger == "Thumb" else FLEXION_RAD
            other = THUMB_RAD / 2 if finger == "Thumb" else SIDEWAYS_RAD
            axes = np.stack([curl, along, third])
            out.append(np.diag([1 / flexion, 1 / (other / 2), 1 / other]) @ axes)
    return torch.from_numpy(np.stack(out)).float()
