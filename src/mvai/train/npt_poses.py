"""Poses and people that neural pose transfer is trained and measured on.

Two sources: the published numbers (16 identities, 800 poses; these are the "seen" ones) and a wide
one (random phenotypes, all frames of the training people, mirrored), fingers at random in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvai.benchmark.poses import PoseClip, mirrored_pose
from mvai.body.model import LinearBody
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.train.pose_prior import balanced
from mvai.types.names import BODY_JOINTS, FINGERS, SIDES

IDENTITIES = 16
POSES = 800
FRAMES_PER_CLIP = 400
CURL_RAD = 1.4
"""Largest usual bend of a finger joint."""


@dataclass(frozen=True)
class PoseBank:
    """Rotations of the body joints, root left at rest, and of the fingers."""

    seen: Float[Tensor, "seen joints 3 3"]
    """The published number of poses."""
    seen_root: Float[Tensor, "seen 3 3"]
    """How the body was turned in them, which training leaves out."""
    wide: Float[Tensor, "wide 22 3"]
    """Axis-angle vectors of the body joints of every training frame and its mirror image."""


def finger_rotations(
    body: LinearBody, curl: Float[np.ndarray, "n 2 5"], spread: Float[np.ndarray, "n 2 5"]
) -> dict[int, Float[np.ndarray, "n 3 3"]]:
    """Local rotations of the finger joints.

    Args:
        body: the body.
        curl: bend of every joint of a finger in radians, for the left and right hand and the
            fingers in the order of `FINGERS`.
        spread: sideways turn of the finger's first joint.
    """
    from scipy.spatial.transform import Rotation

    rest = body.joint_template.numpy().astype(float)
    out = {}
    for s, side in enumerate(SIDES):
        at = lambda n, s=side: rest[body.joint(f"{s}Hand{n}")]  # noqa: E731
        unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
        palm = np.cross(at("Index1") - at(""), at("Pinky1") - at(""))
        bend = sum(unit(at(f"{f}3") - at(f"{f}2")) - unit(at(f"{f}2") - at(f"{f}1"))
                   for f in FINGERS[1:])  # fmt: skip
        palm = unit(palm) * np.sign(palm @ bend)
        for k, finger in enumerate(FINGERS):
            share = 0.4 if finger == "Thumb" else 1.0
            for i in (1, 2, 3):
                a, b = (i, i + 1) if i < 3 else (2, 3)
                along = unit(at(f"{finger}{b}") - at(f"{finger}{a}"))
                axis = unit(np.cross(along, palm))
                vector = share * curl[:, s, k, None] * axis
                if i == 1:
                    vector = vector + spread[:, s, k, None] * palm
                out[body.joint(f"{side}Hand{finger}{i}")] = Rotation.from_rotvec(vector).as_matrix()
    return out


def random_curls(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Curl and spread of all fingers: hands relaxed, open, closed or pointing."""
    hand = rng.beta(1.0, 2.0, (n, 2, 1)) * CURL_RAD
    own = np.clip(hand + rng.normal(0, 0.25, (n, 2, 5)), -0.15, CURL_RAD)
    return own, rng.normal(0, 0.08, (n, 2, 5))


def whole_rotations(
    body: LinearBody, pose: Float[np.ndarray, "n 22 3"], rng: np.random.Generator
) -> Float[Tensor, "n joints 3 3"]:
    """Rotations of every joint: the body's from `pose` with the root at rest, fingers at random."""
    R = torch.eye(3).repeat(len(pose), len(body.joints), 1, 1)
    columns = [body.joint(n) for n in BODY_JOINTS[1:]]
    R[:, columns] = matrix_from_axis_angle(torch.from_numpy(pose[:, 1:].astype(np.float32)))
    for joint, local in finger_rotations(body, *random_curls(rng, len(pose))).items():
        R[:, joint] = torch.from_numpy(local.astype(np.float32))
    return R


def pose_bank(body: LinearBody, clips: Sequence[PoseClip], seed: int = 0) -> PoseBank:
    """Both sources of poses from the training clips."""
    rng = np.random.default_rng(seed)
    frames = balanced(clips, FRAMES_PER_CLIP)
    some = rng.choice(len(frames), min(POSES, len(frames)), replace=False)
    wide = np.concatenate([frames, mirrored_pose(frames)]).astype(np.float32)
    seen = whole_rotations(body, frames[some], rng)
    return PoseBank(seen, turns(frames[some]), torch.from_numpy(wide))


def turns(pose: Float[np.ndarray, "n 22 3"]) -> Float[Tensor, "n 3 3"]:
    """World rotations of the root."""
    return matrix_from_axis_angle(torch.from_numpy(pose[:, 0].astype(np.float32)))


def random_shapes(body: LinearBody, n: int, rng: np.random.Generator) -> Float[Tensor, "n shape"]:
    """Phenotypes: the shape directions have unit variance over Anny's."""
    z = np.clip(rng.normal(size=(n, body.shape_size)), -2.5, 2.5)
    return torch.from_numpy(z.astype(np.float32))


def seen_shapes(body: LinearBody) -> Float[Tensor, "16 shape"]:
    """The published number of identities."""
    return random_shapes(body, IDENTITIES, np.random.default_rng(16))


def unseen_shapes(body: LinearBody, n: int = IDENTITIES) -> Float[Tensor, "n shape"]:
    """Identities that no training draws."""
    return random_shapes(body, n, np.random.default_rng(1600))
