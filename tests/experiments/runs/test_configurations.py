"""Random access and low delay in the tool-by-tool experiment: what networks are told, what is refused, resumption."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vvc_nnr.codec import configuration
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.nal import INTRA_TYPES
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.slice_qp import output_qps
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.compress import compress
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records import unit_rows
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.records.rows import ToolRow
from vvc_nnr.experiments.records.tsv import read_rows
from vvc_nnr.experiments.runs.manifest import ListedPictures, read_manifest
from vvc_nnr.experiments.runs.tool_by_tool import run_tool_by_tool
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.tables.stored import TOOL_FILES, read_tools
from vvc_nnr.filters.decisions import sequence
from vvc_nnr.filters.decisions.sequence_file import DecisionReader, parse_sequence
from vvc_nnr.filters.in_stream import qps_of_pictures, strength_qps
from vvc_nnr.filters.inference.runner import Runner, filter_frame
from vvc_nnr.filters.networks.in_loop import LadderFilter
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, parse_rule
from vvc_nnr.filters.zoo import load_filter, load_inloop_filter, network_metadata
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.y4m import Y4mWriter

pytestmark = pytest.mark.usefixtures("torch_alone")

N_PICTURES = 6
PROVENANCE = gather_provenance(["vvc-nnr", "test"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encodings")


@pytest.fixture
def moving() -> list[Frame]:
    rng = np.random.default_rng(5)
    wide = (np.add.outer(np.arange(48), np.arange(64 + 3 * N_PICTURES)) + rng.integers(0, 24, (48, 82))).astype(
        np.uint8
    )
    grey = np.full((24, 32), 128, np.uint8)
    return [Frame((wide[:, 3 * i : 3 * i + 64], grey, grey), 8, "420") for i in range(N_PICTURES)]


@pytest.fixture
def clip(moving: list[Frame], tmp_path: Path) -> Source:
    with Y4mWriter(tmp_path / "clip.y4m", moving[0].format(Fraction(25))) as writer:
        for frame in moving:
            writer.write(frame)
    return open_source(tmp_path / "clip.y4m")


@pytest.fixture
def options(networks: Path) -> ToolOptions:
    post = str(networks / "post.safetensors")
    return ToolOptions(qps=(37,), configs=("ra",), networks=[post], compressions=(), n_threads=1)


def timeless(path: Path) -> list[dict[str, object]]:
    times = {"encode_s", "decode_s"}
    return [{k: v for k, v in asdict(row).items() if k not in times} for row in read_rows(path, ToolRow).rows]


def test_networks_are_told_the_qp_of_each_picture(
    clip: Source, moving: list[Frame], options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    tables = run_tool_by_tool([clip], tmp_path / "out", replace(options, decisions="on"), PROVENANCE, cache=cache)
    rows = read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows
    assert {(row.config, row.loop_filters) for row in rows} == {("ra", "all")}
    assert len(rows) == 3 * N_PICTURES
    coded = VvcEncoder(VvcOptions(37, n_threads=1, config="ra"), cache).encode(moving, Fraction(25))
    told = strength_qps(read_vvc_stream(coded.stream))
    decoded = list(decode_vvc(coded.stream))
    assert coded.cached
    network = load_inloop_filter(options.networks[0])
    for picture, each in enumerate(coded.pictures):
        anchor, full, _ = (row for row in rows if row.picture == picture)
        assert (anchor.n_bits, anchor.slice_qp, anchor.network_qp) == (each.n_bits, each.qp, None)
        assert (full.slice_type, full.temporal_layer) == (each.slice_type, each.temporal_layer)
        assert full.network_qp == told[picture]
        filtered = filter_frame(network, decoded[picture], told[picture])
        psnr = frame_psnr_db(moving[picture].to_bit_depth(10), filtered)
        assert (full.psnr_y_db, full.psnr_cb_db, full.psnr_cr_db) == (psnr.y, psnr.cb, psnr.cr)
    assert len({row.slice_qp for row in rows}) > 2
    assert {row.network_qp for row in rows} != {row.slice_qp for row in rows}
    assert sum(row.n_bits for row in rows if row.way == "codec") == coded.n_bits
    assert {"table1_size", "gain_per_layer_ra", "table2_psnr_ra"} <= tables.keys()
    assert not {"gain_per_layer", "table2_psnr"} & tables.keys()
    layers = {cells[4] for cells in tables["gain_per_layer_ra"].rows}
    assert layers == {"intra", *(str(each.temporal_layer) for each in coded.pictures if each.slice_type != "I")}
    assert (tmp_path / "out" / "gain_per_layer_ra.svg").exists()
    notes = " ".join(tables["table2_psnr_ra"].notes)
    assert "Random access, libvvenc in ffmpeg" in notes
    assert "QP that networks are told" in notes
    settings = json.loads((tmp_path / "out" / "tool_by_tool.json").read_text())
    assert settings["settings"]["configs"] == ["ra"]
    assert settings["planned"]["axes"]["configurations"] == ["random access"]


def test_decisions_are_worth_their_bits_at_the_qp_of_their_picture(
    clip: Source, options: ToolOptions, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    decide = sequence.decide
    monkeypatch.setattr(sequence, "decide", lambda *given: asked.append(given[3]) or decide(*given))
    run_tool_by_tool([clip], tmp_path / "out", replace(options, decisions="on"), PROVENANCE, cache=cache)
    rows = read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows
    assert asked == [row.slice_qp for row in rows if row.way == "codec"]


def test_the_command_filter_weighs_bits_so_too(
    clip: Source, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    decide = sequence.decide
    monkeypatch.setattr(sequence, "decide", lambda *given: asked.append(given[3]) or decide(*given))
    stream = tmp_path / "clip.266"
    assert main(["encode", str(clip.path), "--qp", "37", "--config", "ra", "-o", str(stream)]) == 0
    words = ["filter", str(stream), "--model", str(networks / "post.safetensors"), "-o", str(tmp_path / "out.y4m")]
    assert main([*words, "--original", str(clip.path), "--decisions-out", str(tmp_path / "out.dec")]) == 0
    known = read_vvc_stream(stream)
    assert tuple(asked) == output_qps(known) != tuple(strength_qps(known))


@pytest.mark.parametrize("candidates", ["", "slice,first-4,base,+5"])
def test_the_command_filter_decides_as_the_experiment_does(candidates: str, tmp_path: Path) -> None:
    """The same pictures and bits for the same stream, whatever the temporal layer, decoded again from those bits."""
    rng = np.random.default_rng(7)
    wide = np.add.outer(np.arange(48), np.arange(64 + 3 * 16)) + rng.integers(0, 24, (48, 112))
    chroma = (np.add.outer(np.arange(24), np.arange(32)) + rng.integers(0, 24, (24, 32)) + 60).astype(np.uint8)
    clip, stream, network = tmp_path / "clip.y4m", tmp_path / "clip.266", "inloop-vlop"
    frames = [Frame((wide[:, 3 * i : 3 * i + 64].astype(np.uint8), chroma, chroma), 8, "420") for i in range(17)]
    with Y4mWriter(clip, frames[0].format(Fraction(25))) as writer:
        for frame in frames:
            writer.write(frame)
    assert main(["encode", str(clip), "--qp", "22", "--config", "ra", "-o", str(stream)]) == 0
    out, again, decided = (tmp_path / name for name in ("out.y4m", "again.y4m", "out.dec"))
    asked = ["--qp-candidates", candidates] if candidates else []
    told = ["--qp-candidates", candidates.replace("base", "22")] if candidates else []  # which headers do not say
    words = ["filter", str(stream), "--model", network, "-o", str(out), "--original", str(clip)]
    assert main([*words, "--decisions-out", str(decided), *told]) == 0
    assert main(["filter", str(stream), "--model", network, "-o", str(again), "--decisions", str(decided)]) == 0
    assert again.read_bytes() == out.read_bytes()
    carrying = tmp_path / "self.266"
    words = ["sei", "insert", str(stream), "--network", network, "--decisions", str(decided), "-o", str(carrying)]
    assert main(words) == 0
    assert main(["filter", str(carrying), "-o", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()
    known = read_vvc_stream(stream)
    assert len(set(output_qps(known))) > 2
    words = ["experiment", "tool-by-tool", "--sequences", str(clip), "--config", "ra", "--qps", "22", *asked]
    words += ["--decisions", "wiener", "--networks", network, "--compress", "none", "--out", str(tmp_path / "results")]
    assert main(words) == 0
    rows = read_tools(tmp_path / "results").rows
    assert tuple(row.slice_qp for row in rows if row.way == "codec") == output_qps(known)
    found = parse_sequence(decided.read_bytes())
    wiener = [row for row in rows if row.way == "wiener"]
    assert (found.n_joint, sum(row.n_decision_bits for row in wiener)) == (17, 8 * len(found.payloads[0]))
    assert found.payloads[0]
    reader, qps = DecisionReader(found), qps_of_pictures(known)
    rules = [DEFAULT_RULE, *found.candidates]
    for row, frame, each in zip(wiener, open_source(out).frames(), qps, strict=True):
        assert row.network_qp == rules[reader.picture(frame.format(30)).qp_candidate].qp(each, DEFAULT_RULE.qp(each))
        assert row.psnr_y_db == frame_psnr_db(frames[row.picture].to_bit_depth(10), frame).y
    assert bool(candidates) == any(
        row.network_qp != full.network_qp
        for row, full in zip(wiener, (row for row in rows if row.way == "full"), strict=True)
    )


def test_a_filter_of_somebody_else_stands_in_the_same_table(
    clip: Source, options: ToolOptions, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fixed patches with a plane of the strength, told as 1 or by the QP of the slice, beside a bundled network."""
    onnx = pytest.importorskip("onnx")
    weights = np.random.default_rng(0).normal(0, 1e-4, (6, 7, 9, 9)).astype(np.float32)
    weights[range(6), range(6), 4, 4] += 1
    sides = [("input", [1, 7, 72, 72]), ("output", [1, 6, 64, 64])]
    given, returned = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in sides)
    node = onnx.helper.make_node("Conv", ["input", "weight"], ["output"])
    tensors = [onnx.numpy_helper.from_array(weights, "weight")]
    graph = onnx.helper.make_graph([node], "peer", [given], [returned], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    for name in ("strong", "by-qp"):
        onnx.save(model, tmp_path / f"{name}.onnx")
    layout = "planes=yuv420-packed,qp=plane,patch=72,overlap=4"
    words = ["experiment", "tool-by-tool", "--config", "ra", "--sequences", str(clip.path), "--qps", "37"]
    words += ["--networks", str(tmp_path / "strong.onnx"), str(tmp_path / "by-qp.onnx"), options.networks[0]]
    words += ["--layout", f"strong={layout},qp-value=1", "--layout", f"by-qp={layout},qp-scale=63,qp-rule=slice"]
    words += ["--compress", "none", "--decisions", "on", "--cache", str(cache), "--out", str(tmp_path / "out")]
    assert main([*words, "--threads", "1"]) == 0
    assert "PSNR gain per QP" in capsys.readouterr().out
    rows = read_tools(tmp_path / "out").rows
    assert {row.network for row in rows} == {"", "strong", "by-qp", "post"}
    assert {row.way for row in rows if row.network == "by-qp"} == {"full", "decisions"}
    of_slices = [(row.network_qp, row.slice_qp) for row in rows if (row.network, row.way) == ("by-qp", "full")]
    assert all(told == own for told, own in of_slices)
    assert len({told for told, _ in of_slices}) > 2
    said = {"strong": f"{layout},qp-value=1", "by-qp": f"{layout},qp-scale=63,qp-rule=slice"}
    models = {name: load_filter(tmp_path / f"{name}.onnx", layout=text).network for name, text in said.items()}
    coded = VvcEncoder(VvcOptions(37, n_threads=1, config="ra"), cache).encode(clip.frames(), clip.format.fps)
    frame = next(decode_vvc(coded.stream))
    for name, network in models.items():
        runner = Runner(network, layout=said[name])
        row = next(each for each in rows if (each.network, each.way, each.picture) == (name, "full", 0))
        scores = frame_psnr_db(next(clip.frames()).to_bit_depth(10), runner.filter_frame(frame, coded.pictures[0].qp))
        assert row.psnr_y_db == pytest.approx(scores.y, abs=1e-4)


def test_a_network_is_told_by_its_own_rule_from_within_a_stream_too(clip: Source, tmp_path: Path) -> None:
    """`sei insert` puts its file into the stream, and with it the rule."""
    torch.manual_seed(0)
    network = LadderFilter(8, 1)
    torch.nn.init.normal_(network.tail.weight)
    stream, coded, files = tmp_path / "clip.266", tmp_path / "self.266", []
    assert main(["encode", str(clip.path), "--qp", "37", "--config", "ra", "-o", str(stream)]) == 0
    for rule in ("first+3", "slice", "base"):
        network.qp_rule = parse_rule(rule)
        files.append(tmp_path / f"{rule}.nnc")
        files[-1].write_bytes(compress(network, metadata=network_metadata(network)))
    outputs = []
    for file in files[:2]:
        assert main(["sei", "insert", str(stream), "--network", str(file), "-o", str(coded)]) == 0
        assert main(["filter", str(coded), "-o", str(tmp_path / "own.y4m")]) == 0
        assert main(["filter", str(stream), "--model", str(file), "-o", str(tmp_path / "named.y4m")]) == 0
        outputs.append((tmp_path / "own.y4m").read_bytes())
        assert outputs[-1] == (tmp_path / "named.y4m").read_bytes()
    assert outputs[0] != outputs[1]
    loaded = load_inloop_filter(files[1])
    known = read_vvc_stream(stream)
    expected = Runner(loaded).filter_frames(zip(decode_vvc(known), output_qps(known), strict=True))
    assert [a.tobytes() for a in open_source(tmp_path / "own.y4m").frames()] == [b.tobytes() for b in expected]


def test_a_network_that_is_told_by_the_encoders_qp_needs_it(
    clip: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, stream = LadderFilter(8, 1), tmp_path / "clip.266"
    network.qp_rule = parse_rule("base-1")
    (tmp_path / "base.nnc").write_bytes(compress(network, metadata=network_metadata(network)))
    assert main(["encode", str(clip.path), "--qp", "37", "--config", "ra", "-o", str(stream)]) == 0
    words = ["filter", str(stream), "--model", str(tmp_path / "base.nnc"), "-o", str(tmp_path / "out.y4m")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "clip.266: QP rule base-1: the network is told by the QP that the encoder was asked for" in error
    assert main([*words, "--qp", "37", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["qp"] == 36


def test_a_sequence_whose_last_row_is_lost_is_decided_anew(
    clip: Source, options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    """Decisions of a picture follow from those before it: the row comes back as it was, and no other comes twice."""
    out, asked = tmp_path / "out", replace(options, decisions="on")
    run_tool_by_tool([clip], out, asked, PROVENANCE, cache=cache)
    rows = out / "tool_by_tool.tsv"
    before = timeless(rows)
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    run_tool_by_tool([clip], out, asked, PROVENANCE, cache=cache)
    assert timeless(rows) == before


def test_pictures_decoded_elsewhere_are_of_one_configuration(
    clip: Source, networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("sequence\tqp\toriginal\tdecoded\tbits\nclip\t30\tclip.y4m\tclip.y4m\t600\n")
    words = ["experiment", "tool-by-tool", "--decoded", str(manifest), "--out", str(tmp_path / "out"), "--compress"]
    words += ["none", "--networks", str(networks / "post.safetensors"), "--config"]
    assert main([*words, "ra,ldb"]) == 2
    assert "pictures of --decoded are of one configuration" in capsys.readouterr().err
    assert main([*words, "ra"]) == 0
    assert "Random access, as named and not checked" in capsys.readouterr().out
    assert {row.config for row in read_tools(tmp_path / "out").rows} == {"ra"}


def test_logs_say_of_inter_pictures_decoded_elsewhere_what_headers_do(
    clip: Source, options: ToolOptions, cache: Path, tmp_path: Path
) -> None:
    """With a log of each picture rows are those of the run that coded them; without, networks get the encoding's QP."""
    coded = VvcEncoder(VvcOptions(37, n_threads=1, config="ra"), cache).encode(clip.frames(), clip.format.fps)
    stream = read_vvc_stream(coded.stream)
    with Y4mWriter(clip.path.parent / "decoded.y4m", next(decode_vvc(stream)).format(Fraction(25))) as writer:
        for frame in decode_vvc(stream):
            writer.write(frame)
    types = {True: "CRA", False: "TRAIL"}
    lines = {
        unit.poc: f"POC {unit.poc} TId: {unit.temporal_layer} ( {types[unit.unit.nal_unit_type in INTRA_TYPES]}, "
        for unit in stream.pictures
    }
    of_output = {stream.pictures[i].poc: each for i, each in zip(stream.output_order, coded.pictures, strict=True)}
    texts = [
        f"{lines[unit.poc]}{of_output[unit.poc].slice_type}-SLICE, QP {of_output[unit.poc].qp} ) "
        f"{of_output[unit.poc].n_bits} bits [Y"
        for unit in stream.pictures
    ]
    (clip.path.parent / "clip.log").write_text("\n".join(texts).replace("CRA", "IDR_N_LP", 1))
    head, row = "sequence\tqp\toriginal\tdecoded\t", f"clip\t37\t{clip.path.name}\tdecoded.y4m\t"
    found = {}
    for column, cell in (("log", "clip.log"), ("bits", "9000")):
        (clip.path.parent / "m.tsv").write_text(f"{head}{column}\n{row}{cell}\n")
        listed = ListedPictures(read_manifest(clip.path.parent / "m.tsv"), "m.tsv", config="ra")
        run_tool_by_tool(listed.sources, tmp_path / column, options, PROVENANCE, decoded=listed)
        found[column] = timeless(tmp_path / column / "tool_by_tool.tsv")
    run_tool_by_tool([clip], tmp_path / "own", options, PROVENANCE, cache=cache)
    own = timeless(tmp_path / "own" / "tool_by_tool.tsv")
    assert found["log"] == own
    assert {row["slice_type"] for row in own} == {"I", "B"}
    assert {row["network_qp"] for row in found["bits"]} == {None, 37}


@pytest.mark.parametrize("names", ["ra", "ai,ldb"])
def test_networks_in_the_filters_place_are_refused(
    clip: Source, names: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["experiment", "tool-by-tool", "--sequences", str(clip.path), "--config", names, "--out", str(out)]
    assert main([*words, "--networks", "inloop-lop", "inloop-lop-replacement"]) == 2
    error = capsys.readouterr().err
    assert "inloop-lop-replacement: stands in the place of the codec's in-loop filters" in error
    assert "other pictures are predicted from what it makes" in error
    assert not out.exists()


def test_a_cut_off_run_goes_on_and_tables_are_the_same(
    clip: Source, options: ToolOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(options, qps=(32, 37))
    write, n_left = unit_rows.write_rows, [1]

    def cutting(*given: object) -> None:
        if not n_left[0]:
            raise KeyboardInterrupt
        n_left[0] -= 1
        write(*given)

    run_tool_by_tool([clip], tmp_path / "whole", options, PROVENANCE)
    with monkeypatch.context() as patched:
        patched.setattr(unit_rows, "write_rows", cutting)
        with pytest.raises(KeyboardInterrupt):
            run_tool_by_tool([clip], tmp_path / "cut", options, PROVENANCE)
    n_rows = len(timeless(tmp_path / "whole" / "tool_by_tool.tsv"))
    assert len(timeless(tmp_path / "cut" / "tool_by_tool.tsv")) == n_rows // 2
    run_tool_by_tool([clip], tmp_path / "cut", options, PROVENANCE)
    assert timeless(tmp_path / "cut" / "tool_by_tool.tsv") == timeless(tmp_path / "whole" / "tool_by_tool.tsv")
    written = {path.name for path in (tmp_path / "whole").glob("*.md")} - {"complexity_ra.md"}  # which has times
    assert "gain_per_layer_ra.md" in written
    for name in written:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_number_of_pictures_stays(clip: Source, options: ToolOptions, cache: Path, tmp_path: Path) -> None:
    """Inter pictures of a longer sequence are coded otherwise; intra pictures are not."""
    out, fewer = tmp_path / "out", replace(options, max_pictures=4)
    run_tool_by_tool([clip], out, replace(fewer, configs=("ai",)), PROVENANCE, cache=cache)
    run_tool_by_tool([clip], out, replace(fewer, configs=("ai", "ra")), PROVENANCE, cache=cache)
    with pytest.raises(InputError, match="as many pictures"):
        run_tool_by_tool([clip], out, options, PROVENANCE, cache=cache)
    run_tool_by_tool([clip], out, replace(options, configs=("ai",)), PROVENANCE, cache=cache)
    assert {(row.config, row.picture) for row in read_tools(out).rows} == {("ai", n) for n in range(N_PICTURES)}


def test_all_intra_is_the_same_beside_others(
    clip: Source, options: ToolOptions, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "PERIODS_OF_A_CHUNK", 1)
    two = replace(options, max_pictures=2, configs=("ai", "ldb"))
    run_tool_by_tool([clip], tmp_path / "alone", replace(two, configs=("ai",)), PROVENANCE, cache=cache)
    tables = run_tool_by_tool([clip], tmp_path / "both", two, PROVENANCE, cache=cache)
    assert {"table2_psnr", "table2_psnr_ldb"} <= tables.keys()
    assert {name for name in tables if not name.startswith("table1")} <= set(TOOL_FILES.results)
    for path in (tmp_path / "alone").glob("*.md"):
        if path.name != "complexity.md":
            assert path.read_bytes() == (tmp_path / "both" / path.name).read_bytes()
    index = json.loads((tmp_path / "both" / "pictures" / "index.json").read_text())
    assert {entry["sequence"] for entry in index} == {"clip", "clip, low delay B"}
    assert len({entry["files"]["filtered"] for entry in index}) == 2
    report = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "both"), "-o", str(report)]) == 0
    assert "In-loop filtering, tool by tool: low delay B" in report.read_text()


VTM = shutil.which("EncoderApp") or shutil.which("EncoderAppStatic")


@pytest.mark.programs
@pytest.mark.skipif(VTM is None, reason="no VTM encoder on the PATH")
def test_random_access_by_vtm(options: ToolOptions, tmp_path: Path) -> None:
    """33 pictures: an intra period and the intra picture behind it, as the common test conditions have it."""
    rng = np.random.default_rng(5)
    wide = (np.add.outer(np.arange(96), np.arange(160)) + rng.integers(0, 24, (96, 160))).astype(np.uint8)
    grey = np.full((48, 64), 128, np.uint8)
    with Y4mWriter(tmp_path / "clip.y4m", Frame((wide[:, :128], grey, grey), 8, "420").format(Fraction(30))) as writer:
        for i in range(33):
            writer.write(Frame((wide[:, i : i + 128], grey, grey), 8, "420"))
    files = Path(os.path.realpath(VTM or "")).parents[1] / "cfg"
    random_access = Path(f"ra={files / 'encoder_randomaccess_vtm.cfg'}")
    by_vtm = replace(options, encoder="vtm", encoder_config=[random_access], decisions="wiener")
    tables = run_tool_by_tool([open_source(tmp_path / "clip.y4m")], tmp_path / "out", by_vtm, PROVENANCE)
    rows = read_rows(tmp_path / "out" / "tool_by_tool.tsv", ToolRow).rows
    assert len(rows) == 4 * 33
    assert "".join(row.slice_type for row in rows if row.way == "codec") == "I" + "B" * 31 + "I"
    assert {row.temporal_layer for row in rows} == set(range(6))
    assert "Random access, vtm " in " ".join(tables["table2_psnr_ra"].notes)


def test_configuration_files_of_several_configurations() -> None:
    files = [Path("all.cfg"), Path("ra=random.cfg"), Path("ldb=low=delay.cfg"), Path("x=y.cfg")]
    options = ToolOptions(configs=("ra", "ldb"), encoder_config=files)
    assert options.config_files("ra") == [Path("all.cfg"), Path("random.cfg"), Path("x=y.cfg")]
    assert options.config_files("ldb") == [Path("all.cfg"), Path("low=delay.cfg"), Path("x=y.cfg")]
    for wrong in ((), ("ra", "ra"), ("rb",)):
        with pytest.raises(InputError, match="must be at least one of ai, ra, ldb, each once"):
            ToolOptions(configs=wrong)  # type: ignore[arg-type]
