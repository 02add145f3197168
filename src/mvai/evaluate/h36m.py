"""Human3.6M, for a user who has it: the paper's subjects, sampling, clip and measure."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mvai.body.anny import anny_body
from mvai.evaluate.metrics import pose_errors
from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, markdown_table
from mvai.evaluate.work import kept, work_folder, write_text
from mvai.io.h36m import POINTS, TESTING, H36mView, middle_clip, read_h36m, video_of
from mvai.io.video import Video, open_video
from mvai.progress import Report
from mvai.types import MeshSequence, MvaiError

FRAMES = 16
"""T of the paper."""
Root = Literal["pelvis", "hips"]
ROOTS: Mapping[str, tuple[int, int]] = {
    "pelvis": (0, 0),
    "hips": (POINTS.index("left_hip"), POINTS.index("right_hip")),
}
"""GraphCMR's root is the pelvis joint, VIBE's the middle of the hips."""
OURS = ("mid_hip", *POINTS[1:])
"""The body's regressed points that stand for `POINTS`."""

Reconstruct = Callable[[Video], MeshSequence]
Smooth = Callable[[MeshSequence], MeshSequence]


def clip_video(folder: Path, view: H36mView, rate: float, work: Path) -> Video:
    """The pictures of a view as a video of their own.

    Raises:
        MvaiError: pictures are missing.
    """
    if view.images is not None:
        for i, image in enumerate(view.images):
            if not image.is_file():
                raise MvaiError(f"{image}: this image is missing; unpack the data set's images.")
            shutil.copyfile(image, work / f"{i:04d}{image.suffix.lower()}")
        return open_video(work, folder_fps=rate)
    from PIL import Image

    frames = open_video(video_of(folder, view)).read([int(n) for n in view.numbers])
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(work / f"{i:04d}.png")
    return open_video(work, folder_fps=rate)


def measures(
    sequence: MeshSequence, truth: Float[np.ndarray, "frames 15 3"], root: Root
) -> dict[str, float]:
    """MPJPE, PA-MPJPE and Accel of a reconstructed clip over the 14 joints, in millimetres.

    Raises:
        MvaiError: the sequence is not in the body's topology.
    """
    body = anny_body()
    if sequence.topology != body.topology or sequence.camera is None:
        raise MvaiError(
            f"A reconstruction in the topology {sequence.topology or 'unknown'!r} cannot be "
            "measured here: it needs our body's and a camera."
        )
    T = sequence.camera.T_camera_world
    points = body.regress(OURS, sequence.vertices).astype(np.float64)
    points = points @ T[:3, :3].T + T[:3, 3]
    return pose_errors(points, truth, ROOTS[root], first=1)


def evaluate_h36m(
    data: Path,
    output: Path,
    work: Path,
    backbones: Mapping[str, Reconstruct],
    smoothers: Mapping[str, Smooth],
    report: Report,
    rate: float = 25.0,
    root: Root = "pelvis",
    limit: int | None = None,
) -> str:
    """Measures every test video's middle clip and writes the page.

    Args:
        data: the data set's folder.
        output: Markdown file to write.
        work: folder in which finished clips are kept.
        backbones: reconstructions by name.
        smoothers: by name; one is usually "none".
        rate: frames a second: 25, or 2, which is every 25th frame; the paper's 1/25 can mean both.
        limit: at most so many clips.

    Raises:
        MvaiError: the data cannot be read, pictures are missing, or no clip is long enough.
    """
    views = [v for v in read_h36m(data) if v.points.shape[0]]
    clips = [c for v in views if (c := middle_clip(v, rate, FRAMES)) is not None][:limit]
    if not clips:
        raise MvaiError(
            f"{data}: no video has {FRAMES} frames at {rate:g} frames a second; choose a higher "
            "rate."
        )
    work = work_folder(work)
    rows: list[dict[str, Any]] = []
    with report.stage("Human3.6M") as progress:
        for done, clip in enumerate(clips):
            progress(done, len(clips))
            for backbone, reconstruct in backbones.items():
                name = f"{clip.name} {backbone} {rate:g} {root} {' '.join(smoothers)}.json"

                def make(
                    clip: H36mView = clip, reconstruct: Reconstruct = reconstruct
                ) -> dict[str, Any]:
                    with tempfile.TemporaryDirectory() as folder:
                        video = clip_video(data, clip, rate, Path(folder))
                        sequence = reconstruct(video)
                    return {
                        s: measures(f(sequence), clip.points, root) for s, f in smoothers.items()
                    }

                for smoother, result in kept(work, name.replace("/", "_"), make).items():
                    rows.append(
                        {"clip": clip.name, "backbone": backbone, "smoother": smoother} | result
                    )
        progress(len(clips), len(clips))
    means = summary(rows, list(backbones), list(smoothers))
    write_text(output, page(means, len(clips), len(views) - len(clips), rate, root))
    return markdown_table(COLUMNS, means)


def summary(
    rows: Sequence[Mapping[str, Any]], backbones: Sequence[str], smoothers: Sequence[str]
) -> list[dict[str, Any]]:
    """Means over clips."""
    keys = ("mpjpe_mm", "pa_mpjpe_mm", "accel_mm", "accel_error_mm")
    out = []
    for b in backbones:
        for s in smoothers:
            own = [r for r in rows if r["backbone"] == b and r["smoother"] == s]
            out.append(
                {"backbone": b, "smoother": s}
                | {k: float(np.mean([r[k] for r in own])) for k in keys}
            )
    return out


COLUMNS = (
    Column("backbone", "backbone"),
    Column("smoother", "smoother"),
    Column("MPJPE mm", "mpjpe_mm", 1),
    Column("PA-MPJPE mm", "pa_mpjpe_mm", 1),
    Column("Accel", "accel_mm", 1),
    Column("Accel error", "accel_error_mm", 1),
)


def page(rows: Sequence[Mapping[str, Any]], clips: int, short: int, rate: float, root: Root) -> str:
    """The Markdown page."""
    roots = {
        "pelvis": "the pelvis joint (GraphCMR's evaluation)",
        "hips": "the middle of the hips (VIBE's)",
    }
    joints = ", ".join(n.replace("_", " ") for n in POINTS[1:])
    left_out = f" {short} were too short and are left out." if short else ""
    return f"""# Human3.6M

{header()}
{clips} clips of the subjects {" and ".join(TESTING)}: the middle {FRAMES} frames of every video at
{rate:g} frames a second.{left_out}

{markdown_table(COLUMNS, list(rows))}
- MPJPE: mean over frames and 14 joints ({joints}), relative to {roots[root]}, in camera axes,
  without scale or rotation; PA-MPJPE after the best similarity of every frame.
- Accel: mean norm of the second difference of the root-relative joints, mm/frame²; Accel error: of
  its difference to the truth.
- The joints of our body are regressed from its vertices by its own regressor, which is not the one
  that GraphCMR gives for SMPL: a constant difference of one or two centimetres in hips, neck and
  top of the head counts as error.
- The paper's "sampling frequency of 1/25" of 50 frames a second is 2 frames a second if it means
  every 25th frame, and 25 if it means 25 a second.
"""
