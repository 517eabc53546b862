"""Damaged inputs by the hundred thousand through every reader of the package.

    python tests/hostile/reader_campaign.py --count 100000 [--reader NAME ...] [--first SEED]

Each reader runs in a process of its own (`--together`: all in one) with a bound on memory and on time. What is wrong is
printed once for each kind and place, with the first seed that shows it; it happens again with
`--reader NAME --first SEED --count 1`. The exit code is 0 if nothing was wrong. `--list` names the readers.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

WATCHDOG_S = 300
# Inputs that may take that long together.
WATCHED_TOGETHER = 50
FAULTS_FOUND = 3
PROGRESS_EVERY = 20_000
MAX_DEATHS = 20
# Threads of small tensors wait for one another longer than they work.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def run_apart(names: Sequence[str], first: int, count: int) -> int:
    """The inputs of readers in another process, a new one behind each input that ends it; how many kinds of faults."""
    end, n_faults = first + count, 0
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "seed"
        for _ in range(MAX_DEATHS):
            command = [sys.executable, __file__, "--child", str(note), "--reader", *names]
            command += ["--first", str(first), "--count", str(end - first)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, env=ONE_THREAD, check=False)
            if done.returncode in (0, FAULTS_FOUND):
                return n_faults + (done.returncode != 0)
            seed = int(note.read_text()) if note.exists() else first
            print(f"FAULT {' or '.join(names)} seed {seed}: the process ended with {done.returncode}", flush=True)
            n_faults, first = n_faults + 1, seed + 1
    return n_faults


def run_here(names: Sequence[str], first: int, count: int, note_path: Path) -> int:
    """The inputs of readers in this process; `FAULTS_FOUND` if something was wrong."""
    answers, terminal = _captured_terminal()
    note = os.open(note_path, os.O_WRONLY | os.O_CREAT)
    with open(os.dup(answers), "w", buffering=1) as out:
        n_faults = sum(_run_reader(name, range(first, first + count), note, terminal, out) for name in names)
    return FAULTS_FOUND if n_faults else 0


def _run_reader(name: str, seeds: range, note: int, terminal: int, out: TextIO) -> int:
    """The inputs of one reader; how many kinds of faults, each told once."""
    from hostile_readers import READERS
    from reader_trial import ReaderTrials, limit_memory, scratch_folder

    (reader,) = (each for each in READERS if each.name == name)
    trials, found = ReaderTrials(reader), Counter[str]()
    with scratch_folder() as folder:
        trials.prepare(Path(folder), terminal)
        limit_memory()
        for seed in seeds:
            if (seed - seeds[0]) % WATCHED_TOGETHER == 0:
                faulthandler.dump_traceback_later(WATCHDOG_S, exit=True, file=out)
            os.pwrite(note, b"%20d" % seed, 0)  # where the parent finds it if this process dies
            fault = trials.run_one(seed)
            if fault is not None:
                found[fault.kind] += 1
                if found[fault.kind] == 1:
                    print(f"FAULT {name} seed {seed}: {fault.kind}: {fault.detail}", file=out)
            if (seed + 1 - seeds[0]) % PROGRESS_EVERY == 0:
                print(f"{name}: up to seed {seed}: {dict(trials.outcomes)}", file=out)
        faulthandler.cancel_dump_traceback_later()
    told = f"{len(seeds)} inputs from seed {seeds[0]}: {dict(trials.outcomes)}, at most {trials.longest_s:.2f} s"
    print(f"{name}: {told}; faults: {dict(found) or 'none'}", file=out)
    return len(found)


def _captured_terminal() -> tuple[int, int]:
    """This process's output, and the file that all that is printed goes to from now on."""
    answers = os.dup(1)
    with tempfile.TemporaryFile() as file:
        terminal = os.dup(file.fileno())
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    return answers, terminal


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", nargs="+", default=[], help="names of readers, default: all")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=1000, help="inputs for each reader, one for each seed")
    parser.add_argument("--together", action="store_true", help="all readers in one process, which starts only once")
    parser.add_argument("--list", action="store_true", help="name the readers")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what was asked for; 0 if no input did harm."""
    options = build_parser().parse_args(argv)
    if options.child is not None:
        return run_here(options.reader, options.first, options.count, options.child)
    from hostile_readers import READERS

    names = [reader.name for reader in READERS]
    if options.list:
        print("\n".join(names))
        return 0
    unknown = [name for name in options.reader if name not in names]
    if unknown:
        build_parser().error(f"no reader {unknown[0]!r}; --list names them")
    chosen = options.reader or names
    groups = [chosen] if options.together else [[name] for name in chosen]
    return int(sum(run_apart(group, options.first, options.count) for group in groups) > 0)


if __name__ == "__main__":
    sys.exit(main())
