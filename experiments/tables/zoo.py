"""The table of the model zoo: size, times and quality of every network before and after coding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vvc_nnr.experiments.records.rows import ZooRow
from vvc_nnr.experiments.tables.table import Cell, Column, Table


def zoo_table(rows: Iterable[ZooRow], absent: Mapping[str, str], *, has_peer: bool) -> Table:
    """The table of a run: one line per network and codec; columns that say nothing are left out."""
    rows = list(rows)
    columns = (
        Column("Network", text=True),
        Column("Weights", text=True),
        Column("Codec", text=True),
        Column("Parameters"),
        Column("Size", "byte"),
        Column("Saving", "%", digits=2),
        Column("Encode", "s", digits=2),
        Column("Decode", "s", digits=2),
        Column("Memory", "MiB", digits=0),
        Column("Accuracy", "%", digits=2),
        Column("AP", "%", digits=2),
        Column("Pixel accuracy", "%", digits=2),
        Column("IoU", digits=4),
        Column("Dice", digits=4),
        Column("Rate", "bpp", digits=4),
        Column("PSNR", "dB", digits=3),
        Column("Fault", text=True),
    )
    body = [_cells(row) for row in rows]
    body += [(name, f"not here: {reason}", *[None] * (len(columns) - 2)) for name, reason in absent.items()]
    said = [place for place in range(len(columns)) if place < 7 or any(cells[place] for cells in body)]
    shown = tuple(tuple(cells[place] for place in said) for cells in body)
    title = "Model zoo: size, times and quality of coded networks"
    return Table(title, tuple(columns[place] for place in said), shown, tuple(_notes(rows, has_peer)))


def _cells(row: ZooRow) -> tuple[Cell, ...]:
    size = row.original_bytes if row.n_bytes is None else row.n_bytes
    saving = None if row.n_bytes is None else 100 * (1 - row.n_bytes / row.original_bytes)
    fault = f"NaN or infinite: {row.fault}" if row.fault else None
    head = (row.network, row.weights, row.coding.label, row.n_parameters, size, saving)
    cost = (row.encode_s, row.decode_s, row.memory_mib)
    scores = (row.accuracy_percent, row.average_precision_percent, row.pixel_accuracy_percent, row.iou, row.dice)
    return (*head, *cost, *scores, row.bpp, row.psnr_db, fault)


def _notes(rows: Sequence[ZooRow], has_peer: bool) -> list[str]:
    tasks = dict.fromkeys(f"{row.network}: {row.data}." for row in rows if row.data)
    notes = [
        "Size: bytes of all tensors in their number formats, or of the whole coded file.",
        "Times: processor time of one run, one thread.",
        "vvc_nnr: roles, and QPs by the sizes of the weight tensors; nncodec 2.1.3: its defaults.",
        "Calibrated: the smallest file within a loss on other photographs; all candidates timed, memory not taken.",
        "Memory: most of the codec's process beyond what it had with the network loaded.",
        "Weights published, bundled with this package, or random: real layout, but nothing to score.",
        *tasks,
    ]
    if not has_peer:
        notes.append("The reference software was not run: VVC_NNR_PEER names no environment with it.")
    return notes
