"""What method `rig` does to hands and to turned limbs: measures of a driven character."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from mvai.evaluate.transfer_measures import winding_numbers
from mvai.transfer.rig_touches import Touches
from mvai.types import Mesh, Skin
from mvai.types.names import SIDES

ASKED = 150
"""Vertices of each hand and forearm that are asked whether they are in the body."""
CLOSE = 0.9
"""A hand that touches this surely in the source (0 to 1) touches."""
SLICES, FEWEST = 10, 8
"""Slices of a limb, and the fewest vertices in one that is measured."""
FROM, TO = 0.05, 1.1
"""Part of a limb's length that is cut into slices; it goes over the joint at its end."""


def joint_weights(
    skin: Skin, prefixes: tuple[str, ...], exact: tuple[str, ...] = ()
) -> Float[np.ndarray, " verts"]:
    """How much every vertex hangs on joints with these beginnings, or of these very names."""
    of = np.array([n.startswith(prefixes) if prefixes else False for n in skin.joints])
    of |= np.isin(skin.joints, exact)
    return (skin.weights * of[skin.weight_indices]).sum(1)


def touch_gaps_m(
    touch: Touches,
    hand: Int[np.ndarray, " points"],
    placed: Float[np.ndarray, "frames points 3"],
    scale: float,
) -> Float[np.ndarray, " touches"]:
    """How far the places that touch in the source are from where they should be, for every hand
    and frame that surely touches.

    Args:
        touch: pairs of places in the source.
        hand: 0 for points of the left hand, 1 for the right.
        placed: the same points on the character (metres).
        scale: size of the character relative to the source.
    """
    wrong = placed[touch.frame, touch.hand] - placed[touch.frame, touch.other]
    wrong = wrong - scale * touch.offset
    gaps = []
    for side in (0, 1):
        mine = hand[touch.hand] == side
        frame, weight = touch.frame[mine], touch.weight[mine]
        total = np.bincount(frame, weight, len(placed))
        summed = np.stack(
            [np.bincount(frame, weight * wrong[mine, k], len(placed)) for k in range(3)], 1
        )
        sure = total > CLOSE
        gaps.append(np.linalg.norm(summed[sure] / total[sure, None], axis=1))
    return np.concatenate(gaps)


def air_m(
    skin: Skin, vertices: Float[np.ndarray, "frames verts 3"], touched: Bool[np.ndarray, "frames 2"]
) -> Float[np.ndarray, " touches"]:
    """Distance of a hand from the nearest other thing, where it touches in the source.

    It needs no places that correspond: only the vertices of the hand and those of the rest, which
    are everything but this arm. A hand that is in the body is near its surface, too.
    """
    out = []
    for side, frames in zip(SIDES, touched.T, strict=True):
        hand = joint_weights(skin, (f"{side}Hand",)) > 0.5
        rest = joint_weights(skin, tuple(f"{side}{j}" for j in ("Hand", "ForeArm", "Arm"))) < 0.5
        for v in vertices[frames]:
            out.append(KDTree(v[rest]).query(v[hand])[0].min())
    return np.array(out)


def arms_inside(
    mesh: Mesh, skin: Skin, vertices: Float[np.ndarray, "frames verts 3"]
) -> Float[np.ndarray, " frames"]:
    """Share of the vertices of hands and forearms that are in the rest of the body, those left out
    that are at rest (winding numbers)."""
    inside = np.zeros((len(vertices), 0), bool)
    for side in SIDES:
        arm = joint_weights(skin, tuple(f"{side}{j}" for j in ("Hand", "ForeArm", "Arm")))
        mine = np.flatnonzero(joint_weights(skin, (f"{side}Hand", f"{side}ForeArm")) > 0.9)
        if not len(mine):
            continue
        mine = np.unique(mine[np.linspace(0, len(mine) - 1, ASKED).astype(int)])
        rest = mesh.faces[(arm[mesh.faces] < 0.5).all(1)]
        asked = mine[winding_numbers(mesh.vertices[mine], mesh.vertices, rest) < 0.5]
        found = [winding_numbers(v[asked], v, rest) > 0.5 for v in vertices]
        inside = np.concatenate([inside, np.array(found).reshape(len(vertices), -1)], 1)
    return inside.mean(1) if inside.size else np.zeros(len(vertices))


def thinnest(
    rest: Float[np.ndarray, "verts 3"],
    posed: Float[np.ndarray, "verts 3"],
    skin: Skin,
    T_world_joint: Float[np.ndarray, "joints 4 4"],
    limb: str,
    end: str,
) -> float:
    """Width of the thinnest slice of a limb relative to its width at rest, on the worse side; NaN
    where no slice has enough vertices.

    The width of a slice is the root mean square distance of its vertices from their middle, across
    the limb. Skin that is wrung like the paper of a sweet has width 0 where it crosses.

    Args:
        rest: the character at rest.
        posed: in a pose in which the limb is straight.
        skin: its bones.
        T_world_joint: where they are in that pose.
        limb: joint of the limb without the side, such as "ForeArm".
        end: joint at its end, such as "Hand".
    """
    ratios = []
    for side in SIDES:
        if not {side + limb, side + end} <= set(skin.joints):
            continue
        pair = [skin.joints.index(side + n) for n in (limb, end)]
        # Twist bones are named after the limb they help.
        twists = (f"{side}{limb}Twist", f"{side}{end}Twist")
        own = joint_weights(skin, twists, (side + limb, side + end))
        start, stop = skin.T_world_joint[pair, :3, 3]
        way = stop - start
        now = T_world_joint[pair[1], :3, 3] - T_world_joint[pair[0], :3, 3]
        at = (rest - start) @ way / (way @ way)
        cut = np.linspace(FROM, TO, SLICES + 1)
        for a, b in pairwise(cut):
            ids = np.flatnonzero((own > 0.5) & (at >= a) & (at < b))
            if len(ids) >= FEWEST:
                ratios.append(_width(posed[ids], now) / _width(rest[ids], way))
    return float(min(ratios)) if ratios else float("nan")


def _width(points: Float[np.ndarray, "n 3"], way: Float[np.ndarray, "3"]) -> float:
    """Root mean square distance from the middle, across `way`."""
    out = points - points.mean(0)
    along = out @ (way / np.linalg.norm(way))
    return float(np.sqrt(((out**2).sum(1) - along**2).mean()))
