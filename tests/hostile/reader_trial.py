"""One damaged input through one reader, and what must hold however that ends.

Allowed: a value that the format allows, or one of the reader's errors in one short line of printable characters.
Not allowed: other errors, warnings, text on the terminal, more than some seconds or some memory, even if an error hides
that on the way.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hostile_mutations import damaged
from hostile_readers import Reader

MAX_MESSAGE_CHARACTERS = 1000
MAX_GROWTH_BYTES = 256 << 20
# Address space that a process may take beyond what it has when it begins.
ADDRESS_SPACE_BYTES = 1 << 30
_OUT_OF_MEMORY = ("allocate", "bad_alloc", "out of memory", "std::bad_array_new_length")


@dataclass(frozen=True, slots=True)
class Fault:
    """An input that did harm.

    Attributes:
        reader: Name of the reader.
        seed: Makes the input again.
        kind: What happened, and where, the same for the same fault.
        detail: More of it.
    """

    reader: str
    seed: int
    kind: str
    detail: str


def hostile_input(reader: Reader, seeds: list[bytes], seed: int) -> bytes:
    """The damaged bytes of a seed."""
    random = Random(f"{reader.name} {seed}")
    data = random.choice(seeds)
    if reader.inside is not None and random.random() < 0.5:
        data = reader.inside(random, data)
        if random.random() < 0.9:
            return data
    return damaged(random, data, seeds, reader.tokens)


@dataclass(slots=True)
class ReaderTrials:
    """Damaged inputs of one reader.

    Args:
        reader: What reads them.
        outcomes: How many ended in which error, or were "read".
        longest_s: Most processor time of one.
    """

    reader: Reader
    outcomes: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    _seeds: list[bytes] = field(default_factory=list)
    _folder: Path = field(default_factory=Path)
    _terminal: int = -1

    def prepare(self, folder: Path, terminal: int = -1) -> None:
        """Makes the seeds and reads each of them, which must succeed or be refused as it was made to be.

        Args:
            folder: Where files may be written.
            terminal: A file that stands for the terminal, -1: not looked at.
        """
        self._folder, self._terminal = folder, terminal
        self._seeds = self.reader.seeds()
        for data in self._seeds:
            try:
                self.reader.read(data, folder)
            except self.reader.errors:
                continue

    def run_one(self, seed: int) -> Fault | None:
        """The input of one seed; what was wrong, None if nothing was."""
        data = hostile_input(self.reader, self._seeds, seed)
        printed = os.fstat(self._terminal).st_size if self._terminal >= 0 else 0
        peak_bytes, used_bytes = _peak_bytes(), _used_bytes()
        start_s = time.process_time()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                self.reader.read(data, self._folder)
                error: BaseException | None = None
            except Exception as caught:
                error = caught
        taken_s = time.process_time() - start_s
        self.longest_s = max(self.longest_s, taken_s)
        self.outcomes["read" if error is None else type(error).__name__] += 1
        for kind, detail in self._faults(error):
            return Fault(self.reader.name, seed, kind, detail)
        if warned:
            return Fault(self.reader.name, seed, f"warning {warned[0].category.__name__}", str(warned[0].message))
        if taken_s > self.reader.longest_s:
            return Fault(self.reader.name, seed, "too slow", f"{taken_s:.1f} s for {len(data)} bytes")
        grown = _peak_bytes() - used_bytes if _peak_bytes() > peak_bytes else 0
        if grown > MAX_GROWTH_BYTES:
            return Fault(self.reader.name, seed, "too much memory", f"{grown >> 20} MiB for {len(data)} bytes")
        if self._terminal >= 0 and not self.reader.may_print and os.fstat(self._terminal).st_size > printed:
            text = os.pread(self._terminal, 200, printed).decode("utf-8", "replace")
            return Fault(self.reader.name, seed, "printed", text)
        return None

    def _faults(self, error: BaseException | None) -> Iterator[tuple[str, str]]:
        if error is None:
            return
        if not isinstance(error, self.reader.errors):
            yield f"{type(error).__name__} {_place(error)}", str(error)[:300]
        for inner in () if self.reader.may_reserve else _chain(error):
            if isinstance(inner, MemoryError) or any(word in str(inner)[:2000].lower() for word in _OUT_OF_MEMORY):
                yield f"wild allocation {_place(inner)}", repr(inner)[:300]
        message = str(error)
        if len(message) > MAX_MESSAGE_CHARACTERS or not message.isprintable():
            yield f"odd message {_place(error)}", repr(message[:200])


def limit_memory() -> None:
    """Bounds the address space of this process, so that a wild allocation is an error and not the end of others."""
    resource.setrlimit(resource.RLIMIT_AS, (_used_bytes(reserved=True) + ADDRESS_SPACE_BYTES, resource.RLIM_INFINITY))


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where there is one: each input is written to a file."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def _used_bytes(*, reserved: bool = False) -> int:
    """Memory of this process, or its address space. What leaks grows until the bound on that ends it."""
    return int(Path("/proc/self/statm").read_text().split()[not reserved]) * os.sysconf("SC_PAGE_SIZE")


def _chain(error: BaseException) -> Iterator[BaseException]:
    known: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in known:
        yield inner
        known.add(id(inner))
        inner = inner.__cause__ or inner.__context__


def _place(error: BaseException) -> str:
    """Where an error was raised, in this package if it passed through it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/tests/" not in frame.filename and "site-packages" not in frame.filename]
    chosen = (own or frames)[-1:]
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in chosen)
