"""The paper's tables, and BD-rates and gains, from hand-made rows with numbers that can be checked by head."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.charts import image_chart
from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow, ToolRow, frame_of
from vvc_nnr.experiments.tables import paper_tables
from vvc_nnr.experiments.tables.bd_rate import Interpolation
from vvc_nnr.experiments.tables.bd_rate_tables import bd_rate_table, sequence_savings
from vvc_nnr.experiments.tables.gains import gain_table, image_rate_table
from vvc_nnr.experiments.tables.means import image_means, tool_results
from vvc_nnr.experiments.tables.notes import tool_notes
from vvc_nnr.experiments.tables.paper_tables import PAPER_QPS, all_scores_table, size_table
from vvc_nnr.experiments.tables.stored import tool_tables
from vvc_nnr.experiments.tables.table import Table, to_csv, to_markdown

CONVENTIONS = Conventions()
GOLDEN = Path(__file__).parent / "golden"

Networks = Sequence[NetworkRow]


def psnr_table(rows: Sequence[ToolRow], networks: Networks, qps: Sequence[int] = PAPER_QPS) -> Table:
    return paper_tables.psnr_table(tool_results(frame_of(rows, ToolRow), networks, qps), CONVENTIONS)


def ssim_table(rows: Sequence[ToolRow], networks: Networks) -> Table:
    return paper_tables.ssim_table(tool_results(frame_of(rows, ToolRow), networks, PAPER_QPS), CONVENTIONS)


def gains(rows: Sequence[ToolRow], networks: Networks, conventions: Conventions = CONVENTIONS) -> Table:
    results = tool_results(frame_of(rows, ToolRow), networks)
    return gain_table(results, tool_notes(conventions, results))


def bd_rates(rows: Sequence[ToolRow], networks: Networks, method: Interpolation = "pchip") -> Table:
    results = tool_results(frame_of(rows, ToolRow), networks)
    return bd_rate_table(results, sequence_savings(results, method), method, tool_notes(CONVENTIONS, results))


def end_to_end_table(rows: Sequence[ImageRow], networks: Networks) -> Table:
    return paper_tables.end_to_end_table(frame_of(rows, ImageRow), networks, CONVENTIONS)


@pytest.mark.parametrize("name", ["size", "psnr", "ssim", "end-to-end", "gain", "bd-rate", "all-scores"])
def test_golden_tables(
    tool_rows: list[ToolRow],
    image_rows: list[ImageRow],
    tool_networks: Networks,
    autoencoders: Networks,
    name: str,
) -> None:
    """GENERATE_GOLDEN=1 in the environment writes the files anew."""
    tables = {
        "size": lambda: size_table(tool_networks),
        "psnr": lambda: psnr_table(tool_rows, tool_networks),
        "ssim": lambda: ssim_table(tool_rows, tool_networks),
        "end-to-end": lambda: end_to_end_table(image_rows, autoencoders),
        "gain": lambda: gains(tool_rows, tool_networks),
        "bd-rate": lambda: bd_rates(tool_rows, tool_networks),
        "all-scores": lambda: all_scores_table(
            tool_results(frame_of(tool_rows, ToolRow), tool_networks, PAPER_QPS), CONVENTIONS
        ),
    }
    text = to_markdown(tables[name]())
    path = GOLDEN / f"{name}.md"
    if os.environ.get("GENERATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_psnr_table_against_sums_by_head(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    """Level 40 dB at QP 22, minus 0.5 dB per QP: 33.75 dB over QP 32 and 37; the rest is in conftest.py."""
    rows = {(row[0], row[1]): row[2:] for row in psnr_table(tool_rows, tool_networks).rows}
    expected = (33.75, 33.55, 33.5, 34.1, 34.09, 34.08, 0.35, 0.55, -0.01, -0.02)
    assert rows["B (1)", "rep"] == pytest.approx(expected)
    expected = (33.75, 33.55, 33.5, 34.0, 33.99, 33.98, 0.25, 0.45, -0.01, -0.02)
    assert rows["Overall (2)", "post"] == pytest.approx(expected)
    assert rows["Overall", "paper"] == (None, 33.52, None, 33.73, 33.71, None, None, 0.21, -0.02, None)


def test_numbers_of_the_paper_are_numbers_in_its_digits(tool_networks: Networks) -> None:
    cell = next(row for row in size_table(tool_networks).rows if row[0] == "paper")[4]
    assert json.dumps(cell) == "781.0"
    rows = [row for row in end_to_end_table([], []).rows if row[0] == "paper"]
    assert json.dumps([row[7] for row in rows]) == "[28.244, 29.121, 29.103]"
    assert "|  0.812 |" in to_markdown(end_to_end_table([], []))


def test_means_over_fewer_sequences_are_marked(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    """MS-SSIM is not there for planes below 176 samples."""
    scored = [
        replace(row, ms_ssim_y=0.9, ms_ssim_cb=0.9 if row.sequence == "Cactus" else None, ms_ssim_cr=None)
        for row in tool_rows
    ]
    table = all_scores_table(tool_results(frame_of(scored, ToolRow), tool_networks, PAPER_QPS), CONVENTIONS)
    marked = {(table.rows[each.row][:2], each.text) for each in table.warnings}
    assert marked == {(("MS-SSIM", "Cb"), "the mean of 1 of 2 sequences, those that have the score")}
    (row,) = (number for number, row in enumerate(table.rows) if row[:3] == ("MS-SSIM", "Cb", "rep"))
    assert table.warning(row, 3)
    single = [row for row in tool_rows if row.sequence == "Cactus"]
    one = all_scores_table(tool_results(frame_of(single, ToolRow), tool_networks, PAPER_QPS), CONVENTIONS)
    assert one.title.endswith("over 1 sequence")


def test_both_modes_stand_in_all_four_tables(
    tool_rows: list[ToolRow], image_rows: list[ImageRow], tool_networks: Networks, autoencoders: Networks
) -> None:
    modes = ("uniform8", "NNC QP -32")
    sizes = {(row[0], row[2]): row[3:] for row in size_table(tool_networks).rows}
    assert sizes["rep", "uniform8"] == (8, 781.0, 204.0, pytest.approx(3.828, abs=1e-3))
    assert sizes["rep", "NNC QP -32"] == (5.0, 781.0, pytest.approx(122.03, abs=0.01), pytest.approx(6.4))
    for table in (psnr_table(tool_rows, tool_networks), ssim_table(tool_rows, tool_networks)):
        heads = [column.head for column in table.columns]
        assert all(f"Rec. {mode}" in heads and f"Rec.-CNN, {mode}" in heads for mode in modes)
    rows = end_to_end_table(image_rows, autoencoders).rows
    assert [row[2] for row in rows if row[1] == "reconstructed CNN-AE" and row[0] == "ae-small"] == list(modes)


def test_a_coded_file_alone_is_shown_and_said_to_have_no_original(
    tool_rows: list[ToolRow], tool_networks: Networks
) -> None:
    alone = replace(tool_networks[2], weights="file", original_bytes=None)
    rows = [replace(row, weights="file") if row.network else row for row in tool_rows if row.weights != "original"]
    rows = [row for row in rows if not row.network or row.network_sha256 == alone.network_sha256]
    table = psnr_table(rows, [alone])
    assert [column.head for column in table.columns][5:8] == ["CNN", "Rec. file", "CNN-All"]
    assert table.rows[0][5:] == (None, pytest.approx(34.08), None, None, None)
    assert "Only a coded file is given of rep: there is no network as trained to compare it with." in table.notes
    assert size_table([alone]).rows[0][2:] == ("file (NNC)", 5.0, None, pytest.approx(122.03, abs=0.01), None)


def test_gain_table_has_the_change_in_rate(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    rows = [replace(r, n_bits=r.n_bits * 99 // 100) if r.loop_filters == "none" else r for r in tool_rows]
    table = gains(rows, tool_networks)
    place = [column.head for column in table.columns].index("Rate diff.")
    changes = {(row[0], row[3]): row[place] for row in table.rows}
    assert changes["rep", "all filters"] == pytest.approx(-1, abs=1e-2)
    assert changes["post", "all filters"] == 0


def test_bd_rate_table(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    table = bd_rates(tool_rows, tool_networks)
    rows = {(row[0], row[1], row[3], row[4]): row[5:] for row in table.rows}
    assert {key[2] for key in rows if key[0] == "rep"} == {"all filters", "deblock+SAO"}
    assert {key[2] for key in rows if key[0] == "post"} == {"all filters"}
    # the curves are straight: 2.5 dB for a factor of 2 in rate, so 0.35 and 0.25 dB are worth
    saved = [100 * (2 ** (-gain_db / 2.5) - 1) for gain_db in (0.35, 0.25)]
    overall = rows["rep", "original", "all filters", "Overall (2)"]
    assert overall[:4] == pytest.approx([sum(saved) / 2] * 4, abs=1e-3)
    assert overall[4] == pytest.approx(0.3, abs=1e-3)
    assert not any("Warning" in note for note in table.notes)
    assert bd_rates(tool_rows, tool_networks, "akima").rows != ()


def test_bd_rate_table_tells_its_warnings(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    table = bd_rates([row for row in tool_rows if row.qp in (22, 37)], tool_networks)
    assert any("test: 2 points, fewer than 4" in note for note in table.notes)
    one = bd_rates([row for row in tool_rows if row.qp == 22], tool_networks)
    assert one.rows[0][5:10] == (None,) * 5
    assert "A pair of curves without a value is in no mean." in one.notes


def test_end_to_end_table_against_sums_by_head(image_rows: list[ImageRow], autoencoders: Networks) -> None:
    rows = {(row[0], row[1]): row[2:] for row in end_to_end_table(image_rows, autoencoders).rows}
    mse_db = -10 * math.log10((10**0.1 + 10**-0.1) / 2)
    assert rows["ae-small", "JPEG, payload"] == (
        "q50",
        2,
        1.8125,
        None,
        None,
        29.5,
        pytest.approx(29.5 + mse_db),
        0.9,
        None,
        -2.5,
    )
    assert rows["ae-large", "JPEG, payload"][:3] == ("q90", 2, 4.5)
    assert rows["ae-large", "JPEG, optimised"][:3] == ("q50", 2, 4.3125)
    assert rows["paper", "JPEG"][2] == 4.3


def test_the_rate_with_the_networks_bytes(image_rows: list[ImageRow], autoencoders: Networks) -> None:
    for row in end_to_end_table(image_rows, autoencoders).rows:
        if row[0] == "paper" or "JPEG" in str(row[1]):
            assert row[5:7] == (None, None)
            continue
        (network,) = [each for each in autoencoders if (each.network, each.title) == (row[0], row[2] or "original")]
        extra_bpp = network.n_bytes / 128  # rows have 128 pixels for a byte's bits
        assert row[5:7] == (pytest.approx(row[4] + extra_bpp / 1000), pytest.approx(row[4] + extra_bpp / 50_000))


def at_two_points(rows: Sequence[ImageRow]) -> list[ImageRow]:
    """The rows of ae-small as those of two operating points, the second of twice the rate and 6 dB more."""
    small = [row for row in rows if row.setting == "ae-small"]
    second = [
        replace(row, operating_point=1, n_bytes=2 * row.n_bytes, bpp=2 * row.bpp, psnr_db=row.psnr_db + 6)
        for row in small
    ]
    return [*(row for row in rows if row not in small), *(replace(row, operating_point=0) for row in small), *second]


def test_operating_points_are_told_apart(image_rows: list[ImageRow], autoencoders: Networks) -> None:
    rows = at_two_points(image_rows)
    table = end_to_end_table(rows, autoencoders)
    ours = [row for row in table.rows if str(row[0]).startswith("ae-small") and row[1] == "CNN-AE"]
    assert [(row[0], row[4], row[7]) for row in ours] == [("ae-small@0", 1.75, 32.0), ("ae-small@1", 3.5, 38.0)]
    assert any(note.startswith("NAME@N:") for note in table.notes)
    assert {row[0] for row in table.rows} == {"ae-small@0", "ae-small@1", "ae-large", "paper"}
    searched = [replace(row, effort=2) if row.operating_point is not None else row for row in rows]
    assert "ae-small@1, effort 2" in {row[0] for row in end_to_end_table(searched, autoencoders).rows}


def test_operating_points_of_one_network_are_one_curve(image_rows: list[ImageRow], autoencoders: Networks) -> None:
    rows = at_two_points(image_rows)
    more = [
        replace(row, operating_point=row.operating_point + 2, n_bytes=4 * row.n_bytes, bpp=4 * row.bpp,
                psnr_db=row.psnr_db + 12)
        for row in rows if row.operating_point is not None
    ]  # fmt: skip
    means = image_means(frame_of([*rows, *more], ImageRow))
    found = image_rate_table(means, autoencoders).rows
    curves = {row[1:4] for row in found if row[0] == "PSNR" and row[1] == "ae-small"}
    assert curves == {
        ("ae-small", f"4 operating points, {title}", 4) for title in ("original", "uniform8", "NNC QP -32")
    }
    assert {row[1] for row in found if str(row[1]).startswith("ae-small@")} == {f"ae-small@{i}" for i in range(4)}
    drawn = {series.label: len(series.points) for series in image_chart(means, autoencoders).series}
    assert drawn["CNN-AE (ae-small)"] == 4
    assert drawn["reconstructed CNN-AE (ae-small), uniform8"] == 4


def test_a_rate_that_jpeg_does_not_reach_is_said_and_not_compared(
    image_rows: list[ImageRow], autoencoders: Networks
) -> None:
    table = end_to_end_table(image_rows, autoencoders)
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["ae-large", "JPEG, file"][:3] == ("q50: rate out of reach", 2, 6.6875)
    assert rows["ae-large", "JPEG, file"][-1] is None
    assert rows["ae-small", "JPEG, optimised"][0] == "q50: rate out of reach"
    assert any(note.startswith("Rate out of reach: no quality comes within 10 %") for note in table.notes)


def test_notes_are_of_rows_that_are_there(image_rows: list[ImageRow], autoencoders: Networks) -> None:
    rows = [row for row in image_rows if row.network_sha256]
    assert not any("out of reach" in note.lower() for note in end_to_end_table(rows, autoencoders).notes)
    estimates = [replace(row, method="cnn-ae-estimate") for row in rows]
    assert any(
        "rounded up to whole bytes per image" in note for note in end_to_end_table(estimates, autoencoders).notes
    )


def test_jpeg_on_other_images_is_not_compared(image_rows: list[ImageRow], autoencoders: Networks) -> None:
    rows = [row for row in image_rows if not (row.image == "b" and row.method == "jpeg-file")]
    methods = [row[1] for row in end_to_end_table(rows, autoencoders).rows]
    assert "JPEG, file" not in methods


def test_notes_say_the_conventions(
    tool_rows: list[ToolRow], image_rows: list[ImageRow], tool_networks: Networks, autoencoders: Networks
) -> None:
    full = Conventions("full")
    results = tool_results(frame_of(tool_rows, ToolRow), tool_networks)
    for table in (paper_tables.psnr_table(results, full), gains(tool_rows, tool_networks, full)):
        notes = " ".join(table.notes)
        for text in ("1023 at 10 bit", "Overall = mean over all sequences", "without the bits of", "Seeds: nothing"):
            assert text in notes
    assert "1020 at 10 bit" in " ".join(psnr_table(tool_rows, tool_networks).notes)
    plain = paper_tables.end_to_end_table(frame_of(image_rows, ImageRow), autoencoders, Conventions())
    notes = " ".join(plain.notes)
    for text in ("PSNR peak: 255", "payload: without", "not in the rate", "nothing in this run is random"):
        assert text in notes
    for table in (psnr_table(tool_rows, tool_networks), ssim_table(tool_rows, tool_networks), size_table([])):
        assert "Moon and J.-G. Kim, Compressed Representation of Neural Networks" in table.notes[-1]


def test_pictures_are_averaged_before_sequences(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    """A sequence of one picture weighs as much as one of two."""
    rows = [row for row in tool_rows if not (row.sequence == "Cactus" and row.picture == 1)]
    table = psnr_table(rows, tool_networks)
    assert table.rows[0][2] == pytest.approx(33.25)
    assert table.rows[-2][2] == pytest.approx((33.25 + 33.75) / 2)


def test_unfinished_sequences_are_left_out_and_named(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    whole = psnr_table([row for row in tool_rows if row.sequence == "Cactus"], tool_networks)
    unfinished = psnr_table(tool_rows[:-1][::-1], tool_networks)
    assert {row[0] for row in unfinished.rows} == {"D (1)", "B", "C", "D", "Overall (1)", "Overall"}
    assert "1 sequence (Cactus)" in unfinished.notes[-3]
    assert len(whole.notes) == len(unfinished.notes) - 1


def test_qps_that_are_not_there(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    table = psnr_table(tool_rows, tool_networks, qps=(40, 45))
    assert {row[1] for row in table.rows} == {"paper"}
    assert "2 sequences" in table.notes[-3]


def test_rows_without_networks_or_anchors(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    anchors = psnr_table([row for row in tool_rows if row.way == "codec"], [])
    assert anchors.rows[0][:3] == ("B (1)", "none", pytest.approx(33.75))
    assert anchors.rows[0][5:] == (None,) * 3
    no_anchor = [row for row in tool_rows if row.way != "codec"]
    assert psnr_table(no_anchor, tool_networks).rows[0][8:10] == (None, None)
    assert gains(no_anchor, tool_networks).rows == ()
    assert bd_rates([], tool_networks).rows == ()
    assert set(tool_tables([], tool_networks, tool_networks, CONVENTIONS)) >= {"table1_size", "worse"}
    assert tool_tables(no_anchor, tool_networks, tool_networks, CONVENTIONS)["worse"].rows == ()


def test_pictures_without_chroma_and_without_loss(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    rows = [
        replace(row, psnr_y_db=math.inf, psnr_cb_db=None, psnr_cr_db=None, ssim_cb=None, ssim_cr=None)
        for row in tool_rows
    ]
    assert psnr_table(rows, tool_networks).rows[0][2:] == (*[math.inf] * 6, *[None] * 4)
    assert "Y [dB]" not in [column.title for column in gains(rows, tool_networks).columns]
    assert all(row[5:10] == (None,) * 5 for row in bd_rates(rows, tool_networks).rows)


def test_identical_images(image_rows: list[ImageRow], autoencoders: Networks) -> None:
    rows = [replace(row, psnr_db=math.inf) for row in image_rows]
    assert image_means(frame_of(rows, ImageRow))[0].psnr_of_mean_mse_db == math.inf
    assert end_to_end_table(rows, autoencoders).rows[0][10] is None


def test_exact_images_are_counted_and_have_no_part_in_a_mean(
    image_rows: list[ImageRow], autoencoders: Networks
) -> None:
    first = image_rows[0].image
    images = {row.image for row in image_rows}
    some = [replace(row, psnr_db=math.inf) if row.image == first else row for row in image_rows]
    others = [row for row in image_rows if row.image != first]
    table, without = (end_to_end_table(rows, autoencoders) for rows in (some, others))
    assert "inf" not in to_markdown(table).replace("infinite", "")
    warnings = {(warning.row, warning.column): warning.text for warning in table.warnings}
    for number, row in enumerate(table.rows):
        if row[0] == "paper":
            continue
        assert warnings[number, 7].startswith(f"1 of {len(images)} images is exact (infinite PSNR)")
        assert isinstance(row[8], float)
        assert row[10] is None
    ours, same = (
        [row[7] for row in each.rows if str(row[1]).endswith("CNN-AE") and row[0] != "paper"]
        for each in (table, without)
    )
    assert ours == pytest.approx(same)
    every = end_to_end_table([replace(row, psnr_db=math.inf) for row in image_rows], autoencoders)
    assert every.rows[0][7:9] == (None, None)
    assert every.warnings[0].text == f"all {len(images)} images are exact: the PSNR is infinite"


def test_contradicting_rows_are_refused(tool_rows: list[ToolRow], tool_networks: Networks) -> None:
    with pytest.raises(InputError, match="two different results"):
        psnr_table([*tool_rows, replace(tool_rows[0], n_bits=1)], tool_networks)
    with pytest.raises(InputError, match="BasketballPass is of class D and B"):
        psnr_table([*tool_rows, replace(tool_rows[0], picture=9, ctc_class="B")], tool_networks)


def test_every_table_in_every_markup(
    tool_rows: list[ToolRow], image_rows: list[ImageRow], tool_networks: Networks, autoencoders: Networks
) -> None:
    tables = (
        size_table([]),
        psnr_table(tool_rows, tool_networks),
        ssim_table(tool_rows, tool_networks),
        end_to_end_table(image_rows, autoencoders),
        gains(tool_rows, tool_networks),
        bd_rates(tool_rows, tool_networks),
    )
    for table in tables:
        for markup in (to_markdown, to_csv):
            assert table.columns[0].head in markup(table)
            assert "nan" not in markup(table)
