"""Size against loss: the rows of `calibration.py`, their table, plot and sizes at equal loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

OURS = ("calibrated", "fine-tuned")
REFERENCE = "NNCodec"


@dataclass(frozen=True, slots=True)
class Row:
    """One file: what made it, its size, and what it does to the test pictures.

    Attributes:
        method: What made it; those of the reference software begin with its name.
        setting: Of that method.
        size_bytes: Of the file.
        size_percent: Of the network in float32.
        psnr_db: On the test pictures.
        loss_db: Against the network in float32, on the test pictures.
        held_out_db: The same on the pictures that were held out of the calibration; None: there are none.
        seconds: What making it took.
    """

    method: str
    setting: str
    size_bytes: int
    size_percent: float
    psnr_db: float
    loss_db: float
    held_out_db: float | None
    seconds: float


def size_at(rows: Sequence[Row], loss_db: float) -> float | None:
    """Bytes at a loss, between the rows of one method (log of both); None beyond them."""
    points = sorted((math.log(row.loss_db), math.log(row.size_bytes)) for row in rows if row.loss_db > 0)
    if len(points) < 2 or not (loss_db > 0 and points[0][0] <= math.log(loss_db) <= points[-1][0]):
        return None
    return float(np.exp(np.interp(math.log(loss_db), *zip(*points, strict=True))))


def reference_size_at(rows: Sequence[Row], loss_db: float) -> float | None:
    """Bytes of the reference software at a loss: between those of its files that no other one beats in both."""
    theirs = sorted((row for row in rows if row.method.startswith(REFERENCE)), key=lambda row: row.size_bytes)
    best = [row for place, row in enumerate(theirs) if all(row.loss_db < other.loss_db for other in theirs[:place])]
    return size_at(best, loss_db)


def methods(rows: Sequence[Row]) -> list[str]:
    """Their names, in the order of the rows."""
    return list(dict.fromkeys(row.method for row in rows))


def by_method(rows: Sequence[Row], method: str) -> list[Row]:
    """The rows of one method, the largest file first."""
    return sorted((row for row in rows if row.method == method), key=lambda row: -row.size_bytes)


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown; ours with their size in percent of the reference software's least at the same loss."""
    heads = ["size [byte]", "size [%]", "PSNR [dB]", "loss [dB]", "held out [dB]", "time [s]", "of NNCodec [%]"]
    lines = [f"| method | setting | {' | '.join(heads)} |", "| --- | --- |" + " ---: |" * len(heads)]
    for name in methods(rows):
        lines += [_line(row, rows) for row in by_method(rows, name)]
    return "\n".join(lines)


def _line(row: Row, rows: Sequence[Row]) -> str:
    theirs = reference_size_at(rows, row.loss_db) if row.method in OURS else None
    share = "" if theirs is None else f"{100 * row.size_bytes / theirs:.1f}"
    held_out = "" if row.held_out_db is None else f"{row.held_out_db:.4f}"
    return (
        f"| {row.method} | {row.setting} | {row.size_bytes:,} | {row.size_percent:.2f} | {row.psnr_db:.3f} "
        f"| {row.loss_db:.4f} | {held_out} | {row.seconds:.0f} | {share} |"
    )


def plot(rows: Sequence[Row], title: str) -> Figure:
    """PSNR over size, a line for each method."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name in methods(rows):
        points = by_method(rows, name)
        style = "k-" if name in OURS else ":"
        if name == "float32":
            axes.axhline(points[0].psnr_db, color="grey", linewidth=0.8, label=name)
        else:
            axes.plot([r.size_percent for r in points], [r.psnr_db for r in points], style, marker="o", label=name)
    axes.set(xlabel="size [% of float32]", ylabel="PSNR [dB]", title=title)
    axes.legend(fontsize="small")
    return figure
