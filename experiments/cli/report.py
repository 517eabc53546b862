"""The command report, and the option of the experiments that ends them with one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

from tyro.conf import Positional, arg

from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs, check_writable
from vvc_nnr.experiments.cli.kinds import FOLDER, NATURAL, SIZE, OutputPath, door, path
from vvc_nnr.experiments.records.viewer_pictures import PICTURES_FOLDER
from vvc_nnr.experiments.report.embedding import PictureLimits
from vvc_nnr.experiments.report.write import ReportFormat, WrittenReport, report_format, write_report
from vvc_nnr.experiments.tables.stored import CODED_FOLDER

_LIMITS = PictureLimits()


def _report_file(text: str) -> Path:
    """A file whose name has a format: told before an experiment runs for hours."""
    found = path(text)
    report_format(found)
    return found


ReportFile: TypeAlias = Annotated[Path | None, door(_report_file, "FILE")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerFlags:
    """Pictures of the web page's viewer.

    Attributes:
        max_pictures: At most N pictures.
        max_mb: Their size in the page, in MB.
        crop: Larger pictures are cut around their middle.
    """

    max_pictures: Annotated[int, NATURAL] = _LIMITS.max_pictures
    max_mb: Annotated[int, NATURAL] = _LIMITS.max_bytes // 1_000_000
    crop: Annotated[tuple[int, int], SIZE] = (_LIMITS.max_width, _LIMITS.max_height)


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """A folder of results as one web page that stands alone, or as tables.

    Attributes:
        results: Folder that experiments wrote (--out).
        out: The report.
        format: Format; default: by the name of the file (.html .md .csv .tex .xlsx).
        title: Title of the page; default: the folder's name.
        viewer: Pictures of the web page's viewer.
    """

    results: Positional[Annotated[Path, FOLDER]]
    out: Annotated[OutputPath, arg(aliases=["-o"])]
    format: ReportFormat | None = None
    title: str | None = None
    viewer: ViewerFlags = field(default_factory=ViewerFlags)

    def run(self) -> Outcome:
        """Writes the report.

        Raises:
            InputError: If the folder holds no results, or the report cannot be written.
        """
        check_outputs(_stored(self.results), [self.out])
        viewer = self.viewer
        limits = PictureLimits(viewer.max_pictures, viewer.max_mb * 1_000_000, *viewer.crop)
        written = write_report(self.results, self.out, format=self.format, title=self.title, limits=limits)
        return Outcome(_text(written), asdict(written) | {"path": str(written.path)})


def check_asked_report(report: Path | None, results: Path) -> None:
    """Checks the place of an experiment's report before it runs for hours; the folder of results is made by it.

    Raises:
        InputError: If the report could not be written.
    """
    if report is None:
        return
    is_to_be_made = not results.exists() and report.resolve().parent == results.resolve()
    if not is_to_be_made:
        check_writable(report)


def _stored(results: Path) -> list[Path]:
    """Rows, settings, pictures and networks of a folder of results, which no one can make anew from the tables."""
    folders = (results / PICTURES_FOLDER, results / CODED_FOLDER)
    return [*results.glob("*.tsv"), *results.glob("*.json"), *(path for each in folders for path in each.glob("*"))]


def _text(written: WrittenReport) -> str:
    text = (
        f"{written.path}: {written.n_bytes / 1e6:.2f} MB, {written.n_tables} tables of {', '.join(written.experiments)}"
    )
    n_pictures = written.n_pictures + written.n_pictures_left_out
    text += f", {written.n_pictures} of {n_pictures} pictures" if n_pictures else ""
    return "\n".join([text, *written.remarks])
