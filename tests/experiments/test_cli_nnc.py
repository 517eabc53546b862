"""Coded networks on the command line: compress, decompress, inspect, and filters that run from a .nnc file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import vvc_nnr
from vvc_nnr.bitstream.manifest import Manifest
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import write_stream
from vvc_nnr.coding.update import compress_update
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters.zoo import load_autoencoder, load_inloop_filter, load_network, network_tensors
from vvc_nnr.model.safetensors import read_network, write_exact, write_float
from vvc_nnr.network_file import read_network_file

Run = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command that must be refused in one line without leaving a file, and returns what it says."""

    def refused(*argv: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("vvc-nnr: error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return refused


@pytest.fixture
def coded(run: Run, networks: Path, tmp_path: Path) -> Path:
    """The in-loop filter `rep`, coded."""
    path = tmp_path / "rep.nnc"
    run("compress", networks / "rep.safetensors", "-o", path)
    return path


@pytest.mark.parametrize("is_larger", [True, False])
def test_a_file_larger_than_its_input_is_named(run: Run, tmp_path: Path, is_larger: bool) -> None:
    path, small = tmp_path / "tiny.safetensors", tmp_path / "tiny.nnc"
    write_exact(path, {} if is_larger else {"w": np.arange(3) % 2 == 0}, {})
    said = run("compress", path, "-o", small)
    result = json.loads(run("compress", path, "-o", small, "--json"))
    n_bytes, input_bytes = small.stat().st_size, path.stat().st_size
    growth_bytes = n_bytes - input_bytes
    assert (growth_bytes > 0) == is_larger
    assert (result["input_bytes"], result["growth_bytes"]) == (input_bytes, max(0, growth_bytes))
    note = f"note: {growth_bytes} bytes larger than the input, of {input_bytes} bytes"
    assert (note in said.splitlines()) == is_larger
    assert ("larger than the input" in said) == is_larger


def test_round_trip(run: Run, networks: Path, tmp_path: Path) -> None:
    original, small, back = networks / "rep.safetensors", tmp_path / "rep.nnc", tmp_path / "back.safetensors"
    result = json.loads(run("compress", original, "-o", small, "--qp", "-32", "--json"))
    assert (result["method"], result["n_bytes"]) == ("nnc", small.stat().st_size)
    assert result["float32_bytes"] == original.stat().st_size > 2 * result["n_bytes"]
    said = run("decompress", small, "-o", back)
    assert "Checked: number of units and checksum are right." in said
    before, after, direct = read_network(original), read_network(back), vvc_nnr.decompress(small.read_bytes())
    assert after.metadata == before.metadata
    assert after.tensors.keys() == before.tensors.keys() == direct.keys()
    for name, values in before.tensors.items():
        assert np.array_equal(after.tensors[name], direct[name])
        assert np.abs(after.tensors[name] - values).max() < 2 * 2**-8


def test_filter_runs_from_a_coded_network(run: Run, coded: Path, y4m: Path, networks: Path, tmp_path: Path) -> None:
    back = tmp_path / "back.safetensors"
    run("decompress", coded, "-o", back)
    outputs = []
    for place, model in enumerate((coded, back, networks / "rep.safetensors")):
        output = tmp_path / f"out{place}.y4m"
        run("filter", y4m, "--model", model, "--qp", "32", "-o", output)
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1]
    assert len(outputs[2]) == len(outputs[0])


def test_autoencoder_keeps_its_integer_tables(run: Run, networks: Path, tmp_path: Path) -> None:
    coded = tmp_path / "small.nnc"
    run("compress", networks / "small.safetensors", "-o", coded, "--qp", "-20")
    before, after = load_autoencoder(networks / "small.safetensors"), load_autoencoder(coded)
    assert after.config == before.config
    assert after.frequencies.dtype == before.frequencies.dtype
    assert torch.equal(after.frequencies, before.frequencies)


def test_the_zoo_loads_both_kinds_of_file(run: Run, coded: Path, tmp_path: Path) -> None:
    back = tmp_path / "back.safetensors"
    run("decompress", coded, "-o", back)
    from_coded, from_float = load_network(coded), load_network(back)
    assert (from_coded.name, from_coded.path, from_coded.n_bytes) == ("rep", coded, coded.stat().st_size)
    left, right = network_tensors(from_coded.network), network_tensors(from_float.network)
    assert all(np.array_equal(left[name], right[name]) for name in right)


def test_options_reach_the_codec(run: Run, networks: Path, tmp_path: Path) -> None:
    words = "--qp -20 --qp-of tail.weight=-40 --no-dq --scan-order 1 --no-param-opt --no-row-skipping --threads 1"
    path = tmp_path / "odd.NNC"
    run("compress", networks / "rep.safetensors", "-o", path, *words.split())
    tensors = {t["name"]: t for t in json.loads(run("inspect", path, "--json"))["tensors"]}
    assert (tensors["head.weight"]["qp"], tensors["tail.weight"]["qp"]) == (-20, -40)
    assert tensors["tail.bias"]["qp"] == -75
    assert not any(t["dq"] for t in tensors.values())
    assert tensors["head.weight"]["scan_order"] == 1
    expected = vvc_nnr.compress(
        read_network(networks / "rep.safetensors").tensors, qp=-20, qp_per_tensor={"tail.weight": -40}, use_dq=False,
        scan_order=1, param_opt=False, row_skipping=False, n_threads=1,
        metadata=read_network(networks / "rep.safetensors").metadata,
    )  # fmt: skip
    assert path.read_bytes() == expected


def test_inspect(run: Run, coded: Path, networks: Path) -> None:
    text = run("inspect", coded, "--original", networks / "rep.safetensors", "--bins")
    for word in ("head.weight", "MSE", "Significance [%]", "architecture: inloop-filter", "Checked"):
        assert word in text
    data = json.loads(run("inspect", coded, "--json"))
    assert data["file"] == str(coded)
    assert data["is_verifiable"]
    assert data["metadata"]["architecture"] == "inloop-filter"
    assert "MSE" not in run("inspect", coded)


def test_inspect_shows_values_of_any_size(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.npz"
    np.savez(path, w=np.array([[1.25e-8, -3.5e-9], [0, 1e-9]], np.float32))
    table = run("inspect", path)
    assert "1.25e-08" in table
    assert "-3.5e-09" in table


def test_inspect_takes_bundled_networks_as_originals(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "coarse.nnc"
    run("compress", "inloop-vlop", "-o", path, "--qp", "-20")
    assert "MSE" in run("inspect", path, "--original", "inloop-vlop")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network of half floats in a checkpoint, beside a step and a score."""
    path = tmp_path / "ck.pth"
    state = {"fc.weight": torch.randn(16, 8).half(), "fc.bias": torch.zeros(16).half()}
    torch.save({"epoch": 90, "state_dict": state, "best_acc1": torch.tensor(69.7)}, path)
    return path


def test_what_is_left_out_is_named_by_every_command(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    for argv in (
        ("compress", checkpoint, "-o", tmp_path / "a.nnc"),
        ("compress", checkpoint, "-o", tmp_path / "a.safetensors"),
        ("decompress", checkpoint, "-o", tmp_path / "b.safetensors"),
        ("inspect", checkpoint),
    ):
        assert "Not part of the network, and not coded: epoch, best_acc1." in run(*argv)
        assert json.loads(run(*argv, "--json"))["left_out"] == ["epoch", "best_acc1"]
    assert set(read_network(tmp_path / "b.safetensors").tensors) == {"fc.weight", "fc.bias"}


def test_float32_bytes_are_those_of_a_float32_file_in_every_command(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.safetensors"
    write_float(wide, read_network_file(checkpoint).tensors, {})
    coded = tmp_path / "a.nnc"
    for argv in (
        ("compress", checkpoint, "-o", coded),
        ("compress", checkpoint, "-o", tmp_path / "a.safetensors"),
        ("decompress", coded, "-o", tmp_path / "a.pt"),
        ("inspect", checkpoint),
        ("inspect", tmp_path / "a.safetensors"),
    ):
        result = json.loads(run(*argv, "--json"))
        assert result["float32_bytes"] == wide.stat().st_size
        assert "ratio" not in result or result["ratio"] == wide.stat().st_size / result["n_bytes"]
    said = run("decompress", coded, "-o", tmp_path / "a.pt")
    assert f"as a float32 file {wide.stat().st_size}, ratio" in said


def test_values_of_no_step_are_kept_in_coded_files_only(run: Run, refused: Run, tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    write_exact(path, {"w": np.array([[1.0, 1e300]])}, {})
    (tensor,) = json.loads(run("inspect", path, "--json"))["tensors"]
    assert (tensor["dtype"], tensor["maximum"]) == ("F64", 1e300)
    said = refused("compress", path, "-o", tmp_path / "a.safetensors")
    assert f"{path}: tensor" in said
    assert "a .nnc file keeps them" in said
    run("compress", path, "-o", tmp_path / "a.nnc")
    assert vvc_nnr.decompress(tmp_path / "a.nnc")["w"].tolist() == [[1.0, 1e300]]


def test_coded_networks_can_be_coded_anew(run: Run, coded: Path, tmp_path: Path) -> None:
    run("compress", coded, "-o", tmp_path / "small.safetensors")
    assert read_network(tmp_path / "small.safetensors").bits == 8
    run("compress", coded, "-o", tmp_path / "coarse.nnc", "--qp", "-16")
    assert (tmp_path / "coarse.nnc").stat().st_size < coded.stat().st_size


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 2000, bytes.fromhex("00040201"), bytes(100)])
def test_garbage(refused: Run, y4m: Path, networks: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.nnc"
    path.write_bytes(content)
    everywhere_refused(refused, path, y4m, tmp_path)
    with pytest.raises(BitstreamError, match=r"garbage\.nnc: "):
        load_network(path)


def test_cut_and_changed_files(refused: Run, coded: Path, y4m: Path, tmp_path: Path) -> None:
    data, middle = coded.read_bytes(), coded.stat().st_size // 2
    changed = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    for damaged in (data[:-1], data[:middle], data[:20], data + b"\0", changed):
        coded.write_bytes(damaged)
        everywhere_refused(refused, coded, y4m, tmp_path)
        with pytest.raises(BitstreamError, match=r"rep\.nnc: "):
            load_inloop_filter(coded)


def everywhere_refused(refused: Run, path: Path, y4m: Path, folder: Path) -> None:
    for argv in (
        ("inspect", path),
        ("compress", path, "-o", folder / "out.safetensors"),
        ("compress", path, "-o", folder / "out.nnc"),
        ("decompress", path, "-o", folder / "out.safetensors"),
        ("filter", y4m, "--model", path, "--qp", "32", "-o", folder / "out.y4m"),
    ):
        assert f"{path}: " in refused(*argv)


def test_no_changed_byte_goes_unnoticed(coded: Path) -> None:
    data, random = coded.read_bytes(), np.random.default_rng(0)
    for place in (*range(120), *random.integers(0, len(data), 120).tolist()):
        flipped = data[place] ^ (1 << int(random.integers(0, 8)))
        coded.write_bytes(data[:place] + bytes([flipped]) + data[place + 1 :])
        with pytest.raises((BitstreamError, UnsupportedError), match=r"rep\.nnc: "):
            load_network(coded)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--qp 999 -o x.nnc", "qp: 999"),
        ("--qp low -o x.nnc", "--qp"),
        ("--qp-density 8 -o x.nnc", "--qp-density: 8"),
        ("--nonweight-qp -500 -o x.nnc", "--nonweight-qp: -500"),
        ("--qp-of -32 -o x.nnc", "--qp-of"),
        ("--qp-of head.weight=x -o x.nnc", "--qp-of"),
        ("--qp-of nothing=-32 -o x.nnc", "nothing"),
        ("--lambda-rd -1 -o x.nnc", "--lambda-rd"),
        ("--lambda-rd nan -o x.nnc", "--lambda-rd"),
        ("--search slow -o x.nnc", "--search"),
        ("--search thorough --no-dq -o x.nnc", "--no-dq"),
        ("--scan-order 5 -o x.nnc", "--scan-order"),
        ("--bitdepth 1 -o x.nnc", "bitdepth"),
        ("--lossless --qp 3 -o x.nnc", "--qp with --lossless: has no effect"),
        ("--lossless --qp-of head.weight=3 -o x.nnc", "--qp-of with --lossless: has no effect"),
        ("--bitdepth 8 --qp 3 -o x.nnc", "--qp with --bitdepth: has no effect"),
        ("--qp-of head.weight=3 --qp-of head.weight=4 -o x.nnc", "--qp-of: 'head.weight' has several values"),
        ("--role-of *=gdn --role-of *=weight -o x.nnc", "--role-of: '*' has several values"),
        ("--qp 3 --lambda-rd 1 --qp 4 -o x.nnc", "--qp: is there twice, and one would be lost"),
        ("--qp=3 --qp=4 -o x.nnc", "--qp: is there twice"),
        ("--output y.nnc -o x.nnc", "--output: is there twice"),
        ("--threads 0 -o x.nnc", "--threads: 0"),
        ("--biases float -o x.nnc", "--biases"),
        ("--method uniform8 -o x.nnc", "x.nnc"),
        ("--method nnc -o x.safetensors", "x.safetensors"),
        ("--qp -20 -o x.safetensors", "--method uniform8"),
    ],
)
def test_bad_options(refused: Run, networks: Path, tmp_path: Path, words: str, named: str) -> None:
    argv = words.replace("-o ", f"-o {tmp_path}/").split()
    assert named in refused("compress", networks / "rep.safetensors", *argv)


def test_options_of_the_other_kind_of_file(refused: Run, coded: Path, networks: Path, tmp_path: Path) -> None:
    original = networks / "rep.safetensors"
    assert "--bins and --original" in refused("inspect", original, "--bins")
    assert "--bins and --original" in refused("inspect", original, "--original", original)
    assert "not coded" in refused("decompress", coded, "-o", tmp_path / "x.nnc")
    assert "max_elements allows 10" in refused("decompress", coded, "-o", tmp_path / "x.pt", "--max-elements", "10")
    assert "no such file" in refused("inspect", tmp_path / "missing.nnc")


@pytest.mark.parametrize("name", ["x.pt", "x.onnx", "x.txt", "x"])
def test_outputs_of_other_names_are_refused(refused: Run, networks: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    for options in ((), ("--method", "nnc"), ("--method", "uniform8")):
        said = refused("compress", networks / "rep.safetensors", "-o", tmp_path / name, *options)
        assert f"{name}: compress writes .nnc or .safetensors files; change the name" in said
    assert (tmp_path / name).read_bytes() == b"precious"


def test_the_input_is_never_overwritten(refused: Run, run: Run, coded: Path, tmp_path: Path) -> None:
    plain, link = tmp_path / "a.safetensors", tmp_path / "link.safetensors"
    run("decompress", coded, "-o", plain)
    link.symlink_to(plain)
    before = plain.read_bytes()
    for argv in (
        ("compress", coded, "-o", coded),
        ("compress", plain, "-o", link),
        ("decompress", plain, "-o", plain),
    ):
        assert "is the input itself" in refused(*argv)
    assert plain.read_bytes() == before


def test_originals_and_roles_that_say_nothing_of_a_coded_network(refused: Run, coded: Path, networks: Path) -> None:
    other = networks / "small.safetensors"
    assert "rep.nnc: the original has no tensor of the name" in refused("inspect", coded, "--original", other)
    for role in ("nothing=bias", "head.weight=nonsense"):
        assert "--role-of is for networks that are not coded" in refused("inspect", coded, "--role-of", role)


def test_networks_of_another_architecture(refused: Run, run: Run, networks: Path, y4m: Path, tmp_path: Path) -> None:
    filtering = ("--qp", "32", "-o", tmp_path / "out.y4m")
    coded = tmp_path / "small.nnc"
    run("compress", networks / "small.safetensors", "-o", coded)
    assert "small.nnc: holds an autoencoder" in refused("filter", y4m, "--model", coded, *filtering)
    for metadata, what in (
        ({}, "architecture ''"),
        ({"architecture": "inloop-filter", "config": '{"n_channels": 8, "n_blocks": 1}'}, "not a network of this"),
    ):
        coded.write_bytes(vvc_nnr.compress({"w": np.zeros((4, 3), np.float32)}, metadata=metadata))
        assert f"small.nnc: {what}" in refused("filter", y4m, "--model", coded, *filtering)


def test_an_update_is_no_network(refused: Run, networks: Path, tmp_path: Path) -> None:
    base = read_network(networks / "rep.safetensors").tensors
    update, _ = compress_update(base, {name: values + 1 for name, values in base.items()})
    path = tmp_path / "update.nnc"
    path.write_bytes(update)
    assert "update.nnc: the stream is an update" in refused("decompress", path, "-o", tmp_path / "x.safetensors")


def test_metadata_that_cannot_be_coded() -> None:
    with pytest.raises(InputError, match="surrogate"):
        vvc_nnr.compress({}, metadata={"a": "\ud800"})


def test_a_crafted_manifest_cannot_bring_text_that_no_file_can_hold(
    refused: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "crafted.nnc"
    escaped = partial(json.dumps, separators=(",", ":"))
    monkeypatch.setattr("vvc_nnr.bitstream.manifest.json.dumps", lambda content, **_: escaped(content))
    path.write_bytes(write_stream([], ModelParameterSet(), Manifest(metadata={"a": "\ud800"})))
    assert "crafted.nnc: " in refused("decompress", path, "-o", tmp_path / "x.safetensors")
    assert "crafted.nnc: " in refused("inspect", path)


def test_floats_of_other_widths_are_read_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.nnc"
    values = np.linspace(-1, 1, 12).reshape(3, 4)
    path.write_bytes(vvc_nnr.compress({"a": values.astype(np.float16), "b": values, "n": np.arange(3)}))
    tensors = read_network_file(path).tensors
    assert [str(tensors[name].dtype) for name in "abn"] == ["float32", "float32", "int64"]


@pytest.mark.parametrize("options", [(), ("--per-tensor",)])
def test_uniform8_keeps_entropy_tables_and_says_so(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    table = np.geomspace(0.11, 256, 64, dtype=np.float32)
    cdf = np.arange(640, dtype=np.int32).reshape(64, 10)
    tensors = {"g_a.weight": rng.normal(size=(8, 30)).astype(np.float32), "gaussian_conditional.scale_table": table}
    write_float(tmp_path / "a.safetensors", {**tensors, "gaussian_conditional._quantized_cdf": cdf}, {})
    paths = ("compress", tmp_path / "a.safetensors", "--method", "uniform8", "-o", tmp_path / "b.safetensors")
    printed = run(*paths, *options)
    assert (
        "kept exact, as entropy tables, constants and what is not finite are: gaussian_conditional.scale_table"
        in printed
    )
    assert json.loads(run(*paths, *options, "--json"))["exact"] == ["gaussian_conditional.scale_table"]
    found = read_network(tmp_path / "b.safetensors").tensors
    assert np.array_equal(found["gaussian_conditional.scale_table"], table)
    assert not np.array_equal(found["g_a.weight"], tensors["g_a.weight"])


def test_updates_are_made_and_applied_one_after_another(run: Run, networks: Path, tmp_path: Path) -> None:
    base = networks / "rep.safetensors"
    states = [read_network(base).tensors]
    for place in range(2):
        states.append({name: values + np.float32(0.01) for name, values in states[-1].items()})
        write_float(tmp_path / f"{place + 1}.safetensors", states[-1], {})
    one, two = tmp_path / "one.nnc", tmp_path / "two.nnc"
    made = json.loads(run("update", "make", base, tmp_path / "1.safetensors", "-o", one, "--qp", "-40", "--json"))
    assert made["n_bytes"] == one.stat().st_size < made["network_bytes"] / 4
    run("update", "make", base, tmp_path / "2.safetensors", "-o", two, "--after", one, "--qp", "-40")
    assert "after 2 updates" in run("update", "apply", base, one, two, "-o", tmp_path / "again.safetensors")
    found = read_network(tmp_path / "again.safetensors").tensors
    assert all(np.abs(found[name] - values).max() < 2.0**-9 for name, values in states[2].items())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("update", "apply", "{base}", "{two}", "-o", "x.safetensors"), "another state of the network"),
        (("update", "make", "{base}", "{base}", "-o", "x.safetensors"), "an update is a .nnc file"),
        (("update", "make", "{base}", "{base}", "-o", "x.nnc", "--lossless"), "unknown: --lossless"),
    ],
)
def test_updates_that_do_not_fit(
    run: Run, refused: Run, networks: Path, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    base = networks / "rep.safetensors"
    moved = {name: values + np.float32(0.01) for name, values in read_network(base).tensors.items()}
    write_float(tmp_path / "1.safetensors", moved, {})
    run("update", "make", tmp_path / "1.safetensors", base, "-o", tmp_path / "two.nnc")
    told = [part.format(base=base, two=tmp_path / "two.nnc") for part in argv]
    told = [str(tmp_path / part) if part.startswith("x.") else part for part in told]
    assert words in refused(*told)
    assert not (tmp_path / "x.nnc").exists()
    assert not (tmp_path / "x.safetensors").exists()


UPDATE_VALUES = {
    "--qp": "-40",
    "--qp-density": "3",
    "--nonweight-qp": "-60",
    "--qp-of": "head.weight=-50",
    "--lambda-rd": "0.5",
    "--scan-order": "2",
    "--bitdepth": "8",
    "--threads": "1",
    "--quality": "20",
    "--bits-per-weight": "4",
    "--max-bytes": "6000",
}
OF_CHECKPOINTS = {"--json", "--after", "--key", "--strip-prefix"}


def test_an_update_takes_each_option_that_its_help_names(run: Run, networks: Path, tmp_path: Path) -> None:
    base, new, update = networks / "rep.safetensors", tmp_path / "1.safetensors", tmp_path / "u.nnc"
    random = np.random.default_rng(0)
    states = read_network(base).tensors
    write_float(new, {name: v + random.normal(0, 0.01, v.shape).astype(np.float32) for name, v in states.items()}, {})
    offered = set(re.findall(r"^  (--[\w-]+)", run("update", "make", "--help"), re.MULTILINE)) - OF_CHECKPOINTS
    assert UPDATE_VALUES.keys() < offered
    for option in sorted(offered):
        words = [option, *([UPDATE_VALUES[option]] if option in UPDATE_VALUES else [])]
        made = json.loads(run("update", "make", base, new, "-o", update, "--json", *words))
        assert made["n_bytes"] == update.stat().st_size
        of_rows = {name: weak_db for name, weak_db in made["weak_db"].items() if made["snr_db"][name] >= 10}
        assert all(weak_db < 10 for weak_db in of_rows.values())
        below = {name: snr_db for name, snr_db in made["snr_db"].items() if snr_db < 10}
        assert below.items() <= made["weak_db"].items()


@pytest.mark.parametrize("options", [(), ("--per-tensor",), ("--biases", "float")], ids=str)
def test_empty_tensors_and_nan_in_files_of_levels(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    tensors = {
        f"{place}.{shape}": torch.zeros(shape, dtype=kind) for place, kind in enumerate(kinds) for shape in EMPTY
    }
    tensors |= {f"{place}.weight": torch.ones((3, 4), dtype=kind) for place, kind in enumerate(kinds)}
    if options == ("--biases", "float"):
        tensors |= {
            f"{place}.bias": torch.tensor([torch.nan, torch.inf], dtype=kind) for place, kind in enumerate(kinds)
        }
    torch.save(tensors, tmp_path / "a.pt")
    small, back = tmp_path / "a.safetensors", tmp_path / "b.pt"
    run("compress", tmp_path / "a.pt", "-o", small, "--method", "uniform4", *options)
    run("inspect", small)
    run("decompress", small, "-o", back)
    found = torch.load(back)
    assert {name: (t.dtype, t.shape) for name, t in found.items()} == {
        name: (t.dtype, t.shape) for name, t in tensors.items()
    }


EMPTY = ((0, 3), (0,), (3, 0))
SIGNALLING = {
    torch.float16: (torch.int16, 0x7D01),
    torch.bfloat16: (torch.int16, 0x7F81),
    torch.float32: (torch.int32, 0x7F800001),
    torch.float64: (torch.int64, 0x7FF0000000000001),
}


@pytest.mark.parametrize("options", [(), ("--lossless",), ("--qp", "-32"), ("--bitdepth", "8")], ids=str)
def test_no_bit_pattern_of_floats_makes_numpy_warn(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    tensors = {}
    for kind, (integer, pattern) in SIGNALLING.items():
        info = torch.iinfo(integer)
        bits = np.random.default_rng(0).integers(info.min, info.max, (40, 40), endpoint=True)
        tensors[f"{kind}.any"] = torch.from_numpy(bits).to(integer).view(kind)
        tensors[f"{kind}.signalling"] = torch.tensor([pattern], dtype=integer).view(kind)
        tensors[f"{kind}.largest"] = torch.full((4, 4), torch.finfo(kind).max, dtype=kind)
    torch.save(tensors, tmp_path / "a.pt")
    run("compress", tmp_path / "a.pt", "-o", tmp_path / "a.nnc", *options)
    run("inspect", tmp_path / "a.nnc", "--original", tmp_path / "a.pt")
    run("inspect", tmp_path / "a.pt")
    run("decompress", tmp_path / "a.nnc", "-o", tmp_path / "b.pt")


def test_a_key_and_a_prefix_of_a_checkpoint(run: Run, refused: Run, tmp_path: Path) -> None:
    state = {"module.fc.weight": torch.ones(8, 8) / 3, "module.fc.bias": torch.zeros(8)}
    torch.save({"nets": {"g": state}, "epoch": 3}, tmp_path / "pytorch_model.bin")
    path = tmp_path / "pytorch_model.bin"
    assert "--key nets.g" in refused("compress", path, "-o", tmp_path / "a.nnc")
    for argv in (
        ("compress", path, "-o", tmp_path / "a.nnc"),
        ("compress", path, "-o", tmp_path / "a.safetensors"),
        ("decompress", path, "-o", tmp_path / "b.safetensors"),
        ("inspect", path),
    ):
        assert "all names begin with module., --strip-prefix module. takes it off" in run(*argv, "--key", "nets.g")
        assert "--strip-prefix" not in run(*argv, "--key", "nets.g", "--strip-prefix", "module.")
    assert set(read_network(tmp_path / "b.safetensors").tensors) == {"fc.weight", "fc.bias"}
    (tmp_path / "coded").write_bytes((tmp_path / "a.nnc").read_bytes())
    assert "Checked: number of units and checksum are right." in run("inspect", tmp_path / "coded")


def test_updates_of_checkpoints_take_a_key_and_a_prefix(run: Run, refused: Run, tmp_path: Path) -> None:
    base, new, update, after = (tmp_path / name for name in ("a.pt", "b.pt", "u.nnc", "c.safetensors"))
    random = torch.Generator().manual_seed(0)
    states = [torch.randn(8, 8, generator=random) for _ in range(2)]
    for path, weight in zip((base, new), states, strict=True):
        torch.save({"gen": {"net": {"module.w": weight}}, "critic": {"w": torch.ones(2)}}, path)
    options = ("--key", "gen.net", "--strip-prefix", "module.")
    assert "--key gen.net" in refused("update", "make", base, new, "-o", update)
    assert json.loads(run("update", "make", base, new, "-o", update, "--json", *options))["left_out"] == ["critic"]
    assert "after 1 update\n" in run("update", "apply", base, update, "-o", after, *options)
    assert "UPDATES ..." in run("update", "apply", "--help")
    found = read_network(after).tensors
    assert list(found) == ["w"]
    assert np.abs(found["w"] - states[1].numpy()).max() < 0.01
    plain = tmp_path / "plain.safetensors"
    write_float(plain, {"w": states[0].numpy()}, {})
    run("update", "make", plain, new, "-o", update, *options)
    run("update", "apply", plain, update, "-o", after)
    assert "a key is for checkpoints" in refused("update", "make", plain, plain, "-o", update, *options)
    assert "no name begins with" in refused("update", "make", plain, plain, "-o", update, "--strip-prefix", "module.")
    assert "is a safetensors file, no coded stream" in refused("update", "apply", plain, plain, "-o", tmp_path / "x.pt")


def test_inspect_refuses_what_it_would_pass_over(run: Run, refused: Run, coded: Path, tmp_path: Path) -> None:
    base = {"half": np.ones((9, 9), np.float16), "byte": np.arange(99, dtype=np.uint8), "bits": np.arange(99) % 2 == 0}
    new = {"half": base["half"] * 2, "byte": base["byte"] + np.uint8(1), "bits": ~base["bits"]}
    update, levels, original = (tmp_path / name for name in ("u.nnc", "u8.safetensors", "a.pt"))
    update.write_bytes(compress_update(base, new)[0])
    listed = json.loads(run("inspect", update, "--json"))["tensors"]
    told = {each["name"]: each["number_format"] for each in listed}
    assert told == {"half": "float", "byte": "integer", "bits": "bool"}
    write_exact(levels, base, {})
    for option in (("--original", levels), ("--bins",)):
        assert f"u.nnc: {option[0][2:]}: not of an update" in refused("inspect", update, *option)
    for option in (("--key", "foo"), ("--strip-prefix", "nope.")):
        assert f"{option[0]} is for networks that are not coded" in refused("inspect", coded, *option)
    run("compress", levels, "-o", tmp_path / "levels.safetensors")
    assert "have no roles and no QP" in refused("inspect", tmp_path / "levels.safetensors", "--qp", "-20")
    torch.save({"nets": {"g": {"module.half": torch.ones(9, 9)}}, "more": torch.ones(2)}, original)
    options = ("--key", "nets.g", "--strip-prefix", "module.")
    run("compress", original, "-o", tmp_path / "o.nnc", *options)
    report = json.loads(run("inspect", tmp_path / "o.nnc", "--original", original, *options, "--json"))
    assert report["tensors"][0]["mse"] == 0


def test_a_graph_that_is_not_there_is_not_asked_for_in_vain(refused: Run, networks: Path, tmp_path: Path) -> None:
    path = networks / "rep.safetensors"
    for output, words in (("a.nnc", "--graph: the network has no graph"), ("a.safetensors", "--graph: only for")):
        for carriage in ("onnx", "manifest"):
            assert words in refused("compress", path, "-o", tmp_path / output, "--graph", carriage)


def test_a_graph_that_is_left_out_is_told(run: Run, tmp_path: Path) -> None:
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weight = numpy_helper.from_array(np.arange(64, dtype=np.float32).reshape(8, 8) / 7, "w")
    names = helper.make_tensor("names", onnx.TensorProto.STRING, [9], [b"a"] * 9)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [value("x", 1, [1, 8])], [value("y", 1, [1, 8])],
        [weight, names],
    )  # fmt: skip
    path, small = tmp_path / "a.onnx", tmp_path / "a.nnc"
    onnx.save(helper.make_model(graph), path)
    note = "note: the graph of the ONNX model and its constants of text (names) are not kept"
    assert "note: the graph" not in run("compress", path, "-o", small)
    assert note in run("compress", path, "-o", tmp_path / "a.safetensors")
    for source in (path, small):
        assert note in run("decompress", source, "-o", tmp_path / "b.pt")
        assert "note: the graph" not in run("decompress", source, "-o", tmp_path / "b.onnx")


def test_options_that_a_video_stream_or_a_coded_file_does_not_take(refused: Run, coded: Path, tmp_path: Path) -> None:
    (tmp_path / "x.266").write_bytes(b"\0\0\0\1")
    for option in (("--key", "foo"), ("--strip-prefix", "module."), ("--qp", "-20")):
        assert "x.266: --bins, --original, --key" in refused("inspect", tmp_path / "x.266", *option)
    output = tmp_path / "y.nnc"
    assert "a key is for checkpoints" in refused("compress", coded, "-o", output, "--integer", "--key", "foo")
    assert "no name begins with" in refused("compress", coded, "-o", output, "--integer", "--strip-prefix", "nope.")
    assert "has no graph" in refused("compress", coded, "-o", output, "--integer", "--graph", "onnx")


def test_an_update_that_does_not_tell_its_base_is_named(run: Run, tmp_path: Path) -> None:
    base, after, coded = tmp_path / "base.safetensors", tmp_path / "after.safetensors", tmp_path / "brief.nnc"
    arrays = {"w": np.ones((8, 8), np.float32)}
    write_exact(base, arrays, {})
    coded.write_bytes(compress_update(arrays, {"w": 2 * arrays["w"]}, brief=True)[0])
    assert json.loads(run("update", "apply", base, coded, "-o", after, "--json"))["not_checked"] == [str(coded)]
    assert "not checked to be whole and for this network" in run("update", "apply", base, coded, "-o", after)


def test_scales_of_rows_are_told(run: Run, refused: Run, tmp_path: Path) -> None:
    random, sizes = np.random.default_rng(2), np.exp(np.random.default_rng(1).normal(size=(40, 1)))
    rows, columns = random.normal(size=(40, 20)) * sizes, random.normal(size=(8, 40)) / sizes.T
    path, small, back = tmp_path / "net.safetensors", tmp_path / "net.nnc", tmp_path / "back.safetensors"
    write_exact(path, {"a": rows.astype(np.float32), "b": columns.astype(np.float32)}, {})
    assert "scale for each row" not in run("compress", path, "-o", small)
    said = run("compress", path, "-o", small, "--local-scaling")
    assert (
        "note: 1 tensor has a scale for each row: a; other decoders, as the reference software, may give it apart, "
        "as NAME_scaling, which the rows of NAME must be multiplied by"
    ) in said.splitlines()
    assert json.loads(run("compress", path, "-o", small, "--local-scaling", "--json"))["local_scaling"] == ["a"]
    table = run("inspect", small, "--original", path)
    assert "BLOCK, DQ, local scaling" in table
    report = json.loads(run("inspect", small, "--original", path, "--json"))["tensors"]
    assert [tensor["scaling_qp"] is None for tensor in report] == [False, True]
    run("decompress", small, "-o", back)
    found = read_network(back).tensors
    assert list(found) == ["a", "b"]
    noise = np.square(found["a"] - rows).sum() / np.square(rows).sum()
    assert report[0]["snr_db"] == pytest.approx(-10 * np.log10(noise), abs=0.01)
    for options, why in (
        (("--lossless",), "--local-scaling with --lossless: has no effect"),
        (("--codebook", "auto"), "--local-scaling with --codebook: has no effect"),
    ):
        assert why in refused("compress", path, "-o", tmp_path / "no.nnc", "--local-scaling", *options)
    uniform = refused("compress", path, "-o", tmp_path / "no.safetensors", "--local-scaling")
    assert "takes none of the options of --method nnc, such as --local-scaling" in uniform
    update = refused("update", "make", path, back, "-o", tmp_path / "no.nnc", "--local-scaling")
    assert "--local-scaling" in update
