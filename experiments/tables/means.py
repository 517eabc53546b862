"""From rows per picture to what tables compare: means per sequence, class and overall, curves, times, means of images.

Scores, rates and times are averaged here: over the pictures of a sequence, then over QPs, then over sequences.
`bd_rate_tables.mean_saving` averages BD-rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from vvc_nnr.codec.configuration import ALL_INTRA, CONFIGURATIONS, Configuration
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import ImageMethod, NetworkRow, Way, point_name, unique_rows
from vvc_nnr.experiments.records.weights import NO_WEIGHTS
from vvc_nnr.experiments.tables.bd_rate import Point
from vvc_nnr.sequences.metrics import PlaneScores, yuv_psnr_db

if TYPE_CHECKING:
    import pandas as pd

PlaneName: TypeAlias = Literal["y", "cb", "cr"]
PlaneOrAll: TypeAlias = Literal["y", "cb", "cr", "yuv"]
Side: TypeAlias = Literal["encode", "decode"]
SIDES: tuple[Side, ...] = ("encode", "decode")
PLANES: tuple[PlaneOrAll, ...] = ("y", "cb", "cr", "yuv")
OVERALL = "Overall"
CTC_CLASSES = ("A1", "A2", "B", "C", "D", "E", "F")
CTC_APART = ("D", "F")
"""Classes that the common test conditions print, and leave out of "Overall"."""

_VARIANT = ["loop_filters", "way", "network", "weights"]
_ABOUT = ["config", "sequence", "picture", "qp", *_VARIANT, "network_sha256"]
_IMAGE_ABOUT = ["method", "setting", "weights", "network_sha256", "operating_point", "effort"]


@dataclass(frozen=True, slots=True)
class Score:
    """A measure of quality in the rows.

    Attributes:
        name: What tables call it.
        unit: Its unit, empty for none.
        digits: Digits after the point of its values.
        difference_digits: Digits after the point of its differences.
        columns: Its columns for Y, Cb and Cr.
    """

    name: str
    unit: str
    digits: int
    difference_digits: int
    columns: tuple[str, str, str]

    def column(self, plane: PlaneName) -> str:
        """Its column for a plane."""
        return self.columns[("y", "cb", "cr").index(plane)]


PSNR = Score("PSNR", "dB", 3, 4, ("psnr_y_db", "psnr_cb_db", "psnr_cr_db"))
SSIM = Score("SSIM", "", 4, 5, ("ssim_y", "ssim_cb", "ssim_cr"))
MS_SSIM = Score("MS-SSIM", "", 5, 6, ("ms_ssim_y", "ms_ssim_cb", "ms_ssim_cr"))
SCORES = (PSNR, SSIM, MS_SSIM)
_MEASURES = [*(column for score in SCORES for column in score.columns), "psnr_yuv_db", "kbit", "n_decision_bits"]
_TIMES = ["encode_s", "decode_s"]


def psnr_column(plane: PlaneOrAll) -> str:
    """The column of a plane's PSNR, or of all planes together."""
    return f"psnr_{plane}_db"


class Variant(NamedTuple):
    """One way to make the pictures: the codec's in-loop filters, and the network in or after them, if any."""

    loop_filters: LoopFilters
    way: Way = "codec"
    network: str = ""
    weights: str = NO_WEIGHTS


ANCHOR, WEAKER_ANCHOR, NO_FILTER = Variant("all"), Variant("deblock-sao"), Variant("none")
"""The codec with all its in-loop filters, with deblocking and SAO (VTM 1.0's set), with none."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """One measure of one variant: a value for each sequence at each QP, NaN where it is not known."""

    values: Mapping[str, Mapping[int, float]]

    def mean(self, sequences: Iterable[str], qps: Iterable[int]) -> float:
        """The mean over QPs, then over sequences, of the values that are known."""
        return _known_mean(_known_mean(self.values[name][qp] for qp in qps) for name in sequences)


def _known_mean(values: Iterable[float]) -> float:
    """The mean of what is not NaN, NaN if nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class ToolResults:
    """All of a tool-by-tool run that can be compared: each sequence with every variant at every QP.

    Attributes:
        qps: The QPs, rising.
        variants: The variants: the anchor, the codec's other filter sets, the networks in their order.
        sequences: Class of each complete sequence, in the order of classes, then of the rows.
        left_out: Sequences that lack a variant, a QP or a picture of one (a run that is not finished).
        networks: What each network costs, by its name and weights.
        rows: The rows of the complete sequences, with the columns `kbit` (decisions included) and `psnr_yuv_db`.
        means: Their means over the pictures of a sequence; indexed by the fields of a variant, sequence and QP.
        grids: The means again, by variant and measure: tables ask for thousands of them.
        configuration: How the codec coded the pictures.
    """

    qps: tuple[int, ...]
    variants: tuple[Variant, ...]
    sequences: dict[str, str]
    left_out: tuple[str, ...]
    networks: dict[tuple[str, str], NetworkRow]
    rows: pd.DataFrame
    means: pd.DataFrame
    grids: Mapping[tuple[Variant, str], Grid]
    configuration: Configuration = ALL_INTRA

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The sequences of each class; "Overall" is not among them."""
        names = dict.fromkeys(self.sequences.values())
        return {name: tuple(each for each, its in self.sequences.items() if its == name) for name in names}

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The sequences of each class, then all of them as "Overall"."""
        return {**self.classes, OVERALL: tuple(self.sequences)} if self.sequences else {}

    @property
    def ctc_overall(self) -> tuple[str, ...]:
        """What "Overall" is of in JVET's layout: all but classes D and F, or all if there are no others."""
        ours = tuple(name for name, ctc_class in self.sequences.items() if ctc_class not in CTC_APART)
        return ours or tuple(self.sequences)

    @property
    def tests(self) -> tuple[Variant, ...]:
        """What is compared with the anchor."""
        return tuple(variant for variant in self.variants if variant != ANCHOR)

    @property
    def network_names(self) -> tuple[str, ...]:
        """The networks in their order."""
        return tuple(dict.fromkeys(name for name, _ in self.networks))

    def anchors(self, variant: Variant) -> list[Variant]:
        """What a variant is compared with: all filters, and the paper's set for networks in the filters' place.

        Where there are no pictures with these (decoded elsewhere, without), a network is compared with its own input.
        """
        candidates = [ANCHOR, WEAKER_ANCHOR] if variant.network and variant.loop_filters == "none" else [ANCHOR]
        there = [anchor for anchor in candidates if anchor in self.variants]
        own = Variant(variant.loop_filters)
        return there or ([own] if variant.network and own in self.variants else [])

    def network_bits(self, variant: Variant) -> int:
        """Bits of the file of a variant's network."""
        return 8 * self.networks[variant.network, variant.weights].n_bytes

    def mean(self, sequences: Iterable[str], qps: Sequence[int], variant: Variant, column: str) -> float | None:
        """The mean over QPs, then over sequences; None if no sequence has a value. One infinite value makes it so."""
        grid = self.grids.get((variant, column))
        return None if grid is None else number(grid.mean(sequences, qps))

    def scored(self, sequences: Iterable[str], column: str) -> tuple[str, ...]:
        """The sequences that have a value of the codec's own pictures, or of any, in a column at some QP."""
        grids = [grid for (_, name), grid in self.grids.items() if name == column]
        return tuple(
            name for name in sequences if any(not math.isnan(v) for grid in grids for v in grid.values[name].values())
        )

    def curve(
        self,
        sequences: Sequence[str],
        variant: Variant,
        plane: PlaneOrAll,
        extra_kbit: float | Mapping[int, float] = 0.0,
    ) -> list[Point]:
        """(kbit per picture, dB) at each QP, means over the sequences that have the plane.

        Args:
            sequences: One for its own curve.
            variant: How the pictures are made.
            plane: What is scored.
            extra_kbit: What each picture carries besides, such as its share of the network; or that by QP.
        """
        if (variant, "kbit") not in self.grids or not sequences:
            return []
        scores, rates = self.grids[variant, psnr_column(plane)], self.grids[variant, "kbit"]
        points = []
        for qp in self.qps:
            scored = [name for name in sequences if not math.isnan(scores.values[name][qp])]
            if scored:
                extra = extra_kbit[qp] if isinstance(extra_kbit, Mapping) else extra_kbit
                points.append((rates.mean(scored, [qp]) + extra, scores.mean(scored, [qp])))
        return points

    def time_percent(self, sequences: Iterable[str], variant: Variant, side: Side) -> float | None:
        """Time against the anchor's: ratio of geometric means over sequences and QPs; None if one is not known."""
        names = list(sequences)
        cells = [self.grids.get((each, f"{side}_s")) for each in (variant, ANCHOR)]
        if any(cell is None for cell in cells):
            return None
        times_s, anchor_s = (
            [number(v) for name in names for v in cell.values[name].values()] for cell in cells if cell is not None
        )
        return percent_of(times_s, anchor_s)


def tool_results(rows: pd.DataFrame, networks: Iterable[NetworkRow], qps: Sequence[int] | None = None) -> ToolResults:
    """The comparable means of these rows.

    Args:
        rows: Rows of the tool-by-tool experiment (columns as `ToolRow`) in one coding configuration.
        networks: The networks of the run, in the order of the tables.
        qps: The QPs to compare at; default all in the rows.

    Raises:
        InputError: If two rows about the same thing differ, a sequence has two classes, or rows two configurations.
    """
    configs = list(dict.fromkeys(rows["config"]))
    if len(configs) > 1:
        raise InputError(f"rows of the configurations {', '.join(configs)}: take those of one at a time")
    every = unique_rows(rows, _ABOUT)
    classes = _classes(every)
    kept = every if qps is None else every[every["qp"].isin(list(qps))]
    found_qps = tuple(sorted({int(qp) for qp in (kept["qp"] if qps is None else qps)}))
    costs = {(row.network, row.weights): row for row in networks}
    variants = _variants(kept, list(costs))
    complete = _complete(kept, list(classes), found_qps, variants)
    complete.sort(key=lambda name: class_order(classes[name]))
    comparable = _with_derived(kept[kept["sequence"].isin(complete)])
    means = _picture_means(comparable)
    left_out = tuple(name for name in classes if name not in complete)
    sequences = {name: classes[name] for name in complete}
    grids, configuration = _grids(means, variants), CONFIGURATIONS[configs[0]] if configs else ALL_INTRA
    return ToolResults(
        found_qps, variants, sequences, left_out, costs, comparable, means, grids, configuration=configuration
    )


def overall_title(results: Iterable[ToolResults]) -> str:
    """What "Overall" in JVET's layout is called (`ToolResults.ctc_overall`): which classes it leaves out, if any."""
    left_out = {
        ctc_class for each in results for name, ctc_class in each.sequences.items() if name not in each.ctc_overall
    }
    return f"{OVERALL} without {', '.join(sorted(left_out))}" if left_out else OVERALL


def difference(value: float | None, anchor: float | None) -> float | None:
    """`value` - `anchor`; None if either is missing or both are infinite."""
    if value is None or anchor is None or value == anchor == math.inf:
        return None
    return value - anchor


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None if none is. One infinite value makes it infinite."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


def number(value: float) -> float | None:
    """A cell of a data frame as a number, None for NaN."""
    return None if math.isnan(value) else float(value)


def percent_of(times_s: Sequence[float | None], anchor_s: Sequence[float | None]) -> float | None:
    """Geometric mean of times in percent of the anchor's; None if one is not known, or too short for the clock."""
    known, known_anchor = [t for t in times_s if t], [t for t in anchor_s if t]
    if not known or len(known) < len(times_s) or len(known_anchor) < len(anchor_s):
        return None
    return 100 * geometric_mean(known) / geometric_mean(known_anchor)


@dataclass(frozen=True, slots=True)
class ImageMean:
    """The means of one method at one setting over all its images.

    Attributes:
        method: The method.
        setting: Its quality or network.
        weights: Which weights of the network.
        images: Names of the images.
        bpp: Mean rate in bits per pixel.
        psnr_db: Mean of the images' PSNR in dB; infinite if one of them is exact.
        psnr_of_mean_mse_db: PSNR in dB of the mean squared error over all images (of one size); infinite if all of
            them are exact.
        ssim: Mean SSIM.
        ms_ssim: Mean MS-SSIM, None if an image is too small for it.
        n_exact: How many images are exact, which is an infinite PSNR.
        psnr_of_others_db: Mean PSNR in dB of the images that are not exact, None if all are.
        bpp_per_byte: Mean bits per pixel that a byte in each image makes; None if no image has a byte.
        operating_point: As `ImageRow.operating_point`.
        effort: As `ImageRow.effort`.
    """

    method: ImageMethod
    setting: str
    weights: str
    images: frozenset[str]
    bpp: float
    psnr_db: float
    psnr_of_mean_mse_db: float
    ssim: float
    ms_ssim: float | None
    n_exact: int
    psnr_of_others_db: float | None
    bpp_per_byte: float | None
    operating_point: int | None
    effort: int

    @property
    def name(self) -> str:
        """The network with its operating point, or the quality of a format."""
        return point_name(self.setting, self.operating_point, self.effort)

    @property
    def curve_name(self) -> str:
        """What its operating points are called together: the network, and how long its encoder searched."""
        return point_name(self.setting, None, self.effort)


def image_means(rows: pd.DataFrame) -> list[ImageMean]:
    """The means over images of each method, setting and weights, in the order of the rows.

    Args:
        rows: Rows of the end-to-end experiment (columns as `ImageRow`).

    Raises:
        InputError: If two rows about the same thing differ.
    """
    every = unique_rows(rows, ["image", *_IMAGE_ABOUT])
    return [_image_mean(group) for _, group in every.groupby(_IMAGE_ABOUT, sort=False, dropna=False)]


def _image_mean(rows: pd.DataFrame) -> ImageMean:
    first, points = rows.iloc[0], rows["operating_point"].dropna()
    finite_db = [float(value) for value in rows["psnr_db"] if math.isfinite(value)]
    relative_mse = float((10 ** (-rows["psnr_db"] / 10)).mean())
    return ImageMean(
        first["method"],
        first["setting"],
        first["weights"],
        frozenset(rows["image"]),
        float(rows["bpp"].mean()),
        float(rows["psnr_db"].mean()),
        -10 * math.log10(relative_mse) if relative_mse else math.inf,
        float(rows["ssim"].mean()),
        None if rows["ms_ssim"].isna().any() else float(rows["ms_ssim"].mean()),
        len(rows) - len(finite_db),
        fmean(finite_db) if finite_db else None,
        _bpp_per_byte(rows),
        int(points.iloc[0]) if len(points) else None,
        int(first["effort"]),
    )


def _bpp_per_byte(rows: pd.DataFrame) -> float | None:
    written = rows[rows["n_bytes"] > 0]
    return float((written["bpp"] / written["n_bytes"]).mean()) if len(written) else None


def _classes(rows: pd.DataFrame) -> dict[str, str]:
    classes: dict[str, str] = {}
    for sequence, ctc_class in zip(rows["sequence"], rows["ctc_class"], strict=True):
        if classes.setdefault(sequence, ctc_class) != ctc_class:
            raise InputError(f"{sequence} is of class {classes[sequence]} and {ctc_class}")
    return classes


def _variants(rows: pd.DataFrame, networks: list[tuple[str, str]]) -> tuple[Variant, ...]:
    """The anchor, the codec's other filter sets, then the networks by way, in the order of the networks."""
    found = [Variant(*each) for each in rows[_VARIANT].drop_duplicates().itertuples(index=False)]
    order = [("", NO_WEIGHTS), *networks]
    filters = list(dict.fromkeys(variant.loop_filters for variant in (ANCHOR, WEAKER_ANCHOR, NO_FILTER)))
    names = [name for name, _ in order]
    return tuple(
        sorted(
            (variant for variant in found if (variant.network, variant.weights) in order),
            key=lambda variant: (
                names.index(variant.network),
                ("codec", "full", "decisions", "wiener").index(variant.way),
                order.index((variant.network, variant.weights)),
                filters.index(variant.loop_filters),
            ),
        )
    )


def _complete(
    rows: pd.DataFrame, sequences: Sequence[str], qps: Sequence[int], variants: Sequence[Variant]
) -> list[str]:
    """The sequences of which every QP and variant has the same pictures."""
    cells = {key: frozenset(found) for key, found in rows.groupby(["sequence", "qp", *_VARIANT])["picture"]}
    complete = []
    for name in sequences:
        pictures = [cells.get((name, qp, *variant)) for qp in qps for variant in variants]
        if pictures and None not in pictures and len(set(pictures)) == 1:
            complete.append(name)
    return complete


def _with_derived(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with their whole rate and the PSNR of all planes together."""
    planes = zip(*(rows[column] for column in PSNR.columns), strict=True)
    scores = [yuv_psnr_db(PlaneScores(y, number(cb), number(cr))) for y, cb, cr in planes]
    return rows.assign(kbit=(rows["n_bits"] + rows["n_decision_bits"]) / 1000, psnr_yuv_db=scores)


def _picture_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over pictures; a time that one picture does not know is not known."""
    groups = rows.groupby([*_VARIANT, "sequence", "qp"])
    known = groups[_TIMES].count().eq(groups.size(), axis=0)
    return groups[_MEASURES].mean().join(groups[_TIMES].mean().where(known))


def _grids(means: pd.DataFrame, variants: Iterable[Variant]) -> dict[tuple[Variant, str], Grid]:
    found: dict[tuple[Variant, str], dict[str, dict[int, float]]] = {}
    wanted = set(variants)
    for key, row in zip(means.index, means.to_dict("records"), strict=True):
        variant, (sequence, qp) = Variant(*key[:-2]), key[-2:]
        if variant in wanted:
            for measure, value in row.items():
                found.setdefault((variant, str(measure)), {}).setdefault(sequence, {})[qp] = float(value)
    return {place: Grid(values) for place, values in found.items()}


def class_order(ctc_class: str) -> tuple[int, str]:
    """What sorts classes: as the common test conditions have them, then any others by name."""
    return (CTC_CLASSES.index(ctc_class) if ctc_class in CTC_CLASSES else len(CTC_CLASSES), ctc_class)
