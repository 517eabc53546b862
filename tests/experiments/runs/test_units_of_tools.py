"""Tool-by-tool as units of work: the same rows and tables whatever ran where, and what becomes of a unit that fails."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from executors import Pickling

from vvc_nnr.errors import ExternalToolError, InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.records.rows import ToolRow
from vvc_nnr.experiments.records.tsv import read_rows
from vvc_nnr.experiments.runs.networks import CodingOptions, given_filters, network_states
from vvc_nnr.experiments.runs.tool_by_tool import plan_tool_by_tool, run_tool_by_tool
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.runs.tool_units import ToolExperiment, ToolUnit
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.y4m import Y4mWriter
from vvc_nnr.units import ExecutorOptions, UnitsError

PROVENANCE = gather_provenance(["vvc-nnr", "test"])
N_PICTURES = 6


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encodings")


@pytest.fixture
def sources(frames: list[Frame], tmp_path: Path) -> list[Source]:
    """A sequence of two units at each QP and filter set, and one of a single picture."""
    found = []
    for name, n_pictures in (("long", N_PICTURES), ("short", 1)):
        with Y4mWriter(tmp_path / f"{name}.y4m", frames[0].format(30)) as writer:
            for number in range(n_pictures):
                moved = tuple(np.roll(plane, 2 * number, 1) for plane in frames[number % 2].planes)
                writer.write(Frame(moved, 8, "420"))
        found.append(open_source(tmp_path / f"{name}.y4m"))
    return found


@pytest.fixture
def options(networks: Path, monkeypatch: pytest.MonkeyPatch) -> ToolOptions:
    monkeypatch.setattr("vvc_nnr.experiments.runs.tool_units.UNIT_S", 1e-6)
    return ToolOptions(qps=(32, 37), networks=[str(networks / "post.safetensors")], compressions=(), decisions="on")


def untimed(folder: Path) -> list[tuple[object, ...]]:
    rows = read_rows(folder / "tool_by_tool.tsv", ToolRow).rows
    return [(*row.key, row.n_bits, row.n_decision_bits, row.psnr_y_db, row.ssim_y, row.slice_qp) for row in rows]


def tables(folder: Path) -> dict[str, bytes]:
    paths = (path for suffix in (".md", ".csv", ".tex") for path in folder.glob(f"*{suffix}"))
    return {path.name: path.read_bytes() for path in paths if path.stem != "complexity"}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_has_all_pictures_once(sources: list[Source], options: ToolOptions, tmp_path: Path) -> None:
    units = plan_tool_by_tool(sources, options)
    assert len(units) == len({unit.name for unit in units}) == 2 * 3 * (2 + 1)
    assert [unit.name for unit in units[:3]] == [
        "long, ai, QP 32, all, picture 0 to 3",
        "long, ai, QP 32, all, picture 4 to 5",
        "long, ai, QP 32, deblock-sao, picture 0 to 3",
    ]
    assert units[0].networks == (("post", "original"),)
    assert units[2].networks == ()
    assert units[0].cost_s > units[1].cost_s > 0
    shares = [plan_tool_by_tool(sources, options, execution=ExecutorOptions(shard=(i, 3))) for i in (1, 2, 3)]
    assert [unit for share in shares for unit in share] == units
    assert json.loads(json.dumps(units[0].plan()))["n_pictures"] == 4
    assert not list(tmp_path.glob("*/"))


def test_all_ways_lead_to_the_same_rows_and_tables(
    sources: list[Source], options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    def run(name: str, **where: object) -> dict[str, object]:
        return dict(run_tool_by_tool(sources, tmp_path / name, options, PROVENANCE, cache=cache, **where))  # type: ignore[arg-type]

    run("here")
    executor = Pickling()
    run("executor", executor=executor)
    assert executor.n == 18
    for shard in ((2, 3), (3, 3), (1, 3), (1, 3)):
        assert run("shards", execution=ExecutorOptions(shard=shard)) == {}
        assert not {"tool_by_tool.tsv", "tool_by_tool.json"} & files(tmp_path / "shards")
        assert not tables(tmp_path / "shards")
    assert len(list((tmp_path / "shards" / "units" / "tool_by_tool").iterdir())) == 18
    n_before = executor.n
    run("shards", executor=executor)
    assert executor.n == n_before
    for name in ("executor", "shards"):
        assert untimed(tmp_path / name) == untimed(tmp_path / "here")
        assert tables(tmp_path / name) == tables(tmp_path / "here")
        assert files(tmp_path / name) == files(tmp_path / "here")


def test_units_of_shards_with_other_options_are_told(
    sources: list[Source], options: ToolOptions, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = ExecutorOptions(shard=(1, 1))
    other = replace(options, decisions="off")
    run_tool_by_tool(sources[1:], tmp_path / "out", other, PROVENANCE, cache=cache, execution=shard)
    assert not caplog.messages
    run_tool_by_tool(sources[1:], tmp_path / "out", options, PROVENANCE, cache=cache)
    assert ["6 files of units" in each for each in caplog.messages] == [True]
    assert len(list((tmp_path / "out" / "units" / "tool_by_tool").iterdir())) == 6


@pytest.mark.parametrize("shard", [None, (1, 2)])
def test_a_cache_that_cannot_be_written_is_refused_before_a_unit_runs(
    sources: list[Source], options: ToolOptions, tmp_path: Path, shard: tuple[int, int] | None
) -> None:
    (tmp_path / "cache").write_text("a file")
    execution = ExecutorOptions(shard=shard)
    with pytest.raises(InputError, match=r"cache: cannot be made: .* must be a folder"):
        run_tool_by_tool(sources, tmp_path / "out", options, PROVENANCE, cache=tmp_path / "cache", execution=execution)
    assert not (tmp_path / "out").exists()


def test_compressions_as_texts_are_refused() -> None:
    with pytest.raises(InputError, match="'uniform8', must be a Compression"):
        ToolOptions(compressions=("uniform8",))  # type: ignore[arg-type]


def test_processes_make_the_same_tables(
    sources: list[Source], options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        execution = ExecutorOptions(workers=workers)
        run_tool_by_tool(sources[:1], tmp_path / name, options, PROVENANCE, cache=cache, execution=execution)
    assert untimed(tmp_path / "one") == untimed(tmp_path / "two")
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_unit_that_fails_is_named_and_alone_runs_again(
    sources: list[Source], options: ToolOptions, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut, n_made = tmp_path / "whole", tmp_path / "cut", []
    run_tool_by_tool(sources, whole, options, PROVENANCE, cache=cache)
    measured = ToolExperiment.measure

    def failing(experiment: object, unit: ToolUnit) -> list[ToolRow]:
        n_made.append(unit.name)
        if unit.qp == 37 and unit.start == 4 and unit.loop_filters == "all":
            raise ExternalToolError("the encoder failed")
        if unit.loop_filters == "none" and unit.source.name == "short":
            raise ZeroDivisionError("of nobody's making")
        rows: list[ToolRow] = measured(experiment, unit)  # type: ignore[arg-type]
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(ToolExperiment, "measure", failing)
        with pytest.raises(
            UnitsError, match="3 of 18 units failed: long, ai, QP 37, all, picture 4 to 5: the enc"
        ) as caught:
            run_tool_by_tool(sources, cut, options, PROVENANCE, cache=cache)
        assert caught.value.cli_exit_code == 1
        assert len(n_made) == 18
        assert len(list((cut / "logs" / "tool_by_tool").glob("*.log"))) == 3
        assert not tables(cut)
        assert len(untimed(cut)) == len(untimed(whole)) - 2 * 3 - 2
        n_made.clear()
        patched.setattr(ToolExperiment, "measure", lambda *given: n_made.append(given[1].name) or measured(*given))
        run_tool_by_tool(sources, cut, options, PROVENANCE, cache=cache)
    assert n_made == [failure.unit for failure in caught.value.failures]
    assert untimed(cut) == untimed(whole)
    assert tables(cut) == tables(whole)


def test_another_network_in_a_worker_is_refused(
    sources: list[Source], options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    layout = 'planes=y,output=residual'\n\n"
        "    def __init__(self):\n        super().__init__()\n        self.only = torch.nn.Conv2d(1, 1, 1)\n\n"
        "    def forward(self, planes):\n        return 0.01 * self.only(planes)\n"
    )
    drawn = ToolOptions(qps=(37,), networks=[f"{tmp_path / 'nets.py'}:Net"], compressions=())
    with pytest.raises(UnitsError, match=r"Net \(original\): is another network in this process.*seed its weights"):
        run_tool_by_tool(sources[1:], tmp_path / "out", drawn, PROVENANCE, cache=cache, executor=Pickling())


def test_another_encoder_on_a_node_is_refused(
    sources: list[Source], options: ToolOptions, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = plan_tool_by_tool(sources[1:], options, cache=cache)[0]
    monkeypatch.setattr("vvc_nnr.experiments.runs.decoded_pictures.encoder_identity", lambda *given: "older")
    with pytest.raises(
        InputError, match=r"encoder libvvenc: another build here \(older\) than this run has \(libvvenc"
    ):
        next(iter(unit.maker.pictures(0, 1, 1)))


def test_another_backend_on_a_node_is_refused(options: ToolOptions, tmp_path: Path) -> None:
    states = network_states(given_filters(options.networks), CodingOptions((), tmp_path))
    found = ToolExperiment(options, states, tmp_path).check()
    assert ToolExperiment(options, states, tmp_path, found).check() == found
    with pytest.raises(InputError, match=r"post: is computed by .* in this process, and by torch 0 where the run was"):
        ToolExperiment(options, states, tmp_path, {"post": "torch 0"}).check()


def test_long_sequences_of_inter_pictures_are_one_unit_for_each_chunk(
    sources: list[Source], options: ToolOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = plan_tool_by_tool(sources[:1], replace(options, configs=("ra", "ldb"), qps=(32,)))
    assert [(unit.config, unit.loop_filters, unit.count) for unit in units] == [("ra", "all", 6), ("ldb", "all", 6)]


def test_the_plan_on_the_command_line(
    y4m: Path, networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (
        f"experiment tool-by-tool --sequences {y4m} --networks {networks / 'post.safetensors'} --out {tmp_path / 'o'}"
    )
    assert main([*shlex.split(command), "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 * 3
    assert json.loads(lines[0])["unit"] == "in, ai, QP 22, all, picture 0 to 1"
    assert main([*shlex.split(command), "--plan", "--json", "--shard", "1/12"]) == 0
    assert len(json.loads(capsys.readouterr().out)["units"]) == 1
    assert not (tmp_path / "o").exists()
    assert main([*shlex.split(command), "--shard", "1/2", "--report", "r.html"]) == 2
    assert "--report: a shard makes no tables" in capsys.readouterr().err
    assert main([*shlex.split(command), "--shard", "3/2"]) == 2
    assert "--shard: 3/2, must be I/N with I from 1 to N" in capsys.readouterr().err
