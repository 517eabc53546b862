"""A folder of results: the tables in every format and the plots, made from the rows that lie beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.gain_tables import bd_rate_table, gain_table
from vvc_nnr.experiments.markup import Table, to_csv, to_latex, to_markdown
from vvc_nnr.experiments.plots import end_to_end_figure, rd_figures, save_figure
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.rows import ImageRow, SizeRow, ToolRow
from vvc_nnr.experiments.tables import end_to_end_table, psnr_table, size_table, ssim_table
from vvc_nnr.files import AtomicFile

MIN_QPS_FOR_BD_RATE = 4


def tool_tables(
    rows: Sequence[ToolRow],
    sizes: Sequence[SizeRow],
    conventions: Conventions,
    interpolation: Interpolation = "pchip",
) -> dict[str, Table]:
    """The tables of a tool-by-tool run by file name; scores are averaged over QP 32 and 37 where both were run."""
    qps = sorted({row.qp for row in rows})
    shown = [qp for qp in qps if qp in (32, 37)] or qps
    tables = {
        "table1_size": size_table(sizes),
        "table2_psnr": psnr_table(rows, conventions, shown),
        "table3_ssim": ssim_table(rows, conventions, shown),
        "gain_per_qp": gain_table(rows, conventions),
    }
    if len(qps) >= MIN_QPS_FOR_BD_RATE:
        tables["bd_rate"] = bd_rate_table(rows, conventions, interpolation)
        tables["bd_rate_per_sequence"] = bd_rate_table(rows, conventions, interpolation, per_sequence=True)
    return tables


def end_to_end_tables(rows: Sequence[ImageRow], sizes: Sequence[SizeRow], conventions: Conventions) -> dict[str, Table]:
    """The tables of an end-to-end run by file name."""
    return {"table1_size": size_table(sizes), "table4_end_to_end": end_to_end_table(rows, conventions)}


def tool_figures(rows: Sequence[ToolRow]) -> dict[str, Figure]:
    """Rate-distortion plots of a tool-by-tool run by file name, per class and overall."""
    return {"rd_" + title.lower().replace(" ", "_"): figure for title, figure in rd_figures(rows).items()}


def end_to_end_figures(rows: Sequence[ImageRow]) -> dict[str, Figure]:
    """The plot of an end-to-end run by file name."""
    return {"end_to_end": end_to_end_figure(rows)}


def write_results(folder: Path, tables: Mapping[str, Table], figures: Mapping[str, Figure]) -> None:
    """Writes each table as .md, .csv and .tex and each figure as .png and .svg.

    Raises:
        InputError: If a file cannot be written.
    """
    for name, table in tables.items():
        for suffix, text in ((".md", to_markdown(table)), (".csv", to_csv(table)), (".tex", to_latex(table))):
            with AtomicFile(folder / (name + suffix)) as file:
                file.write(text.encode("utf-8", "replace"))
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, folder / (name + suffix))


def make_folder(folder: Path) -> Path:
    """The folder, made if need be.

    Raises:
        InputError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from error
    return folder
