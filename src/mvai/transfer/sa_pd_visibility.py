"""Whether a point on the skin sees a point inside the body through the body alone.

Pinocchio asks a distance field; this asks a grid of solid cells. A cell is solid if the surface
passes it or if the surface encloses it in slices across two of the three axes, which also holds
for characters with open borders, and for clothes over a body, whose inner layers must not
block the view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mvai.geometry.surface import face_areas_normals, sample_surface

CELLS = 128
"""Along the height."""
SAMPLES = 24
"""Points looked at on a line."""
POINTS_A_CELL = 20
"""Surface samples for a cell's area; enough that slices do not leak."""
MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class Solid:
    """Cells that a character fills."""

    cells: Bool[np.ndarray, "x y z"]
    origin: Float[np.ndarray, "3"]
    size_m: float

    def sees(
        self, start: Float[np.ndarray, "lines 3"], end: Float[np.ndarray, "lines 3"]
    ) -> Bool[np.ndarray, " lines"]:
        """True where the straight line between two points stays in solid cells."""
        t = np.linspace(0, 1, SAMPLES)[:, None, None]
        at = np.floor(((1 - t) * start + t * end - self.origin) / self.size_m).astype(int)
        at = np.clip(at, 0, np.array(self.cells.shape) - 1)
        return self.cells[at[..., 0], at[..., 1], at[..., 2]].all(0)


def solid(vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]) -> Solid:
    """Fill a character with cells."""
    from scipy.ndimage import binary_fill_holes, generate_binary_structure

    size = float(np.ptp(vertices[:, 1])) / CELLS
    origin = vertices.min(0) - 1.5 * size
    shape = np.ceil((vertices.max(0) - origin) / size).astype(int) + 2
    areas, _ = face_areas_normals(vertices, faces)
    count = int(min(MOST_POINTS, POINTS_A_CELL * areas.sum() / size**2))
    points = np.concatenate([vertices, sample_surface(vertices, faces, max(count, 1))[0]])
    shell = np.zeros(shape, bool)
    shell[tuple(np.floor((points - origin) / size).astype(int).T)] = True
    votes = np.zeros(shape, np.int8)
    for axis in range(3):
        # Neighbours within a slice only, so that each slice is filled by itself.
        within = generate_binary_structure(3, 1)
        within[tuple([0, 2] if k == axis else slice(None) for k in range(3))] = False
        votes = votes + np.asarray(binary_fill_holes(shell, within), np.int8)
    # One axis alone may take the room between an arm and the hip for inside, so two must agree,
    # unless the surface is so open that hardly any two do.
    inside = votes >= 2
    if 2 * (inside & ~shell).sum() < ((votes >= 1) & ~shell).sum():
        inside = votes >= 1
    return Solid(shell | inside, origin, size)
