"""A folder of meshes, one a frame: OBJ or PLY files of the same surface."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvai.io.results.data import MovingMesh, chosen_person
from mvai.types import MvaiError


def mesh_files(files: Sequence[Path], path: Path, person: int) -> MovingMesh:
    """The vertices of all files, in the order of the files' names.

    Raises:
        MvaiError: a file cannot be read or is another mesh than the first.
    """
    chosen_person({0: 1}, person, path)
    frames, faces = [], None
    for file in files:
        vertices, own = _read(file)
        if faces is None:
            faces = own
        if len(vertices) != len(frames[0] if frames else vertices) or len(own) != len(faces):
            raise MvaiError(
                f"{file}: it has {len(vertices)} vertices and {len(own)} faces and the files "
                f"before it {len(frames[0])} and {len(faces)}; all must be the same mesh, moved."
            )
        frames.append(vertices)
    assert faces is not None
    return MovingMesh("meshes", np.stack(frames).astype(np.float32), faces)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in the file's own order, and triangles."""
    try:
        if path.suffix.lower() == ".obj":
            return _read_obj(path.read_text(encoding="utf-8", errors="replace"))
        import trimesh

        mesh = trimesh.load(path, file_type="ply", process=False, maintain_order=True)
        return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)  # type: ignore
    except (OSError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise MvaiError(f"{path}: this mesh cannot be read; export the sequence again.") from error


def _read_obj(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Only what moves: positions as they stand, faces as fans of triangles."""
    vertices, faces = [], []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(w) for w in words[1:4]])
        elif words[:1] == ["f"]:
            corners = [int(w.split("/")[0]) for w in words[1:]]
            corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]
            faces += [[corners[0], a, b] for a, b in itertools.pairwise(corners[1:])]
    out = np.array(faces, np.int64).reshape(-1, 3)
    if not vertices or not len(out) or out.max() >= len(vertices) or out.min() < 0:
        raise ValueError("no faces, or a face points outside")
    return np.array(vertices), out
