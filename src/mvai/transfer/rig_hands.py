"""Hands of characters that bring their own rig.

The template's hands rest relaxed, with bent fingers, and a rig's rest stretched out quite often.
So how hands and fingers stand at rest is read from the rig's own bones. Where a hand is one bone,
that bone stands for palm and fingers: in a relaxed hand the palm is bent back and the fingers
forward, and a bone that took the palm's turn alone would stick out; it takes the whole hand's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations, shortest_rotation
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.types import Skin
from mvai.types.names import FINGERS, SIDES

LONG_FINGERS = FINGERS[1:]
TIP = 0.8
"""Length of a finger's last piece, as a share of the one before it."""
FAR = 0.7
"""Vertices further from the wrist than this share of the hand's reach are its finger tips."""
LARGEST_DEG = 60.0
"""A hand that seems to point further away than this from where it should is no hand."""


def fingerless(body: LinearBody, skeleton: DrivenSkeleton) -> tuple[str, ...]:
    """Sides on which the hand is driven and no finger but perhaps the thumb is."""
    driven = {body.joints[s] for s in skeleton.source.tolist() if s >= 0}
    return tuple(
        side
        for side in SIDES
        if f"{side}Hand" in driven
        and not any(f"{side}Hand{f}{k}" in driven for f in LONG_FINGERS for k in (1, 2, 3))
    )


def _from_wrist(
    body: LinearBody, side: str, R: Float[np.ndarray, "frames joints 3 3"]
) -> Float[np.ndarray, "frames points 3"]:
    """Joints and tips of the four long fingers relative to the wrist (metres)."""
    rest = body.joint_template.numpy().astype(np.float64)
    points = []
    for finger in LONG_FINGERS:
        above, at = body.joint(f"{side}Hand"), np.zeros((len(R), 3))
        for k in (1, 2, 3):
            j = body.joint(f"{side}Hand{finger}{k}")
            offset = rest[j] - rest[above]
            at = at + R[:, above] @ offset
            points.append(at)
            above = j
        points.append(at + R[:, above] @ (TIP * offset))
    return np.stack(points, 1)


def whole_hands(
    body: LinearBody, R: Float[np.ndarray, "frames joints 3 3"], sides: tuple[str, ...]
) -> Float[np.ndarray, "frames joints 3 3"]:
    """The body's world rotations with those of some hands replaced by what turns the whole hand,
    wrist to finger tips, best (Kabsch 1976)."""
    R = R.copy()
    still = np.broadcast_to(np.eye(3), (1, *R.shape[1:]))
    for side in sides:
        at, rest = _from_wrist(body, side, R), _from_wrist(body, side, still)
        R[:, body.joint(f"{side}Hand")] = nearest_rotations(np.einsum("fpa,gpb->fab", at, rest))
    return R


def resting_fingers(
    body: LinearBody,
    R_world_joint: Float[np.ndarray, "joints 3 3"],
    at: Mapping[str, Float[np.ndarray, "3"]],
) -> Float[np.ndarray, "joints 3 3"]:
    """World rotations from the template's rest to a rig's, with hands and fingers along its bones.

    Args:
        body: the template.
        R_world_joint: how the template was laid on the rig, which does not heed fingers.
        at: where those of the body's joints are that the rig has.
    """
    R = R_world_joint.copy()
    rest = body.joint_template.numpy().astype(np.float64)
    for side in SIDES:
        hand = f"{side}Hand"
        knuckles = [n for f in LONG_FINGERS if (n := f"{hand}{f}1") in at]
        if hand not in at or not knuckles:
            continue
        ours = np.mean([rest[body.joint(n)] for n in knuckles], 0) - rest[body.joint(hand)]
        R[body.joint(hand)] = _swung(
            R[body.joint(hand)], ours, np.mean([at[n] for n in knuckles], 0) - at[hand]
        )
        for finger in FINGERS:
            above = R[body.joint(hand)]
            for k in (1, 2, 3):
                j, end = body.joint(f"{hand}{finger}{k}"), f"{hand}{finger}{k + 1}"
                if end in at and f"{hand}{finger}{k}" in at:
                    bone = at[end] - at[f"{hand}{finger}{k}"]
                    above = _swung(above, rest[body.joint(end)] - rest[j], bone)
                R[j] = above
    return R


def _swung(
    R: Float[np.ndarray, "3 3"], ours: Float[np.ndarray, "3"], theirs: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """A rotation turned on so that it takes one direction to another."""
    return R if np.linalg.norm(theirs) < 1e-9 else shortest_rotation(R @ ours, theirs) @ R


def resting_hand(
    body: LinearBody,
    side: str,
    R_hand: Float[np.ndarray, "3 3"],
    skin: Skin,
    vertices: Float[np.ndarray, "verts 3"],
    bone: int,
) -> Float[np.ndarray, "3 3"]:
    """How a hand without finger bones stands at rest relative to the template's.

    Args:
        body: the template.
        side: of the hand.
        R_hand: how the template's hand was laid on the rig, which shows nothing but the wrist.
        skin: the character's rig.
        vertices: the character at rest.
        bone: its hand.

    Returns:
        `R_hand`, turned so that its finger tips lie where the character's hand ends.
    """
    below = {bone}
    for j, parent in enumerate(skin.parents):
        if parent in below:
            below.add(j)
    share = (np.isin(skin.weight_indices, list(below)) * skin.weights).sum(1)
    reach = vertices[share > 0.5] - skin.T_world_joint[bone, :3, 3]
    length = np.linalg.norm(reach, axis=1)
    if len(reach) < 4 or length.max() <= 0:
        return R_hand
    theirs = reach[length > FAR * length.max()].mean(0)
    still = np.broadcast_to(np.eye(3), (1, len(body.joints), 3, 3))
    rest = _from_wrist(body, side, still)[0]
    ours = R_hand @ rest[
        np.linalg.norm(rest, axis=1) > FAR * np.linalg.norm(rest, axis=1).max()
    ].mean(0)
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    if cosine < np.cos(np.radians(LARGEST_DEG)):
        return R_hand
    return shortest_rotation(ours, theirs) @ R_hand
