"""Results of other tools: each layout on a small file of a known motion."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import result_makers as make
from mvai.body import body_model
from mvai.body.anny import anny_body
from mvai.body.smpl_files import read_model
from mvai.io.results.c3d import c3d_markers
from mvai.io.results.data import AnnyParameters, BodyParameters, MovingMesh, PointTracks
from mvai.io.results.read import read_results
from mvai.reconstruct.imported import ImportSettings, mesh_sequence
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS
from smpl_makers import FILES
from test_smpl import written_out

joblib = pytest.importorskip("joblib")
F = make.FRAMES
FLIP = np.diag([1.0, -1.0, -1.0])
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])

WRITERS = {
    "WHAM": (make.write_wham, "smpl", 24, np.eye(3)),
    "VIBE": (make.write_vibe, "smpl", 24, FLIP),
    "4D-Humans": (make.write_phalp, "smpl", 24, FLIP),
    "GVHMR": (make.write_gvhmr, "smplx", 22, np.eye(3)),
    "GEM": (lambda p: make.write_gvhmr(p, gem=True), "smplx", 22, np.eye(3)),
    "PromptHMR": (make.write_prompt_hmr, "smplx", 55, np.eye(3)),
    "AMASS": (lambda p: make.write_amass(p.with_suffix(".npz")), "smplh", 52, Z_UP),
    "AMASS SMPL-X": (
        lambda p: make.write_amass(p.with_suffix(".npz"), "smplx"), "smplx", 55, Z_UP),
}  # fmt: skip
"""What writes a file, the body it is of, its joints, and the turn from its axes to the world's."""


def truth(models: Path, model: str, joints: int, shape: np.ndarray, frames=(0, F - 1)):
    """Vertices in the file's own axes by the formula written out."""
    a = read_model(models / FILES[model], model)
    full = {"smpl": 24, "smplh": 52, "smplx": 55}[model]
    pose = np.zeros((F, full, 3))
    pose[:, :joints] = make.motion(joints)
    return np.stack([written_out(a, shape, pose[f], make.path_m()[f]) for f in frames])


@pytest.mark.parametrize("kind", list(WRITERS))
def test_parameters_become_the_body_they_describe(body_models: Path, tmp_path: Path, kind: str):
    write, model, joints, R = WRITERS[kind]
    # A name that says nothing: the content decides.
    path = write(tmp_path / "result.bin")
    results = read_results(path)
    assert isinstance(results, BodyParameters)
    assert results.kind == kind.split(" SMPL")[0]
    sequence = mesh_sequence(results, ImportSettings(body_model_path=body_models))
    assert sequence.frames == F
    assert sequence.topology == ("smplx" if model == "smplx" else "smpl")
    shape = np.pad(make.SHAPE, (0, 6)) if kind == "AMASS" else make.SHAPE
    expected = truth(body_models, model, joints, shape[: 16 if model == "smplh" else 10]) @ R.T
    assert np.abs(sequence.vertices[[0, F - 1]] - expected).max() < 2e-4
    assert sequence.fps == {"AMASS": 60.0, "AMASS SMPL-X": 120.0}.get(kind, 30.0)


def test_tram_is_moved_by_its_camera(body_models: Path, tmp_path: Path):
    hps = make.write_tram(tmp_path / "seq")
    for path in (hps, hps / "hps_track_0.npy"):
        sequence = mesh_sequence(
            read_results(path), ImportSettings(body_model_path=body_models, fps=25)
        )
        own = truth(body_models, "smpl", 24, make.SHAPE)
        R = Rotation.from_rotvec([0, 0.4, 0]).as_matrix()
        last = (own[1] @ R.T + [0.3, 0.0, 0.2]) @ FLIP
        assert np.abs(sequence.vertices[0] - own[0] @ FLIP).max() < 2e-4
        assert np.abs(sequence.vertices[-1] - last).max() < 2e-4
        assert sequence.fps == 25


def test_the_person_seen_longest_comes_first(tmp_path: Path):
    path = make.write_wham(tmp_path / "a.pkl")
    assert len(read_results(path).frames) == F
    assert len(read_results(path, 1).frames) == 4
    with pytest.raises(MvaiError, match=r"a\.pkl: person 2.*holds 2 people"):
        read_results(path, 2)
    phalp = make.write_phalp(tmp_path / "b.pkl")
    assert len(read_results(phalp, 0).frames) == F
    assert len(read_results(phalp, 1).frames) == 5


def test_gaps_are_bridged_and_marked(body_models: Path, tmp_path: Path):
    content = make.wham_content()[3]
    keep = np.r_[0:4, 6:F]
    joblib.dump({0: {k: v[keep] for k, v in content.items()}}, tmp_path / "a.pkl")
    settings = ImportSettings(body_model_path=body_models)
    sequence = mesh_sequence(read_results(tmp_path / "a.pkl"), settings)
    assert sequence.frames == F
    assert (sequence.confidence == [1, 1, 1, 1, 0, 0, *[1] * (F - 6)]).all()
    whole = mesh_sequence(read_results(make.write_wham(tmp_path / "b.pkl")), settings)
    assert np.abs(sequence.vertices - whole.vertices).max() < 0.05


def test_says_which_body_model_file_is_needed(tmp_path: Path):
    for kind, name in (("WHAM", "SMPL_NEUTRAL"), ("GVHMR", "SMPLX_NEUTRAL")):
        results = read_results(WRITERS[kind][0](tmp_path / kind))
        with pytest.raises(
            MvaiError, match=rf"{kind}.*{name}.*--body-model-path.*--body-model anny"
        ):
            mesh_sequence(results, ImportSettings())


@pytest.mark.parametrize("kind", ["WHAM", "GVHMR", "AMASS"])
def test_the_shipped_body_can_stand_in(body_models: Path, tmp_path: Path, kind: str):
    """Every limb points where the file's own body points it, to a few degrees."""
    results = read_results(WRITERS[kind][0](tmp_path / "a"))
    ours = mesh_sequence(results, ImportSettings(body_model="anny"))
    theirs = mesh_sequence(results, ImportSettings(body_model_path=body_models))
    assert ours.topology == "anny"
    body, model = anny_body(), body_model(WRITERS[kind][1], body_models)
    for side in ("Left", "Right"):
        for a, b in (("Arm", "ForeArm"), ("ForeArm", "Hand"), ("UpLeg", "Leg"), ("Leg", "Foot")):
            bones = []
            for m, s in ((body, ours), (model, theirs)):
                p = m.regress((side + a, side + b), s.vertices)
                v = p[:, 1] - p[:, 0]
                bones.append(v / np.linalg.norm(v, axis=1, keepdims=True))
            angle = np.rad2deg(np.arccos(np.clip((bones[0] * bones[1]).sum(1), -1, 1)))
            assert angle.max() < 15, (side, a, angle.max())
    # A result in a world of its own stands on its floor.
    assert abs(np.percentile(ours.vertices[..., 1].min(1), 2)) < 1e-4


# --- points -------------------------------------------------------------------------------------

POSE2SIM = {
    "Nose": "nose", "Neck": "neck", "Hip": "mid_hip", "RHip": "right_hip", "LHip": "left_hip",
    "RKnee": "right_knee", "LKnee": "left_knee", "RAnkle": "right_ankle", "LAnkle": "left_ankle",
    "RBigToe": "right_big_toe", "LBigToe": "left_big_toe", "RHeel": "right_heel",
    "LHeel": "left_heel", "RShoulder": "right_shoulder", "LShoulder": "left_shoulder",
    "RElbow": "right_elbow", "LElbow": "left_elbow", "RWrist": "right_wrist",
    "LWrist": "left_wrist",
}  # fmt: skip


def anny_motion(frames: int = 40):
    """A movement of the shipped body: surface, and its points as Pose2Sim would name them."""
    body = anny_body()
    pose = np.zeros((frames, len(body.joints), 3))
    swing = 0.5 * np.sin(np.linspace(0, 5, frames))
    pose[:, 0, 1] = 0.5 + 0.3 * swing
    for name, axis, size in (("LeftArm", 2, 1.0), ("RightArm", 1, 1.2), ("LeftUpLeg", 0, -1.0),
                             ("LeftLeg", 0, 0.6), ("RightForeArm", 1, 1.0)):  # fmt: skip
        pose[:, body.joint(name), axis] = size * (swing + 0.5)
    R = torch.from_numpy(make.matrices(pose)).float()
    shape = torch.zeros(1, body.shape_size)
    shape[0, :3] = torch.tensor([0.7, -0.6, 0.4])
    move = torch.linspace(0, 1, frames)[:, None] * torch.tensor([0.5, 0.0, 1.0])
    move = move + torch.tensor([0.2, 0.9, 0.3])
    vertices = body.vertices(shape.expand(frames, -1), R, move).numpy()
    known = {n: k for n, k in POSE2SIM.items() if k in body.regressed}
    return vertices, list(known), body.regress(tuple(known.values()), vertices)


def test_trc_poses_the_shipped_body(tmp_path: Path):
    vertices, names, points = anny_motion()
    points[5:9, names.index("LWrist")] = np.nan
    path = make.write_trc(tmp_path / "a.trc", [*names, "CLAV2"],
                          np.concatenate([points, 0 * points[:, :1]], 1), 50.0)  # fmt: skip
    results = read_results(path)
    assert isinstance(results, PointTracks)
    sequence = mesh_sequence(results, ImportSettings())
    assert (sequence.frames, sequence.fps, sequence.topology) == (40, 50.0, "anny")
    error = np.linalg.norm(sequence.vertices - vertices, axis=-1)
    # How hands and head are turned about themselves no marker tells.
    assert error.mean() < 0.04
    joints = tuple(n for n in BODY_JOINTS if "Toe" not in n and n != "Head")
    body = anny_body()
    off = np.linalg.norm(body.regress(joints, sequence.vertices) - body.regress(joints, vertices),
                         axis=-1)  # fmt: skip
    assert off.mean() < 0.015


@pytest.mark.parametrize("floats", [True, False])
def test_c3d_is_read_exactly(tmp_path: Path, floats: bool):
    rng = np.random.default_rng(0)
    names = ["LSHO", "RSHO", "LASI"]
    xyz = rng.uniform(-1.5, 1.5, (7, 3, 3))
    xyz[2, 1] = np.nan
    clip = c3d_markers(make.write_c3d(tmp_path / "a.c3d", names, xyz, 100.0, floats).read_bytes())
    assert clip.names == tuple(names) and clip.fps == 100.0
    assert np.isnan(clip.xyz_m[2, 1]).all()
    assert np.nanmax(np.abs(clip.xyz_m - xyz)) < (1e-6 if floats else 6e-5)


def gait_markers(vertices: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Plug-in Gait: markers on the skin of the shipped body, hips inverted from Bell's formula."""
    body = anny_body()
    names, points = [], []
    for side, s in (("left", 1), ("right", -1)):
        letter = side[0].upper()
        for marker, point in (("SHO", "shoulder"), ("ELB", "elbow"), ("KNE", "knee"),
                              ("ANK", "ankle"), ("HEE", "heel"), ("TOE", "big_toe"),
                              ("WRA", "wrist"), ("WRB", "wrist")):  # fmt: skip
            names.append(letter + marker)
            points.append(body.regress((f"{side}_{point}",), vertices)[:, 0])
            if marker in ("ELB", "KNE", "ANK"):
                # To the outside of the joint.
                points[-1] = points[-1] + 0.03 * s * across(vertices)
    x, up = across(vertices), np.array([0.0, 1.0, 0.0])
    forward = np.cross(x, up)
    hips = body.regress(("left_hip", "right_hip"), vertices)
    width = np.linalg.norm(hips[:, 0] - hips[:, 1], axis=1, keepdims=True) / 0.72
    asis = hips + (0.22 * width * forward + 0.30 * width * up)[:, None]
    asis = asis + np.array([0.14, -0.14])[:, None] * (width * x)[:, None]
    for name, p in (("LASI", asis[:, 0]), ("RASI", asis[:, 1])):
        names.append(name)
        points.append(p)
        names.append(name.replace("ASI", "PSI"))
        points.append(p - 0.2 * forward)
    return names, np.stack(points, 1)


def across(vertices: np.ndarray) -> np.ndarray:
    hips = anny_body().regress(("left_hip", "right_hip"), vertices)
    x = (hips[:, 0] - hips[:, 1]) * [1, 0, 1]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_c3d_of_a_gait_laboratory_poses_the_shipped_body(tmp_path: Path):
    """z up, a subject's name before each marker, markers on the skin."""
    vertices, _, _ = anny_motion()
    names, points = gait_markers(vertices)
    z_up = points @ Z_UP
    path = make.write_c3d(
        tmp_path / "trial", [f"Anna:{n}" for n in names], z_up, 100.0, floats=True
    )
    sequence = mesh_sequence(read_results(path), ImportSettings())
    assert sequence.fps == 100.0
    body = anny_body()
    joints = ("LeftForeArm", "RightHand", "LeftLeg", "RightFoot", "LeftUpLeg", "Neck")
    off = np.linalg.norm(body.regress(joints, sequence.vertices) - body.regress(joints, vertices),
                         axis=-1)  # fmt: skip
    assert off.mean() < 0.04


def test_markers_without_names_of_the_body_are_refused(tmp_path: Path):
    path = make.write_trc(tmp_path / "a.trc", [f"M{i}" for i in range(9)], np.zeros((4, 9, 3)), 50)
    with pytest.raises(MvaiError, match=r"a\.trc.*M0, M1.*Pose2Sim.*Plug-in Gait"):
        read_results(path)


def test_sam_3d_body_folder(tmp_path: Path):
    """70 key-points a person and frame in camera axes; the person seen longest is taken."""
    from mvai.io.results.sam3d_body import POINTS, WRISTS

    vertices, _, _ = anny_motion(16)
    body = anny_body()
    known = [n for n in (*POINTS, *WRISTS, "neck") if n in body.regressed]
    at = dict(zip(known, body.regress(tuple(known), vertices).swapaxes(0, 1), strict=True))
    order = {**{n: i for i, n in enumerate(POINTS)}, **WRISTS, "neck": 69}
    for f in range(16):
        points = np.zeros((70, 3))
        for name, i in order.items():
            points[i] = at[name][f] if name in at else np.nan
        for who in (0, 1) if f < 5 else (1,):
            np.savez(
                tmp_path / f"frame_{f:04d}_person_{who}.npz",
                pred_keypoints_3d=(points - [0, 1, 0]) @ FLIP,
                pred_cam_t=np.array([0.1, -1.0, 3.0]),
                pred_vertices=np.zeros((18439, 3), np.float32), focal_length=np.array(1000.0),
                pred_joint_coords=np.zeros((127, 3)),
            )  # fmt: skip
    sequence = mesh_sequence(read_results(tmp_path), ImportSettings())
    expected = vertices + np.array([0.1, 0.0, -3.0])
    assert sequence.frames == 16
    assert np.linalg.norm(sequence.vertices - expected, axis=-1).mean() < 0.03


def test_multi_hmr_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The reader; the package that poses Anny's own bones is slow and is not needed for it."""
    T = np.tile(np.eye(4), (6, 163, 1, 1))
    T[:, :, :3, 3] = np.random.default_rng(0).normal(0, 0.3, (163, 3)) + np.array([0, 0, 4.0])
    T[:, :, 0, 3] += np.linspace(0, 0.5, 6)[:, None]
    phenotypes = np.linspace(0, 1, 11)
    results = read_results(make.write_multi_hmr(tmp_path / "anny_params", T, phenotypes))
    assert isinstance(results, AnnyParameters)
    assert np.allclose(results.T_camera_bone, T)
    assert np.allclose(results.phenotypes, phenotypes)
    assert results.K[0, 0] == 1000
    assert len(read_results(tmp_path / "anny_params", 1).frames) == 3
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(MvaiError, match=r"Multi-HMR 2.*pip install 'mvai\[anny\]'"):
        mesh_sequence(results, ImportSettings())


class FakeAnny:
    """In the place of the package's model: a vertex at each of the first bones."""

    dtype = torch.float64
    bone_labels = tuple(f"bone{i}" for i in range(163))
    phenotype_labels = tuple(f"p{i}" for i in range(11))

    def __init__(self, rig: str, phenotypes: str, pose_parameterization: str) -> None:
        assert (rig, phenotypes, pose_parameterization) == ("makehuman", "all", "world")

    def __call__(self, pose_parameters, phenotype_kwargs) -> dict:
        assert all(len(v) == len(pose_parameters) for v in phenotype_kwargs.values())
        assert float(phenotype_kwargs["p10"][0]) == 1.0
        verts = len(anny_body().template)
        return {"vertices": pose_parameters[:, torch.arange(verts) % 163, :3, 3]}


def test_multi_hmr_2_becomes_vertices_in_the_world(tmp_path: Path, monkeypatch):
    T = np.tile(np.eye(4), (6, 163, 1, 1))
    T[:, :, :3, 3] = np.random.default_rng(0).normal(0, 0.3, (163, 3)) + np.array([0, 0, 4.0])
    make.write_multi_hmr(tmp_path / "anny_params", T, np.linspace(0, 1, 11))
    (tmp_path / "anny_params" / "00002.pkl").unlink()
    monkeypatch.setitem(sys.modules, "anny", types.SimpleNamespace(Anny=FakeAnny))
    sequence = mesh_sequence(read_results(tmp_path / "anny_params"), ImportSettings())
    assert sequence.topology == "anny" and sequence.camera.K[0, 0] == 1000
    assert (sequence.confidence == [1, 1, 0, 1, 1, 1]).all()
    np.testing.assert_allclose(sequence.vertices[5, 7], T[5, 7, :3, 3] * [1, -1, -1], atol=1e-5)


# --- surfaces and skeletons ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_mesh_sequences(tmp_path: Path, suffix: str):
    import trimesh

    vertices, _, _ = anny_motion(12)
    body = anny_body()
    for i in range(12):
        mesh = trimesh.Trimesh(vertices[i], body.faces, process=False)
        mesh.export(tmp_path / f"frame{i}{suffix}")
    results = read_results(tmp_path)
    assert isinstance(results, MovingMesh)
    sequence = mesh_sequence(results, ImportSettings(fps=24))
    assert sequence.topology == "anny" and sequence.fps == 24
    with pytest.raises(MvaiError, match="no frame rate"):
        mesh_sequence(results, ImportSettings(fps=0))
    # frame10 comes after frame2.
    assert np.abs(sequence.vertices - vertices).max() < 1e-5
    (tmp_path / f"frame9{suffix}").unlink()
    trimesh.creation.box().export(tmp_path / f"frame9{suffix}")
    with pytest.raises(MvaiError, match=rf"frame9{suffix}.*same mesh"):
        read_results(tmp_path)


def test_bvh(tmp_path: Path):
    from test_pose_prior import bvh_text

    path = tmp_path / "motion.txt"
    path.write_text(bvh_text({"LeftUpLeg": (0.0, -90.0, 0.0)}, frames=4))
    sequence = mesh_sequence(read_results(path), ImportSettings())
    assert sequence.topology == "anny" and sequence.frames == 4
    assert abs(sequence.vertices[..., 1].min()) < 0.05
    knee, hip = anny_body().regress(("left_knee", "left_hip"), sequence.vertices)[0]
    assert abs(knee[1] - hip[1]) < 0.06 and knee[2] - hip[2] > 0.3


# --- what cannot be read ------------------------------------------------------------------------


class Attack:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evil.pkl", pickle.dumps({0: Attack()})),
        ("noise.pkl", b"\x80\x04\x95nonsense"),
        ("text.txt", b"hello"),
        ("empty.pkl", b""),
        ("other.pkl", pickle.dumps({"weights": [1, 2]})),
        ("short.trc", b"PathFileType\t4\nDataRate\n30\n"),
        ("short.c3d", bytes([2, 0x50]) + bytes(600)),
        ("cut.bvh", b"HIERARCHY\nROOT Hips\n{\n"),
        ("bad_wham.pkl", pickle.dumps({0: {"pose_world": 1, "trans_world": 2, "betas": 3,
                                           "frame_ids": [0]}})),
    ],
)  # fmt: skip
def test_other_files_give_a_sentence(tmp_path: Path, capsys, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MvaiError, match=name):
        mesh_sequence(read_results(path), ImportSettings())
    assert "executed" not in capsys.readouterr().out
