"""The maths of the fit against naive twins, and the fit against bodies it should find."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.geometry.banded import solve_chain
from mvai.geometry.lbfgs import minimise
from mvai.nets.pose_prior import GaussianMixture, load_pose_prior
from mvai.reconstruct import method
from mvai.reconstruct.clip_energy import ClipEnergy, Observation
from mvai.reconstruct.clip_weights import ClipWeights
from mvai.reconstruct.collision import spheres_of
from mvai.reconstruct.energy import angle_prior, gmof, hinge_axes
from mvai.reconstruct.fit_clip import fit_clip, unwrapped
from mvai.reconstruct.fit_windows import stretch, windows
from mvai.reconstruct.initial import solve_translation, torso_orientation, viewing_rotation
from mvai.reconstruct.kinematics import Kinematics
from mvai.reconstruct.lengthen import ADULT, HEAD, LENGTHENED, TRUNK, lengthened, lengthening
from mvai.reconstruct.smplify_x import SmplifyX
from mvai.types import Camera, Keypoints, MvaiError
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS

NAMES = (
    "nose",
    "left_shoulder",
    "right_shoulder",
    "left_hip",
    "right_hip",
    "left_knee",
    "left_heel",
)
LIMBS = tuple(
    f"{s}_{j}" for s in ("left", "right")
    for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(2)


# --- solvers ------------------------------------------------------------------------------------


def test_minimise_solves_independent_quadratics_each_at_its_own_pace():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(5, 6, 6, generator=generator)
    A = A @ A.transpose(1, 2) + torch.diag(torch.logspace(-1, 2, 6))
    b = torch.randn(5, 6, generator=generator)

    def energy(x):
        return 0.5 * torch.einsum("pi,pij,pj->p", x, A, x) - (b * x).sum(1)

    x = minimise(energy, torch.zeros(5, 6), iterations=80, tolerance=1e-12)
    torch.testing.assert_close(x, torch.linalg.solve(A, b), atol=1e-3, rtol=1e-3)


def test_minimise_leaves_a_solved_problem_alone_while_others_go_on():
    def energy(x):
        return (x**2).sum(1) * torch.tensor([1.0, 1e3])

    x = minimise(energy, torch.tensor([[0.0, 0.0], [1.0, -1.0]]), iterations=40)
    assert x.abs().max() < 1e-3


@settings(deadline=None, max_examples=15)
@given(st.integers(3, 7), st.integers(1, 4), st.integers(0, 3), st.integers(0, 10_000))
def test_chain_solver_agrees_with_a_dense_solve(frames, size, shared, seed):
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(frames, size, size)) for _ in range(3)]
    blocks[0] = blocks[0] + blocks[0].transpose(0, 2, 1) + 12 * size * np.eye(size)
    border = rng.normal(size=(frames, size, shared))
    corner = 40 * frames * np.eye(shared)
    right, right_shared = rng.normal(size=(frames, size)), rng.normal(size=shared)
    n = frames * size
    dense = np.zeros((n + shared, n + shared))
    for offset, block in enumerate(blocks):
        for f in range(frames - offset):
            a, b = (
                slice(f * size, (f + 1) * size),
                slice((f + offset) * size, (f + offset + 1) * size),
            )
            dense[a, b] = block[f]
            dense[b, a] = block[f].T
    dense[:n, n:], dense[n:, :n] = border.reshape(n, shared), border.reshape(n, shared).T
    dense[n:, n:] = corner
    x, s = solve_chain(blocks, border, corner, right, right_shared)
    expected = np.linalg.solve(dense, np.concatenate([right.ravel(), right_shared]))
    np.testing.assert_allclose(np.concatenate([x.ravel(), s]), expected, atol=1e-9)


# --- kinematics and energy ----------------------------------------------------------------------


def numerically(kinematics: Kinematics, u: torch.Tensor, shape: torch.Tensor, step: float = 1e-3):
    """Central differences of the points with respect to u: the naive twin of `linearise`."""
    columns = []
    for i in range(u.shape[1]):
        e = torch.zeros_like(u)
        e[:, i] = step
        high = kinematics.linearise(u + e, shape, derivatives=False).points
        low = kinematics.linearise(u - e, shape, derivatives=False).points
        columns.append((high - low) / (2 * step))
    return torch.stack(columns, -1).numpy()


def test_derivatives_in_closed_form_agree_with_differences():
    kinematics = Kinematics(anny_body(), NAMES, 10)
    generator = torch.Generator().manual_seed(1)
    u, shape = 0.7 * torch.randn(4, 69, generator=generator), torch.randn(10, generator=generator)
    at = kinematics.linearise(u, shape, derivatives=True)
    np.testing.assert_allclose(at.by_frame.numpy(), numerically(kinematics, u, shape), atol=2e-3)
    for s in range(10):
        e = 0.01 * torch.eye(10)[s]
        high = kinematics.linearise(u, shape + e, derivatives=False).points
        low = kinematics.linearise(u, shape - e, derivatives=False).points
        torch.testing.assert_close(at.by_shape[..., s], (high - low) / 0.02, atol=1e-3, rtol=0)


def test_closed_form_points_are_those_of_the_body_model():
    body = anny_body()
    kinematics = Kinematics(body, NAMES, 10)
    u = 0.4 * torch.randn(3, 69, generator=torch.Generator().manual_seed(2))
    shape = torch.zeros(24)
    shape[:10] = torch.linspace(-1, 1, 10)
    joints, points = body.joints_and_keypoints(
        NAMES, shape[None], kinematics.rotations(u), u[:, 3:6]
    )
    got = kinematics.linearise(u, shape[:10], derivatives=False).points
    torch.testing.assert_close(got[:, 22:], points, atol=1e-5, rtol=0)
    torch.testing.assert_close(got[:, 4], joints[:, body.joint("LeftToeBase")], atol=1e-5, rtol=0)


def energy_of_random_clip(seed: int, frames: int = 5) -> tuple[ClipEnergy, Kinematics]:
    body = anny_body()
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tensor = lambda *s: torch.from_numpy(rng.normal(size=s)).float()  # noqa: E731
    joints, axes, bends = hinge_axes(body)
    prior = load_pose_prior()
    assert isinstance(prior, GaussianMixture)
    observation = Observation(
        xy_px=200 + 60 * tensor(frames, len(NAMES), 2),
        confidence=torch.rand(frames, len(NAMES)),
        xyz_m=0.4 * tensor(frames, len(NAMES), 3),
        landmark_inverse_m=10 + tensor(frames, len(NAMES), 3),
        pixel_m=torch.full((frames,), 0.01),
        planted=torch.rand(frames - 1, len(NAMES)) > 0.5,
        unseen=(torch.rand(frames, 21) > 0.5).float(),
        focal_px=500.0,
        centre_px=torch.tensor([200.0, 200.0]),
        fps=10.0,
    )
    # Without the robust functions Gauss-Newton's gradient is the exact one.
    weights = ClipWeights(pixel_rho_m=1e4, landmark_rho=1e4)
    return ClipEnergy(
        observation, weights, prior, spheres_of(body), 22, (22 + 3, 22 + 4),
        [BODY_JOINTS.index(body.joints[j]) - 1 for j in joints], axes, bends, torch.zeros(10),
    ), Kinematics(body, NAMES, 10)  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_the_systems_gradient_is_the_derivative_of_the_energy(seed):
    energy, kinematics = energy_of_random_clip(seed)
    generator = torch.Generator().manual_seed(seed)
    u = 0.25 * torch.randn(5, 69, generator=generator)
    u[:, 5] = -3.0 + 0.1 * torch.arange(5)
    shape = 0.3 * torch.randn(10, generator=generator)
    at = kinematics.linearise(u, shape, derivatives=True)
    system = energy.system(u, shape, at)
    for _ in range(6):
        d = torch.randn(5, 69, generator=generator)
        d = d / d.norm()
        step = 3e-3
        high, low = (
            energy.value(v, shape, kinematics.linearise(v, shape, derivatives=False).points)
            for v in (u + step * d, u - step * d)
        )
        expected = (high - low) / (2 * step)
        assert float((system.gradient * d).sum()) == pytest.approx(expected, rel=0.03, abs=2.0)


def test_robust_function_values_of_the_paper():
    # rho^2 r^2 / (r^2 + rho^2) with rho = 100: 50 at r^2 = 100 / 1.99..., half of rho^2 at r = rho.
    assert float(gmof(torch.tensor(100.0**2), 100.0)) == pytest.approx(5000.0)
    assert float(gmof(torch.tensor(4.0), 100.0)) == pytest.approx(4.0, rel=1e-3)
    assert float(gmof(torch.tensor(1e12), 100.0)) == pytest.approx(1e4, rel=1e-4)


def test_angle_prior_punishes_knees_bent_forwards_only():
    _, axes, bends = hinge_axes(anny_body())
    rest = torch.zeros(1, 4, 3)
    back, front = rest.clone(), rest.clone()
    back[0, 1, 0], front[0, 1, 0] = 1.0, -1.0
    e = [float(angle_prior(v, axes, bends)) for v in (back, rest, front)]
    assert e[0] < e[1] < e[2]
    assert e[2] - e[1] == pytest.approx(np.exp(2.0) - 1.0, rel=1e-4)


def test_spheres_collide_when_an_arm_enters_the_chest():
    body = anny_body()
    spheres = spheres_of(body)
    rest = body.joint_template[[body.joint(n) for n in BODY_JOINTS]][None].clone()
    assert float(spheres.penetration(rest)) == 0.0
    inside = rest.clone()
    chest = BODY_JOINTS.index("Spine2")
    inside[0, BODY_JOINTS.index("LeftHand")] = rest[0, chest]
    assert float(spheres.penetration(inside)) > 1e-3
    frame, _, _, direction, overlap = spheres.contacts(inside)
    assert (frame == 0).all() and (overlap > 0).all()
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(len(frame)))


# --- starting points ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.floats(-3, 3), st.floats(-1, 1), st.floats(-8, -1.5), st.integers(0, 999))
def test_translation_is_recovered_from_exact_pixels(x, y, z, seed):
    rng = np.random.default_rng(seed)
    relative = rng.normal(size=(1, 8, 3)) * 0.4
    camera = Camera.from_focal(700, 640, 480)
    t = np.array([x, y, z])
    if ((relative + t)[..., 2] > -0.3).any():
        return
    xy = camera.project(relative + t)
    got = solve_translation(relative, xy, np.ones((1, 8)), 700, np.array([320.0, 240.0]))
    np.testing.assert_allclose(got[0], t, atol=1e-5)


def test_torso_orientation_turns_with_the_torso():
    body = anny_body()
    names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    rest = body.regress(names, body.template.numpy()[None])
    R = Rotation.from_rotvec([[0.2, 2.5, -0.3], [0, 0, 0]]).as_matrix()
    xyz = np.einsum("fab,pb->fpa", R, rest[0])
    np.testing.assert_allclose(torso_orientation(body, names, xyz), R, atol=1e-6)


def test_rotation_vectors_do_not_jump_when_a_person_spins():
    angles = np.linspace(0, 4 * np.pi, 60)
    wrapped = Rotation.from_euler("Y", angles[:, None]).as_rotvec()
    steps = np.linalg.norm(np.diff(unwrapped(wrapped), axis=0), axis=1)
    assert np.linalg.norm(np.diff(wrapped, axis=0), axis=1).max() > 3
    assert steps.max() < 0.3


# --- whole fits ---------------------------------------------------------------------------------


def performed(frames: int = 24, depth: bool = True) -> tuple[Keypoints, np.ndarray, Camera]:
    """A body that squats with one arm raised and turns, projected without error."""
    body = anny_body()
    t = np.linspace(0, 1, frames)
    u = torch.zeros(frames, 69)
    swing = torch.from_numpy(np.sin(np.pi * t)).float()
    u[:, 1] = 0.5 * swing
    u[:, 3] = torch.from_numpy(0.3 * t).float()
    u[:, 4], u[:, 5] = -0.1 * swing, -3.5

    def joint(name, axis, angle):
        u[:, 6 + 3 * (BODY_JOINTS.index(name) - 1) + axis] = angle * swing

    for side in ("Left", "Right"):
        joint(f"{side}UpLeg", 0, -0.8)
        joint(f"{side}Leg", 0, 1.2)
        joint(f"{side}Foot", 0, -0.4)
    joint("LeftArm", 2, 0.9)
    kinematics = Kinematics(body, BODY_KEYPOINTS, 10)
    points = kinematics.linearise(u, torch.zeros(10), derivatives=False).points[:, 22:].numpy()
    camera = Camera.from_focal(650, 640, 480)
    middle = points[:, [23, 24]].mean(1, keepdims=True)
    keypoints = Keypoints(
        names=BODY_KEYPOINTS,
        xy_px=camera.project(points),
        confidence=np.full((frames, 33), 0.95),
        fps=24.0,
        width=640,
        height=480,
        xyz_m=None,
    )
    if depth:
        R = viewing_rotation(keypoints, 650)
        xyz = np.einsum("fba,fpb->fpa", R, (points - middle) * [1, -1, -1])
        keypoints = replace(keypoints, xyz_m=xyz)
    return keypoints, points, camera


def test_a_body_cut_off_by_the_picture_is_looked_at_where_its_trunk_is():
    keypoints, _, _ = performed(frames=6, depth=True)
    whole = viewing_rotation(keypoints, 650)
    below = [i for i, n in enumerate(BODY_KEYPOINTS) if n.endswith(("hip", "knee", "ankle"))]
    xy = keypoints.xy_px.copy()
    xy[2:, below] = np.nan
    cut = replace(keypoints, xy_px=xy)
    off = Rotation.from_matrix(viewing_rotation(cut, 650).transpose(0, 2, 1) @ whole).magnitude()
    assert np.degrees(off).max() < 1.5
    # Without metres nothing says where the hips are: the middle of the picture has to do.
    plain = viewing_rotation(replace(cut, xyz_m=None), 650)
    np.testing.assert_allclose(plain[2:], np.tile(np.eye(3), (4, 1, 1)), atol=1e-9)


def limb_error_mm(sequence, points) -> float:
    got = anny_body().regress(LIMBS, sequence.vertices)
    T = sequence.camera.T_camera_world
    want = points[:, [BODY_KEYPOINTS.index(n) for n in LIMBS]] * [1, -1, -1]
    got = got @ T[:3, :3].T + T[:3, 3]
    hips = [LIMBS.index("left_hip"), LIMBS.index("right_hip")]
    got, want = (p - p[:, hips].mean(1, keepdims=True) for p in (got, want))
    return 1000 * float(np.linalg.norm(got - want, axis=-1).mean())


def knee_bend(sequence) -> np.ndarray:
    """Largest bend of either knee in every frame, degrees."""
    bends = []
    for side in ("left", "right"):
        hip, knee, ankle = (
            anny_body()
            .regress([f"{side}_{p}" for p in ("hip", "knee", "ankle")], sequence.vertices)
            .transpose(1, 0, 2)
        )
        thigh, shin = knee - hip, ankle - knee
        cosine = (
            (thigh * shin).sum(1) / np.linalg.norm(thigh, axis=1) / np.linalg.norm(shin, axis=1)
        )
        bends.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return np.max(bends, axis=0)


def test_people_stand_on_legs_that_are_not_in_the_picture():
    keypoints, _, _ = performed()
    assert knee_bend(SmplifyX().reconstruct(keypoints)).max() > 40
    below = [i for i, n in enumerate(BODY_KEYPOINTS) if n.split("_", 1)[-1] in
             ("knee", "ankle", "heel", "foot_index")]  # fmt: skip
    xy = keypoints.xy_px.copy()
    xy[:, below, 1] += keypoints.height
    outside = replace(keypoints, xy_px=xy)
    assert knee_bend(SmplifyX().reconstruct(outside)).max() < 20


def test_default_setting_finds_a_known_performance():
    keypoints, points, _ = performed()
    sequence = SmplifyX().reconstruct(keypoints)
    assert sequence.topology == "anny" and sequence.vertices.shape == (24, 13718, 3)
    assert limb_error_mm(sequence, points) < 60
    reprojected = sequence.camera.project(anny_body().regress(LIMBS, sequence.vertices))
    seen = keypoints.xy_px[:, [BODY_KEYPOINTS.index(n) for n in LIMBS]]
    assert np.median(np.linalg.norm(reprojected - seen, axis=-1)) < 5
    # The world is level and the person stands on its floor.
    assert abs(np.median(sequence.vertices[..., 1].min(1))) < 0.1


def test_a_camera_that_sways_moves_in_the_result_and_the_feet_do_not():
    """Somebody stands, and all of the picture goes up and down by 10 pixels."""
    keypoints, _, _ = performed(60)
    still = stretch(keypoints, slice(0, 1))
    up = 10 * np.sin(np.linspace(0, 2 * np.pi, 60))
    shaken = replace(
        keypoints,
        xy_px=still.xy_px + np.stack([np.zeros(60), up], 1)[:, None],
        xyz_m=None if still.xyz_m is None else still.xyz_m.repeat(60, 0),
    )
    sequence = SmplifyX().reconstruct(shaken)
    assert sequence.camera is not None and sequence.camera.path_m is not None
    feet = ("left_heel", "left_foot_index", "right_heel", "right_foot_index")
    height = anny_body().regress(feet, sequence.vertices)[..., 1]
    assert np.ptp(height, axis=0).max() < 0.03 < 0.08 < np.ptp(sequence.camera.path_m[:, 1])
    reprojected = sequence.camera.project(anny_body().regress(LIMBS, sequence.vertices))
    seen = shaken.xy_px[:, [BODY_KEYPOINTS.index(n) for n in LIMBS]]
    assert np.median(np.linalg.norm(reprojected - seen, axis=-1)) < 5


def test_every_bone_is_lengthened_by_its_factor_and_keeps_its_direction():
    landmarks = np.random.default_rng(0).normal(size=(5, 33, 3))
    longer = lengthened(landmarks)

    def bone(points: np.ndarray, a: str, b: str) -> np.ndarray:
        return points[:, BODY_KEYPOINTS.index(b)] - points[:, BODY_KEYPOINTS.index(a)]

    def middle(points: np.ndarray, part: str) -> np.ndarray:
        return points[:, [BODY_KEYPOINTS.index(f"{s}_{part}") for s in ("left", "right")]].mean(1)

    for a, b in (
        ("left_hip", "right_hip"), ("right_hip", "right_knee"), ("left_ankle", "left_foot_index"),
        ("left_shoulder", "left_elbow"), ("right_elbow", "right_wrist"),
        ("left_wrist", "left_thumb"), ("left_ear", "nose"),
    ):  # fmt: skip
        factor = ADULT * LENGTHENED.get(b.split("_", 1)[-1], HEAD)
        np.testing.assert_allclose(bone(longer, a, b), factor * bone(landmarks, a, b))
    trunk = [middle(p, "shoulder") - middle(p, "hip") for p in (landmarks, longer)]
    np.testing.assert_allclose(trunk[1], ADULT * TRUNK * trunk[0])


def test_landmarks_that_are_too_near_as_expectations_are_give_the_true_stature():
    keypoints = performed()[0]
    body = anny_body()
    # The factors act on points alike in x, y and z, so one matrix holds them all.
    factors = lengthened(np.eye(33)[:, :, None].repeat(3, 2))[..., 0].T

    def lift(seen: Keypoints):
        assert seen.xyz_m is not None
        near = np.linalg.solve(factors, np.nan_to_num(seen.xyz_m[:, :33]))
        return near, np.full((seen.frames, 33, 2), 0.02)

    with torch.no_grad():
        fit = fit_clip(body, keypoints, load_pose_prior(), lengthening(lift), ClipWeights())
        shaped = body.template + torch.einsum("b,bvd->vd", fit.shape, body.directions[:10])
    tall = [np.ptp(rest.numpy()[:, 1]) for rest in (body.template, shaped)]
    assert abs(np.log(tall[1] / tall[0])) < 0.015


def test_default_setting_bridges_a_gap():
    keypoints, points, _ = performed()
    present = np.ones(24, bool)
    present[10:14] = False
    confidence = keypoints.confidence.copy()
    confidence[~present] = 0.0
    gap = replace(keypoints, present=present, confidence=confidence)
    sequence = SmplifyX().reconstruct(gap)
    assert sequence.confidence is not None and (sequence.confidence[~present] == 0).all()
    assert limb_error_mm(sequence, points) < 80
    speed = np.linalg.norm(np.diff(sequence.vertices, axis=0), axis=-1).max()
    assert speed < 0.2


def test_paper_setting_matches_the_pixels_of_every_frame():
    keypoints, _, _ = performed(frames=6, depth=False)
    sequence = SmplifyX(setting="paper").reconstruct(keypoints)
    reprojected = sequence.camera.project(anny_body().regress(LIMBS, sequence.vertices))
    seen = keypoints.xy_px[:, [BODY_KEYPOINTS.index(n) for n in LIMBS]]
    assert np.median(np.linalg.norm(reprojected - seen, axis=-1)) < 6


def test_one_frame_is_enough_for_both_settings():
    keypoints, _, _ = performed(frames=1)
    for setting in ("default", "paper"):
        sequence = SmplifyX(setting=setting).reconstruct(keypoints)  # type: ignore[arg-type]
        assert np.isfinite(sequence.vertices).all() and len(sequence.vertices) == 1


def test_progress_reaches_the_end():
    calls: list[tuple[int, int | None]] = []
    SmplifyX().reconstruct(performed(frames=3)[0], lambda d, t: calls.append((d, t)))
    assert calls[-1] == (3, 3)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(calls))


def test_unknown_method_is_refused():
    with pytest.raises(MvaiError, match="smplify-x"):
        method("hmr")


def test_windows_cover_every_frame_and_overlap():
    for frames in (1, 480, 481, 900, 2000):
        spans = windows(frames)
        covered = np.zeros(frames, int)
        for s in spans:
            covered[s] += 1
            assert s.stop - s.start <= 480
        assert covered.min() >= 1
        assert all(a.stop - b.start >= 40 for a, b in itertools.pairwise(spans))


def test_a_clip_cut_into_windows_stays_in_one_piece(monkeypatch):
    keypoints, points, _ = performed(frames=60)
    short = windows
    monkeypatch.setattr("mvai.reconstruct.fit_windows.windows", lambda n: short(n, 40, 12))
    sequence = SmplifyX().reconstruct(keypoints)
    assert limb_error_mm(sequence, points) < 60
    steps = np.linalg.norm(np.diff(sequence.vertices, axis=0), axis=-1).max(1)
    assert steps.max() < 3 * np.median(steps) + 0.02


def test_nobody_is_invented_where_nobody_was_seen():
    keypoints, _, _ = performed(frames=40)
    present = np.ones(40, bool)
    present[:8] = present[34:] = False
    confidence = keypoints.confidence * present[:, None]
    sequence = SmplifyX().reconstruct(replace(keypoints, present=present, confidence=confidence))
    # Half a second before and after what was seen well, which is frames 12 to 29, he stands.
    assert knee_bend(sequence)[16:25].min() > 25
    assert knee_bend(sequence)[0] < 10
    assert not (sequence.vertices[12] == sequence.vertices[13]).all()
    steps = np.linalg.norm(np.diff(sequence.vertices, axis=0), axis=-1).max(1)
    assert steps.max() < 0.2
