"""Skeletons of SA-PD: points read off bodies, aligned bone by bone, and each bone's turn.

After section 4.2 of "Mesh-based video action imitation": the pose's skeleton is rebuilt with the
identity's bone lengths along its own bone directions, from the root outwards; then every bone gets
the transformation, in the local coordinates of the bone before it, that takes the identity's
skeleton to the rebuilt one. Directions say nothing of a bone's twist, which is why heads and hands
come out wrong; that is the baseline's known weakness and left in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations, shortest_rotation
from mvai.types.names import FINGERS, SIDES

ENDS = (
    ("Head", "nose"),
    ("LeftToeBase", "left_big_toe"),
    ("RightToeBase", "right_big_toe"),
    *(
        (f"{side}Hand{finger}3", f"{side.lower()}_hand_{finger.lower()}_4")
        for side in SIDES
        for finger in FINGERS
    ),
)
"""Joints at the end of the body's tree, and the key-point in which each one's bone ends."""


@dataclass(frozen=True)
class Skeleton:
    """A tree of named points; every point but the first ends the bone from its parent."""

    names: tuple[str, ...]
    parents: tuple[int, ...]

    @property
    def bones(self) -> tuple[int, ...]:
        """The points in which bones end."""
        return tuple(range(1, len(self.names)))

    def bone_parents(self) -> tuple[int, ...]:
        """For every bone the bone before it, -1 at the root."""
        return tuple(self.parents[i] - 1 for i in self.bones)

    def bone_names(self) -> tuple[str, ...]:
        return tuple(f"{self.names[self.parents[i]]}_{self.names[i]}" for i in self.bones)


def body_skeleton(body: LinearBody) -> Skeleton:
    """The body's joints, with an end for every last one that has a key-point."""
    names, parents = list(body.joints), list(body.parents)
    for joint, point in ENDS:
        if joint in body.joints and point in body.regressed:
            names.append(point)
            parents.append(body.joint(joint))
    return Skeleton(tuple(names), tuple(parents))


def aligned(
    skeleton: Skeleton,
    pose: Float[np.ndarray, "frames points 3"],
    identity: Float[np.ndarray, "points 3"],
) -> Float[np.ndarray, "frames points 3"]:
    """The pose's skeleton with the identity's bone lengths, its root where the identity's is."""
    out = np.empty(pose.shape)
    out[:, 0] = identity[0]
    for i in skeleton.bones:
        p = skeleton.parents[i]
        way = pose[:, i] - pose[:, p]
        way = way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-9)
        out[:, i] = out[:, p] + way * np.linalg.norm(identity[i] - identity[p])
    return out


def bone_rotations(
    skeleton: Skeleton,
    posed: Float[np.ndarray, "frames points 3"],
    identity: Float[np.ndarray, "points 3"],
) -> Float[np.ndarray, "frames bones 3 3"]:
    """World rotation of every bone that takes the identity's skeleton to the posed one.

    The body as a whole is turned by the rotation that fits the bones at the root best (least
    squares over their directions). Every further bone turns, in the local coordinates of the bone
    before it, by the smallest rotation between the two directions.
    """
    rest = np.stack([identity[i] - identity[skeleton.parents[i]] for i in skeleton.bones])
    way = np.stack([posed[:, i] - posed[:, skeleton.parents[i]] for i in skeleton.bones], 1)
    first = [b for b, before in enumerate(skeleton.bone_parents()) if before < 0]
    root = nearest_rotations(np.einsum("fbi,bj->fij", way[:, first], rest[first]))
    R = np.empty((*way.shape, 3))
    for b, before in enumerate(skeleton.bone_parents()):
        above = root if before < 0 else R[:, before]
        local = np.einsum("fji,fj->fi", above, way[:, b])
        R[:, b] = above @ shortest_rotation(np.broadcast_to(rest[b], local.shape), local)
    return R
