"""What a report says of one experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.planned import with_remarks
from vvc_nnr.experiments.report.charts import Chart


@dataclass(frozen=True, slots=True)
class Finding:
    """One number that a reader should take home.

    Attributes:
        value: The number as a text.
        unit: Its unit.
        label: What it is.
        doubt: What to doubt about it, empty if nothing.
    """

    value: str
    unit: str
    label: str
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class ChartGroup:
    """Charts that belong together and may share a legend.

    Attributes:
        title: What they show.
        charts: Those that are seen at once.
        more: Those behind a line that opens.
        note: What has to be known to read them.
    """

    title: str
    charts: tuple[Chart, ...]
    more: tuple[Chart, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One experiment.

    Attributes:
        name: Its name on the command line, such as "tool-by-tool".
        title: Its name for people.
        lead: What was asked and how, in a sentence or two.
        findings: The numbers to take home.
        charts: Its charts.
        tables: Its tables by file name, the most important first.
        more_tables: Tables behind a line that opens.
        header: Where the rows come from, and their conventions.
        settings: What the last run did.
        jvet_tables: Those of its tables that have the layout of JVET, by file name.
        remarks: What has to be known before any number is read, such as that the run is not finished.
    """

    name: str
    title: str
    lead: str
    findings: tuple[Finding, ...]
    charts: tuple[ChartGroup, ...]
    tables: Mapping[str, Table]
    more_tables: Mapping[str, Table] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    jvet_tables: Mapping[str, Table] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def with_remarks(self, remarks: tuple[str, ...]) -> Section:
        """The section with remarks at its head and at the heads of its tables."""
        return replace(
            self,
            tables=with_remarks(self.tables, remarks),
            more_tables=with_remarks(self.more_tables, remarks),
            jvet_tables=with_remarks(self.jvet_tables, remarks),
            remarks=(*remarks, *self.remarks),
        )

    @property
    def all_tables(self) -> dict[str, Table]:
        """All tables by file name, in their order."""
        return {**self.tables, **self.more_tables}
