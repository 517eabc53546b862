"""Independent units of work: which of them run, where, what becomes of those that fail.

A unit says what it is called and about how long it takes. It is run by one function, which keeps what it makes in a
file of its own, whole or not at all: a unit that was cut off runs again from its beginning.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import math
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

from tqdm import tqdm

from vvc_nnr.errors import MESSAGE_CHARACTERS, InputError, VvcNnrError, shown
from vvc_nnr.executors import (
    MAX_JOBS,
    Lost,
    Repeated,
    SlurmSettings,
    in_this_process,
    on_dask,
    on_executor,
    on_processes,
    on_slurm,
)
from vvc_nnr.files import make_folder, short_name, write_file
from vvc_nnr.options import thread_count

WORTH_S = 20.0
"""Of work for each further process: starting one takes some seconds."""
TASK_S = 1.0
"""Of work for each task of dask, whose scheduler takes some milliseconds for it: short units share one."""
JOB_S = 30.0
"""Of work for each job of SLURM, whose start takes 10 to 20 seconds: short units share one."""
MAX_WORKERS = 256
_MAX_NAMES = 5
_WAS_MADE = "was made"
_log = logging.getLogger(__name__)


class Unit(Protocol):
    """One unit of work."""

    @property
    def name(self) -> str:
        """What it is called; no two units of a run are called alike."""
        ...

    @property
    def cost_s(self) -> float:
        """About how many seconds it takes on one core."""
        ...


UnitT = TypeVar("UnitT", bound=Unit)


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """Where units of work run: at most one of `workers`, `dask` and `slurm`.

    Attributes:
        workers: Processes on this machine. Default: one for each core, fewer where the work is short.
        dask: Address of a dask scheduler, such as tcp://node:8786 (extra dask).
        slurm: Submit an array of jobs to SLURM, as in partition=short,array=64,time=240,mem_gb=4 (extra slurm).
        shard: Run the share I of N alone, as in 3/64, and make no tables: a last run without it does.

    Raises:
        InputError: If a value is out of its range, or two of them contradict each other.
    """

    workers: int | None = None
    dask: str | None = None
    slurm: str | None = None
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("workers", "dask", "slurm") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"{given[0]}, {given[1]}: units run in one place; give one of them")
        if self.workers is not None and not 1 <= self.workers <= MAX_WORKERS:
            raise InputError(f"workers: {self.workers}, must be 1 to {MAX_WORKERS}")
        if self.slurm is not None:
            SlurmSettings.parse(self.slurm)
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"shard: {self.shard[0]}/{self.shard[1]}, must be I/N with I from 1 to N")


IN_THIS_PROCESS = ExecutorOptions(workers=1)
"""One unit after the other."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that failed.

    Attributes:
        unit: Its name.
        error: What happened, in one line.
        is_known: Whether the error is one of this package's, such as of a file that cannot be read.
    """

    unit: str
    error: str
    is_known: bool = False


class UnitsError(VvcNnrError, RuntimeError):
    """Units that failed, after all others were done; run again, they alone run.

    Args:
        failures: Which, and why.
        n_units: How many units there were.
        logs: Folder of what was printed of them.
    """

    _n_characters = 2000

    def __init__(self, failures: Sequence[Failure], n_units: int, logs: Path) -> None:
        named = _listed([f"{each.unit}: {shown(each.error, 300)}" for each in failures])
        super().__init__(
            f"{len(failures)} of {n_units} units failed: {named}. All others that need nothing of "
            f"them are done and kept; run it again, and only what is missing runs (logs: {logs})"
        )
        self.failures = tuple(failures)
        self.n_units = n_units
        self.logs = logs
        self.cli_exit_code = 2 if all(each.is_known for each in failures) else 1

    @classmethod
    def joined(cls, errors: Sequence[UnitsError]) -> UnitsError:
        """One error of several rounds of units in one folder of logs."""
        failures = [failure for error in errors for failure in error.failures]
        return cls(failures, sum(error.n_units for error in errors), errors[0].logs)


def _listed(texts: Sequence[str]) -> str:
    """The first few of some texts, and how many more there are."""
    more = [f"and {len(texts) - _MAX_NAMES} more"] if len(texts) > _MAX_NAMES else []
    return "; ".join([*(shown(text, MESSAGE_CHARACTERS) for text in texts[:_MAX_NAMES]), *more])


def share_of(units: Sequence[UnitT], shard: tuple[int, int] | None) -> list[UnitT]:
    """The units of a share, neighbours in their order; shares take about equally long.

    Args:
        units: All of them, in the order that is the same for all shares.
        shard: Its number from 1, and the number of shares; None: all units.
    """
    if shard is None:
        return list(units)
    number, n_shares = shard
    ends_s = list(accumulate(unit.cost_s for unit in units))
    middles_s = (end_s - unit.cost_s / 2 for unit, end_s in zip(units, ends_s, strict=True))
    total_s = ends_s[-1] if ends_s and ends_s[-1] > 0 else 1.0
    return [unit for unit, at_s in zip(units, middles_s, strict=True) if int(n_shares * at_s / total_s) == number - 1]


def n_at_once(units: Sequence[Unit], options: ExecutorOptions, executor: Executor | None = None) -> int | None:
    """How many processes of this machine run units: 1 for this one alone; None where they run elsewhere."""
    if executor is not None or options.dask is not None or options.slurm is not None:
        return None
    if options.workers is not None:
        return min(options.workers, max(1, len(units)))
    worth = int(sum(unit.cost_s for unit in units) / WORTH_S)
    return max(1, min(thread_count(None), worth, len(units)))


def run_units(
    work: Callable[[UnitT], None],
    units: Sequence[UnitT],
    is_made: Callable[[UnitT], bool],
    options: ExecutorOptions,
    logs: Path,
    *,
    title: str,
    executor: Executor | None = None,
) -> None:
    """Runs units, those that take longest first, wherever the options say; one that fails does not stop the others.

    A unit whose worker was killed in the middle runs again. That is said at once and, of all such units, at the end.

    Args:
        work: Runs a unit. Outside of this process it must be importable there, and picklable.
        units: What is to be run; what is made already is not made again.
        is_made: Whether what a unit leaves is there, whole; importable and picklable as `work`.
        options: Where units run.
        logs: Folder of what is known of units that failed, a file each, and of what SLURM's jobs print.
        title: What the progress bar calls the work.
        executor: Where units run instead of the options' place.

    Raises:
        InputError: If the place cannot be used.
        UnitsError: If units failed; all others are done.
    """
    missing = [unit for unit in units if not is_made(unit)]
    is_here = n_at_once(missing, options, executor) == 1
    order = missing if is_here else sorted(missing, key=lambda unit: -unit.cost_s)
    failures, again = dict[str, Failure](), dict[str, Repeated]()
    results = _results(partial(_attempt, work, is_made, logs), order, options, logs, executor)
    with (
        contextlib.closing(results),
        tqdm(total=len(units), initial=len(units) - len(missing), desc=title, unit="unit", disable=None) as bar,
    ):
        for unit, result in results:
            if isinstance(result, Repeated):
                again[unit.name] = result
                _log.warning("%s: %s; what it had not finished runs again", shown(unit.name), result.reason)
                continue
            bar.set_postfix_str(shown(unit.name))
            bar.update()
            if isinstance(result, Lost):
                failures[unit.name] = Failure(unit.name, result.reason)
            elif isinstance(result, Failure):
                failures[unit.name] = result
            elif result == _WAS_MADE:
                again.pop(unit.name, None)
    for unit in units if logs.is_dir() else ():
        if unit.name not in failures:
            log_path(logs, unit.name).unlink(missing_ok=True)
    for folder in (logs, logs.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()
    if repeated := [unit.name for unit in missing if unit.name in again]:
        _log.warning(
            "%s of %s units were handed out again, since the worker that had them was killed: %s",
            len(repeated),
            len(units),
            _listed(repeated),
        )
    if failed := [failures[unit.name] for unit in missing if unit.name in failures and not is_made(unit)]:
        raise UnitsError(failed, len(units), logs)


def log_path(logs: Path, unit: str) -> Path:
    """Where the log of a unit that failed is; its name is of ASCII alone, for machines whose names are."""
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in unit)
    return logs / f"{short_name(quote(plain))}.log"


def _results(
    attempt: Callable[[UnitT], Failure | str | None],
    units: Sequence[UnitT],
    options: ExecutorOptions,
    logs: Path,
    executor: Executor | None,
) -> Generator[tuple[UnitT, Failure | Lost | Repeated | str | None], None, None]:
    if not units:
        return
    n_workers = n_at_once(units, options, executor)
    if executor is not None:
        yield from on_executor(attempt, units, executor)
    elif options.dask is not None:
        yield from on_dask(attempt, _tasks(units), options.dask)
    elif options.slurm is not None:
        settings = SlurmSettings.parse(options.slurm)
        n_most = settings.array if settings.cluster == "local" else MAX_JOBS
        yield from on_slurm(attempt, _jobs(units, n_most), settings, logs / "slurm")
    elif n_workers == 1:
        yield from in_this_process(attempt, units)
    else:
        yield from on_processes(attempt, units, n_workers or 1)


def _tasks(units: Sequence[UnitT]) -> list[list[UnitT]]:
    """The units in their order, several together where they are short."""
    tasks, cost_s = list[list[UnitT]](), 0.0
    for unit in units:
        if not tasks or cost_s + unit.cost_s > TASK_S:
            tasks.append([])
            cost_s = 0.0
        tasks[-1].append(unit)
        cost_s += unit.cost_s
    return tasks


def _jobs(units: Sequence[UnitT], n_most: int) -> list[list[UnitT]]:
    """The units by falling cost shared out to jobs, each worth its start; no more than so many.

    Each unit goes where there is least to do so far: long ones have jobs of their own, jobs of short ones are about
    equally long.
    """
    short_s = sum(unit.cost_s for unit in units if unit.cost_s < JOB_S)
    n_long = sum(unit.cost_s >= JOB_S for unit in units)
    n_jobs = min(n_most, len(units), n_long + math.ceil(short_s / JOB_S) if JOB_S else len(units))
    jobs: list[list[UnitT]] = [[] for _ in range(max(1, n_jobs))]
    waiting = [(0.0, 0, place) for place in range(len(jobs))]
    for unit in units:
        cost_s, n_units, place = heapq.heappop(waiting)
        jobs[place].append(unit)
        heapq.heappush(waiting, (cost_s + unit.cost_s, n_units + 1, place))
    return [job for job in jobs if job]


def _attempt(
    work: Callable[[UnitT], None], is_made: Callable[[UnitT], bool], logs: Path, unit: UnitT
) -> Failure | str | None:
    """Runs a unit that is not made by now; what fails is told, and its traceback kept."""
    try:
        if is_made(unit):
            return _WAS_MADE
        work(unit)
    except Exception as error:
        is_known = isinstance(error, VvcNnrError)
        said = str(error) if is_known else f"{type(error).__name__}: {error}"
        with contextlib.suppress(VvcNnrError):
            write_file(log_path(make_folder(logs), unit.name), traceback.format_exc().encode("utf-8", "replace"))
        return Failure(unit.name, " ".join(said.split()), is_known)
    return None
