"""People who lie, crawl, roll over or stand on their hands: rare in captures, not in videos.

A network that has seen nobody but upright people takes whoever turns a cartwheel to stand. Here
captured people, and people folded as on a chair, are turned about a level axis, some of them all
the while, and come to rest on the floor with whatever is lowest.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mvai.benchmark.poses import PoseClip
from mvai.benchmark.stances import in_place
from mvai.body.bvh_poses import body_positions
from mvai.body.model import LinearBody

TUMBLING = 0.2
"""Share of the training clips that show such people, close-ups left out."""
FOLDED = 0.35
"""Share of these who are folded as on a chair: turned, they kneel, crawl or sit on the floor."""
TURNING = 0.4
"""Share of these who turn all the while."""
FASTEST_DEG_S = 300.0
"""How fast they turn at most."""
ALOFT, HIGHEST_M = 0.25, 0.6
"""Share of these who are off the floor, and by how much at most."""
TRAVELS = 0.4
"""Of the captured path over the floor."""
LOWEST_M = 0.06
"""Height of the lowest joint of whoever is on the floor: half the thickness of a limb."""
SETTLE_S = 0.1
"""Standard deviation of the Gaussian over which the height follows the lowest joint, seconds."""


def tumbling(body: LinearBody, clip: PoseClip, rng: np.random.Generator) -> PoseClip:
    """The clip by somebody who is turned about a level axis by any angle.

    Args:
        body: the body that the clip is of.
        clip: what is captured.
        rng: draws posture, axis, angle, and how it changes.
    """
    clip = in_place(body, clip, rng, (0.0, FOLDED))
    times = np.arange(clip.frames) / clip.fps
    speed = rng.uniform(-FASTEST_DEG_S, FASTEST_DEG_S) if rng.random() < TURNING else 0.0
    angle = np.radians(rng.uniform(-180, 180) + speed * (times - times.mean()))
    azimuth = rng.uniform(0, 2 * np.pi)
    axis = np.array([np.sin(azimuth), 0.0, np.cos(azimuth)])
    turn = Rotation.from_rotvec(angle[:, None] * axis)
    pose = clip.pose.copy()
    pose[:, 0] = (turn * Rotation.from_rotvec(clip.pose[:, 0])).as_rotvec()
    path = TRAVELS * (clip.translation - clip.translation.mean(0)) * [1.0, 0.0, 1.0]
    lowest = body_positions(pose, np.zeros_like(path), body)[..., 1].min(1).astype(float)
    height = LOWEST_M - gaussian_filter1d(lowest, SETTLE_S * clip.fps, mode="nearest")
    path[:, 1] = height + (rng.uniform(0, HIGHEST_M) if rng.random() < ALOFT else 0.0)
    return replace(clip, pose=pose.astype(np.float32), translation=path.astype(np.float32))
