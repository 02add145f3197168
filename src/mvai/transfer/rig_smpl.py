"""Reads the movement of a sequence in the vertex order of SMPL or SMPL-X.

The body is the one of the user's own model file. Its joints turn as ours would from another rest
pose, so each world rotation is preceded by what takes our rest to theirs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mvai.body import body_model
from mvai.body.model import LinearBody
from mvai.body.retarget import rest_skeleton, swings
from mvai.transfer.rig_source import SourceMotion, body_motion
from mvai.types import MeshSequence, MvaiError

MODELS = {"smpl": ("smpl", "smplh"), "smplx": ("smplx",)}
"""Models with the vertices of each topology."""


def smpl_body_of(topology: str, path: Path | None) -> LinearBody:
    """A body with the vertices of `topology`, from the user's files.

    Raises:
        MvaiError: there is no such file.
    """
    errors = []
    for model in MODELS[topology]:
        try:
            return body_model(model, path)  # type: ignore[arg-type]
        except MvaiError as error:
            errors.append(error)
    raise MvaiError(f"The mesh sequence has the vertices of {topology.upper()}. {errors[0]}")


def smpl_motion(body: LinearBody, sequence: MeshSequence, path: Path | None) -> SourceMotion:
    """Movement of such a sequence in terms of our body's joints.

    Args:
        body: ours.
        sequence: in topology "smpl" or "smplx".
        path: file or folder of the model.

    Raises:
        MvaiError: the model file is missing, or the sequence is not in its topology.
    """
    theirs = smpl_body_of(sequence.topology, path)
    motion = body_motion(theirs, sequence)
    positions, _ = rest_skeleton(theirs)
    swing = swings(body, positions, {})
    R = np.empty((sequence.frames, len(body.joints), 3, 3))
    for j, name in enumerate(body.joints):
        single = theirs.joints.count("LeftHandIndex1") == 0
        finger = "Hand" in name and not name.endswith("Hand")
        if name in theirs.joints and not (finger and single):
            bring = swing[name[: name.index("Hand") + 4]] if finger else swing[name]
            R[:, j] = motion.R_world_joint[:, theirs.joint(name)] @ bring
        else:
            R[:, j] = R[:, body.parents[j]]
    return replace(motion, R_world_joint=R)
