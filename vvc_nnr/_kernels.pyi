from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_Rows = NDArray[np.uint8] | None
_Marks = list[tuple[int, int, int]]

class Layout:
    def __init__(
        self,
        n_rows: int,
        n_columns: int,
        unary_length: int,
        block_side: int,
        dependent: bool,
        row_skip_allowed: bool,
        parent_present: bool,
        codebook: tuple[int, int] | None,
        base: NDArray[np.int32] | None,
        history: NDArray[np.uint8] | None,
        use_history: bool,
    ) -> None: ...
    @property
    def n_contexts(self) -> int: ...
    @property
    def n_block_rows(self) -> int: ...
    @property
    def has_row_skip_flag(self) -> bool: ...
    @property
    def is_coded(self) -> bool: ...

class Encoder:
    def __init__(self) -> None: ...
    def put_bits(self, bits: int, n_bits: int) -> None: ...
    def encode(
        self,
        layout: Layout,
        indices: NDArray[np.int32],
        row_skip: bool,
        skipped_rows: _Rows,
        sets: NDArray[np.uint8],
        n_threads: int,
        portable: bool,
    ) -> tuple[int, _Marks]: ...
    def finish(self) -> bytes: ...
    def state(self) -> tuple[int, int, int]: ...
    def contexts(self) -> list[tuple[int, int]]: ...

class Decoder:
    def __init__(self, data: bytes) -> None: ...
    def get_bits(self, n_bits: int) -> int: ...
    def decode_prologue(self, layout: Layout) -> tuple[int, bool, bool, NDArray[np.uint8], NDArray[np.uint8]]: ...
    def decode_values(
        self,
        layout: Layout,
        skipped_rows: _Rows,
        sets: NDArray[np.uint8],
        numbers: NDArray[Any],
        output: int,
        step: float,
        entries: _Marks | None,
        n_threads: int,
        portable: bool,
    ) -> tuple[int, _Marks]: ...
    def finish(self) -> int: ...
    def state(self) -> tuple[int, int, int]: ...
    def contexts(self) -> list[tuple[int, int]]: ...

def decode_together(
    tensors: list[tuple[Decoder, Layout, _Rows, NDArray[np.uint8], NDArray[Any], int, float]], portable: bool
) -> list[int]: ...

class BinRecord:
    @property
    def status(self) -> int: ...
    @property
    def sets(self) -> NDArray[np.uint8]: ...
    @property
    def n_bins(self) -> NDArray[np.uint64]: ...
    @property
    def cost_bits(self) -> NDArray[np.float64]: ...
    @property
    def n_bypass(self) -> int: ...

class LonePayload:
    @property
    def status(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def marks(self) -> _Marks: ...
    @property
    def row_skip(self) -> bool: ...
    @property
    def rows(self) -> _Rows: ...
    @property
    def sets(self) -> NDArray[np.uint8]: ...

def encode_lone(
    layout: Layout,
    indices: NDArray[np.int32],
    qp: int,
    n_qp_bits: int,
    may_skip: bool,
    sets: NDArray[np.uint8] | None,
    n_threads: int,
    portable: bool,
) -> LonePayload: ...
def best_unary_length(indices: NDArray[np.int32], default_length: int, n_tiny: int) -> int: ...
def integer_bits(integers: NDArray[np.int32]) -> float: ...
@overload
def extremes(values: NDArray[np.float32]) -> tuple[float, float]: ...
@overload
def extremes(values: NDArray[np.int32]) -> tuple[int, int]: ...
def grid_exponent(values: NDArray[np.float32]) -> int | None: ...
def distinct(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]: ...
def chosen_runs(values: NDArray[np.unsignedinteger[Any]]) -> tuple[int, int]: ...
def best_gap_order(numbers: NDArray[np.int64], most: int) -> tuple[int, int]: ...
def record_bins(
    layout: Layout, indices: NDArray[np.int32], skipped_rows: _Rows, n_threads: int, portable: bool
) -> BinRecord: ...
def quantise(
    layout: Layout,
    weights: NDArray[np.float32],
    inverse_step: float,
    bit_weight: float,
    sum_weights: tuple[int, float, float] | None,
    zero_rows: _Rows,
    portable: bool,
) -> tuple[int, NDArray[np.int32], NDArray[np.float64] | None]: ...
def quantise_by_paths(
    layout: Layout,
    weights: NDArray[np.float32],
    inverse_step: float,
    bit_weight: float,
    zero_rows: _Rows,
    sets: NDArray[np.uint8],
    portable: bool,
) -> tuple[int, NDArray[np.int32], float]: ...
def to_levels(layout: Layout, indices: NDArray[np.int32], skipped_rows: _Rows) -> NDArray[np.int32]: ...
def row_energies(rows: NDArray[np.float32]) -> NDArray[np.float64]: ...
def row_errors(
    layout: Layout,
    weights: NDArray[np.float32],
    indices: NDArray[np.int32],
    skipped_rows: _Rows,
    step: float,
    limit: float,
) -> NDArray[np.float64]: ...
def difference_sums(
    rows: NDArray[np.float32], shift: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]: ...
def has_exponent_gap(values: NDArray[np.float32], n_sample: int, gap_octaves: int) -> bool: ...
def empty_rows(layout: Layout, indices: NDArray[np.int32]) -> tuple[int, NDArray[np.uint8]]: ...
def small_rows(layout: Layout, weights: NDArray[np.float32], limit: float) -> tuple[int, NDArray[np.uint8]]: ...
def round_with_feedback(
    layout: Layout,
    weights: NDArray[np.float32],
    column_feedback: NDArray[np.float32],
    column_weight: NDArray[np.float32],
    row_feedback: NDArray[np.float32] | None,
    row_weight: NDArray[np.float32],
    inverse_step: float,
    bit_weight: float,
    sets: NDArray[np.uint8],
    portable: bool,
) -> tuple[int, NDArray[np.int32], float]: ...
def split_floats(
    values: NDArray[Any], mantissa_bits: int, n_dropped: int, centre: int, head: bytes
) -> tuple[NDArray[np.int32], bytes]: ...
def join_floats(
    exponents: NDArray[np.int32],
    planes: NDArray[np.uint8],
    mantissa_bits: int,
    n_dropped: int,
    centre: int,
    skips_zeros: bool,
    values: NDArray[Any],
) -> bool: ...
