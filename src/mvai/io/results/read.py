"""Which tool wrote a file, by its content, and what it holds."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from mvai.io.results.amass import amass, is_amass
from mvai.io.results.c3d import read_c3d
from mvai.io.results.data import MotionCapture, Results, chosen_person
from mvai.io.results.human_mesh import KINDS
from mvai.io.results.mesh_files import mesh_files
from mvai.io.results.multi_hmr import is_multi_hmr, multi_hmr
from mvai.io.results.sam3d_body import is_sam3d_body, sam3d_body
from mvai.io.results.trc import read_trc
from mvai.io.unpickle import read_pickle
from mvai.io.video import natural_order
from mvai.types import MvaiError

READ = (
    "WHAM, VIBE, 4D-Humans, GVHMR, GEM, TRAM, PromptHMR, SAM 3D Body, Multi-HMR 2, AMASS, BVH, "
    "TRC, C3D, a folder of OBJ or PLY files, and mvai's own archive"
)
DAMAGED = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, EOFError, OSError,
    OverflowError, MemoryError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What a reader raises for a file that is not as it should be."""


def read_results(path: str | Path, person: int = 0) -> Results:
    """One person out of a file or folder that another tool wrote.

    Args:
        path: a file, or a folder of files.
        person: 0 is the one seen in the most frames.

    Raises:
        MvaiError: it may not be read, no reader knows the content, it is damaged, or has fewer
            people.
    """
    path = Path(path)
    if not path.exists():
        raise MvaiError(f"{path}: there is no such file; give the result of another tool.")
    try:
        return _folder(path, person) if path.is_dir() else _file(path, person)
    except PermissionError as error:
        raise MvaiError(f"{path}: not allowed to read this; check its rights.") from error
    except DAMAGED as error:
        raise MvaiError(
            f"{path}: its content is not as the tool that it seems to be from writes it ({error}); "
            "write it again."
        ) from error


def _unknown(path: Path) -> MvaiError:
    return MvaiError(f"{path}: the content is of no known kind; what can be read is {READ}.")


def _file(path: Path, person: int) -> Results:
    with path.open("rb") as file:
        head = file.read(512)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:9].upper() == b"HIERARCHY":
        chosen_person({0: 1}, person, path)
        return MotionCapture("BVH", str(path))
    if start.startswith(b"PathFileType"):
        return read_trc(path, person)
    if len(head) == 512 and head[1] == 0x50 and 1 < head[0] < 255 and not head.startswith(b"PK"):
        return read_c3d(path, person)
    if start[:3] == b"ply" or path.suffix.lower() == ".obj":
        return mesh_files([path], path, person)
    if head.startswith(b"PK") and not _is_torch(path):
        with np.load(path, allow_pickle=False) as content:
            return _arrays(_members(content), path, person)
    content = read_pickle(path)
    for fits, read in KINDS:
        if fits(content):
            return read(content, path, person)
    if is_multi_hmr(content):
        return multi_hmr({path: content}, path, person)
    raise _unknown(path)


def _is_torch(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(n.endswith("data.pkl") for n in archive.namelist())


def _members(file: object) -> dict[str, np.ndarray]:
    """The members of an npz that are plain arrays."""
    out = {}
    for name in file.files:  # type: ignore[attr-defined]
        try:
            out[name] = file[name]  # type: ignore[index]
        except ValueError:
            # A pickled member: nothing here needs one.
            continue
    return out


def _arrays(content: dict[str, np.ndarray], path: Path, person: int) -> Results:
    if is_amass(content):
        return amass(content, path, person)
    if is_sam3d_body(content):
        return sam3d_body({path: content}, path, person)
    raise _unknown(path)


def _folder(path: Path, person: int) -> Results:
    def files(*suffixes: str) -> list[Path]:
        found = [p for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file()]
        return sorted(found, key=natural_order)

    for suffix in (".obj", ".ply"):
        if meshes := files(suffix):
            return mesh_files(meshes, path, person)
    if archives := files(".npz"):
        contents = {}
        for file in archives:
            with np.load(file, allow_pickle=False) as content:
                contents[file] = _members(content)
        if all(map(is_sam3d_body, contents.values())):
            return sam3d_body(contents, path, person)
    if tracks := sorted(path.glob("hps_track_*.npy"), key=natural_order):
        # A track a person, numbered by the tool.
        lengths = {p: len(np.asarray(read_pickle(p)["frame"])) for p in tracks}
        who = chosen_person(lengths, person, path)
        return _file(who, 0)
    if pickles := files(".pkl"):
        contents = {p: read_pickle(p) for p in pickles}
        if all(map(is_multi_hmr, contents.values())):
            return multi_hmr(contents, path, person)
    raise _unknown(path)
