"""The page that `mvai evaluate transfer` writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, markdown_table
from mvai.evaluate.transfer_joints import PARTS

Row = dict[str, Any]

TRUTH = (
    Column("mean vertex error, % of height", "error_percent", 2),
    Column("worst 1 %", "worst_percent", 2),
    Column("angle of parts, deg", "angle_deg", 1),
)
SURFACE = (
    Column("edge stretch, median", "stretch_median", 3),
    Column("p99", "stretch_p99", 2),
    Column("faces inverted, %", "inverted_percent", 3),
    Column("penetration added, %", "penetration_percent", 2),
    Column("volume change, %", "volume_percent", 1),
    Column("jitter, mm/frame²", "jitter_mm", 1),
    Column("foot-slide, mm/frame", "slide_mm", 1),
    Column("its median", "slide_median_mm", 1),
    Column("where the source stands", "planted_mm", 2),
    Column("sinks, mm", "sinks_mm", 0),
)
JOINTS = (
    *(Column(part, f"{part}_percent", 2) for part in PARTS),
    Column("mean", "joints_percent", 2),
)
COST = (
    Column("fit, s", "fit_s", 1),
    Column("frames/s", "frames_per_s", 0),
    Column("peak memory, GB", "peak_gb", 2),
)


def page(truth: Sequence[Row], rows: Sequence[Row], joints: Sequence[Row] = ()) -> str:
    """Markdown with provenance, truth by method and pair and action, joints and all characters."""
    measured = [r for r in rows if "stretch_p99" in r]
    blocks = ["# Transfer measured", "", header()]
    if truth:
        known = [r for r in truth if "error_percent" in r]
        blocks += [
            "## Against exact truth", "",
            markdown_table(
                (Column("method", "method"), Column("skeleton", "variant"), *TRUTH),
                grouped(known, ("method", "variant")),
            ),
            markdown_table(
                (Column("method", "method"), Column("skeleton", "variant"),
                 Column("from", "source"), Column("to", "target"), *TRUTH),
                grouped(known, ("method", "variant", "source", "target")),
            ),
            markdown_table(
                (Column("method", "method"), Column("skeleton", "variant"),
                 Column("action", "action"), *TRUTH),
                grouped(known, ("method", "variant", "action")),
            ),
        ]  # fmt: skip
    found = [r for r in joints if "joints_percent" in r]
    if found:
        blocks += [
            "## Joints against the characters' own rigs, % of height", "",
            markdown_table((Column("character", "character"), *JOINTS), found),
        ]  # fmt: skip
    blocks += [
        "## Without truth", "",
        markdown_table(
            (Column("method", "method"), Column("characters", "count", 0), *SURFACE, *COST),
            grouped(measured, ("method",), count=lambda g: len({r["character"] for r in g})),
        ),
        markdown_table(
            (Column("method", "method"), Column("character", "character"),
             Column("motion", "motion"), Column("vertices", "vertices", 0), *SURFACE, *COST),
            measured,
        ),
    ]  # fmt: skip
    refused = {(r["method"], r.get("character", "shared rig")): r["refused"]
               for r in (*truth, *rows) if r.get("refused")}  # fmt: skip
    if refused:
        blocks += ["## Refused", ""]
        blocks += [f"- `{method}`, {who}: {why}" for (method, who), why in refused.items()]
        blocks.append("")
    return "\n".join(blocks)


def grouped(
    rows: Sequence[Row], keys: tuple[str, ...], **more: Callable[[list[Row]], Any]
) -> list[Row]:
    """Means of all numbers over rows that agree in `keys`, in order of first appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    out = []
    for group in groups.values():
        numbers = [k for k, v in group[0].items() if isinstance(v, int | float)]
        means = {k: _mean([r[k] for r in group]) for k in numbers}
        out.append(
            {k: group[0][k] for k in keys} | means | {k: make(group) for k, make in more.items()}
        )
    return out


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are known; NaN when none is."""
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")
