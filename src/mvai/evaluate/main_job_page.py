"""The page that `mvai evaluate main-job` writes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, markdown_table

VIDEOS = (
    Column("video", "video"),
    Column("size", "size"),
    Column("frames", "frames", 0),
    Column("fps", "video_fps", 1),
    Column("person in", "person_in", 0),
    Column("detect s", "detect_s", 1),
    Column("reconstruct s", "reconstruct_s", 1),
    Column("smooth s", "smooth_s", 2),
    Column("reconstruct frames/s", "reconstruct_fps", 1),
    Column("2D px", "residual_px", 1),
    Column("2D % of height", "residual_percent", 2),
)
CHARACTERS = (
    Column("character", "character"),
    Column("file", "file"),
    Column("vertices", "vertices", 0),
    Column("parts", "parts", 0),
    Column("rig", "rig"),
    Column("read s", "read_character_s", 1),
    Column("fit skeleton s", "fit_skeleton_s", 1),
    Column("joints off mm", "joint_error_mm", 0),
    Column("surface off mm", "surface_error_mm", 0),
)
PAIRS = (
    Column("video", "video"),
    Column("character", "character"),
    Column("transfer s", "transfer_s", 1),
    Column("write s", "write_s", 1),
    Column("all stages s", "total_s", 1),
    Column("frames/s", "frames_per_s", 1),
    Column("foot-slide mm/frame", "foot_slide_mm", 1),
    Column("its median", "foot_slide_median_mm", 1),
    Column("in contact %", "contact_percent", 0),
    Column("stretch median", "stretch_median", 3),
    Column("stretch p99", "stretch_p99", 2),
    Column("peak GB", "peak_gb", 2),
)
REFUSED = (Column("video", "video"), Column("character", "character"), Column("why", "refused"))


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown page of all pairs, in the order of `rows`."""
    done = [
        r
        | {
            "reconstruct_fps": r["frames"] / r["reconstruct_s"],
            "contact_percent": 100 * r["contact_share"],
        }
        for r in rows
        if "refused" not in r
    ]
    refused = [r for r in rows if "refused" in r]
    videos = list({r["video"]: r for r in reversed(done)}.values())[::-1]
    characters = list({r["character"]: r for r in reversed(done)}.values())[::-1]
    parts = [
        "# The main job on real video with real characters\n",
        header(),
        f"{len(done)} of {len(rows)} pairs of {len({r['video'] for r in rows})} videos and "
        f"{len({r['character'] for r in rows})} characters. table.csv holds all numbers.\n",
        "## Videos\n\n" + markdown_table(VIDEOS, videos),
        "## Characters\n\n" + markdown_table(CHARACTERS, characters),
        "## Pairs\n\n" + markdown_table(PAIRS, [*done, *_medians(done)]),
    ]
    if refused:
        parts.append("## Refused\n\n" + markdown_table(REFUSED, refused))
    return "\n".join([*parts, NOTES])


def _medians(done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A last row with the medians of all numbers; none for a single pair."""
    if len(done) < 2:
        return []
    row: dict[str, Any] = {"video": "median of all", "character": ""}
    for column in PAIRS:
        if column.decimals is not None:
            known = [r[column.key] for r in done if r[column.key] == r[column.key]]
            row[column.key] = median(known) if known else None
    return [row]


NOTES = """## What is measured

- Seconds are wall clock. "All stages" counts every stage once for the pair, with reading and
  writing, without the start of Python; every video is reconstructed once and every character
  registered once. Each piece runs in a process of its own; peak memory is that of the largest.
- 2D: mean distance of the reprojected body landmarks (no hands, no face) after smoothing from
  detections with confidence above 0.5, weighted by it; height is the median height of the
  reprojected body in the image.
- Foot-slide: mean horizontal movement a frame of the character's sole vertices (lowest 2 % of its
  height at rest) while they are within 3 cm of the floor (scaled by height over 1.75 m), the floor
  being the motion's own (10th percentile over frames of the lowest sole vertex). Feet that roll or
  swing past just above the floor count too, so the mean of a true walk is not 0; the median says
  more about feet that stand. Where the camera pans, the world moves with it. "In contact" is the
  share of feet and steps.
- Stretch: max(r, 1/r) of every edge's posed to rest length r, over all edges and frames; edges
  below 0.1 mm are left out.
- Joints and surface off: mean and median distances of the fitted body from the joints seen on the
  character and from its surface; a character with its own rig is not fitted, and its joints are
  compared with the body's.
"""
