"""Body models: a template that shape coefficients deform and joint rotations pose.

`LinearBody` is Anny and every model of the SMPL family (Loper et al. 2015): linear shape
directions, a joint tree, linear blend skinning. It is a class and no protocol, as the stages lean
on that very form: the fit takes derivatives of its joint tree and shape directions by hand,
transfer reads its weights. What makes one of some file is an adapter (`anny.py`, `smpl.py`). Rest
frames of all joints are parallel to the world's, so a joint's rotation matrix is read in world axes
when all its ancestors are at rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from torch import Tensor


@dataclass(frozen=True)
class LinearBody:
    """A body whose shape is linear. Arrays are float32, in metres, +Y up, facing +Z, with the root
    joint of the mean body at the origin."""

    topology: str
    """Name of the vertex order, as in `MeshSequence.topology`."""
    joints: tuple[str, ...]
    """Names of the joints, root first, parents before their children."""
    parents: tuple[int, ...]
    """Index of each joint's parent; -1 for the root."""
    faces: Int[np.ndarray, "faces 3"]
    template: Float[Tensor, "verts 3"]
    """The mean body at rest."""
    directions: Float[Tensor, "shape verts 3"]
    """What a shape coefficient of 1 adds to it."""
    joint_template: Float[Tensor, "joints 3"]
    """Its joints."""
    joint_directions: Float[Tensor, "shape joints 3"]
    """What a shape coefficient of 1 adds to them."""
    weight_indices: Int[np.ndarray, "verts influences"]
    """Joints that move each vertex."""
    weights: Float[np.ndarray, "verts influences"]
    """Their weights; each row sums to 1."""
    regressed: tuple[str, ...]
    """Names of the regressor's rows: every joint and every key-point the body can show."""
    regressor: csr_matrix
    """(names, verts), rows sum to 1."""
    correctives: Float[Tensor, "features verts3"] | None = None
    """What each element of (R - I) of every joint but the root adds to the rest surface (Loper et
    al. 2015, eq. 4), joints in order and matrices by rows; None for a body without."""
    origin: Float[Tensor, "3"] | None = None
    """Where the origin of the model's own files lies, from the root joint of the mean body; other
    tools count translations from there. None for a body whose files are ours."""

    @property
    def shape_size(self) -> int:
        """Number of shape coefficients."""
        return self.directions.shape[0]

    def joint(self, name: str) -> int:
        """Index of the joint called `name`."""
        return self.joints.index(name)

    def rest(
        self, shape: Float[Tensor, "*batch shape"]
    ) -> tuple[Float[Tensor, "*batch verts 3"], Float[Tensor, "*batch joints 3"]]:
        """Vertices and joints at rest, without pose correctives."""
        vertices = self.template + torch.einsum("...b,bvd->...vd", shape, self.directions)
        return vertices, self.rest_joints(shape)

    def rest_joints(self, shape: Float[Tensor, "*batch shape"]) -> Float[Tensor, "*batch joints 3"]:
        """Joints at rest."""
        return self.joint_template + torch.einsum("...b,bjd->...jd", shape, self.joint_directions)

    @cached_property
    def _levels(self) -> list[tuple[list[int], list[int]]]:
        """Joints and their parents, one entry a depth of the tree, root left out."""
        depth = [0] * len(self.parents)
        for j, p in enumerate(self.parents):
            depth[j] = 0 if p < 0 else depth[p] + 1
        return [
            (js, [self.parents[j] for j in js])
            for d in range(1, max(depth) + 1)
            if (js := [j for j in range(len(depth)) if depth[j] == d])
        ]

    @cached_property
    def _order(self) -> list[int]:
        """Where each joint ends up when the levels are concatenated."""
        flat = [0, *(j for js, _ in self._levels for j in js)]
        return [flat.index(j) for j in range(len(flat))]

    def forward_kinematics(
        self,
        rest_joints: Float[Tensor, "#frames joints 3"],
        rotations: Float[Tensor, "frames joints 3 3"],
        translation: Float[Tensor, "frames 3"],
    ) -> tuple[Float[Tensor, "frames joints 3 3"], Float[Tensor, "frames joints 3"]]:
        """World rotation and position (metres) of every joint.

        Args:
            rest_joints: as `rest_joints` gives them.
            rotations: of each joint against its parent.
            translation: moves the root joint from where it is at rest.
        """
        offsets = rest_joints - rest_joints[:, list(self.parents)]
        Rs = [rotations[:, :1]]
        ts = [(rest_joints[:, 0] + translation)[:, None].expand(len(rotations), 1, 3)]
        R_above, t_above = Rs[0], ts[0]
        above = {0: 0}
        for js, ps in self._levels:
            rows = [above[p] for p in ps]
            R_parent, t_parent = R_above[:, rows], t_above[:, rows]
            t = t_parent + (R_parent @ offsets[:, js, :, None])[..., 0]
            R = R_parent @ rotations[:, js]
            Rs.append(R)
            ts.append(t)
            above = {j: i for i, j in enumerate(js)}
            R_above, t_above = R, t
        return torch.cat(Rs, 1)[:, self._order], torch.cat(ts, 1)[:, self._order]

    def attached_points(
        self, names: tuple[str, ...]
    ) -> tuple[
        Float[Tensor, "points 3"],
        Float[Tensor, "shape points 3"],
        Int[Tensor, "points influences"],
        Float[Tensor, "points influences"],
    ]:
        """Rest positions, shape directions, joints and their blended weights of named points.

        A regressed point moves like the weighted mean of its vertices; blending their skin weights
        first is exact where they share them and within a few millimetres elsewhere.
        """
        A = self.regressor[[self.regressed.index(n) for n in names]]
        dense = csr_matrix(
            (
                self.weights.ravel(),
                (
                    np.repeat(np.arange(len(self.weights)), self.weights.shape[1]),
                    self.weight_indices.ravel(),
                ),
            ),
            shape=(len(self.weights), len(self.joints)),
        )
        W = np.asarray((A @ dense).todense(), np.float32)
        indices = np.argsort(-W, axis=1)[:, :4].copy()
        w = np.take_along_axis(W, indices, 1)
        directions = np.stack([A @ d for d in self.directions.numpy()])
        return (
            torch.from_numpy(np.asarray(A @ self.template.numpy(), np.float32)),
            torch.from_numpy(directions.astype(np.float32)),
            torch.from_numpy(indices),
            torch.from_numpy(w / w.sum(1, keepdims=True)),
        )

    @cached_property
    def _point_cache(self) -> dict[tuple[str, ...], tuple[Tensor, Tensor, Tensor, Tensor]]:
        return {}

    @cached_property
    def _corrective_cache(self) -> dict[tuple[str, ...], Tensor]:
        return {}

    def bulge(
        self,
        rotations: Float[Tensor, "frames joints 3 3"],
        correctives: Float[Tensor, "features points3"],
    ) -> Float[Tensor, "frames points 3"]:
        """What the pose adds to points at rest (metres); `correctives` as in the field."""
        turned = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype)
        return (turned.flatten(1) @ correctives).unflatten(1, (-1, 3))

    def joints_and_keypoints(
        self,
        names: tuple[str, ...],
        shape: Float[Tensor, "#frames shape"],
        rotations: Float[Tensor, "frames joints 3 3"],
        translation: Float[Tensor, "frames 3"],
    ) -> tuple[Float[Tensor, "frames joints 3"], Float[Tensor, "frames points 3"]]:
        """Posed joints and the points called `names`, without skinning the surface.

        Arguments as for `forward_kinematics`; points as `attached_points` has them.
        """
        if names not in self._point_cache:
            self._point_cache[names] = self.attached_points(names)
            if self.correctives is not None:
                A = self.regressor[[self.regressed.index(n) for n in names]]
                by_vertex = self.correctives.numpy().reshape(len(self.correctives), -1, 3)
                points = np.stack([A @ d for d in by_vertex]).astype(np.float32)
                self._corrective_cache[names] = torch.from_numpy(points).flatten(1)
        template, directions, indices, weights = self._point_cache[names]
        rest_joints = self.rest_joints(shape)
        R, t = self.forward_kinematics(rest_joints, rotations, translation)
        rest = template + torch.einsum("fb,bpd->fpd", shape, directions)
        if self.correctives is not None:
            rest = rest + self.bulge(rotations, self._corrective_cache[names])
        local = rest[:, :, None] - rest_joints[:, indices]
        moved = (R[:, indices] @ local[..., None])[..., 0] + t[:, indices]
        return t, (weights[..., None] * moved).sum(2)

    def vertices(
        self,
        shape: Float[Tensor, "#frames shape"],
        rotations: Float[Tensor, "frames joints 3 3"],
        translation: Float[Tensor, "frames 3"],
    ) -> Float[Tensor, "frames verts 3"]:
        """The posed surface, in the world (metres); arguments as for `forward_kinematics`."""
        rest, rest_joints = self.rest(shape)
        if self.correctives is not None:
            rest = rest + self.bulge(rotations, self.correctives)
        R, t = self.forward_kinematics(rest_joints, rotations, translation)
        t_skin = t - (R @ rest_joints[..., None])[..., 0]
        A = torch.cat([R, t_skin[..., None]], -1).flatten(2)
        moved = self.skin_matrix(A)
        return (moved[..., :3] @ rest[..., None])[..., 0] + moved[..., 3]

    def skin_matrix(
        self, A: Float[Tensor, "frames joints 12"]
    ) -> Float[Tensor, "frames verts 3 4"]:
        """Joint transforms (rows of 3 x 4 matrices) blended over the vertices."""
        dense = self.dense_weights
        return torch.einsum("vj,fjk->fvk", dense, A).unflatten(-1, (3, 4))

    @cached_property
    def strongest_joint(self) -> Int[np.ndarray, " verts"]:
        """The joint that moves each vertex most."""
        return self.weight_indices[np.arange(len(self.weights)), self.weights.argmax(1)]

    @cached_property
    def dense_weights(self) -> Float[Tensor, "verts joints"]:
        """Skin weights of every vertex for every joint."""
        W = np.zeros((len(self.weights), len(self.joints)), np.float32)
        np.add.at(W, (np.arange(len(W))[:, None], self.weight_indices), self.weights)
        return torch.from_numpy(W)

    def regress(
        self, names: tuple[str, ...], vertices: Float[np.ndarray, "frames verts 3"]
    ) -> Float[np.ndarray, "frames points 3"]:
        """Joints or key-points read off a surface in this topology."""
        A = self.regressor[[self.regressed.index(n) for n in names]]
        used = np.unique(A.indices)
        return np.einsum("pv,fvd->fpd", A[:, used].toarray(), vertices[:, used])
