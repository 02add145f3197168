"""Feet on the floor: a floor that seems to slope, soles, and legs too short or too long."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.body.skinning import posed_vertices, skinned_part
from mvai.geometry.rigid import transforms
from mvai.transfer.floor import what_stands
from mvai.transfer.rig_drive import _planted, drive
from mvai.transfer.rig_feet import lock_feet, not_above_the_other
from mvai.transfer.rig_ground import floor_slope
from mvai.transfer.rig_held import above_floor
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.transfer.rig_soles import outermost, sole_paths, soles
from mvai.transfer.rig_source import body_motion
from mvai.types import Skin
from test_transfer import own_registration, sequence

BODY = anny_body()


def steps(rise: float, count: int = 6, length_m: float = 0.4) -> np.ndarray:
    """Path of a body that stands 12 frames, moves on in 3 and stands again, over a slope."""
    z = np.repeat(np.arange(count) * length_m, 15).astype(float)
    for k in range(1, count):
        z[15 * k - 3 : 15 * k] += length_m * np.array([0.25, 0.5, 0.75])
    return np.stack([0 * z, rise * z, z], 1)


@pytest.mark.parametrize(("rise", "found"), [(0.02, 0.02), (-0.03, -0.03), (0.3, 0.0)])
def test_a_slight_slope_is_found_and_a_ramp_is_left(rise: float, found: float):
    points = steps(rise)[:, None] + np.array([[0.1, 0, 0], [0.1, 0, 0.2]])
    slope = floor_slope(points, points[..., 1].min(1), 30.0)
    np.testing.assert_allclose(slope, [0, found], atol=0.006)


def test_heels_above_toes_are_no_slope():
    points = np.zeros((60, 2, 3)) + np.array([[0, 0.03, 0], [0, 0, 0.2]])
    assert np.abs(floor_slope(points, np.zeros(60), 30.0)).max() < 0.06
    assert not floor_slope(points[:2], np.zeros(2), 30.0).any()


def test_who_climbs_a_sloping_floor_stays_on_the_ground():
    path = steps(0.025)
    rotvecs = np.zeros((len(path), len(BODY.joints), 3))
    posed = posed_vertices(drive(own_registration(), sequence(rotvecs, path=path)))
    stands = np.arange(len(path)) % 15 < 10
    assert np.abs(posed[stands][..., 1].min(1)).max() < 0.004


def test_a_swinging_foot_does_not_carry():
    left, right, other = np.array([0.0, -0.1]), np.array([0.1, 0.0]), np.array([0.5, 0.5])
    on = [np.array([True, False]), np.array([False, True])]
    np.testing.assert_array_equal(what_stands([left, right], other, on), [0, 0])
    off = [np.zeros(2, bool)] * 2
    np.testing.assert_array_equal(what_stands([left, right], other, off), [0, -0.1])


def shoe(turn: np.ndarray) -> DrivenSkeleton:
    """A skeleton whose feet stand at rest as `turn` says."""
    T = np.tile(np.eye(4), (4, 1, 1))
    T[1:, 1, 3] = 0.9, 0.5, 0.1
    T[3, :3, :3] = turn
    joints = ("Hips", "LeftUpLeg", "LeftLeg", "LeftFoot")
    skin = Skin(joints, (-1, 0, 1, 2), T, np.full((12, 1), 3), np.ones((12, 1)))
    return DrivenSkeleton(skin, np.arange(4), np.tile(np.eye(3), (4, 1, 1)), ((1, 2, 3),) * 2, 0)


@pytest.mark.parametrize("pitch_deg", [0, 40])
def test_the_sole_is_the_underside_of_the_foot_at_rest(pitch_deg: float):
    """A foot that hangs by its toes at rest."""
    flat = np.array([[x, y, z] for y in (0, 0.08) for z in (-0.05, 0.07, 0.2) for x in (0, 0.08)])
    turn = Rotation.from_euler("x", pitch_deg, degrees=True).as_matrix()
    sole = soles(shoe(turn), flat @ turn.T + [0, 0.05, 0])[0]
    assert set(sole.heel) == {0, 1} and set(sole.toes) == {4, 5}
    assert set(sole.outline) == {0, 1, 4, 5, 6, 7, 10, 11}


def test_the_outermost_hold_the_lowest_in_any_pose():
    points = np.random.default_rng(0).normal(size=(3000, 3)) * [1, 0.3, 2]
    some = outermost(points)
    turns = Rotation.from_euler("xyz", np.random.default_rng(1).uniform(-3, 3, (50, 3))).as_matrix()
    for R in turns:
        height = points @ R[1]
        assert height[some].min() - height.min() < 0.05 * np.ptp(height)


@pytest.mark.parametrize("rise_m", [0.04, -0.04])
def test_the_hips_move_where_legs_cannot(rise_m: float):
    """Straight legs above the floor are lowered; those pressed into it are bent."""
    registration = own_registration()
    skeleton, rest = registration.skeleton, registration.character.mesh.vertices
    frames = 30
    R = np.tile(skeleton.skin.T_world_joint[:, :3, :3], (frames, 1, 1, 1))
    t = np.tile(skeleton.skin.T_world_joint[:, :3, 3], (frames, 1, 1))
    t[..., 1] += rise_m - rest[:, 1].min()
    both = soles(skeleton, rest)
    planted = [np.ones((frames, 2), bool)] * 2
    R_held, t_held = lock_feet(skeleton, rest, both, R, t, planted, 30.0)
    for sole in both:
        _, lowest = sole_paths(skeleton.skin, rest, transforms(R_held, t_held), sole)
        assert np.abs(lowest).max() < 0.002
    moved = t_held[:, skeleton.root, 1] - t[:, skeleton.root, 1]
    assert (moved < -0.02).all() if rise_m > 0 else np.abs(moved).max() < 0.01
    free, _ = lock_feet(skeleton, rest, both, R, t, planted, 30.0, has_floor=False)
    np.testing.assert_array_equal(free, R)


def test_a_foot_is_tipped_before_the_other_leg_bends():
    """Both feet stand in the source, and on the character one is 2 cm too high for its leg."""
    registration = own_registration()
    skeleton, rest = registration.skeleton, registration.character.mesh.vertices
    frames, hip = 30, skeleton.legs[0][0]
    T = skeleton.skin.T_world_joint.copy()
    lower = [j for j in range(len(T)) if j in _below(skeleton, hip)]
    T[lower, 1, 3] += 0.02
    raised = replace(skeleton, skin=replace(skeleton.skin, T_world_joint=T))
    moved = rest.copy()
    weights = np.isin(skeleton.skin.weight_indices, lower) * skeleton.skin.weights
    moved[:, 1] += 0.02 * weights.sum(1)
    R, t = (np.tile(x, (frames, 1, 1, 1)[: x.ndim + 1]) for x in (T[:, :3, :3], T[:, :3, 3]))
    t[..., 1] -= moved[:, 1].min()
    both = soles(raised, moved)
    planted = [np.ones((frames, 2), bool)] * 2
    R_held, t_held = lock_feet(raised, moved, both, R, t, planted, 30.0)
    for sole in both:
        _, lowest = sole_paths(raised.skin, moved, transforms(R_held, t_held), sole)
        assert np.abs(lowest).max() < 0.003
    lowered = t[:, raised.root, 1] - t_held[:, raised.root, 1]
    assert lowered.max() < 0.012


def _below(skeleton: DrivenSkeleton, top: int) -> set[int]:
    found = {top}
    for j, parent in enumerate(skeleton.skin.parents):
        if parent in found:
            found.add(j)
    return found


@pytest.mark.parametrize(("higher_m", "stands"), [(0.03, True), (0.07, False)])
def test_a_foot_far_above_the_other_does_not_stand(higher_m: float, stands: bool):
    low = np.zeros((10, 2, 3))
    high = low + np.array([0, higher_m, 0])
    planted = [np.ones((10, 2), bool)] * 2
    left, right = not_above_the_other(planted, (high, low), 1.0)
    assert left.all() == stands and left.any() == stands and right.all()


def test_what_a_hand_holds_stays_above_the_floor():
    """A staff in a hand that hangs reaches through the floor; the wrist turns it up."""
    registration = own_registration()
    skin, rest = registration.skeleton.skin, registration.character.mesh.vertices
    hand = skin.joints.index("LeftHand")
    wrist = skin.T_world_joint[hand, :3, 3]
    down = wrist[1] - rest[:, 1].min()
    tips = wrist + np.array([[0, 0, 0.2 * k] for k in (1, 2)]) - [[0, 0.7, 0], [0, down + 0.2, 0]]
    n = skin.weight_indices.shape[1]
    armed = replace(
        registration.skeleton,
        skin=replace(
            skin,
            weight_indices=np.concatenate([skin.weight_indices, np.full((2, n), hand)]),
            weights=np.concatenate([skin.weights, np.eye(1, n).repeat(2, 0)]),
        ),
    )
    vertices = np.concatenate([rest, tips])
    frames = 20
    R = np.tile(skin.T_world_joint[:, :3, :3], (frames, 1, 1, 1))
    t = np.tile(skin.T_world_joint[:, :3, 3], (frames, 1, 1))
    t[..., 1] -= rest[:, 1].min()
    R_up, t_up = above_floor(armed, vertices, [hand], R, t, 30.0)
    tip = skinned_part(armed.skin, vertices, transforms(R_up, t_up), np.arange(2) + len(rest))
    assert -0.002 < tip[..., 1].min() < 0.02
    np.testing.assert_allclose(t_up[:, hand], t[:, hand], atol=1e-9)
    same, _ = above_floor(registration.skeleton, rest, [hand], R, t, 30.0)
    np.testing.assert_array_equal(same, R)


def test_only_feet_that_a_camera_saw_may_slide_where_they_stand():
    """Both feet glide along, one fast; seen by a camera the slower one stands."""
    motion = body_motion(BODY, sequence(np.zeros((40, len(BODY.joints), 3)), path=steps(0)[:40]))
    left, right = (foot.copy() for foot in motion.feet)
    left[..., 2] = 0.55 * np.arange(40)[:, None] / 30
    right[..., 2] = 2.5 * np.arange(40)[:, None] / 30
    motion = replace(motion, feet=(left, right))
    exact, seen = (_planted(motion, 30.0, camera) for camera in (False, True))
    assert seen[0].all() and not exact[0].any()
