"""The kernels behind their door: vectors, the readable codec as an oracle, entry points, contract, hostile payloads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference_payload as reference
from bin_costs import bits_by_kind
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_contexts import TensorParams as ReferenceParams
from reference_contexts import contexts_with_set
from reference_stream import Base, decode_units
from reference_tensor import TensorChoices as ReferenceChoices

from vvc_nnr import _kernels
from vvc_nnr.bitstream.data_unit import EntryPoint
from vvc_nnr.errors import BitstreamError, InputError, ShapeError
from vvc_nnr.kernels.entropy_coding import EncodedPayload, TensorInput, decode_payload, encode_payload
from vvc_nnr.kernels.tensor_params import TensorChoices, TensorParams, choose

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "nnc_vectors.json").read_text())["cases"]
LIMIT = 1 << 20
FIELDS = [*TensorParams.__dataclass_fields__]


def to_kernel(params: ReferenceParams) -> TensorParams:
    fields = {name: getattr(params, name) for name in FIELDS}
    if params.temporal is not None:
        fields["temporal"] = params.temporal.reshape(params.n_rows, params.n_columns).astype(np.int32)
    if params.history is not None:
        fields["history"] = params.history.reshape(params.n_rows, params.n_columns).astype(np.uint8)
    return TensorParams(**fields)


def to_reference(params: TensorParams) -> ReferenceParams:
    return ReferenceParams(**{name: getattr(params, name) for name in FIELDS})


def choices_of(params: TensorParams, choices: ReferenceChoices) -> TensorChoices:
    rows = np.zeros(params.n_rows, np.uint8)
    rows[list(choices.skipped_rows)] = 1
    sets = np.zeros(params.layout().n_contexts, np.uint8)
    for context, number in choices.estimator_sets.items():
        sets[context] = number
    return TensorChoices(choices.row_skip_flag, rows if choices.row_skip_flag else None, choices.history_flag, sets)


def reference_choices(choices: TensorChoices) -> ReferenceChoices:
    rows = () if choices.skipped_rows is None else np.flatnonzero(choices.skipped_rows).tolist()
    sets = {int(i): int(choices.estimator_sets[i]) for i in np.flatnonzero(choices.estimator_sets)}
    return ReferenceChoices(choices.row_skip_flag, frozenset(rows), choices.history_flag, sets)


def entries_of(entries) -> tuple[EntryPoint, ...]:
    return tuple(EntryPoint(e.value, e.dq_state, e.offset_bits) for e in entries)


# --- the streams of the reference software ---


@pytest.fixture(params=GOLDEN, ids=lambda case: case["name"])
def units(request):
    bases = {
        name: Base(np.array(base["levels"]), np.array([int(c) for c in base["history"]], np.uint8))
        for name, base in request.param.get("bases", {}).items()
    }
    return list(decode_units(bytes.fromhex(request.param["bitstream_hex"]), bases))


@pytest.mark.parametrize("portable", [False, True])
def test_vectors_decode_to_equal_arrays(units, portable):
    for unit in units:
        params = [to_kernel(p) for p in unit.params]
        for output in ("indices", "levels"):
            tensors = decode_payload(
                bytes(unit.unit.payload), params, max_elements=LIMIT, has_qp=unit.unit.has_qp, output=output,
                portable=portable,
            )  # fmt: skip
            for found, wanted, qp in zip(tensors, unit.payload.tensors, unit.payload.qps, strict=True):
                np.testing.assert_array_equal(found.numbers, getattr(wanted, output))
                assert found.qp == qp
                assert reference_choices(found.choices) == wanted.choices


def test_vectors_encode_to_equal_bytes_and_entry_points(units):
    for unit in units:
        inputs = [
            TensorInput(to_kernel(p), tensor.indices, choices_of(to_kernel(p), tensor.choices), qp)
            for p, tensor, qp in zip(unit.params, unit.payload.tensors, unit.payload.qps, strict=True)
        ]
        coded = encode_payload(inputs)
        assert coded.data == bytes(unit.unit.payload)
        assert coded.entry_points == tuple(entries_of(entries) for entries in unit.payload.entry_points)


def test_vectors_decode_from_entry_points(units):
    for unit in units:
        entries = [entries_of(e) or None for e in unit.payload.entry_points]
        tensors = decode_payload(
            bytes(unit.unit.payload), [to_kernel(p) for p in unit.params], max_elements=LIMIT,
            has_qp=unit.unit.has_qp, entry_points=entries, n_threads=2,
        )  # fmt: skip
        for found, wanted in zip(tensors, unit.payload.tensors, strict=True):
            np.testing.assert_array_equal(found.numbers, wanted.levels)


# --- random tensors, against the readable codec ---

SIZES = st.integers(1, 20)


@st.composite
def tensor_inputs(draw):
    """Any tool with any other that may go with it; choices partly fixed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(SIZES), draw(SIZES))
    codebook_size = draw(st.none() | st.integers(1, 40))
    params = TensorParams(
        *shape,
        dq_flag=codebook_size is None and draw(st.booleans()),
        unary_length=draw(st.sampled_from([1, 2, 10, 11, 33, 256])),
        scan_order=draw(st.integers(0, 2)),
        codebook_size=codebook_size,
        codebook_zero_offset=draw(st.integers(0, codebook_size - 1)) if codebook_size else 0,
        row_skip_allowed=draw(st.booleans()),
        parent_present=draw(st.booleans()),
        temporal=rng.integers(-3, 4, shape, np.int32) if draw(st.booleans()) else None,
        history=rng.integers(0, 2, shape, np.uint8) if draw(st.booleans()) else None,
    )
    indices = np.round(rng.laplace(0, draw(st.sampled_from([0.3, 2, 30, 1e6])), shape)).astype(np.int64)
    indices[rng.random(shape[0]) < 0.3] = 0
    if codebook_size:
        low = -params.codebook_zero_offset
        indices = np.clip(indices, low, low + codebook_size - 1)
    sets = None
    if draw(st.booleans()):
        sets = np.zeros(params.layout().n_contexts, np.uint8)
        signalled = list(contexts_with_set(to_reference(params), False))
        sets[signalled] = rng.integers(0, 9, len(signalled))
    choices = TensorChoices(estimator_sets=sets, history_flag=False if sets is not None else None)
    return TensorInput(params, indices, choices, draw(st.none() | st.integers(-128, 127)))


def in_reference(tensor: TensorInput, choices: TensorChoices) -> reference.TensorInput:
    return reference.TensorInput(to_reference(tensor.params), tensor.indices, reference_choices(choices), tensor.qp)


@settings(max_examples=60, deadline=None)
@given(tensors=st.lists(tensor_inputs(), min_size=1, max_size=3), has_qp=st.booleans())
def test_encoder_equals_the_readable_one(tensors, has_qp):
    tensors = [replace(t, qp=(t.qp or 0) if has_qp else None) for t in tensors]
    coded = encode_payload(tensors)
    wanted = reference.encode_payload([in_reference(t, c) for t, c in zip(tensors, coded.choices, strict=True)])
    assert coded.data == wanted.data
    assert coded.entry_points == tuple(entries_of(e) for e in wanted.entry_points)
    assert encode_payload(tensors, portable=True).data == coded.data


@settings(max_examples=60, deadline=None)
@given(tensors=st.lists(tensor_inputs(), min_size=1, max_size=3), portable=st.booleans(), n_threads=st.integers(1, 3))
def test_decoder_equals_the_readable_one(tensors, portable, n_threads):
    tensors = [replace(t, qp=t.qp or 0) for t in tensors]
    coded = encode_payload(tensors)
    params = [t.params for t in tensors]
    wanted = reference.decode_payload(coded.data, [to_reference(p) for p in params])
    for entries in (None, coded.entry_points):
        found = decode_payload(
            coded.data, params, max_elements=LIMIT, entry_points=entries, n_threads=n_threads, portable=portable
        )
        for one, other, tensor, qp in zip(found, wanted.tensors, tensors, wanted.qps, strict=True):
            np.testing.assert_array_equal(one.numbers, other.levels)
            assert reference_choices(one.choices) == other.choices
            assert one.qp == qp == tensor.qp
    for one, tensor in zip(
        decode_payload(coded.data, params, max_elements=LIMIT, output="indices"), tensors, strict=True
    ):
        np.testing.assert_array_equal(one.numbers, tensor.indices)


@settings(max_examples=30, deadline=None)
@given(tensor=tensor_inputs())
def test_coder_state_after_the_last_value_equals_the_readable_one(tensor):
    tensor = replace(tensor, qp=None)
    params, indices = tensor.params, tensor.indices.astype(np.int32)
    chosen = choose(params, indices, tensor.choices)
    wanted = reference.encode_payload([in_reference(tensor, chosen)])
    layout = params.layout(chosen.history_flag)
    encoder = _kernels.Encoder()
    encoder.encode(layout, indices, chosen.row_skip_flag, chosen.skipped_rows, chosen.estimator_sets, 1, False)
    assert encoder.state() == (wanted.state.n_shifts, wanted.state.range, wanted.state.low & 511)
    assert encoder.contexts() == [context.state for context in wanted.contexts[0]]
    decoded = reference.decode_payload(wanted.data, [to_reference(params)], has_qp=False)
    decoder = _kernels.Decoder(wanted.data)
    decoder.decode_prologue(params.layout())
    numbers = np.empty(params.shape, np.int32)
    rows = chosen.skipped_rows if chosen.row_skip_flag else None
    decoder.decode_values(layout, rows, chosen.estimator_sets, numbers, 0, 0.0, None, 1, False)
    assert decoder.state() == (decoded.state.position_bits, decoded.state.range, decoded.state.value >> 7)
    assert decoder.contexts() == [context.state for context in decoded.tensors[0].contexts]


@settings(max_examples=60, deadline=None)
@given(tensors=st.lists(tensor_inputs(), min_size=1, max_size=3), n_threads=st.integers(2, 4))
def test_threads_do_not_change_the_bytes(tensors, n_threads):
    tensors = [replace(t, qp=t.qp or 0) for t in tensors]
    one, many = encode_payload(tensors), encode_payload(tensors, n_threads=n_threads)
    assert (many.data, many.entry_points) == (one.data, one.entry_points)
    for chosen, wanted in zip(many.choices, one.choices, strict=True):
        np.testing.assert_array_equal(chosen.estimator_sets, wanted.estimator_sets)


def coder_after(params, indices, rows, n_threads, portable):
    """State of the encoder and its contexts after a tensor, and the bytes."""
    encoder, layout = _kernels.Encoder(), params.layout()
    sets = np.arange(layout.n_contexts, dtype=np.uint8) % 9
    status, marks = encoder.encode(layout, indices, rows is not None, rows, sets, n_threads, portable)
    assert status == 0
    return marks, encoder.state(), encoder.contexts(), encoder.finish()


@pytest.mark.parametrize("n_rows", [25, 65, 129, 200, 400])  # 4 block rows, which are lanes, to 50
@pytest.mark.parametrize(("unary_length", "scale"), [(1, 40.0), (10, 0.5), (14, 4.0), (32, 30.0), (33, 3.0)])
def test_lanes_of_block_rows_are_encoded_as_one_after_another(n_rows, unary_length, scale):
    """Lanes that end at different times, with bypass bins in some of them, rows that are skipped, and long values."""
    random = np.random.default_rng(n_rows)
    params = TensorParams(n_rows, 47, n_rows % 2 > 0, unary_length, 1)
    indices = np.rint(random.laplace(0, scale, params.shape) * (random.random((n_rows, 1)) < 0.8)).astype(np.int32)
    indices[::19, ::11] *= 1000
    indices[8:16] = 0  # a block row that takes no bins
    rows = (indices == 0).all(axis=1).astype(np.uint8)
    found = [coder_after(params, indices, rows, *how) for how in ((1, True), (1, False), (2, False), (7, False))]
    assert found[1:] == found[:1] * 3
    sets = TensorChoices(estimator_sets=np.arange(params.layout().n_contexts, dtype=np.uint8) % 9)
    coded = encode_payload([TensorInput(params, indices, sets, qp=1)])
    (decoded,) = decode_payload(
        coded.data, [params], max_elements=params.n_values, output="indices", entry_points=coded.entry_points
    )
    assert np.array_equal(decoded.numbers, indices)


def test_values_are_single_precision_products():
    indices = np.array([[3, -200, 0], [1, 7, -1]])
    params = TensorParams(2, 3, False, 11)
    data = encode_payload([TensorInput(params, indices, qp=-31)]).data
    (found,) = decode_payload(data, [params], max_elements=6, output="values", step_of=lambda qp: 0.1 * -qp)
    assert found.numbers.dtype == np.float32
    np.testing.assert_array_equal(found.numbers, np.float32(3.1) * indices.astype(np.float32))


@pytest.mark.parametrize("dq_flag", [False, True])
@pytest.mark.parametrize("scan_order", [1, 3])
def test_many_block_rows_side_by_side(dq_flag, scan_order):
    rng = np.random.default_rng(5)
    params = TensorParams(700, 133, dq_flag, 11, scan_order)
    indices = np.round(rng.laplace(0, 3, params.shape)).astype(np.int32)
    indices[::97, ::50] = 4000
    skipped = np.zeros(700, np.uint8)
    skipped[[3, 200, 201]] = 1
    indices[skipped != 0] = 0
    coded = encode_payload([TensorInput(params, indices, TensorChoices(skipped_rows=skipped), 0)])
    in_order = decode_payload(coded.data, [params], max_elements=LIMIT)[0]
    assert in_order.entry_points == coded.entry_points[0]
    for n_threads, portable in ((1, False), (3, False), (2, True)):
        for output in ("indices", "levels", "values"):
            found = decode_payload(
                coded.data, [params], max_elements=LIMIT, output=output, step_of=lambda _: 0.25,
                entry_points=coded.entry_points, n_threads=n_threads, portable=portable,
            )[0]  # fmt: skip
            wanted = {"indices": indices, "levels": in_order.numbers, "values": in_order.numbers * np.float32(0.25)}
            np.testing.assert_array_equal(found.numbers, wanted[output])


@pytest.mark.parametrize("unary_length", [1, 5, 32])
@pytest.mark.parametrize("n_rows", [41, 130, 257])
def test_every_number_of_block_rows_and_any_sets(unary_length, n_rows):
    rng = np.random.default_rng(n_rows + unary_length)
    for dq_flag in (False, True):
        params = TensorParams(n_rows, 19, dq_flag, unary_length, 1)
        indices = np.round(rng.laplace(0, rng.choice([0.5, 4, 40]), params.shape)).astype(np.int32)
        sets = rng.integers(0, 9, params.layout().n_contexts).astype(np.uint8)
        coded = encode_payload([TensorInput(params, indices, TensorChoices(row_skip_flag=False, estimator_sets=sets))])
        for n_threads in (1, 2, 5):
            (found,) = decode_payload(
                coded.data, [params], max_elements=LIMIT, has_qp=False, output="indices",
                entry_points=coded.entry_points, n_threads=n_threads,
            )  # fmt: skip
            np.testing.assert_array_equal(found.numbers, indices)


def test_chosen_sets_are_never_worse_than_none():
    rng = np.random.default_rng(1)
    params = TensorParams(64, 300, True, 11)
    indices = np.round(rng.laplace(0, 1.5, params.shape)).astype(np.int32)
    sets = np.zeros(params.layout().n_contexts, np.uint8)
    plain = encode_payload([TensorInput(params, indices, TensorChoices(estimator_sets=sets))])
    best = encode_payload([TensorInput(params, indices)])
    assert len(best.data) < len(plain.data)
    assert np.count_nonzero(best.choices[0].estimator_sets) > 3


@pytest.mark.parametrize("scale", [0.2, 3.0, 300.0])
def test_costs_by_kind_add_up_to_the_coded_size(scale):
    rng = np.random.default_rng(2)
    params = TensorParams(200, 300, False, 11, scan_order=2)
    indices = np.round(rng.laplace(0, scale, params.shape)).astype(np.int32)
    coded = encode_payload([TensorInput(params, indices)])
    kinds = bits_by_kind(params, indices, coded.choices[0])
    assert set(kinds) == {"significance", "sign", "greater", "remainder", "bypass"}
    assert sum(kinds.values()) == pytest.approx(8 * len(coded.data), rel=0.02, abs=400)


# --- contract ---

PARAMS = TensorParams(4, 5, True, 11)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_rows": 0}, "n_rows 0"),
        ({"n_columns": 0}, "n_columns 0"),
        ({"n_rows": 1 << 40, "n_columns": 1 << 40}, "n_rows \\* n_columns"),
        ({"unary_length": 0}, "unary_length 0: 1 to 256"),
        ({"unary_length": 257}, "unary_length 257"),
        ({"scan_order": 5}, "scan_order 5: 0 to 4"),
        ({"codebook_size": 4}, "codebook with dependent"),
        ({"dq_flag": False, "codebook_size": 0}, "codebook of 0"),
        ({"dq_flag": False, "codebook_size": 4, "codebook_zero_offset": 4}, "zero offset 4 of 4"),
        ({"temporal": np.zeros(19, np.int32)}, "19 base levels"),
        ({"temporal": np.zeros(20, np.int64)}, "int64"),
        ({"history": np.zeros(3, np.uint8)}, "history map of 3"),
    ],
)
def test_impossible_parameters(changes, message):
    params = replace(PARAMS, **changes)
    with pytest.raises(InputError, match=message):
        encode_payload([TensorInput(params, np.zeros(20, np.int32))])
    with pytest.raises(BitstreamError, match=message):
        decode_payload(b"\x80", [params], max_elements=LIMIT)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"indices": np.zeros(19, np.int32)}, ShapeError, "4 x 5"),
        ({"indices": np.zeros(20)}, InputError, "float64"),
        ({"indices": np.full(20, 1 << 30)}, InputError, "can be coded"),
        ({"indices": np.full(20, 1 << 40)}, InputError, "can be coded"),
        ({"params": replace(PARAMS, dq_flag=False, codebook_size=3), "indices": np.full(20, 3)}, InputError, "0 to 2"),
        ({"qp": 128}, InputError, "QP difference 128"),
        ({"choices": TensorChoices(estimator_sets=np.full(134, 9, np.uint8))}, InputError, "estimator_sets"),
        ({"choices": TensorChoices(estimator_sets=np.zeros(13, np.uint8))}, InputError, "134 uint8"),
        ({"choices": TensorChoices(skipped_rows=np.ones(4, np.uint8))}, InputError, "skipped_rows"),
        ({"choices": TensorChoices(False, np.ones(4, np.uint8))}, InputError, "must not be off"),
        ({"choices": TensorChoices(history_flag=True)}, InputError, "history mode"),
        ({"params": TensorParams(1, 20, True, 11), "choices": TensorChoices(True)}, InputError, "skipped rows: a"),
    ],
)  # fmt: skip
def test_input_that_cannot_be_coded(changes, error, message):
    good = TensorInput(PARAMS, np.ones(20, np.int32), qp=0)
    assert isinstance(encode_payload([good]), EncodedPayload)
    with pytest.raises(error, match=message):
        encode_payload([replace(good, **changes)])


def test_extreme_integers():
    indices = np.array([-(2**31), 2**31 - 1, 0, -(2**31), 5, -1, 1, 2**31 - 1], np.int32)
    for scan_order in (0, 1):
        params = TensorParams(2, 4, False, 11, scan_order)
        data = encode_payload([TensorInput(params, indices)]).data
        (found,) = decode_payload(data, [params], max_elements=8, has_qp=False)
        np.testing.assert_array_equal(found.numbers.reshape(-1), indices)
    largest = TensorParams(1, 2, True, 1)
    data = encode_payload([TensorInput(largest, np.array([2**30 - 1, 1 - 2**30]))]).data
    assert decode_payload(data, [largest], max_elements=2, has_qp=False)[0].numbers.tolist() == [[2**31 - 2, 2 - 2**31]]


def test_one_codebook_entry_takes_no_bins():
    params = TensorParams(100, 100, False, 11, codebook_size=1)
    data = encode_payload([TensorInput(params, np.zeros((100, 100), np.int32))]).data
    assert len(data) < 8
    assert not decode_payload(data, [params], max_elements=10**4, has_qp=False)[0].numbers.any()


def test_options_that_do_not_fit():
    with pytest.raises(InputError, match="values"):
        decode_payload(b"\x80", [PARAMS], max_elements=20, output="values")
    with pytest.raises(InputError, match="0 threads"):
        decode_payload(b"\x80", [PARAMS], max_elements=20, n_threads=0)


# --- hostile payloads ---


def coded_tensor(scan_order=1):
    rng = np.random.default_rng(3)
    params = TensorParams(30, 20, True, 3, scan_order)
    indices = np.round(rng.laplace(0, 3, params.shape)).astype(np.int32)
    return params, encode_payload([TensorInput(params, indices, qp=1)])


def test_more_values_than_allowed():
    params, coded = coded_tensor()
    with pytest.raises(BitstreamError, match="600 values; the limit is 599 in tensor_dimensions"):
        decode_payload(coded.data, [params], max_elements=599)


def test_a_few_bytes_for_many_values_fail_before_there_is_memory_for_them():
    params = TensorParams(300_000, 300_000, True, 3, row_skip_allowed=False)
    _, coded = coded_tensor()
    with pytest.raises(BitstreamError, match=r"90000000000 values in \d+ bytes: the codeword ends"):
        decode_payload(coded.data, [params], max_elements=1 << 40, has_qp=False)


def test_every_cut_is_noticed():
    params, coded = coded_tensor()
    for n_bytes in range(len(coded.data)):
        with pytest.raises(BitstreamError):
            decode_payload(coded.data[:n_bytes], [params], max_elements=600)
    for more in (b"\0", b"\x80", bytes(30)):
        with pytest.raises(BitstreamError, match="bytes follow"):
            decode_payload(coded.data + more, [params], max_elements=600)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_flipped_bits_end_in_numbers_or_an_error(data):
    params, coded = coded_tensor(data.draw(st.integers(0, 2)))
    damaged = bytearray(coded.data)
    for _ in range(data.draw(st.integers(1, 4))):
        bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
        damaged[bit >> 3] ^= 0x80 >> (bit & 7)
    for entries in (None, coded.entry_points):
        try:
            found = decode_payload(bytes(damaged), [params], max_elements=600, entry_points=entries, n_threads=2)
            assert found[0].numbers.shape == (30, 20)
        except BitstreamError:
            pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[:-1], "entry points; must be 3"),
        (lambda e: (replace(e[0], value=e[0].value ^ 1), *e[1:]), "does not agree"),
        (lambda e: (replace(e[0], dq_state=e[0].dq_state ^ 1), *e[1:]), "does not agree"),
        (lambda e: (replace(e[0], offset_bits=e[0].offset_bits + 1), *e[1:]), "does not agree"),
        (lambda e: (replace(e[0], value=256), *e[1:]), "impossible"),
        (lambda e: (replace(e[0], dq_state=8), *e[1:]), "impossible"),
        (lambda e: (replace(e[0], offset_bits=-1), *e[1:]), "impossible"),
        (lambda e: (replace(e[0], offset_bits=1 << 70), *e[1:]), "impossible"),
    ],
)
def test_entry_points_that_lie(change, message):
    params, coded = coded_tensor()
    with pytest.raises(BitstreamError, match=message):
        decode_payload(coded.data, [params], max_elements=600, entry_points=[change(coded.entry_points[0])])


@pytest.mark.parametrize("dq_flag", [True, False])
@pytest.mark.parametrize(("scan_order", "scale"), [(0, 0.6), (1, 5.0), (4, 300.0)])
def test_costs_of_estimators_are_the_same_by_every_instruction_set(
    dq_flag: bool, scan_order: int, scale: float
) -> None:
    rng = np.random.default_rng(3)
    indices = np.rint(rng.laplace(0, scale, (150, 211))).astype(np.int32)
    indices[40:70] = 0
    params = TensorParams(150, 211, dq_flag=dq_flag, unary_length=7, scan_order=scan_order)
    rows = (indices == 0).all(1).astype(np.uint8)
    found = [
        _kernels.record_bins(params.layout(), indices, skipped, n_threads, portable)
        for skipped in (None, rows)
        for portable in (False, True)
        for n_threads in (1, 3)
    ]
    for of_same_rows in (found[:4], found[4:]):
        for one in of_same_rows[1:]:
            for field in ("sets", "n_bins", "cost_bits", "n_bypass"):
                np.testing.assert_array_equal(getattr(one, field), getattr(of_same_rows[0], field))
    given_rows = TensorChoices(True, rows)
    coded = [
        encode_payload([TensorInput(params, indices, given_rows)], n_threads=n_threads, portable=portable)
        for n_threads, portable in ((1, False), (1, True), (5, False))
    ]
    assert coded[0].data == coded[1].data == coded[2].data
    assert coded[0].entry_points == coded[2].entry_points
    decoded = decode_payload(coded[0].data, [params], max_elements=LIMIT, has_qp=False, output="indices")
    np.testing.assert_array_equal(decoded[0].numbers, indices)
