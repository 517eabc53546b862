"""One hostile stream through the whole decoder, and what must hold however it ends."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np
from hostile_streams import Case, Source, hostile_case, sources

from vvc_nnr import BitstreamError, UnsupportedError, apply_update, decompress, inspect
from vvc_nnr.bitstream.number_formats import Array

MAX_ELEMENTS = 50_000
LONGEST_S = 1.0
# Streams that are also inspected, half of them with the bits of each kind of bin.
INSPECTED_SHARE = 0.3
# Beyond what the process had before: the decoder's bound (a dozen bytes an element) and what a heap needs to breathe.
MAX_GROWTH_BYTES = 48 << 20


class TrialError(AssertionError):
    """A stream that did harm."""


def peak_bytes() -> int:
    """Most memory that this process ever used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def decoded(source: Source, data: bytes) -> Mapping[str, Array]:
    """The tensors of a stream, or those of its source's state after it."""
    if source.state is None:
        return decompress(data, max_elements=MAX_ELEMENTS, n_threads=1)
    return apply_update(source.state, data, max_elements=MAX_ELEMENTS, n_threads=1).arrays


@dataclass(slots=True)
class Trials:
    """Runs hostile streams by their seeds and counts how they end.

    Args:
        known: What they are made from.
        outcomes: How many ended in "decoded", "BitstreamError" and "UnsupportedError".
        longest_s: Most processor time of one stream.
    """

    known: tuple[Source, ...] = field(default_factory=sources)
    outcomes: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    _truth: dict[str, Mapping[str, Array]] = field(default_factory=dict)
    _start_bytes: int = 0

    def __post_init__(self) -> None:
        for source in self.known:
            if not source.name.startswith("block bare") and source.name != "block":
                self._truth[source.name] = decoded(source, source.data)
        self._start_bytes = peak_bytes()

    def run(self, seeds: Iterable[int]) -> None:
        """Raises TrialError at the first stream that does harm."""
        for seed in seeds:
            self.run_one(seed)

    def run_one(self, seed: int) -> None:
        """One stream. Raises TrialError if it ends in anything but a right result or one of the two errors."""
        random = Random(seed)
        case = hostile_case(random, self.known)
        start_s = time.process_time()
        try:
            outcome = self._end_of(case, random.random())
        except Exception as error:
            raise TrialError(f"seed {seed}, {case.mutation} of {case.source.name}: {error!r}") from error
        taken_s = time.process_time() - start_s
        self.longest_s = max(self.longest_s, taken_s)
        self.outcomes[outcome] += 1
        if taken_s > LONGEST_S or peak_bytes() - self._start_bytes > MAX_GROWTH_BYTES:
            grown = (peak_bytes() - self._start_bytes) >> 20
            raise TrialError(f"seed {seed}, {case.mutation} of {case.source.name}: {taken_s:.2f} s, {grown} MiB more")

    def _end_of(self, case: Case, chance: float) -> str:
        if chance < INSPECTED_SHARE:
            with contextlib.suppress(BitstreamError, UnsupportedError):
                inspect(case.data, bins=chance < INSPECTED_SHARE / 2, max_elements=MAX_ELEMENTS, n_threads=1)
        try:
            found = decoded(case.source, case.data)
        except (BitstreamError, UnsupportedError) as error:
            return type(error).__name__
        self._check(case, found)
        return "decoded"

    def _check(self, case: Case, found: Mapping[str, Array]) -> None:
        """Raises TrialError if the result is too large, or wrong and not to be seen as such."""
        if case.source.state is None and sum(array.size for array in found.values()) > MAX_ELEMENTS:
            raise TrialError("more values than allowed")
        if case.is_sealed or not inspect(case.data).is_verifiable:
            return
        wanted = self._truth[case.source.name]
        if list(found) != list(wanted) or any(not _are_same(found[name], wanted[name]) for name in wanted):
            raise TrialError("a wrong result that counts as verified")


def _are_same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == np.asarray(other).tobytes()
