"""End-to-end as units of work in two rounds: the same bytes whatever ran where, and what becomes of what fails."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from executors import Pickling
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.records.rows import ImageRow
from vvc_nnr.experiments.runs import image_units
from vvc_nnr.experiments.runs.end_to_end import plan_end_to_end, run_end_to_end
from vvc_nnr.experiments.runs.image_options import EndToEndOptions
from vvc_nnr.experiments.runs.image_units import EndToEndExperiment, ImageUnit, Named
from vvc_nnr.experiments.tables.stored import load, read_images
from vvc_nnr.filters.networks import context_coding
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.picture_codecs import BundledCodec
from vvc_nnr.filters.picture_file import code_by_file
from vvc_nnr.filters.zoo import load_network, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.units import ExecutorOptions, UnitsError

PROVENANCE = gather_provenance(["vvc-nnr", "test"])
N_FIRST, N_NEAR, N_OUT_OF_REACH = 2 * 3 * 3 + 4, 2 * 3, 4
"""Two networks with three weights each, over three groups of pictures of one size, and a curve of four pictures; then
three rates of files near those of two networks, of which four are below the curve's lowest quality, that is there."""


@pytest.fixture
def pictures(rgb: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Two pictures of one size, one of another, and one of the first size."""
    return [rgb[:32, :32], rgb[32:, :32], rgb[:48, 32:56], rgb[:32, 64:]]


NAMES = ["one", "two", "with \udcff in it", "four"]


@pytest.fixture
def options(networks: Path, monkeypatch: pytest.MonkeyPatch) -> EndToEndOptions:
    """What makes units as short as can be."""
    monkeypatch.setattr("vvc_nnr.experiments.runs.image_units.UNIT_S", 1e-9)
    names = [str(networks / f"{name}.safetensors") for name in ("small", "large")]
    return EndToEndOptions(networks=names, formats=("jpeg",))


def files(folder: Path) -> dict[str, bytes]:
    """All files but plots, which have their date in them, and the settings, which name threads and folders."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".svg"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_plan_has_all_pictures_once(pictures: list[NDArray[np.uint8]], options: EndToEndOptions) -> None:
    units = plan_end_to_end(pictures, options)
    assert len(units) == len({unit.name for unit in units}) == N_FIRST + N_NEAR
    assert [(unit.name, unit.start, unit.count) for unit in units[:3]] == [
        ("small original, image 0 to 1", 0, 2),
        ("small original, image 2", 2, 1),
        ("small original, image 3", 3, 1),
    ]
    assert [unit.name for unit in units[-2:]] == [
        "JPEG, optimised near the rate of large",
        "JPEG, payload near the rate of large",
    ]
    assert all(unit.cost_s > 0 for unit in units)
    shares = [plan_end_to_end(pictures, options, execution=ExecutorOptions(shard=(i, 3))) for i in (1, 2, 3)]
    assert sorted(unit.name for share in shares for unit in share) == sorted(unit.name for unit in units)
    assert json.loads(json.dumps(units[-1].plan()))["near"] == "large"


def test_all_ways_lead_to_the_same_bytes(
    pictures: list[NDArray[np.uint8]], options: EndToEndOptions, tmp_path: Path
) -> None:
    def run(name: str, **where: object) -> dict[str, object]:
        return dict(run_end_to_end(pictures, NAMES, tmp_path / name, options, PROVENANCE, **where))  # type: ignore[arg-type]

    run("here")
    executor = Pickling()
    run("executor", executor=executor)
    assert executor.n == N_FIRST + N_NEAR - N_OUT_OF_REACH
    for shard in ((2, 3), (3, 3), (1, 3), (1, 3)):
        assert run("shards", execution=ExecutorOptions(shard=shard)) == {}
        assert not {"end_to_end.tsv", "table4_end_to_end.md"} & set(files(tmp_path / "shards"))
    n_before = executor.n
    run("shards", executor=executor)
    assert 0 < executor.n - n_before < N_NEAR  # the last shard knew all rates
    for name in ("executor", "shards"):
        assert files(tmp_path / name) == files(tmp_path / "here")
    n_before = executor.n
    run("here", executor=executor)
    assert executor.n == n_before
    assert files(tmp_path / "here") == files(tmp_path / "executor")


def test_processes_make_the_same_bytes(
    pictures: list[NDArray[np.uint8]], options: EndToEndOptions, tmp_path: Path
) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        execution = ExecutorOptions(workers=workers)
        run_end_to_end(pictures, NAMES, tmp_path / name, options, PROVENANCE, execution=execution)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_unit_that_fails_is_named_and_alone_runs_again(
    pictures: list[NDArray[np.uint8]], options: EndToEndOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_end_to_end(pictures, NAMES, whole, options, PROVENANCE)
    measured, made = EndToEndExperiment.measure, list[str]()

    def failing(experiment: EndToEndExperiment, unit: ImageUnit, named: Sequence[Named]) -> list[ImageRow]:
        made.append(unit.name)
        if unit.name in ("large original, image 2", "JPEG, curve, image 0"):
            raise InputError("no more")
        return measured(experiment, unit, named)

    with monkeypatch.context() as patched:
        patched.setattr(EndToEndExperiment, "measure", failing)
        with pytest.raises(UnitsError, match="2 of 22 units failed: large original, image 2: no more; JPEG, curve"):
            run_end_to_end(pictures, NAMES, cut, options, PROVENANCE)
    assert len(made) == N_FIRST + N_NEAR // 2  # of the network that failed no rate is known
    assert [path.name for path in sorted((cut / "logs" / "end_to_end").iterdir())] == [
        "JPEG__curve__image_0.log",
        "large_original__image_2.log",
    ]
    assert len(read_images(cut).rows) > 0
    executor = Pickling()
    run_end_to_end(pictures, NAMES, cut, options, PROVENANCE, executor=executor)
    assert executor.n == 2 + (N_NEAR - N_OUT_OF_REACH) // 2
    assert files(cut) == files(whole)


def test_rows_of_units_are_shown_before_the_run_ends(
    pictures: list[NDArray[np.uint8]], options: EndToEndOptions, tmp_path: Path
) -> None:
    run_end_to_end(pictures[:3], NAMES[:3], tmp_path, options, PROVENANCE)
    n_before = len(read_images(tmp_path).rows)
    shard = ExecutorOptions(shard=(1, 1))
    run_end_to_end(pictures, NAMES, tmp_path, options, PROVENANCE, execution=shard)
    settings = tmp_path / "end_to_end.json"
    settings.write_text(settings.read_text().replace('"shown"', '"was shown"'))
    assert len(read_images(tmp_path).rows) > n_before


@pytest.fixture
def context_file(tmp_path: Path) -> Path:
    """A small autoencoder with a context prior and two operating points."""
    torch.manual_seed(0)
    network = ContextAutoencoder(7, n_fine=8, n_coarse=8, n_blocks=1, n_context=12, n_rates=2)
    with torch.no_grad():
        network.log_gain += torch.tensor([[0.0], [1.0]])
    path = tmp_path / "ctx.safetensors"
    write_float(path, network_tensors(network), network_metadata(network))
    return path


def test_operating_points_have_units_and_rows_of_their_own(
    pictures: list[NDArray[np.uint8]], context_file: Path, tmp_path: Path
) -> None:
    def asked(rates: Sequence[int] | None, effort: int) -> EndToEndOptions:
        return EndToEndOptions(networks=[str(context_file)], compressions=(), formats=(), rates=rates, effort=effort)

    units = plan_end_to_end(pictures, asked(None, 1))
    assert [unit.codec for unit in units] == ["ctx@0, effort 1", "ctx@1, effort 1"]
    assert [unit.codec for unit in plan_end_to_end(pictures, asked([1], 0))] == ["ctx@1"]
    executor, out = Pickling(), tmp_path / "out"
    for options, n_units in ((asked([1], 0), 1), (asked(None, 0), 1), (asked(None, 1), 2), (asked([1], 0), 0)):
        n_before = executor.n
        run_end_to_end(pictures, NAMES, out, options, PROVENANCE, executor=executor)
        assert executor.n - n_before == n_units
        points = [0, 1] if options.rates is None else options.rates
        rows = read_images(out).rows
        assert {(row.operating_point, row.effort) for row in rows} == {(point, options.effort) for point in points}
        assert len(rows) == len(points) * len(NAMES)
    table = load(out).tables()["table4_end_to_end"]
    assert {row[0] for row in table.rows} == {"ctx@1", "paper"}
    codec = BundledCodec(load_network(context_file).network, 1)  # type: ignore[arg-type]
    alone = [code_by_file("ctx", codec, picture[None])[0].n_bytes for picture in pictures]
    assert [row.n_bytes for row in rows] == alone  # whatever is in the file beside them


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--networks {ctx} --rates 2", "rate 2: must be one of the network's operating points, 0 to 1"),
        ("--networks {ctx} --rates 1,1", "rates 1, 1: each must be there once"),
        ("--networks {ctx} --effort 4", "effort 4: must be 0 to 3"),
        ("--networks {small} --rates 0", "--rates 0: none of the networks has operating points"),
        ("--networks {small} --effort 1", "--effort 1: none of the networks has operating points"),
    ],
)
def test_points_that_are_not_there_are_refused(
    networks: Path, context_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    typed = words.format(ctx=context_file, small=networks / "small.safetensors").split()
    out = tmp_path / "out"
    assert main(["experiment", "end-to-end", *typed, "--images", str(tmp_path), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_the_command_line(
    networks: Path, rgb: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(rgb).save(tmp_path / "images" / "a.png")
    words = f"--images {tmp_path / 'images'} --networks {networks / 'small.safetensors'} --compress none --formats webp"
    command = shlex.split(f"experiment end-to-end {words} --out {tmp_path / 'out'}")
    assert main([*command, "--plan"]) == 0
    units = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [unit["unit"] for unit in units] == [
        "small original, image 0",
        "WebP, curve, image 0",
        "WebP, file near the rate of small",
        "WebP, payload near the rate of small",
    ]
    assert not (tmp_path / "out").exists()
    assert main([*command, "--shard", "1/1"]) == 0
    assert "share 1 of 1 is done" in capsys.readouterr().out
    assert not (tmp_path / "out" / "end_to_end.tsv").exists()
    assert main(command) == 0
    assert "CNN-AE" in capsys.readouterr().out


def test_a_search_that_is_interrupted_goes_on_with_the_next_pictures(
    pictures: list[NDArray[np.uint8]], context_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_units, "UNIT_S", 1e-9)
    monkeypatch.setattr(image_units, "MAX_SEARCHED_PIXELS", 1)  # each picture by itself
    options = EndToEndOptions(networks=[str(context_file)], compressions=(), formats=(), rates=[1], effort=1)
    run_end_to_end(pictures, NAMES, tmp_path / "whole", options, PROVENANCE)
    encode, n_calls, interrupt_at = context_coding.encode_pictures, 0, 2

    def counted(*arguments: object, **named: object) -> object:
        nonlocal n_calls
        if n_calls == interrupt_at:
            raise KeyboardInterrupt
        n_calls += 1
        return encode(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(context_coding, "encode_pictures", counted)
    with pytest.raises(KeyboardInterrupt):
        run_end_to_end(pictures, NAMES, tmp_path / "cut", options, PROVENANCE)
    interrupt_at = -1
    run_end_to_end(pictures, NAMES, tmp_path / "cut", options, PROVENANCE)
    assert n_calls == len(pictures)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_the_effort_of_formats_is_named_and_settled(
    pictures: list[NDArray[np.uint8]], context_file: Path, tmp_path: Path
) -> None:
    files = EndToEndOptions(compressions=(), formats=("webp",), formats_effort="best")
    options = replace(files, networks=[str(context_file)], rates=[1])
    run_end_to_end(pictures[:1], NAMES[:1], tmp_path, options, PROVENANCE)
    settings = {row.setting for row in read_images(tmp_path).rows if row.method.startswith("webp")}
    assert settings
    assert all(setting.endswith(", method 6") for setting in settings)
    with pytest.raises(InputError, match="formats_effort 'best' there, 'usual' now"):
        run_end_to_end(pictures[:1], NAMES[:1], tmp_path, replace(options, formats_effort="usual"), PROVENANCE)
