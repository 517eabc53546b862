"""What running units of work side by side costs and saves.

python benchmarks/executors.py overhead --units 1000 --workers 4     small units on a dask LocalCluster
python benchmarks/executors.py overhead --waiting                    the same, as if each worker had a core of its own
python benchmarks/executors.py speed pictures/ --workers 2           tool-by-tool, one and several processes in turn
python benchmarks/executors.py kills pictures/ --seeds 1 2 3         10 % of the units' processes killed at random
python benchmarks/executors.py kills pictures/ --on dask             the same on a dask LocalCluster; or on slurm
python benchmarks/executors.py costs tool-by-tool --sequences p/     estimates of units beside what they took
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import os
import pickle
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from vvc_nnr.files import write_file
from vvc_nnr.units import ExecutorOptions, Failure, UnitsError, run_units

COMMAND = [sys.executable, "-m", "vvc_nnr.experiments.cli", "experiment", "tool-by-tool"]
TIMED_TABLES = ("complexity",)
TIMED_COLUMNS = {"EncT", "DecT"}
"""What has measured times in it: whole tables, and columns that have one of these words in their title."""
SELDOM_TICKS: Mapping[str, object] = {
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""Settings of dask for a scheduler and workers that share few cores, as the guide for clusters has them."""
IDLE_S = 5.0
WORKERS = {"processes": b"spawn_main", "dask": b"spawn_main", "slurm": b"submitit.core._submit"}
"""What stands in the command lines of worker processes."""
POLL_S = 0.02
Tables: TypeAlias = dict[str, list[list[str]]]
"""Title and other rows of each, by the name of its file."""


@dataclass(frozen=True)
class Spin:
    """A unit that computes for some time.

    Attributes:
        name: Its name.
        cost_s: How many seconds of processor time it takes.
        deed: What it does: "wait" in the place of computing; or, besides, "fail", "die" (killed), or "die once".
    """

    name: str
    cost_s: float
    deed: str = ""


class Pickling(Executor):
    """Runs each call at once, on copies as another process would have them; `n` counts them."""

    def __init__(self) -> None:
        self.n = 0

    def submit(self, function: Callable[..., object], /, *given: object, **named: object) -> Future[object]:  # type: ignore[override]
        self.n += 1
        future: Future[object] = Future()
        function, given = pickle.loads(pickle.dumps((function, given)))
        future.set_result(function(*given, **named))
        return future


def spin(folder: Path, unit: Spin) -> None:
    """Computes for the unit's time and leaves a file of its name."""
    end_s = time.thread_time() + unit.cost_s
    if unit.deed == "wait":
        time.sleep(unit.cost_s)
    while unit.deed != "wait" and time.thread_time() < end_s:
        pass
    died = folder / f"{unit.name}.died"
    if unit.deed == "die" or (unit.deed == "die once" and not died.exists()):
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if unit.deed == "fail":
        raise ValueError(f"{unit.name} cannot be done")
    write_file(folder / unit.name, b"done")


def is_spun(folder: Path, unit: Spin) -> bool:
    """Whether a unit's file is there."""
    return (folder / unit.name).exists()


def spun(units: Sequence[Spin], options: ExecutorOptions, folder: Path) -> list[Failure]:
    """Runs units that leave their files in a folder; those that fail."""
    try:
        run_units(
            partial(spin, folder),
            units,
            partial(is_spun, folder),
            options,
            folder / "logs",
            title="spin",
        )
    except UnitsError as error:
        return list(error.failures)
    return []


@contextlib.contextmanager
def local_cluster(n_workers: int, settings: Mapping[str, object] | None = None) -> Iterator[str]:
    """The address of a dask scheduler with workers on this machine, by dask's own settings and others."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set(settings or {}),
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,  # None is port 8787
    ):
        yield cluster.scheduler_address


def overhead(n_units: int, n_workers: int, unit_s: float, *, waiting: bool) -> None:
    """Prints how much longer units take on a LocalCluster than their work, by the clock and in processor time.

    The clock says it where nothing else runs. The processor time of client, scheduler and workers says it anywhere, but
    for what dask does while it waits: the longer the clock runs, the more of that, so it is said beside. Units that
    wait leave the cores to dask: then the clock says it as if each worker had a core of its own.
    """
    n_cores = n_workers if waiting else min(n_workers, len(os.sched_getaffinity(0)))
    print(f"{n_units} units of {unit_s} s{' that wait' * waiting}, {n_workers} workers on {n_cores} cores")
    for title, settings in (("dask as it comes", {}), ("seldom ticks", SELDOM_TICKS)):
        clock_s, used_s, idle_s, work_s = _overhead(n_units, n_workers, unit_s, settings, "wait" * waiting)
        print(f"{title}:")
        if waiting:
            own_s = work_s / n_cores
            print(f"  clock: {clock_s:.2f} s for {own_s:.2f} s of work: overhead {100 * (clock_s / own_s - 1):.1f} %")
            continue
        for what, found_s, own_s in (("clock", clock_s, work_s / n_cores), ("processor time", used_s, work_s)):
            print(f"  {what}: {found_s:.2f} s for {own_s:.2f} s of work: overhead {100 * (found_s / own_s - 1):.1f} %")
        share, alone = 100 * idle_s * clock_s / work_s, 100 * idle_s / n_cores
        print(
            f"  of it dask without work ({idle_s:.3f} s each second): {share:.1f} %; on cores of its own {alone:.1f} %"
        )


def _overhead(
    n_units: int, n_workers: int, unit_s: float, settings: Mapping[str, object], deed: str
) -> tuple[float, float, float, float]:
    """Seconds of units by the clock and of processor time, of processor time in a second without any, of their work."""
    from distributed import Client

    units = [Spin(f"unit {number}", unit_s, deed) for number in range(n_units + n_workers)]
    with (
        local_cluster(n_workers, settings) as address,
        tempfile.TemporaryDirectory() as folder,
        Client(address) as client,
    ):

        def used_s() -> float:
            return time.process_time() + sum(client.run(time.process_time).values())

        spun(units[:n_workers], ExecutorOptions(dask=address), Path(folder))  # imports
        idle_used_s = used_s()
        time.sleep(IDLE_S)
        start_s, start_used_s = time.perf_counter(), used_s()
        failures = spun(units, ExecutorOptions(dask=address), Path(folder))
        clock_s, run_used_s = time.perf_counter() - start_s, used_s() - start_used_s
    assert not failures
    return clock_s, run_used_s, (start_used_s - idle_used_s) / IDLE_S, unit_s * n_units


def tables(folder: Path) -> Tables:
    """The tables of a folder of results, without columns of times and without the table of complexity."""
    found = {}
    for path in folder.glob("*.csv"):
        if not path.stem.startswith(TIMED_TABLES):
            lines = path.read_text("utf-8").splitlines()
            head, *rows = csv.reader(line for line in lines if not line.startswith("#"))
            kept = [at for at, title in enumerate(head) if not TIMED_COLUMNS & set(re.findall(r"\w+", title))]
            found[path.name] = [[row[at] for at in kept] for row in (head, *rows)]
    return found


def differences(one: Tables, other: Tables) -> list[str]:
    """What differs between the tables of two folders, a line for each table."""
    found = [f"{name}: in one folder alone" for name in sorted(one.keys() ^ other.keys())]
    for name in sorted(one.keys() & other.keys()):
        (head, *rows), (other_head, *other_rows) = one[name], other[name]
        if head != other_head or len(rows) != len(other_rows):
            found.append(f"{name}: other columns, or another number of rows")
            continue
        pairs = list(zip(rows, other_rows, strict=True))
        if columns := [title for at, title in enumerate(head) if any(row[at] != its[at] for row, its in pairs)]:
            found.append(f"{name}: columns {', '.join(columns)}")
    return found


def verdict(one: Tables, other: Tables) -> str:
    """Whether the tables of two folders are the same, and if not, what differs."""
    return "the same" if one == other else f"DIFFERENT ({'; '.join(differences(one, other))})"


def experiment(pictures: Path, folder: Path, *words: str, package: Path | None = None) -> subprocess.Popen[bytes]:
    """A run of tool-by-tool with a cache of its own, of another build of this package if one is named."""
    arguments = ["--sequences", str(pictures), "--out", str(folder), "--cache", str(folder / "cache"), *words]
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(package),
        cwd=folder.parent,
    )


def environment(package: Path | None) -> dict[str, str] | None:
    """That in which another build of this package runs; None for this one's."""
    return {**os.environ, "PYTHONPATH": str(package)} if package else None


@functools.lru_cache
def has_workers(package: Path | None) -> bool:
    """Whether a build runs in several processes; earlier ones have one, and no option for it."""
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, check=True, env=environment(package), cwd="/")
    return b"--workers" in shown.stdout


class Timing(Executor):
    """Runs each call at once, and keeps the processor time of each unit beside its estimate."""

    def __init__(self) -> None:
        self.found: list[tuple[str, float, float]] = []

    def submit(self, function: Callable[..., object], /, *given: Any, **named: Any) -> Future[object]:  # type: ignore[override]
        future: Future[object] = Future()
        start_s = _used_s()
        future.set_result(function(*given, **named))
        self.found.append((given[0].name, given[0].cost_s, _used_s() - start_s))
        return future


def _used_s() -> float:
    """Processor time of this process and of the programs that it ran."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def costs(words: Sequence[str]) -> None:
    """Prints how far the estimates of units are from their processor time, of an experiment's command line."""
    from vvc_nnr.experiments.cli.experiment import EndToEnd, ToolByTool
    from vvc_nnr.experiments.cli.main import asked_command, parsed
    from vvc_nnr.experiments.records.provenance import gather_provenance
    from vvc_nnr.experiments.runs.end_to_end import run_end_to_end
    from vvc_nnr.experiments.runs.tool_by_tool import run_tool_by_tool

    timing = Timing()
    with tempfile.TemporaryDirectory() as folder:
        asked = asked_command(["experiment", *words, "--out", folder])
        assert not isinstance(asked, str)
        command, provenance = parsed(asked), gather_provenance()
        if isinstance(command, ToolByTool):
            sources, options, listed, _ = command._chosen()
            cache = Path(folder) / "cache"
            run_tool_by_tool(sources, command.out, options, provenance, cache=cache, decoded=listed, executor=timing)
        elif isinstance(command, EndToEnd):
            pictures = command._pictures()
            run_end_to_end(pictures.images, pictures.names, command.out, command.options, provenance, executor=timing)
    for name, cost_s, used_s in timing.found:
        print(f"{name}: {cost_s:.2f} s estimated, {used_s:.2f} s taken")
    factors = sorted(used_s / cost_s for _, cost_s, used_s in timing.found[1:])  # the first one loads networks
    low, middle, high = (factors[round(part * (len(factors) - 1))] for part in (0.1, 0.5, 0.9))
    print(f"taken / estimated: median {middle:.2f}, from {low:.2f} to {high:.2f} (10 % to 90 %)")


def finished(run: subprocess.Popen[bytes]) -> None:
    """Waits for a run that has to succeed."""
    said = run.communicate()[1]
    assert run.returncode == 0, said.decode()


def speed(pictures: Path, n_workers: int, n_rounds: int, before: Path | None, words: Sequence[str]) -> None:
    """Prints the times of one process and of several, in turn, and whether their tables are the same.

    Args:
        pictures: The sequences.
        n_workers: Processes.
        n_rounds: How often.
        before: Where `pip install --no-deps --target` put an earlier version, whose one process runs beside.
        words: Further options of the experiment.
    """
    runs: dict[str, tuple[int, Path | None]] = {"one process": (1, None), f"{n_workers} processes": (n_workers, None)}
    if before is not None:
        runs = {"one process, before": (1, before), **runs}
    clock_s, used_s = {name: list[float]() for name in runs}, {name: list[float]() for name in runs}
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for number in range(n_rounds):
            for name, (workers, package) in runs.items():
                folders.append(Path(scratch) / f"{number} {name}")
                start_s, start = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
                place = ["--workers", str(workers)] if has_workers(package) else []
                finished(experiment(pictures, folders[-1], *place, *words, package=package))
                end = resource.getrusage(resource.RUSAGE_CHILDREN)
                clock_s[name].append(time.perf_counter() - start_s)
                used_s[name].append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
                print(f"{name}: {clock_s[name][-1]:.1f} s, processor time {used_s[name][-1]:.1f} s", flush=True)
        found = {folder.name: tables(folder) for folder in folders}
    several_s = statistics.median(clock_s[f"{n_workers} processes"])
    for name, each_s in clock_s.items():
        median_s = statistics.median(each_s)
        print(f"{name}: median {median_s:.1f} s; {n_workers} processes are {median_s / several_s:.2f} times as fast")
    for (first, its), (second, others) in pairwise(found.items()):
        print(f"tables of {first} and of {second}: {verdict(its, others)}")


def workers_of(parent: int, mark: bytes) -> list[int]:
    """Numbers of the worker processes below a process."""
    parents, workers = dict[int, int](), list[int]()
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            parents[number] = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
            if mark in Path(f"/proc/{number}/cmdline").read_bytes():
                workers.append(number)

    def is_below(number: int) -> bool:
        above = parents.get(number, 0)
        return above == parent or (above > 1 and is_below(above))

    return [number for number in workers if is_below(number)]


def kills(pictures: Path, seeds: Sequence[int], share: float, place: str, words: Sequence[str]) -> None:
    """Kills workers at random, about a share of the units; prints whether one more run makes the tables of a whole.

    Args:
        pictures: The sequences.
        seeds: Of the kills, each in a run of its own.
        share: How many workers are killed, by the number of units.
        place: Where units run: "processes", "dask" or "slurm", on this machine.
        words: Further options of the experiment.
    """
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        finished(experiment(pictures, whole, "--workers", "2", *words))
        plan = [*COMMAND, "--plan", "--sequences", str(pictures), "--out", str(whole), *words]
        n_units = len(subprocess.run(plan, capture_output=True, check=True).stdout.splitlines())
        n_kills = max(1, round(share * n_units))
        for seed in seeds:
            cut, rng = Path(scratch) / f"cut {seed}", random.Random(seed)
            after = sorted(rng.randrange(n_units - 1) for _ in range(n_kills))
            with contextlib.ExitStack() as stack:
                where = ["--workers", "2"]
                if place == "dask":
                    where = ["--dask", stack.enter_context(local_cluster(2))]
                elif place == "slurm":
                    where = ["--slurm", "cluster=local,array=2"]
                run = experiment(pictures, cut, *where, *words)
                n_killed = _killed(run, cut, os.getpid() if place == "dask" else run.pid, WORKERS[place], after, rng)
                said = run.communicate()[1].decode().strip()
            finished(experiment(pictures, cut, "--workers", "2", *words))
            print(
                f"seed {seed}: {n_units} units, {n_killed} workers killed; first run ended with {run.returncode}:"
                f"\n  {said.splitlines()[-1] if said else 'nothing said'}"
                f"\n  tables after one more run: {verdict(tables(whole), tables(cut))}",
                flush=True,
            )


def _killed(
    run: subprocess.Popen[bytes], folder: Path, parent: int, mark: bytes, after: Sequence[int], rng: random.Random
) -> int:
    """Kills a worker each time that so many units are made; how many there were to kill before the run ended."""
    waiting = list(after)
    while waiting and run.poll() is None:
        n_made = len(list(folder.glob("units/*/*.tsv")))
        if n_made >= waiting[0] and (there := workers_of(parent, mark)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(there), signal.SIGKILL)
                waiting.pop(0)
        time.sleep(POLL_S)
    return len(after) - len(waiting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("costs")
    for kind in ("overhead", "speed", "kills"):
        options = kinds.add_parser(kind)
        if kind == "overhead":
            options.add_argument("--units", type=int, default=1000)
            options.add_argument("--unit-s", type=float, default=0.1)
            options.add_argument("--waiting", action="store_true")
        else:
            options.add_argument("pictures", type=Path)
        options.add_argument("--workers", type=int, default=4 if kind == "overhead" else 2)
        options.add_argument("--rounds", type=int, default=3)
        options.add_argument("--before", type=Path)
        options.add_argument("--seeds", type=int, nargs="+", default=[1])
        options.add_argument("--share", type=float, default=0.1)
        options.add_argument("--on", choices=WORKERS, default="processes")
    asked, words = parser.parse_known_args()
    if asked.kind == "costs":
        costs(words)
    elif asked.kind == "overhead":
        overhead(asked.units, asked.workers, asked.unit_s, waiting=asked.waiting)
    elif asked.kind == "speed":
        speed(asked.pictures.absolute(), asked.workers, asked.rounds, asked.before and asked.before.absolute(), words)
    else:
        kills(asked.pictures.absolute(), asked.seeds, asked.share, asked.on, words)


if __name__ == "__main__":
    main()
