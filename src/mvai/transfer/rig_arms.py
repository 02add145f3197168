"""Moves both arms of a character so that points on them come where they are wanted.

Each arm has four angles: a turn of the shoulder and the bend of the elbow; the hand keeps the way
it faces. All frames are solved at once by Gauss-Newton, with a penalty on the second difference
over time, which lets a correction come and go softly (a banded system).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from mvai.geometry.banded import solve_chain
from mvai.geometry.rigid import skew, unit
from mvai.transfer.rig_points import PointSet, below
from mvai.transfer.rig_retarget import DrivenSkeleton

STAY = 0.01
"""Weight of staying in the pose, next to that of a touch; lengths are those of the arm."""
SMOOTH_S = 0.25
"""Period of time below which a correction is taken for shaking."""
LONGEST_STEP_RAD = 0.35
LEAST_BEND, LARGEST_BEND = 0.04, 2.7
"""Range of the angle between upper arm and forearm (radians)."""
STRAIGHT = 0.3
"""Bends below this angle do not show well which way the elbow faces."""
UNKNOWNS = 8


@dataclass
class Terms:
    """Normal equations of the arms' angles, one small block a frame."""

    frames: int

    def __post_init__(self) -> None:
        self.H = np.zeros((self.frames, UNKNOWNS, UNKNOWNS))
        self.g = np.zeros((self.frames, UNKNOWNS))

    def any(self) -> bool:
        return bool(self.H.any())

    def add(
        self,
        frame: Int[np.ndarray, " terms"],
        J: Float[np.ndarray, "terms rows unknowns"],
        r: Float[np.ndarray, "terms rows"],
        weight: Float[np.ndarray, " terms"],
    ) -> None:
        """Adds terms weight |r + J step|^2."""
        WJ = weight[:, None, None] * J
        own = (WJ.transpose(0, 2, 1) @ J).reshape(-1, UNKNOWNS**2)
        right = -np.einsum("pru,pr->pu", WJ, r)
        of_frame = csr_matrix(
            (np.ones(len(frame)), (frame, np.arange(len(frame)))), (self.frames, len(frame))
        )
        self.H += (of_frame @ own).reshape(self.H.shape)
        self.g += of_frame @ right


@dataclass(frozen=True)
class Arms:
    """Both arms in every frame, before they are moved."""

    shoulder: Float[np.ndarray, "frames 2 3"]
    elbow: Float[np.ndarray, "frames 2 3"]
    wrist: Float[np.ndarray, "frames 2 3"]
    axis: Float[np.ndarray, "frames 2 3"]
    """About which the elbow bends."""
    bend: Float[np.ndarray, "frames 2"]
    """Angle between upper arm and forearm, 0 when straight."""
    level: Int[np.ndarray, " points"]
    """0 for points that do not move with an arm, 1 on the upper arm, 2 on the forearm, 3 on the
    hand."""
    side: Int[np.ndarray, " points"]
    length_m: float

    @classmethod
    def of(
        cls,
        skeleton: DrivenSkeleton,
        joints: tuple[tuple[int, int, int], tuple[int, int, int]],
        R: Float[np.ndarray, "frames joints 3 3"],
        t: Float[np.ndarray, "frames joints 3"],
        points: PointSet,
    ) -> Arms:
        a, b, c = (t[:, [side[k] for side in joints]] for k in range(3))
        upper, fore = unit(b - a), unit(c - b)
        cross = np.cross(upper, fore)
        bend = np.arctan2(np.linalg.norm(cross, axis=-1), (upper * fore).sum(-1))
        # The elbows of straight arms fold forwards, as seen from the rest pose.
        rest = skeleton.skin.T_world_joint
        hinge = np.empty_like(a)
        for s, (arm, forearm, _) in enumerate(joints):
            way = rest[forearm, :3, 3] - rest[arm, :3, 3]
            at_rest = unit(np.cross(way, [0.0, 0.0, 1.0]))
            hinge[:, s] = R[:, arm] @ rest[arm, :3, :3].T @ at_rest
        hinge = unit(hinge - (hinge * upper).sum(-1, keepdims=True) * upper)
        sure = np.clip(bend / STRAIGHT, 0, 1)[..., None]
        axis = unit(sure * unit(cross) + (1 - sure) * hinge)
        level = np.where(points.hand >= 0, 3, np.where(points.forearm >= 0, 2, 0))
        level = np.where(points.arm >= 0, 1, level)
        length = np.linalg.norm(b - a, axis=-1) + np.linalg.norm(c - b, axis=-1)
        return cls(a, b, c, axis, bend, level, points.side(), float(length.mean()))

    def limited(self, angles: Float[np.ndarray, "frames 8"]) -> Float[np.ndarray, "frames 8"]:
        """The angles with elbows inside their range."""
        result = angles.copy()
        for s in (0, 1):
            bend = self.bend[:, s]
            low, high = np.minimum(LEAST_BEND, bend), np.maximum(LARGEST_BEND, bend)
            result[:, 4 * s + 3] = np.clip(angles[:, 4 * s + 3], low - bend, high - bend)
        return result

    def turns(
        self, angles: Float[np.ndarray, "frames 8"], side: int
    ) -> tuple[Float[np.ndarray, "frames 3 3"], Float[np.ndarray, "frames 3 3"]]:
        """World rotations by which upper arm and forearm turn."""
        upper = Rotation.from_rotvec(angles[:, 4 * side : 4 * side + 3]).as_matrix()
        bend = angles[:, 4 * side + 3, None] * self.axis[:, side]
        return upper, upper @ Rotation.from_rotvec(bend).as_matrix()

    def moved(
        self,
        x: Float[np.ndarray, "frames points 3"],
        n: Float[np.ndarray, "frames points 3"],
        angles: Float[np.ndarray, "frames 8"],
    ) -> tuple[Float[np.ndarray, "frames points 3"], Float[np.ndarray, "frames points 3"]]:
        """Points and normals after the arms have moved."""
        y, m = x.copy(), n.copy()
        for s in (0, 1):
            upper, fore = (D.astype(x.dtype) for D in self.turns(angles, s))
            elbow, wrist = self._joints(angles, s)
            on = [np.flatnonzero((self.side == s) & (self.level == k)) for k in (1, 2, 3)]
            y[:, on[0]] = _about(upper, x[:, on[0]], self.shoulder[:, s], self.shoulder[:, s])
            y[:, on[1]] = _about(fore, x[:, on[1]], self.elbow[:, s], elbow)
            y[:, on[2]] = x[:, on[2]] + (wrist - self.wrist[:, s])[:, None].astype(x.dtype)
            m[:, on[0]] = n[:, on[0]] @ upper.transpose(0, 2, 1)
            m[:, on[1]] = n[:, on[1]] @ fore.transpose(0, 2, 1)
        return y, m

    def _joints(self, angles: np.ndarray, s: int) -> tuple[np.ndarray, np.ndarray]:
        """Elbow and wrist after the arm has moved."""
        upper, fore = self.turns(angles, s)
        a, b, c = self.shoulder[:, s], self.elbow[:, s], self.wrist[:, s]
        elbow = a + (upper @ (b - a)[..., None])[..., 0]
        return elbow, elbow + (fore @ (c - b)[..., None])[..., 0]

    def jacobian(
        self,
        y: Float[np.ndarray, "frames points 3"],
        angles: Float[np.ndarray, "frames 8"],
        frame: Int[np.ndarray, " some"],
        point: Int[np.ndarray, " some"],
    ) -> Float[np.ndarray, "some 3 8"]:
        """How points move with the angles, where they now are."""
        J = np.zeros((len(point), 3, UNKNOWNS))
        for s in (0, 1):
            elbow, wrist = self._joints(angles, s)
            upper, _ = self.turns(angles, s)
            axis = (upper @ self.axis[:, s, :, None])[..., 0]
            left = _left_jacobian(angles[:, 4 * s : 4 * s + 3])
            mine = np.flatnonzero((self.side[point] == s) & (self.level[point] > 0))
            f, level = frame[mine], self.level[point[mine]]
            # A hand does not turn, so all of it moves as its wrist does.
            at = np.where((level == 3)[:, None], wrist[f], y[f, point[mine]])
            J[mine, :, 4 * s : 4 * s + 3] = -skew(at - self.shoulder[f, s]) @ left[f]
            bends = np.cross(axis[f], at - elbow[f])
            J[mine, :, 4 * s + 3] = np.where((level >= 2)[:, None], bends, 0.0)
        return J

    def turned(
        self,
        skeleton: DrivenSkeleton,
        joints: tuple[tuple[int, int, int], tuple[int, int, int]],
        R: Float[np.ndarray, "frames joints 3 3"],
        angles: Float[np.ndarray, "frames 8"],
    ) -> Float[np.ndarray, "frames joints 3 3"]:
        """World rotations of all joints after the arms have moved."""
        result = R.copy()
        for s, (arm, forearm, hand) in enumerate(joints):
            upper, fore = self.turns(angles, s)
            parents = skeleton.skin.parents
            in_hand, in_forearm = below(parents, hand), below(parents, forearm)
            for j in np.flatnonzero(below(parents, arm) & ~in_hand):
                result[:, j] = (fore if in_forearm[j] else upper) @ R[:, j]
        return result


def solve_arms(
    arms: Arms, terms: Terms, angles: Float[np.ndarray, "frames 8"], fps: float
) -> Float[np.ndarray, "frames 8"]:
    """The angles after one step of Gauss-Newton.

    The step minimises the terms plus length^2 (STAY |angles|^2 + s |second difference|^2), where s
    is such that periods of `SMOOTH_S` are held back by half.
    """
    frames = len(angles)
    unit = arms.length_m**2
    smooth = unit / (2 * np.pi / max(SMOOTH_S * fps, 3.0)) ** 4
    coupling = _second_difference(frames)
    eye = np.eye(UNKNOWNS)
    blocks = [
        np.tile(smooth * c[:, None, None] * eye, (1, 1, 1)) for c in (coupling[0], *coupling[1:])
    ]
    blocks[0] = blocks[0] + terms.H + STAY * unit * eye
    right = terms.g - STAY * unit * angles
    right -= smooth * _banded_product(coupling, angles)
    step, _ = solve_chain(
        blocks, np.zeros((frames, UNKNOWNS, 0)), np.zeros((0, 0)), right, np.zeros(0)
    )
    longest = np.abs(step).max(initial=0)
    step *= min(1.0, LONGEST_STEP_RAD / max(longest, 1e-9))
    return arms.limited(angles + step)


def _second_difference(frames: int) -> list[Float[np.ndarray, " frames"]]:
    """Diagonals 0, 1 and 2 of D^T D, where D takes second differences."""
    diagonals = [np.zeros(frames) for _ in range(3)]
    for k, row in enumerate((1.0, -2.0, 1.0)):
        for m in range(k, 3):
            other = (1.0, -2.0, 1.0)[m]
            diagonals[m - k][k : frames - 2 + k] += row * other
    return diagonals


def _banded_product(diagonals: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The symmetric banded matrix times x."""
    y = diagonals[0][:, None] * x
    for o, d in enumerate(diagonals[1:], 1):
        y[: len(x) - o] += d[: len(x) - o, None] * x[o:]
        y[o:] += d[: len(x) - o, None] * x[: len(x) - o]
    return y


def _about(
    R: np.ndarray, x: np.ndarray, before: np.ndarray, after: np.ndarray
) -> Float[np.ndarray, "frames points 3"]:
    before, after = before.astype(x.dtype), after.astype(x.dtype)
    return (x - before[:, None]) @ R.transpose(0, 2, 1) + after[:, None]


def _left_jacobian(v: Float[np.ndarray, "frames 3"]) -> Float[np.ndarray, "frames 3 3"]:
    """Turns changes of a rotation vector into small rotations in world axes (Sola, Deray and
    Atchuthan, "A micro Lie theory", 2018, eq. 145)."""
    angle = np.linalg.norm(v, axis=-1)[:, None, None]
    K = skew(v)
    safe = np.maximum(angle, 1e-4)
    return np.eye(3) + (1 - np.cos(safe)) / safe**2 * K + (safe - np.sin(safe)) / safe**3 * (K @ K)
