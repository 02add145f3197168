"""Characters whose faces look outwards, for whatever reads their normals.

Files that were mirrored as a whole or in parts hold faces that look inwards. Every method finds
the body, or reads points and weights, by the way surfaces face; the character that comes out of a
transfer keeps its faces as they were given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mvai.geometry.winding import outward_faces
from mvai.types import Character


def facing_outward(character: Character) -> Character:
    """The character with faces turned around that look inwards; itself where there are none."""
    mesh = character.mesh
    faces = outward_faces(mesh.vertices, mesh.faces)
    if np.array_equal(faces, mesh.faces):
        return character
    ends = np.cumsum([len(part.faces) for part in character.parts])[:-1]
    starts = np.cumsum([0, *(len(part.vertices) for part in character.parts)])
    parts = (
        replace(part, faces=own - start)
        for part, own, start in zip(character.parts, np.split(faces, ends), starts, strict=False)
    )
    return replace(character, parts=tuple(parts))
