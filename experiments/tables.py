"""The paper's four tables from the rows of our runs, with the paper's own numbers beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vvc_nnr.experiments import paper
from vvc_nnr.experiments.averages import LOOP_FILTERS, CnnUse, Score, ToolResults, Variant, tool_results
from vvc_nnr.experiments.image_averages import ImageMean, image_means
from vvc_nnr.experiments.markup import Cell, Column, Doubt, Table
from vvc_nnr.experiments.notes import PAPER_NOTE, listed, seeds_note, tool_notes
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.rows import ImageMethod, ImageRow, SizeRow, ToolRow, unique_rows
from vvc_nnr.experiments.sequence_means import CTC_CLASSES, PlaneName, difference

PAPER_QPS = (32, 37)
METHOD_TITLES: dict[ImageMethod, str] = {
    "jpeg-file": "JPEG, file",
    "jpeg-optimised": "JPEG, optimised",
    "jpeg-payload": "JPEG, payload",
    "cnn-ae": "CNN-AE",
    "reconstructed-cnn-ae": "reconstructed CNN-AE",
}
PLANE_TITLES: dict[PlaneName, str] = {"y": "luma", "cb": "Cb", "cr": "Cr"}

_JPEG: tuple[ImageMethod, ...] = ("jpeg-file", "jpeg-optimised", "jpeg-payload")
_PSNR_COLUMN = 5
"""Of Table 4; the next one is that of the mean squared error."""
_AUTOENCODER: tuple[ImageMethod, ...] = ("cnn-ae", "reconstructed-cnn-ae")
_FAR_RATE = 0.1
"""A JPEG rate that is off by more than this share is marked, and not compared."""
_COLUMNS_NOTE = (
    "All, D+SAO, None: the codec with all its in-loop filters, with deblocking and SAO (VTM 1.0's set), "
    "with none. CNN: with the network as trained; Rec. CNN: with the network as decoded from its compressed file."
)


def size_table(rows: Iterable[SizeRow]) -> Table:
    """Table 1: the size of each network before and after compression."""
    columns = (
        Column("Network", text=True),
        Column("Parameters"),
        Column("Method", text=True),
        Column("Weights", "bit"),
        Column("Original", "KB", digits=1),
        Column("Compressed", "KB", digits=1),
        Column("Ratio", digits=2),
    )
    ratio = paper.ORIGINAL_KB / paper.COMPRESSED_KB
    theirs = ("paper", None, "uniform", 8, str(paper.ORIGINAL_KB), str(paper.COMPRESSED_KB), ratio)
    notes = (
        "1 KB = 1024 bytes, as in the paper (781 KB = 200,000 float32). Sizes are of whole files, "
        "with names, shapes and ranges.",
        f"The paper's text says a ratio of about 3.89, its sizes give {ratio:.2f}.",
        PAPER_NOTE,
    )
    return Table("Table 1: model size", columns, (*map(_size_cells, unique_rows(rows)), theirs), notes)


def psnr_table(
    rows: Iterable[ToolRow],
    conventions: Conventions,
    qps: Sequence[int] = PAPER_QPS,
    plane: PlaneName = "y",
) -> Table:
    """Table 2: PSNR per class and overall, of each anchor and of each network before and after compression.

    Args:
        rows: Rows of the tool-by-tool experiment; other QPs are ignored.
        conventions: What the rows were made under.
        qps: The QPs to average over.
        plane: The plane to score.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = tool_results(rows, qps)
    notes = (
        _COLUMNS_NOTE,
        *tool_notes(conventions, results),
        "The paper has JVET classes B, C, D and VTM 1.0 (deblocking and SAO): levels depend on the sequences, compare "
        "the differences. Its overall gain (0.21 dB) is above the gain of each of its classes.",
        PAPER_NOTE,
    )
    title = f"Table 2: PSNR of {PLANE_TITLES[plane]}, mean of QP {listed(qps)}"
    return Table(title, _score_columns("dB", 3, 4), _score_rows(results, "psnr_db", plane, paper.PSNR_DB), notes)


def ssim_table(
    rows: Iterable[ToolRow],
    conventions: Conventions,
    qps: Sequence[int] = PAPER_QPS,
    plane: PlaneName = "y",
) -> Table:
    """Table 3: SSIM as Table 2 has PSNR; arguments and errors as for `psnr_table`."""
    results = tool_results(rows, qps)
    notes = (
        "SSIM: Gaussian window 11x11, sigma 1.5, data range 2**bit_depth - 1.",
        _COLUMNS_NOTE,
        *tool_notes(conventions, results),
        "The paper's text says a gain of 0.019, its table 0.0029.",
        PAPER_NOTE,
    )
    title = f"Table 3: SSIM of {PLANE_TITLES[plane]}, mean of QP {listed(qps)}"
    return Table(title, _score_columns("", 4, 5), _score_rows(results, "ssim", plane, paper.SSIM), notes)


def end_to_end_table(rows: Iterable[ImageRow], conventions: Conventions) -> Table:
    """Table 4: each autoencoder before and after compression, and JPEG by its three rates near the same rate.

    Args:
        rows: Rows of the end-to-end experiment, with any number of JPEG settings.
        conventions: What the rows were made under.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    means = image_means(rows)
    networks = dict.fromkeys(mean.setting for mean in means if mean.method in _AUTOENCODER)
    columns = (
        Column("At the rate of", text=True),
        Column("Method", text=True),
        Column("Setting", text=True),
        Column("Images"),
        Column("Rate", "bpp", digits=3),
        Column("PSNR", "dB", digits=3),
        Column("MSE-PSNR", "dB", digits=3),
        Column("SSIM", digits=4),
        Column("To CNN-AE", "dB", digits=3, signed=True),
    )
    ours = [found for network in networks for found in _network_rows(network, means)]
    body = (*(cells for cells, _ in ours), *_paper_end_to_end())
    doubts = [Doubt(row, column, text) for row, (_, mean) in enumerate(ours) for column, text in _exact_doubts(mean)]
    return Table("Table 4: end to end", columns, body, _image_notes(conventions), tuple(doubts))


def _size_cells(row: SizeRow) -> tuple[Cell, ...]:
    original_kb, compressed_kb = row.original_bytes / 1024, row.compressed_bytes / 1024
    ratio = row.original_bytes / row.compressed_bytes
    return (row.network, row.n_parameters, row.method, row.bits, original_kb, compressed_kb, ratio)


def _score_columns(unit: str, digits: int, difference_digits: int) -> tuple[Column, ...]:
    levels = ("All", "D+SAO", "None", "CNN", "Rec. CNN")
    differences = ("CNN-All", "CNN-D+SAO", "Rec.-CNN")
    return (
        Column("Class", text=True),
        Column("Network", text=True),
        *(Column(head, unit, digits) for head in levels),
        *(Column(head, unit, difference_digits, signed=True) for head in differences),
    )


def _score_rows(
    results: ToolResults, score: Score, plane: PlaneName, theirs: Mapping[str, paper.PaperScores]
) -> tuple[tuple[Cell, ...], ...]:
    """Per class and overall: a row for each network in its place, then the paper's."""
    groups = results.groups | {paper.OVERALL: tuple(results.sequences)}
    order = [*CTC_CLASSES, *(name for name in groups if name not in CTC_CLASSES)]
    rows: list[tuple[Cell, ...]] = []
    for group in order:
        sequences = groups.get(group, ())
        if sequences:
            label = f"{group} ({len(sequences)})"
            uses = results.uses or (None,)
            rows += [(label, *_score_cells(sequences, use, results, score, plane)) for use in uses]
        if group in theirs:
            rows.append((group, *_paper_cells(theirs[group])))
    return tuple(rows)


def _score_cells(
    sequences: Sequence[str],
    use: CnnUse | None,
    results: ToolResults,
    score: Score,
    plane: PlaneName,
) -> tuple[Cell, ...]:
    def mean(variant: Variant) -> float | None:
        return results.mean_score(sequences, results.qps, variant, score, plane)

    anchors = [mean(Variant(loop_filters)) for loop_filters in LOOP_FILTERS]
    original, reconstructed = (mean(use.original), mean(use.reconstructed)) if use else (None, None)
    gains = [difference(original, anchor) for anchor in anchors[:2]]
    loss = difference(reconstructed, original)
    return (results.label(use) if use else "none", *anchors, original, reconstructed, *gains, loss)


def _paper_cells(scores: paper.PaperScores) -> tuple[Cell, ...]:
    """The paper's anchor is VTM 1.0: deblocking and SAO."""
    anchor, original, reconstructed = (
        float(text) for text in (scores.in_loop_filter, scores.original, scores.reconstructed)
    )
    digits = len(scores.original.partition(".")[2])
    gain, loss = f"{original - anchor:+.{digits}f}", f"{reconstructed - original:+.{digits}f}"
    levels = (None, scores.in_loop_filter, None, scores.original, scores.reconstructed)
    return ("paper", *levels, None, gain, loss)


def _network_rows(network: str, means: Sequence[ImageMean]) -> list[tuple[tuple[Cell, ...], ImageMean]]:
    """JPEG by three rates, then the autoencoder; only settings with the same images are compared."""
    coded = [mean for mean in means if mean.method in _AUTOENCODER and mean.setting == network]
    coded.sort(key=lambda mean: _AUTOENCODER.index(mean.method))
    reference = coded[0]
    near = [_nearest(method, reference, means) for method in _JPEG]
    same_images = [mean for mean in coded if mean.images == reference.images]
    return [(_image_cells(network, mean, reference), mean) for mean in (*near, *same_images) if mean]


def _exact_doubts(mean: ImageMean) -> Iterator[tuple[int, str]]:
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


def _image_cells(network: str, mean: ImageMean, reference: ImageMean) -> tuple[Cell, ...]:
    is_jpeg = mean.method in _JPEG
    is_far = is_jpeg and abs(mean.bpp - reference.bpp) > _FAR_RATE * reference.bpp
    has_exact = mean.n_exact > 0 or reference.n_exact > 0  # means of other images than the reference's
    setting = f"{mean.setting}: rate out of reach" if is_far else mean.setting
    return (
        network,
        METHOD_TITLES[mean.method],
        setting if is_jpeg else "",
        len(mean.images),
        mean.bpp,
        mean.psnr_of_others_db,
        mean.psnr_of_mean_mse_db if math.isfinite(mean.psnr_of_mean_mse_db) else None,
        mean.ssim,
        None if mean is reference or is_far or has_exact else difference(mean.psnr_db, reference.psnr_db),
    )


def _paper_end_to_end() -> list[tuple[Cell, ...]]:
    reference = float(paper.END_TO_END[1].psnr_db)
    rows: list[tuple[Cell, ...]] = []
    for theirs in paper.END_TO_END:
        gap = None if theirs.label == "CNN-AE" else float(theirs.psnr_db) - reference
        rows.append(
            ("paper", theirs.label, "", 1000, theirs.bpp, theirs.psnr_db, None, theirs.ssim, gap),
        )
    return rows


def _image_notes(conventions: Conventions) -> tuple[str, ...]:
    return (
        "PSNR peak: 255. PSNR: mean of the images' PSNRs; MSE-PSNR: PSNR of the mean squared error. "
        "The paper does not say which it prints. SSIM: mean over channels, then over images.",
        "JPEG's rate is counted in three ways. File: as written, standard Huffman tables; optimised: as "
        "written, own Huffman tables; payload: without headers and tables. Each with the quality whose mean "
        "rate is nearest to the autoencoder's. The paper does not say which rate it counts.",
        f"Rate out of reach: no quality comes within {100 * _FAR_RATE:.0f} % of the autoencoder's rate; the row has "
        "the nearest that was run, and no difference, since its rate is another.",
        "CNN-AE: bytes of the written streams; the network's own bits are not in the rate, see Table 1.",
        seeds_note(conventions),
        PAPER_NOTE,
    )
