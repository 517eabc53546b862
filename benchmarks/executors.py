"""What running units of work side by side costs and saves.

python benchmarks/executors.py overhead --units 1000 --workers 4     small units on a dask LocalCluster
python benchmarks/executors.py speed pictures/ --workers 2           tool-by-tool, one and several processes in turn
python benchmarks/executors.py kills pictures/ --seed 1              10 % of the units' processes killed at random
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import pickle
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vvc_nnr.files import write_file
from vvc_nnr.units import ExecutorOptions, Failure, UnitsError, run_units

COMMAND = [sys.executable, "-m", "vvc_nnr.experiments.cli", "experiment", "tool-by-tool"]
TIMED_TABLES = ("complexity",)
TIMED_COLUMNS = ("EncT", "DecT")
"""Tables that have measured times in them."""


@dataclass(frozen=True)
class Spin:
    """A unit that computes for some time.

    Attributes:
        name: Its name.
        cost_s: How many seconds of processor time it takes.
        deed: What it does besides: "fail", or "die" (killed), or "die once".
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
    while time.thread_time() < end_s:
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
            lambda unit: (folder / unit.name).exists(),
            options,
            folder / "logs",
            title="spin",
        )
    except UnitsError as error:
        return list(error.failures)
    return []


@contextlib.contextmanager
def local_cluster(n_workers: int) -> Iterator[str]:
    """The address of a dask scheduler with workers on this machine."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def overhead(n_units: int, n_workers: int, unit_s: float) -> None:
    """Prints how much longer units take on a LocalCluster than their work, by the clock and in processor time.

    The clock says it where nothing else runs; the processor time of client, scheduler and workers says it anywhere.
    """
    from distributed import Client

    n_cores = min(n_workers, len(os.sched_getaffinity(0)))
    units = [Spin(f"unit {number}", unit_s) for number in range(n_units)]
    with local_cluster(n_workers) as address, tempfile.TemporaryDirectory() as folder, Client(address) as client:

        def used_s() -> float:
            return time.process_time() + sum(client.run(time.process_time).values())

        spun(units[:n_workers], ExecutorOptions(dask=address), Path(folder))  # imports
        start_s, start_used_s = time.perf_counter(), used_s()
        failures = spun(units, ExecutorOptions(dask=address), Path(folder))
        took_s, took_used_s = time.perf_counter() - start_s, used_s() - start_used_s
        assert not failures
    work_s = unit_s * (n_units - n_workers)
    print(f"{n_units} units of {unit_s} s, {n_workers} workers on {n_cores} cores")
    for what, found_s, own_s in (("clock", took_s, work_s / n_cores), ("processor time", took_used_s, work_s)):
        print(f"{what}: {found_s:.2f} s for {own_s:.2f} s of work: overhead {100 * (found_s / own_s - 1):.1f} %")


def tables(folder: Path) -> dict[str, list[list[str]]]:
    """The tables of a folder of results, without columns of times and without the table of complexity."""
    found = {}
    for path in folder.glob("*.csv"):
        if not path.stem.startswith(TIMED_TABLES):
            lines = path.read_text("utf-8").splitlines()
            head, *rows = csv.reader(line for line in lines if not line.startswith("#"))
            kept = [at for at, title in enumerate(head) if not title.startswith(TIMED_COLUMNS)]
            found[path.name] = [[row[at] for at in kept] for row in (head, *rows)]
    return found


def experiment(pictures: Path, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A run of tool-by-tool with a cache of its own."""
    arguments = ["--sequences", str(pictures), "--out", str(folder), "--cache", str(folder / "cache"), *words]
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def speed(pictures: Path, n_workers: int, n_rounds: int, words: Sequence[str]) -> None:
    """Prints the times of one process and of several, in turn, and whether their tables are the same."""
    seconds: dict[int, list[float]] = {1: [], n_workers: []}
    with tempfile.TemporaryDirectory() as place:
        for number in range(n_rounds):
            for workers, taken_s in seconds.items():
                start_s = time.perf_counter()
                run = experiment(pictures, Path(place) / f"{number} {workers}", "--workers", str(workers), *words)
                _, said = run.communicate()
                assert run.returncode == 0, said.decode()
                taken_s.append(time.perf_counter() - start_s)
                print(f"workers {workers}: {taken_s[-1]:.1f} s")
        found = [tables(Path(place) / f"{number} {workers}") for number in range(n_rounds) for workers in seconds]
    one_s, several_s = map(statistics.median, seconds.values())
    print(f"medians {one_s:.1f} and {several_s:.1f} s: {one_s / several_s:.2f} times as fast")
    print("tables:", "the same" if all(each == found[0] for each in found) else "DIFFERENT")


def workers_of(parent: int) -> list[int]:
    """Numbers of the worker processes of a run."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            said = Path("/proc", number, "stat").read_text().rpartition(")")[2].split()
            command = Path("/proc", number, "cmdline").read_bytes()
            if int(said[1]) == parent and b"spawn_main" in command:
                found.append(int(number))
    return found


def kills(pictures: Path, seed: int, share: float, words: Sequence[str]) -> None:
    """Kills workers at random, about a share of the units; prints whether one more run makes the tables of a whole."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        whole, cut = Path(place) / "whole", Path(place) / "cut"
        run = experiment(pictures, whole, "--workers", "2", *words)
        start_s = time.perf_counter()
        assert run.wait() == 0
        whole_s = time.perf_counter() - start_s
        plan = subprocess.run(
            [*COMMAND, "--plan", "--sequences", str(pictures), "--out", str(cut), *words],
            capture_output=True,
            check=True,
        )
        n_kills = max(1, round(share * len(plan.stdout.splitlines())))
        moments_s = sorted(rng.uniform(0.2 * whole_s, whole_s) for _ in range(n_kills))
        run, start_s, n_killed = experiment(pictures, cut, "--workers", "2", *words), time.perf_counter(), 0
        for moment_s in moments_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(max(0.0, moment_s - (time.perf_counter() - start_s)))
            if there := workers_of(run.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(there), signal.SIGKILL)
                    n_killed += 1
        said = run.communicate()[1].decode().strip()
        first = run.returncode
        again = experiment(pictures, cut, "--workers", "2", *words)
        assert again.wait() == 0
        is_same = tables(whole) == tables(cut)
    print(f"seed {seed}: {n_killed} workers killed of {n_kills} planned; first run ended with {first} {said[-300:]}")
    print("tables after one more run:", "the same" if is_same else "DIFFERENT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("overhead", "speed", "kills"):
        options = kinds.add_parser(kind)
        if kind == "overhead":
            options.add_argument("--units", type=int, default=1000)
            options.add_argument("--unit-s", type=float, default=0.1)
        else:
            options.add_argument("pictures", type=Path)
        options.add_argument("--workers", type=int, default=4 if kind == "overhead" else 2)
        options.add_argument("--rounds", type=int, default=3)
        options.add_argument("--seed", type=int, default=1)
        options.add_argument("--share", type=float, default=0.1)
    asked, words = parser.parse_known_args()
    if asked.kind == "overhead":
        overhead(asked.units, asked.workers, asked.unit_s)
    elif asked.kind == "speed":
        speed(asked.pictures, asked.workers, asked.rounds, words)
    else:
        kills(asked.pictures, asked.seed, asked.share, words)


if __name__ == "__main__":
    main()
