"""Bone rotations from a moving body mesh.

Linear blend skinning is linear in the bones' affine transforms once weights and rest shape are
known, so all frames are one least-squares problem with one small matrix. The transforms are
projected to rotations, and the rest shape follows from them by least squares again, because the
posed surface is linear in the shape coefficients; a few rounds settle both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.geometry.rigid import nearest_rotations
from mvai.transfer.registration.template import ScaledTemplate
from mvai.types import MeshSequence, MvaiError

ROUNDS = 4
SHAPE_FRAMES = 6
VERTICES_A_JOINT = 16


@dataclass(frozen=True)
class SolvedMotion:
    """A body's movement in terms of its bones."""

    shape: Float[np.ndarray, " shape"]
    R_world_joint: Float[np.ndarray, "frames joints 3 3"]
    """World rotation of every joint relative to the template's rest."""
    t_world_joint: Float[np.ndarray, "frames joints 3"]
    """World position of every joint, by forward kinematics (metres)."""
    residual_m: Float[np.ndarray, " frames"]
    """Mean distance between the given and the reproduced surface in each frame."""


def solve_motion(body: LinearBody, sequence: MeshSequence) -> SolvedMotion:
    """Shape, rotations and root path of a body mesh sequence.

    Raises:
        MvaiError: When the sequence is not in the body's topology, or not finite.
    """
    if sequence.topology != body.topology or sequence.vertices.shape[1] != len(body.template):
        raise MvaiError(
            f"The mesh sequence is in topology '{sequence.topology or 'unknown'}' with "
            f"{sequence.vertices.shape[1]} vertices, and the rig method reads '{body.topology}' "
            f"({len(body.template)} vertices); reconstruct the video with mvai first."
        )
    V = np.asarray(sequence.vertices, np.float32)
    if not np.isfinite(V).all():
        raise MvaiError("The mesh sequence has positions that are not numbers; make it again.")
    shape = np.zeros(body.shape_size)
    ids = _spread(body, VERTICES_A_JOINT)
    some = V[_some(len(V), SHAPE_FRAMES)]
    R = _rotations(body, shape, some)
    t_root = _root(body, shape, R, some)
    for _ in range(ROUNDS):
        shape, R, t_root = _gauss_newton_step(body, ids, shape, R, t_root, some)
    R = _rotations(body, shape, V)
    t_root = _root(body, shape, R, V)
    rest, joints = _rest(body, shape)
    t = chain_positions(body.parents, joints, R, t_root)
    residual = _residual(body, rest, joints, R, t, V)
    return SolvedMotion(shape=shape, R_world_joint=R, t_world_joint=t, residual_m=residual)


def chain_positions(
    parents: tuple[int, ...],
    rest_joints: Float[np.ndarray, "joints 3"],
    R: Float[np.ndarray, "frames joints 3 3"],
    t_root: Float[np.ndarray, "frames 3"],
) -> Float[np.ndarray, "frames joints 3"]:
    """Joint positions from world rotations; `t_root` is the root's position."""
    t = np.empty((len(R), len(parents), 3))
    for j, p in enumerate(parents):
        t[:, j] = t_root if p < 0 else t[:, p] + R[:, p] @ (rest_joints[j] - rest_joints[p])
    return t


def _rest(body: LinearBody, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertices, joints = body.rest(torch.from_numpy(shape.astype(np.float32)))
    return vertices.numpy().astype(np.float64), joints.numpy().astype(np.float64)


def _rotations(body: LinearBody, shape: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Nearest rotations to the least-squares affine transforms of all bones in all frames."""
    rest, joints = _rest(body, shape)
    n, k = body.weight_indices.shape
    local = np.concatenate([rest[:, None] - joints[body.weight_indices], np.ones((n, k, 1))], -1)
    local[..., :3] *= 10  # decimetres, so that rotation and translation columns are alike in size
    columns = body.weight_indices[..., None] * 4 + np.arange(4)
    rows = np.broadcast_to(np.arange(n)[:, None, None], columns.shape)
    values = body.weights[..., None] * local
    J = len(body.joints)
    A = csr_matrix((values.ravel(), (rows.ravel(), columns.ravel())), shape=(n, 4 * J))
    N = (A.T @ A).toarray()
    # Bones that own hardly any vertex of their own (the shoulders) lean on a weak prior: small
    # against any bone with vertices of its own.
    N += 1e-6 * np.diag(np.maximum(np.diag(N), 1e-3))
    stacked = V.transpose(1, 0, 2).reshape(n, -1)
    X = np.linalg.solve(N, A.T.astype(np.float32) @ stacked)
    X = X.reshape(J, 4, len(V), 3)[:, :3]
    return nearest_rotations(np.ascontiguousarray(X.transpose(2, 0, 3, 1)))


def _some(count: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


def _spread(body: LinearBody, each: int) -> np.ndarray:
    """Vertices spread over all joints alike: the face has a third of the mesh, a thumb little."""
    chosen = []
    for j in range(len(body.joints)):
        own = np.flatnonzero(((body.weight_indices == j) * body.weights).sum(1) > 0.2)
        chosen.append(own[_some(len(own), each)])
    return np.unique(np.concatenate(chosen))


def _gauss_newton_step(
    body: LinearBody,
    ids: np.ndarray,
    shape: np.ndarray,
    R: np.ndarray,
    t_root: np.ndarray,
    V: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step for one common shape and all frames' rotations and root positions at once.

    The frames' own
    unknowns are eliminated (Schur complement), so that only the shape is solved jointly.
    """
    template = ScaledTemplate(body)
    points = template.vertices(ids)
    c = template.columns
    pose_columns = slice(c["rotations"].start, c["translation"].stop)
    J = len(body.joints)
    H_ss, g_s = 1e-4 * np.eye(len(shape)), -1e-4 * shape
    eliminated = []
    for f in range(len(V)):
        local = R[f].copy()
        for j, parent in enumerate(body.parents):
            if parent >= 0:
                local[j] = R[f, parent].T @ R[f, j]
        pose = replace(template.start(), shape=shape, R_parent_joint=local, t_root=t_root[f])
        x, D = template.jacobian(points, pose)
        r = V[f, ids] - x
        Jp = D[..., pose_columns].reshape(-1, 3 * J + 3)
        Js = D[..., c["shape"]].reshape(-1, len(shape))
        H_pp = Jp.T @ Jp
        H_pp[np.diag_indices_from(H_pp)] += 1e-5
        H_ps, g_p = Jp.T @ Js, Jp.T @ r.ravel()
        K = np.linalg.solve(H_pp, np.concatenate([H_ps, g_p[:, None]], 1))
        H_ss += Js.T @ Js - H_ps.T @ K[:, :-1]
        g_s += Js.T @ r.ravel() - H_ps.T @ K[:, -1]
        eliminated.append(K)
    step = np.linalg.solve(H_ss, g_s)
    K = np.stack(eliminated)
    p = K[..., -1] - K[..., :-1] @ step
    E = Rotation.from_rotvec(p[:, :-3].reshape(-1, 3)).as_matrix().reshape(len(V), J, 3, 3)
    for j, parent in enumerate(body.parents):
        if parent >= 0:
            E[:, j] = E[:, parent] @ E[:, j]
    return shape + step, E @ R, t_root + p[:, -3:]


def _root(body: LinearBody, shape: np.ndarray, R: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Root positions that centre the reproduced surface on the given one."""
    ids = _some(V.shape[1], 1500)
    rest, joints = _rest(body, shape)
    t = chain_positions(body.parents, joints, R, np.zeros((len(R), 3)))
    return V[:, ids].mean(1) - _skinned(body, ids, rest, joints, R, t).mean(1)


def _skinned(
    body: LinearBody,
    ids: np.ndarray,
    rest: np.ndarray,
    joints: np.ndarray,
    R: np.ndarray,
    t: np.ndarray,
) -> np.ndarray:
    """Posed positions of some vertices in all frames."""
    W, idx = body.weights[ids], body.weight_indices[ids]
    offset = t - np.einsum("fjab,jb->fja", R, joints)
    A = np.concatenate([R, offset[..., None]], -1).astype(np.float32)
    dense = np.zeros((len(ids), len(body.joints)), np.float32)
    np.add.at(dense, (np.arange(len(ids))[:, None], idx), W)
    blend = np.einsum("vj,fjk->fvk", dense, A.reshape(len(R), -1, 12), optimize=True)
    blend = blend.reshape(len(R), len(ids), 3, 4)
    return np.einsum("fvab,vb->fva", blend[..., :3], rest[ids].astype(np.float32)) + blend[..., 3]


def _residual(
    body: LinearBody,
    rest: np.ndarray,
    joints: np.ndarray,
    R: np.ndarray,
    t: np.ndarray,
    V: np.ndarray,
) -> np.ndarray:
    ids = _some(V.shape[1], 1500)
    return np.linalg.norm(_skinned(body, ids, rest, joints, R, t) - V[:, ids], axis=-1).mean(1)
