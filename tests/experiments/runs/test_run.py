"""Tiny real runs: what they write, and that a cut-off run goes on, repeats nothing and ends with the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.codec import image_formats
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.experiments import load
from vvc_nnr.experiments.records.provenance import Provenance, gather_provenance
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow, ToolRow
from vvc_nnr.experiments.records.tsv import read_rows
from vvc_nnr.experiments.records.weights import parse_compressions
from vvc_nnr.experiments.runs import image_units, tool_units
from vvc_nnr.experiments.runs.end_to_end import run_end_to_end
from vvc_nnr.experiments.runs.image_options import EndToEndOptions
from vvc_nnr.experiments.runs.tool_by_tool import run_tool_by_tool
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.tables.stored import TOOL_FILES, read_tools
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.filters import picture_codecs
from vvc_nnr.filters.zoo import load_inloop_filter, n_parameters
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.y4m import Y4mWriter

pytestmark = pytest.mark.usefixtures("torch_alone")

N_ENCODINGS = 2 * 3
N_STATES = 2 * 3
"""Two networks, as trained and with both compressions."""
N_FILTERINGS = 2 * N_STATES
"""Two QPs."""
N_READY = N_STATES
"""Each network is made ready for a size of pictures before its times are taken."""


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return gather_provenance(["vvc-nnr", "test"])


@pytest.fixture
def source(rgb: NDArray[np.uint8], tmp_path: Path) -> Source:
    Image.fromarray(rgb).save(tmp_path / "astronaut.png")
    return open_source(tmp_path / "astronaut.png")


@pytest.fixture
def options(networks: Path) -> ToolOptions:
    names = [str(networks / f"{name}.safetensors") for name in ("rep", "post")]
    return ToolOptions(qps=(32, 37), networks=names, replacements=["rep"], n_threads=1)


class Calls:
    """Counts calls of a function of a module, and may interrupt one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        self.n = 0
        self.interrupt_at: int | None = None
        original: Callable[..., object] = getattr(module, name)

        def counted(*arguments: object, **named: object) -> object:
            if self.interrupt_at == self.n:
                raise KeyboardInterrupt
            self.n += 1
            return original(*arguments, **named)

        monkeypatch.setattr(module, name, counted)


@pytest.fixture
def filterings(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch, tool_units, "correction_by")


@pytest.fixture
def n_encodings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the encoder's program ran."""
    log = tmp_path / "encoder.log"
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {imageio_ffmpeg.get_ffmpeg_exe()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    return lambda: log.read_text().count("-c:v libvvenc") if log.exists() else 0


def test_tool_by_tool_writes_rows_tables_and_plots(
    source: Source, options: ToolOptions, provenance: Provenance, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "results"
    tables = run_tool_by_tool([source], folder, options, provenance)
    table = read_rows(folder / "tool_by_tool.tsv", ToolRow)
    assert table.header["command"] == "vvc-nnr test"
    assert len(table.rows) == 2 * (3 + N_STATES)
    for row in table.rows:
        assert (row.sequence, row.picture, row.width, row.height, row.bit_depth) == ("astronaut", 0, 96, 64, 10)
        assert row.n_bits > 0
        assert 20 < row.psnr_y_db < 50
        assert 0.4 < row.ssim_y < 1
        assert row.ms_ssim_y is None  # too small for five scales
    anchor = {(r.qp, r.loop_filters): r for r in table.rows if r.way == "codec"}
    assert set(anchor) == {(qp, filters) for qp in (32, 37) for filters in ("all", "deblock-sao", "none")}
    assert anchor[32, "all"].n_bits > anchor[37, "all"].n_bits
    assert {(r.network, r.loop_filters) for r in table.rows if r.network} == {("rep", "none"), ("post", "all")}
    costs = read_rows(folder / "tool_by_tool_networks.tsv", NetworkRow).rows
    weights = ("original", "uniform8", "nnc")
    assert [(cost.network, cost.weights) for cost in costs] == [(n, w) for n in ("rep", "post") for w in weights]
    assert costs[0].n_parameters == n_parameters(load_inloop_filter(options.networks[0]))
    assert {path.stat().st_size for path in (folder / "networks").iterdir()} == {
        cost.n_bytes for cost in costs if cost.weights != "original"
    }
    names = {path.name for path in folder.iterdir()}
    assert {f"{name}{suffix}" for name in tables for suffix in (".md", ".csv", ".tex")} <= names
    assert {"tool_by_tool.json", "rd_class_d.png", "rd_class_d.svg"} <= names
    assert tables.keys() - {"table1_size"} <= set(TOOL_FILES.results)  # sizes are measured at once
    assert not [name for name in names if name.endswith(".part")]
    assert "Table 2" in (folder / "table2_psnr.md").read_text()


@pytest.mark.parametrize("interrupt_at", [3, N_READY + N_FILTERINGS - 1])
def test_a_cut_off_tool_run_goes_on(
    source: Source,
    options: ToolOptions,
    provenance: Provenance,
    tmp_path: Path,
    filterings: Calls,
    n_encodings: Callable[[], int],
    interrupt_at: int,
) -> None:
    def run(name: str) -> dict[str, Table]:
        return run_tool_by_tool([source], tmp_path / name, options, provenance)

    whole = run("whole")
    assert (filterings.n, n_encodings()) == (N_READY + N_FILTERINGS, N_ENCODINGS)
    filterings.n, filterings.interrupt_at = 0, interrupt_at
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    filterings.interrupt_at = None
    assert set(run("cut")) == set(whole)
    assert n_encodings() == 2 * N_ENCODINGS
    tables = [read_rows(tmp_path / name / "tool_by_tool.tsv", ToolRow).rows for name in ("whole", "cut")]
    assert [_untimed(row) for row in tables[0]] == [_untimed(row) for row in tables[1]]
    n_filterings = filterings.n
    assert n_filterings <= N_FILTERINGS + 2 * N_READY + 1
    assert set(run("cut")) == set(whole)
    assert (filterings.n, n_encodings()) == (n_filterings, 2 * N_ENCODINGS)


def _untimed(row: ToolRow) -> ToolRow:
    return replace(row, encode_s=None, decode_s=0.0)


def test_a_cut_off_sequence_repeats_no_picture(
    options: ToolOptions, provenance: Provenance, y4m: Path, tmp_path: Path, filterings: Calls
) -> None:
    one_qp = replace(options, qps=(37,), compressions=())
    filterings.interrupt_at = 3  # post is ready, and has filtered both pictures; rep is not ready
    with pytest.raises(KeyboardInterrupt):
        run_tool_by_tool([open_source(y4m)], tmp_path / "out", one_qp, provenance)
    filterings.interrupt_at = None
    run_tool_by_tool([open_source(y4m)], tmp_path / "out", one_qp, provenance)
    assert filterings.n == 2 * (1 + 2)  # two networks are made ready, and filter two pictures


def test_more_of_a_run_adds_rows_and_less_shows_fewer(
    options: ToolOptions, provenance: Provenance, y4m: Path, source: Source, tmp_path: Path
) -> None:
    rows = tmp_path / "out" / "tool_by_tool.tsv"
    one = replace(options, qps=(37,), max_pictures=1, compressions=parse_compressions("uniform8"))

    def run(sources: list[Source], **changes: object) -> tuple[int, list[ToolRow]]:
        run_tool_by_tool(sources, tmp_path / "out", replace(one, **changes), provenance)  # type: ignore[arg-type]
        return len(read_rows(rows, ToolRow).rows), list(read_tools(tmp_path / "out").rows)

    n_one, shown = run([open_source(y4m)])
    assert n_one == len(shown) == 3 + 4
    assert run([open_source(y4m)], max_pictures=2)[0] == 2 * n_one
    assert run([open_source(y4m), source])[0] == 3 * n_one
    assert run([open_source(y4m)], qps=(37, 32))[0] == 4 * n_one
    assert run([open_source(y4m)], compressions=parse_compressions("nnc"))[0] == 4 * n_one + 2
    assert run([open_source(y4m)], decisions="wiener")[0] == 4 * n_one + 2 + 2 * 4
    assert run([open_source(y4m)]) == (4 * n_one + 2 + 2 * 4, shown)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"preset": "fast"}, "preset 'faster' there, 'fast' now"),
        ({"psnr_peak": "full"}, "psnr_peak"),
        ({"sao": "preset"}, "sao 'on' there, 'preset' now"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    source: Source, options: ToolOptions, provenance: Provenance, tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    anchor_only = replace(options, qps=(37,), compressions=())
    run_tool_by_tool([source], tmp_path / "out", anchor_only, provenance)
    before = (tmp_path / "out" / "tool_by_tool.tsv").read_bytes()
    with pytest.raises(InputError, match=f"holds results of other settings.*{named}.*choose another folder"):
        run_tool_by_tool([source], tmp_path / "out", replace(anchor_only, **changes), provenance)  # type: ignore[arg-type]
    assert (tmp_path / "out" / "tool_by_tool.tsv").read_bytes() == before


def test_other_pictures_of_the_same_name_are_refused(
    source: Source, options: ToolOptions, provenance: Provenance, rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    one_qp = replace(options, qps=(37,))
    run_tool_by_tool([source], tmp_path / "out", one_qp, provenance)
    Image.fromarray(rgb[::-1]).save(source.path)
    with pytest.raises(InputError, match="other pictures called astronaut"):
        run_tool_by_tool([source], tmp_path / "out", one_qp, provenance)


def test_a_folder_of_something_else_is_refused(
    source: Source, options: ToolOptions, provenance: Provenance, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    for content in ("[]", "{", '{"settings": 3}', "\xff"):
        (tmp_path / "out" / "tool_by_tool.json").write_text(content, encoding="latin-1")
        with pytest.raises(InputError, match=r"tool_by_tool\.json: no settings of a run"):
            run_tool_by_tool([source], tmp_path / "out", options, provenance)


def test_bad_sequences_are_known_before_the_first_encoding(
    source: Source, options: ToolOptions, provenance: Provenance, tmp_path: Path, n_encodings: Callable[[], int]
) -> None:
    picture = Frame(tuple(np.full((32, 32), 9, np.uint8) for _ in range(3)), 8, "444")
    with Y4mWriter(tmp_path / "bad.y4m", picture.format(30)) as writer:
        writer.write(picture)
    with pytest.raises(UnsupportedError, match=r"bad\.y4m: the encoder takes"):
        run_tool_by_tool([source, open_source(tmp_path / "bad.y4m")], tmp_path / "out", options, provenance)
    with pytest.raises(InputError, match="two inputs each"):
        run_tool_by_tool([source, source], tmp_path / "out", options, provenance)
    assert n_encodings() == 0


def test_a_grey_sequence_has_no_chroma_scores(
    options: ToolOptions, provenance: Provenance, frames: list[Frame], tmp_path: Path
) -> None:
    grey = Frame(frames[0].planes[:1], 8, "400")
    with Y4mWriter(tmp_path / "grey.y4m", grey.format(30)) as writer:
        writer.write(grey)
    run_tool_by_tool([open_source(tmp_path / "grey.y4m")], tmp_path / "out", replace(options, qps=(37,)), provenance)
    rows = read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows
    assert {(row.psnr_cb_db, row.ssim_cr, row.ms_ssim_cb) for row in rows} == {(None, None, None)}
    assert all(row.psnr_y_db > 20 for row in rows)


@pytest.fixture(scope="session")
def patches(rgb: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The six patches of 32x32 in the picture."""
    return [rgb[top : top + 32, left : left + 32] for top in (0, 32) for left in (0, 32, 64)]


NAMES = [f"patch_{i}" for i in range(6)]


@pytest.fixture
def image_options(networks: Path) -> EndToEndOptions:
    names = [str(networks / f"{name}.safetensors") for name in ("small", "large")]
    return EndToEndOptions(networks=names, formats=("jpeg",))


def test_end_to_end_writes_rows_tables_and_a_plot(
    patches: list[NDArray[np.uint8]], image_options: EndToEndOptions, provenance: Provenance, tmp_path: Path
) -> None:
    tables = run_end_to_end(patches, NAMES, tmp_path / "out", image_options, provenance)
    rows = read_rows(tmp_path / "out" / "end_to_end.tsv", ImageRow).rows
    assert len({row.key for row in rows}) == len(rows)
    assert {row.image for row in rows} == set(NAMES)
    for row in rows:
        assert row.bpp == 8 * row.n_bytes / 1024
        assert 3 < row.psnr_db < 60
    by_quality = {(row.image, row.setting, row.method): row for row in rows}
    for name in NAMES:
        file, optimised, payload = (
            by_quality[name, "quality 50, 4:4:4", f"jpeg-{rate}"] for rate in ("file", "optimised", "payload")
        )
        assert file.n_bytes > optimised.n_bytes > payload.n_bytes
        assert file.psnr_db == optimised.psnr_db == payload.psnr_db
    assert [row[1] for row in tables["table4_end_to_end"].rows[:4]] == [
        "JPEG, file",
        "JPEG, optimised",
        "JPEG, payload",
        "CNN-AE",
    ]
    decoded = [row[2] for row in tables["table4_end_to_end"].rows if row[1] == "reconstructed CNN-AE"]
    assert decoded == [*["uniform8", "NNC"] * 2, "uniform8"]  # the last is the paper's
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"table1_size.md", "table4_end_to_end.csv", "end_to_end.png", "end_to_end.json"} <= names


@pytest.mark.parametrize("interrupt_at", [0, 2])
def test_a_cut_off_end_to_end_run_goes_on(
    patches: list[NDArray[np.uint8]],
    image_options: EndToEndOptions,
    provenance: Provenance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupt_at: int,
) -> None:
    autoencodings = Calls(monkeypatch, picture_codecs.autoencoder, "encode_pictures")
    jpegs = Calls(monkeypatch, image_formats, "_decoded_by_pillow")

    def run(name: str) -> dict[str, Table]:
        return run_end_to_end(patches, NAMES, tmp_path / name, image_options, provenance)

    whole = run("whole")
    assert autoencodings.n == 6
    n_jpegs = jpegs.n
    autoencodings.n, autoencodings.interrupt_at, jpegs.n = 0, interrupt_at, 0
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    autoencodings.interrupt_at, jpegs.interrupt_at = None, n_jpegs // 2
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    jpegs.interrupt_at = None
    assert run("cut") == whole
    assert autoencodings.n == 6
    assert n_jpegs <= jpegs.n < 2 * n_jpegs  # a unit that was cut off runs again from its beginning
    rows = [read_rows(tmp_path / name / "end_to_end.tsv", ImageRow).rows for name in ("whole", "cut")]
    assert rows[0] == rows[1]
    n_jpegs = jpegs.n
    assert run("cut") == whole
    assert (autoencodings.n, jpegs.n) == (6, n_jpegs)


def test_another_end_to_end_run_in_the_same_folder_is_refused(
    patches: list[NDArray[np.uint8]], image_options: EndToEndOptions, provenance: Provenance, tmp_path: Path
) -> None:
    run_end_to_end(patches[:2], NAMES[:2], tmp_path / "out", image_options, provenance)
    with pytest.raises(InputError, match="subsampling '444' there, '420' now"):
        run_end_to_end(patches[:2], NAMES[:2], tmp_path / "out", replace(image_options, subsampling="420"), provenance)
    with pytest.raises(InputError, match="other pictures called patch_0"):
        run_end_to_end(patches[2:4], NAMES[:2], tmp_path / "out", image_options, provenance)
    run_end_to_end(patches, NAMES, tmp_path / "out", image_options, provenance)
    inputs = json.loads((tmp_path / "out" / "end_to_end.json").read_text())["inputs"]
    assert list(inputs) == NAMES


def test_table_1_of_a_folder_has_the_networks_of_both_experiments(
    source: Source,
    options: ToolOptions,
    patches: list[NDArray[np.uint8]],
    image_options: EndToEndOptions,
    provenance: Provenance,
    tmp_path: Path,
) -> None:
    run_tool_by_tool([source], tmp_path / "out", replace(options, qps=(37,)), provenance)
    tables = run_end_to_end(patches[:1], NAMES[:1], tmp_path / "out", image_options, provenance)
    names = ["rep", "post", "small", "large"]
    assert [row[0] for row in tables["table1_size"].rows] == [*(name for name in names for _ in range(2)), "paper"]
    assert "| large " in (tmp_path / "out" / "table1_size.md").read_text()


def test_names_of_networks(patches: list[NDArray[np.uint8]], provenance: Provenance, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        run_end_to_end(patches, NAMES, tmp_path, EndToEndOptions(networks=()), provenance)
    with pytest.raises(InputError, match="no such file, and no network of the zoo"):
        run_end_to_end(patches, NAMES, tmp_path, EndToEndOptions(networks=["nothing"]), provenance)


def test_the_same_autoencoder_twice_is_refused(
    patches: list[NDArray[np.uint8]], image_options: EndToEndOptions, provenance: Provenance, tmp_path: Path
) -> None:
    twice = EndToEndOptions(networks=[image_options.networks[0]] * 2)
    with pytest.raises(InputError, match="this network is given twice"):
        run_end_to_end(patches, NAMES, tmp_path, twice, provenance)


def test_large_pictures_go_through_the_network_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_units, "MAX_GROUP_PIXELS", 3 * 32 * 32)
    sizes = [(32, 32)] * 4 + [(96, 64)] * 2 + [(32, 32)]
    assert list(image_units._groups(sizes, 0)) == [(0, 3), (3, 1), (4, 1), (5, 1), (6, 1)]
    monkeypatch.setattr(image_units, "MAX_SEARCHED_PIXELS", 2 * 32 * 32)
    assert list(image_units._groups(sizes, 1)) == [(0, 2), (2, 2), (4, 1), (5, 1), (6, 1)]


def test_folders_of_experiments_that_are_no_more_are_refused(
    source: Source, options: ToolOptions, provenance: Provenance, tmp_path: Path
) -> None:
    for name in ("in_loop.tsv", "sizes_tool_by_tool.tsv"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("sequence\n")
        with pytest.raises(InputError, match=rf"{name}: results of an earlier version .* are not read"):
            run_tool_by_tool([source], folder, options, provenance)
        with pytest.raises(InputError, match="run experiment tool-by-tool or end-to-end again in another folder"):
            load(folder)
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_notebook_loads_a_folder_of_results_as_data_frames(
    source: Source,
    options: ToolOptions,
    patches: list[NDArray[np.uint8]],
    image_options: EndToEndOptions,
    provenance: Provenance,
    tmp_path: Path,
) -> None:
    run_tool_by_tool([source], tmp_path, replace(options, qps=(37,), compressions=()), provenance)
    run_end_to_end(patches[:1], NAMES[:1], tmp_path, image_options, provenance)
    found = load(str(tmp_path))
    rows = read_rows(tmp_path / "tool_by_tool.tsv", ToolRow).rows
    assert list(found.tool_by_tool["psnr_y_db"]) == [row.psnr_y_db for row in rows]
    means = found.tool_by_tool.groupby(["network", "qp"])["psnr_y_db"].mean()
    assert means["rep", 37] == next(row.psnr_y_db for row in rows if row.network == "rep")
    assert set(found.end_to_end["method"]) == {"jpeg-file", "jpeg-optimised", "jpeg-payload", "cnn-ae"}
    assert list(found.networks["network"].unique()) == ["rep", "post", "small", "large"]
    assert found.model_zoo.empty
    with pytest.raises(KeyError) as none:
        found.tables()["bd_rate"]
    assert isinstance(none.value, InputError)
    assert "no table bd_rate. No tables of BD-rates: they need 4 QPs or more, this run has 1." in str(none.value)
    assert "bd_rate" not in found.tables()
    table = found.tables()["table2_psnr"]
    assert list(table.frame["Network"])[-1] == "paper"
    assert table.frame["CNN-All [dB]"].iloc[-2] == table.rows[-2][6]
    with pytest.raises(InputError, match="no such folder"):
        load(tmp_path / "none")
