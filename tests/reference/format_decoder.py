"""A decoder of .nnc streams written from docs/FORMAT.md alone: it shares no code with the package, and each function
names the section that it follows. Slow, and made for streams that are right: what it cannot read fails somehow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from format_payload import Decoder, Past, Tensor
from format_units import BI, BN, DC, INT, LS, RAW_FLOAT, Model, Unit, data_units
from numpy.typing import NDArray


def parts(unit: Unit) -> list[tuple[str, tuple[int, ...]]]:
    """Section 10: roles and shapes of the tensors of a payload, in coding order."""
    vector = unit.shape[:1]
    found = [("scaling", vector)] * bool(unit.mask & LS) + [("bias", vector)] * bool(unit.mask & BI)
    if unit.mask & BN:
        found += [(role, vector) for role in ("beta", "gamma", "mean", "variance")]
    if not unit.mask & DC:
        return [*found, ("weight", unit.shape)]
    columns = math.prod(unit.shape) // unit.g_rows
    return [*found, ("G", (unit.g_rows, unit.rank)), ("H", (unit.rank, columns))]


HEADER_ORDER = ("weight", "G", "H", "scaling", "beta", "gamma", "mean", "variance", "bias")


def step(qp: int, density: int) -> np.float32:
    """Section 9."""
    k = 1 << density
    return np.float32((k + (qp & (k - 1))) * 2.0 ** ((qp >> density) - density))


@dataclass
class Decoded:
    """A tensor of a unit by its role: what was coded, and what it stands for."""

    name: str
    levels: NDArray[np.int64]
    values: NDArray[np.int32] | NDArray[np.float32]


def decode_unit(unit: Unit, model: Model, past: Past) -> dict[str, Decoded]:
    """Sections 5 and 9: the tensors of a unit by their roles."""
    if unit.kind == RAW_FLOAT:
        raw = np.frombuffer(unit.payload, "<f4").reshape(unit.shape)
        return {"weight": Decoded(unit.names[0], np.zeros(unit.shape, np.int64), raw)}
    roles = [role for role, _ in parts(unit)]
    names = dict(zip([role for role in HEADER_ORDER if role in roles], unit.names, strict=True))
    decoder, entries, found = Decoder(unit.payload), list(unit.entries), {}
    for role, shape in parts(unit):
        qp = 0
        if unit.kind != INT:
            n_bits = 6 + model.density
            field_value = decoder.bypass(n_bits)
            qp = field_value - (1 << n_bits if field_value >> (n_bits - 1) else 0) + model.qp
        is_weight = role in ("weight", "G", "H")
        book = (unit.book_h if role == "H" else unit.book) if is_weight else None
        tensor = Tensor(unit, shape, book, unit.scan_order if is_weight else 0, past)
        tensor.prologue(decoder, model.profile)
        starts = tensor.decode(decoder)
        if is_weight and unit.scan_order:
            n_entries = math.ceil(shape[0] / (4 << unit.scan_order)) - 1
            check_entries(tensor, unit.payload, starts, entries[:n_entries])
            entries = entries[n_entries:]
        levels = np.array([book.values[k + book.zo] for k in tensor.levels]) if book else tensor.levels
        values = levels.astype(np.int32) if unit.kind == INT else step(qp, model.density) * levels.astype(np.float32)
        found[role] = Decoded(names[role], tensor.levels.reshape(shape), values.reshape(shape))
    decoder.finish()
    return found


def check_entries(
    tensor: Tensor, data: bytes, starts: list[tuple[int, int, int]], entries: list[tuple[int, int, int]]
) -> None:
    """Section 7: every block row decodes from its entry point to what it decodes to in order."""
    if not starts:
        return
    in_order, position = tensor.levels.copy(), starts[0][0]
    for (number, segments), entry in zip(list(tensor.rows())[1:], entries, strict=True):
        value, tensor.state, offset = entry
        position += offset
        assert (position, value) == starts[number][:2]
        tensor.decode_row(Decoder.at_entry(data, position, value), segments)
    assert np.array_equal(tensor.levels, in_order)


def decode_stream(data: bytes, pasts: dict[str, Past] | None = None) -> list[dict[str, Decoded]]:
    """All data units of a stream; `pasts` by tensor if it is an update."""
    return [decode_unit(unit, model, (pasts or {}).get(unit.names[0], Past())) for unit, model in data_units(data)]
