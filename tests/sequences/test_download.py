from __future__ import annotations

import errno
import gzip
import hashlib
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.sequences import download as module
from vvc_nnr.sequences.download import download

CONTENT = np.random.default_rng(0).bytes(600_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A local server that counts what it sends and can break off or ignore ranges."""

    def __init__(self):
        self.sent_bytes = 0
        self.stop_after_bytes = None
        self.ranges = True
        self.status = None
        self.headers = {}
        self.body = None
        self.gate = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/file"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if self.gate is not None:
            self.gate.wait()
        if handler.path == "/moved":
            handler.send_response(302)
            handler.send_header("Location", "/page")
            handler.end_headers()
        elif handler.path == "/page":
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html; charset=utf-8")
            handler.end_headers()
            handler.wfile.write(b"<html>please log in</html>")
        elif handler.path not in ("/file", "/file.gz"):
            handler.send_error(404)
        elif begin >= len(CONTENT):
            handler.send_error(416)
        else:
            body = CONTENT[begin:] if self.body is None else self.body
            handler.send_response(self.status or (206 if begin else 200))
            for name, value in ({"Content-Length": str(len(body))} | self.headers).items():
                if value is not None:
                    handler.send_header(name, value)
            handler.end_headers()
            body = body[: self.stop_after_bytes]
            self.sent_bytes += len(body)  # before the client can have them and look
            handler.wfile.write(body)

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def fetch(server, target, **changed):
    options = {"size_bytes": len(CONTENT), "sha256": SHA256, "progress": False, **changed}
    return download(server.url, target, **options)


def test_file_arrives_and_is_not_fetched_twice(tmp_path, server):
    target = tmp_path / "folder" / "file.bin"
    for _ in range(2):
        assert fetch(server, target) == target
        assert target.read_bytes() == CONTENT
        assert list(target.parent.iterdir()) == [target]
    assert server.sent_bytes == len(CONTENT)


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_broken_download_goes_on_where_it_stopped(tmp_path, server, size_bytes):
    target = tmp_path / "file.bin"
    server.stop_after_bytes = 400_000
    with pytest.raises(InputError, match="run again to go on"):
        fetch(server, target, size_bytes=size_bytes)
    assert not target.exists()
    assert (tmp_path / "file.bin.part").stat().st_size == 400_000
    fetch(server, target, size_bytes=size_bytes)
    assert target.read_bytes() == CONTENT
    assert server.sent_bytes == len(CONTENT)


def test_server_without_ranges_starts_again(tmp_path, server):
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_complete_part_only_needs_its_check(tmp_path, server, size_bytes):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "file.bin", size_bytes=size_bytes)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.sent_bytes == 0


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"size_bytes": len(CONTENT) + 1}, {"size_bytes": 10}])
def test_wrong_content_is_removed(tmp_path, server, wrong):
    with pytest.raises(InputError, match=r"want .*; it was removed"):
        fetch(server, tmp_path / "file.bin", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_damaged_target_is_fetched_again(tmp_path, server):
    (tmp_path / "file.bin").write_bytes(b"old")
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_one_of_several_fetches_and_the_others_find_it(tmp_path, server, caplog):
    server.gate = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        fetched = [pool.submit(fetch, server, tmp_path / "file.bin") for _ in range(5)]
        while sum("waiting" in record.message for record in caplog.records) < 4:
            threading.Event().wait(0.005)
        server.gate.set()
        assert {each.result(30) for each in fetched} == {tmp_path / "file.bin"}
    assert server.sent_bytes == len(CONTENT)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_lock_of_a_killed_process_ends_with_it_and_its_part_is_taken_up(tmp_path, server):
    target = tmp_path / "file.bin"
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:400_000])
    code = "import sys; from pathlib import Path; from vvc_nnr.sequences.download import _locked\n"
    code += "with _locked(Path(sys.argv[1])) as file: print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(target) + ".part"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        holder.send_signal(signal.SIGKILL)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.sent_bytes == len(CONTENT) - 400_000


@pytest.mark.parametrize("left", [b"x" * 1000, CONTENT + b"x", b"x" * len(CONTENT)], ids=["short", "long", "full"])
@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_left_over_part_of_another_file_is_replaced(tmp_path, server, left, size_bytes):
    (tmp_path / "file.bin.part").write_bytes(left)
    fetch(server, tmp_path / "file.bin", size_bytes=size_bytes)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("stated", ["bytes 7-599999/600000", "bytes 0-599999/600000", "nonsense"])
def test_another_part_than_asked_for_is_not_appended(tmp_path, server, stated):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    server.status, server.headers = 206, {"Content-Range": stated}
    if stated.startswith("bytes 0-"):
        server.ranges = False
        fetch(server, tmp_path / "file.bin")
        assert (tmp_path / "file.bin").read_bytes() == CONTENT
    else:
        with pytest.raises(InputError, match="another part of the file"):
            fetch(server, tmp_path / "file.bin")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["page", "moved"])
def test_web_page_is_refused_and_what_was_fetched_before_stays(tmp_path, server, place):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:400_000])
    url = server.url.replace("/file", f"/{place}")
    with pytest.raises(InputError, match="sent a web page"):
        download(url, tmp_path / "file.bin", size_bytes=len(CONTENT), sha256=SHA256, progress=False)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:400_000]


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_what_a_server_packs_on_the_way_is_unpacked(tmp_path, server, size_bytes):
    server.body, server.headers = gzip.compress(CONTENT), {"Content-Encoding": "gzip"}
    fetch(server, tmp_path / "file.bin", size_bytes=size_bytes)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    server.body = server.body[:-1000]
    with pytest.raises(InputError, match="run again to go on"):
        fetch(server, tmp_path / "cut.bin", size_bytes=size_bytes)


def test_gz_file_stays_packed_though_the_server_calls_that_its_encoding(tmp_path, server):
    server.body, server.headers = gzip.compress(CONTENT), {"Content-Encoding": "x-gzip"}
    sha256 = hashlib.sha256(server.body).hexdigest()
    download(server.url + ".gz", tmp_path / "x.gz", size_bytes=None, sha256=sha256, progress=False)
    assert (tmp_path / "x.gz").read_bytes() == server.body


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
@pytest.mark.parametrize("stated", [str(len(CONTENT) + 5), "-3", "many", None])
def test_right_content_passes_whatever_length_the_server_states(tmp_path, server, stated, size_bytes):
    server.headers = {"Content-Length": stated}
    fetch(server, tmp_path / "file.bin", size_bytes=size_bytes)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_stated_length_that_is_too_short_leaves_nothing_wrong(tmp_path, server):
    server.headers = {"Content-Length": "1000"}
    with pytest.raises(InputError, match="got 1000 bytes, want 600000"):
        fetch(server, tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_named_and_gone_on_from(tmp_path, server):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"file\.bin: cannot be written: File too large; make room"):
            fetch(server, tmp_path / "file.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 0 < (tmp_path / "file.bin.part").stat().st_size <= 300_000
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_places_that_cannot_take_the_file(tmp_path, server):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: is a folder"):
        fetch(server, tmp_path / "folder")
    (tmp_path / "file.bin.part").mkdir()
    with pytest.raises(InputError, match=r"file\.bin\.part: cannot be written"):
        fetch(server, tmp_path / "file.bin")
    assert server.sent_bytes == 0


def test_errors_name_the_address(tmp_path, server):
    for url in [server.url + "/missing", "http://127.0.0.1:9/refused", "file:///etc/hostname", "http://"]:
        with pytest.raises(InputError, match=url):
            download(url, tmp_path / "x", size_bytes=None, sha256=None, progress=False)
    assert not (tmp_path / "x").exists()


def test_progress_goes_to_stderr_where_that_is_a_terminal(tmp_path, server, capsys, monkeypatch):
    fetch(server, tmp_path / "quiet.bin", progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(server, tmp_path / "file.bin", progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "file.bin" in captured.err
    assert "100%" in captured.err


def test_public_files_are_pinned():
    manifest = "".join(f"{sha256}  {name}\n" for name, sha256 in module.KODAK_SHA256.items())
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    assert digest == "3eaa5bd52eb8c894d351cf607028f5d3d80e778fd0267eeff8c73d66539a25d5"


def test_fetchers_pass_their_pins_on(tmp_path, monkeypatch):
    calls = []

    def recorded(url, target, *, size_bytes, sha256, progress):
        calls.append((url, target.name, size_bytes, sha256))
        return target

    monkeypatch.setattr(module, "download", recorded)
    assert module.fetch_cifar10(tmp_path) == tmp_path / "cifar-10-python.tar.gz"
    assert len(module.fetch_kodak(tmp_path)) == 24
    assert calls[0][2:] == (170498071, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce")
    assert calls[24][:2] == ("https://r0k.us/graphics/kodak/kodak/kodim24.png", "kodim24.png")
    assert all(len(call[3]) == 64 for call in calls)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_folder_without_locks_still_takes_files(tmp_path, server, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    fetch(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
