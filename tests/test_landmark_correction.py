"""Training of the landmark correction: projected clips, borrowed errors, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mvai.benchmark.poses import PoseClip
from mvai.benchmark.scenes import random_scene
from mvai.benchmark.tumbling import TUMBLING
from mvai.body.anny import anny_body
from mvai.body.bvh_poses import body_positions
from mvai.nets.landmark_correction import LandmarkCorrection, features, load_landmark_correction
from mvai.train.landmark_correction import Recipe, errors_mm, train_landmark_correction
from mvai.train.landmark_windows import ROLLED, augmented, random_view
from mvai.train.projected_clips import (
    ARMS,
    FRAMES,
    DetectorErrors,
    detector_errors,
    picture_size,
    projected,
    random_posture_clip,
    with_borrowed_errors,
)
from mvai.train.true_landmarks import truth
from mvai.types import Keypoints, MvaiError
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS


def capture(seed: int, frames: int = 90) -> PoseClip:
    rng = np.random.default_rng(seed)
    pose = np.repeat(rng.normal(size=(1, len(BODY_JOINTS), 3)) * 0.3, frames, 0)
    pose[:, BODY_JOINTS.index("LeftArm"), 2] += np.sin(np.arange(frames) / 25)
    pose[:, 0] = 0
    return PoseClip(
        f"made_{seed}", pose.astype(np.float32), np.zeros((frames, 3), np.float32), 25.0,
        np.ones(frames, bool),
    )  # fmt: skip


def drawn(seed: int, frames: int = 16):
    body = anny_body()
    scene = random_scene(body, capture(seed), seed, frames)
    rng = np.random.default_rng(seed)
    keypoints = projected(body, scene, rng)
    while keypoints.xyz_m is None:  # Some have no depth.
        keypoints = projected(body, scene, rng)
    return scene, keypoints


def errors(seed: int) -> DetectorErrors:
    scene, keypoints = drawn(seed)
    return detector_errors(scene, anny_body(), keypoints, truth(anny_body(), scene))


def test_borrowed_errors_are_those_of_the_donor():
    body = anny_body()
    donor = errors(0)
    scene = random_scene(body, capture(1), 1, 16)
    got = with_borrowed_errors(body, scene, [donor], np.random.default_rng(0))
    xy = scene.camera.project(scene.joints_and_points(body, BODY_KEYPOINTS)[1].astype(float))
    moved = (got.xy_px - xy) / picture_size(xy)[:, None, None]
    share = (moved * donor.xy).sum() / (donor.xy**2).sum()
    assert 0 <= share <= 1.2
    np.testing.assert_allclose(moved, share * donor.xy, atol=1e-5)
    assert got.xyz_m is not None
    np.testing.assert_allclose(got.xyz_m - truth(body, scene), share * donor.xyz_m, atol=1e-5)


def test_the_likest_donor_lends():
    body = anny_body()
    scene = random_scene(body, capture(2), 2, 16)
    own = errors(2)
    assert np.allclose(own.posture, truth(body, scene), atol=1e-5)
    others = [errors(seed) for seed in (4, 6)]
    got = with_borrowed_errors(body, scene, [*others, own], np.random.default_rng(0))
    np.testing.assert_array_equal(got.confidence, own.confidence)


def test_a_short_donor_is_played_back_and_forth():
    body = anny_body()
    scene = random_scene(body, capture(1), 1, 40)
    got = with_borrowed_errors(body, scene, [errors(0)], np.random.default_rng(0))
    assert got.xyz_m is not None
    error = got.xyz_m - truth(body, scene)
    np.testing.assert_allclose(error[16], error[14], atol=1e-5)
    np.testing.assert_allclose(error[30], error[0], atol=1e-5)


def test_two_mirrors_change_nothing():
    donor = errors(0)
    for before, after in zip(
        vars(donor).values(), vars(donor.mirrored().mirrored()).values(), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_postures_mix_the_arms_of_captures():
    captures = [capture(0), capture(1)]
    rng = np.random.default_rng(0)
    legs = BODY_JOINTS.index("LeftUpLeg")
    pairs = set()
    for _ in range(60):
        clip = random_posture_clip(anny_body(), captures, rng)
        assert clip.frames == FRAMES
        pairs.add((float(clip.pose[0, legs, 0]), float(clip.pose[0, ARMS[1], 0])))
    assert len({a for a, _ in pairs}) < len(pairs)


def test_windows_lack_depth_details_or_both():
    """As other detectors do; alone, missing details are to be met as well."""
    _, keypoints = drawn(0)
    rng = np.random.default_rng(0)
    details = [n for n in BODY_KEYPOINTS if n.endswith(("inner", "outer", "pinky", "thumb"))]
    at = [BODY_KEYPOINTS.index(n) for n in details]
    counts = np.zeros((2, 2))
    for _ in range(400):
        x = augmented(keypoints, random_view(keypoints, rng), rng)
        counts[int(x[..., 6].any()), int(x[:, at, :2].any())] += 1
    without_depth, lacks_both = counts[0].sum() / 400, counts[0, 0] / 400
    assert without_depth == pytest.approx(0.3, abs=0.08)
    assert lacks_both == pytest.approx(0.3 * 0.75, abs=0.08)
    assert counts[1, 0] / 400 == pytest.approx(0.7 * 0.1 * 0.75, abs=0.03)


def test_training_lowers_the_error(tmp_path):
    body = anny_body()
    clips = [drawn(seed) for seed in (0, 2, 4, 6)]
    out = tmp_path / "net.safetensors"
    recipe = Recipe(steps=60, batch=8, width=32, projected=12)
    train_landmark_correction(body, clips, [capture(s) for s in range(4)], out, recipe)
    measured = errors_mm(body, clips, load_landmark_correction(out))
    assert measured["corrected"] < measured["detector"]


def test_training_goes_on_from_weights(tmp_path):
    body = anny_body()
    clips, captures = [drawn(0)], [capture(0)]
    first, second, third = (tmp_path / f"{n}.safetensors" for n in "abc")
    before = train_landmark_correction(
        body, clips, captures, first, Recipe(steps=1, batch=2, width=32, projected=2)
    )
    recipe = Recipe(steps=2, batch=2, projected=2, seed=1)
    after = train_landmark_correction(body, clips, captures, second, recipe, first)
    mostly = train_landmark_correction(body, clips, captures, third, recipe, first, keep=0.75)

    def moved(network: LandmarkCorrection) -> float:
        pairs = zip(before.parameters(), network.parameters(), strict=True)
        return max((a - b).abs().max().item() for a, b in pairs)

    assert 0 < moved(after) < 0.01
    assert moved(mostly) == pytest.approx(moved(after) / 4, rel=0.1)


def test_what_training_cannot_go_on_from_is_named(tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"no weights")
    with pytest.raises(MvaiError, match=r"wrong\.safetensors.*train landmark-correction"):
        train_landmark_correction(
            anny_body(), [drawn(0)], [capture(0)], tmp_path / "out", Recipe(steps=1), wrong
        )
    assert not (tmp_path / "out").exists()


HIPS = [BODY_KEYPOINTS.index(n) for n in ("left_hip", "right_hip")]
BELOW = [i for i, n in enumerate(BODY_KEYPOINTS) if n.endswith(("hip", "knee", "ankle", "heel"))]


def seen_afresh(px_of_m: float, corner_px: tuple[float, float]) -> Keypoints:
    """A body whose pixels are its metres, scaled and shifted."""
    _, keypoints = drawn(3)
    assert keypoints.xyz_m is not None
    xy = keypoints.xyz_m[..., :2] * px_of_m + corner_px
    return replace(keypoints, xy_px=xy)


def test_hips_out_of_the_picture_are_where_the_metres_have_them():
    whole = seen_afresh(150.0, (200.0, 300.0))
    xy = whole.xy_px.copy()
    xy[:, BELOW] = np.nan
    cut = replace(whole, xy_px=xy)
    kept = [i for i in range(len(BODY_KEYPOINTS)) if i not in BELOW]
    a, b = features(whole)[:, kept, :2], features(cut)[:, kept, :2]
    scale = (a * b).sum() / (b * b).sum()
    np.testing.assert_allclose(a, scale * b, atol=0.01)
    assert (features(cut)[:, BELOW, :2] == 0).all()


@pytest.mark.parametrize("metres", [True, False])
def test_where_in_the_picture_somebody_is_does_not_matter(metres: bool):
    seen = []
    for corner in ((200.0, 300.0), (500.0, 80.0)):
        keypoints = seen_afresh(150.0, corner)
        xy = keypoints.xy_px.copy()
        xy[4:8, HIPS[0]] = np.nan
        xy[8:, BELOW] = np.nan
        keypoints = replace(keypoints, xy_px=xy, xyz_m=keypoints.xyz_m if metres else None)
        seen.append(features(keypoints))
    np.testing.assert_allclose(*seen, atol=1e-4)


def test_nobody_seen_is_nothing():
    keypoints = seen_afresh(150.0, (0.0, 0.0))
    assert keypoints.xyz_m is not None
    nothing = replace(
        keypoints, xy_px=np.full_like(keypoints.xy_px, np.nan), xyz_m=0 * keypoints.xyz_m
    )
    assert np.isfinite(features(nothing)).all() and (features(nothing)[..., :2] == 0).all()


def test_some_windows_are_turned_by_any_angle():
    _, keypoints = drawn(0)
    rng = np.random.default_rng(0)
    views = [random_view(keypoints, rng) for _ in range(400)]
    turn = np.array([np.arctan2(v.roll[1, 0], v.roll[0, 0]) for v in views])
    far = np.abs(turn) > 0.5
    assert 0.6 * ROLLED < far.mean() < 1.2 * ROLLED
    assert turn[far].min() < -2.5 and turn[far].max() > 2.5
    assert np.abs(turn[~far]).mean() < 0.12


def test_some_projected_people_are_not_upright():
    body, rng = anny_body(), np.random.default_rng(0)
    clips = [random_posture_clip(body, [capture(0)], rng) for _ in range(80)]
    up = []
    for clip in clips:
        at = body_positions(clip.pose[:1], clip.translation[:1], body)[0]
        way = at[body.joint("Neck")] - at[body.joint("Hips")]
        up.append(way[1] / np.linalg.norm(way))
    assert 0.3 * TUMBLING < (np.array(up) < 0.5).mean() < 1.2 * TUMBLING


@pytest.mark.parametrize("turn_deg", [0, 90, 180])
def test_people_whom_the_detector_sees_rightly_keep_lying_and_standing_on_their_hands(turn_deg):
    body = anny_body()
    kept = []
    for seed in range(6):
        clip = capture(seed)
        side = [1.0, 0.0, 0.0] if seed % 2 else [0.0, 0.0, 1.0]
        pose = clip.pose.copy()
        pose[:, 0] = np.radians(turn_deg) * np.array(side)
        scene = random_scene(body, replace(clip, pose=pose), seed, 30)
        points = scene.joints_and_points(body, BODY_KEYPOINTS)[1].astype(float)
        keypoints = Keypoints(
            BODY_KEYPOINTS, scene.camera.project(points), np.full(points.shape[:2], 0.95),
            scene.fps, scene.camera.width, scene.camera.height, truth(body, scene),
        )  # fmt: skip
        kept.append(errors_mm(body, [(scene, keypoints)], load_landmark_correction())["corrected"])
    assert np.median(kept) < 90
