"""Puts a body's movement on a character's skeleton.

World rotations are copied, because source and character share their rest frames: a joint of the
character stands in `A` of the template's frame at rest and in `R A` when the source's joint has
turned by R. Positions follow along the character's own bones. The root path is scaled by leg
length, so that steps fit the legs, and set on the floor by the lowest point of both surfaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mvai.transfer.legs import Legs
from mvai.types import Skin

SAME_NAMES = 0.8
"""Rigs that share at least this part of their bones' names may be of one make."""
SAME_FRAMES_RAD = 0.2
"""Largest median angle between bones in their parents' frames for rigs of one make."""


@dataclass(frozen=True)
class Twist:
    """A joint that has a part of the twist between a bone and another joint."""

    joint: int
    bone: int
    """The bone that it hangs from and helps."""
    other: int
    share: float
    """Above zero: the part that it has of the twist of `other`, the bone's child, against the bone.
    Below zero: the part that it takes back of the bone's twist against `other`, its parent."""


@dataclass(frozen=True)
class DrivenSkeleton:
    """A character's skeleton and how the body's joints drive it."""

    skin: Skin
    source: Int[np.ndarray, " joints"]
    """The body's joint whose rotation each joint takes; -1 follows its parent."""
    A_template_joint: Float[np.ndarray, "joints 3 3"]
    """Orientation of each joint's frame when the body's joint is at the template's rest."""
    legs: Legs
    """Upper leg, lower leg and foot of the left and right leg."""
    root: int
    """The joint that stands for the hips."""
    twists: tuple[Twist, ...] = ()


def shared_bones(source: Skin, target: Skin) -> dict[int, int]:
    """The source's bone for each bone of the target, when both rigs are of one make; else empty.

    Rigs of one make use the same names and, up to some difference in rest pose, lay their bones
    alike in their frames. Then orientations can be copied bone by bone, which is exact, also for
    fingers and for as many spine bones as there are.
    """
    theirs = {name: i for i, name in enumerate(source.joints)}
    pairs = {j: theirs[name] for j, name in enumerate(target.joints) if name in theirs}
    if len(pairs) < SAME_NAMES * min(len(source.joints), len(target.joints)):
        return {}
    angles = []
    for j, i in pairs.items():
        p, q = target.parents[j], source.parents[i]
        if p >= 0 and pairs.get(p) == q:
            a, b = _bone_in_parent(target, j, p), _bone_in_parent(source, i, q)
            length = np.linalg.norm(a) * np.linalg.norm(b)
            if length > 1e-9:
                angles.append(np.arccos(np.clip(a @ b / length, -1, 1)))
    return pairs if angles and np.median(angles) < SAME_FRAMES_RAD else {}


def _bone_in_parent(skin: Skin, child: int, parent: int) -> Float[np.ndarray, "3"]:
    T = skin.T_world_joint
    return T[parent, :3, :3].T @ (T[child, :3, 3] - T[parent, :3, 3])


def rotations_on(
    skeleton: DrivenSkeleton,
    R_source: Float[np.ndarray, "frames body_joints 3 3"],
    given: Mapping[int, Float[np.ndarray, "frames 3 3"]] | None = None,
) -> Float[np.ndarray, "frames joints 3 3"]:
    """World rotation of the character's joints in every frame.

    Args:
        skeleton: the character's.
        R_source: world rotations of the body's joints, relative to the template's rest.
        given: world rotations of joints that are known as they stand.
    """
    skin = skeleton.skin
    given = given or {}
    rest = skin.T_world_joint[:, :3, :3]
    R = np.empty((len(R_source), len(skin.joints), 3, 3))
    for j, p in enumerate(skin.parents):
        s = skeleton.source[j]
        if j in given:
            R[:, j] = given[j]
        elif s >= 0:
            R[:, j] = R_source[:, s] @ skeleton.A_template_joint[j]
        elif p >= 0:
            R[:, j] = R[:, p] @ rest[p].T @ rest[j]
        else:
            R[:, j] = rest[j]
    return R


def positions_on(
    skeleton: DrivenSkeleton,
    R: Float[np.ndarray, "frames joints 3 3"],
    root_position: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, "frames joints 3"]:
    """World positions along the character's own bones, with its hips at `root_position`."""
    skin = skeleton.skin
    rest, at = skin.T_world_joint[:, :3, :3], skin.T_world_joint[:, :3, 3]
    t = np.zeros((*R.shape[:2], 3))
    for j, p in enumerate(skin.parents):
        if p >= 0:
            t[:, j] = t[:, p] + R[:, p] @ (rest[p].T @ (at[j] - at[p]))
    return t + (root_position - t[:, skeleton.root])[:, None]
