"""Where the fit starts: focal length, root orientation and root translation of every frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mvai.body.model import LinearBody
from mvai.nets.landmark_correction import middle_of_hips
from mvai.types import Keypoints
from mvai.types.names import BODY_KEYPOINTS

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


def default_focal_px(width: int, height: int) -> float:
    """That of a 35 mm lens on 35 mm film: 0.81 of the image diagonal.

    A stand-in when nothing is known of the camera; phones lie between 0.6 and 0.75 of the
    diagonal, web cameras around 0.8, portrait lenses above 1.
    """
    return float(np.hypot(width, height)) * 35.0 / np.hypot(36.0, 24.0)


def viewing_rotation(keypoints: Keypoints, focal_px: float) -> Float[np.ndarray, "frames 3 3"]:
    """Rotation from the axes a crop-based detector uses to those of the camera (camera axes).

    A detector that sees only the crop around a person reports 3D as if the camera looked straight
    at the crop's centre; seen from the real camera that point lies off the optical axis, so the
    3D has to be turned by the viewing angle.
    """
    torso = keypoints.xy_px[:, [keypoints.index(n) for n in TORSO]]
    whole = np.isfinite(torso).all((1, 2))
    centre = np.tile([keypoints.width / 2, keypoints.height / 2], (keypoints.frames, 1))
    centre[whole] = torso[whole].mean(1)
    if not whole.all() and keypoints.xyz_m is not None and {*BODY_KEYPOINTS} <= {*keypoints.names}:
        # Hips below the picture are where the detector's metres have them.
        body = [keypoints.index(n) for n in BODY_KEYPOINTS]
        shoulders = torso[:, [n.endswith("shoulder") for n in TORSO]].mean(1)
        hips = middle_of_hips(keypoints.xy_px[:, body], keypoints.xyz_m[:, body])
        laid = (shoulders + hips) / 2
        told = ~whole & np.isfinite(laid).all(1)
        centre[told] = laid[told]
    offset = (centre - [keypoints.width / 2, keypoints.height / 2]) / focal_px
    yaw, pitch = np.arctan(offset[:, 0]), np.arctan(offset[:, 1] / np.hypot(1, offset[:, 0]))
    return Rotation.from_euler("YX", np.stack([yaw, -pitch], 1)).as_matrix()


def torso_orientation(
    body: LinearBody, names: tuple[str, ...], xyz: Float[np.ndarray, "frames points 3"]
) -> Float[np.ndarray, "frames 3 3"]:
    """Root rotation that turns the rest torso onto the seen one (world axes).

    Frames without a seen torso take the rotation of the nearest frame that has one.
    """
    rest = dict(zip(TORSO, body.regress(TORSO, body.template.numpy()[None])[0], strict=True))
    model = _frame(*(rest[n] for n in TORSO))
    points = [xyz[:, names.index(n)] for n in TORSO]
    seen = np.isfinite(np.stack(points)).all((0, 2))
    seen &= np.linalg.norm(points[0] - points[3], axis=1) > 1e-3
    R = np.tile(np.eye(3), (len(xyz), 1, 1))
    for f in np.flatnonzero(seen):
        R[f] = _frame(*(p[f] for p in points)) @ model.T
    return nearest_seen(R, seen)


def nearest_seen(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Each unseen frame's value replaced by that of the closest seen frame."""
    if not seen.any():
        return values
    ids = np.flatnonzero(seen)
    closest = ids[np.abs(np.arange(len(values))[:, None] - ids).argmin(1)]
    return values[closest]


def _frame(ls: np.ndarray, rs: np.ndarray, lh: np.ndarray, rh: np.ndarray) -> np.ndarray:
    """Columns: to the left, up, forward."""
    up = (ls + rs - lh - rh) / 2
    up = up / max(np.linalg.norm(up), 1e-9)
    left = (ls - rs) + (lh - rh)
    left = left - (left @ up) * up
    left = left / max(np.linalg.norm(left), 1e-9)
    return np.stack([left, up, np.cross(left, up)], axis=1)


def solve_translation(
    relative: Float[np.ndarray, "frames points 3"],
    xy_px: Float[np.ndarray, "frames points 2"],
    weight: Float[np.ndarray, "frames points"],
    focal_px: float,
    centre_px: Float[np.ndarray, "2"],
) -> Float[np.ndarray, "frames 3"]:
    """Translation under which known points project onto their pixels, by linear least squares.

    Args: points relative to the root in world axes (y up, camera looking along -z), their pixels,
    weights (0 leaves a point out). Frames with fewer than three points take their neighbour's.
    """
    u = (xy_px - centre_px) / focal_px
    w = np.where(np.isfinite(u).all(-1) & np.isfinite(relative).all(-1), weight, 0.0)
    u, p = np.nan_to_num(u), np.nan_to_num(relative)
    # x = -u z and -y = -v z with x = p_x + t_x and so on: rows of a 3 x 3 normal system.
    zero, one = np.zeros_like(w), np.ones_like(w)
    rows = np.stack(
        [np.stack([one, zero, u[..., 0]], -1), np.stack([zero, -one, u[..., 1]], -1)], 2
    )
    b = np.stack([-(p[..., 0] + u[..., 0] * p[..., 2]), p[..., 1] - u[..., 1] * p[..., 2]], -1)
    A = np.einsum("fp,fpra,fprb->fab", w, rows, rows)
    y = np.einsum("fp,fpra,fpr->fa", w, rows, b)
    good = (w > 0).sum(1) >= 3
    t = np.linalg.solve(A + 1e-9 * np.eye(3), y[..., None])[..., 0]
    good &= (t[:, 2] < -0.2) & np.isfinite(t).all(1)
    if not good.any():
        return np.tile([0.0, 0.0, -3.0], (len(t), 1))
    return nearest_seen(t, good)
