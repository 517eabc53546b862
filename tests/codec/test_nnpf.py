"""The messages of neural-network post-filters: written, read, refused; and as VTM writes them."""

from __future__ import annotations

import os
import re
from dataclasses import fields, replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.codec.nnpf import (
    MODE_NNC,
    MODE_URI,
    NNC_TAG_URI,
    NNPFA,
    NNPFC,
    Bits,
    NnpfActivation,
    NnpfCharacteristics,
    parse_nnpf,
    present_fields,
)
from vvc_nnr.codec.sei import SeiMessage, sei_messages
from vvc_nnr.errors import BitstreamError, InputError

DATA = Path(os.environ.get("VVC_NNR_DATA", "../shared/data"))
NUMBERS = st.integers(0, 3) | st.integers(0, 2**32 - 2)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


def drawn_characteristics(random: Random) -> NnpfCharacteristics:
    """A message all of whose fields have values, and then only those that the others call for."""
    values = {}
    for field in fields(NnpfCharacteristics):
        match field.default:
            case bool():
                values[field.name] = random.random() < 0.7
            case int():
                values[field.name] = random.choice((0, 1, 1, 2, 3, 4))
            case str():
                values[field.name] = random.choice(("", "tag:x", "ä€😀"))
            case bytes():
                values[field.name] = random.randbytes(random.randrange(9))
    purpose = random.choice((0, 1, random.randrange(256)))
    n_more = random.randrange(3)
    values |= {
        "purpose": purpose,
        "num_input_pics_minus1": n_more,
        "input_pic_filtering_flag": tuple(random.random() < 0.5 for _ in range(n_more + 1)),
        "interpolated_pics": tuple(random.randrange(9) for _ in range(n_more)),
        "spatial_extrapolation_offsets": tuple(random.randrange(-9, 9) for _ in range(4)),
        "out_colour_format_idc": random.randrange(4),
        "parameter_type_idc": random.randrange(3),
        "log2_parameter_bit_length_minus3": random.randrange(4),
        "scan_type_idc": random.randrange(4),
        "for_human_viewing_idc": random.randrange(4),
        "for_machine_analysis_idc": random.randrange(4),
        "auxiliary_inp_idc": random.randrange(8),
        "metadata_extension_num_bits": 0,
        "reserved_metadata_extension": 0,
        "payload_extension": random.choice((None, None, Bits(0, 0), Bits(5, 9))),
    }
    message = NnpfCharacteristics(**values)
    if random.random() < 0.5:
        size = 4 + 2 * bool(purpose & (4 | 128)) + random.randrange(2)
        if purpose == 0:
            has_text = message.application_purpose_tag_uri_present_flag
            size += 1 + has_text * 8 * (len(message.application_purpose_tag_uri.encode()) + 1)
        message = replace(message, metadata_extension_num_bits=size)
    if message.mode_idc == MODE_NNC:
        message = replace(message, payload_extension=None)
    return with_present_fields(message)


def with_present_fields(message):
    present = {name.partition("_")[2] for name in present_fields(message)} | {"payload_extension"}
    absent = {f.name: f.default for f in fields(message) if f.name not in present and f.name != "is_first_edition"}
    return replace(message, **absent)


@pytest.mark.parametrize("seed", range(300))
def test_all_fields_of_characteristics_come_back(seed):
    message = drawn_characteristics(Random(seed))
    extension = message.payload_extension
    if extension == Bits(0, 0):  # is only there where it is seen: behind whole bytes
        message = replace(message, payload_extension=parse_nnpf(message.message()).payload_extension)
    assert parse_nnpf(message.message()) == message


def test_each_field_is_among_those_drawn():
    drawn = [present_fields(drawn_characteristics(Random(seed))) for seed in range(300)]
    names = {name.removeprefix("nnpfc_") for found in drawn for name in found}
    assert names == {field.name for field in fields(NnpfCharacteristics)} - {"payload_extension"}


@given(
    st.builds(
        NnpfActivation,
        target_id=NUMBERS,
        persistence_flag=st.booleans(),
        target_base_flag=st.booleans(),
        no_prev_clvs_flag=st.booleans(),
        output_flag=st.lists(st.booleans(), max_size=9).map(tuple),
        is_first_edition=st.booleans(),
        payload_extension=st.none() | st.just(Bits(3, 5)),
    ),
    st.none() | TEXTS,
    st.none() | st.integers(0, 65535),
    st.none() | NUMBERS,
)
def test_all_fields_of_activations_come_back(message, prompt, seed, shift):
    if not message.is_first_edition:
        message = replace(message, prompt_update_flag=prompt is not None, prompt=prompt or "")
        message = replace(message, seed_update_flag=seed is not None, seed=seed or 0)
        message = replace(message, selected_input_flag=shift is not None, num_input_pic_shift=shift or 0)
    elif message.payload_extension is not None:  # would be taken for what later editions say
        message = replace(message, payload_extension=None)
    assert parse_nnpf(message.message()) == message


def test_an_end_is_one_bit():
    assert NnpfActivation(target_id=3, cancel_flag=True).message() == SeiMessage(NNPFA, bytes([0b00100_1_1_0]))
    assert NnpfActivation(target_id=3, cancel_flag=True) == parse_nnpf(SeiMessage(NNPFA, bytes([0b00100_1_1_0])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": 4}, "nnpfc_overlap: the other fields leave no place for it"),
        ({"mode_idc": MODE_URI, "payload_byte": b"x"}, "nnpfc_payload_byte: the other fields leave no place"),
        ({"purpose": 1 << 16}, "nnpfc_purpose: 65536 does not fit in 16 bits"),
        ({"id": -1}, "nnpfc_id: -1 cannot be coded"),
        ({"mode_idc": MODE_URI, "uri": "a\0b"}, "nnpfc_uri: .* holds a zero character"),
        ({"payload_extension": Bits(1, 1)}, "payload_extension: nothing follows the bytes of a network"),
        ({"property_present_flag": True, "num_input_pics_minus1": 1}, "input_pic_filtering_flag: 0 values, .* for 2"),
        ({"property_present_flag": True, "metadata_extension_num_bits": 2}, "2 bits too few are announced"),
    ],
)
def test_values_that_have_no_place_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(NnpfCharacteristics(), **changes).message()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "16 bits must follow and 0 are left in nnpfc_purpose"),
        (b"\x00\x01\x00\x00\x00\x00\x00", "nnpfc_id"),
        (b"\x00\x01\xd4", "must be zero in nnpfc_alignment_zero_bit"),  # id 0, base, mode 0, no properties, 1 bits
        (b"\x00\x01\xd1\x00", "nnpfc_tag_uri|alignment"),
    ],
)
def test_payloads_that_break_the_syntax(payload, message):
    with pytest.raises(BitstreamError, match=message):
        parse_nnpf(SeiMessage(NNPFC, payload))


def test_counts_are_held_against_the_bits_that_are_left():
    with pytest.raises(BitstreamError, match=r"values, and \d+ bits are left in nnpfa_output_flag"):
        parse_nnpf(SeiMessage(NNPFA, bytes([0b1_0_0_0_0_000, 0, 0b1000_0000, 0, 0, 0])))


def test_other_messages_are_none_of_these():
    assert parse_nnpf(SeiMessage(132, b"")) is None


@pytest.mark.skipif(not (DATA / "nnpf").exists(), reason="the streams of VTM are not here")
@pytest.mark.parametrize("name", ["ai_uri", "ai_suffix"])
def test_as_vtm_writes_and_prints_them(name):
    stream = (DATA / "nnpf" / f"{name}.266").read_bytes()
    messages = [found.message for found in sei_messages(stream) if found.message.payload_type in (NNPFC, NNPFA)]
    parsed = [parse_nnpf(message) for message in messages]
    assert [each.message() for each in parsed] == messages
    printed = re.findall(r"(nnpf[ca]_\w+)(?:\[i\])?: (\S+)", (DATA / "nnpf" / f"{name}.sei.txt").read_text())
    printed = [(name, value) for name, value in printed if not name.endswith(("alignment_zero_bit", "payload_byte"))]
    # VTM's names are older than the standard's, and it prints the number of output entries, which a tuple has.
    wanted = [value for name, value in printed if name != "nnpfa_num_output_entries"]
    found = []
    for each in parsed:
        for name, value in present_fields(each).items():
            values = value if isinstance(value, tuple) else () if name == "nnpfc_payload_byte" else (value,)
            found += [text if isinstance(text, str) else str(int(text)) for text in values]
    assert found[: len(wanted)] == wanted
    assert len(wanted) >= 28
    assert parsed[0].tag_uri in ("", NNC_TAG_URI)
