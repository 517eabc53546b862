from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.errors import InputError
from vvc_nnr.experiments import pictures
from vvc_nnr.experiments.cli.experiment import chosen_sources
from vvc_nnr.experiments.cli.pictures import RawFlags, VideoFlags
from vvc_nnr.experiments.pictures import (
    bundled_patches,
    bundled_sources,
    data_folder,
    default_small_pictures,
    default_sources,
    small_pictures,
)
from vvc_nnr.experiments.records.settings import source_digests
from vvc_nnr.sequences.source import open_sources


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("VVC_NNR_DATA", str(folder))
    return folder


def cifar_tar(path: Path, n_train: int, n_test: int) -> None:
    """A data set in python batches as its home has it; image i of a batch is all i, test images count from 100."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, first, n_images in (("data_batch_1", 0, n_train), ("test_batch", 100, n_test)):
            images = np.repeat(np.arange(first, first + n_images, dtype=np.uint8)[:, None], 3072, axis=1)
            content = pickle.dumps({b"data": images, b"labels": [0] * n_images}, protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_data_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_folder() == data
    monkeypatch.setenv("VVC_NNR_DATA", str(tmp_path / "absent"))
    assert data_folder() is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    monkeypatch.chdir(data)
    for empty in (True, False):
        monkeypatch.setenv("VVC_NNR_DATA", "") if empty else monkeypatch.delenv("VVC_NNR_DATA")
        assert data_folder() == Path("../shared/data")


def test_defaults_without_data_are_bundled(data: Path) -> None:
    """Also in a data folder that holds nothing of use."""
    names = [source.name for source in default_sources()]
    assert names == ["astronaut", "chelsea", "coffee", "motorcycle_left", "rocket"]
    assert [source.name for source in bundled_sources()] == names
    patches = default_small_pictures()
    assert patches.names == bundled_patches().names
    assert patches.origin == f"{len(patches.names)} patches of photographs in scikit-image"
    assert {image.shape for image in patches.images} == {(32, 32, 3)}
    assert len(set(patches.names)) == len(patches.images) > 100


def test_defaults_of_a_data_folder(data: Path, rgb: NDArray[np.uint8]) -> None:
    (data / "kodak").mkdir()
    Image.fromarray(rgb).save(data / "kodak" / "kodim01.png")
    assert [source.name for source in default_sources()] == ["kodim01"]
    cifar_tar(data / "cifar10" / "cifar-10-python.tar.gz", 3, 5)
    assert [int(image[0, 0, 0]) for image in default_small_pictures().images] == [100, 101, 102, 103, 104]
    images = np.full((2, 32, 32, 3), 7, np.uint8)
    np.savez(data / "cifar10" / "cifar10_lossless_1000.npz", images=images, labels=np.zeros(2, np.int64))
    assert len(default_small_pictures().images) == 2


def test_what_fetch_brings_is_read_from_its_folder(tmp_path: Path) -> None:
    cifar_tar(tmp_path / "cifar" / "cifar-10-python.tar.gz", 3, 5)
    found = small_pictures(tmp_path / "cifar")
    assert found.names == small_pictures(tmp_path / "cifar" / "cifar-10-python.tar.gz").names
    assert found.names[0] == "cifar-10-python_00000"
    assert found.origin == "5 CIFAR-10 images of cifar-10-python.tar.gz"
    first = found.first(2)
    assert first.names == found.names[:2]
    assert first.origin == "the first 2 of 5 CIFAR-10 images of cifar-10-python.tar.gz"
    assert found.first(9) is found.first(None) is found


def test_a_folder_of_images_is_taken_as_it_is(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    for name, image in (("b.png", rgb), ("a.png", rgb[:32])):
        Image.fromarray(image).save(tmp_path / name)
    found = small_pictures(tmp_path)
    assert found.names == ("a.png", "b.png")
    assert [image.shape for image in found.images] == [(32, 96, 3), (64, 96, 3)]


def test_what_is_left_out_is_said_in_the_log_and_the_outcome(
    rgb: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png")
    for name in ("._a.png", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert small_pictures(tmp_path).names == ("a.png",)
    sources, words = chosen_sources(tmp_path, RawFlags(), VideoFlags())
    assert [source.name for source in sources] == ["a"]
    left_out = "2 hidden files, 1 of unknown kind (notes.txt)"
    assert words == f"1 sequence of {tmp_path} (left out: {left_out})"
    assert [record.message for record in caplog.records] == [f"left out of {tmp_path}: {left_out}"] * 2


def test_nothing_of_the_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no CIFAR-10 batch or image"):
        small_pictures(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        small_pictures(tmp_path / "absent")


def test_a_scikit_image_without_its_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "BUNDLED", ("absent.png",))
    with pytest.raises(InputError, match=r"scikit-image does not carry absent\.png"):
        bundled_patches()


def test_all_pictures_that_are_too_small_are_named_at_once(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    for name, picture in {"a": rgb, "b": rgb[:1, :1], "c": rgb[:9, :5]}.items():
        Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match=r"b\.png: is 1x1; .*c\.png: is 5x9, sides must be at least 11.*take them out"):
        small_pictures(tmp_path)
    with pytest.raises(InputError, match=r"b\.png: 1x1 is too small .*; .*c\.png: 5x9 is too small"):
        source_digests(open_sources(tmp_path))
