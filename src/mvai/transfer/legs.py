"""How long the legs of a body or a character are, by which its steps are scaled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mvai.body.model import LinearBody
from mvai.types.names import SIDES

Legs = tuple[tuple[int, int, int], ...]
"""Indices of hip, knee and ankle of each leg."""


def legs_among(names: Sequence[str]) -> Legs:
    """Where the joints of the left and the right leg are among joints or points of such names."""
    return tuple(
        (names.index(f"{s}UpLeg"), names.index(f"{s}Leg"), names.index(f"{s}Foot")) for s in SIDES
    )


def body_legs(body: LinearBody) -> Legs:
    """Hip, knee and ankle joints of the body's left and right leg."""
    return legs_among(body.joints)


def leg_length(positions: Float[np.ndarray, "joints 3"], legs: Legs) -> float:
    """Mean length from hip over knee to ankle (metres)."""
    return float(
        np.mean(
            [
                np.linalg.norm(positions[b] - positions[a])
                + np.linalg.norm(positions[c] - positions[b])
                for a, b, c in legs
            ]
        )
    )
