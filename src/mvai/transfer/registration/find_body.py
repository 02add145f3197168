"""Finds and fits the body in a character: by looking at it, by its shape, or as the user says.

Detector and shape see different things: the one knows people and their clothes, the other is not
disturbed by a missing face. Where the first fit leaves much of the surface uncovered, the other
and mixtures of both are tried, and the one that covers most is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from mvai.body.model import LinearBody
from mvai.transfer.registration.cache import cache_key, keep, read_kept
from mvai.transfer.registration.find_joints import (
    FoundJoints,
    ImageDetector,
    find_joints,
    limb_fault,
)
from mvai.transfer.registration.fit import FittedTemplate, fit_template, lost_limbs
from mvai.transfer.registration.geometry import joints_by_shape, of_human_proportions
from mvai.transfer.registration.joints_file import read_joints, write_joints
from mvai.types import Character, MvaiError
from mvai.types.names import SIDES

SURE = 0.9
"""Coverage from which a fit is taken without trying others."""
UNSURE = 0.85
"""Coverage below which a fit is refused."""
UNSURE_BY_SHAPE = 0.75
"""Likewise of a fit to limbs that the shape shows and that are as long as people's: a robot's slabs
and rods are nowhere near a body's surface, but its limbs are where they are."""
LEGS = ("hip", "knee", "ankle", "heel", "foot_index")
NEEDED_LIMBS = tuple(f"{s}_{p}" for s in ("left", "right") for p in ("shoulder", "hip"))
TOUCH = 0.01
"""Hands that come this near to each other, as a share of the height, cannot be told apart."""
MISS = 0.03
"""A joint whose place in the fit is this share of the height away from where it was found is
uncertain."""


PROMISING = 0.75
"""Coverage of a coarse fit from which a finer one may become sure."""


OWN_RIG = "A .glb with a humanoid rig of its own is driven through that."
LIMB_WORDS = {
    f"{side}{bone}": f"{side.lower()} {word}"
    for side in SIDES
    for bone, word in (("ForeArm", "forearm"), ("Leg", "shin"))
}


class BodyNotFoundError(MvaiError):
    """No human body is found in a character, or none that fits."""


@dataclass(frozen=True)
class FoundBody:
    """A body in a character."""

    fit: FittedTemplate
    joints: FoundJoints
    """Where the joints were found, with a confidence for each."""


def find_body(
    body: LinearBody, character: Character, detector: ImageDetector, file: Path | None = None
) -> FoundBody:
    """The template fitted to the character, or what an earlier run has found in the same mesh.

    Args:
        body: the template.
        character: at rest.
        detector: looks at pictures of it.
        file: joints that the user has corrected; where there is none yet, those that were found
            are written there, with a picture beside it.

    Raises:
        MvaiError: no body is found, or none that fits; the file cannot be read or written.
    """
    key = cache_key(character.mesh, detector)
    stored = read_kept(key) if file is None else None
    found = None if stored is None else _unpacked(stored)
    if found is None:
        found = _find_body(body, character, detector, file)
        if _hands_touch(body, character, found.fit):
            raise MvaiError(
                f"{character.name}: the character's hands lie on each other, so that its surface "
                "cannot be shared out between them; put it in A- or T-pose."
            )
        if file is None:
            keep(key, _packed(found))
    return found


def see_body(body: LinearBody, character: Character, detector: ImageDetector) -> FoundBody | None:
    """The template fitted to what the detector alone sees, None where it is not sure to fit.

    Of the characters in which no body is found as they stand this is a look from another side: a
    coarse fit to the surface says whether a finer one may cover enough of it.
    """
    key = cache_key(character.mesh, detector)
    stored = read_kept(key)
    if stored is not None:
        return _unpacked(stored)
    height = float(np.ptp(character.mesh.vertices[:, 1]))
    try:
        seen = find_joints(character, detector)
    except MvaiError:
        return None
    if limb_fault(character.name, seen, height) is not None:
        return None
    if fit_template(body, seen, character.mesh, coarse=True).coverage < PROMISING:
        return None
    fit = fit_template(body, seen, character.mesh)
    if fit.coverage < SURE or _hands_touch(body, character, fit):
        return None
    found = FoundBody(fit, _with_confidence(body, fit, seen, height))
    keep(key, _packed(found))
    return found


def _hands_touch(body: LinearBody, character: Character, fit: FittedTemplate) -> bool:
    height = float(np.ptp(character.mesh.vertices[:, 1]))
    return _hands_apart(body, fit.vertices) < TOUCH * height


def _hands_apart(body: LinearBody, fitted: Float[np.ndarray, "verts 3"]) -> float:
    """Least distance between the two hands (metres)."""
    name = np.array(body.joints)[body.strongest_joint]
    left, right = (fitted[np.char.startswith(name, f"{side}Hand")] for side in SIDES)
    return float(KDTree(left).query(right)[0].min())


def _packed(found: FoundBody) -> dict[str, np.ndarray]:
    fit, joints = found.fit, found.joints
    return {f.name: np.asarray(getattr(fit, f.name)) for f in fields(fit)} | {
        "joint_names": np.array(joints.names),
        "joint_xyz_m": joints.xyz_m,
        "joint_confidence": joints.confidence,
    }


def _unpacked(stored: Mapping[str, np.ndarray]) -> FoundBody | None:
    """None when something is missing."""
    try:
        fit = FittedTemplate(
            vertices=stored["vertices"],
            R_world_joint=stored["R_world_joint"],
            t_world_joint=stored["t_world_joint"],
            keypoint_error_m=float(stored["keypoint_error_m"]),
            surface_error_m=float(stored["surface_error_m"]),
            coverage=float(stored["coverage"]),
        )
        joints = FoundJoints(
            tuple(str(n) for n in stored["joint_names"]),
            stored["joint_xyz_m"],
            stored["joint_confidence"],
        )
    except KeyError:
        return None
    return FoundBody(fit, joints)


def _find_body(
    body: LinearBody, character: Character, detector: ImageDetector, file: Path | None
) -> FoundBody:
    height = float(np.ptp(character.mesh.vertices[:, 1]))
    if file is not None and file.exists():
        given = read_joints(file)
        fit = fit_template(body, given, character.mesh)
        return FoundBody(fit, _with_confidence(body, fit, given, height))
    fault, best, shaped = "", None, None
    for found, by_shape in _candidates(character, detector):
        if isinstance(found, str):
            fault = fault or found
            continue
        fit = fit_template(body, found, character.mesh)
        tried = FoundBody(fit, _with_confidence(body, fit, found, height))
        if by_shape and of_human_proportions(found, height) and fit.coverage >= UNSURE_BY_SHAPE:
            shaped = tried
        if best is None or fit.coverage > best.fit.coverage:
            best = tried
        if best.fit.coverage >= SURE:
            break
    if best is None:
        raise BodyNotFoundError(f"{fault} {OWN_RIG}")
    sure = best.fit.coverage >= UNSURE
    if not sure and shaped is not None:
        best, sure = shaped, True
    if file is not None:
        write_joints(file, character, best.joints)
    if not sure:
        lost = lost_limbs(body, best.fit.vertices, character.mesh, height)
        raise BodyNotFoundError(_unsure(character, best.fit.coverage, lost, file))
    return best


def _unsure(character: Character, coverage: float, lost: list[str], file: Path | None) -> str:
    name = f"{character.name}_joints.json" if file is None else str(file)
    how = (
        f"run again with --transfer.joints {name} to get a picture of what was found and a file "
        "to correct it in"
        if file is None
        else f"look at {file.with_suffix('.png')}, correct the joints in {name} and run again"
    )
    what = f"only {100 * coverage:.0f} % of its surface"
    if lost:
        limbs = " and ".join(LIMB_WORDS[n] for n in lost)
        what = f"its {limbs} {'was' if len(lost) == 1 else 'were'} not found"
    return f"{character.name}: no human body fits the character ({what}); {how}. {OWN_RIG}"


def _candidates(character: Character, detector: ImageDetector):
    """Joints by the detector, by shape, and legs of the one with the rest of the other, or a
    sentence that says what is wrong with them; and whether they are by shape alone."""
    mesh = character.mesh
    height = float(np.ptp(mesh.vertices[:, 1]))
    seen: FoundJoints | None = None
    try:
        seen = find_joints(character, detector)
        yield limb_fault(character.name, seen, height) or seen, False
    except MvaiError as error:
        yield str(error), False
    shape = joints_by_shape(mesh)
    known = set(shape.names)
    if known.issuperset(NEEDED_LIMBS):
        yield shape, True
    if seen is None:
        return
    for from_shape in (True, False):
        part = [i for i, n in enumerate(shape.names) if _is_leg(n) == from_shape]
        rest = [i for i, n in enumerate(seen.names) if _is_leg(n) != from_shape]
        if not part:
            continue
        mixed = _joined(_picked(seen, rest), _picked(shape, part))
        if limb_fault(character.name, mixed, height) is None:
            yield mixed, False


def _is_leg(name: str) -> bool:
    return name.split("_", 1)[-1].startswith(LEGS)


def _picked(found: FoundJoints, which: list[int]) -> FoundJoints:
    return FoundJoints(
        tuple(found.names[i] for i in which), found.xyz_m[which], found.confidence[which]
    )


def _joined(a: FoundJoints, b: FoundJoints) -> FoundJoints:
    return FoundJoints(
        a.names + b.names,
        np.concatenate([a.xyz_m, b.xyz_m]),
        np.concatenate([a.confidence, b.confidence]),
    )


def _with_confidence(
    body: LinearBody, fit: FittedTemplate, found: FoundJoints, height: float
) -> FoundJoints:
    """How sure the joints are falls with their distance to those of the fit, and with how little
    of the surface the fit covers."""
    at = body.regress(found.names, fit.vertices[None].astype(np.float32))[0] if found.names else []
    miss = np.linalg.norm(np.asarray(at) - found.xyz_m, axis=1)
    sure = np.exp(-((np.nan_to_num(miss, nan=1e3) / (MISS * height)) ** 2))
    share = np.clip((fit.coverage - 0.5) / 0.45, 0, 1)
    return replace(found, confidence=np.clip(found.confidence, 0, 1) * sure * share)
