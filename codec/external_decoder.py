"""VVC decoded by programs on the PATH, VTM and vvdecapp, and what any other decoder wrote.

The programs write .y4m. Where a decoder does not, run it yourself and give `read_decoded` its file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from vvc_nnr.codec.command_lines import DecoderTool, decoder_arguments, find_decoder
from vvc_nnr.codec.nal import picture_units
from vvc_nnr.codec.programs import printed, work_folder
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError
from vvc_nnr.files import read_bytes
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

    def decode(self, stream: bytes | Path, *, width: int | None = None, height: int | None = None) -> Iterator[Frame]:
        """Yields the decoded pictures, one at a time, at the stream's own bit depth.

        The program checks the MD5 SEI.

        Args:
            stream: The byte stream, or the path of a file that holds it.
            width: Crops to this luma width, for pictures that were padded before encoding; None: as coded.
            height: Crops to this luma height; None: as coded.

        Raises:
            InputError: If the file cannot be read.
            BitstreamError: If the stream holds no picture, or pictures are missing in the output.
            UnsupportedError: If the stream has more than one layer.
            ExternalToolError: If the program fails or writes nothing.
        """
        data = read_bytes(stream) if isinstance(stream, Path) else stream
        n_pictures = len(picture_units(data))
        if n_pictures == 0:
            raise BitstreamError("the stream holds no picture")
        with work_folder() as folder:
            n_decoded = 0
            for frame in read_y4m(self._decoded_file(data, folder)):
                n_decoded += 1
                yield frame.cropped(width or frame.width, height or frame.height)
            if n_decoded != n_pictures:
                raise BitstreamError(f"{n_decoded} of {n_pictures} pictures decoded: the stream is damaged")

    def _decoded_file(self, data: bytes, folder: Path) -> Path:
        coded, decoded = folder / "in.266", folder / "out.y4m"
        coded.write_bytes(data)
        command = [str(self.executable), *decoder_arguments(self.tool, coded, decoded)]
        log = printed(command)
        if not decoded.exists() or decoded.stat().st_size == 0:
            raise ExternalToolError(f"{self.executable.name} wrote nothing", command=command, exit_code=0, log=log)
        return decoded


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
