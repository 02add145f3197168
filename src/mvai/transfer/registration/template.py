"""The template body with a scale for every limb, and how its points move with its unknowns.

The body model knows proportions of real people; a character may have longer legs or larger hands
than any of them. Each limb therefore gets a scale of its own on top of the shape coefficients, and
long parts another one across, so that wide trousers do not make a long shin. A joint's scale
applies to the surface that it moves and to the way to its children, and is not handed on to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody

LIMBS = (
    ("Hips",),
    ("Spine", "Spine1", "Spine2"),
    ("Shoulder",),
    ("Arm",),
    ("ForeArm",),
    ("Hand",),
    ("UpLeg",),
    ("Leg",),
    ("Foot",),
    ("ToeBase",),
    ("Neck",),
    ("Head",),
)
"""Joints that share a scale; both sides of the body do, and fingers share the hand's."""
AXES = {
    "Hips": "Spine", "Spine": "Spine1", "Spine1": "Spine2", "Spine2": "Neck", "Neck": "Head",
    "Arm": "ForeArm", "ForeArm": "Hand", "UpLeg": "Leg", "Leg": "Foot",
}  # fmt: skip
"""Joints with a scale across the line to another joint; the rest keep their proportions."""


@dataclass(frozen=True)
class TemplatePoints:
    """Points that ride on the template: rest position, shape directions and joint weights."""

    rest: Float[np.ndarray, "points 3"]
    directions: Float[np.ndarray, "shape points 3"]
    weights: Float[np.ndarray, "points joints"]


@dataclass(frozen=True)
class TemplatePose:
    """The template's unknowns."""

    shape: Float[np.ndarray, " shape"]
    log_scale: float
    log_limb: Float[np.ndarray, " limbs"]
    log_across: Float[np.ndarray, " limbs"]
    """On top of `log_limb`, across the limb's axis."""
    R_parent_joint: Float[np.ndarray, "joints 3 3"]
    """Rotation of each joint in its parent's frame; the root's in the world."""
    t_root: Float[np.ndarray, "3"]
    """World position of the root joint."""


class ScaledTemplate:
    """Poses points of a body under shape, limb scales and rotations."""

    def __init__(self, body: LinearBody) -> None:
        self.body = body
        self.parents = body.parents
        self.joint_rest = body.joint_template.numpy().astype(np.float64)
        self.joint_directions = body.joint_directions.numpy().astype(np.float64)
        J = len(body.joints)
        self.below = np.eye(J)
        for j in reversed(range(1, J)):
            self.below[self.parents[j]] += self.below[j]
        limb = _limb_of_joints(body.joints)
        self.limb = np.array(limb)
        self.limb_sum = np.eye(len(LIMBS))[limb]
        self.axis = _axes(body, self.joint_rest)
        S, G = body.shape_size, len(LIMBS)
        self.columns = {
            "shape": slice(0, S),
            "log_scale": slice(S, S + 1),
            "log_limb": slice(S + 1, S + 1 + G),
            "log_across": slice(S + 1 + G, S + 1 + 2 * G),
            "rotations": slice(S + 1 + 2 * G, S + 1 + 2 * G + 3 * J),
            "translation": slice(S + 1 + 2 * G + 3 * J, S + 4 + 2 * G + 3 * J),
        }
        self.size = S + 4 + 2 * G + 3 * J

    def start(self) -> TemplatePose:
        """The mean body at rest."""
        J = len(self.parents)
        return TemplatePose(
            shape=np.zeros(self.body.shape_size),
            log_scale=0.0,
            log_limb=np.zeros(len(LIMBS)),
            log_across=np.zeros(len(LIMBS)),
            R_parent_joint=np.tile(np.eye(3), (J, 1, 1)),
            t_root=self.joint_rest[0].copy(),
        )

    def rest_joints(self, pose: TemplatePose) -> Float[np.ndarray, "joints 3"]:
        return self.joint_rest + np.einsum("b,bjd->jd", pose.shape, self.joint_directions)

    def rest_vertices(self, pose: TemplatePose) -> Float[np.ndarray, "verts 3"]:
        """The surface at the template's own rest, in the pose's shape."""
        return self._template + np.tensordot(pose.shape, self._directions, 1)

    def joint_transforms(
        self, pose: TemplatePose
    ) -> tuple[
        Float[np.ndarray, "joints 3 3"],
        Float[np.ndarray, "joints 3"],
        Float[np.ndarray, "joints 3 3"],
    ]:
        """World rotation and position of every joint, and its rotation after its scales."""
        joints = self.rest_joints(pose)
        along = self.axis[:, :, None] * self.axis[:, None]
        across = np.exp(np.where(self.axis.any(1), pose.log_across[self.limb], 0))[:, None, None]
        scale = np.exp(pose.log_scale + pose.log_limb[self.limb])[:, None, None] * (
            across * (np.eye(3) - along) + along
        )
        R = pose.R_parent_joint.copy()
        t = np.empty_like(joints)
        t[0] = pose.t_root
        for j, p in enumerate(self.parents):
            if p >= 0:
                R[j] = R[p] @ R[j]
                t[j] = t[p] + R[p] @ scale[p] @ (joints[j] - joints[p])
        return R, t, R @ scale

    def place(self, points: TemplatePoints, pose: TemplatePose) -> Float[np.ndarray, "points 3"]:
        """World positions of the points (linear blend skinning of scaled rotations)."""
        _, t, sR = self.joint_transforms(pose)
        offset = t - np.einsum("jab,jb->ja", sR, self.rest_joints(pose))
        blend = points.weights @ np.concatenate([sR, offset[..., None]], -1).reshape(-1, 12)
        blend = blend.reshape(-1, 3, 4)
        rest = points.rest + np.tensordot(pose.shape, points.directions, 1)
        return np.einsum("pab,pb->pa", blend[..., :3], rest) + blend[..., 3]

    def jacobian(
        self, points: TemplatePoints, pose: TemplatePose
    ) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3 unknowns"]]:
        """Positions and their derivatives by every unknown, in the order of `columns`.

        A small rotation w of joint j, in world axes, moves a point by w x (X - W t_j), where X
        and W sum its weighted positions and its weights over j and all joints below. Scaling
        joint j moves its own surface away from it, and all that hangs from a child c by
        (t_c - t_j); scaling across its axis, by the part of this that is across.
        """
        R, t, sR = self.joint_transforms(pose)
        joints, w = self.rest_joints(pose), points.weights
        rest = points.rest + np.tensordot(pose.shape, points.directions, 1)
        # Coordinates first, then points and joints: sums over joints are products of matrices.
        offset = t - np.einsum("jab,jb->ja", sR, joints)
        at = t.T[:, None]
        wx = w * (rest @ sR.transpose(1, 2, 0) + offset.T[:, None])
        position = wx.sum(-1).T
        hanging = w @ self.below.T

        J = np.empty((len(w), 3, self.size))
        blend = (w @ sR.reshape(-1, 9)).reshape(-1, 3, 3)
        dt = np.zeros_like(self.joint_directions)
        for j, p in enumerate(self.parents):
            if p >= 0:
                way = self.joint_directions[:, j] - self.joint_directions[:, p]
                dt[:, j] = dt[:, p] + way @ sR[p].T
        dt -= (sR @ self.joint_directions[..., None])[..., 0]
        J[..., self.columns["shape"]] = blend @ points.directions.transpose(1, 2, 0) + (
            w @ dt.transpose(1, 0, 2).reshape(len(joints), -1)
        ).reshape(len(w), len(dt), 3).transpose(0, 2, 1)

        arm = wx @ self.below.T - hanging * at
        # The columns of -skew(arm), written in place.
        turning = J[..., self.columns["rotations"]].reshape(len(w), 3, -1, 3)
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            turning[:, a, :, a] = 0
            turning[:, a, :, b] = arm[c]
            turning[:, a, :, c] = -arm[b]

        to_child = np.zeros((3, len(joints), len(joints)))
        for c, p in enumerate(self.parents):
            if p >= 0:
                to_child[:, c, p] = t[c] - t[p]
        by_scale = wx - w * at + hanging @ to_child
        J[..., self.columns["log_limb"]] = (by_scale @ self.limb_sum).transpose(1, 0, 2)
        axis = np.einsum("jab,jb->ja", R, self.axis).T[:, None]
        across = by_scale - (by_scale * axis).sum(0) * axis
        has_axis = self.axis.any(1)[:, None] * self.limb_sum
        J[..., self.columns["log_across"]] = (across @ has_axis).transpose(1, 0, 2)
        J[..., self.columns["log_scale"]] = by_scale.sum(-1).T[..., None]
        J[..., self.columns["translation"]] = np.eye(3)
        return position, J

    def moved(self, pose: TemplatePose, step: Float[np.ndarray, " unknowns"]) -> TemplatePose:
        """The pose after a step in the unknowns of `jacobian`."""
        R, _, _ = self.joint_transforms(pose)
        c = self.columns
        w = step[c["rotations"]].reshape(-1, 3)
        above = np.stack([np.eye(3), *(R[p] for p in self.parents[1:])])
        # In its parent's frame a world rotation w of the joint is turned back by the parent.
        local = np.einsum("jba,jb->ja", above, w)
        return TemplatePose(
            shape=pose.shape + step[c["shape"]],
            log_scale=pose.log_scale + float(step[c["log_scale"]][0]),
            log_limb=pose.log_limb + step[c["log_limb"]],
            log_across=pose.log_across + step[c["log_across"]],
            R_parent_joint=Rotation.from_rotvec(local).as_matrix() @ pose.R_parent_joint,
            t_root=pose.t_root + step[c["translation"]],
        )

    def vertices(self, ids: Int[np.ndarray, " points"] | None = None) -> TemplatePoints:
        """Some or all vertices of the surface."""
        body = self.body
        ids = np.arange(len(body.template)) if ids is None else ids
        weights = np.zeros((len(ids), len(body.joints)))
        np.add.at(
            weights, (np.arange(len(ids))[:, None], body.weight_indices[ids]), body.weights[ids]
        )
        return TemplatePoints(self._template[ids], self._directions[:, ids], weights)

    @cached_property
    def _template(self) -> Float[np.ndarray, "verts 3"]:
        return self.body.template.numpy().astype(np.float64)

    @cached_property
    def _directions(self) -> Float[np.ndarray, "shape verts 3"]:
        return self.body.directions.numpy().astype(np.float64)

    def named(self, names: tuple[str, ...]) -> TemplatePoints:
        """Key-points by their names."""
        A = self.body.regressor[[self.body.regressed.index(n) for n in names]]
        used = np.unique(A.indices)
        at = self.vertices(used)
        M = A[:, used].toarray().astype(np.float64)
        return TemplatePoints(
            M @ at.rest, np.einsum("pv,bvd->bpd", M, at.directions), M @ at.weights
        )


def _axes(body: LinearBody, rest: Float[np.ndarray, "joints 3"]) -> Float[np.ndarray, "joints 3"]:
    """Unit vector along each joint's limb at rest; zero for joints that keep their proportions."""
    axes = np.zeros_like(rest)
    for j, joint in enumerate(body.joints):
        name = joint.removeprefix("Left").removeprefix("Right")
        if name in AXES:
            way = rest[body.joint(joint.removesuffix(name) + AXES[name])] - rest[j]
            axes[j] = way / np.linalg.norm(way)
    return axes


def _limb_of_joints(joints: tuple[str, ...]) -> list[int]:
    """Index into `LIMBS` of each joint."""
    limb = {name: i for i, names in enumerate(LIMBS) for name in names}
    result = []
    for joint in joints:
        name = joint.removeprefix("Left").removeprefix("Right")
        # Fingers are of the hand; jaw and eyes, which some bodies have, of the head.
        result.append(limb["Hand" if name.startswith("Hand") else name if name in limb else "Head"])
    return result
