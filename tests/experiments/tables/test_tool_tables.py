"""Tables of the tool-by-tool experiment from hand-made rows whose BD-rates, times and counts are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import NetworkRow, ToolRow, Way
from vvc_nnr.experiments.tables.sequence_names import shown_names
from vvc_nnr.experiments.tables.stored import tool_tables
from vvc_nnr.experiments.tables.table import Cell, Table

QPS = (22, 27, 32, 37)
NETWORK = NetworkRow("net", "file", "ab", "all", "NNC", 7500, 20_000, 5000, 4.5)
FLOAT = replace(NETWORK, weights="original", network_sha256="cd", coding="float32", n_bytes=20_000)
CONVENTIONS = Conventions(loop_filters="as they are")


def row(
    sequence: str,
    qp: int,
    way: Way = "codec",
    weights: str = "none",
    *,
    rate: float = 1.0,
    gain_db: float = 0.0,
    picture: int = 0,
) -> ToolRow:
    """A picture of 2^19 bits at QP 22 and half of it for every 5 QPs, 2 dB less each; the second one half as large."""
    level_db = 42 - 0.4 * (qp - 22) + picture
    n_bits = round((1 << 19) / 2 ** ((qp - 22) / 5) / (1 + picture) * rate)
    share = 1000 if way == "decisions" else 0
    is_codec = way == "codec"
    return ToolRow(
        sequence, "D" if sequence == "pass" else "B", picture, 416, 240, 10, qp, "all", way,
        "" if is_codec else "net", weights, "" if is_codec else "ab" if weights == "file" else "cd",
        n_bits - share, share, level_db + gain_db, level_db + 2 + gain_db, level_db + 3 + 2 * gain_db,
        0.9, 0.9, 0.9, 0.99, None, None,
        2.0 if is_codec else 3.0, 0.1 if is_codec else 5.0,
    )  # fmt: skip


def tables_of(rows: list[ToolRow], networks: list[NetworkRow], conventions: Conventions) -> dict[str, Table]:
    return tool_tables(rows, networks, networks, conventions)


def run(*changed: Callable[[ToolRow], ToolRow], rates: tuple[float, float] = (0.9, 0.8)) -> list[ToolRow]:
    """Two sequences of two pictures: the anchor, full strength at a rate, decisions at another, float at a third."""
    rows = [
        each
        for name in ("cactus", "pass")
        for qp in QPS
        for picture in (0, 1)
        for each in (
            row(name, qp, picture=picture),
            row(name, qp, "full", "file", rate=rates[0], picture=picture),
            row(name, qp, "decisions", "file", rate=rates[1], picture=picture),
        )
    ]
    for change in changed:
        rows = [change(each) for each in rows]
    return rows


def cell(table: Table, head: str, **where: Cell) -> Cell:
    """The cell of the one row that has these values."""
    heads = [column.head for column in table.columns]
    wanted = {key.replace("_", " "): value for key, value in where.items()}
    found = [r for r in table.rows if all(r[heads.index(key)] == value for key, value in wanted.items())]
    assert len(found) == 1, (where, found)
    return found[0][heads.index(head)]


def test_rates_at_equal_quality_are_the_bd_rate_of_every_plane_group_and_average() -> None:
    tables = tables_of(run(), [NETWORK], CONVENTIONS)
    for name in ("bd_rate", "bd_rate_of_mean_curves"):
        for group in ("B (1)", "D (1)", "Overall (2)"):
            for plane in ("Y", "Cb", "Cr", "YUV"):
                assert cell(tables[name], plane, Decisions="off", Class=group) == pytest.approx(-10, abs=1e-3)
                assert cell(tables[name], plane, Decisions="on", Class=group) == pytest.approx(-20, abs=1e-3)
    per_sequence = tables["bd_rate_per_sequence"]
    assert cell(per_sequence, "YUV", Decisions="on", Sequence="cactus") == pytest.approx(-20, abs=1e-3)
    assert "coded_weights" not in tables


def test_the_two_ways_of_averaging_differ_where_sequences_do() -> None:
    def larger(each: ToolRow) -> ToolRow:
        """One sequence of nine times the bits, in which the network saves nothing."""
        if each.sequence == "pass":
            return each
        n_bits = 9 * row(each.sequence, each.qp, picture=each.picture).n_bits
        return replace(each, n_bits=n_bits - each.n_decision_bits)

    tables = tables_of(run(larger), [NETWORK], CONVENTIONS)
    overall = {"Decisions": "on", "Class": "Overall (2)"}
    assert cell(tables["bd_rate"], "Y", **overall) == pytest.approx(-10, abs=1e-3)
    assert cell(tables["bd_rate_of_mean_curves"], "Y", **overall) == pytest.approx(-2, abs=1e-3)


def test_mean_curves_of_chroma_have_the_rates_of_the_sequences_with_chroma() -> None:
    def grey(each: ToolRow) -> ToolRow:
        """One sequence of nine times the bits without chroma, in which the network saves nothing."""
        if each.sequence == "pass":
            return each
        n_bits = 9 * row(each.sequence, each.qp, picture=each.picture).n_bits
        return replace(each, n_bits=n_bits - each.n_decision_bits, psnr_cb_db=None, psnr_cr_db=None)

    tables = tables_of(run(grey), [NETWORK], CONVENTIONS)
    overall = {"Decisions": "on", "Class": "Overall (2)"}
    for plane in ("Cb", "Cr"):
        for name in ("bd_rate", "bd_rate_of_mean_curves"):
            assert cell(tables[name], plane, **overall) == pytest.approx(-20, abs=1e-3)


def test_the_networks_bits_are_spread_over_the_stream() -> None:
    bits = 8 * NETWORK.n_bytes

    def paid(each: ToolRow) -> ToolRow:
        """So many bits saved that a network in 60 pictures costs exactly them."""
        if each.way == "codec":
            return each
        n_bits = row(each.sequence, each.qp, picture=each.picture).n_bits - each.n_decision_bits - bits // 60
        return replace(each, n_bits=n_bits)

    table = tables_of(run(paid), [NETWORK], CONVENTIONS)["bd_rate_with_network_bits"]
    shares = {r[4]: (r[5], r[6]) for r in table.rows if (r[2], r[3]) == ("on", "Overall (2)")}
    assert {name: share for name, (share, _) in shares.items()} == {
        "free": 0.0, "in 600 pictures": 0.1, "in 60 pictures": 1.0, "in 1 picture": 60.0,
    }  # fmt: skip
    assert shares["in 60 pictures"][1] == pytest.approx(0, abs=1e-6)
    assert shares["free"][1] < shares["in 600 pictures"][1] < 0 < shares["in 1 picture"][1]


def test_times_are_ratios_of_geometric_means_and_unknown_where_one_is() -> None:
    table = tables_of(run(), [NETWORK], CONVENTIONS)["bd_rate"]
    where = {"Decisions": "on", "Class": "Overall (2)"}
    assert cell(table, "EncT", **where) == pytest.approx(150)
    assert cell(table, "DecT", **where) == pytest.approx(5000)

    def forgotten(each: ToolRow) -> ToolRow:
        is_one = (each.sequence, each.qp, each.picture) == ("pass", 27, 1)
        return replace(each, encode_s=None) if is_one else each

    tables = tables_of(run(forgotten), [NETWORK], CONVENTIONS)
    assert cell(tables["bd_rate"], "EncT", **where) is None
    assert cell(tables["bd_rate"], "EncT", Decisions="on", Class="B (1)") == pytest.approx(150)
    assert cell(tables["complexity"], "EncT, decisions", Network="net") is None
    assert cell(tables["complexity"], "DecT, decisions", Network="net") == pytest.approx(5000)
    assert cell(tables["complexity"], "Of float32", Network="net") == pytest.approx(37.5)


def test_one_picture_that_got_worse_is_counted_and_with_decisions_an_alarm() -> None:
    quiet = tables_of(run(), [NETWORK], CONVENTIONS)["worse"]
    assert all(count == 0 for r in quiet.rows for count in r[5:])
    assert any("no picture and no sequence got worse" in note for note in quiet.notes)

    def harmed(each: ToolRow) -> ToolRow:
        is_one = (each.sequence, each.qp, each.picture) == ("pass", 27, 1) and each.way != "codec"
        return replace(each, psnr_cb_db=each.psnr_cb_db - 0.5) if is_one and each.psnr_cb_db else each

    table = tables_of(run(harmed), [NETWORK], CONVENTIONS)["worse"]
    for decisions in ("on", "off"):
        counts = {r[3]: r[4:] for r in table.rows if r[2] == decisions}
        assert counts["pictures"] == (4, 0, 1, 0, 1)
        assert counts["sequences"] == (2, 0, 1, 0, 1)
        assert counts["sequences, BD-rate +0.01 % or more"][:2] == (2, 0)
    alarms = [note for note in table.notes if note.startswith("ALARM")]
    assert alarms == [
        "ALARM: pictures, worse with decisions: pass picture 1 (net, file (NNC), on, Cb YUV).",
        "ALARM: sequences, worse with decisions: pass (net, file (NNC), on, Cb YUV).",
    ]
    assert not any("no picture and no sequence" in note for note in table.notes)


def test_no_alarm_names_a_bd_rate_that_prints_as_zero() -> None:
    table = tables_of(run(rates=(0.9, 1.00002)), [NETWORK], CONVENTIONS)["worse"]
    assert not any("BD-rate" in note for note in table.notes if note.startswith("ALARM"))
    table = tables_of(run(rates=(0.9, 1.001)), [NETWORK], CONVENTIONS)["worse"]
    assert any("BD-rate +0.01 % or more" in note for note in table.notes if note.startswith("ALARM"))


def test_what_replaces_the_filters_is_no_alarm() -> None:
    """Switched off it leaves the picture without any filter, which is expected to be worse."""
    rows = [
        each
        for qp in QPS
        for each in (
            row("pass", qp),
            replace(row("pass", qp, gain_db=-0.5), loop_filters="none"),
            replace(row("pass", qp, "decisions", "file", gain_db=-0.2), loop_filters="none"),
        )
    ]
    table = tables_of(rows, [replace(NETWORK, place="none")], CONVENTIONS)["worse"]
    assert any(count for r in table.rows for count in r[5:])
    assert not any("ALARM" in note or "no picture and no sequence" in note for note in table.notes)


def test_warnings_are_listed_by_sequence_and_counted_under_the_table() -> None:
    def crossing(each: ToolRow) -> ToolRow:
        is_one = each.sequence == "pass" and each.way == "decisions" and each.qp == 37
        return replace(each, n_bits=each.n_bits * 2) if is_one else each

    tables = tables_of(run(crossing), [NETWORK], CONVENTIONS)
    table = tables["bd_rate_per_sequence"]
    crossing_at = [warning for warning in table.warnings if warning.text == "the curves cross"]
    assert {table.columns[warning.column].head for warning in crossing_at} == {"Y", "Cb", "Cr", "YUV"}
    assert {table.rows[warning.row][:6] for warning in crossing_at} == {
        ("net", "file (NNC)", "on", "all filters", "D", "pass")
    }
    assert any("Warning about 4 of 16 pairs of curves: the curves cross." in note for note in tables["bd_rate"].notes)


def test_every_table_of_bd_rates_has_the_warnings_beside_the_numbers() -> None:
    def crossing(each: ToolRow) -> ToolRow:
        is_one = each.sequence == "pass" and each.way == "full" and each.qp == 37
        return replace(each, n_bits=each.n_bits * 2) if is_one else each

    rows = run(crossing)
    floats = [replace(each, weights="original", network_sha256="cd") for each in run() if each.way == "full"]
    tables = tables_of([*rows, *floats], [NETWORK, FLOAT], CONVENTIONS)
    head = ("net", "file (NNC)", "off")
    for name in ("bd_rate", "bd_rate_with_network_bits"):
        texts = _warnings_of(tables[name], (*head, "Overall (2)"))
        assert set(texts.values()) == {"the curves cross (pass)"}, name
        assert {"Y", "Cb", "Cr", "YUV"} <= set(texts), name
    assert "BD-PSNR Y" in _warnings_of(tables["bd_rate"], (*head, "Overall (2)"))
    assert set(_warnings_of(tables["bd_rate_of_mean_curves"], (*head, "D (1)"))) == {"Y", "Cb", "Cr", "YUV"}
    assert _warnings_of(tables["coded_weights"], (*head, "D (1)"))["Diff. of Y BD-rates"] == "the curves cross"
    assert not _warnings_of(tables["bd_rate_of_mean_curves"], (*head, "B (1)"))
    for name in ("bd_rate_with_network_bits", "bd_rate_of_mean_curves"):
        counted = [note for note in tables[name].notes if "the curves cross" in note]
        assert len(counted) == 1, name


def _warnings_of(table: Table, row: tuple[Cell, ...]) -> dict[str, str]:
    """Head and text of the warnings in rows that have these texts."""
    rows = {number for number, each in enumerate(table.rows) if set(row) <= set(each)}
    assert rows
    return {table.columns[each.column].head: each.text for each in table.warnings if each.row in rows}


def test_coding_the_weights_is_compared_with_the_float_network() -> None:
    rows = run()
    floats = [
        replace(
            each, weights="original", network_sha256="cd", n_bits=round((each.n_bits + each.n_decision_bits) / 1.01)
        )
        for each in rows
        if each.way == "full"
    ]
    tables = tables_of([*rows, *floats], [NETWORK, FLOAT], CONVENTIONS)
    table = tables["coded_weights"]
    assert [r[:4] for r in table.rows] == [("net", "file (NNC)", "off", g) for g in ("B (1)", "D (1)", "Overall (2)")]
    assert cell(table, "Y", Class="Overall (2)") == pytest.approx(1, abs=1e-3)
    assert cell(table, "Diff. of Y BD-rates", Class="Overall (2)") == pytest.approx(-10 + 100 - 90 / 1.01, abs=1e-3)
    assert cell(table, "PSNR diff. Y", Class="Overall (2)") == 0
    assert {r[1] for r in tables["bd_rate_with_network_bits"].rows} == {"file (NNC)"}


def test_gains_are_against_the_weaker_codec_too_where_a_network_replaces_the_filters() -> None:
    rows = [
        each
        for qp in QPS
        for each in (
            row("pass", qp),
            replace(row("pass", qp, gain_db=-0.3), loop_filters="deblock-sao"),
            replace(row("pass", qp, gain_db=-0.5), loop_filters="none"),
            replace(row("pass", qp, "decisions", "file", gain_db=0.2), loop_filters="none"),
        )
    ]
    tables = tables_of(rows, [replace(NETWORK, place="none")], CONVENTIONS)
    gains = tables["gain_per_qp"]
    assert cell(gains, "Y", Network="net", Against="all filters", QP=32) == pytest.approx(0.2)
    assert cell(gains, "Cr", Network="net", Against="deblock+SAO", QP=32) == pytest.approx(1.0)
    assert cell(gains, "YUV", Network="net", Against="all filters", QP=32) == pytest.approx((7 * 0.2 + 0.4) / 8)
    assert cell(gains, "Cost of decisions", Network="net", Against="all filters", QP=32) == 1000
    assert cell(gains, "Y", Network="codec, no filter", QP=22) == pytest.approx(-0.5)
    assert {r[0] for r in tables["bd_rate"].rows} == {"codec, deblock+SAO", "codec, no filter", "net"}


def test_unfinished_sequences_are_named_and_few_qps_have_no_bd_rate() -> None:
    rows = [each for each in run() if (each.sequence, each.qp, each.way) != ("cactus", 32, "full")]
    tables = tables_of(rows, [NETWORK], CONVENTIONS)
    assert {r[4] for r in tables["bd_rate"].rows} == {"D (1)", "Overall (1)"}
    assert any("Left out" in note and "cactus" in note for note in tables["bd_rate"].notes)
    few = tables_of([each for each in run() if each.qp > 30], [NETWORK], CONVENTIONS)
    assert set(few) == {
        *("table1_size", "table2_psnr", "table3_ssim", "complexity", "gain_per_qp", "worse", "all_scores"),
        "spread_over_sequences",
    }
    assert "No tables of BD-rates: they need 4 QPs or more, this run has 2." in few["gain_per_qp"].notes
    assert not any("No tables of BD-rates" in note for note in tables["gain_per_qp"].notes)
    nothing = tables_of([], [NETWORK], CONVENTIONS)
    assert nothing["worse"].rows == ()


def test_pictures_without_chroma_have_luma_only() -> None:
    def grey(each: ToolRow) -> ToolRow:
        return replace(each, psnr_cb_db=None, psnr_cr_db=None)

    table = tables_of(run(grey), [NETWORK], CONVENTIONS)["bd_rate"]
    where = {"Decisions": "on", "Class": "Overall (2)"}
    assert cell(table, "Cb", **where) is None
    assert cell(table, "YUV", **where) == pytest.approx(-20, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"way": "codec"},
        {"network": ""},
        {"weights": "none"},
        {"weights": "uniform17"},
        {"way": "full"},
        {"n_decision_bits": -1},
        {"decode_s": -1.0},
        {"width": 0},
    ],
)
def test_rows_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"network|bits|at least|weights"):
        replace(row("pass", 32, "decisions", "file"), **changes)  # type: ignore[arg-type]


def test_tables_call_sequences_without_the_format_in_their_files_names() -> None:
    renamed = {"pass": "cat_208x120_25fps_8bit_420"}
    rows = [replace(each, sequence=renamed.get(each.sequence, each.sequence)) for each in run()]
    plain, tables = (tables_of(each, [NETWORK], CONVENTIONS) for each in (run(), rows))
    assert {r[5] for r in tables["bd_rate_per_sequence"].rows} == {"cactus", "cat"}
    assert tables["bd_rate"].rows == plain["bd_rate"].rows


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a_416x240_50", "b_1920x1080_60fps_10bit_420"], ["a", "b"]),
        (["a_16x16_8bit", "a_32x32_8bit", "b_16x16", "b"], ["a_16x16_8bit", "a_32x32_8bit", "b_16x16", "b"]),
        (["kodim01", "take_2", "16x16", "a_8bit_x", "a_16x16_blurred"], None),
    ],
)
def test_names_of_sequences(names: list[str], shown: list[str] | None) -> None:
    assert list(shown_names(names).values()) == (shown or names)
