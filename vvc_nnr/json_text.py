"""JSON text that nobody vouches for: read strictly, whatever a file or a stream holds in its place."""

from __future__ import annotations

import json
import math
from typing import Any

from vvc_nnr.errors import BitstreamError, shown

MAX_DEPTH = 32
"""Of lists and objects in each other; nothing that this package reads has more than six."""
MAX_DIGITS = 40
"""Of an integer, its sign among them."""


def parse_json(text: str | bytes | bytearray) -> Any:
    """The value of a JSON text.

    Args:
        text: The text; bytes are UTF-8 (or UTF-16 or UTF-32, as JSON allows).

    Returns:
        Objects as dicts, each name once; numbers are finite.

    Raises:
        BitstreamError: If it is no JSON, a name stands twice in an object, a number is no finite float or an integer
            of more than `MAX_DIGITS` digits, or it is nested deeper than `MAX_DEPTH`.
    """
    try:
        content = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_float=_finite,
            parse_int=_short_integer,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise BitstreamError(f"no JSON that is read: nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise BitstreamError(f"no JSON: {error}") from error
    _check_depth(content)
    return content


def _check_depth(content: object) -> None:
    """Level by level, since a function that calls itself has the limit that is to be kept here."""
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _inside(each)]
    if any(isinstance(each, dict | list) for each in level):
        raise BitstreamError(f"no JSON that is read: nested deeper than {MAX_DEPTH}")


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return content


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {shown(digits, 20)} is beyond float64")
    return value


def _short_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no finite number")
