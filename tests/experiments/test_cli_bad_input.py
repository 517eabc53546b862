"""Whatever a user gets wrong ends in exit code 2 and one line that names it, and leaves no half-written file."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli import codec
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.y4m import Y4mWriter, read_y4m

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """Runs a command that must be refused, and returns what it says."""

    def refused(*argv: str | Path, code: int = 2) -> str:
        before = everything_in(tmp_path)
        got = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert everything_in(tmp_path) == before
        assert out == ""
        assert err.startswith("vvc-nnr: error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert got == code
        return err

    return refused


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def at_most_bytes(limit_bytes: int) -> Iterator[None]:
    """Makes the system refuse larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def stream(y4m: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The two pictures as VVC."""
    path = y4m.with_name("in.266")
    assert main(["encode", str(y4m), "--qp", "32", "-o", str(path)]) == 0
    capsys.readouterr()
    return path


@pytest.mark.parametrize(
    "argv",
    [
        "encode {} --qp 32 -o out.266",
        "decode {} -o out.y4m",
        "filter {} --model {net} --qp 32 -o out.y4m",
        "compress {} -o out.safetensors",
        "decompress {} -o out.safetensors",
        "inspect {}",
        "experiment tool-by-tool --sequences {} --out out",
        "experiment end-to-end --images {} --out out",
        "train inloop --data {} --out out",
        "train autoencoder --data {} --out out",
    ],
)
def test_missing_file(refused: Refused, networks: Path, tmp_path: Path, argv: str) -> None:
    for name in ("missing.y4m", "missing.yuv", "missing.266", "missing"):
        missing = tmp_path / name
        words = argv.replace(" out", f" {tmp_path}/out").split()
        said = refused(*(word.format(missing, net=networks / "rep.safetensors") for word in words))
        assert str(missing) in said
        assert "no such" in said


def test_missing_network(refused: Refused, y4m: Path, tmp_path: Path) -> None:
    said = refused("filter", y4m, "--model", tmp_path / "no.safetensors", "--qp", "32", "-o", tmp_path / "out.y4m")
    assert "no.safetensors: no such file, and no network of the zoo (" in said


@pytest.mark.parametrize("command", ["encode", "filter"])
def test_yuv_of_no_whole_number_of_pictures(
    refused: Refused, frames: list[Frame], networks: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "in_96x64.yuv"
    path.write_bytes(frames[0].tobytes() + b"\x00" * 10)
    options = ("--model", networks / "rep.safetensors") if command == "filter" else ()
    output = tmp_path / ("out.y4m" if command == "filter" else "out.266")
    said = refused(command, path, "--qp", "32", "-o", output, *options)
    assert "in_96x64.yuv: 9226 bytes are no whole number of 96x64 8 bit 420 pictures" in said


def test_yuv_without_a_size(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "in.yuv").write_bytes(bytes(100))
    assert "in.yuv: picture size not known" in refused("encode", tmp_path / "in.yuv", "--qp", "32", "-o", "out.266")


def test_wrong_bit_depth(refused: Refused, frames: list[Frame], y4m: Path, networks: Path, tmp_path: Path) -> None:
    ten_bit, eight_bit = tmp_path / "ten_96x64.yuv", tmp_path / "eight_96x64.yuv"
    ten_bit.write_bytes(frames[0].to_bit_depth(10).tobytes())
    eight_bit.write_bytes(frames[0].tobytes() + frames[1].tobytes())
    model = ("--model", networks / "rep.safetensors", "--qp", "32", "-o", tmp_path / "out.y4m")
    assert f"{ten_bit}: wrong bit depth" in refused("filter", ten_bit, *model)
    said = refused("filter", eight_bit, "--bit-depth", "10", *model)
    assert f"{eight_bit}: picture 0 holds a sample of" in said
    assert "wrong bit depth (10 bit assumed)" in said
    assert f"{y4m}: wrong bit depth: 10 asked for, the file has 8" in refused(
        "filter", y4m, "--bit-depth", "10", *model
    )


@pytest.mark.parametrize("chroma_format", ["422", "444"])
def test_chroma_formats_that_the_codec_and_the_filters_do_not_take(
    refused: Refused, networks: Path, tmp_path: Path, chroma_format: str
) -> None:
    path = tmp_path / "in.y4m"
    picture = Frame(
        tuple(np.full(s, 99, np.uint8) for s in VideoFormat(32, 32, 8, chroma_format).plane_shapes), 8, chroma_format
    )  # type: ignore[arg-type]
    with Y4mWriter(path, picture.format(30)) as writer:
        writer.write(picture)
    named = ":".join(chroma_format)
    said = refused("encode", path, "--qp", "32", "-o", tmp_path / "out.266")
    assert f"{path}: the encoder takes 4:0:0 and 4:2:0, got {named}" in said
    model = ("--model", networks / "rep.safetensors")
    said = refused("filter", path, *model, "--qp", "32", "-o", tmp_path / "out.y4m")
    assert f"{path}: the filters take 4:2:0 and 4:0:0, got {named}" in said
    filters = ("--networks", networks / "rep.safetensors", networks / "post.safetensors")
    said = refused("experiment", "tool-by-tool", "--sequences", path, "--out", tmp_path / "out", *filters)
    assert f"{path}: the encoder takes" in said


@pytest.mark.parametrize("damage", ["half", "last byte", "no picture", "empty", "random", "zeros inside"])
@pytest.mark.parametrize("command", ["decode", "filter"])
def test_damaged_vvc_stream(
    refused: Refused, stream: Path, networks: Path, tmp_path: Path, command: str, damage: str
) -> None:
    data = stream.read_bytes()
    middle = len(data) // 2
    damaged = {
        "half": data[:middle],
        "last byte": data[:-1],
        "no picture": data[:40],
        "empty": b"",
        "random": np.random.default_rng(0).bytes(3000),
        "zeros inside": data[: middle - 100] + bytes(50) + data[middle - 50 :],
    }
    stream.write_bytes(damaged[damage])
    options = ("--model", networks / "rep.safetensors", "--qp", "32") if command == "filter" else ()
    assert f"{stream}: " in refused(command, stream, "-o", tmp_path / "out.y4m", *options)


ENCODERS = {
    "fails": "cat > /dev/null; echo 'first line' >&2; echo 'no more memory' >&2; exit 3",
    "writes nothing": "cat > /dev/null",
    "writes an empty file": '{ffmpeg} "$@"; for last; do :; done; : > "$last"',
    "writes half a file": '{ffmpeg} "$@"; for last; do :; done; head -c 300 "$last" > "$last.x"; mv "$last.x" "$last"',
    "is not there": None,
}


@pytest.mark.parametrize("what", ENCODERS)
def test_encoder_that_fails(
    refused: Refused, y4m: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    program, script = tmp_path / "ffmpeg", ENCODERS[what]
    if script is not None:
        program.write_text("#!/bin/sh\n" + script.format(ffmpeg=imageio_ffmpeg.get_ffmpeg_exe()) + "\n")
        program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    said = refused("encode", y4m, "--qp", "32", "-o", tmp_path / "out.266")
    assert f"{y4m}: " in said
    if what == "fails":
        assert "exit code 3" in said
        assert "no more memory" in said


def test_cifar_files_of_the_wrong_size(refused: Refused, networks: Path, tmp_path: Path) -> None:
    binary, arrays = tmp_path / "data_batch_1.bin", tmp_path / "images.npz"
    binary.write_bytes(bytes(3073 * 2 + 1))
    np.savez(arrays, images=np.zeros((2, 16, 16, 3), np.uint8), labels=np.zeros(2, np.int64))
    options = ("--networks", networks / "small.safetensors", "--out", tmp_path / "out")
    for path in (binary, arrays):
        said = refused("experiment", "end-to-end", "--images", path, *options)
        assert str(path) in said
        assert "wrong size" in said


def test_pictures_too_small_to_score(refused: Refused, rgb: NDArray[np.uint8], networks: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.png"
    Image.fromarray(rgb[:20, :40]).save(path)
    filters = ("--networks", networks / "rep.safetensors", networks / "post.safetensors")
    said = refused("experiment", "tool-by-tool", "--sequences", path, "--out", tmp_path / "out", *filters)
    assert f"{path}: 40x20 is too small for SSIM" in said


def test_network_files_of_another_architecture(refused: Refused, y4m: Path, networks: Path, tmp_path: Path) -> None:
    output = ("--qp", "32", "-o", tmp_path / "out.y4m")
    said = refused("filter", y4m, "--model", networks / "small.safetensors", *output)
    assert "small.safetensors: holds an autoencoder; must be an in-loop filter" in said
    said = refused("experiment", "end-to-end", "--networks", networks / "rep.safetensors", "--out", tmp_path / "out")
    assert "rep.safetensors: holds no autoencoder" in said
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"conv0.weight": np.zeros((4, 3, 3, 3), np.float32)}, other)
    assert "other.safetensors: architecture ''" in refused("filter", y4m, "--model", other, *output)
    safetensors.numpy.save_file(
        {"conv0.weight": np.zeros((4, 3, 3, 3), np.float32)},
        other,
        {"architecture": "inloop-filter", "config": '{"n_channels": 8, "n_blocks": 1}'},
    )
    assert "other.safetensors: not a network of this architecture" in refused("filter", y4m, "--model", other, *output)


@pytest.mark.parametrize(
    "content", [b"", b"garbage that is no network", b"\xff" * 2000, b"\x10" + bytes(7) + b"{" * 16]
)
def test_garbage_network_file(refused: Refused, y4m: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.safetensors"
    path.write_bytes(content)
    for argv in (
        ("inspect", path),
        ("compress", path, "-o", tmp_path / "out.safetensors"),
        ("decompress", path, "-o", tmp_path / "out.safetensors"),
        ("filter", y4m, "--model", path, "--qp", "32", "-o", tmp_path / "out.y4m"),
    ):
        assert f"{path}: no safetensors file" in refused(*argv)


def test_full_disk(refused: Refused, stream: Path, networks: Path, tmp_path: Path) -> None:
    network = networks / "rep.safetensors"
    for suffix, argv in (
        ("y4m", ("decode", stream)),
        ("yuv", ("decode", stream)),
        ("y4m", ("filter", stream, "--model", network, "--qp", "32")),
        ("safetensors", ("decompress", network)),
        ("safetensors", ("compress", network, "--method", "uniform16")),
    ):
        output = tmp_path / f"out.{suffix}"
        with at_most_bytes(1000):
            assert f"{output}: cannot be written: File too large" in refused(*argv, "-o", output)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_device(refused: Refused, y4m: Path, tmp_path: Path) -> None:
    said = refused("encode", y4m, "--qp", "32", "-o", "/dev/full")
    assert said.endswith("/dev/full: cannot be written: No space left on device\n")
    command = [sys.executable, "-m", "vvc_nnr.experiments.cli", "inspect", "inloop-postfilter"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "vvc-nnr: error: standard output: cannot be written: No space left on device\n"
    assert done.returncode == 2


def test_output_that_cannot_be_opened_is_known_before_the_work(refused: Refused, y4m: Path, tmp_path: Path) -> None:
    said = refused("encode", y4m, "--qp", "32", "-o", tmp_path / "no" / "out.266")
    assert f"out.266: cannot be written: there is no folder {tmp_path / 'no'}; make it" in said
    assert "is a folder; must be a file name" in refused("encode", y4m, "--qp", "32", "-o", tmp_path)
    (tmp_path / "file").write_bytes(b"")
    said = refused("experiment", "end-to-end", "--out", tmp_path / "file", "--count", "1")
    assert f"{tmp_path / 'file'}: cannot be made" in said


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("", "command"),
        ("nonsense", "nonsense"),
        ("encode in.y4m --qp 99 -o x.266", "--qp"),
        ("encode in.y4m --qp -1 -o x.266", "--qp"),
        ("encode in.y4m --qp 3.5 -o x.266", "--qp"),
        ("encode in.y4m -o x.266", "--qp"),
        ("encode in.y4m --qp 32 --preset fastest -o x.266", "--preset"),
        ("encode in.y4m --qp 32 --loop-filters some -o x.266", "--loop-filters"),
        ("encode in.y4m --qp 32 --pictures 0 -o x.266", "--pictures"),
        ("encode in.y4m --qp 32 --pictures " + "9" * 5000 + " -o x.266", "--pictures"),
        ("encode in.yuv --qp 32 --size 10by10 -o x.266", "--size"),
        ("encode in.yuv --qp 32 --size 0x16 -o x.266", "--size"),
        ("encode in.yuv --qp 32 --bit-depth 7 -o x.266", "--bit-depth"),
        ("encode in.yuv --qp 32 --chroma-format 411 -o x.266", "--chroma-format"),
        ("encode in.yuv --qp 32 --fps 0 -o x.266", "--fps"),
        ("encode in.yuv --qp 32 --fps 1/0 -o x.266", "--fps"),
        ("decode in.266 -o x.mp4", "x.mp4"),
        ("filter in.y4m --model {net} --qp 99 -o x.y4m", "--qp"),
        ("filter in.y4m --model {net} --qp 32 --tile 8 -o x.y4m", "tile of 8"),
        ("filter in.y4m --model {net} --qp 32 -o x.avi", "x.avi"),
        ("filter in.y4m --model {net} --qp 32 --device tpu -o x.y4m", "--device"),
        *(
            (f"compress {{net}} --method {m} -o x.safetensors", "--method")
            for m in ("uniform17", "uniform0", "zip", "8")
        ),
        ("compress {net} --biases none -o x.safetensors", "--biases"),
        ("experiment", "kind"),
        ("experiment tool-by-tool", "--out"),
        ("experiment tool-by-tool --out x --qps 22,99", "--qps"),
        ("experiment tool-by-tool --out x --qps 22;27", "--qps"),
        ("experiment tool-by-tool --out x --qps 22,22 --sequences in.y4m", "QPs [22, 22]"),
        ("experiment tool-by-tool --out x --compress uniform17", "uniform17: must be 1 to 16 bit"),
        ("experiment tool-by-tool --out x --compress uniform8,zip", "compression 'zip': must be uniform8"),
        (
            "experiment tool-by-tool --out x --compress calibrated --sequences in.y4m",
            "needs photographs to compress by",
        ),
        ("experiment tool-by-tool --out x --decisions some", "--decisions"),
        ("experiment end-to-end --out x --compress nnc:-32,nnc:-32", "nnc:-32 must be there once"),
        ("experiment tool-by-tool --out x --psnr-peak 1", "--psnr-peak"),
        ("experiment in-loop", "experiment in-loop is now experiment tool-by-tool"),
        ("experiment in-loop --out x --networks a b --qps 37", "experiment in-loop is now experiment tool-by-tool"),
        ("experiment tool-by-tool --out x --networks", "--networks"),
        ("experiment tool-by-tool --out x --networks nothing.nnc --sequences in.y4m", "nothing.nnc: no such file"),
        ("experiment tool-by-tool --out x --networks {net} --replacement lop --sequences in.y4m", "replacement lop"),
        (
            "experiment tool-by-tool --out x --networks {net} --original {net}x --sequences in.y4m",
            "safetensorsx: no such",
        ),
        ("experiment tool-by-tool --out x --viewer-picture -1", "--viewer-picture"),
        ("experiment tool-by-tool --out x --bd-rate cubic", "--bd-rate"),
        ("experiment end-to-end --out x --count 0", "--count"),
        ("experiment end-to-end --out x --subsampling 411", "--subsampling"),
        ("experiment end-to-end --out x --format html", "--format"),
        ("train autoencoder --data . --out x --cifar-share 1.5", "--cifar-share"),
        ("train autoencoder --data . --out x --distortion-weight nan", "--distortion-weight"),
        ("train inloop --data . --out x --seed -1", "--seed"),
        ("train inloop --data . --out x --learning-rate inf", "--learning-rate"),
        ("fetch imagenet x", "imagenet"),
    ],
)
def test_bad_options(
    refused: Refused, stream: Path, networks: Path, monkeypatch: pytest.MonkeyPatch, argv: str, named: str
) -> None:
    monkeypatch.chdir(stream.parent)
    said = refused(*argv.format(net=networks / "rep.safetensors").split())
    assert named in said


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("encode in.y4m --qp 32 -o in.y4m", "in.y4m: is the input"),
        ("encode in.y4m --qp 32 -o link.y4m", "link.y4m: is the input"),
        ("encode in.y4m --qp 32 --encoder vtm --vtm-config c.cfg -o c.cfg", "c.cfg: is the input"),
        ("decode in.266 -o in.266", "in.266: is the input"),
        ("decode link.yuv -o link.yuv", "link.yuv: is the input"),
        ("filter in.266 {filtering} -o in.y4m --original in.y4m --decisions-out q.dec", "in.y4m: is the input"),
        ("filter in.266 {filtering} -o o.y4m --original in.y4m --decisions-out in.y4m", "in.y4m: is the input"),
        ("filter in.266 {filtering} -o o.y4m --original in.y4m --decisions-out in.266", "in.266: is the input"),
        ("filter in.266 {filtering} -o o.y4m --original in.y4m --decisions-out ./o.y4m", "o.y4m: two outputs"),
        ("filter in.266 --qp 32 --model a.nnc -o o.y4m --original in.y4m --decisions-out a.nnc", "a.nnc: is the input"),
        ("filter in.266 {filtering} -o c.y4m --decisions c.y4m", "c.y4m: is the input"),
        ("compress {net} --method nnc --calibrate . --max-bytes 9 --cifar a.nnc -o a.nnc", "a.nnc: is the input"),
        ("report results -o results/tool_by_tool.tsv --format csv", "tool_by_tool.tsv: is the input"),
        ("report results -o results/tool_by_tool.json --format csv", "tool_by_tool.json: is the input"),
        ("report results -o results/pictures/index.json --format html", "index.json: is the input"),
        ("report results -o results/networks/a.nnc --format csv", "a.nnc: is the input"),
    ],
)
def test_outputs_that_would_replace_what_is_read(
    refused: Refused, stream: Path, networks: Path, monkeypatch: pytest.MonkeyPatch, argv: str, named: str
) -> None:
    folder = stream.parent
    monkeypatch.chdir(folder)
    (folder / "link.y4m").symlink_to("in.y4m")
    (folder / "link.yuv").symlink_to("in.266")
    (folder / "results" / "pictures").mkdir(parents=True)
    (folder / "results" / "networks").mkdir()
    names = (
        "c.cfg",
        "c.y4m",
        "a.nnc",
        *(f"results/{n}" for n in ("tool_by_tool.tsv", "tool_by_tool.json", "pictures/index.json", "networks/a.nnc")),
    )
    for name in names:
        (folder / name).write_bytes(b"precious")
    net = networks / "rep.safetensors"
    assert named in refused(*argv.format(net=net, filtering=f"--qp 32 --model {net}").split())


def test_devices_may_take_several_outputs(stream: Path, y4m: Path, networks: Path) -> None:
    filtering = ["filter", str(stream), "--qp", "32", "--model", str(networks / "rep.safetensors")]
    stream.with_name("null.y4m").symlink_to("/dev/null")
    making = ["--original", str(y4m), "--decisions-out", "/dev/null"]
    assert main([*filtering, "-o", str(stream.with_name("null.y4m")), *making]) == 0


@pytest.mark.parametrize("kind", ["tool-by-tool", "end-to-end", "model-zoo"])
def test_report_that_cannot_be_written_is_known_before_the_work(refused: Refused, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.html").mkdir()
    run = ("experiment", kind, "--out", tmp_path / "out", "--report")
    for name in ("none/x.html", "out/none/x.html", "file/x.html"):
        assert "x.html: cannot be written: there is no folder" in refused(*run, tmp_path / name)
    assert "folder.html: is a folder" in refused(*run, tmp_path / "folder.html")
    assert not (tmp_path / "out").exists()


def test_report_in_the_folder_that_the_experiment_makes(networks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = ["experiment", "end-to-end", "--networks", str(networks / "small.safetensors"), "--count", "1"]
    assert main([*run, "--out", str(out), "--report", str(out / "x.md")]) == 0
    assert (out / "x.md").is_file()


def test_files_where_folders_are_wanted(refused: Refused, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "screen.png"
    Image.fromarray(rgb).save(path)
    said = refused("experiment", "end-to-end", "--images", path, "--out", tmp_path / "out")
    assert f"{path}: is one picture or video; must be a folder of images, or CIFAR-10" in said
    assert f"{path}: cannot be made: {path} is none and must be a folder" in refused("fetch", "kodak", path)
    assert "must be a folder" in refused("fetch", "cifar10", path / "below")


def test_pictures_of_16_bit(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "rgb48.png"
    cv2.imwrite(str(path), np.full((16, 16, 3), 40000, np.uint16))
    said = refused("encode", path, "--qp", "20", "-o", tmp_path / "out.266")
    assert f"{path}: image of 16 bits per sample; only 8 bits per sample are read" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_device_that_is_not_there(refused: Refused, y4m: Path, networks: Path, tmp_path: Path) -> None:
    network = networks / "rep.safetensors"
    said = refused("filter", y4m, "--model", network, "--qp", "32", "-o", tmp_path / "x.y4m", "--device", "cuda")
    assert "error: --device: device 'cuda' is not available: torch finds no GPU here; take cpu" in said
    assert "auto" not in said
    said = refused("experiment", "tool-by-tool", "--sequences", y4m, "--out", tmp_path / "x", "--device", "cuda")
    assert "device 'cuda' is not available" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--tile 10", "--tile: tile of 10 luma samples"),
        ("--backend native", "--backend: backend native: computes in int8"),
        ("--backend openvino --precision int8", "--backend: backend openvino: computes in float32"),
    ],
)
def test_options_of_inference_are_named_and_no_network(
    refused: Refused, y4m: Path, tmp_path: Path, options: str, said: str
) -> None:
    command = ("filter", y4m, "--model", "inloop-vlop", "--qp", "32", "-o", tmp_path / "x.y4m", *options.split())
    assert f"vvc-nnr: error: {said}" in refused(*command)


def test_a_folder_in_the_place_of_pictures_is_told(refused: Refused, tmp_path: Path) -> None:
    said = refused("filter", tmp_path, "--model", "inloop-vlop", "--out-dir", tmp_path / "out")
    assert f"{tmp_path}: is a folder; must be a file" in said


def test_ctrl_c_leaves_nothing(
    refused: Refused, y4m: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted(self: Runner, frame: Frame, qp: int, run_all: object, at_least: int = 1) -> Frame:
        calls.append(qp)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return frame

    monkeypatch.setattr(Runner, "_filtered", interrupted)
    argv = ("filter", y4m, "--model", networks / "rep.safetensors", "--qp", "32", "-o", tmp_path / "out.y4m")
    argv += ("--backend", "torch")  # one thread
    assert "interrupted" in refused(*argv, code=130)
    assert len(calls) == 2


def test_a_real_ctrl_c(y4m: Path, networks: Path, tmp_path: Path) -> None:
    frames = list(read_y4m(y4m))
    with Y4mWriter(tmp_path / "long.y4m", frames[0].format(30)) as writer:
        for _ in range(2000):
            writer.write(frames[0])
    before = everything_in(tmp_path)
    model = ("--model", networks / "rep.safetensors", "--qp", "32", "-o", tmp_path / "out.y4m")
    command = [sys.executable, "-m", "vvc_nnr.experiments.cli", "filter", tmp_path / "long.y4m", *model]
    # A shell's background job ignores Ctrl-C, and so would a child: a handler here is the default one there.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, inherited)
    deadline_s = time.monotonic() + 60
    while not list(tmp_path.glob(".out.y4m.*.part")) and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("vvc-nnr: error: interrupted;")
    assert err.count("\n") == 1
    assert everything_in(tmp_path) == before


def test_a_reader_that_has_seen_enough_is_no_error(networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `vvc-nnr inspect ... | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed_pipe:
        monkeypatch.setattr(sys, "stdout", closed_pipe)
        assert main(["inspect", str(networks / "rep.safetensors")]) == 0


def test_an_unexpected_error_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch, y4m: Path) -> None:
    """One line is for the user's mistakes; ours keep their traceback."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(codec, "source_of", broken)
    with pytest.raises(ZeroDivisionError):
        main(["encode", str(y4m), "--qp", "32", "-o", "x.266"])
    assert issubclass(InputError, ValueError)


def test_a_rung_that_the_network_to_start_from_does_not_fit(refused: Refused, networks: Path, tmp_path: Path) -> None:
    start = ("--init", networks / "rep.safetensors", "--rung", "lop")
    said = refused("train", "inloop", "--data", tmp_path, "--out", tmp_path / "run", *start)
    assert "goes on from a network of 32 channels and at most 3 blocks" in said


@pytest.mark.parametrize("option", ["--channels", "--blocks"])
@pytest.mark.parametrize("shaped_by", [("--rung", "vlop"), ("--init", "inloop-vlop")])
def test_a_shape_beside_a_network_that_has_one(
    refused: Refused, tmp_path: Path, option: str, shaped_by: tuple[str, str]
) -> None:
    said = refused("train", "inloop", "--data", tmp_path, "--out", tmp_path / "run", *shaped_by, option, "8")
    assert f"{option} 8, {shaped_by[0]}: both set the shape of the network" in said
    assert not (tmp_path / "run").exists()


def test_presets_that_do_not_exist(refused: Refused, tmp_path: Path) -> None:
    said = refused("train", "inloop", "--data", tmp_path, "--out", tmp_path / "run", "--presets", "medium,swift")
    assert "--presets: 'swift' must be one of faster" in said


def test_folders_of_experiments_that_are_no_more(refused: Refused, y4m: Path, networks: Path, tmp_path: Path) -> None:
    (tmp_path / "in_loop.tsv").write_text("sequence\n")
    for argv in (
        ("report", tmp_path, "-o", tmp_path / "x.html"),
        (
            "experiment",
            "tool-by-tool",
            "--networks",
            networks / "rep.safetensors",
            "--out",
            tmp_path,
            "--sequences",
            y4m,
        ),
    ):
        said = refused(*argv)
        assert "in_loop.tsv: results of an earlier version (experiment in-loop, or tool-by-tool before both" in said
    (tmp_path / "in_loop.tsv").rename(tmp_path / "tool_by_tool.tsv")
    said = refused("report", tmp_path, "-o", tmp_path / "x.html")
    assert "tool_by_tool.tsv line 1: no results of this kind" in said
    assert "results of an earlier version are not read: run the experiment again in another folder" in said


@pytest.mark.parametrize("argv", [["decode", "{stream}"], ["compress", "{network}"]])
def test_a_reader_of_an_output_that_has_gone_ends_it_quietly(
    argv: list[str], stream: Path, networks: Path, tmp_path: Path
) -> None:
    """As in `vvc-nnr decode x.266 -o - | head`."""
    words = [word.format(stream=stream, network=networks / "rep.safetensors") for word in argv]
    command = [sys.executable, "-m", "vvc_nnr.experiments.cli", *words, "-o", "-"]
    command += ["--method", "nnc"] if argv[0] == "compress" else []
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone:
        done = subprocess.run(command, cwd=tmp_path, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_missing_pictures_are_told_by_their_option(refused: Refused, tmp_path: Path) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    for kind in ("inloop", "autoencoder"):
        said = refused("train", kind, "--data", nowhere, "--out", out)
        assert f"--data {nowhere}: no such folder; must be a folder of pictures to train on" in said
    said = refused("train", "autoencoder", "--data", tmp_path, "--cifar", nowhere, "--out", out)
    assert f"--cifar {nowhere}: no such file or folder; must be CIFAR-10" in said
    said = refused("experiment", "tool-by-tool", "--sequences", nowhere, "--out", out)
    assert f"{nowhere}: no such file or folder; must be a folder of pictures or videos, or one file" in said


def test_a_picture_of_another_size_is_told_with_its_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    said = refused("experiment", "end-to-end", "--images", tmp_path / "images", "--out", tmp_path / "out")
    assert f"{tmp_path / 'images' / 'a.png'}: is 1x1, sides must be at least 11 for SSIM" in said


def test_a_viewer_picture_that_no_sequence_has(refused: Refused, y4m: Path, networks: Path, tmp_path: Path) -> None:
    network = networks / "rep.safetensors"
    argv = ("experiment", "tool-by-tool", "--sequences", y4m, "--networks", network, "--viewer-picture", "99")
    said = refused(*argv, "--out", tmp_path / "out")
    assert "viewer picture 99: of " in said
    assert "choose one that all sequences have" in said


def test_an_empty_network_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({}, tmp_path / "x.pt")
    assert main(["compress", str(tmp_path / "x.pt"), "-o", str(tmp_path / "x.nnc")]) == 0
    assert "; the network has no tensor" in capsys.readouterr().out


def test_too_few_pictures_to_train_on_are_known_before_one_is_coded(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    grey = np.random.default_rng(0).integers(0, 256, (160, 160), np.uint8)
    Image.fromarray(grey).save(tmp_path / "photographs" / "a.png")
    said = refused("train", "inloop", "--data", tmp_path / "photographs", "--out", tmp_path / "out")
    assert "training needs pictures of at least 2 sources, got 1" in said
    assert not (tmp_path / "out").exists()


def test_options_that_a_file_has_no_use_for(refused: Refused, stream: Path, networks: Path, tmp_path: Path) -> None:
    network, out = networks / "rep.safetensors", tmp_path / "out"
    for option in (("--bit-depth", "10"), ("--chroma-format", "420")):
        said = refused("filter", stream, "--model", network, "--qp", "32", *option, "-o", f"{out}.y4m")
        assert f"{stream}: --bit-depth and --chroma-format are for raw files, this is a stream" in said
    for argv in (
        ("inspect", network, "--threads", "2"),
        ("decompress", network, "--max-elements", "9", "-o", f"{out}.pt"),
    ):
        assert f"{network}: --max-elements and --threads are for .nnc files" in refused(*argv)


def test_options_of_experiments_and_training_without_effect(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for kind in ("tool-by-tool", "end-to-end"):
        said = refused("experiment", kind, "--calibrate", tmp_path / "data", "--out", tmp_path / "out")
        assert "(--calibrate DIR): no compression is calibrated; add it to the list (--compress)" in said
    train = ("train", "autoencoder", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert "--cifar-share 0.3: has no effect without cifar" in refused(*train, "--cifar-share", "0.3")
    said = refused(*train, "--init", "autoencoder-1.8bpp", "--latents", "8")
    assert "--latents 8, --init: both set the shape of the network; give one of them" in said
