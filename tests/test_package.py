"""What ships inside the package, and whether the documents tell the truth about it."""

from __future__ import annotations

import json
import re
import struct
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

PACKAGE = Path(str(files("mvai")))
REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{p.name}" for p in REPOSITORY.glob("docs/*.md")),
)
CARDS = (*sorted(PACKAGE.glob("weights/*.md")), PACKAGE / "demo_files" / "README.md")


def test_every_weight_file_has_a_card_that_names_it() -> None:
    weights = [p for p in (PACKAGE / "weights").iterdir() if p.suffix in (".npz", ".safetensors")]
    assert {"body_anny.npz", "pose_prior.safetensors"} <= {p.name for p in weights}
    for path in weights:
        card = path.with_suffix(".md")
        assert card.exists(), f"{path.name} has no card"
        assert path.name in card.read_text("utf-8")
        assert path.stat().st_size > 1000


def test_every_card_says_where_it_comes_from() -> None:
    for card in CARDS:
        text = card.read_text("utf-8")
        assert "mvai train" in text, f"{card.name} names no command"
        assert re.search(r"CC0|Apache|MIT|free for use", text), f"{card.name} names no licence"


def test_demo_files_are_small_and_there() -> None:
    clip, character = (PACKAGE / "demo_files" / n for n in ("clip.mp4", "character.glb"))
    assert 50_000 < clip.stat().st_size <= 400_000
    assert 50_000 < character.stat().st_size <= 1_500_000


def test_demo_character_is_unrigged_textured_and_in_parts() -> None:
    data = (PACKAGE / "demo_files" / "character.glb").read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    tree = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    assert "skins" not in tree and "animations" not in tree
    assert len(tree["meshes"]) == len(tree["materials"]) == len(tree["images"]) > 5
    triangles = sum(
        tree["accessors"][p["indices"]]["count"] // 3
        for mesh in tree["meshes"]
        for p in mesh["primitives"]
    )
    assert triangles <= 40_000
    card = (PACKAGE / "demo_files" / "README.md").read_text("utf-8")
    assert f"{triangles:,} triangles" in card
    assert f"{len(tree['meshes'])} parts" in card


def test_the_script_stands_on_its_feet() -> None:
    """The demo clip's person: feet that stand do not slide, and the body reaches its key poses."""
    import numpy as np
    import torch

    from mvai.body.anny import anny_body
    from mvai.train.demo_files import FPS, SHAPE, scripted_motion

    body = anny_body()
    shape = np.zeros(body.shape_size)
    shape[: len(SHAPE)] = SHAPE
    rotations, translation = scripted_motion(body, shape)
    identity = rotations @ rotations.swapaxes(-1, -2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-6)
    joints, _ = body.joints_and_keypoints(
        ("nose",),
        torch.from_numpy(shape).float()[None],
        torch.from_numpy(rotations).float(),
        torch.from_numpy(translation).float(),
    )
    at = {name: joints[:, body.joint(name)].numpy() for name in body.joints}
    standing = slice(0, round(2.4 * FPS))  # until the jump, squat included
    for side in ("Left", "Right"):
        assert np.ptp(at[f"{side}Foot"][standing], axis=0).max() < 0.01
    overhead = round(2.85 * FPS)
    assert at["LeftHand"][overhead, 1] > at["Head"][overhead, 1]
    assert at["Hips"][round(2.1 * FPS), 1] < at["Hips"][0, 1] - 0.2


def commands(text: str) -> list[list[str]]:
    """Words of every `mvai ...` command in a document's code."""
    code = re.findall(r"`(mvai [^`]+)`", text)
    # A command that goes on in the next line ends in a backslash.
    indented = re.sub(r"\\\n\s*", "", text)
    code += re.findall(r"^    (?:.*&& )?(mvai [^\n]+)$", indented, re.MULTILINE)
    return [c.split() for c in code]


@pytest.mark.parametrize("name", [*DOCUMENTS, *(str(c.relative_to(PACKAGE)) for c in CARDS)])
def test_commands_in_documents_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from mvai.cli.commands import parse

    path = REPOSITORY / name
    text = (path if path.exists() else PACKAGE / name).read_text("utf-8")
    found = commands(text)
    if name in ("README.md", "CONTRIBUTING.md"):
        assert found
    for words in found:
        # What is evaluated, built or trained is a command of its own, with options of its own.
        deep = 3 if words[1] in ("evaluate", "benchmark", "train") else 2
        with pytest.raises(SystemExit) as end:
            parse([*words[1:deep], "--help"])
        assert end.value.code == 0, f"{name}: {' '.join(words)}"
        usage = capsys.readouterr().out
        for option in (w for w in words[2:] if w.startswith("-")):
            # Settings of a stage (--smooth.window-s) are listed by `mvai methods`.
            known = option in usage or "." in option
            assert known, f"{name}: mvai {words[1]} has no option {option}"
        if words[1] == "train":
            assert words[2] in usage


def test_links_in_documents_lead_somewhere() -> None:
    for name in DOCUMENTS:
        path = REPOSITORY / name
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{name} links to {target}"


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make (\w+)`", (REPOSITORY / "README.md").read_text("utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_licence_files_are_declared_and_whole() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    for name in project["license-files"]:
        assert (REPOSITORY / name).stat().st_size > 500
    assert "END OF TERMS AND CONDITIONS" in (REPOSITORY / "LICENSE").read_text("utf-8")
    notice = (REPOSITORY / "NOTICE").read_text("utf-8")
    for shipped in re.findall(r"src/mvai/[\w./]+\w", notice):
        assert (REPOSITORY / shipped).exists(), f"NOTICE names {shipped}"
