"""The checked door to the kernels: indices of tensors to the payload of one data unit, and back.

A payload is one arithmetic codeword that holds the tensors of a unit one after another. Everything is checked here
once; the kernels check nothing but what the coded bits themselves can break, and no payload makes them leave their
arrays or run longer than max_elements allows. All functions may be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.data_unit import EntryPoint
from vvc_nnr.errors import BitstreamError, InputError, ShapeError
from vvc_nnr.kernels.tensor_params import MESSAGES, TensorChoices, TensorParams, check_sets, choose, require_status

Output = Literal["indices", "levels", "values"]

OUTPUTS: tuple[Output, ...] = ("indices", "levels", "values")
# A bin takes at least 2 of the 254 steps that make a bit of the codeword, and a value takes at least one bin.
MAX_VALUES_PER_BYTE = 8 * 127
MAX_CODER_THREADS = 64
MAX_DEPENDENT_INDEX = (1 << 30) - 1


@dataclass(frozen=True, slots=True, eq=False)
class TensorInput:
    """A tensor to encode.

    Attributes:
        params: What the header will say.
        indices: k, integers, n_rows * n_columns values in any shape.
        choices: What is left to the encoder.
        qp: Difference to the parameter set's QP, None for integer tensors.
    """

    params: TensorParams
    indices: NDArray[np.integer[Any]]
    choices: TensorChoices = TensorChoices()  # noqa: RUF009 (frozen)
    qp: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPayload:
    """A codeword, and of each tensor its entry points and what was chosen (no None but for absent arrays)."""

    data: bytes
    entry_points: tuple[tuple[EntryPoint, ...], ...]
    choices: tuple[TensorChoices, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedTensor:
    """A decoded tensor.

    Attributes:
        numbers: Indices or levels (int32) or values (float32), (n_rows, n_columns).
        choices: What the prologue said.
        entry_points: As found in the codeword.
        qp: Difference to the parameter set's QP, None if none is coded.
    """

    numbers: NDArray[Any]
    choices: TensorChoices
    entry_points: tuple[EntryPoint, ...]
    qp: int | None


def encode_payload(
    tensors: Sequence[TensorInput], qp_density: int = 2, *, n_threads: int = 1, portable: bool = False
) -> EncodedPayload:
    """The codeword of a data unit.

    Args:
        tensors: In coding order.
        qp_density: QP steps per octave as a power of two; a QP takes 6 + qp_density bits.
        n_threads: Threads for the block rows of a tensor, 1 to 64. The bytes are the same.
        portable: Use no instruction set extension. The bytes are the same.

    Raises:
        InputError: If parameters, indices or choices are impossible or do not fit together.
        ShapeError: If there are not n_rows * n_columns indices.
    """
    if len(tensors) == 1 and (alone := _encoded_alone(tensors[0], qp_density, n_threads, portable)):
        return alone
    encoder = _kernels.Encoder()
    marks, choices = [], []
    for tensor in tensors:
        indices, field, n_qp_bits = _checked(tensor, qp_density)
        if n_qp_bits:
            encoder.put_bits(field, n_qp_bits)
        layout = tensor.params.layout()
        chosen = choose(tensor.params, indices, tensor.choices, n_threads=n_threads, portable=portable, layout=layout)
        assert chosen.estimator_sets is not None
        layout = tensor.params.layout(True) if chosen.history_flag else layout
        row_skip = bool(chosen.row_skip_flag)
        rows = chosen.skipped_rows if row_skip else None
        status, found = encoder.encode(layout, indices, row_skip, rows, chosen.estimator_sets, n_threads, portable)
        require_status(status)
        marks.append(found)
        choices.append(chosen)
    data = encoder.finish()
    return EncodedPayload(data, tuple(_entry_points(_windowed(data, m)) for m in marks), tuple(choices))


def _encoded_alone(tensor: TensorInput, qp_density: int, n_threads: int, portable: bool) -> EncodedPayload | None:
    """The codeword of one tensor by one call of the kernels; None where history or given rows leave more to choose."""
    params, choices = tensor.params, tensor.choices
    has_rows = choices.skipped_rows is not None or choices.row_skip_flag
    if has_rows or choices.history_flag or (params.history is not None and params.parent_present):
        return None
    indices, field, n_qp_bits = _checked(tensor, qp_density)
    layout = params.layout()
    if choices.estimator_sets is not None:
        check_sets(choices.estimator_sets, layout)
    # In a block scan with dependent quantisation the quantiser decides what is skipped.
    may_skip = choices.row_skip_flag is None and not (params.dq_flag and params.is_block_scan)
    found = _kernels.encode_lone(
        layout, indices, field, n_qp_bits, may_skip, choices.estimator_sets, n_threads, portable
    )
    require_status(found.status)
    chosen = TensorChoices(found.row_skip, found.rows, False, found.sets)
    return EncodedPayload(found.data, (_entry_points(_windowed(found.data, found.marks)),), (chosen,))


def _windowed(data: bytes, marks: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """What a decoder holds where block rows begin."""
    return [(at, _window(data, at, low), state) for at, low, state in marks]


def decode_payload(
    data: bytes,
    tensors: Sequence[TensorParams],
    *,
    max_elements: int,
    has_qp: bool = True,
    qp_density: int = 2,
    output: Output = "levels",
    step_of: Callable[[int], float] | None = None,
    entry_points: Sequence[Sequence[EntryPoint] | None] | None = None,
    n_threads: int = 1,
    portable: bool = False,
) -> tuple[DecodedTensor, ...]:
    """The tensors of a codeword, which must be used up by them.

    Args:
        data: The payload.
        tensors: In coding order.
        max_elements: Most values of all tensors together.
        has_qp: A QP stands before each tensor.
        qp_density: QP steps per octave as a power of two.
        output: What the decoded numbers are: coded indices, what multiplies the step, or the float32 products.
        step_of: The step of a coded QP, needed for values.
        entry_points: Of each tensor, as its header gives them; its block rows are then decoded side by side.
        n_threads: Threads for one tensor with entry points, 1 to 64.
        portable: Use no instruction set extension. The numbers are the same.

    Raises:
        BitstreamError: If the codeword or an entry point breaks the format, or there are more values than max_elements.
        InputError: If the options do not fit together.
    """
    if not 1 <= n_threads <= MAX_CODER_THREADS:
        raise InputError(f"{n_threads} threads: 1 to {MAX_CODER_THREADS} are possible")
    payload = Payload(data, tensors, max_elements, has_qp, qp_density, output, step_of, entry_points)
    reader = _Reader.of(payload, n_threads, portable)
    decoded = []
    for index, params in enumerate(tensors):
        entries = entry_points[index] if entry_points else None
        decoded.append(reader.read(params, payload.n_qp_bits, entries))
    reader.require(reader.decoder.finish())
    return tuple(decoded)


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """A codeword to decode beside others.

    Attributes:
        data: As `decode_payload` takes it, as are the others.
        tensors: In coding order.
        max_elements: Most values of all tensors together.
        has_qp: A QP stands before each tensor.
        qp_density: QP steps per octave as a power of two.
        output: What the decoded numbers are.
        step_of: The step of a coded QP, needed for values.
        entry_points: Of each tensor, as its header gives them.
    """

    data: bytes
    tensors: Sequence[TensorParams]
    max_elements: int
    has_qp: bool = True
    qp_density: int = 2
    output: Output = "levels"
    step_of: Callable[[int], float] | None = None
    entry_points: Sequence[Sequence[EntryPoint] | None] | None = None

    @property
    def n_qp_bits(self) -> int:
        """Of the QP before each tensor."""
        return 6 + self.qp_density if self.has_qp else 0

    @property
    def is_lone(self) -> bool:
        """It has one tensor, without entry points."""
        return len(self.tensors) == 1 and (self.entry_points is None or self.entry_points[0] is None)


def decode_payloads(payloads: Sequence[Payload], *, portable: bool = False) -> list[tuple[DecodedTensor, ...]]:
    """The tensors of each codeword, decoded side by side by one thread: several times as fast as one after another.

    Args:
        payloads: The codewords; those of several tensors or with entry points are decoded alone.
        portable: Use no instruction set extension. The numbers are the same.

    Raises:
        BitstreamError, InputError: As `decode_payload` does for the first of them that is damaged.
    """
    opened: list[_Opened] = []
    found: dict[int, tuple[DecodedTensor, ...]] = {}
    places: list[int] = []
    failed: BitstreamError | None = None
    for place, payload in enumerate(payloads):
        try:
            if payload.is_lone:
                reader = _Reader.of(payload, 1, portable)
                opened.append(reader.open(payload.tensors[0], payload.n_qp_bits))
                places.append(place)
            else:
                found[place] = _decoded_alone(payload, portable)
        except BitstreamError as error:
            failed = error
            break  # those before it come first
    for each, tensor, status in zip(
        places, opened, _kernels.decode_together([tensor.arguments for tensor in opened], portable), strict=True
    ):
        tensor.reader.require(status)
        found[each] = (tensor.decoded([]),)
        tensor.reader.require(tensor.reader.decoder.finish())
    if failed is not None:
        raise failed
    return [found[place] for place in range(len(payloads))]


def _decoded_alone(payload: Payload, portable: bool) -> tuple[DecodedTensor, ...]:
    return decode_payload(
        payload.data,
        payload.tensors,
        max_elements=payload.max_elements,
        has_qp=payload.has_qp,
        qp_density=payload.qp_density,
        output=payload.output,
        step_of=payload.step_of,
        entry_points=payload.entry_points,
        portable=portable,
    )


def qps_of(data: bytes, before: Sequence[TensorParams], qp_density: int = 2) -> tuple[int, ...]:
    """The QPs of the first tensors of a codeword and of the one behind them, which is not decoded.

    Args:
        data: The payload.
        before: The first tensors, in coding order, each with a QP.
        qp_density: QP steps per octave as a power of two.

    Raises:
        BitstreamError: If the codeword breaks the format.
    """
    n_values = sum(params.n_values for params in before)
    if n_values > MAX_VALUES_PER_BYTE * (len(data) + 16):
        raise BitstreamError(f"{n_values} values in {len(data)} bytes: {MESSAGES[1]}", field="payload")
    reader = _Reader(_kernels.Decoder(data), len(data), "indices", None, 1, False)
    found = []
    for params in before:
        _require(params.problem(), BitstreamError)
        found.append(reader.read(params, 6 + qp_density, None).qp)
    return (*(qp for qp in found if qp is not None), reader.read_qp(6 + qp_density))


@dataclass(frozen=True, slots=True)
class _Reader:
    decoder: _kernels.Decoder
    n_bytes: int
    output: Output
    step_of: Callable[[int], float] | None
    n_threads: int
    portable: bool

    @property
    def offset_bytes(self) -> int:
        return min(self.decoder.state()[0] >> 3, self.n_bytes)

    def require(self, status: int) -> None:
        """Raises unless a kernel ended well."""
        if status:
            require_status(status, self.offset_bytes)

    @classmethod
    def of(cls, payload: Payload, n_threads: int, portable: bool) -> _Reader:
        """At the beginning of a payload.

        Raises:
            BitstreamError: If its tensors are impossible, or have too many values.
            InputError: If the options do not fit together.
        """
        output, step_of = payload.output, payload.step_of
        if output not in OUTPUTS or (output == "values" and not (payload.has_qp and step_of)):
            raise InputError(f"output {output!r}: indices, levels, or values with a coded QP and step_of")
        n_values = 0
        for params in payload.tensors:
            _require(params.problem(), BitstreamError)
            n_values += params.n_values
        if n_values > payload.max_elements:
            raise BitstreamError(f"{n_values} values; the limit is {payload.max_elements}", field="tensor_dimensions")
        return cls(_kernels.Decoder(payload.data), len(payload.data), output, step_of, n_threads, portable)

    def read(self, params: TensorParams, n_qp_bits: int, entries: Sequence[EntryPoint] | None) -> DecodedTensor:
        """The next tensor."""
        opened = self.open(params, n_qp_bits)
        marks = None if entries is None else self._marks(opened.layout, entries)
        status, found = self.decoder.decode_values(*opened.arguments[1:], marks, self.n_threads, self.portable)
        self.require(status)
        return opened.decoded(found)

    def open(self, params: TensorParams, n_qp_bits: int) -> _Opened:
        """The next tensor up to its values."""
        qp = self.read_qp(n_qp_bits) if n_qp_bits else None
        layout = params.layout()
        status, row_skip, with_history, rows, sets = self.decoder.decode_prologue(layout)
        self.require(status)
        layout = params.layout(True) if with_history else layout
        n_coded = (params.n_rows - int(rows.sum()) if row_skip else params.n_rows) * params.n_columns
        if n_coded > MAX_VALUES_PER_BYTE * (self.n_bytes - self.offset_bytes + 16) and layout.is_coded:
            raise BitstreamError(f"{n_coded} values in {self.n_bytes} bytes: {MESSAGES[1]}", field="payload")
        numbers = np.empty(params.shape, np.float32 if self.output == "values" else np.int32)
        step = self.step_of(qp) if self.output == "values" and self.step_of and qp is not None else 0.0
        skipped = rows if row_skip else None
        return _Opened(self, layout, TensorChoices(row_skip, skipped, with_history, sets), numbers, step, qp)

    def read_qp(self, n_bits: int) -> int:
        """The QP that stands here."""
        field = self.decoder.get_bits(n_bits)
        return field - (1 << n_bits) if field >> (n_bits - 1) else field

    def _marks(self, layout: _kernels.Layout, entries: Sequence[EntryPoint]) -> list[tuple[int, int, int]]:
        """Absolute positions, checked."""
        if len(entries) != layout.n_block_rows - 1:
            wanted = layout.n_block_rows - 1
            raise BitstreamError(f"{len(entries)} entry points; must be {wanted}", field="entry points")
        at, marks = self.decoder.state()[0], []
        for entry in entries:
            at += entry.offset_bits
            is_inside = entry.offset_bits >= 0 and at + 9 <= 8 * self.n_bytes
            if not (is_inside and 0 <= entry.value < 256 and 0 <= entry.dq_state < 8):
                raise BitstreamError(f"impossible {entry}", field="entry points", offset_bytes=self.offset_bytes)
            marks.append((at, entry.value, entry.dq_state))
        return marks


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A tensor whose prologue was read."""

    reader: _Reader
    layout: _kernels.Layout
    choices: TensorChoices
    numbers: NDArray[Any]
    step: float
    qp: int | None

    @property
    def arguments(
        self,
    ) -> tuple[
        _kernels.Decoder, _kernels.Layout, NDArray[np.uint8] | None, NDArray[np.uint8], NDArray[Any], int, float
    ]:
        """What the kernels take."""
        assert self.choices.estimator_sets is not None
        output = OUTPUTS.index(self.reader.output)
        skipped, sets = self.choices.skipped_rows, self.choices.estimator_sets
        return self.reader.decoder, self.layout, skipped, sets, self.numbers, output, self.step

    def decoded(self, marks: Sequence[tuple[int, int, int]]) -> DecodedTensor:
        """The tensor, after its values were decoded."""
        return DecodedTensor(self.numbers, self.choices, _entry_points(marks), self.qp)


def _checked(tensor: TensorInput, qp_density: int) -> tuple[NDArray[np.int32], int, int]:
    """What the kernels take of a tensor: its indices, and its QP as a field of so many bits, 0 without a QP.

    Raises:
        InputError, ShapeError: As `encode_payload` does.
    """
    _require(tensor.params.problem(), InputError)
    indices, n_qp_bits = _checked_indices(tensor), 0 if tensor.qp is None else 6 + qp_density
    return indices, 0 if tensor.qp is None else _qp_field(tensor.qp, n_qp_bits), n_qp_bits


def _checked_indices(tensor: TensorInput) -> NDArray[np.int32]:
    params, indices = tensor.params, tensor.indices
    if indices.dtype.kind not in "iu":
        raise InputError(f"indices must be integers, got {indices.dtype}")
    if indices.size != params.n_values:
        raise ShapeError(f"indices of shape {indices.shape} for a tensor of {params.n_rows} x {params.n_columns}")
    low, high = -(1 << 31), (1 << 31) - 1
    if params.codebook_size is not None:
        low, high = -params.codebook_zero_offset, params.codebook_size - 1 - params.codebook_zero_offset
    elif params.dq_flag:
        low, high = -MAX_DEPENDENT_INDEX, MAX_DEPENDENT_INDEX
    is_limited = params.codebook_size is not None or params.dq_flag
    is_converted = indices.dtype != np.int32
    least, largest = (int(indices.min()), int(indices.max())) if is_converted else (0, 0)
    found: NDArray[np.int32] = np.ascontiguousarray(indices, dtype=np.int32).reshape(params.shape)
    if is_limited and not is_converted:
        least, largest = _kernels.extremes(found)
    if not (low <= least and largest <= high):
        raise InputError(f"indices {least} to {largest}: {low} to {high} can be coded")
    return found


def _qp_field(qp: int, n_bits: int) -> int:
    if not -(1 << (n_bits - 1)) <= qp < 1 << (n_bits - 1):
        raise InputError(f"QP difference {qp}: {n_bits} bits are coded")
    return qp & ((1 << n_bits) - 1)


def _window(data: bytes, position_bits: int, low: int) -> int:
    """What a decoder holds there: 9 bits of the codeword less the encoder's low."""
    first = position_bits >> 3
    bits = int.from_bytes(data[first : first + 3].ljust(3, b"\0"), "big") >> (15 - (position_bits & 7))
    return (bits - low) & 511


def _entry_points(marks: Sequence[tuple[int, int, int]]) -> tuple[EntryPoint, ...]:
    return tuple(EntryPoint(b[1], b[2], b[0] - a[0]) for a, b in pairwise(marks))


def _require(problem: str | None, error: type[BitstreamError] | type[InputError]) -> None:
    if problem:
        raise error(problem)
