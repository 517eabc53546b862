"""The reference codec and the units against streams of the reference software, both ways."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_arithmetic import ArithmeticDecoder, ArithmeticEncoder, Context
from reference_contexts import TensorParams, contexts_with_set, n_contexts
from reference_payload import TensorInput, decode_from_entry_points, decode_payload, encode_payload
from reference_stream import Base, DecodedUnit, decode_units
from reference_tensor import TensorChoices
from reference_values import index_of, level_of

from vvc_nnr.bitstream.data_unit import DataUnit
from vvc_nnr.bitstream.units import read_units, write_units
from vvc_nnr.errors import BitstreamError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "nnc_vectors.json").read_text())["cases"]
Case = dict[str, Any]


def decoded(case: Case) -> list[DecodedUnit]:
    bases = {
        name: Base(np.array(base["levels"]), np.array([int(c) for c in base["history"]], np.uint8))
        for name, base in case.get("bases", {}).items()
    }
    return list(decode_units(bytes.fromhex(case["bitstream_hex"]), bases))


@pytest.fixture(params=GOLDEN, ids=lambda case: case["name"])
def case(request: pytest.FixtureRequest) -> Case:
    golden: Case = request.param
    return golden


def test_streams_decode_to_equal_arrays(case):
    values = {name: array for unit in decoded(case) for name, array in unit.values().items()}
    assert set(values) == {tensor["name"] for tensor in case["tensors"]}
    for tensor in case["tensors"]:
        array = values[tensor["name"]]
        assert (array.dtype, list(array.shape)) == (np.dtype(tensor["dtype"]), tensor["shape"])
        assert array.tobytes().hex() == tensor["values_hex"]


def test_what_is_known_of_the_payload_is_read(case):
    tensors = {
        part.name: (tensor, qp)
        for unit in decoded(case)
        for part, tensor, qp in zip(unit.parts, unit.payload.tensors, unit.payload.qps, strict=True)
    }
    for golden in case["tensors"]:
        tensor, qp = tensors[golden["name"]]
        choices = tensor.choices
        seen = {
            "qp": qp,
            "indices": tensor.indices.reshape(-1).tolist(),
            "levels": tensor.levels.reshape(-1).tolist(),
            "row_skip_flag": choices.row_skip_flag,
            "skipped_rows": sorted(choices.skipped_rows),
            "history_flag": choices.history_flag,
            "estimator_sets": {str(index): number for index, number in choices.estimator_sets.items()},
        }
        assert {key: seen[key] for key in seen if key in golden} == {key: golden[key] for key in seen if key in golden}


def test_the_same_indices_and_choices_give_the_same_payload(case):
    for unit in decoded(case):
        assert unit.reencoded() == bytes(unit.unit.payload)


def test_units_written_from_their_fields_are_identical(case):
    data = bytes.fromhex(case["bitstream_hex"])
    assert b"".join(write_units(placed.unit for placed in read_units(data))) == data


def test_entry_points_are_where_the_header_says(case):
    for unit in decoded(case):
        seen = [(e.value, e.dq_state, e.offset_bits) for entries in unit.payload.entry_points for e in entries]
        assert seen == [(e.value, e.dq_state, e.offset_bits) for e in unit.unit.entry_points]


def test_block_rows_decode_from_their_entry_points(case):
    for unit in decoded(case):
        if not unit.unit.entry_points:
            continue
        tensor, data = unit.payload.tensors[0], bytes(unit.unit.payload)
        entries = unit.payload.entry_points[0]
        levels = decode_from_entry_points(data, unit.params[0], tensor.choices, tensor.marks[0], entries)
        assert np.array_equal(levels, tensor.levels)


def test_every_cut_of_a_payload_is_noticed(case):
    for placed in read_units(bytes.fromhex(case["bitstream_hex"])):
        unit = placed.unit
        if not isinstance(unit, DataUnit) or len(unit.payload) > 80:
            continue
        params = decoded(case)[0].params
        for n_bytes in range(len(unit.payload)):
            with pytest.raises(BitstreamError):
                decode_payload(bytes(unit.payload[:n_bytes]), params, unit.has_qp)
        return


@st.composite
def tensor_inputs(draw: st.DrawFn) -> TensorInput:
    """A small tensor with anything that params and choices can say."""
    n_rows, n_columns = draw(st.sampled_from([(1, 1), (1, 7), (9, 1), (3, 5), (19, 4), (17, 9)]))
    size = draw(st.sampled_from([None, None, 1, 2, 3, 7, 30]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    params = TensorParams(
        n_rows=n_rows,
        n_columns=n_columns,
        dq_flag=size is None and draw(st.booleans()),
        unary_length=draw(st.sampled_from([1, 2, 10, 11])),
        scan_order=draw(st.integers(0, 2)),
        codebook_size=size,
        codebook_zero_offset=0 if size is None else draw(st.integers(0, size - 1)),
        row_skip_allowed=draw(st.booleans()),
        parent_present=draw(st.booleans()),
        temporal=np.round(random.laplace(0, 2, (n_rows, n_columns))) if draw(st.booleans()) else None,
        history=random.random((n_rows, n_columns)) < 0.5 if draw(st.booleans()) else None,
    )
    indices = np.round(random.laplace(0, draw(st.sampled_from([0, 0.4, 3, 300, 1e8])), (n_rows, n_columns)))
    indices = np.clip(indices, -(2**30) + 1, 2**30 - 1).astype(np.int64)
    if size is not None:
        indices = np.clip(indices, -params.codebook_zero_offset, size - 1 - params.codebook_zero_offset)
    indices[random.random(n_rows) < 0.4] = 0
    skips = params.has_row_skip_flag and draw(st.booleans())
    empty = [row for row in range(n_rows) if not indices[row].any()]
    history_flag = params.has_row_skip_flag and params.parent_present and draw(st.booleans())
    sets = {c: int(random.integers(1, 9)) for c in contexts_with_set(params, history_flag) if random.random() < 0.2}
    choices = TensorChoices(skips, frozenset(empty if skips else []), history_flag, sets)
    return TensorInput(params, indices, choices, draw(st.integers(-128, 127)))


@settings(max_examples=200, deadline=None)
@given(tensors=st.lists(tensor_inputs(), min_size=1, max_size=3))
def test_any_tensors_come_back_with_equal_states(tensors):
    coded = encode_payload(tensors)
    back = decode_payload(coded.data, [tensor.params for tensor in tensors])
    assert back.qps == tuple(tensor.qp for tensor in tensors)
    assert back.entry_points == coded.entry_points
    assert (back.state.position_bits, back.state.range) == (coded.state.n_shifts, coded.state.range)
    for tensor, seen, contexts in zip(tensors, back.tensors, coded.contexts, strict=True):
        assert np.array_equal(tensor.indices, seen.indices)
        assert tensor.choices == seen.choices
        assert [context.state for context in contexts] == [context.state for context in seen.contexts]


@settings(max_examples=200, deadline=None)
@given(tensor=tensor_inputs(), place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_changed_byte_ends_in_values_or_bitstream_error(tensor, place, flip):
    data = bytearray(encode_payload([tensor]).data)
    data[place % len(data)] ^= flip
    with contextlib.suppress(BitstreamError):
        decode_payload(bytes(data), [tensor.params])


@given(k=st.integers(-(2**31), 2**31), state=st.integers(0, 7))
def test_levels_and_indices_are_inverse(k, state):
    assert index_of(level_of(k, state), state) == k
    assert k == 0 or level_of(k, state) % 2 == state % 2


@given(bins=st.lists(st.integers(0, 1), max_size=300), estimator_set=st.integers(0, 8))
def test_contexts_stay_in_their_range(bins, estimator_set):
    context = Context(estimator_set)
    for bin_value in bins + [1] * 500 + [0] * 500:
        context.update(bin_value)
        assert -4096 <= context.total < 4096


@given(bins=st.lists(st.tuples(st.booleans(), st.integers(0, 1)), max_size=400))
def test_mixed_bins_come_back(bins):
    encoder, contexts = ArithmeticEncoder(), (Context(), Context())
    for is_bypass, value in bins:
        encoder.bypass_bin(value) if is_bypass else encoder.context_bin(contexts[0], value)
    decoder = ArithmeticDecoder(encoder.finish())
    assert [decoder.bypass_bin() if b else decoder.context_bin(contexts[1]) for b, _ in bins] == [v for _, v in bins]
    decoder.finish()
    assert contexts[0].state == contexts[1].state


def test_the_numbering_of_contexts():
    params = TensorParams(4, 4, dq_flag=True, unary_length=11, temporal=np.zeros(16))
    assert n_contexts(params) == 53 + 44 + 37
    indices = list(contexts_with_set(params, history_flag=True))
    assert indices == [*range(53), *range(53, 53 + 44 + 31)]
