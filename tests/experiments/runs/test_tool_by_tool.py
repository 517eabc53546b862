"""Tiny real runs of the experiment with decisions: what is measured, what a viewer gets, how a cut-off run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.provenance import Provenance, gather_provenance
from vvc_nnr.experiments.records.rows import NetworkRow, ToolRow
from vvc_nnr.experiments.records.tsv import read_rows
from vvc_nnr.experiments.runs import tool_units
from vvc_nnr.experiments.runs.decoded_pictures import CodedHere
from vvc_nnr.experiments.runs.tool_by_tool import run_tool_by_tool
from vvc_nnr.experiments.runs.tool_options import WAYS_OF, ToolOptions
from vvc_nnr.experiments.tables.stored import TOOL_FILES, read_tools
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.filters.decisions.block_decisions import apply_decisions, correction_by
from vvc_nnr.filters.decisions.coding import encode_decisions
from vvc_nnr.filters.decisions.search import decide, with_wiener_filters
from vvc_nnr.filters.inference.runner import Runner, filter_frame
from vvc_nnr.filters.zoo import load_inloop_filter
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import frame_to_rgb, rgb_to_frame
from vvc_nnr.sequences.metrics import frame_ms_ssim, frame_psnr_db, frame_ssim
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.y4m import Y4mWriter

pytestmark = pytest.mark.usefixtures("torch_alone")


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return gather_provenance(["vvc-nnr", "test"])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests here: encodings are not what they are about."""
    return tmp_path_factory.mktemp("encodings")


@pytest.fixture
def source(y4m: Path) -> Source:
    return open_source(y4m)


@pytest.fixture
def options(networks: Path) -> ToolOptions:
    return ToolOptions(
        qps=(32, 37), networks=[str(networks / "post.safetensors")], compressions=(), decisions="wiener", n_threads=1
    )


def test_notes_name_vtm_and_its_configuration_and_no_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, config = tmp_path / "EncoderApp", tmp_path / "encoder_intra_vtm.cfg"
    for path in (program, config):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    decoded = CodedHere(ToolOptions(encoder="vtm", encoder_config=[config]), tmp_path / "cache")
    said = f"{decoded.loop_filters}. {decoded.encoder}"
    assert ". vtm (EncoderApp " in said
    assert ", encoder_intra_vtm.cfg " in said
    assert "LMCS in 'all filters' alone" in said
    assert "preset" not in said
    assert "preset faster" in CodedHere(ToolOptions(), tmp_path / "cache").encoder


def test_rows_are_of_the_pictures_that_the_codec_and_the_network_make(
    source: Source, options: ToolOptions, provenance: Provenance, cache: Path, tmp_path: Path, frames: list[Frame]
) -> None:
    tables = run_tool_by_tool([source], tmp_path, options, provenance, cache=cache)
    every = read_rows(tmp_path / "tool_by_tool.tsv", ToolRow).rows
    assert len(every) == 2 * 2 * (2 + 4)
    rows = {(r.picture, r.qp, r.way): r for r in every if r.loop_filters == "all"}
    assert len(rows) == 2 * 2 * 4
    coded = VvcEncoder(VvcOptions(37, n_threads=1), cache).encode(frames, source.format.fps)
    network, original = load_inloop_filter(options.networks[0]), frames[1].to_bit_depth(10)
    decoded = list(decode_vvc(coded.stream))[1]
    correction = correction_by(Runner(network, backend="torch"), decoded, 37)
    decisions = decide(original, decoded, correction, 37)
    with_wieners = with_wiener_filters(decisions, original, decoded, correction, 37)
    pictures = {
        "codec": decoded,
        "full": filter_frame(network, decoded, 37),
        "decisions": apply_decisions(decoded, correction, decisions),
        "wiener": apply_decisions(decoded, correction, with_wieners),
    }
    for way, picture in pictures.items():
        row, psnr, ssim = rows[1, 37, way], frame_psnr_db(original, picture), frame_ssim(original, picture)
        assert (row.ssim_y, row.ssim_cb, row.ssim_cr) == (ssim.y, ssim.cb, ssim.cr)
        assert (row.psnr_y_db, row.psnr_cb_db, row.psnr_cr_db) == (psnr.y, psnr.cb, psnr.cr)
        assert row.n_bits == coded.pictures[1].n_bits
    assert rows[1, 37, "decisions"].n_decision_bits == 8 * len(encode_decisions(decisions))
    assert rows[1, 37, "wiener"].n_decision_bits == 8 * len(encode_decisions(with_wieners))
    assert rows[1, 37, "decisions"].psnr_y_db >= rows[1, 37, "codec"].psnr_y_db
    for row in rows.values():
        anchor = rows[row.picture, row.qp, "codec"]
        assert row.encode_s is not None
        assert anchor.encode_s is not None
        assert (row.decode_s > anchor.decode_s) == (row.encode_s > anchor.encode_s) == (row is not anchor)
    written = {path.name for path in tmp_path.iterdir()}
    assert {f"{name}{suffix}" for name in tables for suffix in (".md", ".csv", ".tex")} <= written
    assert tables.keys() - {"table1_size"} <= set(TOOL_FILES.results)


def test_wiener_filters_are_counted_and_shown(
    options: ToolOptions, provenance: Provenance, cache: Path, tmp_path: Path
) -> None:
    """A picture large enough for a filter to pay."""
    picture = rgb_to_frame(np.ascontiguousarray(skimage.data.astronaut()[:256, :256]))
    with Y4mWriter(tmp_path / "large.y4m", picture.format(30)) as writer:
        writer.write(picture)
    one_qp = replace(options, qps=(27,))
    run_tool_by_tool([open_source(tmp_path / "large.y4m")], tmp_path / "out", one_qp, provenance, cache=cache)
    rows = {row.way: row for row in read_tools(tmp_path / "out").rows if row.loop_filters == "all"}
    assert rows["wiener"].n_decision_bits > rows["decisions"].n_decision_bits
    assert rows["wiener"].psnr_y_db > rows["decisions"].psnr_y_db
    (entry,) = json.loads((tmp_path / "out" / "pictures" / "index.json").read_text())
    assert entry["psnr_y_db"]["filtered"] == rows["wiener"].psnr_y_db
    coded = VvcEncoder(VvcOptions(27, n_threads=1), cache).encode([picture], picture.format(30).fps)
    (decoded,) = decode_vvc(coded.stream)
    original = picture.to_bit_depth(10)
    correction = correction_by(Runner(load_inloop_filter(one_qp.networks[0]), backend="torch"), decoded, 27)
    decisions = decide(original, decoded, correction, 27)
    decisions = with_wiener_filters(decisions, original, decoded, correction, 27)
    filtered = apply_decisions(decoded, correction, decisions)
    with Image.open(tmp_path / "out" / "pictures" / entry["files"]["filtered"]) as image:
        np.testing.assert_array_equal(np.asarray(image), frame_to_rgb(filtered))
    row = rows["wiener"]
    assert (row.ms_ssim_y, row.ms_ssim_cb, row.ms_ssim_cr) == frame_ms_ssim(original, filtered)
    assert row.ms_ssim_y is not None
    assert row.ms_ssim_cb is None
    settings = json.loads((tmp_path / "out" / "tool_by_tool.json").read_text())
    del settings["settings"]["decisions_version"]
    (tmp_path / "out" / "tool_by_tool.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="decisions_version not noted there, 2 now"):
        run_tool_by_tool([open_source(tmp_path / "large.y4m")], tmp_path / "out", one_qp, provenance, cache=cache)


def test_the_viewer_gets_what_was_measured(
    source: Source, options: ToolOptions, provenance: Provenance, cache: Path, tmp_path: Path, frames: list[Frame]
) -> None:
    run_tool_by_tool([source], tmp_path, replace(options, qps=(37,), viewer_picture=1), provenance, cache=cache)
    entries = json.loads((tmp_path / "pictures" / "index.json").read_text())
    assert [{key: value for key, value in entry.items() if key not in ("files", "psnr_y_db")} for entry in entries] == [
        {"sequence": "in", "qp": 37, "network": "post", "picture": 1, "width": 96, "height": 64}
    ]
    pictures = {}
    for kind, name in entries[0]["files"].items():
        with Image.open(tmp_path / "pictures" / name) as image:
            assert (image.format, image.mode) == ("WEBP", "RGB")
            pictures[kind] = np.asarray(image)
    assert list(pictures) == ["original", "decoded", "filtered"]
    np.testing.assert_array_equal(pictures["original"], frame_to_rgb(frames[1].to_bit_depth(10)))
    assert not np.array_equal(pictures["decoded"], pictures["original"])
    every = read_rows(tmp_path / "tool_by_tool.tsv", ToolRow).rows
    rows = {r.way: r for r in every if r.picture == 1 and r.loop_filters == "all"}
    assert entries[0]["psnr_y_db"] == {"decoded": rows["codec"].psnr_y_db, "filtered": rows["wiener"].psnr_y_db}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {*entries[0]["files"].values(), "index.json"}


def test_a_cut_off_run_goes_on_and_a_finished_one_measures_nothing(
    source: Source,
    options: ToolOptions,
    provenance: Provenance,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = {"n": 0, "cut at": -1}

    def counted(*arguments: object, **named: object) -> object:
        if calls["n"] == calls["cut at"]:
            raise KeyboardInterrupt
        calls["n"] += 1
        return correction_by(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(tool_units, "correction_by", counted)

    def run() -> dict[str, Table]:
        return run_tool_by_tool([source], tmp_path, options, provenance, cache=cache)

    calls["cut at"] = 3
    with pytest.raises(KeyboardInterrupt):
        run()
    calls["cut at"] = -1
    tables = run()
    assert calls["n"] == 4 + 2  # each run makes its network ready for the size before it takes times
    assert run() == tables
    assert calls["n"] == 6
    keys = [row.key for row in read_rows(tmp_path / "tool_by_tool.tsv", ToolRow).rows]
    assert len(keys) == len(set(keys)) == 2 * 2 * (2 + 4)
    for lost in ("wiener", "original"):
        next((tmp_path / "pictures").glob(f"*{lost}*")).unlink()
        n_files = len(list((tmp_path / "pictures").iterdir()))
        assert run() == tables
        assert len(list((tmp_path / "pictures").iterdir())) == n_files + 1
    assert calls["n"] == 6 + 1 + 2  # a network is made ready, and filters both pictures of the unit
    assert [row.key for row in read_rows(tmp_path / "tool_by_tool.tsv", ToolRow).rows] == keys


def test_networks_may_be_added_changed_and_moved_in_one_folder(
    source: Source,
    options: ToolOptions,
    provenance: Provenance,
    cache: Path,
    networks: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one_qp = replace(options, qps=(37,), max_pictures=1)

    def shown(**changes: object) -> list[tuple[str, str, str]]:
        run_tool_by_tool([source], tmp_path / "out", replace(one_qp, **changes), provenance, cache=cache)  # type: ignore[arg-type]
        return [(row.loop_filters, row.way, row.network) for row in read_tools(tmp_path / "out").rows]

    anchors = [(filters, "codec", "") for filters in ("all", "deblock-sao", "none")]
    post = [("all", way, "post") for way in WAYS_OF["wiener"]]
    assert shown() == [anchors[0], *post, *anchors[1:]]
    moved = shown(replacements=["post"])
    assert moved == [*anchors, *(("none", way, "post") for way in WAYS_OF["wiener"])]
    assert not list((tmp_path / "out" / "pictures").glob("*deblock-sao*"))
    other = tmp_path / "post.safetensors"
    other.write_bytes((networks / "rep.safetensors").read_bytes())
    shas = {network.network_sha256 for network in read_tools(tmp_path / "out").networks}
    assert not caplog.records
    changed = shown(networks=[str(other)])
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "post: the folder has rows of another network of this name (see network_sha256), which the tables leave out"
    ]
    assert [each for each in changed if each[2]] == post
    networks_now = read_rows(tmp_path / "out" / "tool_by_tool_networks.tsv", NetworkRow).rows
    assert not shas & {network.network_sha256 for network in networks_now}
    assert {row.network_sha256 for row in read_tools(tmp_path / "out").rows if row.network} != shas


def test_other_conditions_and_damaged_settings_are_refused(
    source: Source, options: ToolOptions, provenance: Provenance, cache: Path, tmp_path: Path
) -> None:
    one = replace(options, qps=(37,), max_pictures=1)
    run_tool_by_tool([source], tmp_path, one, provenance, cache=cache)
    with pytest.raises(InputError, match=r"holds results of other settings.*preset 'faster' there, 'fast' now"):
        run_tool_by_tool([source], tmp_path, replace(one, preset="fast"), provenance, cache=cache)
    with pytest.raises(InputError, match="must be at least 0"):
        replace(one, viewer_picture=-1)
    path = tmp_path / "tool_by_tool.json"
    settings = json.loads(path.read_text())
    for key, value, message in (
        ("qps", 3, r"qps 3"),
        ("interpolation", "line", r"interpolation 'line'"),
        ("ways", ["all"], r"ways \['all'\]"),
    ):
        path.write_text(json.dumps(settings | {"settings": settings["settings"] | {key: value}}))
        with pytest.raises(InputError, match=message):
            read_tools(tmp_path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"tool_by_tool\.json: no settings of a run"):
        read_tools(tmp_path)


def test_a_grey_sequence_is_decided_and_scored_in_luma(
    options: ToolOptions, provenance: Provenance, cache: Path, frames: list[Frame], tmp_path: Path
) -> None:
    grey = Frame(frames[0].planes[:1], 8, "400")
    with Y4mWriter(tmp_path / "grey.y4m", grey.format(30)) as writer:
        writer.write(grey)
    source = open_source(tmp_path / "grey.y4m")
    run_tool_by_tool([source], tmp_path / "out", replace(options, qps=(37,)), provenance, cache=cache)
    rows = {row.way: row for row in read_tools(tmp_path / "out").rows if row.loop_filters == "all"}
    assert {(row.psnr_cb_db, row.psnr_cr_db) for row in rows.values()} == {(None, None)}
    assert rows["wiener"].psnr_y_db >= rows["decisions"].psnr_y_db >= rows["codec"].psnr_y_db
