"""Folders are searched, and those that may not be looked into are named."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvai.cli import main
from mvai.io.folders import files_matching
from mvai.types import MvaiError

NAMES = st.lists(st.sampled_from(["a", "b.bvh", "S1", ".hid.bvh", "c.npz"]), min_size=1, max_size=3)


@given(files=st.lists(NAMES, max_size=6))
def test_finds_what_glob_finds(tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]):
    folder = tmp_path_factory.mktemp("tree")
    for parts in files:
        path = folder.joinpath(*parts)
        if path.exists() or any(p.is_file() for p in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for pattern in ("*.bvh", "**/*.bvh", "*/*", "a/*.npz", "*/S1", "**/a/*.bvh", "a", "a/S1"):
        assert files_matching(folder, pattern) == sorted(folder.glob(pattern)), pattern


def test_nothing_is_found_where_there_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    assert files_matching(tmp_path / "none", "*") == files_matching(tmp_path / "file", "*") == []


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may not be looked into, whoever runs the tests."""
    folder = tmp_path / "data" / "locked"
    folder.mkdir(parents=True)
    (folder / "walk.bvh").touch()
    scandir = os.scandir

    def denied(path="."):
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    return folder


def test_a_folder_that_may_not_be_looked_into_is_named(locked: Path):
    for folder, pattern in ((locked, "*.bvh"), (locked.parent, "**/*.bvh")):
        with pytest.raises(MvaiError, match="locked: not allowed"):
            files_matching(folder, pattern)


@pytest.mark.parametrize(
    "command",
    [
        ["benchmark", "build", "OUT", "--data", "DATA"],
        ["evaluate", "rig", "--data", "DATA", "-o", "OUT"],
        ["train", "pose-prior", "--data", "DATA", "-o", "OUT"],
    ],
)
def test_commands_say_so_instead_of_finding_nothing(
    command: list[str], locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
):
    places = {"DATA": str(locked.parent), "OUT": str(tmp_path / "out")}
    if command[1] == "rig":
        monkeypatch.setattr("mvai.evaluate.transfer.CHARACTERS", "locked/*.obj")
    assert main([places.get(word, word) for word in command]) == 2
    assert "locked: not allowed to look into this folder" in capfd.readouterr().err
