"""Where on the body a detector's landmarks sit, learnt from rendered motion capture.

Every detector has its own idea of a hip or an ankle. A body drawn in known poses and seen by the
detector shows where that is: each landmark is a point fixed to the bones it belongs to, and its
offset is found by least squares on the pixels, the same (mirrored) for left and right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix, vstack

from mvai.benchmark.scenes import Scene
from mvai.body.anny import WEIGHTS
from mvai.body.model import LinearBody
from mvai.io.atomic import written_whole
from mvai.types import Keypoints
from mvai.types.names import BODY_KEYPOINTS, FACE_KEYPOINTS, mirrored

RHO_M = 0.05
"""Robust scale: a landmark further off than this is a wrong detection, not a definition."""
STEPS = 12


@dataclass(frozen=True)
class Landmark:
    """A point fixed to the body: bones with weights, and its place in the mean body at rest."""

    bones: tuple[str, ...]
    weights: tuple[float, ...]
    rest: Float[np.ndarray, "3"]
    spread_m: float
    """Median distance between where it is and where the detector sees it."""


def train_landmarks(path: Path, body: LinearBody, seen: list[tuple[Scene, Keypoints]]) -> None:
    """Place all body and face landmarks and write `body` with them to `path`."""
    if not path.exists():
        path.write_bytes((WEIGHTS / "body_anny.npz").read_bytes())
    with torch.no_grad():
        landmarks = place_landmarks(body, (*BODY_KEYPOINTS, *FACE_KEYPOINTS), seen)
    store_landmarks(path, body, landmarks)
    for name, landmark in landmarks.items():
        print(f"{name}: seen {1000 * landmark.spread_m:.0f} mm from its place (median)")


def place_landmarks(
    body: LinearBody, names: tuple[str, ...], seen: list[tuple[Scene, Keypoints]]
) -> dict[str, Landmark]:
    """Fit the offset of every named landmark. Unknown ones start at the nose."""
    placed: dict[str, Landmark] = {}
    for name in names:
        if name in placed:
            continue
        # The iBUG points run along the face, so equal numbers are not mirror images there.
        alone = mirrored(name) == name or name.startswith("face_")
        pair = [name] if alone else [name, mirrored(name)]
        starts = [n if n in body.regressed else "nose" for n in pair]
        template, _, indices, weights = body.attached_points(tuple(starts))
        systems = [_observations(body, n, s, seen) for n, s in zip(pair, starts, strict=True)]
        signs = [np.ones(3), np.array([-1.0, 1, 1])]
        d = np.zeros(3)
        for _ in range(STEPS):
            A, g = 1e-6 * np.eye(3), np.zeros(3)
            for sign, system in zip(signs, systems, strict=False):
                J, r, w = _residuals(system, d * sign)
                J = J * sign
                A += np.einsum("n,nai,naj->ij", w, J, J)
                g += np.einsum("n,nai,na->i", w, J, r)
            d = d - np.clip(np.linalg.solve(A, g), -0.05, 0.05)
        for k, (sign, system) in enumerate(zip(signs, systems, strict=False)):
            _, r, _ = _residuals(system, d * sign)
            placed[pair[k]] = Landmark(
                bones=tuple(body.joints[i] for i in indices[k]),
                weights=tuple(weights[k].tolist()),
                rest=template[k].numpy() + d * sign,
                spread_m=float(np.median(np.linalg.norm(r, axis=-1))) if len(r) else np.nan,
            )
    return placed


def _observations(
    body: LinearBody, name: str, start: str, seen: list[tuple[Scene, Keypoints]]
) -> tuple[np.ndarray, ...]:
    """Camera-frame points, bone frames, pixels (as rays), depth scale and confidence."""
    points, frames, rays, weights = [], [], [], []
    template, directions, indices, blend = body.attached_points((start,))
    for scene, keypoints in seen:
        column = keypoints.index(name)
        xy, confidence = keypoints.xy_px[:, column], keypoints.confidence[:, column]
        good = np.isfinite(xy).all(-1) & (confidence > 0.6)
        if not good.any():
            continue
        shape = torch.from_numpy(scene.shape).float()
        rest_joints = body.rest_joints(shape)[None]
        R, t = body.forward_kinematics(
            rest_joints.expand(int(good.sum()), -1, -1),
            torch.from_numpy(scene.rotations[good]).float(),
            torch.from_numpy(scene.translation[good]).float(),
        )
        rest = template[0] + torch.einsum("b,bd->d", shape, directions[:, 0])
        i, w = indices[0], blend[0]
        local = rest - rest_joints[0, i]
        world = ((R[:, i] @ local[..., None])[..., 0] + t[:, i]).mul(w[:, None]).sum(1)
        B = (R[:, i] * w[:, None, None]).sum(1)
        T = scene.camera.T_camera_world
        points.append(world.numpy() @ T[:3, :3].T + T[:3, 3])
        frames.append(T[:3, :3] @ B.numpy())
        K = scene.camera.K
        rays.append((xy[good] - K[:2, 2]) / np.diag(K)[:2])
        weights.append(confidence[good] ** 2)
    if not points:
        return np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros((0, 2)), np.zeros(0)
    return tuple(np.concatenate(a) for a in (points, frames, rays, weights))


def _residuals(system: tuple[np.ndarray, ...], d: np.ndarray) -> tuple[np.ndarray, ...]:
    """Derivative, residual in metres across the view, and robust weight at offset d."""
    points, frames, rays, confidence = system
    p = points + frames @ d
    x, z = p[:, :2], p[:, 2:]
    r = (x / z - rays) * z
    J = frames[:, :2] - rays[:, :, None] * frames[:, 2:]
    squared = (r * r).sum(-1)
    return J, r, confidence * (RHO_M**2 / (squared + RHO_M**2)) ** 2


def store_landmarks(path: Path, body: LinearBody, landmarks: Mapping[str, Landmark]) -> None:
    """Put the landmarks into the body file as regressors on vertices.

    The weights stay as close as possible to those of nearby vertices on the same bones, subject
    to summing to 1 and giving the landmark's place at rest exactly.
    """
    with np.load(path, allow_pickle=False) as data:
        arrays = {k: data[k] for k in data.files}
    names = list(body.regressed)
    rest = body.template.numpy().astype(float)
    dense = body.dense_weights.numpy()
    rows = [body.regressor[[i]] for i in range(len(names))]
    for name, landmark in landmarks.items():
        bones = np.zeros(len(body.joints))
        for bone, weight in zip(landmark.bones, landmark.weights, strict=True):
            bones[body.joint(bone)] += weight
        near = np.linalg.norm(rest - landmark.rest, axis=1)
        unlike = np.abs(dense - bones).sum(1)
        support = np.argsort(near + 0.1 * unlike)[:60]
        start = np.exp(-((near[support] + 0.1 * unlike[support]) ** 2) / (2 * 0.03**2)) + 1e-6
        start /= start.sum()
        A = np.vstack([rest[support].T, np.ones(len(support))])
        b = np.append(landmark.rest, 1.0)
        w = start + A.T @ np.linalg.solve(A @ A.T + 1e-9 * np.eye(4), b - A @ start)
        row = csr_matrix((w, (np.zeros_like(support), support)), shape=(1, len(rest)))
        if name in names:
            rows[names.index(name)] = row
        else:
            names.append(name)
            rows.append(row)
    whole = vstack(rows).tocoo()
    arrays["regressed"] = np.array(names)
    arrays["regressor_rows"] = whole.row.astype(np.uint16)
    arrays["regressor_vertices"] = whole.col.astype(np.uint16)
    arrays["regressor_weights"] = whole.data.astype(np.float32)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
