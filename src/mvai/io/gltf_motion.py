"""Joint transforms and weights in the form glTF stores them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from mvai.types import Skin

INFLUENCES = 4


def local_transforms(
    Ts_world_joint: Float[np.ndarray, "frames joints 4 4"], parents: tuple[int, ...]
) -> Float[np.ndarray, "frames joints 4 4"]:
    """World transforms to transforms in the parent joint; roots stay as they are."""
    Ts = np.asarray(Ts_world_joint, float)
    local = Ts.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            local[:, joint] = np.linalg.inv(Ts[:, parent]) @ Ts[:, joint]
    return local


def quaternions_xyzw(
    Ts: Float[np.ndarray, "frames joints 4 4"],
    first: Float[np.ndarray, "joints 4"] | None = None,
) -> Float[np.ndarray, "frames joints 4"]:
    """Rotations as unit quaternions whose signs do not jump from frame to frame.

    Args:
        Ts: rigid transforms.
        first: a quaternion for each joint whose side of the sphere the first frame takes.
    """
    from scipy.spatial.transform import Rotation

    frames, joints = Ts.shape[:2]
    q = Rotation.from_matrix(Ts[..., :3, :3].reshape(-1, 3, 3)).as_quat()
    q = q.reshape(frames, joints, 4)
    # q and -q are one rotation, but a viewer interpolating between them would spin the joint.
    before = np.concatenate([q[:1] if first is None else first[None], q[:-1]])
    flips = np.where((q * before).sum(axis=-1) < 0, -1.0, 1.0)
    return q * np.cumprod(flips, axis=0)[..., None]


def reduced_influences(
    skin: Skin,
) -> tuple[Int[np.ndarray, "verts 4"], Float[np.ndarray, "verts 4"]]:
    """The four strongest influences of each vertex, float32 weights that sum to 1.

    A joint named twice by a vertex counts once with both weights, and unused places name joint 0;
    glTF demands both.
    """
    indices, weights = skin.weight_indices.copy(), np.clip(skin.weights.astype(float), 0, None)
    for k in range(1, indices.shape[1]):
        for earlier in range(k):
            same = indices[:, k] == indices[:, earlier]
            weights[same, earlier] += weights[same, k]
            weights[same, k] = 0
    if indices.shape[1] < INFLUENCES:
        missing = ((0, 0), (0, INFLUENCES - indices.shape[1]))
        indices, weights = np.pad(indices, missing), np.pad(weights, missing)
    order = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    indices = np.take_along_axis(indices, order, axis=1)
    weights = np.take_along_axis(weights, order, axis=1)
    weights[weights < 1e-5] = 0
    weights[weights.sum(axis=1) == 0, 0] = 1
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return np.where(weights > 0, indices, 0), weights
