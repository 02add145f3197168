"""Keeps skeletons with their skin weights beside the bodies that were found (registration)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from mvai.io.fingerprint import add_arrays
from mvai.transfer.registration.cache import code_sha256, keep, read_kept
from mvai.transfer.registration.fit import FittedTemplate
from mvai.transfer.rig_points import BodyPoints
from mvai.transfer.rig_retarget import DrivenSkeleton, Twist
from mvai.types import Mesh, Skin

Made = tuple[DrivenSkeleton, BodyPoints | None]
SKIN = ("T_world_joint", "weight_indices", "weights")
POINTS = ("rest", "normals", "weight_indices", "weights")


def kept_skeleton(mesh: Mesh, fit: FittedTemplate, settings: str, make: Callable[[], Made]) -> Made:
    """What was made of the same mesh, fit and settings before, or what is made now.

    Args:
        mesh: the character at rest.
        fit: the template on it.
        settings: all else that the result depends on.
        make: makes it anew.
    """
    digest = hashlib.sha256(f"{code_sha256()} {settings}".encode())
    add_arrays(digest, mesh.vertices, mesh.faces, fit.vertices, fit.R_world_joint)
    add_arrays(digest, fit.t_world_joint)
    key = digest.hexdigest()
    stored = read_kept(key)
    made = None if stored is None else _unpacked(stored)
    if made is None:
        made = make()
        keep(key, _packed(*made))
    return made


def _packed(skeleton: DrivenSkeleton, points: BodyPoints | None) -> dict[str, np.ndarray]:
    skin = skeleton.skin
    arrays = {
        "joints": np.array(skin.joints),
        "parents": np.array(skin.parents),
        "source": skeleton.source,
        "A_template_joint": skeleton.A_template_joint,
        "legs": np.array(skeleton.legs),
        "root": np.array(skeleton.root),
        "twist_joints": np.array([(t.joint, t.bone, t.other) for t in skeleton.twists], int),
        "twist_shares": np.array([t.share for t in skeleton.twists]),
    }
    arrays |= {f"skin_{name}": getattr(skin, name) for name in SKIN}
    if points is not None:
        arrays |= {f"points_{name}": getattr(points, name) for name in POINTS}
    return arrays


def _unpacked(stored: dict[str, np.ndarray]) -> Made | None:
    """None when something is missing."""
    try:
        skin = Skin(
            tuple(str(n) for n in stored["joints"]),
            tuple(stored["parents"].tolist()),
            *(stored[f"skin_{name}"] for name in SKIN),
        )
        (a, b, c), (d, e, f) = stored["legs"].tolist()
        twists = zip(
            stored["twist_joints"].reshape(-1, 3).tolist(),
            stored["twist_shares"].tolist(),
            strict=True,
        )
        skeleton = DrivenSkeleton(
            skin,
            stored["source"],
            stored["A_template_joint"],
            ((a, b, c), (d, e, f)),
            int(stored["root"]),
            tuple(Twist(j, bone, other, share) for (j, bone, other), share in twists),
        )
        points = None
        if "points_rest" in stored:
            points = BodyPoints(*(stored[f"points_{name}"] for name in POINTS))
    except KeyError:
        return None
    return skeleton, points
