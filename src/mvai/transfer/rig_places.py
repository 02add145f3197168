"""Which bone of a rig is which joint of the body, by where the bones are and what they hang from.

For rigs whose names say nothing ("Joint13", "Bone.007", another language). Two legs are a pair of
chains that part at the hips, mirror each other and end at the ground; two arms are a pair that
parts higher up and is about as long, against the legs, as people's. Along a limb, knee and elbow
are the bones that halve it best.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from mvai.types import Skin
from mvai.types.names import SIDES

MIRROR = 0.06
"""How far bones may lie from their twins' mirror images in the mean, as a share of the height."""
ASIDE = 0.01
"""Bones nearer to the middle than this share of the height are of neither side."""
FOOT = 0.15
"""Ankles lie lower than this share of the height."""
HALVES = 1.8
"""Upper and lower part of a limb differ in length by no more than this factor."""
ARM_TO_LEG = 0.62
"""Length from shoulder to wrist against that from hip to ankle, of people."""
REACH = 2.0
"""They are longer or shorter than that by no more than this factor."""
MOVES = 0.002
"""Upper and lower parts of limbs themselves move more than this share of the surface; handles of
inverse kinematics move nothing."""

Limb = tuple[int, int, int]


@dataclass(frozen=True)
class _Tree:
    """The bones that move the surface, or that such bones hang from."""

    parents: tuple[int, ...]
    at: Float[np.ndarray, "joints 3"]
    children: tuple[tuple[int, ...], ...]
    own: Float[np.ndarray, " joints"]
    """Share of the surface's vertices that each bone moves."""
    share: Float[np.ndarray, " joints"]
    """The same with all that hangs from it."""
    floor: float
    height: float
    middle: float

    def up(self, joint: int) -> list[int]:
        """The joint and all that it hangs from, the root last."""
        path = []
        while joint >= 0:
            path.append(joint)
            joint = self.parents[joint]
        return path

    def aside(self, joint: int) -> float:
        """Distance from the middle plane."""
        return abs(float(self.at[joint, 0]) - self.middle)

    def between(self, a: int, b: int) -> float:
        return float(np.linalg.norm(self.at[a] - self.at[b]))

    def length(self, limb: Limb) -> float:
        return self.between(limb[0], limb[1]) + self.between(limb[1], limb[2])


def bones_by_place(skin: Skin) -> dict[str, int] | None:
    """Upper part, lower part and end of arms and legs, toes and head of the rig of somebody who
    faces +Z and stands, or None when it has no such limbs."""
    tree = _tree(skin)
    leaves = [j for j in range(len(tree.at)) if tree.share[j] > 0 and not tree.children[j]]
    if tree.height <= 0 or len(leaves) < 4:
        return None
    pairs = [p for a in leaves for b in leaves if (p := _pair(tree, a, b)) is not None]
    legs = [(p, limbs) for p in pairs if (limbs := _legs(tree, p)) is not None]
    if not legs:
        return None
    chains, legs_found = max(legs, key=lambda found: (tree.length(found[1][0]), len(found[0][0])))
    hips, leg_m = tree.parents[chains[0][0]], tree.length(legs_found[0])
    taken = {*chains[0], *chains[1]}
    arms = [
        (abs(np.log(tree.length(limbs[0]) / (ARM_TO_LEG * leg_m))), limbs)
        for p in pairs
        if not taken & {*p[0], *p[1]} and hips in tree.up(p[0][0])
        if (limbs := _arms(tree, p, tree.aside(legs_found[0][0]))) is not None
    ]
    off, arms_found = min(arms, default=(np.inf, None))
    if arms_found is None or off > np.log(REACH):
        return None
    hands = tree.at[[arm[2] for arm in arms_found], 1].min()
    if hands < tree.floor + FOOT * tree.height:  # An animal's front legs are no arms.
        return None
    found: dict[str, int] = {}
    for side, chain, leg, arm in zip(SIDES, chains, legs_found, arms_found, strict=True):
        found |= dict(zip((f"{side}UpLeg", f"{side}Leg", f"{side}Foot"), leg, strict=True))
        found |= dict(zip((f"{side}Arm", f"{side}ForeArm", f"{side}Hand"), arm, strict=True))
        toes = chain[chain.index(leg[2]) + 1 :]
        if toes:
            found[f"{side}ToeBase"] = toes[0]
    head = _head(tree, arms_found)
    return found if head is None else found | {"Head": head}


def _tree(skin: Skin) -> _Tree:
    at = skin.T_world_joint[:, :3, 3].astype(float)
    share = np.zeros(len(at))
    np.add.at(share, skin.weight_indices, skin.weights)
    own = share / max(share.sum(), 1e-9)
    share = own.copy()
    for joint in range(len(at) - 1, -1, -1):  # Parents come before their children.
        if skin.parents[joint] >= 0:
            share[skin.parents[joint]] += share[joint]
    children: list[tuple[int, ...]] = [()] * len(at)
    for joint, parent in enumerate(skin.parents):
        if parent >= 0 and share[joint] > 0:
            children[parent] += (joint,)
    moving = at[share > 0] if (share > 0).any() else at
    floor, height = moving[:, 1].min(), np.ptp(moving[:, 1])
    middle = float(np.median(moving[:, 0]))
    kept = tuple(children)
    return _Tree(skin.parents, at, kept, own, share, float(floor), float(height), middle)


def _pair(tree: _Tree, a: int, b: int) -> tuple[list[int], list[int]] | None:
    """The chains from where the ways to two bones part down to them, as far as both go, if one
    lies left, one right, and they mirror each other."""
    aside = ASIDE * tree.height
    if tree.at[a, 0] - tree.middle < aside or tree.middle - tree.at[b, 0] < aside:
        return None
    left, right = tree.up(a)[::-1], tree.up(b)[::-1]
    shared = len(set(left) & set(right))
    count = min(len(left), len(right)) - shared
    if not shared or count < 3 or abs(len(left) - len(right)) > 1:
        return None
    left, right = left[shared : shared + count], right[shared : shared + count]
    mirrored = tree.at[right] * [-1, 1, 1] + [2 * tree.middle, 0, 0]
    off = np.linalg.norm(mirrored - tree.at[left], axis=1).mean()
    return (left, right) if off < MIRROR * tree.height else None


def _legs(tree: _Tree, pair: tuple[list[int], list[int]]) -> tuple[Limb, Limb] | None:
    """Hip, knee and ankle of both, if the chains end at the ground."""
    limbs = []
    for chain in pair:
        low = [j for j in chain if tree.at[j, 1] < tree.floor + FOOT * tree.height]
        wide = max(tree.aside(j) for j in chain)
        start = next(k for k, j in enumerate(chain) if tree.aside(j) >= 0.5 * wide)
        limb = _halved(tree, chain[start:], [low[0]]) if low else None
        if limb is None or tree.at[limb[0], 1] < tree.at[limb[1], 1]:
            return None
        limbs.append(limb)
    return limbs[0], limbs[1]


def _arms(tree: _Tree, pair: tuple[list[int], list[int]], hip_m: float) -> tuple[Limb, Limb] | None:
    """Shoulder, elbow and wrist of both; collar bones lie nearer to the middle than hips do."""
    limbs = []
    for chain in pair:
        start = next((k for k, j in enumerate(chain) if tree.aside(j) >= 0.7 * hip_m), len(chain))
        arm = chain[start:]
        # Fingers part at the hand.
        hands = [j for j in arm[2:] if len(tree.children[j]) > 1][:1]
        limb = _halved(tree, arm, hands or arm[2:])
        if limb is None:
            return None
        limbs.append(limb)
    return limbs[0], limbs[1]


def _halved(tree: _Tree, chain: list[int], ends: list[int]) -> Limb | None:
    """The chain's first bone, one of the ends, and the bone that halves the way between them."""
    best, limb = -np.inf, None
    whole = sum(tree.between(a, b) for a, b in pairwise(chain))
    for end in ends:
        for middle in chain[1 : chain.index(end)] if end in chain else ():
            upper, lower = tree.between(chain[0], middle), tree.between(middle, end)
            if min(upper, lower) <= 0 or max(upper / lower, lower / upper) > HALVES:
                continue
            if min(tree.own[chain[0]], tree.own[middle]) < MOVES:
                continue
            score = (upper + lower) / whole - 1.5 * abs(np.log(upper / lower))
            if score > best:
                best, limb = score, (chain[0], middle, end)
    return limb


def _head(tree: _Tree, arms: tuple[Limb, Limb]) -> int | None:
    """Of the bones above the shoulders that are no part of the arms the one that moves most."""
    left, right = (tree.up(arm[0]) for arm in arms)
    trunk = set(left) & set(right)
    own = (set(left) | set(right)) - trunk
    shoulders = tree.at[[arms[0][0], arms[1][0]], 1].mean()
    above = [
        j
        for j in range(len(tree.at))
        if tree.at[j, 1] > shoulders and j not in trunk and not own & set(tree.up(j))
        if trunk & set(tree.up(j)) and tree.own[j] > 0
    ]
    return max(above, key=lambda j: tree.own[j], default=None)
