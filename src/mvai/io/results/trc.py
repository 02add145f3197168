"""Marker positions as text: OpenSim's TRC, which Pose2Sim, OpenCap and motion analysis write.

Three header lines (file, names of the settings, their values), a line of marker names that each
stand over three columns, a line of axis names, then a line a frame: number, time, coordinates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvai.io.results.data import PointTracks, chosen_person
from mvai.io.results.markers import point_tracks

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}


def read_trc(path: Path, person: int) -> PointTracks:
    """The markers of a TRC file.

    Raises:
        MvaiError: too few of its markers are known.
        ValueError, KeyError, IndexError: it is damaged.
    """
    chosen_person({0: 1}, person, path)
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    settings = dict(zip(lines[1].split(), lines[2].split(), strict=False))
    # Names stand over the first of three columns; between tabs, since they may hold spaces.
    names = [n.strip() for n in lines[3].split("\t")[2:] if n.strip()]
    rows = [line.rstrip("\r\n").split("\t") for line in lines[5:] if line.strip()]
    values = np.full((len(rows), 3 * len(names)), np.nan)
    for i, row in enumerate(rows):
        cells = [c.strip() for c in row[2 : 2 + 3 * len(names)]]
        values[i, : len(cells)] = [float(c) if c else np.nan for c in cells]
    unit = UNITS[settings.get("Units", "m").lower()]
    xyz = values.reshape(len(rows), len(names), 3) * unit
    return point_tracks("TRC", names, xyz, float(settings["DataRate"]), path)
