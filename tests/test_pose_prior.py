"""Poses from motion capture, and the pose prior that is trained on them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvai.benchmark.poses import load_pose_clip, poses_in_folder
from mvai.body.anny import anny_body
from mvai.body.bvh_poses import body_positions, filled, poses_from_bvh, spikes, up_rotation
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.nets.pose_prior import (
    WEIGHTS,
    GaussianMixture,
    PoseVae,
    axis_angle_from_matrix,
    load_pose_prior,
)
from mvai.train.pose_prior import (
    PosePriorSettings,
    fit_mixture,
    is_held_out,
    mirrored_pose,
)
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS, mirrored

# A figure with straight limbs in a T-pose, in centimetres, +Z up and facing -Y.
TREE = """Hips: 0 0 0 > LeftUpLeg 10 0 0 > LeftLeg 0 0 -40 > LeftFoot 0 0 -40 > LeftToeBase 0 -15 -4
Hips: 0 0 0 > RightUpLeg -10 0 0 > RightLeg 0 0 -40 > RightFoot 0 0 -40 > RightToeBase 0 -15 -4
Hips: 0 0 0 > Spine 0 0 10 > Spine1 0 0 10 > Spine2 0 0 12 > Neck 0 0 18 > Head 0 0 8
Spine2: > LeftShoulder 5 0 15 > LeftArm 12 0 0 > LeftForeArm 28 0 0 > LeftHand 26 0 0 \
> LeftHandMiddle1 9 0 0
Spine2: > RightShoulder -5 0 15 > RightArm -12 0 0 > RightForeArm -28 0 0 > RightHand -26 0 0 \
> RightHandMiddle1 -9 0 0"""


def bvh_text(angles_deg: dict[str, tuple[float, float, float]], frames: int = 3) -> str:
    """A BVH file in which the named joints hold constant Z, X, Y angles."""
    offsets: dict[str, str] = {"Hips": "0 0 0"}
    children: dict[str, list[str]] = {"Hips": []}
    for row in TREE.splitlines():
        first, rest = row.split(":")
        above = first
        for entry in rest.split(">")[1:]:
            name, *offset = entry.split()
            offsets[name] = " ".join(offset)
            children[above].append(name)
            children[name] = []
            above = name
    order: list[str] = []

    def write(name: str) -> str:
        order.append(name)
        position = "6 Xposition Yposition Zposition" if name == "Hips" else "3"
        inner = "".join(write(c) for c in children[name])
        end = "" if children[name] else "End Site\n{\nOFFSET 0 -5 0\n}\n"
        kind = "ROOT" if name == "Hips" else "JOINT"
        return (
            f"{kind} {name}\n{{\nOFFSET {offsets[name]}\n"
            f"CHANNELS {position} Zrotation Xrotation Yrotation\n{inner}{end}}}\n"
        )

    tree = write("Hips")
    row = "0 0 90 " + " ".join(
        " ".join(str(a) for a in angles_deg.get(name, (0, 0, 0))) for name in order
    )
    head = f"HIERARCHY\n{tree}MOTION\nFrames: {frames}\nFrame Time: 0.0333333\n"
    return head + f"{row}\n" * frames


def direction(positions: np.ndarray, a: str, b: str) -> np.ndarray:
    body = anny_body()
    d = positions[0, body.joint(b)] - positions[0, body.joint(a)]
    return d / np.linalg.norm(d)


def test_limbs_point_where_the_clip_s_do(tmp_path: Path) -> None:
    path = tmp_path / "bend.bvh"
    # In the file's frame: the left elbow bends forward by 90 degrees, the right knee backwards.
    path.write_text(bvh_text({"LeftForeArm": (-90, 0, 0), "RightLeg": (0, 60, 0)}))
    clip = poses_from_bvh(path, anny_body())
    p = body_positions(clip.pose, clip.translation, anny_body())
    expected = {
        ("LeftArm", "LeftForeArm"): (1, 0, 0),
        ("LeftForeArm", "LeftHand"): (0, 0, 1),
        ("RightArm", "RightForeArm"): (-1, 0, 0),
        ("RightForeArm", "RightHand"): (-1, 0, 0),
        ("LeftUpLeg", "LeftLeg"): (0, -1, 0),
        ("LeftLeg", "LeftFoot"): (0, -1, 0),
        ("RightLeg", "RightFoot"): (0, -0.5, -(0.75**0.5)),
    }
    for (a, b), want in expected.items():
        np.testing.assert_allclose(direction(p, a, b), want, atol=1e-3, err_msg=f"{a} {b}")
    assert clip.measured.all()
    assert 0 <= p[0, anny_body().joint("LeftToeBase"), 1] < 0.1


def test_turning_the_whole_figure_only_turns_the_root(tmp_path: Path) -> None:
    still, turned = tmp_path / "a.bvh", tmp_path / "b.bvh"
    bend = {"LeftForeArm": (-70.0, 0.0, 0.0)}
    still.write_text(bvh_text(bend))
    turned.write_text(bvh_text({**bend, "Hips": (50.0, 0.0, 0.0)}))
    a, b = (poses_from_bvh(p, anny_body()) for p in (still, turned))
    np.testing.assert_allclose(a.pose[:, 1:], b.pose[:, 1:], atol=1e-5)
    turn = Rotation.from_rotvec(b.pose[0, 0]) * Rotation.from_rotvec(a.pose[0, 0]).inv()
    np.testing.assert_allclose(turn.as_rotvec(degrees=True), [0, 50, 0], atol=1e-3)


def test_who_lies_keeps_lying(tmp_path: Path) -> None:
    path = tmp_path / "lies.bvh"
    # On the back, head towards the file's +Y: that is not up, though the head is farthest there.
    path.write_text(bvh_text({"Hips": (0.0, -90.0, 0.0)}))
    clip = poses_from_bvh(path, anny_body())
    p = body_positions(clip.pose, clip.translation, anny_body())
    np.testing.assert_allclose(direction(p, "Hips", "Neck"), [0, 0, -1], atol=0.05)
    np.testing.assert_allclose(direction(p, "LeftLeg", "LeftFoot"), [0, 0, 1], atol=0.05)


def test_the_floor_outweighs_how_the_skeleton_rests() -> None:
    index = {n: i for i, n in enumerate(("Head", "LeftFoot", "RightFoot"))}
    # Walks 3 m along y upright along z, though the skeleton rests along y.
    world = np.zeros((60, 3, 3))
    world[:, 0, 2] = 1.7
    world[..., 1] += np.linspace(0, 3, 60)[:, None]
    R = up_rotation(np.eye(3), world, index)
    np.testing.assert_allclose(R @ [0, 0, 1], [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(up_rotation(np.eye(3), world[:, :, [0, 2, 1]], index), np.eye(3))


def test_spikes_are_found_and_filled() -> None:
    frames = np.arange(10.0)
    pose = np.zeros((10, 22, 3), np.float32)
    pose[:, 5, 0] = 0.1 * frames
    translation = np.zeros((10, 3), np.float32)
    broken = pose.copy()
    broken[4, 5, 0] = 3.0
    found = spikes(np.zeros((10, 22, 3)), broken, 1.6, 30.0)
    assert found.tolist() == [i in (3, 4, 5) for i in range(10)]
    repaired, _ = filled(broken, translation, ~found)
    np.testing.assert_allclose(repaired, pose, atol=2e-3)


def test_folder_is_cached_and_unknown_skeletons_refused(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    with pytest.raises(MvaiError, match=r"no \.bvh files"):
        list(poses_in_folder(data, anny_body(), cache))
    (data / "a.bvh").write_text(bvh_text({}))
    first = list(poses_in_folder(data, anny_body(), cache))
    stored = load_pose_clip(cache / "a.npz")
    assert stored is not None
    np.testing.assert_array_equal(stored.pose, first[0].pose)
    (cache / "a.npz").write_bytes(b"broken")
    assert load_pose_clip(cache / "a.npz") is None
    assert len(list(poses_in_folder(data, anny_body(), cache))) == 1
    (data / "b.bvh").write_text(bvh_text({}).replace("LeftForeArm", "Tentacle"))
    with pytest.raises(MvaiError, match=r"b\.bvh: the skeleton .* no known kind"):
        list(poses_in_folder(data, anny_body(), cache))


def test_bones_without_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.bvh"
    path.write_text(bvh_text({}).replace("OFFSET 28 0 0", "OFFSET 0 0 0"))
    with pytest.raises(MvaiError, match=r"flat\.bvh: the bone at LeftArm has no length"):
        poses_from_bvh(path, anny_body())


def test_mirror_is_an_involution_that_mirrors_joints() -> None:
    rng = np.random.default_rng(0)
    pose = rng.normal(0, 0.5, (3, 22, 3)).astype(np.float32)
    np.testing.assert_allclose(mirrored_pose(mirrored_pose(pose)), pose)
    body, zero = anny_body(), np.zeros((3, 3))
    a = body_positions(pose, zero, body)
    b = body_positions(mirrored_pose(pose), zero, body)
    for name in BODY_JOINTS:
        want = a[:, body.joint(mirrored(name))] * [-1, 1, 1]
        np.testing.assert_allclose(b[:, body.joint(name)], want, atol=2e-3)


def test_real_clip_keeps_limb_directions() -> None:
    root = Path(os.environ.get("MVAI_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    path = root / "mocap" / "bvh30" / "cmu_02_01.bvh"
    if not path.exists():
        pytest.skip("no motion capture data here")
    clip = poses_from_bvh(path, anny_body())
    assert clip.measured.all() and is_held_out(clip.name)
    p = body_positions(clip.pose, clip.translation, anny_body())
    # A walk: the head stays up, and the lowest toe stays near the floor.
    assert (p[:, anny_body().joint("Head"), 1] > 1.3).all()
    toes = p[:, [anny_body().joint("LeftToeBase"), anny_body().joint("RightToeBase")], 1].min(1)
    assert np.abs(toes - 0.03).max() < 0.06


def test_axis_angle_is_the_inverse_of_the_exponential() -> None:
    v = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    v = torch.cat([v / v.norm(dim=-1, keepdim=True).clamp(min=1), 1e-7 * v[:3], torch.zeros(1, 3)])
    v = v.double().requires_grad_(True)
    back = axis_angle_from_matrix(matrix_from_axis_angle(3.0 * v))
    torch.testing.assert_close(back, 3.0 * v, atol=1e-6, rtol=1e-6)
    back.sum().backward()
    assert v.grad is not None and torch.isfinite(v.grad).all()


def test_mixture_finds_two_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = np.zeros((2, 63))
    centres[0, :3], centres[1, :3] = 0.5, -0.5
    x = centres[np.arange(600) % 2] + rng.normal(0, 0.05, (600, 63))
    model = fit_mixture(x, PosePriorSettings(components=2, mixture_steps=20), lambda _: None)
    found = model.means[model.means[:, 0].argsort(descending=True)].numpy()
    np.testing.assert_allclose(found, centres, atol=0.03)
    poses = torch.from_numpy(np.concatenate([centres, centres + 0.4]).astype(np.float32))
    energy = model.energy(matrix_from_axis_angle(poses.reshape(4, 21, 3)))
    assert (energy[:2] < energy[2:] - 10).all()


def bent(name: str, axis: np.ndarray, angle_deg: float) -> torch.Tensor:
    """The mean pose with one joint turned so far from rest, as rotations (1, 21, 3, 3)."""
    prior = load_pose_prior()
    R = natural_pose(prior)
    turn = Rotation.from_rotvec(np.deg2rad(angle_deg) * axis / np.linalg.norm(axis)).as_matrix()
    i = BODY_JOINTS.index(name) - 1
    R[0, i] = torch.from_numpy(turn.astype(np.float32))
    return R


def natural_pose(prior: GaussianMixture | PoseVae) -> torch.Tensor:
    if isinstance(prior, PoseVae):
        return prior.decode(torch.zeros(1, prior.latent))
    return matrix_from_axis_angle(prior.mean_pose)[None]


def implausibility(R: torch.Tensor) -> float:
    """Energy, or for an auto-encoder the rotation it fails to reproduce."""
    prior = load_pose_prior()
    if isinstance(prior, PoseVae):
        return float((prior.decode(prior.encode(R)) - R).square().sum())
    return float(prior.energy(R)[0])


def test_shipped_prior_knows_which_way_joints_bend() -> None:
    body = anny_body()
    at = {n: body.joint_template[body.joint(n)].numpy() for n in body.joints}
    for side in ("Left", "Right"):
        knee = np.array([1.0, 0, 0])
        upper = at[f"{side}ForeArm"] - at[f"{side}Arm"]
        elbow = np.cross(upper, at[f"{side}Hand"] - at[f"{side}ForeArm"])
        good = implausibility(bent(f"{side}Leg", knee, 40))
        bad = implausibility(bent(f"{side}Leg", knee, -90))
        assert bad > 1.5 * good, (side, "knee", good, bad)
        # Our elbows rest bent by 40 degrees.
        good = implausibility(bent(f"{side}ForeArm", elbow, 30))
        bad = implausibility(bent(f"{side}ForeArm", elbow, -130))
        assert bad > 1.5 * good, (side, "elbow", good, bad)


def test_shipped_prior_is_deterministic_and_differentiable() -> None:
    a, b = load_pose_prior(), load_pose_prior()
    R = bent("LeftLeg", np.array([1.0, 0, 0]), 40)
    assert implausibility(R) == implausibility(R)
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y) and not x.requires_grad
    pose = torch.zeros(2, 21, 3, requires_grad=True)
    if isinstance(a, GaussianMixture):
        a.energy(matrix_from_axis_angle(pose)).sum().backward()
        assert pose.grad is not None and torch.isfinite(pose.grad).all()


def test_wrong_weight_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    missing = tmp_path / "missing.safetensors"
    with pytest.raises(MvaiError, match=r"missing\.safetensors"):
        load_pose_prior(missing)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(MvaiError, match=r"broken\.safetensors"):
        load_pose_prior(broken)
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(WEIGHTS), bare)
    with pytest.raises(MvaiError, match=r"bare\.safetensors"):
        load_pose_prior(bare)
