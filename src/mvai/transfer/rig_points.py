"""The same points on every body: samples of the template's surface, bound to a character.

What touches what is a question of surfaces. A point of the template stands for one place of the
body, on whatever character the template lies; on clothes it is moved out to the outermost layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from mvai.body.model import LinearBody
from mvai.body.skinning import skinned, skinning_operator
from mvai.geometry.rigid import transforms
from mvai.geometry.surface import sample_surface, vertex_normals
from mvai.transfer.legs import body_legs, leg_length
from mvai.transfer.rig_retarget import (
    DrivenSkeleton,
    positions_on,
    rotations_on,
)
from mvai.transfer.rig_source import SourceMotion
from mvai.types import Mesh, MeshSequence, Skin
from mvai.types.names import SIDES

ADULT_LEG_M = 0.8
SPACING_M = {"hand": 0.016, "forearm": 0.025, "body": 0.03}
"""Grid on the mean body of which each cell gives one point."""
OUT, IN = 0.05, 0.02
"""How far clothes lie outside the template and its surface inside, as shares of the height."""
BESIDE = 0.012
"""How far beside a point's normal its place on the character may be sought, likewise."""
SAMPLES = 20_000
MISSED = 0.2
"""Largest share of points that may find no surface."""
ALIKE = 0.3
"""Least cosine between normals of a place and of the point."""


@dataclass(frozen=True)
class PointSet:
    """Which vertices of the template are points, and what part of an arm they belong to."""

    ids: Int[np.ndarray, " points"]
    hand: Int[np.ndarray, " points"]
    """0 for the left hand, 1 for the right, -1 elsewhere; `forearm` and `arm` (the upper arm)
    likewise."""
    forearm: Int[np.ndarray, " points"]
    arm: Int[np.ndarray, " points"]

    def side(self) -> Int[np.ndarray, " points"]:
        """Whose arm each point belongs to, -1 if to none."""
        return np.maximum(np.maximum(self.hand, self.forearm), self.arm)

    def spacing_m(self) -> Float[np.ndarray, " points"]:
        """Distance between neighbours on the mean body."""
        on_arm = np.where(np.maximum(self.forearm, self.arm) >= 0, "forearm", "body")
        part = np.where(self.hand >= 0, "hand", on_arm)
        return np.array([SPACING_M[p] for p in part])


@dataclass(frozen=True)
class BodyPoints:
    """The points on one body, and how its bones move them."""

    rest: Float[np.ndarray, "points 3"]
    """World position at rest (metres)."""
    normals: Float[np.ndarray, "points 3"]
    weight_indices: Int[np.ndarray, "points influences"]
    weights: Float[np.ndarray, "points influences"]

    def posed(
        self, skin: Skin, Ts_world_joint: Float[np.ndarray, "frames joints 4 4"]
    ) -> tuple[Float[np.ndarray, "frames points 3"], Float[np.ndarray, "frames points 3"]]:
        """Positions and unit normals in every frame.

        A normal is carried by the point's own blended transform: it is the way to a second point
        a centimetre further out.
        """
        mine = Skin(
            skin.joints, skin.parents, skin.T_world_joint, self.weight_indices, self.weights
        )
        at = skinned(skinning_operator(mine, self.rest), Ts_world_joint)
        out = skinned(skinning_operator(mine, self.rest + 0.01 * self.normals), Ts_world_joint)
        way = out - at
        way /= np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-12)
        return at, way


def point_set(body: LinearBody) -> PointSet:
    """Points spread over the body, closer together on hands and forearms."""
    W = body.dense_weights.numpy()
    template = body.template.numpy()

    def share(test) -> np.ndarray:
        return W[:, [test(n) for n in body.joints]].sum(1)

    parts = np.stack(
        [
            share(lambda n, s=s, k=k: n.startswith(f"{s}Hand") if k == "Hand" else n == s + k)
            for k in ("Hand", "ForeArm", "Arm")
            for s in SIDES
        ],
        1,
    )
    part = np.where(parts.max(1) > 0.5, parts.argmax(1), 6)
    spacing = np.array([*[SPACING_M["hand"]] * 2, *[SPACING_M["forearm"]] * 4, SPACING_M["body"]])
    cell = np.floor(template / spacing[part][:, None]).astype(int)
    ids = np.sort(np.unique(np.column_stack([part, cell]), axis=0, return_index=True)[1])
    of = part[ids]
    hand, forearm, arm = (
        np.where((of == 2 * k) | (of == 2 * k + 1), of - 2 * k, -1) for k in range(3)
    )
    return PointSet(ids, hand, forearm, arm)


def bound_points(
    body: LinearBody,
    surface: Float[np.ndarray, "body_verts 3"],
    mesh: Mesh,
    skin: Skin,
) -> BodyPoints | None:
    """The points on a character; None where its surface is not near the template's.

    Args:
        body: the template.
        surface: the template's vertices as they lie on the character.
        mesh: the character at rest.
        skin: the bones and weights that move it.
    """
    points = point_set(body)
    height = float(np.ptp(mesh.vertices[:, 1]))
    n = vertex_normals(surface, body.faces)
    out = _outwards(points, surface, n, mesh, height)
    if np.isnan(out).mean() > MISSED:
        return None
    rest = surface[points.ids] + np.nan_to_num(out)[:, None] * n[points.ids]
    # The weights of the character's nearest vertices, so that a point moves with its surface.
    distance, near = KDTree(mesh.vertices).query(rest, k=4)
    w = 1 / (np.asarray(distance) + 1e-3 * height)
    w /= w.sum(1, keepdims=True)
    indices = skin.weight_indices[near].reshape(len(rest), -1)
    weights = (w[..., None] * skin.weights[near]).reshape(len(rest), -1)
    return BodyPoints(rest, n[points.ids], indices, weights)


def _outwards(
    points: PointSet, surface: np.ndarray, normals: np.ndarray, mesh: Mesh, height: float
) -> Float[np.ndarray, " points"]:
    """How far along its normal the character's outermost layer lies from each point (metres);
    NaN where there is none."""
    at, facing = sample_surface(mesh.vertices.astype(np.float64), mesh.faces, SAMPLES)
    side = points.side()
    # An arm that hangs beside the body is not its clothes.
    whose = side[KDTree(surface[points.ids]).query(at)[1]]
    origin, n = surface[points.ids], normals[points.ids]
    result = np.full(len(origin), np.nan)
    near = KDTree(at).query_ball_point(origin, OUT * height)
    for k, candidates in enumerate(near):
        c = np.asarray(candidates, int)
        c = c[whose[c] == side[k]]
        way = at[c] - origin[k]
        out = way @ n[k]
        beside = np.linalg.norm(way - out[:, None] * n[k], axis=1)
        fits = (beside < BESIDE * height) & (facing[c] @ n[k] > ALIKE) & (out > -IN * height)
        if fits.any():
            result[k] = out[fits].max()
    return result


def source_points(
    points: PointSet,
    body: LinearBody,
    sequence: MeshSequence,
    motion: SourceMotion,
    registered: tuple[DrivenSkeleton, BodyPoints] | None,
    frames: Int[np.ndarray, " some"] | slice = slice(None),
) -> tuple[Float[np.ndarray, "frames points 3"], Float[np.ndarray, "frames points 3"], float]:
    """Positions (metres) and unit normals of the points on a source, and its size relative to an
    adult.

    In the body's own topology they are read off the sequence. Another source is posed anew by its
    own motion: as it was registered, or else as the mean body.

    Args:
        points: which vertices of the template they are.
        body: the template.
        sequence: the source.
        motion: read from it.
        registered: the source's skeleton and points, where it is a mesh that was registered.
        frames: those that are wanted; all by default.
    """
    R_body = motion.R_world_joint[frames]
    if registered is None and sequence.topology == body.topology:
        ids = points.ids
        rest = vertex_normals(body.template.numpy(), body.faces)[ids].astype(np.float32)
        turn = R_body.astype(np.float32)
        blend = np.tensordot(turn, body.dense_weights.numpy()[ids], ([1], [1]))
        n = np.einsum("fabp,pb->fpa", blend, rest, optimize=True)
        n /= np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-12)
        x = np.asarray(sequence.vertices, np.float32)[frames][:, ids]
        return x, n, motion.leg_m / ADULT_LEG_M
    skeleton, on = registered or _mean_body(points, body)
    R = rotations_on(skeleton, R_body)
    Ts = transforms(R, positions_on(skeleton, R, motion.root[frames]))
    size = leg_length(skeleton.skin.T_world_joint[:, :3, 3], skeleton.legs) / ADULT_LEG_M
    return *on.posed(skeleton.skin, Ts), size


def _mean_body(points: PointSet, body: LinearBody) -> tuple[DrivenSkeleton, BodyPoints]:
    ids, J = points.ids, len(body.joints)
    template = body.template.numpy().astype(np.float64)
    at_rest = transforms(np.tile(np.eye(3), (J, 1, 1)), body.joint_template.numpy().astype(float))
    skin = Skin(body.joints, body.parents, at_rest, body.weight_indices, body.weights)
    skeleton = DrivenSkeleton(
        skin, np.arange(J), np.tile(np.eye(3), (J, 1, 1)), body_legs(body), root=0
    )
    normals = vertex_normals(template, body.faces)[ids]
    return skeleton, BodyPoints(template[ids], normals, body.weight_indices[ids], body.weights[ids])


def arm_joints(
    skeleton: DrivenSkeleton, body: LinearBody
) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Upper arm, forearm and hand of both sides among a skeleton's joints; None if any lacks."""
    of = {int(s): j for j, s in reversed(list(enumerate(skeleton.source))) if s >= 0}
    wanted = [[body.joint(s + k) for k in ("Arm", "ForeArm", "Hand")] for s in SIDES]
    if not all(w in of for side in wanted for w in side):
        return None
    left, right = (tuple(of[w] for w in side) for side in wanted)
    return left, right  # type: ignore[return-value]


def below(parents: tuple[int, ...], top: int) -> Bool[np.ndarray, " joints"]:
    """The joint `top` and all that hang from it."""
    result = np.zeros(len(parents), bool)
    for j, p in enumerate(parents):
        result[j] = j == top or (p >= 0 and result[p])
    return result
