"""One leg of a character: how far it reaches, reaching, and tipping its foot."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mvai.geometry.rigid import shortest_rotation
from mvai.transfer.rig_retarget import DrivenSkeleton

STRAIGHT = 0.998
"""A leg is not made straighter than this, so that it cannot snap."""
MOST_TIPPED_RAD = np.radians(15)
"""A foot is tipped by no more than this."""
TIP_S = 0.03
"""Tips are averaged over this time."""


def _longest(
    leg: tuple[int, int, int], t: Float[np.ndarray, "frames joints 3"]
) -> Float[np.ndarray, " frames"]:
    """Longest distance of hip and ankle: a leg that is straighter already stays so."""
    hip, knee, ankle = (t[:, j] for j in leg)
    length = np.linalg.norm(knee - hip, axis=1) + np.linalg.norm(ankle - knee, axis=1)
    now = np.linalg.norm(ankle - hip, axis=1)
    return np.maximum(STRAIGHT * length, np.minimum(now, length))


def out_of_reach(
    leg: tuple[int, int, int],
    t: Float[np.ndarray, "frames joints 3"],
    target: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, " frames"]:
    """How far the hip is too high for the ankle to meet `target` (metres)."""
    away, longest = t[:, leg[0]] - target, _longest(leg, t)
    aside = np.linalg.norm(away[:, [0, 2]], axis=1)
    upright = np.sqrt(np.maximum(longest**2 - aside**2, 0))
    return np.where(aside < longest, np.maximum(0, away[:, 1] - upright), 0)


def tip_foot(
    skeleton: DrivenSkeleton,
    leg: tuple[int, int, int],
    R: Float[np.ndarray, "frames joints 3 3"],
    t: Float[np.ndarray, "frames joints 3"],
    points: Float[np.ndarray, "frames 2 3"],
    low: Float[np.ndarray, " frames"],
    need: Float[np.ndarray, " frames"],
    stands: Bool[np.ndarray, " frames"],
    tipped: Float[np.ndarray, " frames"],
    fps: float,
) -> tuple[
    Float[np.ndarray, "frames joints 3 3"],
    Float[np.ndarray, " frames"],
    Float[np.ndarray, " frames"],
]:
    """Tips a foot onto its toes where it has to reach further down, and turns toes up that sink.

    Args:
        skeleton: the character's.
        leg: hip, knee and ankle.
        R, t: world rotations and positions.
        points: heel and toes (metres, world).
        low: height of the foot's lowest point.
        need: how much further down it has to reach (metres).
        stands: whether it is planted.
        tipped: how far it has been tipped before (radians).
        fps: frames a second.

    Returns: world rotations, how much higher the ankle may be for it (metres; below zero where toes
    were turned up), and how far the foot has been tipped now.
    """
    heel, toes, ankle = points[:, 0], points[:, 1], t[:, leg[2]]
    forward = (toes - heel) * [1, 0, 1]
    forward /= np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-9)
    front = np.maximum(((toes - ankle) * forward).sum(1), 1e-3)
    back = np.maximum(((ankle - heel) * forward).sum(1), 0)
    # Toes that are higher than the heel reach the floor no sooner for it.
    above = np.maximum(toes[:, 1] - low, 0)
    down = np.arcsin(np.clip((need + above) / front, 0, 1))
    down = np.minimum(down, np.maximum(MOST_TIPPED_RAD - tipped, 0))
    down *= (need > 0) & (np.sin(down) * front > above)
    up = np.arcsin(np.clip(-low / front, 0, 1)) * ~stands
    up = np.minimum(up, np.maximum(heel[:, 1] - toes[:, 1], 0) / (front + back))
    up = np.minimum(up, np.maximum(MOST_TIPPED_RAD + tipped, 0))
    tip = gaussian_filter1d(np.where(need > 0, down, -up), TIP_S * fps, mode="nearest")
    gain = np.sin(tip) * front
    gain = np.where(need > 0, np.clip(gain - above, 0, need), np.clip(gain, np.minimum(low, 0), 0))
    D = Rotation.from_rotvec(np.cross([0.0, 1, 0], forward) * tip[:, None]).as_matrix()
    result = R.copy()
    for j in _from(skeleton, leg[2]):
        result[:, j] = D @ R[:, j]
    return result, gain, tipped + tip


def reach(
    skeleton: DrivenSkeleton,
    leg: tuple[int, int, int],
    R: Float[np.ndarray, "frames joints 3 3"],
    t: Float[np.ndarray, "frames joints 3"],
    target: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, "frames joints 3 3"]:
    """World rotations in which a leg's ankle meets `target`; the foot keeps its orientation.

    Two-bone inverse kinematics: the knee's angle follows from the law of cosines, about the axis
    it already bends about, then the whole leg swings the shortest way.
    """
    hip, knee, ankle = leg
    a, b, c = t[:, hip], t[:, knee], t[:, ankle]
    thigh, shin = np.linalg.norm(b - a, axis=1), np.linalg.norm(c - b, axis=1)
    now = np.linalg.norm(c - a, axis=1)
    shortest = np.abs(thigh - shin) + 1e-4
    wanted = np.clip(np.linalg.norm(target - a, axis=1), shortest, _longest(leg, t))

    def inner(d: np.ndarray) -> np.ndarray:
        cosine = (thigh**2 + shin**2 - d**2) / np.maximum(2 * thigh * shin, 1e-9)
        return np.arccos(np.clip(cosine, -1, 1))

    axis = np.cross(b - a, c - b)
    straight = np.linalg.norm(axis, axis=1) < 1e-3 * thigh * shin
    # A straight leg bends about the knee's own sideways axis: knees fold backwards.
    sideways = R[:, knee] @ skeleton.skin.T_world_joint[knee, :3, :3].T @ np.array([1.0, 0, 0])
    axis = np.where(straight[:, None], sideways, axis)
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-12)
    bend = inner(now) - inner(wanted)
    D_knee = Rotation.from_rotvec(axis * bend[:, None]).as_matrix()
    c_bent = b + (D_knee @ (c - b)[..., None])[..., 0]
    D_hip = shortest_rotation(c_bent - a, target - a)
    result = R.copy()
    result[:, hip] = D_hip @ R[:, hip]
    below = D_hip @ D_knee
    for j in _from(skeleton, knee) - _from(skeleton, ankle):
        result[:, j] = below @ R[:, j]
    return result


def _from(skeleton: DrivenSkeleton, top: int) -> set[int]:
    """A joint and all that hangs from it."""
    found = {top}
    for j, parent in enumerate(skeleton.skin.parents):
        if parent in found:
            found.add(j)
    return found
