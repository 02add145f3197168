"""Which joint of a motion capture skeleton stands for which of ours."""

from __future__ import annotations

from collections.abc import Mapping

from mvai.io.bvh import BvhClip
from mvai.types import MvaiError
from mvai.types.names import mirrored

_FAMILIES: Mapping[str, Mapping[str, str]] = {
    "CMU ASF": {
        "Hips": "root", "Spine": "lowerback", "Spine1": "upperback", "Spine2": "thorax",
        "Neck": "lowerneck", "Head": "head", "LeftUpLeg": "lfemur", "LeftLeg": "ltibia",
        "LeftFoot": "lfoot", "LeftToeBase": "ltoes", "LeftShoulder": "lclavicle",
        "LeftArm": "lhumerus", "LeftForeArm": "lradius", "LeftHand": "lhand",
        "LeftHandMiddle1": "lfingers",
    },
    "CMU cgspeed": {
        "Hips": "Hips", "Spine": "LowerBack", "Spine1": "Spine", "Spine2": "Spine1",
        "Neck": "Neck", "Head": "Head", "LeftUpLeg": "LeftUpLeg", "LeftLeg": "LeftLeg",
        "LeftFoot": "LeftFoot", "LeftToeBase": "LeftToeBase", "LeftShoulder": "LeftShoulder",
        "LeftArm": "LeftArm", "LeftForeArm": "LeftForeArm", "LeftHand": "LeftFingerBase",
        "LeftHandMiddle1": "LeftHandIndex1",
    },
    "CMU cgspeed, Poser names": {
        "Hips": "Hips", "Spine": "lowerback", "Spine1": "Chest", "Spine2": "Chest2",
        "Neck": "lowerneck", "Head": "Head", "LeftUpLeg": "LeftHip", "LeftLeg": "LeftKnee",
        "LeftFoot": "LeftAnkle", "LeftToeBase": "LeftToe", "LeftShoulder": "LeftCollar",
        "LeftArm": "LeftShoulder", "LeftForeArm": "LeftElbow", "LeftHand": "lhand",
        "LeftHandMiddle1": "LFingers",
    },
    "CMU Daz": {
        "Hips": "hip", "Spine": "hip", "Spine1": "abdomen", "Spine2": "chest",
        "Neck": "neck", "Head": "head", "LeftUpLeg": "lThigh", "LeftLeg": "lShin",
        "LeftFoot": "lFoot", "LeftToeBase": "lFoot", "LeftShoulder": "lCollar",
        "LeftArm": "lShldr", "LeftForeArm": "lForeArm", "LeftHand": "lHand",
        "LeftHandMiddle1": "lMid1",
    },
    "AnimatedDrawings": {
        "Hips": "Hips", "Spine": "Spine", "Spine1": "Spine1", "Spine2": "Spine3",
        "Neck": "Neck", "Head": "Head", "LeftUpLeg": "LeftUpLeg", "LeftLeg": "LeftLeg",
        "LeftFoot": "LeftFoot", "LeftToeBase": "LeftToeBase", "LeftShoulder": "LeftShoulder",
        "LeftArm": "LeftArm", "LeftForeArm": "LeftForeArm", "LeftHand": "LeftHand",
        "LeftHandMiddle1": "LeftHandEnd",
    },
    "MakeHuman": {
        "Hips": "Hips", "Spine": "Spine1", "Spine1": "Spine2", "Spine2": "Spine3",
        "Neck": "Neck", "Head": "Head", "LeftUpLeg": "UpLeg_L", "LeftLeg": "LoLeg_L",
        "LeftFoot": "Foot_L", "LeftToeBase": "Toe_L", "LeftShoulder": "Clavicle_L",
        "LeftArm": "UpArm_L", "LeftForeArm": "LoArm_L", "LeftHand": "Hand_L",
        "LeftHandMiddle1": "Middle1_L",
    },
    "Mixamo": {name: name for name in (
        "Hips", "Spine", "Spine1", "Spine2", "Neck", "Head", "LeftUpLeg", "LeftLeg", "LeftFoot",
        "LeftToeBase", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand", "LeftHandMiddle1",
    )},
}  # fmt: skip
"""For each kind of skeleton, its joint that stands for ours; the right side follows the left."""


def _other_side(name: str) -> str:
    """The source's name of the right joint from that of the left."""
    if mirrored(name) != name:
        return mirrored(name)
    if name.endswith("_L"):
        return name[:-1] + "R"
    return {"l": "r", "L": "R"}[name[0]] + name[1:]


def source_joints(clip: BvhClip) -> dict[str, int]:
    """The clip's joint for each of our body joints and both middle fingers.

    Raises:
        MvaiError: the skeleton is of none of the known kinds.
    """
    for family in _FAMILIES.values():
        left = {ours: theirs for ours, theirs in family.items() if "Left" in ours}
        right = {mirrored(ours): _other_side(theirs) for ours, theirs in left.items()}
        names = {**family, **right}
        if all(theirs in clip.names for theirs in names.values()):
            return {ours: clip.names.index(theirs) for ours, theirs in names.items()}
    raise MvaiError(
        f"the skeleton with joints {', '.join(clip.names[:6])}, ... is of no known kind; "
        f"known are {', '.join(_FAMILIES)}; rename its joints to one of these."
    )
