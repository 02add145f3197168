"""Train the landmark correction on rendered motion capture (see nets/landmark_correction.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.benchmark.poses import PoseClip
from mvai.benchmark.scenes import Scene, random_scene
from mvai.body.model import LinearBody
from mvai.io.atomic import written_whole
from mvai.nets.landmark_correction import POINTS, LandmarkCorrection, corrected, features
from mvai.types import Keypoints
from mvai.types.names import BODY_KEYPOINTS, mirrored

WINDOW = 24
MIRROR = [BODY_KEYPOINTS.index(mirrored(n)) for n in BODY_KEYPOINTS]
_DETAILS = tuple(
    n
    for n in BODY_KEYPOINTS
    if n.split("_")[-1] in ("inner", "outer", "pinky", "thumb")
    or "mouth" in n
    or n in ("left_index", "right_index")
)
_FEET = tuple(n for n in BODY_KEYPOINTS if "heel" in n or "foot" in n)
UNCOMMON = ((), _DETAILS, _DETAILS, (*_DETAILS, *_FEET))
"""Landmarks that other detectors lack: OpenPose has no details, COCO no feet either."""
RATES = (15.0, 15.0, 15.0, 15.0, 10.0, 7.5, 5.0)
"""Frame rates drawn in training: the network's own, and those of slower video."""


@dataclass(frozen=True)
class Recipe:
    """How the network is trained."""

    steps: int = 5000
    batch: int = 32
    learning_rate: float = 1e-3
    width: int = 256
    weight_decay: float = 0.02
    projected: int = 1500
    """Clips that are projected instead of drawn; they make up half of every batch."""
    seed: int = 0


def _landmarks(body: LinearBody, scene: Scene) -> Float[np.ndarray, "frames 33 3"]:
    """True landmarks in camera axes, metres."""
    points = scene.joints_and_points(body, BODY_KEYPOINTS)[1]
    T = scene.camera.T_camera_world
    return points @ T[:3, :3].T + T[:3, 3]


def crop_rotation(body: LinearBody, scene: Scene) -> Float[np.ndarray, "frames 3 3"]:
    """From camera axes to those of a crop on the person, whose z axis points at the torso."""
    torso = [
        BODY_KEYPOINTS.index(f"{s}_{p}") for s in ("left", "right") for p in ("shoulder", "hip")
    ]
    centre = _landmarks(body, scene)[:, torso].mean(1)
    yaw = np.arctan2(centre[:, 0], centre[:, 2])
    pitch = np.arctan2(centre[:, 1], np.hypot(centre[:, 0], centre[:, 2]))
    turned = Rotation.from_euler("YX", np.stack([yaw, -pitch], 1)).as_matrix()
    return turned.transpose(0, 2, 1)


def truth(body: LinearBody, scene: Scene) -> Float[np.ndarray, "frames 33 3"]:
    """True landmarks relative to the middle of the hips, in the axes of a crop on the person."""
    camera = _landmarks(body, scene)
    hips = [BODY_KEYPOINTS.index(f"{s}_hip") for s in ("left", "right")]
    relative = camera - camera[:, hips].mean(1, keepdims=True)
    R = crop_rotation(body, scene)
    return np.einsum("fab,fpb->fpa", R, relative).astype(np.float32)


@dataclass(frozen=True)
class View:
    """A stretch of a clip seen another way: at another rate, in a mirror, by a rolled camera."""

    span: slice
    mirror: bool
    roll: Float[np.ndarray, "2 2"]
    """Turns the picture."""

    @property
    def frames(self) -> int:
        return len(range(self.span.start, self.span.stop, self.span.step))

    def points(self, points: Float[np.ndarray, "frames 33 d"]) -> Float[np.ndarray, "n 33 d"]:
        """Landmarks (pixels or metres, y down) in this view."""
        points = points[self.span].copy()
        if self.mirror:
            points = points[:, MIRROR]
            points[..., 0] *= -1
        points[..., :2] = points[..., :2] @ self.roll.T
        return points


def random_view(keypoints: Keypoints, rng: np.random.Generator) -> View:
    stride = max(1, round(keypoints.fps / rng.choice(RATES)))
    stride = min(stride, max(1, keypoints.frames // 8))
    length = min(WINDOW, keypoints.frames // stride)
    start = int(rng.integers(0, keypoints.frames - length * stride + 1))
    c, s = np.cos(a := rng.normal() * 0.1), np.sin(a)
    return View(
        slice(start, start + length * stride, stride),
        bool(rng.random() < 0.5),
        np.array([[c, -s], [s, c]]),
    )


def augmented(
    keypoints: Keypoints, view: View, rng: np.random.Generator
) -> Float[np.ndarray, "window 33 7"]:
    """The network's input for a view of a clip, with noise and missing landmarks; short windows
    repeat their last frame."""
    xy = view.points(keypoints.xy_px[:, :POINTS])
    xyz = np.full((*xy.shape[:2], 3), np.nan)
    if keypoints.xyz_m is not None:
        xyz = view.points(keypoints.xyz_m[:, :POINTS])
    confidence = keypoints.confidence[view.span, :POINTS].copy()
    if view.mirror:
        confidence = confidence[:, MIRROR]
    xy += rng.normal(size=xy.shape) * rng.uniform(0, 0.012) * np.nanstd(xy[..., 1])
    xyz += rng.normal(size=xyz.shape) * rng.uniform(0, 0.03)
    gone = rng.random(POINTS) < (rng.random() < 0.3) * 0.2
    if rng.random() < 0.3:
        # Detectors other than MediaPipe give pixels only, and fewer landmarks.
        xyz[:] = np.nan
        confidence = np.where(
            np.isfinite(confidence), np.clip(confidence + rng.normal() * 0.1, 0, 1), 0
        )
        gone |= np.isin(BODY_KEYPOINTS, UNCOMMON[int(rng.integers(len(UNCOMMON)))])
    xy[:, gone], xyz[:, gone], confidence[:, gone] = np.nan, np.nan, 0.0
    x = features(replace(
        keypoints, names=BODY_KEYPOINTS, xy_px=xy, xyz_m=xyz, confidence=confidence,
        fps=keypoints.fps / view.span.step, present=None,
    ))  # fmt: skip
    return padded(x)


def padded(x: Float[np.ndarray, "frames *rest"]) -> Float[np.ndarray, "window *rest"]:
    """Fills a window up by repeating the last frame."""
    return np.pad(x, ((0, WINDOW - len(x)), *(((0, 0),) * (x.ndim - 1))), mode="edge")


def projected(body: LinearBody, scene: Scene, rng: np.random.Generator) -> Keypoints:
    """Key-points of a scene without drawing it: true landmarks, with errors that last.

    A detector's errors are not white: most of a landmark's error stays for a second. Such clips
    cost next to nothing and teach the network bodies and movements; the drawn ones teach it the
    detector.
    """
    target = truth(body, scene)
    points = scene.joints_and_points(body, BODY_KEYPOINTS)[1]
    frames = len(target)
    xy = scene.camera.project(points.astype(float))
    torso = np.linalg.norm(xy[:, 11:13].mean(1) - xy[:, 23:25].mean(1), axis=-1).max()
    pixel_m = 0.5 / max(torso, 1.0)

    def lasting(scale: float, dims: int) -> np.ndarray:
        """Noise of unit variance times scale: half constant, half changing over about 0.3 s."""
        from scipy.ndimage import gaussian_filter1d

        slow = gaussian_filter1d(rng.normal(size=(frames + 40, POINTS, dims)), 5, axis=0)[20:-20]
        slow = slow / max(slow.std(), 1e-6)
        constant = rng.normal(size=(1, POINTS, dims))
        return scale * (0.7 * slow + 0.7 * constant)

    xy = xy + lasting(rng.uniform(0.005, 0.02) / pixel_m, 2)
    error = lasting(1.0, 3) * np.array([0.025, 0.025, 0.06]) * rng.uniform(0.5, 1.3)
    lean = Rotation.from_euler("X", rng.normal() * 0.12).as_matrix()
    xyz = (target * rng.uniform(0.85, 1.1)) @ lean.T + error
    confidence = np.clip(rng.uniform(0.6, 1.0, POINTS) + 0 * xy[..., 0], 0, 1)
    return Keypoints(
        BODY_KEYPOINTS, xy, confidence, scene.fps, scene.camera.width, scene.camera.height,
        None if rng.random() < 0.3 else xyz,
    )  # fmt: skip


def loss(position: torch.Tensor, log_deviation: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Laplace negative log-likelihood across and along the view, and the error of velocity."""
    d = position - target
    across, along = d[..., :2].norm(dim=-1), d[..., 2].abs()
    s = log_deviation
    likelihood = (across / s[..., 0].exp() + 2 * s[..., 0]) + (along / s[..., 1].exp() + s[..., 1])
    velocity = (d[:, 1:] - d[:, :-1]).norm(dim=-1)
    return likelihood.mean() + 10 * velocity.mean() + 5 * d.norm(dim=-1).mean()


def train_landmark_correction(
    body: LinearBody,
    clips: list[tuple[Scene, Keypoints]],
    captures: list[PoseClip],
    out: Path,
    recipe: Recipe | None = None,
    report: Callable[[int, int, float], None] = lambda step, steps, value: None,
) -> LandmarkCorrection:
    """Fit the network to rendered clips and write its weights to `out`."""
    from safetensors.torch import save_file

    recipe = recipe or Recipe()
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    targets = [truth(body, scene) for scene, _ in clips]
    drawn = len(clips)
    for seed, capture in enumerate(rng.choice(len(captures), recipe.projected)):
        scene = random_scene(body, captures[capture], seed, frames=64)
        clips = [*clips, (scene, projected(body, scene, rng))]
        targets.append(truth(body, scene))
    network = LandmarkCorrection(recipe.width)
    optimiser = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps
    )
    network.train()
    for step in range(recipe.steps):
        half = recipe.batch // 2
        chosen = np.concatenate(
            [rng.integers(0, drawn, half), rng.integers(drawn, len(clips), recipe.batch - half)]
        )
        views = [random_view(clips[i][1], rng) for i in chosen]
        pairs = [
            (augmented(clips[i][1], view, rng), padded(view.points(targets[i])))
            for i, view in zip(chosen, views, strict=True)
        ]
        x, y = (torch.from_numpy(np.stack(a).astype(np.float32)) for a in zip(*pairs, strict=True))
        position, log_deviation = network(x)
        value = loss(position, log_deviation, y)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(step, recipe.steps, value.item())
    with written_whole(out) as temporary:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary)
    return network.eval().requires_grad_(False)


LIMBS = tuple(
    BODY_KEYPOINTS.index(f"{side}_{joint}")
    for side in ("left", "right")
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)


def errors_mm(
    body: LinearBody, clips: list[tuple[Scene, Keypoints]], network: LandmarkCorrection
) -> dict[str, float]:
    """Mean error of 12 limb landmarks relative to the hips: the detector's own, corrected, and
    lifted from 2D alone (mm, mean over clips)."""
    rows = []
    for scene, keypoints in clips:
        assert keypoints.xyz_m is not None
        want = truth(body, scene)[:, LIMBS]
        detector = np.nan_to_num(keypoints.xyz_m[:, :POINTS])[:, LIMBS]
        both, _ = corrected(keypoints, network)
        lifted, _ = corrected(replace(keypoints, xyz_m=None), network)
        rows.append(
            [
                np.linalg.norm(p - want, axis=-1).mean()
                for p in (detector, both[:, LIMBS], lifted[:, LIMBS])
            ]
        )
    return dict(zip(("detector", "corrected", "lifted"), 1000 * np.mean(rows, axis=0), strict=True))


def errors_in_words(errors: dict[str, float]) -> str:
    """One sentence for people."""
    return (
        f"Held-out people, 12 limb landmarks: the detector is {errors['detector']:.1f} mm off, "
        f"corrected {errors['corrected']:.1f} mm, from 2D alone {errors['lifted']:.1f} mm."
    )
