"""VVC decoded by programs on the PATH, VTM and vvdecapp, and what any other decoder wrote.

The programs write .y4m. Where a decoder does not, run it yourself and give `read_decoded` its file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from vvc_nnr.codec.command_lines import DecoderTool, decoder_arguments, find_decoder
from vvc_nnr.codec.programs import printed, work_folder
from vvc_nnr.codec.vvc_stream import VvcStream, changed_format, check_one_size, read_vvc_stream
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.y4m import count_y4m_pictures, read_y4m, read_y4m_header
from vvc_nnr.sequences.yuv import count_yuv_pictures, read_yuv


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
        self.executable = find_decoder(tool)

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
            UnsupportedError: If the stream has more than one layer, or the size changes inside a sequence.
            ExternalToolError: If the program fails, writes nothing, or writes pictures of another size.
        """
        known = stream if isinstance(stream, VvcStream) else read_vvc_stream(stream)
        if width is not None or height is not None:
            check_one_size(known)
        parts = known.parts(known.new_beginnings)
        for _, shown in parts:
            _check_one_format(known, shown)
        n_decoded = 0
        for data, shown in parts:
            with work_folder() as folder:
                n_here = 0
                for frame in read_y4m(self._decoded_file(data, folder)):
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

    def _decoded_file(self, data: bytes, folder: Path) -> Path:
        coded, decoded = folder / "in.266", folder / "out.y4m"
        coded.write_bytes(data)
        command = [str(self.executable), *decoder_arguments(self.tool, coded, decoded)]
        log = printed(command)
        if not decoded.exists() or decoded.stat().st_size == 0:
            raise ExternalToolError(f"{self.executable.name} wrote nothing", command=command, exit_code=0, log=log)
        return decoded


def _check_one_format(stream: VvcStream, shown: tuple[int, ...]) -> None:
    """Checks that pictures of one part, which go into one file, have one format."""
    for index in shown:
        changed = changed_format(stream.pictures[shown[0]].format, stream.pictures[index].format)
        if changed is not None:
            number = stream.output_order.index(index)
            raise UnsupportedError(f"picture {number} changes the {changed} inside a sequence: decode it by ffmpeg")


def read_decoded(path: Path, format: VideoFormat, n_pictures: int) -> Iterator[Frame]:
    """Yields the pictures that some decoder wrote to a .yuv or .y4m file, once the file fits the sequence.

    Args:
        path: The file; every suffix but .y4m is read as raw video.
        format: Size, chroma format and, for raw video, bit depth of the pictures.
        n_pictures: How many there must be.

    Raises:
        InputError: If the file is missing, or its size, chroma format or number of pictures is another.
        BitstreamError: If a .y4m file is damaged.
        UnsupportedError: If a .y4m file is of a kind that is not read.
    """
    is_y4m = path.suffix.lower() == ".y4m"
    got = read_y4m_header(path) if is_y4m else format
    if (got.width, got.height, got.chroma_format) != (format.width, format.height, format.chroma_format):
        found, wanted = (f"{f.width}x{f.height} {f.chroma_format}" for f in (got, format))
        raise InputError(f"{path}: holds {found} pictures, the sequence has {wanted}")
    n_found = count_y4m_pictures(path) if is_y4m else count_yuv_pictures(path, format)
    if n_found != n_pictures:
        raise InputError(f"{path}: holds {n_found} pictures, the sequence has {n_pictures}")
    return read_y4m(path) if is_y4m else read_yuv(path, format)
