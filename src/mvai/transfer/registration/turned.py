"""A character that stands in a pose of its own may look to a side of where its shape seems to face.

How a file's axes lie is judged by symmetry, which somebody with one arm raised has as much from the
side as from the front. Where no body fits, it is looked for in the character turned about its up
axis.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.io.characters import transformed
from mvai.transfer.registration.find_body import BodyNotFoundError, FoundBody, find_body, see_body
from mvai.transfer.registration.find_joints import ImageDetector
from mvai.types import Character, MvaiWarning

TURNS_DEG = (90, 270, 180)


def find_body_in_any_turn(
    body: LinearBody, character: Character, detector: ImageDetector, file: Path | None = None
) -> tuple[FoundBody, Float[np.ndarray, "4 4"]]:
    """As `find_body`, with the turn about +Y under which the body is found.

    A turn is taken only where the detector sees a body and that fits well, and of several the one
    under which it fits best; the user is warned of it.

    Raises:
        MvaiError: what `find_body` says of the character as it stands.
    """
    try:
        return find_body(body, character, detector, file), np.eye(4)
    except BodyNotFoundError as error:
        if file is not None:
            raise
        refused = error
    best, T_best = None, np.eye(4)
    for turn_deg in TURNS_DEG:
        T = np.eye(4)
        # Rounded, so that axes stay axes.
        T[:3, :3] = np.rint(Rotation.from_euler("y", turn_deg, degrees=True).as_matrix())
        found = see_body(body, transformed(character, T), detector)
        # A body also covers a character that looks elsewhere; its joints then agree less.
        if found is not None and (best is None or _sure(found) > _sure(best)):
            best, T_best = found, T
    if best is None:
        raise refused
    faces = character.T_world_file[:3, :3].T @ T_best[2, :3]
    axis = int(np.abs(faces).argmax())
    warnings.warn(
        f"{character.name}: taken to face {'+' if faces[axis] > 0 else '-'}{'xyz'[axis]} of its "
        "file, as only so a body is found in it.",
        MvaiWarning,
        stacklevel=2,
    )
    return best, T_best


def _sure(found: FoundBody) -> float:
    return found.fit.coverage * float(found.joints.confidence.mean())
