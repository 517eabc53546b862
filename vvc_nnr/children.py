"""Programs that this process runs and waits for: none outlives it, however it ends.

Each runs in a process group of its own beside a watch, a shell that reads from a pipe of this process. The pipe closes
when this process is gone, SIGKILL and crashes included, and then the watch kills the group. A group rather than Linux's
parent-death signal: it takes grandchildren as well, it is the same on all POSIX systems, and it does not depend on the
thread that started the program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_WATCH = "trap '' HUP INT TERM USR1 USR2; read -r _; kill -s KILL 0"


def run_child(
    command: Sequence[str],
    *,
    input: bytes | Path | None = None,
    merge_output: bool = False,
    timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end; it is killed with all that it started if an exception or a signal comes before.

    Args:
        command: The program and its arguments.
        input: What it reads from standard input, or the file that it reads there; None: nothing.
        merge_output: Whether what it writes to standard error goes where standard output goes, in order.
        timeout_s: Seconds after which it is killed; None: no limit.
        environment: Its environment; None: that of this process.
        folder: Where it runs; None: where this process is.

    Returns:
        Its exit code and what it wrote to standard output and standard error (None if merged).

    Raises:
        OSError: If it cannot be started, or the file not be read.
        subprocess.TimeoutExpired: If it took too long.
    """
    with (
        open(input if isinstance(input, Path) else os.devnull, "rb") as file,
        _group() as group,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE if isinstance(input, bytes) else file,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge_output else subprocess.PIPE,
            env=environment,
            cwd=folder,
            process_group=group,
        ) as child,
    ):
        try:
            out, errors = child.communicate(input if isinstance(input, bytes) else None, timeout_s)
        except BaseException:
            child.kill() if group is None else _kill_group(group)
            child.wait()
            raise
    return subprocess.CompletedProcess(command, child.returncode, out, errors)


@contextmanager
def _group() -> Iterator[int | None]:
    """The number of a process group that is killed at the end of the block, and when this process ends before.

    None where the system has no such groups.
    """
    if sys.platform == "win32":
        yield None
        return
    watch = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    with watch:
        try:
            yield watch.pid
        finally:
            _kill_group(watch.pid)
            watch.wait()


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
