"""Bodies of the SMPL family as a `LinearBody`.

SMPL (Loper et al. 2015): vertices = skin(template + shape directions + pose correctives), joints
regressed from the shaped template. SMPL-H and SMPL-X only have more joints and other vertices.
Read from the model files directly: the package `smplx` may not be used commercially and opens
pickles with Python's own loader, and the formula is the one that `LinearBody` already has.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix, vstack

from mvai.body.model import LinearBody
from mvai.body.smpl_files import read_model
from mvai.types.names import FACE_KEYPOINTS, FINGERS, SIDES

BODY = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot",
    "RightFoot", "Spine2", "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder",
    "Head", "LeftArm", "RightArm", "LeftForeArm", "RightForeArm", "LeftHand", "RightHand",
)  # fmt: skip
"""The 22 joints that all models of the family begin with, in their order."""
HANDS = tuple(
    f"{side}Hand{finger}{i}"
    for side in SIDES
    for finger in ("Index", "Middle", "Pinky", "Ring", "Thumb")
    for i in (1, 2, 3)
)
JOINTS = {
    # SMPL's 23rd and 24th joint stand where the fingers begin.
    "smpl": (*BODY, "LeftHandMiddle1", "RightHandMiddle1"),
    "smplh": (*BODY, *HANDS),
    "smplx": (*BODY, "Jaw", "LeftEye", "RightEye", *HANDS),
}
_TREE = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)


def _parents(joints: tuple[str, ...]) -> tuple[int, ...]:
    """Parents of a model's joints: fingers hang in chains of three on the hands."""
    out: list[int] = list(_TREE)
    for name in joints[len(_TREE) :]:
        if "Hand" not in name:
            out.append(joints.index("Head"))
        elif name.endswith("1"):
            out.append(joints.index(name[: name.index("Hand") + 4]))
        else:
            out.append(joints.index(f"{name[:-1]}{int(name[-1]) - 1}"))
    return tuple(out)


PARENTS = {model: _parents(joints) for model, joints in JOINTS.items()}
"""Parent of each joint; -1 for the root."""

POINTS = ("nose", "left_eye", "right_eye", "left_ear", "right_ear",
          "left_big_toe", "left_small_toe", "left_heel",
          "right_big_toe", "right_small_toe", "right_heel")  # fmt: skip
TIPS = tuple(f"{side}_hand_{f.lower()}_4" for side in ("left", "right") for f in FINGERS)
_SMPL_POINTS = (332, 2800, 6260, 583, 4071, 3216, 3226, 3387, 6617, 6624, 6787)
_SMPL_TIPS = (2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133)
_SMPLX_POINTS = (9120, 9448, 9929, 6, 616, 5770, 5780, 8846, 8463, 8474, 8635)
_SMPLX_TIPS = (5361, 4933, 5058, 5169, 5286, 8079, 7669, 7794, 7905, 8022)
VERTEX_OF = {
    "smpl": dict(zip(POINTS, _SMPL_POINTS, strict=True)),
    "smplh": dict(zip(POINTS + TIPS, _SMPL_POINTS + _SMPL_TIPS, strict=True)),
    "smplx": dict(zip(POINTS + TIPS, _SMPLX_POINTS + _SMPLX_TIPS, strict=True)),
}
"""Vertices that are key-points, as every tool of the family counts them."""

FROM_JOINT = {
    "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand", "hip": "UpLeg", "knee": "Leg",
    "ankle": "Foot", "pinky": "HandPinky1", "index": "HandIndex1", "thumb": "HandThumb2",
    "hand_wrist": "Hand",
    **{f"hand_{f.lower()}_{i}": f"Hand{f}{i}" for f in FINGERS for i in (1, 2, 3)},
}  # fmt: skip
"""Key-points of either side that are joints."""
MIDDLE = {"neck": ("LeftArm", "RightArm"), "mid_hip": ("LeftUpLeg", "RightUpLeg")}
FROM_FACE = {
    "right_eye_outer": "face_eye_right_0", "left_eye_outer": "face_eye_left_3",
    "right_eye_inner": "face_eye_right_3", "left_eye_inner": "face_eye_left_0",
    "mouth_right": "face_lip_outer_0", "mouth_left": "face_lip_outer_6",
}  # fmt: skip
"""Body key-points that are also points of the face."""


@lru_cache(maxsize=2)
def smpl_body(path: Path, model: str, shape_size: int = 10) -> LinearBody:
    """The body in a model file.

    Its root joint is moved to the origin, as `LinearBody` has it; `LinearBody.origin` says where
    the file's own origin is then.

    Raises:
        MvaiError: the file cannot be read, or is no file of this model.
    """
    a = read_model(path, model)
    joint_template = a["J_regressor"] @ a["v_template"]
    directions = a["shapedirs"][..., : _shape_count(a["shapedirs"].shape[2], model, shape_size)]
    directions = np.moveaxis(directions, 2, 0)
    names, regressor = _regressor(a, model)
    weights, indices = _influences(a["weights"])
    parents = a["kintree_table"][0].astype(np.int64)
    return LinearBody(
        topology="smplx" if model == "smplx" else "smpl",
        joints=JOINTS[model],
        # The root's parent is written as the largest 32-bit number.
        parents=(-1, *(int(p) for p in parents[1:])),
        faces=a["f"].astype(np.int32),
        template=_float(a["v_template"] - joint_template[0]),
        directions=_float(directions),
        joint_template=_float(joint_template - joint_template[0]),
        joint_directions=_float(np.einsum("jv,bvd->bjd", a["J_regressor"], directions)),
        weight_indices=indices,
        weights=weights,
        regressed=names,
        regressor=regressor,
        correctives=_float(a["posedirs"].reshape(-1, a["posedirs"].shape[2]).T),
        origin=_float(-joint_template[0]),
    )


def _float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _shape_count(columns: int, model: str, wanted: int) -> int:
    """SMPL-X files hold shape and expression one after the other: 300 + 100, or 10 + 10."""
    if model == "smplx":
        columns = 300 if columns > 300 else min(columns, 10)
    return min(columns, wanted)


def _influences(
    weights: Float[np.ndarray, "verts joints"],
) -> tuple[Float[np.ndarray, "verts influences"], np.ndarray]:
    """Skin weights as the strongest joints of each vertex; the models have four at most."""
    count = int((weights > 0).sum(1).max())
    indices = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    strongest = np.take_along_axis(weights, indices, 1)
    strongest /= strongest.sum(1, keepdims=True)
    return strongest.astype(np.float32), indices.astype(np.int32)


def _regressor(a: dict[str, np.ndarray], model: str) -> tuple[tuple[str, ...], csr_matrix]:
    """Names and rows of every joint and key-point."""
    joints = JOINTS[model]
    verts = len(a["v_template"])
    rows: dict[str, csr_matrix] = {
        name: csr_matrix(row[None]) for name, row in zip(joints, a["J_regressor"], strict=True)
    }

    def of(columns: np.ndarray, weights: np.ndarray) -> csr_matrix:
        return csr_matrix((weights, (np.zeros(len(columns), int), columns)), shape=(1, verts))

    for name, vertex in VERTEX_OF[model].items():
        rows[name] = of(np.array([vertex]), np.ones(1))
    for side in ("left", "right"):
        for point, joint in FROM_JOINT.items():
            if side.capitalize() + joint in joints:
                rows.setdefault(f"{side}_{point}", rows[side.capitalize() + joint])
        rows[f"{side}_foot_index"] = rows[f"{side}_big_toe"]
    for name, (left, right) in MIDDLE.items():
        rows[name] = (rows[left] + rows[right]) / 2
    if model == "smpl":
        # Its only joint beyond the wrist says nothing about single fingers.
        rows = {k: v for k, v in rows.items() if "_hand_" not in k}
    if {"lmk_faces_idx", "lmk_bary_coords"} <= a.keys():
        corners = a["f"][a["lmk_faces_idx"].ravel()]
        for name, c, w in zip(FACE_KEYPOINTS, corners, a["lmk_bary_coords"], strict=False):
            rows[name] = of(c, w)
        rows |= {body: rows[face] for body, face in FROM_FACE.items() if face in rows}
    return tuple(rows), csr_matrix(vstack(list(rows.values())))
