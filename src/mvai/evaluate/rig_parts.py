"""Parts of method `rig` with and without: touching hands, planted feet, twist bones.

Every character runs in a process of its own; what is finished is kept.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mvai import pipeline
from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.body.skinning import posed_vertices
from mvai.evaluate.character_measures import planted_in_source, planted_slide
from mvai.evaluate.metrics import edge_stretch, edges_of
from mvai.evaluate.provenance import header
from mvai.evaluate.rig_measures import CLOSE, air_m, arms_inside, thinnest, touch_gaps_m
from mvai.evaluate.rig_poses import TOUCHING, touching, turned
from mvai.evaluate.tables import Column, csv_text, markdown_table
from mvai.evaluate.transfer import CAPTURES, characters_in
from mvai.evaluate.transfer_measures import enclosed_volume, inverted_faces
from mvai.evaluate.transfer_motions import motions
from mvai.evaluate.transfer_page import grouped
from mvai.evaluate.work import isolated, kept, work_folder, write_text
from mvai.geometry.rigid import transforms
from mvai.io.characters import read_character
from mvai.io.fingerprint import file_sha256
from mvai.progress import Report, Silent, Stopwatch
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_drive import ADULT_HEIGHT_M, drive
from mvai.transfer.rig_points import point_set, source_points
from mvai.transfer.rig_register import Registration
from mvai.transfer.rig_source import body_motion
from mvai.transfer.rig_touches import Touches, touches
from mvai.types import Mesh, MeshSequence, MvaiError, Skin

PLAIN = RigTransfer(
    ignore_rig=True, find_floor=False, lock_feet=False, keep_touch=False, avoid_body=False
)
WITH, WITHOUT = "with", "without"
HELD = (-4, 0, 4)
"""Frames about the middle of a touching pose in which all vertices are looked at."""
LIMB_ENDS = {"ForeArm": "Hand", "Arm": "ForeArm", "UpLeg": "Leg"}

HANDS = (
    Column("gap of touching places, cm", "gap_cm", 1),
    Column("air between, cm", "air_cm", 1),
    Column("hands and forearms inside, %", "inside_percent", 1),
)
FEET = (
    Column("slide where the source stands, mm/frame", "planted_mm", 2),
    Column("95th percentile", "planted_p95_mm", 2),
)
SKIN = (
    Column("edge stretch p99", "stretch_p99", 2),
    Column("p99.9", "stretch_p999", 2),
    Column("faces inverted, %", "inverted_percent", 3),
    Column("thinnest slice", "thinnest", 2),
    Column("volume change, %", "volume_percent", 1),
)


def evaluate_rig(
    data: Path, output: Path, work: Path, report: Report, only: Sequence[str] = ()
) -> str:
    """Measures characters without their rigs; writes the page and the CSV, returns the tables.

    Args:
        data: folder with `identities` and `mocap`.
        output: Markdown file to write.
        work: folder in which finished pieces are kept.
        only: characters by the stem of their file; all when empty.

    Raises:
        MvaiError: the data lack something, or a place cannot be written to.
    """
    cast = characters_in(data, only)
    work = work_folder(work)
    rows: list[dict[str, Any]] = []
    with report.stage("rig") as progress:
        source = kept(work, "source.json", lambda: {"rows": isolated(source_hand_rows)[0]})
        rows += source["rows"]
        for done, path in enumerate(cast):
            progress(done, len(cast))

            def make(path: Path = path) -> dict[str, Any]:
                try:
                    return isolated(character_rows, path, data)[0]
                except MvaiError as error:
                    return {"rows": [], "refused": str(error)}

            piece = kept(work, f"{path.stem}_{file_sha256(path)[:8]}.json", make)
            rows += piece["rows"]
            if "refused" in piece:
                rows.append({"part": "refused", "character": path.stem, "why": piece["refused"]})
        progress(len(cast), len(cast))
    tables = page_tables(rows)
    write_text(output.with_suffix(".csv"), csv_text(rows))
    write_text(output, page(tables))
    return tables


def character_rows(path: Path, data: Path) -> dict[str, Any]:
    """All parts on one character."""
    body, character = anny_body(), read_character(path)
    with tempfile.TemporaryDirectory() as cache:
        # So that the body is looked for once, though the skeleton is made twice.
        os.environ["MVAI_CACHE"] = cache
        made = {
            twist: pipeline.register(
                character, replace(PLAIN, twist_bones=twist), Stopwatch(Silent())
            )
            for twist in (True, False)
        }
    rows = hand_rows(body, made[True])
    rows += feet_rows(body, made[True], motions(data / CAPTURES, body))
    rows += twist_rows(body, made, turned(body))
    return {"rows": [{"part": r.pop("part"), "character": path.stem} | r for r in rows]}


def hand_rows(
    body: LinearBody, registration: Registration, poses: Sequence[str] = tuple(TOUCHING)
) -> list[dict[str, Any]]:
    """Touching poses with and without `keep_touch` and `avoid_body`."""
    rows = []
    points, mesh = point_set(body), registration.character.mesh
    size = float(np.ptp(mesh.vertices[:, 1])) / ADULT_HEIGHT_M
    for pose in poses:
        source = touching(pose, body)
        touch, source_size = source_touches(body, source)
        touched = surely_touching(touch, points.hand, source.frames)
        held = [source.frames // 2 + k for k in HELD]
        for setting, on in ((WITHOUT, False), (WITH, True)):
            made = drive(registration, source, replace(PLAIN, keep_touch=on, avoid_body=on))
            assert made.skin is not None and made.Ts_world_joint is not None
            row: dict[str, Any] = {
                "part": "hands",
                "pose": pose,
                "setting": setting,
                "gap_cm": float("nan"),
            }
            if registration.points is not None:
                Ts = made.Ts_world_joint.astype(float)
                placed, _ = registration.points.posed(made.skin, Ts)
                gaps = touch_gaps_m(touch, points.hand, placed, size / source_size)
                row["gap_cm"] = _mean(100 * gaps / size)
            vertices = posed_vertices(made, held).astype(np.float64)
            row["air_cm"] = _mean(100 * air_m(made.skin, vertices, touched[held]) / size)
            row["inside_percent"] = 100 * float(arms_inside(mesh, made.skin, vertices).mean())
            rows.append(row)
    return rows


def source_hand_rows() -> list[dict[str, Any]]:
    """The touching poses of the source itself, whose hands are in each other or in it, too."""
    body = anny_body()
    J = len(body.joints)
    at = transforms(np.tile(np.eye(3), (J, 1, 1)), body.joint_template.numpy().astype(float))
    skin = Skin(body.joints, body.parents, at, body.weight_indices, body.weights)
    mesh = Mesh(body.template.numpy().astype(np.float64), body.faces)
    rows = []
    for pose in TOUCHING:
        source = touching(pose, body)
        touch, size = source_touches(body, source)
        touched = surely_touching(touch, point_set(body).hand, source.frames)
        held = [source.frames // 2 + k for k in HELD]
        vertices = source.vertices[held].astype(np.float64)
        rows.append(
            {
                "part": "hands", "character": "the source", "pose": pose, "setting": "source",
                "gap_cm": 0.0, "air_cm": _mean(100 * air_m(skin, vertices, touched[held]) / size),
                "inside_percent": 100 * float(arms_inside(mesh, skin, vertices).mean()),
            }
        )  # fmt: skip
    return rows


def source_touches(body: LinearBody, source: MeshSequence) -> tuple[Touches, float]:
    """What touches in a source in the body's topology, and its size relative to an adult."""
    points = point_set(body)
    x, n, size = source_points(points, body, source, body_motion(body, source), None)
    return touches(points, x, n, size), size


def surely_touching(touch: Touches, hand: np.ndarray, frames: int) -> np.ndarray:
    """In which frames the left and the right hand touch (frames, 2)."""
    total = np.stack(
        [np.bincount(touch.frame[hand[touch.hand] == s], touch.weight[hand[touch.hand] == s],
                     frames) for s in (0, 1)], 1,
    )  # fmt: skip
    return total > CLOSE


def feet_rows(
    body: LinearBody, registration: Registration, moving: Mapping[str, MeshSequence]
) -> list[dict[str, Any]]:
    """Captured motions with and without `lock_feet`, beside the source itself."""
    rows = []
    rest = registration.character.mesh.vertices.astype(np.float64)
    for name, source in moving.items():
        planted = planted_in_source(body, source)
        own = body.template.numpy().astype(np.float64)
        seen = {"source": planted_slide(own, source.vertices, planted)}
        for setting, on in ((WITHOUT, False), (WITH, True)):
            config = replace(PLAIN, find_floor=True, lock_feet=on)
            made = posed_vertices(drive(registration, source, config))
            seen[setting] = planted_slide(rest, made, planted)
        rows += [
            {"part": "feet", "pose": name, "setting": s, "planted_mm": mean, "planted_p95_mm": high}
            for s, (mean, high) in seen.items()
        ]
    return rows


def twist_rows(
    body: LinearBody,
    made: Mapping[bool, Registration],
    poses: Mapping[str, tuple[str, MeshSequence]],
) -> list[dict[str, Any]]:
    """Poses that turn skin, without and with twist bones."""
    rows = []
    for pose, (limb, source) in poses.items():
        for on in (False, True):
            registration = made[on]
            mesh = registration.character.mesh
            rest = mesh.vertices.astype(np.float64)
            acting = drive(registration, source, PLAIN)
            assert acting.skin is not None and acting.Ts_world_joint is not None
            posed = posed_vertices(acting).astype(np.float64)
            stretch = edge_stretch(rest, posed, edges_of(mesh.faces))
            p99, p999 = np.percentile(stretch, [99, 99.9])
            volume = enclosed_volume(posed[0], mesh.faces) / enclosed_volume(rest, mesh.faces)
            row: dict[str, Any] = {
                "part": "twist", "pose": pose, "setting": WITH if on else WITHOUT,
                "stretch_p99": float(p99), "stretch_p999": float(p999),
                "inverted_percent": 100 * float(inverted_faces(rest, posed, mesh.faces).mean()),
                "volume_percent": 100 * (volume - 1), "thinnest": float("nan"),
            }  # fmt: skip
            if limb:
                row["thinnest"] = thinnest(
                    rest, posed[0], acting.skin, acting.Ts_world_joint[0], limb, LIMB_ENDS[limb]
                )
            rows.append(row)
    return rows


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def page_tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The three parts: means over characters, and hands and skin by character."""
    blocks = []
    for title, part, measured, keys in (
        ("Hands that touch", "hands", HANDS, ("pose", "character")),
        ("Planted feet", "feet", FEET, ("pose", "character")),
        ("Turned skin", "twist", SKIN, ("pose", "character")),
    ):
        own = [dict(r) for r in rows if r["part"] == part]
        if not own:
            continue
        blocks.append(f"## {title}\n")
        for key in keys:
            columns = (Column(key, key), Column("", "setting"), *measured)
            blocks.append(markdown_table(columns, grouped(own, (key, "setting"))))
    refused = [r for r in rows if r["part"] == "refused"]
    if refused:
        blocks.append("## Refused\n")
        blocks += [f"- {r['character']}: {r['why']}\n" for r in refused]
    return "\n".join(blocks)


def page(tables: str) -> str:
    """The Markdown page."""
    return f"""# Parts of method rig, with and without

{header()}
Characters without their rigs; every table is a mean over characters, then over poses. "with" and
"without": `keep_touch` and `avoid_body` for hands, `lock_feet` for feet, `twist_bones` for skin.

{tables}
- Hands: five poses keyframed on the mean body (`evaluate/rig_poses.py`). Gap: how far the places of
  hand and body that touch in the source are from where they should be, in frames in which the hand
  surely touches; pairs are those that the method reads, so this says how well it holds them. Air:
  distance of the hand from the nearest vertex of all but its own arm in the middle of the pose,
  whatever the places are. Inside: share of vertices of hands and forearms inside the rest of the
  body that are outside at rest (winding numbers), likewise; in the source itself hands are a little
  in each other or in it. Lengths are scaled to an adult's.
- Feet: how far heel and toes move along the ground while the source's stand (`planted_slide`).
  Contact is read as the lock reads it, so this says how well it holds, not whether contacts are
  found rightly. "source": the moving body itself.
- Skin: single poses. Edge stretch is max(r, 1/r). Thinnest slice: width of the thinnest of ten
  slices of the limb that is turned, relative to its width at rest, the worse side; 0 is skin wrung
  like the paper of a sweet.
"""
