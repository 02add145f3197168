"""`mvai convert` and `mvai imitate --from`, and the rig on bodies of the SMPL family."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

import fake_stages
import mvai
import result_makers as make
from mvai.body import body_model
from mvai.body.anny import anny_body
from mvai.cli import main
from mvai.io.archive import read_archive
from mvai.progress import Silent
from mvai.transfer.rig_smpl import smpl_motion
from mvai.transfer.rig_source import body_motion
from mvai.types import MeshSequence, MvaiError

joblib = pytest.importorskip("joblib")

BVH = """HIERARCHY
ROOT Hips
{
OFFSET 0 0 0
CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
End Site
{
OFFSET 0 1 0
}
}
MOTION
Frames: 2
Frame Time: 0.04
0 0 0 0 0 0
0 0 0 0 0 0
"""
"""The least that is motion capture."""


def test_convert_writes_an_archive(body_models: Path, tmp_path: Path, capfd):
    source = make.write_wham(tmp_path / "wham_output.pkl")
    out = tmp_path / "body.npz"
    arguments = ["convert", str(source), "-o", str(out), "--body-model-path", str(body_models)]
    assert main(arguments) == 0
    said = capfd.readouterr()
    assert "30 are taken" in said.err and "wrote" in said.out
    archive = read_archive(out)
    assert archive.raw.topology == "smpl" and archive.raw.frames == make.FRAMES
    assert archive.stages["reconstruct"].method == "import WHAM"
    # What was converted can be converted again, whatever its name.
    again = tmp_path / "again.npz"
    renamed = out.rename(tmp_path / "noname")
    assert main(["convert", str(renamed), "-o", str(again)]) == 0
    assert np.abs(read_archive(again).raw.vertices - archive.raw.vertices).max() < 1e-4


def test_convert_says_what_is_missing_and_writes_nothing(tmp_path: Path, capfd):
    source = make.write_wham(tmp_path / "wham_output.pkl")
    out = tmp_path / "body.npz"
    assert main(["convert", str(source), "-o", str(out)]) == 2
    assert "SMPL_NEUTRAL" in capfd.readouterr().err
    assert main(["convert", str(source), "-o", str(out), "--person", "9"]) == 2
    assert "holds 2 people" in capfd.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("command", ["convert", "imitate"])
def test_what_does_not_fit_to_a_result_is_refused(command: str, tmp_path: Path, capfd):
    """Another body where the file has none to exchange, rates that are none, stages that are
    behind it: nothing is passed over silently."""
    bvh, meshes = tmp_path / "walk.bvh", tmp_path / "meshes"
    bvh.write_text(BVH)
    meshes.mkdir()
    for i in range(2):
        trimesh.creation.box((0.5, 1.8, 0.3)).export(meshes / f"{i}.obj")
    out = tmp_path / "out.npz"
    hero = str(fake_stages.character(tmp_path / "hero.ply"))
    start = {"convert": ["convert"], "imitate": ["imitate", "--identity", hero, "--from"]}[command]
    for source, options, words in (
        (bvh, ["--body-model", "smpl"], "leave out --body-model smpl"),
        (meshes, ["--body-model", "smplx"], "leave out --body-model smplx"),
        (meshes, ["--body-model", "anny"], "leave out --body-model anny"),
        (bvh, ["--fps", "1e-5"], "no frame rate"),
        (meshes, ["--fps", "1e9"], "no frame rate"),
    ):
        assert main([*start, str(source), "-o", str(out), *options]) == 2
        assert words in capfd.readouterr().err
    if command == "imitate":
        for options in (["--reconstruct", "graphcmr"], ["--detect.person", "1"]):
            assert main([*start, str(bvh), "-o", str(out), *options]) == 2
            assert "behind it" in capfd.readouterr().err
    assert not out.exists()


def test_no_second_is_counted_in_two_stages(tmp_path: Path, monkeypatch):
    fake_stages.install(monkeypatch, "transfer")
    names, open_stages = [], []

    class Flat(Silent):
        @contextlib.contextmanager
        def stage(self, name: str):
            assert not open_stages, f"{name} within {open_stages[0]}"
            names.append(name)
            open_stages.append(name)
            yield lambda done, total: None
            open_stages.pop()

    box = trimesh.creation.box((0.5, 1.8, 0.3))
    for i in range(2):
        box.export(tmp_path / f"{i}.obj")
    hero = fake_stages.character(tmp_path / "hero.ply")
    mvai.transfer_sequence(tmp_path, hero, report=Flat())
    assert names == ["import", "read inputs", "fit skeleton", "transfer"]


def test_a_smoothed_archive_says_that_it_stays_so(tmp_path: Path, monkeypatch, capfd):
    fake_stages.install(monkeypatch)
    clip, hero = fake_stages.clip(tmp_path / "clip.mp4"), fake_stages.character(tmp_path / "h.ply")
    first, again = str(tmp_path / "first.npz"), str(tmp_path / "again.npz")
    assert main(["imitate", str(clip), "--identity", str(hero), "-o", first, "--smooth",
                 "gaussian"]) == 0  # fmt: skip
    capfd.readouterr()
    for choice, said in ((["savgol"], True), (["gaussian"], False),
                         (["gaussian", "--smooth.sigma-s", "1"], True)):  # fmt: skip
        assert main(["imitate", "--from", first, "--identity", str(hero), "-o", again, "--smooth",
                     *choice]) == 0  # fmt: skip
        assert ("smoothed already, by gaussian" in capfd.readouterr().err) == said


def test_imitate_from_a_result(body_models: Path, tmp_path: Path, monkeypatch, capfd):
    fake_stages.install(monkeypatch, "transfer")
    hero = fake_stages.character(tmp_path / "hero.ply")
    source = make.write_gvhmr(tmp_path / "hmr4d_results.pt")
    out = tmp_path / "out.npz"
    arguments = ["imitate", "--from", str(source), "--identity", str(hero), "-o", str(out)]
    assert main([*arguments, "--body-model-path", str(body_models), "--fps", "25"]) == 0
    archive = read_archive(out)
    assert archive.raw.topology == "smplx" and archive.animation.fps == 25
    assert list(archive.stages) == ["reconstruct", "smooth", "transfer"]
    # Nothing to start from, or two things at once.
    assert main(["imitate", "--identity", str(hero), "-o", str(out)]) == 2
    assert main([*arguments, "clip.mp4"]) == 2
    assert "--from" in capfd.readouterr().err


def swinging(body, frames: int = 24) -> MeshSequence:
    """Arms and legs that swing, in the body's own vertices."""
    pose = np.zeros((frames, len(body.joints), 3))
    swing = np.sin(np.linspace(0, 5, frames))
    pose[:, 0, 1] = 0.3 * swing
    for name, axis, size in (("LeftArm", 2, -0.7), ("RightForeArm", 1, 0.9), ("LeftUpLeg", 0, -0.8),
                             ("LeftLeg", 0, 0.7), ("Spine", 0, 0.2)):  # fmt: skip
        pose[:, body.joint(name), axis] = size * (0.5 + 0.5 * swing)
    R = torch.from_numpy(make.matrices(pose)).float()
    shape = torch.zeros(frames, body.shape_size)
    shape[:, 0] = 0.8
    vertices = body.vertices(shape, R, torch.tensor([[0.0, 0.95, 0.0]]).expand(frames, -1))
    return MeshSequence(vertices.numpy(), body.faces, 30.0, body.topology)


@pytest.mark.parametrize("model", ["smpl", "smplx"])
def test_the_rig_reads_the_movement_of_the_family(body_models: Path, model: str):
    """Our limbs, turned by what was read, point where the sequence's limbs point."""
    theirs, ours = body_model(model, body_models), anny_body()
    sequence = swinging(theirs)
    motion = smpl_motion(ours, sequence, body_models)
    rest = ours.joint_template.numpy()
    bones = (("LeftArm", "LeftForeArm"), ("RightForeArm", "RightHand"), ("LeftUpLeg", "LeftLeg"),
             ("LeftLeg", "LeftFoot"), ("RightUpLeg", "RightLeg"))  # fmt: skip
    for a, b in bones:
        bone = rest[ours.joint(b)] - rest[ours.joint(a)]
        got = motion.R_world_joint[:, ours.joint(a)] @ (bone / np.linalg.norm(bone))
        points = theirs.regress((a, b), sequence.vertices)
        want = points[:, 1] - points[:, 0]
        want /= np.linalg.norm(want, axis=1, keepdims=True)
        angle = np.rad2deg(np.arccos(np.clip((got * want).sum(1), -1, 1)))
        assert angle.max() < 8, (a, angle.max())
    assert np.abs(motion.root - theirs.regress(("Hips",), sequence.vertices)[:, 0]).max() < 0.03
    assert motion.leg_m == pytest.approx(body_motion_leg(theirs, sequence), rel=0.05)


def body_motion_leg(body, sequence: MeshSequence) -> float:
    hip, knee, ankle = body.regress(("LeftUpLeg", "LeftLeg", "LeftFoot"), sequence.vertices)[0]
    return float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))


def test_the_rig_says_which_file_a_sequence_needs(body_models: Path):
    sequence = swinging(body_model("smplx", body_models), 2)
    with pytest.raises(MvaiError, match=r"SMPLX.*SMPLX_NEUTRAL\.npz.*--body-model-path"):
        smpl_motion(anny_body(), sequence, None)
    with pytest.raises(MvaiError, match="topology"):
        body_motion(anny_body(), sequence)


def test_a_surface_in_no_known_order_is_read_through_its_first_frame(tmp_path, monkeypatch):
    """The method gets the first frame, registered, when it can use it."""
    fake_stages.install(monkeypatch, "transfer")
    given = []

    def drive(method, registration, sequence, source=None):
        given.append(source(method))
        return plain(method, registration, sequence)

    plain = fake_stages.FakeTransfer.drive
    monkeypatch.setattr(fake_stages.FakeTransfer, "drive", drive)
    box = trimesh.creation.box((0.5, 1.8, 0.3))
    folder = tmp_path / "meshes"
    folder.mkdir()
    for i in range(4):
        box.apply_translation([0.1, 0, 0])
        box.export(folder / f"{i}.obj")
    hero = fake_stages.character(tmp_path / "hero.ply")
    out = tmp_path / "out.npz"
    arguments = ["imitate", "--from", str(folder), "--identity", str(hero), "-o", str(out)]
    assert main([*arguments, "--smooth", "none"]) == 0
    (source,) = given
    assert np.allclose(source.mesh.vertices, read_archive(out).raw.vertices[0], atol=1e-4)
