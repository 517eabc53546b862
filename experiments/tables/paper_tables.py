"""The paper's four tables from the rows of our runs, with the paper's own numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import AUTOENCODER_METHODS, ImageMethod, NetworkRow
from vvc_nnr.experiments.records.weights import ORIGINAL, is_adapted, weights_title
from vvc_nnr.experiments.tables.means import (
    ANCHOR,
    CTC_CLASSES,
    MS_SSIM,
    NO_FILTER,
    OVERALL,
    PSNR,
    SCORES,
    SSIM,
    WEAKER_ANCHOR,
    ImageMean,
    PlaneName,
    Score,
    ToolResults,
    Variant,
    difference,
    image_means,
)
from vvc_nnr.experiments.tables.notes import SEEDS_NOTE, counted, listed, tool_notes, weights_notes
from vvc_nnr.experiments.tables.table import Cell, CellWarning, Column, Quoted, Table

if TYPE_CHECKING:
    import pandas as pd

PAPER_NOTE = (
    "Rows 'paper' quote H. Moon and J.-G. Kim, Compressed Representation of Neural Networks for Use Cases of "
    "Video/Image Compression in MPEG-NNR."
)
PAPER_QPS = (32, 37)
PAPER_WEIGHTS = "uniform8"
"""What the paper's reconstructed network went through."""
METHOD_TITLES: dict[ImageMethod, str] = {
    "jpeg-file": "JPEG, file",
    "jpeg-optimised": "JPEG, optimised",
    "jpeg-payload": "JPEG, payload",
    "webp-file": "WebP, file",
    "webp-payload": "WebP, payload",
    "avif-file": "AVIF, file",
    "avif-payload": "AVIF, payload",
    "jpeg2000-file": "JPEG 2000, file",
    "jpegxl-file": "JPEG XL, file",
    "cnn-ae": "CNN-AE",
    "cnn-ae-estimate": "CNN-AE, estimated rate",
}
RECONSTRUCTED = "reconstructed CNN-AE"
PLANE_TITLES: dict[PlaneName, str] = {"y": "luma", "cb": "Cb", "cr": "Cr"}
_FILES = tuple(method for method in METHOD_TITLES if method not in AUTOENCODER_METHODS)
_PSNR_COLUMN = 7
"""Of Table 4; the next one is that of the mean squared error."""
AMORTISED_OVER = (1_000, 50_000)
"""Pictures that a network's file is spread over: as many as the paper codes, and as CIFAR-10 has to train on."""
_FAR_RATE = 0.1
"""A file's rate that is off by more than this share is marked, and not compared."""
_OUT_OF_REACH = "rate out of reach"
_COLUMNS_NOTE = (
    "All, D+SAO, None: the codec with all its in-loop filters, with deblocking and SAO (VTM 1.0's set), with none. "
    "CNN: with the network as trained; Rec.: with the network as decoded from its compressed file; at full strength."
)
_SCORE_NOTES: dict[Score, str] = {
    SSIM: "SSIM: Gaussian window 11x11, sigma 1.5, data range 2**bit_depth - 1.",
    MS_SSIM: "MS-SSIM: five scales, each by SSIM's window; '-': a plane is below 176 samples either way.",
}


@dataclass(frozen=True, slots=True)
class PaperScores:
    """One row of the paper's Table 2 (dB) or 3 (SSIM)."""

    in_loop_filter: Quoted
    original: Quoted
    reconstructed: Quoted

    @classmethod
    def of(cls, *printed: str) -> PaperScores:
        """The row as it is printed."""
        return cls(*map(Quoted, printed))


@dataclass(frozen=True, slots=True)
class PaperRate:
    """One column of the paper's Table 4."""

    label: str
    bpp: Quoted
    psnr_db: Quoted
    ssim: Quoted

    @classmethod
    def of(cls, label: str, *printed: str) -> PaperRate:
        """The column as it is printed."""
        return cls(label, *map(Quoted, printed))


PAPER_ORIGINAL_KB, PAPER_COMPRESSED_KB = Quoted("781"), Quoted("204")
"""Table 1: float32, and 8 bits per weight."""
PAPER_PSNR_DB = {
    "B": PaperScores.of("34.23", "34.29", "34.27"),
    "C": PaperScores.of("33.28", "33.41", "33.39"),
    "D": PaperScores.of("33.02", "33.19", "33.18"),
    OVERALL: PaperScores.of("33.52", "33.73", "33.71"),
}
"""Table 2: mean of QP 32 and 37, VTM 1.0, all intra."""
PAPER_SSIM = {
    "B": PaperScores.of("0.9588", "0.9591", "0.9589"),
    "C": PaperScores.of("0.9612", "0.9653", "0.9641"),
    "D": PaperScores.of("0.9631", "0.9674", "0.9665"),
    OVERALL: PaperScores.of("0.9610", "0.9639", "0.9631"),
}
"""Table 3: as Table 2."""
PAPER_END_TO_END = (
    PaperRate.of("JPEG", "4.3", "28.244", "0.812"),
    PaperRate.of("CNN-AE", "4.3", "29.121", "0.8541"),
    PaperRate.of("reconstructed CNN-AE", "4.3", "29.103", "0.8534"),
)
"""Table 4: 1,000 images of CIFAR-10."""


def size_table(networks: Iterable[NetworkRow]) -> Table:
    """Table 1: the size of each network before and after compression."""
    columns = (
        Column("Network", text=True),
        Column("Parameters"),
        Column("Method", text=True),
        Column("Weights", "bit", digits=2),
        Column("Original", "KB", digits=1),
        Column("Compressed", "KB", digits=1),
        Column("Ratio", digits=2),
    )
    ratio = PAPER_ORIGINAL_KB / PAPER_COMPRESSED_KB
    theirs = ("paper", None, "uniform", 8, PAPER_ORIGINAL_KB, PAPER_COMPRESSED_KB, ratio)
    rows = list(dict.fromkeys(networks))
    compressed = [row for row in rows if row.weights != ORIGINAL and not is_adapted(row.weights)]
    notes = (
        "1 KB = 1024 bytes, as in the paper (781 KB = 200,000 float32). Sizes are of whole files, "
        "with names, shapes and ranges.",
        "Weights: bits per weight of the uniform quantiser; of NNC, whose levels take as many as they need, those of "
        "the whole file per parameter.",
        *weights_notes(rows),
        f"The paper's text says a ratio of about 3.89, its sizes give {ratio:.2f}.",
        PAPER_NOTE,
    )
    return Table("Table 1: model size", columns, (*map(_size_cells, compressed), theirs), notes)


def psnr_table(results: ToolResults, conventions: Conventions) -> Table:
    """Table 2: PSNR of luma per class and overall, of each anchor and each network before and after compression.

    Args:
        results: The means of a tool-by-tool run at the QPs to average over; the paper's are `PAPER_QPS`.
        conventions: What its rows were made under.
    """
    notes = (
        "The paper has JVET classes B, C, D and VTM 1.0 (deblocking and SAO): levels depend on the sequences, compare "
        "the differences. Its overall gain (0.21 dB) is above the gain of each of its classes.",
        PAPER_NOTE,
    )
    return _score_table("Table 2: PSNR", results, PSNR, conventions, PAPER_PSNR_DB, notes)


def ssim_table(results: ToolResults, conventions: Conventions) -> Table:
    """Table 3: SSIM of luma as Table 2 has PSNR, from the same results and conventions."""
    notes = ("The paper's text says a gain of 0.019, its table 0.0029.", PAPER_NOTE)
    return _score_table("Table 3: SSIM", results, SSIM, conventions, PAPER_SSIM, notes)


def all_scores_table(results: ToolResults, conventions: Conventions) -> Table:
    """PSNR, SSIM and MS-SSIM of all planes over all sequences, with the columns of Tables 2 and 3."""
    weights = _weights(results)
    columns = (Column("Score", text=True), Column("Plane", text=True), *_score_columns("", 5, 5, weights)[1:])
    names = results.groups.get(OVERALL, ())
    rows: list[tuple[Cell, ...]] = []
    marks: list[CellWarning] = []
    for score, plane in product(SCORES, PLANE_TITLES if names else ()):
        title = f"{score.name} [{score.unit}]" if score.unit else score.name
        scored = results.scored(names, score.column(plane))
        for network in results.network_names or ("",):
            cells = (title, plane.capitalize(), *_score_cells(names, network, results, score.column(plane), weights))
            if len(scored) < len(names):
                text = f"the mean of {len(scored)} of {len(names)} sequences, those that have the score"
                places = (place for place, cell in enumerate(cells) if isinstance(cell, float))
                marks += (CellWarning(len(rows), place, text) for place in places)
            rows.append(cells)
    notes = (*_SCORE_NOTES.values(), _COLUMNS_NOTE, *tool_notes(conventions, results))
    title = f"All scores of all planes, mean of QP {listed(results.qps)} over {counted(names)}"
    return Table(title, columns, tuple(rows), notes, tuple(marks))


def end_to_end_table(rows: pd.DataFrame, networks: Sequence[NetworkRow], conventions: Conventions) -> Table:
    """Table 4: each autoencoder before and after compression, and the files of other codecs near the same rate.

    Args:
        rows: Rows of the end-to-end experiment, with any number of settings of the files.
        networks: The autoencoders of the run, in the order of the table.
        conventions: What the rows were made under.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    means = image_means(rows)
    columns = (
        Column("At the rate of", text=True),
        Column("Method", text=True),
        Column("Setting", text=True),
        Column("Images"),
        Column("Rate", "bpp", digits=3),
        *(Column(f"with network in {number:,}", "bpp", digits=3) for number in AMORTISED_OVER),
        Column("PSNR", "dB", digits=3),
        Column("MSE-PSNR", "dB", digits=3),
        Column("SSIM", digits=4),
        Column("MS-SSIM", digits=4),
        Column("To CNN-AE", "dB", digits=3, signed=True),
    )
    ours = _at_rates(means, networks)
    rows = (*(_image_cells(each) for each in ours), *_paper_end_to_end())
    warnings = [
        CellWarning(row, column, text) for row, each in enumerate(ours) for column, text in _exact_warnings(each.mean)
    ]
    return Table(
        "Table 4: end to end",
        columns,
        rows,
        _image_notes(
            networks,
            {mean.method for mean in means},
            has_far_rates=any(_OUT_OF_REACH in str(cells[2]) for cells in rows),
            has_points=any(mean.operating_point is not None for mean in means),
        ),
        tuple(warnings),
    )


def _names(networks: Iterable[NetworkRow]) -> list[str]:
    return list(dict.fromkeys(row.network for row in networks))


def _size_cells(row: NetworkRow) -> tuple[Cell, ...]:
    is_uniform = row.coding.startswith("uniform")
    bits = int(row.coding.removeprefix("uniform")) if is_uniform else 8 * row.n_bytes / row.n_parameters
    original = row.original_bytes
    original_kb, ratio = (None, None) if original is None else (original / 1024, original / row.n_bytes)
    return (row.network, row.n_parameters, row.title, bits, original_kb, row.n_bytes / 1024, ratio)


def _score_table(
    title: str,
    results: ToolResults,
    score: Score,
    conventions: Conventions,
    theirs: Mapping[str, PaperScores],
    last_notes: tuple[str, ...],
) -> Table:
    weights = _weights(results)
    columns = _score_columns(score.unit, score.digits, score.difference_digits, weights)
    first_notes = [_SCORE_NOTES[score]] if score in _SCORE_NOTES else []
    notes = (*first_notes, _COLUMNS_NOTE, *tool_notes(conventions, results))
    if results.configuration.is_inter:  # the paper's numbers are of all intra
        theirs = {}
    else:
        notes += last_notes
    heading = f"{title} of luma, mean of QP {listed(results.qps)}"
    return Table(heading, columns, _score_rows(results, score.column("y"), weights, theirs), notes)


def _weights(results: ToolResults) -> list[str]:
    """The weights besides those as trained and adapted ones, in the order of the tables."""
    every = dict.fromkeys(weights for _, weights in results.networks)
    return [weights for weights in every if weights != ORIGINAL and not is_adapted(weights)]


def _score_columns(unit: str, digits: int, difference_digits: int, weights: Sequence[str]) -> tuple[Column, ...]:
    titles = [weights_title(each) for each in weights]
    decoded = [f"Rec. {title}" for title in titles]
    differences = ("CNN-All", "CNN-D+SAO", *(f"Rec.-CNN, {title}" for title in titles))
    return (
        Column("Class", text=True),
        Column("Network", text=True),
        *(Column(head, unit, digits) for head in ("All", "D+SAO", "None", "CNN", *decoded)),
        *(Column(head, unit, difference_digits, signed=True) for head in differences),
    )


def _score_rows(
    results: ToolResults, column: str, weights: Sequence[str], theirs: Mapping[str, PaperScores]
) -> tuple[tuple[Cell, ...], ...]:
    """Per class and overall: a row for each network in its place, then the paper's."""
    groups = results.groups
    order = [*CTC_CLASSES, *(name for name in (*groups, OVERALL) if name not in CTC_CLASSES)]
    rows: list[tuple[Cell, ...]] = []
    for group in dict.fromkeys(order):
        sequences = groups.get(group, ())
        if sequences:
            label = f"{group} ({len(sequences)})"
            networks = results.network_names or ("",)
            rows += [(label, *_score_cells(sequences, each, results, column, weights)) for each in networks]
        if group in theirs:
            rows.append((group, *_paper_cells(theirs[group], weights)))
    return tuple(rows)


def _score_cells(
    sequences: Sequence[str], network: str, results: ToolResults, column: str, weights: Sequence[str]
) -> tuple[Cell, ...]:
    """Levels of the anchors and of the network with each of its weights, then their differences."""

    def mean(variant: Variant) -> float | None:
        return results.mean(sequences, results.qps, variant, column)

    anchors = [mean(variant) for variant in (ANCHOR, WEAKER_ANCHOR, NO_FILTER)]
    variants = {v.weights: v for v in results.variants if v.network == network and v.way == "full"}
    original, *decoded = (mean(variants[each]) if each in variants else None for each in (ORIGINAL, *weights))
    gains = [difference(original, anchor) for anchor in anchors[:2]]
    losses = [difference(value, original) for value in decoded]
    return (network or "none", *anchors, original, *decoded, *gains, *losses)


def _paper_cells(scores: PaperScores, weights: Sequence[str]) -> tuple[Cell, ...]:
    """The paper's anchor is VTM 1.0: deblocking and SAO; its network was compressed to 8 bit, uniform."""
    anchor, original, reconstructed = scores.in_loop_filter, scores.original, scores.reconstructed
    digits = len(original.text.partition(".")[2])
    gain, loss = (Quoted(f"{each:+.{digits}f}") for each in (original - anchor, reconstructed - original))
    decoded = [scores.reconstructed if each == PAPER_WEIGHTS else None for each in weights]
    losses = [loss if each == PAPER_WEIGHTS else None for each in weights]
    return ("paper", None, scores.in_loop_filter, None, scores.original, *decoded, None, gain, *losses)


@dataclass(frozen=True, slots=True)
class ComparedMean:
    """A row of Table 4.

    Attributes:
        name: The autoencoder's at whose rate it is, with the operating point.
        mean: What is compared.
        reference: The autoencoder there with its first weights, on the same images.
        network_bytes: Size of the network's file; None of a file of another format.
    """

    name: str
    mean: ImageMean
    reference: ImageMean
    network_bytes: int | None

    @property
    def is_far(self) -> bool:
        """Whether it is a file at another rate than the autoencoder's."""
        far_bpp = _FAR_RATE * self.reference.bpp
        return self.mean.method in _FILES and abs(self.mean.bpp - self.reference.bpp) > far_bpp


def compared_at_rates(
    means: Sequence[ImageMean], networks: Sequence[NetworkRow]
) -> list[tuple[str, ImageMean, ImageMean]]:
    """Name of each autoencoder, what Table 4 compares with it, and the autoencoder with its first weights."""
    every = _at_rates(means, networks)
    return [
        (each.name, each.mean, each.reference) for each in every if each.mean is not each.reference and not each.is_far
    ]


def _at_rates(means: Sequence[ImageMean], networks: Sequence[NetworkRow]) -> list[ComparedMean]:
    """At the rate of each autoencoder at each of its operating points files, then it with each of its weights."""
    return [
        found
        for network in _names(networks)
        for name in dict.fromkeys(mean.name for mean in means if mean.setting == network)
        for found in _network_rows(name, [row for row in networks if row.network == network], means)
    ]


def _network_rows(name: str, networks: Sequence[NetworkRow], means: Sequence[ImageMean]) -> list[ComparedMean]:
    """Files, then the autoencoder at one operating point; only settings with the same images are compared.

    Args:
        name: The network's, with the operating point.
        networks: The network with each of its weights.
        means: Of all methods.
    """
    n_bytes = {row.weights: row.n_bytes for row in networks}
    coders = [mean for mean in means if mean.method in AUTOENCODER_METHODS]
    coded = [mean for mean in coders if mean.name == name and mean.weights in n_bytes]
    if not coded:
        return []
    coded.sort(key=lambda mean: list(n_bytes).index(mean.weights))
    reference = coded[0]
    near = [_nearest(method, reference, means) for method in _FILES]
    same_images = [mean for mean in coded if mean.images == reference.images]
    return [ComparedMean(name, mean, reference, n_bytes.get(mean.weights)) for mean in (*near, *same_images) if mean]


def _exact_warnings(mean: ImageMean) -> Iterator[tuple[int, str]]:
    """Columns of PSNRs that exact images have no part in, and what to know about them."""
    n_images = len(mean.images)
    if mean.n_exact == n_images:
        text = "it is exact" if n_images == 1 else f"all {n_images} images are exact"
        yield from ((column, f"{text}: the PSNR is infinite") for column in (_PSNR_COLUMN, _PSNR_COLUMN + 1))
    elif mean.n_exact:
        which = f"{mean.n_exact} of {n_images} images {'is' if mean.n_exact == 1 else 'are'} exact (infinite PSNR)"
        yield _PSNR_COLUMN, f"{which}; the mean, without a difference to others, is of the rest"


def _nearest(method: ImageMethod, reference: ImageMean, means: Sequence[ImageMean]) -> ImageMean | None:
    """The setting of a method whose rate is nearest to the reference's, on the same images."""
    candidates = [mean for mean in means if mean.method == method and mean.images == reference.images]
    return min(candidates, key=lambda mean: abs(mean.bpp - reference.bpp), default=None)


def _image_cells(compared: ComparedMean) -> tuple[Cell, ...]:
    mean, reference, is_far = compared.mean, compared.reference, compared.is_far
    has_exact = mean.n_exact > 0 or reference.n_exact > 0  # means of other images than the reference's
    return (
        compared.name,
        method_title(mean),
        f"{mean.setting}: {_OUT_OF_REACH}" if is_far else setting_title(mean),
        len(mean.images),
        mean.bpp,
        *_rates_with_network(mean, compared.network_bytes),
        mean.psnr_of_others_db,
        mean.psnr_of_mean_mse_db if math.isfinite(mean.psnr_of_mean_mse_db) else None,
        mean.ssim,
        mean.ms_ssim,
        None if mean is reference or is_far or has_exact else difference(mean.psnr_db, reference.psnr_db),
    )


def _rates_with_network(mean: ImageMean, network_bytes: int | None) -> list[float | None]:
    """The rate with a network's share in each of `AMORTISED_OVER`; None of files, which need none."""
    if network_bytes is None or mean.bpp_per_byte is None:
        return [None] * len(AMORTISED_OVER)
    return [mean.bpp + network_bytes / number * mean.bpp_per_byte for number in AMORTISED_OVER]


def method_title(mean: ImageMean) -> str:
    """What a method is called; an autoencoder with decoded weights is a reconstructed one."""
    title = METHOD_TITLES[mean.method]
    if mean.method in _FILES or mean.weights == ORIGINAL:
        return title
    return RECONSTRUCTED + title.removeprefix(METHOD_TITLES["cnn-ae"])


def setting_title(mean: ImageMean) -> str:
    """A file's quality, or which weights an autoencoder has."""
    if mean.method in _FILES:
        return mean.setting
    return "" if mean.weights == ORIGINAL else weights_title(mean.weights)


def _paper_end_to_end() -> list[tuple[Cell, ...]]:
    reference = PAPER_END_TO_END[1].psnr_db
    rows: list[tuple[Cell, ...]] = []
    for theirs in PAPER_END_TO_END:
        gap = None if theirs.label == "CNN-AE" else theirs.psnr_db - reference
        setting = PAPER_WEIGHTS if theirs.label == RECONSTRUCTED else ""
        head = ("paper", theirs.label, setting, 1000, theirs.bpp, *[None] * len(AMORTISED_OVER))
        rows.append((*head, theirs.psnr_db, None, theirs.ssim, None, gap))
    return rows


def _image_notes(
    networks: Sequence[NetworkRow], methods: Collection[ImageMethod], *, has_far_rates: bool, has_points: bool
) -> tuple[str, ...]:
    return (
        "PSNR peak: 255. PSNR: mean of the images' PSNRs; MSE-PSNR: PSNR of the mean squared error. "
        "The paper does not say which it prints. SSIM, MS-SSIM: mean over channels, then over images; no "
        "MS-SSIM ('-') where an image is below 176 samples either way.",
        "JPEG's rate is counted in three ways. File: as written, standard Huffman tables; optimised: as "
        "written, own Huffman tables; payload: without headers and tables. Each with the quality whose mean "
        "rate is nearest to the autoencoder's. The paper does not say which rate it counts.",
        *(["Payload of WebP: the VP8 chunk; of AVIF: the media data (mdat), without the boxes around it."]
          if {"webp-payload", "avif-payload"} & set(methods) else []),
        *([f"Rate out of reach: no quality comes within {100 * _FAR_RATE:.0f} % of the autoencoder's rate; the row has "
           "the nearest that was run, and no difference, since its rate is another."]
          if has_far_rates else []),
        "CNN-AE: bytes of the written streams; the network's own are not in the rate. With network in N: with an N-th "
        "of its whole file (Table 1) for each image, encoder and decoder; one file serves all operating points. "
        "Reconstructed: with the weights as decoded from the compressed file that the setting names.",
        *(["Estimated rate: code length of the latent by the network's own likelihoods, rounded up to "
           "whole bytes per image; no bytes were written."]
          if "cnn-ae-estimate" in methods else []),
        *(["NAME@N: the network at its operating point N, from 0 at the lowest rate on; effort: how long its encoder "
           "searched, 0 to 3 (none said: 0)."] if has_points else []),
        *weights_notes(networks),
        SEEDS_NOTE,
        PAPER_NOTE,
    )  # fmt: skip
