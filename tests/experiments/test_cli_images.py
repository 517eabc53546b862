"""The commands image encode and image decode."""

from __future__ import annotations

import json

import numpy as np
import pytest
import skimage.data

from vvc_nnr.experiments.cli.main import main
from vvc_nnr.sequences.images import png_bytes, read_image


@pytest.fixture
def images(tmp_path):
    photograph = skimage.data.astronaut()
    for name, picture in (("a", photograph[:12, :20]), ("b", photograph[40:49, 50:55])):
        (tmp_path / f"{name}.png").write_bytes(png_bytes(picture))
    return [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


def refused(capsys, *words):
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_images_go_to_a_file_and_back(images, tmp_path, capsys):
    coded = tmp_path / "two.vnae"
    words = ["image", "encode", *images, "--network", "autoencoder-4.2bpp", "-o", str(coded), "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["n_bytes"], said["pictures"]) == (coded.stat().st_size, 2)
    assert main(["image", "decode", str(coded), "--out-dir", str(tmp_path / "out")]) == 0
    for name, number in zip(images, ("0001", "0002"), strict=True):
        original, decoded = (read_image(path) for path in (tmp_path / name, tmp_path / "out" / f"{number}.png"))
        assert original.shape == decoded.shape
        assert np.mean((original.astype(float) - decoded) ** 2) < 40
    (tmp_path / "out" / "0002.png").rename(tmp_path / "out" / "0003.png")
    capsys.readouterr()
    again = refused(capsys, "image", "decode", coded, "--out-dir", tmp_path / "out")
    assert "out: holds 0003.png of another file, which would seem to follow the 2 pictures of this one" in again
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.png", "0003.png"]
    assert "holds 2 pictures: give --out-dir" in refused(capsys, "image", "decode", coded, "-o", tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()
    assert "written as .png; change the name" in refused(capsys, "image", "decode", coded, "-o", tmp_path / "c.jpg")
    other = refused(capsys, "image", "decode", coded, "--out-dir", tmp_path, "--network", "autoencoder-1.8bpp")
    assert "two.vnae: coded by the network autoencoder-4.2bpp" in other
    coded.write_bytes(coded.read_bytes()[:-5])
    damaged = refused(capsys, "image", "decode", coded, "--out-dir", tmp_path / "none")
    assert "damaged or cut short" in damaged
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_coded_is_refused(images, tmp_path, capsys, monkeypatch):
    encode = ["image", "encode", *images, "-o", tmp_path / "x.vnae", "--network"]
    assert "holds no autoencoder" in refused(capsys, *encode, "inloop-vlop")
    assert "effort 1: must be 0: the encoder of a" in refused(capsys, *encode, "autoencoder-4.2bpp", "--effort", 1)
    shape = "rate 4: must be one of the network's operating points, 0 to 3"
    monkeypatch.setattr("vvc_nnr.experiments.cli.codec.load_network", None)  # it is not needed to know that
    assert shape in refused(capsys, *encode, "context-autoencoder", "--rate", 4)
    said = refused(capsys, *encode, "context-autoencoder", "--effort", 4)
    assert "--effort: '4' must be a whole number, 0 to 3" in said
    assert "rate 1: must be 0: a network with a" in refused(capsys, *encode, "autoencoder-4.2bpp", "--rate", 1)
    assert "one of them must be given" in refused(capsys, "image", "decode", images[0])
    assert "no pictures of an autoencoder" in refused(capsys, "image", "decode", images[0], "-o", tmp_path / "y.png")
    assert not list(tmp_path.glob("x*"))
