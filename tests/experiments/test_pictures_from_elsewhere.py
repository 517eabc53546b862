"""The commands score and filter over pictures of other codecs, and what the document of them shows, as it stands."""

from __future__ import annotations

import doctest
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.report.sections import read_sections
from vvc_nnr.experiments.tables.stored import read_tools
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_ms_ssim, frame_psnr_db, frame_ssim, mean_scores, score_sequence
from vvc_nnr.sequences.source import open_source
from vvc_nnr.sequences.y4m import Y4mWriter
from vvc_nnr.sequences.yuv import YuvWriter, qps_from_name

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "pictures-from-elsewhere.md"
QPS = (22, 27, 32, 37)


def coarser(frame: Frame, qp: int) -> Frame:
    """The picture at 10 bit with steps that grow with the QP, as a codec would leave it."""
    step = round(2 ** ((qp - 4) / 6))
    planes = tuple((p.astype(np.uint16) * 4 // step * step + step // 2).clip(0, 1023) for p in frame.planes)
    return Frame(tuple(p.astype(np.uint16) for p in planes), 10, frame.chroma_format)


def write(path: Path, frames: list[Frame]) -> Path:
    kind = YuvWriter if path.suffix == ".yuv" else Y4mWriter
    with kind(path, frames[0].format(30)) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def elsewhere(frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the document's commands are typed in."""
    monkeypatch.chdir(tmp_path)
    for name in ("dec", "orig", "log"):
        (tmp_path / name).mkdir()
    write(tmp_path / "pass.y4m", frames)
    write(tmp_path / "orig" / "pass_96x64_8bit.yuv", frames)
    for qp in QPS:
        decoded = [coarser(frame, qp) for frame in frames]
        for name in (f"pass_{qp}.y4m", f"pass_qp{qp}.y4m"):
            write(tmp_path / name, decoded)
        (tmp_path / "dec" / f"pass_qp{qp}.yuv").write_bytes(b"".join(frame.tobytes() for frame in decoded))
        lines = [
            f"POC {i:4d} TId: 0 ( I-SLICE, nQP {qp} QP {qp} ) {90_000 >> (qp // 5):10d} bits [Y 1 dB" for i in (0, 1)
        ]
        (tmp_path / "log" / f"pass_qp{qp}.log").write_text("HM software: Encoder Version [16.20]\n" + "\n".join(lines))
    (tmp_path / "manifest.tsv").write_text(blocks("tsv")[0])
    return tmp_path


def test_the_document_can_be_typed_in(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        raw = ["--size", "96x64", "--bit-depth", "10", "--original-bit-depth", "8"] if "{" in command else []
        assert main([*shlex.split(command)[1:], *raw]) == 0, command
        out, err = capsys.readouterr()
        assert err == ""
        assert ("\nbefore " in out) == ("filter" in command.split())
    (section,) = read_sections(elsewhere / "named")
    assert "VVC intra" not in section.lead
    notes = " ".join(read_tools(elsewhere / "named").tables()["bd_rate"].notes)
    assert "codec by its logs: HM 16.20" in notes
    assert "Taken as all intra, not checked where no log names slices" in notes
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks("python")), {}, "doc", str(DOCUMENT), 0)
    assert doctest.DocTestRunner().run(examples)[0] == 0


def test_inter_pictures_are_not_taken_as_all_intra(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks would be told the row's QP for each of them; the page would call them intra pictures."""
    for qp in QPS:
        path = elsewhere / "log" / f"pass_qp{qp}.log"
        head, first, second = path.read_text().splitlines()
        inter = second.replace("I-SLICE", "B-SLICE").replace(f"QP {qp} ", f"QP {qp + 3} ")
        path.write_text("\n".join((head, first, inter)))
    command = "experiment tool-by-tool --decoded dec/pass_qp{qp}.yuv --originals orig/pass_96x64_8bit.yuv"
    command = command.replace("pass_qp", "{sequence}_qp").replace("orig/pass_", "orig/{sequence}_")
    words = [*command.split(), "--logs", "log/{sequence}_qp{qp}.log", "--networks", "inloop-vlop"]
    words += ["--size", "96x64", "--bit-depth", "10", "--original-bit-depth", "8", "--out", "inter"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "log/pass_qp22.log: 1 of 2 pictures have P or B slices, as picture 1, and config ai is all intra" in said
    assert "--config ra" in said
    assert not Path("inter").exists()
    assert main([*words, "--config", "ldb"]) == 0
    (section,) = read_sections(elsewhere / "inter")
    assert "pictures that were decoded elsewhere" in section.lead


def test_scores_are_those_of_the_metrics(
    elsewhere: Path, frames: list[Frame], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "pass.y4m", "pass_22.y4m", "pass_37.y4m", "--json", "--per-picture"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["file"] for each in found["decoded"]] == ["pass_22.y4m", "pass_37.y4m"]
    for qp, data in zip((22, 37), found["decoded"], strict=True):
        pairs = [(frame.to_bit_depth(10), coarser(frame, qp)) for frame in frames]
        psnr = [frame_psnr_db(*pair) for pair in pairs]
        assert [each["psnr_y_db"] for each in data["pictures"]] == [each.y for each in psnr]
        assert data["psnr_cr_db"] == pytest.approx(sum(each.cr or 0 for each in psnr) / 2)
        assert data["ssim_cb"] == pytest.approx(sum(frame_ssim(*pair).cb or 0 for pair in pairs) / 2)
        assert (data["ms_ssim_y"], data["n_pictures"]) == (frame_ms_ssim(*pairs[0])[0], 2)
    assert main(["score", "pass.y4m", "pass.y4m", "--psnr-peak", "full"]) == 0
    out = capsys.readouterr().out
    assert "inf" in out
    assert "PSNR peak: 2**bit_depth - 1" in out


def test_means_know_what_is_not_there(elsewhere: Path, frames: list[Frame]) -> None:
    grey = write(elsewhere / "grey.y4m", [Frame(frame.planes[:1], 8, "400") for frame in frames])
    scores = mean_scores(list(score_sequence(open_source(grey), open_source(elsewhere / "pass_37.y4m"))))
    whole = mean_scores(list(score_sequence(open_source("pass.y4m"), open_source(elsewhere / "pass_37.y4m"))))
    assert (scores.psnr_db.y, scores.psnr_db.cb, scores.ssim[2]) == (whole.psnr_db.y, None, None)
    assert scores.yuv_psnr_db == scores.psnr_db.y


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pass.y4m"], "there is nothing to hold against it"),
        (["pass.y4m", "short.y4m"], "short.y4m: holds fewer pictures than pass.y4m"),
        (["short.y4m", "pass_37.y4m"], "pass_37.y4m: holds more pictures than short.y4m"),
        (["pass.y4m", "small.y4m"], "small.y4m picture 0: 48x32, and the original is 96x64"),
        (["pass_37.y4m", "pass.y4m"], "pass.y4m picture 0: 8 bit, and the original has 10 bit"),
        (["pass.y4m", "none.y4m"], "none.y4m: no such file"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    words: list[str], said: str, elsewhere: Path, frames: list[Frame], capsys: pytest.CaptureFixture[str]
) -> None:
    write(elsewhere / "short.y4m", frames[:1])
    write(elsewhere / "small.y4m", [frame.cropped(48, 32) for frame in frames])
    assert main(["score", *words]) == 2
    assert said in capsys.readouterr().err


def test_many_files_are_filtered_as_each_alone(
    elsewhere: Path, networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(networks / "post.safetensors")]
    many = ["filter", "pass_qp22.y4m", "dec/pass_qp37.yuv", *model, "--size", "96x64", "--bit-depth", "10"]
    assert main([*many, "--out-dir", "made/here", "--json", "--original", "pass.y4m"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [(each["output"], each["qp"]) for each in files] == [
        ("made/here/pass_qp22.y4m", 22),
        ("made/here/pass_qp37.yuv", 37),
    ]
    assert main(["score", "pass.y4m", "made/here/pass_qp22.y4m", "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)["decoded"]
    assert files[0]["after"] == {name: value for name, value in score.items() if name in files[0]["after"]}
    assert files[0]["before"]["psnr_y_db"] > files[1]["before"]["psnr_y_db"]
    assert main(["filter", "pass_qp22.y4m", *model, "--qp", "22", "-o", "alone.y4m"]) == 0
    assert main([*many, "-o", "a.y4m", "-o", "b.yuv"]) == 0
    assert Path("alone.y4m").read_bytes() == Path("made/here/pass_qp22.y4m").read_bytes() == Path("a.y4m").read_bytes()
    assert Path("b.yuv").read_bytes() == Path("made/here/pass_qp37.yuv").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pass_22.y4m", "-o", "o.y4m"], "pass_22.y4m: its name says no QP"),
        (["pass_qp22.y4m"], "missing: --output/-o, or --out-dir"),
        (["--qp", "32", "-o", "o.y4m"], "missing: INPUT"),
        (["pass_qp22.y4m", "pass_qp27.y4m", "-o", "o.y4m"], "1 for 2 inputs"),
        (["pass_qp22.y4m", "-o", "o.y4m", "--out-dir", "o"], "contradict each other"),
        (["pass_qp22.y4m", "pass_qp27.y4m", "--out-dir", "o", "--decisions", "pass.y4m"], "are for one input, got 2"),
        (["pass_qp22.y4m", "--out-dir", "."], "is the input itself"),
        (["pass_qp22.y4m", "pass_qp22.y4m", "--out-dir", "o"], "two outputs would go there"),
        (["pass_qp22.y4m", "none_qp22.y4m", "--out-dir", "o"], "none_qp22.y4m: no such file"),
        (["pass_qp22.y4m", "-o", "o.y4m", "--original", "short.y4m"], "short.y4m: holds fewer pictures"),
        (["pass_qp22.y4m", "-o", "o.y4m", "--original", "small.y4m"], "pass_qp22.y4m: 96x64, and the original is"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_and_nothing_is_written(
    words: list[str],
    said: str,
    elsewhere: Path,
    frames: list[Frame],
    networks: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(elsewhere / "short.y4m", frames[:1])
    write(elsewhere / "small.y4m", [frame.cropped(48, 32) for frame in frames])
    assert main(["filter", *words, "--model", str(networks / "post.safetensors")]) == 2
    assert said in capsys.readouterr().err
    assert not (elsewhere / "o.y4m").exists()
    assert not list(elsewhere.glob("o/*"))


def test_a_stream_whose_filters_or_qp_do_not_fit_the_network_is_warned_of(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for loop_filters in ("all", "none"):
        assert (
            main(["encode", "pass.y4m", "--qp", "40", "-o", f"{loop_filters}.266", "--loop-filters", loop_filters]) == 0
        )
    capsys.readouterr()
    for stream, model, said in (
        ("all", "inloop-vlop", ""),
        ("none", "inloop-vlop", "inloop-vlop goes after the in-loop filters, and the stream has none on"),
        (
            "all",
            "inloop-lop-replacement",
            "takes the place of all in-loop filters, and the stream has deblocking, SAO, ALF",
        ),
        ("none", "inloop-replacement", ""),
    ):
        assert main(["filter", f"{stream}.266", "--model", model, "--qp", "40", "-o", "o.y4m"]) == 0
        out = capsys.readouterr().out
        assert (said in out, "warning" in out) == (True, bool(said))
    for qp, is_warned in (("36", False), ("27", True)):
        assert main(["filter", "all.266", "--model", "inloop-vlop", "--qp", qp, "-o", "o.y4m", "--json"]) == 0
        said = f"its first picture was coded with QP 40, and the network is given QP {qp}"
        assert json.loads(capsys.readouterr().out).get("warnings", []) == ([said] if is_warned else [])


def test_qps_of_names() -> None:
    for name, qps in (
        ("BasketballPass_416x240_qp32.yuv", (32,)),
        ("x-QP37-rec.y4m", (37,)),
        ("qp_22.yuv", (22,)),
        ("x_qp22_qp27.yuv", (22, 27)),
        ("eqp22.yuv", ()),
        ("x_qp100.yuv", ()),
        ("x_50fps.yuv", ()),
        ("x_qp37.5.yuv", (37.5,)),
        ("x_qp37.10bit.yuv", (37,)),
        ("x_qp37.266", (37,)),
    ):
        assert qps_from_name(name) == qps
