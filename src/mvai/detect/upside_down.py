"""A second look at people whom the detector sees upside down.

MediaPipe turns its crop by two points that a first, coarse network finds, and its tracker then
keeps to that turn. Where the two are taken for each other, an upright person comes out with the
head at the feet for as long as the tracker holds on. In a turned picture the coarse network
decides anew, mostly rightly.

People who bend down or turn a cartwheel get there gradually; mistakes begin and end at once.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from mvai.geometry.stance import runs
from mvai.io.video import Frame
from mvai.types.names import BODY_KEYPOINTS

CLEARLY = 0.3
"""Cosine of the angle to the picture's vertical from which on a trunk points up."""
QUARTERS = (2, 1, 3)
"""Turns in which a picture is looked at again, in quarters, the likeliest to help first."""
GRADUALLY = np.radians(45)
"""A trunk that turns by less than this from one frame to the next has moved."""


def _rows(part: str) -> list[int]:
    return [BODY_KEYPOINTS.index(f"{side}_{part}") for side in ("left", "right")]


SHOULDERS, HIPS = _rows("shoulder"), _rows("hip")


def trunk(xy_px: Float[np.ndarray, "*frames 33 2"]) -> Float[np.ndarray, "*frames 2"]:
    """Unit vector from the shoulders to the hips in the picture, y down; NaN where unseen."""
    down = xy_px[..., HIPS, :].mean(-2) - xy_px[..., SHOULDERS, :].mean(-2)
    return down / np.maximum(np.linalg.norm(down, axis=-1, keepdims=True), 1e-9)


def inverted(trunk: Float[np.ndarray, "*frames 2"]) -> Bool[np.ndarray, "*frames"]:
    """Where the hips are above the shoulders. False where nothing is seen."""
    return trunk[..., 1] < -CLEARLY


def doubtful(trunk: Float[np.ndarray, "frames 2"]) -> list[slice]:
    """Stretches in which somebody is upside down who did not get there, nor away, gradually, with
    the frames around them in which nobody was found."""
    unseen = np.isnan(trunk).any(-1)
    turn = np.arccos(np.clip((trunk[1:] * trunk[:-1]).sum(-1), -1, 1))
    # NaN, a neighbour that was not seen, is no gradual turn.
    gradual = np.concatenate([[False], turn < GRADUALLY, [False]])
    return [slice(a, b) for a, b in runs(inverted(trunk) | unseen)
            if inverted(trunk[a:b]).any() and not gradual[a] and not gradual[b]]  # fmt: skip


def turned(image: Frame, quarters: int) -> Frame:
    """The picture turned counterclockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(image, quarters))


def turned_back(
    points: Float[np.ndarray, "points channels"], quarters: int
) -> Float[np.ndarray, "points channels"]:
    """What was found in a turned picture, in the picture as it is.

    Args:
        points: x and y from 0 to 1 and anything else, or (x, y, x_m, y_m, z_m, confidence).
    """
    back = points.copy()
    for _ in range(quarters % 4):
        back[:, 0], back[:, 1] = 1 - back[:, 1], back[:, 0].copy()
        if points.shape[1] == 6:
            back[:, 2], back[:, 3] = -back[:, 3], back[:, 2].copy()
    return back
