"""Signals that end a command (Ctrl-C, kill, a batch system's time limit) as an exception, so that all is tidied up."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
_RETRY_S = 0.05
_MAX_WAITS = 20
_IMPORTING = "<frozen importlib._bootstrap"
_TIDYING = ("__enter__", "__exit__")


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command.

    Args:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        super().__init__(f"{what}; experiments and training go on where they stopped when run again")
        self.exit_code = 128 + number


def run_interruptible(work: Callable[[], Result]) -> Result:
    """What `work` returns; a signal makes it raise `Interrupted`. Signals that are ignored (nohup) stay so.

    An exception at the wrong moment is lost, or leaves something behind. So while a module is imported it waits for the
    end of that (native modules abort), it waits a second for `with` blocks to begin or end, and it is raised again if
    some code has swallowed it (such as `__del__`).

    Raises:
        Interrupted: If a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # Python brings signals to the main thread alone
    return _Run().of(work)


class _Run:
    """One call of `run_interruptible`."""

    def __init__(self) -> None:
        self._pending: Interrupted | None = None
        self._n_waits = 0
        self._floor: FrameType | None = None
        self._is_over = False
        self._late: int | None = None

    def of(self, work: Callable[[], Result]) -> Result:
        self._floor = sys._getframe()
        before = {number: signal.getsignal(number) for number in _numbers()}
        try:
            for number in before:
                signal.signal(number, self._on_signal)
            result = work()
            if self._pending is not None:
                raise self._pending
            return result
        except BaseException:
            if self._pending is not None:
                raise self._pending from None
            raise
        finally:
            self._is_over = True
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._late is not None:
                signal.raise_signal(self._late)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raises what the first signal brought, now or when it is time."""
        if self._is_over:
            self._late = number if number in _ending() else self._late
            return
        if self._pending is None and number in _ending():
            self._pending = Interrupted(number)
        if self._pending is None or self._is_under_way():
            return
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
            if self._must_wait(frame):
                return
        raise self._pending

    def _is_under_way(self) -> bool:
        """Whether the exception was raised and is being handled, so that all is tidied up."""
        error = sys.exception()
        while error is not None and error is not self._pending:
            error = error.__context__
        return error is not None

    def _must_wait(self, frame: FrameType | None) -> bool:
        self._n_waits += 1
        while frame is not None and frame is not self._floor:
            if frame.f_code.co_filename.startswith(_IMPORTING):
                return True
            if frame.f_code.co_name in _TIDYING and self._n_waits <= _MAX_WAITS:
                return True
            frame = frame.f_back
        return False


def _ending() -> list[int]:
    """The signals of this system that end a command, unless they are ignored."""
    found = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


def _numbers() -> list[int]:
    return [*_ending(), *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]
