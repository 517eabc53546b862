"""The thorough search of dependent quantisation, slow and readable: eight paths, each with a copy of every context."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from reference_arithmetic import RANGE_LPS, Context
from reference_contexts import TensorParams, make_contexts
from reference_tensor import block_rows
from reference_values import NEXT_STATE, Surroundings, encode_value, index_of

COST_STEPS = 4096  # per bit
PIECE = 256  # values between two normalisations of the costs
UNREACHABLE = np.float32(1e30)


@cache
def bin_cost(column: int, is_probable: bool) -> int:
    """Mean code length of a bin in 1/4096 bit, over the ranges that the coder may have (ever rarer as they grow)."""
    total = weight = 0.0
    for interval in range(256, 510):
        share = RANGE_LPS[(interval >> 5) & 7][column] / interval
        total -= math.log2(1 - share if is_probable else share) / interval
        weight += 1 / interval
    return math.floor(total / weight * COST_STEPS + 0.5)


class Meter:
    """Takes the bins of a value in place of an encoder: adds up their cost and moves their contexts."""

    def __init__(self) -> None:
        self.cost = 0

    def context_bin(self, context: Context, bin_value: int) -> None:
        column = abs(context.total >> 7)
        self.cost += bin_cost(column, bool(bin_value) == (context.total >= 0))
        context.update(int(bin_value))

    def bypass_bins(self, value: int, n_bits: int) -> None:
        self.cost += n_bits * COST_STEPS


class Branch:
    """The contexts of a path that goes on: those which are asked for are copies, to be moved."""

    def __init__(self, contexts: list[Context]) -> None:
        self._contexts = contexts
        self._moved: dict[int, Context] = {}

    def __getitem__(self, index: int) -> Context:
        if index not in self._moved:
            self._moved[index] = copy.copy(self._contexts[index])
        return self._moved[index]

    def merged(self) -> list[Context]:
        return [self._moved.get(index, context) for index, context in enumerate(self._contexts)]


@dataclass
class Path:
    """One survivor: what it cost so far (float32), its indices, the last of them in this block row, its contexts."""

    cost: np.float32
    indices: list[int]
    neighbour: int
    contexts: list[Context]

    def extended(self, params: TensorParams, state: int, k: int, distortion: np.float32, weight: np.float32) -> Path:
        """The path with one more index."""
        branch, meter = Branch(self.contexts), Meter()
        encode_value(meter, branch, params, Surroundings(state, self.neighbour, 0, False), k)  # type: ignore[arg-type]
        cost = self.cost + (distortion + weight * np.float32(meter.cost))
        return Path(cost, [*self.indices, k], k, branch.merged())


def search(
    params: TensorParams, steps: np.ndarray, bit_weight: float, sets: dict[int, int], skipped: frozenset[int]
) -> tuple[np.ndarray, float]:
    """Indices (n_rows, n_columns) of weights in steps, and the cost of their path in squared steps.

    Args:
        params: With dependent quantisation.
        steps: float32, (n_rows, n_columns).
        bit_weight: Squared steps that a bit is worth.
        sets: Context to estimator set, for the sets above 0.
        skipped: Rows that are skipped.
    """
    weight = np.float32(bit_weight) / np.float32(COST_STEPS)
    paths = [Path(np.float32(0) if s == 0 else UNREACHABLE, [], 0, []) for s in range(8)]
    places: list[tuple[int, int]] = []
    total = 0.0
    for segments in block_rows(params):
        for path in paths:
            path.contexts, path.neighbour = make_contexts(params, sets), 0
        for row, left, end in segments:
            if row in skipped:
                paths = _skipped(params, paths)
                continue
            for column in range(left, end):
                paths = _step(params, paths, np.float32(steps[row, column]), weight)
                places.append((row, column))
                if column + 1 == end or (column + 1 - left) % PIECE == 0:
                    total += _normalise(paths)
    best = min(paths, key=lambda path: path.cost)
    indices = np.zeros(steps.shape, np.int64)
    for place, k in zip(places, best.indices, strict=True):
        indices[place] = k
    return indices, total


def _step(params: TensorParams, paths: list[Path], steps: np.float32, weight: np.float32) -> list[Path]:
    """The best path into each state over one weight."""
    arrivals: list[list[Path]] = [[] for _ in range(8)]
    for state, path in enumerate(paths):
        zero, even, odd = (path.extended(params, state, k, d, weight) for k, d in _candidates(state, steps))
        arrivals[NEXT_STATE[state][0]].insert(0, zero if zero.cost <= even.cost else even)
        arrivals[NEXT_STATE[state][1]].append(odd)
    return [odd if odd.cost < even.cost else even for even, odd in arrivals]


def _candidates(state: int, steps: np.float32) -> list[tuple[int, np.float32]]:
    """Zero, and the even and the odd index whose levels are among the four around a weight; with their distortions."""
    size = abs(float(steps))
    first = max(1, int(size) - 1)
    levels = [level for level in range(first, first + 4) if (level - state) % 2 == 0]
    offset = np.float32(size - first)
    found = {index_of(level, state): (offset - np.float32(level - first)) ** 2 for level in levels}
    even, odd = sorted(found, key=lambda k: k % 2)
    sign = -1 if steps < 0 else 1
    return [(0, np.float32(size) ** 2), (sign * even, found[even]), (sign * odd, found[odd])]


def _skipped(params: TensorParams, paths: list[Path]) -> list[Path]:
    """As many even indices as a whole row has, at no cost and without a bin."""
    after = list(paths)
    for state, path in enumerate(paths):
        to = state
        for _ in range(params.n_columns % 4):
            to = NEXT_STATE[to][0]
        after[to] = path
    return after


def _normalise(paths: list[Path]) -> float:
    """Takes the least cost from all."""
    least = min(path.cost for path in paths)
    for path in paths:
        path.cost = min(path.cost - least, UNREACHABLE)
    return float(least)
