"""Twist bones: extra joints that spread a limb's twist along it.

Linear blend skinning pinches a surface between bones that are turned against each other about
their length ("candy wrapper"). A hand's twist is therefore handed on along the forearm, and that
of an upper arm or thigh comes in along it instead of at the shoulder or hip. The extra joints hang
from the bone that they help and have no children, so that the hierarchy stays what it was; and
since they are joints, they go into any file that holds a skin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.geometry.surface import components, weld
from mvai.transfer.registration.weights import prune
from mvai.transfer.rig_retarget import DrivenSkeleton, Twist
from mvai.types import Mesh, Skin
from mvai.types.names import SIDES

FIRST, LAST = 0.1, 0.9
"""Part of a bone's length over which the twist rises."""
FARTHEST_RAD = 1.25 * np.pi
"""A twist that has wound up further than this is taken to be one turn less."""


@dataclass(frozen=True)
class Limb:
    """A bone that gets twist joints."""

    bone: str
    other: str
    """The joint against which it twists: its child, whose twist it takes up, or its parent."""
    end: str
    """The joint at its end."""
    joints: int


LIMBS = tuple(
    Limb(side + bone, other if other == "Hips" else side + other, side + end, joints)
    for side in SIDES
    for bone, other, end, joints in (
        ("ForeArm", "Hand", "Hand", 3),
        ("Arm", "Shoulder", "ForeArm", 2),
        ("UpLeg", "Hips", "Leg", 2),
    )
)


def with_twist_bones(skeleton: DrivenSkeleton, body: LinearBody, mesh: Mesh) -> DrivenSkeleton:
    """The skeleton with twist bones, which take over part of their bones' weights.

    Args:
        skeleton: has the body's joints.
        body: the template.
        mesh: the character at rest. Its loose pieces that move as one still do.
    """
    vertices = mesh.vertices
    skin = skeleton.skin
    names, parents = list(skin.joints), list(skin.parents)
    Ts, twists = list(skin.T_world_joint), []
    count = len(skin.joints) + sum(limb.joints for limb in LIMBS)
    W = np.zeros((len(vertices), count), np.float32)
    np.add.at(W, (np.arange(len(W))[:, None], skin.weight_indices), skin.weights)
    hard = hard_pieces(mesh, W)
    for limb in LIMBS:
        bone, other, end = (body.joint(n) for n in (limb.bone, limb.other, limb.end))
        start = skin.T_world_joint[bone, :3, 3]
        way = skin.T_world_joint[end, :3, 3] - start
        # The bone itself has nothing of its child's twist, and all of its own.
        takes_up = limb.other == limb.end
        shares = np.linspace(0, 1, limb.joints + 1)
        along = []
        for k, share in enumerate(shares):
            if k == (0 if takes_up else limb.joints):
                along.append(bone)
                continue
            twists.append(Twist(len(names), bone, other, share if takes_up else share - 1))
            along.append(len(names))
            names.append(f"{limb.bone}Twist{k if takes_up else k + 1}")
            parents.append(bone)
            T = skin.T_world_joint[bone].copy()
            T[:3, 3] += (FIRST + (LAST - FIRST) * share) * way
            Ts.append(T)
        at = ((vertices - start) @ way / (way @ way) - FIRST) / (LAST - FIRST)
        # Weights of the two joints around each vertex, linear between them.
        at = np.where(hard >= 0, _nearest_share(at, hard, limb.joints), at)
        hats = np.maximum(1 - np.abs(np.clip(at, 0, 1)[:, None] - shares) * limb.joints, 0)
        W[:, along] = W[:, bone, None] * hats
    indices, weights = prune(W)
    new = count - len(skin.joints)
    return replace(
        skeleton,
        skin=Skin(tuple(names), tuple(parents), np.stack(Ts), indices, weights),
        source=np.concatenate([skeleton.source, np.full(new, -1)]),
        A_template_joint=np.concatenate(
            [skeleton.A_template_joint, np.tile(np.eye(3), (new, 1, 1))]
        ),
        twists=tuple(twists),
    )


def hard_pieces(mesh: Mesh, W: Float[np.ndarray, "verts joints"]) -> Int[np.ndarray, " verts"]:
    """Number of the loose piece of each vertex, -1 where weights change within the piece."""
    _, welded = weld(mesh.vertices, 1e-5 * float(np.ptp(mesh.vertices[:, 1])))
    piece = components(welded.max() + 1, welded[mesh.faces])[welded]
    first = np.unique(piece, return_index=True)[1]
    differs = np.abs(W - W[first[piece]]).max(1) > 1e-4
    soft = np.bincount(piece, differs, piece.max() + 1) > 0
    return np.where(soft[piece], -1, piece)


def _nearest_share(
    at: Float[np.ndarray, " verts"], hard: Int[np.ndarray, " verts"], steps: int
) -> Float[np.ndarray, " verts"]:
    """One place along the bone for all of a hard piece, at a joint."""
    number = np.maximum(hard, 0)
    mean = np.bincount(number, np.clip(at, 0, 1)) / np.maximum(np.bincount(number), 1)
    return (np.round(mean * steps) / steps)[number]


def twisted(
    skeleton: DrivenSkeleton, R: Float[np.ndarray, "frames joints 3 3"]
) -> Float[np.ndarray, "frames joints 3 3"]:
    """World rotations with those of the twist bones set after the bones that they help."""
    R = R.copy()
    rest, at = skeleton.skin.T_world_joint[:, :3, :3], skeleton.skin.T_world_joint[:, :3, 3]
    for twist in skeleton.twists:
        axis = at[twist.joint] - at[twist.bone]
        axis = axis / np.linalg.norm(axis)
        turn, other = (R[:, j] @ rest[j].T for j in (twist.bone, twist.other))
        if twist.share > 0:
            angle = twist_angle(turn.transpose(0, 2, 1) @ other, axis)
        else:
            angle = twist_angle(other.transpose(0, 2, 1) @ turn, axis)
        back = Rotation.from_rotvec(twist.share * angle[:, None] * axis).as_matrix()
        R[:, twist.joint] = turn @ back @ rest[twist.joint]
    return R


def twist_angle(
    Q: Float[np.ndarray, "frames 3 3"], axis: Float[np.ndarray, "3"]
) -> Float[np.ndarray, " frames"]:
    """The angle (radians) of rotations about an axis, the swing of the axis taken out.

    Q = swing twist, where the swing's own axis is perpendicular (Dobrowolski, "Swing-twist
    decomposition in Clifford algebra", 2015). It runs on past half a turn, as joints do.
    """
    q = Rotation.from_matrix(Q).as_quat()
    # q and -q are one rotation; the one whose angle is within half a turn is taken.
    q *= np.where(q[:, 3:] < 0, -1.0, 1.0)
    angle = np.unwrap(2 * np.arctan2(q[:, :3] @ axis, q[:, 3]))
    return angle - 2 * np.pi * np.round(angle / (2 * np.pi)) * (np.abs(angle) > FARTHEST_RAD)
