"""SMPLify-X frame by frame: the paper's setting.

The energy, weights and stages are those of the original (Pavlakos et al., CVPR 2019, section 3.3
and its released settings); every frame is a problem of its own and sees 2D key-points only. Where
our body differs, the counterpart is used: the pose prior of nets/pose_prior.py for VPoser (VPoser
itself where the user has it and a body of the SMPL family), an L2 prior on fingers for the hand
PCA, spheres for the triangle-based interpenetration term; jaw and expression stay at rest. The
frames are solved side by side, which changes the speed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.lbfgs import minimise
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.reconstruct.collision import spheres_of
from mvai.reconstruct.energy import PAPER_RHO_PX, angle_prior, gmof, hinge_axes, project
from mvai.reconstruct.pose_prior import BodyPoseSpace
from mvai.reconstruct.variables import HAND, ROOT, Pose, assemble
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS

FOCAL_PX = 5000.0
"""The original's focal length when the camera is unknown."""
FLIP_BELOW_PX = 25.0
"""With shoulders closer than this in the image, the person may face either way."""
TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
IGNORED = ("neck", "left_hip", "right_hip")
"""Joints 1, 9 and 12 of BODY_25, which the original leaves out of the data term."""
COLLISION = 2.5e5
"""Squared pixels that a squared metre of overlap is worth at collision weight 1."""
SHAPE = 10


@dataclass(frozen=True)
class Stage:
    """Weights of one stage of the annealing."""

    pose: float
    shape: float
    hands: float
    face: float
    collision: float


STAGES = (
    Stage(404.0, 100.0, 0.0, 0.0, 0.0),
    Stage(404.0, 50.0, 0.0, 0.0, 0.0),
    Stage(57.4, 10.0, 0.0, 0.0, 0.0),
    Stage(4.78, 5.0, 0.1, 0.0, 0.01),
    Stage(4.78, 5.0, 2.0, 2.0, 1.0),
)


@dataclass(frozen=True)
class FramesFit:
    """The fitted pose of every frame, each with a shape of its own."""

    pose: Pose
    focal_px: float
    energy: Float[Tensor, " frames"]


def fit_frames(
    body: LinearBody,
    keypoints: Keypoints,
    space: BodyPoseSpace,
    iterations: int = 30,
    report: Callable[[float], None] = lambda share: None,
) -> FramesFit:
    """Fit the body to every frame on its own."""
    names = tuple(n for n in keypoints.names if n in body.regressed)
    columns = [keypoints.index(n) for n in names]
    xy = torch.from_numpy(np.nan_to_num(keypoints.xy_px[:, columns])).float()
    seen = np.isfinite(keypoints.xy_px[:, columns]).all(-1)
    confidence = torch.from_numpy(np.where(seen, keypoints.confidence[:, columns], 0.0)).float()
    ignored = torch.tensor([n in IGNORED for n in names])
    problem = _Frames(body, names, xy, confidence * ~ignored, space, keypoints)

    torso = [names.index(n) for n in TORSO]
    rest = torch.from_numpy(body.regress(TORSO, body.template.numpy()[None])[0]).float()
    edge_3d = (rest[:2] - rest[2:]).norm(dim=-1).mean()
    edge_2d = (xy[:, torso[:2]] - xy[:, torso[2:]]).norm(dim=-1).mean(1).clamp(min=1.0)
    depth = FOCAL_PX * edge_3d / edge_2d
    # Whoever's left shoulder is left in the image has the back to the camera.
    back = xy[:, torso[0], 0] < xy[:, torso[1], 0]
    apart = (xy[:, torso[0]] - xy[:, torso[1]]).norm(dim=-1)
    best: Tensor | None = None
    for turned in (False, True):
        which = torch.ones(len(xy), dtype=torch.bool) if not turned else apart < FLIP_BELOW_PX
        if not which.any():
            continue
        yaw = torch.where(back ^ turned, torch.pi, 0.0)
        R0 = matrix_from_axis_angle(torch.stack([0 * yaw, yaw, 0 * yaw], 1))
        x, e = problem.solve(R0, depth, iterations, lambda s, t=turned: report((s + t) / 2))
        pose = torch.cat([x, R0.flatten(1), e[:, None]], 1)
        better = which if best is None else which & (e < best[:, -1])
        best = pose if best is None else torch.where(better[:, None], pose, best)
    assert best is not None
    report(1.0)
    x, R0, e = best[:, :-10], best[:, -10:-1].unflatten(1, (3, 3)), best[:, -1]
    return FramesFit(problem.pose(x, R0, depth), FOCAL_PX, e)


class _Frames:
    """The energy of all frames side by side."""

    def __init__(
        self,
        body: LinearBody,
        names: tuple[str, ...],
        xy: Tensor,
        confidence: Tensor,
        space: BodyPoseSpace,
        keypoints: Keypoints,
    ) -> None:
        self.body, self.names, self.space = body, names, space
        self.xy, self.confidence = xy, confidence
        self.centre = torch.tensor([keypoints.width / 2, keypoints.height / 2])
        self.data_weight = 1000.0 / keypoints.height
        self.hand = torch.tensor(["_hand_" in n for n in names])
        self.face = torch.tensor([n.startswith("face_") for n in names])
        self.torso = [names.index(n) for n in TORSO]
        self.spheres = spheres_of(body)
        joints, self.axes, self.bends = hinge_axes(body)
        self.hinges = [BODY_JOINTS.index(body.joints[j]) - 1 for j in joints]
        self.body_joints = [body.joint(n) for n in BODY_JOINTS]

    def pose(self, x: Tensor, R0: Tensor, depth: Tensor) -> Pose:
        """Read a pose from rows of (shape, root, body, hands)."""
        shape = torch.cat([x[:, :SHAPE], x.new_zeros(len(x), self.body.shape_size - SHAPE)], 1)
        root, code, hands = x[:, SHAPE:].split([ROOT, self.space.size, HAND], 1)
        body_pose = self.space.pose(code)
        t0 = torch.stack([0 * depth, 0 * depth, -depth], 1)
        return assemble(self.body, shape, root, body_pose, hands, R0, t0)

    def solve(
        self, R0: Tensor, depth: Tensor, iterations: int, report: Callable[[float], None]
    ) -> tuple[Tensor, Tensor]:
        """Camera and root first, then the stages. Returns rows and their last energy."""
        frames = len(R0)
        mean = self.space.start().expand(frames, -1)
        middle = (self.xy[:, self.torso].mean(1) - self.centre) / FOCAL_PX
        root = torch.zeros(frames, ROOT)
        root[:, 3], root[:, 4] = -middle[:, 0], middle[:, 1]

        def camera(r: Tensor) -> Tensor:
            rows = torch.cat([r.new_zeros(frames, SHAPE), r, mean, r.new_zeros(frames, HAND)], 1)
            points = self._points(self.pose(rows, R0, depth))[1][:, self.torso]
            error = ((project(points, FOCAL_PX, self.centre) - self.xy[:, self.torso]) ** 2).sum(-1)
            e = (self.confidence[:, self.torso] + 0.5).clamp(max=1) ** 2 * error
            return self.data_weight**2 * e.sum(1) + 1e4 * (depth * r[:, 5]) ** 2

        root = minimise(camera, root, iterations)
        fixed = root[:, 3:]
        x = torch.cat([torch.zeros(frames, SHAPE), root[:, :3], mean, torch.zeros(frames, HAND)], 1)

        def rows_of(v: Tensor) -> Tensor:
            return torch.cat([v[:, : SHAPE + 3], fixed, v[:, SHAPE + 3 :]], 1)

        for k, stage in enumerate(STAGES):
            energy = self._energy(stage, rows_of, R0, depth)
            x = minimise(energy, x, iterations, tolerance=1e-6)
            report((k + 1) / len(STAGES))
        with torch.no_grad():
            return rows_of(x), self._energy(STAGES[-1], rows_of, R0, depth)(x)

    def _energy(
        self, w: Stage, rows_of: Callable[[Tensor], Tensor], R0: Tensor, depth: Tensor
    ) -> Callable[[Tensor], Tensor]:
        joint = torch.where(self.hand, w.hands, torch.where(self.face, w.face, 1.0))

        def energy(v: Tensor) -> Tensor:
            rows = rows_of(v)
            pose = self.pose(rows, R0, depth)
            code = rows[:, SHAPE + ROOT : SHAPE + ROOT + self.space.size]
            joints, points = self._points(pose)
            squared = ((project(points, FOCAL_PX, self.centre) - self.xy) ** 2).sum(-1)
            e = (((joint * self.confidence) ** 2) * gmof(squared, PAPER_RHO_PX)).sum(1)
            e = self.data_weight**2 * e + w.pose**2 * self.space.energy(code)
            e = e + w.shape**2 * (pose.shape**2).sum(-1)
            e = e + w.pose**2 * (pose.hands**2).sum((1, 2))
            e = e + 3.17 * w.pose * angle_prior(pose.body[:, self.hinges], self.axes, self.bends)
            if w.collision:
                overlap = self.spheres.penetration(joints[:, self.body_joints])
                e = e + w.collision * COLLISION * overlap
            return e

        return energy

    def _points(self, pose: Pose) -> tuple[Tensor, Tensor]:
        return self.body.joints_and_keypoints(
            self.names, pose.shape, pose.rotations, pose.translation
        )
