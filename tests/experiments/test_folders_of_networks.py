"""What the zoo takes from the user's folder of weights and data sets, whatever else lies in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.zoo.row import NotHereError, find_weights
from vvc_nnr.experiments.zoo.torchvision import _labelled


def test_weights_are_neither_hidden_nor_unfinished(tmp_path: Path) -> None:
    assert find_weights(None, "*.pth*") is None
    assert find_weights(tmp_path / "missing", "*.pth*") is None
    for name in ("._a.pth.tar", ".b.pth", "c.pth.part"):
        (tmp_path / name).touch()
    assert find_weights(tmp_path, "*.pth*") is None
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "d.pth").touch()
    (tmp_path / "e.pth").symlink_to(tmp_path / "weights" / "d.pth")
    (tmp_path / "f.pth").touch()
    assert find_weights(tmp_path, "*.pth*") == tmp_path / "e.pth"


def test_link_to_weights_that_are_gone_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.pth").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"a\.pth: is a link to nothing"):
        find_weights(tmp_path, "*.pth")


def test_classes_are_the_visible_folders_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    val = tmp_path / "val"
    for name in (
        "n02/b.JPEG",
        "n01/._a.JPEG",
        "n03/c.JPEG",
        "n03/deeper/d.JPEG",
        ".ipynb_checkpoints/x.JPEG",
        "e.JPEG",
    ):
        (val / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(val / name)
    (val / "n03" / "Thumbs.db").touch()
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere" / "f.JPEG")
    (val / "n04").symlink_to(tmp_path / "elsewhere")
    found = [(path.relative_to(val).as_posix(), label) for path, label in _labelled(val)]
    assert found == [("n02/b.JPEG", 1), ("n03/c.JPEG", 2), ("n03/deeper/d.JPEG", 2), ("n04/f.JPEG", 3)]
    assert "3 hidden files, 1 of unknown kind (e.JPEG)" in caplog.text


def test_no_pictures_of_classes(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotHereError, match="no picture in"):
            _labelled(folder)
