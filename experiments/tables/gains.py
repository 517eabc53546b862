"""What networks gain at each QP, what got worse, what coding their weights changes; and rates at equal quality.

Autoencoders and picture formats are compared at equal quality: BD-rates of curves, and the rates of single points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vvc_nnr.experiments.records.rows import AUTOENCODER_METHODS, DECIDED_WAYS, ImageMethod, NetworkRow
from vvc_nnr.experiments.records.weights import ORIGINAL, is_adapted, weights_title
from vvc_nnr.experiments.tables.bd_rate import Interpolation, Point, bd_rate_percent
from vvc_nnr.experiments.tables.bd_rate_tables import (
    PLANE_HEADS,
    RATE_COLUMNS,
    WAY_COLUMNS,
    Comparison,
    Notes,
    Savings,
    curve_saving,
    mean_saving,
    way_cells,
)
from vvc_nnr.experiments.tables.means import (
    ANCHOR,
    PLANES,
    ImageMean,
    PlaneOrAll,
    ToolResults,
    Variant,
    difference,
    mean_or_none,
    number,
    psnr_column,
)
from vvc_nnr.experiments.tables.notes import LOOP_FILTER_TITLES, counted
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES
from vvc_nnr.experiments.tables.table import Cell, CellWarning, Column, Table, warning_text, without_empty_columns

if TYPE_CHECKING:
    import pandas as pd

_GAIN_COLUMNS = tuple(Column(PLANE_HEADS[plane], "dB", signed=True) for plane in PLANES)
_MAX_NAMED = 6
_RATE_DIGITS = RATE_COLUMNS[0].digits
_COSTLY = "sequences, BD-rate +0.01 % or more"


def gain_table(results: ToolResults, notes: Notes) -> Table:
    """PSNR gains at each QP over the codec with all in-loop filters, and with deblocking and SAO where that was run."""
    columns = (
        *WAY_COLUMNS,
        Column("Against", text=True),
        Column("QP"),
        Column("Rate", "kbit/picture", digits=1),
        Column("Rate diff.", "%", digits=2, signed=True),
        Column("Cost of decisions", "bit/picture", digits=0),
        *_GAIN_COLUMNS,
    )
    rows = [
        (*way_cells(results, variant), *_gain_cells(results, variant, anchor, qp))
        for variant in results.tests
        for anchor in results.anchors(variant)
        for qp in results.qps
    ]
    note = (
        f"Gain in PSNR at the same QP, mean over {counted(results.sequences)}. Rate: pictures and decisions, "
        "without the network."
    )
    return without_empty_columns(Table("PSNR gain per QP", columns, tuple(rows), (note, *notes)))


INTRA_LAYER = -1
"""Where intra pictures stand among the temporal layers."""


def layer_gains(results: ToolResults, variant: Variant) -> pd.DataFrame:
    """The mean gains of a variant over all filters in each temporal layer at each QP.

    Args:
        results: The run.
        variant: A network in one of its ways.

    Returns:
        Indexed by layer (`INTRA_LAYER` for intra pictures) and QP, with the columns `n` (pictures of all sequences),
        `slice_qp`, `network_qp`, `kbit` and the gains `psnr_y_db` and so on: means over the pictures of a sequence,
        then over sequences. Empty where layers are not known.
    """
    place = ["sequence", "picture", "qp"]
    columns = ["kbit", *(psnr_column(plane) for plane in PLANES)]
    rows = results.rows.set_index(["loop_filters", "way", "network", "weights"])
    own, anchor = (rows[rows.index.isin([each])].set_index(place) for each in (variant, ANCHOR))
    known = own[own["temporal_layer"].notna()]
    gains = known[columns[1:]] - anchor[columns[1:]].reindex(known.index)
    is_intra = known["slice_type"] == "I"
    layer = known["temporal_layer"].where(~is_intra, INTRA_LAYER).astype(int)
    told = known[["slice_qp", "network_qp"]].astype(float)
    each = told.assign(n=1, kbit=known["kbit"], layer=layer).join(gains)
    by_sequence = each.groupby(["layer", "qp", "sequence"])
    means = by_sequence.mean().drop(columns="n").join(by_sequence[["n"]].sum())
    by_layer = means.groupby(["layer", "qp"])
    return by_layer.mean().assign(n=by_layer["n"].sum())


def layer_table(results: ToolResults, notes: Notes) -> Table:
    """PSNR gains in each temporal layer at each QP over the codec with all in-loop filters."""
    columns = (
        *WAY_COLUMNS,
        Column("QP"),
        Column("Layer", text=True),
        Column("Pictures"),
        Column("Slice QP", digits=1),
        Column("QP told", digits=1),
        Column("Rate", "kbit/picture", digits=1),
        *_GAIN_COLUMNS,
    )
    rows: list[tuple[Cell, ...]] = []
    for variant in results.tests:
        if variant.network and ANCHOR in results.variants:
            gains = layer_gains(results, variant).sort_index(level=["qp", "layer"])
            for (layer, qp), mean in gains.iterrows():
                head = (*way_cells(results, variant), int(qp), layer_title(layer), int(mean["n"]))
                values = [number(mean[psnr_column(plane)]) for plane in PLANES]
                rows.append((*head, *(number(mean[each]) for each in ("slice_qp", "network_qp", "kbit")), *values))
    note = (
        "Layer: temporal sublayer of the stream; intra pictures are a row of their own. Mean over the pictures of a "
        "sequence in the layer, then over sequences."
    )
    return Table("PSNR gain per temporal layer", columns, tuple(rows), (note, *notes))


def layer_title(layer: int) -> str:
    """What a layer is called."""
    return "intra" if layer == INTRA_LAYER else str(layer)


def worse_table(results: ToolResults, savings: Savings, notes: Notes) -> Table:
    """How many pictures and sequences a network makes worse at any QP, and how many sequences cost bits."""
    columns = (
        *WAY_COLUMNS,
        Column("Worse", text=True),
        Column("Of"),
        *(Column(PLANE_HEADS[plane]) for plane in PLANES),
    )
    tests = [variant for variant in results.tests if variant.network and ANCHOR in results.variants]
    rows: list[tuple[Cell, ...]] = []
    worse: dict[str, list[str]] = {}
    for variant in tests:
        for count in _worse_counts(results, savings, variant):
            rows.append((*way_cells(results, variant), count.kind, count.n_all, *(len(count.names[p]) for p in PLANES)))
            if _can_switch_off(variant):
                worse.setdefault(count.kind, []).extend(_names_of(results, variant, count))
    note = (
        "Worse than the codec with all in-loop filters: PSNR is lower at one QP or more; of a sequence: the mean PSNR "
        "of its pictures. BD-rate of +0.01 % or more: more bits at equal PSNR. What decisions switch off stays as it "
        "was before the network; for a network that replaces the filters that is not the picture it is compared with."
    )
    alarms = [f"ALARM: {kind}, worse with decisions: {_some(names)}." for kind, names in worse.items() if names]
    if not alarms and any(map(_can_switch_off, tests)):
        alarms = ["With decisions no picture and no sequence got worse."]
    return Table("What got worse", columns, tuple(rows), (note, *alarms, *notes))


def weights_table(results: ToolResults, savings: Savings, method: Interpolation, notes: Notes) -> Table:
    """The difference between networks with decoded weights and the same networks as trained."""
    columns = (
        *WAY_COLUMNS,
        Column("Class", text=True),
        *(Column(PLANE_HEADS[plane], "%", digits=3, signed=True) for plane in PLANES),
        Column("Diff. of Y BD-rates", "%", digits=3, signed=True),
        Column("PSNR diff. Y", "dB", digits=4, signed=True),
    )
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    for coded in coded_variants(results):
        for group, names in results.groups.items():
            head = (*way_cells(results, coded), f"{group} ({len(names)})")
            cells, warnings = _weights_cells(results, savings, coded, names, method)
            marks += (CellWarning(len(rows), len(head) + column, text) for column, text in warnings)
            rows.append((*head, *cells))
    note = (
        "BD-rate of the network with decoded weights against the network as trained, mean over "
        "sequences; positive: coding costs bits. Diff. of Y BD-rates: of both luma BD-rates against all in-loop "
        "filters. PSNR diff.: mean over QPs and sequences."
    )
    return Table("Decoded weights against weights as trained", columns, tuple(rows), (note, *notes), tuple(marks))


def coded_variants(results: ToolResults) -> list[Variant]:
    """The variants with decoded weights whose network was run as trained as well."""
    is_coded = [v.network != "" and v.weights != ORIGINAL and not is_adapted(v.weights) for v in results.tests]
    return [v for v, coded in zip(results.tests, is_coded, strict=True) if coded and original_of(v) in results.tests]


def _gain_cells(results: ToolResults, variant: Variant, anchor: Variant, qp: int) -> tuple[Cell, ...]:
    names = tuple(results.sequences)

    def mean(each: Variant, column: str) -> float | None:
        return results.mean(names, [qp], each, column)

    kbit, anchor_kbit = mean(variant, "kbit"), mean(anchor, "kbit")
    change = 100 * (kbit / anchor_kbit - 1) if kbit is not None and anchor_kbit else None
    gains = [difference(mean(variant, psnr_column(p)), mean(anchor, psnr_column(p))) for p in PLANES]
    share = mean(variant, "n_decision_bits") if variant.way in DECIDED_WAYS else None
    return (LOOP_FILTER_TITLES[anchor.loop_filters], qp, kbit, change, share, *gains)


@dataclass(frozen=True, slots=True)
class _Count:
    """What got worse: names by plane, of so many."""

    kind: str
    n_all: int
    names: Mapping[PlaneOrAll, Sequence[str]]


def _worse_counts(results: ToolResults, savings: Savings, variant: Variant) -> list[_Count]:
    n_pictures = len(results.rows[["sequence", "picture"]].drop_duplicates())
    n_sequences = len(results.sequences)
    counts = [
        _Count("pictures", n_pictures, _worse_pictures(results, variant)),
        _Count("sequences", n_sequences, {plane: _worse_sequences(results, variant, plane) for plane in PLANES}),
    ]
    if savings:
        costly = {plane: _costly(results, savings, variant, plane) for plane in PLANES}
        counts.append(_Count(_COSTLY, n_sequences, costly))
    return counts


def _worse_pictures(results: ToolResults, variant: Variant) -> Mapping[PlaneOrAll, Sequence[str]]:
    """For each plane the pictures that are worse than the anchor's at any QP."""
    rows, fields = results.rows, ["loop_filters", "way", "network", "weights"]
    columns = [psnr_column(plane) for plane in PLANES]
    theirs, anchor = (
        rows[(rows[fields] == list(each)).all(axis=1)].set_index(["sequence", "picture", "qp"])[columns]
        for each in (variant, ANCHOR)
    )
    is_worse = theirs < anchor.reindex(theirs.index)
    found = {
        p: sorted({(name, picture) for name, picture, _ in is_worse.index[is_worse[psnr_column(p)]]}) for p in PLANES
    }
    return {plane: [f"{name} picture {picture}" for name, picture in pictures] for plane, pictures in found.items()}


def _worse_sequences(results: ToolResults, variant: Variant, plane: PlaneOrAll) -> list[str]:
    """The sequences whose mean is worse than the anchor's at any QP."""

    def is_worse(name: str) -> bool:
        scores_db, anchor_db = (results.grids[each, psnr_column(plane)].values[name] for each in (variant, ANCHOR))
        return any(scores_db[qp] < anchor_db[qp] for qp in results.qps)

    return [name for name in results.sequences if is_worse(name)]


def _costly(results: ToolResults, savings: Savings, variant: Variant, plane: PlaneOrAll) -> list[str]:
    """The sequences whose BD-rate is above zero as tables print it."""
    rates = {name: mean_saving(savings, (name,), Comparison(variant, plane)) for name in results.sequences}
    return [name for name, rate in rates.items() if rate is not None and round(rate, _RATE_DIGITS) > 0]


def _can_switch_off(variant: Variant) -> bool:
    """Whether the encoder could have kept the picture that the variant is compared with, by switching it off.

    That holds behind all in-loop filters; in their place the picture without any of them is what is kept.
    """
    return variant.way in DECIDED_WAYS and variant.loop_filters == ANCHOR.loop_filters


def _names_of(results: ToolResults, variant: Variant, count: _Count) -> list[str]:
    """What got worse, with the network, its weights, the decisions and the planes."""
    planes: dict[str, list[str]] = {}
    for plane, names in count.names.items():
        for name in names:
            planes.setdefault(name, []).append(PLANE_HEADS[plane])
    network, coding, decisions = way_cells(results, variant)
    return [f"{name} ({network}, {coding}, {decisions}, {' '.join(found)})" for name, found in planes.items()]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def original_of(variant: Variant) -> Variant:
    """The same way with the network as trained."""
    return variant._replace(weights=ORIGINAL)


def _weights_cells(
    results: ToolResults, savings: Savings, coded: Variant, names: Sequence[str], method: Interpolation
) -> tuple[tuple[Cell, ...], list[tuple[int, str]]]:
    """The numbers of a row, and which of them there is a warning about."""
    original, is_mean = original_of(coded), len(names) > 1
    cells: list[Cell] = []
    texts: list[str] = []
    for plane in PLANES:
        comparison = Comparison(coded, plane, anchor=original)
        found = {name: curve_saving(results, (name,), comparison, method) for name in names}
        cells.append(mean_or_none(saving.value_percent for saving in found.values() if saving))
        texts.append(warning_text(((n, saving.warnings) for n, saving in found.items() if saving), is_mean=is_mean))
    both = [(name, savings.get((name, Comparison(each)))) for each in (coded, original) for name in names]
    texts.append(warning_text(((n, saving.warnings) for n, saving in both if saving), is_mean=is_mean))
    of_rates = difference(*(mean_saving(savings, names, Comparison(each)) for each in (coded, original)))
    levels_db = (results.mean(names, results.qps, each, psnr_column("y")) for each in (coded, original))
    marked = [(column, text) for column, text in enumerate(texts) if text]
    return (*cells, of_rates, difference(*levels_db)), marked


ANCHORS: tuple[ImageMethod, ...] = ("jpeg-payload", "webp-payload", "avif-payload", "jpeg2000-file", "jpegxl-file")
"""What is compared with: payloads of formats whose headers are large on small pictures."""
MIN_POINTS_OF_A_CURVE = 4
_NOTES = (
    "Rate in percent more than the anchor's at equal quality, negative: fewer bits. Of curves of four points or more "
    "it is the BD-rate (pchip); of fewer, the mean over the points of their rate against that of the anchor's curve "
    "(pchip) at their quality, and none where the anchor has no such quality among those that were run.",
    "Points: means over the images. SSIM and MS-SSIM are compared as -10 log10(1 - score).",
    "Operating points of one network, and autoencoders of one architecture that have one point each, are one curve, by "
    "rising rate, if they are four or more.",
)


@dataclass(frozen=True, slots=True)
class _Curve:
    """One way to code, at one rate or several.

    Attributes:
        label: What the table calls it.
        setting: Its weights, or how many networks it has.
        means: Its points.
    """

    label: str
    setting: str
    means: tuple[ImageMean, ...]


@dataclass(frozen=True, slots=True)
class _Quality:
    """A score as a quality in dB."""

    title: str
    of: Callable[[ImageMean], float | None]


_QUALITIES = (
    _Quality("PSNR", lambda mean: mean.psnr_db),
    _Quality("SSIM", lambda mean: _in_db(mean.ssim)),
    _Quality("MS-SSIM", lambda mean: None if mean.ms_ssim is None else _in_db(mean.ms_ssim)),
)


def image_rate_table(means: Sequence[ImageMean], networks: Sequence[NetworkRow]) -> Table:
    """Every autoencoder and every format against each of the formats.

    Args:
        means: Means over the same images, of all methods and settings.
        networks: The autoencoders of the run, in the order of the table.
    """
    images = max((mean.images for mean in means), key=len, default=frozenset[str]())
    whole = [mean for mean in means if mean.images == images]
    anchors = [each for each in ANCHORS if any(mean.method == each for mean in whole)]
    curves = [*_network_curves(whole, networks), *_format_curves(whole)]
    columns = (
        Column("Quality", text=True),
        Column("Method", text=True),
        Column("Setting", text=True),
        Column("Points"),
        *(Column(f"to {METHOD_TITLES[each]}", "%", digits=1, signed=True) for each in anchors),
    )
    rows: list[tuple[Cell, ...]] = []
    warnings: list[CellWarning] = []
    for quality in _QUALITIES:
        points_of = {each: _points([m for m in whole if m.method == each], quality) for each in anchors}
        for curve in curves:
            points = _points(curve.means, quality)
            if not points:
                continue
            cells: list[Cell] = []
            for anchor, anchor_points in points_of.items():
                is_itself = any(mean.method == anchor for mean in curve.means)
                value, text = (None, "") if is_itself else _rate_percent(anchor_points, points)
                cells.append(value)
                if text:
                    warnings.append(CellWarning(len(rows), 3 + len(cells), text))
            rows.append((quality.title, curve.label, curve.setting, len(points), *cells))
    return Table("Rate at equal quality", columns, tuple(rows), _NOTES, tuple(warnings))


def _network_curves(means: Sequence[ImageMean], networks: Sequence[NetworkRow]) -> Iterator[_Curve]:
    """The networks with each of their weights and operating points, then those that make a curve together.

    Operating points of one network are a curve, and so are networks of one architecture that have one point each.
    """
    families: dict[tuple[str, str, str], list[ImageMean]] = {}
    for row in networks:
        own = [mean for mean in means if (mean.setting, mean.weights) == (row.network, row.weights)]
        for mean in (each for each in own if each.method in AUTOENCODER_METHODS):
            yield _Curve(_named(mean.name, mean), row.title, (mean,))
            together = (row.architecture or "autoencoders") if mean.operating_point is None else mean.curve_name
            families.setdefault((together, row.weights, mean.method), []).append(mean)
    for (together, weights, _), members in families.items():
        if len(members) >= MIN_POINTS_OF_A_CURVE:
            what = "networks" if members[0].operating_point is None else "operating points"
            setting = f"{len(members)} {what}, {weights_title(weights)}"
            yield _Curve(_named(together, members[0]), setting, tuple(members))


def _named(name: str, mean: ImageMean) -> str:
    """A network by its name, with a word on its rate if that is estimated."""
    return name + METHOD_TITLES[mean.method].removeprefix(METHOD_TITLES["cnn-ae"])


def _format_curves(means: Sequence[ImageMean]) -> Iterator[_Curve]:
    for method in dict.fromkeys(mean.method for mean in means if mean.method not in AUTOENCODER_METHODS):
        yield _Curve(METHOD_TITLES[method], "", tuple(mean for mean in means if mean.method == method))


def _points(means: Sequence[ImageMean], quality: _Quality) -> list[Point]:
    """Rates and qualities by rising rate, without infinite ones and without those that another beats at less rate."""
    pairs = ((mean.bpp, quality.of(mean)) for mean in means)
    found = sorted({(rate, db) for rate, db in pairs if db is not None and math.isfinite(db) and rate > 0})
    kept: list[Point] = []
    for rate, db in found:
        if not kept or db > kept[-1][1]:
            kept.append((rate, db))
    return kept


def _rate_percent(anchor: Sequence[Point], points: Sequence[Point]) -> tuple[float | None, str]:
    """The rate at equal quality, and what to know about it."""
    if len(anchor) < 2:
        return None, "the anchor has fewer than two points"
    if len(points) >= MIN_POINTS_OF_A_CURVE:
        found = bd_rate_percent(anchor, points)
        return found.value_percent, "; ".join(found.warnings)
    inside = [point for point in points if anchor[0][1] <= point[1] <= anchor[-1][1]]
    if not inside:
        return None, "the anchor at the qualities that were run has no such quality"
    changes = [100 * (rate / _rate_at(anchor, db) - 1) for rate, db in inside]
    left = len(points) - len(inside)
    return float(np.mean(changes)), f"{left} points beyond the anchor's curve are left out" if left else ""


def _rate_at(anchor: Sequence[Point], db: float) -> float:
    """The rate of a curve at a quality that it reaches, log10(rate) by pchip."""
    from scipy.interpolate import PchipInterpolator  # here: it takes a while to import

    assert all(a[1] < b[1] for a, b in pairwise(anchor))
    rates, qualities = zip(*anchor, strict=True)
    return float(10 ** PchipInterpolator(qualities, np.log10(rates))(db))


def _in_db(score: float) -> float:
    return math.inf if score >= 1 else -10 * math.log10(1 - score)
