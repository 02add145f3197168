"""A body that is found only when the character is turned about its up axis."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mvai.transfer.registration import turned
from mvai.types import Character, MvaiError, Part

NOSE = np.array([1.0, 0.5, 0.1])


def somebody() -> Character:
    v = np.array([NOSE, [0, 0, 0], [0, 1, 0]])
    return Character("somebody", (Part("all", v, np.array([[0, 1, 2]]), {}, None),))


def finds(towards: np.ndarray, coverage: float):
    """Stands for the search: it succeeds if the nose looks there."""

    def find(body: object, character: Character, detector: object, file: Path | None = None):
        nose = character.mesh.vertices[0] * [1, 0, 1]
        if nose @ towards < 0.9:
            raise MvaiError(f"no body where the nose is {nose.round().tolist()}")
        return SimpleNamespace(fit=SimpleNamespace(coverage=coverage))

    return find


def search(file: Path | None = None):
    return turned.find_body_in_any_turn(None, somebody(), None, file)  # type: ignore[arg-type]


def test_a_character_that_looks_aside_is_turned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turned, "find_body", finds(np.array([0, 0, 1]), 0.95))
    with pytest.warns(UserWarning, match=r"somebody: taken to face \+x of its file"):
        _, T = search()
    np.testing.assert_allclose(T[:3, :3] @ NOSE, [-0.1, 0.5, 1.0])


def test_of_two_turns_the_better_is_taken(monkeypatch: pytest.MonkeyPatch):
    forward, backward = finds(np.array([0, 0, 1]), 0.95), finds(np.array([0, 0, -1]), 0.92)

    def find(body: object, character: Character, detector: object, file: Path | None = None):
        try:
            return backward(body, character, detector)
        except MvaiError:
            return forward(body, character, detector)

    monkeypatch.setattr(turned, "find_body", find)
    with pytest.warns(UserWarning, match=r"face \+x"):
        search()


def test_one_that_is_found_as_it_stands_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turned, "find_body", finds(np.array([1, 0, 0]), 0.86))
    np.testing.assert_array_equal(search()[1], np.eye(4))


def test_a_turn_under_which_the_body_fits_badly_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(turned, "find_body", finds(np.array([0, 0, 1]), 0.86))
    with pytest.raises(MvaiError, match=r"nose is \[1.0, 0.0, 0.0\]"):
        search()
    monkeypatch.setattr(turned, "find_body", finds(np.array([0, 0, 1]), 0.95))
    with pytest.raises(MvaiError):  # The joints of a file are those of the character as it stands.
        search(tmp_path / "joints.json")
