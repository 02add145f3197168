"""Which key-point of the body a marker or a joint centre of some other program means.

Joint centres of marker-free capture (Pose2Sim, OpenCap, Theia name them alike) sit where key-points
sit. Markers of the Plug-in Gait set sit on the skin: hip joints are computed from the pelvis (Bell
et al., 1990), the others are taken for the joint beneath them with the deviation that implies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mvai.io.results.data import PointTracks
from mvai.types import MvaiError

CENTRE_M = 0.015
"""How far a joint centre of another program lies from ours."""
SKIN_M = 0.04
"""How far a marker on the skin lies from the joint beneath it."""

CENTRES = {
    "shoulder": ("shoulder", "shoulder_joint", "sjc"), "elbow": ("elbow", "elbow_joint", "ejc"),
    "wrist": ("wrist", "wrist_joint", "wjc"), "hip": ("hip", "hip_joint", "hjc"),
    "knee": ("knee", "knee_joint", "kjc"), "ankle": ("ankle", "ankle_joint", "ajc"),
    "big_toe": ("bigtoe", "big_toe"), "small_toe": ("smalltoe", "small_toe"),
    "heel": ("heel", "calc"), "eye": ("eye",), "ear": ("ear",), "foot_index": ("toe", "toes"),
}  # fmt: skip
"""Names of either side, in lower case, after l, r, left or right."""
MIDDLE = {
    "nose": "nose", "neck": "neck", "midhip": "mid_hip", "chip": "mid_hip", "pelvis": "mid_hip",
    "hip": "mid_hip",
}  # fmt: skip
SKIN = {
    "shoulder": ("sho",), "elbow": ("elb", "elbm"), "wrist": ("wra", "wrb"),
    "knee": ("kne", "knem"), "ankle": ("ank", "med"), "heel": ("hee",), "big_toe": ("toe",),
}  # fmt: skip
"""Plug-in Gait: the marker, or two whose middle is meant, after l or r."""
PELVIS = ("lasi", "rasi", "lpsi", "rpsi")
UP_AXES = {
    (1, 1): np.eye(3),
    (1, -1): np.diag([1.0, -1.0, -1.0]),
    (2, 1): np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    (2, -1): np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    (0, 1): np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]),
    (0, -1): np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]]),
}
"""Rotation to +Y up by the file's axis that points up and its sign."""
NEEDED = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


def point_tracks(
    kind: str,
    names: Sequence[str],
    xyz_m: Float[np.ndarray, "frames markers 3"],
    fps: float | None,
    path: object,
) -> PointTracks:
    """The markers that name a point of the body, in world axes.

    Args:
        kind: of the file.
        names: the file's own names.
        xyz_m: in the file's axes, metres; NaN where unseen.
        fps: frames a second.
        path: of the file, for the message.

    Raises:
        MvaiError: shoulders or hips are not among them, or too few points.
    """
    columns = {_plain(n): i for i, n in enumerate(names)}
    found: dict[str, tuple[np.ndarray, float]] = {}
    for name, plain in MIDDLE.items():
        if name in columns:
            found.setdefault(plain, (xyz_m[:, columns[name]], CENTRE_M))
    if all(p in columns for p in PELVIS) and "lhip" not in columns:
        left, right = _hip_joints(*(xyz_m[:, columns[p]] for p in PELVIS))
        found |= {"left_hip": (left, SKIN_M / 2), "right_hip": (right, SKIN_M / 2)}
    for side in ("left", "right"):
        gait = f"{side[0]}sho" in columns and f"{side[0]}hee" in columns
        for point, (first, *second) in SKIN.items() if gait else ():
            markers = [columns[side[0] + m] for m in (first, *second) if side[0] + m in columns]
            if markers and side[0] + first in columns:
                sigma = SKIN_M / len(markers)
                found[f"{side}_{point}"] = xyz_m[:, markers].mean(1), sigma
        # The two sets use some of the same names for different places.
        for point, variants in CENTRES.items() if not gait else ():
            for variant in variants:
                for prefix in (side[0], side[0] + "_", side, side + "_"):
                    if prefix + variant in columns and f"{side}_{point}" not in found:
                        track = xyz_m[:, columns[prefix + variant]]
                        found[f"{side}_{point}"] = track, CENTRE_M
    missing = [n for n in NEEDED if n not in found]
    if missing or len(found) < 8:
        raise MvaiError(
            f"{path}: of its {len(names)} markers ({', '.join(list(names)[:6])}, ...) too few name "
            "a point of the body; they must be called as in Pose2Sim (LShoulder, LHip, ...) or "
            "Plug-in Gait (LSHO, LASI, ...)."
        )
    xyz = np.stack([track for track, _ in found.values()], 1)
    xyz = xyz @ _up_rotation(tuple(found), xyz).T
    return PointTracks(kind, tuple(found), xyz, np.array([s for _, s in found.values()]), fps)


def _plain(name: str) -> str:
    """Lower case, without the subject's name before a colon."""
    return re.sub(r"[\s.-]+", "_", name.strip().split(":")[-1].lower())


def _hip_joints(
    lasi: np.ndarray, rasi: np.ndarray, lpsi: np.ndarray, rpsi: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hip joint centres: 14 % of the pelvis' width inwards from its front corner, 22 % back and
    30 % down (Bell, Pedersen and Brand, 1990)."""
    across = lasi - rasi
    width = np.linalg.norm(across, axis=1, keepdims=True)
    x = across / width
    forward = (lasi + rasi - lpsi - rpsi) / 2
    forward = forward - (forward * x).sum(1, keepdims=True) * x
    forward = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    up = np.cross(forward, x)
    move = width * (-0.22 * forward - 0.30 * up)
    return lasi + move - 0.14 * across, rasi + move + 0.14 * across


def _up_rotation(
    names: tuple[str, ...], xyz: Float[np.ndarray, "frames points 3"]
) -> Float[np.ndarray, "3 3"]:
    """To +Y up: the axis along which the shoulders are on the whole above the hips and feet."""

    def middle(end: str) -> np.ndarray | None:
        columns = [i for i, n in enumerate(names) if n.endswith(end)]
        return np.nanmean(xyz[:, columns], axis=1) if columns else None

    low = middle("_ankle")
    low = middle("_hip") if low is None else low
    high = middle("_shoulder")
    assert low is not None and high is not None
    rise = np.nanmean(high - low, axis=0)
    axis = int(np.abs(rise).argmax())
    return UP_AXES[axis, int(np.sign(rise[axis])) or 1]
