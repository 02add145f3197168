"""The rest pose of the SMPL family, as far as directions go: a T-pose.

With it the joint rotations of an SMPL result can turn another body, without SMPL's own file. Real
rest poses of the family deviate from it by some degrees (legs slightly apart, arms slightly back).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from mvai.types.names import mirrored

_LEFT = {
    "LeftUpLeg": (0.07, -0.08, 0.0), "LeftLeg": (0.09, -0.46, 0.0), "LeftFoot": (0.09, -0.86, 0.0),
    "LeftToeBase": (0.11, -0.92, 0.12), "LeftShoulder": (0.08, 0.36, 0.0),
    "LeftArm": (0.18, 0.38, 0.0), "LeftForeArm": (0.44, 0.38, 0.0), "LeftHand": (0.69, 0.38, 0.0),
    "LeftHandMiddle1": (0.80, 0.38, 0.0),
}  # fmt: skip
_MIDDLE = {
    "Hips": (0.0, 0.0, 0.0), "Spine": (0.0, 0.11, 0.0), "Spine1": (0.0, 0.24, 0.0),
    "Spine2": (0.0, 0.30, 0.0), "Neck": (0.0, 0.46, 0.0), "Head": (0.0, 0.55, 0.0),
}  # fmt: skip

T_POSE: Mapping[str, Float[np.ndarray, " 3"]] = {
    name: np.array(xyz)
    for name, xyz in {
        **_MIDDLE,
        **_LEFT,
        **{mirrored(n): (-x, y, z) for n, (x, y, z) in _LEFT.items()},
    }.items()
}
"""Joints of a person of average build with legs straight down and arms straight out (metres)."""
