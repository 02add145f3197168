"""Vertices of the full body model Anny from its own parameters, through the package `anny`.

The shipped body is a compact copy with 52 joints; results that pose all of Anny's bones need the
package itself, which builds its model on first use.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from mvai.io.results.data import AnnyParameters
from mvai.types import MvaiError


def anny_vertices(
    p: AnnyParameters,
) -> tuple[Int[np.ndarray, " frames"], Float[np.ndarray, "frames verts 3"]]:
    """Frame numbers and vertices in world axes, in the shipped body's order.

    Raises:
        MvaiError: the package is not installed, or the parameters are not of its rig.
    """
    try:
        import anny
    except ImportError as error:
        raise MvaiError(
            f"A {p.kind} result poses the body model Anny: pip install 'mvai[anny]'."
        ) from error
    model = anny.Anny(rig="makehuman", phenotypes="all", pose_parameterization="world")
    bones = len(model.bone_labels)
    if p.T_camera_bone.shape[1] != bones or len(p.phenotypes) != len(model.phenotype_labels):
        raise MvaiError(
            f"The {p.kind} result has {p.T_camera_bone.shape[1]} bones and {len(p.phenotypes)} "
            f"phenotypes where this Anny has {bones} and {len(model.phenotype_labels)}; "
            "install the release it was made with."
        )
    shape = torch.from_numpy(p.phenotypes).to(model.dtype)[None]
    out = []
    for T in np.array_split(p.T_camera_bone, max(1, len(p.frames) // 16)):
        with torch.no_grad():
            done = model(
                pose_parameters=torch.from_numpy(T).to(model.dtype),
                phenotype_kwargs=dict(
                    zip(model.phenotype_labels, shape.expand(len(T), -1).T, strict=True)
                ),
            )
        out.append(done["vertices"].numpy())
    camera = np.concatenate(out)
    return p.frames, (camera * [1.0, -1.0, -1.0]).astype(np.float32)
