"""What the commands share: the outcome that they return, the option --json, and the check of what they will write."""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from vvc_nnr.errors import InputError
from vvc_nnr.files import is_stream, open_file_number


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command found, for a person and for a script.

    Attributes:
        text: For standard output.
        data: The same for --json.
    """

    text: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What every command takes.

    Attributes:
        json: Print the result as JSON.
    """

    json: bool = False

    def run(self) -> Outcome:
        """Does the work.

        Raises:
            VvcNnrError: If it cannot be done.
        """
        raise NotImplementedError


def example_lines(examples: Sequence[str], width: int = 78) -> str:
    """Command lines as the end of a help text; long ones go on behind a backslash."""
    lines = ["examples:"]
    for example in examples:
        parts = textwrap.wrap(example, width - 8, break_long_words=False, break_on_hyphens=False)
        lines.append(" \\\n      ".join([f"  {parts[0]}", *parts[1:]]))
    return "\n".join(lines)


def json_text(data: Mapping[str, Any]) -> str:
    """The data as JSON; infinity and NaN, which JSON lacks, become the texts "inf", "-inf" and "nan"."""
    return json.dumps(_without_infinity(data), indent=2, allow_nan=False)


def _without_infinity(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(float(value))
        case dict():
            return {key: _without_infinity(each) for key, each in value.items()}
        case list() | tuple():
            return [_without_infinity(each) for each in value]
        case _:
            return value


def check_outputs(inputs: Iterable[Path | None], outputs: Iterable[Path | None]) -> None:
    """Checks that no output takes the place of an input or of another output; devices may be shared.

    Args:
        inputs: The files that a command reads, None for an option that was not given.
        outputs: The files that it writes, likewise.

    Raises:
        InputError: If two of them are one file.
    """
    read = [path for path in inputs if path is not None]
    written = [path for path in outputs if path is not None and not _is_device(path)]
    for output in written:
        if not is_stream(output) and any(_is_same(output, path) for path in read):
            raise InputError(f"{output}: is the input itself, which would be lost; write to another name")
    for first, second in combinations(written, 2):
        if _is_same(first, second):
            raise InputError(f"{second}: two outputs would go there, and one be lost; give each a name of its own")


def check_writable(path: Path) -> None:
    """Checks the place of a file that is written hours later.

    Raises:
        InputError: If its folder is not there or not writable, or it is a folder itself.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; must be a file name")
    if is_stream(path):
        return
    place = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(place):
        raise InputError(f"{path}: cannot be written: there is no folder {place}")
    if not os.access(place, os.W_OK):
        raise InputError(f"{path}: cannot be written: {place} is write-protected")


def is_standard_output(path: Path) -> bool:
    """Whether what is written there mixes with what is printed."""
    try:
        return open_file_number(path) == 1 or (path.is_fifo() and os.path.samestat(path.stat(), os.fstat(1)))
    except OSError:
        return False


def _is_device(path: Path) -> bool:
    """Whether it is a terminal, /dev/null or the like, where nothing can be lost."""
    try:
        return path.is_char_device()
    except OSError:
        return False


def _is_same(first: Path, second: Path) -> bool:
    if os.path.exists(first) and os.path.exists(second):
        return os.path.samefile(first, second)
    return os.path.realpath(first) == os.path.realpath(second)
