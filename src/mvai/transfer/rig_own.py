"""Drives the humanoid rig that a character brings, with its own bones and weights.

The template is fitted to the rig's joints alone, which tells how each bone stands at rest
relative to the template's; the surface is not needed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations, transforms
from mvai.transfer.registration.find_joints import FoundJoints
from mvai.transfer.registration.fit import fit_template
from mvai.transfer.rig_hands import fingerless, resting_fingers, resting_hand
from mvai.transfer.rig_names import body_bones
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.types import Character
from mvai.types.names import SIDES

TRUST = {"ToeBase": 0.3, "Head": 0.2, "Hips": 0.0, "Neck": 0.2, "Shoulder": 0.2}
"""How far the place of a bone means the same in every rig; 1 unless it stands here."""


def own_rig(
    body: LinearBody, character: Character
) -> tuple[DrivenSkeleton, float, Float[np.ndarray, "body_verts 3"]] | None:
    """The character's own rig made ready to be driven, the mean distance (metres) between its
    joints and the fitted template's, and the vertices of the latter. None when its bones are not
    recognised."""
    if character.skin is None:
        return None
    bones = body_bones(character.skin)
    if bones is None:
        return None
    skin = character.skin
    # Bones may carry a scale at rest; the pose of the mesh at rest does not depend on it.
    skin = replace(
        skin,
        T_world_joint=transforms(
            nearest_rotations(skin.T_world_joint[:, :3, :3]), skin.T_world_joint[:, :3, 3]
        ),
    )
    names = tuple(bones)
    found = FoundJoints(
        names=names,
        xyz_m=skin.T_world_joint[list(bones.values()), :3, 3],
        confidence=np.array([_trust(n) for n in names]),
    )
    fit = fit_template(body, found, character.mesh, to_surface=False)
    at = {name: skin.T_world_joint[bone, :3, 3] for name, bone in bones.items()}
    R_world_joint = resting_fingers(body, fit.R_world_joint, at)
    source = np.full(len(skin.joints), -1)
    A = np.tile(np.eye(3), (len(skin.joints), 1, 1))
    for name, bone in bones.items():
        j = body.joint(name)
        source[bone] = j
        A[bone] = R_world_joint[j].T @ skin.T_world_joint[bone, :3, :3]
    left, right = ((bones[f"{s}UpLeg"], bones[f"{s}Leg"], bones[f"{s}Foot"]) for s in SIDES)
    skeleton = DrivenSkeleton(
        skin=skin, source=source, A_template_joint=A, legs=(left, right), root=bones["Hips"]
    )
    for side in fingerless(body, skeleton):
        bone, R = bones[f"{side}Hand"], R_world_joint[body.joint(f"{side}Hand")]
        R = resting_hand(body, side, R, skin, character.mesh.vertices, bone)
        A[bone] = R.T @ skin.T_world_joint[bone, :3, :3]
    return skeleton, fit.keypoint_error_m, fit.vertices


def _trust(name: str) -> float:
    bare = name.removeprefix("Left").removeprefix("Right")
    if bare.startswith("Spine"):
        return 0.0
    if bare.startswith("Hand") and bare != "Hand":
        return 0.3
    return TRUST.get(bare, 1.0)
