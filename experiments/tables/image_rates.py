"""What autoencoders and picture formats take at equal quality: BD-rates of curves, and the rates of single points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vvc_nnr.experiments.records.rows import AUTOENCODER_METHODS, ImageMethod, NetworkRow
from vvc_nnr.experiments.records.weights import weights_title
from vvc_nnr.experiments.tables.bd_rate import Point, bd_rate_percent
from vvc_nnr.experiments.tables.means import ImageMean
from vvc_nnr.experiments.tables.paper_tables import METHOD_TITLES
from vvc_nnr.experiments.tables.table import Cell, CellWarning, Column, Table

ANCHORS: tuple[ImageMethod, ...] = ("jpeg-payload", "webp-payload", "avif-payload", "jpeg2000-file", "jpegxl-file")
"""What is compared with: payloads of formats whose headers are large on small pictures."""
MIN_POINTS_OF_A_CURVE = 4
_NOTES = (
    "Rate in percent more than the anchor's at equal quality, negative: fewer bits. Of curves of four points or more "
    "it is the BD-rate (pchip); of fewer, the mean over the points of their rate against that of the anchor's curve "
    "(pchip) at their quality, and none where that has no such quality.",
    "Points: means over the images. SSIM and MS-SSIM are compared as -10 log10(1 - score).",
    "Autoencoders of one architecture are one curve, by rising rate, if they are four or more.",
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
    """The networks with each of their weights, then those that make a curve together."""
    found = {(mean.setting, mean.weights): mean for mean in means if mean.method in AUTOENCODER_METHODS}
    families: dict[tuple[str, str, str], list[ImageMean]] = {}
    for row in networks:
        mean = found.get((row.network, row.weights))
        if mean is None:
            continue
        yield _Curve(_named(row.network, mean), row.title, (mean,))
        families.setdefault((row.architecture, row.weights, mean.method), []).append(mean)
    for (architecture, weights, _), members in families.items():
        if len(members) >= MIN_POINTS_OF_A_CURVE:
            label = _named(architecture or "autoencoders", members[0])
            yield _Curve(label, f"{len(members)} networks, {weights_title(weights)}", tuple(members))


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
        return None, "the anchor's curve has no such quality"
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
