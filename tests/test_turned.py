"""A body that is found only when the character is turned about its up axis."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mvai.transfer.registration import find_body, turned
from mvai.transfer.registration.find_body import BodyNotFoundError
from mvai.transfer.registration.fit import lost_limbs
from mvai.types import Character, Mesh, MvaiError, Part
from test_transfer import BODY

NOSE = np.array([1.0, 0.5, 0.1])
FORWARD = np.array([0, 0, 1])


def somebody() -> Character:
    v = np.array([NOSE, [0, 0, 0], [0, 1, 0]])
    return Character("somebody", (Part("all", v, np.array([[0, 1, 2]]), {}, None),))


def use(
    monkeypatch: pytest.MonkeyPatch,
    *found: tuple[np.ndarray, float, float],
    error: type[MvaiError] = BodyNotFoundError,
):
    """Stands for the search: it finds a body, that covers so much and is so sure, where the nose
    looks there."""

    def see(body: object, character: Character, detector: object):
        nose = character.mesh.vertices[0] * [1, 0, 1]
        for towards, coverage, confidence in found:
            if nose @ towards > 0.9:
                joints = SimpleNamespace(confidence=np.full(3, confidence))
                return SimpleNamespace(fit=SimpleNamespace(coverage=coverage), joints=joints)
        return None

    def find(body: object, character: Character, detector: object, file: Path | None = None):
        body_found = see(body, character, detector)
        if body_found is None:
            raise error(f"no body where the nose is {character.mesh.vertices[0].round().tolist()}")
        return body_found

    monkeypatch.setattr(turned, "see_body", see)
    monkeypatch.setattr(turned, "find_body", find)


def search(file: Path | None = None):
    return turned.find_body_in_any_turn(None, somebody(), None, file)  # type: ignore[arg-type]


def test_a_character_that_looks_aside_is_turned(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, (FORWARD, 0.95, 0.9))
    with pytest.warns(UserWarning, match=r"somebody: taken to face \+x of its file"):
        _, T = search()
    np.testing.assert_allclose(T[:3, :3] @ NOSE, [-0.1, 0.5, 1.0])


def test_of_two_turns_that_with_the_surer_joints_is_taken(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, (FORWARD, 0.95, 0.9), (-FORWARD, 0.96, 0.5))
    with pytest.warns(UserWarning, match=r"face \+x"):
        search()


def test_one_that_is_found_as_it_stands_is_left(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, (np.array([1, 0, 0]), 0.86, 0.9))
    np.testing.assert_array_equal(search()[1], np.eye(4))


def test_what_no_turn_can_help_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    use(monkeypatch)
    with pytest.raises(MvaiError, match=r"nose is \[1.0"):
        search()
    use(monkeypatch, (FORWARD, 0.95, 0.9))
    with pytest.raises(MvaiError):  # The joints of a file are those of the character as it stands.
        search(tmp_path / "joints.json")
    use(monkeypatch, (FORWARD, 0.95, 0.9), error=MvaiError)
    with pytest.raises(MvaiError):  # Hands that lie on each other do so from every side.
        search()


@pytest.mark.parametrize(
    ("fault", "coarse", "fine", "fits"),
    [
        (None, 0.8, 0.95, [True, False]),
        (None, 0.6, 0.95, [True]),
        (None, 0.8, 0.89, [True, False]),
        ("a leg is missing", 0.8, 0.95, []),
    ],
)
def test_another_side_costs_a_fit_only_where_it_promises_one(
    monkeypatch: pytest.MonkeyPatch,
    fault: str | None,
    coarse: float,
    fine: float,
    fits: list[bool],
):
    made: list[bool] = []

    def fit(body: object, seen: object, mesh: object, coarse_fit: bool = False, **more: bool):
        made.append(more.get("coarse", coarse_fit))
        return SimpleNamespace(coverage=coarse if made[-1] else fine)

    monkeypatch.setattr(find_body, "find_joints", lambda *given: None)
    monkeypatch.setattr(find_body, "limb_fault", lambda *given: fault)
    monkeypatch.setattr(find_body, "fit_template", fit)
    monkeypatch.setattr(find_body, "cache_key", lambda *given: "")
    monkeypatch.setattr(find_body, "read_kept", lambda key: None)
    monkeypatch.setattr(find_body, "keep", lambda *given: None)
    monkeypatch.setattr(find_body, "_packed", lambda found: {})
    monkeypatch.setattr(find_body, "_hands_touch", lambda *given: False)
    monkeypatch.setattr(find_body, "_with_confidence", lambda *given: None)
    seen = find_body.see_body(None, somebody(), None)  # type: ignore[arg-type]
    assert made == fits and (seen is not None) == (fine > 0.9 and len(fits) == 2)


def test_the_sentence_names_the_limb_that_was_not_found():
    """A body one forearm of which is not in the mesh."""
    bone = np.array(BODY.joints)[BODY.strongest_joint]
    arm = np.char.startswith(bone, "LeftForeArm") | np.char.startswith(bone, "LeftHand")
    faces = BODY.faces[~arm[BODY.faces].any(1)]
    v = BODY.template.numpy().astype(np.float64)
    height = float(np.ptp(v[:, 1]))
    assert lost_limbs(BODY, v, Mesh(v, faces), height) == ["LeftForeArm"]
    assert lost_limbs(BODY, v, Mesh(v, BODY.faces), height) == []
    text = find_body._unsure(somebody(), 0.1, ["LeftForeArm"], None)
    assert "no human body fits the character (its left forearm was not found)" in text
