"""Which people are for training, which for choosing settings and which for measuring."""

from __future__ import annotations

import hashlib
import re
from typing import Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

HELD_OUT = ("cmu_02_", "cmu_14_", "cmu_91_", "animdraw_fair1_dab", "animdraw_fair1_wave")
"""The test people: no weights of this package were trained on them."""
VALIDATION = ("cmu_03_", "cmu_09_", "cmu_12_", "cmu_basketball_", "animdraw_fair1_jumping")
"""The people on whom settings of smoothers and of GraphCMR are chosen."""
KNOWN = ("cmu_", "animdraw_", "makehuman_")
"""Beginnings of the clip names that the two lists above speak of."""


def is_held_out(name: str) -> bool:
    """Whether a clip shows one of the test people."""
    return split_of(name) == "test"


def subject_of(name: str) -> str:
    """The person a clip shows: its name without the trailing number, as in "cmu_01_05"."""
    return re.sub(r"[_-]?\d+$", "", name)


def split_of(name: str) -> Split:
    """The split of a clip by its name; all clips of a person fall into the same one.

    Clips that the package's own lists do not know are split by a hash of the person: a sixth for
    testing, a tenth for validation.
    """
    if name.startswith(HELD_OUT):
        return "test"
    if name.startswith(VALIDATION):
        return "validation"
    if name.startswith(KNOWN):
        return "train"
    share = hashlib.sha256(subject_of(name).encode()).digest()[0] / 256
    return "test" if share < 1 / 6 else "validation" if share < 1 / 6 + 1 / 10 else "train"
