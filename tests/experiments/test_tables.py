from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.averages import tool_results
from vvc_nnr.experiments.gain_tables import bd_rate_table, gain_table
from vvc_nnr.experiments.image_averages import image_means
from vvc_nnr.experiments.markup import to_csv, to_latex, to_markdown
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.rows import ImageRow, SizeRow, ToolRow
from vvc_nnr.experiments.tables import end_to_end_table, psnr_table, size_table, ssim_table

CONVENTIONS = Conventions(seeds="1")


SIZES = [SizeRow("rep", 799_744, 208_896, "uniform8", 8, 199_936)]
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["size", "psnr", "ssim", "end-to-end", "gain", "bd-rate"])
def test_golden_tables(tool_rows: list[ToolRow], image_rows: list[ImageRow], name: str) -> None:
    """GENERATE_GOLDEN=1 in the environment writes the files anew."""
    tables = {
        "size": lambda: size_table(SIZES),
        "psnr": lambda: psnr_table(tool_rows, CONVENTIONS),
        "ssim": lambda: ssim_table(tool_rows, CONVENTIONS),
        "end-to-end": lambda: end_to_end_table(image_rows, CONVENTIONS),
        "gain": lambda: gain_table(tool_rows, CONVENTIONS),
        "bd-rate": lambda: bd_rate_table(tool_rows, CONVENTIONS),
    }
    text = to_markdown(tables[name]())
    path = GOLDEN / f"{name}.md"
    if os.environ.get("GENERATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_psnr_table_against_sums_by_head(tool_rows: list[ToolRow]) -> None:
    """Level 40 dB at QP 22, minus 0.5 dB per QP: 33.75 dB over QP 32 and 37; the rest is in conftest.py."""
    rows = {(row[0], row[1]): row[2:] for row in psnr_table(tool_rows, CONVENTIONS).rows}
    expected = (33.75, 33.55, 33.5, 34.1, 34.09, 0.35, 0.55, -0.01)
    assert rows["B (1)", "rep"] == pytest.approx(expected)
    assert rows["Overall (2)", "post"] == pytest.approx((33.75, 33.55, 33.5, 34.0, 33.99, 0.25, 0.45, -0.01))
    assert rows["Overall", "paper"] == (None, "33.52", None, "33.73", "33.71", None, "+0.21", "-0.02")


def test_gain_table_has_the_change_in_rate(tool_rows: list[ToolRow]) -> None:
    rows = [replace(r, n_bits=r.n_bits * 99 // 100) if r.loop_filters == "none" else r for r in tool_rows]
    changes = {(row[0], row[1]): row[4] for row in gain_table(rows, CONVENTIONS).rows}
    assert changes["rep", "all filters"] == pytest.approx(-1, abs=1e-2)
    assert changes["post", "all filters"] == 0


def test_bd_rate_table(tool_rows: list[ToolRow]) -> None:
    table = bd_rate_table(tool_rows, CONVENTIONS)
    assert [row[:3] for row in table.rows[-3:]] == [
        ("Overall (2)", "rep", "all filters"),
        ("Overall (2)", "rep", "deblock+SAO"),
        ("Overall (2)", "post", "all filters"),
    ]
    # the curves are straight: 2.5 dB for a factor of 2 in rate, so 0.3 and 0.2 dB are worth
    saved = [100 * (2 ** (-gain_db / 2.5) - 1) for gain_db in (0.35, 0.25)]
    assert table.rows[-3][3:6] == pytest.approx([sum(saved) / 2] * 3, abs=1e-3)
    assert table.rows[-3][9] == pytest.approx(0.3, abs=1e-3)
    assert not any("Doubt" in note for note in table.notes)
    single = bd_rate_table(tool_rows, CONVENTIONS, "akima", per_sequence=True)
    assert [row[0] for row in single.rows[::3]] == [
        "Cactus",
        "BasketballPass",
        "B (1)",
        "D (1)",
        "Overall (2)",
    ]
    assert "akima" in single.notes[0]


def test_bd_rate_table_tells_its_doubts(tool_rows: list[ToolRow]) -> None:
    table = bd_rate_table([row for row in tool_rows if row.qp in (22, 37)], CONVENTIONS)
    assert any("Y against all filters: test: 2 points, fewer than 4" in note for note in table.notes)
    assert any(note.startswith("And ") for note in table.notes)
    one = bd_rate_table([row for row in tool_rows if row.qp == 22], CONVENTIONS)
    assert one.rows[0][3:] == (None,) * 7
    assert "A curve without a value is in no mean." in one.notes


def test_end_to_end_table_against_sums_by_head(image_rows: list[ImageRow]) -> None:
    rows = {(row[0], row[1]): row[2:] for row in end_to_end_table(image_rows, CONVENTIONS).rows}
    mse_db = -10 * math.log10((10**0.1 + 10**-0.1) / 2)
    assert rows["ae-small", "JPEG, payload"] == (
        "q50",
        2,
        1.8125,
        29.5,
        pytest.approx(29.5 + mse_db),
        0.9,
        -2.5,
    )
    assert rows["ae-large", "JPEG, payload"][:3] == ("q90", 2, 4.5)
    assert rows["ae-large", "JPEG, optimised"][:3] == ("q50", 2, 4.3125)
    assert rows["paper", "JPEG"][2] == "4.3"


def test_a_rate_that_jpeg_does_not_reach_is_said_and_not_compared(image_rows: list[ImageRow]) -> None:
    table = end_to_end_table(image_rows, CONVENTIONS)
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["ae-large", "JPEG, file"][:3] == ("q50: rate out of reach", 2, 6.6875)
    assert rows["ae-large", "JPEG, file"][-1] is None
    assert rows["ae-small", "JPEG, optimised"][0] == "q50: rate out of reach"
    assert any(note.startswith("Rate out of reach: no quality comes within 10 %") for note in table.notes)


def test_jpeg_on_other_images_is_not_compared(image_rows: list[ImageRow]) -> None:
    rows = [row for row in image_rows if not (row.image == "b" and row.method == "jpeg-file")]
    methods = [row[1] for row in end_to_end_table(rows, CONVENTIONS).rows]
    assert "JPEG, file" not in methods


def test_notes_say_the_conventions(tool_rows: list[ToolRow], image_rows: list[ImageRow]) -> None:
    full = Conventions("full", seeds="1")
    for table in (psnr_table(tool_rows, full), gain_table(tool_rows, full), bd_rate_table(tool_rows, full)):
        notes = " ".join(table.notes)
        for text in (
            "1023 at 10 bit",
            "Overall = mean over all sequences",
            "without the bits of",
            "Seeds: 1.",
        ):
            assert text in notes
    assert "1020 at 10 bit" in " ".join(psnr_table(tool_rows, Conventions()).notes)
    notes = " ".join(end_to_end_table(image_rows, Conventions()).notes)
    for text in ("PSNR peak: 255", "payload: without", "not in the rate", "nothing in this run is random"):
        assert text in notes
    for table in (psnr_table(tool_rows, full), ssim_table(tool_rows, full), size_table([])):
        assert "Moon and J.-G. Kim, Compressed Representation of Neural Networks" in table.notes[-1]


def test_pictures_are_averaged_before_sequences(tool_rows: list[ToolRow]) -> None:
    """A sequence of one picture weighs as much as one of two."""
    rows = [row for row in tool_rows if not (row.sequence == "Cactus" and row.picture == 1)]
    table = psnr_table(rows, CONVENTIONS)
    assert table.rows[0][2] == pytest.approx(33.25)
    assert table.rows[-2][2] == pytest.approx((33.25 + 33.75) / 2)


def test_unfinished_sequences_are_left_out_and_named(tool_rows: list[ToolRow]) -> None:
    whole = psnr_table([row for row in tool_rows if row.sequence == "Cactus"], CONVENTIONS)
    unfinished = psnr_table(tool_rows[:-1][::-1], CONVENTIONS)
    assert {row[0] for row in unfinished.rows} == {"D (1)", "B", "C", "D", "Overall (1)", "Overall"}
    assert "1 sequences (Cactus)" in unfinished.notes[-3]
    assert len(whole.notes) == len(unfinished.notes) - 1


def test_qps_that_are_not_there(tool_rows: list[ToolRow]) -> None:
    table = psnr_table(tool_rows, CONVENTIONS, qps=(40, 45))
    assert {row[1] for row in table.rows} == {"paper"}
    assert "2 sequences" in table.notes[-3]


def test_rows_without_networks_or_anchors(tool_rows: list[ToolRow]) -> None:
    anchors = psnr_table([row for row in tool_rows if row.method == "anchor"], CONVENTIONS)
    assert anchors.rows[0][:3] == ("B (1)", "none", pytest.approx(33.75))
    assert anchors.rows[0][5:] == (None,) * 5
    no_anchor = [row for row in tool_rows if row.method != "anchor"]
    assert psnr_table(no_anchor, CONVENTIONS).rows[0][7:9] == (None, None)
    assert gain_table(no_anchor, CONVENTIONS).rows == ()
    assert bd_rate_table([], CONVENTIONS).rows == ()


def test_pictures_without_chroma_and_without_loss(tool_rows: list[ToolRow]) -> None:
    rows = [
        replace(row, psnr_y_db=math.inf, psnr_cb_db=None, psnr_cr_db=None, ssim_cb=None, ssim_cr=None)
        for row in tool_rows
    ]
    assert psnr_table(rows, CONVENTIONS).rows[0][2:] == (*[math.inf] * 5, *[None] * 3)
    assert psnr_table(rows, CONVENTIONS, plane="cb").rows[0][2:] == (None,) * 8
    assert all(row[5:] == (None,) * 6 for row in gain_table(rows, CONVENTIONS).rows)
    assert all(row[3:] == (None,) * 7 for row in bd_rate_table(rows, CONVENTIONS).rows)


def test_identical_images(image_rows: list[ImageRow]) -> None:
    rows = [replace(row, psnr_db=math.inf) for row in image_rows]
    assert image_means(rows)[0].psnr_of_mean_mse_db == math.inf
    assert end_to_end_table(rows, CONVENTIONS).rows[0][8] is None


def test_exact_images_are_counted_and_have_no_part_in_a_mean(image_rows: list[ImageRow]) -> None:
    first = image_rows[0].image
    images = {row.image for row in image_rows}
    some = [replace(row, psnr_db=math.inf) if row.image == first else row for row in image_rows]
    table, without = (
        end_to_end_table(rows, CONVENTIONS) for rows in (some, [row for row in image_rows if row.image != first])
    )
    assert "inf" not in to_markdown(table).replace("infinite", "")
    doubts = {(doubt.row, doubt.column): doubt.text for doubt in table.doubts}
    for number, row in enumerate(table.rows):
        if row[0] == "paper":
            continue
        assert doubts[number, 5].startswith(f"1 of {len(images)} images is exact (infinite PSNR)")
        assert isinstance(row[6], float)
        assert row[8] is None
    same = [row for row in without.rows if row[1] in ("CNN-AE", "reconstructed CNN-AE") and row[0] != "paper"]
    ours = [row for row in table.rows if row[1] in ("CNN-AE", "reconstructed CNN-AE") and row[0] != "paper"]
    assert [row[5] for row in ours] == pytest.approx([row[5] for row in same])
    every = end_to_end_table([replace(row, psnr_db=math.inf) for row in image_rows], CONVENTIONS)
    assert every.rows[0][5:7] == (None, None)
    assert every.doubts[0].text == f"all {len(images)} images are exact: the PSNR is infinite"


def test_one_network_in_two_places_is_told_apart(tool_rows: list[ToolRow]) -> None:
    rows = [replace(row, network="net") if row.network else row for row in tool_rows]
    names = [row[1] for row in psnr_table(rows, CONVENTIONS).rows[:2]]
    assert names == ["net instead of all filters", "net after all filters"]


def test_contradicting_rows_are_refused(tool_rows: list[ToolRow]) -> None:
    with pytest.raises(InputError, match="two different results"):
        psnr_table([*tool_rows, replace(tool_rows[0], n_bits=1)], CONVENTIONS)
    with pytest.raises(InputError, match="BasketballPass is of class D and B"):
        tool_results([*tool_rows, replace(tool_rows[0], picture=9, ctc_class="B")])


def test_every_table_in_every_markup(tool_rows: list[ToolRow], image_rows: list[ImageRow]) -> None:
    tables = (
        size_table([]),
        psnr_table(tool_rows, CONVENTIONS),
        ssim_table(tool_rows, CONVENTIONS),
        end_to_end_table(image_rows, CONVENTIONS),
        gain_table(tool_rows, CONVENTIONS),
        bd_rate_table(tool_rows, CONVENTIONS),
    )
    for table in tables:
        for markup in (to_markdown, to_csv, to_latex):
            assert table.columns[0].head in markup(table)
            assert "nan" not in markup(table)
