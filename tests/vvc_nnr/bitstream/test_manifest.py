"""Manifests: what they say of tensors in few bytes, those of older files, damage."""

from __future__ import annotations

import contextlib
import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.bitstream.manifest import (
    DIGITS,
    LETTERS,
    OLD_DIGITS,
    Manifest,
    RawPart,
    checksum,
    read_manifest,
    write_manifest,
)
from vvc_nnr.bitstream.number_formats import BITS_OF, NUMBER_FORMATS, VALUES_SUFFIX
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import read_stream, with_metadata
from vvc_nnr.bitstream.units import DataUnit, StartUnit, TopologyUnit, Unit, read_units, write_units
from vvc_nnr.coding.update import apply_update, compress_update
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.errors import BitstreamError, UnsupportedError

# Of manifests of versions 1 to 3, written before there were others.
OLD_STREAMS = {
    1: bytes.fromhex(
        "00040201000806810040008000f10e00007b227676635f6e6e72223a312c22756e697473223a372c22666f726d617473223a7b22"
        "666c6f61743136223a5b302c315d2c22696e743634223a5b322c325d2c22626f6f6c223a5b342c315d2c22666c6f61743332223a"
        "5b352c315d7d2c22736861706573223a7b2231223a5b5d2c2232223a5b5d2c2235223a5b302c335d7d2c2277696465223a5b335d"
        "2c226d65746164617461223a7b226279223a225c7530306663227d2c2274696564223a5b5b362c2274696564222c2268225d5d2c"
        "22736861323536223a223233616535323139386163346562326635623732333134313532353863623466227d0000131609680018"
        "240c180410f795007630717c000f1609730018702010fb910064f9000e16016e0030e040208d0067dd00111601776964650030e0"
        "80208d01070e00181601776964652e686967680030e080208d005d889ff0000e16016d0020e0e08d0023e280000d1601650020e0"
        "608d004aa0"
    ),
    2: bytes.fromhex(
        "00040201000806810040008001090e00007b227676635f6e6e72223a322c22756e697473223a392c22666f726d617473223a7b22"
        "666c6f61743136223a5b302c315d2c22696e743634223a5b322c325d2c22626f6f6c223a5b342c315d2c22666c6f61743332223a"
        "5b352c325d7d2c22736861706573223a7b2231223a5b5d2c2232223a5b5d2c2235223a5b302c335d7d2c2277696465223a5b335d"
        "2c226d65746164617461223a7b226279223a225c7530306663227d2c2274696564223a5b5b362c2274696564222c2268225d5d2c"
        "22726177223a5b5b362c2273706c6974222c3132345d5d2c22736861323536223a22393166303637383163383965653237656137"
        "3262396439353239646439633331227d0000131609680018240c180410f795007630717c000f1609730018702010fb910064f900"
        "0e16016e0030e040208d0067dd00111601776964650030e080208d01070e00181601776964652e686967680030e080208d005d88"
        "9ff0000e16016d0020e0e08d0023e280000d1601650020e0608d004aa0001c1601720030ea0020415100044b095b03d978621725"
        "8d7d90cce0009016117676635f6e6e722e7261770061cf854017007f0061988299f9c04b5ece9259b7de6d6a98e99706e6b53638"
        "f80d669722429aace714287576aa7b3b2e4b84524469ad7ae7ad40a8dd50cdc0b668e419db9baa33e4bc714e72124f0b7e2ed222"
        "d9b0772effcda9fe5711608dc83f510b9df54c4fddab94a1f9b60d81965154d283fbb1a5299b9b86ca8bad668d"
    ),
    3: bytes.fromhex(
        "00040201000806810040008000cf0e00007b227676635f6e6e72223a332c22666f726d617473223a7b22666c6f61743136223a5b"
        "302c315d2c22696e743634223a5b322c325d2c22626f6f6c223a5b342c315d2c22666c6f61743332223a5b352c315d7d2c227368"
        "61706573223a7b2231223a5b5d2c2232223a5b5d2c2235223a5b302c335d7d2c2277696465223a5b335d2c226d65746164617461"
        "223a7b226279223a225c7530306663227d2c2274696564223a5b5b362c2274696564222c2268225d5d2c22736861323536223a22"
        "3132633132373163227d0000131609680018240c180410f795007630717c000f1609730018702010fb910064f9000e16016e0030"
        "e040208d0067dd00111601776964650030e080208d01070e00181601776964652e686967680030e080208d005d889ff0000e1601"
        "6d0020e0e08d0023e280000d1601650020e0608d004aa0"
    ),
}


def told(manifest: Manifest) -> bytes:
    """The text of a manifest without its checksum."""
    return write_manifest(manifest, is_short=True)[0].rpartition(b',"#"')[0]


def again(manifest: Manifest, n_units: int, is_short: bool = True) -> Manifest:
    """A manifest from its text, of a stream that is nothing else."""
    text, at, n_digits = write_manifest(manifest, is_short=is_short)
    digits = checksum([text[:at], text[at + n_digits :]], n_digits)
    data = text[:at] + digits + text[at + n_digits :]
    return read_manifest(data, 0, len(data), n_units)


def sealed(units: list[Unit], text: bytes) -> bytes:
    """A stream whose topology unit has that text, with a checksum in the place of its zeros."""
    data = b"".join(
        map(bytes, write_units([StartUnit(), ModelParameterSet(), TopologyUnit(topology_data=text), *units]))
    )
    n_digits = next(n for n in (*OLD_DIGITS[::-1], *DIGITS[::-1]) if text.endswith(b'"' + b"0" * n + b'"}\0'))
    at = data.index(text) + len(text) - 3 - n_digits
    return data[:at] + checksum([data[:at], data[at + n_digits :]], n_digits) + data[at + n_digits :]


def units_of(arrays: dict[str, Any]) -> list[Unit]:
    return [placed.unit for placed in read_units(compress(arrays)) if isinstance(placed.unit, DataUnit)]


def test_items() -> None:
    assert told(Manifest()) == b'{"vvc_nnr":""'
    assert told(Manifest({1: "float16", 2: "float16", 3: "float16 bits"}, {3: ()})) == b'{"vvc_nnr":"-e2e*()"'
    assert told(Manifest({0: "int64", 1: "int64"}, wide=frozenset([1]))) == b'{"vvc_nnr":"qq+"'
    assert told(Manifest({4: "int8 values"}, {4: (2, 0)})) == b'{"vvc_nnr":"-4b=(2,0)"'
    assert told(Manifest({0: "uint8"}, raw=(RawPart(0, "lzma", 7),))) == b'{"vvc_nnr":"B:l7"'


def test_rows_of_items_that_come_again_are_told_once() -> None:
    pairs = Manifest(
        dict.fromkeys(range(0, 128, 2), "float8_e4m3fn"),
        dict.fromkeys(range(1, 128, 2), ()),
        raw=tuple(RawPart(place, "split", 132) for place in range(0, 128, 2)),
    )
    assert told(pairs) == b'{"vvc_nnr":"[m:s132-()]64"'
    assert again(pairs, 129) == pairs
    alike = Manifest(raw=tuple(RawPart(place, "bytes", 9) for place in range(3)))
    assert told(alike) == b'{"vvc_nnr":"-3:b9"'
    mixed = Manifest({place: ("int8", "uint8", "float16")[place % 3] for place in range(1, 40)})
    assert told(mixed) == b'{"vvc_nnr":"-[Beb]13"'
    assert again(mixed, 40) == mixed


FORMATS = [*NUMBER_FORMATS, *(name + VALUES_SUFFIX for name in LETTERS)]
PLACES = st.integers(0, 40)


@given(
    st.dictionaries(PLACES, st.sampled_from(FORMATS)),
    st.dictionaries(PLACES, st.lists(st.integers(0, 10**9), max_size=4).map(tuple)),
    st.frozensets(PLACES),
    st.dictionaries(PLACES, st.tuples(st.sampled_from(["split", "palette", "bytes", "lzma", "outliers"]), PLACES)),
    st.booleans(),
)
def test_items_come_back(
    formats: dict[int, str], shapes: dict[int, Any], wide: frozenset[int], raw: dict[int, Any], is_short: bool
) -> None:
    parts = tuple(RawPart(place, *raw[place]) for place in sorted(raw))
    manifest = Manifest(formats, shapes, wide, raw=parts, metadata={"a": "\u00fc"}, base="ab")
    assert again(manifest, 41 + len(wide) + bool(raw), is_short) == manifest


def test_every_format_has_a_letter() -> None:
    assert {*LETTERS, *BITS_OF.values()} == set(NUMBER_FORMATS)


@pytest.mark.parametrize("version", OLD_STREAMS)
def test_older_manifests_are_read(version: int) -> None:
    data = OLD_STREAMS[version]
    assert b'{"vvc_nnr":%d,' % version in data
    found = decompress(data)
    assert [array.dtype.name for array in found.values()] == (
        ["float16", "float32", "int64", "int64", "bool", "float32", "float16"] + ["float32"] * (version == 2)
    )
    np.testing.assert_array_equal(found["h"], np.array([[0.5, -1.25, 3.0]], np.float16))
    assert (found["s"][()], found["n"][()], found["wide"].tolist()) == (2.5, 7, [2**40, -3])
    assert (found["m"].tolist(), found["e"].shape, found["tied"] is found["h"]) == ([True, False, True], (0, 3), True)
    if version == 2:
        np.testing.assert_array_equal(found["r"], np.random.default_rng(5).normal(size=40).astype(np.float32))
    assert inspect(data).metadata["by"] == "\u00fc"
    lost = b"".join(data[p.offset_bytes :][: p.size_bytes] for p in list(read_units(data))[:-1])
    with pytest.raises(BitstreamError, match="checksum of the stream is wrong"):
        decompress(lost)
    longer = with_metadata(data, {"more": "x"})
    assert inspect(longer).metadata == {"by": "\u00fc", "more": "x"}
    assert len(longer) < len(data)
    assert all(np.array_equal(array, found[name]) for name, array in decompress(longer).items())


def test_older_manifests_count_data_units() -> None:
    units = units_of({"w": np.ones(3, np.float32)})
    text = b'{"vvc_nnr":1,"units":%d,"sha256":"' + b"0" * 32 + b'"}\0'
    assert decompress(sealed(units, text % 1))["w"].tolist() == [1, 1, 1]
    with pytest.raises(BitstreamError, match="1 data units of 2"):
        decompress(sealed(units, text % 2))


def with_items(arrays: dict[str, Any], items: str) -> bytes:
    return sealed(units_of(arrays), b'{"vvc_nnr":"%s","#":"00000"}\0' % items.encode())


@pytest.mark.parametrize("items", ["f", "-", "e", "d", "[f]1", "[-]0", "[-]0e"])
def test_items_that_fit(items: str) -> None:
    assert decompress(with_items({"w": np.ones(3, np.float32)}, items))["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "items",
    ["b", "ee", "-e", "f2", "f0", "f999999999999999999", "f" + "9" * 30, "-9999999999999999999999", "y", "\u0663", "f ",
     "f(2,2)", f"f(0,{1 << 60})", "f(-1)", "f(3", "f(,)", "f()()", f"f({','.join('1' * 65)})", "f+", "q+", "f:b4",
     "f:s9", "f:x4", "f:b", "f:b" + "9" * 18, "f*", "f=", "e=", "e=(3)", "b=(12)", "b*", "?*", "f2:b1", "=", "*",
     "e**", "[e]2", "[e", "e]1", "[]1", "[e]", "[[e]1]1", "[e]" + "9" * 18, "[e]" + "9" * 30, "[y]1", "[y]0", "[e]-1"],
)  # fmt: skip
def test_items_that_do_not_fit_are_errors(items: str) -> None:
    data = with_items({"w": np.ones(3, np.float32)}, items)
    with pytest.raises(BitstreamError, match="the manifest"):
        read_stream(data)
    with pytest.raises(BitstreamError):
        decompress(data)


def test_values_as_they_are_have_a_payload_of_their_size() -> None:
    values = np.random.default_rng(0).integers(-(2**60), 2**60, 9)
    data = compress({"w": values}, lossless=True)
    units = [placed.unit for placed in read_units(data) if isinstance(placed.unit, DataUnit)]
    assert read_stream(data).manifest == Manifest({0: "int64 values"}, {0: (9,)})
    np.testing.assert_array_equal(decompress(data)["w"], values)
    for items in ("q=(8)", "q=(10)", "q=", "b=(75)", "b=(68)", "q=(0,9)", "q=(9)+", "q=(9):b72", "g=(3,99999999999)"):
        with pytest.raises(BitstreamError):
            decompress(sealed(units, b'{"vvc_nnr":"%s","#":"00000"}\0' % items.encode()))
    for items, n in (("b=(3,23)", 69), ("h=(36)", 36), ("d=(9)", 9), ("?=(72)", 72), ("g=(35)", 35)):
        assert decompress(sealed(units, b'{"vvc_nnr":"%s","#":"00000"}\0' % items.encode()))["w"].size == n


@pytest.mark.parametrize("version", ["0", "4", "null", "[1]", "1.5"])
def test_later_manifests_are_unsupported(version: str) -> None:
    text = b'{"vvc_nnr":%s,"#":"00000"}\0' % version.encode()
    with pytest.raises(UnsupportedError, match="manifest of version"):
        read_stream(sealed(units_of({"w": np.ones(3, np.float32)}), text))


@pytest.mark.parametrize(
    "text",
    [b'{"vvc_nnr":"","sha256":"00000000"}\0', b'{"vvc_nnr":3,"#":"00000"}\0',
     b'{"vvc_nnr":3,"sha256":"' + b"0" * 32 + b'"}\0', b'{"vvc_nnr":1,"units":1,"sha256":"00000000"}\0'],
)  # fmt: skip
def test_each_version_has_its_checksum(text: bytes) -> None:
    with pytest.raises(BitstreamError, match="another number of digits"):
        read_stream(sealed(units_of({"w": np.ones(3, np.float32)}), text))


def test_every_changed_byte_of_a_tiny_file_is_noticed() -> None:
    data = compress({"w": np.array([0.5, 3], np.float16), "n": np.array(3)})
    wanted = decompress(data)
    for at in range(len(data)):
        for changed in {data[at] ^ (1 << bit) for bit in range(8)} | {0, 255} - {data[at]}:
            damaged = data[:at] + bytes([changed]) + data[at + 1 :]
            try:
                found = decompress(damaged)
            except (BitstreamError, UnsupportedError):
                continue
            assert all(np.array_equal(found[name], array) and found[name].dtype == array.dtype
                       for name, array in wanted.items())  # fmt: skip


def test_random_items_are_read_or_refused() -> None:
    chosen = random.Random(3)
    units = units_of({"w": np.ones(3, np.float32), "n": np.arange(3), "q": np.array([1 << 40])})
    for _ in range(400):
        items = "".join(chosen.choice("-eefbqqdg?*=()+:sb0123,") for _ in range(chosen.randrange(1, 9)))
        with contextlib.suppress(BitstreamError):
            decompress(sealed(units, b'{"vvc_nnr":"%s","#":"00000"}\0' % items.encode()))


_STATE = {"w": np.arange(48, dtype=np.float32).reshape(6, 8), "v": np.linspace(0, 1, 9, dtype=np.float32)}
_NEW = {name: array + np.float32(0.25) for name, array in _STATE.items()}


@pytest.mark.parametrize("is_update", [False, True])
def test_a_manifest_damaged_at_both_ends_is_no_missing_one(is_update: bool) -> None:
    data = compress_update(_STATE, _NEW)[0] if is_update else compress(_STATE)
    begin, end = data.index(b'{"vvc_nnr":') + 1, data.index(b'"#":"')
    for first, last in itertools.product(range(begin, begin + 10), range(end, end + 5)):
        damaged = bytearray(data)
        damaged[first] ^= 4
        damaged[last] ^= 2
        with pytest.raises(BitstreamError, match=r"checksum|beginning"):
            apply_update(_STATE, bytes(damaged)) if is_update else decompress(bytes(damaged))


def test_any_text_but_a_manifest_is_damage_of_an_update() -> None:
    data = compress_update(_STATE, _NEW)[0]
    begin = data.index(b'{"vvc_nnr":')
    end = data.index(b'"}\0', begin) + 2
    with pytest.raises(BitstreamError, match="neither empty nor a manifest"):
        apply_update(_STATE, data[:begin] + b"x" * (end - begin) + data[end:])
    brief, after = compress_update(_STATE, _NEW, brief=True)
    assert apply_update(_STATE, brief).digest() == after.digest()


def test_foreign_texts_are_passed_over() -> None:
    units = [placed.unit for placed in read_units(compress(_STATE))]
    text = TopologyUnit(topology_data=b'{"model":"x","layers":[1]}\0')
    pieces = write_units([text if isinstance(unit, TopologyUnit) else unit for unit in units])
    assert list(decompress(b"".join(map(bytes, pieces)))) == list(_STATE)
