"""All experiments that a folder of results holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.settings import read_last_run
from vvc_nnr.experiments.report.image_section import image_section
from vvc_nnr.experiments.report.in_loop_section import in_loop_section
from vvc_nnr.experiments.report.section import Section
from vvc_nnr.experiments.report.tool_section import tool_section
from vvc_nnr.experiments.report.zoo_section import zoo_section
from vvc_nnr.experiments.tables.in_loop_stored import IN_LOOP_ROWS, IN_LOOP_SETTINGS, read_in_loop
from vvc_nnr.experiments.tables.stored import IMAGE_ROWS, TOOL_ROWS, ZOO_ROWS, read_images, read_tools, read_zoo


def _read_in_loop(folder: Path) -> Section:
    return in_loop_section(read_in_loop(folder), read_last_run(folder / IN_LOOP_SETTINGS))


_EXPERIMENTS: tuple[tuple[str, Callable[[Path], Section]], ...] = (
    (IN_LOOP_ROWS, _read_in_loop),
    (TOOL_ROWS, lambda folder: tool_section(read_tools(folder))),
    (IMAGE_ROWS, lambda folder: image_section(read_images(folder))),
    (ZOO_ROWS, lambda folder: zoo_section(read_zoo(folder))),
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
