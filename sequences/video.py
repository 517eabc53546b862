"""Video files (`.mp4`, `.mkv`, ...) decoded by FFmpeg through PyAV, one picture at a time.

What is taken, and what is not:

* Track: the only video. Cover art and thumbnails are no video; of several videos one has to be chosen (`stream`).
* Pixel format: as `pixel_formats` says.
* Pictures are cut as the codec and the container say (Matroska's PixelCrop, a clean aperture), then turned and flipped
  upright (display matrix); the edit list is obeyed.
* Colour range and pixel aspect are kept in the format. Interlaced pictures, and pictures that change in size, format
  or direction on the way, are refused.
* Lists of other files (`ffconcat`, playlists) under a video's name are refused: the file is what is read.
* Damage: FFmpeg would conceal it. Here any message of an error in FFmpeg's log, a picture marked as corrupt, a file
  that ends too early or fewer pictures than the container promises end in `BitstreamError`, unless
  `allow_damaged`. A codec without checksums (MPEG-4, VP9, JPEG) can be damaged so that no decoder notices; FFmpeg
  does not notice either where a raw H.265 stream ends within its last picture.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, VvcNnrError, shown_name
from vvc_nnr.files import open_input, remaining_bytes
from vvc_nnr.sequences.containers import (
    Crop,
    check_container_end,
    container_crops,
    container_name_of,
    taking_out,
)
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, DEFAULT_FPS, Frame, Plane, VideoFormat
from vvc_nnr.sequences.pixel_formats import colour_range_of, planar_frame, say_conversion

_MOST_TIMED_PICTURES = 10_000
_MOST_LEADING_PICTURES = 64
_NO_TIMES = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS: raw streams, whose average rate is the demuxer's own 25
_LISTS_OF_FILES = frozenset({"concat", "dash", "hls", "imf", "sdp"})
"""FFmpeg's names of the formats that hold no pictures but say where these are."""
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
_PROGRESSIVE = 1
"""FFmpeg's AVFieldOrder: 0 is not known, above 1 are the orders of fields."""
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_AT_ONCE = {"max_frame_delay": "1"}
"""Else libdav1d tells of an error with a later picture, and after the last one not at all."""
_UNREF = "mmco: unref short failure"
"""FFmpeg's words where an H.264 picture is to be dropped that is not there; no damage where a cut has removed it."""
_DAMAGE_WARNINGS = re.compile(r"EOI missing|Missing EOC|End mismatch|bits left after decoding slice")
"""What the decoders of JPEG, JPEG 2000 and UtVideo call a warning, and it is lost samples."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VideoProbe:
    """What a video file says of itself.

    Attributes:
        format: Of the pictures that are read.
        n_pictures: How many they are by the container's word, None where it has none.
        n_outside_edit_list: How many more are coded in an MP4 or MOV file, and not shown by its edit list.
    """

    format: VideoFormat
    n_pictures: int | None
    n_outside_edit_list: int = 0


@dataclass(frozen=True, slots=True)
class _Turn:
    """How stored pictures become upright: transposed first, then flipped."""

    transposed: bool = False
    flipped_across: bool = False
    flipped_down: bool = False

    def __call__(self, plane: Plane) -> Plane:
        plane = plane.T if self.transposed else plane
        flipped = plane[:: -1 if self.flipped_down else 1, :: -1 if self.flipped_across else 1]
        return cast(Plane, np.ascontiguousarray(flipped))


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all pictures of one video must have in common."""

    width: int
    height: int
    pixel_format: str
    turn: _Turn


def probe_video(path: Path, *, stream: int | None = None, allow_damaged: bool = False) -> VideoProbe:
    """Format and picture count of the file's video; its first picture is decoded.

    The rate of pictures at varying intervals is the mean, which the log says. Where the container has no index of all
    pictures up to 10,000 of them are read for that.

    Args:
        path: The file.
        stream: Index of the track in the file, from 0, as ffprobe shows it (#0:N); None for its only video.
        allow_damaged: Whether a file is taken that ends too early or is damaged at its start.

    Raises:
        InputError: If the file is missing, holds several videos and none is chosen, or not the chosen one.
        BitstreamError: If FFmpeg cannot read it, finds no video in it, or it is damaged there.
        UnsupportedError: If its pictures are of a kind that is not read; see the module.
    """
    with _opened(path, stream, allow_damaged) as (container, track):
        picture = next(_pictures(container, track, path, allow_damaged), None)
        if picture is None:
            raise BitstreamError(f"{path}: FFmpeg decodes no picture of its video")
        frame = _to_frame(picture, path, _crop_of(container, track, path))
        times = _times(container, track, path)
        fps = _rate_of(container, track, times)
        stated = VideoFormat(1, 1, fps=fps, colour_range=colour_range_of(picture), pixel_aspect=_aspect(track, picture))
        say_conversion(picture.format, path)
        if _is_varying(times):
            _log.warning(
                "%s: pictures come at varying intervals; taken at %.5g a second", shown_name(str(path)), float(fps)
            )
        n_pictures = None if _lacks_leading(track, path, picture.pts) else _n_shown(container, track)
        if n_outside := _n_outside_edit_list(container, track):
            words = "1 picture is" if n_outside == 1 else f"{n_outside} pictures are"
            _log.warning("%s: %s coded and outside of its edit list, and left out", shown_name(str(path)), words)
        return VideoProbe(stated.holding(frame), n_pictures, n_outside)


def _rate_of(container: Any, track: Any, times: list[int]) -> Fraction:
    """Pictures per second: of the container's times, or what the coded video states where there are no times."""
    has_times = not container.format.flags & _NO_TIMES
    rates = (track.average_rate, track.guessed_rate) if has_times else (track.guessed_rate, track.average_rate)
    rate = Fraction(rates[0] or rates[1] or DEFAULT_FPS)
    if len(times) < 2 or times[0] == times[-1] or not track.time_base:
        return rate
    of_intervals = (len(times) - 1) / Fraction((times[-1] - times[0]) * track.time_base)
    of_intervals = of_intervals.limit_denominator(10**6) or rate
    if _is_varying(times):
        return of_intervals
    if not _has_index(container, track):  # the times may be rounded, the stated rate is not
        return rate
    # Of pictures at equal intervals the mean also has the time for which the last one is shown, which may be any.
    steps = [later - earlier for earlier, later in pairwise(times)]
    shown_last = len(times) / (rate * track.time_base) - (times[-1] - times[0])
    is_rounded = max(steps) == min(steps) + 1 and not min(steps) <= shown_last <= max(steps)
    return of_intervals if min(steps) == max(steps) or is_rounded else rate


def _is_varying(times: list[int]) -> bool:
    """Whether pictures come at varying intervals, by more than times are rounded."""
    steps = [later - earlier for earlier, later in pairwise(times)]
    return bool(steps) and max(steps) > 1.5 * min(steps)


def _has_index(container: Any, track: Any) -> bool:
    """Whether it is an MP4 or MOV file without fragments, whose index has all pictures."""
    return container.format.name.startswith("mov") and bool(track.frames)


def _is_fragmented(container: Any, track: Any) -> bool:
    """Whether it is an MP4 file whose pictures are listed in front of each fragment."""
    return container.format.name.startswith("mov") and not track.frames


def _times(container: Any, track: Any, path: Path) -> list[int]:
    """When pictures are shown, rising: the first 10,000, or all where an index has them at equal intervals.

    None where there are no times, or where they begin anew on the way, as where files were joined.
    """
    if _has_index(container, track):
        decoded = sorted(entry.timestamp for entry in track.index_entries if not entry.is_discard)
        if not _is_varying(decoded):
            return decoded
    if container.format.flags & _NO_TIMES:
        return []
    shown, coded = [], []
    for packet in _packets(track, path, _MOST_TIMED_PICTURES):
        if packet.size > 0 and not packet.is_discard and _is_shown(track, packet):
            shown.append(packet.pts)
            coded.append(packet.dts)
    decoded = [time for time in coded if time is not None]
    if decoded != sorted(decoded):
        return []
    return next((sorted(times) for times in (shown, coded) if None not in times), [])


def _packets(track: Any, path: Path, n_most: int) -> Iterator[Any]:
    """The first packets of a track, read anew and not decoded, up to where FFmpeg cannot read on."""
    with (
        suppress(av.FFmpegError),  # what is damaged is told when it is decoded
        av.logging.Capture(),
        av.open(f"file:{path}", metadata_errors="replace") as again,
    ):
        yield from islice(again.demux(track.index), n_most)


def _lacks_leading(track: Any, path: Path, first_pts: int | None) -> bool:
    """Whether pictures that are to be seen before the first coded one do not come; `first_pts` is of what comes."""
    tally = _Tally()
    for packet in _packets(track, path, _MOST_LEADING_PICTURES):
        if packet.is_keyframe and tally.n_coded:
            break
        tally.add(packet)
    return tally.n_leading > 0 and first_pts == tally.first_pts


def _is_shown(track: Any, packet: Any) -> bool:
    """Whether a coded picture is one to be seen; VP8 says so in bit 4 of its first byte (RFC 6386, section 9.1)."""
    return track.codec_context.name != "vp8" or bool(bytes(packet)[0] & 0x10)


def read_video(
    path: Path,
    start: int = 0,
    count: int | None = None,
    *,
    stream: int | None = None,
    allow_damaged: bool = False,
) -> Iterator[Frame]:
    """The pictures of the file's video in display order.

    Args:
        path: The file.
        start: Index of the first picture wanted; earlier ones are decoded and dropped.
        count: Number of pictures wanted at most; None for all.
        stream: As in `probe_video`.
        allow_damaged: Whether damaged pictures are taken as FFmpeg conceals them, and missing ones left out.

    Raises:
        InputError: As `probe_video`.
        BitstreamError: If FFmpeg cannot decode it, or a picture up to the last one wanted is damaged.
        UnsupportedError: As `probe_video`, or if the pictures change on the way.
    """
    stop = None if count is None else start + count
    first: _Kind | None = None
    with _opened(path, stream, allow_damaged) as (container, track):
        crop = _crop_of(container, track, path)
        for index, picture in enumerate(islice(_pictures(container, track, path, allow_damaged), stop)):
            kind = _kind_of(picture, path)
            first = first or kind
            if kind != first:
                raise UnsupportedError(f"{path}: picture {index} differs from the first: {_difference(first, kind)}")
            if index >= start:
                yield _to_frame(picture, f"{path}: picture {index}", crop)


@contextmanager
def _opened(path: Path, index: int | None, allow_damaged: bool) -> Iterator[tuple[Any, Any]]:
    """The container and its video track; FFmpeg's errors become BitstreamError."""
    with open_input(path) as file:
        if remaining_bytes(file) == 0:
            raise BitstreamError(f"{path}: the file is empty; must be a video")
    if not allow_damaged:
        check_container_end(path)
    try:
        # "file:" since a name may have a colon, and tags may be in any encoding
        with av.logging.Capture() as messages, _messages_of_damage():
            opened = av.open(f"file:{path}", metadata_errors="replace")
        with opened as container:
            if container.format.name in _LISTS_OF_FILES:
                advice = "give the videos themselves"
                raise UnsupportedError(f"{path}: is a list of other files ({container.format.name}); {advice}")
            _check_opening(container, messages, path, allow_damaged)
            track = _video_track(container, index, path)
            context = track.codec_context
            if context is None or context.format is None or not track.width or not track.height:
                raise BitstreamError(f"{path}: its video has no known picture format")
            if track.metadata.get("alpha_mode") == "1":
                raise UnsupportedError(f"{path}: has an alpha layer, which would be lost; lay it over a background")
            if context.field_order > _PROGRESSIVE:
                raise UnsupportedError(f"{path}: its container says interlaced; only progressive pictures are read")
            if context.name == "vvc" and context.format.components[0].bits == 8:
                advice = f"take its stream out ({taking_out('vvc', container_name_of(path))}) and decode that"
                raise UnsupportedError(f"{path}: 8-bit VVC, which this FFmpeg decodes wrongly; {advice}")
            context.flags |= Flags.unaligned  # else FFmpeg keeps columns left of the window for the sake of alignment
            options = {} if allow_damaged else _STRICT
            if context.name == "libdav1d":
                options = options | _AT_ONCE
            else:  # FFmpeg's messages must come on this thread
                context.thread_count = 1
            context.options = options
            yield container, track
    except VvcNnrError:
        raise
    except (av.FFmpegError, UnicodeError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise _undecodable(path, error) from error


def _check_opening(container: Any, messages: Any, path: Path, allow_damaged: bool) -> None:
    """Hears the demuxer's complaints about what it read ahead when it was opened: of a small file that is all of it.

    Those of decoders are left out; they come again with the picture, and those of other tracks do not matter.
    """
    name = container.format.name
    decoders = {track.codec_context.name for track in container.streams.video if track.codec_context}
    said = [text for level, source, text in messages if level <= av.logging.ERROR and source == name]
    if not said or name in decoders:  # a raw stream, where one name stands for both
        return
    damage = " ".join(said[0].split())
    if not allow_damaged:
        hint = "allow_damaged (--allow-damaged) takes what FFmpeg makes of it"
        raise BitstreamError(f"{path}: FFmpeg cannot read its container: {damage}; {hint}")
    _log.warning("%s: damaged container (%s); taken as FFmpeg conceals it", shown_name(str(path)), damage)


def _undecodable(path: Path | str, error: Exception) -> BitstreamError:
    said = getattr(error, "strerror", None) or error
    if getattr(error, "errno", None) == errno.ENOMEM:  # it says so of sizes that it does not even try
        said = "a size in it is larger than any memory"
    return BitstreamError(f"{path}: FFmpeg cannot decode it: {said}")


def _video_track(container: Any, index: int | None, path: Path) -> Any:
    """The chosen track, else the only one that is a video and no cover picture."""
    if index is not None:
        chosen = [track for track in container.streams.video if track.index == index]
        if not chosen:
            raise InputError(f"{path}: stream {index} is no video; the videos are {_listed(container.streams.video)}")
        return chosen[0]
    videos = [track for track in container.streams.video if not track.disposition & _NO_VIDEO]
    if not videos:
        covers = _listed(container.streams.video)
        raise BitstreamError(f"{path}: has no video stream" + (f", only cover pictures ({covers})" if covers else ""))
    if len(videos) > 1:
        raise InputError(f"{path}: holds {len(videos)} videos ({_listed(videos)}); give stream (--stream N)")
    return videos[0]


def _crop_of(container: Any, track: Any, path: Path) -> Crop:
    """How the container says that this track's pictures are to be cut."""
    videos = [each.index for each in container.streams.video if not each.disposition & _NO_VIDEO]
    crops = container_crops(path)
    if not any(crop != Crop() for crop in crops) or track.index not in videos:
        return Crop()
    if len(crops) != len(videos):
        raise UnsupportedError(f"{path}: its container crops pictures of {len(crops)} tracks, of which is not clear")
    return crops[videos.index(track.index)]


def _listed(tracks: Any) -> str:
    return ", ".join(f"{each.index}: {each.codec_context.name} {each.width}x{each.height}" for each in tracks)


@dataclass(slots=True)
class _Tally:
    """What was seen of a track's coded pictures so far.

    Attributes:
        n_coded: How many there are.
        n_seen: How many of them the edit list does not hide.
        n_leading: How many of these are to be seen before the first coded one, and may lean on what a cut removed.
        first_pts: When the first coded one is to be seen, None if it does not say.
        is_cut_short: Whether the last one is.
    """

    n_coded: int = 0
    n_seen: int = 0
    n_leading: int = 0
    first_pts: int | None = None
    is_cut_short: bool = False

    @property
    def begins_with_cut(self) -> bool:
        """Whether the first ones may lean on pictures that are not there, by which decoders leave them out."""
        return self.n_leading > 0 or self.n_seen < self.n_coded

    def add(self, packet: Any) -> None:
        """Counts a packet, of which empty ones hold no picture."""
        if packet is None or packet.size == 0:
            return
        if self.n_coded == 0:
            self.first_pts = packet.pts
        self.n_coded += 1
        self.n_seen += not packet.is_discard
        is_leading = None not in (self.first_pts, packet.pts) and packet.pts < self.first_pts
        self.n_leading += is_leading and not packet.is_discard
        self.is_cut_short = packet.is_corrupt


def _pictures(container: Any, track: Any, path: Path, allow_damaged: bool) -> Iterator[Any]:
    """FFmpeg's pictures in display order; damage ends in BitstreamError, or in one line of the log."""
    promised = _n_promised(track)
    packets = container.demux(track)
    tally, n_shown, is_said, at_end = _Tally(), 0, False, False
    while not at_end:
        packet, pictures, damage = _next_pictures(packets, after_cut=tally.begins_with_cut and n_shown == 0)
        at_end = packet is None
        if at_end and tally.is_cut_short and not damage:
            damage = "its last coded picture is cut short"
        tally.add(packet)
        where = f"at picture {max(tally.n_coded - 1, 0)} in the order of coding"
        if not damage and tally.n_seen and not at_end and packet.is_discard and _is_fragmented(container, track):
            damage = "the times of its fragments go back, for which FFmpeg drops it"
        corrupt = next((place for place, picture in enumerate(pictures, n_shown) if picture.is_corrupt), None)
        if not damage and corrupt is not None:
            damage, where = "FFmpeg marks it as corrupt", f"at picture {corrupt}"
        n_shown += len(pictures)
        if not damage and at_end and promised and tally.n_coded < promised:
            damage = f"the container promises {promised} coded pictures, {tally.n_coded} are there"
        if not damage and at_end and n_shown < (n_due := _n_due(container, track, tally)):
            damage = f"it holds {n_due} pictures to be seen, of which {n_shown} can be decoded"
        if damage and not allow_damaged:
            hint = "allow_damaged (--allow-damaged) takes what FFmpeg makes of it"
            raise BitstreamError(f"{path}: FFmpeg cannot decode it {where}: {damage}; {hint}")
        if damage and not is_said:
            _log.warning("%s: damaged %s (%s); taken as FFmpeg conceals it", shown_name(str(path)), where, damage)
            is_said = True
        yield from pictures


def _next_pictures(packets: Iterator[Any], *, after_cut: bool) -> tuple[Any, list[Any], str]:
    """The next packet (None at the end), the pictures that come out of it, and what FFmpeg says of damage.

    Args:
        packets: The packets of the track.
        after_cut: Whether pictures may be missing on which those before the first one that comes out lean.
    """
    packet, pictures, damage = None, list[Any](), ""
    with av.logging.Capture() as messages, _messages_of_damage():
        try:
            packet = next(packets, None)
            pictures = packet.decode() if packet is not None else []
        except av.FFmpegError as error:
            damage = error.strerror or str(error)
    said = [
        " ".join(text.split())
        for level, _, text in messages
        if level <= av.logging.ERROR or _DAMAGE_WARNINGS.search(text)
    ]
    if after_cut and set(said) == {_UNREF}:
        return packet, pictures, ""
    return packet, pictures, damage or " ".join(said[:1])


@contextmanager
def _messages_of_damage() -> Iterator[None]:
    """Inside the block errors and warnings reach PyAV, which else drops them, and what repeats the last one."""
    level, skips_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        yield
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips_repeated)


def _n_promised(track: Any) -> int | None:
    """How many coded pictures the container's index lists, or else its header; None if neither does.

    An index goes first: AVI's header also counts empty places, and of MP4's pictures the edit list cuts some off.
    The index of Matroska lists only some pictures, which makes it a weaker promise, but no false one.
    """
    return len(track.index_entries) or track.frames or None


def _n_due(container: Any, track: Any, tally: _Tally) -> int:
    """How many pictures must come out at least: of AV1 one for each coded one, of MP4 and MOV those of the index.

    Those that lean on what was cut off need not.
    """
    if track.codec_context.name == "libdav1d":
        return tally.n_seen - tally.n_leading
    if not container.format.name.startswith("mov"):
        return 0
    return sum(not entry.is_discard for entry in track.index_entries) - tally.n_leading


def _n_shown(container: Any, track: Any) -> int | None:
    """How many pictures will be seen by the container's word, None if it has none."""
    entries = track.index_entries
    if _has_index(container, track):
        return sum(not entry.is_discard for entry in entries)
    return track.frames or None


def _n_outside_edit_list(container: Any, track: Any) -> int:
    """How many coded pictures of an MP4 or MOV file its edit list does not show.

    Of those before its beginning FFmpeg's index has the ones that must be decoded, of those behind its end none.
    """
    if not container.format.name.startswith("mov"):
        return 0
    places = {entry.pos for entry in track.index_entries}
    shown = {entry.pos for entry in track.index_entries if not entry.is_discard}
    return max(int(track.frames), len(places)) - len(shown)


def _kind_of(picture: Any, where: Path | str) -> _Kind:
    if picture.interlaced_frame:
        raise UnsupportedError(f"{where}: its pictures are interlaced; only progressive ones are read")
    return _Kind(picture.width, picture.height, picture.format.name, _turn_of(picture, where))


def _difference(first: _Kind, other: _Kind) -> str:
    before, after = (
        f"{kind.width}x{kind.height} {kind.pixel_format}{' turned' if kind.turn != _Turn() else ''}"
        for kind in (first, other)
    )
    return f"{before}, then {after}" if before != after else "it is turned another way"


def _turn_of(picture: Any, where: Path | str) -> _Turn:
    """The display matrix as a turn; of its nine numbers the first two of the first two rows turn."""
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _Turn()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if b == c == 0 and a and d:
        return _Turn(False, a < 0, d < 0)
    if a == d == 0 and b and c:
        return _Turn(True, c < 0, b < 0)
    raise UnsupportedError(f"{where}: is to be shown turned by {picture.rotation} degrees; quarter turns are read")


def _aspect(track: Any, picture: Any) -> Fraction | None:
    aspect = track.sample_aspect_ratio
    if not aspect or aspect < 0:
        return None
    return Fraction(1 / aspect if _turn_of(picture, "").transposed else aspect)


def _to_frame(picture: Any, where: Path | str, crop: Crop) -> Frame:
    """A picture as it is to be seen: cropped, then turned upright."""
    kind = _kind_of(picture, where)
    frame = planar_frame(picture, where)
    if frame.chroma_format == "422" and kind.turn.transposed:
        raise UnsupportedError(f"{where}: 4:2:2 is to be shown on its side, where its chroma would be no 4:2:2")
    planes = _cropped(frame.planes, frame.format(DEFAULT_FPS), crop, where)
    return Frame(tuple(map(kind.turn, planes)), frame.bit_depth, frame.chroma_format)


def _cropped(planes: tuple[Plane, ...], format: VideoFormat, crop: Crop, where: Path | str) -> tuple[Plane, ...]:
    """The planes inside of the container's window."""
    if crop == Crop():
        return planes
    width, height = format.width - crop.left - crop.right, format.height - crop.top - crop.bottom
    across, down = CHROMA_SHIFTS.get(format.chroma_format, (0, 0))
    if width < 1 or height < 1:
        raise BitstreamError(f"{where}: its container crops {format.width}x{format.height} to nothing")
    if crop.left % (1 << across) or crop.top % (1 << down):
        at = f"{crop.left}, {crop.top}"
        raise UnsupportedError(
            f"{where}: its container crops from {at} on, where no chroma sample begins; crop it first"
        )
    shapes = VideoFormat(width, height, format.bit_depth, format.chroma_format).plane_shapes
    corners = [(crop.top, crop.left), *[(crop.top >> down, crop.left >> across)] * (len(planes) - 1)]
    return tuple(
        plane[y : y + rows, x : x + columns]
        for plane, (y, x), (rows, columns) in zip(planes, corners, shapes, strict=True)
    )
