"""Pickles are read without ever being run."""

from __future__ import annotations

import collections
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix

from mvai.io.unpickle import read_pickle
from mvai.types import MvaiError

CONTENT = {
    "a": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "list": [1, 2.5, "x", None, (1, True)],
    "scalar": np.float32(3),
    "objects": np.array([{1: 2}, None], dtype=object),
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(dict, {1: {2: 3}}),
    "sparse": csc_matrix(np.diag([1.0, 2.0, 3.0])),
    "big_endian": np.arange(3, dtype=">i4"),
    "bytes": b"\x00\xff",
    3: np.zeros((0, 3)),
}
TENSORS = {
    "a": torch.randn(3, 4),
    "transposed": torch.randn(4, 3).T,
    "view": torch.arange(10)[2:5],
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "half": torch.ones(2).half(),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(2.0),
    "array": np.arange(3.0),
}


def same(a, b) -> None:
    """Equal, tensors being arrays on the right."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert type(a) is type(b) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, csc_matrix):
        assert np.array_equal(a.toarray(), b.toarray())
    elif isinstance(a, torch.Tensor):
        assert isinstance(b, np.ndarray)
        assert np.array_equal(a.detach().numpy(), b)
    elif isinstance(a, np.ndarray) and a.dtype == object:
        same(list(a), list(b))
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b)
        assert a.dtype.str[1:] == b.dtype.str[1:]
    else:
        assert a == b


@pytest.mark.parametrize("protocol", range(2, 6))
def test_reads_plain_pickles(tmp_path: Path, protocol: int):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol))
    same(CONTENT, read_pickle(path))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_reads_joblib(tmp_path: Path, compress):
    joblib = pytest.importorskip("joblib")
    path = tmp_path / "a.pkl"
    joblib.dump({**CONTENT, "tensor": TENSORS["transposed"]}, path, compress=compress)
    same({**CONTENT, "tensor": TENSORS["transposed"]}, read_pickle(path))


@pytest.mark.parametrize("new", [True, False])
def test_reads_torch(tmp_path: Path, new: bool):
    path = tmp_path / "a.pt"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=new)
    same(TENSORS, read_pickle(path))


def test_reads_tensors_in_a_plain_pickle_and_in_npy(tmp_path: Path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(TENSORS))
    same(TENSORS, read_pickle(path))
    np.save(tmp_path / "a.npy", TENSORS, allow_pickle=True)
    same(TENSORS, read_pickle(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", CONTENT["fortran"])
    same(CONTENT["fortran"], read_pickle(tmp_path / "b.npy"))


def chumpy_array(monkeypatch: pytest.MonkeyPatch, x: np.ndarray) -> object:
    """An array as the package chumpy pickles it."""
    module = types.ModuleType("chumpy.ch")
    cls = type("Ch", (), {"__module__": "chumpy.ch"})
    module.Ch = cls  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    out = cls()
    out.__dict__.update(x=x, _dirty_vars=set(), _cache={})
    return out


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_reads_chumpy_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int):
    x = np.random.default_rng(0).random((3, 2))
    content = {"shapedirs": chumpy_array(monkeypatch, x)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    same({"shapedirs": x}, read_pickle(tmp_path / "a.pkl"))


def test_reads_byte_strings_of_python_2(tmp_path: Path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}U\x01aU\x02\xe9bs.")
    assert read_pickle(tmp_path / "a.pkl") == {"a": "\xe9b"}


# --- what must not happen -----------------------------------------------------------------------


class Attack:
    """Would make a file when unpickled by Python."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def attacks(mark: Path) -> dict[str, bytes]:
    evil = Attack(mark)
    return {
        "plain": pickle.dumps(evil),
        "text": pickle.dumps([1, evil], 0),
        "in an array": pickle.dumps(np.array([evil], object)),
        "eval": b"cbuiltins\neval\n(S'1'\ntR.",
        "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "extension": b"\x82\x01.",
        "persistent": b"Pcode\n.",
        "build on a function": b"cnumpy\ndtype\n}S'__defaults__'\nNsb.",
        "object operator": b"(cos\nsystem\nS'true'\no.",
        "instance": b"(S'true'\nios\nsystem\n.",
        "new object": b"\x80\x02cnumpy\ndtype\n)\x81.",
    }


@pytest.mark.parametrize("kind", list(attacks(Path())))
def test_never_runs_what_a_file_asks_for(tmp_path: Path, kind: str):
    mark = tmp_path / "mark"
    path = tmp_path / "bad.pkl"
    path.write_bytes(attacks(mark)[kind])
    with pytest.raises(MvaiError, match=r"bad\.pkl.*(safety|damaged)"):
        read_pickle(path)
    assert not mark.exists()


def test_torch_files_do_not_run_either(tmp_path: Path):
    path = tmp_path / "bad.pt"
    torch.save({"a": Attack(tmp_path / "mark")}, path)
    with pytest.raises(MvaiError, match=r"posix\.system"):
        read_pickle(path)
    assert not (tmp_path / "mark").exists()


def test_a_small_file_cannot_grow_without_bound(tmp_path: Path):
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]
    (tmp_path / "nested.pkl").write_bytes(pickle.dumps(nested))
    read_pickle(tmp_path / "nested.pkl")
    for call in (b"cbuiltins\nbytearray\n(I9999999999999\ntR.",
                 b"cbuiltins\nlist\n(cbuiltins\nbytes\n(I9999999999999\ntRtR."):  # fmt: skip
        (tmp_path / "huge.pkl").write_bytes(call)
        with pytest.raises(MvaiError):
            read_pickle(tmp_path / "huge.pkl")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_give_a_sentence(tmp_path: Path, data: st.DataObject):
    """Bytes flipped or cut anywhere give a result or one error, never another exception."""
    whole = bytearray(pickle.dumps({"a": np.arange(5), "b": [{"c": (1, "x")}]}, 4))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.pkl"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        read_pickle(path)
    except MvaiError as error:
        assert "a.pkl" in str(error)


def test_missing_file(tmp_path: Path):
    with pytest.raises(MvaiError, match="cannot be read"):
        read_pickle(tmp_path / "none.pkl")


def test_python_would_have_run_it(tmp_path: Path):
    """The attack is a real one: Python's own loader falls for it."""
    path = tmp_path / "mark"
    pickle.loads(pickle.dumps(Attack(path)))
    assert path.exists()
