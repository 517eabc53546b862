from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.files import AtomicFile, open_input


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
