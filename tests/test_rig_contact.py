"""Hands touch what they touch in the source, and keep out of a stouter body."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvai.geometry.rigid import transforms
from mvai.geometry.surface import vertex_normals
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_arms import Arms, Terms, solve_arms
from mvai.transfer.rig_contact import Walls, contact_frames
from mvai.transfer.rig_contact import _step as step_of_arms
from mvai.transfer.rig_drive import drive
from mvai.transfer.rig_nearest import (
    ABOVE_M,
    ASIDE,
    FOLLOWED_M,
    REACH_M,
    Surroundings,
    movers_of,
    nearest,
)
from mvai.transfer.rig_points import (
    BodyPoints,
    arm_joints,
    below,
    bound_points,
    point_set,
    source_points,
)
from mvai.transfer.rig_register import Registration
from mvai.transfer.rig_retarget import positions_on
from mvai.transfer.rig_source import body_motion
from mvai.transfer.rig_touches import Hanging, hanging_arms, touches
from mvai.types import Mesh, MeshSequence, Part
from test_transfer import BODY, JOINT, own_registration, sequence

POINTS = point_set(BODY)
AS_IS = RigTransfer(find_floor=False, lock_feet=False, keep_touch=False, avoid_body=False)
CLAP = {"Arm": (-33, -36, -62.9), "ForeArm": (-29.9, -28.1, 31.1)}
HIPS = {"Arm": (53.5, 33.5, -28), "ForeArm": (-44.4, -55, -10.3)}


def acted(pose: dict[str, tuple[float, float, float]], frames: int = 12) -> MeshSequence:
    """From rest into a pose that is alike on both sides, given in degrees for the left."""
    rotvecs = np.zeros((frames, len(BODY.joints), 3))
    share = np.clip(np.linspace(0, 2, frames), 0, 1)[:, None]
    for name, degrees in pose.items():
        rotvecs[:, JOINT[f"Left{name}"]] = share * np.radians(degrees)
        rotvecs[:, JOINT[f"Right{name}"]] = share * np.radians(degrees) * [1, -1, -1]
    return sequence(rotvecs)


def registered(vertices: np.ndarray, registration: Registration) -> Registration:
    """The body with another surface, or with other bones, and the template lying on it."""
    skin = registration.skeleton.skin
    points = bound_points(BODY, vertices, Mesh(vertices, BODY.faces), skin)
    character = replace(registration.character, parts=(Part("body", vertices, BODY.faces),))
    return replace(registration, character=character, points=points)


def stout() -> Registration:
    """The body with a trunk and thighs that are 4 cm thicker."""
    own = own_registration()
    W = BODY.dense_weights.numpy()
    thick = W[:, [JOINT[n] for n in ("Hips", "Spine", "Spine1", "LeftUpLeg", "RightUpLeg")]].sum(1)
    vertices = own.character.mesh.vertices
    return registered(vertices + 0.04 * thick[:, None] * vertex_normals(vertices, BODY.faces), own)


def short_arms() -> Registration:
    """The body with arms of four fifths of their length."""
    own = own_registration()
    skin = own.skeleton.skin
    shrink, at = 0.8, skin.T_world_joint[:, :3, 3].copy()
    vertices = own.character.mesh.vertices.copy()
    W = BODY.dense_weights.numpy()
    for side in ("Left", "Right"):
        arm = JOINT[f"{side}Arm"]
        moves, centre = below(skin.parents, arm), at[arm].copy()
        at[moves] = centre + shrink * (at[moves] - centre)
        vertices += (W[:, moves].sum(1) * (shrink - 1))[:, None] * (vertices - centre)
    moved = replace(skin, T_world_joint=transforms(skin.T_world_joint[:, :3, :3], at))
    return registered(vertices, replace(own, skeleton=replace(own.skeleton, skin=moved)))


def clearance(registration: Registration, Ts: np.ndarray) -> np.ndarray:
    """Least distance of points of the hands above the rest of the body, in every frame."""
    assert registration.points is not None
    x, n = registration.points.posed(registration.skeleton.skin, Ts.astype(float))
    near = nearest(POINTS, x, n, 1.0)
    return near.height_m[:, POINTS.hand[near.movers] >= 0].min(1)


def hands_apart(registration: Registration, Ts: np.ndarray) -> float:
    """Least distance between points of both hands in the last frame."""
    assert registration.points is not None
    x, _ = registration.points.posed(registration.skeleton.skin, Ts[-1:].astype(float))
    left, right = x[0, POINTS.hand == 0], x[0, POINTS.hand == 1]
    return float(np.linalg.norm(left[:, None] - right[None], axis=-1).min())


def test_hands_on_the_hips_of_a_stouter_body_lie_on_it():
    hero, source = stout(), acted(HIPS)
    before, after = drive(hero, source, AS_IS), drive(hero, source, replace(AS_IS, keep_touch=True))
    assert before.Ts_world_joint is not None and after.Ts_world_joint is not None
    assert clearance(hero, before.Ts_world_joint)[-1] < -0.02
    assert abs(clearance(hero, after.Ts_world_joint)[-1]) < 0.01


def test_hands_are_pushed_out_of_a_stouter_body():
    hero, source = stout(), acted(HIPS)
    after = drive(hero, source, replace(AS_IS, avoid_body=True)).Ts_world_joint
    assert after is not None and clearance(hero, after)[-1] > -0.006
    feet = [JOINT["LeftFoot"], JOINT["RightFoot"], JOINT["Head"]]
    as_is = drive(hero, source, AS_IS).Ts_world_joint
    assert as_is is not None
    np.testing.assert_allclose(after[:, feet], as_is[:, feet], atol=1e-6)


def test_short_arms_clap():
    hero, source = short_arms(), acted(CLAP)
    before, after = drive(hero, source, AS_IS), drive(hero, source, replace(AS_IS, keep_touch=True))
    assert before.Ts_world_joint is not None and after.Ts_world_joint is not None
    assert hands_apart(hero, before.Ts_world_joint) > 0.03
    assert hands_apart(hero, after.Ts_world_joint) < 0.015
    path = after.Ts_world_joint[:, JOINT["LeftHand"], :3, 3]
    steps = np.linalg.norm(np.diff(path, 2, axis=0), axis=1)
    as_is = before.Ts_world_joint[:, JOINT["LeftHand"], :3, 3]
    assert steps.max() < np.linalg.norm(np.diff(as_is, 2, axis=0), axis=1).max() + 0.01


def test_the_same_body_stays_as_it_is():
    own, source = own_registration(), acted(HIPS)
    hero = registered(own.character.mesh.vertices, own)
    before, after = drive(hero, source, AS_IS), drive(hero, source, replace(AS_IS, keep_touch=True))
    assert before.Ts_world_joint is not None and after.Ts_world_joint is not None
    assert np.abs(before.Ts_world_joint - after.Ts_world_joint)[..., 3].max() < 0.004


def test_a_mesh_source_shows_its_touches_through_its_registration():
    own, source = own_registration(), acted(HIPS, 6)
    hero = registered(own.character.mesh.vertices, own)
    assert hero.points is not None
    motion = body_motion(BODY, source)
    x, n, size = source_points(POINTS, BODY, source, motion, None)
    y, m, other = source_points(POINTS, BODY, source, motion, (hero.skeleton, hero.points))
    assert size == pytest.approx(other, rel=0.02)
    assert np.linalg.norm(x - y, axis=-1).mean() < 0.01
    assert (n * m).sum(-1).mean() > 0.98


HANGING = {"Arm": (25, 0, -35), "ForeArm": (0, 0, -6)}
ON_THIGHS = {"Arm": (8.4, -49, -29.9), "ForeArm": (44.4, -14, 9)}


def stout_source(pose: dict[str, tuple[float, float, float]]) -> tuple[float, float]:
    """How surely hands touch a body whose thighs are 4 cm thicker, and without hanging arms."""
    hero, motion = stout(), body_motion(BODY, acted(pose))
    assert hero.points is not None
    x, n, size = source_points(
        POINTS, BODY, acted(pose), motion, (hero.skeleton, hero.points), np.array([11])
    )
    hanging = hanging_arms(BODY, motion.R_world_joint[[11]])
    every, some = touches(POINTS, x, n, size), touches(POINTS, x, n, size, hanging)
    return float(every.weight.sum()), float(some.weight.sum())


def test_arms_that_hang_do_not_touch_the_thighs_beside_them():
    every, some = stout_source(HANGING)
    assert every > 1.5 and some < 0.05


def test_hands_on_hips_and_on_the_front_of_straight_legs_touch():
    for pose in (HIPS, ON_THIGHS, CLAP):
        every, some = stout_source(pose)
        assert every > 1.5 and some > 0.98 * every


def test_hands_clasped_before_the_body_touch_though_the_arms_hang():
    x = np.zeros((1, len(POINTS.ids), 3), np.float32)
    x[0, :, 0] = 10.0 * np.arange(len(POINTS.ids))
    left, right = (int(np.flatnonzero(POINTS.hand == s)[0]) for s in (0, 1))
    x[0, right] = x[0, left] + [0.005, 0, 0]
    n = np.tile(np.float32([1.0, 0, 0]), (1, len(POINTS.ids), 1))
    touch = touches(POINTS, x, n, 1.0, Hanging(np.ones((1, 2)), np.array([[1.0, 0, 0]])))
    assert touch.weight.sum() == pytest.approx(2.0)
    assert set(touch.hand) == set(touch.other) == {left, right}


def naive_heights(x: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest points of one frame and heights above them, every pair measured."""
    side, movers = POINTS.side(), movers_of(POINTS)
    other, height = np.zeros(len(movers), int), np.zeros(len(movers))
    for k, i in enumerate(movers):
        d = np.linalg.norm(x - x[i], axis=1)
        d[side == side[i]] = np.inf
        j = other[k] = d.argmin()
        out = (x[i] - x[j]) @ n[j]
        aside = np.sqrt(max(d[j] ** 2 - out**2, 0))
        beside = ASIDE * POINTS.spacing_m()[j]
        on = aside < ABOVE_M if out >= 0 else aside < beside or aside < -out
        height[k] = out if on else d[j]
    return other, height


def test_the_nearest_points_are_those_that_every_pair_measured_gives():
    motion = body_motion(BODY, acted(HIPS, 9))
    x, n, _ = source_points(POINTS, BODY, acted(HIPS, 9), motion, None)
    near = nearest(POINTS, x, n, 1.0)
    for f in (0, 4, 8):
        other, height = naive_heights(x[f].astype(float), n[f].astype(float))
        known = np.isfinite(near.distance_m[f])
        np.testing.assert_array_equal(known, np.isfinite(near.height_m[f]))
        assert (height[~known] > REACH_M - 1e-6).all()
        np.testing.assert_array_equal(near.other[f, known], other[known])
        np.testing.assert_allclose(near.height_m[f, known], height[known], atol=1e-5)
    assert np.isfinite(near.distance_m[8]).sum() > 50


def test_what_is_near_is_followed_as_the_arms_move():
    arms, points, x, n = scene_of(acted(HIPS, 9))
    follow = Surroundings(POINTS, points.rest, 1.0)
    turn = np.random.default_rng(0).normal(size=(9, 8))
    for share in (0.0, 0.02, 0.04, 0.08, 0.16):
        y, m = arms.moved(x, n, share * turn)
        near, anew = follow.of(y, m), nearest(POINTS, y, m, 1.0)
        close = anew.distance_m < REACH_M - FOLLOWED_M
        assert close.sum() > 50
        wrong = np.abs(near.distance_m[close] - anew.distance_m[close])
        assert (wrong < 1e-6).mean() > 0.97 and wrong.max() < 0.01


def test_hands_touch_in_frames_that_are_not_looked_at():
    hero, source = short_arms(), acted(CLAP, 24)
    some = contact_frames(24, source.fps)
    assert some[0] == 0 and some[-1] == 23 and len(some) == 13
    after = drive(hero, source, replace(AS_IS, keep_touch=True)).Ts_world_joint
    assert after is not None
    unseen = np.setdiff1d(np.arange(14, 24), some)
    assert len(unseen) > 2
    assert max(hands_apart(hero, after[: f + 1]) for f in unseen) < 0.015


def test_weights_of_a_touch_sum_to_how_near_it_is():
    motion = body_motion(BODY, acted(CLAP, 9))
    x, n, size = source_points(POINTS, BODY, acted(CLAP, 9), motion, None)
    touch = touches(POINTS, x, n, size)
    total = np.bincount(
        touch.frame[POINTS.hand[touch.hand] == 0], touch.weight[POINTS.hand[touch.hand] == 0], 9
    )
    assert total[0] == 0 and total[-1] == pytest.approx(1, abs=1e-3)


def scene_of(source: MeshSequence) -> tuple[Arms, BodyPoints, np.ndarray, np.ndarray]:
    """Arms of a body, its points at rest, their positions and normals."""
    motion, own = body_motion(BODY, source), own_registration()
    skeleton = own.skeleton
    t = positions_on(skeleton, motion.R_world_joint, motion.root)
    joints = arm_joints(skeleton, BODY)
    hero = registered(own.character.mesh.vertices, own)
    assert joints is not None and hero.points is not None
    x, n = hero.points.posed(skeleton.skin, transforms(motion.R_world_joint, t))
    return Arms.of(skeleton, joints, motion.R_world_joint, t, POINTS), hero.points, x, n


@cache
def scene(seed: int = 0) -> tuple[Arms, np.ndarray, np.ndarray]:
    """Arms of a body in a random pose, its points and normals."""
    rotvecs = np.random.default_rng(seed).normal(size=(2, len(BODY.joints), 3)) * 0.3
    arms, _, x, n = scene_of(sequence(rotvecs))
    # Differences need more digits than points are kept with.
    return arms, x.astype(np.float64), n.astype(np.float64)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 7), st.integers(0, 10_000))
def test_jacobian_agrees_with_differences(unknown: int, seed: int):
    arms, x, n = scene()
    rng = np.random.default_rng(seed)
    angles = rng.normal(size=(2, 8)) * 0.3
    step = np.zeros((2, 8))
    step[:, unknown] = 1e-5
    y, _ = arms.moved(x, n, angles)
    ahead, back = arms.moved(x, n, angles + step)[0], arms.moved(x, n, angles - step)[0]
    point = rng.integers(0, len(POINTS.ids), 60)
    frame = rng.integers(0, 2, 60)
    expected = ((ahead - back) / 2e-5)[frame, point]
    J = arms.jacobian(y, angles, frame, point)[..., unknown]
    np.testing.assert_allclose(J, expected, atol=1e-4)


def test_points_far_from_the_body_push_nothing():
    """On a giant all points that might touch can be a hundred metres off."""
    arms, _, _ = scene()
    walls = Walls(np.array([0, 1]), np.array([0, 1]), np.full(2, 100.0), np.ones((2, 8)))
    angles = step_of_arms(arms, Terms(2), walls, np.zeros((2, 8)), 30.0)
    np.testing.assert_allclose(angles, 0, atol=1e-9)


def test_points_and_joints_move_alike():
    """What the solver moves as points, the skeleton moves as bones: a wrist meets its hand."""
    arms, _, _ = scene()
    own = own_registration()
    joints = arm_joints(own.skeleton, BODY)
    assert joints is not None
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(2 * len(BODY.joints), 3))
    R = Rotation.from_rotvec(vectors).as_matrix().reshape(2, -1, 3, 3)
    t = positions_on(own.skeleton, R, np.zeros((2, 3)))
    arms = Arms.of(own.skeleton, joints, R, t, POINTS)
    angles = rng.normal(size=(2, 8)) * 0.3
    turned = arms.turned(own.skeleton, joints, R, angles)
    moved = positions_on(own.skeleton, turned, t[:, 0])
    for s, (_, _, hand) in enumerate(joints):
        np.testing.assert_allclose(moved[:, hand], arms._joints(angles, s)[1], atol=1e-9)
        np.testing.assert_allclose(turned[:, hand], R[:, hand], atol=1e-12)


def test_elbows_do_not_bend_backwards():
    arms, x, n = scene()
    wrist = int(np.flatnonzero(POINTS.hand == 0)[0])
    angles = np.zeros((2, 8))
    for _ in range(12):
        y, _ = arms.moved(x, n, angles)
        terms = Terms(2)
        frame, point = np.arange(2), np.full(2, wrist)
        wish = arms.shoulder[:, 0] + 3 * (y[:, wrist] - arms.shoulder[:, 0])
        terms.add(frame, arms.jacobian(y, angles, frame, point), y[:, wrist] - wish, np.ones(2))
        angles = solve_arms(arms, terms, angles, 30.0)
    assert (arms.bend[:, 0] + angles[:, 3] > 0).all()
