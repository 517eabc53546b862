"""The commands encode, decode and image, and what filter shares with them: streams read, pictures written."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tqdm import tqdm
from tyro.conf import Positional, arg

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.decoder import DecoderTool, ExternalDecoder, decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import (
    MOST_PADDING,
    EncodedSequence,
    LoopFilters,
    Preset,
    VvcOptions,
    may_be_padding,
)
from vvc_nnr.codec.vvc_stream import VvcStream, changed_statements, check_one_format, read_vvc_stream
from vvc_nnr.errors import InputError, shown
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.kinds import EFFORT, FOLDER, NATURAL, POSITIVE, QP, SIZE, THREADS, OutputPath
from vvc_nnr.experiments.cli.pictures import EncoderFlags, RawFlags, VideoFlags, source_of
from vvc_nnr.files import AtomicFile, make_folder, naming, read_bytes, write_file
from vvc_nnr.filters.bundled import network_path, zoo_path
from vvc_nnr.filters.in_stream import carried_filters
from vvc_nnr.filters.picture_file import (
    PictureFile,
    check_rate_of_file,
    decode_picture_file,
    encode_picture_file,
)
from vvc_nnr.filters.zoo import load_network
from vvc_nnr.network_file import is_special
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.images import png_bytes, read_image
from vvc_nnr.sequences.source import open_writer

FormatOf: TypeAlias = Callable[[Frame], VideoFormat]
"""What a file states of a picture."""
_NUMBER = re.compile("[0-9]{4,}", re.ASCII)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Encode(Command):
    """Code pictures as VVC.

    Attributes:
        input: .yuv, .y4m, video or image.
        output: The VVC byte stream to write.
        qp: Quantisation parameter, 0 to 63.
        config: All intra, random access or low delay B, as JVET's test conditions have them.
        preset: Preset of libvvenc.
        loop_filters: In-loop filters of the codec.
        pictures: At most N pictures.
        threads: Encoder threads.
        encoding: The VVC encoder.
        raw: Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).
        video: Video files.
    """

    input: Positional[Path]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    qp: Annotated[int, QP]
    config: ConfigName = "ai"
    preset: Preset = "faster"
    loop_filters: LoopFilters = "all"
    pictures: Annotated[int | None, POSITIVE] = None
    threads: Annotated[int, THREADS] = 2
    encoding: EncoderFlags = field(default_factory=EncoderFlags)
    raw: RawFlags = field(default_factory=RawFlags)
    video: VideoFlags = field(default_factory=VideoFlags)

    def run(self) -> Outcome:
        """Writes the stream.

        Raises:
            InputError: If the input or an option cannot be used, or the stream not be written.
            BitstreamError, UnsupportedError: If the input cannot be read or coded.
            ExternalToolError: If the encoder fails.
        """
        configs, arguments = self.encoding.vtm_config, self.encoding.encoder_argument
        check_outputs([self.input, *configs], [self.output])
        source = source_of(self.input, self.raw, self.video)
        options = VvcOptions(self.qp, self.preset, self.loop_filters, self.threads, self.encoding.sao, self.config)
        encoder = VvcEncoder(options, encoder=self.encoding.encoder, config=configs, arguments=arguments)
        frames = with_bar(source.frames(count=self.pictures), "encode", self.pictures or source.n_pictures)
        with AtomicFile(self.output) as file:  # first: a place that cannot be written is known at once
            with naming(self.input):
                coded = encoder.encode(frames, source.format.fps, stated=source.format)
            file.write(coded.stream)
        outcome = _with_unstated(_encoded(self, coded), source.format, read_vvc_stream(coded.stream).first.format)
        return with_damage(with_outside(outcome, source.n_outside_edit_list), source.damage(self.pictures))


@dataclass(frozen=True, kw_only=True)
class Decode(Command):
    """Decode a VVC byte stream and check every picture against its hash.

    Attributes:
        input: A VVC byte stream.
        output: .y4m or .yuv to write.
        size: Crop to the size before padding; a warning says so where it cuts more than encoders pad.
        fps: Rate for the .y4m; default: the stream's, or 30.
        decoder: FFmpeg's, or a program on the PATH.
    """

    input: Positional[Path]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    size: Annotated[tuple[int, int] | None, SIZE] = None
    fps: Fraction | None = None
    decoder: Literal["ffmpeg"] | DecoderTool = "ffmpeg"

    def run(self) -> Outcome:
        """Writes the pictures.

        Raises:
            InputError: If the stream or an option cannot be used, or the pictures not be written.
            BitstreamError, UnsupportedError: If the stream is damaged, or holds what is not decoded.
            ExternalToolError: If a decoder's program fails.
        """
        check_outputs([self.input], [self.output])
        width, height = self.size or (None, None)
        decode = decode_vvc if self.decoder == "ffmpeg" else ExternalDecoder(self.decoder).decode
        stream = vvc_stream(self.input, self.fps)
        pictures = with_bar(decode(stream, width=width, height=height), "decode", len(stream.output_order))
        written = write_pictures(self.input, self.output, pictures, stated(stream, self.fps).holding)
        text, data = verified(stream)
        with naming(self.input):
            carried = carried_filters(stream.data)
        texts = [written.text, text, *(f"carries {each}" for each in carried)]
        found = Outcome("; ".join(texts), written.data | data | {"filters": carried})
        return with_warnings(found, self.input, [size_misfit(stream.first.format, self.size)])


@dataclass(frozen=True, kw_only=True)
class ImageEncode(Command):
    """Code images by an autoencoder, into one file.

    Attributes:
        images: Image files of any size, in the order in which they are decoded.
        output: The file to write.
        network: The autoencoder: a name of the zoo, or a file.
        rate: Which of its operating points, from 0 at its lowest rate on.
        effort: How long to search for fewer bits, 0 to 3; a network with a context prior only.
    """

    images: Positional[tuple[Path, ...]]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    network: str
    rate: Annotated[int, NATURAL] = 0
    effort: Annotated[int, EFFORT] = 0

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If an image or the network cannot be used, or the file not be written.
            BitstreamError, UnsupportedError: If an image or the network cannot be read.
        """
        if not self.images:
            raise InputError("images: there are none; name image files")
        check_outputs([*self.images, network_path(self.network)], [self.output])
        if (path := network_path(self.network)).is_file():
            check_rate_of_file(path, self.rate, self.effort)
        pictures = [read_image(path) for path in self.images]
        network = load_network(self.network)
        data = encode_picture_file(network, pictures, rate=self.rate, effort=self.effort)
        write_file(self.output, data)
        bpp = 8 * len(data) / sum(each.shape[0] * each.shape[1] for each in pictures)
        found = {"n_bytes": len(data), "bpp": bpp, "pictures": len(pictures), "network": network.name}
        return Outcome(f"{self.output}: {_counted(len(pictures))}, {len(data)} bytes, {bpp:.4f} bpp", found)


@dataclass(frozen=True, kw_only=True)
class ImageDecode(Command):
    """Decode the images of a file that image encode wrote.

    Attributes:
        input: The file.
        output: The .png to write, of a file of one image.
        out_dir: Folder for 0001.png, 0002.png ...; one with further numbers in it is refused.
        network: The autoencoder that coded it; default: the one of the zoo that the file names.
    """

    input: Positional[Path]
    output: Annotated[OutputPath | None, arg(aliases=["-o"])] = None
    out_dir: Annotated[Path | None, FOLDER] = None
    network: str | None = None

    def run(self) -> Outcome:
        """Writes the images.

        Raises:
            InputError: If the network is another one, or the images cannot be written.
            BitstreamError, UnsupportedError: If the file or the network cannot be read.
        """
        if (self.output is None) == (self.out_dir is None):
            raise InputError("output, out_dir: one of them must be given")
        if self.output is not None and self.output.suffix.lower() != ".png" and not is_special(self.output):
            raise InputError(f"{self.output}: images are written as .png; change the name")
        data = read_bytes(self.input)
        with naming(self.input):
            file = PictureFile.from_bytes(data)
            if self.output is not None and file.n_pictures != 1:
                raise InputError(f"holds {_counted(file.n_pictures)}: give --out-dir in the place of -o")
            if self.out_dir is not None:
                _check_no_more_numbers(self.out_dir, file.n_pictures)
            if self.network is None and zoo_path(file.network_name) is None:
                raise InputError(f"coded by the network {shown(file.network_name)}: give its file by --network")
        network = load_network(self.network or file.network_name)
        with naming(self.input):
            pictures = decode_picture_file(data, network)
        outputs = [self.output] if self.output is not None else self._numbered(len(pictures))
        check_outputs([self.input], outputs)
        for path, picture in zip(outputs, pictures, strict=True):
            write_file(path, png_bytes(picture))
        sizes = [{"width": each.shape[1], "height": each.shape[0]} for each in pictures]
        return Outcome(_counted(len(pictures)), {"pictures": sizes, "network": network.name})

    def _numbered(self, n_pictures: int) -> list[Path]:
        assert self.out_dir is not None
        return [make_folder(self.out_dir) / f"{number:04}.png" for number in range(1, n_pictures + 1)]


def _check_no_more_numbers(folder: Path, n_pictures: int) -> None:
    """Raises InputError if a folder holds numbered pictures behind those that are to be written, of another file."""
    numbers = (int(path.stem) for path in folder.glob("[0-9]*.png") if _NUMBER.fullmatch(path.stem))
    more = sorted(number for number in numbers if number > n_pictures)
    if more:
        others = f" and {len(more) - 1} more" if len(more) > 1 else ""
        raise InputError(
            f"{folder}: holds {more[0]:04}.png{others} of another file, which would seem to follow the "
            f"{_counted(n_pictures)} of this one: name another folder, or take them away"
        )


def _counted(n_pictures: int) -> str:
    return f"{n_pictures} picture{'' if n_pictures == 1 else 's'}"


def vvc_stream(path: Path, fps: Fraction | None) -> VvcStream:
    """What the headers of a stream say, once one file can hold all its pictures; other changes are warned of.

    Args:
        path: The stream.
        fps: The rate that the user gives, None for the stream's.
    """
    with naming(path):
        stream = read_vvc_stream(path)
        check_one_format(stream)
    for what, change in changed_statements(stream).items():
        if what != "fps" or fps is None:
            hint = "; --fps gives another" if what == "fps" else ""
            _log.warning("%s: %s; a file has one, and the first is written%s", path, change, hint)
    return stream


def stated(stream: VvcStream, fps: Fraction | None) -> VideoFormat:
    """What the stream says of its pictures, at the rate that the user gives."""
    return replace(stream.first.format, fps=fps) if fps is not None else stream.first.format


def with_bar(frames: Iterator[Frame], what: str, total: int | None) -> Iterator[Frame]:
    """The pictures as they come, with a bar on standard error where that is a terminal."""
    yield from tqdm(frames, desc=what, unit="picture", total=total, disable=True if total == 1 else None)


def _named(path: Path, frames: Iterator[Frame]) -> Iterator[Frame]:
    with naming(path):
        yield from frames


def write_pictures(source: Path, path: Path, frames: Iterator[Frame], format_of: FormatOf) -> Outcome:
    """Writes pictures of a source to a file, with what `format_of` the first one states."""
    start_s = time.perf_counter()
    frames = _named(source, frames)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{source}: holds no picture, nothing written")
    n_pictures = 1
    with open_writer(path, format_of(first)) as writer:
        writer.write(first)
        for frame in frames:
            writer.write(frame)
            n_pictures += 1
    elapsed_s = time.perf_counter() - start_s
    text = (
        f"{path}: {n_pictures} pictures, {first.width}x{first.height}, {first.bit_depth} bit, "
        f"{':'.join(first.chroma_format)}, {elapsed_s:.2f} s"
    )
    data = {
        "output": str(path),
        "n_pictures": n_pictures,
        "width": first.width,
        "height": first.height,
        "bit_depth": first.bit_depth,
        "chroma_format": first.chroma_format,
        "elapsed_s": elapsed_s,
    }
    return Outcome(text, data)


def with_outside(outcome: Outcome, n_outside_edit_list: int) -> Outcome:
    """The outcome with how many pictures of its input are outside of an edit list, which the log has said."""
    found = {"n_pictures_outside_edit_list": n_outside_edit_list} if n_outside_edit_list else {}
    return Outcome(outcome.text, outcome.data | found)


def with_damage(outcome: Outcome, damage: str | None) -> Outcome:
    """The outcome with what was damaged of the pictures that it was made from."""
    if damage is None:
        return outcome
    text = f"{outcome.text}; its input is damaged and was taken as FFmpeg conceals it: {damage}"
    return Outcome(text, outcome.data | {"damage": damage})


def _with_unstated(outcome: Outcome, source: VideoFormat, coded: VideoFormat) -> Outcome:
    """The outcome with what the source states and a decoder of the stream would take otherwise."""
    is_full = source.colour_range == "full" and coded.colour_range != "full"
    unstated = {
        "colour_range": source.colour_range if is_full else None,
        "chroma_location": source.chroma_location if source.chroma_location != "left" else None,
        "pixel_aspect": str(source.pixel_aspect) if source.pixel_aspect not in (None, 1, coded.pixel_aspect) else None,
        "picture_rate": str(source.fps) if source.fps != coded.fps else None,
    }
    lost = {key: value for key, value in unstated.items() if value is not None}
    if not lost:
        return outcome
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in lost.items())
    taken = f" (decoders take {coded.fps}; decode --fps {source.fps})" if "picture_rate" in lost else ""
    return Outcome(f"{outcome.text}; the stream does not state {words}{taken}", outcome.data | {"unstated": lost})


def _kinds(config: ConfigName, coded: EncodedSequence) -> str:
    """How many pictures are intra pictures, and the range of QPs, where not all are alike."""
    if config == "ai":
        return ""
    qps = [picture.qp for picture in coded.pictures]
    n_intra = sum(picture.slice_type == "I" for picture in coded.pictures)
    return f" ({CONFIGURATIONS[config].title}: {n_intra} intra, QP {min(qps)} to {max(qps)})"


def _encoded(command: Encode, coded: EncodedSequence) -> Outcome:
    width, height, fps = coded.format.width, coded.format.height, coded.format.fps
    n_pictures = len(coded.pictures)
    kbps = coded.n_bits / n_pictures * float(fps) / 1000
    stream_format = read_vvc_stream(coded.stream).first.format
    coded_size = (stream_format.width, stream_format.height)
    padding = [side - shown_side for side, shown_side in zip(coded_size, (width, height), strict=True)]
    formats = {"chroma_format": coded.format.chroma_format, "coded_chroma_format": stream_format.chroma_format}
    shown_formats = [f"4:{each[1]}:{each[2]}" for each in formats.values()]
    of_asked = f" (it has no more; {command.pictures} asked for)" if n_pictures < (command.pictures or 0) else ""
    text = (
        f"{command.output}: {n_pictures} pictures{of_asked}{_kinds(command.config, coded)}, "
        f"{coded.n_bits} bits ({kbps:.1f} kbps at {fps} fps), "
        f"{len(coded.stream)} bytes, {coded.encode_s:.2f} s"
        + (f"; decode with --size {width}x{height}, since it was padded" if any(padding) else "")
        + (f"; {shown_formats[0]} was coded as {shown_formats[1]} with flat chroma" * (len(set(shown_formats)) > 1))
    )
    data = {
        "output": str(command.output),
        "n_pictures": n_pictures,
        "width": width,
        "height": height,
        "coded_width": coded_size[0],
        "coded_height": coded_size[1],
        "padding_right": padding[0],
        "padding_bottom": padding[1],
        **formats,
        "n_pictures_asked_for": command.pictures,
        "n_bits": coded.n_bits,
        "rate_kbps": kbps,
        "stream_bytes": len(coded.stream),
        "encode_s": coded.encode_s,
        "encoder": coded.encoder,
        "qp": command.qp,
        "config": command.config,
        "intra_period": CONFIGURATIONS[command.config].intra_period(fps),
        "preset": command.preset,
        "loop_filters": command.loop_filters,
        "picture_bits": [picture.n_bits for picture in coded.pictures],
        "picture_qps": [picture.qp for picture in coded.pictures],
        "slice_types": "".join(picture.slice_type for picture in coded.pictures),
        "temporal_layers": [picture.temporal_layer for picture in coded.pictures],
    }
    return Outcome(text, data)


def size_misfit(coded: VideoFormat, size: tuple[int, int] | None) -> str:
    """What a size cuts of a stream's pictures beyond what encoders pad; empty if nothing is."""
    width, height = size or (coded.width, coded.height)
    columns, rows = coded.width - width, coded.height - height
    if may_be_padding(columns, coded.width) and may_be_padding(rows, coded.height):
        return ""
    return (
        f"--size {width}x{height} cuts {columns} columns and {rows} rows of its pictures of "
        f"{coded.width}x{coded.height}, more than encoders pad (at most {MOST_PADDING})"
    )


def with_warnings(outcome: Outcome, path: Path, warnings: Sequence[str]) -> Outcome:
    """The outcome with warnings of a file, those that are not empty."""
    said = [each for each in warnings if each]
    text = "".join(f"\n{path}: warning: {each}" for each in said)
    return Outcome(outcome.text + text, outcome.data | ({"warnings": said} if said else {}))


def verified(stream: VvcStream) -> tuple[str, dict[str, object]]:
    """How many pictures were held against a hash of the stream, as text and as data."""
    names = {"md5": "MD5", "crc": "CRC", "checksum": "checksum"}
    found = [kind for kind in stream.hash_types if kind is not None]
    kinds = [name for kind, name in names.items() if kind in found]
    data: dict[str, object] = {"n_verified": len(found), "picture_hash": " ".join(kinds) or None}
    data["verified"] = [kind or "no" for kind in stream.hash_types]
    if not found:
        return "not verified: the stream has no picture hashes", data
    what = "all" if len(found) == len(stream.hash_types) else f"{len(found)} of {len(stream.hash_types)}"
    return f"{what} verified by {' and '.join(kinds)}", data
