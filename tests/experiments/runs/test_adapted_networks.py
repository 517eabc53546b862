"""Tool-by-tool with networks that are tuned to each sequence: what is measured, what is counted, where it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from executors import Pickling
from torch import nn

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import VvcNnrError
from vvc_nnr.experiments.charts import N_COLOURS
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.records.rows import ToolRow, UpdateRow
from vvc_nnr.experiments.records.tsv import read_rows
from vvc_nnr.experiments.records.viewer_pictures import read_index
from vvc_nnr.experiments.report.sections import read_sections
from vvc_nnr.experiments.report.write import write_report
from vvc_nnr.experiments.runs import adaptation_units
from vvc_nnr.experiments.runs.tool_by_tool import plan_tool_by_tool, run_tool_by_tool
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.tables.stored import load
from vvc_nnr.filters.adaptation.adapt_streams import adapt_streams
from vvc_nnr.filters.adaptation.base_filter import AdaptedBase
from vvc_nnr.filters.adaptation.options import RunAs
from vvc_nnr.filters.adaptation.tuned_filter import LearningPicture
from vvc_nnr.filters.adaptation.tuning import TunedUpdate
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.in_stream import strength_qps
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.y4m import Y4mWriter
from vvc_nnr.units import ExecutorOptions, UnitsError

PROVENANCE = gather_provenance(["vvc-nnr", "test"])
N_PICTURES = 3
UPDATES = "tool_by_tool_updates.tsv"
KINDS = ["filter", "filter, counted", "adapted", "adapted, counted"]
KINDS += [f"adapted, in {length} pictures" for length in (60, 250, 600)]
KINDS += ["as sent", *(f"as sent, in {length} pictures" for length in (60, 250, 600))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encodings")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, real_pictures: Callable[..., list[Frame]]) -> list[Source]:
    folder = tmp_path_factory.mktemp("clips")
    frames = real_pictures(N_PICTURES, 64, 48)
    for name, its in (("long", frames), ("short", frames[:1])):
        with Y4mWriter(folder / f"{name}.y4m", frames[0].format(30)) as writer:
            for frame in its:
                writer.write(frame)
    return [open_source(folder / f"{name}.y4m") for name in ("long", "short")]


@pytest.fixture(scope="module")
def options() -> ToolOptions:
    return ToolOptions(
        qps=(32, 37),
        configs=("ldb",),
        networks=["inloop-vlop"],
        adapt=True,
        adapt_updates="shared",
        adapt_steps=10,
        n_threads=1,
    )


@pytest.fixture(scope="module")
def whole(clips: list[Source], options: ToolOptions, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run in this process."""
    folder = tmp_path_factory.mktemp("whole")
    run_tool_by_tool(clips, folder, options, PROVENANCE, cache=cache)
    return folder


def rows_of(folder: Path) -> list[tuple[object, ...]]:
    rows = read_rows(folder / "tool_by_tool.tsv", ToolRow).rows
    return [(*row.key, row.n_bits, row.n_decision_bits, row.psnr_y_db, row.psnr_cb_db, row.ssim_y) for row in rows]


def updates_of(folder: Path) -> tuple[UpdateRow, ...]:
    return read_rows(folder / UPDATES, UpdateRow).rows


def one_of(updates: tuple[UpdateRow, ...]) -> UpdateRow:
    """The one update that all QPs share."""
    (found,) = {replace(row, qp=0) for row in updates}
    return found


def files(folder: Path) -> dict[str, bytes | None]:
    """All files, with the content of those that are the same in every run."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    fixed = {
        path for path in paths if path.suffix in (".md", ".csv", ".tex", ".nnc") and path.stem[:10] != "complexity"
    }
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path in fixed else None for path in paths}


def test_a_plan_has_three_rounds(clips: list[Source], options: ToolOptions) -> None:
    units = plan_tool_by_tool(clips, options)
    coded = [
        f"{name}, ldb, QP {qp}, all, picture 0{to}"
        for name, to in (("long", " to 2"), ("short", ""))
        for qp in (32, 37)
    ]
    tuned = [f"{name}, ldb, inloop-vlop tuned" for name in ("long", "short")]
    assert [unit.name for unit in units] == [*coded, *tuned, *(f"{name}, inloop-vlop adapted" for name in coded)]
    plans = [json.loads(json.dumps(unit.plan())) for unit in units]
    assert all(plan["cost_s"] > 0 for plan in plans)
    shares = [plan_tool_by_tool(clips, options, execution=ExecutorOptions(shard=(i, 2))) for i in (1, 2)]
    assert sorted(unit.name for share in shares for unit in share) == sorted(unit.name for unit in units)
    for share in shares:
        tuned_here = {unit.source.name for unit in share if unit.name in tuned}
        assert {unit.source.name for unit in share if "adapted" in unit.name} == tuned_here


def test_long_sequences_are_filtered_in_several_units(
    clips: list[Source], options: ToolOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vvc_nnr.experiments.runs.tool_units.UNIT_S", 1e-6)
    monkeypatch.setattr("vvc_nnr.experiments.runs.decoded_pictures.PictureCoder.step", 1)
    units = plan_tool_by_tool(clips[:1], replace(options, qps=(37,), configs=("ai",)))
    adapted = [unit for unit in units if "adapted" in unit.name]
    assert [(unit.start, unit.count, unit.loop_filters) for unit in adapted] == [
        (0, 1, "all"),
        (1, 1, "all"),
        (2, 1, "all"),
    ]


def test_adapted_rows_and_bytes_are_those_of_the_command_adapt(
    clips: list[Source], options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    options = replace(options, qps=(27, 37), adapt_steps=20, adapt_pictures=10**6, precision="int8")
    run_tool_by_tool(clips[:1], tmp_path / "out", options, PROVENANCE, cache=cache)
    update = one_of(updates_of(tmp_path / "out"))
    data = (tmp_path / "out" / "networks" / update.file).read_bytes()
    rows = [row for row in read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows if row.weights == "adapted"]
    assert len(rows) == 2 * N_PICTURES
    assert {row.network_sha256 for row in rows} == {update.network_sha256}
    base = AdaptedBase(network_path("inloop-vlop").read_bytes(), "hash")
    runner = Runner(base.network(data), precision="int8", n_threads=1)
    originals, paths = list(clips[0].frames()), []
    for qp in options.qps:
        coded = VvcEncoder(VvcOptions(qp, n_threads=1, config="ldb"), cache).encode(originals, clips[0].format.fps)
        assert coded.cached
        paths.append(tmp_path / f"{qp}.266")
        paths[-1].write_bytes(coded.stream)
        stream = read_vvc_stream(coded.stream)
        filtered = runner.filter_frames(zip(decode_vvc(stream), strength_qps(stream), strict=True))
        scores = [frame_psnr_db(each.to_bit_depth(10), frame) for each, frame in zip(originals, filtered, strict=True)]
        assert [row.psnr_y_db for row in rows if row.qp == qp] == [score.y for score in scores]
    found = adapt_streams(paths, clips[0], base, options.adaptation, tmp_path / "tuning", RunAs(n_threads=1))
    added = found.streams[0].added_bytes
    assert update.n_filter_bytes == added["base"]
    (made,) = found.updates
    assert update.n_update_bytes - len(data) == added["update"] - added["base"] - len(made.tuned.data)
    for stream in found.streams:
        mean_db = np.mean([row.psnr_y_db for row in rows if f"{row.qp}.266" in stream.name])
        assert mean_db == pytest.approx(stream.adapted.psnr_db[0], abs=0.02)
        assert mean_db > stream.base.psnr_db[0]


def test_odd_sides_are_filtered_as_a_decoder_does(
    options: ToolOptions,
    cache: Path,
    tmp_path: Path,
    real_pictures: Callable[..., list[Frame]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (frame,) = real_pictures(1, 67, 41)
    with Y4mWriter(tmp_path / "odd.y4m", frame.format(30)) as writer:
        writer.write(frame)
    learnt: list[LearningPicture] = []
    tune = adaptation_units.tune

    def spied(network: nn.Module, arrays: NamedArrays, pictures: list[LearningPicture], *more: object) -> TunedUpdate:
        learnt.extend(pictures)
        return tune(network, arrays, pictures, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(adaptation_units, "tune", spied)
    options = replace(options, qps=(37,), configs=("ai",), precision="int8", decisions="on", adapt_pictures=10**6)
    source = open_source(tmp_path / "odd.y4m")
    run_tool_by_tool([source], tmp_path / "out", options, PROVENANCE, cache=cache)
    rows = read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows
    data = (tmp_path / "out" / "networks" / one_of(updates_of(tmp_path / "out")).file).read_bytes()
    base = AdaptedBase(network_path("inloop-vlop").read_bytes(), "hash")
    coded = VvcEncoder(VvcOptions(37, n_threads=1), cache).encode([frame], source.format.fps)
    stream = read_vvc_stream(coded.stream)
    (decoded,), (qp,) = decode_vvc(stream), strength_qps(stream)
    assert (coded.cached, decoded.width, decoded.height) == (True, 68, 42)
    assert [(each.decoded.shape, each.seen) for each in learnt] == [((6, 21, 34), (41, 67))]
    for update, weights in ((None, "file"), (data, "adapted")):
        runner = Runner(base.network(update), precision="int8", n_threads=1)
        outputs = (
            runner.filter_frame(decoded, qp).cropped(67, 41),
            runner.filter_frame(decoded.cropped(67, 41), qp),  # which is another picture
        )
        as_decoder, cut_before = (frame_psnr_db(frame.to_bit_depth(10), each) for each in outputs)
        own = {row.way: row for row in rows if row.weights == weights}
        assert (own["full"].psnr_y_db, own["full"].psnr_cb_db) == (as_decoder.y, as_decoder.cb)
        assert as_decoder != cut_before
        assert (own["decisions"].width, own["decisions"].height) == (67, 41)


def test_all_ways_lead_to_the_same_results(
    clips: list[Source], options: ToolOptions, whole: Path, cache: Path, tmp_path: Path
) -> None:
    def run(**where: object) -> dict[str, object]:
        return dict(run_tool_by_tool(clips, tmp_path / "out", options, PROVENANCE, cache=cache, **where))  # type: ignore[arg-type]

    executor = Pickling()
    for shard in ((2, 3), (3, 3)):
        assert run(execution=ExecutorOptions(shard=shard)) == {}
    n_done = len(list((tmp_path / "out" / "units" / "tool_by_tool").iterdir()))
    n_tuned = len(list((tmp_path / "out" / "networks").iterdir()))
    assert (n_done > 0, n_tuned) == (True, 1)
    run(executor=executor)
    assert executor.n == 10 - n_done - n_tuned
    assert rows_of(tmp_path / "out") == rows_of(whole)
    assert files(tmp_path / "out") == files(whole)
    assert updates_of(tmp_path / "out") == updates_of(whole)


def test_a_viewer_gets_the_adapted_networks_pictures(whole: Path) -> None:
    sha256 = {(row.sequence, row.network): row.network_sha256 for row in updates_of(whole)}
    entries = read_index(whole)
    assert sorted((each.sequence, each.qp) for each in entries) == [
        (f"{name}, low delay B", qp) for name in ("long", "short") for qp in (32, 37)
    ]
    for entry in entries:
        assert sha256[entry.sequence.partition(",")[0], entry.network][:8] in entry.files[2].name


def test_a_run_that_was_cut_off_goes_on(
    clips: list[Source],
    options: ToolOptions,
    whole: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tune, tuned = adaptation_units.tune, []

    def failing(*given: object) -> object:
        tuned.append(given)
        if len(tuned) == 2:
            raise KeyboardInterrupt
        if len(tuned) == 3:
            raise VvcNnrError("the loss became NaN")
        return tune(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(adaptation_units, "tune", failing)
    with pytest.raises(KeyboardInterrupt):
        run_tool_by_tool(clips, tmp_path, options, PROVENANCE, cache=cache)
    with pytest.raises(UnitsError, match=r"short, ldb, inloop-vlop tuned: .*the loss became NaN") as caught:
        run_tool_by_tool(clips, tmp_path, options, PROVENANCE, cache=cache)
    assert len(caught.value.failures) == 1
    assert {row.sequence for row in updates_of(tmp_path)} == {"long"}
    assert {row[1] for row in rows_of(tmp_path) if "adapted" in row} == {"long"}
    run_tool_by_tool(clips, tmp_path, options, PROVENANCE, cache=cache)
    assert len(tuned) == 4
    assert rows_of(tmp_path) == rows_of(whole)
    assert files(tmp_path) == files(whole)


def test_tables_count_the_update_and_send_nothing_where_nothing_pays(
    clips: list[Source], options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    options = replace(options, qps=(22, 27, 32, 37), adapt_pictures=10**6, decisions="on")
    tables = run_tool_by_tool(clips[:1], tmp_path / "out", options, PROVENANCE, cache=cache)
    table = tables["adapted_filters_ldb"]
    assert any("pairs of curves: " in note for note in table.notes) == bool(table.warnings)
    assert {row[2] for row in table.rows} == {"shared"}
    update = one_of(updates_of(tmp_path / "out"))
    for decisions in ("off", "on"):
        rows = {row[4]: row for row in table.rows if row[1:4] == (decisions, "shared", "long")}
        assert list(rows) == KINDS
        luma = {kind: row[6] for kind, row in rows.items()}
        assert luma["adapted"] < luma["adapted, in 600 pictures"] < luma["adapted, in 60 pictures"]
        assert luma["adapted, in 60 pictures"] < luma["adapted, counted"]
        assert luma["adapted"] < luma["filter"]
        assert luma["as sent"] == 0 < luma["adapted, counted"]
        assert rows["as sent"][10] == "nothing, nothing, nothing, nothing"
        for length in (60, 250, 600):
            # Streams choose one by one, by the slope of their rates: together a little off the best.
            assert luma[f"as sent, in {length} pictures"] <= min(0, luma[f"adapted, in {length} pictures"]) + 0.05
        assert rows["filter, counted"][5] == update.n_filter_bytes
        assert rows["adapted, counted"][5] == update.n_filter_bytes + update.n_update_bytes
        overall = {row[4]: row[6:10] for row in table.rows if row[1:4] == (decisions, "shared", "Overall")}
        assert overall == {kind: row[6:10] for kind, row in rows.items()}
    assert {row[1] for row in tables["bd_rate_ldb"].rows} == {"file (NNC)", "adapted, not counted"}
    assert "Adapted, not counted" in " ".join(tables["bd_rate_ldb"].notes)
    assert not any("adapted" in str(row) for name in ("table1_size", "complexity_ldb") for row in tables[name].rows)
    assert load(tmp_path / "out").tables()["adapted_filters_ldb"] == table
    section = read_sections(tmp_path / "out")[0]
    assert section.charts[0].title == "Networks adapted to each sequence"
    shown = [bars.label for bars in section.charts[0].charts[0].bars]
    assert len(shown) == N_COLOURS
    assert shown == [kind for kind in KINDS if kind in shown]
    write_report(tmp_path / "out", tmp_path / "report.html")
    assert "adapted, in 250 pictures" in (tmp_path / "report.html").read_text()
    assert all(finding.label.count("adapted") == 0 for finding in section.findings)
    plain = replace(options, adapt=False, adapt_updates=None, adapt_steps=None, adapt_pictures=None)
    tables = run_tool_by_tool(clips[:1], tmp_path / "out", plain, PROVENANCE, cache=cache)
    assert "adapted_filters_ldb" not in tables
    assert not any("adapted" in str(row) for name in ("bd_rate_ldb", "worse_ldb") for row in tables[name].rows)
    assert not (tmp_path / "out" / UPDATES).exists()


def test_other_qps_make_another_update(
    clips: list[Source], options: ToolOptions, whole: Path, cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "out")
    run_tool_by_tool(clips[1:], tmp_path / "out", replace(options, qps=(27, 32, 37)), PROVENANCE, cache=cache)
    update = one_of(updates_of(tmp_path / "out"))
    assert update.file not in {each.file for each in updates_of(whole)}
    shown = load(tmp_path / "out").tool_by_tool
    adapted = shown[shown["weights"] == "adapted"]
    assert (len(adapted), set(adapted["network_sha256"])) == (3, {update.network_sha256})


def test_networks_of_ones_own_are_adapted(clips: list[Source], cache: Path, tmp_path: Path) -> None:
    """A torch module of luma, coded for it, whose update is measured as any other weights."""
    (tmp_path / "nets.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    layout = 'planes=y,reach=2'\n\n"
        "    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n"
        "        self.head = torch.nn.Conv2d(1, 8, 3, padding=1)\n"
        "        self.end = torch.nn.Conv2d(8, 1, 3, padding=1)\n\n"
        "    def forward(self, planes):\n        return planes + 0.01 * self.end(torch.relu(self.head(planes)))\n"
    )
    options = ToolOptions(
        qps=(32, 37),
        configs=("ldb",),
        networks=[f"{tmp_path / 'nets.py'}:Net"],
        adapt=True,
        adapt_updates="shared",
        adapt_steps=10,
        n_threads=1,
    )
    run_tool_by_tool(clips[1:], tmp_path / "out", options, PROVENANCE, cache=cache)
    update = one_of(updates_of(tmp_path / "out"))
    assert (update.network, update.base, update.n_filter_bytes > 60) == ("Net", "nnc", True)
    rows = read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows
    luma = {(row.weights, row.qp, row.picture): row.psnr_y_db for row in rows if row.network == "Net"}
    gains = [value - luma["nnc", *place] for (weights, *place), value in luma.items() if weights == "adapted"]
    assert np.mean(gains) > 0.005
    assert len(gains) == 2 * len({row.picture for row in rows})


def test_what_cannot_be_adapted_is_refused_before_anything_is_coded(
    clips: list[Source], networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    layout = 'planes=y,output=residual'\n\n"
        "    def forward(self, planes):\n        return 0 * planes\n"
    )
    words = ["experiment", "tool-by-tool", "--sequences", str(clips[1].path), "--out", str(tmp_path / "out"), "--adapt"]
    for more, said in (
        (
            ["--networks", f"{tmp_path / 'nets.py'}:Net"],
            "Net: cannot be adapted to a sequence: layout planes=y,output=residual: output residual is nothing",
        ),
        (["--networks", "inloop-postfilter", "--compress", "uniform8"], "inloop-postfilter: an update is for a coded"),
        (["--adapt-steps", "1"], "--adapt-steps: 1; must be 10 to"),
    ):
        assert main([*words, *more]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err
    for flag, value in (("--adapt-pictures", "60"), ("--adapt-updates", "each"), ("--adapt-measure", "yuv")):
        assert main([*words[:-1], flag, value]) == 2
        assert f"{flag}: {value}; is of adapted networks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_that_were_decoded_elsewhere_are_adapted_to(
    clips: list[Source], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    originals = list(clips[1].frames())
    for qp in (32, 37):
        coded = VvcEncoder(VvcOptions(qp, n_threads=1, config="ldb"), cache).encode(originals, clips[1].format.fps)
        (tmp_path / f"short_{qp}.266").write_bytes(coded.stream)
        decoded = list(decode_vvc(read_vvc_stream(coded.stream)))
        with Y4mWriter(tmp_path / f"short_{qp}.y4m", decoded[0].format(30)) as writer:
            writer.write(decoded[0])
    words = [
        "--decoded",
        f"{tmp_path}/{{sequence}}_{{qp}}.y4m",
        "--originals",
        f"{clips[1].path.parent}/{{sequence}}.y4m",
    ]
    words += ["--streams", f"{tmp_path}/{{sequence}}_{{qp}}.266", "--config", "ldb", "--networks", "inloop-vlop"]
    where = [
        "--out",
        str(tmp_path / "out"),
        "--adapt",
        "--adapt-updates",
        "shared",
        "--adapt-steps",
        "10",
        "--workers",
        "1",
        "--threads",
        "1",
    ]
    assert main(["experiment", "tool-by-tool", *words, *where]) == 0
    assert "adapted, not counted" in capsys.readouterr().out
    update = one_of(updates_of(tmp_path / "out"))
    rows = [row for row in read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows if row.weights == "adapted"]
    assert [(row.qp, row.network_sha256) for row in rows] == [(qp, update.network_sha256) for qp in (32, 37)]


def test_each_qp_has_an_update_of_its_own_or_what_is_worth_more(
    clips: list[Source], options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    """With auto both kinds are made; at each QP the better is sent, and the table counts the bytes of each QP."""
    qps = (22, 27, 32, 37)
    options = replace(options, qps=qps, adapt_updates="auto", adapt_pictures=10**5, adapt_measure="yuv")
    units = [unit.name for unit in plan_tool_by_tool(clips[:1], options)]
    assert [name for name in units if "tuned" in name] == [
        *(f"long, ldb, QP {qp}, inloop-vlop tuned" for qp in qps),
        "long, ldb, inloop-vlop tuned",
    ]
    assert sum("adapted" in name for name in units) == 2 * len(qps)
    tables = run_tool_by_tool(clips[:1], tmp_path / "out", options, PROVENANCE, cache=cache)
    updates = updates_of(tmp_path / "out")
    assert {row.measure for row in updates} == {"yuv"}
    own = [row for row in updates if row.weights == "adapted-each"]
    assert ([row.qp for row in own], len({row.file for row in own})) == (list(qps), len(qps))
    assert len({row.file for row in updates}) == len(qps) + 1
    rows = read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows
    made = {(row.weights, row.qp): row.network_sha256 for row in rows if row.weights.startswith("adapted")}
    assert made == {(row.weights, row.qp): row.network_sha256 for row in updates}
    by_kind = {(row[2], row[4]): row for row in tables["adapted_filters_ldb"].rows if row[3] == "long"}
    n_bytes = [row.n_filter_bytes + row.n_update_bytes for row in own]
    assert by_kind["each", "adapted, counted"][10] == ", ".join(map(str, n_bytes))
    assert by_kind["each", "adapted, counted"][5] is None
    assert [sent for kind, sent in by_kind if kind == "auto"] == [kind for kind in KINDS if kind.startswith("as sent")]
    sent = {kind: by_kind[kind, "as sent, in 600 pictures"] for kind in ("shared", "each", "auto")}
    assert set(sent["auto"][10].split(", ")) <= {"nothing", "filter", "shared update", "own update"}
    assert sent["auto"][9] <= min(sent["shared"][9], sent["each"][9]) + 0.05  # by YUV
    section = read_sections(tmp_path / "out")[0]
    labels = section.charts[0].charts[0].groups
    assert [label.rpartition(" ")[2] for label in labels] == ["shared", "each", "auto"]
    assert load(tmp_path / "out").tables()["adapted_filters_ldb"] == tables["adapted_filters_ldb"]
