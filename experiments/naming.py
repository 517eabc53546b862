"""Errors that say which file they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vvc_nnr.errors import OutputError, VvcNnrError


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Inside the block an error of this package that does not name the file gets its name in front.

    Errors about what is to be written keep their own.
    """
    try:
        yield
    except OutputError:
        raise
    except VvcNnrError as error:
        if str(path) not in str(error):
            error.args = error.prefixed(str(path)).args
        raise
