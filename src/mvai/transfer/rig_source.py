"""Reads the movement of a source off its moving surface: of our body, or of any mesh.

A mesh in no known topology is read through the registration of its rest pose, made by the same
`register` as that of the character to be driven: bones and weights are then known, and linear
blend skinning is linear in the bones' affine transforms, so all frames are one least-squares
problem with one small matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations
from mvai.transfer.rig_floor import sole_groups
from mvai.transfer.rig_retarget import DrivenSkeleton, body_legs, leg_length
from mvai.transfer.rig_solve import solve_motion
from mvai.types import Character, MeshSequence, MvaiError, Skin
from mvai.types.names import FINGERS

FEET = ("left_heel", "left_foot_index", "right_heel", "right_foot_index")
HOLD_TOGETHER = 1.0
"""How strongly neighbouring bones agree on the joint between them, as a share of the weight that
an average bone's vertices have."""
TURN_TOGETHER = 3e-4
"""Likewise on their turns."""
TURN_TRUNK_TOGETHER = 0.1
"""Bones of the trunk, whose vertices hang from several of them: it bends as a whole."""
TURN_FINGERS_TOGETHER = 1e-5
TRUNK = ("Spine", "Neck", "Shoulder")


@dataclass(frozen=True)
class SourceMotion:
    """A movement in terms of the body's joints."""

    R_world_joint: Float[np.ndarray, "frames body_joints 3 3"]
    """World rotation of every joint relative to the template's rest."""
    root: Float[np.ndarray, "frames 3"]
    """World position of the hips (metres)."""
    leg_m: float
    """Length from hip over knee to ankle."""
    feet: tuple[Float[np.ndarray, "frames 2 3"], Float[np.ndarray, "frames 2 3"]]
    """Heel and toes of the left and right foot."""
    lowest: Float[np.ndarray, " frames"]
    """Height of the lowest vertex."""
    skin: Skin | None = None
    """The rig that the source itself brought."""
    R_world_bone: Float[np.ndarray, "frames bones 3 3"] | None = None
    """World rotation of that rig's bones."""


def body_motion(body: LinearBody, sequence: MeshSequence) -> SourceMotion:
    """Movement of a sequence in the body's own topology.

    Raises:
        MvaiError: When it is in another topology, or not finite.
    """
    motion = solve_motion(body, sequence)
    feet = body.regress(FEET, sequence.vertices).astype(np.float64)
    return SourceMotion(
        R_world_joint=motion.R_world_joint,
        root=motion.t_world_joint[:, 0],
        leg_m=leg_length(motion.t_world_joint[0], body_legs(body)),
        feet=(feet[:, :2], feet[:, 2:]),
        lowest=sequence.vertices[..., 1].min(1).astype(np.float64),
    )


def mesh_motion(
    body: LinearBody, sequence: MeshSequence, character: Character, skeleton: DrivenSkeleton
) -> SourceMotion:
    """Movement of any mesh sequence whose rest pose has been registered.

    Args:
        body: the template.
        sequence: in the vertex order of `character`.
        character: the source at rest.
        skeleton: its bones and weights.

    Raises:
        MvaiError: When the numbers of vertices differ or positions are not finite.
    """
    skin, rest = _without_twists(skeleton), character.mesh.vertices
    V = np.asarray(sequence.vertices, np.float32)
    if V.shape[1] != len(rest):
        raise MvaiError(
            f"The mesh sequence has {V.shape[1]} vertices and its rest pose {character.name} "
            f"{len(rest)}; they must be the same mesh."
        )
    if not np.isfinite(V).all():
        raise MvaiError("The mesh sequence has positions that are not numbers; make it again.")
    D = bone_transforms(skin, rest, V)
    R_moved = nearest_rotations(D[..., :3])
    R_bone = R_moved @ skin.T_world_joint[:, :3, :3]
    R = np.tile(np.eye(3), (len(V), len(body.joints), 1, 1))
    known = np.zeros(len(body.joints), bool)
    for bone, joint in enumerate(skeleton.source[: len(skin.joints)]):
        if joint >= 0:
            R[:, joint] = R_bone[:, bone] @ skeleton.A_template_joint[bone].T
            known[joint] = True
    for joint, parent in enumerate(body.parents):
        if not known[joint] and parent >= 0:
            local = _finger_beside(body, joint, known)
            R[:, joint] = R[:, parent]
            if local is not None:
                above = R[:, body.parents[local]].transpose(0, 2, 1)
                R[:, joint] = R[:, parent] @ above @ R[:, local]
    at = skin.T_world_joint[skeleton.root, :3, 3]
    own = character.skin is not None and character.skin.joints == skin.joints
    return SourceMotion(
        R_world_joint=R,
        root=np.einsum("fab,b->fa", D[:, skeleton.root, :, :3], at) + D[:, skeleton.root, :, 3],
        leg_m=leg_length(skin.T_world_joint[:, :3, 3], skeleton.legs),
        feet=(
            _heel_and_toes(skin, rest, V, skeleton.legs[0][2]),
            _heel_and_toes(skin, rest, V, skeleton.legs[1][2]),
        ),
        lowest=V[..., 1].min(1).astype(np.float64),
        skin=skin if own else None,
        R_world_bone=R_bone if own else None,
    )


def _finger_beside(body: LinearBody, joint: int, known: np.ndarray) -> int | None:
    """The same joint of the nearest finger that the source has: fingers bend together."""
    name = body.joints[joint]
    mine = next((k for k, f in enumerate(FINGERS[1:]) if f in name), None)
    if mine is None:
        return None
    for other in sorted(range(len(FINGERS) - 1), key=lambda k: abs(k - mine)):
        twin = body.joint(name.replace(FINGERS[1:][mine], FINGERS[1:][other]))
        if known[twin]:
            return twin
    return None


def bone_transforms(
    skin: Skin, rest: Float[np.ndarray, "verts 3"], V: Float[np.ndarray, "frames verts 3"]
) -> Float[np.ndarray, "frames joints 3 4"]:
    """Affine transforms of all bones, from the world at rest to the world of each frame.

    Least squares over the vertices. A bone and its parent agree a little at points around their
    joint, so that bones with few vertices of their own follow their parents.
    """
    J = len(skin.joints)
    size = float(np.ptp(rest[:, 1]))
    at = skin.T_world_joint[:, :3, 3]
    middle = rest.mean(0)
    n = len(rest)
    dense = np.zeros((n, J), np.float32)
    np.add.at(dense, (np.arange(n)[:, None], skin.weight_indices), skin.weights)
    # Lengths in tenths of the height, so that all four columns are alike in size.
    homogeneous = np.concatenate([(rest - middle) / (0.1 * size), np.ones((n, 1))], 1)
    A = (dense[:, :, None] * homogeneous[:, None]).reshape(n, 4 * J).astype(np.float32)
    N = (A.T @ A).astype(np.float64)
    unit = n / J
    turn = np.array([_turn_together(name) for name in skin.joints])
    for j, p in enumerate(skin.parents):
        if p < 0:
            continue
        q = np.concatenate([(at[j] - middle) / (0.1 * size), [1.0]])
        P = HOLD_TOGETHER * unit * np.outer(q, q)
        P[:3, :3] += turn[j] * unit * np.eye(3)
        for a, b, sign in ((j, j, 1), (p, p, 1), (j, p, -1), (p, j, -1)):
            N[4 * a : 4 * a + 4, 4 * b : 4 * b + 4] += sign * P
    N += 1e-9 * unit * np.eye(4 * J)
    stacked = (V - middle.astype(np.float32)).transpose(1, 0, 2).reshape(n, -1)
    X = np.linalg.solve(N, (A.T @ stacked).astype(np.float64))
    D = X.reshape(J, 4, len(V), 3).transpose(2, 0, 3, 1)
    D[..., :3] /= 0.1 * size
    D[..., 3] += middle - D[..., :3] @ middle
    return D


def _without_twists(skeleton: DrivenSkeleton) -> Skin:
    """The skin without twist bones, which are its last: a bone is read off all of its surface."""
    skin = skeleton.skin
    if not skeleton.twists:
        return skin
    count = min(twist.joint for twist in skeleton.twists)
    bone = np.arange(len(skin.joints))
    bone[[twist.joint for twist in skeleton.twists]] = [twist.bone for twist in skeleton.twists]
    return Skin(
        skin.joints[:count],
        skin.parents[:count],
        skin.T_world_joint[:count],
        bone[skin.weight_indices].astype(skin.weight_indices.dtype),
        skin.weights,
    )


def _turn_together(joint: str) -> float:
    """Weight of a bone's agreement with its parent, for bones of our own skeleton."""
    name = joint.removeprefix("Left").removeprefix("Right")
    if name.startswith(TRUNK):
        return TURN_TRUNK_TOGETHER
    finger = name.startswith("Hand") and name != "Hand"
    return TURN_FINGERS_TOGETHER if finger else TURN_TOGETHER


def _heel_and_toes(
    skin: Skin, rest: np.ndarray, V: np.ndarray, ankle: int
) -> Float[np.ndarray, "frames 2 3"]:
    """Middle of the back and the front of a foot's sole in every frame."""
    return np.stack([V[:, ids].mean(1) for ids in sole_groups(skin, rest, ankle)], 1).astype(float)
