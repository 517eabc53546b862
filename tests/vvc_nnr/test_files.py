from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.files import AtomicFile, is_stream, open_file_number, open_input, short_name


@contextmanager
def at_most_bytes(limit_bytes: int) -> Iterator[None]:
    """Makes the system refuse larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "out.bin"
    with AtomicFile(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [path]


def test_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with AtomicFile(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("n_bytes", [2000, 300_000], ids=["noticed at the end", "noticed by write"])
def test_full_disk_leaves_nothing(tmp_path, n_bytes):
    refused = pytest.raises(InputError, match=r"out\.bin: cannot be written")
    with at_most_bytes(1000), refused, AtomicFile(tmp_path / "out.bin") as file:
        file.write(bytes(n_bytes))
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_and_folder_as_target_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), AtomicFile(tmp_path / "no" / "out.bin"):
        pass
    with pytest.raises(InputError, match="is a folder"), AtomicFile(tmp_path):
        pass


def test_link_keeps_pointing_to_the_new_content(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with AtomicFile(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_device_is_written_directly_and_stays_a_device():
    with pytest.raises(InputError, match="No space left"), AtomicFile(Path("/dev/full")) as file:
        file.write(b"x")
    assert not Path("/dev/full").is_file()


def test_input_that_is_missing_or_a_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_input(tmp_path / "missing")
    with pytest.raises(InputError, match="is a folder"):
        open_input(tmp_path)


def test_name_of_a_zero_byte_or_half_a_letter_is_an_input_error(tmp_path):
    for name in ("a\0b", "\ud800"):
        with pytest.raises(InputError, match="cannot be the name of a file"):
            open_input(tmp_path / name)
        with pytest.raises(InputError, match="cannot be written"), AtomicFile(tmp_path / name):
            pass


@pytest.mark.parametrize("name", ["ä" * 127, "x" * 255, "a:b\n%03d\t'\"", os.fsdecode(b"\xff\xfe"), "-", " "])
def test_every_name_that_the_system_takes(tmp_path, name):
    with AtomicFile(tmp_path / name) as file:
        file.write(b"abc")
        assert len(list(tmp_path.iterdir())) == 1
    assert (tmp_path / name).read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_name_too_long_is_known_before_the_work(tmp_path):
    refused = pytest.raises(InputError, match="cannot be written: File name too long")
    with refused, AtomicFile(tmp_path / ("x" * 256)):
        pytest.fail("the block ran")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_deeper_than_whole_paths_may_be(tmp_path, monkeypatch):
    """Names from there are short, but no absolute path leads there."""
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    with AtomicFile("out.bin") as file:
        file.write(b"abc")
    with open_input("out.bin") as read:
        assert read.read() == b"abc"
    assert os.listdir() == ["out.bin"]


def test_an_open_file_is_written_where_it_stands(tmp_path):
    """As the shell's `{ echo head; program -o /dev/stdout; echo tail; } > all` and `>(...)` want it."""
    with open(tmp_path / "all", "w+b", buffering=0) as shared:
        shared.write(b"head")
        (tmp_path / "link").symlink_to(f"/dev/fd/{shared.fileno()}")
        for path in (f"/dev/fd/{shared.fileno()}", f"/proc/self/fd/{shared.fileno()}", tmp_path / "link"):
            assert is_stream(path)
            with AtomicFile(path) as file:
                file.write(b" data")
        shared.write(b" tail")
    assert (tmp_path / "all").read_bytes() == b"head data data data tail"


def test_pipes_with_and_without_a_name(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with AtomicFile(tmp_path / "fifo") as file:
        file.write(b"abc")
    assert os.read(reader, 10) == b"abc"
    os.close(reader)
    reader, writer = os.pipe()
    with AtomicFile(f"/dev/fd/{writer}") as file:
        file.write(b"def")
    assert os.read(reader, 10) == b"def"
    os.close(reader)
    with pytest.raises(InputError, match="Broken pipe"), AtomicFile(f"/dev/fd/{writer}") as file:
        file.write(b"def")
    os.close(writer)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


def test_numbers_of_open_files():
    assert [open_file_number(p) for p in ("/dev/stdout", "/dev/stderr", "/dev/fd/63")] == [1, 2, 63]
    assert open_file_number(f"/proc/{os.getpid()}/fd/1") == 1
    assert open_file_number("/proc/1/fd/1") is None
    assert open_file_number("x/dev/fd/1") is open_file_number("fd/1") is open_file_number("-") is None


@pytest.mark.parametrize("letter", ["x", "ä", os.fsdecode(b"\xff")])
def test_short_names_differ_and_leave_room(letter):
    assert short_name(letter * 50) == letter * 50
    names = {short_name(letter * n) for n in range(250, 256)}
    assert len(names) == 6
    assert all(len(name.encode("utf-8", "surrogatepass")) <= 200 for name in names)
