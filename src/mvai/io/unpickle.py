"""Read pickles with an interpreter that can build arrays and plain containers, and nothing else.

A pickle is a program: Python's own loader calls whatever function the file names. Here the names
in a file never reach Python's import system; each is looked up in a short table of this module's
own functions, and a name that is not in the table ends the reading. That covers plain pickles,
joblib's (arrays stand raw between the opcodes), torch's (a zip with a pickle and raw storages, or
the older single stream) and the ones inside `.npy` files of objects. Old body-model files also hold
`chumpy` arrays and SciPy matrices; they come out as plain arrays and `scipy.sparse` matrices.

Format sources: Python's `pickletools`; joblib/numpy_pickle.py and torch/serialization.py describe
what they write.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from mvai.io.unpickle_machine import ForbiddenError, Interpreter, Lenient, plain
from mvai.types import MvaiError

LARGEST = 8 << 30
"""Bytes that a compressed file may unpack to."""

STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
"""Torch's storage classes and the numbers they hold."""
TORCH_MAGIC = 0x1950A86A20F9469CFC6C
COMPRESSED: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda f: gzip.GzipFile(fileobj=f)),
    (b"BZ", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
    (b"\x5d\x00", lzma.LZMAFile),
)
BAD = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError,
    KeyError, TypeError, IndexError, AttributeError, struct.error, OverflowError, MemoryError,
    RecursionError, NotImplementedError,
)  # fmt: skip
"""What damaged or hostile bytes make the interpreter raise."""


def read_pickle(path: str | Path, skip_unknown: bool = False) -> Any:
    """The content of a pickle, joblib, torch or `.npy` file as containers, numbers and arrays.

    Torch tensors come as arrays, chumpy arrays as arrays, sparse matrices as `scipy.sparse.csc`.

    Args:
        path: the file.
        skip_unknown: None stands for objects of unknown classes, which training programs leave in
            their checkpoints; otherwise such a file is refused.

    Raises:
        MvaiError: the file is missing, damaged, or holds something other than arrays and
            containers; nothing of it is ever executed.
    """
    path = Path(path)
    with _explained(path, "no pickle, joblib or torch file"), path.open("rb") as file:
        return plain(_read(file, Lenient(TORCH) if skip_unknown else TORCH))


def read_npz(path: str | Path, names: Sequence[str]) -> dict[str, Any]:
    """Members of an `.npz` file, also ones that numpy pickled: arrays of objects.

    Raises:
        MvaiError: the file is missing or damaged, lacks a member, or holds something other than
            arrays and containers; nothing of it is ever executed.
    """
    path = Path(path)
    with _explained(path, "no npz file"), zipfile.ZipFile(path) as archive:
        if sum(i.file_size for i in archive.infolist()) > LARGEST:
            raise ValueError("more than memory holds")
        found = {n.removesuffix(".npy") for n in archive.namelist()}
        if missing := [n for n in names if n not in found]:
            raise MvaiError(f"{path}: it holds no {', '.join(missing)}; give another file.")
        return {n: plain(_npy(io.BytesIO(archive.read(f"{n}.npy")))) for n in names}


@contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    """What reading a file raises, as a sentence for the user."""
    try:
        yield
    except OSError as error:
        raise MvaiError(
            f"{path}: cannot be read ({error.strerror or error}); check its rights."
        ) from error
    except ForbiddenError as error:
        raise MvaiError(
            f"{path}: it asks for {error}, which is no array or plain container; "
            "for safety such files are not opened, so save only arrays."
        ) from error
    except BAD as error:
        raise MvaiError(f"{path}: this is {kind}, or it is damaged; write it again.") from error


def _read(file: BinaryIO, known: Mapping[tuple[str, str], Any]) -> Any:
    head = file.read(6)
    file.seek(0)
    if head[:4] == b"PK\x03\x04":
        return _torch_zip(file, known)
    if head == b"\x93NUMPY":
        return _npy(file)
    for magic, opened in COMPRESSED:
        if head.startswith(magic):
            return Interpreter(_bounded(opened(file)), known).load()
    if head[:1] == b"\x78" and head[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        unpacked = zlib.decompressobj().decompress(file.read(), LARGEST)
        return Interpreter(io.BytesIO(unpacked), known).load()
    first = Interpreter(file, known).load()
    if isinstance(first, int) and first == TORCH_MAGIC:
        return _torch_stream(file, known)
    return first


def _bounded(file: Any) -> BinaryIO:
    content = file.read(LARGEST)
    return io.BytesIO(content)


def _npy(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran, dtype = read[version](file)
    if dtype.hasobject:
        content = Interpreter(file, TORCH).load()
        return content.item() if isinstance(content, np.ndarray) and shape == () else content
    count = math.prod(shape)
    flat = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


# --- torch ---------------------------------------------------------------------------------------


class _Storage:
    """The type of a torch storage."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)


def _tensor(storage: np.ndarray, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """`torch._utils._rebuild_tensor_v2`: a view into a storage, copied out of it."""
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    whole = math.prod(size)
    if whole and not (min(offset, *stride, 0) >= 0 and last < len(storage)):
        raise ValueError("a tensor reaches beyond its storage")
    if whole > max(len(storage), 1):
        raise ValueError("a tensor repeats its storage")
    steps = tuple(s * storage.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


def _load_from_bytes(data: Any) -> np.ndarray:
    """`torch.storage._load_from_bytes`: a storage written as a stream within a pickle."""
    data = data.encode("latin1") if isinstance(data, str) else data
    file = io.BytesIO(data)
    if data[:4] == b"PK\x03\x04":
        return _torch_zip(file, TORCH)
    if Interpreter(file, TORCH).load() != TORCH_MAGIC:
        raise ValueError("a torch storage")
    return _torch_stream(file, TORCH)


def _torch_zip(file: BinaryIO, known: Mapping[tuple[str, str], Any]) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickles = [n for n in archive.namelist() if n.endswith("data.pkl")]
        if len(pickles) != 1 or sum(i.file_size for i in archive.infolist()) > LARGEST:
            raise ValueError("no torch archive")
        folder = pickles[0].removesuffix("data.pkl")

        def storage(pid: Any) -> np.ndarray:
            _, kind, key, _, count, *_ = pid
            return np.frombuffer(archive.read(f"{folder}data/{key}"), kind.dtype, int(count))

        return Interpreter(io.BytesIO(archive.read(pickles[0])), known, storage).load()


def _torch_stream(file: BinaryIO, known: Mapping[tuple[str, str], Any]) -> Any:
    """The older format, after its magic number: three headers, the objects, then raw storages."""
    here = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(here)
    for _ in range(2):
        Interpreter(file, TORCH).load()
    storages: dict[str, np.ndarray] = {}

    def storage(pid: Any) -> np.ndarray:
        _, kind, key, _, count, *_ = pid
        if key not in storages:
            if not 0 <= count * kind.dtype.itemsize <= size:
                raise ValueError("a storage's length")
            storages[str(key)] = np.zeros(count, kind.dtype)
        return storages[str(key)]

    # Tensors are views until the storages behind them are read, so they are made afterwards.
    views: list[tuple[np.ndarray, tuple]] = []
    content = _Deferred(file, known, storage, views).load()
    for key in Interpreter(file, TORCH).load():
        (count,) = struct.unpack("<q", file.read(8))
        into = storages[str(key)]
        if count != len(into):
            raise ValueError("a storage's length")
        into[:] = np.frombuffer(file.read(count * into.itemsize), into.dtype, count)
    for target, arguments in views:
        target[...] = _tensor(*arguments)
    return content


class _Deferred(Interpreter):
    """Makes tensors whose numbers come later in the stream."""

    dispatch: ClassVar[dict] = dict(Interpreter.dispatch)

    def __init__(
        self,
        file: BinaryIO,
        known: Mapping[tuple[str, str], Any],
        storage: Callable,
        views: list,
    ) -> None:
        super().__init__(file, known, storage)
        self._views = views

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._later
        return super().find_class(module, name)

    def _later(self, *arguments: Any) -> np.ndarray:
        target = np.zeros_like(_tensor(*arguments))
        self._views.append((target, arguments))
        return target


TORCH: dict[tuple[str, str], Any] = {
    **{("torch", name): _Storage(dtype) for name, dtype in STORAGES.items()},
    ("torch", "Size"): lambda *a: tuple(*a),
    ("torch", "device"): lambda *a: None,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
}
"""Torch's names that may stand in a file."""
