"""Written glTF under the Khronos validator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gltf_makers import Played, box_person, moving, skinned_directly
from mvai.io.characters import read_character
from mvai.io.gltf_write import write_glb
from mvai.types import Animation, Character

TESTS = Path(__file__).parent


@pytest.fixture
def character() -> Character:
    return box_person(np.random.default_rng(3))


def validator_folder() -> Path | None:
    """Where the npm package gltf-validator is installed, if it is."""
    for folder in (os.environ.get("MVAI_GLTF_VALIDATOR"), TESTS.parent):
        if folder and (Path(folder) / "node_modules" / "gltf-validator").is_dir():
            return Path(folder)
    return None


needs_validator = pytest.mark.skipif(
    shutil.which("node") is None or validator_folder() is None,
    reason="needs node and `npm install gltf-validator` in MVAI_GLTF_VALIDATOR",
)


def validated(path: Path) -> list[dict]:
    """Errors and warnings of the Khronos validator."""
    script = TESTS / "gltf_validate.mjs"
    run = subprocess.run(
        ["node", str(script), str(validator_folder()), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [m for m in json.loads(run.stdout)["messages"] if m["severity"] <= 1]


@needs_validator
@pytest.mark.parametrize("influences", [2, 4, 6])
def test_skinned_file_is_valid(tmp_path: Path, character: Character, influences: int):
    write_glb(moving(character, influences=influences), tmp_path / "a.glb", {"x": 1})
    assert validated(tmp_path / "a.glb") == []


@needs_validator
def test_morphed_file_is_valid(tmp_path: Path, character: Character):
    free = np.repeat(character.mesh.vertices[None], 3, axis=0)
    write_glb(Animation(character, fps=24, free_vertices=free), tmp_path / "a.glb")
    assert validated(tmp_path / "a.glb") == []


def _characters() -> list[Path]:
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MVAI_DATA", default)) / "identities" / "orig"
    return sorted(folder.glob("*.glb"))


@needs_validator
@pytest.mark.parametrize("path", _characters(), ids=lambda p: p.stem)
def test_published_characters_are_written_validly(tmp_path: Path, path: Path):
    character = read_character(path)
    skin = character.skin
    assert skin is not None
    Ts = np.repeat(skin.T_world_joint[None], 3, axis=0)
    Ts[1:, :, 0, 3] += 0.5
    animation = Animation(character, fps=30, skin=skin, Ts_world_joint=Ts)
    write_glb(animation, tmp_path / "a.glb")
    assert validated(tmp_path / "a.glb") == []
    played = Played(tmp_path / "a.glb")
    expected = skinned_directly(animation)
    np.testing.assert_allclose(played.vertices(0), expected[0], atol=1e-4)
    np.testing.assert_allclose(played.vertices(2), expected[2], atol=1e-4)
