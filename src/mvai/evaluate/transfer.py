"""Methods of transfer side by side: against exact truth, and by what is wrong with the surface.

Every method and character runs in a process of its own, so that its peak memory is its own.
What is finished is kept, and the same command goes on from there.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib import import_module
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
from mvai.evaluate.transfer_truth import acted, read_actions, truth_errors
from mvai.evaluate.work import isolated, kept, peak_memory_gb, work_folder, write_text
from mvai.io.atomic import make_folder
from mvai.io.characters import read_character
from mvai.io.fingerprint import file_sha256
from mvai.progress import Report, Silent, Stopwatch
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
        MvaiError: the data lack something, or a place cannot be written to.
    """
    shared = sorted(data.glob(SHARED_RIG))
    cast = sorted(p for p in data.glob(CHARACTERS) if not only or p.stem in only)
    if not shared or not cast or not (data / ACTIONS).exists():
        raise MvaiError(f"{data}: it must hold {SHARED_RIG}, {CHARACTERS} and {ACTIONS}.")
    work = work_folder(work)
    make_folder(output)
    truth: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    with report.stage("against truth") as progress:
        done, total = 0, sum(len(_variants(m)) for m in methods)
        for method in methods:
            for variant in _variants(method):
                some = "_".join(("", *sorted(actions)))
                piece = kept(
                    work, f"truth_{method}_{variant}{some}.json",
                    lambda m=method, v=variant: _unless_it_fails(
                        truth_piece, m, v, shared, data, actions
                    ),
                )  # fmt: skip
                truth += piece.get("rows", [])
                if "refused" in piece:
                    rows.append(
                        {"method": method, "character": "shared rig", "refused": piece["refused"]}
                    )
                done += 1
                progress(done, total)
    joints: list[dict[str, Any]] = []
    for path in sorted(data.glob(RIGGED)) if "rig" in methods else ():
        name = f"joints_{path.stem}_{file_sha256(path)[:8]}.json"
        joints += kept(work, name, lambda p=path: _unless_it_fails(joint_piece, p)).get("rows", [])
    with report.stage("characters") as progress:
        for method in methods:
            for path in cast:
                name = f"{method}_{path.stem}_{file_sha256(path)[:8]}.json"
                piece = kept(
                    work, name,
                    lambda m=method, p=path: _unless_it_fails(character_piece, m, p, data),
                )  # fmt: skip
                rows += piece.get(
                    "rows",
                    [{"method": method, "character": path.stem, "refused": piece.get("refused")}],
                )
                progress(len(rows), len(methods) * len(cast) * 4)
    write_text(output / "truth.csv", csv_text(truth))
    write_text(output / "characters.csv", csv_text(rows))
    if joints:
        write_text(output / "joints.csv", csv_text(joints))
    text = page(truth, rows, joints)
    write_text(output / "table.md", text)
    return text


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
    known = [a for a in read_actions(data / ACTIONS) if a.name not in SKIPPED_ACTIONS]
    missing = set(actions) - {a.name for a in known}
    if missing:
        raise MvaiError(
            f"{', '.join(sorted(missing))}: no such action; choose from "
            f"{', '.join(a.name for a in known)}."
        )
    config = pipeline.configured("transfer", method)
    known_settings = {f.name for f in fields(config)}
    # The truth copies the turns of bones; its hands touch and avoid nothing.
    config = replace(config, **{n: False for n in CONTACT if n in known_settings})
    if variant == "registered" and "ignore_rig" in known_settings:
        config = replace(config, ignore_rig=True)
    characters = [read_character(p) for p in shared]
    registered: list[Any] = []
    for c in characters:
        try:
            registered.append(pipeline.register(_plain(c, variant), config, Stopwatch(Silent())))
        except MvaiError as error:
            registered.append(error)
    rows = []
    for action in known:
        if actions and action.name not in actions:
            continue
        played = [acted(c, action)[0] for c in characters]
        # Where feet are planted, neighbouring frames count; all others are read one by one.
        every = EVERY
        if "lock_feet" not in known_settings:
            played = [replace(p, vertices=p.vertices[::EVERY]) for p in played]
            every = 1
        for a, source in enumerate(characters):
            for b, target in enumerate(characters):
                if a == b:
                    continue
                row = {
                    "method": method, "variant": variant, "source": source.name,
                    "target": target.name, "action": action.name,
                }  # fmt: skip
                refused = [r for r in (registered[a], registered[b]) if isinstance(r, MvaiError)]
                if refused:
                    rows.append(row | {"refused": str(refused[0])})
                    continue
                made = driven(registered[b], played[a], config, registered[a])
                looked_at = list(range(0, made.frames, every))
                assert target.skin is not None
                height = float(np.ptp(target.mesh.vertices[:, 1]))
                rows.append(
                    row
                    | truth_errors(
                        posed_vertices(made, looked_at), played[b].vertices[looked_at],
                        target.skin, height,
                    )
                )  # fmt: skip
    return {"rows": rows, "peak_gb": peak_memory_gb()}


def _plain(character: Character, variant: str) -> Character:
    """The character without its rig, unless that is what is measured."""
    return character if variant == "rig" else replace(character, skin=None)


def driven(registration: Any, sequence: MeshSequence, config: Any, source: Any = None) -> Animation:
    """Drives a character; methods that need it are told how the source looks at rest."""
    module = import_module(type(config).__module__)
    if source is not None and "source" in inspect.signature(module.drive).parameters:
        return module.drive(registration, sequence, config, source)
    return module.drive(registration, sequence, config)


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
        made = driven(registration, sequence, config)
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
