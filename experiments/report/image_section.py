"""The end-to-end experiment in a report."""

from __future__ import annotations

from collections.abc import Iterator

from vvc_nnr.experiments.report.rd_charts import image_chart
from vvc_nnr.experiments.report.section import ChartGroup, Finding, Section
from vvc_nnr.experiments.tables.means import image_means
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES
from vvc_nnr.experiments.tables.stored import StoredImages
from vvc_nnr.experiments.tables.table import Table, cell_texts

_LEAD = "A convolutional autoencoder with a real entropy coder against JPEG, which is counted in three ways."


def image_section(stored: StoredImages) -> Section:
    """The section of an end-to-end run.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    tables = stored.tables()
    means = image_means(stored.frame)
    return Section(
        "end-to-end",
        "End to end: autoencoder against JPEG",
        _LEAD,
        tuple(_findings(tables["table4_end_to_end"])),
        (ChartGroup("Rate and quality", (image_chart(means),)),) if means else (),
        {name: tables[name] for name in ("table4_end_to_end", "table1_size")},
        {},
        stored.header,
        stored.last_run.settings,
    )


def _findings(table: Table) -> Iterator[Finding]:
    """What each autoencoder gains over JPEG's payload where their rates are near."""
    place = len(table.columns) - 1
    exact = {table.rows[warning.row][0] for warning in table.warnings}
    for row, texts in zip(table.rows, cell_texts(table), strict=True):
        gap = row[place]
        if row[1] == METHOD_TITLES["jpeg-payload"]:
            label = f"PSNR of {texts[0]} over JPEG's payload at {texts[4]} bpp"
            if isinstance(gap, float):
                yield Finding(f"{round(-gap, 3) + 0.0:+.3f}", "dB", label)
            elif row[0] in exact:
                yield Finding("n/a", "", label, "it cannot be given where images are exact, which is an infinite PSNR")
