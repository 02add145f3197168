"""SAM 3D Body: an npz a person and frame, of which the 70 key-points are used.

The vertices are of its own body model (18,439 of them) whose faces and skeleton stand in files of
their own; the key-points say what the body does, and ours is posed to match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mvai.io.results.data import PointTracks, chosen_person
from mvai.io.results.markers import point_tracks
from mvai.types import MvaiError

POINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle", "right_ankle", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
"""The first of the 70, in their order."""
WRISTS = {"right_wrist": 41, "left_wrist": 62}
NECK = 69


def is_sam3d_body(content: Mapping[str, np.ndarray]) -> bool:
    """Whether an npz holds one person as SAM 3D Body gives it."""
    return "pred_keypoints_3d" in content


def sam3d_body(
    files: Mapping[Path, Mapping[str, np.ndarray]], path: Path, person: int
) -> PointTracks:
    """One person of one file or of a folder's files.

    Args:
        files: content by path; a file holds (70, 3) points of one frame or (frames, 70, 3). Of
            two numbers in a name the last is the person's, the one before it the frame's.
        path: the file or folder.
        person: 0 is the one in the most frames.

    Raises:
        MvaiError: there are fewer people.
        ValueError, KeyError: something has another shape.
    """
    tracks: dict[int, dict[int, np.ndarray]] = {}
    for name, content in files.items():
        numbers = [int(n) for n in re.findall(r"\d+", name.stem)]
        points = np.asarray(content["pred_keypoints_3d"], np.float64)
        shift = np.asarray(content.get("pred_cam_t", np.zeros(3)), np.float64)
        points = points.reshape(-1, 70, 3) + shift.reshape(-1, 1, 3)
        who = numbers[-1] if len(numbers) > 1 else 0
        first = numbers[-2] if len(numbers) > 1 else numbers[0] if numbers and len(files) > 1 else 0
        tracks.setdefault(who, {}).update({first + i: p for i, p in enumerate(points)})
    who = chosen_person({k: len(v) for k, v in tracks.items()}, person, path)
    track = tracks[who]
    xyz = np.full((max(track) - min(track) + 1, 70, 3), np.nan)
    if len(xyz) > 100 * len(track):
        raise MvaiError(f"{path}: the numbers of its files leave gaps; rename them by frame.")
    for frame, points in track.items():
        xyz[frame - min(track)] = points
    names = (*POINTS, *WRISTS, "neck")
    columns = [*range(len(POINTS)), *WRISTS.values(), NECK]
    return point_tracks("SAM 3D Body", names, xyz[:, columns], None, path)
