"""The `mvai` command: quick to answer, the same as the library, its words held."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fake_stages
from fake_stages import CALLS
from mvai.body import anny
from mvai.cli import main
from mvai.cli.bars import Bars, Lines
from mvai.cli.stage_options import check_known, config, split
from mvai.io.archive import read_archive
from mvai.reconstruct.smplify_x import SmplifyX
from mvai.smooth.savgol import SavitzkyGolay
from mvai.transfer.rig import RigTransfer
from mvai.types import MvaiError

HEAVY = ("torch", "mediapipe", "vtk", "vtkmodules", "scipy", "pyvista", "av", "trimesh", "PIL")


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    fake_stages.install(monkeypatch)
    return (
        str(fake_stages.clip(tmp_path / "clip.mp4")),
        str(fake_stages.character(tmp_path / "hero.ply")),
    )


@pytest.mark.parametrize(
    "code",
    [
        "import mvai",
        "from mvai.cli.commands import parse; parse(['imitate', 'a', '--identity', 'b'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str):
    check = f"{code}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_detection_can_begin_before_torch_is_imported():
    """The other settings are known then; fitting a skeleton imports it beside the detection."""
    check = (
        "import sys; from mvai.pipeline import DEFAULTS, configured; "
        "print([configured(*s) and 'torch' in sys.modules for s in DEFAULTS.items()])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([False] * 4)


@pytest.mark.parametrize("arguments", [["-c", "import mvai"], ["-m", "mvai", "--help"]])
def test_answers_in_under_a_second(arguments: list[str]):
    seconds = []
    # Processor time, because a busy machine only adds to wall clock; the best of three, because the
    # first may compile the modules.
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] < 1:
            return
    raise AssertionError(f"took {min(seconds):.2f} s")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in ("imitate", "reconstruct", "transfer", "preview", "demo", "doctor", "methods"):
        assert name in text


def test_a_reader_that_has_had_enough_is_no_error():
    """As in `mvai methods | head -1`; the pipe is closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "mvai", "methods"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")


def test_wrong_arguments_exit_with_2(capsys):
    for arguments in (["imitate"], ["dance"], ["imitate", "a", "--identity", "b", "--sped", "3"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_imitate_writes_and_reports(inputs, tmp_path: Path, capfd):
    out = tmp_path / "out.glb", tmp_path / "out.npz"
    assert (
        main(["imitate", inputs[0], "--identity", inputs[1], "-o", str(out[0]), "-o", str(out[1])])
        == 0
    )
    said = capfd.readouterr()
    assert all(p.exists() for p in out)
    assert "frames a second" in said.out and "peak memory" in said.out
    assert all(stage in said.out for stage in ("detect", "reconstruct", "smooth", "transfer"))
    # Not on a terminal: at most one line a stage.
    lines = said.err.strip().splitlines()
    assert len(lines) == len({line.split(":")[0] for line in lines}) <= 9


def test_stages_one_by_one_give_the_same(inputs, tmp_path: Path, capfd):
    clip, hero = inputs
    a, b, c = (str(tmp_path / n) for n in ("all.npz", "seq.npz", "then.npz"))
    assert main(["imitate", clip, "--identity", hero, "-o", a]) == 0
    assert main(["reconstruct", clip, "-o", b]) == 0
    assert main(["transfer", b, "--identity", hero, "-o", c]) == 0
    one, two = read_archive(a), read_archive(c)
    assert {n: r.key for n, r in one.stages.items()} == {n: r.key for n, r in two.stages.items()}
    np.testing.assert_allclose(
        one.animation.Ts_world_joint, two.animation.Ts_world_joint, atol=1e-4
    )


def test_preview_of_an_archive(inputs, tmp_path: Path, capfd):
    archive = str(tmp_path / "a.npz")
    assert main(["imitate", inputs[0], "--identity", inputs[1], "-o", archive]) == 0
    out = tmp_path / "a.png", tmp_path / "a.mp4"
    assert main(["preview", archive, "-o", str(out[0]), "-o", str(out[1])]) == 0
    with Image.open(out[0]) as sheet:
        assert np.asarray(sheet).std() > 10
    assert out[1].stat().st_size > 1000

    # A video that was moved is named, and can be named.
    moved = Path(inputs[0]).rename(tmp_path / "moved.mp4")
    capfd.readouterr()
    assert main(["preview", archive, "-o", str(out[0])]) == 2
    assert "clip.mp4" in capfd.readouterr().err
    assert main(["preview", archive, "--video", str(moved), "-o", str(out[0])]) == 0


def test_settings_of_a_stage(inputs, tmp_path: Path):
    out = tmp_path / "out.npz"
    chosen = ["--smooth", "savgol", "--smooth.window-s", "0.5", "--reconstruct.stiffness=3"]
    assert main(["imitate", inputs[0], "--identity", inputs[1], *chosen, "-o", str(out)]) == 0
    stages = read_archive(out).stages
    assert stages["smooth"].settings == {"window_s": 0.5, "order": 2}
    assert stages["reconstruct"].settings == {"stiffness": 3.0}


def test_settings_that_do_not_exist_are_refused(inputs, tmp_path: Path, capsys):
    out = tmp_path / "o.npz"
    imitate = ["imitate", inputs[0], "--identity", inputs[1], "-o", str(out)]
    assert main([*imitate, "--smooth.widnow-s", "0.5"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("--smooth.widnow-s: adaptive has no such setting; choose one of weights")
    assert main([*imitate, "--smooth", "none", "--smooth.window-s", "3"]) == 2
    assert "it has none at all" in capsys.readouterr().err
    assert main([*imitate, "--smooth", "wobble"]) == 2
    assert "savgol" in capsys.readouterr().err
    wrong = {
        "--smooth.sigma-s=-1": "below zero",
        "--smooth.sigma-s=nan": "no number",
        "--smooth.sigma-s=1e9": "more than 3600",
    }
    for setting, words in wrong.items():
        assert main([*imitate, "--smooth", "gaussian", setting]) == 2
        assert words in capsys.readouterr().err
    for argument, words in (
        ("--person=-1", "from 0"),
        ("--unit=nan", "no number"),
        ("--fps=60", "a video says this itself"),
    ):
        assert main([*imitate, argument]) == 2
        assert words in capsys.readouterr().err
    assert CALLS == [] and not out.exists()
    # Negated switches and settings within settings are known.
    check_known("transfer", "rig", RigTransfer, ["--no-twist-bones", "--lock_feet", "False"])
    check_known("reconstruct", "smplify-x", SmplifyX, ["--weights.xyz", "-1"])


def test_a_body_models_path_without_its_name_is_refused(tmp_path: Path, capsys):
    arguments = ["reconstruct", "clip.mp4", "-o", str(tmp_path / "o.npz"), "--body-model-path", "x"]
    assert main(arguments) == 2
    assert "--body-model-path x" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["reconstruct", "CLIP", "-o", "OUT", "--transfer.polish"],
        ["transfer", "CLIP", "--identity", "HERO", "-o", "OUT", "--smooth.window-s", "3"],
        ["doctor", "--smooth.window-s", "3"],
        ["methods", "--detect.person=1"],
    ],
)
def test_settings_of_a_stage_that_is_not_run_are_refused(inputs, tmp_path, capsys, arguments):
    places = {"CLIP": inputs[0], "HERO": inputs[1], "OUT": str(tmp_path / "o.npz")}
    assert main([places.get(word, word) for word in arguments]) == 2
    assert "this command has no stage" in capsys.readouterr().err
    assert CALLS == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("evaluate fit --benchmark X -o X.md --train -3", "--train -3: this cannot be below zero"),
        ("evaluate fit --benchmark X -o X.md --limit 0", "--limit 0: this cannot be less than 1"),
        ("evaluate pmd --data X -o X.md --pairs 0", "--pairs 0: this cannot be less than 1"),
        ("evaluate h36m --data X -o X.md --rate 1e9", "--rate 1e+09: this cannot be more than"),
        ("evaluate table1 --data X -o X.md --limit=-1", "--limit -1: this cannot be less than 1"),
        ("evaluate table2 --data X -o X.md --steps 0", "--steps 0: this cannot be less than 1"),
        ("evaluate table3 --data X -o X.md --joints=-1", "--joints -1: this cannot be less"),
        ("evaluate table2 --data X -o X.md --rate nan", "--rate nan: this is no number"),
        ("evaluate table2 --data X -o X.md --backbones none", "none: the paper's table2 has no"),
        ("evaluate figure6 --data X -o X.txt", "X.txt: a picture is written, as .png"),
        ("evaluate figure7 --data X -o X.txt", "X.txt: a picture is written, as .png"),
        ("benchmark reconstruct X --limit 0", "--limit 0: this cannot be less than 1"),
        ("benchmark build X --data X --workers 0", "--workers 0: this cannot be less than 1"),
        ("benchmark build X --data X --frames 0", "frames 0: this cannot be less than 1"),
        (
            "benchmark build X --data X --train 0 --validation 0 --test 0 --hard 0 --close 0"
            " --still 0 --tumbling 0",
            "No clips are asked for",
        ),
        ("reconstruct X.mp4 -o X.npz --start=-1", "--start -1: this cannot be below zero"),
        ("reconstruct X.mp4 -o X.npz --end nan", "--end nan: this is no number"),
        ("imitate --from X --identity X -o X.glb --end 2", "--start and --end cut a video"),
        ("train mesh2mesh --benchmark X -o X.s --rate 1e9", "--rate 1e+09: this cannot be more"),
        ("train mesh2mesh --benchmark X -o X.s --seed -1", "--seed -1: this cannot be below zero"),
        ("train npt --data X -o X.s --width 1e9", "--width 1e+09: this cannot be more than 1"),
        ("train npt --data X -o X.s --minutes inf", "--minutes inf: this is no number"),
    ],
)
def test_numbers_beyond_reason_are_refused(tmp_path: Path, monkeypatch, capfd, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    assert capfd.readouterr().err.startswith(words)


def test_splitting_settings_from_arguments():
    rest, options = split(
        ["imitate", "v.mp4", "--smooth.window-s", "0.5", "--identity", "c.glb",
         "--smooth", "savgol",
         "--transfer.no-lock-feet", "-o", "x.glb", "--detect.person=-1"]
    )  # fmt: skip
    assert rest == ["imitate", "v.mp4", "--identity", "c.glb", "--smooth", "savgol", "-o", "x.glb"]
    assert options["smooth"] == ["--window-s", "0.5"]
    assert options["transfer"] == ["--no-lock-feet"]
    assert options["detect"] == ["--person=-1"]
    assert config("smooth", "savgol", options) == SavitzkyGolay(window_s=0.5)
    paper = config("reconstruct", "smplify-x", {"reconstruct": ["--setting", "paper"]})
    assert paper == SmplifyX(setting="paper")


def test_methods_are_listed_with_their_settings(capsys):
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    for words in ("smplify-x (default)", "--smooth.window-s [0.25]", "--detect.folder", "one-euro"):
        assert words in text


def test_no_output_is_asked_for(inputs, capsys):
    assert main(["imitate", inputs[0], "--identity", inputs[1]]) == 2
    assert "-o hero_acting.glb" in capsys.readouterr().err


def test_bars_live_and_leave_a_line(capfd):
    bars = Bars()
    with bars.stage("detect") as progress:
        progress(0, None)
        for i in range(30):
            progress(i + 1, 30)
    bars.note("a [word] in brackets")
    text = capfd.readouterr().err
    assert "detect" in text and "30 at " in text and "a [word] in brackets" in text


def test_a_stage_that_fails_leaves_no_line(capsys):
    with pytest.raises(MvaiError), Lines().stage("detect"):
        raise MvaiError("no")
    assert capsys.readouterr().err == ""


def test_doctor_says_what_works(capfd):
    assert main(["doctor"]) == 0
    said = capfd.readouterr()
    for word in (
        "mvai",
        "mediapipe 0.10",
        "pose_prior.safetensors",
        "sha256",
        "draws",
        "reads h264",
    ):
        assert word in said.out
    assert "BAD" not in said.out and said.err == ""


def test_doctor_looks_at_all_weights():
    from mvai import doctor

    shipped = [p for p in anny.WEIGHTS.iterdir() if p.suffix != ".md"]
    assert {p.name for p in shipped} == set(doctor.WEIGHTS)


def test_doctor_names_what_is_broken(monkeypatch: pytest.MonkeyPatch, capsys):
    from mvai import doctor

    monkeypatch.setattr(doctor, "WEIGHTS", ("missing.safetensors",))
    for check in ("_renderer", "_mediapipe"):
        monkeypatch.setattr(doctor, check, lambda: "fine")
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 2
    assert "BAD  weights:" in capsys.readouterr().out


def test_training_without_data_is_refused(capsys, tmp_path: Path):
    with pytest.raises(SystemExit) as stop:
        main(["train", "pose-prior", "-o", str(tmp_path / "w.safetensors")])
    assert stop.value.code == 2
    assert "--data" in capsys.readouterr().err


def test_training_is_not_begun_for_a_place_that_cannot_be_written(capsys, tmp_path: Path):
    out = tmp_path / "nowhere" / "w.safetensors"
    assert main(["train", "npt", "--data", str(tmp_path), "-o", str(out)]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_lines_are_heard_while_detection_silences_stderr():
    script = textwrap.dedent(
        """
        import os
        from mvai.cli.bars import Lines
        from mvai.detect.quiet import quiet_stderr
        lines = Lines()
        with quiet_stderr():
            lines.note("a word")
            os.write(2, b"noise")
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "a word\n"
