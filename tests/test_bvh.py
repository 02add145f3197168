"""The BVH reader, on small files written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.io.bvh import read_bvh
from mvai.types import MvaiError

GOOD = """HIERARCHY
ROOT Hips
{
\tOFFSET 0 1 0
\tCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
\tJOINT Bip01 L Thigh {
\t\tOFFSET 1.0 0 0
\t\tCHANNELS 3 Yrotation Xrotation Zrotation
\t\tEnd Site
\t\t{
\t\t\tOFFSET 0 -2 0
\t\t}
\t}
\tJOINT Tail
\t{
\t\tOFFSET 0 0 -1
\t\tCHANNELS 0
\t}
}
MOTION
Frames: 2
Frame Time: 0.04
0 0 0 0 0 0 0 0 0
1 2 3 10 20 30 40 50 60
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "clip.bvh"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_tree_channels_and_movement(tmp_path: Path) -> None:
    clip = read_bvh(written(tmp_path, GOOD))
    assert clip.names == ("Hips", "Bip01 L Thigh", "Tail")
    assert clip.parents == (-1, 0, 0)
    assert clip.fps == pytest.approx(25)
    assert clip.end_sites.keys() == {1}
    R, t = clip.world()
    np.testing.assert_allclose(t[0], [[0, 1, 0], [1, 1, 0], [0, 1, -1]])
    root = Rotation.from_euler("ZXY", [10, 20, 30], degrees=True)
    leg = root * Rotation.from_euler("YXZ", [40, 50, 60], degrees=True)
    np.testing.assert_allclose(R[1, 1], leg.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(t[1, 0], [1, 3, 3])
    np.testing.assert_allclose(t[1, 1], t[1, 0] + root.apply([1, 0, 0]))
    np.testing.assert_allclose(clip.rest_positions(), t[0])


def test_other_joints_positions_replace_their_offset(tmp_path: Path) -> None:
    text = GOOD.replace("CHANNELS 0", "CHANNELS 1 Zposition").replace(
        "0 0 0 0 0 0 0 0 0\n", "0 0 0 0 0 0 0 0 0 -7\n"
    )
    clip = read_bvh(written(tmp_path, text.replace("40 50 60", "40 50 60 -7")))
    np.testing.assert_allclose(clip.world()[1][0, 2], [0, 1, -7])


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations("XYZ"),
    angles=st.lists(st.floats(-360, 360), min_size=3, max_size=3),
)
def test_any_channel_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], angles: list[float]
) -> None:
    names = " ".join(f"{a}rotation" for a in order)
    text = GOOD.replace("Zrotation Xrotation Yrotation", names, 1).replace(
        "10 20 30", " ".join(repr(a) for a in angles)
    )
    R = read_bvh(written(tmp_path_factory.mktemp("bvh"), text)).rotations[1, 0]
    expected = Rotation.from_euler("".join(order), angles, degrees=True).as_matrix()
    np.testing.assert_allclose(R, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HIERARCHY", "HIERARCHIE"),
        ("MOTION", "MOVEMENT"),
        ("Frames: 2", "Frames: 3"),
        ("Frames: 2", "Frames: 0"),
        ("Frames: 2", "Frames: -2"),
        ("Frames: 2\n", ""),
        ("Frame Time: 0.04", "Frame Time: 0"),
        ("Frame Time: 0.04", "Frame Time: soon"),
        ("1 2 3 10", "1 2 nan 10"),
        ("1 2 3 10", "1 2 x 10"),
        ("1 2 3 10", "1 2 3"),
        ("CHANNELS 3", "CHANNELS 2"),
        ("Yrotation Xrotation Zrotation", "Yrotation Xrotation Wrotation"),
        ("OFFSET 1.0 0 0", "OFFSET 1.0 0"),
        ("\t\tOFFSET 1.0 0 0\n", ""),
        ("\t\t{\n", ""),
        ("}\nMOTION", "MOTION"),
        ("}\nMOTION", "}\n}\nMOTION"),
        ("}\nMOTION", "}\nROOT Two\n{\nOFFSET 0 0 0\n}\nMOTION"),
        ("JOINT Tail", "JOINT"),
        ("JOINT Tail", "BONE Tail"),
    ],
)
def test_malformed_files_are_refused_in_one_sentence(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(MvaiError, match=r"clip\.bvh: .*export it again\.$"):
        read_bvh(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(MvaiError, match=r"nothing\.bvh"):
        read_bvh(tmp_path / "nothing.bvh")
    binary = tmp_path / "binary.bvh"
    binary.write_bytes(b"\xff\xfe\x00\x81" * 100)
    with pytest.raises(MvaiError, match=r"binary\.bvh"):
        read_bvh(binary)
    with pytest.raises(MvaiError, match=r"empty\.bvh"):
        (tmp_path / "empty.bvh").write_text("")
        read_bvh(tmp_path / "empty.bvh")
