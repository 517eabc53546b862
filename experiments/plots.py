"""Curves of rate and quality from the rows, as matplotlib figures without pyplot and its global state."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Literal, TypeAlias

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import NullLocator

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.infinite_points import finite_points, infinite_note
from vvc_nnr.experiments.records.rows import ImageMethod
from vvc_nnr.experiments.records.weights import ORIGINAL
from vvc_nnr.experiments.tables import paper_scores as paper
from vvc_nnr.experiments.tables.bd_rate import Point, gain_curve
from vvc_nnr.experiments.tables.bd_rate_tables import variant_label
from vvc_nnr.experiments.tables.means import ANCHOR, ImageMean, PlaneName, ToolResults, Variant, image_means
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES, PLANE_TITLES, RECONSTRUCTED
from vvc_nnr.experiments.tables.table import one_line
from vvc_nnr.files import AtomicFile

if TYPE_CHECKING:
    import pandas as pd

Grouping: TypeAlias = Literal["sequence", "class"]

_ANCHOR_COLOURS = {"all": "#000000", "deblock-sao": "#7f7f7f", "none": "#b5b5b5"}
_CNN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette: told apart with any colour vision; dashes and markers differ as well."""
_NOTE_LETTERS_PER_INCH = 13
"""In lines of notes, so that they stay in the figure."""
_IMAGE_STYLES: dict[ImageMethod, dict[str, str]] = {
    "jpeg-file": {"color": "#b5b5b5", "marker": "s", "linestyle": ":"},
    "jpeg-optimised": {"color": "#7f7f7f", "marker": "D", "linestyle": "--"},
    "jpeg-payload": {"color": "#000000", "marker": "o", "linestyle": "-"},
    "cnn-ae": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
}


def tool_figures(results: ToolResults) -> dict[str, Figure]:
    """Rate-distortion plots of a tool-by-tool run by file name, per class and overall."""
    return {"rd_" + title.lower().replace(" ", "_"): figure for title, figure in rd_figures(results).items()}


def end_to_end_figures(rows: pd.DataFrame) -> dict[str, Figure]:
    """The plot of an end-to-end run by file name."""
    return {"end_to_end": end_to_end_figure(rows)}


def rd_figures(results: ToolResults, by: Grouping = "class", plane: PlaneName = "y") -> dict[str, Figure]:
    """One figure per class (and "Overall"), or per sequence: quality over rate, and the gains that it hides.

    Args:
        results: The means of a tool-by-tool run.
        by: What a figure is about.
        plane: The plane to score.
    """
    if by == "sequence":
        return {name: _rd_figure(results, name, (name,), plane) for name in results.sequences}
    groups = {f"Class {name}": names for name, names in results.classes.items()}
    if len(groups) > 1:
        groups[paper.OVERALL] = tuple(results.sequences)
    return {title: _rd_figure(results, title, names, plane) for title, names in groups.items()}


def end_to_end_figure(rows: pd.DataFrame) -> Figure:
    """PSNR over rate of JPEG by its three rates and of the autoencoders, with the paper's points.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    means = image_means(rows)
    figure = Figure(figsize=(8.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    curves = [(METHOD_TITLES[method], style, _image_points(means, method)) for method, style in _IMAGE_STYLES.items()]
    decoded = {"color": "#D55E00", "marker": "x", "linestyle": "none"}
    curves.append((RECONSTRUCTED, decoded, _image_points(means, "cnn-ae", decoded=True)))
    for label, style, all_points in curves:
        if points := finite_points(all_points):
            rates, scores = zip(*points, strict=True)
            axes.plot(rates, scores, label=label, markersize=5, linewidth=1.4, **style)  # type: ignore[arg-type]
    for theirs, marker in zip(paper.END_TO_END[:2], ("^", "*"), strict=True):
        label = f"{theirs.label}, in the paper"
        axes.plot(float(theirs.bpp), float(theirs.psnr_db), marker, color="#009E73", markersize=9, label=label)
    _dress(axes, "rate [bit per pixel]", "mean PSNR, RGB [dB]")
    n_images = len(frozenset[str]().union(*(mean.images for mean in means)))
    axes.set_title(f"End to end, {n_images} images", fontsize="medium", loc="left")
    axes.set_xlim(left=0)
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    note = infinite_note((label, points) for label, _, points in curves)
    if note:
        figure.supxlabel(_in_lines(note, figure), fontsize="small", x=0.01, ha="left")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .png or .svg, the same bytes for the same figure.

    Raises:
        InputError: If the suffix is another, or the file cannot be written; nothing is left of it then.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise InputError(f"{path}: plots are written as .png or .svg")
    # SVG carries its date and random ids otherwise; a PNG has neither
    metadata = {"Date": None} if suffix == ".svg" else {}
    data = io.BytesIO()
    with rc_context({"svg.hashsalt": "vvc-nnr"}):
        figure.savefig(data, format=suffix[1:], dpi=150, metadata=metadata)
    with AtomicFile(path) as file:
        file.write(data.getvalue())


def _rd_figure(results: ToolResults, title: str, sequences: Sequence[str], plane: PlaneName) -> Figure:
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    curves, gains = figure.subplots(1, 2)
    anchor = sorted(finite_points(results.curve(sequences, ANCHOR, plane)))
    ticks: tuple[float, ...] = ()
    all_points = []
    for variant, style in _variant_styles(results):
        all_points.append((str(style["label"]), sorted(results.curve(sequences, variant, plane))))
        points = finite_points(all_points[-1][1])
        if not points:
            continue
        rates, scores = zip(*points, strict=True)
        ticks = ticks or rates
        curves.plot(rates, scores, **style)
        if variant != ANCHOR:
            gain_rates, gain_db = gain_curve(anchor, points)
            if gain_rates:
                gains.plot(gain_rates, gain_db, **(style | {"marker": ""}))
    for axes in (curves, gains):
        axes.set_visible(bool(axes.lines))
    gains.axhline(0, color=_ANCHOR_COLOURS["all"], linewidth=1.2)
    _dress(curves, "rate [kbit per picture]", f"PSNR of {PLANE_TITLES[plane]} [dB]")
    _dress(gains, "rate [kbit per picture]", "gain over all filters at the same rate [dB]")
    for axes in (curves, gains):
        _log_rate_axis(axes, ticks)
    n_sequences = f"{len(sequences)} sequences" if len(sequences) > 1 else "1 sequence"
    heading = title if sequences == (title,) else f"{title}, mean of {n_sequences}"
    figure.suptitle(_plain(heading), fontsize="medium", x=0.01, ha="left")
    handles = curves.get_legend_handles_labels()
    legend = figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    sentences = [infinite_note(all_points), *_missing(bool(curves.get_visible()), bool(gains.get_visible()))]
    if note := " ".join(sentences).strip():
        legend.set_title(_in_lines(note, figure), prop=FontProperties(size="small"))
        legend.set_alignment("left")
    return figure


def _variant_styles(results: ToolResults) -> list[tuple[Variant, dict[str, str | float]]]:
    """What is drawn and how: anchors in greys, one colour per network, dashes where its weights are decoded."""
    styles: list[tuple[Variant, dict[str, str | float]]] = []
    names = results.network_names
    for variant in results.variants:
        style: dict[str, str | float]
        label = _plain(variant_label(results, variant))
        if not variant.network:
            marker = {"all": "o", "deblock-sao": "s", "none": "v"}[variant.loop_filters]
            style = {"color": _ANCHOR_COLOURS[variant.loop_filters], "marker": marker, "label": label}
        elif variant.way != "full":
            continue
        else:
            colour = _CNN_COLOURS[names.index(variant.network) % len(_CNN_COLOURS)]
            style = {"color": colour, "marker": "o", "label": label}
            if variant.weights != ORIGINAL:
                style |= {"marker": "x", "linestyle": "--", "linewidth": 2.4, "alpha": 0.7}
        styles.append((variant, style))
    return styles


def _image_points(means: Iterable[ImageMean], method: ImageMethod, *, decoded: bool = False) -> list[Point]:
    """(bit per pixel, dB) of a method, by rising rate; of an autoencoder with its weights as trained, or decoded."""
    weights = [mean for mean in means if mean.method == method]
    return sorted((m.bpp, m.psnr_db) for m in weights if method != "cnn-ae" or (m.weights != ORIGINAL) == decoded)


def _missing(has_curves: bool, has_gains: bool) -> list[str]:
    """Which half of a figure is not there."""
    if not has_curves:
        return ["No plot: there is no finite value to draw."]
    return [] if has_gains else ["No gain over all filters can be drawn."]


def _in_lines(note: str, figure: Figure) -> str:
    """A note in lines that the figure has space for."""
    return fill(note, round(_NOTE_LETTERS_PER_INCH * figure.get_figwidth()))


def _plain(text: str) -> str:
    """A name from outside as matplotlib prints it, its dollars no formula."""
    return one_line(text).replace("$", r"\$")


def _dress(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _log_rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    """A logarithmic rate axis with the first curve's rates as its ticks, about six of them."""
    ticks = rates[:: max(1, len(rates) // 6)]
    axes.set_xscale("log")
    axes.set_xticks(list(ticks), labels=[f"{rate:.3g}" for rate in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
