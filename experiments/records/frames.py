"""Rows as pandas data frames: one column per field of the rows' dataclass, the same names and units."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from vvc_nnr.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import DataclassInstance


def frame_of(rows: Iterable[DataclassInstance], row_type: type[DataclassInstance]) -> pd.DataFrame:
    """The rows as a data frame; None is NaN in a column of floats, NA in one of whole numbers.

    Args:
        rows: Rows of one kind, in any number.
        row_type: Their dataclass, which gives the columns and their types.
    """
    import pandas as pd

    hints = typing.get_type_hints(row_type)
    names = [field.name for field in fields(row_type)]
    found = list(rows)
    columns = {name: pd.Series([getattr(row, name) for row in found], dtype=_dtype(hints[name])) for name in names}
    return pd.DataFrame(columns)


def unique_rows(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """The rows in their order, repeated ones once.

    Args:
        rows: Rows of one kind.
        key: The columns that say what a row is about.

    Raises:
        InputError: If two rows about the same thing differ (results of two runs in one file).
    """
    once = rows.drop_duplicates()
    twice = once[once.duplicated(key)]
    if len(twice):
        about = next(twice[key].astype(object).itertuples(index=False, name=None))
        raise InputError(f"two different results for {about}: keep the rows of one run only")
    return once.reset_index(drop=True)


def _dtype(hint: Any) -> str:
    """The type of a column, from the annotation of its field."""
    kinds = typing.get_args(hint) or (hint,)
    if float in kinds:
        return "float64"
    if int in kinds:
        return "Int64" if type(None) in kinds else "int64"
    return "object"
