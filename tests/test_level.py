"""Which way is up in a video: from tilted cameras, and from the posture of people."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.reconstruct.kinematics import Kinematics
from mvai.reconstruct.level import balance, level, posture
from mvai.types.names import BODY_JOINTS


def test_level_finds_a_tilted_camera():
    rng = np.random.default_rng(0)
    tilt = Rotation.from_euler("X", 15, degrees=True).as_matrix()
    lean = (np.array([0, 1, 0]) + rng.normal(size=(80, 3)) * 0.05) @ tilt.T
    feet = np.zeros((80, 2, 3))
    feet[:, 0] = np.array([0.1, -1.4, 0]) + np.arange(80)[:, None] // 20 * np.array([0, 0, -0.8])
    feet[:, 1] = feet[:, 0] - [0.2, 0, 0.3]
    planted = np.ones((80, 2), bool)
    planted[::20] = False
    T = level(lean, np.ones(80), feet @ tilt.T, planted, np.zeros((80, 3)), feet @ tilt.T)
    np.testing.assert_allclose(T[:3, :3] @ tilt, np.eye(3), atol=0.06)
    floor = (feet @ tilt.T) @ T[:3, :3].T + T[:3, 3]
    assert np.abs(floor[..., 1]).max() < 0.15


@pytest.mark.parametrize("pitch_deg", [-20, 35, 62])
def test_level_follows_the_posture_of_people_who_never_stand_still(pitch_deg: float):
    tilt = Rotation.from_euler("X", pitch_deg, degrees=True).as_matrix()
    still = np.zeros((40, 2), bool)
    held = np.tile(tilt[:, 1], (40, 1))
    feet = np.zeros((40, 2, 3))
    T = level(held, np.zeros(40), feet, still, held, feet)
    apart = np.degrees(np.arccos(np.clip(T[1, :3] @ tilt[:, 1], -1, 1)))
    assert apart < 5


def joints_of(bend: dict[str, float]) -> np.ndarray:
    """The body joints of a posture of turns about x (frames 1, joints 22, 3)."""
    body = anny_body()
    u = torch.zeros(1, 69)
    for name, angle in bend.items():
        u[0, 6 + 3 * (BODY_JOINTS.index(name) - 1)] = angle
    at = Kinematics(body, ("nose",), 10).linearise(u, torch.zeros(10), derivatives=False)
    return at.points[:, :22].numpy()


def test_posture_tells_up_of_one_who_strides_and_not_of_one_who_sits():
    up = np.array([[0.0, 1.0, 0.0]])
    stride = joints_of({"LeftUpLeg": -0.5, "RightUpLeg": 0.4, "RightLeg": 0.3})
    told = posture(BODY_JOINTS, stride, up)
    assert told[0, 1] > np.cos(np.radians(10))
    sits = joints_of(
        {f"{s}{n}": a for s in ("Left", "Right") for n, a in (("UpLeg", -1.5), ("Leg", 1.5))}
    )
    assert not posture(BODY_JOINTS, sits, up).any()
    lying = Rotation.from_euler("X", 90, degrees=True).as_matrix()
    assert not posture(BODY_JOINTS, stride @ lying.T, up @ lying.T).any()


def test_a_foot_that_is_still_in_the_air_is_not_on_the_floor():
    frames = 60
    feet = np.zeros((frames, 2, 3))
    feet[:, 0, 1], feet[:, 1, 1] = -0.9, -0.3
    # The crossed leg is held more steadily, and so counts as more stands.
    planted = np.ones((frames, 2), bool)
    planted[::12, 1] = False
    nothing = np.zeros((frames, 3)), np.zeros(frames)
    T = level(nothing[0] + [0, 1, 0], nothing[1], feet, planted, nothing[0], feet)
    assert abs(T[1, :3] @ feet[0, 0] + T[1, 3]) < 1e-6


def test_who_stands_on_his_hands_is_not_in_the_floor():
    frames = 40
    feet = np.tile([[0.1, 0.7, -4.0], [-0.1, 0.7, -4.0]], (frames, 1, 1))
    hands = np.tile([[0.2, -1.1, -4.0], [-0.2, -1.1, -4.0]], (frames, 1, 1))
    lean, held = np.tile([[0.0, -1.0, 0.0]], (frames, 1)), np.zeros((frames, 3))
    still, joints = np.ones((frames, 2), bool), np.hstack([feet, hands])
    T = level(lean, np.zeros(frames), feet, still, held, joints)
    assert abs(T[1, :3] @ hands[0, 0] + T[1, 3]) < 0.05


def test_who_holds_a_foot_up_stands_on_the_other_leg():
    def leg(side: str, thigh: float, knee: float) -> dict[str, float]:
        return {f"{side}UpLeg": thigh, f"{side}Leg": knee}

    crane = joints_of(leg("Right", -1.2, 1.6))
    lean, standing = balance(BODY_JOINTS, crane)
    assert standing[0] == 1
    # From the left foot, not from between the feet, to the centre of mass.
    foot = crane[0, BODY_JOINTS.index("LeftFoot")]
    assert abs(lean[0, 0] + foot[0]) < 0.05 < foot[0] and lean[0, 1] > 0.8
    assert abs(balance(BODY_JOINTS, joints_of({}))[0][0, 0]) < 0.01
    # Nobody stands on two bent legs.
    bent = joints_of(leg("Right", -1.2, 1.6) | leg("Left", -0.9, 1.3))
    assert balance(BODY_JOINTS, bent)[1][0] < 0.5
