"""Batches for neural pose transfer, made from the body model as they are needed.

Poses and people are those of npt_poses.py; limbs of the wide source are mixed, and its identities
are also puffed up and have their arms at other heights, as clothed characters come. Everything is
in the frame of the body's root at rest, which stays in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.geometry.surface import edges, face_areas_normals, vertex_normals
from mvai.train.npt_poses import (
    IDENTITIES,
    PoseBank,
    random_shapes,
    seen_shapes,
    whole_rotations,
)
from mvai.types.names import BODY_JOINTS, SIDES

LIMBS = tuple(
    tuple(n for n in BODY_JOINTS[1:] if n.startswith(side) and any(part in n for part in parts))
    for side in SIDES
    for parts in (("Leg", "Foot", "Toe"), ("Shoulder", "Arm", "Hand"))
)
"""Joints of each leg and arm; trunk, neck and head are what is left."""
MIXED = 0.7
"""Share of the wide poses whose limbs come from other frames, each from its own."""
RAISED = 0.7
"""Share of the wide identities whose arms are not as in our rest pose."""
ARM_RANGE_RAD = (-0.4, 1.3)
"""How far the arms of a wide identity are raised or lowered from our body's rest pose."""
ORDERED_TURN_RAD = 0.02
"""How wrongly the root's frame is read off a mesh in known order."""
STRETCH = 0.08
"""Spread of the logarithm by which a wide identity is stretched along each axis: characters have
longer arms and broader shoulders than people."""
PUFF = 0.02
"""Largest usual distance by which an identity is puffed up, as a share of its height."""


def ordered_vertices(body: LinearBody, each: int = 8) -> Int[np.ndarray, " points"]:
    """Vertices by which a mesh in the body's topology is read: some of every joint."""
    chosen = []
    for j in range(len(body.joints)):
        mine = np.flatnonzero(body.strongest_joint == j)
        if len(mine):
            chosen.append(mine[np.unique(np.linspace(0, len(mine) - 1, each).round().astype(int))])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True)
class Poses:
    """Pose meshes and what is true of them."""

    points: Float[Tensor, "n points 3"]
    """Points of each surface in any order (metres), some meshes turned a little."""
    places: Float[Tensor, "points 3"]
    """Where on the mean body at rest they belong (metres)."""
    ordered: Float[Tensor, "n chosen 3"]
    """The vertices of `ordered_vertices` (metres), hardly turned."""
    rotations: Float[Tensor, "n joints 3 3"]
    """Local rotations."""


@dataclass(frozen=True)
class Identities:
    """Some identities, each in some poses. Positions in units of the identity's height about the
    middle of its bounding box."""

    identity: Float[Tensor, "identities 1 verts 3"]
    target: Float[Tensor, "identities poses verts 3"]
    """The identity in the pose, its root where it is at rest."""
    rotations: Float[Tensor, "identities poses joints 3 3"]
    joints: Float[Tensor, "identities 1 joints 3"]
    """Where the identity's joints are."""
    lift: Float[Tensor, "identities 1 2"]
    """How far its left and right arm are raised from the body's rest pose (radians)."""
    weights: Float[Tensor, "verts joints"]
    """Skin weights of the vertices."""
    height: Float[Tensor, " identities"]
    """Metres."""
    edge_pairs: int
    """The last `2 * edge_pairs` vertices are ends of edges, two by two."""


@dataclass(frozen=True)
class Maker:
    """Draws batches."""

    body: LinearBody
    bank: PoseBank
    points: int = 512
    """Points of a pose mesh."""
    verts: int = 256
    """Vertices of an identity."""
    edge_pairs: int = 32
    seen_share: float = 0.4
    """Share of identities and poses from the published numbers."""
    turn_rad: float = 0.12
    """Standard deviation of the turn of pose meshes (half of them are not turned)."""

    @cached_property
    def areas(self) -> Float[Tensor, " verts"]:
        """Share of the mean body's area around each vertex."""
        a, _ = face_areas_normals(self.body.template.numpy(), self.body.faces)
        total = np.bincount(self.body.faces.ravel(), np.repeat(a, 3), len(self.body.template))
        return torch.from_numpy((total / total.sum()).astype(np.float32))

    @cached_property
    def normals(self) -> Float[Tensor, "verts 3"]:
        n = vertex_normals(self.body.template.numpy(), self.body.faces)
        return torch.from_numpy(n.astype(np.float32))

    @cached_property
    def edges(self) -> Int[Tensor, "edges 2"]:
        return torch.from_numpy(edges(self.body.faces).astype(np.int64))

    @cached_property
    def ordered(self) -> Int[Tensor, " chosen"]:
        return torch.from_numpy(ordered_vertices(self.body))

    @cached_property
    def shapes(self) -> Float[Tensor, "16 shape"]:
        return seen_shapes(self.body)

    @cached_property
    def by_vertex(self) -> Float[Tensor, "verts shape 3"]:
        """The shape directions, vertices first, from which rows are gathered quickly."""
        return self.body.directions.permute(1, 0, 2).contiguous()

    @cached_property
    def extremes(self) -> Int[Tensor, " few"]:
        """Vertices among which every body's bounding box is found: the outermost of the mean."""
        v = self.body.template.numpy()
        few = [np.argsort(sign * v[:, k])[:60] for k in range(3) for sign in (1, -1)]
        return torch.from_numpy(np.unique(np.concatenate(few)))

    def rest(
        self, shape: Float[Tensor, "n shape"], ids: Int[Tensor, " chosen"]
    ) -> Float[Tensor, "n chosen 3"]:
        """Rest positions of chosen vertices (metres)."""
        return self.body.template[ids] + torch.einsum("nb,vbd->nvd", shape, self.by_vertex[ids])

    def skinned(
        self,
        rest: Float[Tensor, "n chosen 3"],
        ids: Int[Tensor, " chosen"],
        A: Float[Tensor, "n joints 12"],
    ) -> Float[Tensor, "n chosen 3"]:
        """Linear blend skinning of chosen vertices."""
        M = (self.body.dense_weights[ids] @ A).unflatten(-1, (3, 4))
        return (M[..., :3] @ rest[..., None])[..., 0] + M[..., 3]

    def transforms(
        self, rest_joints: Float[Tensor, "n joints 3"], R: Float[Tensor, "n joints 3 3"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Skinning matrices, world rotations and positions; the root stays where it is at rest."""
        Rw, t = self.body.forward_kinematics(rest_joints, R, torch.zeros(len(R), 3))
        offset = t - (Rw @ rest_joints[..., None])[..., 0]
        return torch.cat([Rw, offset[..., None]], -1).flatten(2), Rw, t

    def rotations(
        self, n_seen: int, n_wide: int, rng: np.random.Generator
    ) -> Float[Tensor, "n joints 3 3"]:
        """Poses from both sources, the seen ones first."""
        seen = self.bank.seen[rng.integers(len(self.bank.seen), size=n_seen)]
        wide = self.bank.wide[rng.integers(len(self.bank.wide), size=n_wide)].numpy().copy()
        mixed = rng.random(n_wide) < MIXED
        for limb in LIMBS:
            columns = np.array([BODY_JOINTS.index(n) for n in limb])
            at = np.flatnonzero(mixed & (rng.random(n_wide) < 0.75))
            other = self.bank.wide[rng.integers(len(self.bank.wide), size=len(at))].numpy()
            wide[np.ix_(at, columns)] = other[:, columns]
        noisy = rng.random((n_wide, 1, 1)) < 0.5
        wide += (noisy * rng.normal(0, 0.15, wide.shape)).astype(np.float32)
        return torch.cat([seen, whole_rotations(self.body, wide, rng)])

    def _shapes(self, n_seen: int, n_wide: int, rng: np.random.Generator) -> Tensor:
        seen = self.shapes[rng.integers(IDENTITIES, size=n_seen)]
        return torch.cat([seen, random_shapes(self.body, n_wide, rng)])

    def poses(
        self, n: int, rng: np.random.Generator, rotations: Tensor | None = None, n_seen: int = -1
    ) -> Poses:
        """Draw pose meshes; all show the same vertices, drawn anew each time.

        `rotations` are the poses of the mesh where they are given, `n_seen` of them (the first)
        worn by seen identities.
        """
        if n_seen < 0:
            n_seen = round(n * self.seen_share)
        R = self.rotations(n_seen, n - n_seen, rng) if rotations is None else rotations
        shapes = self._shapes(n_seen, n - n_seen, rng)
        draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
        ids = self.ordered[:0]
        if self.points:
            ids = torch.multinomial(self.areas, self.points, True, generator=draw)
        both = torch.cat([ids, self.ordered])
        A, _, _ = self.transforms(self.body.rest_joints(shapes), R)
        points = self.skinned(self.rest(shapes, both), both, A)
        turned = rng.random((n, 1)) < 0.5
        return Poses(
            points=_turned(points[:, : self.points], turned * self.turn_rad, rng),
            places=self.body.template[ids],
            ordered=_turned(points[:, self.points :], ORDERED_TURN_RAD, rng),
            rotations=R,
        )

    def identities(self, identities: int, poses: int, rng: np.random.Generator) -> Identities:
        """Draw identities and poses; all show the same vertices, drawn anew each time."""
        body, G, K = self.body, identities, poses
        g_seen = round(G * self.seen_share)
        R = self.rotations(g_seen * K, (G - g_seen) * K, rng)
        shapes = self._shapes(g_seen, G - g_seen, rng)
        wide = np.arange(G) >= g_seen
        draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
        single = self.verts - 2 * self.edge_pairs
        v = torch.cat(
            [
                torch.multinomial(self.areas, single // 2, True, generator=draw),
                torch.randint(len(body.template), (single - single // 2,), generator=draw),
                self.edges[
                    torch.randint(len(self.edges), (self.edge_pairs,), generator=draw)
                ].flatten(),
            ]
        )
        stretch = np.exp(rng.normal(0, STRETCH, (G, 1, 3)) * wide[:, None, None])
        stretch = torch.from_numpy(stretch.astype(np.float32))
        outer = self.rest(shapes, self.extremes) * stretch
        height = outer[..., 1].amax(1) - outer[..., 1].amin(1)
        centre = (outer.amax(1) + outer.amin(1)) / 2
        rest = self.rest(shapes, v) * stretch
        rest = rest + self._puff(rest, v, height, wide, rng)
        rest_joints = body.rest_joints(shapes) * stretch
        A, _, _ = self.transforms(rest_joints.repeat_interleave(K, 0), R)
        target = self.skinned(rest.repeat_interleave(K, 0), v, A)
        lift, identity, joints = self._arms_elsewhere(rest, v, rest_joints, wide, rng)

        def unit(x: Tensor) -> Tensor:
            x = x.unflatten(0, (G, -1))
            return (x - centre[:, None, None]) / height[:, None, None, None]

        return Identities(
            identity=unit(identity),
            target=unit(target),
            rotations=R.unflatten(0, (G, K)),
            joints=unit(joints),
            lift=lift[:, None, None].expand(-1, 1, 2),
            weights=body.dense_weights[v],
            height=height,
            edge_pairs=self.edge_pairs,
        )

    def _puff(
        self,
        rest: Float[Tensor, "n chosen 3"],
        v: Int[Tensor, " chosen"],
        height: Float[Tensor, " n"],
        wide: np.ndarray,
        rng: np.random.Generator,
    ) -> Float[Tensor, "n chosen 3"]:
        """A smooth displacement outwards for half of the wide identities (metres)."""
        n = len(rest)
        f = torch.from_numpy(rng.normal(0, 4.0, (n, 3, 4)).astype(np.float32))
        phase = torch.from_numpy(rng.uniform(0, 2 * np.pi, (n, 1, 4)).astype(np.float32))
        wave = torch.sin(rest @ f + phase).mean(-1) + 0.5
        amount = torch.from_numpy((rng.random(n) * (rng.random(n) < 0.5) * wide).astype(np.float32))
        return ((amount * PUFF * height)[:, None] * wave)[..., None] * self.normals[v]

    def _arms_elsewhere(
        self,
        rest: Float[Tensor, "n chosen 3"],
        v: Int[Tensor, " chosen"],
        rest_joints: Float[Tensor, "n joints 3"],
        wide: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n chosen 3"], Float[Tensor, "n joints 3"]]:
        """Most wide identities hold their arms higher or lower than our rest pose.

        Returns: how much higher (radians), and where their vertices and joints then are.
        """
        n = len(rest)
        lift = rng.uniform(*ARM_RANGE_RAD, n) * (rng.random(n) < RAISED) * wide
        vector = np.zeros((n, len(self.body.joints), 3), np.float32)
        vector[:, self.body.joint("LeftArm"), 2] = lift
        vector[:, self.body.joint("RightArm"), 2] = -lift
        R = matrix_from_axis_angle(torch.from_numpy(vector))
        A, _, joints = self.transforms(rest_joints, R)
        return torch.from_numpy(lift.astype(np.float32)), self.skinned(rest, v, A), joints


def _turned(
    points: Float[Tensor, "n points 3"], spread_rad: float | np.ndarray, rng: np.random.Generator
) -> Float[Tensor, "n points 3"]:
    """Each mesh turned by a random rotation vector of so much spread (one value or (n, 1))."""
    vector = rng.normal(0, 1, (len(points), 3)) * spread_rad
    R = matrix_from_axis_angle(torch.from_numpy(vector.astype(np.float32)))
    return points @ R.transpose(1, 2)
