from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.bitstream.bits import MAX_PREFIX_BITS, BitReader, BitWriter
from vvc_nnr.errors import BitstreamError, InputError


def written(*calls: tuple[str, object, int]) -> bytes:
    writer = BitWriter()
    for name, value, argument in calls:
        getattr(writer, name)(value, argument, "field")
    writer.align()
    return writer.getvalue()


@pytest.mark.parametrize(
    ("name", "value", "argument", "bits"),
    [
        ("u", 5, 4, "0101"),
        ("i", -1, 3, "111"),
        ("i", -4096, 13, "1000000000000"),
        ("ue", 0, 0, "1"),
        ("ue", 1, 0, "010"),
        ("ue", 2, 0, "011"),
        ("ue", 3, 0, "00100"),
        ("ue", 0, 1, "10"),
        ("ue", 2, 1, "0100"),
        ("ue", 127, 7, "11111111"),
        ("ue", 128, 7, "0100000000"),
        ("ie", 1, 0, "010"),
        ("ie", -1, 0, "011"),
        ("ie", 0, 0, "1"),
    ],
)
def test_descriptors_bit_by_bit(name, value, argument, bits):
    padding = "1" + "0" * (-(len(bits) + 1) % 8)
    data = int(bits + padding, 2).to_bytes((len(bits) + len(padding)) // 8, "big")
    assert written((name, value, argument)) == data
    reader = BitReader(data)
    assert getattr(reader, name)(argument, "field") == value
    assert reader.position_bits == len(bits)


@given(
    fields=st.lists(
        st.one_of(
            st.integers(0, 64).flatmap(lambda n: st.tuples(st.just("u"), st.integers(0, 2**n - 1), st.just(n))),
            st.integers(1, 64).flatmap(
                lambda n: st.tuples(st.just("i"), st.integers(-(2 ** (n - 1)), 2 ** (n - 1) - 1), st.just(n))
            ),
            st.tuples(st.just("ue"), st.integers(0, 2**40), st.integers(0, 15)),
            st.tuples(st.just("ie"), st.integers(-(2**39), 2**39), st.integers(0, 15)),
        )
    )
)
def test_any_row_of_numbers_comes_back(fields):
    data = written(*fields)
    reader = BitReader(data)
    assert [getattr(reader, name)(argument, "field") for name, _, argument in fields] == [v for _, v, _ in fields]
    reader.align("end")
    assert reader.remaining_bits == 0


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=600))
def test_text_comes_back(text):
    writer = BitWriter()
    writer.st(text, "name")
    reader = BitReader(writer.getvalue())
    assert reader.st("name") == text
    assert reader.remaining_bits == 0


@pytest.mark.parametrize("n_bits_before", [0, 3])
def test_floats_are_little_endian_and_may_start_anywhere(n_bits_before):
    writer = BitWriter()
    writer.u(0, n_bits_before, "before")
    writer.flt(-1.5, "value")
    writer.align()
    data = writer.getvalue()
    if not n_bits_before:
        assert data[:4] == struct.pack("<f", -1.5)
    reader = BitReader(data)
    reader.u(n_bits_before, "before")
    assert reader.flt("value") == -1.5


def test_padding_is_never_empty():
    writer = BitWriter()
    writer.align()
    writer.u(1, 7, "seven")
    writer.align()
    assert writer.getvalue() == b"\x80\x03"
    reader = BitReader(b"\x00\xff", 0)
    reader.align("first")
    assert reader.position_bits == 8


@pytest.mark.parametrize(
    ("name", "value", "argument"),
    [
        ("u", 16, 4),
        ("u", -1, 4),
        ("i", 4, 3),
        ("i", -5, 3),
        ("ue", -1, 3),
        ("ue", 2 ** (MAX_PREFIX_BITS + 4), 3),
    ],
)
def test_a_value_that_does_not_fit_names_its_field(name, value, argument):
    with pytest.raises(InputError, match="field: "):
        written((name, value, argument))


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_cannot_be_written(text):
    with pytest.raises(InputError, match="name"):
        BitWriter().st(text, "name")


def test_a_float_that_is_too_large():
    with pytest.raises(InputError, match="accuracy"):
        BitWriter().flt(1e300, "accuracy")


def test_the_largest_number_of_an_exp_golomb_code():
    largest = 2 ** (MAX_PREFIX_BITS + 4) - 2**3 - 1
    assert BitReader(written(("ue", largest, 3))).ue(3, "field") == largest


@pytest.mark.parametrize(
    ("data", "read", "field", "offset"),
    [
        (b"\x00", lambda r: r.u(9, "nine"), "nine", 0),
        (b"\x00" * 40, lambda r: r.ue(0, "zeros"), "zeros", 5),
        (b"\x01\x00", lambda r: (r.u(8, "a"), r.ue(3, "short")), "short", 1),
        (b"abc", lambda r: r.st("name"), "name", 0),
        (b"a\xff\0", lambda r: r.st("name"), "name", 0),
        (b"ab\0", lambda r: (r.u(1, "a"), r.st("name")), "name", 0),
        (b"abc", lambda r: r.flt("value"), "value", 0),
        (b"", lambda r: r.align("end"), "end", 0),
        (b"", lambda r: r.flag("flag"), "flag", 0),
    ],
)
def test_damage_gives_field_and_offset(data, read, field, offset):
    with pytest.raises(BitstreamError) as caught:
        read(BitReader(data))
    assert (caught.value.field, caught.value.offset_bytes) == (field, offset)


def test_a_reader_stays_inside_its_part():
    reader = BitReader(b"abc\0def\0", 4, 7)
    with pytest.raises(BitstreamError, match="no terminating zero"):
        reader.st("name")
    assert bytes(reader.rest()) == b"def"
    with pytest.raises(BitstreamError) as caught:
        reader.u(1, "more")
    assert caught.value.offset_bytes == 7


def test_wrong_use_is_not_taken_for_damage():
    reader = BitReader(b"ab")
    reader.u(1, "bit")
    with pytest.raises(ValueError, match="begins no byte"):
        reader.rest()
    writer = BitWriter()
    writer.u(1, 1, "bit")
    with pytest.raises(ValueError, match="begins no byte"):
        writer.getvalue()
    with pytest.raises(ValueError, match="begins no byte"):
        writer.raw(b"a")
    with pytest.raises(ValueError, match="of a buffer"):
        BitReader(b"ab", 2, 1)
