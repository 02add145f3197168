"""Finds the body in a character by looking at it from several sides.

The character is drawn in plain grey under known cameras, a key-point detector looks at each
picture, and the views vote on every key-point's place in space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mvai.geometry.surface import asymmetry_about_x
from mvai.geometry.triangulate import triangulate
from mvai.types import Character, Keypoints, MvaiError
from mvai.types.names import mirrored

ImageDetector = Callable[[UInt8[np.ndarray, "h w 3"]], Keypoints | None]
"""Finds the key-points of the one person in a picture (`Keypoints` of one frame)."""

VIEWS = ((-70, 0), (-40, 5), (-20, 0), (0, 0), (20, 0), (40, 5), (70, 0), (180, 0))
"""Azimuth and elevation in degrees. The front is seen more often: detectors know it best.
Neighbours follow each other, so that a detector that tracks is led from view to view."""
SIDE_VIEW_DEG = 50
"""From this azimuth on a view is nearly from the side: left and right overlap in it."""
ARMS = ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hand_")
LEGS = ("hip", "knee", "ankle", "heel", "foot_index")
SIZE_PX = 640
BODY_NEEDED = tuple(
    f"{side}_{point}"
    for side in ("left", "right")
    for point in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
"""Without these no limb can be placed."""


@dataclass(frozen=True)
class FoundJoints:
    """Key-points of the character at rest, in its world frame."""

    names: tuple[str, ...]
    xyz_m: Float[np.ndarray, "points 3"]
    """NaN where unknown."""
    confidence: Float[np.ndarray, " points"]
    """0 to 1."""


def find_joints(character: Character, detector: ImageDetector) -> FoundJoints:
    """Key-points of an unrigged character at rest.

    Raises:
        MvaiError: When no human body is seen from enough sides.
    """
    from mvai.io.render import render_views

    mesh = character.mesh
    seen = [
        (detector(image), camera)
        for image, camera in render_views(mesh, [(float(a), float(e)) for a, e in VIEWS], SIZE_PX)
    ]
    hits = [(k, c, a) for (k, c), (a, _) in zip(seen, VIEWS, strict=True) if k is not None]
    if len(hits) < 3:
        raise MvaiError(
            f"{character.name}: no human body was found in the character (seen in {len(hits)} of "
            f"{len(seen)} views); it must be human-shaped, upright and face +Z, in A- or T-pose."
        )
    names = hits[0][0].names
    xy = np.stack([_facing_front(k, a) for k, _, a in hits])
    conf = np.stack([_side_trust(k, a) for k, _, a in hits])
    xyz, votes = triangulate(xy, conf, [c for _, c, _ in hits], tolerance_px=SIZE_PX / 80)
    confidence = np.clip(votes / 3, 0, 1)
    found = FoundJoints(names, xyz, confidence)
    height = float(np.ptp(mesh.vertices[:, 1]))
    if asymmetry_about_x(_thinned(mesh.vertices)) < 0.01 * height:
        found = _symmetric(found)
    return found


def _facing_front(keypoints: Keypoints, azimuth_deg: float) -> Float[np.ndarray, "points 2"]:
    """Image positions with left and right as they must be for a character that faces +Z.

    A mannequin without a face is taken for its own back view as often as not. Arms and legs are
    judged apart, each by the sum over all its pairs.
    """
    xy = keypoints.xy_px[0].astype(np.float64)
    if SIDE_VIEW_DEG < abs(azimuth_deg) < 180 - SIDE_VIEW_DEG:
        return xy
    right_of_image = np.sign(np.cos(np.radians(azimuth_deg)))
    names = keypoints.names
    order = np.array([names.index(mirrored(n)) for n in names])
    swapped = xy.copy()
    for limbs in (ARMS, LEGS):
        mine = [
            i
            for i, n in enumerate(names)
            if n.startswith("left_") and n.removeprefix("left_").startswith(limbs)
        ]
        w = keypoints.confidence[0, mine] * keypoints.confidence[0, order[mine]]
        apart = np.nan_to_num(xy[mine, 0] - xy[order[mine], 0])
        if right_of_image * (w * apart).sum() < 0:
            both = np.concatenate([mine, order[mine]])
            swapped[both] = xy[order[both]]
    return swapped


def _side_trust(keypoints: Keypoints, azimuth_deg: float) -> Float[np.ndarray, " points"]:
    """Confidence, lowered where one side of the body hides the other."""
    side = SIDE_VIEW_DEG < abs(azimuth_deg) < 180 - SIDE_VIEW_DEG
    return keypoints.confidence[0].astype(np.float64) * (0.4 if side else 1.0)


def _thinned(vertices: np.ndarray) -> np.ndarray:
    return vertices[:: max(1, len(vertices) // 5000)]


def _symmetric(found: FoundJoints) -> FoundJoints:
    """Left and right averaged about x = 0; a side that is unknown follows from the other."""
    order = [found.names.index(mirrored(n)) for n in found.names]
    w = found.confidence
    own = np.nan_to_num(found.xyz_m) * w[:, None]
    other = np.nan_to_num(found.xyz_m[order]) * [-1, 1, 1] * w[order][:, None]
    total = w + w[order]
    with np.errstate(invalid="ignore", divide="ignore"):
        xyz = (own + other) / total[:, None]
    return FoundJoints(found.names, xyz, np.clip(total / 1.5, 0, 1))


def limb_fault(name: str, found: FoundJoints, height: float) -> str | None:
    """A sentence about what cannot be a body, before a template is bent to it; None if all is
    well."""
    at = dict(zip(found.names, found.xyz_m, strict=True))
    missing = [n for n in BODY_NEEDED if n not in at or not np.isfinite(at[n]).all()]
    if missing:
        return (
            f"{name}: the character's {missing[0].replace('_', ' ')} was not found"
            + (f" (nor {len(missing) - 1} other joints)" if len(missing) > 1 else "")
            + "; it must be human-shaped and face +Z, in A- or T-pose with its limbs in sight."
        )

    def length(a: str, b: str) -> float:
        return float(np.linalg.norm(at[a] - at[b]))

    limbs = {
        f"{side} {limb}": length(f"{side}_{a}", f"{side}_{b}")
        for side in ("left", "right")
        for limb, a, b in (
            ("upper arm", "shoulder", "elbow"),
            ("forearm", "elbow", "wrist"),
            ("thigh", "hip", "knee"),
            ("shin", "knee", "ankle"),
        )
    }
    for limb, value in limbs.items():
        other = limbs[mirrored(limb)]
        if not 0.03 * height < value < 0.45 * height or value > 2 * other:
            return (
                f"{name}: the character's {limb} would be {value:.2f} m of {height:.2f} m height, "
                "so its body was not found rightly; put it in A- or T-pose, facing +Z."
            )
    return None
