"""Wavefront OBJ to Character (Alias|Wavefront, "Object Files (.obj)", version 3.0).

Each combination of object, group and material becomes a part. Within a part, vertex i is the i-th
of the file's `v` lines that the part uses; where a texture or normal seam splits a vertex, its
further copies stand at the end. Polygons become fans of triangles. Curves, lines and points are
left out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from mvai.io.files_beside import Loader
from mvai.io.mtl_read import Appearance, read_mtl
from mvai.types import Character, MvaiError, MvaiWarning, Part

STATEMENTS = ("v", "vt", "vn")


@dataclass
class _Run:
    """Successive `f` lines of one part, met after the same number of v, vt and vn lines."""

    part: tuple[str, str]
    """Name of object or group, and material."""
    counts: tuple[int, int, int]
    lines: list[str] = field(default_factory=list)


@dataclass
class _Statements:
    """The lines of a file, by what they state."""

    table: dict[str, list[str]] = field(default_factory=lambda: {key: [] for key in STATEMENTS})
    """v, vt and vn lines."""
    runs: list[_Run] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    """Names of MTL files."""

    @classmethod
    def of(cls, text: str) -> _Statements:
        """Sorts the lines of a file."""
        found = cls()
        group, material = "", ""
        open_run = False
        for line in text.splitlines():
            key, _, rest = line.lstrip().partition(" ")
            if key in found.table:
                found.table[key].append(rest)
                open_run = False
            elif key == "f":
                if not open_run:
                    v, vt, vn = (len(found.table[k]) for k in STATEMENTS)
                    found.runs.append(_Run((group, material), (v, vt, vn)))
                    open_run = True
                found.runs[-1].lines.append(rest)
            elif key in ("o", "g"):
                group, open_run = rest.strip(), False
            elif key == "usemtl":
                material, open_run = rest.strip(), False
            elif key == "mtllib":
                found.libraries.append(rest.strip())
        return found


def character_from_obj(data: bytes, load: Loader, where: str, name: str) -> Character:
    """Reads an OBJ and the MTL and textures it names.

    A material library or texture that is missing is warned of and left out.

    Returns:
        A Character in the file's own coordinates.

    Raises:
        MvaiError: malformed numbers, or a face names a vertex that is not there.
    """
    text = data.decode("utf-8", errors="replace").replace("\t", " ")
    found = _Statements.of(text.replace("\\\r\n", " ").replace("\\\n", " "))
    try:
        positions = _numbers(found.table["v"], 3)
        uv = _numbers(found.table["vt"], 2)
        normals = _numbers(found.table["vn"], 3)
        colors = _colors(found.table["v"])
        corners = [(run.part, _triangle_corners(run)) for run in found.runs]
    except ValueError as error:
        raise MvaiError(
            f"{where}: a line of the OBJ cannot be read ({error}); export it again."
        ) from error
    for _, c in corners:
        limits = np.array([len(positions), len(uv), len(normals)])
        if (c >= limits).any() or (c[..., 0] < 0).any() or (c < -1).any():
            raise MvaiError(f"{where}: a face names a vertex that is not there; export it again.")
    appearance = _appearance(found.libraries, load, where)
    single = len({part for part, _ in corners}) == 1
    parts = []
    for group, material in dict.fromkeys(part for part, _ in corners):
        own = np.concatenate([c for p, c in corners if p == (group, material)])
        # A file of one part keeps even the vertices that no face uses, and so their numbers.
        keep = np.arange(len(positions)) if single else np.unique(own[..., 0])
        source, faces = _split_at_seams(own, keep)
        parts.append(
            Part(
                name=group or material or name,
                vertices=positions[source[:, 0]],
                faces=faces,
                attributes=_attributes(source, uv, normals, colors),
                material=appearance.index.get(material),
            )
        )
    return Character(
        name=name,
        parts=tuple(parts),
        materials=tuple(appearance.materials),
        textures=tuple(appearance.textures),
        images=tuple(appearance.images),
        samplers=({"wrapS": 10497, "wrapT": 10497},) if appearance.textures else (),
    )


def _attributes(
    source: Int[np.ndarray, "verts 3"],
    uv: Float[np.ndarray, "uvs 2"],
    normals: Float[np.ndarray, "normals 3"],
    colors: Float[np.ndarray, "positions 3"] | None,
) -> dict[str, np.ndarray]:
    """glTF's vertex attributes of vertices made of the (v, vt, vn) in `source`."""
    attributes = {}
    if (source[:, 1] >= 0).any():
        # glTF counts v downwards from the top of the picture, OBJ upwards.
        st = uv[source[:, 1]] * [1, -1] + [0, 1]
        attributes["TEXCOORD_0"] = np.where(source[:, 1:2] >= 0, st, 0).astype(np.float32)
    if (source[:, 2] >= 0).all():
        attributes["NORMAL"] = normals[source[:, 2]].astype(np.float32)
    if colors is not None:
        attributes["COLOR_0"] = colors[source[:, 0]].astype(np.float32)
    return attributes


def _numbers(lines: list[str], columns: int) -> Float[np.ndarray, "lines columns"]:
    """The first `columns` numbers of every line."""
    if not lines:
        return np.zeros((0, columns))
    widths = {len(line.split("#")[0].split()) for line in lines}
    if len(widths) == 1 and not any("#" in line for line in lines):
        table = np.array(" ".join(lines).split(), dtype=float).reshape(len(lines), -1)
    else:
        least = min(widths)
        table = np.array([line.split()[:least] for line in lines], dtype=float)
    if table.shape[1] < columns:
        missing = columns - table.shape[1]
        if columns == 3 or missing > 1:
            raise ValueError("too few numbers")
        table = np.pad(table, ((0, 0), (0, missing)))
    return table[:, :columns]


def _colors(lines: list[str]) -> Float[np.ndarray, "lines 3"] | None:
    """Vertex colours that many tools write after the position; values above 1 count to 255."""
    if not lines or len(lines[0].split()) != 6 or any(len(line.split()) != 6 for line in lines):
        return None
    table = np.array(" ".join(lines).split(), dtype=float).reshape(-1, 6)[:, 3:]
    return np.clip(table / (255.0 if table.max() > 1 else 1.0), 0, 1)


def _triangle_corners(run: _Run) -> Int[np.ndarray, "faces 3 3"]:
    """Zero-based (v, vt, vn) of every triangle's corners; -1 where vt or vn is not given.

    Lines with the same number of corners and slashes are parsed together, which is what makes a
    file of a million faces readable in seconds.
    """
    if any("#" in line for line in run.lines):
        run.lines[:] = [line.split("#")[0] for line in run.lines]
    shapes = np.array([(len(s.split()), s.count("/"), s.count("//")) for s in run.lines])
    order, found = [], []
    for shape in np.unique(shapes, axis=0):
        n, slashes, double = (int(x) for x in shape)
        rows = np.flatnonzero((shapes == shape).all(axis=1))
        if n < 3:
            continue
        if slashes not in (0, n, 2 * n) or double not in (0, n):
            raise ValueError("a face mixes kinds of corners")
        k = slashes // n + 1
        text = " ".join(run.lines[r] for r in rows)
        flat = text.replace("//", "/0/").replace("/", " ").split()
        given = np.array(flat, dtype=np.int64).reshape(len(rows), n, k)
        corner = np.zeros((len(rows), n, 3), np.int64)
        corner[..., :k] = given
        # One-based; negative numbers count back from the last one read; 0 stands for none.
        corner = np.where(corner < 0, corner + np.array(run.counts), corner - 1)
        fan = np.stack([[0, i, i + 1] for i in range(1, n - 1)])
        found.append(corner[:, fan].reshape(-1, 3, 3))
        order.append(np.repeat(rows, n - 2))
    if not found:
        return np.zeros((0, 3, 3), np.int64)
    # Polygons keep their order in the file, whatever their number of corners.
    return np.concatenate(found)[np.argsort(np.concatenate(order), kind="stable")]


def _split_at_seams(
    corners: Int[np.ndarray, "faces 3 3"], keep: Int[np.ndarray, " kept"]
) -> tuple[Int[np.ndarray, "verts 3"], Int[np.ndarray, "faces 3"]]:
    """One vertex for every (v, vt, vn) that occurs.

    Returns:
        The (v, vt, vn) of every vertex: first one for each of `keep`, in that order, then the
        further copies; and the faces over them.
    """
    rows = corners.reshape(-1, 3)
    unique, first, inverse = _unique_rows(rows)
    # The copy of a vertex that the file meets first keeps the vertex's place.
    by_meeting = np.lexsort((first, unique[:, 0]))
    starts = np.ones(len(unique), bool)
    starts[1:] = np.diff(unique[by_meeting, 0]) != 0
    main, copies = by_meeting[starts], by_meeting[~starts]
    source = np.full((len(keep) + len(copies), 3), -1, np.int64)
    source[: len(keep), 0] = keep
    place = np.empty(len(unique), np.int64)
    place[main] = np.searchsorted(keep, unique[main, 0])
    place[copies] = len(keep) + np.arange(len(copies))
    # Vertices that no face uses have no vt or vn of their own; any will do.
    unused = np.setdiff1d(np.arange(len(keep)), place[main])
    source[unused, 1:] = unique[0, 1:]
    source[place] = unique
    return source, place[inverse].reshape(-1, 3)


def _unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """np.unique over rows by one integer key a row, several times faster than axis=0."""
    spans = rows.max(axis=0) + 2
    _, pair = np.unique((rows[:, 0] + 1) * spans[1] + rows[:, 1] + 1, return_inverse=True)
    _, first, inverse = np.unique(
        pair.astype(np.int64) * spans[2] + rows[:, 2] + 1, return_index=True, return_inverse=True
    )
    return rows[first], first, inverse


def _appearance(libraries: list[str], load: Loader, where: str) -> Appearance:
    appearance = Appearance()
    for library in libraries:
        content = load(library)
        if content is None:
            warnings.warn(
                f"{where}: the material library {library} is missing; its materials are left out.",
                MvaiWarning,
                stacklevel=4,
            )
            continue
        read_mtl(content, load, where, appearance)
    return appearance
