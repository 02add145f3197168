"""Characters and moving meshes whose faces look inwards: every method sees them look outwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvai.geometry.rigid import transforms
from mvai.nets.npt_files import WEIGHTS, load_npt
from mvai.transfer import npt, npt_detail, rig_register, sa_pd
from mvai.transfer.reading.source import read_source
from mvai.transfer.registration.find_body import FoundBody
from mvai.transfer.registration.find_joints import FoundJoints
from mvai.transfer.registration.fit import FittedTemplate
from mvai.transfer.registration.outward import facing_outward
from mvai.types import Character, MvaiError, Part, Skin
from npt_makers import acting, shuffled
from test_transfer import BODY, character, nobody

REST = BODY.template.numpy().astype(np.float64)
shipped = pytest.mark.skipif(not WEIGHTS.exists(), reason="the weights are not there")


def inverted(whole: Character) -> Character:
    return replace(whole, parts=tuple(replace(p, faces=p.faces[:, ::-1]) for p in whole.parts))


def test_faces_that_look_inwards_are_turned():
    """In the whole or in a part; vertices and numbers stay as they are."""
    whole = character(BODY.template.numpy().astype(np.float64), BODY.faces)
    assert facing_outward(whole) is whole
    inside_out = replace(
        whole, parts=tuple(replace(p, faces=p.faces[:, ::-1]) for p in whole.parts)
    )
    turned = facing_outward(inside_out)
    np.testing.assert_array_equal(turned.mesh.faces, whole.mesh.faces)
    np.testing.assert_array_equal(turned.mesh.vertices, whole.mesh.vertices)
    left, right = (f for f in np.split(whole.mesh.faces, [9000]))
    v = whole.mesh.vertices
    halves = replace(whole, parts=(Part("a", v, left), Part("b", v, right[:, ::-1])))
    mended = facing_outward(halves)
    np.testing.assert_array_equal(mended.parts[0].faces, left)
    np.testing.assert_array_equal(mended.parts[1].faces, right)


def test_rig_finds_the_same_body(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def found(body: object, asked: Character, *rest: object) -> FoundBody:
        seen.append(asked.mesh.faces)
        raise MvaiError("asked")

    monkeypatch.setattr(rig_register, "find_body_in_any_turn", found)
    with pytest.raises(MvaiError, match="asked"):
        rig_register.register(inverted(character(REST, BODY.faces)), nobody)
    np.testing.assert_array_equal(seen[0], BODY.faces)


def test_rig_of_its_own_has_the_same_points() -> None:
    J = len(BODY.joints)
    T = transforms(np.tile(np.eye(3), (J, 1, 1)), BODY.joint_template.numpy().astype(np.float64))
    skin = Skin(BODY.joints, BODY.parents, T, BODY.weight_indices, BODY.weights)
    whole = character(REST, BODY.faces, skin)
    expected, given = (rig_register.register(c, nobody) for c in (whole, inverted(whole)))
    assert expected.points is not None and given.points is not None
    np.testing.assert_array_equal(given.points.rest, expected.points.rest)
    np.testing.assert_array_equal(given.points.normals, expected.points.normals)
    # What comes out keeps its faces as they were given.
    np.testing.assert_array_equal(given.character.mesh.faces, BODY.faces[:, ::-1])


def test_skeleton_alignment_finds_the_same_body(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(
        f"{side}_{p}"
        for side in ("left", "right")
        for p in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    )
    joints = FoundJoints(names, BODY.regress(names, REST[None])[0], np.ones(len(names)))
    monkeypatch.setattr(sa_pd, "find_joints", lambda *given: joints)
    whole = character(REST, BODY.faces)
    expected, given = (sa_pd.register(c, nobody) for c in (whole, inverted(whole)))
    np.testing.assert_array_equal(given.points, expected.points)
    assert_same_rest(given, expected)


@shipped
@pytest.mark.parametrize("method", [npt, npt_detail])
def test_the_network_is_helped_by_the_same_body(
    monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    """On a character so strange that the body has to be fitted."""
    strange = REST * [2.5, 1, 1]
    where = BODY.joint_template.numpy().astype(np.float64)
    turns = np.tile(Rotation.from_euler("x", 0.1).as_matrix(), (len(where), 1, 1))
    seen = []

    def found(body: object, asked: Character, *rest: object) -> FoundBody:
        seen.append(asked.mesh.faces)
        fit = FittedTemplate(strange, turns, where, 0.0, 0.0)
        return FoundBody(fit, FoundJoints((), np.empty((0, 3)), np.empty(0)))

    monkeypatch.setattr("mvai.transfer.npt_identity.find_body", found)
    whole = character(strange, BODY.faces)
    expected, given = (method.register(c, nobody) for c in (whole, inverted(whole)))
    np.testing.assert_array_equal(seen[1], seen[0])
    assert_same_rest(given, expected)


def assert_same_rest(given: Any, expected: Any) -> None:
    """Two registrations as sources."""
    a, b = given.at_rest.mesh.skin, expected.at_rest.mesh.skin
    np.testing.assert_array_equal(a.T_world_joint, b.T_world_joint)
    np.testing.assert_array_equal(a.weight_indices, b.weight_indices)
    np.testing.assert_array_equal(a.weights, b.weights)


@shipped
def test_the_network_reads_the_same_poses() -> None:
    """Off a moving mesh in no known order."""
    sequence = shuffled(acting(2)[0])
    inside_out = replace(sequence, faces=sequence.faces[:, ::-1])
    expected, given = (
        read_source(load_npt(), BODY, s, False, 6).R_local.numpy() for s in (sequence, inside_out)
    )
    np.testing.assert_allclose(given, expected, atol=1e-3)
