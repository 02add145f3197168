"""SMPLify-X with bodies of the SMPL family, and with VPoser."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import fake_stages
from mvai.body import body_model
from mvai.body.anny import anny_body
from mvai.body.retarget import rest_skeleton, swings
from mvai.body.smpl import BODY
from mvai.cli import main
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.io.archive import read_archive
from mvai.io.unpickle import read_pickle
from mvai.nets.pose_prior import axis_angle_from_matrix, load_pose_prior
from mvai.nets.vposer import find_vposer, load_vposer
from mvai.reconstruct import fit_body
from mvai.reconstruct.energy import hinge_axes
from mvai.reconstruct.pose_prior import prior_for
from mvai.reconstruct.smplify_x import SmplifyX
from mvai.types import Camera, Keypoints, MvaiError
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS
from result_makers import matrices

LIMBS = tuple(f"{s}_{j}" for s in ("left", "right")
              for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def seen(body, frames: int = 12, side: float = 0.0) -> tuple[Keypoints, np.ndarray]:
    """Key-points of somebody who faces the camera, or turned by `side` (radians), with arms down
    and moving, and the limb joints relative to the middle of the hips."""
    pose = np.zeros((frames, len(body.joints), 3))
    pose[:, body.joint("Hips"), 1] = side
    swing = 0.5 + 0.5 * np.sin(np.linspace(0, 3, frames))
    if body.topology != "anny":
        pose[:, body.joint("LeftArm"), 2] = -0.9
        pose[:, body.joint("RightArm"), 2] = 0.9
    pose[:, body.joint("LeftForeArm"), 1] = -0.8 * swing
    pose[:, body.joint("RightForeArm"), 1] = 0.8
    pose[:, body.joint("RightUpLeg"), 0] = -0.5 * swing
    pose[:, body.joint("RightLeg"), 0] = 0.6 * swing
    R = torch.from_numpy(matrices(pose)).float()
    shape = torch.zeros(frames, body.shape_size)
    shape[:, 0] = 0.5
    move = torch.tensor([[0.1, 0.0, -4.0]]).expand(frames, -1)
    names = tuple(n for n in BODY_KEYPOINTS if n in body.regressed)
    _, points = body.joints_and_keypoints(names, shape, R, move)
    points = points.numpy()
    camera = Camera.from_focal(800.0, 960, 720)
    middle = points[:, [names.index("left_hip"), names.index("right_hip")]].mean(1, keepdims=True)
    limbs = points[:, [names.index(n) for n in LIMBS]] - middle
    rng = np.random.default_rng(0)
    return Keypoints(
        names, camera.project(points) + rng.normal(0, 0.5, (*points.shape[:2], 2)),
        np.ones(points.shape[:2]), 25.0, 960, 720, (points - middle) * [1, -1, -1],
    ), limbs  # fmt: skip


def exact(keypoints: Keypoints) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks taken as they are, as `mvai.nets.landmark_correction.corrected` returns its own."""
    assert keypoints.xyz_m is not None
    known = [n for n in BODY_KEYPOINTS if n in keypoints.names]
    position = np.zeros((keypoints.frames, len(BODY_KEYPOINTS), 3))
    position[:, [BODY_KEYPOINTS.index(n) for n in known]] = keypoints.xyz_m[
        :, [keypoints.index(n) for n in known]
    ]
    return position, np.full((keypoints.frames, len(BODY_KEYPOINTS), 2), 0.02)


def limb_error_m(body, sequence, limbs: np.ndarray) -> float:
    points = body.regress((*LIMBS, "left_hip", "right_hip"), sequence.vertices)
    relative = points[:, : len(LIMBS)] - points[:, -2:].mean(1, keepdims=True)
    return float(np.linalg.norm(relative - limbs, axis=-1).mean())


@pytest.mark.parametrize("model", ["smpl", "smplh", "smplx"])
@pytest.mark.parametrize(("source", "bound_m"), [("exact", 0.03), ("corrected", 0.05)])
def test_the_default_setting_finds_the_body(
    body_models: Path, model: str, source: str, bound_m: float, monkeypatch
):
    """From six sides, bodies are 19 mm off with exact landmarks, but 50 if these are a tenth too
    large, and 280 to 290 if their depth is mirrored. The correction, which expects what a detector
    makes of people, leads exact ones astray: the fit 28 to 43 mm."""
    if source == "exact":
        monkeypatch.setattr(fit_body, "landmark_source", lambda start: exact)
    body = body_model(model, body_models)
    errors = []
    for side in (0.0, 0.8, -0.8, 1.6, -1.6, 3.1):
        keypoints, limbs = seen(body, side=side)
        sequence = SmplifyX(body_model=model, body_model_path=body_models).reconstruct(keypoints)
        assert sequence.topology == ("smplx" if model == "smplx" else "smpl")
        assert sequence.vertices.shape == (12, len(body.template), 3)
        # The world was levelled, so compare in the camera's axes.
        R = np.diag([1.0, -1, -1]) @ sequence.camera.T_camera_world[:3, :3]
        turned = type(sequence)(sequence.vertices @ R.T.astype(np.float32), sequence.faces, 25.0)
        errors.append(limb_error_m(body, turned, limbs))
    assert np.mean(errors) < bound_m


def test_the_prior_of_another_rest_pose_is_the_same_prior(body_models: Path):
    """A posture is as likely in SMPL's rotations as in ours, up to the change of volume."""
    ours, theirs = anny_body(), body_model("smpl", body_models)
    swing = swings(ours, rest_skeleton(theirs)[0], {})
    prior, moved = load_pose_prior(), prior_for(theirs)
    # Small turns about a mean: the covariances are carried over to first order.
    turns = 0.03 * np.random.default_rng(0).normal(size=(20, 63))
    a = prior.means[0] + torch.cat([torch.zeros(1, 63), torch.from_numpy(turns).float()])
    R = matrix_from_axis_angle(a.unflatten(-1, (21, 3))).numpy()
    parents = [ours.joints[ours.parents[ours.joint(n)]] for n in BODY_JOINTS[1:]]
    there = np.stack(
        [swing[p] @ R[:, j] @ swing[n].T
         for j, (n, p) in enumerate(zip(BODY_JOINTS[1:], parents, strict=True))], 1
    )  # fmt: skip
    here = prior.component_log_likelihood(axis_angle_from_matrix(torch.from_numpy(R)).flatten(1))
    moved_R = torch.from_numpy(there).float()
    other = moved.component_log_likelihood(axis_angle_from_matrix(moved_R).flatten(1))
    here, other = (e[0, 0] - e[1:, 0] for e in (here, other))
    assert here.min() > 0.1
    torch.testing.assert_close(other, here, rtol=0.1, atol=0.02)
    assert prior_for(ours) is not moved


def test_straight_elbows_flex_forward(body_models: Path):
    joints, axes, bends = hinge_axes(body_model("smpl", body_models))
    names = [body_model("smpl", body_models).joints[j] for j in joints]
    left, right = names.index("LeftForeArm"), names.index("RightForeArm")
    np.testing.assert_allclose(axes[left], [0, -1, 0], atol=0.05)
    np.testing.assert_allclose(axes[right], [0, 1, 0], atol=0.05)
    assert bends[left] == 0
    # Ours is bent at rest and keeps its own axis.
    _, _, own = hinge_axes(anny_body())
    assert own[0] > 0.1


# --- VPoser -------------------------------------------------------------------------------------


class ForeignCallback:
    """What a training program leaves in its checkpoints."""

    def __init__(self) -> None:
        self.best = "a"


def write_vposer(path: Path, version: int) -> dict[str, torch.Tensor]:
    """A decoder whose codes move the joints a little about rest, under the published names."""
    g = torch.Generator().manual_seed(0)
    sizes = [(512, 32), (512, 512), (126, 512)]
    names = {1: ("bodyprior_dec_fc1", "bodyprior_dec_fc2", "bodyprior_dec_out"),
             2: tuple(f"vp_model.decoder_net.{i}" for i in (0, 3, 5))}[version]  # fmt: skip
    state = {}
    for name, size in zip(names, sizes, strict=True):
        state[f"{name}.weight"] = torch.randn(size, generator=g) / size[1] ** 0.5
        state[f"{name}.bias"] = torch.zeros(size[0])
    # Rows of 3 x 2 whose columns are the first two of the identity.
    state[f"{names[-1]}.bias"] = torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(21)
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == 1:
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        extra = {"callbacks": {ForeignCallback: ForeignCallback()}, "epoch": 13}
        torch.save({"state_dict": state, **extra}, path)
    return state


@pytest.mark.parametrize(
    ("version", "name"),
    [(1, "vposer_v1_0/snapshots/TR00_E096.pt"),
     (2, "V02_05/snapshots/V02_05_epoch=13_val_loss=0.03.ckpt")],
)  # fmt: skip
def test_vposer_is_found_and_decodes(tmp_path: Path, version: int, name: str):
    state = write_vposer(tmp_path / name, version)
    assert find_vposer(tmp_path) == tmp_path / name
    decoder = load_vposer(tmp_path / name)
    z = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    R = decoder(z)
    torch.testing.assert_close(R @ R.transpose(-1, -2), torch.eye(3).expand_as(R))
    # The first layers and one joint by hand.
    keys = list(state)
    x = z
    for i in (0, 2):
        x = x @ state[keys[i]].T + state[keys[i + 1]]
        x = torch.where(x > 0, x, (0.2 if version == 1 else 0.01) * x)
    out = (x @ state[keys[4]].T + state[keys[5]]).reshape(4, 21, 3, 2)
    first = out[..., 0] / out[..., 0].norm(dim=-1, keepdim=True)
    j = BODY[1:].index("LeftForeArm")
    torch.testing.assert_close(R[:, BODY_JOINTS[1:].index("LeftForeArm"), :, 0], first[:, j])


def test_checkpoints_are_read_without_their_classes(tmp_path: Path):
    path = tmp_path / "a.ckpt"
    state = write_vposer(path, 2)
    with pytest.raises(MvaiError, match="ForeignCallback"):
        read_pickle(path)
    content = read_pickle(path, skip_unknown=True)
    assert content["epoch"] == 13 and content["callbacks"] == {}
    assert np.array_equal(next(iter(content["state_dict"].values())), next(iter(state.values())))


def test_the_papers_setting_uses_vposer(body_models: Path, tmp_path: Path, monkeypatch):
    for entry in body_models.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    write_vposer(tmp_path / "V02_05/snapshots/a.ckpt", 2)
    body = body_model("smpl", tmp_path)
    keypoints, _ = seen(body, 2)
    calls = []

    def counted(path: Path):
        calls.append(path)
        return load_vposer(path)

    monkeypatch.setattr(fit_body, "load_vposer", counted)
    monkeypatch.setattr(fit_body, "fit_frames", partial(fit_body.fit_frames, iterations=10))
    method = SmplifyX("paper", body_model="smpl", body_model_path=tmp_path)
    sequence = method.reconstruct(keypoints)
    assert calls == [tmp_path / "V02_05/snapshots/a.ckpt"]
    assert np.isfinite(sequence.vertices).all()
    # The picture is explained, whatever the depths: 2D limbs within a few pixels.
    points = body.regress(LIMBS, sequence.vertices)
    off = sequence.camera.project(points) - keypoints.xy_px[:, [keypoints.index(n) for n in LIMBS]]
    assert np.median(np.abs(off)) < 12


def test_a_file_that_is_no_vposer(tmp_path: Path):
    torch.save({"state_dict": {"layer.weight": torch.zeros(3)}}, tmp_path / "a.pt")
    with pytest.raises(MvaiError, match="no VPoser"):
        load_vposer(tmp_path / "a.pt")
    with pytest.raises(MvaiError, match=r"SMPLX_NEUTRAL\.npz"):
        SmplifyX(body_model="smplx").reconstruct(seen(anny_body(), 8)[0])


def test_the_command_reconstructs_with_a_users_body(body_models: Path, tmp_path: Path, capfd):
    from mvai.detect.layouts import COCO_17

    keypoints, _ = seen(anny_body(), 10)
    columns = [keypoints.index(n) for n in COCO_17]
    points = np.concatenate([keypoints.xy_px[:, columns], np.full((10, 17, 1), 0.9)], -1)
    rows = [{"image_id": f, "keypoints": p.ravel().tolist()} for f, p in enumerate(points)]
    (tmp_path / "points.json").write_text(json.dumps(rows))
    clip = fake_stages.clip(tmp_path / "clip.mp4", frames=10, size=640)
    out = tmp_path / "body.npz"
    arguments = ["reconstruct", str(clip), "-o", str(out), "--detector",
                 str(tmp_path / "points.json"), "--body-model", "smplx"]  # fmt: skip
    # The file is missed before anything else is done.
    assert main(arguments) == 2
    said = capfd.readouterr().err
    assert "SMPLX_NEUTRAL" in said and "detect" not in said
    assert main([*arguments, "--body-model-path", str(body_models)]) == 0
    archive = read_archive(out)
    assert archive.sequence.topology == "smplx"
    assert archive.stages["reconstruct"].settings["body_model"] == "smplx"
