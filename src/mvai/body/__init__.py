"""Body models, skinning and joint regressors.

`body_model` gives the body of a name: the open one that ships with the package, or one of the SMPL
family from files that the user has.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mvai.types import MvaiError

if TYPE_CHECKING:
    from mvai.body.model import LinearBody

BodyName = Literal["anny", "smpl", "smplh", "smplx"]
Gender = Literal["neutral", "male", "female"]


def body_model(
    name: BodyName = "anny",
    path: Path | None = None,
    gender: Gender = "neutral",
    shape_size: int = 10,
) -> LinearBody:
    """The body called `name`.

    Args:
        name: "anny" needs no file; the others do.
        path: the model file, or the folder that it stands in.
        gender: which of a folder's files.
        shape_size: number of shape coefficients, for the SMPL family.

    Raises:
        MvaiError: the model file is not given, not found or not of this model.
    """
    if name == "anny":
        from mvai.body.anny import anny_body

        return anny_body()
    if name not in ("smpl", "smplh", "smplx"):
        raise MvaiError(f"{name}: no such body model; choose one of anny, smpl, smplh, smplx.")
    from mvai.body.smpl import smpl_body
    from mvai.body.smpl_files import find_model

    return smpl_body(find_model(name, path, gender), name, shape_size)
