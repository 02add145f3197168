"""Settings of the method `rig`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class RigSettings:
    """How a skeleton is fitted and driven."""

    ignore_rig: bool = False
    """Fit our own skeleton and weights even if the character brings a humanoid rig."""
    twist_bones: bool = True
    """Give forearms, upper arms and thighs extra joints that spread their twist, where we fit our
    own skeleton."""
    path: Literal["auto", "camera", "feet"] = "auto"
    """Path along the ground of a person in a video. camera: as the camera saw it. feet: what
    stands of the feet stands still. auto: feet when the camera goes along with the person."""
    scale_root: bool = True
    """Scale the path of the hips by the ratio of leg lengths, so that steps fit the legs."""
    find_floor: bool = True
    """Lift or lower the character so that it stands on y = 0 when the person stands, and keep what
    its hands hold above."""
    lock_feet: bool = True
    """Hold planted feet still."""
    keep_touch: bool = True
    """Let hands touch what they touch in the source."""
    avoid_body: bool = True
    """Keep hands and forearms out of the body."""
    polish: bool = False
    """Undo what blending bones spoils near the joints; the vertices then move freely, and a .glb
    holds few frames."""
    in_place: bool = False
    """Take out the path along the ground, as games want it; up and down stay."""
    joints: Path | None = None
    """File of the character's joints to correct by hand (.json); written, with a picture beside
    it, where there is none yet."""
    body_model_path: Path | None = None
    """Folder of the SMPL family's model files, for sequences with their vertices."""
