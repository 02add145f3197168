"""PMD of transfer: the distance, its cells, the table and its command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mvai.body.anny import anny_body
from mvai.evaluate import transfer_pmd, transfer_pmd_page
from mvai.evaluate.transfer_pmd import PmdPoses, network_cells, pmd
from mvai.evaluate.transfer_pmd_page import evaluate_pmd
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.nets.npt import Npt, NptSettings
from mvai.nets.npt_files import WEIGHTS, TrainedNpt, load_npt, save_npt
from mvai.progress import Silent
from mvai.types import MvaiError


def test_pmd_by_hand() -> None:
    """A box that grows by 2 on one side is centred again: every corner is off by 1 along x."""
    box = np.stack(np.meshgrid([0.0, 1], [0.0, 1], [0.0, 1]), -1).reshape(1, 8, 3)
    grown = box * [3, 1, 1] + [5, 6, 7]
    assert pmd(grown, box) == pytest.approx([1 / 3])
    assert pmd(box + 4, box) == pytest.approx([0])


@pytest.fixture
def poses(monkeypatch: pytest.MonkeyPatch) -> PmdPoses:
    """Two poses of each kind, small turns of all joints."""
    monkeypatch.setattr(transfer_pmd, "POSES", 2)
    g = torch.Generator().manual_seed(0)
    R = matrix_from_axis_angle(0.2 * torch.randn(4, len(anny_body().joints), 3, generator=g))
    made = PmdPoses(R[:2], R[2:])
    monkeypatch.setattr(transfer_pmd_page, "pmd_poses", lambda data, cache: made)
    return made


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the weights are not there")
def test_table(tmp_path: Path, poses: PmdPoses) -> None:
    free = tmp_path / "mine.safetensors"
    save_npt(TrainedNpt(Npt(NptSettings(code=16, widths=(19, 9, 4)))), free)
    page = evaluate_pmd(
        tmp_path, tmp_path / "pmd.md", tmp_path / "work", Silent(), ["npt-detail"], 1, [free]
    )
    assert (tmp_path / "pmd.md").read_text() == page
    lines = {x.split("|")[1].strip(): x.split("|")[2:-1] for x in page.splitlines() if "|" in x}
    copied, detail, mine = (
        [float(x.split()[0]) for x in lines[n]]
        for n in ("the identity unposed", "npt-detail", "mine")
    )
    assert len(copied) == len(detail) == 4
    assert all(d < 0.1 * c for d, c in zip(detail, copied, strict=True))
    # An untrained network is no better than the identity unposed.
    assert all(m > 0.2 * c for m, c in zip(mine, copied, strict=True))
    assert "1e-4" in page
    with pytest.raises(MvaiError, match="no such row"):
        evaluate_pmd(tmp_path, tmp_path / "x.md", tmp_path / "work", Silent(), ["nonsense"])
    with pytest.raises(MvaiError, match="joint rotations"):
        network_cells(load_npt(), poses, 1)
