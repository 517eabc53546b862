"""Questions to tables: the two use cases with their rows, tables and plots, and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if __name__ != "vvc_nnr.experiments":
    raise ImportError("import vvc_nnr.experiments, not experiments (run: pip install -e .)")

if TYPE_CHECKING:
    from vvc_nnr.experiments.tables.stored import StoredResults

__all__ = ["load"]


def load(folder: Path | str) -> StoredResults:
    """What the experiments left in a folder of results, as pandas data frames.

    Args:
        folder: The folder that `vvc-nnr experiment ... --out` wrote.

    Returns:
        Rows in `tool_by_tool`, `end_to_end`, `model_zoo` and `networks`, one column per field and unit; `tables()` has
        the printed tables by name, each with its numbers as a data frame in `frame`.

    Raises:
        InputError: If it is no such folder, or rows or settings cannot be read.
    """
    from vvc_nnr.experiments.tables import stored  # here: it imports pandas' users and scipy

    return stored.load(folder)
