"""Interpenetration penalty on spheres along the bones.

SMPLify-X detects colliding triangles and pushes them apart with a conic distance field, which
needs CUDA. Limbs are close to round, so spheres placed along the bones, as wide as the flesh
around them, see the same collisions of arms, legs, trunk and head at a hundredth of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.types.names import BODY_JOINTS

SEGMENTS = {
    "LeftArm": "LeftForeArm", "LeftForeArm": "LeftHand", 
    "RightArm": "RightForeArm", "RightForeArm": "RightHand", 
    "LeftUpLeg": "LeftLeg", "LeftLeg": "LeftFoot", "LeftFoot": "LeftToeBase",
    "RightUpLeg": "RightLeg", "RightLeg": "RightFoot", "RightFoot": "RightToeBase",
    "Hips": "Spine", "Spine": "Spine1", "Spine1": "Spine2", "Spine2": "Neck", "Neck": "Head",
}  # fmt: skip
"""Bones by their two ends; the head gets a sphere of its own."""
SPHERES = 3
"""Spheres a bone."""


@dataclass(frozen=True)
class Spheres:
    """Spheres that follow the bones; joints are counted as in BODY_JOINTS."""

    start: Int[Tensor, " spheres"]
    end: Int[Tensor, " spheres"]
    along: Float[Tensor, " spheres"]
    radius_m: Float[Tensor, " spheres"]
    pairs: Int[Tensor, "pairs 2"]
    """Spheres that may collide: on bones that share no joint and do not overlap at rest."""

    def centres(self, joints: Float[Tensor, "*n joints 3"]) -> Float[Tensor, "*n spheres 3"]:
        """Centres from the positions of the 22 body joints."""
        a = self.along[:, None]
        return joints[..., self.start, :] * (1 - a) + joints[..., self.end, :] * a

    def _overlap(self, joints: Float[Tensor, "frames joints 3"]) -> tuple[Tensor, Tensor]:
        centres = self.centres(joints)
        i, j = self.pairs.T
        apart = centres[:, i] - centres[:, j]
        distance = (apart * apart).sum(-1).clamp(min=1e-8).sqrt()
        return apart / distance[..., None], self.radius_m[i] + self.radius_m[j] - distance

    def penetration(self, joints: Float[Tensor, "frames joints 3"]) -> Float[Tensor, " frames"]:
        """Sum of squared overlaps (m^2) a frame."""
        return (self._overlap(joints)[1].clamp(min=0) ** 2).sum(-1)

    def contacts(
        self, joints: Float[Tensor, "frames joints 3"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Overlapping pairs: frame, both spheres, direction from second to first, depth."""
        direction, overlap = self._overlap(joints)
        frame, pair = (overlap > 0).nonzero(as_tuple=True)
        i, j = self.pairs[pair].T
        return frame, i, j, direction[frame, pair], overlap[frame, pair]

    def blend(
        self, D: Float[Tensor, "frames joints 3 n"], frame: Tensor, sphere: Tensor
    ) -> Float[Tensor, "contacts 3 n"]:
        """Derivative of sphere centres from the derivative of the joints."""
        a = self.along[sphere][:, None, None]
        return D[frame, self.start[sphere]] * (1 - a) + D[frame, self.end[sphere]] * a


def spheres_of(body: LinearBody) -> Spheres:
    """Place spheres in the mean body; a radius is the median distance of a bone's own skin."""
    joints = body.joint_template.numpy()[[body.joint(n) for n in BODY_JOINTS]]
    vertices = body.template.numpy()
    start, end, along, radius, bone = [], [], [], [], []
    for b, (first, last) in enumerate(SEGMENTS.items()):
        i, j = BODY_JOINTS.index(first), BODY_JOINTS.index(last)
        skin = vertices[body.strongest_joint == body.joint(first)]
        axis = joints[j] - joints[i]
        t = np.clip((skin - joints[i]) @ axis / (axis @ axis), 0, 1)
        distance = np.linalg.norm(skin - joints[i] - t[:, None] * axis, axis=1)
        for k in range(SPHERES):
            centre = (k + 0.5) / SPHERES
            near = np.abs(t - centre) < 0.5 / SPHERES
            start.append(i)
            end.append(j)
            along.append(centre)
            radius.append(np.median(distance[near]) if near.any() else np.median(distance))
            bone.append(b)
    # The head's sphere: beyond the joint by one radius, on the line from the neck.
    i, j = BODY_JOINTS.index("Neck"), BODY_JOINTS.index("Head")
    skin = vertices[body.strongest_joint == body.joint("Head")]
    width = np.ptp(skin[:, 0]) / 2
    start.append(i)
    end.append(j)
    along.append(1 + width / np.linalg.norm(joints[j] - joints[i]))
    radius.append(width)
    bone.append(len(SEGMENTS))
    s, e, a, r = (np.array(v) for v in (start, end, along, radius))
    centres = joints[s] * (1 - a[:, None]) + joints[e] * a[:, None]
    ends = [{s[k], e[k]} for k in range(len(s))]
    pairs = [
        (p, q)
        for p in range(len(s))
        for q in range(p + 1, len(s))
        if bone[p] != bone[q]
        and not ends[p] & ends[q]
        and np.linalg.norm(centres[p] - centres[q]) > r[p] + r[q]
    ]
    return Spheres(
        torch.from_numpy(s),
        torch.from_numpy(e),
        torch.from_numpy(a.astype(np.float32)),
        torch.from_numpy(r.astype(np.float32)),
        torch.tensor(pairs),
    )
