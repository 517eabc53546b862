"""What to doubt about a number, in a few words beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

_MAX_NAMES = 3


def doubt_text(warnings: Iterable[tuple[str, Sequence[str]]], *, is_mean: bool) -> str:
    """The doubts about a BD-rate or a mean of some; empty if there are none.

    Args:
        warnings: Each sequence and what is to be doubted about its own value.
        is_mean: Whether the number is a mean over sequences, which are named then.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for sequence, texts in warnings:
        for text in texts:
            names[text].append(sequence)
    return "; ".join(f"{text} ({some_of(there)})" if is_mean else text for text, there in names.items())


def some_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"
