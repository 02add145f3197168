"""Normal equations of the fit of the template, and what a body is like when nothing is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.transfer.registration.bends import LIMBS, Bend
from mvai.transfer.registration.template import ScaledTemplate, TemplatePoints, TemplatePose

SHAPE_WEIGHT = 0.1
LIMB_WEIGHT = 20.0
ACROSS_WEIGHT = 20.0
PROPORTION_WEIGHT = 0.1
"""Of an elbow or a knee that is off by 2 % of its limb, next to one sure key-point."""
BEND_WEIGHT = 2.0
"""Likewise of a bend that the mesh shows."""


@dataclass
class Normal:
    """Normal equations H step = g that terms are added to."""

    H: Float[np.ndarray, "unknowns unknowns"]
    g: Float[np.ndarray, " unknowns"]

    def add_points(
        self,
        J: Float[np.ndarray, "points 3 unknowns"],
        A: Float[np.ndarray, "points 3 3"],
        b: Float[np.ndarray, "points 3"],
    ) -> None:
        """Terms (x - target)^T A (x - target), given b = A (target - x)."""
        n = J.shape[-1]
        AJ = (A @ J).reshape(-1, n)
        flat = J.reshape(-1, n)
        self.H += flat.T @ AJ
        self.g += flat.T @ b.ravel()

    def step(self, longest_rad: float = 0.4, rotations: slice = slice(0)) -> np.ndarray:
        """Solve, and shorten the step so that no joint turns by more than `longest_rad`."""
        step = np.linalg.solve(self.H, self.g)
        turn = np.linalg.norm(step[rotations].reshape(-1, 3), axis=1).max(initial=0)
        return step * min(1.0, longest_rad / max(turn, 1e-9))


class Prior:
    """What a body is like when nothing is seen: average, near rest, limbs in proportion."""

    def __init__(self, template: ScaledTemplate) -> None:
        self.template = template
        self.stiff = np.array([_stiffness(joint) for joint in template.body.joints])
        self.log_limb = template.start().log_limb
        self.bends = _Bends(template)

    def normal(self, pose: TemplatePose) -> Normal:
        c, size = self.template.columns, self.template.size
        d, target = np.full(size, 1e-4), np.zeros(size)
        d[c["shape"]], target[c["shape"]] = SHAPE_WEIGHT, -pose.shape
        d[c["log_limb"]], target[c["log_limb"]] = LIMB_WEIGHT, self.log_limb - pose.log_limb
        d[c["log_across"]], target[c["log_across"]] = ACROSS_WEIGHT, -pose.log_across
        R, _, _ = self.template.joint_transforms(pose)
        local = Rotation.from_matrix(pose.R_parent_joint).as_rotvec()
        above = np.stack([np.eye(3), *(R[p] for p in self.template.parents[1:])])
        d[c["rotations"]] = np.repeat(self.stiff, 3)
        target[c["rotations"]] = -np.einsum("jab,jb->ja", above, local).ravel()
        normal = Normal(np.diag(d), d * target)
        self.bends.add(normal, pose)
        return normal


class _Bends:
    """Elbows and knees keep their human place along the limb, or take the one where the mesh is
    made to bend: nothing in the shape of a straight limb says where they are."""

    def __init__(self, template: ScaledTemplate) -> None:
        body = template.body
        joints = [body.joint(n) for limb in LIMBS for n in limb]
        rest = template.joint_rest[joints]
        self.template = template
        self.points = TemplatePoints(
            rest,
            template.joint_directions[:, joints],
            np.eye(len(body.joints))[[body.parents[j] for j in joints]],
        )
        ends = rest.reshape(-1, 3, 3)
        upper, lower = np.linalg.norm(np.diff(ends, axis=1), axis=2).T
        self.share = upper / (upper + lower)
        self.weight = np.full(len(self.share), PROPORTION_WEIGHT)

    def take(self, bends: list[Bend | None]) -> None:
        """Takes over where the mesh shows the limbs to bend."""
        for k, found in enumerate(bends):
            if found is not None:
                weight = BEND_WEIGHT * found.confidence
                total = PROPORTION_WEIGHT + weight
                self.share[k] += weight / total * (found.share - self.share[k])
                self.weight[k] = total

    def add(self, normal: Normal, pose: TemplatePose) -> None:
        x, J = self.template.jacobian(self.points, pose)
        # The ends are held fixed: a bend that is elsewhere moves neither shoulder nor wrist.
        x, J = x.reshape(-1, 3, 3), J.reshape(len(self.share), 3, 3, -1)[:, 1]
        way = x[:, 2] - x[:, 0]
        length = np.linalg.norm(way, axis=1)
        along = way / length[:, None]
        share = self.share[:, None]
        off = x[:, 0] * (1 - share) + x[:, 2] * share - x[:, 1]
        row = np.einsum("la,lan->ln", along, J)
        w = self.weight / (0.02 * length) ** 2
        normal.H += (w[:, None] * row).T @ row
        normal.g += (w * (along * off).sum(1)) @ row


def _stiffness(joint: str) -> float:
    """Weight of a squared radian in a joint, next to one sure key-point that is 2 % off."""
    if joint == "Hips":
        return 0.3
    if joint == "Head":
        return 200.0  # Whatever its shape, a head at rest is upright.
    if joint == "Neck":
        return 50.0
    if joint.startswith("Spine"):
        return 30.0
    if joint.endswith("Shoulder"):
        return 8.0
    if joint.endswith("ToeBase"):
        return 6.0
    if "Hand" in joint or joint.endswith("Foot"):
        return 2.0
    return 0.5
