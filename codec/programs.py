"""Running somebody else's program: a folder for its files, what it printed, and what it cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vvc_nnr.children import run_child
from vvc_nnr.errors import ExternalToolError, InputError
from vvc_nnr.temporary import temporary_folder


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder; a full disk and the like become InputError."""
    try:
        with temporary_folder() as folder:
            yield folder
    except OSError as error:
        place = error.filename or "the folder for temporary files"
        raise InputError(f"{place}: {error.strerror or error}") from error


def children_cpu_s() -> float:
    """Processor seconds of all programs that this process has run to their end, all their threads."""
    times = os.times()
    return times.children_user + times.children_system


def printed(command: list[str]) -> str:
    """Runs a program to its end; returns what it printed.

    Raises:
        ExternalToolError: If it cannot be started or fails.
    """
    name = Path(command[0]).name
    try:
        done = run_child(command, merge_output=True)
    except OSError as error:
        raise ExternalToolError(f"{name} cannot be started: {error.strerror}", command=command) from error
    log = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ExternalToolError(f"{name} failed", command=command, exit_code=done.returncode, log=log)
    return log
