"""Multi-HMR 2: `anny_params/<frame>.pkl`, everybody in a frame as parameters of the body Anny.

K (3, 3), shape (people, 11) phenotypes, pose_parameters (people, 163, 4, 4) in Anny's
parameterisation "world". The people of a frame carry no names, so they are followed by where their
root bone is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from mvai.io.results.data import AnnyParameters, chosen_person

FAR_M = 1.0
"""A person whose root jumps farther than this from one frame to the next is somebody else."""


def is_multi_hmr(content: Any) -> bool:
    """Whether a pickle holds one frame of Multi-HMR 2."""
    return isinstance(content, Mapping) and {"pose_parameters", "shape"} <= content.keys()


def multi_hmr(frames: Mapping[Path, Mapping[str, Any]], path: Path, person: int) -> AnnyParameters:
    """One person of a folder of frames.

    Raises:
        MvaiError: there are fewer people.
        ValueError, KeyError: something has another shape.
    """
    tracks: list[dict[int, tuple[np.ndarray, np.ndarray]]] = []
    K = None
    numbered = sorted((_number(name, i), c) for i, (name, c) in enumerate(frames.items()))
    for frame, content in numbered:
        T = np.asarray(content["pose_parameters"], np.float64)
        shape = np.asarray(content["shape"], np.float64)
        if T.shape[2:] != (4, 4) or len(T) != len(shape):
            raise ValueError("the shape of pose_parameters")
        K = np.asarray(content["K"], np.float64) if content.get("K") is not None else K
        alive = [t for t in tracks if frame - max(t) <= 10]
        cost = np.array([[np.linalg.norm(t[max(t)][0][0, :3, 3] - x[0, :3, 3]) for x in T]
                         for t in alive]).reshape(len(alive), len(T))  # fmt: skip
        taken = set()
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            if cost[row, column] < FAR_M:
                alive[row][frame] = T[column], shape[column]
                taken.add(column)
        tracks += [{frame: (T[i], shape[i])} for i in range(len(T)) if i not in taken]
    who = chosen_person({i: len(t) for i, t in enumerate(tracks)}, person, path)
    track = tracks[who]
    numbers = np.array(sorted(track))
    return AnnyParameters(
        "Multi-HMR 2", numbers, np.mean([track[f][1] for f in numbers], axis=0),
        np.stack([track[f][0] for f in numbers]),
        None if K is None or K.shape != (3, 3) else K,
    )  # fmt: skip


def _number(name: Path, index: int) -> int:
    numbers = re.findall(r"\d+", name.stem)
    return int(numbers[-1]) if numbers else index
