"""Which bone of a humanoid rig is which joint of the body.

Names are cut into words, so that "mixamorig:LeftUpLeg", "thigh_l", "Bip01 L Thigh",
"CC_Base_L_Thigh" and "UpperLeg.L" all read as a side and a word for the thigh. Limbs are found by
name, or by their place where names say nothing; hips, spine, neck and collar bones by their place
in the tree between the limbs, because rigs differ most in how many of them there are and what they
are called.
"""

from __future__ import annotations

import re

import numpy as np

from mvai.transfer.rig_places import bones_by_place
from mvai.types import Skin
from mvai.types.names import SIDES

LIMB_WORDS = {
    "UpLeg": ("upleg", "thigh", "upperleg", "legupper", "leg", "hip"),
    "Leg": ("leg", "calf", "shin", "lowerleg", "leglower", "knee"),
    "Foot": ("foot", "ankle"),
    "ToeBase": ("toebase", "toe", "toes", "toe0", "ball"),
    "Arm": ("arm", "upperarm", "uparm", "armupper", "shldr", "shoulder"),
    "ForeArm": ("forearm", "lowerarm", "armlower", "elbow"),
    "Hand": ("hand", "wrist", "palm"),
}
"""Words for each limb bone, the clearest first; no bone is taken twice. A shoulder is the upper arm
where nothing else is: there the collar bone has another name."""
FINGER_WORDS = {
    "Thumb": ("thumb", "finger0"),
    "Index": ("index", "finger1"),
    "Middle": ("middle", "mid", "finger2"),
    "Ring": ("ring", "finger3"),
    "Pinky": ("pinky", "little", "finger4"),
}
NEEDED = tuple(
    f"{side}{bone}" for side in SIDES for bone in ("UpLeg", "Leg", "Foot", "Arm", "ForeArm")
)
UPRIGHT = 0.5
"""Shoulders lie above the hips by more than this times their distance along the ground."""
SIDE_OF_WORD = {"l": "Left", "left": "Left", "r": "Right", "right": "Right"}
NUMBERED = {"mixamorig", "bip", "character", "rig", "armature"}
"""What a rig is called, often with a number."""
NO_WORDS = NUMBERED | {
    *("cc", "base", "def", "org", "valve", "biped", "joint", "jnt", "bone", "bind", "sk"),
    *("j", "b", "m", "c", "x", "f", "bend", "stretch"),
}
"""Words that say nothing of which bone it is: makers of rigs, the middle, kinds of bones."""


def read_name(name: str) -> tuple[str, str]:
    """A bone's side ("Left", "Right" or "") and the rest of its name in one lower-case word."""
    bare = name.rsplit(":", 1)[-1]
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", bare)
    words = [w.lower() for w in words]
    side = next((SIDE_OF_WORD[w] for w in words if w in SIDE_OF_WORD), "")
    rest = [
        w
        for w, before in zip(words, ["", *words], strict=False)
        if w not in SIDE_OF_WORD and w not in NO_WORDS
        if not (w.isdigit() and before in NUMBERED)
    ]
    return side, "".join(rest)


def body_bones(skin: Skin) -> dict[str, int] | None:
    """The bone that stands for each body joint, or None when the rig is not recognised.

    Keys are the body's joint names. Several neck or spine bones of the rig share the body's.
    """
    named, bare = _named(skin, numbers=True), _named(skin, numbers=False)
    found, without = _limbs(skin, named), _limbs(skin, bare)
    if any(n not in found for n in NEEDED):
        named, found = bare, without
    head = named.get(("", "head"))
    if any(n not in found for n in NEEDED):
        # The names say nothing.
        found = without = bones_by_place(skin) or {}
        head = found.pop("Head", None)
    if not found or not _plausible(skin, found):
        return None
    for side in SIDES:
        toe = without.get(f"{side}ToeBase", -1)
        if toe not in found.values() and _path(skin, found[f"{side}Foot"], toe):
            found.setdefault(f"{side}ToeBase", toe)
    for side in SIDES:
        if f"{side}Hand" in found:
            found |= _fingers(skin, side, found[f"{side}Hand"])
    hips = _meeting(skin, found["LeftUpLeg"], found["RightUpLeg"])
    chest = _meeting(skin, found["LeftArm"], found["RightArm"])
    if hips < 0 or chest < 0:
        return None
    found["Hips"] = hips
    spine = _path(skin, hips, chest)
    picked = {1: (0,), 2: (0, 1)}.get(len(spine), (0, len(spine) // 2, len(spine) - 1))
    labels = {1: ("Spine2",), 2: ("Spine", "Spine2")}.get(len(spine), ("Spine", "Spine1", "Spine2"))
    if spine:
        found |= {label: spine[i] for label, i in zip(labels, picked, strict=True)}
    if head is not None:
        found["Head"] = head
        neck = _path(skin, chest, head)[:-1]
        if neck:
            found["Neck"] = neck[0]
    for side in SIDES:
        collar = _path(skin, chest, found[f"{side}Arm"])[:-1]
        if collar:
            found[f"{side}Shoulder"] = collar[0]
    return found


def _named(skin: Skin, numbers: bool) -> dict[tuple[str, str], int]:
    """The first bone of each side and word, with or without the numbers at the ends of words.

    Limbs are cut into numbered pieces (thigh.L.01, upperleg01.L), of which the first comes first,
    and some tools number all bones through (LeftUpLeg_055).
    """
    named: dict[tuple[str, str], int] = {}
    for i, name in enumerate(skin.joints):
        side, word = read_name(name)
        named.setdefault((side, word if numbers else word.rstrip("0123456789")), i)
    return named


def _limbs(skin: Skin, named: dict[tuple[str, str], int]) -> dict[str, int]:
    """The bones of arms and legs by their names, those that there are."""
    found: dict[str, int] = {}
    for side in SIDES:
        for joint, words in LIMB_WORDS.items():
            bones = (named[side, w] for w in words if (side, w) in named)
            bone = next((bone for bone in bones if bone not in found.values()), None)
            if bone is not None:
                found[side + joint] = bone
        if f"{side}Leg" not in found and (side, "hip") in named and (side, "leg") in named:
            found |= {f"{side}UpLeg": named[side, "hip"], f"{side}Leg": named[side, "leg"]}
        foot, ankle = found.get(f"{side}Foot", -1), named.get((side, "ankle"), -1)
        if ankle >= 0 and foot != ankle and _path(skin, ankle, foot):
            found[f"{side}Foot"] = ankle  # Then the foot is what lies in front of it.
            found.setdefault(f"{side}ToeBase", foot)
    return found


def _plausible(skin: Skin, found: dict[str, int]) -> bool:
    """Left is on +X, the bones of a limb hang from each other, feet are below hips and shoulders
    above: rigs of animals on four legs have the same names."""
    at = skin.T_world_joint[:, :3, 3]
    hips, shoulders = (at[[found[f"{s}{b}"] for s in SIDES]].mean(0) for b in ("UpLeg", "Arm"))
    across, up, along = shoulders - hips
    if up < UPRIGHT * np.hypot(across, along):
        return False
    for side, sign in (("Left", 1), ("Right", -1)):
        chain = [found[f"{side}{b}"] for b in ("UpLeg", "Leg", "Foot")]
        arm = [found[f"{side}{b}"] for b in ("Arm", "ForeArm")]
        if not (_path(skin, chain[0], chain[1]) and _path(skin, chain[1], chain[2])):
            return False
        if not _path(skin, arm[0], arm[1]) or at[chain[2], 1] >= at[chain[0], 1]:
            return False
        if sign * at[chain[0], 0] <= 0 or sign * at[arm[0], 0] <= 0:
            return False
    return True


def _fingers(skin: Skin, side: str, hand: int) -> dict[str, int]:
    """The first three bones of every finger that hang below the hand, root first."""
    chains: dict[str, list[int]] = {finger: [] for finger in FINGER_WORDS}
    words_of = [read_name(name)[1].removeprefix("hand") for name in skin.joints]
    # Fingers are counted from 0 or from 1; the thumb comes first.
    from_one = any(w.startswith("finger5") for w in words_of)
    for i, name in enumerate(skin.joints):
        its_side, word = read_name(name)
        if its_side not in (side, "") or "metacarpal" in word or not _path(skin, hand, i):
            continue
        word = words_of[i]
        if from_one and word[6:7].isdigit():
            word = f"finger{int(word[6]) - 1}{word[7:]}"
        elif word.startswith("finger") and not word[6:7].isdigit():
            word = word[6:]
        for finger, words in FINGER_WORDS.items():
            if word.startswith(words):
                chains[finger].append(i)
    return {
        f"{side}Hand{finger}{k + 1}": bone
        for finger, bones in chains.items()
        for k, bone in enumerate(bones[:3])
    }


def _path(skin: Skin, top: int, bottom: int) -> list[int]:
    """Bones from below `top` down to `bottom`; empty when one does not hang from the other."""
    path = []
    while bottom >= 0 and bottom != top:
        path.append(bottom)
        bottom = skin.parents[bottom]
    return path[::-1] if bottom == top else []


def _meeting(skin: Skin, a: int, b: int) -> int:
    """The lowest bone above both, -1 if there is none."""
    above = set()
    while a >= 0:
        above.add(a)
        a = skin.parents[a]
    while b >= 0 and b not in above:
        b = skin.parents[b]
    return b
