"""The command report, and the option of the experiments that ends them with one."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import Commands, Outcome, add_command, natural, output_path, size
from vvc_nnr.experiments.outputs import check_outputs, check_writable
from vvc_nnr.experiments.report.embedding import PictureLimits
from vvc_nnr.experiments.report.write import FORMATS, WrittenReport, format_of, write_report
from vvc_nnr.experiments.runs.viewer_pictures import FOLDER
from vvc_nnr.experiments.tables.stored import CODED_FOLDER

_LIMITS = PictureLimits()


def add_commands(commands: Commands) -> None:
    """Adds the command."""
    report = add_command(
        commands,
        "report",
        "a folder of results as one web page that stands alone, or as tables",
        "vvc-nnr report results/ -o report.html",
        _report,
    )
    report.add_argument("results", type=Path, help="folder that experiments wrote (--out)")
    report.add_argument("-o", "--out", type=output_path, required=True, metavar="FILE", help="the report")
    report.add_argument("--format", choices=FORMATS, help="default: by the name of FILE (.html .md .csv .tex .xlsx)")
    report.add_argument("--title", help="title of the page, default: the folder's name")
    pictures = report.add_argument_group("pictures of the web page's viewer")
    pictures.add_argument("--max-pictures", type=natural, default=_LIMITS.max_pictures, metavar="N", help="at most N")
    pictures.add_argument(
        "--max-mb", type=natural, default=_LIMITS.max_bytes // 1_000_000, metavar="MB", help="their size in the page"
    )
    pictures.add_argument(
        "--crop",
        type=size,
        default=f"{_LIMITS.max_width}x{_LIMITS.max_height}",
        metavar="WxH",
        help="larger pictures are cut around their middle",
    )


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option --report of an experiment."""
    parser.add_argument("--report", type=_report_file, metavar="FILE", help="write a report (.html ...) at the end")


def check_asked_report(arguments: argparse.Namespace) -> None:
    """Checks the place of an experiment's report before it runs for hours; the folder of results is made by it.

    Raises:
        InputError: If the report could not be written.
    """
    report, results = arguments.report, arguments.out
    if report is None:
        return
    is_to_be_made = not results.exists() and report.resolve().parent == results.resolve()
    if not is_to_be_made:
        check_writable(report)


def write_asked_report(arguments: argparse.Namespace) -> None:
    """Writes the report of an experiment's folder where --report asks for one."""
    if arguments.report is not None:
        write_report(arguments.out, arguments.report)


def _report(arguments: argparse.Namespace) -> Outcome:
    check_outputs(_stored(arguments.results), [arguments.out])
    width, height = arguments.crop
    limits = PictureLimits(arguments.max_pictures, arguments.max_mb * 1_000_000, width, height)
    written = write_report(
        arguments.results, arguments.out, format=arguments.format, title=arguments.title, limits=limits
    )
    return Outcome(_text(written), asdict(written) | {"path": str(written.path)})


def _stored(results: Path) -> list[Path]:
    """Rows, settings, pictures and networks of a folder of results, which no one can make anew from the tables."""
    folders = (results / FOLDER, results / CODED_FOLDER)
    return [*results.glob("*.tsv"), *results.glob("*.json"), *(path for each in folders for path in each.glob("*"))]


def _text(written: WrittenReport) -> str:
    text = (
        f"{written.path}: {written.n_bytes / 1e6:.2f} MB, {written.n_tables} tables of {', '.join(written.experiments)}"
    )
    n_pictures = written.n_pictures + written.n_pictures_left_out
    text += f", {written.n_pictures} of {n_pictures} pictures" if n_pictures else ""
    return "\n".join([text, *written.remarks])


def _report_file(text: str) -> Path:
    """A file whose name has a format: told before an experiment runs for hours."""
    try:
        format_of(Path(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)
