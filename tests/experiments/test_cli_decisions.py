"""`vvc-nnr filter` with decisions: what the encoder wrote is what the decoder gives, and all that may not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters.decisions.block_decisions import switched_off
from vvc_nnr.filters.decisions.sequence_file import DecisionReader, encode_sequence, parse_sequence
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db
from vvc_nnr.sequences.y4m import Y4mWriter, read_y4m

Run = Callable[..., str]


def write_y4m(path: Path, frames: list[Frame]) -> Path:
    with Y4mWriter(path, frames[0].format(Fraction(25))) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def samples(path: Path) -> bytes:
    return b"".join(frame.tobytes() for frame in read_y4m(path))


@pytest.fixture
def blurred(frames: list[Frame], tmp_path: Path) -> Path:
    """The pictures with coarser samples, as another codec would leave them."""
    coarse = [Frame(tuple((p & 0xF0) + 8 for p in f.planes), f.bit_depth, f.chroma_format) for f in frames]
    return write_y4m(tmp_path / "decoded.y4m", coarse)


@pytest.fixture
def decided(run: Run, y4m: Path, blurred: Path, networks: Path, tmp_path: Path) -> Path:
    """The file of decisions for the coarse pictures; the encoder's pictures are out.y4m beside it."""
    command = ("filter", blurred, "--model", networks / "post.safetensors", "--qp", "32", "-o", tmp_path / "out.y4m")
    run(*command, "--original", y4m, "--decisions-out", tmp_path / "decisions.bin")
    return tmp_path / "decisions.bin"


def test_the_decoder_gives_the_encoders_pictures(
    run: Run, frames: list[Frame], blurred: Path, decided: Path, networks: Path, tmp_path: Path
) -> None:
    command = ("filter", blurred, "--model", networks / "post.safetensors", "--qp", "32", "-o", tmp_path / "again.y4m")
    assert run(*command, "--decisions", decided).count("\n") == 1
    assert samples(tmp_path / "again.y4m") == samples(tmp_path / "out.y4m")
    pairs = zip(frames, read_y4m(blurred), read_y4m(tmp_path / "out.y4m"), strict=True)
    for original, before, after in pairs:
        assert frame_psnr_db(original, after).y >= frame_psnr_db(original, before).y


def test_the_bundled_network_over_a_vvc_stream(run: Run, y4m: Path, frames: list[Frame], tmp_path: Path) -> None:
    """10 bit from the codec, 8 bit of the original."""
    run("encode", y4m, "--qp", "37", "-o", tmp_path / "a.266")
    command = ("filter", tmp_path / "a.266", "--model", "inloop-postfilter", "--qp", "37")
    making = ("--original", y4m, "--decisions-out", tmp_path / "decisions.bin", "--json")
    result = json.loads(run(*command, "-o", tmp_path / "out.y4m", *making))
    assert result["decision_bytes"] == (tmp_path / "decisions.bin").stat().st_size
    assert len(result["decision_picture_bits"]) == 2
    assert result["n_pictures_off"] == 0
    run(*command, "-o", tmp_path / "again.y4m", "--decisions", tmp_path / "decisions.bin")
    assert samples(tmp_path / "again.y4m") == samples(tmp_path / "out.y4m")
    run("decode", tmp_path / "a.266", "-o", tmp_path / "plain.y4m")
    pairs = zip(frames, read_y4m(tmp_path / "plain.y4m"), read_y4m(tmp_path / "out.y4m"), strict=True)
    for original, before, after in pairs:
        reference = original.to_bit_depth(10)
        assert frame_psnr_db(reference, after).y > frame_psnr_db(reference, before).y


def test_a_grey_original_of_a_stream_with_flat_chroma(
    run: Run, frames: list[Frame], networks: Path, tmp_path: Path
) -> None:
    """4:0:0 is coded as 4:2:0, and odd sizes as even ones."""
    grey = write_y4m(tmp_path / "grey.y4m", [Frame((f.planes[0][:63, :95],), 8, "400") for f in frames])
    run("encode", grey, "--qp", "37", "-o", tmp_path / "a.266")
    command = ("filter", tmp_path / "a.266", "--model", networks / "post.safetensors", "--qp", "37", "--size", "95x63")
    run(*command, "-o", tmp_path / "out.y4m", "--original", grey, "--decisions-out", tmp_path / "d.bin")
    run(*command, "-o", tmp_path / "again.y4m", "--decisions", tmp_path / "d.bin")
    assert samples(tmp_path / "again.y4m") == samples(tmp_path / "out.y4m")
    assert all((plane == 512).all() for frame in read_y4m(tmp_path / "out.y4m") for plane in frame.planes[1:])


def test_an_original_that_is_raw(run: Run, frames: list[Frame], blurred: Path, decided: Path, networks: Path) -> None:
    folder = decided.parent
    (folder / "original.yuv").write_bytes(b"".join(frame.to_bit_depth(10).tobytes() for frame in frames))
    command = ("filter", blurred, "--model", networks / "post.safetensors", "--qp", "32", "-o", folder / "raw.y4m")
    making = ("--original", folder / "original.yuv", "--original-bit-depth", "10", "--size", "96x64")
    run(*command, *making, "--decisions-out", folder / "again.bin")
    assert (folder / "again.bin").read_bytes() == decided.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--decisions-out", "d"), "--decisions-out: there is no --original"),
        (("--original", "in.y4m", "--decisions-out", "d", "--decisions", "d"), "give one of them"),
        (("--original-bit-depth", "8"), "there is no --original"),
        (("--no-wiener",), "there is no --decisions-out"),
        (("--decisions", "d", "--wiener"), "there is no --decisions-out"),
    ],
)
def test_options_that_contradict(
    y4m: Path, networks: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    output = y4m.with_name("x.y4m")
    model = str(networks / "post.safetensors")
    assert main(["filter", str(y4m), "--model", model, "--qp", "32", "-o", str(output), *options]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.fixture
def refused(networks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the filter with options that must be refused, and returns what it says."""

    def refused(input: Path, *options: str | Path) -> str:
        command = ["filter", input, "--model", networks / "post.safetensors", "--qp", "32", "-o", tmp_path / "no.y4m"]
        capsys.readouterr()
        assert main([str(word) for word in (*command, *options)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), (tmp_path / "no.y4m").exists()) == ("", 1, False)
        return err

    return refused


def test_originals_that_do_not_fit(refused: Callable[..., str], frames: list[Frame], blurred: Path) -> None:
    folder = blurred.parent
    one, three = write_y4m(folder / "1.y4m", frames[:1]), write_y4m(folder / "3.y4m", [*frames, frames[0]])
    small = write_y4m(folder / "small.y4m", [frame.cropped(94, 64) for frame in frames])
    target = ("--decisions-out", folder / "d.bin")
    assert f"1.y4m: holds fewer pictures than {blurred}" in refused(blurred, "--original", one, *target)
    assert f"3.y4m: holds more pictures than {blurred}" in refused(blurred, "--original", three, *target)
    said = refused(blurred, "--original", small, *target)
    assert f"small.y4m: 94x64, 4:2:0, and {blurred} is 96x64, 4:2:0" in said
    assert "missing.y4m: no such file" in refused(blurred, "--original", folder / "missing.y4m", *target)
    assert not (folder / "d.bin").exists()


def test_decisions_that_do_not_fit(
    refused: Callable[..., str], frames: list[Frame], blurred: Path, tmp_path: Path
) -> None:
    def for_pictures(n: int, frame: Frame) -> Path:
        path = tmp_path / "d.bin"
        path.write_bytes(encode_sequence([switched_off(frame)] * n, frame.format(30)))
        return path

    said = refused(blurred, "--decisions", for_pictures(1, frames[0]))
    assert f"d.bin: decisions for 1 pictures, and {blurred} holds more" in said
    said = refused(blurred, "--decisions", for_pictures(3, frames[0]))
    assert f"d.bin: decisions for 3 pictures, and {blurred} holds 2" in said
    said = refused(blurred, "--decisions", for_pictures(2, frames[0].cropped(94, 64)))
    assert "d.bin: decisions for pictures of 94x64, 4:2:0; these are 96x64, 4:2:0" in said
    assert "missing: no such file" in refused(blurred, "--decisions", tmp_path / "missing")


def test_decisions_that_are_damaged(refused: Callable[..., str], blurred: Path, decided: Path, tmp_path: Path) -> None:
    data = decided.read_bytes()
    assert len(parse_sequence(data).payloads) == 2
    for damaged in (b"", data[:5], data[:-1], data + b"\x00", bytes([*data[:9], data[9] ^ 1, *data[10:]])):
        (tmp_path / "bad.bin").write_bytes(damaged)
        assert "bad.bin: " in refused(blurred, "--decisions", tmp_path / "bad.bin")
    (tmp_path / "bad.bin").write_bytes(b"\x01" + data[1:])
    assert "version 1: this program reads versions 2 to 4" in refused(blurred, "--decisions", tmp_path / "bad.bin")


def test_a_place_that_cannot_be_written_is_known_before_the_work(
    refused: Callable[..., str], y4m: Path, blurred: Path, tmp_path: Path
) -> None:
    said = refused(blurred, "--original", y4m, "--decisions-out", tmp_path / "none" / "d.bin")
    assert "d.bin: cannot be written" in said
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]


def test_without_wiener_filters(run: Run, y4m: Path, blurred: Path, decided: Path, networks: Path) -> None:
    """The encoder may leave them out; then the file is shorter and the pictures are worse."""
    command = (
        "filter",
        blurred,
        "--model",
        networks / "post.safetensors",
        "--qp",
        "32",
        "-o",
        decided.parent / "b.y4m",
    )
    run(*command, "--original", y4m, "--decisions-out", decided.parent / "plain.bin", "--no-wiener")
    plain, full = (parse_sequence((decided.parent / name).read_bytes()) for name in ("plain.bin", decided.name))
    format = next(iter(read_y4m(blurred))).format(30)
    assert sum(map(len, plain.payloads)) < sum(map(len, full.payloads))
    without, fitted = (
        [reader.picture(format).wieners for _ in range(2)] for reader in map(DecisionReader, (plain, full))
    )
    assert not any(map(any, without))
    assert any(wieners[0] for wieners in fitted)
    pairs = zip(read_y4m(y4m), read_y4m(decided.parent / "b.y4m"), read_y4m(decided.parent / "out.y4m"), strict=True)
    assert all(frame_psnr_db(o, with_them).y > frame_psnr_db(o, bare).y for o, bare, with_them in pairs)


def test_the_encoder_chooses_what_qp_the_network_is_told(
    run: Run, y4m: Path, blurred: Path, networks: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """Of files too, whose QP is the user's: pictures are coded together then, and the decoder needs no candidates."""
    out, again, decided = tmp_path / "out.y4m", tmp_path / "again.y4m", tmp_path / "d.bin"
    command = ("filter", blurred, "--model", networks / "post.safetensors", "--qp", "32")
    made = ("--original", y4m, "--decisions-out", decided, "--qp-candidates", "27,slice+5,base-9,-4")
    run(*command, "-o", out, *made)
    found = parse_sequence(decided.read_bytes())
    assert ([rule.text for rule in found.candidates], found.n_pictures) == (["27", "slice+5", "23", "-4"], 2)
    run(*command, "-o", again, "--decisions", decided)
    assert again.read_bytes() == out.read_bytes()
    assert "--qp-candidates: are the encoder's" in refused(blurred, "--qp-candidates", "27")
    many = ",".join(str(qp) for qp in range(20, 28))
    assert "must be at most 7, each once" in refused(blurred, *made[:-1], many)
    assert "QP rule 'own'" in refused(blurred, *made[:-1], "own")
    assert "must be at most 7, each once" in refused(blurred, *made[:-1], "27,base-5")
