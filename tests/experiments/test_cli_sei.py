"""The commands sei, and filter on streams that carry their filter."""

from __future__ import annotations

import doctest
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import skimage.data
import torch

from vvc_nnr import compress
from vvc_nnr.bitstream.number_formats import Array
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.nal import ACCESS_UNIT_DELIMITER, RADL, nal_units
from vvc_nnr.codec.nnpf import NNC_TAG_URI, NnpfActivation, NnpfCharacteristics
from vvc_nnr.codec.programs import ffmpeg_executable
from vvc_nnr.codec.sei import insert_sei, sei_messages
from vvc_nnr.codec.stream_filters import DECISIONS_UUID, SETTINGS_UUID, listed_messages
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.coding.update import BaseState, compress_update
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.filtering import filtering_of
from vvc_nnr.filters.in_stream import at_uri
from vvc_nnr.filters.inference.onnxruntime import to_onnx
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.layout import parse_layout
from vvc_nnr.filters.zoo import load_inloop_filter, network_of_nnc, network_tensors
from vvc_nnr.model.onnx_proto import import_onnx
from vvc_nnr.network_file import read_arrays
from vvc_nnr.sequences.images import rgb_to_frame
from vvc_nnr.sequences.source import open_source
from vvc_nnr.sequences.y4m import Y4mWriter, read_y4m

STREAMS = Path(os.environ.get("VVC_NNR_DATA", "../shared/data"), "streams")
Run = Callable[..., str]
NETWORK = "inloop-vlop"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures `in.y4m` and their stream `a.266`, five pictures in two sequences."""
    folder = tmp_path_factory.mktemp("sei")
    photograph = skimage.data.astronaut()
    parts = [np.ascontiguousarray(photograph[10 * i : 10 * i + 64, 60:156]) for i in range(5)]
    frames = [rgb_to_frame(part, bit_depth=8) for part in parts]
    with Y4mWriter(folder / "in.y4m", frames[0].format(30)) as writer:
        for frame in frames:
            writer.write(frame)
    assert main(["encode", str(folder / "in.y4m"), "--qp", "37", "-o", str(folder / "a.266")]) == 0
    return folder


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused, and returns what it says."""

    def refused(*words: str | Path) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    return refused


def samples(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_y4m(path)]


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random access stream whose first picture is led by seven that are output before it, in temporal layers."""
    stream = tmp_path_factory.mktemp("led") / "led.266"
    frames = [rgb_to_frame(skimage.data.astronaut()[i : i + 48, 60:124], bit_depth=10) for i in range(9)]
    source = "-f rawvideo -pix_fmt yuv420p10le -s 64x48 -r 30 -i pipe:0 -c:v libvvenc -preset faster -qp 37 -qpa 0"
    command = [ffmpeg_executable(), "-v", "error", *source.split(), "-vvenc-params", "SEIDecodedPictureHash=md5"]
    pictures = b"".join(frame.tobytes() for frame in frames)
    subprocess.run([*command, "-f", "vvc", stream], input=pictures, check=True, stderr=subprocess.DEVNULL)
    units = list(nal_units(stream.read_bytes()))
    assert sum(unit.nal_unit_type == RADL for unit in units) == 7
    assert max(unit.temporal_id for unit in units) > 2
    return stream


@pytest.mark.parametrize("suffix", [(), ("--suffix",)])
@pytest.mark.parametrize("at", ["sequence", "irap", "once", "picture"])
def test_pictures_that_lead_the_first_are_filtered_too(
    run: Run, led: Path, tmp_path: Path, at: str, suffix: tuple[str, ...]
) -> None:
    t = tmp_path / "t.266"
    inserted = json.loads(run("sei", "insert", led, "--network", NETWORK, "--at", at, *suffix, "-o", t, "--json"))
    assert (inserted["n_pictures"], inserted["n_pictures_filtered"]) == (9, 9)
    run("filter", t, "-o", tmp_path / "self.y4m")
    run("filter", led, "--model", NETWORK, "-o", tmp_path / "hand.y4m")
    assert samples(tmp_path / "self.y4m") == samples(tmp_path / "hand.y4m")
    stream = read_vvc_stream(t)
    filtering = filtering_of(stream, lambda network, precision: Runner(network, precision=precision))
    assert [frame.tobytes() for frame in filtering.filtered(decode_vvc(stream))] == samples(tmp_path / "self.y4m")
    assert (filtering.n_filtered, filtering.made_qp, filtering.is_inter) == (9, None, True)
    layers: list[set[int]] = []
    for unit in nal_units(t.read_bytes()):
        if unit.nal_unit_type == ACCESS_UNIT_DELIMITER:
            layers.append(set())
        elif unit.nal_unit_type in (*range(12), 23, 24):
            layers[-1].add(unit.temporal_id)
    assert all(len(each) == 1 for each in layers)  # messages have the layer of their picture
    run("sei", "remove", t, "-o", tmp_path / "back.266")
    assert (tmp_path / "back.266").read_bytes() == led.read_bytes()


def test_decisions_travel_with_leading_pictures(run: Run, led: Path, tmp_path: Path) -> None:
    run("decode", led, "-o", tmp_path / "in.y4m")
    made = ("filter", led, "--model", NETWORK, "--original", tmp_path / "in.y4m", "--decisions-out", tmp_path / "d.bin")
    run(*made, "-o", tmp_path / "made.y4m")
    run("sei", "insert", led, "--network", NETWORK, "--decisions", tmp_path / "d.bin", "-o", tmp_path / "t.266")
    run("filter", tmp_path / "t.266", "-o", tmp_path / "self.y4m")
    assert samples(tmp_path / "self.y4m") == samples(tmp_path / "made.y4m")


@pytest.mark.skipif(not (STREAMS / "c400.266").exists(), reason="VTM's streams are not here")
def test_pictures_without_chroma(run: Run, tmp_path: Path) -> None:
    c400, t = STREAMS / "c400.266", tmp_path / "t.266"
    run("sei", "insert", c400, "--network", NETWORK, "-o", t)
    (said,) = [each for each in json.loads(run("sei", "list", t, "--json"))["messages"] if each["payload_type"] == 210]
    assert (said["fields"]["nnpfc_inp_order_idc"], said["fields"]["nnpfc_out_order_idc"]) == (0, 0)
    run("filter", t, "-o", tmp_path / "self.y4m")
    run("filter", c400, "--model", NETWORK, "-o", tmp_path / "hand.y4m")
    assert samples(tmp_path / "self.y4m") == samples(tmp_path / "hand.y4m")


class Luma(torch.nn.Conv2d):
    layout = "planes=y"


def test_a_coded_onnx_model_with_its_layout_travels(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Luma(1, 1, 3, padding=1)
    model = import_onnx().load_from_string(to_onnx(network, parse_layout(network.layout)))
    (tmp_path / "bare.nnc").write_bytes(compress(model))
    model.metadata_props.add(key="layout", value=network.layout)
    (tmp_path / "own.onnx").write_bytes(model.SerializeToString())
    run("compress", tmp_path / "own.onnx", "-o", tmp_path / "own.nnc")
    a, t, own = folder / "a.266", tmp_path / "t.266", tmp_path / "own.nnc"
    run("sei", "insert", a, "--network", own, "-o", t)
    run("filter", t, "-o", tmp_path / "self.y4m")
    run("filter", a, "--model", own, "-o", tmp_path / "hand.y4m")
    assert samples(tmp_path / "self.y4m") == samples(tmp_path / "hand.y4m")
    run("sei", "extract", t, "-o", tmp_path / "back.nnc")
    assert (tmp_path / "back.nnc").read_bytes() == own.read_bytes()

    no = ("-o", tmp_path / "no.266")
    said = refused("sei", "insert", a, "--network", tmp_path / "bare.nnc", *no)
    assert "bare.nnc: no layout says how pictures go in" in said
    assert "put it into the metadata of the model" in said
    assert "--layout" not in said
    assert "for the bundled architectures" in refused("sei", "insert", a, "--network", own, "--precision", "int8", *no)


def test_a_video_that_may_hold_a_stream_is_told(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("filter", tmp_path / "x.mp4", "-o", tmp_path / "no.y4m")
    assert "give --model, or the VVC stream that is in it (ffmpeg -i FILE -c copy -f vvc out.266)" in said


def test_a_damaged_network_is_not_handed_out(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    run("sei", "insert", folder / "a.266", "--network", NETWORK, "--at", "once", "-o", tmp_path / "t.266")
    data = bytearray((tmp_path / "t.266").read_bytes())
    data[data.index(network_path(NETWORK).read_bytes()[5000:5020])] ^= 4
    (tmp_path / "t.266").write_bytes(data)
    assert "checksum" in refused("sei", "extract", tmp_path / "t.266", "-o", tmp_path / "no.nnc")
    assert not (tmp_path / "no.nnc").exists()


@pytest.mark.parametrize("options", [(), ("--at", "once"), ("--at", "picture", "--suffix"), ("--qp", "37")])
def test_a_stream_filters_itself_as_by_hand(run: Run, folder: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    a, t = folder / "a.266", tmp_path / "t.266"
    inserted = json.loads(run("sei", "insert", a, "--network", NETWORK, "-o", t, *options, "--json"))
    assert inserted["filter_id"] == 1
    assert inserted["sei_bits"] == 8 * (t.stat().st_size - a.stat().st_size)
    said = json.loads(run("filter", t, "-o", tmp_path / "self.y4m", "--json"))
    by_hand = json.loads(run("filter", a, "--model", NETWORK, "--qp", "37", "-o", tmp_path / "hand.y4m", "--json"))
    assert samples(tmp_path / "self.y4m") == samples(tmp_path / "hand.y4m")
    assert said["output_md5"] == by_hand["output_md5"]
    assert said["n_pictures_filtered"] == 5
    run("sei", "extract", t, "-o", tmp_path / "out.nnc")
    assert (tmp_path / "out.nnc").read_bytes() == network_path(NETWORK).read_bytes()
    run("sei", "remove", t, "-o", tmp_path / "back.266")
    assert (tmp_path / "back.266").read_bytes() == a.read_bytes()
    for text in (run("decode", t, "-o", tmp_path / "plain.y4m"), run("inspect", t)):
        assert "carries filter 1: base for visual quality, 9902 bytes of NNC" in text


def test_the_qps_of_slices_where_no_qp_is_given(run: Run, folder: Path, tmp_path: Path) -> None:
    for name, qp in (("none", ()), ("37", ("--qp", "37")), ("22", ("--qp", "22"))):
        run("filter", folder / "a.266", "--model", NETWORK, *qp, "-o", tmp_path / f"{name}.y4m")
    assert samples(tmp_path / "none.y4m") == samples(tmp_path / "37.y4m") != samples(tmp_path / "22.y4m")
    run("sei", "insert", folder / "a.266", "--network", NETWORK, "--qp", "22", "-o", tmp_path / "t.266")
    run("filter", tmp_path / "t.266", "-o", tmp_path / "stated.y4m")
    assert samples(tmp_path / "stated.y4m") == samples(tmp_path / "22.y4m")


def test_decisions_travel_too_and_are_held_to_what_made_them(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    a, d, t = folder / "a.266", tmp_path / "d.bin", tmp_path / "t.266"
    made = ("filter", a, "--model", NETWORK, "--qp", "37", "--original", folder / "in.y4m")
    run(*made, "--decisions-out", d, "-o", tmp_path / "made.y4m")
    inserted = json.loads(run("sei", "insert", a, "--network", NETWORK, "--decisions", d, "-o", t, "--json"))
    assert inserted["decision_bytes"] == d.stat().st_size
    run("filter", t, "-o", tmp_path / "self.y4m")
    assert samples(tmp_path / "self.y4m") == samples(tmp_path / "made.y4m")
    run("sei", "extract", t, "--decisions", "-o", tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == d.read_bytes()
    no = ("-o", tmp_path / "no.y4m", "--decisions", d)
    assert "made with QP 37, got QP 36" in refused("filter", a, "--model", NETWORK, "--qp", "36", *no)
    assert "made with a network of SHA-256" in refused("filter", a, "--model", "inloop-lop", "--qp", "37", *no)
    said = refused("filter", a, "--model", NETWORK, "--qp", "37", "--precision", "int8", *no)
    assert "made with precision float32, got int8" in said
    no = ("-o", tmp_path / "no.266", "--decisions", d)
    assert "another network than inloop-lop" in refused("sei", "insert", a, "--network", "inloop-lop", *no)
    assert "--qp 30 was given" in refused("sei", "insert", a, "--network", NETWORK, "--qp", "30", *no)
    said = refused("sei", "insert", a, "--network", NETWORK, "--precision", "int8", *no)
    assert "decisions made with precision float32, --precision int8 was given" in said
    assert not list(tmp_path.glob("no.*"))


def test_decisions_for_another_stream_are_not_put_in(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    def cropped(width: int, height: int) -> Path:
        frames = [frame.cropped(width, height) for frame in read_y4m(folder / "in.y4m")]
        with Y4mWriter(tmp_path / f"{width}.y4m", frames[0].format(30)) as writer:
            for frame in frames:
                writer.write(frame)
        return tmp_path / f"{width}.y4m"

    a, b, d, no = folder / "a.266", tmp_path / "b.266", tmp_path / "d.bin", ("-o", tmp_path / "no.266")
    made = ("filter", a, "--model", NETWORK, "-o", tmp_path / "made.y4m", "--decisions-out", d, "--original")
    insert = ("sei", "insert", "--network", NETWORK, "--decisions", d)
    run(*made, folder / "in.y4m")
    run("encode", folder / "in.y4m", "--qp", "27", "-o", b)
    said = refused(*insert, b, *no)
    assert (
        "d.bin: decisions made with QP 37, got QP 27: make them for this stream and network, or give the QP 37 (--qp)"
        in said
    )
    run(*insert, b, "--qp", "37", "-o", tmp_path / "meant.266")  # of one who says so
    run("encode", folder / "in.y4m", "--qp", "37", "--pictures", "4", "-o", b)
    assert "d.bin: decisions for 5 pictures, and the stream has 4" in refused(*insert, b, *no)
    run("encode", cropped(64, 48), "--qp", "37", "-o", b)
    said = refused(*insert, b, *no)
    assert "d.bin: decisions for pictures of 96x64, 4:2:0; the stream's are 64x48, 4:2:0" in said
    run(*made, cropped(95, 63), "--size", "95x63")
    run(*insert, a, "-o", tmp_path / "padded.266")
    assert not (tmp_path / "no.266").exists()


def test_what_travels_in_the_stream_and_is_not_used_is_said(run: Run, folder: Path, tmp_path: Path) -> None:
    a, d, t, out = folder / "a.266", tmp_path / "d.bin", tmp_path / "t.266", ("-o", tmp_path / "out.y4m")
    made = ("filter", a, "--model", NETWORK, "--original", folder / "in.y4m", *out, "--decisions-out", d, "--json")
    digest = json.loads(run(*made))["output_md5"]
    run("sei", "insert", a, "--network", NETWORK, "--decisions", d, "--filtered-md5", digest, "-o", t)
    said = run("filter", t, "--model", NETWORK, *out)
    kinds = f"base for visual quality, 9902 bytes of NNC, MD5 of the filtered pictures, decisions of {d.stat().st_size}"
    assert f"t.266: carries what is not used with these options: filter 1: {kinds} bytes\n" in said
    by_decisions = json.loads(run("filter", t, "--decisions", d, *out, "--json"))
    assert by_decisions["ignored"] == ["decisions of filter 1", "MD5 of the pictures of filter 1"]
    assert "ignored" not in json.loads(run("filter", t, *out, "--json"))
    assert "ignored" not in json.loads(run("filter", a, "--model", NETWORK, *out, "--json"))


def test_a_precision_that_the_stream_does_not_say(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    a, d, t, out = folder / "a.266", tmp_path / "d.bin", tmp_path / "t.266", ("-o", tmp_path / "out.y4m")
    made = ("filter", a, "--model", NETWORK, "--precision", "int8", "--original", folder / "in.y4m", *out)
    run(*made, "--decisions-out", d)
    run("sei", "insert", a, "--network", NETWORK, "--decisions", d, "-o", t)
    said = refused("filter", t, "--precision", "float32", "-o", tmp_path / "no.y4m")
    assert "t.266: the stream says precision int8 for its filter, float32 (--precision) was given: omit it" in said
    for precision in ((), ("--precision", "int8")):
        assert json.loads(run("filter", t, *precision, *out, "--json"))["precision"] == "int8"
    assert json.loads(run("filter", a, "--model", NETWORK, *out, "--json"))["precision"] == "float32"


def test_the_pictures_that_were_meant(run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    hand = ("filter", folder / "a.266", "--model", NETWORK, "--precision", "int8", "-o", tmp_path / "hand.y4m")
    digest = json.loads(run(*hand, "--json"))["output_md5"]
    plain = ("sei", "insert", folder / "a.266", "--network", NETWORK, "--filtered-md5")
    said = refused(*plain, digest, "-o", tmp_path / "no.266")
    assert "give the one that they were filtered with (--precision int8)" in said
    insert = (*plain[:-1], "--precision", "int8", "--filtered-md5")
    run(*insert, digest, "-o", tmp_path / "t.266")
    run("filter", tmp_path / "t.266", "-o", tmp_path / "self.y4m")
    assert samples(tmp_path / "self.y4m") == samples(tmp_path / "hand.y4m")
    run(*insert, "0" * 32, "-o", tmp_path / "wrong.266")
    said = refused("filter", tmp_path / "wrong.266", "-o", tmp_path / "no.y4m")
    assert "are not those that were meant" in said
    assert not (tmp_path / "no.y4m").exists()
    assert "must be 32 hexadecimal digits" in refused(*insert, "xyz", "-o", tmp_path / "no.266")


def test_an_update_of_a_filter_in_the_stream(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    """The network in the stream, and what is laid over it from the second sequence on."""
    data = network_path(NETWORK).read_bytes()
    arrays: dict[str, Array] = read_arrays(network_path(NETWORK)).arrays  # type: ignore[assignment]
    changed = dict(arrays) | {"tail.bias": arrays["tail.bias"] + np.float32(0.5)}
    update, _ = compress_update(BaseState.of(arrays), changed)
    network = network_of_nnc(data, "here", update)
    assert np.abs(network_tensors(network)["tail.bias"] - changed["tail.bias"]).max() < 0.01
    (tmp_path / "update.nnc").write_bytes(update)
    advice = "is an update: apply it to what it updates (vvc-nnr update apply"
    assert advice in refused("decompress", tmp_path / "update.nnc", "-o", tmp_path / "no.safetensors")
    run("sei", "insert", folder / "a.266", "--network", NETWORK, "-o", tmp_path / "t.266")
    changing = ("sei", "insert", tmp_path / "t.266", "--network", tmp_path / "update.nnc", "--update-of", "1")
    run(*changing, "-o", tmp_path / "u.266")
    listed = listed_messages(sei_messages((tmp_path / "u.266").read_bytes()))
    running = [each for each in listed if isinstance(each.content, NnpfActivation)]
    assert len({each.placed.picture for each in running}) == len(running) > 0  # one says what runs at a picture
    assert not any(each.content.target_base_flag for each in running)  # type: ignore[union-attr]
    run("filter", tmp_path / "u.266", "-o", tmp_path / "updated.y4m")
    run("filter", tmp_path / "t.266", "-o", tmp_path / "base.y4m")
    assert samples(tmp_path / "updated.y4m") != samples(tmp_path / "base.y4m")
    run("sei", "extract", tmp_path / "u.266", "--update", "-o", tmp_path / "again.nnc")
    assert (tmp_path / "again.nnc").read_bytes() == update
    behind = ("sei", "insert", tmp_path / "s.266", "--network", tmp_path / "update.nnc", "--update-of", "1")
    run("sei", "insert", folder / "a.266", "--network", NETWORK, "--suffix", "-o", tmp_path / "s.266")
    assert "before the base of filter 1" in refused(*behind, "-o", tmp_path / "no.266")
    run(*behind, "--suffix", "-o", tmp_path / "b.266")
    run("filter", tmp_path / "b.266", "-o", tmp_path / "behind.y4m")
    assert samples(tmp_path / "behind.y4m") == samples(tmp_path / "updated.y4m")


def test_filters_elsewhere_and_of_other_kinds(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    a, t = folder / "a.266", tmp_path / "t.266"
    run("sei", "insert", a, "--network", NETWORK, "--uri", "https://example.com/x.nnc", "-o", t)
    said = refused("filter", t, "-o", tmp_path / "no.y4m")
    assert "is not in the stream, but at 'https://example.com/x.nnc' (tag:iso.org,2023:15938-17)" in said
    assert "not in the stream" in refused("sei", "extract", t, "-o", tmp_path / "no.nnc")
    run("sei", "insert", a, "--network", NETWORK, "-o", tmp_path / "inside.266")
    run("filter", tmp_path / "inside.266", "-o", tmp_path / "inside.y4m")
    run("filter", t, "--model", NETWORK, "-o", tmp_path / "elsewhere.y4m")
    assert samples(tmp_path / "elsewhere.y4m") == samples(tmp_path / "inside.y4m")
    on = NnpfActivation(target_id=7, persistence_flag=True, target_base_flag=True, output_flag=(True,))
    bundled = {"payload_byte": network_path("inloop-vlop").read_bytes()}
    for changes, message in (
        ({"purpose": 4}, "filter 7 is for another size; only visual quality is done"),
        ({**bundled, "property_present_flag": True, "inp_order_idc": 0}, "nnpfc_inp_order_idc is 0; its network has 3"),
        ({"payload_byte": b"no network"}, "filter 7 of the stream: "),
    ):
        characteristics = NnpfCharacteristics(id=7, **changes)  # type: ignore[arg-type]
        t.write_bytes(insert_sei(a.read_bytes(), [characteristics.message(), on.message()]))
        assert message in refused("filter", t, "-o", tmp_path / "no.y4m")
    assert not (tmp_path / "no.y4m").exists()


def test_a_filter_whose_number_is_reserved_is_ignored_as_decoders_must(
    run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    on = NnpfActivation(target_id=300, persistence_flag=True, target_base_flag=True, output_flag=(True,))
    base = NnpfCharacteristics(id=300, payload_byte=network_path(NETWORK).read_bytes())
    t = tmp_path / "t.266"
    t.write_bytes(insert_sei((folder / "a.266").read_bytes(), [base.message(), on.message()]))
    said = refused("filter", t, "-o", tmp_path / "no.y4m")
    assert "no filter that runs (300: a number that H.274 reserves, with which filters are ignored): name a" in said
    assert "filter 300: base, from here on; H.274 reserves the number 300: decoders ignore it" in run("sei", "list", t)
    (first, *_) = json.loads(run("sei", "list", t, "--json"))["messages"]
    assert (first["fields"]["nnpfc_id"], "decoders ignore it" in first["problem"]) == (300, True)
    run("sei", "insert", t, "--network", NETWORK, "-o", tmp_path / "u.266")
    run("filter", tmp_path / "u.266", "-o", tmp_path / "f.y4m")
    assert "--filter-id): H.274 reserves it" in refused(
        *("sei", "insert", t, "--network", NETWORK, "--update-of", "300", "-o", tmp_path / "no.266")
    )


@pytest.mark.parametrize("suffix", [".264", ".265"])
def test_filters_of_avc_and_hevc_are_not_run_and_that_is_said(
    refused: Callable[..., str], tmp_path: Path, suffix: str
) -> None:
    said = refused("filter", tmp_path / f"a{suffix}", "-o", tmp_path / "no.y4m")
    assert "are listed and taken out (vvc-nnr sei list, extract), not run: give --model" in said


@pytest.mark.parametrize(
    ("uri", "is_legal"),
    [
        ("https://example.com:80/a%20b.nnc?x=1#y", True),
        ("file:///a/b.nnc", True),
        ("http://[::1]:8080/x", True),
        ("ni:///sha-256-128;f4OxZX_x-FO5LcGBSKHWXQ", True),
        ("urn:example:a", True),
        ("http://exämple/x", False),
        ("http://example/x y.nnc", False),
        ("http://example/%zz", False),
        ("http://a[b]/x", False),
        ("a.nnc", False),
        ("", False),
    ],
)
def test_uris_are_those_of_rfc_3986(uri: str, is_legal: bool) -> None:
    if is_legal:
        assert at_uri(NnpfCharacteristics(), uri).uri == uri
        return
    with pytest.raises(InputError, match=r"must be a URI \(RFC 3986\)"):
        at_uri(NnpfCharacteristics(), uri)


@pytest.mark.parametrize(
    ("tag", "is_legal"),
    [
        ("tag:onnx.ai,2017:onnx", True),
        ("tag:me@x-y.org,2017-01-31:a/b?c#d", True),
        ("tag:x.org,17:a", False),
        ("tag:exämple.org,2017:a", False),
        ("tag:x.org,2017:a b", False),
        ("https://x.org", False),
    ],
)
def test_tag_uris_are_those_of_rfc_4151(tag: str, is_legal: bool) -> None:
    if is_legal:
        assert at_uri(NnpfCharacteristics(), "urn:a:b", tag).tag_uri == tag
        return
    with pytest.raises(InputError, match=r"must be a tag URI \(RFC 4151\)"):
        at_uri(NnpfCharacteristics(), "urn:a:b", tag)


def test_a_network_that_is_no_filter_of_this_package(refused: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.nnc").write_bytes(compress({"a": np.ones((2, 2), np.float32)}))
    said = refused("sei", "insert", folder / "a.266", "--network", tmp_path / "plain.nnc", "-o", tmp_path / "no.266")
    assert "plain.nnc: architecture '' in its metadata; this package has inloop-filter," in said
    assert "; must be a network of this package" in said
    assert "--arch" in refused("filter", folder / "a.266", "--model", tmp_path / "plain.nnc", "-o", tmp_path / "no.y4m")


def test_several_filters(run: Run, refused: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    a, t, u = folder / "a.266", tmp_path / "t.266", tmp_path / "u.266"
    run("sei", "insert", a, "--network", NETWORK, "-o", t)
    run("sei", "insert", t, "--network", "inloop-lop", "-o", u)
    assert "filters 1 and 2 run on picture 0" in refused("filter", u, "-o", tmp_path / "no.y4m")
    run("filter", u, "--filter-id", "2", "-o", tmp_path / "second.y4m")
    run("filter", a, "--model", "inloop-lop", "--qp", "37", "-o", tmp_path / "hand.y4m")
    assert samples(tmp_path / "second.y4m") == samples(tmp_path / "hand.y4m")
    assert "its filters are 1, 2: name one" in refused("sei", "extract", u, "-o", tmp_path / "no.nnc")
    run("sei", "extract", u, "--filter-id", "2", "-o", tmp_path / "second.nnc")
    unpacked = ("decompress", tmp_path / "second.nnc", "-o", tmp_path / "second.safetensors")
    assert json.loads(run(*unpacked, "--json"))["note"] in run(*unpacked)
    assert "no filter 9 that runs" in refused("filter", u, "--filter-id", "9", "-o", tmp_path / "no.y4m")
    taken = ("sei", "insert", t, "--network", NETWORK, "--filter-id", "1", "-o", tmp_path / "no.266")
    assert "the stream has such a filter" in refused(*taken)
    run("sei", "remove", u, "--filter-id", "2", "-o", tmp_path / "back.266")
    assert (tmp_path / "back.266").read_bytes() == t.read_bytes()
    run("sei", "remove", u, "--type", "132", "-o", tmp_path / "unhashed.266")
    assert "not verified" in run("decode", tmp_path / "unhashed.266", "-o", tmp_path / "plain.y4m")


def test_what_is_listed(run: Run, folder: Path, tmp_path: Path) -> None:
    run("sei", "insert", folder / "a.266", "--network", NETWORK, "--at", "once", "-o", tmp_path / "t.266")
    listed = json.loads(run("sei", "list", tmp_path / "t.266", "--json"))
    assert [each["payload_type"] for each in listed["messages"]] == [210, 5, 211] + 5 * [132]
    fields = listed["messages"][0]["fields"]
    assert (fields["nnpfc_inp_order_idc"], fields["nnpfc_overlap"], fields["nnpfc_payload_byte"]) == (3, 9, 9902)
    text = run("sei", "list", tmp_path / "t.266", "--filters")
    assert "nnpfa_target_id: 1" in text
    assert "picture hash" not in text
    assert "filter settings" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("filter a.266 -o no.y4m", "a.266: the stream carries no filter that runs: name a network (--model)"),
        ("filter in.y4m -o no.y4m --qp 30", "in.y4m: is no VVC stream, which might carry a network: give --model"),
        ("filter in.y4m -o no.y4m --model inloop-lop", "in.y4m: its name says no QP, as x_qp32.yuv would; give --qp"),
        ("filter a.266 -o no.y4m --model inloop-lop --filter-id 1", "--filter-id: chooses a filter of the stream"),
        ("sei extract a.266 -o no.nnc", "a.266: the stream carries no filter"),
        ("sei remove a.266 -o no.266", "a.266: holds no such message"),
        ("sei remove a.266 -o no.266 --filter-id 1 --type 5", "--filter-id and --type: contradict each other"),
        ("sei insert in.y4m --network inloop-lop -o no.266", "suffix '.y4m' of a video stream: must be one of .266"),
        ("sei insert a.266 --network inloop-postfilter -o no.266", "code it first (vvc-nnr compress)"),
        ("sei insert a.266 --network inloop-lop -o a.266", "a.266: is the input itself"),
        ("sei insert a.266 --network inloop-lop --update-of 1 -o no.266", "--update-of 1: the stream has no such"),
        ("sei insert a.266 --network inloop-lop --tag-uri tag:x -o no.266", "--tag-uri: says what is at a --uri"),
        ("sei insert a.266 --network inloop-lop --filter-id 300 -o no.266", "must be 0 to 255 or 512 to 2147483647"),
        ("sei insert a.266 --network inloop-lop --filter-id 2147483648 -o no.266", "at most 2147483647"),
        ("sei insert a.266 --network inloop-lop --uri x.nnc -o no.266", "--uri): must be a URI (RFC 3986)"),
        (
            "sei insert a.266 --network inloop-lop --uri https://x.org/y.nnc --tag-uri tag:x.org:y -o no.266",
            "--tag-uri): must be a tag URI (RFC 4151), such as tag:iso.org,2023:15938-17",
        ),
        ("sei list none.266", "none.266: no such file"),
        ("sei insert a.266 --network inloop-lop -o no.265", "the stream is VVC, the suffix is that of HEVC"),
    ],
)
def test_what_is_refused(
    refused: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    monkeypatch.chdir(folder)
    assert message in refused(*words.split())
    assert not list(folder.glob("no.*"))


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".264", "neither a picture nor an SEI message (taken for AVC)"),
        (".265", "only one layer is read (taken for HEVC)"),
    ],
)
def test_streams_of_another_standard_than_their_suffix_says(
    refused: Callable[..., str], folder: Path, tmp_path: Path, suffix: str, message: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes((folder / "a.266").read_bytes())
    assert message in refused("sei", "list", path)


def test_odd_suffixes_of_streams(run: Run, folder: Path, tmp_path: Path) -> None:
    """VTM's examples write str.bin, others .bit or .h266; VTM's decoder writes networks as .nnr."""
    for name in ("str.bin", "x.bit", "x.H266"):
        (tmp_path / name).write_bytes((folder / "a.266").read_bytes())
        run("filter", tmp_path / name, "--model", NETWORK, "-o", tmp_path / "out.y4m")
        assert "carries no filter" in run("inspect", tmp_path / name)
    (tmp_path / "payloadByte1.nnr").write_bytes(network_path(NETWORK).read_bytes())
    assert "checksum are right" in run("inspect", tmp_path / "payloadByte1.nnr")


def test_levels_of_features_travel_with_the_network(run: Run, folder: Path, tmp_path: Path) -> None:
    """Then int8 depends on neither threads nor tiles nor the machine."""
    run("compress", NETWORK, "-o", tmp_path / "own.nnc", "--integer")
    before, after = (read_arrays(path).arrays for path in (network_path(NETWORK), tmp_path / "own.nnc"))
    assert all(np.array_equal(before[name], after[name]) for name in before)  # type: ignore[arg-type]
    assert 600 < (tmp_path / "own.nnc").stat().st_size - network_path(NETWORK).stat().st_size < 750
    run("sei", "insert", folder / "a.266", "--network", tmp_path / "own.nnc", "-o", tmp_path / "t.266")
    said = [
        json.loads(
            run("filter", tmp_path / "t.266", "-o", tmp_path / "x.y4m", "--precision", "int8", *options, "--json")
        )
        for options in ((), ("--threads", "1", "--tile", "32"))
    ]
    assert said[0]["output_md5"] == said[1]["output_md5"]
    assert "levels of the file" in said[0]["inference"]
    run("compress", tmp_path / "own.nnc", "-o", tmp_path / "other.nnc", "--qp", "-30")
    assert "feature_levels" not in read_arrays(tmp_path / "other.nnc").metadata
    run("compress", tmp_path / "own.nnc", "-o", tmp_path / "other.nnc", "--qp", "-30", "--integer")
    assert "feature_levels" in read_arrays(tmp_path / "other.nnc").metadata


def test_a_filter_as_an_onnx_model(run: Run, refused: Callable[..., str], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run("decompress", NETWORK, "-o", tmp_path / "out.onnx")
    model = onnxruntime.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
    planes = np.random.default_rng(3).random((1, 6, 12, 20)).astype(np.float32)
    (output,) = model.run(None, {"planes": planes, "qp": np.array([37], np.float32)})
    with torch.no_grad():
        expected = load_inloop_filter(NETWORK)(torch.from_numpy(planes), torch.tensor([37.0])).numpy()
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert "holds an autoencoder" in refused("decompress", "autoencoder-1.8bpp", "-o", tmp_path / "no.onnx")
    (tmp_path / "plain.nnc").write_bytes(compress({"a": np.ones((2, 2), np.float32)}))
    assert "no graph, only tensors" in refused("decompress", tmp_path / "plain.nnc", "-o", tmp_path / "no.onnx")
    assert not (tmp_path / "no.onnx").exists()


DOCUMENT = (Path(__file__).parents[2] / "docs" / "sei.md").read_text()


def test_the_commands_of_the_document_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.266").write_bytes((folder / "a.266").read_bytes())
    monkeypatch.chdir(tmp_path)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 8
    output_md5 = ""
    for line in lines:
        capsys.readouterr()
        assert main(shlex.split(line.replace("OUTPUT_MD5", output_md5))[1:]) == 0, capsys.readouterr().err
        if "--json" in line:
            output_md5 = json.loads(capsys.readouterr().out)["output_md5"]
    assert (tmp_path / "out.266").read_bytes() == (folder / "a.266").read_bytes()


def test_the_examples_of_the_document_give_what_they_show() -> None:
    text = "\n".join(re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(text, {}, "sei.md", "sei.md", 0)
    assert len(examples.examples) == 7
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_document_names_the_numbers_of_the_code() -> None:
    for uuid in (SETTINGS_UUID, DECISIONS_UUID):
        assert str(UUID(bytes=uuid)) in DOCUMENT
    assert NNC_TAG_URI in DOCUMENT


def test_decisions_are_of_vvc_streams(refused: Callable[..., str], tmp_path: Path) -> None:
    hevc = tmp_path / "a.265"
    hevc.write_bytes(bytes.fromhex("0000000140010c000000012601af80"))
    (tmp_path / "d.bin").write_bytes(b"none")
    inserted = ("--network", NETWORK, "--decisions", tmp_path / "d.bin", "-o", tmp_path / "no.265")
    assert "--decisions are held against the headers of a VVC stream" in refused("sei", "insert", hevc, *inserted)


@pytest.mark.parametrize("suffix", [".y4m", ".yuv"])
def test_the_output_may_have_more_bits_per_sample(
    run: Run, refused: Run, folder: Path, tmp_path: Path, suffix: str
) -> None:
    """PSNR is of what is written, at its depth; what the stream says of pictures of its own depth is not used."""
    a, own, out = folder / "a.266", tmp_path / "own.266", tmp_path / f"out_96x64_30fps_12bit_420{suffix}"
    original = ("--original", folder / "in.y4m")
    plain = json.loads(run("filter", a, "--model", NETWORK, "--precision", "int8", "-o", tmp_path / "p.y4m", "--json"))
    run(
        "sei",
        "insert",
        a,
        "--network",
        NETWORK,
        "--precision",
        "int8",
        "--filtered-md5",
        plain["output_md5"],
        "-o",
        own,
    )
    said = run("filter", own, "-o", out, "--output-bit-depth", "12", *original)
    assert "MD5 of the pictures of filter" in said
    assert "PSNR peak: 1020 at 10 bit before, 4080 at 12 bit after" in said
    found = json.loads(run("filter", own, "-o", out, "--output-bit-depth", "12", *original, "--json"))
    scored = json.loads(run("score", folder / "in.y4m", out, "--json"))["decoded"][0]
    assert found["bit_depth"] == 12
    assert scored["psnr_y_db"] == pytest.approx(found["after"]["psnr_y_db"])
    wide, narrow = open_source(out), open_source(tmp_path / "p.y4m")
    for more, less in zip(wide.frames(), narrow.frames(), strict=True):
        assert more.bit_depth == 12
        for a_plane, b_plane in zip(more.planes, less.planes, strict=True):
            assert np.abs(a_plane.astype(int) - 4 * b_plane.astype(int)).max() <= 2
            assert (a_plane % 4).any()
    made = ("--decisions-out", tmp_path / "d.bin", *original)
    no = ("-o", tmp_path / "no.y4m")
    for words, message in (
        (("--output-bit-depth", "8"), "a.266: --output-bit-depth 8: must be at least the 10 bit of its pictures"),
        (("--output-bit-depth", "12", *made), "decisions are of pictures of the input's bit depth"),
        (("--output-bit-depth", "17"), "--output-bit-depth"),
    ):
        assert message in refused("filter", a, "--model", NETWORK, *words, *no)
    run("filter", a, "--model", NETWORK, *made, "-o", tmp_path / "m.y4m")
    run("sei", "insert", a, "--network", NETWORK, "--decisions", tmp_path / "d.bin", "-o", tmp_path / "d.266")
    said = refused("filter", tmp_path / "d.266", "--output-bit-depth", "12", *no)
    assert "carries decisions of filter" in said
    assert not (tmp_path / "no.y4m").exists()
