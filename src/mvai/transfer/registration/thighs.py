"""Which way thighs point at rest, read from their cross-sections.

A hip joint lies hidden in the pelvis, and where the fit puts it depends on how wide the pelvis is:
that of a blocky character is wide though its thighs stand close together. The thigh itself is seen.
From the front, the middles of its cross-sections lie on a line, on the character as on the
template, and the angle between the two lines is how the thigh stands. (From the side they do not:
muscles and seat bend the line differently from body to body.)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from mvai.body.model import LinearBody
from mvai.geometry.surface import sample_surface
from mvai.types import Mesh
from mvai.types.names import SIDES

SAMPLES = 20_000
STATIONS = np.linspace(0.5, 1.0, 11)
"""Places of cross-sections between hip (0) and knee (1); further up are the pelvis and hems."""
OUTSIDE = 10.0
"""Per cent of a cross-section's samples on either side that are left out: folds and buckles."""
THICK = 0.08
"""Of a cross-section, as a share of the thigh."""
FEW = 10
"""Cross-sections with fewer samples are left out, and lines through fewer sections than
`SECTIONS`."""
SECTIONS = 6
FARTHEST_RAD = np.radians(8.0)
"""A line that leans by more against the way from joint to joint is none of a thigh."""


def thigh_turns(
    body: LinearBody,
    surface: Float[np.ndarray, "body_verts 3"],
    t_joint: Float[np.ndarray, "joints 3"],
    mesh: Mesh,
    surface_rest: Float[np.ndarray, "body_verts 3"],
    rest: Float[np.ndarray, "joints 3"],
) -> Float[np.ndarray, "2"]:
    """What to turn the way from hip to knee by, about +Z, so that it points as the thigh does
    (radians), for the left and the right thigh; 0 where no line is seen.

    Args:
        body: the template.
        surface: its vertices on the character.
        t_joint: its joints there.
        mesh: the character at rest.
        surface_rest: the template's vertices at its own rest, in the character's shape.
        rest: its joints there.
    """
    here = _leans(body, surface, t_joint, mesh)
    own = _leans(body, surface_rest, rest, Mesh(surface_rest, body.faces))
    seen = (np.abs(here) < FARTHEST_RAD) & (np.abs(own) < FARTHEST_RAD)
    return np.where(seen, here - own, 0.0)


def _leans(
    body: LinearBody,
    surface: Float[np.ndarray, "body_verts 3"],
    t_joint: Float[np.ndarray, "joints 3"],
    mesh: Mesh,
) -> Float[np.ndarray, "2"]:
    """Angle (radians) about +Z from the way between the joints to the line of the cross-sections,
    of the left and the right thigh; NaN where no line is seen."""
    points, _ = sample_surface(mesh.vertices.astype(np.float64), mesh.faces, SAMPLES)
    bone = body.strongest_joint[KDTree(surface).query(points)[1]]
    leans = np.full(2, np.nan)
    for k, side in enumerate(SIDES):
        hip, knee = body.joint(f"{side}UpLeg"), body.joint(f"{side}Leg")
        way = t_joint[knee] - t_joint[hip]
        length = float(np.linalg.norm(way))
        mine = (points[np.isin(bone, (hip, knee))] - t_joint[hip]) / length
        along = mine @ way / length
        # Across the thigh, in the plane that is seen from the front, to the character's left.
        across = np.array([1.0, 0, 0]) - way[0] / length**2 * way
        out = mine @ (across / np.linalg.norm(across))
        cuts = [(s, out[np.abs(along - s) < THICK / 2]) for s in STATIONS]
        line = np.array([(s, _middle(cut)) for s, cut in cuts if len(cut) >= FEW])
        if len(line) >= SECTIONS:
            leans[k] = np.arctan(np.polyfit(line[:, 0], line[:, 1], 1)[0])
    return leans


def _middle(cut: Float[np.ndarray, " n"]) -> float:
    return float(np.percentile(cut, [OUTSIDE, 100 - OUTSIDE]).mean())
