"""NAL units and pictures of VVC streams, on streams made by hand; those of a real encoder are in test_vvc.py."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vvc_nnr.codec.nal import INTRA_TYPES, nal_units, picture_units, remove_emulation_prevention
from vvc_nnr.codec.sei import sei_messages, standard_of
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

FIRST_SLICE, NEXT_SLICE = b"\xc4\x11\x22", b"\x44\x11\x22"
CRA, TRAIL, SPS, PPS, HEADER, DELIMITER, PREFIX_SEI, SEI = 9, 0, 15, 16, 19, 20, 23, 24
RASL, END_OF_SEQUENCE, END_OF_BITSTREAM = 3, 21, 22
MD5 = bytes(range(16, 64))
DIGESTS = (MD5[:16], MD5[16:32], MD5[32:])


def protected(rbsp):
    """Clause 7.4.2: an emulation prevention byte before any byte up to 3 that follows two zeros."""
    out = bytearray()
    for byte in rbsp:
        if out[-2:] == b"\x00\x00" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def nal(kind, payload=b"\x80", layer=0, temporal_id_plus1=1):
    return b"\x00\x00\x01" + bytes([layer, kind << 3 | temporal_id_plus1]) + payload


def sei(body, payload_type=132, size=None):
    return nal(SEI, protected(bytes([payload_type, len(body) if size is None else size]) + body + b"\x80"))


MD5_SEI = sei(b"\x00\x00" + MD5)
PICTURE = nal(CRA, FIRST_SLICE)
UNIT = nal(DELIMITER) + nal(SPS) + nal(PPS) + PICTURE + MD5_SEI


def test_units_with_their_place_type_and_payload():
    stream = b"\x00" + nal(SPS, b"abc") + b"\x00\x00" + nal(CRA, b"\xc4", temporal_id_plus1=3) + b"\x00"
    units = list(nal_units(stream))
    assert [(u.nal_unit_type, u.payload) for u in units] == [(SPS, b"abc"), (CRA, b"\xc4")]
    assert [stream[u.offset_bytes - 3 : u.offset_bytes] for u in units] == [b"\x00\x00\x01"] * 2


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00", b"RIFF....", b"\x01" + nal(SPS)])
def test_no_start_code_at_the_beginning(data):
    with pytest.raises(BitstreamError, match="no start code"):
        list(nal_units(data))


@pytest.mark.parametrize("header", [b"", b"\x00", b"\x81\x79", b"\x00\x78", b"\x80\x79"])
def test_headers_that_break_the_format(header):
    with pytest.raises(BitstreamError, match=r"nal_unit_header at byte \d+"):
        list(nal_units(nal(SPS) + b"\x00\x00\x01" + header))


@pytest.mark.parametrize("layer", [1, 63])
def test_other_layers_are_refused(layer):
    with pytest.raises(UnsupportedError, match="layer"):
        list(nal_units(nal(SPS, layer=layer)))


@pytest.mark.parametrize("unit", [b"\x67\x64\x00\x0a", b"\x40\x01\x0c\x01"], ids=["H.264", "HEVC"])
def test_streams_of_other_codecs_are_called_so(unit):
    with pytest.raises(UnsupportedError, match=r"at byte 4 is 1, as in a stream of H\.264 or HEVC; a VVC stream must"):
        list(nal_units(b"\x00\x00\x00\x01" + unit))


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255])).map(bytes))
def test_emulation_prevention_is_undone(rbsp):
    assert remove_emulation_prevention(protected(rbsp)) == rbsp


def test_pictures_with_their_hashes():
    stream = UNIT + UNIT
    pictures = picture_units(stream)
    assert [p.md5 for p in pictures] == [DIGESTS, DIGESTS]
    assert [p.begin_bytes for p in pictures] == [0, len(UNIT)]
    assert [stream[p.offset_bytes + 2 :][:3] for p in pictures] == [FIRST_SLICE] * 2
    assert all(p.nal_unit_type in INTRA_TYPES for p in pictures)


def test_a_picture_may_have_several_slices_and_a_header_of_its_own():
    sliced = PICTURE + nal(PPS) + nal(CRA, NEXT_SLICE) + MD5_SEI
    headed = nal(HEADER) + nal(TRAIL, NEXT_SLICE) + nal(TRAIL, NEXT_SLICE) + MD5_SEI
    pictures = picture_units(sliced + headed + sliced)
    assert [p.md5 for p in pictures] == [DIGESTS] * 3
    assert [p.nal_unit_type in INTRA_TYPES for p in pictures] == [True, False, True]
    assert [p.begin_bytes for p in pictures] == [0, len(sliced), len(sliced + headed)]


def test_streams_without_hashes_and_without_delimiters():
    assert [p.md5 for p in picture_units(nal(SPS) + PICTURE + PICTURE)] == [(), ()]
    assert picture_units(b"\x00\x00\x01\x00\xa9") == []


def test_one_hash_for_one_plane():
    assert picture_units(PICTURE + sei(b"\x00\x80" + MD5[:16]))[0].md5 == DIGESTS[:1]


@pytest.mark.parametrize("body", [b"\x01\x00" + bytes(6), b"\x02\x00" + bytes(12), b"\x02\x80" + bytes(4)])
def test_hashes_of_other_types_are_passed_over(body):
    assert picture_units(PICTURE + sei(body))[0].md5 == ()


@pytest.mark.parametrize(
    ("body", "kind", "size"), [(b"\x01\x00", "crc", 2), (b"\x02\x00", "checksum", 4), (b"\x00\x00", "md5", 16)]
)
def test_hashes_of_all_types_are_kept(body, kind, size):
    values = bytes(range(3 * size))
    (picture,) = picture_units(PICTURE + sei(body + values))
    assert picture.hash_type == kind
    assert picture.digests == tuple(values[i * size : (i + 1) * size] for i in range(3))


@pytest.mark.parametrize("end", [nal(END_OF_SEQUENCE, b""), nal(END_OF_SEQUENCE, b"") + nal(END_OF_BITSTREAM, b"")])
def test_ends_of_sequences(end):
    pictures = picture_units(UNIT + end + UNIT + UNIT + end)
    assert [p.is_first for p in pictures] == [True, True, False]
    assert [p.has_sps for p in pictures] == [True] * 3
    with pytest.raises(BitstreamError, match="a slice of no picture"):
        picture_units(PICTURE + end + nal(CRA, NEXT_SLICE))
    with pytest.raises(BitstreamError, match="access unit without a picture"):
        picture_units(UNIT + nal(SPS) + end + UNIT)


@pytest.mark.parametrize("kind", [4, 5, 6, 11])
def test_slices_of_reserved_types_are_passed_over(kind):
    assert len(picture_units(UNIT + nal(kind, FIRST_SLICE) + UNIT)) == 2


def test_the_type_of_a_picture_with_a_header_of_its_own():
    (picture,) = picture_units(nal(HEADER) + nal(RASL, NEXT_SLICE) + nal(CRA, NEXT_SLICE))
    assert picture.nal_unit_type == RASL


def test_hash_behind_other_messages_of_one_sei():
    long_type = b"\xff\x05" + b"\x02ab"
    long_size = b"\x04" + b"\xff\x01" + bytes(256)
    payload = protected(long_type + long_size + bytes([132, 50]) + b"\x00\x00" + MD5 + b"\x80")
    assert picture_units(PICTURE + nal(SEI, payload))[0].md5 == DIGESTS


@pytest.mark.parametrize("digest", [bytes(16), b"\x00\x00\x03" * 5 + b"\x01", b"\x00\x00\x01" * 5 + b"\x80"])
def test_digests_that_look_like_start_codes(digest):
    payload = protected(bytes([132, 50]) + b"\x00\x00" + digest * 3 + b"\x80")
    assert picture_units(PICTURE + nal(SEI, payload) + PICTURE + nal(SEI, payload))[1].md5 == (digest,) * 3


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (sei(b"\x00\x00" + MD5[:-1]), "49 bytes for 3 hashes"),
        (sei(b"\x00\x00" + MD5 + b"x"), "51 bytes for 3 hashes"),
        (sei(b"\x00\x80" + MD5), "50 bytes for 1 hashes"),
        (sei(b"\x01\x00" + MD5), "50 bytes for 3 hashes"),
        (sei(b"\x03\x00" + MD5), "unknown type"),
        (sei(b"\x00"), "unknown type"),
        (sei(b"\x00\x00" + MD5, size=60), "cut short"),
        (sei(b"\x00\x00" + MD5, size=255), "cut short"),
    ],
)
def test_damaged_hashes(message, reason):
    with pytest.raises(BitstreamError, match=reason):
        picture_units(PICTURE + message)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (MD5_SEI + UNIT, "hash of no picture"),
        (UNIT + MD5_SEI, "hash of no picture"),
        (PICTURE + nal(PPS) + MD5_SEI, "hash of no picture"),
        (UNIT + nal(DELIMITER) + UNIT, "access unit without a picture"),
        (UNIT + nal(SPS) + UNIT, "access unit without a picture"),
        (UNIT + nal(DELIMITER), "ends before the picture"),
        (UNIT + nal(DELIMITER) + nal(PREFIX_SEI), "ends before the picture"),
        (nal(SPS) + nal(PPS), "ends before the picture"),
        (nal(SPS) + nal(CRA, NEXT_SLICE), "slice of no picture"),
        (UNIT + nal(CRA, NEXT_SLICE), "slice of no picture"),
        (PICTURE + nal(DELIMITER) + nal(CRA, NEXT_SLICE), "slice of no picture"),
    ],
)
def test_lost_pictures_are_noticed(stream, reason):
    with pytest.raises(BitstreamError, match=reason):
        picture_units(stream)


def test_each_lost_slice_is_noticed():
    parts = [nal(DELIMITER), nal(SPS), PICTURE, MD5_SEI]
    for lost in ([2], [0, 2], [1, 2], [2, 3], [1, 2, 3]):
        damaged = b"".join(part for i, part in enumerate(parts) if i not in lost)
        for before, after in itertools.product((b"", b"".join(parts)), repeat=2):
            with pytest.raises(BitstreamError):
                picture_units(before + damaged + after)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([UNIT, PICTURE, MD5_SEI, nal(HEADER), nal(CRA, NEXT_SLICE), nal(DELIMITER)]),
        ),
        max_size=8,
    ).map(b"".join)
)
def test_any_bytes_give_pictures_in_order_or_one_of_two_errors(stream):
    with contextlib.suppress(BitstreamError, UnsupportedError):
        pictures = picture_units(stream)
        begins = [p.begin_bytes for p in pictures]
        assert begins == sorted(set(begins))
        assert all(p.begin_bytes < p.offset_bytes for p in pictures)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x20ftypisom", "an MP4 or QuickTime file"),
        (b"\x1a\x45\xdf\xa3\xa3", "a Matroska file"),
        (b"\0\0\1\xba\x44", "an MPEG program stream"),
        (b"FLV\1\1\0\0\0\x09", "a Flash video"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI file"),
    ],
)
def test_a_container_is_told_with_the_way_to_its_stream(head, kind):
    decoder = "-c:v vvc " if kind == "an AVI file" else ""  # by its name of the codec there FFmpeg does not know it
    with pytest.raises(
        BitstreamError, match=rf"but {kind}: take the stream out of it \(ffmpeg {decoder}-i FILE -c copy -f vvc "
    ):
        list(nal_units(head + bytes(20)))
    with pytest.raises(
        BitstreamError, match=rf"but {kind}: take the stream out of it \(ffmpeg -i FILE -c copy -f hevc "
    ):
        sei_messages(head + bytes(20), "hevc")
    with pytest.raises(InputError, match=r"out of a container a stream is taken by ffmpeg -i FILE -c copy -f vvc out"):
        standard_of(Path("x.mp4"))


@pytest.mark.parametrize(("first", "n_bytes"), [(0, 188), (4, 192), (0, 204)])
def test_a_transport_stream_is_told_with_the_way_to_its_stream(first, n_bytes, tmp_path):
    """Of VVC without delimiters, which FFmpeg's multiplexer repeats."""
    stream = (bytes(first) + b"\x47").ljust(n_bytes, b"\xff") * 8
    way = r"an MPEG transport stream: .*\(ffmpeg -i FILE -c copy -bsf:v filter_units=remove_types=20 -f vvc out.266\)"
    with pytest.raises(BitstreamError, match=way):
        list(nal_units(stream))
    with pytest.raises(BitstreamError, match=r"an MPEG transport stream: .*\(ffmpeg -i FILE -c copy -f h264 out.264\)"):
        sei_messages(stream, "avc")
    (tmp_path / "x.ts").write_bytes(stream)
    with pytest.raises(InputError, match="filter_units=remove_types=20"):
        standard_of(tmp_path / "x.ts")
