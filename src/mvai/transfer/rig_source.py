"""Reads the movement of a source off its moving surface: of our body, or of any mesh.

A mesh in no known topology is read through the registration of its rest pose, made by the same
`register` as that of the character to be driven: bones and weights are then known, and the bones'
transforms follow from all vertices (body/bone_transforms.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mvai.body.bone_transforms import bone_transforms
from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations
from mvai.transfer.legs import body_legs, leg_length
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.transfer.rig_soles import Sole, soles
from mvai.transfer.rig_solve import solve_motion
from mvai.types import Character, MeshSequence, MvaiError, Skin
from mvai.types.names import FINGERS

FEET = ("left_heel", "left_foot_index", "right_heel", "right_foot_index")


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
    left, right = soles(skeleton, rest)
    return SourceMotion(
        R_world_joint=R,
        root=np.einsum("fab,b->fa", D[:, skeleton.root, :, :3], at) + D[:, skeleton.root, :, 3],
        leg_m=leg_length(skin.T_world_joint[:, :3, 3], skeleton.legs),
        feet=(_heel_and_toes(V, left), _heel_and_toes(V, right)),
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


def _heel_and_toes(V: np.ndarray, sole: Sole) -> Float[np.ndarray, "frames 2 3"]:
    """Middle of the back and the front of a foot's sole in every frame."""
    return np.stack([V[:, ids].mean(1) for ids in (sole.heel, sole.toes)], 1).astype(float)
