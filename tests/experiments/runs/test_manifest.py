"""Pictures decoded elsewhere give what those coded here do; a manifest with a fault is refused before anything runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.provenance import Provenance, gather_provenance
from vvc_nnr.experiments.report.write import write_report
from vvc_nnr.experiments.runs.decoded_pictures import LOOP_FILTER_SETS, DecodedPicture
from vvc_nnr.experiments.runs.manifest import ListedPictures, RawFormat, matched_rows, read_manifest
from vvc_nnr.experiments.runs.tool_by_tool import run_tool_by_tool
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.tables.bd_rate import Point, bd_rate_percent
from vvc_nnr.experiments.tables.means import Variant
from vvc_nnr.experiments.tables.stored import read_tools
from vvc_nnr.experiments.tables.table import Cell, Table
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.images import rgb_to_frame
from vvc_nnr.sequences.source import Source, open_source, open_writer

pytestmark = pytest.mark.usefixtures("torch_alone")

QPS = (22, 27, 32, 37)
HEAD = "sequence\tqp\toriginal\tdecoded\tbits\tloop_filters"
_NOT_KNOWN = ("encode_s", "decode_s", "slice_type", "temporal_layer", "slice_qp")
"""Of pictures that were decoded elsewhere."""
VTM = shutil.which("EncoderAppStatic") or shutil.which("EncoderApp")
VTM_CONFIG = Path(VTM or "none").resolve().parents[1] / "cfg" / "encoder_intra_vtm.cfg" if VTM else Path("none")


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return gather_provenance(["vvc-nnr", "test"])


def write(path: Path, frames: Sequence[Frame]) -> Path:
    with open_writer(path, frames[0].format(Fraction(25))) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an original, its decoded pictures at four QPs with each filter set, and a manifest `all.tsv`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rgb = skimage.data.astronaut()
    pictures = [rgb_to_frame(np.ascontiguousarray(rgb[top : top + 48, 180:244])) for top in (20, 90)]
    source = open_source(write(folder / "in.y4m", pictures))
    lines = [HEAD]
    for qp in QPS:
        for loop_filters in LOOP_FILTER_SETS:
            options = VvcOptions(qp, loop_filters=loop_filters, n_threads=1)
            coded = VvcEncoder(options, folder / "cache").encode(source.frames(), source.format.fps)
            name = f"in_{loop_filters}_qp{qp}.y4m"
            write(folder / name, list(decode_vvc(coded.stream)))
            bits = ",".join(str(picture.n_bits) for picture in coded.pictures)
            lines.append(f"in\t{qp}\tin.y4m\t{name}\t{bits}\t{loop_filters}")
    (folder / "all.tsv").write_text("\n".join(lines) + "\n")
    return folder


def lines_of(elsewhere: Path, *parts: str) -> list[str]:
    """The lines of the manifest that have all of these texts."""
    return [
        line for line in (elsewhere / "all.tsv").read_text().splitlines()[1:] if all(part in line for part in parts)
    ]


def listed(elsewhere: Path, lines: Sequence[str], head: str = HEAD, max_pictures: int | None = None) -> ListedPictures:
    path = elsewhere / "some.tsv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return ListedPictures(read_manifest(path), path.name, max_pictures)


def test_all_rows_and_tables_are_those_of_the_run_that_coded_the_pictures(
    elsewhere: Path, networks: Path, provenance: Provenance, tmp_path: Path
) -> None:
    names = [str(networks / "rep.safetensors"), str(networks / "post.safetensors")]
    options = ToolOptions(
        qps=QPS, networks=names, replacements=names[:1], compressions=ToolOptions().compressions[:1],
        decisions="wiener", n_threads=1,
    )  # fmt: skip
    own = run_tool_by_tool(
        [open_source(elsewhere / "in.y4m")], tmp_path / "own", options, provenance, cache=elsewhere / "cache"
    )
    pictures = listed(elsewhere, lines_of(elsewhere))
    given = run_tool_by_tool(pictures.sources, tmp_path / "given", options, provenance, decoded=pictures)
    own_rows, given_rows = ({row.key: asdict(row) for row in read_tools(tmp_path / n).rows} for n in ("own", "given"))
    assert len(own_rows) == 2 * len(QPS) * (3 + 2 * 2 * 3)
    assert all(row["encode_s"] is None and row["decode_s"] is None for row in given_rows.values())
    for row in (*own_rows.values(), *given_rows.values()):
        for name in _NOT_KNOWN:
            del row[name]
    assert given_rows == own_rows
    assert given.keys() == own.keys()
    assert "bd_rate" in own
    for name, table in own.items():
        assert _without_times(table) == _without_times(given[name]), name
    jvet = []
    for name in ("own", "given"):
        stored = read_tools(tmp_path / name)
        tables = stored.jvet_tables(stored.results(), stored.savings(stored.results()))
        jvet.append([_without_times(table) for table in tables.values()])
    assert jvet[0] == jvet[1]
    assert len(jvet[0]) > 8
    notes = " ".join(given["bd_rate"].notes)
    assert "decoded elsewhere, not here; the codec is not known" in notes
    assert "as given (the column bits; not counted here)" in notes
    write_report(tmp_path / "given", tmp_path / "report.html")
    assert "decoded elsewhere" in (tmp_path / "report.html").read_text()


def _without_times(table: Table) -> list[dict[str, Cell]]:
    """The rows by the titles of their columns, without those of times."""
    titles = [column.title for column in table.columns]
    rows = [dict(zip(titles, row, strict=True)) for row in table.rows]
    return [{title: cell for title, cell in row.items() if not title.startswith(("EncT", "DecT"))} for row in rows]


@pytest.mark.parametrize(("kept", "network"), [("none", "rep"), ("all", "post")])
def test_an_absent_filter_set_leaves_out_comparisons_and_says_so(
    kept: str, network: str, elsewhere: Path, networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = elsewhere / "one.tsv"
    path.write_text("\n".join([HEAD, *lines_of(elsewhere, f"\t{kept}")]) + "\n")
    given = networks / f"{network}.safetensors"
    words = ["experiment", "tool-by-tool", "--decoded", path, "--out", tmp_path / "out", "--networks", given]
    words += ["--compress", "none", "--threads", "1", "--report", tmp_path / "report.html"]
    words += ["--replacement", given] if network == "rep" else []
    assert main([str(word) for word in words]) == 0
    out = capsys.readouterr().out
    assert "comparisons with them are left out" in out
    assert f"| {network} " in out
    rows = read_tools(tmp_path / "out").tables()["bd_rate"].rows
    assert {row[3] for row in rows} == {"no filter" if kept == "none" else "all filters"}
    if kept == "none":
        words[words.index("--replacement") :] = []
        assert main([str(word) for word in words]) == 2
        assert "list those too, or name other networks" in capsys.readouterr().err


def replaced(column: int, text: str) -> Callable[[list[str]], list[str]]:
    """Another cell in the second line."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[1].split("\t")
        cells[column] = text
        return [lines[0], "\t".join(cells), *lines[2:]]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced(0, ""), "line 3, column sequence: is empty"),
        (replaced(1, "64"), "line 3, column qp: '64'"),
        (replaced(1, "22"), "line 3, column decoded: in at QP 22 with loop_filters all is at"),
        (replaced(2, "other.y4m"), "line 3, column original: "),
        (replaced(3, "no.y4m"), "line 3, column decoded: "),
        (replaced(3, "in_all_qp22.y4m"), "line 3, column decoded: "),
        (replaced(4, ""), "line 3, columns bits, stream, log: are all empty"),
        (replaced(4, "-5"), "line 3, column bits: '-5'"),
        (replaced(4, "0"), "line 3, column bits: no bits"),
        (replaced(4, "5,6,7"), "line 3, column bits: bits of 3 pictures"),
        (replaced(5, "alf"), "line 3, column loop_filters: 'alf'"),
        (replaced(3, "small.y4m"), "line 3, column decoded: 96x64, and the original is 64x48"),
        (replaced(3, "short.y4m"), "line 3, column decoded: "),
        (replaced(3, "shallow.y4m"), "line 3, column decoded: 8 bit, and at"),
        (lambda lines: [*lines[:1], lines[1] + "\t1", *lines[2:]], "line 3: 7 cells, must be 6"),
        (replaced(0, '"in'), 'has no row of QP'),
        (lambda lines: [], "has column names and no line below"),
    ],
)  # fmt: skip
def test_a_fault_is_refused_with_its_row_and_field(
    change: Callable[[list[str]], list[str]], said: str, elsewhere: Path, frames: list[Frame]
) -> None:
    write(elsewhere / "small.y4m", [frame.to_bit_depth(10) for frame in frames])
    original = list(open_source(elsewhere / "in.y4m").frames())
    write(elsewhere / "short.y4m", [original[0].to_bit_depth(10)])
    write(elsewhere / "shallow.y4m", original)
    lines = lines_of(elsewhere, "\tall")
    with pytest.raises(InputError) as caught:
        listed(elsewhere, change(lines))
    assert said in str(caught.value)
    assert "some.tsv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gap_is_refused(elsewhere: Path) -> None:
    lines = [line for line in lines_of(elsewhere) if "_none_qp27" not in line]
    with pytest.raises(InputError, match=r"some\.tsv: in has no row of QP 27 with loop_filters none, and others have"):
        listed(elsewhere, lines)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("sequence\tqp\toriginal\tdecoded\tloop_filters", "column bits is missing"),
        ("sequence\tqp\toriginal\tdecoded\tbits\tfilter", "column 'filter' is not known"),
        ("sequence\tqp\toriginal\tdecoded\tbits\tqp", "column qp is there twice"),
        ("sequence,qp,original,decoded,bits", "one column"),
        ("qp\toriginal\tdecoded\tbits", "column sequence is missing"),
    ],
)
def test_column_names_are_checked(head: str, said: str, elsewhere: Path) -> None:
    with pytest.raises(InputError, match=said):
        listed(elsewhere, [], head)


def pictures_of(found: ListedPictures, source: Source, qp: int) -> Iterator[DecodedPicture]:
    """All decoded pictures of a row of intra pictures with all filters."""
    reader = found.maker(source, qp, ("ai", "all"))
    return reader.pictures(0, len(reader.bits), 1)


def test_bits_of_a_whole_sequence_are_dealt_out_and_not_cut(elsewhere: Path) -> None:
    line = lines_of(elsewhere, "qp22", "\tall")[0].split("\t")
    line[4] = "1001"
    found = listed(elsewhere, ["\t".join(line)])
    assert [each.n_bits for each in pictures_of(found, found.sources[0], 22)] == [501, 500]
    assert "in equal shares" in found.rate
    with pytest.raises(InputError, match="bits of all 2 pictures, of which --pictures takes 1"):
        listed(elsewhere, ["\t".join(line)], max_pictures=1)
    line[4] = "600,401"
    found = listed(elsewhere, ["\t".join(line)], max_pictures=1)
    assert [each.n_bits for each in pictures_of(found, found.sources[0], 22)] == [600]


def test_a_folder_holds_results_of_these_pictures_and_bits_alone(
    elsewhere: Path, networks: Path, provenance: Provenance, tmp_path: Path
) -> None:
    options = ToolOptions(qps=(22,), networks=[str(networks / "post.safetensors")], compressions=(), n_threads=1)

    def run(line: str, folder: Path = tmp_path) -> None:
        pictures = listed(elsewhere, [line])
        run_tool_by_tool(pictures.sources, folder, options, provenance, decoded=pictures)

    line = lines_of(elsewhere, "qp22", "\tall")[0]
    run(line)
    rows = (tmp_path / "tool_by_tool.tsv").read_bytes()
    run(line)
    for other in (line.replace("qp22", "qp27"), line.replace(line.split("\t")[4], "1,2")):
        with pytest.raises(
            InputError, match="holds results of other pictures called in, QP 22, loop_filters all, decoded"
        ):
            run(other)
    own = [open_source(elsewhere / "in.y4m")]
    with pytest.raises(InputError, match="encoder_identity 'none, pictures decoded elsewhere' there"):
        run_tool_by_tool(own, tmp_path, options, provenance, cache=elsewhere / "cache")
    assert (tmp_path / "tool_by_tool.tsv").read_bytes() == rows
    assert json.loads((tmp_path / "tool_by_tool.json").read_text())["settings"]["manifest"] == "some.tsv"


def test_patterns_of_names_list_the_same_as_a_manifest(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("dec", "orig", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(elsewhere / "in.y4m", tmp_path / "orig" / "in.y4m")
    for qp in (22, 27):
        frames = list(open_source(elsewhere / f"in_all_qp{qp}.y4m").frames())
        write(tmp_path / "dec" / f"in_qp{qp}.yuv", frames)
        (tmp_path / "bin" / f"in-{qp}.bin").write_bytes(b"x" * qp)
    monkeypatch.chdir(tmp_path)
    raw = RawFormat(size=(64, 48), bit_depth=10)
    rows = matched_rows("dec/{sequence}_qp{qp}.yuv", "orig/{sequence}.*", "bin/{sequence}-{qp}.bin", "", raw)
    found = ListedPictures(rows, "dec")
    assert (found.qps, found.codings) == ((22, 27), (("ai", "all"),))
    assert [each.n_bits for each in pictures_of(found, found.sources[0], 27)] == [108, 108]
    for originals, streams, said in (
        ("orig/{sequence}.yuv", "bin/{sequence}-{qp}.bin", "originals orig/in.yuv is no file"),
        ("orig/{sequence}.y4m", "bin/*", "is 2 files"),
        ("orig/{sequence}.y4m", "", "bits must come from streams or from logs"),
        ("", "bin/*", "originals has none"),
        ("orig/{name}.y4m", "bin/*", "{name} does not stand"),
    ):
        with pytest.raises(InputError, match=said):
            matched_rows("dec/{sequence}_qp{qp}.yuv", originals, streams, "", raw)
    with pytest.raises(InputError, match="no file has such a name"):
        matched_rows("none/{sequence}_qp{qp}.yuv", "orig/{sequence}.y4m", "bin/*", "", raw)


def test_raw_formats_are_columns(elsewhere: Path) -> None:
    pictures = list(open_source(elsewhere / "in_all_qp22.y4m").frames())
    for name, depth in (("decoded.yuv", 10), ("original.yuv", 8)):
        with open_writer(elsewhere / name, VideoFormat(64, 48, depth)) as writer:
            for picture in pictures:
                writer.write(picture.to_bit_depth(depth))
    head = f"{HEAD}\tsize\tbit_depth\toriginal_bit_depth\tfps\tclass"
    found = listed(elsewhere, ["x\t22\toriginal.yuv\tdecoded.yuv\t7,9\tall\t64x48\t10\t8\t50\tB"], head)
    source = found.sources[0]
    assert (source.name, source.ctc_class, source.format.fps, source.format.bit_depth) == ("x", "B", 50, 8)
    assert next(pictures_of(found, source, 22)).frame.bit_depth == 10
    lines = [
        f"x\t{qp}\toriginal.yuv\t{name}\t7,9\tall\t64x48\t10\t8\t{fps}\tB"
        for qp, name, fps in ((22, "decoded.yuv", 50), (27, "other.yuv", 60))
    ]
    with pytest.raises(InputError, match=r"line 3, column fps: 60 for x, and at .* line 2 it is 50"):
        listed(elsewhere, lines, head)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "slow"], "--preset: does not go with --decoded"),
        (["--qps", "22"], "--qps: does not go with --decoded"),
        (["--sequences", "x"], "--sequences: does not go with --decoded"),
        (["--size", "64x48"], "are columns of the manifest"),
        (["--logs", "x"], "--logs: goes beside --decoded with a pattern"),
        (["--originals", ""], "--originals: is empty"),
    ],
)
def test_options_that_say_nothing_here_are_refused(
    words: list[str], said: str, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["experiment", "tool-by-tool", "--decoded", str(elsewhere / "all.tsv"), "--out", str(tmp_path), *words])
    assert (code, said in capsys.readouterr().err) == (2, True)


@pytest.mark.skipif(not VTM_CONFIG.is_file(), reason="VTM is not on the PATH with its source tree around it")
def test_bd_rates_are_those_of_vtms_own_log(elsewhere: Path, networks: Path, provenance: Provenance) -> None:
    """Bits and PSNR of the codec's rows are what VTM prints of its own pictures, and so are the BD-rates."""
    assert VTM is not None
    printed: dict[str, list[Point]] = {}
    lines = []
    for loop_filters, switched in (("all", 1), ("none", 0)):
        for qp in QPS:
            name = f"vtm_{loop_filters}_{qp}"
            command = f"-wdt 64 -hgt 48 -fr 25 -f 2 -q {qp} -i decoded8.yuv -b {name}.266 -o {name}.yuv"
            command += " --TemporalSubsampleRatio=1 --InputBitDepth=8 --InternalBitDepth=10 --OutputBitDepth=10"
            command += f" --SAO={switched} --ALF={switched} --CCALF={switched} --DeblockingFilterDisable={1 - switched}"
            (elsewhere / "decoded8.yuv").write_bytes(
                b"".join(frame.tobytes() for frame in open_source(elsewhere / "in.y4m").frames())
            )
            done = subprocess.run(
                [VTM, "-c", str(VTM_CONFIG), *command.split()],
                cwd=elsewhere,
                capture_output=True,
                text=True,
                check=True,
            )
            (elsewhere / f"{name}.log").write_text(done.stdout)
            pictures = re.findall(r"POC .* ([0-9]+) bits \[Y ([0-9.]+) dB", done.stdout)
            kbit, psnr_db = (sum(map(float, column)) / 2 for column in zip(*pictures, strict=True))
            printed.setdefault(loop_filters, []).append((kbit / 1000, psnr_db))
            lines.append(f"x\t{qp}\tin.y4m\t{name}.yuv\t{name}.log\t{loop_filters}\t64x48\t10")
    head = "sequence\tqp\toriginal\tdecoded\tlog\tloop_filters\tsize\tbit_depth"
    pictures = listed(elsewhere, lines, head)
    options = ToolOptions(qps=QPS, networks=[str(networks / "post.safetensors")], compressions=(), n_threads=1)
    tables = run_tool_by_tool(pictures.sources, elsewhere / "vtm", options, provenance, decoded=pictures)
    assert "codec by its logs: VTM " in " ".join(tables["bd_rate"].notes)
    results = read_tools(elsewhere / "vtm").results()
    for loop_filters in ("all", "none"):
        ours = results.curve(("x",), Variant(loop_filters), "y")
        assert [rate for rate, _ in ours] == pytest.approx([rate for rate, _ in printed[loop_filters]], rel=1e-12)
        assert [score for _, score in ours] == pytest.approx([score for _, score in printed[loop_filters]], abs=1e-4)
    theirs = bd_rate_percent(printed["all"], printed["none"], "pchip").value_percent
    assert tables["bd_rate"].rows[0][5] == pytest.approx(theirs, abs=0.01)
