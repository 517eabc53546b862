"""Every command by its own name and options, on small real inputs."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.experiments import cli_experiment, cli_tables, cli_train
from vvc_nnr.experiments.cli import build_parser, main
from vvc_nnr.experiments.cli_common import json_text
from vvc_nnr.experiments.end_to_end import EndToEndOptions
from vvc_nnr.experiments.pictures import SmallPictures
from vvc_nnr.experiments.tool_by_tool import ToolOptions
from vvc_nnr.filters.inference.runner import filter_frame
from vvc_nnr.filters.networks.in_loop import RUNGS
from vvc_nnr.filters.training.optimiser import has_muon
from vvc_nnr.filters.zoo import load_autoencoder, load_inloop_filter, load_network
from vvc_nnr.model.safetensors import read_network, write_float
from vvc_nnr.sequences import download
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.y4m import read_y4m

WIDTH, HEIGHT = 96, 64
Run = Callable[..., str]


def ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=60)


def raw(frames: list[Frame]) -> bytes:
    return b"".join(frame.tobytes() for frame in frames)


def leaf_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of all its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from leaf_parsers(child)


def test_every_help_has_an_example_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    parsers = list(leaf_parsers(build_parser()))
    assert len(parsers) == 1 + 13 + 4  # the program, its commands, and where two kinds follow
    for parser in parsers:
        with pytest.raises(SystemExit, match=r"^0$"):
            main([*parser.prog.split()[1:], "--help"])
        help_text = capsys.readouterr().out
        assert "(default: None)" not in help_text
        found = re.search(r"^example: (vvc-nnr .+)$", help_text, re.MULTILINE)
        assert found, parser.prog
        assert callable(build_parser().parse_args(shlex.split(found[1])[1:]).run)
        assert found[1].startswith(parser.prog)


def test_encode_decode_round_trip(run: Run, y4m: Path, frames: list[Frame], tmp_path: Path) -> None:
    stream, decoded = tmp_path / "out.266", tmp_path / "out.y4m"
    result = json.loads(run("encode", y4m, "--qp", "22", "-o", stream, "--json", "--threads", "1"))
    assert (result["n_pictures"], result["stream_bytes"]) == (2, stream.stat().st_size)
    assert result["n_bits"] == sum(result["picture_bits"])
    assert result["rate_kbps"] == pytest.approx(result["n_bits"] / 2 * 25 / 1000)
    text = run("decode", stream, "-o", decoded, "--fps", "25")
    assert "2 pictures, 96x64, 10 bit, 4:2:0" in text
    pictures = list(read_y4m(decoded))
    scores = [frame_psnr_db(a.to_bit_depth(10), b) for a, b in zip(frames, pictures, strict=True)]
    assert min(score.y for score in scores) > 38
    run("decode", stream, "-o", tmp_path / "out.yuv")
    assert (tmp_path / "out.yuv").read_bytes() == raw(pictures)


def test_encode_of_raw_pictures_is_that_of_y4m(run: Run, y4m: Path, frames: list[Frame], tmp_path: Path) -> None:
    """8 bit by options, 10 bit by the file's name; the codec sees the same samples."""
    (tmp_path / "in.yuv").write_bytes(raw(frames))
    ten_bit = tmp_path / "x_96x64_25fps_10bit_420.yuv"
    ten_bit.write_bytes(raw([frame.to_bit_depth(10) for frame in frames]))
    streams = []
    for source, options in ((y4m, ()), (tmp_path / "in.yuv", ("--size", "96x64", "--fps", "25")), (ten_bit, ())):
        run("encode", source, "--qp", "32", "-o", tmp_path / "out.266", "--pictures", "1", *options)
        streams.append((tmp_path / "out.266").read_bytes())
    assert streams[0] == streams[1] == streams[2]


def test_odd_sizes_are_padded_and_cropped_again(run: Run, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(rgb[:31, :33]).save(tmp_path / "in.png")
    text = run("encode", tmp_path / "in.png", "--qp", "27", "-o", tmp_path / "out.266")
    assert "decode with --size 33x31" in text
    run("decode", tmp_path / "out.266", "--size", "33x31", "-o", tmp_path / "out.y4m")
    (decoded,) = read_y4m(tmp_path / "out.y4m")
    (original,) = open_source(tmp_path / "in.png").frames()
    assert frame_psnr_db(original.to_bit_depth(10), decoded).y > 30


def test_encode_says_what_the_stream_does_not_state(run: Run, tmp_path: Path) -> None:
    words = ("encode", tmp_path / "in.y4m", "--qp", "40", "-o", tmp_path / "out.266", "--threads", "1")
    for tags, expected in (
        ("C420mpeg2 A1:1 XCOLORRANGE=LIMITED", ""),
        ("C420jpeg A4:3 XCOLORRANGE=FULL", "colour range full, chroma location center, pixel aspect 4/3"),
    ):
        header = f"YUV4MPEG2 W32 H32 F25:1 Ip {tags}\nFRAME\n"
        (tmp_path / "in.y4m").write_bytes(header.encode() + bytes(32 * 48))
        text = run(*words)
        assert text.strip().partition("; the stream does not state ")[2] == expected


@pytest.mark.parametrize(
    "tags", ["A4:3 C420jpeg XCOLORRANGE=FULL", "C420paldv XCOLORRANGE=LIMITED", "C420", "A1:1 Cmono"]
)
def test_filter_writes_what_the_header_states_and_no_more(run: Run, networks: Path, tmp_path: Path, tags: str) -> None:
    samples = bytes(32 * 32 if "mono" in tags else 32 * 48)
    (tmp_path / "in.y4m").write_bytes(f"YUV4MPEG2 W32 H32 F25:1 Ip {tags}\nFRAME\n".encode() + samples)
    run("filter", tmp_path / "in.y4m", "--model", networks / "post.safetensors", "--qp", "32", "-o", tmp_path / "o.y4m")
    header = (tmp_path / "o.y4m").read_bytes().partition(b"\n")[0].decode()
    assert header == f"YUV4MPEG2 W32 H32 F25:1 Ip {tags}"


def test_filter_gives_the_samples_of_the_library_on_another_decoders_8_bit_yuv(
    run: Run, y4m: Path, networks: Path, tmp_path: Path
) -> None:
    ffmpeg("-i", y4m, "-c:v", "libx264", "-qp", "34", tmp_path / "coded.mp4")
    ffmpeg("-i", tmp_path / "coded.mp4", "-pix_fmt", "yuv420p", "-f", "rawvideo", tmp_path / "decoded.yuv")
    samples = np.fromfile(tmp_path / "decoded.yuv", np.uint8)
    expected = library_filter(samples.reshape(2, -1), 8, networks / "post.safetensors")
    options = ("--size", "96x64", "--model", networks / "post.safetensors", "--qp", "32")
    run("filter", tmp_path / "decoded.yuv", *options, "-o", tmp_path / "out.yuv")
    assert (tmp_path / "out.yuv").read_bytes() == raw(expected)
    run("filter", tmp_path / "decoded.yuv", *options, "-o", tmp_path / "out.y4m", "--fps", "25")
    assert raw(list(read_y4m(tmp_path / "out.y4m"))) == raw(expected)
    run("filter", tmp_path / "decoded.yuv", *options, "-o", tmp_path / "tiles.yuv", "--tile", "32")
    tiled = np.fromfile(tmp_path / "tiles.yuv", np.uint8).astype(int)
    assert np.abs(tiled - np.fromfile(tmp_path / "out.yuv", np.uint8)).max() <= 1  # float rounding at ties


def test_filter_gives_the_samples_of_the_library_on_another_decoders_10_bit_yuv(
    run: Run, y4m: Path, networks: Path, tmp_path: Path
) -> None:
    run("encode", y4m, "--qp", "37", "-o", tmp_path / "a.266", "--loop-filters", "none")
    decoded = tmp_path / "decoded_96x64_25fps_10bit_420.yuv"
    ffmpeg("-f", "vvc", "-i", tmp_path / "a.266", "-pix_fmt", "yuv420p10le", "-f", "rawvideo", decoded)
    samples = np.fromfile(decoded, "<u2").reshape(2, -1)
    expected = library_filter(samples, 10, networks / "rep.safetensors")
    options = ("--model", networks / "rep.safetensors", "--qp", "37", "--backend", "torch")
    run("filter", decoded, *options, "-o", tmp_path / "out.yuv")
    assert (tmp_path / "out.yuv").read_bytes() == raw(expected)
    run("filter", tmp_path / "a.266", *options, "-o", tmp_path / "own.yuv")
    assert (tmp_path / "own.yuv").read_bytes() == raw(expected)


def library_filter(samples: NDArray[Any], bit_depth: int, network: Path) -> list[Frame]:
    """The pictures (n, samples of Y, Cb and Cr) through `filter_frame`, by no reader of this package."""
    qp = {8: 32, 10: 37}[bit_depth]
    filtered = []
    for picture in samples:
        luma, cb, cr = np.split(picture, [WIDTH * HEIGHT, WIDTH * HEIGHT * 5 // 4])
        chroma_shape = (HEIGHT // 2, WIDTH // 2)
        planes = (luma.reshape(HEIGHT, WIDTH), cb.reshape(chroma_shape), cr.reshape(chroma_shape))
        filtered.append(filter_frame(load_inloop_filter(network), Frame(planes, bit_depth, "420"), qp))
    assert (raw(filtered)) != samples.tobytes()
    return filtered


def test_compress_inspect_decompress(run: Run, networks: Path, tmp_path: Path) -> None:
    original, small, back = networks / "rep.safetensors", tmp_path / "small.safetensors", tmp_path / "back.safetensors"
    result = json.loads(run("compress", original, "--method", "uniform6", "--biases", "float", "-o", small, "--json"))
    assert result["n_bytes"] == small.stat().st_size
    assert result["float32_bytes"] == original.stat().st_size
    assert "ratio" in run("compress", original, "-o", tmp_path / "eight.safetensors")
    described = json.loads(run("inspect", small, "--json"))
    assert (described["bits"], described["biases"]) == (6, "float")
    assert {t["name"]: t["bits"] for t in described["tensors"]}["head.weight"] == 6
    assert "| head.weight " in run("inspect", small)
    run("decompress", small, "-o", back)
    tensors, quantised = read_network(back).tensors, read_network(small).tensors
    assert all(np.array_equal(tensors[name], quantised[name]) for name in quantised)


def test_bundled_networks_go_by_their_names(run: Run) -> None:
    described = json.loads(run("inspect", "inloop-postfilter", "--json"))
    assert described["metadata"]["architecture"] == "inloop-filter"


def test_json_has_no_infinity() -> None:
    data = {"a": float("inf"), "b": [float("-inf"), (1.5, float("nan"))], "c": None, "d": np.float64("inf")}
    assert json.loads(json_text(data)) == {"a": "inf", "b": ["-inf", [1.5, "nan"]], "c": None, "d": "inf"}


def test_inspect_of_odd_values_is_still_json(run: Run, tmp_path: Path) -> None:
    write_float(tmp_path / "odd.safetensors", {"w": np.array([np.nan, np.inf], np.float32)}, {})
    (tensor,) = json.loads(run("inspect", tmp_path / "odd.safetensors", "--json"))["tensors"]
    assert tensor["maximum"] in ("inf", "nan")


def test_train_both_kinds(run: Run, rgb: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.tile(np.roll(rgb, 40 * i, 1), (3, 2, 1))).save(folder / f"{i}.png")
    common = ("--data", folder, "--steps", "2", "--batch-size", "1", "--json", "--device", "cpu")
    options = ("--out", tmp_path / "filter", "--channels", "8", "--blocks", "1", "--qps", "37")
    result = json.loads(run("train", "inloop", *common, *options))
    assert result["training"]["n_steps"] == 2
    assert load_network(result["network"]).metadata["loop_filters"] == "none"
    rung = ("--out", tmp_path / "rung", "--qps", "37", "--presets", "faster,fast")
    assert result["training"]["optimiser"] == ("muon" if has_muon() else "adamw")
    result = json.loads(run("train", "inloop", *common, *rung, "--rung", "vlop", "--optimiser", "adamw"))
    assert result["training"]["optimiser"] == "adamw"
    assert load_inloop_filter(result["network"]).config == RUNGS["vlop"]
    monkeypatch.setattr(cli_train, "VALIDATION_PATCHES", 2)
    monkeypatch.setattr(cli_train.AutoencoderTask, "fit_tables", lambda self: None)  # 20,000 patches
    result = json.loads(run("train", "autoencoder", *common, "--out", tmp_path / "autoencoder", "--latents", "4"))
    assert result["validation"]["estimated_bpp"] > 0
    assert load_autoencoder(result["network"]).n_latents == 4
    assert json.loads((tmp_path / "autoencoder" / "card.json").read_text()) == result


def test_training_keeps_to_the_pictures_of_its_run(
    run: Run, rgb: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = (tmp_path / "one", tmp_path / "two")
    for folder, names in zip(folders, ("ab", "cd"), strict=True):
        folder.mkdir()
        for i, name in enumerate(names):
            Image.fromarray(np.tile(np.roll(rgb, 40 * i, 1), (3, 2, 1))).save(folder / f"{name}.png")
    out = tmp_path / "out"
    common = ("train", "inloop", "--out", out, "--steps", "1", "--batch-size", "1", "--json", "--device", "cpu")
    options = (*common, "--channels", "8", "--blocks", "1", "--qps", "37")
    card = json.loads(run(*options, "--data", folders[0]))
    assert (card["training_pictures"], card["validation_pictures"]) == (["0000_a_0000_x1"], ["0001_b_0000_x1"])

    def said(data: Path) -> str:
        assert main([str(argument) for argument in (*options, "--data", data)]) != 0
        return capsys.readouterr().err

    assert "checkpoint.pt: a checkpoint of a run on other pictures (0000_a_0000_x1 is missing)" in said(folders[1])
    assert json.loads(run(*options, "--data", folders[0]))["training_pictures"] == ["0000_a_0000_x1"]
    (out / "checkpoint.pt").unlink()
    card = json.loads(run(*options, "--data", folders[1]))
    assert (card["training_pictures"], card["validation_pictures"]) == (["0000_c_0000_x1"], ["0001_d_0000_x1"])
    (folders[1] / "c.png").write_bytes((folders[1] / "d.png").read_bytes())
    assert "checkpoint.pt: a checkpoint of a run on other pictures (0000_c_0000_x1 has changed)" in said(folders[1])
    (out / "checkpoint.pt").unlink()
    assert "holds pairs of another picture called 0000_c_0000_x1" in said(folders[1])


def test_demo_prints_the_four_tables_and_keeps_them(
    run: Run,
    networks: Path,
    y4m: Path,
    rgb: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The demo as it is, but for its pictures and networks, which take a minute."""
    tool = ToolOptions(
        qps=(32, 37),
        replacement=str(networks / "rep.safetensors"),
        postfilter=str(networks / "post.safetensors"),
        max_pictures=1,
    )
    end = EndToEndOptions(networks=[str(networks / "small.safetensors")])
    patches = SmallPictures((rgb[:32, :32], rgb[32:, 32:64]), ("a", "b"), "2 patches")
    monkeypatch.setattr(cli_experiment, "bundled_sources", lambda: [open_source(y4m)])
    monkeypatch.setattr(cli_experiment, "bundled_patches", lambda: patches)
    monkeypatch.setattr(cli_experiment, "ToolOptions", lambda: tool)
    monkeypatch.setattr(cli_experiment, "EndToEndOptions", lambda: end)
    monkeypatch.setattr(cli_experiment, "DEMO_TABLES", cli_experiment.DEMO_TABLES[:5])
    text = run("demo", "--out", tmp_path / "results")
    for title in ("Table 1", "Table 2", "Table 3", "Table 4", "PSNR gain per QP"):
        assert f"**{title}" in text
    sizes = text.partition("**Table 2")[0]
    assert all(f"| {name} " in sizes for name in ("rep", "post", "small", "paper"))
    assert text.count("Rows 'paper' quote") == text.count("PSNR peak: 255 <<") == 1
    assert {"tool_by_tool.tsv", "end_to_end.tsv", "table1_size.tex"} <= {
        p.name for p in (tmp_path / "results").iterdir()
    }
    data = json.loads(run("demo", "--out", tmp_path / "results", "--json"))
    assert [row["Network"] for row in data["tables"]["table1_size"]["rows"]] == ["post", "rep", "small", "paper"]


def test_experiments_say_what_they_run_on_by_default(
    run: Run,
    networks: Path,
    y4m: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bundled pictures are whole photographs: here smaller ones stand in for them."""
    monkeypatch.setenv("VVC_NNR_DATA", str(tmp_path / "absent"))
    sources: list[Source] = [open_source(y4m)]
    monkeypatch.setattr(cli_tables, "default_sources", lambda: sources)
    filters = ("--replacement", networks / "rep.safetensors", "--postfilter", networks / "post.safetensors")
    options = ("--out", tmp_path / "out", "--qps", "37", "--pictures", "1", "--cache", tmp_path / "cache")
    text = run("experiment", "tool-by-tool", *options, *filters)
    assert text.endswith("Pictures: 1 sequence of scikit-image, since there is no data folder (VVC_NNR_DATA).\n")
    assert run("experiment", "tool-by-tool", *options, *filters, "--format", "csv").startswith("# Table 1: model size")
    assert list((tmp_path / "cache").iterdir())


def test_in_loop_codes_pairs_and_prints_its_tables(run: Run, networks: Path, y4m: Path, tmp_path: Path) -> None:
    """From a float network to the table that says what coding it changed, by commands alone."""
    post, coded = networks / "post.safetensors", tmp_path / "post.nnc"
    run("compress", post, "-o", coded, "--qp", "-24")
    options = ("--sequences", y4m, "--out", tmp_path / "out", "--pictures", "1", "--threads", "1")
    named = ("--networks", coded, "--original", post, "--preset", "faster", "--cache", tmp_path / "cache")
    data = json.loads(run("experiment", "in-loop", *options, *named, "--json"))["tables"]
    sizes = [(row["Weights"], row["Size of file [byte]"]) for row in data["in_loop_complexity"]["rows"]]
    assert sizes == [("NNC", coded.stat().st_size), ("float32", post.stat().st_size)]
    assert {row["Decisions"] for row in data["in_loop_coded_weights"]["rows"]} == {"off", "on", "on + Wiener"}
    rates = [row for row in data["in_loop_bd_rate"]["rows"] if row["Decisions"] == "on"]
    assert len(rates) == 4
    assert all(row[f"{plane} [%]"] is not None for row in rates for plane in ("Y", "Cb", "Cr", "YUV"))
    text = run("experiment", "in-loop", *options, *named, "--bd-rate", "akima", "--report", tmp_path / "report.html")
    assert "BD-rate: akima over PSNR" in text
    assert text.count("All intra, libvvenc in ffmpeg") == 1
    page = (tmp_path / "report.html").read_text()
    assert "BD-rate (akima) of post, NNC, decisions on against all filters" in page
    assert "4 of 4, 0." in page  # a picture at each QP


def test_end_to_end_on_a_folder_of_images(run: Run, networks: Path, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    """As `fetch kodak` leaves it: images of two sizes, side by side."""
    folder = tmp_path / "kodak"
    folder.mkdir()
    for name, image in (("a", rgb[:32, :48]), ("b", rgb[:48, :32]), ("c", rgb[16:48, 48:])):
        Image.fromarray(image).save(folder / f"{name}.png")
    options = ("--networks", networks / "small.safetensors", "--out", tmp_path / "out", "--json")
    data = json.loads(run("experiment", "end-to-end", "--images", folder, *options))
    ours = [row for row in data["tables"]["table4_end_to_end"]["rows"] if row["Method"] == "CNN-AE"]
    assert ours[0]["Images"] == 3


class PublicHome(BaseHTTPRequestHandler):
    """Answers every address with the same bytes, the missing ones if asked for a range."""

    content = b"x" * 5000
    begins: list[int]

    def do_GET(self) -> None:
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.begins.append(begin)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        self.wfile.write(self.content[begin:])

    def log_message(self, *_: object) -> None:
        pass


def test_fetch_downloads_goes_on_and_does_not_repeat(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PublicHome.begins = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), PublicHome)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    sha256 = hashlib.sha256(PublicHome.content).hexdigest()
    monkeypatch.setattr(download, "KODAK_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(download, "KODAK_SHA256", {"kodim01.png": sha256, "kodim02.png": sha256})
    folder = tmp_path / "data" / "kodak"
    folder.mkdir(parents=True)
    (folder / "kodim02.png.part").write_bytes(PublicHome.content[:2000])
    text = run("fetch", "kodak", folder)
    assert f"{folder}: 2 files, 10000 bytes" in text
    assert f"vvc-nnr experiment tool-by-tool --sequences {folder}" in text
    assert PublicHome.begins == [0, 2000]
    assert len(json.loads(run("fetch", "kodak", folder, "--json"))["files"]) == 2
    assert len(PublicHome.begins) == 2
    server.shutdown()
    server.server_close()
