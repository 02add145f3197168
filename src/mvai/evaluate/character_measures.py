"""Foot-slide and edge stretch of an acting character."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from mvai.body.model import LinearBody
from mvai.body.skinning import skinned, skinning_operator
from mvai.evaluate.metrics import edge_stretch, edges_of, foot_slide, sole_vertices
from mvai.transfer.floor import floor_height
from mvai.transfer.rig_feet import contacts
from mvai.transfer.rig_ground import floor_slope
from mvai.transfer.rig_source import FEET
from mvai.types import Animation, MeshSequence

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


def planted_in_source(
    body: LinearBody, source: MeshSequence
) -> tuple[Bool[np.ndarray, "frames 2"], Bool[np.ndarray, "frames 2"]]:
    """When heel and toes of the left and of the right foot stand, read off a moving body.

    A part stands while it is low and slow (`mvai.transfer.rig_feet.contacts`), so that a foot that
    swings past just above the floor does not. A floor that seems to slope is taken to be level
    (`mvai.transfer.rig_ground`).

    Args:
        body: the source's body.
        source: in its topology, an adult's size.
    """
    at = body.regress(FEET, source.vertices).astype(np.float64)
    lowest = source.vertices[..., 1].min(1).astype(np.float64)
    slope = floor_slope(at, lowest, source.fps)
    lowest = lowest - source.vertices.mean(1)[:, [0, 2]] @ slope
    at[..., 1] -= at[..., [0, 2]] @ slope
    floor = floor_height(lowest)
    stands = np.stack([contacts(at[:, k], floor, source.fps) for k in range(len(FEET))], 1)
    return stands[:, :2], stands[:, 2:]


def planted_slide(
    rest: Float[np.ndarray, "verts 3"],
    vertices: Float[np.ndarray, "frames verts 3"],
    planted: tuple[Bool[np.ndarray, "frames 2"], Bool[np.ndarray, "frames 2"]],
) -> tuple[float, float]:
    """How far a character's feet slide while the source's stand.

    Contact is the source's, part by part of the foot: on the character a foot that wrongly slides
    or hovers would not count by its own height, and one that rightly swings low would. The slide of
    a part is how far the mean of its sole vertices moves along the ground, and what it moves while
    the other part alone stands (the foot rolls) is left out.

    Args:
        rest: the character at rest, facing +Z (metres).
        vertices: its motion, with the source's frames.
        planted: heel and toes of the left and right foot of the source, from `planted_in_source`.

    Returns:
        Mean and 95th percentile over parts and steps that stand, in millimetres a frame;
        NaN where nothing stands.
    """
    slides = []
    for ids, stands in zip(sole_vertices(rest), planted, strict=True):
        if not len(ids):
            continue
        z = rest[ids, 2]
        third = np.ptp(z) / 3
        for part, stand in zip((z <= z.min() + third, z >= z.max() - third), stands.T, strict=True):
            middle = vertices[:, ids[part]][..., [0, 2]].mean(1, dtype=np.float64)
            step = np.linalg.norm(np.diff(middle, axis=0), axis=1)
            slides.append(step[stand[1:] & stand[:-1]])
    slide_mm = 1000 * np.concatenate(slides) if slides else np.zeros(0)
    if not len(slide_mm):
        return float("nan"), float("nan")
    return float(slide_mm.mean()), float(np.percentile(slide_mm, 95))
