"""All experiments that a folder of results holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.in_loop_stored import IN_LOOP_ROWS, IN_LOOP_SETTINGS, read_in_loop
from vvc_nnr.experiments.planned import AxesOf, RowT, image_axes, run_remarks, sequence_axes, zoo_axes
from vvc_nnr.experiments.report.image_section import image_section
from vvc_nnr.experiments.report.in_loop_section import in_loop_section
from vvc_nnr.experiments.report.section import Section
from vvc_nnr.experiments.report.tool_section import tool_section
from vvc_nnr.experiments.report.zoo_section import zoo_section
from vvc_nnr.experiments.settings import LastRun, read_last_run
from vvc_nnr.experiments.stored import IMAGE_ROWS, TOOL_ROWS, ZOO_ROWS, read_images, read_tools, read_zoo


def _in_loop(folder: Path) -> Section:
    stored, last_run = read_in_loop(folder), read_last_run(folder / IN_LOOP_SETTINGS)
    return _remarked(in_loop_section(stored, last_run), stored.rows, sequence_axes, last_run)


def _tools(folder: Path) -> Section:
    stored = read_tools(folder)
    return _remarked(tool_section(stored), stored.rows, sequence_axes, stored.last_run)


def _images(folder: Path) -> Section:
    stored = read_images(folder)
    return _remarked(image_section(stored), stored.rows, image_axes, stored.last_run)


def _zoo(folder: Path) -> Section:
    stored = read_zoo(folder)
    return _remarked(zoo_section(stored), stored.rows, zoo_axes, stored.last_run)


def _remarked(section: Section, rows: Sequence[RowT], axes_of: AxesOf[RowT], last_run: LastRun) -> Section:
    """The section with what has to be known first: what was planned and is not there, rows of another version."""
    remarks = run_remarks(last_run.plan, rows, axes_of, section.header, has_ended=last_run.has_ended)
    return section.with_remarks(remarks)


_EXPERIMENTS: tuple[tuple[str, Callable[[Path], Section]], ...] = (
    (IN_LOOP_ROWS, _in_loop),
    (TOOL_ROWS, _tools),
    (IMAGE_ROWS, _images),
    (ZOO_ROWS, _zoo),
)
"""Each experiment's file of rows, and how a folder with it is read."""


def read_sections(folder: Path) -> list[Section]:
    """A section for each experiment of the folder.

    Raises:
        InputError: If there is no such folder, it holds no results, or they cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; the folder that an experiment wrote (--out) is wanted")
    found = [read(folder) for name, read in _EXPERIMENTS if (folder / name).exists()]
    if not found:
        names = ", ".join(name for name, _ in _EXPERIMENTS)
        raise InputError(f"{folder}: holds no results of an experiment (none of {names})")
    return found
