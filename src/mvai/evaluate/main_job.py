"""Every video with every character: what the main job costs and how good its result is.

Each video is reconstructed once and each character registered once, by the pipeline's own pieces;
every piece runs in a process of its own, so that its peak memory is its own. What is finished is
kept, and the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mvai import pipeline
from mvai.evaluate.character_measures import measure_animation
from mvai.evaluate.main_job_page import page
from mvai.evaluate.reprojection import reprojection
from mvai.evaluate.tables import csv_text
from mvai.evaluate.work import isolated, kept, work_folder, write_text
from mvai.io.archive import Archive, read_archive, write_archive
from mvai.io.atomic import make_folder
from mvai.io.characters import READERS, read_character
from mvai.io.fingerprint import file_sha256
from mvai.io.gltf_write import write_glb
from mvai.io.video import open_video
from mvai.progress import Report, Silent, Stopwatch
from mvai.types import MvaiError

CHARACTERS = (
    "rest_obj/makehuman_man_elegantsuit.obj",
    "rest_obj/makehuman_woman_sportsuit.obj",
    "rest_obj/rocketbox_Female_Adult_09.obj",
    "rest_obj/rocketbox_Male_Adult_04.obj",
    "orig/quaternius_modular_men_King.glb",
)
"""Clothed characters of human proportions, in several parts: A-poses and a T-pose, four without a
rig and one with its own."""
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".gif")

WriteSheet = Callable[[Archive, Path], None]
"""Writes the contact sheet of an archive; a module's function, since it runs in other processes."""


def chosen_videos(path: Path) -> list[Path]:
    """The videos in a folder, in order of their names; or the one video.

    Raises:
        MvaiError: there are none, or the one is no video.
    """
    if not path.is_dir():
        open_video(path)
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise MvaiError(f"{path}: the folder has no videos; name the one that has.")
    return found


def chosen_characters(paths: list[Path]) -> list[Path]:
    """Files as they are; of a folder `CHARACTERS`, or all its characters if it has none of them.

    Raises:
        MvaiError: a folder has none, or a file is no character.
    """
    out = []
    for path in paths:
        if not path.is_dir():
            read_character(path)
            out.append(path)
            continue
        known = [path / c for c in CHARACTERS if (path / c).is_file()]
        found = known or sorted(
            p for p in path.iterdir() if p.suffix.lower().lstrip(".") in READERS
        )
        if not found:
            raise MvaiError(f"{path}: the folder has no characters; name the one that has.")
        out += found
    return out


def evaluate_main_job(
    videos: Path,
    identities: list[Path],
    output: Path,
    work: Path,
    report: Report,
    write_sheet: WriteSheet | None = None,
) -> str:
    """Runs all pairs and writes table.md and table.csv; returns what is in table.md.

    A pair that the pipeline refuses stands in the table with the reason.

    Raises:
        MvaiError: no videos or characters, or a place that cannot be written to.
    """
    clips, characters = chosen_videos(videos), chosen_characters(identities)
    work = work_folder(work)
    make_folder(output)
    sheets = output / "sheets" if write_sheet else None
    if sheets is not None:
        make_folder(sheets)
    bodies = {}
    with report.stage("videos") as progress:
        for i, clip in enumerate(clips):
            bodies[clip] = unless_it_fails(body_row, work, clip)
            progress(i + 1, len(clips))
    rows = []
    with report.stage("pairs") as progress:
        for character in characters:
            cast = Cast(work, character)
            for clip in clips:
                row = unless_it_fails(pair_row, cast, clip, bodies[clip], sheets, write_sheet)
                rows.append({"video": clip.stem, "character": character.stem} | row)
                progress(len(rows), len(clips) * len(characters))
    rows.sort(key=lambda row: (row["video"], [c.stem for c in characters].index(row["character"])))
    write_text(output / "table.csv", csv_text(rows))
    text = page(rows)
    write_text(output / "table.md", text)
    return text


def unless_it_fails(make: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """A row, or one that says what went wrong, which is not kept: a fault in one pair must not
    cost the others of a run of an hour."""
    try:
        return make(*arguments)
    except MvaiError:
        raise
    except Exception as error:
        return {"refused": f"failed with {type(error).__name__}: {error}"}


# --- videos -------------------------------------------------------------------------------------


def body_row(work: Path, clip: Path) -> dict[str, Any]:
    """Measures of a video's reconstruction, whose archive is kept beside them."""
    stem = f"{clip.stem}_{file_sha256(clip)[:8]}"

    def make() -> dict[str, Any]:
        try:
            row, peak_gb = isolated(reconstruct, clip, work / f"{stem}.npz")
        except MvaiError as error:
            return {"video": clip.stem, "refused": str(error)}
        return row | {"peak_gb": peak_gb, "archive": f"{stem}.npz"}

    return kept(work, f"{stem}.json", make)


def reconstruct(clip: Path, archive: Path) -> dict[str, Any]:
    """Detects, reconstructs and smooths with the default methods, and measures the result."""
    watch = Stopwatch(Silent())
    with watch.stage("read video"):
        video = open_video(clip)
    methods = pipeline.Methods(
        **{s: pipeline.configured(s, name) for s, name in pipeline.DEFAULTS.items()}
    )
    done = pipeline.reconstruct_video(video, methods, watch)
    write_archive(archive, done)
    assert done.sequence is not None and done.keypoints is not None
    mean_px, percent = reprojection(done.sequence, done.keypoints)
    return {
        "video": clip.stem,
        "frames": done.sequence.frames,
        "video_fps": done.sequence.fps,
        "size": f"{video.width}x{video.height}",
        "person_in": int(done.keypoints.seen().sum()),
        **{f"{name.replace(' ', '_')}_s": s for name, s in watch.seconds.items()},
        "residual_px": mean_px,
        "residual_percent": percent,
    }


# --- characters and pairs -----------------------------------------------------------------------


class Cast:
    """A character that is registered at most once, when a pair first needs it."""

    def __init__(self, work: Path, path: Path) -> None:
        self.work, self.path = work, path
        self.stem = f"{path.stem}_{file_sha256(path)[:8]}"
        self.registration: Any = None

    def row(self) -> dict[str, Any]:
        """Measures of the registration, made now if they are not kept."""
        return kept(self.work, f"{self.stem}.json", self._register)

    def registered(self) -> Any:
        """The registration itself, made again when only its measures are kept."""
        if self.registration is None:
            self._register()
        return self.registration

    def _register(self) -> dict[str, Any]:
        try:
            (self.registration, row), peak_gb = isolated(register, self.path)
        except MvaiError as error:
            return {"character": self.path.stem, "refused": str(error)}
        return row | {"fit_peak_gb": peak_gb}


def register(path: Path) -> tuple[Any, dict[str, Any]]:
    """Reads a character and fits the skeleton."""
    watch = Stopwatch(Silent())
    config = pipeline.configured("transfer", pipeline.DEFAULTS["transfer"])
    with watch.stage("read character"):
        character = read_character(path)
    registration = pipeline.register(character, config, watch)
    return registration, {
        "character": path.stem,
        "file": path.suffix,
        "vertices": sum(len(p.vertices) for p in character.parts),
        "parts": len(character.parts),
        "rig": "own" if np.isnan(registration.surface_error_m) else "fitted",
        **{f"{name.replace(' ', '_')}_s": s for name, s in watch.seconds.items()},
        "joint_error_mm": 1000 * registration.keypoint_error_m,
        "surface_error_mm": 1000 * registration.surface_error_m,
    }


def pair_row(
    cast: Cast,
    clip: Path,
    body: dict[str, Any],
    sheets: Path | None,
    write_sheet: WriteSheet | None,
) -> dict[str, Any]:
    """All measures of a pair."""
    character = cast.row()
    for piece in (body, character):
        if "refused" in piece:
            return {"refused": piece["refused"]}
    stem = f"{body['archive'].removesuffix('.npz')}__{cast.stem}"
    sheet = None if sheets is None else sheets / f"{clip.stem}__{cast.path.stem}.png"

    def make() -> dict[str, Any]:
        try:
            made, peak_gb = isolated(
                transfer, cast.work / body["archive"], cast.registered(),
                cast.work / f"{stem}.glb", sheet, write_sheet,
            )  # fmt: skip
        except MvaiError as error:
            return {"refused": str(error)}
        return made | {"transfer_peak_gb": peak_gb}

    if sheet is not None and not sheet.exists():
        (cast.work / f"{stem}.json").unlink(missing_ok=True)
    row = {k: v for k, v in (body | character).items() if k != "archive"} | kept(
        cast.work, f"{stem}.json", make
    )
    if "refused" not in row:
        # As `mvai imitate` does it: everything once for this pair.
        seconds = sum(v for k, v in row.items() if k.endswith("_s"))
        row |= {
            "total_s": seconds,
            "frames_per_s": row["frames"] / seconds,
            "peak_gb": max(row[k] for k in ("peak_gb", "fit_peak_gb", "transfer_peak_gb")),
        }
    return row


def transfer(
    archive: Path,
    registration: Any,
    glb: Path,
    sheet: Path | None,
    write_sheet: WriteSheet | None,
) -> dict[str, Any]:
    """Drives the character, writes the GLB and the contact sheet, and measures the motion."""
    watch = Stopwatch(Silent())
    config = pipeline.configured("transfer", pipeline.DEFAULTS["transfer"])
    done = pipeline.transfer_archive(read_archive(archive), registration, config, watch)
    assert done.animation is not None
    with watch.stage("write"):
        write_glb(done.animation, glb, {})
    if sheet is not None and write_sheet is not None:
        write_sheet(done, sheet)
    seconds = {f"{name.replace(' ', '_')}_s": s for name, s in watch.seconds.items()}
    return seconds | measure_animation(done.animation)
