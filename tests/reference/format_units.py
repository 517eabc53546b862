"""Units and headers by sections 1 to 4 and 7 of docs/FORMAT.md, and by nothing else (see format_decoder.py)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

INT, FLOAT, RAW_FLOAT, BLOCK = range(4)
DC, LS, BN, BI = 1, 2, 4, 8


class Bits:
    """Descriptors of section 1."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def u(self, n: int) -> int:
        value = 0
        for _ in range(n):
            value = value << 1 | self.data[self.at >> 3] >> (7 - self.at % 8) & 1
            self.at += 1
        return value

    def i(self, n: int) -> int:
        value = self.u(n)
        return value - (1 << n) if value >> (n - 1) else value

    def ue(self, k: int) -> int:
        z = 0
        while self.u(1) == 0:
            z += 1
        return ((2**z - 1) << k) + self.u(k + z)

    def ie(self, k: int) -> int:
        c = self.ue(k)
        return (c + 1) // 2 if c % 2 else -(c // 2)

    def st(self) -> str:
        start = self.at // 8
        end = self.data.index(0, start)
        self.at = 8 * (end + 1)
        return self.data[start:end].decode()

    def flt(self) -> float:
        return float(struct.unpack("<f", self.u(32).to_bytes(4, "big"))[0])

    def align(self) -> None:
        self.at = 8 * (self.at // 8 + 1)

    def rest(self) -> bytes:
        assert self.at % 8 == 0
        return self.data[self.at // 8 :]


@dataclass
class Model:
    """What the units of section 3 leave behind."""

    profile: int = 1
    indexed: bool = False
    parents: bool = False
    density: int = 2
    qp: int = 0


@dataclass
class Book:
    zo: int
    values: list[int]


@dataclass
class Unit:
    """The fields of section 4 that decoding needs."""

    kind: int = 0
    names: list[str] = field(default_factory=list)
    parent: bool = False
    temporal: bool = False
    book: Book | None = None
    book_h: Book | None = None
    dq: bool = False
    mask: int = 0
    rank: int = 0
    g_rows: int = 0
    shape: tuple[int, ...] = ()
    u: int = 10
    scan_order: int = 0
    entries: list[tuple[int, int, int]] = field(default_factory=list)
    payload: bytes = b""


def read_units(data: bytes) -> Iterator[tuple[int, Bits]]:
    """Section 2: type and body of each unit."""
    at = 0
    while at < len(data):
        bits = Bits(data[at:])
        size = bits.u(31 if bits.u(1) else 15)
        bits.data = bits.data[:size]
        kind = bits.u(6)
        bits.u(1)
        assert bits.u(1) == 0
        yield kind, bits
        at += size


def skip_classes(bits: Bits) -> None:
    count = bits.u(8)
    bits.ue(7)
    for _ in range(count - 1):
        bits.flt()


def skip_map(bits: Bits, which: str) -> None:
    """Section 3: the performance maps."""
    for _ in range(bits.u(8) - 1):
        if which == "unification":
            for _ in range(bits.ue(1) - 1):
                bits.ue(7)
            bits.align()
            for _ in range(2):
                for _ in range(bits.u(8) - 1):
                    bits.u(8)
        for _ in range(3 if which in ("sparsification", "decomposition") else 2):
            bits.flt()
        if which == "decomposition":
            for _ in range(bits.u(16) - 1):
                bits.flt()
        else:
            skip_classes(bits)


MAPS = ("sparsification", "pruning", "unification", "decomposition")


def read_mps(bits: Bits, model: Model) -> None:
    """Section 3, MPS."""
    bits.u(1)
    maps = [which for which in MAPS if bits.u(1)]
    method = bits.u(3)
    model.indexed = bool(bits.u(1))
    base_id = performance = metric = 0
    if model.profile == 0:
        bits.u(7)
    else:
        base_id, performance, metric = bits.u(1), bits.u(1), bits.u(1)
        model.parents = bool(bits.u(1))
        bits.u(3)
    if base_id:
        bits.st()
    if performance or metric:
        bits.st()
    if method & 3:
        model.density, model.qp = bits.u(3), bits.i(13)
    for which in maps:
        skip_map(bits, which)


def read_lps(bits: Bits, model: Model) -> None:
    """Section 3, LPS."""
    bits.u(8 + 1)
    maps = [which for which in MAPS[:3] if bits.u(1)]
    method = bits.u(3)
    bits.u(1)
    if method & 3:
        model.density, model.qp = bits.u(3), bits.i(13)
    for which in maps:
        skip_map(bits, which)


def read_book(bits: Bits) -> Book:
    """Section 4, codebook."""
    egk, size = bits.u(4), bits.ue(2)
    zo = bits.ie(2) + (size >> 1)
    values = {zo: bits.ie(7)}
    for place in range(zo - 1, -1, -1):
        values[place] = values[place + 1] - bits.ue(egk) - 1
    for place in range(zo + 1, size):
        values[place] = values[place - 1] + bits.ue(egk) + 1
    return Book(zo, [values[place] for place in range(size)])


def read_ndu(bits: Bits, model: Model) -> Unit:
    """Section 4."""
    unit = Unit(kind=bits.u(5))
    several, has_format, has_parameters = bits.u(1), bits.u(1), bits.u(1)
    assert has_parameters
    assert not model.indexed
    n_names = 1
    if several:
        n_names = bits.ue(7) + 2
        bits.align()
    unit.names = [bits.st() for _ in range(n_names)]
    if model.profile == 1:
        has_node = bits.u(1)
        if has_node:
            bits.ue(1), bits.ue(5), bits.ue(4)
        if model.parents and bits.u(1):
            read_parent(bits, unit, bool(has_node))
    if unit.kind in (FLOAT, BLOCK) and bits.u(1):
        unit.book = read_book(bits)
    unit.dq = unit.kind != RAW_FLOAT and bool(bits.u(1))
    if has_format:
        bits.u(7)
    has_dimensions, has_unary = bits.u(1), bits.u(1)
    assert has_dimensions
    unit.mask = bits.u(4)
    if unit.mask & DC:
        unit.rank, unit.g_rows = bits.ue(3), bits.ue(3)
    unit.shape = tuple(bits.ue(7) for _ in range(bits.ue(1)))
    if has_unary:
        unit.u = bits.u(8) + 1
    if unit.kind == BLOCK and unit.mask & DC and unit.book:
        unit.book_h = read_book(bits)
    if len(unit.shape) > 1:
        if model.profile == 1:
            assert bits.ue(1) == 0
        unit.scan_order = bits.u(4)
    read_entries(bits, unit)
    bits.align()
    unit.payload = bits.rest()
    return unit


def read_parent(bits: Bits, unit: Unit, has_node: bool) -> None:
    """Section 4, field 9."""
    unit.parent = True
    kind, unit.temporal = bits.u(2), bool(bits.u(1))
    if kind:
        bits.u(256 * kind)
        return
    bits.ue(1)
    if not has_node:
        bits.ue(5), bits.ue(4)


def read_entries(bits: Bits, unit: Unit) -> None:
    """Section 7: value, DQ state and offset of each."""
    if not unit.scan_order:
        return
    n_rows = (unit.g_rows, unit.rank) if unit.mask & DC else unit.shape[:1]
    for _ in range(sum(math.ceil(n / (4 << unit.scan_order)) - 1 for n in n_rows)):
        value = bits.u(8)
        state = bits.u(3) if unit.dq else 0
        offset = bits.ie(7) + unit.entries[-1][2] if unit.entries else bits.ue(11)
        unit.entries.append((value, state, offset))


def data_units(data: bytes) -> Iterator[tuple[Unit, Model]]:
    """The data units of a stream, each with what the parameter sets before it say."""
    model = Model()
    for kind, bits in read_units(data):
        if kind == 0:
            model.profile = bits.u(8)
        elif kind == 1:
            read_mps(bits, model)
        elif kind == 2:
            read_lps(bits, model)
        elif kind == 5:
            yield read_ndu(bits, model), model
