"""Where independent calls of one function run: in this process, in processes of this machine, on dask, on SLURM.

Each way is a generator: it gets a function and its arguments, and yields each argument with its result as they become
ready, and before that with `Repeated` each time that its worker was gone in the middle; the first arguments are begun
first. Left early, by an error or a signal, it ends what it started: no worker
outlives it, and no program that a worker runs (`children`).

The function must be importable where it runs, and take and return what can be pickled.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from vvc_nnr.errors import InputError

Argument = TypeVar("Argument")
Result = TypeVar("Result")
GRACE_S = 5.0
"""That a worker has to tidy up before it is killed."""
DEFAULT_ARRAY = 64
DEFAULT_MINUTES = 24 * 60
"""submitit has a limit for each job, five minutes where it is told none."""
MAX_JOBS = 1000
"""Of a SLURM array: the usual limit (MaxArraySize)."""
_POLL_S = 0.2
_MAX_VAIN_STARTS = 3
_NUMBERS = ("array", "time", "mem_gb", "cpus")
_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_ERROR = re.compile(r"[\w.]+(?:Error|Exception)\b")
_DASK_TIMEOUT_S = 10
_SLURM_S = 60
"""That a program of SLURM may take to answer."""
_QUEUE_POLL_S = 15.0
_FORGOTTEN = "Invalid job id"
"""What squeue says of jobs that ended a while ago."""
_LEFT_QUEUE = "left the queue without a result; was it killed, cancelled or out of memory?"
_TIMED_OUT = "Job has timed out"
"""What submitit writes into the log of a job whose time is over."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lost:
    """In the place of a result: its worker was gone before it was there.

    Attributes:
        reason: Why, in words.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """Before a result: its worker was gone in the middle of it, and it runs again.

    Attributes:
        reason: Why, in words.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """How jobs go to SLURM.

    Attributes:
        cluster: "slurm", or "local" for processes of this machine in its place, to try things out.
        array: Jobs at a time.
        minutes: Time limit of a job; None: DEFAULT_MINUTES.
        memory_gib: Memory of a job; None: that of the partition.
        cpus: Processors of a job.
        others: Further options of sbatch, such as ("partition", "short").
    """

    cluster: str = "slurm"
    array: int = DEFAULT_ARRAY
    minutes: int | None = None
    memory_gib: int | None = None
    cpus: int = 1
    others: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> SlurmSettings:
        """The settings of a text such as "partition=short,array=64,time=240,mem_gb=4".

        Raises:
            InputError: If a part is not NAME=VALUE, there twice, or no number where it must be one.
        """
        pairs: dict[str, str] = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not (_NAME.fullmatch(name) and equals and value.strip() and value.isprintable()):
                raise InputError(f"slurm: {part!r} must be NAME=VALUE, as in partition=short,array=64,time=240")
            if name in pairs:
                raise InputError(f"slurm: {name} is there twice; give it once")
            pairs[name] = value
        cluster = pairs.get("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise InputError(f"slurm: cluster={cluster}: must be slurm or local")
        for name in _NUMBERS:
            if not re.fullmatch(r"[1-9][0-9]{0,6}", pairs.get(name, "1")):
                raise InputError(f"slurm: {name}={pairs[name]}: must be a whole number of at least 1")
        array, minutes, memory_gib, cpus = (int(pairs[name]) if name in pairs else None for name in _NUMBERS)
        others = tuple((name, value) for name, value in pairs.items() if name not in ("cluster", *_NUMBERS))
        return cls(cluster, array or DEFAULT_ARRAY, minutes, memory_gib, cpus or 1, others)


def in_this_process(
    function: Callable[[Argument], Result], arguments: Sequence[Argument]
) -> Generator[tuple[Argument, Result | Lost], None, None]:
    """Calls one after the other."""
    for argument in arguments:
        yield argument, function(argument)


def on_executor(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], executor: Executor
) -> Generator[tuple[Argument, Result | Lost], None, None]:
    """Calls on an executor of the caller's, which stays open; left early, what waits there is cancelled."""
    futures = {executor.submit(function, argument): argument for argument in arguments}
    try:
        for future in as_completed(futures):
            result = _result(future)
            yield futures[future], result
    finally:
        for future in futures:
            future.cancel()


def on_processes(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], n_workers: int
) -> Generator[tuple[Argument, Result | Lost | Repeated], None, None]:
    """Calls in new processes of this machine, one at a time in each.

    A process that is killed from outside, such as for its memory, takes all processes with it. New ones go on with the
    rest; what was in work runs once more at the end, alone. What is then killed again is lost.

    Args:
        function: What is called.
        arguments: What it is called with.
        n_workers: Processes.
    """
    waiting, again, n_vain_starts = deque(arguments), list[Argument](), 0
    while waiting and n_vain_starts < _MAX_VAIN_STARTS:
        n_before = len(waiting)
        n_done = 0
        in_work: list[Argument] = []
        with _processes(min(n_workers, len(waiting))) as pool:
            for argument, result in _windowed(pool, function, waiting, n_workers, in_work):
                n_done += 1
                yield argument, result
        again += in_work
        for argument in in_work:
            yield argument, Repeated("a worker process was killed (out of memory?)")
        n_vain_starts = 0 if n_done else n_vain_starts + 1
        assert len(waiting) < n_before
    for argument in [*again, *waiting]:
        if n_vain_starts >= _MAX_VAIN_STARTS:
            yield argument, Lost("no worker process could be kept running; a script must start it behind `if __name__`")
            continue
        with _processes(1) as pool:
            with _interrupts_held_back():
                future = pool.submit(_called, function, argument)
            alone = _result(future)
            yield argument, alone


def _windowed(
    pool: Executor,
    function: Callable[[Argument], Result],
    waiting: deque[Argument],
    n_at_once: int,
    in_work: list[Argument],
) -> Iterator[tuple[Argument, Result]]:
    """Takes from what waits, a few at a time, until all is done or the pool broke; `in_work` has what then was."""
    futures: dict[Future[Result], Argument] = {}
    is_broken = False
    while (waiting and not is_broken) or futures:
        while waiting and not is_broken and len(futures) < n_at_once:
            argument = waiting.popleft()
            try:
                with _interrupts_held_back():
                    futures[pool.submit(_called, function, argument)] = argument
            except BrokenExecutor:
                in_work.append(argument)
                is_broken = True
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            argument = futures.pop(future)
            if isinstance(future.exception(), BrokenExecutor):
                in_work.append(argument)
                is_broken = True
            else:
                yield argument, future.result()


@contextmanager
def _processes(n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block; at once where it raises, or when this process is gone, however it ended.

    Each worker holds the reading end of a pipe that this process alone can write to. New processes, not forks: threads
    of torch and OpenVINO do not live on in a fork.
    """
    context = get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(n_workers, context, _begin_worker, (reader,))
    try:
        yield pool
    except BaseException:
        writer.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        writer.close()
        reader.close()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """While processes are started: a terminal's Ctrl-C waits here, and never gets to them, who would tell of it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(end: Connection) -> None:
    """In a worker: a terminal's Ctrl-C is for the process that started it, whose end is this one's too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()


def _end_with(end: Connection) -> None:
    """In a worker: ends it as soon as nobody can write to the pipe any more."""
    with contextlib.suppress(EOFError, OSError):
        end.recv_bytes()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _called(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """In a worker: while there is work its end is an exception, so that `with` blocks tidy up."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return function(argument)
    finally:
        signal.signal(signal.SIGTERM, before)


def on_dask(
    function: Callable[[Argument], Result], shares: Sequence[Sequence[Argument]], address: str
) -> Generator[tuple[Argument, Result | Lost | Repeated], None, None]:
    """Calls on the workers of a dask scheduler, where this package must be installed (extra `dask`).

    What a worker had when it was killed runs on another one; the scheduler alone knows, and tells in its events.

    Args:
        function: What is called.
        shares: What it is called with; those of a share go to one worker, in one message.
        address: The scheduler's, such as "tcp://node:8786".

    Raises:
        InputError: If the package is not installed, or no scheduler answers.
    """
    _check_installed("distributed", "dask")
    import distributed

    try:
        client = distributed.Client(address, timeout=_DASK_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"dask {address}: no scheduler answers there ({error}); must be as tcp://host:8786") from error
    with client:
        waiting, events = list(shares), deque[Any]()
        client.subscribe_topic("all", lambda event: events.append(event[1]))
        while waiting:
            futures = client.map(partial(_each, function), waiting, pure=False)  # at once: the function is sent once
            share_of = dict(zip((future.key for future in futures), waiting, strict=True))
            waiting = []
            try:
                for future in distributed.as_completed(futures, loop=client.loop):
                    yield from _repeated(events, share_of)
                    share, found = share_of.pop(future.key), _result(future)
                    future.release()  # what is kept on a worker is computed again when that one goes
                    if isinstance(found, Lost) and len(share) > 1:
                        waiting += [[argument] for argument in share]  # whichever it was that ended the worker
                    else:
                        yield from _shared_out(share, found)
            finally:
                client.cancel([future for future in futures if future.key in share_of])


def _repeated(events: deque[Any], share_of: Mapping[str, Sequence[Argument]]) -> Iterator[tuple[Argument, Repeated]]:
    """Takes what a dask scheduler told, and yields what workers that are gone had begun or were to begin next."""
    while events:
        event = events.popleft()
        if isinstance(event, dict) and event.get("action") == "remove-worker":
            reason = Repeated(f"worker {event['worker']} is gone")
            shares = (share_of.get(key, ()) for key in event["processing-tasks"])
            yield from ((argument, reason) for share in shares for argument in share)


def on_slurm(
    function: Callable[[Argument], Result], shares: Sequence[Sequence[Argument]], settings: SlurmSettings, folder: Path
) -> Generator[tuple[Argument, Result | Lost], None, None]:
    """Calls in one array of SLURM jobs (extra `slurm`), which are cancelled if the generator is left early.

    Args:
        function: What is called.
        shares: What it is called with; those of a share go to one job. No more than `MAX_JOBS`.
        settings: How jobs are submitted.
        folder: Where submitit keeps scripts, logs and results, one set for each job; all nodes must see it.

    Raises:
        InputError: If the package or SLURM is not there.
    """
    _check_installed("submitit", "slurm")
    import submitit

    for program in ("sbatch", "srun") if settings.cluster == "slurm" else ():
        if shutil.which(program) is None:
            raise InputError(
                f"slurm: {program} is not on the PATH; run this on a login node, or say cluster=local to try it"
            )
    executor = submitit.AutoExecutor(folder=folder, cluster=settings.cluster)
    executor.update_parameters(**_parameters(settings))
    is_local = settings.cluster == "local"
    try:
        with _errors_in(folder / "controllers.log") if is_local else contextlib.nullcontext():
            submitted = executor.map_array(partial(_each, function), shares)
    except Exception as error:  # of submitit, which has many kinds: what sbatch says, or no srun
        raise InputError(f"slurm: the jobs cannot be submitted: {_telling_line(error)}") from error
    jobs = dict(zip(submitted, shares, strict=True))
    queue = None if is_local or _has_accounting() else _Queue()
    try:
        while jobs:
            gone = queue.left_by(jobs) if queue else set[Any]()
            done = [job for job in jobs if job in gone or (_has_result(job) if queue else job.done())]
            for job in done:
                lost = job in gone and not _has_result(job)
                yield from _shared_out(jobs.pop(job), _lost(job, _LEFT_QUEUE) if lost else _result_of(job))
            time.sleep(0 if done else _POLL_S)
    finally:
        for job in jobs:
            job.cancel(check=False)


def _has_accounting() -> bool:
    """Whether SLURM's accounting can tell how jobs ended; if not, that is said once.

    submitit goes on asking it every few seconds where it cannot, and says so in three lines each time.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["sacct", "--noheader", "--jobs=1"]
        if subprocess.run(command, capture_output=True, timeout=_SLURM_S, check=False).returncode == 0:
            return True
    _log.warning(
        "slurm: this cluster keeps no accounting (sacct); which jobs have ended is told by their results and the queue "
        "(squeue), not why one ended without a result"
    )
    return False


def _has_result(job: Any) -> bool:
    """Whether a job left its result. Its folder is touched first, so that a network file system looks anew."""
    with contextlib.suppress(OSError):
        job.paths.folder.chmod(job.paths.folder.stat().st_mode)
    return bool(job.paths.result_pickle.exists())


@dataclass(slots=True)
class _Queue:
    """The queue of SLURM, where accounting cannot tell which jobs ended.

    Attributes:
        asked_s: When it was asked.
        missing: Jobs that were not in it then.
    """

    asked_s: float = -math.inf
    missing: set[Any] = field(default_factory=set)

    def left_by(self, jobs: Collection[Any]) -> set[Any]:
        """Jobs that twice in a row were not there, with time between for their results to be seen."""
        if time.monotonic() - self.asked_s < _QUEUE_POLL_S:
            return set()
        arrays = sorted({job.job_id.partition("_")[0] for job in jobs})
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(arrays)}"]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=_SLURM_S, check=False)
        except (OSError, subprocess.SubprocessError):
            return set()
        self.asked_s = time.monotonic()
        if asked.returncode and _FORGOTTEN not in asked.stderr:
            return set()  # such as of a controller that starts anew
        here = set(asked.stdout.split())
        before, self.missing = self.missing, {job for job in jobs if job.job_id not in here}
        return before & self.missing


@contextmanager
def _errors_in(log: Path) -> Iterator[None]:
    """What processes that are started meanwhile write to standard error goes to a file.

    The processes that control submitit's local jobs end by SIGINT, of a terminal or of `cancel`, with a traceback.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _parameters(settings: SlurmSettings) -> dict[str, Any]:
    """The settings as submitit has them."""
    found: dict[str, Any] = {"timeout_min": settings.minutes or DEFAULT_MINUTES, "cpus_per_task": settings.cpus}
    if settings.memory_gib is not None:
        found["mem_gb"] = settings.memory_gib
    if settings.cluster == "slurm":
        return found | {"slurm_array_parallelism": settings.array, "slurm_additional_parameters": dict(settings.others)}
    if settings.others:
        names = ", ".join(name for name, _ in settings.others)
        _log.warning("slurm: cluster=local has no use for %s; sbatch alone can say whether it knows it", names)
    return found


def _each(function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> list[Result]:
    """In a worker or job: the results of its share."""
    return [function(argument) for argument in arguments]


def _shared_out(share: Sequence[Argument], found: list[Result] | Lost) -> Iterator[tuple[Argument, Result | Lost]]:
    """The results of a share; all of them are lost with its worker or job."""
    for place, argument in enumerate(share):
        yield argument, found if isinstance(found, Lost) else found[place]


def _result_of(job: Any) -> Any:
    """The results of a job's share."""
    try:
        return job.result()
    except Exception as error:  # of submitit, which has many kinds
        return _lost(job, _telling_line(error))


def _lost(job: Any, why: str) -> Lost:
    """What became of a job without a result: its time was over, or what else is known."""
    if _TIMED_OUT in (job.stderr() or ""):
        why = "its time limit was over; give more (time=MINUTES)"
    return Lost(f"job {job.job_id}: {why} (logs: {job.paths.folder})")


def _result(future: Future[Result]) -> Result | Lost:
    """The result of a future of any executor, dask's among them."""
    try:
        return future.result()
    except BrokenExecutor:
        return Lost("its process was killed (out of memory?)")
    except Exception as error:  # of the executor: a worker that died, what cannot be pickled
        return Lost(f"{type(error).__name__}: {_telling_line(error)}")


def _telling_line(error: Exception) -> str:
    """The error at the end of a traceback in a message, else the first line of the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in reversed(lines) if _ERROR.match(line)), lines[0])


def _check_installed(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise InputError(f"{extra}: the package {package} is not installed; pip install 'vvc-nnr[{extra}]'")
