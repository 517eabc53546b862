"""What makes a run the same run, what a refused one leaves alone, and what an unfinished one says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import vvc_nnr
from vvc_nnr import files as temporary
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.provenance import Conventions, Provenance, gather_provenance
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow
from vvc_nnr.experiments.records.settings import (
    Plan,
    RunFiles,
    RunIdentity,
    copies_text,
    files_digest,
    picture_digests,
    progress,
    read_last_run,
    run_remarks,
    source_digests,
    tell_copies,
)
from vvc_nnr.experiments.records.tsv import RowWriter, read_rows
from vvc_nnr.experiments.report.write import ReportFormat, write_report
from vvc_nnr.experiments.runs.run_folder import RESULT_SUFFIXES, open_run, write_results
from vvc_nnr.experiments.runs.tool_by_tool import _tell_fewer
from vvc_nnr.experiments.tables.stored import IMAGE_FILES, IMAGE_NETWORKS, TOOL_FILES, ZOO_FILES
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.folder_lock import LOCK, locked_folder
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import open_source
from vvc_nnr.sequences.y4m import Y4mWriter

FILES = RunFiles("rows.tsv", "rows.json")
PLAN = Plan({"images": ("a", "b"), "networks": ("net",)}, 4)
IDENTITY = RunIdentity({"bits": 8, "qps": (22,)}, ("qps",), {"a": ("1",), "b": ("2", "3")})
A, B = (ImageRow(name, "cnn-ae", "net", "original", "ab", 10, 1.0, 30.0, 0.5, None) for name in "ab")


@pytest.fixture(scope="module")
def provenance() -> Provenance:
    return gather_provenance(["vvc-nnr", "test"])


@pytest.fixture
def run(tmp_path: Path, provenance: Provenance) -> Callable[..., None]:
    def run(identity: RunIdentity = IDENTITY, rows: tuple[ImageRow, ...] = (), *, end: bool = True) -> None:
        conventions = Conventions().to_header()
        with open_run(tmp_path / "out", FILES, ImageRow, identity, PLAN, provenance, conventions) as opened:
            opened.writer.append(rows)
            if end:
                opened.measured(read_rows(tmp_path / "out" / FILES.rows, ImageRow).rows).end()

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tampered(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (replace(IDENTITY, settings={"bits": 6, "qps": (22,)}), "other settings.*bits 8 there, 6 now"),
        (replace(IDENTITY, settings={"bits": 8, "qps": (37,), "new": 1}), "new not noted there, 1 now"),
        (replace(IDENTITY, inputs={"a": ("9",)}), "other pictures called a; choose"),
        (replace(IDENTITY, inputs={"b": ("2", "9")}), "other pictures called b, picture 1 differs"),
        (replace(IDENTITY, inputs={"b": ("2",)}), "called b, it had 2 pictures and has 1 now"),
        (replace(IDENTITY, inputs={"b": ("2",)}, max_pictures=5), "called b, it had 2 pictures and has 1 now"),
    ],
)
def test_a_refused_run_changes_nothing(
    run: Callable[..., None], tmp_path: Path, identity: RunIdentity, said: str
) -> None:
    run(rows=(A,), end=False)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=said):
        run(identity)
    assert contents(tmp_path / "out") == before
    run(rows=(B,))


@pytest.mark.parametrize(
    "identity",
    [
        replace(IDENTITY, inputs={"b": ("2",)}, max_pictures=1),
        replace(IDENTITY, inputs={"b": ("2", "3", "4"), "c": ("5",)}),
        replace(IDENTITY, settings={"bits": 8, "qps": (37,)}),
    ],
)
def test_more_and_less_of_the_same_goes_on(run: Callable[..., None], tmp_path: Path, identity: RunIdentity) -> None:
    run()
    run(identity)
    run(identity)
    noted = json.loads((tmp_path / "out" / FILES.settings).read_text())["inputs"]
    assert noted["a"] == ["1"]
    assert noted["b"][:2] == ["2", "3"]
    assert len(noted["b"]) == max(2, len(identity.inputs["b"]))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (FILES.rows, "# version: ", "# version: 9", "under version '9"),
        (FILES.rows, "\t30.0\t", "\tnan\t", r"column 8 \(psnr_db\)"),
        (FILES.settings, '"1"', "1", "no digest of every picture of a"),
        (FILES.settings, "{", "[", "no settings of a run"),
    ],
)
def test_a_folder_that_cannot_go_on_stays_as_it_is(
    run: Callable[..., None], tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    run(rows=(A,))
    tampered(tmp_path / "out" / file, old, new)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=said):
        run(replace(IDENTITY, settings={"bits": 8, "qps": (37,)}))
    assert contents(tmp_path / "out") == before


def test_rows_without_their_settings_and_folders_of_an_older_version(run: Callable[..., None], tmp_path: Path) -> None:
    run(rows=(A,))
    path = tmp_path / "out" / FILES.settings
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"inputs": {"a": "1"}}))
    with pytest.raises(InputError, match=r"no digest of every picture of a \(the run of an older version\)"):
        run()
    path.unlink()
    with pytest.raises(InputError, match=r"rows\.tsv: rows\.json with its settings is missing"):
        run()


@pytest.mark.parametrize("files", [TOOL_FILES, IMAGE_FILES, ZOO_FILES], ids=lambda files: files.rows)
def test_tables_of_an_earlier_end_do_not_stay_beside_the_rows_of_an_unfinished_run(
    tmp_path: Path, provenance: Provenance, files: RunFiles
) -> None:
    names = [name.replace("*", "d") for name in files.results]
    assert names
    own = tmp_path / "out" / "notes.md"
    own.parent.mkdir()
    own.write_text("of the user")
    plots: dict[str, Figure] = {name: Figure() for name in names}
    conventions = Conventions().to_header()
    for end in (True, False):
        with open_run(tmp_path / "out", files, ImageRow, IDENTITY, PLAN, provenance, conventions) as opened:
            if end:
                write_results(tmp_path / "out", dict.fromkeys(names, Table("A title", (), ())), plots)
                written = {path.name for path in (tmp_path / "out").iterdir()}
                assert {name + suffix for name in names for suffix in RESULT_SUFFIXES} <= written
                opened.measured([]).end()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {own.name, files.rows, files.settings}
    assert own.read_text() == "of the user"


def test_a_refused_run_leaves_the_tables(run: Callable[..., None], tmp_path: Path, provenance: Provenance) -> None:
    files = replace(FILES, results=("table",))
    table = tmp_path / "out" / "table.md"
    run()
    table.write_text("a table")
    other = replace(IDENTITY, inputs={"a": ("9",)})
    with (
        pytest.raises(InputError, match="other pictures called a"),
        open_run(table.parent, files, ImageRow, other, PLAN, provenance, Conventions().to_header()),
    ):
        pass
    assert table.read_text() == "a table"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no JSON: Expecting value"),
        ("null", "an entry has another form than this program writes"),
        ("[]", "an entry has another form than this program writes"),
        ('{"settings": 3}', "an entry has another form than this program writes"),
        ("{}", "'settings' is missing"),
    ],
)
def test_what_is_wrong_with_settings_is_said_in_words(
    run: Callable[..., None], tmp_path: Path, text: str, fault: str
) -> None:
    run(rows=(A,))
    path = tmp_path / "out" / FILES.settings
    path.write_text(text)
    for read in (run, lambda: read_last_run(path)):
        with pytest.raises(InputError, match=f": {fault}.*another folder") as caught:
            read()
        assert "Error(" not in str(caught.value)


def test_one_run_at_a_time(run: Callable[..., None], tmp_path: Path, provenance: Provenance) -> None:
    with open_run(tmp_path / "out", FILES, ImageRow, IDENTITY, PLAN, provenance, Conventions().to_header()) as opened:
        before = contents(tmp_path / "out")
        with pytest.raises(InputError, match="another run is writing it"):
            run(replace(IDENTITY, settings={"bits": 8, "qps": (37,)}))
        assert contents(tmp_path / "out") == before
        opened.measured([]).end()
    assert sorted(contents(tmp_path / "out")) == [FILES.settings, FILES.rows]
    assert LOCK not in contents(tmp_path / "out")


def test_unfinished_files_of_a_killed_run_go(run: Callable[..., None], tmp_path: Path) -> None:
    run()
    before = sorted(contents(tmp_path / "out"))
    path, number = temporary.open_temporary_file(tmp_path / "out" / "table.md")
    os.close(number)  # the process has died
    assert path.exists()
    temporary.remove_leftovers.cache_clear()  # and this is another
    run()
    assert sorted(contents(tmp_path / "out")) == before


def test_digests_follow_every_picture_and_its_format(tmp_path: Path) -> None:
    def clip(name: str, *values: int, size: tuple[int, int] = (32, 64)) -> tuple[str, ...]:
        planes = lambda value: tuple(np.full((size[0] // n, size[1] // n), value, np.uint8) for n in (1, 2, 2))  # noqa: E731
        pictures = [Frame(planes(value), 8, "420") for value in values]
        with Y4mWriter(tmp_path / "clip.y4m", pictures[0].format(30)) as writer:
            for picture in pictures:
                writer.write(picture)
        return source_digests([open_source(tmp_path / "clip.y4m")])["clip"]

    first = clip("clip", 1, 2, 3)
    assert len(set(first)) == 3
    assert clip("clip", 1, 2, 3, 4)[:3] == first
    assert clip("clip", 1, 2, 9)[:2] == first[:2]
    assert clip("clip", 1, 2, 9)[2] != first[2]
    assert set(clip("clip", 1, 2, 3, size=(64, 32))).isdisjoint(first)
    source = open_source(tmp_path / "clip.y4m")
    assert source_digests([source], 2)["clip"] == source_digests([source])["clip"][:2]


def test_digests_of_images_and_files(tmp_path: Path) -> None:
    picture = np.arange(32 * 16 * 3, dtype=np.uint8).reshape(32, 16, 3)
    assert picture_digests([picture], "a") != picture_digests([picture.reshape(16, 32, 3)], "a")
    for name in "ab":
        (tmp_path / name).write_text("x")
    assert len({files_digest([tmp_path / name]) for name in "ab"}) == 2
    assert files_digest([]) != files_digest([tmp_path / "a"])


COMMANDS = {
    "tool-by-tool": ("experiment", "tool-by-tool", "--sequences", "{data}/0.png", "--qps", "37"),
    "end-to-end": ("experiment", "end-to-end", "--images", "{data}", "--networks", "autoencoder-1.8bpp"),
    "model-zoo": ("experiment", "model-zoo", "--row", "inloop-postfilter"),
    "inloop": ("train", "inloop", "--data", "{data}"),
    "autoencoder": ("train", "autoencoder", "--data", "{data}"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_one_lock_for_all_commands_that_fill_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "data").mkdir()
    for i in range(2):
        Image.fromarray(np.full((64, 64, 3), 50 * i, np.uint8)).save(tmp_path / "data" / f"{i}.png")
    words = [word.format(data=tmp_path / "data") for word in COMMANDS[name]]
    with locked_folder(tmp_path / "out"):
        before = contents(tmp_path / "out")
        assert main([*words, "--out", str(tmp_path / "out")]) == 2
        assert contents(tmp_path / "out") == before
    assert f"out: another run is writing it (process {os.getpid()} on " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- what is there


def test_progress_counts_what_is_there() -> None:
    found = progress(PLAN, [A, A], has_ended=True)
    assert found.text() == "Unfinished: 1 of 2 images, 1 of 1 networks, 1 of 4 results. Absent: images: b."
    done = progress(replace(PLAN, n_results=2), [A, B], has_ended=True)
    assert (done.is_finished, done.text()[:9]) == (True, "Finished:")
    cut = progress(replace(PLAN, n_results=None), [A, B], has_ended=False)
    assert not cut.is_finished
    assert "2 of 2 images, 1 of 1 networks, 2 results. The run has not come to its end" in cut.text()
    measured = progress(replace(PLAN, n_results=2), [A, B], has_ended=False)
    assert measured.text().startswith("All is measured: 2 of 2 images, 1 of 1 networks, 2 of 2 results. Tables")
    empty = progress(PLAN, [], has_ended=False)
    assert "0 of 2 images, 0 of 1 networks, 0 of 4 results. Absent: images: a, b; networks: net." in empty.text()


def test_a_network_whose_rate_is_an_estimate_is_there() -> None:
    estimated = [replace(row, method="cnn-ae-estimate") for row in (A, B)]
    done = progress(replace(PLAN, n_results=2), estimated, has_ended=True)
    assert done.text() == "Finished: 2 of 2 images, 1 of 1 networks, 2 of 2 results."


def test_a_run_that_ends_between_its_rows_and_its_plots(
    tmp_path: Path, provenance: Provenance, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a full disk: nothing is absent but tables and plots. What has no row in the tables is said."""
    identity = RunIdentity({}, (), {"a": ("1",), "b": ("2",)})
    opening = (IMAGE_FILES, ImageRow, identity, PLAN, provenance, Conventions().to_header())
    with open_run(tmp_path / "out", *opening) as opened:
        opened.writer.append([A, B])
        opened.measured([A, B])
    assert caplog.text == ""
    run = read_last_run(tmp_path / "out" / IMAGE_FILES.settings)
    (said,) = run_remarks(run.plan, [A, B], {"version": vvc_nnr.__version__}, has_ended=run.has_ended)
    assert said.startswith("All is measured: 2 of 2 images")
    with open_run(tmp_path / "out", *opening) as opened:
        opened.measured([A]).end()
    assert "out: not all is in the tables. Unfinished: 1 of 2 images" in caplog.text
    assert "Absent: images: b." in caplog.text


def test_remarks_of_other_versions_and_older_folders() -> None:
    plan = replace(PLAN, n_results=2)
    ours = {"version": vvc_nnr.__version__}
    assert run_remarks(plan, [A, B], ours, has_ended=True) == ()
    (said,) = run_remarks(plan, [A, B], {"version": "99.1"}, has_ended=True)
    assert said == f"These results are of version 99.1 of vvc_nnr, this is version {vvc_nnr.__version__}."
    (said,) = run_remarks(None, [A], ours, has_ended=False)
    assert "does not say what was planned" in said


def text_of(path: Path) -> str:
    if path.suffix != ".xlsx":
        return path.read_text().replace("\\_", "_")
    import zipfile

    with zipfile.ZipFile(path) as book:
        return book.read("xl/sharedStrings.xml").decode()


@pytest.mark.parametrize("format", get_args(ReportFormat))
def test_every_format_of_a_report_says_that_a_run_is_unfinished(
    tmp_path: Path, provenance: Provenance, format: str
) -> None:
    identity = RunIdentity({}, (), {"a": ("1",), "b": ("2",)})
    conventions = Conventions().to_header()
    with open_run(tmp_path / "out", IMAGE_FILES, ImageRow, identity, PLAN, provenance, conventions) as opened:
        opened.writer.append([A])
    with RowWriter(tmp_path / "out" / IMAGE_NETWORKS, NetworkRow, conventions) as networks:
        networks.append([NetworkRow("net", "original", "ab", "codec", "float32", 40, 40, 10, None)])
    tampered(tmp_path / "out" / IMAGE_FILES.rows, "# version: ", "# version: 9")
    suffix = {"markdown": "md", "latex": "tex"}.get(format, format)
    written = write_report(tmp_path / "out", tmp_path / f"r.{suffix}")
    text = text_of(written.path)
    assert "Unfinished: 1 of 2 images, 1 of 1 networks, 1 of 4 results." in text
    assert f"version 9{vvc_nnr.__version__}" in text
    assert any("Unfinished: 1 of 2 images" in remark for remark in written.remarks)
    assert not read_last_run(tmp_path / "out" / IMAGE_FILES.settings).has_ended


def test_a_picture_that_is_read_has_its_own_digest(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    before = source_digests([source])
    assert source_digests([open_source(tmp_path / "a.png", bit_depth=10)]) != before
    assert source_digests([source]) == before


def test_copies_among_the_pictures_are_told(
    run: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start, and at the head of the report."""
    inputs = {"a": ("1", "2"), "b": ("1", "2"), "c": ("1",), "d": ("3",), "e": ("3",)}
    assert copies_text(inputs) == "The same pictures count more than once: a = b, d = e."
    assert copies_text({name: inputs[name] for name in "acd"}) == ""
    assert copies_text(dict.fromkeys("abcdef", ("1",))).endswith(": a = b = c = d = e = ....")
    tell_copies(inputs)
    assert caplog.messages == [copies_text(inputs)]
    run(replace(IDENTITY, inputs=inputs), (A, B))
    assert read_last_run(tmp_path / "out" / FILES.settings).copies == "The same pictures count more than once: a = b."


def test_sequences_of_fewer_pictures_than_asked_for_are_named(caplog: pytest.LogCaptureFixture) -> None:
    _tell_fewer({"a": 4, "b": 9}, 4)
    _tell_fewer({"a": 4}, None)
    assert caplog.text == ""
    _tell_fewer({"a": 4, "b": 9, **{f"x{i}": 1 for i in range(6)}}, 5)
    assert "5 pictures of each sequence asked for: a has 4, x0 has 1, x1 has 1, x2 has 1, x3 has 1" in caplog.text
    assert "x3 has 1 and 2 more sequences have fewer" in caplog.text
