"""Hands with fewer fingers than five: what is one piece on the character moves as one.

A template with five fingers that lies in a mitten, or in a hand of two fingers, leaves weights of
several fingers beside each other; when these bend differently they tear the hand apart.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from mvai.body.model import LinearBody
from mvai.geometry.surface import components
from mvai.types.names import FINGERS, SIDES

MIDDLE = FINGERS[1:].index("Middle")
OUTER = 0.5
"""Least weight of the outer joints of fingers on what is taken for a finger."""


def merged_fingers(
    body: LinearBody,
    faces: Int[np.ndarray, "faces 3"],
    W: Float[np.ndarray, "verts joints"],
) -> Float[np.ndarray, "verts joints"]:
    """Weights in which fingers that share one piece of the character follow one of them.

    The thumb is left alone. Where three or more fingers share a piece it follows the middle one.

    Args:
        body: has the joints.
        faces: of the character, vertices in one place welded.
        W: its weights.
    """
    W = W.copy()
    for side in SIDES:
        columns = np.array(
            [[body.joint(f"{side}Hand{f}{k}") for k in (1, 2, 3)] for f in FINGERS[1:]]
        )
        outer = W[:, columns[:, 1:]].sum(2)
        finger = outer.sum(1) > OUTER
        if not finger.any():
            continue
        piece = components(len(W), faces[finger[faces].all(1)])
        mass = np.stack([np.bincount(piece[finger], m[finger], piece.max() + 1) for m in outer.T])
        home = mass.argmax(1)
        for p in np.unique(home):
            shared = np.flatnonzero((home == p) & (mass.max(1) > 0))
            if len(shared) < 2:
                continue
            leads = shared[mass[shared, p].argmax()]
            if len(shared) > 2 and MIDDLE in shared:
                leads = MIDDLE
            for f in shared[shared != leads]:
                W[:, columns[leads]] += W[:, columns[f]]
                W[:, columns[f]] = 0
    return W
