"""How far the joints that are found in a character are from those of the rig that it brings.

Makers of rigs place joints by eye and for good folds, so that two rigs of one body differ as well;
what is the same in all is where limbs bend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mvai import pipeline
from mvai.body.anny import anny_body
from mvai.io.characters import read_character
from mvai.progress import Silent, Stopwatch
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_names import body_bones
from mvai.types import MvaiError
from mvai.types.names import SIDES

PARTS = {
    "hip": "UpLeg", "knee": "Leg", "ankle": "Foot",
    "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand",
}  # fmt: skip

Joints = Mapping[str, Float[np.ndarray, "3"]]


def joint_errors(found: Joints, own: Joints, height_m: float) -> dict[str, float]:
    """Distance of each pair of limb joints, and the mean of all, in per cent of the height.

    Args:
        found: places of the body's joints.
        own: those of the rig, under the same names; limb joints that it lacks are left out.
        height_m: of the character.
    """
    errors = {}
    for part, name in PARTS.items():
        off = [np.linalg.norm(found[s + name] - own[s + name]) for s in SIDES if s + name in own]
        if off:
            errors[f"{part}_percent"] = 100 * float(np.mean(off)) / height_m
    mean = float(np.mean(list(errors.values()))) if errors else float("nan")
    return errors | {"joints_percent": mean}


def joint_piece(path: Path) -> dict[str, Any]:
    """The row of one character; none when its rig is not recognised.

    Raises:
        MvaiError: the file cannot be read.
    """
    character, body = read_character(path), anny_body()
    bones = None if character.skin is None else body_bones(character.skin)
    if character.skin is None or bones is None:
        return {"rows": []}
    own = {name: character.skin.T_world_joint[bone, :3, 3] for name, bone in bones.items()}
    try:
        registration = pipeline.register(
            replace(character, skin=None), RigTransfer(ignore_rig=True), Stopwatch(Silent())
        )
    except MvaiError as error:
        return {"rows": [{"character": path.stem, "refused": str(error)}]}
    skeleton = registration.skeleton
    found = {
        body.joints[s]: skeleton.skin.T_world_joint[j, :3, 3]
        for j, s in enumerate(skeleton.source)
        if s >= 0
    }
    height = float(np.ptp(character.mesh.vertices[:, 1]))
    return {"rows": [{"character": path.stem} | joint_errors(found, own, height)]}
