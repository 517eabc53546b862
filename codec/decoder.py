"""VVC streams to pictures: by FFmpeg's own decoder (`decode_vvc`), or by programs on the PATH, VTM and vvdecapp.

Surprises to know first: FFmpeg's decoder may drop a damaged picture without a word, and it does not look at the
hash of a picture. So this package derives from the headers which pictures must come (`vvc_stream`), numbers them,
and holds every picture that comes out against its own headers and hash. FFmpeg before version 9 decodes 8-bit
streams wrongly, so these go through the ffmpeg program of imageio-ffmpeg. And on several threads FFmpeg decodes some
pictures (noise at low QPs) differently from run to run, so only streams whose pictures all have hashes are decoded
so, and on one thread from the beginning where a hash differs.
"""

from __future__ import annotations

import binascii
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import av
import numpy as np

from vvc_nnr.children import run_child
from vvc_nnr.codec.nal import LAST_SLICE_TYPE, HashType, nal_units
from vvc_nnr.codec.programs import ffmpeg_executable, ffmpeg_versions, find_program, printed, work_folder
from vvc_nnr.codec.vvc_stream import StreamPicture, VvcStream, changed_format, check_one_size, read_vvc_stream
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, DEFAULT_FPS, ChromaFormat, Frame, Plane, VideoFormat
from vvc_nnr.sequences.y4m import read_y4m
from vvc_nnr.sequences.yuv import frame_from_bytes, read_yuv

_FIRST_RIGHT_LIBAVCODEC = 63
"""FFmpeg 9. Its predecessors decode 8-bit pictures with ALF wrongly."""
_ZERO_WORDS = b"\x00\x00\x03" * 32
"""cabac_zero_words of H.266, which every slice may have at its end."""
# What begins FFmpeg's lines: its part that speaks, and where that lies in memory.
_PART = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] *)+")


MAX_PICTURE_BYTES = 80_216_064 * 3 * 2
"""The largest picture of H.266's highest level that bounds sizes, 6.3, in 4:4:4 above 8 bit: 481 MB.

A decoder asks for the memory that a few bytes of header state before it looks at the rest.
"""


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
            coded.write_bytes(_closed(data))
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


_CRC_START = 0x1D0F
"""The register after sixteen bits that are all one, which the standard begins with."""


def hash_of_plane(plane: Plane, hash_type: HashType) -> bytes:
    """The hash of a plane (height, width), uint8 at 8 bit and uint16 above, as the SEI message writes it."""
    if hash_type == "checksum":
        return _checksum(plane)
    samples = np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<")).tobytes()
    if hash_type == "crc":
        return binascii.crc_hqx(samples, _CRC_START).to_bytes(2, "big")
    return hashlib.md5(samples, usedforsecurity=False).digest()


def _checksum(plane: Plane) -> bytes:
    """The sum of all bytes, each changed by the place of its sample."""
    height, width = plane.shape
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    mask = (x & 255) ^ (y & 255) ^ (x >> 8) ^ (y >> 8)
    total = int(np.sum((plane & 255) ^ mask, dtype=np.uint64))
    if plane.dtype != np.uint8:
        total += int(np.sum((plane >> 8) ^ mask, dtype=np.uint64))
    return (total & 0xFFFFFFFF).to_bytes(4, "big")


DecoderTool: TypeAlias = Literal["vtm", "vvdecapp"]

_BIT_DEPTHS = (8, 10, 12)
_AS_MANY_AS_CORES = 0


@dataclass(frozen=True, slots=True)
class _DecoderRow:
    """One decoder program.

    Attributes:
        executables: What it may be called on the PATH, the best first.
        options: What follows `-b STREAM -o TARGET`: output at the stream's own bit depth, MD5 checked.
        writes_grey_y4m: Whether its .y4m files of 4:0:0 pictures say so; vvdecapp calls them 4:2:0.
    """

    executables: tuple[str, ...]
    options: tuple[str, ...]
    writes_grey_y4m: bool


_PROGRAMS: dict[DecoderTool, _DecoderRow] = {
    "vtm": _DecoderRow(("DecoderApp", "DecoderAppStatic"), ("-d", "0"), writes_grey_y4m=True),
    "vvdecapp": _DecoderRow(("vvdecapp",), ("-dph",), writes_grey_y4m=False),
}


def decode_vvc(
    stream: bytes | Path | VvcStream, *, width: int | None = None, height: int | None = None, check: bool = True
) -> Iterator[Frame]:
    """Yields the decoded pictures of a VVC byte stream in output order, one at a time, as they are coded.

    Each picture has its own size, bit depth and chroma format, which may change in mid-stream, and is cropped by
    its conformance window. Pictures that lean on ones before the beginning of the stream are not output (H.266,
    clause 8.1.1). Film grain is not added. What breaks the stream as a whole is noticed before the first picture,
    what breaks one picture at its turn. A stream that was cut exactly between two access units cannot be told from
    a shorter one.

    Args:
        stream: The byte stream, the path of a file that holds it, or what `read_vvc_stream` made of it.
        width: Crops to this luma width, for pictures that were padded before encoding; None: as coded.
        height: Crops to this luma height; None: as coded.
        check: Hold each picture against its hash SEI (MD5, CRC or checksum) where the stream has them.

    Raises:
        InputError: If the file cannot be read, or pictures of several sizes are to be cropped to one.
        BitstreamError: If the stream is damaged: undecodable, pictures missing, or a hash that differs.
        UnsupportedError: If FFmpeg does not implement a tool that the stream uses, or pictures take more than
            `MAX_PICTURE_BYTES`.
    """
    known = stream if isinstance(stream, VvcStream) else read_vvc_stream(stream)
    _check_supported(known)
    if width is not None or height is not None:
        check_one_size(known)
    is_hashed = check and len(known.hashed) == len(known.pictures)
    n_yielded = 0
    for n_threads in (_AS_MANY_AS_CORES, 1) if is_hashed else (1,):
        try:
            for number, frame in enumerate(_checked_pictures(known, n_threads, check=check)):
                if number == n_yielded:
                    n_yielded += 1
                    yield frame.cropped(width or frame.width, height or frame.height)
            return
        except BitstreamError:
            if n_threads == 1:
                raise


class ExternalDecoder:
    """Decodes streams with a program on the PATH; `decode` is used like `decode_vvc`.

    Args:
        tool: "vtm" (DecoderApp or DecoderAppStatic, a version that writes .y4m) or "vvdecapp".

    Raises:
        InputError: If there is no such tool.
        ExternalToolError: If the program is not on the PATH.
    """

    def __init__(self, tool: DecoderTool = "vvdecapp") -> None:
        if tool not in get_args(DecoderTool):
            raise InputError(f"decoder {tool!r}: must be one of {', '.join(get_args(DecoderTool))}")
        self.tool = tool
        self.executable = find_program(_PROGRAMS[tool].executables)

    def decode(
        self, stream: bytes | Path | VvcStream, *, width: int | None = None, height: int | None = None
    ) -> Iterator[Frame]:
        """Yields the decoded pictures in output order, one at a time, at the stream's own bit depth.

        The program checks the MD5 SEI. Its files have pictures of one size, so it runs once for each part of the
        stream that has another format.

        Args:
            stream: The byte stream, the path of a file that holds it, or what `read_vvc_stream` made of it.
            width: Crops to this luma width, for pictures that were padded before encoding; None: as coded.
            height: Crops to this luma height; None: as coded.

        Raises:
            InputError: If the file cannot be read, or pictures of several sizes are to be cropped to one.
            BitstreamError: If the stream holds no picture, or pictures are missing in the output.
            UnsupportedError: If the stream has more than one layer, the size changes inside a sequence, or a picture
                takes more than `MAX_PICTURE_BYTES`.
            ExternalToolError: If the program fails, writes nothing, or writes pictures of another size.
        """
        known = stream if isinstance(stream, VvcStream) else read_vvc_stream(stream)
        _check_sizes(known)
        if width is not None or height is not None:
            check_one_size(known)
        parts = known.parts(known.new_beginnings)
        for _, shown in parts:
            _check_one_format(known, shown)
        n_decoded = 0
        for data, shown in parts:
            with work_folder() as folder:
                n_here = 0
                for frame in self._decoded_frames(data, folder, known.pictures[shown[0]].format):
                    n_here += 1
                    self._check_size(frame, known.pictures[shown[0]].format)
                    yield frame.cropped(width or frame.width, height or frame.height)
            n_decoded += n_here
            if n_here != len(shown):
                n_pictures = len(known.output_order)
                raise BitstreamError(f"{n_decoded} of {n_pictures} pictures decoded: the stream is damaged")

    def _check_size(self, frame: Frame, format: VideoFormat) -> None:
        if (frame.width, frame.height) != (format.width, format.height):
            got, wanted = f"{frame.width}x{frame.height}", f"{format.width}x{format.height}"
            raise ExternalToolError(f"{self.executable.name} wrote a picture of {got}, its headers say {wanted}")

    def _decoded_frames(self, data: bytes, folder: Path, format: VideoFormat) -> Iterator[Frame]:
        if format.chroma_format == "400" and not _PROGRAMS[self.tool].writes_grey_y4m:
            return read_yuv(self._decoded_file(data, folder / "out.yuv"), format)
        return read_y4m(self._decoded_file(data, folder / "out.y4m"))

    def _decoded_file(self, data: bytes, decoded: Path) -> Path:
        folder = decoded.parent
        coded = folder / "in.266"
        coded.write_bytes(data)
        command = [str(self.executable), "-b", str(coded), "-o", str(decoded), *_PROGRAMS[self.tool].options]
        log = printed(command, folder)
        if not decoded.exists() or decoded.stat().st_size == 0:
            raise ExternalToolError(f"{self.executable.name} wrote nothing", command=command, exit_code=0, log=log)
        return decoded


def _checked_pictures(known: VvcStream, n_threads: int, *, check: bool) -> Iterator[Frame]:
    """Yields the pictures in output order, each held against its headers and its hash, inside its window."""
    n_decoded = 0
    for coded, index in _decode_uncropped(known, n_threads):
        if n_decoded == len(known.output_order) or index != known.output_order[n_decoded]:
            raise BitstreamError(f"picture {index} came as number {n_decoded}: damaged or lost pictures")
        picture = known.pictures[index]
        _check_format(coded, picture, index)
        if check and index in known.hashed:
            _check_hash(coded, picture, index)
        n_decoded += 1
        yield _windowed(coded, picture)
    if n_decoded != len(known.output_order):
        raise BitstreamError(f"{n_decoded} of {len(known.output_order)} pictures decoded: the stream is damaged")


def _check_sizes(stream: VvcStream) -> None:
    for index, picture in enumerate(stream.pictures):
        size_bytes = picture.coded_format.picture_bytes
        if size_bytes > MAX_PICTURE_BYTES:
            size = f"{picture.coded_width}x{picture.coded_height}"
            message = f"picture {index} of {size} takes {size_bytes} bytes, must be at most {MAX_PICTURE_BYTES}"
            raise UnsupportedError(f"{message} (the largest of level 6.3)")


def _check_supported(stream: VvcStream) -> None:
    _check_sizes(stream)
    for index, picture in enumerate(stream.pictures):
        if picture.format.bit_depth not in _BIT_DEPTHS:
            message = f"picture {index} has {picture.format.bit_depth} bit; FFmpeg decodes VVC of 8, 10 and 12 bit"
            raise UnsupportedError(message)


def _decode_uncropped(stream: VvcStream, n_threads: int) -> Iterator[tuple[Frame, int]]:
    """Yields each decoded picture with its padding, and the index of its unit, which is its packet's time stamp.

    The decoder is emptied before each sequence: it would pass over the end of one where that comes last in a packet,
    and drop pictures that wait for their output where a sequence says that no earlier ones are output.
    """
    if any(picture.format.bit_depth == 8 for picture in stream.pictures):
        yield from decode_by_program(stream)
        return
    index = 0
    try:
        decoder = av.CodecContext.create("vvc", "r")
        decoder.thread_count = n_threads
        decoder.options = {"apply_cropping": "0", "export_side_data": "film_grain"}
        for index, picture in enumerate(stream.pictures):
            if index and picture.sequence != stream.pictures[index - 1].sequence:
                yield from _decoded(decoder, None)
                decoder.flush_buffers()
            packet = av.Packet(_closed(stream.access_unit(index)))
            packet.pts = index
            yield from _decoded(decoder, packet)
        yield from _decoded(decoder, None)
    except av.error.PatchWelcomeError as error:
        raise UnsupportedError(
            "FFmpeg does not decode all that this VVC stream uses; another decoder may (--decoder)"
        ) from error
    except av.error.FFmpegError as error:
        said = (error.strerror or "FFmpeg gives no reason").lower()
        if error.errno == errno.ENOMEM:
            said = "its headers contradict themselves, or there is not enough memory"
        raise BitstreamError(f"picture {index} does not decode ({said}): the VVC stream is damaged") from error


def _closed(data: bytes) -> bytes:
    """Access units with `_ZERO_WORDS` behind a slice that is their last NAL unit.

    Behind a slice that is cut short FFmpeg reads on in memory that it has not set, and sometimes finds an end there; in
    zeros it finds none.
    """
    *_, last = (unit.nal_unit_type for unit in nal_units(data))
    return data + _ZERO_WORDS if last <= LAST_SLICE_TYPE else data


def _decoded(decoder: av.VideoCodecContext, packet: av.Packet[Any] | None) -> Iterator[tuple[Frame, int]]:
    """What the decoder gives for a packet, or, for None, all that it still holds."""
    for picture in decoder.decode(packet):
        assert picture.pts is not None
        yield _frame(picture), picture.pts


def _frame(picture: av.VideoFrame) -> Frame:
    """A PyAV picture as a Frame; copies the samples without row padding."""
    bit_depth = picture.format.components[0].bits
    planes: list[Plane] = []
    for plane in picture.planes:
        samples = cast(Plane, np.frombuffer(memoryview(plane), np.uint8 if bit_depth == 8 else np.uint16))
        planes.append(samples.reshape(plane.height, -1)[:, : plane.width].copy())
    return Frame(tuple(planes), bit_depth, _chroma_format(picture.format.name))


def _chroma_format(pixel_format: str) -> ChromaFormat:
    if pixel_format.startswith("gray"):
        return "400"
    for chroma_format in get_args(ChromaFormat):
        if pixel_format.startswith(f"yuv{chroma_format}p"):
            return chroma_format  # type: ignore[no-any-return]
    raise UnsupportedError(f"pixel format {pixel_format} of the VVC stream")


def _check_format(frame: Frame, picture: StreamPicture, index: int) -> None:
    """Checks that the decoder read the same format from the headers as this package."""
    changed = changed_format(picture.coded_format, frame.format(DEFAULT_FPS))
    if changed is not None:
        raise BitstreamError(f"picture {index} decodes with another {changed} than in its headers: a damaged stream")


def _check_hash(frame: Frame, picture: StreamPicture, index: int) -> None:
    unit = picture.unit
    if unit.hash_type is None:
        raise BitstreamError(f"picture {index} has no hash SEI, others have", offset_bytes=unit.offset_bytes)
    found = tuple(hash_of_plane(plane, unit.hash_type) for plane in frame.planes)
    if found != unit.digests:
        name = {"md5": "MD5", "crc": "CRC", "checksum": "checksum"}[unit.hash_type]
        raise BitstreamError(f"picture {index} does not match its {name} SEI", offset_bytes=unit.offset_bytes)


def _windowed(frame: Frame, picture: StreamPicture) -> Frame:
    """The part of a decoded picture inside its conformance window."""
    window, format = picture.window, picture.format
    planes: list[Plane] = []
    for i, (plane, (height, width)) in enumerate(zip(frame.planes, format.plane_shapes, strict=True)):
        dx, dy = CHROMA_SHIFTS[format.chroma_format] if i else (0, 0)
        left, top = window.left >> dx, window.top >> dy
        planes.append(plane[top : top + height, left : left + width])
    return Frame(tuple(planes), frame.bit_depth, frame.chroma_format)


def _check_one_format(stream: VvcStream, shown: tuple[int, ...]) -> None:
    """Checks that pictures of one part, which go into one file, have one format."""
    for index in shown:
        changed = changed_format(stream.pictures[shown[0]].format, stream.pictures[index].format)
        if changed is not None:
            number = stream.output_order.index(index)
            raise UnsupportedError(f"picture {number} changes the {changed} inside a sequence: decode it by ffmpeg")
