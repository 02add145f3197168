"""One-camera reconstruction against a reference from several cameras.

The clip and its reference: one man for 1.67 s at 60 frames a second, seen by four calibrated
cameras, markerless triangulation good to 2-3 cm (pose2sim, Pagnon et al., 2022). Differences
below 15 mm mean nothing, and nothing may be tuned to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from mvai.benchmark.reconstructions import BACKBONES
from mvai.detect import Detector
from mvai.detect.mediapipe_holistic import MediapipeHolistic, points_from
from mvai.detect.openpose import OpenPoseFiles
from mvai.detect.quiet import quiet_graph
from mvai.evaluate.metrics import accel, pose_errors, root_relative, swapped_sides
from mvai.evaluate.provenance import header
from mvai.evaluate.reprojection import body_of, reprojection
from mvai.evaluate.table1 import smoothers_for
from mvai.evaluate.tables import Column, markdown_table
from mvai.evaluate.work import kept, work_folder, write_text
from mvai.io.archive import Archive, StageRecord, read_archive, write_archive
from mvai.io.fingerprint import file_sha256
from mvai.io.video import Video, open_video
from mvai.pipeline import DEFAULTS, configured
from mvai.progress import Report
from mvai.types import Keypoints, MeshSequence, MvaiError
from mvai.types.names import BODY_KEYPOINTS, mirrored

CAMERAS = ("cam01", "cam03")
LIMBS = {"arms": ("shoulder", "elbow", "wrist"), "legs": ("hip", "knee", "ankle")}
JOINTS = tuple(f"{s}_{p}" for ps in LIMBS.values() for p in ps for s in ("left", "right"))
"""The 12 joints that the reference, the body and MediaPipe all have."""
HIPS = JOINTS.index("left_hip"), JOINTS.index("right_hip")
MIRROR = np.array([JOINTS.index(mirrored(n)) for n in JOINTS])

Points = Float[np.ndarray, "frames 12 3"]


@dataclass(frozen=True)
class Clip:
    """A camera's video with what the reference says about it."""

    camera: str
    video: Path
    openpose: Path
    reference: Points
    """`JOINTS` in metres in camera axes (x right, y down, z forward)."""


def read_clip(folder: Path, camera: str) -> Clip:
    """One camera of the data set.

    Raises:
        MvaiError: a file is missing, or not what it should be.
    """
    folder = folder / "pose2sim_single" if (folder / "pose2sim_single").is_dir() else folder
    path = folder / "gt_derived.npz"
    try:
        with np.load(path, allow_pickle=False) as data:
            names = [str(n) for n in data["names"]]
            points = data[f"Xcam{int(camera[-2:])}"]
        # The file's names are those of OpenSim markers: RHip, LShoulder.
        columns = [names.index(n[0].upper() + n.split("_")[1].capitalize()) for n in JOINTS]
    except (OSError, KeyError, ValueError) as error:
        raise MvaiError(
            f"{path}: the 3D reference cannot be read; --data is the folder of the clip that has "
            "gt_derived.npz in it."
        ) from error
    return Clip(
        camera,
        folder / f"{camera}.mp4",
        folder / "openpose_json" / camera,
        points[:, columns].astype(np.float64),
    )


def measures(predicted: Points, reference: Points) -> dict[str, Any]:
    """Errors of predicted joints in camera axes; frames of NaN were not seen."""
    frames = min(len(predicted), len(reference))
    predicted, reference = predicted[:frames], reference[:frames]
    p, q = root_relative(predicted, HIPS), root_relative(reference, HIPS)
    seen = np.isfinite(p).all(axis=(1, 2))
    out: dict[str, Any] = {"frames": int(seen.sum())}
    out |= pose_errors(predicted, reference, HIPS)
    for limbs, parts in LIMBS.items():
        own = [i for i, n in enumerate(JOINTS) if n.endswith(parts)]
        twin = np.array([own.index(MIRROR[i]) for i in own])
        out[f"swapped_{limbs}"] = int(swapped_sides(p[seen][:, own], q[seen][:, own], twin).sum())
    return out


def joints_of(sequence: MeshSequence) -> Points:
    """`JOINTS` of a sequence in the axes of its camera."""
    assert sequence.camera is not None
    points = body_of(sequence).regress(JOINTS, sequence.vertices).astype(np.float64)
    T = sequence.camera.T_camera_world
    return points @ T[:3, :3].T + T[:3, 3]


def plain_mediapipe(video: Video) -> Points:
    """The metric landmarks of MediaPipe Holistic with its own defaults, frame after frame."""

    def make() -> Any:
        from mediapipe.python.solutions.holistic import Holistic

        return Holistic(model_complexity=1)

    rows = []
    with quiet_graph(make) as process:
        for image in video.iterate():
            points = points_from(process(image), video.width, video.height)
            rows.append(points[: len(BODY_KEYPOINTS), 2:5])
    return np.stack(rows)[:, [BODY_KEYPOINTS.index(n) for n in JOINTS]]


def reconstruction(keypoints: Keypoints, backbone: str) -> Archive:
    """The body that shows some key-points, with the time it took to find."""
    method = BACKBONES[backbone]()
    start = time.perf_counter()
    raw = method.reconstruct(keypoints)
    seconds = time.perf_counter() - start
    record = StageRecord(backbone, asdict(cast(Any, method)), "", seconds)
    return Archive(keypoints=keypoints, raw=raw, stages={"reconstruct": record})


def fit_rows(
    work: Path, clip: Clip, source: str, detect: Callable[[Video], Keypoints], report: Report
) -> list[dict[str, Any]]:
    """Every backbone on the key-points of one detector, after every smoother."""
    video = open_video(clip.video)
    keypoints: Keypoints | None = None
    rows = []
    for backbone in BACKBONES:
        path = work / f"{clip.camera}_{source}_{backbone}.npz"
        if not path.exists():
            if keypoints is None:
                keypoints = detect(video)
            with report.stage(f"{clip.camera} {source} {backbone}"):
                write_archive(path, reconstruction(keypoints, backbone))
        done = read_archive(path)
        assert done.raw is not None and done.keypoints is not None
        for name, smoother in smoothers_for(backbone).items():
            sequence = smoother.smooth(done.raw)
            row = measures(joints_of(sequence), clip.reference)
            row |= {"method": backbone, "smoother": name}
            if name == "none":
                row["fit_fps"] = done.raw.frames / done.stages["reconstruct"].seconds
                pixels, percent = reprojection(sequence, done.keypoints)
                row |= {"residual_px": pixels, "residual_percent": percent}
            rows.append(row)
    return rows


def evaluate_videos3d(
    data: Path, output: Path, work: Path, report: Report, others: Sequence[str] = ()
) -> str:
    """Measures all rows and writes the page.

    Args:
        data: folder with the clip.
        output: Markdown file to write.
        work: folder in which finished reconstructions are kept.
        report: hears of progress.
        others: more detectors, by name or file as `mvai imitate --detector` takes them.

    Raises:
        MvaiError: the data cannot be read or the page cannot be written.
    """
    detectors: dict[str, Detector] = {"pixels": MediapipeHolistic()}
    detectors |= {f"pixels, {Path(o).name}": configured("detect", o) for o in others}
    work = work_folder(work)
    rows: list[dict[str, Any]] = []
    for camera in CAMERAS:
        clip = read_clip(data, camera)
        fingerprint = file_sha256(clip.video)[:8]

        def files(source: Video, clip: Clip = clip) -> Keypoints:
            return OpenPoseFiles(clip.openpose).detect(source)

        def plain(clip: Clip = clip) -> dict[str, Any]:
            with report.stage(f"{clip.camera} mediapipe alone"):
                return measures(plain_mediapipe(open_video(clip.video)), clip.reference)

        own = kept(work, f"{camera}_plain_{fingerprint}.json", plain)
        first = len(rows)
        rows.append(own | {"method": "MediaPipe's own landmarks", "input": "pixels"})
        for name, detector in detectors.items():

            def pixels(source: Video, detector: Detector = detector) -> Keypoints:
                with report.stage(f"{source.path.stem} {type(detector).__name__}") as progress:
                    return detector.detect(source, progress)

            source = "_".join([*name.split(", "), fingerprint])
            made = fit_rows(work, clip, source, pixels, report)
            detected = read_archive(work / f"{camera}_{source}_smplify-x.npz").keypoints
            assert detected is not None
            if detected.xyz_m is not None:
                landmarks = detected.xyz_m[:, [detected.index(n) for n in JOINTS]]
                row = measures(landmarks, clip.reference)
                rows.append(row | {"method": "the detector's landmarks", "input": name})
            rows += [r | {"input": name} for r in made]
        made = fit_rows(work, clip, f"openpose_{fingerprint}", files, report)
        rows += [r | {"input": "OpenPose files"} for r in made]
        for row in rows[first:]:
            row["camera"] = camera
            row["against"] = 100 * (row["mpjpe_mm"] / own["mpjpe_mm"] - 1)
    reference = read_clip(data, CAMERAS[0]).reference
    write_text(output, page(rows, accel(root_relative(reference, HIPS))))
    return markdown_table(COLUMNS, unsmoothed(rows))


def unsmoothed(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of reconstructions as they are, after no smoother or the default one."""
    return [r for r in rows if r.get("smoother", "none") in ("none", DEFAULTS["smooth"])]


SMOOTHERS = (
    Column("camera", "camera"),
    Column("backbone, from pixels", "method"),
    Column("smoother", "smoother"),
    Column("MPJPE mm", "mpjpe_mm", 1),
    Column("PA-MPJPE mm", "pa_mpjpe_mm", 1),
    Column("Accel", "accel_mm", 1),
    Column("Accel error", "accel_error_mm", 1),
)
COLUMNS = (
    Column("camera", "camera"),
    Column("input", "input"),
    Column("method", "method"),
    Column("smoother", "smoother"),
    Column("MPJPE mm", "mpjpe_mm", 1),
    Column("against MediaPipe %", "against", 1),
    Column("PA-MPJPE mm", "pa_mpjpe_mm", 1),
    Column("Accel", "accel_mm", 1),
    Column("Accel error", "accel_error_mm", 1),
    Column("arms swapped", "swapped_arms", 0),
    Column("legs swapped", "swapped_legs", 0),
    Column("frames", "frames", 0),
    Column("2D px", "residual_px", 1),
    Column("2D % of height", "residual_percent", 2),
    Column("fit, frames/s", "fit_fps", 1),
)


def page(rows: list[dict[str, Any]], reference_accel: float) -> str:
    """The Markdown page."""
    smoothed = [r for r in rows if r["input"] == "pixels" and "smoother" in r]
    return f"""# One-camera reconstruction against a 3D reference

{header()}
The clip: pose2sim's single person, 100 frames at 60 a second, one camera at a time. The reference
is markerless triangulation from four cameras, low-pass filtered, good to 20-30 mm; differences
below 15 mm mean nothing. It is one man for 1.67 s, so nothing was tuned to it.

{markdown_table(COLUMNS, unsmoothed(rows))}
Before and after every smoother, from pixels:

{markdown_table(SMOOTHERS, smoothed)}
- MPJPE over 12 joints (shoulders, elbows, wrists, hips, knees, ankles) in camera axes, relative to
  the middle of the hips, without scale or rotation; PA-MPJPE after the best similarity of every
  frame. Predicted joints are the body's landmarks of these names.
- Accel: mean norm of the second difference of root-relative joints, mm/frame²; Accel error: of the
  difference to the reference, whose own Accel is {reference_accel:.1f}.
- Swapped: frames in which the arms (shoulders, elbows, wrists) or legs (hips, knees, ankles) are
  nearer to the reference with left and right exchanged.
- MediaPipe's own landmarks: Holistic with its own defaults (its smoothing filter on, complexity 1)
  on consecutive frames, nothing done to its output. "The detector's landmarks": this project's use
  of it, without that filter, on the right person, with confusions of left and right undone. Every
  fit from pixels starts from the latter; those undone in OpenPose's files as well.
- "pixels, FILE": the same with another pose landmark network.
- 2D: mean distance of the reprojected body landmarks (no hands, no face) from detections with
  confidence above 0.5, weighted by it; height is that of the reprojected body.
- The rate of a fit covers the reconstruction alone, wall clock, up to two threads. By default
  `mvai imitate` smooths with `{DEFAULTS["smooth"]}`.
"""
