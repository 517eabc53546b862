"""What tables call a sequence: its name without the format that a file's name ends in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_WORD = r"(?:\d{1,3}(?:\.\d+)?fps|fps\d{1,3}|\d{1,2}bits?|4(?:00|20|22|44)p?(?:\d\dle)?|yuv4\d\dp?(?:\d\dle)?)"
_SIZE = r"\d{2,5}x\d{2,5}(?:_\d{2,3}(?=_|$))?"
"""Width and height, and behind them the pictures per second, as in JVET's names."""
_FORMAT = re.compile(rf"(?:_{_WORD})*_{_SIZE}(?:_{_WORD})*$", re.ASCII | re.IGNORECASE)


def shown_names(names: Iterable[str]) -> dict[str, str]:
    """What tables call each sequence; one that would be called as another one keeps its whole name.

    >>> shown_names(["cat_208x120_25fps_8bit_420", "d_16x16", "d_32x32"])
    {'cat_208x120_25fps_8bit_420': 'cat', 'd_16x16': 'd_16x16', 'd_32x32': 'd_32x32'}
    """
    short = {name: _FORMAT.sub("", name) or name for name in dict.fromkeys(names)}
    n_called = Counter(short.values())
    taken = set(short)
    return {
        name: called if n_called[called] == 1 and (called == name or called not in taken) else name
        for name, called in short.items()
    }
