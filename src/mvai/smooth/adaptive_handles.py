"""How vertices follow a few points of a mesh: convex weights, one row a vertex.

On our own body the points are joints, and a vertex follows the ends of the bones that move it. On
any other mesh they are some of its vertices, and a vertex follows those that are near it at
first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from mvai.body.model import LinearBody

TRUNK = ("Hips", "Spine", "Spine1", "Spine2", "LeftShoulder", "RightShoulder")
BONES = {
    "Neck": ("neck", "head_top"),
    "Head": ("neck", "head_top"),
    "LeftArm": ("left_shoulder", "left_elbow"),
    "LeftForeArm": ("left_elbow", "left_wrist"),
    "LeftHand": ("left_wrist", "left_index"),
    "LeftUpLeg": ("left_hip", "left_knee"),
    "LeftLeg": ("left_knee", "left_ankle"),
    "LeftFoot": ("left_heel", "left_foot_index"),
    "LeftToeBase": ("left_heel", "left_foot_index"),
}
"""Bones of the rig and the points between which they lie; the right side likewise, and fingers as
hands."""
NEAREST = 4
"""Sampled points that a vertex of an unknown mesh follows."""


def _ends(joint: str) -> tuple[str, str] | None:
    """The points between which a bone lies; None for the trunk."""
    if joint in TRUNK:
        return None
    left = joint.replace("Right", "Left")
    found = BONES["LeftHand" if left.startswith("LeftHand") else left]
    if left == joint:
        return found
    return found[0].replace("left", "right"), found[1].replace("left", "right")


def body_handles(body: LinearBody, points: tuple[str, ...]) -> Float[np.ndarray, "verts points"]:
    """Weights of named points for each vertex of a body, by its skin weights at rest."""
    rest = body.template.numpy()
    places = body.regress(points, rest[None])[0]
    at = {n: places[i] for i, n in enumerate(points)}
    skin = body.dense_weights.numpy()
    weights = np.zeros((len(rest), len(points)), np.float32)
    for j, joint in enumerate(body.joints):
        moved = skin[:, j]
        ends = _ends(joint)
        if ends is not None:
            a, b = (at[n] for n in ends)
            share = np.clip((rest - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            weights[:, points.index(ends[0])] += moved * (1 - share)
            weights[:, points.index(ends[1])] += moved * share
            continue
        # The trunk lies between two hips and two shoulders.
        hips, shoulders = (
            (at[f"left_{p}"] + at[f"right_{p}"]) / 2 for p in ("hip", "shoulder")
        )  # fmt: skip
        rise = np.clip((rest[:, 1] - hips[1]) / (shoulders[1] - hips[1]), 0, 1)
        for part, share in (("hip", 1 - rise), ("shoulder", rise)):
            left, right = at[f"left_{part}"][0], at[f"right_{part}"][0]
            side = np.clip((rest[:, 0] - right) / (left - right), 0, 1)
            weights[:, points.index(f"left_{part}")] += moved * share * side
            weights[:, points.index(f"right_{part}")] += moved * share * (1 - side)
    return weights / weights.sum(1, keepdims=True)


def sampled_handles(
    vertices: Float[np.ndarray, "verts 3"], count: int
) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, "verts points"]]:
    """Vertices spread over a mesh (farthest point sampling) and weights of the nearest for each."""
    count = min(count, len(vertices))
    chosen = [int(np.argmax(np.linalg.norm(vertices - vertices.mean(0), axis=-1)))]
    distance = np.linalg.norm(vertices - vertices[chosen[0]], axis=-1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(vertices - vertices[chosen[-1]], axis=-1))
    index = np.array(chosen)
    apart = np.linalg.norm(vertices[:, None] - vertices[index], axis=-1)
    near = np.argsort(apart, axis=1)[:, : min(NEAREST, count)]
    closeness = 1 / (np.take_along_axis(apart, near, 1) + 1e-6) ** 2
    weights = np.zeros((len(vertices), count), np.float32)
    np.put_along_axis(weights, near, closeness / closeness.sum(1, keepdims=True), 1)
    return index, weights
