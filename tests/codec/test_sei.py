"""SEI messages put into byte streams, found and taken out, on streams made by hand and of real encoders."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_nal import CRA, DELIMITER, END_OF_SEQUENCE, FIRST_SLICE, HEADER, MD5, NEXT_SLICE, PPS, SPS, TRAIL, nal, sei

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.nal import nal_units, picture_units
from vvc_nnr.codec.sei import (
    SeiMessage,
    add_emulation_prevention,
    insert_sei,
    remove_sei,
    sei_messages,
    sei_nal_unit,
    standard_of,
    user_data,
)
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

DATA = Path(os.environ.get("VVC_NNR_DATA", "../shared/data"))
STREAMS = sorted([*DATA.glob("streams/*.266"), *DATA.glob("nnpf/*.266")])
IDR = 8
MARK = SeiMessage(5, b"sixteen bytes of" + bytes(40))
PLACES = ("once", "sequence", "irap", "picture")
SETS = nal(DELIMITER) + nal(SPS) + nal(PPS)
PICTURE = SETS + nal(IDR, FIRST_SLICE) + nal(IDR, NEXT_SLICE) + sei(b"\x00\x00" + MD5)
STREAM = PICTURE + nal(DELIMITER) + nal(CRA, FIRST_SLICE) + nal(DELIMITER) + nal(TRAIL, FIRST_SLICE) + PICTURE


def is_mark(message: SeiMessage) -> bool:
    return message == MARK


def kinds(stream: bytes) -> list[int]:
    return [unit.nal_unit_type for unit in nal_units(stream)]


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255])).map(bytes))
def test_nothing_looks_like_a_start_code_in_what_is_escaped(payload: bytes) -> None:
    escaped = add_emulation_prevention(payload + b"\x80")
    assert all(code not in escaped for code in (b"\x00\x00\x00", b"\x00\x00\x01", b"\x00\x00\x02"))


@given(st.integers(0, 1000), st.binary(max_size=700) | st.just(bytes(600)), st.booleans())
def test_a_message_comes_back_with_any_type_and_bytes(payload_type: int, payload: bytes, suffix: bool) -> None:
    message = SeiMessage(payload_type, payload)
    (found,) = sei_messages(insert_sei(nal(IDR, FIRST_SLICE), [message], suffix=suffix))
    assert (found.message, found.is_suffix, found.picture) == (message, suffix, 0)
    assert found.size_bytes == len(payload) + payload_type // 255 + len(payload) // 255 + 2


@pytest.mark.parametrize(("at", "pictures"), [*zip(PLACES, ([0], [0, 3], [0, 1, 3], [0, 1, 2, 3]), strict=True)])
@pytest.mark.parametrize("suffix", [False, True])
def test_at_which_pictures(at, pictures, suffix):
    placed = insert_sei(STREAM, [MARK], at=at, suffix=suffix)
    assert [found.picture for found in sei_messages(placed) if found.message == MARK] == pictures
    assert remove_sei(placed, is_mark) == STREAM
    assert len(picture_units(placed)) == 4


@pytest.mark.parametrize("suffix", [False, True])
def test_messages_have_the_temporal_layer_of_their_picture(suffix):
    stream = nal(IDR, FIRST_SLICE) + b"\x00\x00\x01\x00\x04" + FIRST_SLICE + b"\x00\x00\x01\x00\x02" + FIRST_SLICE
    placed = insert_sei(stream, [MARK], at="picture", suffix=suffix)
    assert [unit.temporal_id for unit in nal_units(placed)] == [0, 0, 3, 3, 1, 1]
    hevc = HEVC + b"\x00\x00\x01\x02\x03\xd0"
    placed = insert_sei(hevc, [MARK], at="picture", suffix=suffix, standard="hevc")
    headers = [part[1] & 7 for part in placed.split(b"\x00\x00\x01")[1:]]
    assert headers[-2:] == [3, 3]


def test_right_before_the_slices_or_right_behind_them():
    assert kinds(insert_sei(PICTURE, [MARK, MARK])) == [20, 15, 16, 23, 8, 8, 24]
    assert kinds(insert_sei(PICTURE, [MARK], suffix=True)) == [20, 15, 16, 8, 8, 24, 24]
    headed = nal(SPS) + nal(HEADER) + nal(CRA, NEXT_SLICE) + nal(CRA, NEXT_SLICE)
    assert kinds(insert_sei(headed, [MARK], at="irap")) == [15, 23, 19, 9, 9]
    assert kinds(insert_sei(headed, [MARK], at="irap", suffix=True)) == [15, 19, 9, 9, 24]


def test_messages_share_a_unit_as_far_as_the_standards_let_them():
    """Those of timing, fillers, active parameter sets and nested ones only with their like; the order stays."""
    types = (210, 5, 211, 203, 0, 130, 1, 3, 210, 133, 129, 5)
    messages = [SeiMessage(kind, bytes([kind, 0, 0, 1])) for kind in types]
    placed = insert_sei(nal(SPS) + nal(IDR, FIRST_SLICE), messages)
    found = sei_messages(placed)
    assert [each.message for each in found] == messages
    assert [len([*group]) for _, group in itertools.groupby(found, key=lambda each: each.offset_bytes)] == [
        3, 3, 1, 1, 1, 1, 1, 1,
    ]  # fmt: skip
    one = insert_sei(PICTURE, messages[:3])
    assert len(one) - len(PICTURE) == 7 + 3 * (2 + 4 + 1)  # a 3 behind the zeros of each
    assert remove_sei(one, lambda message: message in messages) == PICTURE
    assert [each.message for each in sei_messages(remove_sei(one, lambda message: message.payload_type == 5))][:2] == [
        messages[0],
        messages[2],
    ]


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("suffix", [False, True])
def test_messages_are_removed_where_they_would_be_put(at, suffix):
    pictures = b"".join(nal(kind, FIRST_SLICE) for kind in (IDR, 0, 9, 0, IDR))
    everywhere = insert_sei(pictures, [MARK], at="picture", suffix=suffix)
    left = remove_sei(everywhere, lambda message: message == MARK, at=at)
    there, put = ({each.picture for each in sei_messages(each)} for each in (left, insert_sei(pictures, [MARK], at=at)))
    assert there == set(range(5)) - put


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("suffix", [False, True])
def test_more_messages_at_the_first_picture(at, suffix):
    first = SeiMessage(5, b"sixteen bytes of" + b"more")
    placed = insert_sei(STREAM, [MARK], at=at, suffix=suffix, at_first=[first])
    found = [each for each in sei_messages(placed) if each.message in (MARK, first)]
    assert [(each.message, each.picture) for each in found[:2]] == [(MARK, 0), (first, 0)]
    assert len({each.offset_bytes for each in found[:2]}) == 1
    assert all(each.message == MARK for each in found[2:])
    assert remove_sei(placed, lambda message: message == first) == insert_sei(STREAM, [MARK], at=at, suffix=suffix)


def test_a_sequence_begins_behind_the_end_of_one():
    stream = PICTURE + nal(END_OF_SEQUENCE) + SETS + nal(CRA, FIRST_SLICE)
    assert [found.picture for found in sei_messages(insert_sei(stream, [MARK])) if found.message == MARK] == [0, 1]


@given(st.lists(st.integers(0, 3), min_size=5, max_size=5), st.sampled_from(PLACES), st.booleans())
def test_zeros_between_units_stay_where_they_are(zeros, at, suffix):
    units = (nal(SPS), nal(IDR, FIRST_SLICE), nal(IDR, FIRST_SLICE), nal(TRAIL, FIRST_SLICE), b"")
    stream = b"".join(bytes(n) + unit for n, unit in zip(zeros, units, strict=True))
    assert remove_sei(insert_sei(stream, [MARK, MARK], at=at, suffix=suffix), is_mark) == stream


def test_other_messages_of_a_unit_stay():
    one, two = (sei_nal_unit([SeiMessage(kind, b"\x00\x00\x01")])[2:-1] for kind in (137, 144))
    both = b"\x00\x00\x01\x00\xb9" + one + two + b"\x80"
    stream = nal(SPS) + both + nal(IDR, FIRST_SLICE)
    assert [found.message.payload_type for found in sei_messages(stream)] == [137, 144]
    left = remove_sei(stream, lambda message: message.payload_type == 137)
    assert left == nal(SPS) + b"\x00\x00\x01\x00\xb9" + two + b"\x80" + nal(IDR, FIRST_SLICE)
    assert remove_sei(stream, lambda _: True) == nal(SPS) + nal(IDR, FIRST_SLICE)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\x84\x05abcd\x80", "5 bytes, and 4 are left"),
        (b"\x84\xff\xff\x80", "ends in the header of a message"),
        (b"\xff\xff\xff\x80", "ends in the header of a message"),
        (b"\x84\x80", "ends in the header of a message"),
        (b"\x84\x01a\x40", "must end with 0x80"),
        (b"", "must end with 0x80"),
    ],
)
def test_a_wrong_size_never_reads_past_its_unit(payload, message):
    stream = nal(23, payload) + nal(IDR, FIRST_SLICE)
    for read in (sei_messages, lambda data: remove_sei(data, is_mark)):
        with pytest.raises(BitstreamError, match=message):
            read(stream)


def test_what_is_no_stream_of_one_layer():
    for read in (sei_messages, lambda data: insert_sei(data, [MARK]), lambda data: remove_sei(data, is_mark)):
        with pytest.raises(BitstreamError, match="no start code"):
            read(b"RIFF")
        with pytest.raises(UnsupportedError, match="layer 1"):
            read(nal(SPS, layer=1))
        with pytest.raises(UnsupportedError, match="give it the suffix of its standard"):
            read(b"\x00\x00\x01\x67\x64\x00")
    with pytest.raises(BitstreamError, match="holds no picture"):
        insert_sei(nal(SPS), [MARK])


def test_what_cannot_be_put_in():
    with pytest.raises(InputError, match="place of SEI messages 'never'"):
        insert_sei(PICTURE, [MARK], at="never")
    with pytest.raises(InputError, match="payload type -1"):
        insert_sei(PICTURE, [SeiMessage(-1, b"")])
    with pytest.raises(InputError, match="UUID of 3 bytes"):
        user_data(b"abc", b"")
    with pytest.raises(InputError, match="SEI behind the slices"):
        insert_sei(b"\x00\x00\x01\x65\x88", [MARK], suffix=True, standard="avc")


def test_standards_by_suffix():
    assert [standard_of(Path(f"x{suffix}")) for suffix in (".266", ".H265", ".avc")] == ["vvc", "hevc", "avc"]
    with pytest.raises(InputError, match=r"suffix '\.mp4' of a video stream: must be one of \.266, "):
        standard_of(Path("x.mp4"))


HEVC = b"".join(b"\x00\x00\x01" + unit for unit in (b"\x40\x01a", b"\x26\x01\xaf", b"\x26\x01\x2f", b"\x02\x01\xd0"))
AVC = b"".join(b"\x00\x00\x01" + unit for unit in (b"\x67a", b"\x68b", b"\x65\x88", b"\x65\x2f", b"\x41\x9a"))


@pytest.mark.parametrize(("standard", "stream"), [("hevc", HEVC), ("avc", AVC)])
@pytest.mark.parametrize("at", PLACES)
def test_hevc_and_avc(standard, stream, at):
    placed = insert_sei(stream, [MARK], at=at, standard=standard)
    found = sei_messages(placed, standard)
    assert [(each.message, each.picture) for each in found] == [(MARK, n) for n in range(2 if at == "picture" else 1)]
    assert remove_sei(placed, is_mark, standard) == stream


@pytest.mark.parametrize("layer", [b"\x41\x01a", b"\x40\x09a"])
def test_layers_of_hevc(layer):
    with pytest.raises(UnsupportedError, match="layer"):
        sei_messages(b"\x00\x00\x01" + layer, "hevc")


def test_pictures_of_a_real_stream_stay_what_they_are(real_pictures):
    stream = VvcEncoder(VvcOptions(37, n_threads=1)).encode(real_pictures(5)).stream
    decoded = [frame.tobytes() for frame in decode_vvc(stream)]
    for at, suffix in itertools.product(PLACES, (False, True)):
        placed = insert_sei(stream, [MARK, MARK], at=at, suffix=suffix)
        assert remove_sei(placed, is_mark) == stream
        if at == "picture":
            assert [frame.tobytes() for frame in decode_vvc(placed)] == decoded


@pytest.mark.skipif(not STREAMS, reason="the streams of VTM and libvvenc are not here")
@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_streams_of_real_encoders_come_back(path):
    stream = path.read_bytes()
    for at, suffix in itertools.product(PLACES, (False, True)):
        placed = insert_sei(stream, [MARK, MARK], at=at, suffix=suffix)
        assert remove_sei(placed, is_mark) == stream
        assert len(sei_messages(placed)) > len(sei_messages(stream))
