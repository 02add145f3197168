"""Bodies that were found in characters are kept, whole or not at all, and found again."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from mvai.transfer import rig_register
from mvai.transfer.registration import cache, find_body
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_register import register
from mvai.types import Mesh
from test_rig_any_character import t_pose
from test_transfer import BODY, character, nobody


def test_the_second_time_nothing_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MVAI_CACHE", str(tmp_path / "kept"))
    hero = character(t_pose(), BODY.faces)
    first = register(hero, nobody, RigTransfer())
    files = list((tmp_path / "kept").iterdir())
    assert len(files) == 2
    monkeypatch.setattr(find_body, "fit_template", None)
    monkeypatch.setattr(rig_register, "transfer_weights", None)
    second = register(hero, nobody, RigTransfer())
    assert second.coverage == first.coverage and second.confidence == first.confidence
    assert_alike(second, first)
    with pytest.raises(TypeError):  # Another skeleton is made anew.
        register(hero, nobody, RigTransfer(twist_bones=False))
    for file in files:
        whole = file.read_bytes()
        for broken in (b"", whole[:1000]):
            file.write_bytes(broken)
            with pytest.raises(TypeError):  # It is fitted, or made, again.
                register(hero, nobody, RigTransfer())
        file.write_bytes(whole)
    monkeypatch.setenv("MVAI_CACHE", "off")
    with pytest.raises(TypeError):
        register(hero, nobody, RigTransfer())


def assert_alike(a: object, b: object) -> None:
    """All fields of two registrations, down to their arrays."""
    if is_dataclass(a):
        assert type(a) is type(b)
        for field in fields(a):
            assert_alike(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b and type(a) is type(b)


def test_another_mesh_another_key_and_no_folder_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    vertices = t_pose()
    mesh, moved = Mesh(vertices, BODY.faces), Mesh(vertices + 1e-6, BODY.faces)
    assert cache.cache_key(mesh, nobody) == cache.cache_key(mesh, nobody)
    assert cache.cache_key(mesh, nobody) != cache.cache_key(moved, nobody)
    assert cache.cache_key(mesh, nobody) != cache.cache_key(mesh, t_pose)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MVAI_CACHE", str(tmp_path / "file"))
    cache.keep("key", {"a": np.zeros(2)})
    assert cache.read_kept("key") is None


def test_the_folder_is_the_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MVAI_CACHE", raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "mvai"
    monkeypatch.setattr(cache.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "mvai" / "Cache"
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    assert str(cache.cache_folder()).endswith("Library/Caches/mvai")
