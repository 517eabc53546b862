"""Autoencoders of one's own in the end-to-end experiment: the document, the command line, all weights of a network."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import vvc_nnr
from vvc_nnr.experiments.cli.main import Asked, asked_command, main, parsed
from vvc_nnr.experiments.pictures import small_pictures
from vvc_nnr.experiments.tables.stored import load
from vvc_nnr.filters.networks.factory import module_made_by

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "own-autoencoders.md"
Run = Callable[..., str]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The document's nets.py, and pictures of odd sizes."""
    (tmp_path / "nets.py").write_text(blocks("py")[0])
    (tmp_path / "odd").mkdir()
    picture = skimage.data.astronaut()
    for number, (height, width) in enumerate(((33, 50), (21, 12))):
        Image.fromarray(picture[40 : 40 + height, 200 : 200 + width]).save(tmp_path / "odd" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_documents_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "nets", raising=False)  # of another document
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks("python")), {}, DOCUMENT.name, DOCUMENT.name, 0)
    assert len(examples.examples) > 8
    failed, _ = doctest.DocTestRunner().run(examples)
    sys.modules.pop("nets", None)
    assert failed == 0


def test_the_documents_commands_parse(folder: Path) -> None:
    (folder / "more_photographs").mkdir()
    Image.open("odd/0.png").save("more_photographs/0.png")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        if "jpegxl" in line and importlib.util.find_spec("imagecodecs") is None:
            continue
        asked = asked_command(shlex.split(line)[1:])
        assert isinstance(asked, Asked)
        parsed(asked)


def test_folders_in_a_folder_have_their_pictures_too(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "nested" / name).mkdir(parents=True)
        Image.open("odd/0.png").save(folder / "nested" / name / "0.png")
    assert small_pictures(folder / "nested").names == ("a/0.png", "b/0.png")
    assert {image.shape for image in small_pictures(folder / "nested").images} == {(33, 50, 3)}


def test_bytes_estimates_and_files_in_one_table(folder: Path, run: Run) -> None:
    networks = ("--networks", "nets.py:Deflated", "nets.py:Estimated")
    command = ("experiment", "end-to-end", *networks, "--images", "odd", "--out", "r", "--formats", "jpeg,webp")
    printed = json.loads(run(*command, "--json"))
    table = printed["tables"]["table4_end_to_end"]
    methods = {(row["At the rate of"], row["Method"]) for row in table["rows"]}
    assert {
        ("Deflated", "CNN-AE"), ("Deflated", "reconstructed CNN-AE"), ("Deflated", "WebP, payload"),
        ("Estimated", "CNN-AE, estimated rate"), ("Estimated", "reconstructed CNN-AE, estimated rate"),
    } <= methods  # fmt: skip
    assert ("Estimated", "CNN-AE") not in methods
    assert any(note.startswith("Estimated rate: code length") for note in table["notes"])
    equal = printed["tables"]["rate_at_equal_quality"]["rows"]
    assert {"Deflated", "Estimated, estimated rate", "JPEG, file", "WebP, payload"} <= {row["Method"] for row in equal}
    assert "Unfinished" not in json.dumps(printed)
    found = load(folder / "r")
    assert found.images is not None
    assert found.images.remarks == ()
    frame = found.end_to_end
    assert set(frame["method"]) >= {"cnn-ae", "cnn-ae-estimate", "webp-file", "webp-payload", "jpeg-file"}
    assert set(found.networks["architecture"]) == {"Deflated", "Estimated"}
    network: Any = module_made_by("nets.py:Deflated")
    picture = np.asarray(Image.open("odd/0.png"))
    filled = np.pad(picture, ((0, 3), (0, 2), (0, 0)), mode="edge").transpose(2, 0, 1)
    with torch.no_grad():
        data = network.encode(torch.from_numpy(filled.copy())[None].float() / 255)
    (row,) = frame[
        (frame["image"] == "0.png") & (frame["setting"] == "Deflated") & (frame["weights"] == "original")
    ].to_dict("records")
    assert row["n_bytes"] == len(data)
    assert row["bpp"] == pytest.approx(8 * len(data) / (33 * 50))
    assert row["psnr_db"] > 30
    before = (folder / "r" / "end_to_end.tsv").read_text()
    run(*command)
    assert (folder / "r" / "end_to_end.tsv").read_text() == before


def test_one_network_with_its_files_whatever_they_are_called(folder: Path, run: Run) -> None:
    network = module_made_by("nets.py:Deflated")
    torch.save(network.state_dict(), "first.pt")
    Path("second.nnc").write_bytes(vvc_nnr.compress(network, qp=-20))
    networks = ("--networks", "first.pt", "second.nnc", "--arch", "nets.py:Deflated", "--formats", "jpeg")
    run("experiment", "end-to-end", *networks, "--images", "odd", "--out", "both", "--compress", "none")
    rows = load(folder / "both").networks
    assert list(zip(rows["network"], rows["weights"], rows["coding"], strict=True)) == [
        ("first", "original", "float32"), ("first", "file", "NNC"),
    ]  # fmt: skip
    alone = ("--networks", "second.nnc", "--arch", "nets.py:Deflated", "--formats", "jpeg")
    printed = run("experiment", "end-to-end", *alone, "--images", "odd", "--out", "alone")
    rows = load(folder / "alone").networks
    assert rows["weights"].tolist() == ["file"]
    assert "Only a coded file is given of second" in printed
    assert "reconstructed CNN-AE" in printed
    assert re.search(r"\| CNN-AE  ", printed.split("paper")[1].split("Table 4")[-1]) is None


def test_networks_of_one_class_are_a_curve(folder: Path, run: Run) -> None:
    with Path("nets.py").open("a") as file:
        file.writelines(f"\ndef q{step}():\n    return Deflated({step})\n" for step in (8, 16, 32, 64))
    names = [f"nets.py:q{step}" for step in (8, 16, 32, 64)]
    options = ("--images", "odd", "--out", "r", "--formats", "jpeg", "--compress", "none")
    printed = json.loads(run("experiment", "end-to-end", "--networks", *names, *options, "--json"))
    rows = printed["tables"]["rate_at_equal_quality"]["rows"]
    (curve,) = [row for row in rows if row["Setting"] == "4 networks, original" and row["Quality"] == "PSNR"]
    assert (curve["Method"], curve["Points"]) == ("Deflated", 4)
    assert curve["to JPEG, payload [%]"] > 0  # zlib packs worse than codes made for it


def test_calibrated_weights_of_ones_own(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    picture = skimage.data.coffee()
    Path("photographs").mkdir()
    for number in range(4):
        Image.fromarray(picture[60 * number : 60 * number + 60, 100:180]).save(f"photographs/{number}.png")
    torch.save(module_made_by("nets.py:Deflated").state_dict(), "first.pt")
    coding = ("--calibrate", "photographs", "--max-bytes", "1500", "--crops", "4")
    printed = json.loads(
        run_with_log("compress", "first.pt", "--arch", "nets.py:Deflated", "-o", "first.nnc", *coding, "--json")
    )
    assert printed["output_bytes"] <= 1500
    assert printed["operating_points"][0]["bpp"] > 0
    assert abs(printed["loss_db"]) < 1
    own = ["compress", "first.pt", "--arch", "nets.py:Deflated", "-o", "tuned.nnc", *coding, "--finetune"]
    assert main(own) == 2
    assert "--finetune: not for autoencoders of one's own" in capsys.readouterr().err
    options = ("--images", "odd", "--out", "r", "--formats", "jpeg", "--compress", "none")
    run("experiment", "end-to-end", "--networks", "first.pt", "first.nnc", "--arch", "nets.py:Deflated", *options)
    frame = load(folder / "r").end_to_end
    means = frame[frame["method"] == "cnn-ae"].groupby("weights")["psnr_db"].mean()
    assert abs(means["file"] - means["original"]) < 1


def run_with_log(*words: str) -> str:
    """A command's standard output; what it tells on the way does not matter."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        assert main(list(words)) == 0
    return out.getvalue()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--networks", "nets.py:Transform"], "holds no autoencoder: Transform.forward returns no likelihoods"),
        (["--networks", "nets.py:absent"], "has no absent; it has "),
        (["--networks", "inloop-lop"], "holds no autoencoder"),
        (["--networks", "nets.py:Deflated", "--stride", "3"], "is its stride 3"),
        (["--networks", "nets.py:Deflated", "--formats", "gif"], "'gif' must be one of jpeg, webp"),
        (["--networks", "nets.py:Deflated", "nets.py:Deflated"], "this network is given twice"),
        (["--networks", "first.pt"], "--arch FILE.py:NAME"),
        (["--networks", "first.pt", "--arch", "nets.py:Estimated"], "missing log_scale"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(module_made_by("nets.py:Deflated").state_dict(), "first.pt")
    code = main(["experiment", "end-to-end", *words, "--images", "odd", "--out", "r"])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("r").exists()
