"""A pickle interpreter that builds arrays and plain containers, and nothing else.

The names in a file never reach Python's import system; each is looked up in a table of this
module's own functions, and a name that is not in the table ends the reading.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np

CODE = r"[<>|=]?[?bBhHiIlLqQfdeuUSVOcF]\d{0,6}"
"""How numpy writes the types of numbers, text and objects."""


class ForbiddenError(Exception):
    """The file asks for something that is no array or container."""


class Record:
    """What stands for an object of a known foreign class until its content is read."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: Any = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Entries of a foreign container are dropped."""

    def append(self, value: Any) -> None:
        """Likewise."""

    extend = add = append


class ForeignClass:
    """Stands for a foreign class in the file; instantiating gives a `Record`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, *arguments: Any) -> Record:
        return Record(self.kind)


class Lenient(dict[tuple[str, str], Any]):
    """Knows every name that `TABLE` does not: as a class whose objects come out as None."""

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        found = super().get(key, default)
        return ForeignClass("unknown") if found is None else found


class Interpreter(pickle._Unpickler):  # type: ignore[misc,name-defined]
    """Python's pickle machine in Python, with its doors to the outside replaced."""

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(
        self,
        file: BinaryIO,
        more: Mapping[tuple[str, str], Any],
        storage: Callable[[Any], np.ndarray] | None = None,
    ) -> None:
        """
        Args:
            file: where the pickle begins.
            more: globals that are allowed beside those of `TABLE`.
            storage: what a persistent id of the file stands for.
        """
        # Python 2 wrote byte strings; latin-1 maps every byte to one character.
        super().__init__(file, encoding="latin1")
        self._file = file
        self._more = more
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        known = self._more.get((module, name), _known(module, name))
        if known is None:
            raise ForbiddenError(f"{module}.{name}"[:120])
        return known

    def persistent_load(self, pid: Any) -> Any:
        if self._storage is None:
            raise ForbiddenError("an object outside the file")
        return self._storage(pid)

    def get_extension(self, code: int) -> None:
        raise ForbiddenError("a registered extension")

    def load_build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(target, np.ndarray):
            target.__setstate__(_array_state(state))
        elif isinstance(target, np.dtype):
            self.stack[-1] = _dtype_with(target, state)  # type: ignore[attr-defined]
            # The memo still holds the bare type; later uses of it must see the byte order.
            for key, value in self.memo.items():  # type: ignore[attr-defined]
                if value is target:
                    self.memo[key] = self.stack[-1]  # type: ignore[attr-defined]
        elif isinstance(target, Record):
            target.state = state
            if target.kind == "joblib":
                self.stack[-1] = _joblib_array(self._file, state, self._more)  # type: ignore[attr-defined]
        elif not isinstance(target, dict):
            raise ForbiddenError(f"changes to a {type(target).__name__}")

    def load_newobj(self) -> None:
        arguments = self.stack.pop()  # type: ignore[attr-defined]
        self.stack[-1] = _new_object(self.stack[-1], *arguments)  # type: ignore[attr-defined]

    def load_newobj_ex(self) -> None:
        raise ForbiddenError("an object made with keywords")

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex


def _known(module: str, name: str) -> Any:
    """What a global of a pickle means here; None for everything that is not allowed."""
    module = module.replace("numpy._core", "numpy.core").replace("copy_reg", "copyreg")
    module = module.replace("__builtin__", "builtins")
    if module.startswith("scipy.sparse") and re.fullmatch(r"(cs[cr]|coo)_(matrix|array)", name):
        return ForeignClass(name[:3])
    if re.fullmatch(r"chumpy(\.\w+)*", module):
        return ForeignClass("chumpy")
    return TABLE.get((module, name))


def _array_state(state: Any) -> tuple:
    version, shape, dtype, fortran, data = state
    if not isinstance(dtype, np.dtype) or dtype.names is not None:
        raise ValueError("an array's type")
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise ValueError("an array of objects")
    else:
        # Python 2 wrote the bytes as a string, which was read as latin-1.
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError("an array's length")
    return version, tuple(int(n) for n in shape), dtype, bool(fortran), data


def _dtype(code: Any, *_: Any) -> np.dtype:
    """`numpy.dtype(code)` for plain numbers, text and objects."""
    text = code.decode("latin1") if isinstance(code, bytes) else code
    if not isinstance(text, str) or not re.fullmatch(
        r"[<>|=]?[?bBhHiIlLqQfdeuUSVOcF]\d{0,6}", text
    ):
        raise ForbiddenError("an array of an unusual type")
    # A copy, as the file asks for: its byte order may be set afterwards.
    return np.dtype(text, copy=True)


def _dtype_with(dtype: np.dtype, state: Any) -> np.dtype:
    _, order, base, names, fields, *_ = state
    if base is not None or names is not None or fields is not None:
        raise ForbiddenError("an array of records")
    order = order.decode() if isinstance(order, bytes) else order
    return dtype if order == "|" or dtype.hasobject else dtype.newbyteorder(order)  # type: ignore[arg-type]


def _empty_array(*_: Any) -> np.ndarray:
    """An array for BUILD to fill (`numpy.core.multiarray._reconstruct`)."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _scalar(dtype: np.dtype, data: Any = b"") -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype, 1)[0] if isinstance(data, bytes) else data


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """`numpy.core.numeric._frombuffer`, which pickle protocol 5 uses."""
    return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise ForbiddenError(f"the text encoding {encoding}"[:60])
    return text.encode(encoding)


def _bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    # bytes(n) would make n zeros out of nothing.
    if isinstance(content, int):
        raise ForbiddenError("a buffer of a given length")
    return _encode(content, encoding) if isinstance(content, str) else bytes(content)


def _reconstruct_object(cls: Any, base: Any, state: Any) -> Any:
    """`copyreg._reconstructor`: how protocol 1 makes an object of a class."""
    if not isinstance(cls, ForeignClass):
        raise ForbiddenError("an object of another class")
    return cls()


def _new_object(cls: Any, *arguments: Any) -> Any:
    if not isinstance(cls, ForeignClass):
        raise ForbiddenError("an object of another class")
    return cls()


def _joblib_array(file: BinaryIO, state: Any, more: Mapping[tuple[str, str], Any]) -> Any:
    """An array that stands raw in the stream after its description (joblib 0.10 and later)."""
    dtype, shape = state["dtype"], tuple(int(n) for n in state["shape"])
    if dtype.hasobject:
        return Interpreter(file, more).load()
    if state.get("numpy_array_alignment_bytes") is not None:
        file.read(file.read(1)[0])
    count = math.prod(shape)
    flat = np.frombuffer(file.read(count * dtype.itemsize), dtype, count).copy()
    return flat.reshape(shape[::-1]).T if state["order"] == "F" else flat.reshape(shape)


TABLE: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): ForeignClass("ndarray"),
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstruct_object,
    ("copyreg", "__newobj__"): _new_object,
    ("builtins", "object"): ForeignClass("object"),
    ("builtins", "dict"): lambda *a: dict(*a),
    ("builtins", "list"): lambda *a: list(*a),
    ("builtins", "set"): lambda *a: set(*a),
    ("builtins", "frozenset"): lambda *a: frozenset(*a),
    ("builtins", "complex"): lambda *a: complex(*a),
    ("builtins", "bytes"): lambda *a: _bytes(*a),
    ("builtins", "bytearray"): lambda *a: bytearray(_bytes(*a)),
    ("collections", "OrderedDict"): lambda *a: dict(*a),
    ("collections", "defaultdict"): lambda *a: {},
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): ForeignClass("joblib"),
}
"""Globals that may stand in a file, and what they do here."""


def plain(value: Any, done: dict[int, Any] | None = None) -> Any:
    """Containers with every record replaced by the array it stands for."""
    done = {} if done is None else done
    if id(value) in done:
        # A list that holds another one many times over must not be walked as often.
        return done[id(value)][1]
    out = _plain_once(value, done)
    # The value is kept, too, so that no other object gets its id meanwhile.
    done[id(value)] = value, out
    return out


def _plain_once(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {
            k: plain(v, done) for k, v in value.items() if not isinstance(k, ForeignClass | Record)
        }
    if isinstance(value, list):
        return [plain(v, done) for v in value]
    if isinstance(value, tuple):
        return tuple(plain(v, done) for v in value)
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        out = np.empty(value.shape, object)
        for i, v in enumerate(value.flat):
            out.flat[i] = plain(v, done)
        return out
    if isinstance(value, Record):
        return _array_of(value, done)
    if isinstance(value, ForeignClass) and value.kind == "unknown":
        return None
    if value is None or isinstance(value, PLAIN):
        return value
    raise ForbiddenError(f"a {type(value).__name__}")


PLAIN = (np.ndarray, str, bytes, int, float, complex, bool, set, frozenset, bytearray, np.generic)


def _array_of(record: Record, done: dict[int, Any]) -> Any:
    state = record.state
    if record.kind == "chumpy":
        if "x" in state:
            return np.asarray(plain(state["x"], done))
        if {"a", "idxs"} <= state.keys():
            # A selection out of another array (chumpy.reordering.Select).
            chosen = np.asarray(plain(state["a"], done)).ravel()[np.asarray(state["idxs"])]
            return chosen.reshape(tuple(state.get("preferred_shape", chosen.shape)))
        return None
    if record.kind in ("csc", "csr", "coo"):
        return _sparse(record.kind, state)
    if record.kind == "unknown":
        return None
    raise ForbiddenError("an empty object")


def _sparse(kind: str, state: Mapping[str, Any]) -> Any:
    from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

    shape = state.get("_shape", state.get("shape"))
    if kind == "coo":
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        return coo_matrix((state["data"], tuple(places)), shape=shape).tocsc()
    parts = tuple(np.asarray(state[k]) for k in ("data", "indices", "indptr"))
    out = csc_matrix(parts, shape=shape) if kind == "csc" else csr_matrix(parts, shape=shape)
    # Without this SciPy's compiled code would follow an index out of the matrix.
    out.check_format(full_check=True)
    return out.tocsc()
