from __future__ import annotations

import collections
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.cifar import CIFAR10_CLASSES, load_cifar10

N_IMAGES = 5


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N_IMAGES, 32, 32, 3), np.uint8)


LABELS = [3, 0, 9, 1, 3]


def planar(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))


def python_batch(images, labels, protocol=2, keys=(b"data", b"labels")) -> bytes:
    return pickle.dumps({keys[0]: planar(images), keys[1]: labels, b"batch_label": b"x"}, protocol=protocol)


def python_2_batch(images, labels) -> bytes:
    """A batch with the opcodes that Python 2 and its numpy wrote, as in the published files."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    raw = planar(images).tobytes()
    n_images = len(images)
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01K" + bytes([n_images]) + b"M\x00\x0c\x86" + dtype + b"\x89"
    array += b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def binary_batch(images, labels) -> bytes:
    return b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, planar(images), strict=True))


def write(path, data: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def check(loaded, images, labels=LABELS):
    assert loaded.images.dtype == np.uint8
    assert loaded.labels.dtype == np.int64
    assert (loaded.images == images).all()
    assert loaded.labels.tolist() == labels


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_python_batch_of_each_protocol(tmp_path, images, protocol):
    check(load_cifar10(write(tmp_path / "data_batch_1", python_batch(images, LABELS, protocol))), images)
    data = python_batch(images, np.array(LABELS), protocol, keys=("data", "labels"))
    check(load_cifar10(write(tmp_path / "any name", data)), images)


def test_python_2_batch(tmp_path, images):
    data = python_2_batch(images, LABELS)
    plain = pickle.loads(data, encoding="bytes")
    assert (plain[b"data"] == planar(images)).all()
    check(load_cifar10(write(tmp_path / "test_batch", data)), images)


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar.gz"])
def test_batches_in_order_and_by_split(tmp_path, images, kind, packed):
    suffix, make = (".bin", binary_batch) if kind == "binary" else ("", python_batch)
    parts = {
        f"test_batch{suffix}": slice(3, 5),
        f"data_batch_2{suffix}": slice(2, 3),
        f"data_batch_1{suffix}": slice(2),
    }
    root = tmp_path / "cifar-10-batches"
    for name, part in parts.items():
        write(root / name, make(images[part], LABELS[part]))
    write(root / "readme.html", b"<html>")
    if packed:
        path = tmp_path / "cifar.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(root, arcname="cifar-10-batches")
    else:
        path = tmp_path
    check(load_cifar10(path), images)
    check(load_cifar10(path, "train"), images[:3], LABELS[:3])
    check(load_cifar10(path, "test"), images[3:], LABELS[3:])


@pytest.mark.parametrize("names", [False, True], ids=["numbers", "names"])
def test_npz(tmp_path, images, names):
    labels = [CIFAR10_CLASSES[label] for label in LABELS] if names else np.array(LABELS, np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=labels, ids=np.arange(N_IMAGES))
    check(load_cifar10(tmp_path / "x.npz"), images)
    with pytest.raises(InputError, match="no train part"):
        load_cifar10(tmp_path / "x.npz", "train")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_images_in_class_folders(tmp_path, images, packed):
    files = ["train/airplane/0001.png", "train/cat/7.png", "test/1/0.png"]
    labels = [0, 3, 1]
    for file, image in zip(files, images, strict=False):
        (tmp_path / "in" / file).parent.mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "in" / file)
    path = tmp_path / "in"
    if packed:
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in reversed(files):
                archive.write(tmp_path / "in" / file, file)
    check(load_cifar10(path), images[:3], labels)
    check(load_cifar10(path, "test"), images[2:3], [1])


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path, protocol):
    marker = tmp_path / "marker"
    path = write(tmp_path / "data_batch_1", pickle.dumps({b"data": Exploit(marker)}, protocol))
    with pytest.raises(BitstreamError, match="mkdir, which no CIFAR-10 batch needs"):
        load_cifar10(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        b"\x80\x02}r\xff\xff\xff\xffq\x00.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00.",
        b"cbuiltins\neval\n(Vprint(1)\ntR.",
        b"cnumpy\ndtype\n(Vu1\ntR(N}Vname\nVu1\nstb.",
        pickle.dumps([1, 2]),
        pickle.dumps({b"labels": [1]}),
        pickle.dumps({b"data": b"abc", b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((1, 3072), "f4"), b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((1, 3072), object), b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((1, 3072), "u1"), b"labels": [10]}),
        pickle.dumps({b"data": np.zeros((1, 3072), "u1"), b"labels": ["cat"]}),
        pickle.dumps({b"data": np.zeros((1, 3072), "u1"), b"labels": {0: 1}}),
        pickle.dumps(collections.OrderedDict(data=1)),
    ],
)
def test_pickles_that_are_no_batch(tmp_path, data):
    with pytest.raises(BitstreamError):
        load_cifar10(write(tmp_path / "data_batch_1", data))


def test_wrong_sizes(tmp_path, images):
    for data in [b"", binary_batch(images, LABELS)[:-1], binary_batch(images, LABELS) + b"\0"]:
        with pytest.raises(InputError, match="wrong size"):
            load_cifar10(write(tmp_path / "data_batch_1.bin", data))
    for shape, labels in [((2, 3071), [1, 2]), ((2, 3072), [1])]:
        data = pickle.dumps({b"data": np.zeros(shape, np.uint8), b"labels": labels})
        with pytest.raises(InputError, match="wrong size"):
            load_cifar10(write(tmp_path / "data_batch_1", data))
    for shape, n_labels in [((2, 28, 28), 2), ((2, 32, 32, 3), 3)]:
        np.savez(tmp_path / "x.npz", images=np.zeros(shape, np.uint8), labels=np.zeros(n_labels, int))
        with pytest.raises(InputError, match="wrong size"):
            load_cifar10(tmp_path / "x.npz")
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 31)).save(tmp_path / "images" / "cat" / "x.png")
    with pytest.raises(InputError, match="wrong size 32x31"):
        load_cifar10(tmp_path / "images")


def test_wrong_labels_and_folders(tmp_path, images):
    with pytest.raises(BitstreamError, match="label 10"):
        load_cifar10(write(tmp_path / "x.bin", binary_batch(images[:1], [10])))
    np.savez(tmp_path / "x.npz", images=images, labels=["cat"] * 4 + ["cow"])
    with pytest.raises(BitstreamError, match="label cow"):
        load_cifar10(tmp_path / "x.npz")
    (tmp_path / "cow").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "cow" / "x.png")
    with pytest.raises(InputError, match="no folder of a CIFAR-10 class"):
        load_cifar10(tmp_path / "cow")


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_cifar10(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no CIFAR-10 batch or image"):
        load_cifar10(tmp_path)
    np.savez(tmp_path / "x.npz", pictures=np.zeros(3))
    with pytest.raises(InputError, match="has no array 'images'"):
        load_cifar10(tmp_path / "x.npz")


def test_pickled_arrays_in_npz_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.array([{}], object), labels=[0])
    with pytest.raises(UnsupportedError, match=r"x\.npz: images: an array of "):
        load_cifar10(tmp_path / "x.npz")


def damaged(data: bytes, draw) -> bytes:
    changed = bytearray(data)
    # Half of the changes hit the headers at the two ends, the rest anywhere.
    ends = st.integers(-200, 199).filter(lambda position: abs(position) < len(data))
    for position in draw(st.lists(ends | st.integers(0, len(data) - 1), max_size=4)):
        changed[position] ^= draw(st.integers(1, 255))
    return bytes(changed[: len(changed) - draw(st.just(0) | st.integers(0, len(data)))])


@settings(max_examples=300)
@given(kind=st.sampled_from(["python2", "python", "npz", "zip", "tar"]), data=st.data())
def test_damage_ends_in_images_or_a_stated_error(tmp_path_factory, kind, data):
    images = np.zeros((1, 32, 32, 3), np.uint8)
    stream = io.BytesIO()
    if kind == "python2":
        stream.write(python_2_batch(images, [3]))
    elif kind == "python":
        stream.write(python_batch(images, [3], data.draw(st.integers(0, pickle.HIGHEST_PROTOCOL))))
    elif kind == "npz":
        np.savez_compressed(stream, images=images, labels=[3])
    elif kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("test_batch.bin", binary_batch(images, [3]), zipfile.ZIP_DEFLATED)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            info = tarfile.TarInfo("test_batch.bin")
            info.size = 3073
            tar.addfile(info, io.BytesIO(binary_batch(images, [3])))
    name = {"npz": "x.npz", "zip": "x.zip", "tar": "x.tar.gz"}.get(kind, "test_batch")
    path = write(tmp_path_factory.getbasetemp() / name, damaged(stream.getvalue(), data.draw))
    try:
        loaded = load_cifar10(path)
    except (BitstreamError, InputError):
        return
    assert loaded.images.shape == (len(loaded.labels), 32, 32, 3)


def test_real_images(data_folder):
    loaded = load_cifar10(data_folder / "cifar10" / "cifar10_lossless_1000.npz")
    assert loaded.images.shape == (1000, 32, 32, 3)
    assert set(loaded.labels.tolist()) == set(range(10))
