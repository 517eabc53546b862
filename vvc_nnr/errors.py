"""The error family: every failure that a user can cause or meet, on one screen."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

MESSAGE_CHARACTERS = 700


def shown(text: str, n_characters: int = 80) -> str:
    r"""Text of a file or a user as a message shows it: one line, what does not print escaped, a long middle left out.

    Args:
        text: Any text, lone surrogates and control characters among it.
        n_characters: How many are shown at most, escaped ones as long as their escapes, beside the mark of a gap.

    >>> shown("a\n" + "b" * 500, 9)
    'a\\nbbb ... bbb'
    """
    whole = _fitting(text, n_characters)
    if len(whole) == len(text):
        return "".join(whole)
    head, tail = _fitting(text, n_characters * 2 // 3), _fitting(reversed(text), n_characters // 3)
    return " ... ".join("".join(part) for part in (head, tail[::-1]) if part)


def shown_name(name: str) -> str:
    """The name of a file as a message shows it: whole if it prints, however long it is."""
    return shown(name, max(len(name), MESSAGE_CHARACTERS))


def shown_names(names: Iterable[str], n_shown: int = 5, n_characters: int = 400) -> str:
    """Names of tensors, inputs or keys as a message lists them for a user to act on: whole, and how many more.

    Names of one network often differ in their middle alone, and options take whole ones. So none is cut, but a first
    one that is longer than all of the room; what there is no room for is counted.

    Args:
        names: The names, or what stands for each, such as its `repr`.
        n_shown: How many are listed at most.
        n_characters: How many characters they may take together.

    >>> shown_names(["a.weight", "b.weight", "c.weight"], n_characters=20)
    'a.weight, b.weight and 1 more'
    """
    known = list(names)
    listed = [shown(name, n_characters) for name in known[:1]]
    for name in known[1:n_shown]:
        listed.append(shown_name(name))
        if len(", ".join(listed)) > n_characters:
            del listed[-1]
            break
    more = f" and {len(known) - len(listed)} more" if len(known) > len(listed) else ""
    return ", ".join(listed) + more


def _fitting(characters: Iterable[str], n_characters: int) -> list[str]:
    """The first of some characters, as they print, that take no more room than `n_characters`."""
    found = []
    for character in characters:
        found.append(character if character.isprintable() else ascii(character)[1:-1])
        n_characters -= len(found[-1])
        if n_characters < 0:
            return found[:-1]
    return found


_ERROR_LINE = re.compile(
    r"\berrors?\b|\bunknown\b|\bunrecogni[sz]ed\b|\bunhandled\b|\binvalid\b|\bcannot\b|\bfailed\b|mismatch",
    re.IGNORECASE,
)
_TELLING_LINES = 3


def _telling_lines(log: str) -> list[str]:
    """Up to three lines of a program's output that say why it failed: errors, which are no warnings, then the last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.search(line) and "warning" not in line.lower()][:2]
    others = [line for line in lines if line not in errors]
    return errors + others[len(errors) - _TELLING_LINES :]


class VvcNnrError(Exception):
    """Base of all errors that this package raises on purpose; the command line ends with its exit code.

    Its message is one line of printable characters, and never long, whatever a file or a user put into it.

    Args:
        message: What was got, what must be, what to do.
    """

    _n_characters: ClassVar[int] = MESSAGE_CHARACTERS
    cli_exit_code: int = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message, self._n_characters))

    def prefixed(self, where: str) -> Self:
        """The same error with a file's name before its message; all that it carries stays."""
        found = copy.copy(self)
        found.args = (f"{shown_name(where)}: {self}",)
        return found


class InputError(VvcNnrError, ValueError):
    """A file, folder or option from the user that cannot be used as asked; the message names it."""


class OutputError(InputError):
    """A file or folder that cannot be written (no right, no folder, a full disk); the message names it."""


class BitstreamError(VvcNnrError, ValueError):
    """Coded data that breaks its format.

    Args:
        message: What was got and what must be.
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


def words_of(error: Exception) -> str:
    """What an error of a library says of damage, as a message shows it; some say nothing."""
    return shown(str(error), 200) or f"damaged or cut off ({type(error).__name__})"


@contextmanager
def as_damage(what: str, remedy: str = "") -> Iterator[None]:
    """Makes a BitstreamError of whatever a library raises over bytes that nobody vouches for.

    Libraries raise almost any type where they meet what they did not think of, so none is named. This package's own
    errors, and those of memory, stay as they are.

    Args:
        what: What the bytes are not, such as "no HDF5 file", before the library's words.
        remedy: What to do, behind them.

    Raises:
        BitstreamError: In place of the library's error.
    """
    try:
        yield
    except (VvcNnrError, MemoryError):
        raise
    except Exception as error:
        raise BitstreamError(f"{what}: {words_of(error)}{remedy and ': '}{remedy}") from error


class ShapeError(VvcNnrError, ValueError):
    """Arrays whose shapes do not fit together; the message carries both."""


class ExternalToolError(VvcNnrError, RuntimeError):
    """An encoder or decoder process that failed or wrote nothing.

    Args:
        message: What went wrong.
        command: The command line that was run.
        exit_code: Its return code, None if it never started.
        log: Its output; up to three lines of it go into the message, those that name an error first.
    """

    _n_characters = 2000

    def __init__(
        self, message: str, *, command: Sequence[str] = (), exit_code: int | None = None, log: str = ""
    ) -> None:
        parts = [message]
        if exit_code is not None:
            parts.append(f"exit code {exit_code}")
        telling = _telling_lines(log)
        if telling:
            parts.append("log: " + " | ".join(telling))
        super().__init__("; ".join(parts))
        self.command = tuple(command)
        self.exit_code = exit_code
        self.log = log
