"""Transfer by rig: solving, registering, driving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from conftest import data_dir
from mvai.body.anny import anny_body
from mvai.body.skinning import posed_vertices
from mvai.geometry.rigid import transforms
from mvai.geometry.stance import runs
from mvai.geometry.surface import components, edges
from mvai.transfer.legs import body_legs
from mvai.transfer.registration.find_joints import FoundJoints
from mvai.transfer.registration.fit import fit_template
from mvai.transfer.registration.weights import transfer_weights
from mvai.transfer.rig import RigTransfer
from mvai.transfer.rig_drive import drive
from mvai.transfer.rig_feet import contacts
from mvai.transfer.rig_names import body_bones, read_name
from mvai.transfer.rig_register import Registration, register
from mvai.transfer.rig_retarget import DrivenSkeleton
from mvai.transfer.rig_solve import solve_motion
from mvai.types import Camera, Character, Mesh, MeshSequence, MvaiError, Part, Skin
from mvai.types.names import SIDES

BODY = anny_body()
JOINT = {name: j for j, name in enumerate(BODY.joints)}
LIMBS = ("UpLeg", "Leg", "Foot", "Arm", "ForeArm", "Hand")


def sequence(
    rotvecs: np.ndarray, shape: np.ndarray | None = None, path: np.ndarray | None = None
) -> MeshSequence:
    """The body posed by axis-angle rotations (frames, joints, 3)."""
    frames = len(rotvecs)
    R = Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix().reshape(frames, -1, 3, 3)
    shape = np.zeros(BODY.shape_size) if shape is None else shape
    path = np.zeros((frames, 3)) if path is None else path
    vertices = BODY.vertices(
        torch.from_numpy(shape[None].astype(np.float32)),
        torch.from_numpy(R.astype(np.float32)),
        torch.from_numpy(path.astype(np.float32)),
    )
    return MeshSequence(vertices.numpy(), BODY.faces, 30.0, "anny")


def smooth_motion(frames: int, seed: int = 0, size: float = 0.5) -> np.ndarray:
    """Random rotations that change smoothly, larger in the limbs."""
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(5, len(BODY.joints), 3)) * 0.2 * size
    for side in ("Left", "Right"):
        for limb in LIMBS:
            keys[:, JOINT[side + limb]] *= 5
    at = np.linspace(0, 4, frames)
    low = np.minimum(at.astype(int), 3)
    share = (1 - np.cos(np.pi * (at - low)))[:, None, None] / 2
    return keys[low] * (1 - share) + keys[low + 1] * share


def own_registration(shape: np.ndarray | None = None) -> Registration:
    """The body itself as a character, registered without a fit."""
    shape = np.zeros(BODY.shape_size) if shape is None else shape
    vertices, joints = BODY.rest(torch.from_numpy(shape.astype(np.float32)))
    J = len(BODY.joints)
    skin = Skin(
        BODY.joints,
        BODY.parents,
        transforms(np.tile(np.eye(3), (J, 1, 1)), joints.numpy().astype(np.float64)),
        BODY.weight_indices,
        BODY.weights,
    )
    skeleton = DrivenSkeleton(skin, np.arange(J), np.tile(np.eye(3), (J, 1, 1)), body_legs(BODY), 0)
    return Registration(character(vertices.numpy(), BODY.faces), skeleton, 0.0, 0.0)


def character(vertices: np.ndarray, faces: np.ndarray, skin: Skin | None = None) -> Character:
    return Character("hero", (Part("body", vertices.astype(np.float64), faces),), skin=skin)


def nobody(image: np.ndarray) -> None:
    """A detector that sees no one."""


def test_solver_reproduces_posed_body() -> None:
    rng = np.random.default_rng(1)
    shape = rng.normal(size=BODY.shape_size)
    path = np.cumsum(rng.normal(size=(24, 3)) * 0.02, axis=0)
    given = sequence(smooth_motion(24, seed=1), shape, path)
    motion = solve_motion(BODY, given)
    joints = BODY.regress(BODY.joints, given.vertices)
    assert motion.residual_m.mean() < 0.002
    limbs = [JOINT[s + limb] for s in ("Left", "Right") for limb in LIMBS]
    off = np.linalg.norm(motion.t_world_joint - joints, axis=-1)[:, limbs]
    assert off.mean() < 0.006  # the regressor itself is some millimetres off when posed


def test_other_topology_is_refused() -> None:
    some = MeshSequence(np.zeros((2, 5, 3), np.float32), np.array([[0, 1, 2]]), 30.0)
    with pytest.raises(MvaiError, match="topology"):
        solve_motion(BODY, some)


def test_own_sequence_on_own_shape_is_reproduced() -> None:
    given = sequence(smooth_motion(16, seed=2), path=np.tile([1.0, 0.3, -2.0], (16, 1)))
    as_is = RigTransfer(find_floor=False, lock_feet=False)
    result = posed_vertices(drive(own_registration(), given, as_is))
    error = np.linalg.norm(result - given.vertices, axis=-1)
    assert error.mean() < 0.005 and error.max() < 0.03


def test_drive_turns_with_the_sequence() -> None:
    given = sequence(smooth_motion(16, seed=3))
    turn = Rotation.from_rotvec([0, 1.1, 0]).as_matrix()
    turned = given.with_vertices((given.vertices @ turn.T).astype(np.float32))
    registration = own_registration(np.random.default_rng(3).normal(size=BODY.shape_size))
    a = posed_vertices(drive(registration, given))
    b = posed_vertices(drive(registration, turned))
    assert np.abs(a @ turn.T - b).max() < 0.005


def test_character_stands_on_the_floor_and_under_the_camera() -> None:
    shape = np.zeros(BODY.shape_size)
    shape[0] = -2.0  # a child
    camera = Camera.from_focal(900, 720, 1280)
    given = sequence(smooth_motion(30, seed=4, size=0.2), path=np.tile([0.2, -0.5, -4.0], (30, 1)))
    given = replace(given, camera=camera)
    animation = drive(own_registration(shape), given)
    vertices = posed_vertices(animation)
    assert abs(np.median(vertices[..., 1].min(1))) < 0.02
    assert animation.camera is not None
    # The child's feet are seen where the person's feet were seen.
    for side in ("left", "right"):
        point = (f"{side}_ankle",)
        theirs = camera.project(BODY.regress(point, given.vertices)[:, 0])
        ours = animation.camera.project(BODY.regress(point, vertices)[:, 0])
        assert np.abs(theirs - ours).max() < 40


def test_planted_feet_do_not_slide() -> None:
    """A body that stands while its root drifts: the feet slide in the source, not in the result."""
    frames = 60
    drift = np.zeros((frames, 3))
    drift[:, 0] = 0.03 * np.sin(np.linspace(0, 6, frames))
    given = sequence(np.zeros((frames, len(BODY.joints), 3)), path=drift)
    ankle = JOINT["LeftFoot"]

    def slide_mm(config: RigTransfer) -> float:
        moving = drive(own_registration(), given, config).Ts_world_joint
        assert moving is not None
        return 1000 * float(np.linalg.norm(np.diff(moving[:, ankle, :3, 3], axis=0), axis=1).mean())

    assert slide_mm(RigTransfer(lock_feet=False)) > 1.0
    assert slide_mm(RigTransfer()) < 0.1


def test_soles_that_hang_from_the_leg_stand_still_too() -> None:
    """Legs so short that their upper bones share the sole, so that it moves less than the ankle."""
    frames = 60
    rotvecs = np.zeros((frames, len(BODY.joints), 3))
    for side, sign in (("Left", 1), ("Right", -1)):
        rotvecs[:, JOINT[f"{side}UpLeg"], 2] = 0.04 * sign * np.sin(np.linspace(0, 6, frames))
    given = sequence(rotvecs)
    registration = own_registration()
    skin = registration.skeleton.skin
    indices, weights = skin.weight_indices.copy(), skin.weights.copy()
    for side in ("Left", "Right"):
        foot = np.isin(indices[:, 0], [JOINT[f"{side}Foot"], JOINT[f"{side}ToeBase"]])
        weights[foot] = [0.6, 0.4] + [0.0] * (weights.shape[1] - 2)
        indices[foot, :2] = JOINT[f"{side}Foot"], JOINT[f"{side}UpLeg"]
    skin = replace(skin, weight_indices=indices, weights=weights)
    registration = replace(registration, skeleton=replace(registration.skeleton, skin=skin))
    low = BODY.template[:, 1].numpy()
    soles = np.flatnonzero(low < low.min() + 0.02)

    def slide_mm(config: RigTransfer) -> float:
        moving = posed_vertices(drive(registration, given, config))[:, soles][..., [0, 2]]
        return 1000 * float(np.linalg.norm(np.diff(moving, axis=0), axis=-1).mean())

    assert slide_mm(RigTransfer()) < 0.15 * slide_mm(RigTransfer(lock_feet=False))


def test_contacts_have_hysteresis() -> None:
    foot = np.zeros((60, 3))
    foot[20:40, 1] = 0.3
    foot[20:40, 2] = np.linspace(0, 0.6, 20)
    foot[40:, 2] = 0.6
    planted = contacts(foot, floor=0.0, fps=30.0)
    assert planted[:15].all() and not planted[23:37].any() and planted[45:].all()
    assert len(runs(planted)) == 2


@lru_cache(maxsize=1)
def fitted_tall() -> tuple[Mesh, np.ndarray, np.ndarray]:
    """A long-legged body in T-pose as a bare mesh, its fit, and its true joints."""
    rotvecs = np.zeros((1, len(BODY.joints), 3))
    for side, sign in (("Left", 1), ("Right", -1)):
        rotvecs[0, JOINT[f"{side}Arm"]] = [0, 0, 0.7 * sign]
    shape = np.random.default_rng(5).normal(size=BODY.shape_size)
    given = sequence(rotvecs, shape)
    vertices = 1.4 * given.vertices[0].astype(np.float64) + [0.3, 2.0, 0.1]
    names = tuple(
        f"{side}_{p}"
        for side in ("left", "right")
        for p in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot_index", "index")
    )
    at = BODY.regress(names, vertices[None].astype(np.float32))[0]
    mesh = Mesh(vertices, BODY.faces)
    noise = 0.02 * np.random.default_rng(6).normal(size=at.shape)
    fit = fit_template(BODY, FoundJoints(names, at + noise, np.ones(len(names))), mesh)
    return mesh, fit.vertices, np.linalg.norm(fit.vertices - vertices, axis=1)


def test_template_fits_a_body_in_another_pose_and_scale() -> None:
    _, _, error = fitted_tall()
    assert np.median(error) < 0.015 and np.percentile(error, 95) < 0.06


def test_weights_are_carried_over() -> None:
    mesh, surface, _ = fitted_tall()
    indices, weights = transfer_weights(BODY, surface, mesh)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert weights.min() >= 0 and indices.shape[1] == 4
    dense = np.zeros((len(weights), len(BODY.joints)))
    np.add.at(dense, (np.arange(len(weights))[:, None], indices), weights)
    true = np.zeros_like(dense)
    np.add.at(true, (np.arange(len(weights))[:, None], BODY.weight_indices), BODY.weights)
    assert np.abs(dense - true).sum(1).mean() < 0.25
    # No arm moves with a leg.
    arms = [j for n, j in JOINT.items() if "Arm" in n or "Hand" in n]
    legs = [j for n, j in JOINT.items() if "Leg" in n or "Foot" in n]
    assert (dense[:, arms].sum(1) * dense[:, legs].sum(1)).max() < 0.05


def test_large_mesh_goes_by_way_of_a_coarse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, _, _ = fitted_tall()
    own = mesh.vertices  # a perfect fit, so that only the detour differs
    fine = transfer_weights(BODY, own, mesh)
    monkeypatch.setattr("mvai.transfer.registration.weights.LARGE", 1000)
    coarse = transfer_weights(BODY, own, mesh)
    dense = np.zeros((2, len(own), len(BODY.joints)))
    for d, (indices, weights) in zip(dense, (fine, coarse), strict=True):
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
        np.add.at(d, (np.arange(len(own))[:, None], indices), weights)
    body = BODY.weights[(BODY.weight_indices != JOINT["Head"]).any(1)].shape[0]
    assert np.abs(dense[0] - dense[1]).sum() / body < 0.15


def test_small_loose_piece_stays_rigid() -> None:
    mesh, surface, _ = fitted_tall()
    button = 0.01 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, 0]], float)
    chest = mesh.vertices[np.argmax(mesh.vertices[:, 2] + mesh.vertices[:, 1])] + [0, -0.3, 0.02]
    n = len(mesh.vertices)
    faces = np.concatenate([mesh.faces, n + np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])])
    both = Mesh(np.concatenate([mesh.vertices, chest + button]), faces)
    indices, weights = transfer_weights(BODY, surface, both)
    assert (indices[n:] == indices[n]).all()
    np.testing.assert_allclose(weights[n:], np.broadcast_to(weights[n], (4, 4)), atol=1e-6)


def test_sphere_is_refused() -> None:
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=3)
    with pytest.raises(MvaiError, match="no human body was found"):
        register(character(np.asarray(ball.vertices), np.asarray(ball.faces)), nobody)


@pytest.mark.parametrize(
    ("name", "side", "word"),
    [
        ("mixamorig:LeftUpLeg", "Left", "upleg"),
        ("thigh_l", "Left", "thigh"),
        ("Bip01 R Calf", "Right", "calf"),
        ("CC_Base_L_Thigh", "Left", "thigh"),
        ("UpperLeg.R", "Right", "upperleg"),
        ("upper_arm.L", "Left", "upperarm"),
        ("Bip01 L Finger12", "Left", "finger12"),
        ("RightHandIndex1", "Right", "handindex1"),
        ("spine_01", "", "spine01"),
        ("Bip01 L Finger01", "Left", "finger01"),
        ("J_Bip_C_Head", "", "head"),
        ("ValveBiped.Bip01_L_Calf", "Left", "calf"),
        ("Character1_LeftForeArm", "Left", "forearm"),
        ("thigh_stretch.l", "Left", "thigh"),
        ("head.x", "", "head"),
        ("DEF-f_index.01.L", "Left", "index01"),
    ],
)
def test_bone_names(name: str, side: str, word: str) -> None:
    assert read_name(name) == (side, word)


def rig_named(names: list[str]) -> Skin:
    """The body's rig under other names."""
    at = BODY.joint_template.numpy().astype(np.float64)
    T = transforms(np.tile(np.eye(3), (len(at), 1, 1)), at)
    return Skin(tuple(names), BODY.parents, T, BODY.weight_indices, BODY.weights)


VROID = ("UpperLeg", "LowerLeg", "Foot", "ToeBase", "UpperArm", "LowerArm", "Hand")
PIECES = ("upperleg01", "lowerleg01", "foot", "toe1-1", "upperarm01", "lowerarm01", "wrist")
STRETCH = tuple(f"{w}_stretch" for w in ("thigh", "leg", "foot", "toe", "arm", "forearm", "hand"))
JOINTS = ("Hip", "Knee", "Ankle", "Foot", "Shoulder", "Elbow", "Wrist")
LEG_KNEE = ("leg", "knee", "ankle", "toe", "arm", "elbow", "wrist")
HIP_LEG = ("hip", "leg", "foot", "toe", "upperarm", "forearm", "hand")
MIXAMO = ("UpLeg", "Leg", "Foot", "ToeBase", "Arm", "ForeArm", "Hand")


@pytest.mark.parametrize(
    ("words", "form"),
    [
        (VROID, "J_Bip_{S}_{word}"),
        (PIECES, "{word}.{S}"),
        (STRETCH, "{word}.{s}"),
        (JOINTS, "{S}_{word}"),
        (LEG_KNEE, "{word}_{S}"),
        (HIP_LEG, "{word}.{S}"),
        (MIXAMO, "mixamorig:{Side}{word}_0{i}"),
        (MIXAMO, "Character1_{Side}{word}"),
    ],
)
def test_rigs_of_many_makers_are_recognised(words: tuple[str, ...], form: str) -> None:
    """Limbs by name; the rest by its place, under names that say nothing."""
    limbs = ("UpLeg", "Leg", "Foot", "ToeBase", "Arm", "ForeArm", "Hand")
    names = [f"thing {i}" for i in range(len(BODY.joints))]
    for side in SIDES:
        for limb, word in zip(limbs, words, strict=True):
            i = JOINT[f"{side}{limb}"]
            names[i] = form.format(word=word, Side=side, S=side[0], s=side[0].lower(), i=i)
    found = body_bones(rig_named(names))
    assert found is not None
    for side in SIDES:
        for limb in limbs:
            assert found[f"{side}{limb}"] == JOINT[f"{side}{limb}"]
        assert found[f"{side}Shoulder"] == JOINT[f"{side}Shoulder"]
    assert found["Hips"] == JOINT["Hips"]


def test_rigs_without_names_are_recognised_by_place() -> None:
    rig = rig_named([f"Bone.{i:03}" for i in range(len(BODY.joints))])
    found = body_bones(rig)
    assert found is not None
    limbs = ("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")
    for name in ("Hips", "Head", *(f"{side}{limb}" for side in SIDES for limb in limbs)):
        assert found[name] == JOINT[name]


@pytest.mark.parametrize("named", [True, False])
def test_a_rig_of_four_legs_is_left_out(named: bool) -> None:
    """The body bent forwards until its hands stand on the ground."""
    rig = rig_named([n if named else f"Bone.{i:03}" for i, n in enumerate(BODY.joints)])
    T = rig.T_world_joint.copy()
    hips = T[JOINT["Hips"], :3, 3]
    legs = [j for name, j in JOINT.items() if "Leg" in name or "Foot" in name or "Toe" in name]
    upper = np.setdiff1d(np.arange(len(T)), legs)
    lying = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    T[upper, :3, 3] = (T[upper, :3, 3] - hips) @ lying.T + hips
    assert body_bones(replace(rig, T_world_joint=T)) is None
    for side in SIDES:  # Front legs below the shoulders.
        shoulder = T[JOINT[f"{side}Arm"], :3, 3].copy()
        for k, name in enumerate(("Arm", "ForeArm", "Hand")):
            T[JOINT[f"{side}{name}"], :3, 3] = shoulder * [1, 1 - 0.47 * k, 1]
        ends = [j for name, j in JOINT.items() if name.startswith(f"{side}Hand")]
        T[ends, :3, 3] = T[JOINT[f"{side}Hand"], :3, 3]
    assert body_bones(replace(rig, T_world_joint=T)) is None


def test_a_rig_whose_hands_do_not_hang_from_its_arms_is_left_out() -> None:
    """They follow handles of inverse kinematics, which a file does not work."""
    rig = rig_named([f"Bone.{i:03}" for i in range(len(BODY.joints))])
    parents = list(rig.parents)
    for side in SIDES:
        parents[JOINT[f"{side}Hand"]] = JOINT["Spine"]
    assert body_bones(replace(rig, parents=tuple(parents))) is None


def test_thumbs_come_first_where_fingers_are_counted_from_one() -> None:
    fingers = ("Thumb", "Index", "Middle", "Ring", "Pinky")
    names = []
    for name in BODY.joints:
        finger = next((f for f in fingers if f in name), None)
        side = "Left" if name.startswith("Left") else "Right"
        at = 0 if finger is None else fingers.index(finger) + 1
        names.append(name if finger is None else f"finger{at}-{name[-1]}.{side[0]}")
    found = body_bones(rig_named(names))
    assert found is not None and all(found[n] == j for n, j in JOINT.items())


def test_own_rig_is_driven_with_its_own_bones() -> None:
    """The body under other names and frames, with a helper bone: it moves like the body."""
    words = {"UpLeg": "thigh", "Leg": "calf", "Foot": "foot", "ToeBase": "ball"}
    words |= {"Arm": "upperarm", "ForeArm": "lowerarm", "Hand": "hand", "Shoulder": "clavicle"}
    names = []
    for name in BODY.joints:
        side = next((s for s in ("Left", "Right") if name.startswith(s)), "")
        bare = name.removeprefix(side)
        bare = words.get(bare, bare.removeprefix("Hand") if side else bare)
        names.append(f"{bare.lower()}_{side[0].lower()}" if side else bare.lower())
    J = len(names)
    rest = BODY.template.numpy().astype(np.float64)
    frames = Rotation.random(J, random_state=0).as_matrix()
    T = transforms(frames, BODY.joint_template.numpy().astype(np.float64))
    skin = Skin(
        (*names, "hat"),
        (*BODY.parents, JOINT["Head"]),
        np.concatenate([T, T[JOINT["Head"]][None]]),
        BODY.weight_indices,
        BODY.weights,
    )
    found = body_bones(skin)
    assert found is not None and all(found[n] == j for n, j in JOINT.items())
    registration = register(character(rest, BODY.faces, skin), nobody)
    given = sequence(smooth_motion(12, seed=7))
    as_is = RigTransfer(find_floor=False, lock_feet=False)
    result = posed_vertices(drive(registration, given, as_is))
    assert np.linalg.norm(result - given.vertices, axis=-1).mean() < 0.02


@pytest.fixture(scope="module")
def suit() -> Iterator[Registration]:
    """A clothed character in layers, found and registered from pictures."""
    path = data_dir() / "identities" / "rest_obj" / "makehuman_man_elegantsuit.obj"
    from mvai.detect.image import image_detector
    from mvai.io.characters import read_character

    with image_detector() as detect:
        yield register(read_character(path), detect)


def test_clothed_character_end_to_end(suit: Registration) -> None:
    mesh = suit.character.mesh
    height = np.ptp(mesh.vertices[:, 1])
    assert suit.keypoint_error_m < 0.02 * height and suit.surface_error_m < 0.015 * height
    given = sequence(smooth_motion(10, seed=8))
    vertices = posed_vertices(drive(suit, given))
    e = edges(mesh.faces)
    rest = np.linalg.norm(np.diff(mesh.vertices[e], axis=1)[:, 0], axis=1)
    moved = np.linalg.norm(np.diff(vertices[:, e], axis=2)[:, :, 0], axis=-1)
    stretch = np.abs(moved[:, rest > 1e-5] / rest[rest > 1e-5] - 1)
    assert np.median(stretch) < 0.02 and np.percentile(stretch, 99) < 0.6
    assert components(len(mesh.vertices), mesh.faces).max() > 5
