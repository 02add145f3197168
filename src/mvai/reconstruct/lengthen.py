"""Landmarks that are expectations, made as long as people are.

The expected end of a bone whose direction is unsure lies too near: the average of unit vectors is
shorter than one. The less sure a bone, the shorter it comes, so each has a factor of its own. The
factors belong to the weights of `mvai.nets.landmark_correction`: `mvai evaluate fit --benchmark
BENCHMARK --train 80 -o fit.md` prints how long the bones come out and the factor in use. Landmarks
that are measured, not expected, are left as they are.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mvai.nets.landmark_correction import Lift
from mvai.types import Keypoints
from mvai.types.names import BODY_KEYPOINTS

LENGTHENED = {
    "hip": 1.03,
    "knee": 1.03,
    "ankle": 1.04,
    "heel": 1.09,
    "foot_index": 1.09,
    "shoulder": 1.03,
    "elbow": 1.10,
    "wrist": 1.13,
    "pinky": 1.31,
    "index": 1.28,
    "thumb": 1.31,
}
"""How many times longer people's bones are than those of `corrected` landmarks, by the bone's end:
the inverse of the median over 200 validation and training clips of the benchmark, to a hundredth.

The landmarks of GraphCMR's bodies (`--reconstruct.start graphcmr`) take the same: with weights of
before, factors of their own, 1.00 to 1.08, gave a MPJPE of 102.4 instead of 103.0 mm on
validation, 112.1 instead of 112.3 on training clips."""
TRUNK, HEAD = 1.00, 1.00
"""The same from the middle of the hips to that of the shoulders, and from there to the face. The
trunk's inverse is 1.02, but fitted bodies are 1 % too tall without it."""
ADULT = 1.01
"""The benchmark's people are 1.63 m tall on average, adults 1.65 m (NCD-RisC, eLife 2016); how tall
a person is, one camera cannot tell."""
CHAIN = {
    "knee": "hip", "ankle": "knee", "heel": "ankle", "foot_index": "ankle", "elbow": "shoulder",
    "wrist": "elbow", "pinky": "wrist", "index": "wrist", "thumb": "wrist",
}  # fmt: skip
"""Where each bone begins; those of hips and shoulders begin between the two."""


def lengthened(
    landmarks: Float[np.ndarray, "frames 33 3"],
) -> Float[np.ndarray, "frames 33 3"]:
    """`BODY_KEYPOINTS` relative to the middle of the hips, their directions kept and each bone
    longer by its factor."""

    def of(points: np.ndarray, name: str) -> np.ndarray:
        return points[:, BODY_KEYPOINTS.index(name)]

    def middle(part: str) -> np.ndarray:
        return (of(landmarks, f"left_{part}") + of(landmarks, f"right_{part}")) / 2

    hips, shoulders = middle("hip"), middle("shoulder")
    chest = hips + TRUNK * (shoulders - hips)
    out = chest[:, None] + HEAD * (landmarks - shoulders[:, None])
    for side in ("left", "right"):
        for part, start, old in (("hip", hips, hips), ("shoulder", chest, shoulders)):
            way = of(landmarks, f"{side}_{part}") - old
            of(out, f"{side}_{part}")[:] = start + LENGTHENED[part] * way
        for part, before in CHAIN.items():
            way = of(landmarks, f"{side}_{part}") - of(landmarks, f"{side}_{before}")
            of(out, f"{side}_{part}")[:] = of(out, f"{side}_{before}") + LENGTHENED[part] * way
    return ADULT * out


def lengthening(lift: Lift) -> Lift:
    """A source of expected landmarks, with `lengthened` ones."""

    def longer(keypoints: Keypoints) -> tuple[np.ndarray, np.ndarray]:
        position, deviation = lift(keypoints)
        return lengthened(position), deviation

    return longer
