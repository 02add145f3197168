"""Foot-slide and edge stretch of an acting character."""

from __future__ import annotations

import numpy as np

from mvai.body.skinning import skinned, skinning_operator
from mvai.evaluate.metrics import edge_stretch, edges_of, foot_slide, sole_vertices
from mvai.types import Animation

BLOCK = 32
"""Frames posed at a time, to bound memory."""


def measure_animation(animation: Animation) -> dict[str, float]:
    """Foot-slide in contact (mm a frame), share of contact, and edge stretch.

    Stretch is over all edges in all frames, against the rest mesh.
    """
    mesh = animation.character.mesh
    rest, edges = mesh.vertices.astype(np.float64), edges_of(mesh.faces)
    left, right = sole_vertices(rest)
    feet: list[list[np.ndarray]] = [[], []]
    stretch = []
    operator = None
    if animation.skin is not None:
        operator = skinning_operator(animation.skin, rest)
    for start in range(0, animation.frames, BLOCK):
        block = slice(start, start + BLOCK)
        if operator is not None:
            assert animation.Ts_world_joint is not None
            posed = skinned(operator, animation.Ts_world_joint[block])
        else:
            assert animation.free_vertices is not None
            posed = animation.free_vertices[block]
        feet[0].append(posed[:, left])
        feet[1].append(posed[:, right])
        stretch.append(edge_stretch(rest, posed, edges))
    slide_mm, slide_median_mm, contact = foot_slide(
        [np.concatenate(foot).astype(np.float64) for foot in feet], float(np.ptp(rest[:, 1]))
    )
    median, p99 = np.percentile(np.concatenate(stretch), [50, 99])
    return {
        "foot_slide_mm": slide_mm,
        "foot_slide_median_mm": slide_median_mm,
        "contact_share": contact,
        "stretch_median": float(median),
        "stretch_p99": float(p99),
    }
