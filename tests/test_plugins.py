"""A method in another package: the example of docs/plugins.md, installed and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fake_stages
from mvai.io.archive import read_archive
from mvai.pipeline import configured

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "mvai_statue"


def install(target: Path, entries: str | None = None) -> Path:
    """What an installer leaves of the example in a folder: its module and its metadata."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    name = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    (target / name).mkdir(parents=True)
    (target / name / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    if entries is None:
        entries = "\n".join(
            f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in methods.items())
            for group, methods in project["entry-points"].items()
        )
    (target / name / "entry_points.txt").write_text(entries)
    (target / "mvai_statue.py").write_text((EXAMPLE / "mvai_statue.py").read_text())
    return target


def python(target: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code with the example installed and the tests' fakes at hand."""
    paths = os.pathsep.join([str(target), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip


RUN = """
import pytest, fake_stages
from mvai.cli import main
patch = pytest.MonkeyPatch()
import dataclasses, numpy as np
from mvai.types import Keypoints
names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
shape = np.array([[340.0, 150], [300, 150], [335, 230], [305, 230]])
def detect(self, video, progress=None):
    path = np.linspace(0, 60, video.frames)[:, None, None] * [1, 0]
    path[5] += 300
    points = shape + path
    return Keypoints(names, points, np.ones(points.shape[:2]), video.fps, 640, 480)
patch.setattr(fake_stages.FakeDetector, "detect", detect)
fake_stages.install(patch, "detect")
import sys
sys.exit(main(["imitate", {clip!r}, "--identity", {hero!r}, "-o", {out!r}, "--reconstruct",
    "statue", "--reconstruct.focal-px", "800", "--smooth", "median", "--smooth.window-s", "0.1",
    "--transfer", "figurine", "--transfer.scale", "2"]))
"""


def test_the_worked_example_runs(tmp_path: Path):
    target = install(tmp_path / "site")
    clip = fake_stages.clip(tmp_path / "clip.mp4")
    hero = fake_stages.character(tmp_path / "hero.ply")
    out = tmp_path / "out.npz"
    done = python(target, RUN.format(clip=str(clip), hero=str(hero), out=str(out)))
    assert done.returncode == 0, done.stderr
    archive = read_archive(out)
    assert archive.stages["reconstruct"].method == "statue"
    assert archive.stages["reconstruct"].settings["focal_px"] == 800
    assert archive.stages["smooth"].method == "median"
    x = archive.sequence.vertices.mean(1)[:, 0]
    # The person walks to the right of the picture; one wild frame leaves no trace.
    assert (np.diff(x) > -1e-4).all() and x[-1] - x[0] > 0.05
    raw = archive.raw.vertices.mean(1)[:, 0]
    assert raw[5] - raw[4] > 0.5
    # The trunk is as tall in the picture as the person's.
    assert np.isfinite(archive.raw.vertices).all()
    assert archive.raw.camera.K[0, 0] == 800
    # The character goes twice as far and keeps to the ground.
    assert archive.stages["transfer"].method == "figurine"
    moved = archive.animation.free_vertices
    went = moved[-1].mean(0) - moved[0].mean(0)
    assert np.isclose(went[0], 2 * (x[-1] - x[0]), rtol=1e-2)
    assert np.allclose(moved[..., 1].min(1), 0, atol=1e-5)


def test_the_methods_are_listed_with_their_settings(tmp_path: Path):
    target = install(tmp_path / "site")
    done = python(target, "from mvai.cli import main; main(['methods'])")
    assert done.returncode == 0, done.stderr
    assert re.search(r"statue: Stands the body at rest", done.stdout)
    assert "--reconstruct.focal-px [1000.0]  Focal length of the camera" in done.stdout
    assert re.search(r"smplify-x \(default\)", done.stdout)


def test_a_broken_package_is_named_and_hides_nothing(tmp_path: Path):
    target = install(tmp_path / "site", "[mvai.smooth]\nlost = not_there:Lost\nsavgol = a:B\n")
    done = python(target, "from mvai.cli import main; main(['methods'])")
    assert done.returncode == 0, done.stderr
    assert "lost" in done.stdout and "not_there" in done.stdout
    # A name of mvai's own is not taken over.
    assert re.search(r"adaptive \(default\)", done.stdout)
    code = "from mvai.pipeline import configured; configured('smooth', 'lost')"
    done = python(target, code)
    assert "MvaiError: lost: this method to smooth of another package" in done.stderr


def test_the_page_shows_the_example_as_it_is():
    page = (ROOT / "docs" / "plugins.md").read_text()
    files = [(EXAMPLE / name).read_text() for name in ("pyproject.toml", "mvai_statue.py")]
    blocks = re.findall(r"```(?:toml|python)\n(.*?)```", page, re.S)
    assert len(blocks) == 3
    for block in blocks[:2]:
        assert any(block in text for text in files), block


def test_nothing_of_the_example_is_known_without_it():
    from mvai.types import MvaiError

    with pytest.raises(MvaiError, match="statue: no such method"):
        configured("reconstruct", "statue")
