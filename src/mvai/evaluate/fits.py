"""Fitted and regressed bodies on the benchmark: errors by people and by how well 2D was detected.

What comes before smoothing, as the weights of the landmark correction and of GraphCMR decide it.
Nothing is read from earlier results: all is fitted by today's code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvai.benchmark.clips import BenchmarkClip, clips_in, pools_of
from mvai.body.anny import anny_body
from mvai.body.model import LinearBody
from mvai.evaluate.fit_bones import POINTS, angle_errors, bone_ratios, sections
from mvai.evaluate.metrics import mpjpe, root_relative
from mvai.evaluate.provenance import header
from mvai.evaluate.tables import Column, csv_text, markdown_table
from mvai.evaluate.work import write_text
from mvai.geometry.rigid import degrees_between
from mvai.nets.graphcmr import GraphCmr, load_graphcmr, regress, regressed_landmarks
from mvai.nets.landmark_correction import (
    LandmarkCorrection,
    Lift,
    corrected,
    expected_landmarks,
    load_landmark_correction,
)
from mvai.progress import Report
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.reconstruct.fit_windows import fit_long_clip
from mvai.reconstruct.graphcmr import regressed_pose
from mvai.reconstruct.initial import default_focal_px, viewing_rotation
from mvai.reconstruct.lengthen import lengthening
from mvai.reconstruct.levelled import to_level
from mvai.reconstruct.pose_prior import prior_for
from mvai.reconstruct.variables import Pose
from mvai.train.smoothing_clips import LIMB_JOINTS
from mvai.train.true_landmarks import truth as true_landmarks
from mvai.types import Keypoints, MvaiError
from mvai.types.names import BODY_KEYPOINTS

LIMBS = slice(len(LIMB_JOINTS))
"""Where they stand among `POINTS`, which begin with them."""
HIPS = LIMB_JOINTS.index("left_hip"), LIMB_JOINTS.index("right_hip")
POINT_LANDMARKS = [BODY_KEYPOINTS.index(n) for n in POINTS]
QUARTERS = ("2D: best quarter", "2D: second", "2D: third", "2D: worst quarter")
AVERAGED = ("mpjpe_mm", "scaled_mm", "stature", "vertical_deg")
APART = ("close", "still", "tumbling")
"""Pools that are not among all clips: close-ups, and people who stand, sit or tumble."""
METHODS = ("smplify-x", "graphcmr", "graphcmr-parameters", "graphcmr+smplify-x")

Points = Float[np.ndarray, "frames 14 3"]
Landmarks = Float[np.ndarray, "frames 33 3"]
COLUMNS = (
    Column("method", "method"),
    Column("weights", "weights"),
    Column("clips", "group"),
    Column("number", "count", 0),
    Column("MPJPE mm", "mpjpe_mm", 1),
    Column("median clip", "median_mm", 1),
    Column("scaled MPJPE mm", "scaled_mm", 1),
    Column("stature, fitted / true", "stature", 3),
    Column("its spread", "stature_spread", 3),
    Column("vertical off °", "vertical_deg", 1),
    Column("median clip", "vertical_median_deg", 1),
)


@dataclass(frozen=True)
class Fitted:
    """A body found in a clip."""

    points: Points
    """`POINTS` in the axes of the camera (x right, y down, z forward), metres."""
    shape: Float[Tensor, " shape"]
    up: Float[np.ndarray, "3"] | None
    """The vertical of the levelled world in the same axes; None when it is not levelled."""


@dataclass(frozen=True)
class Known:
    """A clip with what is known of it."""

    name: str
    pool: str
    keypoints: Keypoints
    points: Points
    """True `POINTS` in the axes of the camera, metres."""
    up: Float[np.ndarray, "3"]
    """The true vertical in the same axes."""
    stature_m: float
    error_2d: float
    """As `error_2d` gives it."""
    landmarks: Landmarks
    """True `BODY_KEYPOINTS` relative to the middle of the hips, metres."""


@dataclass(frozen=True)
class Measured:
    """A method with certain weights."""

    method: str
    weights: str
    find: Callable[[Keypoints], Fitted]
    lift: Lift | None = None
    """The landmarks that bodies are fitted to, before `mvai.reconstruct.lengthen`; None where
    nothing is fitted."""


def stature_m(body: LinearBody, shape: Float[Tensor, " shape"]) -> float:
    """Height of a body at rest."""
    return float(np.ptp(body.rest(shape[None].float())[0][0, :, 1].numpy()))


def known(body: LinearBody, clip: BenchmarkClip) -> Known | None:
    """A clip's truth and detection; None when nobody was found in it."""
    keypoints = clip.keypoints()
    if keypoints is None:
        return None
    world = clip.scene.joints_and_points(body, POINTS)[1].astype(float)
    T = clip.scene.camera.T_camera_world
    return Known(
        clip.name,
        clip.folder.parent.name,
        keypoints,
        world @ T[:3, :3].T + T[:3, 3],
        T[:3, 1],
        stature_m(body, torch.from_numpy(np.asarray(clip.scene.shape)).reshape(-1)),
        error_2d(keypoints, clip.scene.camera.project(world[:, LIMBS])),
        true_landmarks(body, clip.scene),
    )


def error_2d(keypoints: Keypoints, xy_px: Float[np.ndarray, "frames 12 2"]) -> float:
    """Median distance of the detected `LIMB_JOINTS` from the true ones in the picture, in mean
    heights of the true ones."""
    seen = keypoints.xy_px[:, [keypoints.index(n) for n in LIMB_JOINTS]]
    height_px = np.ptp(xy_px[..., 1], axis=1).mean()
    return float(np.nanmedian(np.linalg.norm(seen - xy_px, axis=-1)) / height_px)


CAMERA_FROM_ALIGNED = np.array([1.0, -1.0, -1.0])


def fitted(body: LinearBody, pose: Pose, T_level: Float[np.ndarray, "4 4"]) -> Fitted:
    """The joints of a pose in camera-aligned world axes, and the vertical found for it."""
    _, points = body.joints_and_keypoints(POINTS, pose.shape, pose.rotations, pose.translation)
    return Fitted(
        points.numpy().astype(float) * CAMERA_FROM_ALIGNED,
        pose.shape[0],
        T_level[1, :3] * CAMERA_FROM_ALIGNED,
    )


@torch.no_grad()
def fit_on_corrected(body: LinearBody, network: LandmarkCorrection, keypoints: Keypoints) -> Fitted:
    """`smplify-x`, default setting, before hands and level, which move none of the joints."""
    lift = lengthening(partial(corrected, network=network))
    fit = fit_long_clip(body, keypoints, prior_for(body), lift, ClipWeights())
    return fitted(body, fit.pose(), fit.level())


@torch.no_grad()
def fit_on_regressed(body: LinearBody, network: GraphCmr, keypoints: Keypoints) -> Fitted:
    """`smplify-x --reconstruct.start graphcmr`, likewise."""
    lift = lengthening(partial(regressed_landmarks, body=body, network=network))
    fit = fit_long_clip(body, keypoints, prior_for(body), lift, ClipWeights())
    return fitted(body, fit.pose(), fit.level())


@torch.no_grad()
def regressed(body: LinearBody, network: GraphCmr, keypoints: Keypoints) -> Fitted:
    """`graphcmr`: bones turned onto the landmarks of the shipped correction."""
    focal_px = default_focal_px(keypoints.width, keypoints.height)
    pose = regressed_pose(body, network, expected_landmarks(), keypoints, focal_px)
    return fitted(body, pose, to_level(body, keypoints, pose, focal_px))


@torch.no_grad()
def regressed_parameters(body: LinearBody, network: GraphCmr, keypoints: Keypoints) -> Fitted:
    """The body of GraphCMR's own parameters, every frame with a shape of its own."""
    points = regressed_landmarks(keypoints, body, network)[0][:, POINT_LANDMARKS]
    R = viewing_rotation(keypoints, default_focal_px(keypoints.width, keypoints.height))
    shape = regress(network, keypoints)[0].shape.median(0).values
    return Fitted(np.einsum("fab,fpb->fpa", R, points.astype(float)), shape, None)


Regression = Callable[[LinearBody, GraphCmr, Keypoints], Fitted]
ON_GRAPHCMR: dict[str, Regression] = {
    "graphcmr": regressed,
    "graphcmr-parameters": regressed_parameters,
    "graphcmr+smplify-x": fit_on_regressed,
}
"""The methods that use GraphCMR's weights; the other one uses those of the correction."""


def measured(methods: Sequence[str], weights: Sequence[Path]) -> list[Measured]:
    """Every method with the weights that ship and with those of its kind among some files.

    Raises:
        MvaiError: there is no such method, or a file holds no weights that one of them uses.
    """
    if unknown := set(methods) - set(METHODS):
        raise MvaiError(f"{sorted(unknown)[0]}: no such fit; choose one of {', '.join(METHODS)}.")
    body = anny_body()
    needs = {m in ON_GRAPHCMR for m in methods}
    given = {path: is_graphcmr(path) for path in weights}
    for path, graphcmr in given.items():
        if graphcmr not in needs:
            raise MvaiError(
                f"{path}: these weights are of {'GraphCMR' if graphcmr else 'the correction'}, "
                "which none of the methods uses; name one with --methods."
            )
    found = []
    for method in methods:
        own = {"shipped": None} | {
            str(p): p for p, g in given.items() if g == (method in ON_GRAPHCMR)
        }
        for name, path in own.items():
            if method in ON_GRAPHCMR:
                network = load_graphcmr(body, path) if path else load_graphcmr(body)
                find = partial(ON_GRAPHCMR[method], body, network)
                lift = partial(regressed_landmarks, body=body, network=network)
                found.append(Measured(method, name, find, lift if "+" in method else None))
            else:
                network = load_landmark_correction(path) if path else load_landmark_correction()
                find = partial(fit_on_corrected, body, network)
                found.append(Measured(method, name, find, partial(corrected, network=network)))
    return found


def is_graphcmr(path: Path) -> bool:
    """Whether a file holds GraphCMR's weights, not those of the landmark correction.

    Raises:
        MvaiError: it holds neither.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
    except (OSError, SafetensorError) as error:
        raise MvaiError(f"{path}: this is no file of weights; name a .safetensors file.") from error
    if "enter.weight" not in names and "encoder.enter.weight" not in names:
        raise MvaiError(
            f"{path}: these are weights of neither the landmark correction nor GraphCMR; "
            "make some with `mvai train`."
        )
    return "encoder.enter.weight" in names


def errors(found: Fitted, truth: Known, body: LinearBody) -> dict[str, float]:
    """MPJPE before and after the clip's best scale, the ratio of statures, and the angle between
    the vertical that was found and the true one (none when none was)."""
    p, q = (root_relative(points[:, LIMBS], HIPS) for points in (found.points, truth.points))
    scale = float((p * q).sum() / (p * p).sum())
    vertical = np.nan if found.up is None else float(degrees_between(found.up, truth.up))
    return {
        "mpjpe_mm": mpjpe(p, q, HIPS),
        "scaled_mm": mpjpe(scale * p, q, HIPS),
        "stature": stature_m(body, found.shape) / truth.stature_m,
        "vertical_deg": vertical,
    }


def of_clip(method: Measured, clip: Known, body: LinearBody) -> dict[str, float]:
    """All that is measured on a clip."""
    found = method.find(clip.keypoints)
    values = errors(found, clip, body) | angle_errors(found.points, clip.points)
    if method.lift is not None:
        values |= bone_ratios(method.lift(clip.keypoints)[0], clip.landmarks)
    return values


def evaluate_fits(
    benchmark: Path,
    output: Path,
    report: Report,
    methods: Sequence[str] = METHODS[:1],
    weights: Sequence[Path] = (),
    train: int = 60,
    limit: int | None = None,
) -> str:
    """Fits the validation and test clips, close-ups and people who keep still or tumble where the
    benchmark has them, and some training clips; writes the page and the CSV.

    Args:
        benchmark: its folder.
        output: Markdown file to write; the CSV has a line a clip.
        methods: which of `METHODS`.
        weights: files measured beside the weights that ship.
        train: the first so many training clips; clips in which nobody was found are left out.
        limit: at most so many clips of every other pool.

    Raises:
        MvaiError: there are no such clips, or weights cannot be read.
    """
    body = anny_body()
    wanted = measured(methods, weights)
    sizes = {"validation": limit, "test": limit, "train": train}
    sizes |= {pool: limit for pool in pools_of(benchmark) if pool in APART}
    listed = [c for pool, n in sizes.items() if n != 0 for c in list(clips_in(benchmark, pool))[:n]]
    clips = [k for c in listed if (k := known(body, c)) is not None]
    if not clips:
        raise MvaiError(
            f"{benchmark}: nobody was found in these clips; detect with `mvai benchmark build`."
        )
    rows: list[dict[str, Any]] = []
    with report.stage("fits") as progress:
        for m in wanted:
            for clip in clips:
                progress(len(rows), len(wanted) * len(clips))
                rows.append(
                    {"method": m.method, "weights": m.weights, "clip": clip.name, "pool": clip.pool}
                    | {"error_2d": clip.error_2d}
                    | of_clip(m, clip, body)
                )
        progress(len(rows), len(rows))
    means = summary(rows)
    write_text(output.with_suffix(".csv"), csv_text(rows))
    write_text(output, page(means, rows))
    return markdown_table(COLUMNS, means)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every method and its weights on every pool and on every quarter by 2D error."""
    out = []
    for method, weights in dict.fromkeys((r["method"], r["weights"]) for r in rows):
        of_method = [r for r in rows if (r["method"], r["weights"]) == (method, weights)]
        own = [r for r in of_method if r["pool"] not in APART]
        bounds = np.percentile([r["error_2d"] for r in own], [25, 50, 75])
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for r in of_method:
            groups.setdefault(r["pool"], []).append(r)
        groups["all"] = own
        for i, name in enumerate(QUARTERS):
            groups[name] = [r for r in own if np.digitize(r["error_2d"], bounds) == i]
        out += [
            {"method": method, "weights": weights, "group": name} | averages(group)
            for name, group in groups.items() if group
        ]  # fmt: skip
    return out


def averages(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over clips, medians of MPJPE and of the vertical, and the spread of statures."""
    value = {k: np.array([r[k] for r in rows]) for k in AVERAGED}
    return {
        "count": len(rows),
        "mpjpe_mm": float(value["mpjpe_mm"].mean()),
        "median_mm": float(np.median(value["mpjpe_mm"])),
        "scaled_mm": float(value["scaled_mm"].mean()),
        "stature": float(value["stature"].mean()),
        "stature_spread": float(value["stature"].std()),
        "vertical_deg": float(value["vertical_deg"].mean()),
        "vertical_median_deg": float(np.median(value["vertical_deg"])),
    }


def page(means: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown page."""
    bounds = np.percentile([r["error_2d"] for r in rows if r["pool"] not in APART], [25, 50, 75])
    return f"""# Fitted bodies on the benchmark

{header()}
The open benchmark (benchmark.md), before smoothing. The people of the test clips were seen by no
training, validation people chose weights and settings, training clips were trained on. Close-ups
(`close`), people who stand or sit (`still`) and who lie, crawl, roll over or stand on their hands
(`tumbling`) are of the validation people and not among `all`.

{markdown_table(COLUMNS, means)}
- MPJPE: mean over clips of the mean over frames and 12 joints (shoulders, elbows, wrists, hips,
  knees, ankles), relative to the middle of the hips, in camera axes, without scale or rotation.
  Scaled: after the best scale of each clip.
- Stature: height at rest of the fitted over that of the true body, mean over clips and standard
  deviation.
- Vertical: angle between the vertical of the levelled world and the true one, mean over clips and
  median. It says how far whoever stands straight leans. The cameras have no roll; a third of
  them hang above 2 m.
- 2D: all clips in four equal groups by the median distance of the detected joints from the true
  ones in the picture, which is {100 * bounds[0]:.1f}, {100 * bounds[1]:.1f} and
  {100 * bounds[2]:.1f} % of the person's height where the groups meet.
- graphcmr: bones turned onto the landmarks of the shipped correction, as the method does;
  graphcmr-parameters: the body as regressed; graphcmr+smplify-x: regression, then fitting.

{sections(rows)}"""
