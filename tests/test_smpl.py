"""Bodies of the SMPL family from files in their formats, against the formula written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvai.body import body_model
from mvai.body.smpl import JOINTS
from mvai.body.smpl_files import SIZES, read_model
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS
from smpl_makers import FILES, arrays, write_npz

MODELS = ("smpl", "smplh", "smplx")


def pose_of(joints: int, frames: int = 2, seed: int = 0) -> np.ndarray:
    """Random rotation vectors (radians)."""
    return np.random.default_rng(seed).normal(0, 0.4, (frames, joints, 3))


def written_out(a: dict, betas: np.ndarray, pose: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """One posed body by the equations of the SMPL paper, joint by joint, in the file's frame."""
    shaped = a["v_template"] + a["shapedirs"][..., : len(betas)] @ betas
    joints = a["J_regressor"] @ shaped
    R = Rotation.from_rotvec(pose).as_matrix()
    shaped = shaped + a["posedirs"] @ (R[1:] - np.eye(3)).ravel()
    G = []
    for j in range(len(R)):
        T = np.eye(4)
        T[:3, :3] = R[j]
        p = int(a["kintree_table"][0, j])
        T[:3, 3] = joints[j] if j == 0 else joints[j] - joints[p]
        G.append(T if j == 0 else G[p] @ T)
    out = np.zeros_like(shaped)
    for j, T in enumerate(G):
        moved = (shaped - joints[j]) @ T[:3, :3].T + T[:3, 3]
        out += a["weights"][:, [j]] * moved
    return out + transl


@pytest.mark.parametrize("model", MODELS)
def test_vertices_are_those_of_the_formula(body_models: Path, model: str):
    body = body_model(model, body_models)
    a = read_model(body_models / FILES[model], model)
    verts, joints = SIZES[model]
    assert body.template.shape == (verts, 3)
    assert len(body.joints) == joints
    pose = pose_of(joints)
    betas = np.random.default_rng(1).normal(0, 1, body.shape_size)
    transl = np.array([0.3, 1.1, -2.0])
    expected = np.stack([written_out(a, betas, p, transl) for p in pose])
    got = body.vertices(
        torch.from_numpy(betas).float()[None],
        torch.from_numpy(Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix()).float()
        .reshape(2, joints, 3, 3),
        torch.from_numpy(transl).float()[None] - body.origin,
    )  # fmt: skip
    assert np.abs(got.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("model", MODELS)
def test_agrees_with_the_package_smplx(body_models: Path, model: str, monkeypatch):
    """Where somebody has it: the same numbers as the reference code."""
    smplx = pytest.importorskip("smplx")
    if model == "smplh":
        pytest.skip("that package reads SMPL-H with hand components only")
    body = body_model(model, body_models)
    a = read_model(body_models / FILES[model], model)
    verts, joints = SIZES[model]
    pose = torch.from_numpy(pose_of(joints)).float()
    betas = torch.randn(1, 10, generator=torch.Generator().manual_seed(0))
    rotations = torch.from_numpy(Rotation.from_rotvec(pose.reshape(-1, 3).numpy()).as_matrix())
    from smplx.lbs import lbs

    tensors = {k: torch.from_numpy(v).float() for k, v in a.items() if v.dtype == np.float64}
    parents = torch.from_numpy(a["kintree_table"][0])
    parents[0] = -1
    expected, _ = lbs(
        betas.expand(2, -1), pose.flatten(1), tensors["v_template"],
        tensors["shapedirs"][..., :10], tensors["posedirs"].reshape(-1, 9 * (joints - 1)).T,
        tensors["J_regressor"], parents, tensors["weights"],
    )  # fmt: skip
    got = body.vertices(
        betas, rotations.float().reshape(2, joints, 3, 3), -body.origin.expand(2, -1)
    )
    assert (got - expected).abs().max() < 1e-5
    assert smplx is not None and verts == got.shape[1]


@pytest.mark.parametrize("model", MODELS)
def test_names_and_key_points(body_models: Path, model: str):
    body = body_model(model, body_models)
    assert set(BODY_JOINTS) <= set(body.joints)
    assert body.joints == JOINTS[model]
    assert body.parents[0] == -1
    rest = body.template.numpy()[None]
    on_joint = body.regress(("left_knee", "right_wrist"), rest)[0]
    joints = [body.joint("LeftLeg"), body.joint("RightHand")]
    assert np.abs(on_joint - body.joint_template.numpy()[joints]).max() < 1e-4
    nose, left_toe, right_heel = body.regress(("nose", "left_big_toe", "right_heel"), rest)[0]
    assert nose[1] > 0.3 > left_toe[1]
    assert left_toe[0] > 0.03 and left_toe[2] > right_heel[2] + 0.1
    assert ("left_hand_index_4" in body.regressed) == (model != "smpl")
    assert ("face_nose_bridge_0" in body.regressed) == (model == "smplx")


@pytest.mark.parametrize("model", ["smpl", "smplx"])
def test_key_points_follow_the_surface(body_models: Path, model: str):
    """Reading a point off the posed surface and posing the point itself agree where one joint
    moves it."""
    body = body_model(model, body_models)
    joints = len(body.joints)
    R = torch.from_numpy(
        Rotation.from_rotvec(0.5 * pose_of(joints).reshape(-1, 3)).as_matrix()
    ).float().reshape(2, joints, 3, 3)  # fmt: skip
    shape, move = torch.randn(1, body.shape_size), torch.randn(2, 3)
    names = ("nose", "left_big_toe", "right_ear")
    _, points = body.joints_and_keypoints(names, shape, R, move)
    surface = body.regress(names, body.vertices(shape, R, move).numpy())
    assert np.abs(points.numpy() - surface).max() < 2e-3


def test_more_shape_coefficients_are_read_on_demand(body_models: Path):
    assert body_model("smplh", body_models, shape_size=16).shape_size == 16
    assert body_model("smplx", body_models, shape_size=16).shape_size == 10


# --- files that do not fit ----------------------------------------------------------------------


def test_says_which_file_is_needed(tmp_path: Path):
    with pytest.raises(MvaiError, match=r"SMPLX_NEUTRAL\.npz.*--body-model-path"):
        body_model("smplx")
    with pytest.raises(MvaiError, match=r"SMPL_MALE\.npz"):
        body_model("smpl", tmp_path, gender="male")
    with pytest.raises(MvaiError, match="no such body model"):
        body_model("mano", tmp_path)  # type: ignore[arg-type]


def test_refuses_the_file_of_another_model(body_models: Path):
    with pytest.raises(MvaiError, match=r"6890.*which does not fit SMPLX"):
        body_model("smplx", body_models / FILES["smplh"])


def test_refuses_damaged_files(tmp_path: Path):
    bad = tmp_path / "SMPL_NEUTRAL.npz"
    bad.write_bytes(b"PK\x03\x04 and nothing")
    with pytest.raises(MvaiError, match="cannot be read"):
        body_model("smpl", bad)
    content = arrays("smpl")
    del content["weights"]
    with pytest.raises(MvaiError, match="has no weights"):
        body_model("smpl", write_npz(tmp_path / "no_weights.npz", content))
