"""SMPLify-X over a whole clip at once: the default setting.

To the energy of the original (one frame, 2D key-points) it adds what a clip and a metric detector
know besides: one body shape, joints that accelerate no faster than people do, planted feet, and 3D
landmarks, which are used for what they are good at (which way a limb points, to within some
centimetres) while the pixels say the rest.

The minimiser is Levenberg-Marquardt on all frames together: the terms that tie frames to one
another make first-order and quasi-Newton methods crawl, while the banded system they form is
cheap to solve exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.banded import solve_chain
from mvai.nets.landmark_correction import Lift
from mvai.nets.pose_prior import GaussianMixture
from mvai.reconstruct.clip_energy import ClipEnergy, Observation
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.reconstruct.collision import spheres_of
from mvai.reconstruct.energy import hinge_axes
from mvai.reconstruct.initial import (
    default_focal_px,
    nearest_seen,
    solve_translation,
    torso_orientation,
    viewing_rotation,
)
from mvai.reconstruct.kinematics import Kinematics
from mvai.reconstruct.legs_outside import on_outside_feet, unseen_legs
from mvai.reconstruct.level import balance, floor_height, level, posture
from mvai.reconstruct.variables import Pose
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS, EXTRA_KEYPOINTS, SIDES

FOOT_POINTS = tuple(
    f"{side}_{p}"
    for side in ("left", "right")
    for p in ("heel", "foot_index", "big_toe", "small_toe")
)
FACE_POINTS = (
    "face_brow_right_2", "face_brow_left_2", "face_eye_right_0", "face_eye_left_3",
    "face_nose_bridge_0", "face_nose_bridge_3", "face_lip_outer_0", "face_lip_outer_6",
)  # fmt: skip
"""Enough of the face to tell where the head looks; the body has no expression."""
LEAST_ROUGH, LEAST = 0.01, 0.003
"""Steps of Levenberg and Marquardt that gain less than this share of the energy are the last,
without and with the finely tuned robust terms. A thousandth for both takes a sixth longer and
changes landmarks by 1.2 mm, for no gain (with the landmarks of then, MPJPE 81.5 instead of 81.4 mm
on 123 validation clips of the benchmark, 119.0 on 40 test clips with either)."""


@dataclass(frozen=True)
class ClipFit:
    """The fitted unknowns of a clip."""

    kinematics: Kinematics
    u: Float[Tensor, "frames 69"]
    shape: Float[Tensor, " shape"]
    focal_px: float
    energy: float
    planted: Bool[np.ndarray, "steps points"]
    told: Bool[np.ndarray, " frames"] | None = None
    """Frames that vertical and floor are read from; None for all."""
    R_level: Float[np.ndarray, "3 3"] | None = None
    """Turn to level axes, where it was found before legs that nobody sees were put on the floor."""

    def pose(self) -> Pose:
        """The fitted body."""
        body = self.kinematics.body
        shape = torch.zeros(1, body.shape_size)
        shape[0, : len(self.shape)] = self.shape
        aa = self.u[:, 6:].unflatten(1, (21, 3))
        return Pose(
            shape,
            self.kinematics.rotations(self.u),
            self.u[:, 3:6],
            aa,
            aa.new_zeros(len(aa), 30, 3),
        )

    def level(self) -> Float[np.ndarray, "4 4"]:
        """From the camera-aligned frame of the fit to a level world with its floor at y = 0."""
        told = slice(None) if self.told is None else self.told
        u = self.u[told]
        points = self.kinematics.linearise(u, self.shape, derivatives=False).points.numpy()
        joints = points[:, : len(BODY_JOINTS)]
        feet = [i for i, n in enumerate(self.kinematics.names) if n in FOOT_POINTS]
        if feet:
            soles = points[:, [len(BODY_JOINTS) + i for i in feet]]
            still = np.zeros((len(self.u), len(feet)), bool)
            still[:-1] |= self.planted[:, feet]
            still[1:] |= self.planted[:, feet]
            still = still[told]
        else:
            # A detector without points on the feet: their joints tell where the floor is.
            soles = points[:, [BODY_JOINTS.index(f"{side}ToeBase") for side in SIDES]]
            still = np.zeros((len(points), 2), bool)
        if self.R_level is not None:
            T = np.eye(4)
            T[:3, :3] = self.R_level
            T[1, 3] = -floor_height(soles, still, self.R_level, joints)
            return T
        lean, standing = balance(BODY_JOINTS, joints)
        root = self.kinematics.rotations(u)[:, self.kinematics.body.joint("Hips")].numpy()
        held = posture(BODY_JOINTS, joints, root[:, :, 1])
        return level(lean, standing, soles, still, held, joints)


def fit_clip(
    body: LinearBody,
    keypoints: Keypoints,
    prior: GaussianMixture,
    lift: Lift,
    weights: ClipWeights,
    shape_size: int = 10,
    iterations: tuple[int, int] = (8, 16),
    known_shape: Float[Tensor, " shape"] | None = None,
    report: Callable[[float], None] = lambda share: None,
) -> ClipFit:
    """Fit the body to all frames together.

    Args:
        iterations: Levenberg-Marquardt steps without and with the finely tuned robust terms.
        known_shape: the person's shape, if it was found before.
        report: called with the share of the work done.
    """
    if known_shape is not None:
        weights = replace(weights, shape=0.01)
    wanted = (*BODY_KEYPOINTS, *EXTRA_KEYPOINTS, *FACE_POINTS)
    names = tuple(n for n in keypoints.names if n in body.regressed and n in wanted)
    kinematics = Kinematics(body, names, shape_size)
    focal = default_focal_px(keypoints.width, keypoints.height)
    observation, R0, t0 = observe(body, keypoints, names, focal, lift)
    joints, axes, bends = hinge_axes(body)
    energy = ClipEnergy(
        observation=observation,
        weights=weights,
        prior=prior,
        spheres=spheres_of(body),
        joints=len(BODY_JOINTS),
        hips=tuple(len(BODY_JOINTS) + names.index(n) for n in ("left_hip", "right_hip")),  # type: ignore[arg-type]
        hinges=[BODY_JOINTS.index(body.joints[j]) - 1 for j in joints],
        hinge_axes=axes,
        hinge_bends=bends,
        shape_mean=torch.zeros(shape_size) if known_shape is None else known_shape,
    )
    u = torch.zeros(len(R0), 69)
    u[:, :3] = torch.from_numpy(unwrapped(Rotation.from_matrix(R0).as_rotvec())).float()
    u[:, 3:6] = torch.from_numpy(t0).float()
    shape = energy.shape_mean.clone()
    # Wide robust terms first, so that limbs on the wrong side of a local minimum still feel a pull.
    rough = replace(
        weights,
        pixel_m=4 * weights.pixel_m,
        pixel_rho_m=6 * weights.pixel_rho_m,
        landmark_rho=3 * weights.landmark_rho,
    )
    total = sum(iterations)
    u, shape, _ = levenberg_marquardt(
        replace(energy, weights=rough), kinematics, u, shape, iterations[0], LEAST_ROUGH,
        lambda k: report(k / total),
    )  # fmt: skip
    u, shape, value = levenberg_marquardt(
        energy, kinematics, u, shape, iterations[1], LEAST,
        lambda k: report((iterations[0] + k) / total),
    )  # fmt: skip
    return ClipFit(kinematics, u, shape, focal, value, observation.planted.numpy())


def levenberg_marquardt(
    energy: ClipEnergy,
    kinematics: Kinematics,
    u: Tensor,
    shape: Tensor,
    iterations: int,
    least: float,
    report: Callable[[int], None],
) -> tuple[Tensor, Tensor, float]:
    """Minimise from u; returns the best point and its energy.

    A step that raises the energy is taken back and tried shorter (Marquardt 1963); it stops early
    once a step gains less than the share `least` of the energy.
    """
    damping = 1e-3
    at = kinematics.linearise(u, shape, derivatives=True)
    value = energy.value(u, shape, at.points)
    system = energy.system(u, shape, at)
    for k in range(iterations):
        diagonal = torch.diagonal(system.blocks[0], dim1=1, dim2=2)
        damped = system.blocks[0] + torch.diag_embed(damping * diagonal + 1e-6)
        du, ds = solve_chain(
            [damped.numpy(), *(b.numpy() for b in system.blocks[1:])],
            system.border.numpy(),
            system.corner.numpy(),
            -system.gradient.numpy(),
            -system.gradient_shared.numpy(),
        )
        u_new = u + torch.from_numpy(du).clamp(-0.7, 0.7)
        shape_new = shape + torch.from_numpy(ds).clamp(-1, 1)
        at_new = kinematics.linearise(u_new, shape_new, derivatives=True)
        value_new = energy.value(u_new, shape_new, at_new.points)
        report(k + 1)
        if not value_new < value:
            damping = max(damping * 10, 1e-3)
            if damping > 1e4:
                break
            continue
        gained = (value - value_new) / abs(value)
        u, shape, value = u_new, shape_new, value_new
        if gained < least:
            break
        damping = max(damping / 5, 1e-6)
        system = energy.system(u, shape, at_new)
    return u, shape, value


def observe(
    body: LinearBody,
    keypoints: Keypoints,
    names: tuple[str, ...],
    focal_px: float,
    lift: Lift,
) -> tuple[Observation, np.ndarray, np.ndarray]:
    """What the fit sees, and root orientation and translation to start from."""
    columns = [keypoints.index(n) for n in names]
    centre = np.array([keypoints.width / 2, keypoints.height / 2])
    xy = keypoints.xy_px[:, columns]
    seen = np.isfinite(xy).all(-1)
    seen &= ~on_outside_feet(keypoints, names)
    confidence = np.where(seen, keypoints.confidence[:, columns], 0.0)
    xyz, inverse = landmarks(keypoints, names, focal_px, lift)
    xyz_or_nan = np.where(inverse > 0, xyz, np.nan)
    R0 = torso_orientation(body, names, xyz_or_nan)
    t0 = solve_translation(xyz_or_nan, xy, confidence, focal_px, centre)
    t0 = nearest_seen(t0, (confidence > 0.3).sum(1) >= 3)
    pixel_m = -t0[:, 2] / focal_px
    planted = planted_points(xy, names, pixel_m, keypoints.fps)
    tensor = lambda a: torch.from_numpy(np.nan_to_num(a)).float()  # noqa: E731
    observation = Observation(
        xy_px=tensor(xy),
        confidence=tensor(confidence),
        xyz_m=tensor(xyz),
        landmark_inverse_m=tensor(inverse),
        pixel_m=tensor(pixel_m),
        planted=torch.from_numpy(planted & keypoints.seen()[1:, None]),
        unseen=tensor(unseen_legs(keypoints, xyz, names)),
        focal_px=focal_px,
        centre_px=tensor(centre),
        fps=keypoints.fps,
    )
    return observation, R0, t0


def planted_points(
    xy_px: Float[np.ndarray, "frames points 2"],
    names: tuple[str, ...],
    pixel_m: Float[np.ndarray, " frames"],
    fps: float,
    speed: float = 0.15,
) -> Bool[np.ndarray, "steps points"]:
    """Points of the feet that hardly move in the image from one frame to the next.

    A foot on the ground is still; one in the air is still for at most a frame or two, so the speed
    (m/s, image plane) is averaged over a tenth of a second.
    """
    from scipy.ndimage import uniform_filter1d

    frames, points = xy_px.shape[:2]
    planted = np.zeros((max(frames - 1, 0), points), bool)
    window = max(1, round(0.1 * fps))
    if frames <= window + 1:
        return planted
    metres = xy_px * pixel_m[:, None, None]
    for column, name in enumerate(names):
        if name in FOOT_POINTS:
            smooth = uniform_filter1d(metres[:, column], window, axis=0)
            step = np.linalg.norm(np.diff(smooth, axis=0), axis=-1) * fps
            planted[:, column] = step < speed
    return planted


def unwrapped(rotvec: Float[np.ndarray, "frames 3"]) -> Float[np.ndarray, "frames 3"]:
    """Rotation vectors made continuous over time: each takes the turn closest to the last one."""
    out = rotvec.copy()
    for f in range(1, len(out)):
        angle = np.linalg.norm(out[f])
        # No rotation at all may be a whole turn about the axis of the frame before.
        along = out[f] if angle > 1e-9 else out[f - 1]
        axis = along / max(np.linalg.norm(along), 1e-9)
        choices = [axis * (angle + 2 * np.pi * k) for k in (-2, -1, 0, 1, 2)]
        out[f] = min(choices, key=lambda c: float(np.linalg.norm(c - out[f - 1])))
    return out


def landmarks(
    keypoints: Keypoints, names: tuple[str, ...], focal_px: float, lift: Lift
) -> tuple[Float[np.ndarray, "frames points 3"], Float[np.ndarray, "frames points 3"]]:
    """3D landmarks relative to the middle of the hips and the inverse of their deviations.

    World axes (x right, y up, z back), metres; both 0 for points that `lift` does not know.
    """
    frames = keypoints.frames
    xyz, inverse = np.zeros((frames, len(names), 3)), np.zeros((frames, len(names), 3))
    position, deviation = lift(keypoints)
    R = viewing_rotation(keypoints, focal_px) * np.array([[1.0], [-1.0], [-1.0]])
    position = np.einsum("fab,fpb->fpa", R, position)
    # Confidence 0 means the frame was filled in: nothing is known there.
    seen = keypoints.seen()[:, None, None]
    for i, name in enumerate(names):
        if name in BODY_KEYPOINTS:
            j = BODY_KEYPOINTS.index(name)
            xyz[:, i] = position[:, j]
            sure = np.clip(keypoints.confidence[:, keypoints.index(name)], 0.1, 1.0)
            inverse[:, i] = sure[:, None] / deviation[:, j][:, [0, 0, 1]]
    return xyz, inverse * seen
