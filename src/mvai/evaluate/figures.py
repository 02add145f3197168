"""The paper's Figures 6 and 7 on the benchmark: strips of meshes, and bars for every video."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mvai.body.anny import anny_body
from mvai.evaluate.labelled_clips import LabelledSequence, labelled_sequences
from mvai.evaluate.metrics import accel
from mvai.evaluate.table1 import FRAMES
from mvai.io.atomic import written_whole
from mvai.io.render import Drawable, Renderer
from mvai.progress import Report
from mvai.smooth import method
from mvai.train.smoothing_clips import JOINTS
from mvai.types import MeshSequence

SHOWN = 8
"""Frames of a strip."""
TILE_PX = 220
GREY = (0.93, 0.93, 0.93)

Picture = UInt8[np.ndarray, "h w 3"]


def figure7(
    data: Path,
    output: Path,
    work: Path,
    report: Report,
    backbones: Sequence[str],
    smoother: str,
) -> str:
    """Per video, how much the smoother lowers the MPJPE of each backbone, as bars.

    Args:
        data: folder of the benchmark, reconstructed, or of Human3.6M.
        output: PNG file to write.
        work: folder in which reconstructions of Human3.6M are kept.

    Raises:
        MvaiError: a backbone's reconstructions are missing.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    smooth = method(smoother)()
    figure, axes = pyplot.subplots(
        len(backbones), 1, figsize=(10, 2.6 * len(backbones)), squeeze=False
    )
    lines = []
    for axis, backbone in zip(axes[:, 0], backbones, strict=True):
        gains = []
        with report.stage(f"figure 7, {backbone}") as progress:
            for done, clip in enumerate(labelled_sequences(data, backbone, work)):
                gains.append(clip.error_mm(clip.raw) - clip.error_mm(smooth.smooth(clip.raw)))
                progress(done + 1, None)
        axis.bar(range(len(gains)), gains, color=["C1" if g > 0 else "C0" for g in gains])
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"{backbone}: MPJPE lowered by {smoother} (mm)")
        axis.set_xlabel("video")
        better = sum(g > 0 for g in gains)
        lines.append(f"{backbone}: better in {better} of {len(gains)} videos, "
                     f"by {np.mean(gains):.1f} mm in the mean.")  # fmt: skip
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    pyplot.close(figure)
    with written_whole(output) as temporary:
        temporary.write_bytes(picture.getvalue())
    return "\n".join(lines)


def figure6(
    data: Path, output: Path, work: Path, report: Report, backbone: str, smoother: str
) -> str:
    """Strips of a test video that shakes neither most nor least (median Accel of the unsmoothed
    joints): frames, the backbone's meshes, smoothed meshes.

    Args:
        data: folder of the benchmark, reconstructed, or of Human3.6M.
        output: PNG file to write.
        work: folder in which reconstructions of Human3.6M are kept.

    Raises:
        MvaiError: the backbone's reconstructions are missing.
    """
    from PIL import Image

    body = anny_body()

    def shaking(clip: LabelledSequence) -> float:
        return accel(body.regress(JOINTS, clip.raw.vertices).astype(np.float64))

    with report.stage("figure 6"):
        clips = sorted(labelled_sequences(data, backbone, work), key=shaking)
        clip = clips[len(clips) // 2]
        smoothed = method(smoother)().smooth(clip.raw)
        first = max(0, (clip.raw.frames - FRAMES) // 2)
        shown = [first + i * FRAMES // SHOWN for i in range(min(SHOWN, clip.raw.frames))]
        rows = [clip.pictures(shown), strip(clip.raw, shown), strip(smoothed, shown)]
    pictures = np.concatenate([np.concatenate([_tile(p) for p in row], 1) for row in rows])
    with written_whole(output) as temporary:
        Image.fromarray(pictures).save(temporary, format="png")
    return f"{clip.name}: every {FRAMES // SHOWN}th frame; video, {backbone}, {smoother}."


def strip(sequence: MeshSequence, frames: Sequence[int]) -> list[Picture]:
    """The mesh in some frames as the camera sees it."""
    assert sequence.camera is not None
    with Renderer() as renderer:
        return [
            renderer.render_smooth(
                [Drawable(sequence.vertices[f], sequence.faces)], sequence.camera.at(f), GREY
            )
            for f in frames
        ]


def _tile(picture: Picture) -> Picture:
    from PIL import Image

    height, width = picture.shape[:2]
    size = (max(1, round(width * TILE_PX / height)), TILE_PX)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
