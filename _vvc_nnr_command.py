"""The command `vvc-nnr`: from its first moment a signal ends it in one line, and leaves nothing behind.

It lies beside the package and not in it, since importing anything of the package takes a third of a second, and an
interrupt in that time would be a traceback, or a native module's abort.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
# What limits the instruction sets of the kernels, which refuse other values of it when they are loaded.
INSTRUCTIONS_VARIABLE = "VVC_NNR_INSTRUCTIONS"


def main() -> int:
    """Runs the command of `sys.argv` and returns its exit code."""
    for number in (getattr(signal, name, None) for name in SIGNALS):
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    _open_standard_files()
    if not _stands_somewhere():
        return 2
    try:
        from vvc_nnr.experiments.cli.main import main as run
    except ImportError as error:
        if INSTRUCTIONS_VARIABLE not in str(error):
            raise
        print(f"vvc-nnr: error: {error}", file=sys.stderr)
        return 2

    code = run()
    if code > 128:
        _leave_threads(code)
    return code


def _stands_somewhere() -> bool:
    """Whether the current folder is there; says so if not: libraries of torch would end the process without a word."""
    try:
        os.getcwd()
    except OSError as error:
        print(f"vvc-nnr: error: the current folder is not there ({error.strerror}); change to another", file=sys.stderr)
        return False
    return True


def _leave(number: int, _: FrameType | None) -> None:
    """Ends the process while modules are imported, or when all is done: there is nothing to tidy up."""
    what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    try:
        os.write(2, f"vvc-nnr: error: {what}\n".encode())
    finally:
        os._exit(128 + number)


def _leave_threads(code: int) -> None:
    """Ends the process although threads may work on: Python would wait for them."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):
            stream.flush()
    os._exit(code)


def _open_standard_files() -> None:
    """Opens what the caller closed (`>&-`), or the first files that are written would take the numbers 0 to 2."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
