"""The end-to-end experiment in a report."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vvc_nnr.experiments.records.rows import ImageMethod
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, ORIGINAL, weights_title
from vvc_nnr.experiments.report.charts import Axis, Line, Marker, PointChart, Series, finite_series
from vvc_nnr.experiments.report.section import ChartGroup, Finding, Section
from vvc_nnr.experiments.tables.means import ImageMean, image_means
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES, RECONSTRUCTED
from vvc_nnr.experiments.tables.stored import StoredImages
from vvc_nnr.experiments.tables.table import Table, cell_texts

_LEAD = "A convolutional autoencoder with a real entropy coder against JPEG, which is counted in three ways."
_LOOKS: dict[ImageMethod, tuple[int, Marker, Line]] = {
    "jpeg-file": (0, "square", "dotted"),
    "jpeg-optimised": (0, "diamond", "dashed"),
    "jpeg-payload": (0, "circle", "solid"),
    "cnn-ae": (1, "triangle", "solid"),
}


def image_section(stored: StoredImages) -> Section:
    """The section of an end-to-end run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    tables = stored.tables()
    means = image_means(stored.frame)
    series, note = finite_series([*(_series(method, means) for method in _LOOKS), _decoded_series(means)])
    chart = PointChart(
        "PSNR over rate", Axis("rate [bit per pixel]", with_zero=True), Axis("mean PSNR, RGB [dB]"), series, note
    )
    return Section(
        "end-to-end",
        "End to end: autoencoder against JPEG",
        _LEAD,
        tuple(_findings(tables["table4_end_to_end"])),
        (ChartGroup("Rate and quality", (chart,)),) if means else (),
        {name: tables[name] for name in ("table4_end_to_end", "table1_size")},
        {},
        stored.header,
        stored.last_run.settings,
    )


def _series(method: ImageMethod, means: list[ImageMean]) -> Series:
    mine = [mean for mean in means if mean.method == method and mean.weights in (NO_WEIGHTS, ORIGINAL)]
    found = sorted(mine, key=lambda mean: mean.bpp)
    points = tuple((mean.bpp, mean.psnr_db) for mean in found)
    return Series(METHOD_TITLES[method], points, *_LOOKS[method], tuple(mean.setting for mean in found))


def _decoded_series(means: list[ImageMean]) -> Series:
    """The autoencoders with decoded weights."""
    mine = [mean for mean in means if mean.weights not in (NO_WEIGHTS, ORIGINAL)]
    found = sorted(mine, key=lambda mean: mean.bpp)
    points = tuple((mean.bpp, mean.psnr_db) for mean in found)
    names = tuple(f"{mean.setting}, {weights_title(mean.weights)}" for mean in found)
    return Series(RECONSTRUCTED, points, 2, "cross", "none", names)


def _findings(table: Table) -> Iterator[Finding]:
    """What each autoencoder gains over JPEG's payload where their rates are near."""
    place = len(table.columns) - 1
    for row, texts in zip(table.rows, cell_texts(table), strict=True):
        gap = row[place]
        if row[1] == METHOD_TITLES["jpeg-payload"] and isinstance(gap, float):
            label = f"PSNR of {texts[0]} over JPEG's payload at {texts[4]} bpp"
            if math.isfinite(gap):
                yield Finding(f"{round(-gap, 3) + 0.0:+.3f}", "dB", label)
            else:
                yield Finding("n/a", "", label, "it cannot be given where a mean PSNR is infinite")
