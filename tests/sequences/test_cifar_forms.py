"""CIFAR-10 as people have it: copies, what systems leave beside it, other names and layouts, and hostile archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences import listing as members_module
from vvc_nnr.sequences.cifar import load_cifar10

IMAGES = np.random.default_rng(7).integers(0, 256, (6, 32, 32, 3), np.uint8)
LABELS = [3, 0, 9, 1, 3, 5]


def batch(begin: int, end: int, **more) -> bytes:
    planar = np.ascontiguousarray(IMAGES[begin:end].transpose(0, 3, 1, 2).reshape(end - begin, 3072))
    return pickle.dumps({b"data": planar, b"labels": LABELS[begin:end], **more})


def png(index: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(IMAGES[index]).save(file, "PNG")
    return file.getvalue()


def put(path, data: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def packed(path, form, files):
    """The files as a folder or archive."""
    if form == "folder":
        for name, data in files.items():
            put(path / name, data)
        return path
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if form == "tar.gz" else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.rename(path.with_suffix(".tar")) if form == "tar" else path


FORMS = pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])


def said(caplog) -> str:
    return "\n".join(record.message for record in caplog.records)


@FORMS
def test_what_systems_leave_beside_batches_and_images(tmp_path, caplog, form):
    apple = b"\0\5\x16\7" + bytes(60)
    files = {"c/test_batch": batch(0, 2), "c/._test_batch": apple, "__MACOSX/c/._data_batch_1": apple}
    files |= {"c/.DS_Store": b"x", "c/batches.meta": b"x", "c/readme.html": b"x", "c/notes.txt": b"x"}
    loaded = load_cifar10(packed(tmp_path / "a", form, files))
    assert (loaded.images == IMAGES[:2]).all()
    assert "3 hidden files, 1 of unknown kind (c/notes.txt)" in said(caplog)
    files = {"train/cat/1.png": png(0), "train/cat/._1.png": apple, "train/cat/.ipynb_checkpoints/1.png": png(0)}
    loaded = load_cifar10(packed(tmp_path / "b", form, files))
    assert (loaded.images == IMAGES[:1]).all()


def test_untouched_data_set_says_nothing(tmp_path, caplog):
    files = {f"data_batch_{i}": batch(i, i + 1) for i in range(1, 6)} | {"test_batch": batch(0, 1)}
    files |= {"batches.meta": b"x", "readme.html": b"x"}
    load_cifar10(packed(tmp_path / "c", "folder", files))
    assert said(caplog) == ""


@FORMS
def test_batches_of_a_backup_count_once(tmp_path, caplog, form):
    files = {f"{folder}cifar-10-batches-py/test_batch": batch(0, 4) for folder in ("a_backup/", "", "z/")}
    loaded = load_cifar10(packed(tmp_path / "d", form, files))
    assert (loaded.images == IMAGES[:4]).all()
    assert "2 copies are left out" in said(caplog)
    assert "a_backup/cifar-10-batches-py/test_batch equals cifar-10-batches-py/test_batch" in said(caplog)


@FORMS
def test_different_batches_of_one_name_are_refused(tmp_path, form):
    files = {"new/test_batch": batch(0, 4), "old/test_batch": batch(1, 4), "new/data_batch_1": batch(4, 6)}
    path = packed(tmp_path / "d", form, files)
    with pytest.raises(InputError, match="different batches new/test_batch and old/test_batch"):
        load_cifar10(path)


@FORMS
def test_copies_of_images_count_once_and_others_of_their_name_stay(tmp_path, caplog, form):
    files = {"train/cat/1.png": png(0), "backup/train/cat/1.png": png(0), "more/train/cat/1.png": png(1)}
    loaded = load_cifar10(packed(tmp_path / "d", form, files))
    assert (loaded.images == IMAGES[[1, 0]]).all()
    assert "backup/train/cat/1.png equals train/cat/1.png" in said(caplog)


def test_images_that_are_there_more_than_once_are_named(tmp_path, caplog):
    files = {"train/cat/1.png": png(0), "test/cat/9.png": png(0), "test/dog/2.png": png(1)}
    assert len(load_cifar10(packed(tmp_path / "d", "folder", files)).images) == 3
    assert "1 image is there more than once (test/cat/9.png equals train/cat/1.png)" in said(caplog)
    np.savez(tmp_path / "x.npz", images=IMAGES[[0, 1, 0, 0]])
    assert len(load_cifar10(tmp_path / "x.npz").images) == 4
    assert "2 images are there more than once (images[2] equals images[0], images[3] equals images[0])" in said(caplog)


def test_both_kinds_of_batches_are_not_mixed_in_silence(tmp_path, caplog):
    record = bytes([3]) + IMAGES[5].transpose(2, 0, 1).tobytes()
    load_cifar10(
        packed(tmp_path / "d", "folder", {"test_batch": batch(0, 2), "bin/data_batch_1.bin": record, "a.png": png(3)})
    )
    assert "2 of unknown kind (a.png, bin/data_batch_1.bin)" in said(caplog)


@pytest.mark.parametrize(
    ("names", "labelled"),
    [
        (("images",), False),
        (("data", "labels"), True),
        (("X", "Y"), True),
        (("x", "y"), True),
        (("arr_0", "arr_1"), True),
        (("arr_0",), False),
        (("X_train", "y_train"), True),
        (("test_images", "test_labels"), True),
    ],
)
def test_npz_under_the_names_that_people_give(tmp_path, names, labelled):
    np.savez(tmp_path / "x.npz", **dict(zip(names, (IMAGES, np.array(LABELS)), strict=False)), ids=np.arange(6))
    loaded = load_cifar10(tmp_path / "x.npz")
    assert (loaded.images == IMAGES).all()
    assert (loaded.labels is not None) == labelled
    if labelled:
        assert loaded.labels.tolist() == LABELS


def test_npz_of_keras_has_two_parts(tmp_path):
    x, y = IMAGES.transpose(0, 3, 1, 2), np.array(LABELS)[:, None]
    np.savez(tmp_path / "x.npz", x_test=x[4:], y_test=y[4:], x_train=x[:4], y_train=y[:4])
    assert (load_cifar10(tmp_path / "x.npz").images == IMAGES).all()
    assert load_cifar10(tmp_path / "x.npz").labels.tolist() == LABELS
    assert (load_cifar10(tmp_path / "x.npz", "test").images == IMAGES[4:]).all()
    assert load_cifar10(tmp_path / "x.npz", "train").labels.tolist() == LABELS[:4]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16, ">i4"])
@pytest.mark.parametrize("order", ["NHWC", "NCHW", "Fortran"])
def test_whole_numbers_of_each_type_and_order(tmp_path, dtype, order):
    images = IMAGES.astype(dtype)
    images = images.transpose(0, 3, 1, 2) if order == "NCHW" else images
    np.savez(tmp_path / "x.npz", images=np.asfortranarray(images) if order == "Fortran" else images)
    np.save(tmp_path / "x.npy", images)
    for path in (tmp_path / "x.npz", tmp_path / "x.npy"):
        loaded = load_cifar10(path).images
        assert loaded.dtype == np.uint8
        assert (loaded == IMAGES).all()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES / 255}, "float64; must be whole numbers 0 to 255"),
        ({"images": IMAGES.astype(np.float32)}, "float32; must be whole numbers 0 to 255"),
        ({"images": IMAGES > 127}, "bool; must be whole numbers"),
        ({"images": IMAGES.astype(np.int32) - 128}, "values -128 to"),
        ({"images": IMAGES.astype(np.int32) * 2}, "must be 0 to 255"),
        ({"images": IMAGES.reshape(6, -1)}, r"wrong size, uint8 \(6, 3072\)"),
        ({"images": IMAGES[:, :, :, 0]}, "wrong size"),
        ({"arr_0": IMAGES[:3], "arr_1": IMAGES[3:]}, "wrong size, 3 images and labels"),
        ({"images": IMAGES, "data": IMAGES}, r"several arrays of images \(images, data\)"),
        ({"images": IMAGES, "x_train": IMAGES}, "several arrays of images"),
        ({"pictures": IMAGES}, "has no array 'images' .*it holds pictures"),
        ({}, "it holds nothing"),
    ],
)
def test_npz_that_is_not_clear_is_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=words):
        load_cifar10(tmp_path / "x.npz")


@FORMS
def test_layout_of_kaggle(tmp_path, form):
    files = {"train/1.png": png(0), "train/2.png": png(1), "trainLabels.csv": b"id,label\r\n1,cat\r\n2,truck\r\n"}
    loaded = load_cifar10(packed(tmp_path / "a", form, files))
    assert (loaded.images == IMAGES[:2]).all()
    assert loaded.labels.tolist() == [3, 9]
    loaded = load_cifar10(packed(tmp_path / "b", form, files | {"test/1.png": png(2)}))
    assert (loaded.images == IMAGES[:3]).all()
    assert loaded.labels is None
    assert len(load_cifar10(packed(tmp_path / "c", form, files | {"test/1.png": png(2)}), "test").images) == 1


@pytest.mark.parametrize(
    "table", [b"id,label\n1,cow\n", b"id,label\n1\n", b"id,label\n1,cat,2\n", b'id,label\n"1', b"\xff\xfe"]
)
def test_label_files_that_cannot_be_read(tmp_path, table):
    with pytest.raises(BitstreamError, match="trainLabels"):
        load_cifar10(packed(tmp_path / "a", "folder", {"train/1.png": png(0), "trainLabels.csv": table}))


def test_published_archive_in_a_folder_is_read_as_torchvision_leaves_it(tmp_path, caplog):
    put(tmp_path / "x" / "batches.meta", b"x")
    packed(tmp_path / "cifar-10-python.tar.gz", "tar.gz", {"cifar-10-batches-py/test_batch": batch(0, 3)})
    assert (load_cifar10(tmp_path).images == IMAGES[:3]).all()
    put(tmp_path / "cifar-10-batches-py" / "test_batch", batch(0, 3))
    assert (load_cifar10(tmp_path).images == IMAGES[:3]).all()
    assert "1 of unknown kind (cifar-10-python.tar.gz)" in said(caplog)


def test_cifar_100_is_refused_by_name(tmp_path):
    fine = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [99], b"coarse_labels": [1]})
    with pytest.raises(InputError, match="batch of CIFAR-100"):
        load_cifar10(put(tmp_path / "train", fine))
    for form in ("folder", "tar.gz", "zip"):
        path = packed(tmp_path / f"x{form}", form, {"cifar-100-python/train": fine, "cifar-100-python/meta": b"x"})
        with pytest.raises(InputError, match="holds CIFAR-100"):
            load_cifar10(path)
    with pytest.raises(InputError, match="holds CIFAR-100"):
        load_cifar10(packed(tmp_path / "y", "folder", {"train.bin": bytes(3074), "fine_label_names.txt": b"apple"}))


def test_members_that_leave_the_archive_are_not_read_and_nothing_is_written(tmp_path, caplog):
    put(tmp_path / "test_batch", batch(0, 1))
    (tmp_path / "in").mkdir()
    files = {"../test_batch": batch(1, 2), "/etc/test_batch": batch(2, 3), "a/test_batch": batch(2, 3)}
    for form in ("zip", "tar"):
        loaded = load_cifar10(packed(tmp_path / "in" / form, form, files))
        assert (loaded.images == IMAGES[2:3]).all()
    assert (tmp_path / "test_batch").read_bytes() == batch(0, 1)
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"zip", "tar.tar"}
    assert "1 hidden file" in said(caplog)


def test_zip_with_backslashes(tmp_path):
    path = packed(tmp_path / "x.zip", "zip", {"train\\cat\\1.png": png(0)})
    assert load_cifar10(path).labels.tolist() == [3]


def test_links_in_archives_lead_only_into_the_archive(tmp_path, caplog):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("train/cat/1.png")
        info.size = len(png(0))
        archive.addfile(info, io.BytesIO(png(0)))
        for name, kind, target in [
            ("train/dog/1.png", tarfile.LNKTYPE, "train/cat/1.png"),
            ("train/dog/2.png", tarfile.LNKTYPE, "../outside.png"),
            ("train/dog/3.png", tarfile.LNKTYPE, "train/dog/3.png"),
            ("train/dog/4.png", tarfile.SYMTYPE, "/etc/passwd"),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    loaded = load_cifar10(tmp_path / "x.tar")
    assert loaded.labels.tolist() == [3, 5]
    assert "3 links that are not followed (train/dog/2.png, train/dog/3.png, train/dog/4.png)" in said(caplog)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("cat/1.png", png(0))
        link = zipfile.ZipInfo("cat/2.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert len(load_cifar10(tmp_path / "x.zip").images) == 1
    assert "1 link that is not followed (cat/2.png)" in said(caplog)


def test_archives_that_unpack_to_too_much_are_refused_before_they_do(tmp_path, monkeypatch):
    monkeypatch.setattr(members_module, "MAX_MEMBER_BYTES", 4 << 20)
    monkeypatch.setattr(members_module, "MAX_TOTAL_BYTES", 12 << 20)
    tracemalloc.start()
    try:
        for form in ("zip", "tar.gz"):
            with pytest.raises(BitstreamError, match="at most 4194304"):
                load_cifar10(packed(tmp_path / f"one.{form}", form, {"test_batch": bytes(5 << 20)}))
            many = {f"data_batch_{i}": bytes(4 << 20) for i in range(4)}
            with pytest.raises(BitstreamError, match=r"too much|would unpack to"):
                load_cifar10(packed(tmp_path / f"many.{form}", form, many))
            del many
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, 64 << 20
        with gzip.open(tmp_path / "pax.tar.gz", "wb") as file:
            file.write(header.tobuf() + bytes(64 << 20))
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with pytest.raises(BitstreamError, match="a header or file of 67108864 bytes"):
            load_cifar10(tmp_path / "pax.tar.gz")
        assert tracemalloc.get_traced_memory()[1] - before < 16 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(members_module, "MAX_MEMBERS", 10)
    with pytest.raises(BitstreamError, match="too much in the archive"):
        load_cifar10(packed(tmp_path / "names.tar.gz", "tar.gz", {f"x{i}": b"" for i in range(20)}))


def test_zip_entries_without_a_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("ZQXZ", b"")
        archive.writestr("cat/1.png", png(0))
    data = (tmp_path / "x.zip").read_bytes().replace(b"ZQXZ", b"////")
    assert len(load_cifar10(put(tmp_path / "y.zip", data)).images) == 1


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (bz2.compress(b"x"), "bz2"),
        (lzma.compress(b"x"), "xz"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        (b"Rar!\x1a\7", "rar"),
    ],
)
def test_archives_of_other_kinds_are_named(tmp_path, data, suffix):
    with pytest.raises(UnsupportedError, match=f"is a .{suffix} archive; unpack it"):
        load_cifar10(put(tmp_path / "x", data))


def test_empty_archives(tmp_path):
    for form in ("zip", "tar", "tar.gz"):
        with pytest.raises(InputError, match="holds no CIFAR-10 batch or image"):
            load_cifar10(packed(tmp_path / f"x{form}", form, {}))


@pytest.mark.parametrize("name", ["0001.png", "x.JPG"])
def test_one_image_is_no_batch(tmp_path, name):
    Image.fromarray(IMAGES[0]).save(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: is one image; give the folder"):
        load_cifar10(tmp_path / name)


def test_a_zip_that_is_packed_otherwise_is_refused_by_its_method(tmp_path):
    """LZMA's header asks for as much memory as it likes."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("data_batch_1.bin", bytes([3]) + bytes(3072))
    with pytest.raises(UnsupportedError, match="is packed by method 14; must be stored or deflated"):
        load_cifar10(tmp_path / "x.zip")


def test_a_zip_that_states_more_packed_bytes_than_it_has_is_damaged(tmp_path):
    """As many bytes of memory are asked for before the first is read."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("data_batch_1.bin", bytes([3]) + bytes(3072))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    sizes = data.index(b"PK\x01\x02") + 20
    assert data[sizes : sizes + 4] == (3073).to_bytes(4, "little")
    data[sizes : sizes + 4] = (0x7FFFFFFF).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BitstreamError, match=r"states 2147483647 packed bytes of [0-9]+ in the archive"):
        load_cifar10(tmp_path / "x.zip")


@FORMS
@pytest.mark.parametrize("suffix", ["", ".bin"])
def test_batches_that_are_missing_are_named(tmp_path, caplog, form, suffix):
    def made(index: int) -> bytes:
        planes = IMAGES[index].transpose(2, 0, 1).tobytes()
        return bytes([LABELS[index]]) + planes if suffix else batch(index, index + 1)

    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {f"{name}{suffix}": made(i) for i, name in enumerate(names) if i not in (2, 5)}
    path = packed(tmp_path / "d", form, files)
    assert len(load_cifar10(path).images) == 4
    assert ": 2 of 6 batches are missing (data_batch_3, test_batch)" in said(caplog)
    caplog.clear()
    assert len(load_cifar10(path, "train").images) == 4
    assert ": 1 of 5 batches is missing (data_batch_3)" in said(caplog)


@FORMS
def test_a_set_without_images_is_refused(tmp_path, form):
    path = packed(tmp_path / "d", form, {"data_batch_1": batch(0, 0), "test_batch": batch(0, 0)})
    with pytest.raises(InputError, match="holds no image: data_batch_1, test_batch has none"):
        load_cifar10(path)


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "data_batch_1", "two.npz"])
def test_a_file_without_images_is_refused(tmp_path, name):
    path = tmp_path / name
    if name.startswith("data"):
        path.write_bytes(batch(0, 0))
    elif name == "two.npz":
        np.savez(path, x_train=IMAGES[:0], x_test=IMAGES[:0])
    elif name == "x.npy":
        np.save(path, IMAGES[:0])
    else:
        np.savez(path, images=IMAGES[:0])
    with pytest.raises(InputError, match=rf"{name}: holds no image"):
        load_cifar10(path)


def test_other_pictures_beside_those_of_an_npz_are_named(tmp_path, caplog):
    np.savez(tmp_path / "x.npz", images=IMAGES, other=IMAGES[:2], ids=np.arange(6), mean=np.zeros((32, 32)))
    assert (load_cifar10(tmp_path / "x.npz").images == IMAGES).all()
    assert said(caplog).endswith("x.npz: more pictures (other (2, 32, 32, 3)), under a name that is not known")
    caplog.clear()
    np.savez(tmp_path / "x.npz", images=IMAGES, ids=np.arange(6))
    load_cifar10(tmp_path / "x.npz")
    assert said(caplog) == ""


def test_parquet_is_refused_by_name_and_with_what_to_do(tmp_path):
    file = put(tmp_path / "hf" / "plain_text" / "train-00000-of-00001.parquet", b"PAR1" + bytes(99))
    for path in (file, tmp_path / "hf"):
        with pytest.raises(InputError, match=r"is parquet, .* not read; take the published archive \(vvc-nnr fetch"):
            load_cifar10(path)
