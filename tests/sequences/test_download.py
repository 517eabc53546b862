from __future__ import annotations

import hashlib
import sys
import threading
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
        if handler.path != "/file":
            handler.send_error(404)
        elif begin >= len(CONTENT):
            handler.send_error(416)
        else:
            body = CONTENT[begin:]
            handler.send_response(206 if begin else 200)
            handler.send_header("Content-Length", str(len(body)))
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
