"""Model files in the formats of the SMPL family, made from the open body model.

Sizes, names, joint order and key-point vertices are those of the published files; the surface is
Anny's, thinned to their number of vertices and put into a T-pose, so nothing here is theirs.
"""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csc_matrix
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.body.smpl import JOINTS, VERTEX_OF
from mvai.body.smpl_files import SIZES

SHAPE = 10
CORRECTIVE_M = 5e-4
HEAD_POINTS = {"Jaw": (0, 0.02, 0.08), "LeftEye": (0.03, 0.08, 0.1), "RightEye": (-0.03, 0.08, 0.1)}
FILES = {
    "smpl": "smpl/SMPL_NEUTRAL.pkl",
    "smplh": "smplh/neutral/model.npz",
    "smplx": "smplx/SMPLX_NEUTRAL.npz",
}


def t_pose() -> torch.Tensor:
    """Rotations that put Anny's arms out to the sides and its legs straight down."""
    body = anny_body()
    rest = body.joint_template.numpy().astype(float)
    R = np.tile(np.eye(3), (1, len(body.joints), 1, 1))
    for side, x in (("Left", 1.0), ("Right", -1.0)):
        arm, fore, hand = (body.joint(side + n) for n in ("Arm", "ForeArm", "Hand"))
        above = np.eye(3)
        for a, b in ((arm, fore), (fore, hand)):
            bone = above @ (rest[b] - rest[a])
            R[0, a] = above.T @ turned(bone, np.array([x, 0.0, 0.0])) @ above
            above = above @ R[0, a]
    return torch.from_numpy(R.astype(np.float32))


def turned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shortest rotation from one direction to another."""
    return Rotation.align_vectors(b[None], a[None])[0].as_matrix()


def arrays(model: str, shape_columns: int = SHAPE) -> dict[str, np.ndarray]:
    """What a model file holds."""
    body = anny_body()
    verts, joints = SIZES[model]
    R = t_pose()
    shapes = torch.cat([torch.zeros(1, body.shape_size), torch.eye(body.shape_size)[:SHAPE]])
    posed = body.vertices(shapes, R.expand(len(shapes), -1, -1, -1), torch.zeros(1, 3)).numpy()
    _, t = body.forward_kinematics(body.joint_template[None], R, torch.zeros(1, 3))
    at = {name: t[0, j].numpy().astype(float) for j, name in enumerate(body.joints)}
    at |= {n: at["Head"] + offset for n, offset in HEAD_POINTS.items()}

    keep = _kept(posed[0], verts, VERTEX_OF[model])
    weights = np.zeros((verts, joints))
    dense = body.dense_weights.numpy()[keep]
    for j, name in enumerate(body.joints):
        target = name
        while target not in JOINTS[model]:
            # What a body without fingers lacks moves with the hand.
            target = body.joints[body.parents[body.joint(target)]]
        weights[:, JOINTS[model].index(target)] += dense[:, j]
    strongest = np.sort(weights, axis=1)[:, [-4]]
    weights[weights < strongest] = 0
    weights /= weights.sum(1, keepdims=True)

    template = posed[0][keep]
    rng = np.random.default_rng(0)
    directions = np.zeros((verts, 3, shape_columns), np.float32)
    directions[..., :SHAPE] = np.moveaxis(posed[1:, keep] - template, 0, 2)
    parents = _parents(model)
    posedirs = rng.normal(0, CORRECTIVE_M, (verts, 3, 9 * (joints - 1))).astype(np.float32)
    faces = _faces(body.faces, KDTree(template).query(posed[0])[1])
    out = {
        # As in the published files, the origin is not at the pelvis.
        "v_template": (template + np.array([0.0, 0.2, 0.01])).astype(float),
        "shapedirs": directions,
        "posedirs": posedirs,
        "J_regressor": _regressor(template, np.stack([at[n] for n in JOINTS[model]])),
        "kintree_table": np.stack([parents, np.arange(joints)]).astype(np.uint32),
        "weights": weights,
        "f": faces.astype(np.uint32),
    }
    if model == "smplx":
        face = np.flatnonzero(np.isin(faces, [VERTEX_OF[model]["nose"]]).any(1))
        out["lmk_faces_idx"] = np.resize(face, 51)
        out["lmk_bary_coords"] = np.full((51, 3), 1 / 3)
        out["joint2num"] = np.array({"Pelvis": 0}, dtype=object)
    return out


def _kept(points: np.ndarray, count: int, fixed: dict[str, int]) -> np.ndarray:
    """Vertices of Anny that become the thinner body, key-points at the indices they have there."""
    body = anny_body()
    keep = np.linspace(0, len(points) - 1, count).round().astype(int)
    names = tuple(fixed)
    wanted = body.regress(names, points[None])[0]
    for name, point in zip(names, wanted, strict=True):
        near = int(np.linalg.norm(points[keep] - point, axis=1).argmin())
        i = fixed[name]
        keep[[i, near]] = keep[[near, i]]
    return keep


def _faces(faces: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Anny's faces after every vertex has gone to its nearest kept one."""
    moved = onto[faces]
    a, b, c = moved.T
    return np.unique(moved[(a != b) & (b != c) & (a != c)], axis=0)


def _parents(model: str) -> np.ndarray:
    body = anny_body()
    names = JOINTS[model]
    parents = []
    for name in names:
        if name in HEAD_POINTS:
            parents.append(names.index("Head"))
            continue
        p = body.parents[body.joint(name)]
        while p >= 0 and body.joints[p] not in names:
            p = body.parents[p]
        parents.append(names.index(body.joints[p]) if p >= 0 else 2**32 - 1)
    return np.array(parents)


def _regressor(vertices: np.ndarray, joints: np.ndarray, ring: int = 40) -> np.ndarray:
    """Weights of vertices around each joint, summing to 1, that give it exactly."""
    out = np.zeros((len(joints), len(vertices)))
    for j, ids in enumerate(KDTree(vertices).query(joints, k=ring)[1]):
        A = np.vstack([vertices[ids].T, np.ones(ring)])
        out[j, ids] = np.linalg.lstsq(A, np.append(joints[j], 1.0), rcond=None)[0]
    return out


def write_npz(path: Path, content: dict[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **content)
    return path


def write_pickle(path: Path, content: dict[str, np.ndarray]) -> Path:
    """As SMPL is published: chumpy arrays, a sparse regressor, written by protocol 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    module = types.ModuleType("chumpy.ch")
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})  # type: ignore[attr-defined]

    def chumpy(x: np.ndarray) -> object:
        out = module.Ch()
        out.__dict__.update(x=x, _dirty_vars=set())
        return out

    before = {k: sys.modules.get(k) for k in ("chumpy", "chumpy.ch")}
    sys.modules.update({"chumpy": types.ModuleType("chumpy"), "chumpy.ch": module})
    try:
        stored = {
            **content,
            "shapedirs": chumpy(content["shapedirs"]),
            "J_regressor": csc_matrix(content["J_regressor"]),
            "bs_style": "lbs",
        }
        path.write_bytes(pickle.dumps(stored, 2))
    finally:
        for name, value in before.items():
            if value is None:
                del sys.modules[name]
            else:
                sys.modules[name] = value
    return path


def write_models(folder: Path) -> Path:
    """A folder with one file of each model, laid out as downloaded."""
    write_pickle(folder / FILES["smpl"], arrays("smpl"))
    write_npz(folder / FILES["smplh"], arrays("smplh", 16))
    write_npz(folder / FILES["smplx"], arrays("smplx", 20))
    return folder
