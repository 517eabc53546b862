"""The end-to-end experiment in a report."""

from __future__ import annotations

from collections.abc import Iterator

from vvc_nnr.experiments.image_averages import ImageMean, image_means
from vvc_nnr.experiments.markup import Table, cell_texts
from vvc_nnr.experiments.report.charts import Axis, Line, Marker, PointChart, Series, finite_series
from vvc_nnr.experiments.report.section import ChartGroup, Finding, Section
from vvc_nnr.experiments.rows import ImageMethod
from vvc_nnr.experiments.stored import StoredImages
from vvc_nnr.experiments.tables import METHOD_TITLES

_LEAD = "A convolutional autoencoder with a real entropy coder against JPEG, which is counted in three ways."
_LOOKS: dict[ImageMethod, tuple[int, Marker, Line]] = {
    "jpeg-file": (0, "square", "dotted"),
    "jpeg-optimised": (0, "diamond", "dashed"),
    "jpeg-payload": (0, "circle", "solid"),
    "cnn-ae": (1, "triangle", "solid"),
    "reconstructed-cnn-ae": (2, "cross", "none"),
}


def image_section(stored: StoredImages) -> Section:
    """The section of an end-to-end run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    tables = stored.tables()
    means = image_means(stored.rows)
    series, note = finite_series(_series(method, means) for method in _LOOKS)
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
    found = sorted((mean for mean in means if mean.method == method), key=lambda mean: mean.bpp)
    points = tuple((mean.bpp, mean.psnr_db) for mean in found)
    return Series(METHOD_TITLES[method], points, *_LOOKS[method], tuple(mean.setting for mean in found))


def _findings(table: Table) -> Iterator[Finding]:
    """What each autoencoder gains over JPEG's payload where their rates are near."""
    place = len(table.columns) - 1
    exact = {table.rows[doubt.row][0] for doubt in table.doubts}
    for row, texts in zip(table.rows, cell_texts(table), strict=True):
        gap = row[place]
        if row[1] == METHOD_TITLES["jpeg-payload"]:
            label = f"PSNR of {texts[0]} over JPEG's payload at {texts[4]} bpp"
            if isinstance(gap, float):
                yield Finding(f"{round(-gap, 3) + 0.0:+.3f}", "dB", label)
            elif row[0] in exact:
                yield Finding("n/a", "", label, "it cannot be given where images are exact, which is an infinite PSNR")
