"""Keeps what hands hold out of the floor.

A copied arm swings a sword or a staff that no person in the source held, and through the ground.
The wrist turns it up the shortest way, as far as the tip is below the floor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.spatial.transform import Rotation

from mvai.body.skinning import skinned_part
from mvai.geometry.rigid import transforms
from mvai.transfer.floor import held
from mvai.transfer.rig_retarget import DrivenSkeleton, positions_on
from mvai.transfer.rig_soles import outermost

SMOOTH_S = 0.08
FURTHEST_RAD = 0.9
"""A wrist turns up by no more than this; a longer staff goes into the ground."""
ROUNDS = 3
"""After a turn another point may be the lowest."""


def above_floor(
    skeleton: DrivenSkeleton,
    rest: Float[np.ndarray, "verts 3"],
    hands: Sequence[int],
    R: Float[np.ndarray, "frames joints 3 3"],
    t: Float[np.ndarray, "frames joints 3"],
    fps: float,
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
    """World rotations and positions in which nothing that hands hold is below y = 0.

    Args:
        skeleton: the character's.
        rest: its vertices at rest (metres).
        hands: its hand joints.
        R: world rotations.
        t: world positions.
        fps: frames a second.
    """
    parents = skeleton.skin.parents
    for hand in hands:
        ids = np.flatnonzero(held(skeleton.skin, rest, [hand]))
        if not len(ids):
            continue
        ids = ids[outermost(rest[ids])]
        below = [j == hand for j in range(len(parents))]
        for j, p in enumerate(parents):
            below[j] = below[j] or (p >= 0 and below[p])
        turned = np.zeros(len(R))
        for _ in range(ROUNDS):
            moved = skinned_part(skeleton.skin, rest, transforms(R, t), ids).astype(np.float64)
            tip = moved[np.arange(len(R)), moved[..., 1].argmin(1)] - t[:, hand]
            angle = np.minimum(_lift(tip, t[:, hand, 1], fps), FURTHEST_RAD - turned)
            if angle.max() < 1e-3:
                break
            turned += angle
            axis = np.cross(tip, [0, 1.0, 0])
            axis = gaussian_filter1d(axis, SMOOTH_S * fps, axis=0, mode="nearest")
            axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-9)
            D = Rotation.from_rotvec(axis * angle[:, None]).as_matrix()
            R = R.copy()
            R[:, below] = D[:, None] @ R[:, below]
            t = positions_on(skeleton, R, t[:, skeleton.root])
    return R, t


def _lift(
    tip: Float[np.ndarray, "frames 3"], wrist_m: Float[np.ndarray, " frames"], fps: float
) -> Float[np.ndarray, " frames"]:
    """Angle by which to turn `tip`, from the wrist at that height, up to the floor; smooth over
    time and nowhere too small."""
    length = np.maximum(np.linalg.norm(tip, axis=1), 1e-6)
    now = np.arcsin(np.clip(tip[:, 1] / length, -1, 1))
    wanted = np.arcsin(np.clip(-wrist_m / length, -1, 0))
    need = np.where(wrist_m > 0, np.maximum(wanted - now, 0), 0)
    highest = maximum_filter1d(need, 2 * round(2 * SMOOTH_S * fps) + 1)
    return gaussian_filter1d(highest, SMOOTH_S * fps, mode="nearest", truncate=2)
