"""How far sequences or images differ in what the other tables have the mean of: standard deviations and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from vvc_nnr.experiments.records.rows import NetworkRow, unique_rows
from vvc_nnr.experiments.records.weights import weights_title
from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation
from vvc_nnr.experiments.tables.bd_rate_tables import (
    PLANE_HEADS,
    WAY_COLUMNS,
    Comparison,
    Notes,
    Savings,
    cell_warning,
    curve_saving,
    way_cells,
)
from vvc_nnr.experiments.tables.gains import coded_variants, original_of
from vvc_nnr.experiments.tables.means import PLANES, ImageMean, PlaneOrAll, ToolResults, Variant, psnr_column
from vvc_nnr.experiments.tables.notes import LOOP_FILTER_TITLES
from vvc_nnr.experiments.tables.paper_tables import compared_at_rates, method_title, setting_title
from vvc_nnr.experiments.tables.table import Cell, CellWarning, Column, Table

if TYPE_CHECKING:
    import pandas as pd

SPREAD = "spread_over"
"""What the files of these tables begin with; they are long, and not printed on a terminal."""
MIN_FOR_AN_INTERVAL = 3
_CONFIDENCE = 0.95
_AGAINST_TRAINED = "weights as trained"
_NUMBERS = (
    Column("n"),
    Column("Mean", digits=4, signed=True),
    Column("Standard deviation", digits=4),
    Column("95 % from", digits=4, signed=True),
    Column("95 % to", digits=4, signed=True),
)
_OVER_SEQUENCES = (
    *WAY_COLUMNS,
    Column("Against", text=True),
    Column("Measure", text=True),
    Column("QP", text=True),
    Column("Plane", text=True),
    *_NUMBERS,
)
_OVER_IMAGES = (
    Column("At the rate of", text=True),
    Column("Method", text=True),
    Column("Setting", text=True),
    Column("Against", text=True),
    Column("Measure", text=True),
    *_NUMBERS,
)
_NO_POINT = -1
_ABOUT = ["method", "setting", "weights", "operating_point", "effort"]
_MEASURES = {"psnr_db": "PSNR [dB]", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "bpp": "rate [bpp]"}


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean, and how far the values are from it.

    Attributes:
        n: How many values there are.
        mean: Their mean.
        standard_deviation: Of the sample (n - 1 in the denominator); None of one value.
        low: Where the 95 % confidence interval of the mean begins; None of fewer than three values.
        high: Where it ends.
    """

    n: int
    mean: float
    standard_deviation: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """The spread of the values that are there and finite; None if there are none.

        The interval is Student's: mean -+ t(0.975, n - 1) times the standard deviation over the root of n.
        """
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return None
        mean, deviation = fmean(known), stdev(known) if len(known) > 1 else None
        if deviation is None or len(known) < MIN_FOR_AN_INTERVAL:
            return cls(len(known), mean, deviation, None, None)
        from scipy.special import stdtrit  # here: it takes a while to import

        half = float(stdtrit(len(known) - 1, (1 + _CONFIDENCE) / 2)) * deviation / math.sqrt(len(known))
        return cls(len(known), mean, deviation, mean - half, mean + half)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells under the numbers' heads."""
        return (self.n, self.mean, self.standard_deviation, self.low, self.high)


def _note(what: str) -> str:
    return (
        f"Over {what}: n of them have the value, an infinite one is none. Differences are taken of each by itself "
        "(paired), then their mean, their standard deviation (n - 1 in the denominator) and the 95 % confidence "
        "interval of the mean by Student's t with n - 1 degrees of freedom, of three or more. The interval takes the "
        f"{what} as drawn at random from those that one would say something about, and their differences as about "
        "normal; each row stands for itself, nothing is corrected for their number."
    )


def sequence_spread_table(results: ToolResults, savings: Savings, method: Interpolation, notes: Notes) -> Table:
    """Spread over all sequences of the gain at each QP and of the BD-rate, against each anchor and weights as trained.

    Args:
        results: The run in one configuration.
        savings: The BD-rates; empty where there are none.
        method: Interpolation.
        notes: What is said besides.
    """
    pairs = [
        (v, anchor, LOOP_FILTER_TITLES[anchor.loop_filters]) for v in results.tests for anchor in results.anchors(v)
    ]
    pairs += [(coded, original_of(coded), _AGAINST_TRAINED) for coded in coded_variants(results)]
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    for variant, anchor, against in pairs:
        for qp in results.qps:
            for plane in PLANES:
                if (found := Spread.of(_gains(results, variant, anchor, plane, qp))) is not None:
                    about = (against, "PSNR gain [dB]", str(qp), PLANE_HEADS[plane])
                    rows.append((*way_cells(results, variant), *about, *found.cells))
        for plane in PLANES if savings else ():
            rates = _rates(results, savings, Comparison(variant, plane, anchor=anchor), method)
            if (found := Spread.of(each.value_percent for each in rates.values() if each)) is not None:
                head = (*way_cells(results, variant), against, "BD-rate [%]", "", PLANE_HEADS[plane])
                marks += cell_warning(len(rows), len(head) + 1, rates, is_mean=len(rates) > 1)
                rows.append((*head, *found.cells))
    return Table("Spread over sequences", _OVER_SEQUENCES, tuple(rows), (_note("sequences"), *notes), tuple(marks))


def _gains(results: ToolResults, variant: Variant, anchor: Variant, plane: PlaneOrAll, qp: int) -> Iterator[float]:
    """The gain of each sequence in dB, NaN where one has no such plane, or both are exact."""
    scores, anchor_scores = (results.grids[each, psnr_column(plane)].values for each in (variant, anchor))
    return (scores[name][qp] - anchor_scores[name][qp] for name in results.sequences)


def _rates(
    results: ToolResults, savings: Savings, comparison: Comparison, method: Interpolation
) -> Mapping[str, BdRate | None]:
    """The BD-rate of each sequence; those against weights as trained are not among the savings."""
    return {
        name: savings.get((name, comparison)) or curve_saving(results, (name,), comparison, method)
        for name in results.sequences
    }


def image_spread_table(rows: pd.DataFrame, means: Sequence[ImageMean], networks: Sequence[NetworkRow]) -> Table:
    """Spread over the images of what Table 4 compares with each autoencoder as its first row has it.

    Args:
        rows: Rows of the end-to-end experiment.
        means: Their means.
        networks: The autoencoders of the run, in the order of the table.
    """
    every = unique_rows(rows, ["image", *_ABOUT, "network_sha256"])
    body: list[tuple[Cell, ...]] = []
    for name, mean, reference in compared_at_rates(means, networks):
        own, theirs = (_of(every, each) for each in (mean, reference))
        head = (name, method_title(mean), setting_title(mean), weights_title(reference.weights))
        for column, title in _MEASURES.items():
            if (found := Spread.of((own[column] - theirs[column]).astype(float))) is not None:
                body.append((*head, title, *found.cells))
    note = (
        "Against: the autoencoder with these weights, on the same images. No rows of files whose rate is out of reach."
    )
    return Table("Spread over images", _OVER_IMAGES, tuple(body), (note, _note("images")))


def _of(rows: pd.DataFrame, mean: ImageMean) -> pd.DataFrame:
    """The rows that a mean is of, by image."""
    same = (rows["method"] == mean.method) & (rows["setting"] == mean.setting) & (rows["weights"] == mean.weights)
    is_there = rows["operating_point"].fillna(_NO_POINT) == (
        _NO_POINT if mean.operating_point is None else mean.operating_point
    )
    return rows[same & is_there & (rows["effort"] == mean.effort)].set_index("image")
