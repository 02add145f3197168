"""The paper's Tables 2 and 3 on the benchmark: mesh2mesh without its motion loss, with other
kernels and with other numbers of layers, each trained from several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mvai.evaluate.labelled_clips import is_benchmark, pools
from mvai.evaluate.metrics import accel, mpjpe, root_relative
from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, csv_text, markdown_table
from mvai.evaluate.work import kept, work_folder, write_text
from mvai.nets.mesh2mesh import Mesh2Mesh, Mesh2MeshSettings
from mvai.progress import Report
from mvai.train.mesh2mesh import train_mesh2mesh, vertex_reach
from mvai.train.smoothers import SmootherRecipe, middle_windows
from mvai.train.smoothing_clips import HIPS, JOINTS, SmoothingClip
from mvai.types import MvaiError

Which = Literal["table2", "table3"]


@dataclass(frozen=True)
class Variant:
    """One row of a table."""

    name: str
    settings: Mesh2MeshSettings
    motion_weight: float = 1.0
    paper_mm: Mapping[str, float] | None = None
    """What the paper reports on Human3.6M, by backbone."""


def variants(which: Which) -> list[Variant]:
    """The rows of the paper's table, in its order."""
    form = Mesh2MeshSettings()
    if which == "table2":
        return [
            Variant("without motion loss", form, 0.0,
                    {"smplify-x-paper": 134.9, "graphcmr": 73.2}),
            Variant("with motion loss", form, 1.0,
                    {"smplify-x-paper": 128.4, "graphcmr": 72.8}),
        ]  # fmt: skip
    kernels = (((5, 3, 3), 179.0), ((3, 1, 3), 131.3), ((5, 1, 1), 134.6), ((5, 1, 3), 128.4))
    layers = ((3, 129.5), (8, 128.4), (12, 138.8))
    return [
        *(
            Variant(
                f"kernel {'x'.join(map(str, k))}", replace(form, kernel=k),
                paper_mm={"smplify-x-paper": mm},
            )
            for k, mm in kernels
        ),
        *(
            Variant(
                f"{n} layers", replace(form, layers=n), paper_mm={"smplify-x-paper": mm}
            )
            for n, mm in layers
        ),
    ]  # fmt: skip


def trained_result(
    data: Path, backbone: str, variant: Variant, recipe: SmootherRecipe, work: Path
) -> dict[str, Any]:
    """Train one network and measure it on the middle frames of the test clips."""
    reach = vertex_reach(variant.settings)
    train, validation, test = _pools(data, backbone, work, reach, recipe.rate)
    recipe = replace(recipe, motion_weight=variant.motion_weight)
    network, _ = train_mesh2mesh(train, validation, variant.settings, recipe)
    return measured(network, test, recipe)


_pools = lru_cache(maxsize=1)(pools)


def measured(
    network: Mesh2Mesh, clips: Sequence[SmoothingClip], recipe: SmootherRecipe
) -> dict[str, Any]:
    """MPJPE and Accel before and after the network, means over clips, mm."""
    batch = middle_windows([c.at_rate(recipe.rate) for c in clips], recipe.frames)
    joints = slice(0, len(JOINTS))
    before, after = [], []
    for vertices, truth in zip(batch.vertices, batch.truth.numpy(), strict=True):
        with torch.no_grad():
            smooth = network.training_forward(vertices[None])[0]
        for rows, surface in ((before, vertices), (after, smooth)):
            points = torch.einsum("jv,fvd->fjd", batch.regressor, surface).numpy()[:, joints]
            rows.append((mpjpe(points, truth[:, joints], HIPS), accel(root_relative(points, HIPS))))
    (b_mm, b_accel), (a_mm, a_accel) = np.mean(before, 0).tolist(), np.mean(after, 0).tolist()
    return {"before_mm": b_mm, "before_accel": b_accel, "after_mm": a_mm, "after_accel": a_accel}


def evaluate_ablation(
    which: Which,
    data: Path,
    output: Path,
    work: Path,
    report: Report,
    backbones: Sequence[str] = ("smplify-x-paper",),
    seeds: int = 3,
    recipe: SmootherRecipe | None = None,
) -> str:
    """Train and measure every variant, write the page and the CSV beside it.

    Args:
        data: folder of the benchmark, reconstructed by the backbones, or of Human3.6M.
        output: Markdown file to write.
        work: folder in which finished variants are kept; an interrupted run goes on.
        seeds: networks trained of each variant.

    Raises:
        MvaiError: a backbone's reconstructions are missing, or no network is asked for.
    """
    if seeds < 1:
        raise MvaiError(f"{seeds}: every variant is trained at least once; give --seeds 1 or more.")
    for backbone in backbones:
        if not any(v.paper_mm is None or backbone in v.paper_mm for v in variants(which)):
            known = sorted({b for v in variants(which) for b in v.paper_mm or ()})
            raise MvaiError(
                f"{backbone}: the paper's {which} has no such backbone; choose one of "
                f"{', '.join(known)}."
            )
    recipe, work = recipe or SmootherRecipe(), work_folder(work)
    jobs = [(b, v, s) for b in backbones for v in variants(which) for s in range(seeds)
            if v.paper_mm is None or b in v.paper_mm]  # fmt: skip
    rows: list[dict[str, Any]] = []
    with report.stage(which) as progress:
        for done, (backbone, variant, seed) in enumerate(jobs):
            progress(done, len(jobs))
            name = f"{data.name} {backbone} {variant.settings} {variant.motion_weight:g} "
            name = f"{name}{recipe.rate} {recipe.steps} {recipe.batch} {recipe.joints} {seed}"
            result = kept(
                work,
                "".join(c if c.isalnum() else "_" for c in name)[-240:] + ".json",
                lambda b=backbone, v=variant, s=seed: trained_result(
                    data, b, v, replace(recipe, seed=s), work / "h36m"
                ),
            )
            rows.append({"backbone": backbone, "variant": variant.name, "seed": seed} | result)
        progress(len(jobs), len(jobs))
    means = summary(which, rows)
    write_text(output.with_suffix(".csv"), csv_text(rows))
    write_text(output, page(which, data, means, recipe, seeds))
    return markdown_table(COLUMNS, means)


COLUMNS = (
    Column("backbone", "backbone"),
    Column("mesh2mesh", "variant"),
    Column("MPJPE mm", "after_mm", 2),
    Column("± over seeds", "spread_mm", 2),
    Column("change %", "change", 2),
    Column("Accel", "after_accel", 2),
    Column("paper, Human3.6M: MPJPE mm", "paper_mm", 1),
    Column("change % there", "paper_change", 1),
)
PAPER_BACKBONE_MM = {"smplify-x-paper": 136.4, "graphcmr": 74.7}


def summary(which: Which, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, under a row for the backbone alone."""
    out: list[dict[str, Any]] = []
    for backbone in dict.fromkeys(r["backbone"] for r in rows):
        own = [r for r in rows if r["backbone"] == backbone]
        paper = PAPER_BACKBONE_MM.get(backbone)
        out.append(
            {
                "backbone": backbone, "variant": "none", "after_mm": own[0]["before_mm"],
                "after_accel": own[0]["before_accel"], "paper_mm": paper,
            }
        )  # fmt: skip
        for variant in variants(which):
            found = [r for r in own if r["variant"] == variant.name]
            if not found:
                continue
            mm = np.array([r["after_mm"] for r in found])
            row: dict[str, Any] = {"backbone": backbone, "variant": variant.name}
            row |= {"after_mm": float(mm.mean()), "spread_mm": float(mm.std())}
            row["change"] = 100 * (row["after_mm"] / own[0]["before_mm"] - 1)
            row["after_accel"] = float(np.mean([r["after_accel"] for r in found]))
            if paper and variant.paper_mm and backbone in variant.paper_mm:
                row["paper_mm"] = variant.paper_mm[backbone]
                row["paper_change"] = 100 * (row["paper_mm"] / paper - 1)
            out.append(row)
    return out


def page(
    which: Which, data: Path, rows: Sequence[Mapping[str, Any]], recipe: SmootherRecipe, seeds: int
) -> str:
    """The Markdown page."""
    title = {
        "table2": "Table 2: mesh2mesh with and without the motion loss",
        "table3": "Table 3: kernels and numbers of layers of mesh2mesh",
    }[which]
    rate = "the clips' own" if recipe.rate is None else f"{recipe.rate:g} a second"
    source = "The open benchmark" if is_benchmark(data) else "Human3.6M"
    loss = ""
    if recipe.joints is not None:
        loss = f"""
The loss of a step looks at the hips and {recipe.joints} joints drawn at random, which count for all
(the expected gradient is that of the whole loss), the same in every row: so a kernel over vertices
sees its true neighbours in vertex order without all vertices passing through it at every step."""
    return f"""# {title}

{header()}
{source}, test people; every network trained from {seeds} seeds on the reconstructions of the
training people for {recipe.steps} steps (batch {recipe.batch}, Adam {recipe.learning_rate:g},
T = {recipe.frames}, frame rate: {rate}), weights chosen on the validation people; the middle
{recipe.frames} frames of each test clip, 14 joints relative to the middle of the hips.{loss}

{markdown_table(COLUMNS, rows)}"""
