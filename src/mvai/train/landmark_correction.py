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
from mvai.benchmark.scenes import Scene, random_scene, varied
from mvai.body.model import LinearBody
from mvai.io.atomic import written_whole
from mvai.nets.landmark_correction import (
    MIRROR,
    POINTS,
    LandmarkCorrection,
    corrected,
    features,
    load_landmark_correction,
)
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

WINDOW = 24
FRAMES = 64
"""Length of a projected clip."""
DONORS = 40
"""Drawn clips among which the likest is sought."""
OTHER_ARMS = 0.5
"""Share of the projected clips with the arms of another capture."""
ARMS = [i for i, n in enumerate(BODY_JOINTS) if "Arm" in n or "Hand" in n]
LIMBS = tuple(
    BODY_KEYPOINTS.index(f"{side}_{joint}")
    for side in ("left", "right")
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
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

    steps: int = 10_000
    batch: int = 32
    drawn: float = 0.75
    """Share of every batch that is drawn clips; the others are projected."""
    learning_rate: float = 1e-3
    width: int = 384
    dropout: float = 0.1
    weight_decay: float = 0.02
    projected: int = 6000
    """How many clips are projected instead of drawn."""
    borrowed: float = 0.7
    """Share of the projected clips with errors that the detector made elsewhere; the others have
    errors drawn at random."""
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
    """A stretch of a clip at some rate, now and then mirrored, turned a little in the picture."""
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


@dataclass(frozen=True)
class DetectorErrors:
    """What a detector got wrong in one drawn clip, as it was or in a mirror."""

    posture: Float[np.ndarray, "frames 33 3"]
    """The truth at which the errors were made, as `truth` gives it."""
    xy: Float[np.ndarray, "frames 33 2"]
    """In sizes of the body in the picture; NaN where nothing was seen."""
    xyz_m: Float[np.ndarray, "frames 33 3"]
    confidence: Float[np.ndarray, "frames 33"]

    def mirrored(self) -> DetectorErrors:
        """The same errors on the other side."""

        def turned(points: np.ndarray) -> np.ndarray:
            points = points[:, MIRROR].copy()
            points[..., 0] *= -1
            return points

        return DetectorErrors(
            turned(self.posture), turned(self.xy), turned(self.xyz_m), self.confidence[:, MIRROR]
        )


def detector_errors(
    scene: Scene, body: LinearBody, keypoints: Keypoints, posture: Float[np.ndarray, "frames 33 3"]
) -> DetectorErrors:
    """The errors of a drawn clip."""
    assert keypoints.xyz_m is not None
    xy = scene.camera.project(scene.joints_and_points(body, BODY_KEYPOINTS)[1].astype(float))
    return DetectorErrors(
        posture,
        (keypoints.xy_px[:, :POINTS] - xy) / picture_size(xy)[:, None, None],
        keypoints.xyz_m[:, :POINTS] - posture,
        keypoints.confidence[:, :POINTS],
    )


def picture_size(xy_px: Float[np.ndarray, "frames 33 2"]) -> Float[np.ndarray, " frames"]:
    """Root mean square distance of a body's landmarks from their middle."""
    centred = xy_px - xy_px.mean(1, keepdims=True)
    return np.sqrt((centred**2).sum(-1).mean(1))


def with_borrowed_errors(
    body: LinearBody, scene: Scene, donors: list[DetectorErrors], rng: np.random.Generator
) -> Keypoints:
    """Key-points of a scene without drawing it, with the errors of a drawn clip.

    The donor is the one of some random clips in which the person stands most alike, because how a
    detector errs depends on the posture and on the side from which it is seen.
    """
    target = truth(body, scene)
    frames = len(target)
    # A donor that is too short is played back and forth.
    turn = lambda n: np.abs((np.arange(frames) + n - 1) % (2 * n - 2) - (n - 1))  # noqa: E731
    chosen = [donors[i] for i in rng.choice(len(donors), DONORS)]
    ordered = [turn(len(d.posture)) for d in chosen]
    apart = [
        np.linalg.norm((d.posture[o] - target)[:, LIMBS], axis=-1).mean()
        for d, o in zip(chosen, ordered, strict=True)
    ]
    best = int(np.argmin(apart))
    donor, order = chosen[best], ordered[best]
    share = rng.uniform(0.0, 1.2)
    xy = scene.camera.project(scene.joints_and_points(body, BODY_KEYPOINTS)[1].astype(float))
    xy = xy + share * donor.xy[order] * picture_size(xy)[:, None, None]
    return Keypoints(
        BODY_KEYPOINTS, xy, donor.confidence[order], scene.fps, scene.camera.width,
        scene.camera.height, target + share * donor.xyz_m[order],
    )  # fmt: skip


def random_posture_clip(captures: list[PoseClip], rng: np.random.Generator) -> PoseClip:
    """A stretch of a capture, mirrored or turned in some joints, at times with another's arms."""
    clip = stretch(captures, rng)
    if rng.random() < OTHER_ARMS:
        other = stretch(captures, rng)
        frames = min(clip.frames, other.frames)
        pose = clip.pose[:frames].copy()
        pose[:, ARMS] = other.pose[:frames, ARMS]
        clip = replace(
            clip, pose=pose, translation=clip.translation[:frames], measured=clip.measured[:frames]
        )
    return varied(clip, rng)


def stretch(captures: list[PoseClip], rng: np.random.Generator) -> PoseClip:
    """At most `FRAMES` frames of a random capture; long captures are as likely as short ones."""
    clip = captures[rng.integers(len(captures))]
    start = int(rng.integers(0, max(1, clip.frames - FRAMES + 1)))
    span = slice(start, start + FRAMES)
    return replace(
        clip, pose=clip.pose[span], translation=clip.translation[span], measured=clip.measured[span]
    )


def projected_clips(
    body: LinearBody,
    drawn: list[tuple[Scene, Keypoints]],
    captures: list[PoseClip],
    count: int,
    borrowed: float,
    rng: np.random.Generator,
) -> list[tuple[Scene, Keypoints]]:
    """Scenes that nobody drew, with key-points as a detector might have found them.

    Args:
        drawn: clips that lend their errors.
        borrowed: share of the clips with such errors; the others have errors drawn at random.
    """
    donors = [detector_errors(s, body, k, truth(body, s)) for s, k in drawn]
    donors += [d.mirrored() for d in donors]
    clips: list[tuple[Scene, Keypoints]] = []
    for seed in range(count):
        scene = random_scene(body, random_posture_clip(captures, rng), seed, frames=FRAMES)
        if rng.random() < borrowed:
            clips.append((scene, with_borrowed_errors(body, scene, donors, rng)))
        else:
            clips.append((scene, projected(body, scene, rng)))
    return clips


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
    """Fit the network to rendered clips and write its weights, in half precision, to `out`."""
    from safetensors.torch import save_file

    recipe = recipe or Recipe()
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    drawn, of_drawn = len(clips), round(recipe.drawn * recipe.batch)
    clips = [
        *clips, *projected_clips(body, clips, captures, recipe.projected, recipe.borrowed, rng)
    ]  # fmt: skip
    targets = [truth(body, scene) for scene, _ in clips]
    network = LandmarkCorrection(recipe.width, recipe.dropout)
    optimiser = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps
    )
    network.train()
    for step in range(recipe.steps):
        chosen = np.concatenate(
            [
                rng.integers(0, drawn, of_drawn),
                rng.integers(drawn, len(clips), recipe.batch - of_drawn),
            ]
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
        save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, temporary)
    return load_landmark_correction(out)


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
