"""The adaptive filter: what it keeps, how it turns, contacts; and the SmoothNet-style network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mesh2mesh_makers import RECIPE, noisy_clips, tetrahedra
from mvai.body.anny import anny_body
from mvai.geometry.rotations import matrix_from_axis_angle
from mvai.nets.adaptive_filter import (
    FILTERS,
    MIRROR,
    POINTS,
    AdaptiveFilter,
    AdaptiveFilterSettings,
    filter_bank,
    mixed,
)
from mvai.nets.smoother_files import save_smoother
from mvai.nets.smoothnet import SmoothNet, SmoothNetSettings, smoothnet_loss
from mvai.nets.windows import Working
from mvai.smooth.adaptive import Adaptive, bank_taps, confident_means, smoothed_centre, toeplitz
from mvai.smooth.adaptive_contacts import contact_displacement
from mvai.smooth.adaptive_handles import body_handles, sampled_handles
from mvai.smooth.adaptive_limit import LASTING_S, lasting_share, limited, sharp
from mvai.smooth.smoothnet import SmoothNet as SmoothNetSmoother
from mvai.train.smoothers_beyond import (
    save_adaptive,
    save_smoothnet,
    train_adaptive,
    train_smoothnet,
)
from mvai.types import T_CAMERA_WORLD, Camera, MeshSequence, MvaiError


def random_network(seed: int = 0, **changes) -> AdaptiveFilter:
    torch.manual_seed(seed)
    network = AdaptiveFilter(AdaptiveFilterSettings(**changes))
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.15)
    return network.eval()


@pytest.fixture
def smoother(tmp_path: Path) -> Adaptive:
    return smoother_of(tmp_path / "w.safetensors", random_network())


def smoother_of(path: Path, network: AdaptiveFilter) -> Adaptive:
    save_smoother(path, "adaptive", network, network.settings, Working(32, 25.0), {})
    return Adaptive(path, correct=1.0)


def walking(frames: int = 40, noise: float = 0.01, fps: float = 25.0) -> MeshSequence:
    """Our body with swinging limbs, noise in its joints, on its way; seen by a camera."""
    body = anny_body()
    rng = np.random.default_rng(0)
    t = np.arange(frames) / fps
    turns = noise * rng.normal(size=(frames, 22, 3))
    turns[:, 1, 0] += 0.4 * np.sin(4 * t)
    turns[:, 14, 2] += 0.5 * np.sin(5 * t)
    rotations = torch.eye(3).repeat(frames, len(body.joints), 1, 1)
    rotations[:, :22] = matrix_from_axis_angle(torch.from_numpy(turns).float())
    place = torch.from_numpy(np.stack([0.3 * t, 0 * t, -4 + 0.2 * t], 1)).float()
    vertices = body.vertices(torch.zeros(1, body.shape_size), rotations, place).numpy()
    camera = Camera.from_focal(800, 640, 480)
    return MeshSequence(vertices, body.faces, fps, "anny", camera)


# The network.


@settings(deadline=None, max_examples=20)
@given(frames=st.integers(1, 50), fps=st.sampled_from([12.5, 25.0, 60.0]))
def test_every_filter_keeps_steady_motion_and_the_ends(frames: int, fps: float):
    bank = filter_bank(frames, fps).numpy()
    assert len(bank) == FILTERS
    line = 0.2 * np.arange(frames) + 1
    np.testing.assert_allclose(bank @ line, np.tile(line, (FILTERS, 1)), atol=1e-4)
    rough = np.random.default_rng(0).normal(size=frames)
    ends = (bank @ rough)[:, [0, -1]]
    np.testing.assert_allclose(ends, np.tile(rough[[0, -1]], (FILTERS, 1)), atol=1e-4)


def test_sharp_filters_keep_curves():
    bank = filter_bank(101, 25.0).numpy()
    curve = 1e-3 * np.arange(101) ** 2
    np.testing.assert_allclose((bank[5:] @ curve)[:, 50], curve[50], atol=1e-3)
    assert np.abs((bank[1:5] @ curve)[:, 50] - curve[50]).min() > 1e-4


def test_filter_weights_sum_to_one_and_do_not_depend_on_the_axes():
    network = random_network()
    points = torch.randn(2, 20, len(POINTS), 3) * 0.3
    R = torch.linalg.qr(torch.randn(3, 3))[0]
    names, bank = torch.arange(len(POINTS)), filter_bank(20, 25.0)
    sure = torch.rand(2, 20)
    a = network.filter_weights(points, bank, sure, names, 25.0)
    assert a.shape == (2, 20, len(POINTS), FILTERS) and float(a.std().detach()) > 0.01
    torch.testing.assert_close(a.sum(-1), torch.ones(a.shape[:-1]))
    b = network.filter_weights(points @ R.T, bank, sure, names, 25.0)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    c = network.filter_weights(points, bank, 0 * sure, names, 25.0)
    assert float((a - c).abs().max()) > 1e-3


def test_the_network_turns_with_body_and_camera():
    network = random_network()
    points = torch.randn(1, 20, len(POINTS), 3) * 0.3
    up, view = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.6, 0.0, 0.8]])
    R = torch.from_numpy(Rotation.from_euler("xyz", [0.5, -1.3, 2.0]).as_matrix()).float()
    sure = torch.ones(1, 20)
    a = network(points, sure, up, view, 25.0)
    b = network(points @ R.T, sure, up @ R.T, view @ R.T, 25.0)
    torch.testing.assert_close(a @ R.T, b, atol=1e-4, rtol=0)
    assert float((a - points).abs().max()) > 0.01
    other = network(points, sure, up, -view, 25.0)
    assert float((a - other).abs().max()) > 1e-4


def test_mirrored_clips_swap_sides():
    network = random_network()
    points = torch.randn(1, 20, len(POINTS), 3) * 0.3
    up, view, sure = torch.tensor([[0.0, 1.0, 0.0]]), torch.zeros(1, 3), torch.ones(1, 20)
    got = network(points, sure, up, view, 25.0, torch.tensor([True]))
    want = network(points[:, :, MIRROR], sure, up, view, 25.0)[:, :, MIRROR]
    torch.testing.assert_close(got, want)
    assert POINTS[MIRROR[POINTS.index("left_knee")]] == "right_knee"
    assert POINTS[MIRROR[POINTS.index("nose")]] == "nose"


# Meshes.


def test_mesh_and_joints_agree(smoother: Adaptive):
    """Vertices filtered in tiles and chunks give the joints that the network's own form gives."""
    sequence = walking(50)
    plain = dataclasses.replace(smoother, keep_contacts=False, correct=0.0)
    body = anny_body()
    out = body.regress(POINTS, plain.smooth(sequence).vertices)
    from mvai.nets.windows import surface_weights

    weights = surface_weights(sequence.vertices[0], sequence.faces)
    centre = np.einsum("v,fvd->fd", weights, sequence.vertices)
    points = body.regress(POINTS, sequence.vertices) - centre[:, None]
    A = body.regressor[[body.regressed.index(n) for n in POINTS]]
    spread = torch.from_numpy(np.asarray(A @ body_handles(body, POINTS), np.float32))
    x, bank = torch.from_numpy(points).float()[None], filter_bank(50, 25.0)
    shares = random_network().filter_weights(
        x, bank, torch.ones(1, 50), torch.arange(len(POINTS)), 25.0
    )
    want = mixed(bank, x, torch.einsum("pq,btqk->btpk", spread, shares))[0].detach().numpy()
    taken = (1 - lasting_share(points, want, 25.0)) @ spread.numpy().T
    want = want - taken[..., None] * sharp(want - points, LASTING_S * 25)
    towards = -centre.mean(0) / np.linalg.norm(centre.mean(0))
    want = want + smoothed_centre(centre, towards, 25.0)[:, None]
    # The joints' blended weights stand for those of their vertices.
    assert np.abs(out - want).mean() < 0.001
    assert np.abs(out - body.regress(POINTS, sequence.vertices)).mean() > 0.003


def test_body_turned_with_its_camera(smoother: Adaptive):
    sequence = walking(32)
    a = 1.1
    R = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    T = T_CAMERA_WORLD.copy()
    T[:3, :3] = T[:3, :3] @ R.T
    assert sequence.camera is not None
    turned = dataclasses.replace(
        sequence,
        vertices=(sequence.vertices @ R.T).astype(np.float32),
        camera=dataclasses.replace(sequence.camera, T_camera_world=T),
    )
    want = smoother.smooth(sequence).vertices @ R.T
    np.testing.assert_allclose(smoother.smooth(turned).vertices, want, atol=2e-4)


def test_ends_and_rest_stay_without_the_correction(smoother: Adaptive):
    still = dataclasses.replace(smoother, correct=0.0, keep_contacts=False)
    sequence = walking(32, noise=0.03)
    out = still.smooth(sequence).vertices
    np.testing.assert_allclose(out[[0, -1]], sequence.vertices[[0, -1]], atol=1e-5)
    assert np.abs(out - sequence.vertices).max() > 0.005
    rest = sequence.with_vertices(np.repeat(sequence.vertices[:1], 32, axis=0))
    np.testing.assert_allclose(still.smooth(rest).vertices, rest.vertices, atol=1e-5)


def test_strength_by_limb(smoother: Adaptive):
    sequence = walking(32, noise=0.03)
    off = Adaptive(smoother.weights, arms=0.0, legs=0.0, trunk=0.0, keep_contacts=False)
    legs = dataclasses.replace(off, legs=1.0)
    difference = legs.smooth(sequence).vertices - off.smooth(sequence).vertices
    moved = np.linalg.norm(difference, axis=-1).mean(0)
    handles = body_handles(anny_body(), POINTS)
    ankle = handles[:, POINTS.index("left_ankle")] > 0.9
    hand = handles[:, POINTS.index("left_wrist")] > 0.9
    assert moved[ankle].mean() > 0.002 and moved[hand].max() < 1e-5


def test_no_vertex_of_a_clean_fast_motion_is_led_away(smoother: Adaptive, monkeypatch):
    plain = dataclasses.replace(smoother, correct=0.0, keep_contacts=False)
    sequence = walking(50, noise=0.0)
    assert np.abs(plain.smooth(sequence).vertices - sequence.vertices).max() < 0.008
    everything = lambda seen, smooth, fps: np.ones(seen.shape[:2])  # noqa: E731
    monkeypatch.setattr("mvai.smooth.adaptive_limit.lasting_share", everything)
    assert np.abs(plain.smooth(sequence).vertices - sequence.vertices).max() > 0.016


def test_low_confidence_frames_are_replaced(smoother: Adaptive):
    sequence = walking(40, noise=0.0)
    broken = sequence.vertices.copy()
    broken[20] += np.float32(0.5) * (broken[20] - broken[20].mean(0))
    sure = np.ones(40)
    sure[20] = 0.0
    repaired = dataclasses.replace(
        smoother, correct=0.0, arms=0.0, legs=0.0, trunk=0.0, keep_contacts=False
    ).smooth(dataclasses.replace(sequence, vertices=broken, confidence=sure))
    relative = repaired.vertices[20] - repaired.vertices[20].mean(0)
    truth = sequence.vertices[20] - sequence.vertices[20].mean(0)
    assert np.abs(relative - truth).max() < 0.02
    assert confident_means(np.ones(5), 25.0) is None
    # A clip that is lost for a second is left as it is there.
    lost = np.ones(60)
    lost[15:45] = 0.0
    repair = confident_means(lost, 25.0)
    assert repair is not None and repair[30, 30] > 0.99 and repair[20, 15:45].sum() > 0.9
    np.testing.assert_allclose(repair.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 33, 200])
@pytest.mark.parametrize("fps", [25.0, 60.0])
def test_other_meshes_lengths_and_rates(smoother: Adaptive, frames: int, fps: float):
    sequence = dataclasses.replace(tetrahedra(20, frames), fps=fps)
    out = smoother.smooth(sequence)
    assert out.vertices.shape == sequence.vertices.shape and np.isfinite(out.vertices).all()

    def shake(v: np.ndarray) -> float:
        relative = v - v.mean(1, keepdims=True)
        return float(np.abs(np.diff(relative, 2, axis=0)).mean()) if frames > 2 else 0.0

    if frames > 30:
        assert shake(out.vertices) < 0.8 * shake(sequence.vertices)


def test_taps_are_the_bank():
    frames, fps = 60, 25.0
    path = np.random.default_rng(0).normal(size=frames).astype(np.float32)
    taps = bank_taps(frames, fps)
    reach = taps.shape[1] // 2
    longer = np.pad(path, reach, mode="reflect", reflect_type="odd")
    got = (toeplitz(taps, frames) @ torch.from_numpy(longer)).reshape(FILTERS, frames)
    want = filter_bank(frames, fps) @ torch.from_numpy(path)
    np.testing.assert_allclose(got.numpy(), want.numpy(), atol=2e-3)


def test_handles_are_convex_and_near():
    body = anny_body()
    weights = body_handles(body, POINTS)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    places = body.regress(POINTS, body.template.numpy()[None])[0]
    led = weights @ places
    assert np.median(np.linalg.norm(led - body.template.numpy(), axis=-1)) < 0.1
    vertices = np.random.default_rng(0).normal(size=(300, 3))
    index, weights = sampled_handles(vertices, 20)
    assert len(set(index)) == 20 and weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(weights[index].argmax(1), np.arange(20))


# What was clearly seen.


def over_smoothed(seen: np.ndarray) -> np.ndarray:
    return gaussian_filter1d(seen, 3, axis=0, mode="nearest")


def test_a_fast_arm_that_is_seen_well_keeps_its_swing():
    rng = np.random.default_rng(0)
    swing = np.zeros((100, 1, 3))
    swing[:, 0, 0] = 0.3 * np.sin(2 * np.pi * 1.5 * np.arange(100) / 25)
    seen = swing + 0.001 * rng.normal(size=swing.shape)
    smooth = over_smoothed(seen)
    kept = limited(seen, smooth, 25.0)
    inner = slice(15, 85)
    lost = np.linalg.norm(smooth - swing, axis=-1)[inner].max()
    left = np.linalg.norm(kept - swing, axis=-1)[inner].max()
    assert lost > 0.12 and left < 0.15 * lost


def test_jitter_and_leaps_are_no_motion():
    rng = np.random.default_rng(0)
    shaking = 0.02 * rng.normal(size=(100, 3, 3))
    # For two frames a hand leaps to the other side.
    shaking[40:42, 0, 1] += 0.8
    smooth = over_smoothed(shaking)
    kept = limited(shaking, smooth, 25.0)
    assert np.linalg.norm(kept[40, 0]) < 0.6 * np.linalg.norm(shaking[40, 0])

    def shake(points: np.ndarray) -> float:
        return float(np.linalg.norm(np.diff(points[:, 1:], 2, axis=0), axis=-1).mean())

    assert shake(kept) < 0.15 * shake(shaking)


@settings(deadline=None, max_examples=20)
@given(frames=st.integers(1, 40), fps=st.sampled_from([5.0, 25.0, 60.0]), seed=st.integers(0, 99))
def test_the_limit_turns_with_the_points_and_only_leads_back(frames: int, fps: float, seed: int):
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(frames, 2, 3)).cumsum(0) * 0.05
    smooth = over_smoothed(seen)
    kept = limited(seen, smooth, fps)
    R = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    np.testing.assert_allclose(limited(seen @ R.T, smooth @ R.T, fps), kept @ R.T, atol=1e-9)
    np.testing.assert_allclose(limited(seen + 1, smooth + 1, fps), kept + 1, atol=1e-9)
    np.testing.assert_allclose(limited(seen, seen, fps), seen, atol=1e-12)


def test_a_jump_keeps_its_height_though_depth_shakes():
    rng = np.random.default_rng(0)
    t = np.arange(60) / 30
    up = 0.3 * np.sin(np.pi * t) ** 4
    centre = np.stack([0 * t, up, -4 + 0.05 * rng.normal(size=60)], 1)
    view = np.array([0.0, 0.0, 1.0])
    smooth = smoothed_centre(centre, view, 30.0)
    lost = np.abs(smooth[:, 1] - up).max()
    assert lost < 0.02

    def shake(path: np.ndarray) -> float:
        return float(np.abs(np.diff(path[5:-5, 2], 2)).mean())

    assert shake(smooth) < 0.15 * shake(centre)
    # Without a known view, all directions are one.
    assert np.abs(smoothed_centre(centre, 0 * view, 30.0)[:, 1] - up).max() > 1.5 * lost


# Contacts.


def stepping(fps: float = 25.0) -> tuple[np.ndarray, np.ndarray]:
    """Points of a walker whose left foot stands for a second, and the same over-smoothed."""
    frames = 75
    t = np.arange(frames) / fps
    points = np.zeros((frames, len(POINTS), 3))
    points += np.random.default_rng(0).normal(size=(1, len(POINTS), 3)) * 0.1 + [0, 1, 0]
    points[..., 0] += t[:, None]
    stand = np.interp(t, [0, 1, 2, 3], [0.0, 1.0, 1.0, 2.0])
    lift = 0.3 * (np.abs(t - 1.5) > 0.5)
    for i, name in enumerate(POINTS):
        if name.startswith("left_heel") or name.startswith("left_foot"):
            points[:, i] = np.stack([stand, lift, 0 * t], 1)
        if name.startswith("right_heel") or name.startswith("right_foot"):
            points[:, i] = np.stack([t, 0 * t + 0.4, 0 * t], 1)
    return points, gaussian_filter1d(points, 4, axis=0, mode="nearest")


def test_a_planted_foot_stays_planted():
    seen, smooth = stepping()
    fixed = smooth + contact_displacement(seen, smooth, POINTS, 25.0)
    heel = POINTS.index("left_heel")
    planted = slice(30, 46)

    def slide(points: np.ndarray) -> float:
        path = points[planted, heel][:, [0, 2]]
        return float(np.linalg.norm(np.diff(path, axis=0), axis=-1).mean())

    assert slide(seen) < 1e-9
    assert slide(fixed) < 0.5 * slide(smooth)
    far = POINTS.index("left_wrist")
    np.testing.assert_allclose(fixed[:, far], smooth[:, far])
    right = POINTS.index("right_heel")
    np.testing.assert_allclose(fixed[:, right], smooth[:, right], atol=1e-9)


def test_a_clap_still_touches():
    frames, fps = 50, 25.0
    gap = 0.06 + 0.5 * np.abs(np.sin(2 * np.pi * np.arange(frames) / fps))
    points = np.random.default_rng(0).normal(size=(1, len(POINTS), 3)).repeat(frames, 0)
    for part in ("wrist", "index"):
        for side, sign in (("left", 1), ("right", -1)):
            i = POINTS.index(f"{side}_{part}")
            points[:, i] = [0, 1.2, 0.4]
            points[:, i, 0] += sign * gap / 2
    smooth = gaussian_filter1d(points, 3, axis=0, mode="nearest")
    fixed = smooth + contact_displacement(points, smooth, POINTS, fps)
    left, right = POINTS.index("left_index"), POINTS.index("right_index")

    def nearest(p: np.ndarray) -> float:
        return float(np.linalg.norm(p[:, left] - p[:, right], axis=-1)[10:40].min())

    assert nearest(smooth) > 0.2 and nearest(points) < 0.07
    assert nearest(fixed) < 0.6 * nearest(smooth)
    # Hands that are apart are left alone.
    apart = np.flatnonzero(gap > 0.45)
    np.testing.assert_allclose(fixed[apart][:, left], smooth[apart][:, left], atol=0.03)


# Training and files.


def body_clips(count: int, seed: int = 0) -> list:
    """`noisy_clips` with vertices of our body, so that it is known which joints they follow."""
    from mvai.train.smoothing_clips import regressor_for

    A, indices = regressor_for(anny_body(), POINTS)
    clips = []
    for clip in noisy_clips(count, seed):
        joints = clip.joints()
        owner = np.abs(A).argmax(0)
        vertices = joints[:, owner]
        exact = np.eye(len(POINTS), dtype=np.float32)[:, owner]
        exact /= exact.sum(1, keepdims=True)
        clips.append(dataclasses.replace(clip, vertices=vertices, regressor=exact, indices=indices))
    return clips


def test_training_the_adaptive_filter(tmp_path: Path):
    recipe = dataclasses.replace(RECIPE, frames=32, steps=60)
    clips, held = body_clips(10), body_clips(4, 1)
    settings = AdaptiveFilterSettings(width=8, correction_width=16)
    network, history = train_adaptive(clips, held, settings, recipe)
    untrained = dataclasses.replace(recipe, steps=1, learning_rate=1e-9)
    _, before = train_adaptive(clips, held, settings, untrained)
    assert min(h["validation"] for h in history) < 0.97 * before[0]["validation"]
    save_adaptive(network, recipe, 25.0, tmp_path / "w.safetensors", {})
    assert Adaptive(tmp_path / "w.safetensors").smooth(walking(12)).frames == 12


def test_training_smoothnet(tmp_path: Path):
    recipe = dataclasses.replace(RECIPE, frames=16, steps=80, learning_rate=1e-3)
    settings = SmoothNetSettings(frames=16, hidden=32, inner=16)
    network, history = train_smoothnet(noisy_clips(10), noisy_clips(4, 1), settings, recipe)
    assert history[-1]["validation"] < history[0]["validation"]
    save_smoothnet(network, recipe, 25.0, 0.5, tmp_path / "w.safetensors", {})
    smoother = SmoothNetSmoother(tmp_path / "w.safetensors")
    assert smoother.smooth(tetrahedra(3, 30)).frames == 30


def test_smoothnet_sees_one_coordinate_at_a_time():
    torch.manual_seed(0)
    network = SmoothNet(SmoothNetSettings(frames=16, hidden=8, inner=4)).eval()
    torch.testing.assert_close(network(torch.ones(3, 16)), torch.ones(3, 16))
    torch.nn.init.normal_(network.decoder.weight, std=0.1)
    paths = torch.randn(16, 3, 5)
    got = network.window(paths)
    torch.testing.assert_close(got[:, 1, 2], network(paths[:, 1, 2]))


def test_smoothnet_loss():
    truth, predicted = torch.zeros(3, 1, 3), torch.zeros(3, 1, 3)
    predicted[1, 0, 0] = 1.0
    # One of 9 values is off by 1; the only second difference is off by 2 in one of 3 values.
    assert smoothnet_loss(predicted, truth).item() == pytest.approx(1 / 9 + 2 / 3)


def test_weights_are_named_when_they_are_missing(tmp_path: Path):
    for smoother in (Adaptive, SmoothNetSmoother):
        with pytest.raises(MvaiError, match=r"nowhere\.safetensors"):
            smoother(tmp_path / "nowhere.safetensors").smooth(tetrahedra(2, 20))


@pytest.mark.parametrize("kind", ["mesh2mesh", "adaptive", "smoothnet"])
def test_weights_from_a_benchmark(tmp_path: Path, monkeypatch, kind):
    """What the command does, on made-up clips: the file it writes is one the smoother reads."""
    from mvai.progress import Silent
    from mvai.smooth import method
    from mvai.train import smoother_weights

    asked = []

    def clips(benchmark: Path, backbone: str, pool: str) -> list:
        asked.append((benchmark.name, backbone, pool))
        return body_clips(4, len(asked))

    monkeypatch.setattr(smoother_weights, "read_clips", clips)
    recipe = dataclasses.replace(smoother_weights.RECIPES[kind], steps=4, batch=2)
    monkeypatch.setitem(smoother_weights.RECIPES, kind, recipe)
    out = tmp_path / "w.safetensors"
    text = smoother_weights.train_weights(kind, Path("bench"), "smplify-x", out, Silent())
    assert asked == [("bench", "smplify-x", "train"), ("bench", "smplify-x", "validation")]
    assert text.startswith("4 clips; loss on 4 clips of other people")
    assert method(kind)(out).smooth(tetrahedra(3, 40)).frames == 40
    assert list(tmp_path.iterdir()) == [out]
