"""Motion capture clips of a folder as poses of our body, kept once they are made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mvai.body.bvh_poses import PoseClip, poses_from_bvh
from mvai.body.model import LinearBody
from mvai.io.atomic import written_whole
from mvai.io.folders import files_matching
from mvai.types import MvaiError
from mvai.types.names import BODY_JOINTS, mirrored

VERSION = 1
"""Raised when the conversion changes, so that cached clips are made again."""


def mirrored_pose(pose: Float[np.ndarray, "frames 22 3"]) -> Float[np.ndarray, "frames 22 3"]:
    """The pose seen in a mirror (x -> -x): sides swap, axis-angle y and z change sign."""
    swap = [BODY_JOINTS.index(mirrored(n)) for n in BODY_JOINTS]
    return pose[:, swap] * np.array([1.0, -1.0, -1.0], np.float32)


def save_pose_clip(clip: PoseClip, path: str | Path) -> None:
    """Write a clip as npz, whole or not at all."""
    with written_whole(path) as temporary:
        np.savez_compressed(
            temporary, version=VERSION, name=clip.name, pose=clip.pose,
            translation=clip.translation, fps=clip.fps, measured=clip.measured,
        )  # fmt: skip


def load_pose_clip(path: str | Path) -> PoseClip | None:
    """A clip written by `save_pose_clip`, or None when it is of another version or damaged."""
    try:
        with np.load(path, allow_pickle=False) as a:
            if int(a["version"]) != VERSION:
                return None
            return PoseClip(
                str(a["name"]), a["pose"], a["translation"], float(a["fps"]), a["measured"]
            )
    except (OSError, KeyError, ValueError, EOFError):
        return None


def poses_in_folder(data: Path, body: LinearBody, cache: Path) -> Iterator[PoseClip]:
    """Every BVH clip below `data` in name order; those already in `cache` are not made again.

    Raises:
        MvaiError: there is no BVH file, or one cannot be converted.
    """
    paths = files_matching(data, "**/*.bvh")
    if not paths:
        raise MvaiError(f"{data}: there are no .bvh files here; name a folder of BVH clips.")
    cache.mkdir(parents=True, exist_ok=True)
    for path in paths:
        stored = cache / f"{path.stem}.npz"
        clip = None
        if stored.exists() and stored.stat().st_mtime >= path.stat().st_mtime:
            clip = load_pose_clip(stored)
        if clip is None:
            clip = poses_from_bvh(path, body)
            save_pose_clip(clip, stored)
        yield clip
