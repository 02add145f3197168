"""The table of PMD in docs/npt.md: every method of transfer, and what the networks alone give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, markdown_table
from mvai.evaluate.transfer_pmd import CELLS, PAIRS, POSES, network_cells, pmd_cells, pmd_poses
from mvai.evaluate.work import kept, work_folder, write_text
from mvai.io.fingerprint import file_sha256
from mvai.nets.npt_files import load_npt
from mvai.progress import Report
from mvai.transfer.npt import NptTransfer
from mvai.transfer.npt_detail import NptDetailTransfer
from mvai.types import MvaiError

ROWS: dict[str, tuple[Any, bool]] = {
    "rig": ("rig", True),
    "sa-pd": ("sa-pd", True),
    "npt": (NptTransfer(), True),
    "npt-alone": (NptTransfer(refinements=0), True),
    "npt-order": (NptTransfer(known_order=True), True),
    "npt-order-alone": (NptTransfer(known_order=True, refinements=0), True),
    "npt-unknown": (NptTransfer(), False),
    "npt-detail": (NptDetailTransfer(), True),
    "npt-detail-alone": (NptDetailTransfer(refinements=0), True),
    "npt-detail-pooled": (NptDetailTransfer(known_order=False), True),
    "npt-detail-unknown": (NptDetailTransfer(), False),
}
"""Name of a row, settings of its method, and whether the source's topology is told. "alone": no
refinement; "order": the source read in the order of its vertices; "unknown": a source in no known
topology; otherwise npt reads by max pooling."""

COLUMNS = (
    Column("method", "row"),
    *(Column(f"{i} id., {p} pose", f"{i} {p}") for i, p in CELLS),
)


def evaluate_pmd(
    data: Path,
    output: Path,
    work: Path,
    report: Report,
    rows: Sequence[str] = (),
    pairs: int = PAIRS,
    weights: Sequence[Path] = (),
) -> str:
    """Measures PMD and writes the table; returns it.

    Args:
        data: folder of motion capture (BVH), the one the networks were trained on.
        output: Markdown page to write.
        work: folder in which finished pieces are kept.
        report: hears of progress.
        rows: names of rows; all if none is named.
        pairs: source people, each with an identity, in every cell.
        weights: files of networks in the publication's form, which have rows of their own.

    Raises:
        MvaiError: a row is not known, there are no clips, or weights cannot be read.
    """
    rows = list(rows) or list(ROWS)
    for name in rows:
        if name not in ROWS:
            raise MvaiError(f"{name}: there is no such row; there are {', '.join(ROWS)}.")
    networks = {path.stem: load_npt(path) for path in weights}
    folder = work_folder(work)
    poses = pmd_poses(data, folder / "clips")
    measured: list[list[dict[str, Any]]] = []
    with report.stage("measure") as progress:
        for i, name in enumerate(rows):
            config, known = ROWS[name]
            made = kept(
                folder, f"{name}_{pairs}.json",
                lambda c=config, k=known: {"cells": pmd_cells(c, poses, k, pairs)},
            )  # fmt: skip
            measured.append(made["cells"])
            progress(i + 1, len(rows) + len(networks))
        for i, (path, trained) in enumerate(zip(weights, networks.values(), strict=True)):
            made = kept(
                folder, f"{file_sha256(path)[:12]}_{pairs}.json",
                lambda t=trained: {"cells": network_cells(t, poses, pairs)},
            )  # fmt: skip
            measured.append(made["cells"])
            progress(len(rows) + i + 1, len(rows) + len(networks))
    copied = [c | {"pmd_mean": c["pmd_copy"], "pmd_worst": None} for c in measured[0]]
    lines = [_line("the identity unposed", copied)]
    lines += [_line(n, m) for n, m in zip([*rows, *networks], measured, strict=True)]
    text = (
        f"{header()}\n\n# PMD\n\nMean (worst) over {pairs} pairs of people and {POSES} poses "
        f"each, in 1e-4 square metres.\n\n{markdown_table(COLUMNS, lines)}\n"
    )
    write_text(output, text)
    return text


def _line(name: str, cells: Sequence[dict[str, Any]]) -> dict[str, str]:
    line = {"row": name}
    for c in cells:
        value = "refused"
        if c.get("pmd_mean") is not None:
            worst = "" if c["pmd_worst"] is None else f" ({c['pmd_worst']:.1f})"
            value = f"{c['pmd_mean']:.2f}{worst}"
        line[f"{c['identity']} {c['pose']}"] = value
    return line
