"""What the commands share: the outcome that they return, and the option --json."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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
