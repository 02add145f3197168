"""What the body does in frames in which nobody was seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mvai.body.anny import anny_body
from mvai.geometry.rigid import degrees_between
from mvai.reconstruct.absence import leaving, rested, seen_well, standing_pose
from mvai.reconstruct.fit_clip import FOOT_POINTS, ClipFit
from mvai.reconstruct.kinematics import Kinematics
from mvai.types import Keypoints
from mvai.types.names import BODY_JOINTS, BODY_KEYPOINTS, SIDES

FPS = 30.0
STRIDE = {"LeftUpLeg": -0.45, "RightUpLeg": 0.35, "RightLeg": 0.3, "LeftArm": 0.4, "Spine": 0.1}
SEAT = {f"{s}{n}": a for s in SIDES for n, a in (("UpLeg", -1.5), ("Leg", 1.5))}


def body_fit(angles: dict[str, float], frames: int, speed_m_s: float = 0.0) -> ClipFit:
    """Somebody who holds a pose, turned about the joints' x axes, three metres away, and glides
    forwards, towards the camera."""
    body = anny_body()
    feet = tuple(n for n in FOOT_POINTS if n in body.regressed)
    kinematics = Kinematics(body, (*feet, "left_hip", "right_hip"), 10)
    u = torch.zeros(frames, 69)
    u[:, 5] = -4 + speed_m_s / FPS * torch.arange(frames)
    for name, angle in angles.items():
        u[:, 6 + 3 * (BODY_JOINTS.index(name) - 1)] = angle
    points = kinematics.linearise(u, torch.zeros(10), derivatives=False).points.numpy()
    low = points[:, 22 : 22 + len(feet), 1].min()
    u[:, 4] -= 1.2 + low
    return ClipFit(kinematics, u, torch.zeros(10), 800.0, 0.0, np.zeros((frames - 1, 8), bool))


def sighted(present: np.ndarray) -> Keypoints:
    frames = len(present)
    return Keypoints(
        names=BODY_KEYPOINTS,
        xy_px=np.full((frames, 33, 2), 300.0),
        confidence=np.full((frames, 33), 0.9) * present[:, None],
        fps=FPS,
        width=640,
        height=480,
        present=present,
    )


def joints_and_feet(fit: ClipFit) -> tuple[np.ndarray, np.ndarray]:
    """Joints and points of the feet in level axes."""
    T = fit.level()
    points = fit.kinematics.linearise(fit.u, fit.shape, derivatives=False).points.numpy()
    points = points @ T[:3, :3].T + T[:3, 3]
    return points[:, :22], points[:, 22:-2]


def at_rest(fit: ClipFit, keypoints: Keypoints) -> ClipFit:
    """The fit with what nobody saw of it made plain."""
    told = seen_well(keypoints.seen(), keypoints.fps, leaving(keypoints))
    return rested(replace(fit, told=told), keypoints.fps)


def test_glimpses_are_no_sightings():
    seen = np.ones(60, bool)
    assert seen_well(seen, fps=30.0).all()
    seen[:20] = seen[30] = False
    well = seen_well(seen, fps=30.0)
    assert well.tolist() == [f >= 24 and f != 30 for f in range(60)]
    glimpse = np.zeros(60, bool)
    glimpse[20:23] = True
    assert (seen_well(glimpse, fps=30.0) == glimpse).all()


def test_who_goes_out_of_the_picture_is_not_seen_well_once_a_foot_is_outside():
    present = np.arange(90) < 70
    keypoints = sighted(present)
    ankle = BODY_KEYPOINTS.index("left_ankle")
    # It leaves in frame 55, and is put onto the other leg until he is gone.
    keypoints.xy_px[55:60, ankle, 0] = -5.0
    keypoints.xy_px[69, ankle, 0] = -5.0
    well = seen_well(present, FPS, leaving(keypoints))
    assert np.flatnonzero(well).tolist() == list(range(55))
    # Feet below the picture are no sign of going, nor is a hand that is outside throughout.
    below = sighted(present)
    below.xy_px[40:, ankle, 1] = 500.0
    below.xy_px[:, BODY_KEYPOINTS.index("left_wrist"), 0] = -5.0
    assert not leaving(below).any()


def test_a_walker_comes_to_stand_where_nobody_sees_him():
    present = (np.arange(120) >= 40) & (np.arange(120) < 80)
    before = body_fit(STRIDE, 120, speed_m_s=1.0)
    fit = at_rest(before, sighted(present))
    edge, half = 75, 15
    assert torch.equal(fit.u[44:76], before.u[44:76])
    joints, feet = joints_and_feet(fit)
    for side in SIDES:
        thigh = (joints[:, BODY_JOINTS.index(f"{side}UpLeg")]
                 - joints[:, BODY_JOINTS.index(f"{side}Leg")])  # fmt: skip
        tilt = degrees_between(thigh, np.array([0.0, 1.0, 0.0]))
        assert tilt[edge] > 15 and tilt[0] < 8 and tilt[-1] < 8
    trunk = joints[:, BODY_JOINTS.index("Neck")] - joints[:, BODY_JOINTS.index("Hips")]
    assert degrees_between(trunk, np.array([0.0, 1.0, 0.0]))[[0, -1]].max() < 6
    # He stays there, on the floor all the way, over the foot that was in front.
    assert torch.equal(fit.u[edge + half], fit.u[-1]) and torch.equal(fit.u[44 - half], fit.u[0])
    low = feet[..., 1].min(1)
    assert np.ptp(low) < 0.02
    left = [i for i, n in enumerate(fit.kinematics.names[:-2]) if n.startswith("left")]
    sole = feet[edge:, left].mean(1)
    assert np.linalg.norm((sole - sole[0])[:, [0, 2]], axis=1).max() < 0.01
    hips = joints[:, 0]
    assert hips[-1, 2] - hips[edge, 2] > 0.1
    assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() < 0.12


def test_who_sits_stays_seated_where_nobody_sees_him():
    present = np.arange(60) < 40
    before = body_fit(SEAT, 60)
    fit = at_rest(before, sighted(present))
    torch.testing.assert_close(fit.u, before.u)


def test_a_short_gap_is_left_to_the_fit_and_a_long_one_crossed_evenly():
    fit = body_fit(SEAT, 60)
    fit.u[10:50, 3], fit.u[50:, 3] = 99.0, 1.0
    seen = np.ones(60, bool)
    seen[10:50] = False
    crossed = at_rest(fit, sighted(seen)).u[:, 3].numpy()
    assert (np.diff(crossed) >= 0).all() and crossed.max() == 1.0
    short = np.ones(60, bool)
    short[20:25] = False
    assert torch.equal(at_rest(fit, sighted(short)).u, fit.u)


def test_a_walker_hidden_for_long_stands_meanwhile():
    present = np.ones(140, bool)
    present[40:100] = False
    fit = at_rest(body_fit(STRIDE, 140, speed_m_s=0.5), sighted(present))
    joints, _ = joints_and_feet(fit)
    thigh = joints[:, BODY_JOINTS.index("LeftUpLeg")] - joints[:, BODY_JOINTS.index("LeftLeg")]
    tilt = degrees_between(thigh, np.array([0.0, 1.0, 0.0]))
    assert tilt[55:85].max() < 8 < tilt[[30, 110]].min()
    assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() < 0.12


def test_the_vertical_is_read_from_what_was_seen():
    present = np.arange(60) < 30
    fit = replace(body_fit({}, 60), told=present)
    fit.u[30:, 0] = 0.6
    assert degrees_between(fit.level()[1, :3], np.array([0.0, 1.0, 0.0])) < 3


def test_arms_hang_at_ease():
    body = anny_body()
    u = torch.zeros(1, 69)
    u[:, 6:] = torch.from_numpy(standing_pose(body).ravel())
    points = Kinematics(body, (), 10).linearise(u, torch.zeros(10), derivatives=False).points[0]
    joint = dict(zip(BODY_JOINTS, points.numpy(), strict=True))
    for side in SIDES:
        upper = joint[f"{side}ForeArm"] - joint[f"{side}Arm"]
        fore = joint[f"{side}Hand"] - joint[f"{side}ForeArm"]
        assert degrees_between(upper, np.array([0.0, -1.0, 0.0])) < 10
        assert fore[1] < 0 < fore[2]
    R = Rotation.from_rotvec(standing_pose(body)).as_matrix()
    foot, leg = (BODY_JOINTS.index(n) - 1 for n in ("LeftFoot", "LeftUpLeg"))
    np.testing.assert_allclose(R[leg] @ R[foot], np.eye(3), atol=1e-12)
