"""Arrays of `.npy` files that nobody vouches for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.npy import map_npy, parse_npy

RANDOM = np.random.default_rng(11)
ARRAYS = [
    RANDOM.integers(0, 1024, (6, 3, 5)).astype(np.uint16),
    np.asfortranarray(RANDOM.normal(size=(4, 3))),
    RANDOM.integers(0, 9, (2, 3)).astype(">i4"),
    np.array(3.5),
    np.array([True, False]),
    np.array(["cat", "horse"]),
    np.zeros((0, 3), np.float32),
    np.zeros((4, 0, 2)),
    np.array([1 + 2j]),
]


def saved(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version)
    return out.getvalue()


def with_header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1") + data


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}-{a.shape}")
def test_arrays_come_back(array: np.ndarray[Any, Any], version: tuple[int, int], tmp_path: Path) -> None:
    data = saved(array, version)
    (tmp_path / "x.npy").write_bytes(data)
    for found in (parse_npy(data), map_npy(tmp_path / "x.npy")):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


def test_every_truncation_and_what_is_too_much(tmp_path: Path) -> None:
    data = saved(ARRAYS[0])
    for size in range(len(data)):
        with pytest.raises((BitstreamError, UnsupportedError)):
            parse_npy(data[:size])
    with pytest.raises(BitstreamError, match="takes 180 bytes, 181 are there"):
        parse_npy(data + b"\0")
    (tmp_path / "x.npy").write_bytes(data[:-1])
    with pytest.raises(BitstreamError, match=r"x\.npy: uint16 \(6, 3, 5\) takes 180 bytes, 179 are there"):
        map_npy(tmp_path / "x.npy")
    with pytest.raises(InputError, match="no such file"):
        map_npy(tmp_path / "y.npy")


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"PK\x03\x04", BitstreamError, "no .npy file"),
        (b"\x93NUMPY\x09\x00", UnsupportedError, "version 09"),
        (saved(np.array([{}], object)), UnsupportedError, r"'\|O'"),
        (saved(np.zeros(2, "<u2,<u4")), UnsupportedError, "plain numbers"),
        (saved(np.zeros(2, "M8[s]")), UnsupportedError, "plain numbers"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }"), BitstreamError, "takes"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 60,), }"), BitstreamError, "no header"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1" + "0" * 30 + "), }"),
            BitstreamError,
            "larger",
        ),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), BitstreamError, "shape"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }"), BitstreamError, "shape"),
        (with_header("{'descr': '<f4', 'fortran_order': 1, 'shape': (), }"), BitstreamError, "no header"),
        (with_header("{'descr': '<f4', 'fortran_order': False, }"), BitstreamError, "no header"),
        (with_header("(" * 5000), BitstreamError, "no header"),
        (with_header("'\\d'"), BitstreamError, "no header"),
        (with_header("__import__('os').system('x')"), BitstreamError, "no header"),
    ],
)
def test_what_is_refused(data: bytes, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        parse_npy(data)
    assert len(str(caught.value)) < 300


def test_a_text_with_a_character_that_is_none_is_damaged():
    for order in "<>":
        file = io.BytesIO()
        np.save(file, np.array(["cat", "dog"]).astype(f"{order}U3"))
        data = bytearray(file.getvalue())
        assert parse_npy(bytes(data)).tolist() == ["cat", "dog"]
        data[-4:] = (0x110000).to_bytes(4, "little" if order == "<" else "big")
        with pytest.raises(BitstreamError, match="must be at most 0x10ffff"):
            parse_npy(bytes(data))
