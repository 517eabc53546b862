"""The error family: every failure that a user can cause or meet, on one screen."""

from __future__ import annotations

from collections.abc import Sequence


class VvcNnrError(Exception):
    """Base of all errors that this package raises on purpose; the command line ends with code 2 on it."""


class InputError(VvcNnrError, ValueError):
    """A file, folder or option from the user that cannot be used as asked; the message names it."""


class BitstreamError(VvcNnrError, ValueError):
    """Coded data that breaks its format.

    Args:
        message: What was got and what was wanted.
        field: The syntax element or part of the file where it was noticed.
        offset_bytes: Where in the data, in bytes from its start.
    """

    def __init__(self, message: str, *, field: str | None = None, offset_bytes: int | None = None) -> None:
        place = "".join(
            [f" in {field}" if field else "", f" at byte {offset_bytes}" if offset_bytes is not None else ""]
        )
        super().__init__(message + place)
        self.field = field
        self.offset_bytes = offset_bytes


class UnsupportedError(VvcNnrError, NotImplementedError):
    """Legal input that this package does not implement."""


class ShapeError(VvcNnrError, ValueError):
    """Arrays whose shapes do not fit together; the message carries both."""


class ExternalToolError(VvcNnrError, RuntimeError):
    """An encoder or decoder process that failed or wrote nothing.

    Args:
        message: What went wrong.
        command: The command line that was run.
        exit_code: Its return code, None if it never started.
        log: Its output; the last lines go into the message.
    """

    def __init__(
        self, message: str, *, command: Sequence[str] = (), exit_code: int | None = None, log: str = ""
    ) -> None:
        parts = [message]
        if exit_code is not None:
            parts.append(f"exit code {exit_code}")
        tail = [line.strip() for line in log.splitlines() if line.strip()][-3:]
        if tail:
            parts.append("last lines: " + " | ".join(tail))
        super().__init__("; ".join(parts))
        self.command = tuple(command)
        self.exit_code = exit_code
        self.log = log
