"""VVC decoded by the ffmpeg program of imageio-ffmpeg, for what PyAV's FFmpeg decodes wrongly."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from vvc_nnr.children import run_child
from vvc_nnr.codec.programs import ffmpeg_executable, ffmpeg_versions, work_folder
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import BitstreamError, ExternalToolError, UnsupportedError
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.yuv import frame_from_bytes

_FIRST_RIGHT_LIBAVCODEC = 63
"""FFmpeg 9. Its predecessors decode 8-bit pictures with ALF wrongly."""
# What begins FFmpeg's lines: its part that speaks, and where that lies in memory.
_PART = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] *)+")


def decode_by_program(stream: VvcStream) -> Iterator[tuple[Frame, int]]:
    """Yields each decoded picture with its padding, and its index in `stream.pictures`, in the order of output.

    Raises:
        BitstreamError: If ffmpeg gives fewer or more samples than the stream's headers tell.
        UnsupportedError: If ffmpeg is too old.
        ExternalToolError: If ffmpeg cannot be run.
    """
    executable = _new_enough_ffmpeg()
    with work_folder() as folder:
        for data, shown in stream.parts(stream.new_beginnings):
            coded, decoded = folder / "in.266", folder / "out.yuv"
            coded.write_bytes(data)
            _decode(executable, coded, decoded)
            yield from _read(decoded, stream, shown)


def _new_enough_ffmpeg() -> str:
    executable = ffmpeg_executable()
    version = re.search(r"libavcodec\s+(\d+)", ffmpeg_versions(executable))
    if version is None or int(version[1]) < _FIRST_RIGHT_LIBAVCODEC:
        raise UnsupportedError(f"8-bit VVC needs ffmpeg 9 or newer, {executable} is older: update imageio-ffmpeg")
    return executable


def _decode(executable: str, coded: Path, decoded: Path) -> None:
    """Writes the pictures with their padding; what goes wrong shows in how many there are."""
    reading = "-nostdin -v error -threads 1 -apply_cropping none -export_side_data film_grain -f vvc"
    writing = "-fps_mode passthrough -noautoscale -f rawvideo -y"
    command = [executable, *reading.split(), "-i", str(coded), *writing.split(), str(decoded)]
    try:
        done = run_child(command)
    except OSError as error:
        raise ExternalToolError(f"ffmpeg cannot be run: {error}", command=command) from error
    if os.strerror(errno.ENOSPC).encode() in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(decoded))
    if done.returncode != 0:
        lines = [_PART.sub("", line) for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        said = lines[0] if lines else "ffmpeg failed"
        raise BitstreamError(f"the VVC stream does not decode ({said}): it is damaged")


def _read(decoded: Path, stream: VvcStream, shown: tuple[int, ...]) -> Iterator[tuple[Frame, int]]:
    with decoded.open("rb") as file:
        for index in shown:
            format = stream.pictures[index].coded_format
            raw = bytearray(format.picture_bytes)
            if file.readinto(raw) != len(raw):
                raise BitstreamError(f"picture {index} does not decode: the stream is damaged")
            yield frame_from_bytes(raw, format), index
        if file.read(1):
            raise BitstreamError("more pictures decode than the stream has: it is damaged")
