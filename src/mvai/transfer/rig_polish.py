"""An animation whose surface has been given its own shape back, frame by frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mvai.body.skinning import skinned, skinning_operator
from mvai.geometry.polish import hemispheres, polisher, rotation_quaternions
from mvai.types import Animation

HOLD = 300.0
"""Soles, hands and other parts that move as one stay where contact has put them."""
BLOCK = 32
"""Frames skinned at a time, to bound memory."""


def polished(animation: Animation) -> Animation:
    """The animation with vertices that move freely (see mvai.geometry.polish)."""
    skin, Ts = animation.skin, animation.Ts_world_joint
    assert skin is not None and Ts is not None
    mesh = animation.character.mesh
    P = polisher(
        mesh.vertices, mesh.faces, skin.weight_indices, skin.weights, len(skin.joints), hold=HOLD
    )
    rest = skin.T_world_joint[:, :3, :3].transpose(0, 2, 1)
    operator = skinning_operator(skin, mesh.vertices)
    vertices = np.empty((animation.frames, len(mesh.vertices), 3), np.float32)
    for start in range(0, animation.frames, BLOCK):
        block = slice(start, start + BLOCK)
        q = rotation_quaternions(Ts[block, :, :3, :3].astype(np.float64) @ rest)
        vertices[block] = P.polish(skinned(operator, Ts[block]), hemispheres(q, skin.parents))
    return replace(animation, skin=None, Ts_world_joint=None, free_vertices=vertices)
