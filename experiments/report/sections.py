"""All experiments that a folder of results holds."""

from __future__ import annotations

from pathlib import Path

from vvc_nnr.experiments.report.image_section import image_section
from vvc_nnr.experiments.report.section import Section
from vvc_nnr.experiments.report.tool_section import tool_section
from vvc_nnr.experiments.report.zoo_section import zoo_section
from vvc_nnr.experiments.tables.stored import load


def read_sections(folder: Path) -> list[Section]:
    """A section for each experiment of the folder.

    Raises:
        InputError: If there is no such folder, it holds no results, or they cannot be read.
    """
    found = load(folder)
    sections = []
    if found.tools is not None:
        sections.append(tool_section(found.tools).with_remarks(found.tools.remarks))
    if found.images is not None:
        sections.append(image_section(found.images).with_remarks(found.images.remarks))
    if found.zoo is not None:
        sections.append(zoo_section(found.zoo).with_remarks(found.zoo.remarks))
    return sections
