"""The command adapt: streams in, streams with a filter of their own out, or left as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vvc_nnr.codec.nal import nal_units
from vvc_nnr.codec.nnpf import NnpfCharacteristics
from vvc_nnr.codec.sei import sei_messages
from vvc_nnr.codec.stream_filters import listed_messages
from vvc_nnr.coding.update import apply_update
from vvc_nnr.compress import compress, decompress
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters.adaptation import adapt_streams
from vvc_nnr.filters.adaptation.base_filter import AdaptedBase
from vvc_nnr.filters.adaptation.tuning import TunedUpdate, coded_levels
from vvc_nnr.filters.bundled import name_by_hash, network_path
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db
from vvc_nnr.sequences.y4m import Y4mWriter, read_y4m

onnx = pytest.importorskip("onnx")

PREFIX_SEI = 23
TUNING = ("--steps", "10", "--batch-size", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, real_pictures: Callable[..., list[Frame]]) -> Path:
    """The pictures `in.y4m`, and their streams of two QPs."""
    folder = tmp_path_factory.mktemp("adapt")
    frames = real_pictures(3, 64, 48)
    with Y4mWriter(folder / "in.y4m", frames[0].format(30)) as writer:
        for frame in frames:
            writer.write(frame)
    for qp in ("27", "37"):
        assert main(["encode", str(folder / "in.y4m"), "--qp", qp, "-o", str(folder / f"a_{qp}.266")]) == 0
    return folder


def adapted(capsys: pytest.CaptureFixture[str], folder: Path, *words: str | Path, model: str = "inloop-vlop") -> dict:
    capsys.readouterr()
    options = ["--original", folder / "in.y4m", "--model", model, *TUNING, "--json"]
    assert main([str(word) for word in ("adapt", *words, *options)]) == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


def encode_at_37(frames: Sequence[Frame], folder: Path) -> None:
    """Writes pictures as in.y4m and their stream as a.266."""
    with Y4mWriter(folder / "in.y4m", frames[0].format(30)) as writer:
        for frame in frames:
            writer.write(frame)
    assert main(["encode", str(folder / "in.y4m"), "--qp", "37", "-o", str(folder / "a.266")]) == 0


@pytest.mark.parametrize("base", ["hash", "stream"])
def test_a_decoder_alone_gives_the_pictures_that_the_encoder_measured(folder, tmp_path, capsys, base):
    """With so many pictures to come that the update pays."""
    outputs = [tmp_path / name for name in ("b_27.266", "b_37.266", "u_27.nnc", "u_37.nnc")]
    written = [word for path in outputs for word in ("-o", path)]
    inputs = [folder / "a_27.266", folder / "a_37.266"]
    found = adapted(capsys, folder, *inputs, *written, "--pictures", "1000000", "--base", base)
    assert [each["sent"] for each in found["streams"]] == ["update", "update"]
    for path, each in zip(outputs, found["streams"], strict=False):
        assert each["psnr_db"]["update"][0] > each["psnr_db"]["base"][0]
        assert path.stat().st_size == each["output_bytes"] == each["n_bytes"] + each["added_bytes"]["update"]
        capsys.readouterr()
        assert main(["filter", str(path), "-o", str(tmp_path / "f.y4m"), "--threads", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["output_md5"] == each["output_md5"]
        contents = [listed.content for listed in listed_messages(sei_messages(path.read_bytes()))]
        units = [unit.nal_unit_type for unit in nal_units(path.read_bytes())]
        before = [unit.nal_unit_type for unit in nal_units((folder / path.name.replace("b_", "a_")).read_bytes())]
        assert units.count(PREFIX_SEI) - before.count(PREFIX_SEI) == len(units) - len(before) == 1  # all in one
        networks = [each for each in contents if isinstance(each, NnpfCharacteristics)]
        own = network_path("inloop-vlop").read_bytes()
        assert [each.base_flag for each in networks] == [True, False]
        assert networks[0].payload_byte == (own if base == "stream" else b"")
        assert networks[0].uri == (name_by_hash(own) if base == "hash" else "")
        update = path.with_name(path.name.replace("b_", "u_")).with_suffix(".nnc")
        assert networks[1].payload_byte == update.read_bytes()
        assert each["update_bytes"] == update.stat().st_size
        assert not each["update_is_shared"]
    assert [each["streams"] for each in found["updates"]] == [[str(path)] for path in inputs]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(path.name for path in outputs), "f.y4m"])


def test_streams_share_an_update_or_have_what_is_worth_more(folder, tmp_path, capsys):
    """What an update is worth at each QP: of both kinds of them the better one is measured and written."""
    inputs, more = [folder / "a_27.266", folder / "a_37.266"], ["--pictures", "1000000"]
    shared = adapted(capsys, folder, *inputs, "-o", tmp_path / "u.nnc", "--updates", "shared", *more)
    (made,) = shared["updates"]
    assert made["streams"] == [str(path) for path in inputs]
    assert made["n_bytes"] == (tmp_path / "u.nnc").stat().st_size
    files = [word for qp in (27, 37) for word in ("-o", tmp_path / f"u_{qp}.nnc")]
    each = adapted(capsys, folder, *inputs, *files, *more)
    best = adapted(capsys, folder, *inputs, *files, "--updates", "auto", *more)
    assert len(best["updates"]) == 3
    kinds = {False: each, True: shared}
    for place, stream in enumerate(best["streams"]):
        nets = {kind: found["streams"][place]["net_percent"]["update"] for kind, found in kinds.items()}
        assert stream["update_is_shared"] == (nets[True] < nets[False])
        assert stream["net_percent"]["update"] == min(nets.values())
        assert (tmp_path / f"u_{(27, 37)[place]}.nnc").stat().st_size == stream["update_bytes"]


def test_an_update_file_makes_the_network_that_it_is_of(folder, tmp_path, capsys):
    adapted(capsys, folder, folder / "a_37.266", "-o", tmp_path / "u.nnc", "--pictures", "100000")
    words = ["update", "apply", "inloop-vlop", tmp_path / "u.nnc", "-o", tmp_path / "n.safetensors"]
    assert main([str(word) for word in words]) == 0
    assert main(["inspect", str(tmp_path / "n.safetensors")]) == 0


def test_nothing_is_sent_where_nothing_pays(folder, tmp_path, capsys):
    """Three small pictures are not worth the bytes of a filter's name."""
    found = adapted(capsys, folder, folder / "a_37.266", "-o", tmp_path / "b.266")
    (stream,) = found["streams"]
    assert stream["sent"] == "nothing"
    assert stream["net_percent"]["nothing"] == 0 < stream["net_percent"]["update"]
    assert (tmp_path / "b.266").read_bytes() == (folder / "a_37.266").read_bytes()


@pytest.mark.parametrize("updates", ["each", "shared"])
def test_what_is_learnt_and_worse_than_the_filter_is_dropped_and_said(folder, tmp_path, capsys, monkeypatch, updates):
    """The file that is asked for is written, and changes nothing."""

    def harmful(_network, arrays, _pictures, _options, _lambda_rd, checkpoints, _layout):
        checkpoints.mkdir(parents=True)
        levels = {"tail.bias": np.full(arrays["tail.bias"].shape, 40, np.int32)}
        return TunedUpdate(coded_levels(arrays, levels, {"tail.bias": 0}), 6, 10)

    monkeypatch.setattr(adapt_streams, "tune", harmful)
    inputs = [folder / "a_27.266", folder / "a_37.266"]
    files = [tmp_path / f"u_{number}.nnc" for number in range(2 if updates == "each" else 1)]
    words = [*inputs, *(word for path in files for word in ("-o", path)), "--updates", updates, "--pictures", "100000"]
    found = adapted(capsys, folder, *words)
    base = AdaptedBase.of(network_path("inloop-vlop"))
    for path, made in zip(files, found["updates"], strict=True):
        assert made["dropped_db"] < 0
        assert made["n_bytes"] == path.stat().st_size < 30
        after = apply_update(base.arrays(), path.read_bytes()).arrays
        assert all(np.array_equal(after[name], value) for name, value in base.arrays().items())
    for each in found["streams"]:
        assert each["psnr_db"]["update"] == each["psnr_db"]["base"]
        assert each["sent"] != "update"
    options = ["--original", folder / "in.y4m", "--model", "inloop-vlop", *TUNING]
    assert main([str(word) for word in ("adapt", *words, *options)]) == 0
    assert capsys.readouterr().out.count("WARNING: what they learnt made the pictures worse") == len(files)


def test_a_folder_of_other_updates_is_refused_and_kept(folder, tmp_path, capsys):
    left = tmp_path / "b.266.adapting" / "of_0" / "plan.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    streams = (folder / "a_27.266", folder / "a_37.266", "-o", tmp_path / "b.266", "-o", tmp_path / "c.266")
    words = ["adapt", *streams, "--original", folder / "in.y4m", "--model", "inloop-vlop", *TUNING]
    assert main([str(word) for word in (*words, "--updates", "shared")]) == 2
    assert "holds checkpoints of other updates than are asked for (of_0: of these streams" in capsys.readouterr().err
    assert left.exists()


def test_a_run_that_was_cut_off_goes_on(folder, tmp_path, capsys, monkeypatch):
    words = [folder / "a_37.266", "-o", tmp_path / "b.266", "-o", tmp_path / "u.nnc", "--pictures", "100000"]
    tune = adapt_streams.tune

    def cut_off(*arguments):
        tune(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(adapt_streams, "tune", cut_off)
    options = ["--original", folder / "in.y4m", "--model", "inloop-vlop", *TUNING]
    assert main([str(word) for word in ("adapt", *words, *options)]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["b.266.adapting"]
    monkeypatch.setattr(adapt_streams, "tune", tune)
    adapted(capsys, folder, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.266", "u.nnc"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{a}"], "missing: --output/-o"),
        (["-o", "{t}/b.266"], "missing: INPUT"),
        (["{a}", "{a}", "-o", "{t}/b.266"], "1 streams for 2 inputs"),
        (["{a}", "-o", "{t}/u.nnc", "-o", "{t}/v.nnc"], "2 .nnc files"),
        (["{a}", "{a}", "-o", "{t}/u.nnc"], "1 .nnc files, with --updates each and 2 inputs; must be 2"),
        (["{a}", "{a}", "-o", "{t}/u.nnc", "-o", "{t}/v.nnc", "--updates", "shared"], "must be 1, one for each"),
        (["{a}", "-o", "{t}/b.y4m"], "b.y4m: must be a VVC stream (.266) or a file for an update"),
        (["{a}", "-o", "{t}/b.266", "--steps", "20", "--budget", "5"], "--budget: 5 minutes, with --steps: 20"),
        (["{a}", "-o", "{t}/b.266", "--steps", "1"], "--steps: 1; must be 10"),
        (["{a}", "-o", "{t}/b.266", "--free", "heads"], "--free"),
        (["{a}", "-o", "-"], "--folder"),
        (["{a}", "-o", "{t}/b.266", "--fps", "25"], "--fps: has no effect"),
        (["{a}", "-o", "{t}/b.266", "--model", "inloop-postfilter"], "must be .nnc|coded filter"),
        (["{a}", "-o", "{t}/b.266", "--free", "gains", "--model", "{t}/none.nnc"], "no such file|none.nnc"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(folder, tmp_path, capsys, words, said):
    filled = [word.format(a=folder / "a_37.266", t=tmp_path) for word in words]
    model = [] if "--model" in filled else ["--model", "inloop-vlop"]
    assert main(["adapt", *filled, "--original", str(folder / "in.y4m"), *model]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert any(part in err for part in said.split("|"))
    assert list(tmp_path.iterdir()) == []


def test_streams_of_other_pictures_or_with_a_filter_are_refused(folder, tmp_path, capsys, real_pictures):
    frames = real_pictures(2, 64, 48)
    with Y4mWriter(tmp_path / "two.y4m", frames[0].format(30)) as writer:
        for frame in frames:
            writer.write(frame)
    options = ["-o", str(tmp_path / "b.266"), "--model", "inloop-vlop", *TUNING]
    assert main(["adapt", str(folder / "a_37.266"), "--original", str(tmp_path / "two.y4m"), *options]) == 2
    assert "holds fewer pictures" in capsys.readouterr().err
    own = ["sei", "insert", str(folder / "a_37.266"), "--network", "inloop-vlop", "-o", str(tmp_path / "own.266")]
    assert main(own) == 0
    capsys.readouterr()
    assert main(["adapt", str(tmp_path / "own.266"), "--original", str(folder / "in.y4m"), *options]) == 2
    assert "carries a filter already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.266", "two.y4m"]


def onnx_model(path: Path, seed: int = 0) -> Path:
    """A filter of somebody else, patches of 20x20 and a plane of the strength: a noisy difference to a picture.

    Its last bias and a factor are of fewer than 8 values, which stay in the graph when it is coded.
    """
    helper, rng = onnx.helper, np.random.default_rng(seed)
    constants = {
        "first.weight": rng.normal(0, 0.3, (8, 7, 3, 3)),
        "first.bias": rng.normal(0, 0.1, 8),
        "last.weight": rng.normal(0, 0.002, (6, 8, 3, 3)),
        "last.bias": rng.normal(0, 0.002, 6),
        "factor": np.array(0.5),
    }
    kept = [onnx.numpy_helper.from_array(np.asarray(each, np.float32), name) for name, each in constants.items()]
    ends = [onnx.numpy_helper.from_array(np.array(each, np.int64), name) for name, each in SLICE.items()]
    nodes = [
        helper.make_node("Conv", ["x", "first.weight", "first.bias"], ["a"]),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.2),
        helper.make_node("Conv", ["b", "last.weight", "last.bias"], ["c"]),
        helper.make_node("Mul", ["c", "factor"], ["d"]),
        helper.make_node("Slice", ["x", *SLICE], ["e"]),
        helper.make_node("Add", ["d", "e"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 7, 20, 20]), ("y", [1, 6, 16, 16]))
    )
    graph = helper.make_graph(nodes, "g", [x], [y], [*kept, *ends])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    return path


SMALL = {"last.bias", "factor"}
SLICE = {"begins": [0, 2, 2], "ends": [6, -2, -2], "axes": [1, 2, 3]}
LAYOUT = "planes=yuv420-packed,qp=plane,qp-scale=63,qp-rule=slice,patch=20,overlap=2"


@pytest.mark.parametrize("base", ["hash", "stream"])
def test_an_onnx_model_is_adapted_and_a_decoder_gives_its_pictures(folder, tmp_path, capsys, base):
    """Constants of fewer than 8 values change too, though a decoder has them in the graph."""
    model = onnx_model(tmp_path / "their.onnx")
    inputs = [folder / "a_27.266", folder / "a_37.266"]
    outputs = [word for qp in (27, 37) for name in (f"b_{qp}.266", f"u_{qp}.nnc") for word in ("-o", tmp_path / name)]
    coded = ["--base-output", tmp_path / "their.nnc"] if base == "hash" else []
    words = [*inputs, *outputs, "--layout", LAYOUT, "--base", base, *coded]
    found = adapted(capsys, folder, *words, "--pictures", "100000000", model=str(model))
    assert "float32" in found["inference"]
    assert found.get("needed_base") == (str(tmp_path / "their.nnc") if base == "hash" else None)
    for qp, stream in zip((27, 37), found["streams"], strict=True):
        assert stream["sent"] == "update"
        assert stream["psnr_db"]["update"][0] > stream["psnr_db"]["base"][0] + 0.01
        command = ["filter", str(tmp_path / f"b_{qp}.266"), "-o", str(tmp_path / "f.y4m"), "--threads", "1", "--json"]
        if base == "hash":
            assert main(command) == 2
            assert "is not in the stream, but at 'ni:///sha-256-128;" in capsys.readouterr().err
            wrong = network_path("inloop-vlop")
            assert main([*command, "--base", str(wrong)]) == 2
            said = f"; what was given is {name_by_hash(wrong.read_bytes())}, another one"
            assert said in capsys.readouterr().err
            command += ["--base", str(tmp_path / "their.nnc")]
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)["output_md5"] == stream["output_md5"]
    contents = [listed.content for listed in listed_messages(sei_messages((tmp_path / "b_37.266").read_bytes()))]
    filter, update = (each for each in contents if isinstance(each, NnpfCharacteristics))
    assert (filter.constant_patch_size_flag, filter.patch_width_minus1, filter.overlap) == (True, 15, 2)
    assert (filter.padding_type, filter.auxiliary_inp_idc, filter.inp_order_idc) == (1, 1, 3)
    assert update.payload_byte == (tmp_path / "u_37.nnc").read_bytes()
    assert len(filter.payload_byte) == (found["base_bytes"] if base == "stream" else 0)
    own = filter.payload_byte if base == "stream" else (tmp_path / "their.nnc").read_bytes()
    assert filter.uri == ("" if base == "stream" else name_by_hash(own))
    assert not SMALL & decompress(own).keys()
    before = AdaptedBase(own, base).arrays()
    after = apply_update(before, update.payload_byte).arrays
    assert not np.array_equal(after["last.bias"], before["last.bias"])


def test_a_coded_network_of_ones_own_is_adapted(folder, tmp_path, capsys):
    """Of a bundled shape, and a graph of ONNX that was coded with its layout."""
    model = onnx_model(tmp_path / "their.onnx")
    assert main(["decompress", "inloop-vlop", "-o", str(tmp_path / "a.safetensors")]) == 0
    assert main(["compress", str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "a.nnc"), "--qp", "-20"]) == 0
    (tmp_path / "b.nnc").write_bytes(compress(onnx.load(model), metadata={"layout": LAYOUT}))
    for name in ("a", "b"):
        own, out = tmp_path / f"{name}.nnc", tmp_path / f"{name}.266"
        more = ["--base", "hash", "--pictures", "100000000", "--free", "tail"]
        (stream,) = adapted(capsys, folder, folder / "a_37.266", "-o", out, *more, model=str(own))["streams"]
        assert stream["sent"] == "update"
        command = ["filter", str(out), "-o", str(tmp_path / "f.y4m"), "--base", str(own), "--threads", "1", "--json"]
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)["output_md5"] == stream["output_md5"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "{t}/m.onnx", "--layout", LAYOUT], "put it into the stream (at, --base stream), or let it be"),
        (["--model", "{t}/m.onnx", "--layout", LAYOUT, "--base", "hash"], "name it (--base-output FILE.nnc)"),
        (["--model", "{t}/m.onnx", "--base", "stream"], "no layout says how pictures go in"),
        (["--model", "{t}/m.onnx", "--layout", f"{LAYOUT},output=residual", "--base", "stream"], "output residual is"),
        (["--model", "{t}/m.onnx", "--layout", LAYOUT, "--base", "hash", "--base-output", "{t}/b.pt"], "a .nnc file"),
        (["--model", "{t}/m.onnx", "--layout", LAYOUT, "--base", "stream", "--free", "gains"], "has no gains; it has"),
        (["--model", "{t}/m.onnx", "--layout", LAYOUT, "--base", "stream", "--precision", "int8"], "bundled architec"),
        (["--model", "{t}/nets.py:make", "--base", "stream"], "torch.onnx.export"),
        (["--model", "inloop-vlop", "--layout", LAYOUT], "is a bundled network, which says its own; omit it"),
        (["--model", "inloop-vlop", "--base-output", "{t}/b.nnc"], "is coded already"),
    ],
)
def test_what_cannot_be_done_with_a_network_of_ones_own_is_said(folder, tmp_path, capsys, words, said):
    onnx_model(tmp_path / "m.onnx")
    filled = [word.format(t=tmp_path) for word in words]
    common = [str(folder / "a_37.266"), "-o", str(tmp_path / "b.266"), "--original", str(folder / "in.y4m")]
    assert main(["adapt", *common, *filled, *TUNING]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".adapting"] == ["m.onnx"]


def test_an_onnx_model_that_cannot_be_tuned_is_named_before_a_stream_is_decoded(folder, tmp_path, capsys, monkeypatch):
    helper, values = onnx.helper, np.full((1, 1, 3, 3), 0.1, np.float32)
    planes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, "h", "w"]) for name in "xy"]
    constants = {"w": values, "scale": np.ones(1, np.float32), "bias": np.zeros(1, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("InstanceNormalization", ["a", "scale", "bias"], ["y"]),
    ]
    kept = [onnx.numpy_helper.from_array(each, name) for name, each in constants.items()]
    graph = helper.make_graph(nodes, "g", planes[:1], planes[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "inst.onnx")
    monkeypatch.setattr("vvc_nnr.experiments.cli.train.adapt_streams", None)
    common = ["adapt", str(folder / "a_37.266"), "-o", str(tmp_path / "b.266"), "--original", str(folder / "in.y4m")]
    assert main([*common, "--model", str(tmp_path / "inst.onnx"), "--layout", "planes=y", "--base", "stream"]) == 2
    said = "inst.onnx: no gradients go through the operator InstanceNormalization of this ONNX model"
    assert said in capsys.readouterr().err


def test_a_base_is_of_a_stream_and_coded(folder, tmp_path, capsys):
    common = ["filter", str(folder / "a_37.266"), "-o", str(tmp_path / "f.y4m")]
    assert main([*common, "--base", "a.nnc", "--model", "inloop-vlop"]) == 2
    assert "--base: is of the filter that a stream carries" in capsys.readouterr().err
    assert main([*common, "--base", "a.onnx"]) == 2
    assert "--base a.onnx: must be a coded network (.nnc)" in capsys.readouterr().err


def test_pictures_without_chroma_are_adapted_to(tmp_path, capsys, real_pictures):
    frames = real_pictures(2, 64, 48, chroma_format="400")
    encode_at_37(frames, tmp_path)
    found = adapted(capsys, tmp_path, tmp_path / "a.266", "-o", tmp_path / "b.266", "--pictures", "100000")
    (stream,) = found["streams"]
    assert len(stream["psnr_db"]["update"]) == 1
    assert np.isfinite(stream["psnr_db"]["update"][0])


def test_of_odd_sides_what_a_viewer_gets_is_measured(tmp_path, capsys, real_pictures):
    """They are coded as even ones; a decoder filters those, and what they were padded with is cut off behind it."""
    frames = real_pictures(3, 63, 47)
    encode_at_37(frames, tmp_path)
    found = adapted(capsys, tmp_path, tmp_path / "a.266", "-o", tmp_path / "b.266", "--pictures", "1000000")
    (stream,) = found["streams"]
    assert (found["shown_size"], stream["sent"]) == ([63, 47], "update")
    filtered = ["filter", str(tmp_path / "b.266"), "--threads", "1", "--json", "-o"]
    more = {"whole.y4m": [], "shown.y4m": ["--size", "63x47", "--original", str(tmp_path / "in.y4m")]}
    said = {}
    for name, words in more.items():
        assert main([*filtered, str(tmp_path / name), *words]) == 0
        said[name] = json.loads(capsys.readouterr().out)
        assert said[name]["output_md5"] == stream["output_md5"]
    whole, shown = ([*read_y4m(tmp_path / name)] for name in more)
    assert [frame.cropped(63, 47).tobytes() for frame in whole] == [frame.tobytes() for frame in shown]
    assert (whole[0].width, whole[0].height, shown[0].width, shown[0].height) == (64, 48, 63, 47)
    psnrs_db = [frame_psnr_db(a.to_bit_depth(10), b).y for a, b in zip(frames, shown, strict=True)]
    assert stream["psnr_db"]["update"][0] == pytest.approx(np.mean(psnrs_db))
    assert said["shown.y4m"]["after"]["psnr_y_db"] == pytest.approx(np.mean(psnrs_db))
    assert said["shown.y4m"]["before"]["psnr_y_db"] == pytest.approx(stream["psnr_db"]["nothing"][0])


def test_pictures_too_small_for_ssim_are_adapted_to_and_scored(tmp_path, capsys, real_pictures):
    """Their PSNR can be measured, and the SSIM of luma; that of chroma of 8x8 cannot, which is said."""
    frames = real_pictures(2, 16, 16)
    encode_at_37(frames, tmp_path)
    found = adapted(capsys, tmp_path, tmp_path / "a.266", "-o", tmp_path / "b.266", "--pictures", "1000000")
    (stream,) = found["streams"]
    assert stream["psnr_db"]["update"][0] > stream["psnr_db"]["nothing"][0]
    command = ["filter", str(tmp_path / "b.266"), "-o", str(tmp_path / "f.y4m"), "--original", str(tmp_path / "in.y4m")]
    assert main(command) == 0
    assert "SSIM '-': the plane is not there, or smaller than 11 samples either way." in capsys.readouterr().out
    assert main(["score", str(tmp_path / "in.y4m"), str(tmp_path / "f.y4m"), "--json"]) == 0
    (scores,) = json.loads(capsys.readouterr().out)["decoded"]
    assert scores["psnr_y_db"] == pytest.approx(stream["psnr_db"]["update"][0])
    assert scores["ssim_y"] > 0.5
    assert scores["ssim_cb"] is scores["ssim_cr"] is None
