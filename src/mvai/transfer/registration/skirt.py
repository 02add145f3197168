"""Weights for cloth that hangs around both legs: skirts, dresses, long jackets, capes.

Weights copied from the nearest leg tear such cloth along its middle. Around a pair of legs it
moves with the hips at its top and more and more with the thighs further down, and from the one
thigh to the other it passes over smoothly. Cloth is told from trousers by the middle of the body:
below the crotch, trousers leave it free.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from mvai.body.model import LinearBody
from mvai.geometry.surface import averaged, components, neighbour_mean

BELOW_HIPS = 0.065
"""The crotch lies this share of the height below the hip joints."""
MIDDLE = 0.006
"""Half the width of the middle, as a share of the height."""
BIN = 0.01
SKIN_NEAR, CLOTH_FAR = 0.003, 0.014
"""A surface this near to the template's is the leg itself, and one this far is cloth."""
LOOSE = 0.06
"""Cloth that hangs further behind them than this does not feel the thighs (a cape)."""
ROUNDS = 12


def hanging_cloth(
    body: LinearBody,
    surface: Float[np.ndarray, "body_verts 3"],
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    piece: Int[np.ndarray, " verts"],
    distance: Float[np.ndarray, " verts"],
    W: Float[np.ndarray, "verts joints"],
) -> Float[np.ndarray, "verts joints"]:
    """The weights with those of hanging cloth replaced.

    Args:
        body: the template.
        surface: its vertices on the character.
        vertices, faces: the character.
        piece: number of the connected piece of each vertex.
        distance: from each vertex to the template's surface.
        W: weights so far.
    """
    height = float(np.ptp(vertices[:, 1]))
    names = ("LeftUpLeg", "RightUpLeg", "LeftLeg", "RightLeg", "LeftFoot", "RightFoot")
    at = dict(zip(names, body.regress(names, surface[None])[0], strict=True))
    hips = (at["LeftUpLeg"] + at["RightUpLeg"]) / 2
    knees = (at["LeftLeg"] + at["RightLeg"]) / 2
    ankles = (at["LeftFoot"] + at["RightFoot"]) / 2
    hem = _hems(vertices, faces, piece, hips, ankles[1], height)[piece]
    low = vertices[:, 1]
    cloth = _smoothstep((distance / height - SKIN_NEAR) / (CLOTH_FAR - SKIN_NEAR))
    share = cloth * (low < hips[1]) * (low >= hem - 1e-6) * ~_arms(body, faces, W, low > hips[1])
    if not share.any():
        return W
    half = abs(at["LeftUpLeg"][0] - at["RightUpLeg"][0]) / 2
    left = _smoothstep((vertices[:, 0] - hips[0] + half) / (2 * half))
    thigh = _smoothstep((hips[1] - low) / (0.6 * (hips[1] - knees[1])))
    # A raised thigh lifts what hangs in front of it, however far away; a cape hangs behind.
    behind = _smoothstep(0.5 + (hips[2] - vertices[:, 2]) / (2 * half))
    thigh *= 1 - behind * _smoothstep((distance / height - LOOSE) / LOOSE)
    shin = 0.6 * thigh * _smoothstep((knees[1] - low) / (knees[1] - ankles[1]))
    hung = np.zeros_like(W)
    hung[:, body.joint("Hips")] = 1 - thigh
    for side, part in (("Left", left), ("Right", 1 - left)):
        hung[:, body.joint(f"{side}UpLeg")] = part * (thigh - shin)
        hung[:, body.joint(f"{side}Leg")] = part * shin
    W = (1 - share[:, None]) * W + share[:, None] * hung
    # Averaged where there is cloth, and a little beyond.
    mean = neighbour_mean(len(W), faces)
    return averaged(W, mean, ROUNDS, np.clip(share + mean @ (mean @ share), 0, 1))


def _arms(
    body: LinearBody,
    faces: Int[np.ndarray, "faces 3"],
    W: Float[np.ndarray, "verts joints"],
    above: Bool[np.ndarray, " verts"],
) -> Bool[np.ndarray, " verts"]:
    """Arms that hang beside the thighs: what moves with an arm, up to above the hips.

    Cloth that a hand lies on may have got the hand's weights, but nothing leads from it up an arm.
    """
    arm = [any(part in name for part in ("Arm", "Hand")) for name in body.joints]
    of_arm = W[:, arm].sum(1) > 0.5
    part = components(len(W), faces[of_arm[faces].all(1)])
    hangs_on = np.bincount(part, weights=of_arm & above) > 0
    return of_arm & hangs_on[part]


def _hems(
    vertices: np.ndarray,
    faces: np.ndarray,
    piece: np.ndarray,
    hips: np.ndarray,
    ankle_y: float,
    height: float,
) -> Float[np.ndarray, " pieces"]:
    """Height down to which each piece closes the middle between the legs; infinite for those
    that do not."""
    corners = vertices[faces] - [hips[0], 0, 0]
    across = (corners[..., 0].min(1) <= MIDDLE * height) & (
        corners[..., 0].max(1) >= -MIDDLE * height
    )
    top = hips[1] - BELOW_HIPS * height
    count = max(1, int((top - ankle_y) / (BIN * height)))
    closed = np.zeros((int(piece.max()) + 1, count), bool)
    for k in range(count):
        y = top - (k + 0.5) * BIN * height
        cuts = across & (corners[..., 1].min(1) <= y) & (corners[..., 1].max(1) >= y)
        closed[np.unique(piece[faces[cuts, 0]]), k] = True
    unbroken = np.cumprod(closed, axis=1).sum(1)
    return np.where(unbroken > 0, top - (unbroken + 1) * BIN * height, np.inf)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
