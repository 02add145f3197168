"""Frames in which nobody was seen: before somebody enters, after he left, while he is hidden.

Left to itself the fit keeps the last movement going there, and falls; held as it was last seen the
body hangs in mid-step. Whoever stood on his legs comes to rest on them instead: he finishes the
step over the foot in front and stands, as he stood before he was first seen.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvai.body.model import LinearBody
from mvai.geometry.rigid import shortest_rotation
from mvai.reconstruct.fit_clip import FOOT_POINTS, ClipFit
from mvai.reconstruct.kinematics import Kinematics
from mvai.reconstruct.level import posture
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, SIDES

LONG_GAP_S = 0.5
"""A gap up to this long is left to the fit, which carries a movement through it."""
SETTLE_S = 0.15
"""Who comes out from behind a tree or goes out of the picture is seen wrongly for this long."""
LEAVES_S = 0.6
"""Next to an absence, limbs out of the picture are a sign of leaving it for at most this long."""
REST_S = 0.5
"""Time in which a movement comes to rest."""
WALKS_M_S = 1.0
"""Who goes this fast does not stop before he begins to come to rest."""
FLOOR_S = 1.0
"""The floor is where the feet were lowest within this time."""
LIFT_RAD = (-0.35, 0.7)
"""Turns of hip and knee with which the other foot is lifted to be put beside the one that stands,
for every `STRIDE_M` that it has to go."""
STRIDE_M = 0.5
ARM_DEG, ELBOW_DEG, LEG_DEG = 8.0, 15.0, 3.0
"""At ease: how far upper arms and legs point outwards, and how far the elbows are bent."""
LIMBS = ("wrist", "elbow", "shoulder", "hip", "knee", "ankle", "heel", "foot_index")


def rested(fit: ClipFit, fps: float) -> ClipFit:
    """The fit with what nobody saw, all but the frames of `ClipFit.told`, made plain.

    Before the first and after the last sighting a body that stands comes to rest, any other is held
    as it was; a long gap is crossed at rest, or evenly where it is too short for that.
    """
    ids = np.arange(len(fit.u)) if fit.told is None else np.flatnonzero(fit.told)
    if len(ids) in (0, len(fit.u)):
        return fit
    standing = _Standing(fit, fps)
    u = fit.u.clone()
    first, last = int(ids[0]), int(ids[-1])
    if first:
        u[:first] = standing.outwards(first, first, -1).flip(0)
    if last < len(u) - 1:
        u[last + 1 :] = standing.outwards(last, len(u) - 1 - last, 1)
    for a, b in itertools.pairwise(ids.tolist()):
        if b - a > LONG_GAP_S * fps + 1:
            u[a + 1 : b] = standing.between(a, b)
    return replace(fit, u=u)


def seen_well(
    seen: Bool[np.ndarray, " frames"], fps: float, leaves: Bool[np.ndarray, " frames"] | None = None
) -> Bool[np.ndarray, " frames"]:
    """The seen frames, less those next to a long absence; all of them if none would be left.

    A detector that catches a glimpse of a leg and an arm makes the rest up, surely.

    Args:
        leaves: as `leaving` gives it; such frames next to an absence, or where the clip begins or
            ends, are not seen well.
    """
    ids = np.flatnonzero(seen)
    around = seen.copy()
    for a, b in itertools.pairwise(ids):
        if b - a <= LONG_GAP_S * fps + 1:
            around[a:b] = True
    steps = round(SETTLE_S * fps)
    # The clip's own ends are no absence.
    well = binary_erosion(around, iterations=steps, border_value=1) if steps else around.copy()
    if leaves is not None:
        reach = round(LEAVES_S * fps)
        for way in (slice(None), slice(None, None, -1)):
            _trim(well[way], around[way], leaves[way], reach)
    well = seen & well
    return well if well.any() else seen


def _trim(
    well: Bool[np.ndarray, " frames"],
    around: Bool[np.ndarray, " frames"],
    leaves: Bool[np.ndarray, " frames"],
    reach: int,
) -> None:
    """Take away, in place, what ends in frames that leave; time runs forwards in the arrays."""
    ends = np.flatnonzero(around & ~np.append(around[1:], False))
    for end in ends:
        within = slice(max(end - reach + 1, 0), end + 1)
        if leaves[end]:
            # Detectors put a leg that has left the picture onto the one that is still in it.
            well[within.start + int(leaves[within].argmax()) : end + 1] = False


def leaving(keypoints: Keypoints) -> Bool[np.ndarray, " frames"]:
    """Frames in which more of the limbs' points are beyond the picture's left and right borders
    than usual in this clip."""
    columns = [i for i, n in enumerate(keypoints.names) if n.split("_", 1)[-1] in LIMBS]
    x = keypoints.xy_px[:, columns, 0]
    with np.errstate(invalid="ignore"):
        out = ((x < 0) | (x >= keypoints.width)).sum(1)
    seen = keypoints.seen()
    return seen & (out > np.median(out[seen])) if seen.any() else seen


class _Standing:
    """How the people of a fit come to rest, in the level world."""

    def __init__(self, fit: ClipFit, fps: float) -> None:
        self.u, self.fps, self.shape = fit.u, fps, fit.shape
        body = fit.kinematics.body
        self.R_level = fit.level()[:3, :3]
        names = tuple(n for n in FOOT_POINTS if n in body.regressed)
        self.kinematics = Kinematics(body, names, fit.kinematics.shape_size)
        self.sides = [
            [len(BODY_JOINTS) + i for i, n in enumerate(names) if n.startswith(side.lower())]
            or [BODY_JOINTS.index(f"{side}ToeBase")]
            for side in SIDES
        ]
        self.joints = Rotation.from_rotvec(standing_pose(body))
        points = self._points(self.u)
        root = self.R_level @ Rotation.from_rotvec(self.u[:, :3].numpy()).as_matrix()
        self.root = root
        self.upright = posture(BODY_JOINTS, points[:, : len(BODY_JOINTS)], root[:, :, 1]).any(1)
        self.low = points[:, [*self.sides[0], *self.sides[1]], 1].min(1)
        self.told = np.ones(len(points), bool) if fit.told is None else fit.told

    def _points(self, u: Tensor) -> np.ndarray:
        """Joints and points of the feet in level axes."""
        points = self.kinematics.linearise(u, self.shape, derivatives=False).points
        return points.numpy() @ self.R_level.T

    def outwards(self, edge: int, frames: int, way: int) -> Tensor:
        """The frames that follow `edge` (or come before it, when `way` is -1), nearest first."""
        out = self.u[edge].repeat(frames, 1)
        if not self.upright[edge]:
            return out
        steps = max(round(REST_S * self.fps), 1)
        moving = self._to_rest(edge, steps, way)
        out[: min(steps, frames)] = moving[:frames]
        out[steps:] = moving[-1]
        return out

    def between(self, a: int, b: int) -> Tensor:
        """The frames between two sightings."""
        missing, steps = b - a - 1, round(REST_S * self.fps)
        rests = self.upright[a] and self.upright[b] and missing > 2 * steps
        before, after = self.u[a : a + 1], self.u[b : b + 1]
        if rests:
            before, after = self._to_rest(a, steps, 1), self._to_rest(b, steps, -1).flip(0)
        inner = missing - 2 * steps if rests else missing
        # Starts and ends at rest.
        t = torch.linspace(0, 1, inner + 2)[1:-1, None]
        t = t * t * (3 - 2 * t)
        middle = _blended(before[-1], after[0], t)
        return torch.cat([before, middle, after]) if rests else middle

    def _to_rest(self, edge: int, steps: int, way: int) -> Tensor:
        """The way from a frame to a stand, its last row."""
        near = np.clip([edge, edge - way * max(round(0.1 * self.fps), 1)], 0, len(self.u) - 1)
        root = self.u[near, 3:6].numpy() @ self.R_level.T
        velocity = (root[0] - root[1]) / max(abs(int(near[0] - near[1])), 1) * self.fps
        velocity[1] = 0.0
        speed = float(np.linalg.norm(velocity))
        x = np.linspace(0, 1, steps + 1)
        share = 3 * x**2 - 2 * x**3 + 2 * min(speed / WALKS_M_S, 1) * (x - 2 * x**2 + x**3)

        forward = self.root[edge][:, 2]
        heading = Rotation.from_euler("Y", np.arctan2(forward[0], forward[2]))
        start = Rotation.from_matrix(self.root[edge])
        turn = (start.inv() * heading).as_rotvec()
        level_root = start * Rotation.from_rotvec(share[:, None] * turn)
        u = self.u[edge].repeat(steps + 1, 1)
        u[:, :3] = _tensor((Rotation.from_matrix(self.R_level.T) * level_root).as_rotvec())
        joints = Rotation.from_rotvec(self.u[edge, 6:].reshape(21, 3).numpy())
        turns = (joints.inv() * self.joints).as_rotvec()
        rows = [(joints * Rotation.from_rotvec(s * turns)).as_rotvec().ravel() for s in share]
        u[:, 6:] = _tensor(np.array(rows))

        stands = self._stands(edge, velocity, speed)
        far = self._apart(u[[0, -1]], stands)
        lift = 16 * x**2 * (1 - x) ** 2 * min(far / STRIDE_M, 1.5)
        other = SIDES[1 - stands]
        for part, angle in zip(("UpLeg", "Leg"), LIFT_RAD, strict=True):
            column = 6 + 3 * (BODY_JOINTS.index(other + part) - 1)
            u[:, column] += _tensor(angle * lift)

        points = self._points(u)
        sole = points[:, self.sides[stands]].mean(1)
        moved = sole[0] - sole
        low = points[:, [*self.sides[0], *self.sides[1]], 1].min(1)
        moved[:, 1] = low[0] + share * (self._floor(edge) - low[0]) - low
        u[:, 3:6] += _tensor(moved @ self.R_level)
        return u[1:]

    def _stands(self, edge: int, velocity: np.ndarray, speed: float) -> int:
        """Which foot he comes to stand on: the one in front if he goes, else the lower one."""
        points = self._points(self.u[edge : edge + 1])[0]
        soles = [points[side].mean(0) for side in self.sides]
        if speed > WALKS_M_S / 3:
            return int(np.argmax([s @ velocity for s in soles]))
        return int(np.argmin([s[1] for s in soles]))

    def _apart(self, ends: Tensor, stands: int) -> float:
        """How far the other foot has to go relative to the one that stands."""
        points = self._points(ends)
        way = points[:, self.sides[1 - stands]].mean(1) - points[:, self.sides[stands]].mean(1)
        return float(np.linalg.norm((way[1] - way[0])[[0, 2]]))

    def _floor(self, edge: int) -> float:
        """Height of the floor about a frame, as `_points` gives it."""
        reach = round(FLOOR_S * self.fps)
        near = slice(max(edge - reach, 0), edge + reach + 1)
        return float(np.percentile(self.low[near][self.told[near]], 10))


def standing_pose(body: LinearBody) -> Float[np.ndarray, "21 3"]:
    """Rotation vectors of somebody who stands at ease, arms hanging, soles flat."""
    rest = body.joint_template.numpy().astype(float)
    out = np.zeros((len(BODY_JOINTS) - 1, 3))
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        chains = ("Arm", "ForeArm", "Hand"), ("UpLeg", "Leg", "Foot")
        arm, fore, hand, hip, _, foot = (rest[body.joint(side + n)] for c in chains for n in c)
        away, leg = (
            Rotation.from_euler("Z", sign * angle, degrees=True).apply([0.0, -1.0, 0.0])
            for angle in (ARM_DEG, LEG_DEG)
        )
        bent = Rotation.from_euler("X", -ELBOW_DEG, degrees=True).apply(away)
        upper = shortest_rotation(fore - arm, away)
        lower = shortest_rotation(upper @ (hand - fore), bent)
        thigh = shortest_rotation((foot - hip) * [1, 1, 0], leg)
        # Relative to the joint above, in the axes that its own turn has moved.
        turns = {"Arm": upper, "ForeArm": upper.T @ lower @ upper, "UpLeg": thigh, "Foot": thigh.T}
        for part, R in turns.items():
            out[BODY_JOINTS.index(side + part) - 1] = Rotation.from_matrix(R).as_rotvec()
    return out


def _blended(a: Tensor, b: Tensor, t: Float[Tensor, "frames 1"]) -> Float[Tensor, "frames 69"]:
    """From one frame to another along the shortest turns."""
    out = a * (1 - t) + b * t
    rows = [slice(0, 3), *(slice(i, i + 3) for i in range(6, 69, 3))]
    for row in rows:
        start, end = (Rotation.from_rotvec(x[row].numpy()) for x in (a, b))
        turn = (start.inv() * end).as_rotvec()
        out[:, row] = _tensor((start * Rotation.from_rotvec(t.numpy() * turn)).as_rotvec())
    return out


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values)).float()
