"""Where the hands of a source touch: pairs of a point of a hand and the nearest other point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mvai.body.model import LinearBody
from mvai.geometry.rigid import degrees_between
from mvai.transfer.rig_nearest import movers_of, nearest
from mvai.transfer.rig_points import PointSet
from mvai.types.names import SIDES

TOUCH_M, FAR_M = 0.015, 0.06
"""A hand this near to something touches it, and one this far has nothing to do with it."""
BENT_DEG, ASIDE_DEG = (40.0, 65.0), (25.0, 45.0)
"""An arm whose elbow is bent by less than the first, and that points away from down along the trunk
by less than the first, only hangs; from the second on it does not."""
BESIDE = (0.3, 0.5)
"""Share of a surface's normal that points sideways, from which on a hand is beside it."""


@dataclass(frozen=True)
class Touches:
    """Pairs of points that shall keep their offset."""

    frame: Int[np.ndarray, " pairs"]
    hand: Int[np.ndarray, " pairs"]
    other: Int[np.ndarray, " pairs"]
    offset: Float[np.ndarray, "pairs 3"]
    """From the other point to the hand's, in the source's world (metres)."""
    weight: Float[np.ndarray, " pairs"]
    """Those of one hand in one frame sum to how closely it touches, 0 to 1."""


@dataclass(frozen=True)
class Hanging:
    """Arms that only hang beside the body.

    The hand of an arm that hangs brushes the side of the thigh in every walk, the sooner the
    stouter the body is. Nobody means to touch there, and thighs of another shape would pull the arm
    to them. A hand that is put on the hip, the face or a knee comes with a bent elbow, with an arm
    that points elsewhere, or lies on the front.
    """

    share: Float[np.ndarray, "frames 2"]
    """How much the left and the right arm are straight and point down along the trunk, 0 to 1."""
    across: Float[np.ndarray, "frames 3"]
    """The body's own sideways direction."""

    def touching(
        self,
        points: PointSet,
        n: Float[np.ndarray, "frames points 3"],
        other: Int[np.ndarray, "frames movers"],
        closeness: Float[np.ndarray, "frames movers"],
        side: int,
    ) -> Float[np.ndarray, "frames movers"]:
        """What remains of the closeness of a hand's points: nothing where it only hangs beside.

        Args:
            points: which point is of which part.
            n: unit normals of all points.
            other: what each point of the hand is close to.
            closeness: 0 to 1.
            side: 0 for the left hand, 1 for the right.
        """
        facing = np.take_along_axis(n, other[..., None], 1)
        across = np.abs((facing * self.across[:, None]).sum(-1))
        mean = (closeness * across).sum(1) / np.maximum(closeness.sum(1), 1e-9)
        idle = self.share[:, side] * _rise(mean, *BESIDE)
        # Hands that hang may still touch each other.
        return np.where(points.side()[other] < 0, 1 - idle[:, None], 1.0)


def touches(
    points: PointSet,
    x: Float[np.ndarray, "frames points 3"],
    n: Float[np.ndarray, "frames points 3"],
    size: float,
    hanging: Hanging | None = None,
) -> Touches:
    """Where the source's hands touch.

    Args:
        points: which point is of which part.
        x: their positions (metres, world).
        n: their unit normals.
        size: of the source relative to an adult, by which the distances are scaled.
        hanging: which arms only hang; their hands do not touch what they hang beside.
    """
    on_hand = np.flatnonzero(points.hand[movers_of(points)] >= 0)
    asked = np.zeros((len(x), len(movers_of(points))), bool)
    asked[:, on_hand] = True
    near = nearest(points, x, n, size, asked)
    height = near.height_m[:, on_hand]
    closeness = 1 - _rise(height, TOUCH_M * size, FAR_M * size)
    weight = np.zeros_like(closeness)
    for s in (0, 1):
        mine = points.hand[near.movers[on_hand]] == s
        c = closeness[:, mine]
        if hanging is not None:
            c = c * hanging.touching(points, n, near.other[:, on_hand[mine]], c, s)
        weight[:, mine] = c.max(1, keepdims=True) * c / np.maximum(c.sum(1, keepdims=True), 1e-9)
    frame, k = np.nonzero(weight > 1e-4)
    hand, other = near.movers[on_hand[k]], near.other[frame, on_hand[k]]
    # What is inside the source's body by an error touches the character's from outside.
    lift = np.maximum(-height[frame, k], 0)[:, None] * n[frame, other]
    return Touches(frame, hand, other, x[frame, hand] - x[frame, other] + lift, weight[frame, k])


def hanging_arms(
    body: LinearBody, R_source: Float[np.ndarray, "frames body_joints 3 3"]
) -> Hanging:
    """Which arms hang, by world rotations of the template's joints relative to its rest."""
    rest = body.joint_template.numpy().astype(np.float64)

    def turned(start: str, end: str) -> Float[np.ndarray, "frames 3"]:
        start_joint, end_joint = body.joint(start), body.joint(end)
        return R_source[:, start_joint] @ (rest[end_joint] - rest[start_joint])

    down = turned("Spine1", "Hips")
    share = []
    for side in SIDES:
        upper = turned(f"{side}Arm", f"{side}ForeArm")
        forearm = turned(f"{side}ForeArm", f"{side}Hand")
        bent = _rise(degrees_between(upper, forearm), *BENT_DEG)
        aside = _rise(degrees_between(upper + forearm, down), *ASIDE_DEG)
        share.append((1 - bent) * (1 - aside))
    return Hanging(np.stack(share, 1), R_source[:, body.joint("Hips"), :, 0])


def _rise(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, smooth between them."""
    share = np.clip((x - low) / (high - low), 0, 1)
    return share**2 * (3 - 2 * share)
