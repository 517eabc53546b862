"""Payloads by sections 5 to 8 of docs/FORMAT.md, whose tables are read from the document (see format_decoder.py)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from format_units import INT, Book, Unit
from numpy.typing import NDArray

FORMAT = (Path(__file__).parents[2] / "docs" / "FORMAT.md").read_text()


def numbers_after(heading: str) -> list[list[int]]:
    """The rows of the first block of plain numbers behind a heading of the document."""
    block = re.search(r"```\n([-\d,\n]+)```", FORMAT[FORMAT.index(heading) :])
    assert block is not None
    return [[int(number) for number in line.split(",")] for line in block[1].split()]


def table_after(heading: str) -> list[list[int]]:
    """The rows of whole numbers of the first table behind a heading of the document."""
    lines = FORMAT[FORMAT.index(heading) :].split("\n")
    rows: list[list[int]] = []
    for line in lines:
        cells = line.strip("| ").split("|")
        if line.startswith("|") and all(re.fullmatch(r"\s*-?\d+\s*", cell) for cell in cells):
            rows.append([int(cell) for cell in cells])
        elif rows:
            break
    return rows


RLPS = numbers_after("### RLPS")
ADAPTATION = numbers_after("A, from place 0")[0]
SETS = {row[0]: row[1:] for row in table_after("Shifts and start by set")}
NEXT_STATE = {row[0]: row[1:] for row in table_after("### Dependent quantisation")}


class Context:
    """Section 8, estimators."""

    def __init__(self, number: int = 0) -> None:
        self.ra, self.rc, total, self.a = SETS[number]
        self.c = total - 16 * self.a

    @property
    def total(self) -> int:
        return 16 * self.a + self.c

    def update(self, one: int) -> None:
        g = 1 if one else -1
        self.a += g * (ADAPTATION[16 + ((g * self.a) >> 3)] >> self.ra)
        self.c += g * (ADAPTATION[16 + ((g * self.c) >> 7)] >> self.rc)


class Decoder:
    """Section 8, the arithmetic decoder."""

    def __init__(self, data: bytes) -> None:
        self.data, self.consumed = data, 2
        self.range, self.value, self.need = 510, int.from_bytes(data[:2], "big"), -8

    @classmethod
    def at_entry(cls, data: bytes, position: int, value: int) -> Decoder:
        """Section 7: a decoder that starts at a position."""
        found = cls(data)
        found.range, found.consumed = 256, (position + 16) // 8
        found.need = position + 8 - 8 * found.consumed
        n_bits = -1 - found.need
        last = data[found.consumed - 1] & ((1 << n_bits) - 1)
        found.value = value * 128 + (last << (7 - n_bits))
        return found

    @property
    def position(self) -> int:
        return 8 * self.consumed - 8 + self.need

    def shift(self) -> None:
        self.value *= 2
        self.need += 1
        if self.need == 0:
            self.value += self.data[self.consumed]
            self.consumed += 1
            self.need = -8

    def bin(self, context: Context) -> int:
        total = context.total
        r = RLPS[(self.range >> 5) & 7][abs(total >> 7)]
        self.range -= r
        found = int(total >= 0)
        if self.value >> 7 >= self.range:
            self.value -= self.range << 7
            self.range, found = r, 1 - found
        while self.range < 256:
            self.range *= 2
            self.shift()
        context.update(found)
        return found

    def bypass(self, n: int = 1) -> int:
        number = 0
        for _ in range(n):
            self.shift()
            one = self.value >= self.range << 7
            self.value -= (self.range << 7) * one
            number = 2 * number + one
        return number

    def finish(self) -> None:
        self.range -= 2
        assert self.value >= self.range << 7
        assert self.data[self.consumed - 1] << (8 + self.need) & 255 == 128
        assert self.consumed == len(self.data)


@dataclass
class Past:
    """Section 11: what both sides keep of a tensor."""

    levels: NDArray[np.int64] | None = None
    history: NDArray[np.int64] | None = None


class Tensor:
    """One tensor of a payload: sections 5 to 7."""

    def __init__(self, unit: Unit, shape: tuple[int, ...], book: Book | None, order: int, past: Past) -> None:
        self.unit, self.shape, self.book = unit, shape, book
        self.h, self.w = shape[0], math.prod(shape[1:])
        self.side = 4 << order if order and self.h > 1 and self.w > 1 else max(self.h, self.w)
        self.dq = unit.dq and unit.kind != INT
        self.base = past.levels.reshape(-1) if unit.temporal and past.levels is not None else None
        self.history = past.history.reshape(-1) if past.history is not None else None
        self.uses_history = False
        self.skipped: set[int] = set()
        self.sets: dict[int, int] = {}
        self.levels = np.zeros(self.h * self.w, np.int64)
        self.state = 0

    def limit(self, negative: int) -> float:
        """M of section 6."""
        if self.book is None:
            return math.inf
        return self.book.zo if negative else len(self.book.values) - 1 - self.book.zo

    def prologue(self, decoder: Decoder, profile: int) -> None:
        """Section 5."""
        size = len(self.book.values) if self.book else 0
        if profile == 1 and self.h > 1 and self.w > 1 and size != 1:
            if self.unit.parent:
                self.uses_history = bool(decoder.bypass())
            if decoder.bypass():
                context = Context()
                self.skipped = {row for row in range(self.h) if decoder.bin(context)}
        flag = Context()
        for place in self.signalled(size):
            self.sets[place] = decoder.bypass(3) + 1 if decoder.bin(flag) else 0

    def signalled(self, size: int) -> Iterator[int]:
        """Section 5: the contexts whose sets are in the prologue."""
        u, temporal, most = self.unit.u, self.base is not None, max(self.limit(0), self.limit(1))
        if size != 1:
            yield from range(24 if self.dq else 3)
            if temporal:
                yield from range(24, 40 if self.dq else 26)
            if self.uses_history:
                yield from range(40, 48 if self.dq else 41)
        if self.book is None or 0 < self.book.zo < size - 1:
            yield from range(48, 53 if temporal else 51)
        yield from (53 + a for a in range(2 * u) if a < 2 * most)
        if temporal:
            yield from (53 + 2 * u + a for a in range(2 * u) if a < 2 * (most - 1))
        yield from (53 + 4 * u + a for a in range(31) if u - 1 + 2 ** (a + 1) - 1 < most)

    def rows(self) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
        """Section 7: the block rows, each as segments of row, first and last column."""
        for number, top in enumerate(range(0, self.h, self.side)):
            bottom = min(top + self.side, self.h)
            lefts = range(0, self.w, self.side)
            yield number, [(r, x, min(x + self.side, self.w)) for x in lefts for r in range(top, bottom)]

    def decode(self, decoder: Decoder) -> list[tuple[int, int, int]]:
        """All values in order; where each block row began: position, value, DQ state."""
        starts = []
        for _, segments in self.rows():
            if self.h > self.side:
                decoder.range = 256
                starts.append((decoder.position, decoder.value >> 7, self.state))
            self.decode_row(decoder, segments)
        return starts

    def decode_row(self, decoder: Decoder, segments: list[tuple[int, int, int]]) -> None:
        contexts = {place: Context(number) for place, number in self.sets.items()}
        neighbour = 0
        for row, first, last in segments:
            if row in self.skipped:
                for _ in range(self.w if self.dq else 0):
                    self.state = NEXT_STATE[self.state][0]
                continue
            for place in range(row * self.w + first, row * self.w + last):
                neighbour = self.index(decoder, contexts, place, neighbour)
                if self.dq:
                    sign = (neighbour > 0) - (neighbour < 0)
                    self.levels[place] = 2 * neighbour - sign * (self.state & 1)
                    self.state = NEXT_STATE[self.state][neighbour & 1]
                else:
                    self.levels[place] = neighbour

    def index(self, decoder: Decoder, contexts: dict[int, Context], place: int, neighbour: int) -> int:
        """Section 6: k."""
        u, s, side = self.unit.u, self.state, 0 if neighbour == 0 else 1 if neighbour < 0 else 2
        base = int(self.base[place]) if self.base is not None else 0
        size = len(self.book.values) if self.book else 0

        def bin_in(context: int) -> int:
            return decoder.bin(contexts.setdefault(context, Context()))

        if size != 1:
            significance = 3 * s + side if base == 0 else 24 + 2 * s + (abs(base) > 1)
            if self.uses_history and self.history is not None and self.history[place]:
                significance = 40 + s
            if not bin_in(significance):
                return 0
        else:
            return 0
        if self.book and self.book.zo in (0, size - 1):
            negative = int(self.book.zo != 0)
        else:
            negative = bin_in(48 + side if base == 0 else 51 + (base > 0))
        most, k = self.limit(negative), 1
        for j in range(u):
            if j + 1 == most:
                break
            if not bin_in(53 + 2 * j + negative if base == 0 else 53 + 2 * u + 2 * j + (abs(base) < j)):
                break
            k += 1
        else:
            b = p = 0
            while u + 1 + b + 2**p <= most and bin_in(53 + 4 * u + p):
                b, p = b + 2**p, p + 1
            k = u + 1 + b + decoder.bypass(p)
        return -k if negative else k
