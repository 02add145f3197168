"""How the bones of a skin have moved, read off the moved surface.

Linear blend skinning is linear in the bones' affine transforms, so with known weights all frames
are one least-squares problem with one small matrix.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mvai.types import Skin

HOLD_TOGETHER = 1.0
"""How strongly neighbouring bones agree on the joint between them, as a share of the weight that
an average bone's vertices have."""
TURN_TOGETHER = 3e-4
"""Likewise on their turns."""
TURN_TRUNK_TOGETHER = 0.1
"""Bones of the trunk, whose vertices hang from several of them: it bends as a whole."""
TURN_FINGERS_TOGETHER = 1e-5
TRUNK = ("Spine", "Neck", "Shoulder")


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


def _turn_together(joint: str) -> float:
    """Weight of a bone's agreement with its parent, for bones of our own skeleton."""
    name = joint.removeprefix("Left").removeprefix("Right")
    if name.startswith(TRUNK):
        return TURN_TRUNK_TOGETHER
    finger = name.startswith("Hand") and name != "Hand"
    return TURN_FINGERS_TOGETHER if finger else TURN_TOGETHER
