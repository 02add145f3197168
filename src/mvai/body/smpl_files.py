"""Model files of the SMPL family: SMPL, SMPL-H (MANO hands) and SMPL-X.

The files belong to their makers and are not shipped; a user who has agreed to their licence has
them. Layout as published with the models (Loper et al. 2015, Romero et al. 2017, Pavlakos et al.
2019): a pickle, for old ones of chumpy arrays, or an npz with the same names. Only the arrays named
in `ARRAYS` are read, and pickles are read without being run.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mvai.io.unpickle import read_pickle
from mvai.types import MvaiError

ARRAYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")
"""What every model file must hold."""
OPTIONAL = ("lmk_faces_idx", "lmk_bary_coords")
"""Where the inner face points lie, in SMPL-X files."""
SIZES = {"smpl": (6890, 24), "smplh": (6890, 52), "smplx": (10475, 55)}
"""Vertices and joints of each model."""
PUBLISHED = {
    "smpl": (
        "SMPL_{G}.npz", "SMPL_{G}.pkl", "basicmodel_{g}_lbs_10_207_0_v1.1.0.pkl",
        "basicmodel_{gender}_lbs_10_207_0_v1.1.0.pkl", "basicModel_{g}_lbs_10_207_0_v1.0.0.pkl",
        "basicmodel_{g}_lbs_10_207_0_v1.0.0.pkl", "basicModel_{gender}_lbs_10_207_0_v1.0.0.pkl",
    ),
    "smplh": ("SMPLH_{G}.npz", "SMPLH_{G}.pkl", "{gender}/model.npz", "SMPLH_{gender}.pkl"),
    "smplx": ("SMPLX_{G}.npz", "SMPLX_{G}.pkl"),
}  # fmt: skip
"""Names under which the models are published."""


def find_model(model: str, path: Path | None, gender: str = "neutral") -> Path:
    """The model file that is meant.

    Args:
        model: smpl, smplh or smplx.
        path: the file itself, a folder that holds it, or the folder above (`DIR/smplx/...`).
        gender: neutral, male or female.

    Raises:
        MvaiError: no path is given, or there is no such file under it.
    """
    names = [
        n.format(G=gender.upper(), g=gender[0], gender=gender) for n in PUBLISHED.get(model, ())
    ]
    wanted = f"{model.upper()}'s model file ({names[0]})"
    if path is None:
        raise MvaiError(
            f"This needs {wanted}, which mvai may not ship; "
            "name the folder it is in with --body-model-path."
        )
    path = Path(path)
    if path.is_file():
        return path
    for folder in (path, path / model):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise MvaiError(
        f"{path}: there is no {wanted} here or in its folder {model}; "
        "give the folder as downloaded, or the file itself."
    )


def read_model(path: Path, model: str) -> dict[str, np.ndarray]:
    """The arrays of a model file, dense, checked against one another.

    Raises:
        MvaiError: it cannot be read, or is no file of this model.
    """
    content = _content(path)
    missing = [k for k in ARRAYS if k not in content or content[k] is None]
    if missing:
        raise MvaiError(
            f"{path}: it has no {', '.join(missing)}; give a {model.upper()} model file."
        )
    arrays = {}
    for name in (*ARRAYS, *(n for n in OPTIONAL if n in content)):
        value = content[name]
        value = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
        integer = name in ("f", "kintree_table", "lmk_faces_idx")
        arrays[name] = value.astype(np.int64 if integer else np.float64)
    verts, joints = SIZES[model]
    shapes = {
        "v_template": (verts, 3),
        "shapedirs": (verts, 3, None),
        "posedirs": (verts, 3, 9 * (joints - 1)),
        "J_regressor": (joints, verts),
        "kintree_table": (2, joints),
        "weights": (verts, joints),
        "f": (None, 3),
    }
    for name, shape in shapes.items():
        got = arrays[name].shape
        if len(got) != len(shape) or any(
            n not in (None, g) for n, g in zip(shape, got, strict=True)
        ):
            raise MvaiError(
                f"{path}: its {name} is {' x '.join(map(str, got))}, which does not fit "
                f"{model.upper()} with {verts} vertices and {joints} joints; "
                "check --body-model and the file."
            )
    if not 0 <= arrays["f"].min() <= arrays["f"].max() < verts:
        raise MvaiError(f"{path}: its faces point outside the mesh; download it again.")
    return arrays


def _content(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                # Other members are pickled tables of names, which nothing here needs.
                return {k: file[k] for k in (*ARRAYS, *OPTIONAL) if k in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise MvaiError(f"{path}: this npz cannot be read; download it again.") from error
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise MvaiError(f"{path}: this is no body-model file; give one as published.")
    return content
