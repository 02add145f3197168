"""Reconstruction of drawn people whose bodies are exactly known.

The clips are those of `mvai train render-clips` that show held-out people: no weights of this
package were trained on them. The detector sees pixels and makes its own mistakes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvai.benchmark.clips import load_clips
from mvai.benchmark.scenes import Scene
from mvai.body.anny import anny_body
from mvai.detect.left_right import undo_left_right_swaps
from mvai.evaluate.provenance import header
from mvai.evaluate.reprojection import reprojection
from mvai.evaluate.tables import Column, markdown_table
from mvai.evaluate.videos3d import JOINTS, SETTINGS, Points, joints_of, measures
from mvai.evaluate.work import write_text
from mvai.progress import Report
from mvai.reconstruct.smplify_x import SmplifyX

COLUMNS = (
    Column("method", "method"),
    Column("MPJPE mm", "mpjpe_mm", 1),
    Column("median of clips", "median_mm", 1),
    Column("worst clip", "worst_mm", 1),
    Column("PA-MPJPE mm", "pa_mpjpe_mm", 1),
    Column("Accel error", "accel_error_mm", 1),
    Column("2D % of height", "residual_percent", 2),
    Column("frames/s", "rate", 1),
)


def true_joints(scene: Scene) -> Points:
    """`JOINTS` of a scene in camera axes, metres."""
    with torch.no_grad():
        _, points = anny_body().joints_and_keypoints(
            JOINTS,
            torch.from_numpy(scene.shape).float()[None],
            torch.from_numpy(scene.rotations).float(),
            torch.from_numpy(scene.translation).float(),
        )
    T = scene.camera.T_camera_world
    return points.numpy().astype(np.float64) @ T[:3, :3].T + T[:3, 3]


def evaluate_drawn(clips: Path, output: Path, report: Report) -> str:
    """Write the page and return it.

    Raises:
        MvaiError: there are no rendered clips of held-out people in `clips`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    pairs = load_clips(clips, "test")
    with report.stage("reconstruct") as progress:
        for i, (scene, keypoints) in enumerate(pairs):
            keypoints, reference = undo_left_right_swaps(keypoints), true_joints(scene)
            assert keypoints.xyz_m is not None
            own = keypoints.xyz_m[:, [keypoints.index(n) for n in JOINTS]]
            found.setdefault("MediaPipe's own landmarks", []).append(measures(own, reference))
            for setting in SETTINGS:
                start = time.perf_counter()
                sequence = SmplifyX(setting=setting).reconstruct(keypoints)
                seconds = time.perf_counter() - start
                row = measures(joints_of(sequence), reference)
                row["residual_percent"] = reprojection(sequence, keypoints)[1]
                row["rate"] = keypoints.frames / seconds
                found.setdefault(f"SMPLify-X {setting}", []).append(row)
            progress(i + 1, len(pairs))
    page = "\n".join(
        [
            "# Reconstruction of drawn people\n",
            header(),
            "",
            f"{len(pairs)} clips of held-out people (motion capture on the body model, drawn with "
            "random bodies, colours and\ncameras; weights/landmark_correction.md), with exact "
            "truth. Means over clips; MPJPE and the rest as in\n[videos3d.md](videos3d.md).\n",
            markdown_table(COLUMNS, [summary(name, rows) for name, rows in found.items()]),
        ]
    )
    write_text(output, page)
    return page


def summary(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row of the table from the measures of all clips."""
    keys = ("mpjpe_mm", "pa_mpjpe_mm", "accel_error_mm", "residual_percent", "rate")
    out = {k: float(np.mean([r[k] for r in rows])) for k in keys if k in rows[0]}
    every = [r["mpjpe_mm"] for r in rows]
    median, worst = float(np.median(every)), float(np.max(every))
    return {"method": name, **out, "median_mm": median, "worst_mm": worst}
