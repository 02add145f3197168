"""Takes what the network returns, a body whose root stands still, to where the source moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mvai.body.model import LinearBody
from mvai.transfer.floor import camera_for, stand_on_floor
from mvai.transfer.legs import body_legs, leg_length
from mvai.transfer.npt_identity import NptIdentity
from mvai.transfer.reading.source import SourcePoses
from mvai.types import Camera


@dataclass(frozen=True)
class Path:
    """The character's root through the world."""

    R_world_root: Float[np.ndarray, "frames 3 3"]
    root: Float[np.ndarray, "frames 3"]
    """World position of the root joint (metres)."""
    scale: float
    """Length of the character's steps, the source's = 1."""
    lift: Float[np.ndarray, " frames"]
    """How far each frame was lifted (metres)."""

    def camera(self, camera: Camera | None) -> Camera | None:
        """The camera that sees the character where it saw the source."""
        if camera is None:
            return None
        return camera_for(camera, self.scale, np.array([0.0, np.median(self.lift), 0.0]))


def path_of(
    body: LinearBody,
    identity: NptIdentity,
    source: SourcePoses,
    lowest: Float[np.ndarray, " frames"],
    fps: float,
    scale_root: bool,
    find_floor: bool,
) -> Path:
    """Where the character goes.

    Args:
        body: the body the network was trained on.
        identity: the character.
        source: the movement.
        lowest: lowest point of the posed character about its root joint, in world axes, in every
            frame (metres).
        fps: frames a second.
        scale_root: scale the path by the ratio of leg lengths.
        find_floor: put the character on y = 0 when the source stands.
    """
    legs = body_legs(body)
    own = leg_length(identity.joints.positions.numpy(), legs) * identity.height
    theirs = leg_length(body.joint_template.numpy(), legs) * source.scale
    scale = own / max(theirs, 1e-6) if scale_root else 1.0
    root = scale * source.root
    lift = np.zeros(len(root))
    if find_floor:
        lift = stand_on_floor(source.lowest, root[:, 1] + lowest, scale, fps)
        root = root + lift[:, None] * [0, 1, 0]
    return Path(source.R_world_root, root, scale, lift)
