"""Every command by its own name and options, on small real inputs."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import vvc_nnr
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli import experiment
from vvc_nnr.experiments.cli.common import json_text
from vvc_nnr.experiments.cli.main import COMMANDS, FAMILIES, Asked, asked_command, main, parsed
from vvc_nnr.experiments.pictures import SmallPictures
from vvc_nnr.experiments.runs.image_options import EndToEndOptions
from vvc_nnr.experiments.runs.model_zoo import ZooOptions
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.filters.inference.runner import filter_frame
from vvc_nnr.filters.networks.in_loop import RUNGS
from vvc_nnr.filters.training import autoencoder
from vvc_nnr.filters.training.in_loop import InLoopRun
from vvc_nnr.filters.zoo import load_autoencoder, load_inloop_filter, load_network
from vvc_nnr.model.safetensors import read_network, write_float
from vvc_nnr.sequences import download
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import rgb_to_frame
from vvc_nnr.sequences.metrics import frame_psnr_db
from vvc_nnr.sequences.source import Source, open_source
from vvc_nnr.sequences.y4m import Y4mWriter, read_y4m

WIDTH, HEIGHT = 96, 64
Run = Callable[..., str]


def ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=60)


def raw(frames: list[Frame]) -> bytes:
    return b"".join(frame.tobytes() for frame in frames)


def said_help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_every_help_has_examples_that_parse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert len(COMMANDS) == 25
    for name in ("", *FAMILIES, *COMMANDS):
        help_text = said_help(capsys, *name.split())
        examples = help_text.partition("\nexamples:\n")[2].replace("\\\n", " ").splitlines()
        assert examples, name
        for example in examples:
            asked = asked_command(shlex.split(example)[1:])
            assert isinstance(asked, Asked)
            assert asked.name.startswith(name)
            assert callable(parsed(asked).run)


@pytest.mark.parametrize("columns", ["80", "150"])
def test_help_fits_a_terminal_and_tells_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """In 80 columns; without the words of an empty default; a few words at least behind each option."""
    monkeypatch.setenv("COLUMNS", columns)
    for name in ("", *FAMILIES, *COMMANDS):
        help_text = said_help(capsys, *name.split())
        assert max(map(len, help_text.splitlines())) <= (80 if name in COMMANDS else int(columns)), name
        assert "None)" not in help_text
        assert "if used" not in help_text
        assert not re.search("[│─╭]", help_text)
        options = re.findall(r"^  (-\S.*(?:\n {6,}\S.*)*)$", help_text, re.MULTILINE)
        assert len(options) >= 2 or name in FAMILIES
        for option in options:
            words = re.sub(r"\(default:[^)]*\)|\(required\)|\(repeatable\)", "", option).split()
            assert len([word for word in words if re.fullmatch("[A-Za-z].*[a-z.,;:)]", word)]) >= 2, (name, option)
    # What the whole help lists is what a command takes.
    monkeypatch.setenv("COLUMNS", "200")
    for name in COMMANDS:
        assert "--json" in said_help(capsys, *name.split())


def test_near_misses_are_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    for words, suggestion in (
        (["encode", "in.y4m", "--qp", "32", "-o", "x.266", "--presett", "fast"], "perhaps --preset was meant"),
        (["enkode"], "perhaps encode was meant"),
        (["train", "inlop"], "perhaps train inloop was meant"),
    ):
        assert main(words) == 2
        assert suggestion in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vvc-nnr {vvc_nnr.__version__}\n"


HEAVY = ("torch", "matplotlib", "cv2", "scipy")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["inspect", "inloop-postfilter"]])
def test_a_light_command_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from vvc_nnr.experiments.cli.main import main; assert main(sys.argv[1:]) == 0\n"
        f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "\n")  # the list of what is loaded is empty


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from vvc_nnr.experiments.cli.main import main; assert main(['--help']) == 0\n"
        "print([n for n in sys.modules if n.startswith('vvc_nnr.experiments.cli.')], 'tyro' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package = "vvc_nnr.experiments.cli"
    loaded = [f"{package}.{name}" for name in ("common", "main")]
    assert sorted(eval(done.stdout.splitlines()[-1].rpartition(" ")[0])) == sorted(loaded)
    assert done.stdout.endswith(" False\n")


def test_commands_run_from_python(y4m: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a dataclass of its options; nothing is parsed."""
    from vvc_nnr.experiments.cli import codec, filter, report, train
    from vvc_nnr.experiments.cli import pictures as fetch
    from vvc_nnr.experiments.cli.networks import compress, inspect

    rep, stream = networks / "rep.safetensors", tmp_path / "a.266"
    made = compress.Compress(input=str(rep), output=tmp_path / "a.nnc").run()
    assert made.data["n_bytes"] == (tmp_path / "a.nnc").stat().st_size
    assert inspect.Inspect(input=str(tmp_path / "a.nnc"), bins=True).run().data["tensors"]
    compress.Decompress(input=str(tmp_path / "a.nnc"), output=tmp_path / "b.safetensors").run()
    assert codec.Encode(input=y4m, output=stream, qp=37, pictures=1).run().data["n_pictures"] == 1
    assert codec.Decode(input=stream, output=tmp_path / "a.y4m").run().data["n_verified"] == 1
    filtered = filter.Filter(input=(stream,), output=(tmp_path / "b.y4m",), model=str(rep), qp=37).run()
    assert filtered.data["n_pictures"] == 1
    small = EndToEndOptions(networks=(str(networks / "small.safetensors"),))
    results = tmp_path / "results"
    assert experiment.EndToEnd(out=results, count=1, options=small).run().data["tables"]
    assert report.Report(results=results, out=tmp_path / "r.md").run().data["n_tables"] > 0
    tool = ToolOptions(qps=(37,), networks=(str(rep),), max_pictures=1)
    run = experiment.ToolByTool(out=tmp_path / "tools", sequences=y4m, cache=tmp_path / "cache", options=tool)
    assert run.run().data["tables"]
    with pytest.raises(InputError, match="no row is called x"):
        experiment.ModelZoo(out=tmp_path / "zoo", options=ZooOptions(rows=("x",))).run()
    runs = (
        train.TrainInLoop(training=InLoopRun(data=tmp_path / "none", out=tmp_path / "run")),
        train.TrainAutoencoder(training=autoencoder.AutoencoderRun(data=tmp_path / "none", out=tmp_path / "run")),
    )
    for command in runs:
        with pytest.raises(InputError, match="no such"):
            command.run()
    monkeypatch.setattr(fetch, "fetch_kodak", lambda folder: [y4m])
    assert fetch.Fetch(what="kodak", folder=tmp_path).run().data["files"] == [str(y4m)]


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


def test_a_word_where_a_video_has_fewer_pictures_than_asked_for(run: Run, y4m: Path, tmp_path: Path) -> None:
    n_pictures = len(list(read_y4m(y4m)))
    words = ("encode", y4m, "--qp", "40", "-o", tmp_path / "out.266", "--pictures")
    assert f": {n_pictures} pictures (it has no more; {n_pictures + 5} asked for)" in run(*words, str(n_pictures + 5))
    assert "asked for" not in run(*words, str(n_pictures))


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


def test_padding_and_flat_chroma_are_said_in_both_forms(run: Run, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    frame = rgb_to_frame(rgb[:17, :33], "400")
    with Y4mWriter(tmp_path / "in.y4m", frame.format(25)) as writer:
        writer.write(frame)
    words = ("encode", tmp_path / "in.y4m", "--qp", "37", "-o", tmp_path / "out.266", "--pictures", "3")
    text = run(*words)
    assert "1 pictures (it has no more; 3 asked for)" in text
    assert "; decode with --size 33x17, since it was padded; 4:0:0 was coded as 4:2:0 with flat chroma" in text
    data = json.loads(run(*words, "--json"))
    assert (data["width"], data["height"], data["coded_width"], data["coded_height"]) == (33, 17, 34, 18)
    assert (data["padding_right"], data["padding_bottom"], data["n_pictures_asked_for"]) == (1, 1, 3)
    assert (data["chroma_format"], data["coded_chroma_format"]) == ("400", "420")
    one = rgb_to_frame(rgb[:1, :1])
    with Y4mWriter(tmp_path / "one.y4m", one.format(25)) as writer:
        writer.write(one)
    run("encode", tmp_path / "one.y4m", "--qp", "37", "-o", tmp_path / "one.266")
    assert "warning" not in run("decode", tmp_path / "one.266", "--size", "1x1", "-o", tmp_path / "again.y4m")


def test_odd_sizes_are_padded_and_cropped_again(run: Run, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(rgb[:31, :33]).save(tmp_path / "in.png")
    text = run("encode", tmp_path / "in.png", "--qp", "27", "-o", tmp_path / "out.266")
    assert "decode with --size 33x31" in text
    run("decode", tmp_path / "out.266", "--size", "33x31", "-o", tmp_path / "out.y4m")
    (decoded,) = read_y4m(tmp_path / "out.y4m")
    (original,) = open_source(tmp_path / "in.png").frames()
    assert frame_psnr_db(original.to_bit_depth(10), decoded).y > 30


def test_a_rate_that_the_stream_cannot_state_is_told_with_what_it_states(run: Run, tmp_path: Path) -> None:
    header = b"YUV4MPEG2 W32 H32 F10000000:417083 Ip C420\nFRAME\n"
    (tmp_path / "in.y4m").write_bytes(header + bytes(32 * 48))
    text = run("encode", tmp_path / "in.y4m", "--qp", "40", "-o", tmp_path / "out.266", "--threads", "1")
    assert "; the stream does not state picture rate 10000000/417083 (decoders take 933747/38945; decode --fps " in text
    for option, rate in (((), b"F933747:38945"), (("--fps", "10000000/417083"), b"F10000000:417083")):
        run("decode", tmp_path / "out.266", *option, "-o", tmp_path / "out.y4m")
        assert rate in (tmp_path / "out.y4m").read_bytes().partition(b"\n")[0]


@pytest.mark.parametrize(
    ("tags", "unstated", "decoded"),
    [
        ("C420mpeg2 A1:1 XCOLORRANGE=LIMITED", "", ""),
        ("C420mpeg2 A4:3 XCOLORRANGE=FULL", "", "A4:3 XCOLORRANGE=FULL"),
        ("C420jpeg A10:11", "chroma location center", "A10:11"),
        ("C420mpeg2 A65537:65536", "pixel aspect 65537/65536", ""),
        ("C420mpeg2 XCOLORRANGE=FULL", "", "XCOLORRANGE=FULL"),
        ("C420mpeg2 A1:1 XCOLORRANGE=FULL", "", "A1:1 XCOLORRANGE=FULL"),
    ],
)
def test_encode_keeps_what_the_stream_can_state_and_says_what_not(
    run: Run, tmp_path: Path, tags: str, unstated: str, decoded: str
) -> None:
    header = f"YUV4MPEG2 W32 H32 F25:1 Ip {tags}\nFRAME\n"
    (tmp_path / "in.y4m").write_bytes(header.encode() + bytes(32 * 48))
    text = run("encode", tmp_path / "in.y4m", "--qp", "40", "-o", tmp_path / "out.266", "--threads", "1")
    assert text.strip().partition("; the stream does not state ")[2] == unstated
    run("decode", tmp_path / "out.266", "-o", tmp_path / "out.y4m")
    words = (tmp_path / "out.y4m").read_bytes().partition(b"\n")[0].decode().split()
    assert [word for word in words if word[0] in "AX"] == decoded.split()


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
    assert result["training"]["optimiser"] == "muon"
    result = json.loads(run("train", "inloop", *common, *rung, "--rung", "vlop", "--optimiser", "adamw"))
    assert result["training"]["optimiser"] == "adamw"
    assert load_inloop_filter(result["network"]).config == RUNGS["vlop"]
    monkeypatch.setattr(autoencoder, "VALIDATION_PATCHES", 2)
    monkeypatch.setattr(autoencoder.AutoencoderTask, "fit_tables", lambda self: None)  # 20,000 patches
    few = ("--latents", "4", "--quantised-steps", "2")
    result = json.loads(run("train", "autoencoder", *common, "--out", tmp_path / "autoencoder", *few))
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
        networks=[str(networks / f"{name}.safetensors") for name in ("rep", "post")],
        replacements=["rep"],
        max_pictures=1,
    )
    end = EndToEndOptions(networks=[str(networks / "small.safetensors")])
    patches = SmallPictures((rgb[:32, :32], rgb[32:, 32:64]), ("a", "b"), "2 patches")
    monkeypatch.setattr(experiment, "bundled_sources", lambda: [open_source(y4m)])
    monkeypatch.setattr(experiment, "bundled_patches", lambda: patches)
    monkeypatch.setattr(experiment, "ToolOptions", lambda: tool)
    monkeypatch.setattr(experiment, "EndToEndOptions", lambda formats: end)
    monkeypatch.setattr(experiment, "DEMO_TABLES", experiment.DEMO_TABLES[:5])
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
    sizes = [(row["Network"], row["Method"]) for row in data["tables"]["table1_size"]["rows"]]
    both = [(name, mode) for name in ("rep", "post", "small") for mode in ("uniform8", "NNC")]
    assert sizes == [*both, ("paper", "uniform")]
    for mode in ("uniform8", "NNC"):
        assert all(f"Rec. {mode}" in text.partition(title)[2] for title in ("**Table 2", "**Table 3"))
        assert f"| reconstructed CNN-AE | {mode} " in text.partition("**Table 4")[2]


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
    monkeypatch.setattr(experiment, "default_sources", lambda: sources)
    filters = ("--networks", networks / "rep.safetensors", networks / "post.safetensors", "--compress", "uniform6")
    options = ("--out", tmp_path / "out", "--qps", "37", "--pictures", "1", "--cache", tmp_path / "cache")
    text = run("experiment", "tool-by-tool", *options, *filters)
    assert text.endswith("Pictures: 1 sequence of scikit-image, since there is no data folder (VVC_NNR_DATA).\n")
    assert run("experiment", "tool-by-tool", *options, *filters, "--format", "csv").startswith("# Table 1: model size")
    assert list((tmp_path / "cache").iterdir())


def test_tool_by_tool_codes_pairs_and_prints_its_tables(run: Run, networks: Path, y4m: Path, tmp_path: Path) -> None:
    """From a network as trained to the table that says what coding it changed, by commands alone."""
    post, coded = networks / "post.safetensors", tmp_path / "post.nnc"
    run("compress", post, "-o", coded, "--qp", "-24")
    options = ("--sequences", y4m, "--out", tmp_path / "out", "--pictures", "1", "--threads", "1", "--compress", "none")
    named = ("--networks", coded, "--original", post, "--decisions", "wiener", "--cache", tmp_path / "cache")
    data = json.loads(run("experiment", "tool-by-tool", *options, *named, "--json"))["tables"]
    sizes = [(row["Weights"], row["Size of file [byte]"]) for row in data["complexity"]["rows"]]
    assert sizes == [("original", post.stat().st_size), ("file (NNC)", coded.stat().st_size)]
    assert {row["Decisions"] for row in data["coded_weights"]["rows"]} == {"off", "on", "on + Wiener"}
    rates = [row for row in data["bd_rate"]["rows"] if row["Decisions"] == "on"]
    assert len(rates) == 4
    assert all(row[f"{plane} [%]"] is not None for row in rates for plane in ("Y", "Cb", "Cr", "YUV"))
    page = tmp_path / "report.html"
    text = run("experiment", "tool-by-tool", *options, *named, "--bd-rate", "akima", "--report", page)
    assert "BD-rate: akima over PSNR" in text
    assert text.count("All intra, libvvenc in ffmpeg") == 1
    assert "BD-rate (akima) of post, file (NNC), decisions on against all filters" in page.read_text()
    assert "4 of 4, 0." in page.read_text()  # a picture at each QP


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


WITHOUT_TORCH = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from vvc_nnr.experiments.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_torch_networks_are_coded_and_other_commands_say_what_is_missing(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_TORCH, *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    np.savez(tmp_path / "a.npz", w=np.arange(64, dtype=np.float32).reshape(8, 8))
    np.savez(tmp_path / "b.npz", w=np.arange(64, dtype=np.float32).reshape(8, 8) + 1)
    for words in (
        "compress a.npz -o a.nnc",
        "decompress a.nnc -o a.safetensors",
        "inspect a.nnc",
        "update make a.npz b.npz -o u.nnc",
        "update apply a.npz u.nnc -o c.safetensors",
    ):
        assert run(*words.split()).returncode == 0
    for words in ("demo", "encode a.yuv -o a.266", "filter a.y4m --model inloop-lop -o b.y4m"):
        done = run(*words.split())
        assert done.returncode == 2
        assert done.stderr.startswith(
            "vvc-nnr: error: this command needs the Python module torch, which is not installed"
        )
        assert len(done.stderr.splitlines()) == 1


def test_a_module_of_the_package_itself_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def command_class(name: str) -> None:
        raise ModuleNotFoundError("No module named 'vvc_nnr.x'", name="vvc_nnr.x")

    monkeypatch.setattr("vvc_nnr.experiments.cli.main.command_class", command_class)
    with pytest.raises(ModuleNotFoundError):
        main(["demo"])


def test_the_package_is_run_as_the_command(tmp_path):
    def run(*words):
        return subprocess.run([sys.executable, "-m", "vvc_nnr", *words], cwd=tmp_path, capture_output=True, text=True)

    asked = run("--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith("usage: vvc-nnr")
    refused = run("inspect", "none.nnc")
    assert refused.returncode == 2
    assert refused.stderr.startswith("vvc-nnr: error: none.nnc")
    assert len(refused.stderr.splitlines()) == 1


def test_the_package_that_is_not_installed_says_so(monkeypatch, capsys):
    from vvc_nnr import __main__

    monkeypatch.setattr(__main__, "entry_points", lambda **_: ())
    assert __main__.main() == 2
    assert "pip install -e ." in capsys.readouterr().err
