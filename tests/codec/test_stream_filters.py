"""Which filter runs on which picture, by messages put into streams with pictures of known order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_nal import CRA, SPS, TRAIL, nal

from vvc_nnr.codec.nnpf import NNPFA, NNPFC, NnpfActivation, NnpfCharacteristics
from vvc_nnr.codec.sei import SeiMessage, sei_messages, sei_nal_unit, user_data
from vvc_nnr.codec.stream_filters import (
    DECISIONS_UUID,
    SETTINGS_UUID,
    FilterDecisions,
    FilterSettings,
    filter_number,
    filters_by_picture,
    free_filter_id,
    listed_messages,
    parse_filter_message,
)
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

BASE = NnpfCharacteristics(id=1, payload_byte=b"base")
UPDATE = NnpfCharacteristics(id=1, base_flag=False, payload_byte=b"update")
ON = NnpfActivation(target_id=1, persistence_flag=True, target_base_flag=True)
ONCE = NnpfActivation(target_id=1, target_base_flag=True)
OFF = NnpfActivation(target_id=1, cancel_flag=True)
KEPT = FilterSettings(filter_id=1, is_kept=True, qp=30)


def stream_of(*pictures):
    """A stream of pictures in decoding order: (sequence, order count, contents of their messages)."""
    data = nal(SPS)
    for sequence, poc, *contents in pictures:
        data += b"".join(b"\x00\x00\x01" + sei_nal_unit([content.message()]) for content in contents)
        data += nal(CRA if poc == 0 else TRAIL, b"\xc4" + bytes([sequence + 1]))
    known = [SimpleNamespace(sequence=sequence, poc=poc) for sequence, poc, *_ in pictures]
    return SimpleNamespace(data=data, pictures=known)


def running(*pictures):
    return ["".join("u" if f.update else "b" for f in found) for found in filters_by_picture(stream_of(*pictures))]


def test_a_filter_runs_from_its_activation_on_in_the_order_of_output():
    assert running((0, 0, BASE), (0, 4, ON), (0, 2), (0, 6)) == ["", "b", "", "b"]
    assert running((0, 0, BASE, ON), (0, 4, OFF), (0, 2), (0, 6)) == ["b", "", "b", ""]
    assert running((0, 0, BASE, ONCE), (0, 1)) == ["b", ""]


def test_a_sequence_that_begins_ends_it_unless_it_is_kept():
    assert running((0, 0, BASE, ON), (0, 1), (1, 0), (1, 1)) == ["b", "b", "", ""]
    assert running((0, 0, BASE, ON, KEPT), (0, 1), (1, 0), (1, 1)) == ["b", "b", "b", "b"]
    assert running((0, 0, BASE, ON, KEPT), (1, 0, OFF), (1, 1)) == ["b", "", ""]


def test_updates_lie_over_the_base_one_at_a_time():
    on_update = NnpfActivation(target_id=1, persistence_flag=True)
    second = NnpfCharacteristics(id=1, base_flag=False, payload_byte=b"second")
    stream = stream_of((0, 0, BASE, ON), (0, 1, UPDATE, on_update), (0, 2, BASE), (0, 3, second), (0, 4, ON))
    found = filters_by_picture(stream)
    assert [each[0].update and each[0].update.payload_byte for each in found] == [
        None, b"update", b"update", b"second", None,
    ]  # fmt: skip
    assert all(each[0].base == BASE for each in found)


def test_several_filters_and_what_belongs_to_each():
    other = NnpfCharacteristics(id=2, payload_byte=b"other")
    on_other = NnpfActivation(target_id=2, persistence_flag=True, target_base_flag=True)
    decisions = FilterDecisions(2, b"bytes")
    ((first, second),) = filters_by_picture(stream_of((0, 0, BASE, other, KEPT, decisions, ON, on_other)))
    assert (first.id, first.settings, first.decisions) == (1, KEPT, None)
    assert (second.id, second.settings, second.decisions) == (2, None, decisions)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([ON], "filter 1 runs at picture 0, and was not sent"),
        ([UPDATE], "an update of filter 1, whose base was not sent"),
        ([BASE, NnpfActivation(target_id=1)], "an update of filter 1 runs at picture 0, and was not sent"),
    ],
)
def test_what_is_not_there_cannot_run(contents, message):
    with pytest.raises(BitstreamError, match=message):
        filters_by_picture(stream_of((0, 0, *contents)))


def test_what_is_wrong_with_other_filters_is_passed_over_where_one_is_named():
    """VTM's default settings run an update that is not there, and bits are missing where its purpose is 4."""
    other = NnpfCharacteristics(id=2, mode_idc=1, uri="a", tag_uri="b")
    damaged = SimpleNamespace(message=lambda: SeiMessage(NNPFC, other.message().payload[:3]))
    on_update = NnpfActivation(target_id=2)
    for wrong in ((on_update,), (damaged, on_update)):
        stream = stream_of((0, 0, BASE, ON, *wrong))
        ((found,),) = filters_by_picture(stream, 1)
        assert found.base == BASE
        for named in (None, 2):
            with pytest.raises(BitstreamError):
                filters_by_picture(stream, named)
    assert filter_number(damaged.message()) == 2


def test_a_damaged_message_matters_where_its_filter_runs():
    whole = NnpfCharacteristics(id=2, mode_idc=1, uri="a", tag_uri="b").message().payload
    damaged = SimpleNamespace(message=lambda: SeiMessage(NNPFC, whole[:3]))
    ((found,),) = filters_by_picture(stream_of((0, 0, BASE, damaged, ON)))
    assert found.base == BASE
    on_other = NnpfActivation(target_id=2, persistence_flag=True, target_base_flag=True)
    of_no_number = SimpleNamespace(message=lambda: SeiMessage(NNPFA, b""))
    for activation in (on_other, of_no_number):
        with pytest.raises(BitstreamError):
            filters_by_picture(stream_of((0, 0, BASE, damaged, ON), (0, 1, activation)))


@given(
    st.builds(
        FilterSettings,
        filter_id=st.integers(0, 2**32 - 2),
        is_kept=st.booleans(),
        qp=st.none() | st.integers(0, 63),
        precision=st.sampled_from([None, "float32", "bfloat16", "int8"]),
        network_sha256=st.none() | st.binary(min_size=32, max_size=32),
        output_md5=st.none() | st.binary(min_size=16, max_size=16),
    ),
    st.binary(max_size=30),
)
def test_settings_and_decisions_come_back(settings, data):
    assert parse_filter_message(settings.message()) == settings
    decisions = FilterDecisions(settings.filter_id, data)
    assert parse_filter_message(decisions.message()) == decisions


def test_user_data_of_others_and_of_later_versions():
    assert parse_filter_message(user_data(bytes(16), b"x")) is None
    assert parse_filter_message(SeiMessage(5, b"short")) is None
    assert parse_filter_message(SeiMessage(132, SETTINGS_UUID)) is None
    for uuid, version in ((SETTINGS_UUID, 2), (DECISIONS_UUID, 1)):
        with pytest.raises(UnsupportedError, match=f"of version 3: this program reads version {version}"):
            parse_filter_message(user_data(uuid, b"\x03\x80"))
        with pytest.raises(BitstreamError):
            parse_filter_message(user_data(uuid, b""))
    whole = FilterSettings(filter_id=1, network_sha256=bytes(32)).message().payload
    for damaged in (whole[:-1], whole + b"x"):
        with pytest.raises(BitstreamError):
            parse_filter_message(SeiMessage(5, damaged))


@pytest.mark.parametrize(("changes", "message"), [({"qp": 64}, "qp: 64"), ({"output_md5": b"x"}, "pictures: 1 bytes")])
def test_settings_that_cannot_be_written(changes, message):
    with pytest.raises(InputError, match=message):
        FilterSettings(filter_id=1, **changes).message()


def test_messages_that_are_not_read_say_why_and_numbers_that_are_free():
    stream = stream_of((0, 0, BASE, FilterSettings(filter_id=3)))
    stream = nal(SPS) + b"\x00\x00\x01" + sei_nal_unit([SeiMessage(210, b"\x00")]) + stream.data
    listed = listed_messages(sei_messages(stream))
    assert [each.filter_id for each in listed] == [None, 1, 3]
    assert "nnpfc_purpose" in listed[0].problem
    assert free_filter_id(listed) == 2
    assert free_filter_id([]) == 1


@pytest.mark.parametrize("number", [256, 511, 1 << 31, 2**32 - 2])
def test_filters_whose_number_is_reserved_are_ignored_and_listed_as_that(number):
    base = NnpfCharacteristics(id=number, payload_byte=b"base")
    on = NnpfActivation(target_id=number, persistence_flag=True, target_base_flag=True)
    stream = stream_of((0, 0, base, FilterSettings(filter_id=number), on, BASE, ON))
    ((found,),) = filters_by_picture(stream)
    assert found.base == BASE
    assert filters_by_picture(stream, number) == ((),)
    listed = listed_messages(sei_messages(stream.data))
    assert [f"reserves the number {number}" in each.problem for each in listed] == [True] * 3 + [False] * 2
    assert listed[0].content == base


def test_the_lowest_free_number_is_none_that_is_reserved():
    taken = [NnpfCharacteristics(id=number) for number in range(1, 256)]
    assert free_filter_id(listed_messages(sei_messages(stream_of((0, 0, *taken)).data))) == 512


@given(st.integers(0, 2**32 - 2), st.binary(max_size=20))
def test_the_number_of_a_filter_is_read_from_any_message(number, data):
    contents = (
        NnpfCharacteristics(id=number, payload_byte=data),
        NnpfActivation(target_id=number),
        FilterSettings(filter_id=number),
        FilterDecisions(number, data),
    )
    assert [filter_number(content.message()) for content in contents] == [number] * 4
    assert filter_number(SeiMessage(132, data)) is None
    assert filter_number(SeiMessage(NNPFC, data[:2])) is None
