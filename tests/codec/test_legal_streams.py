"""Legal but unusual VVC streams, made from a few real encodings, against the samples that FFmpeg gives for each alone.

A piece is one encoding by libvvenc, or a part of one that decodes alone. A case puts edited pieces together; no edit
changes a sample. The reference is the ffmpeg program's rawvideo of each piece, on one thread.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass

import imageio_ffmpeg
import pytest

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.nal import nal_units
from vvc_nnr.codec.vvc_stream import read_vvc_stream

CRA, OPI, DCI, SPS, PPS, AUD, EOS, EOB, PREFIX_SEI, SUFFIX_SEI, FILLER = 9, 12, 13, 15, 16, 20, 21, 22, 23, 24, 25
RASL = 3
PARAMETER_SETS = (14, SPS, PPS)
ALL_INTRA = "IntraPeriod=1:GOPSize=1"
OPEN_GOP = "IntraPeriod=16:GOPSize=16:DecodingRefreshType=cra"
CLOSED_GOP = "IntraPeriod=16:GOPSize=16:DecodingRefreshType=idr"
NO_LEADING = "IntraPeriod=16:GOPSize=16:DecodingRefreshType=idr_no_radl"


@dataclass(frozen=True)
class Piece:
    """NAL units (type, bytes with their header), and what FFmpeg decodes of them: format and samples per picture."""

    name: str
    units: tuple[tuple[int, bytes], ...]
    format: tuple[int, int, int, str]
    pictures: tuple[bytes, ...]

    @property
    def begins_with_cra(self):
        return next(kind for kind, _ in self.units if kind < 12) == CRA


def run_ffmpeg(arguments, data=None):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-400:]
    return done.stdout


def encoded(folder, width, height, n_pictures, params, hash_type="md5", qp=37):
    """A stream by libvvenc of a moving test picture."""
    target = folder / "a.266"
    source = f"-f lavfi -i testsrc2=size={width}x{height}:rate=30 -frames:v {n_pictures} -pix_fmt yuv420p10le"
    coding = f"-c:v libvvenc -preset faster -qp {qp} -threads 1 -vvenc-params"
    params = f"{params}:MCTF=0:BIM=0:SEIDecodedPictureHash={hash_type}"
    run_ffmpeg([*source.split(), *coding.split(), params, "-f", "vvc", target])
    return target.read_bytes()


def units_of(stream):
    data = [(u.nal_unit_type, stream[u.offset_bytes : u.offset_bytes + 2] + u.payload) for u in nal_units(stream)]
    return tuple(data)


def written(units):
    return b"".join(b"\x00\x00\x00\x01" + data for _, data in units)


def piece(folder, name, units, format):
    """A piece with what FFmpeg makes of it."""
    path = folder / "piece.266"
    path.write_bytes(written(units))
    width, height, bit_depth, chroma_format = format
    pixel_format = ("gray" if chroma_format == "400" else f"yuv{chroma_format}p") + ("10le" if bit_depth == 10 else "")
    decoding = ["-threads", 1, "-f", "vvc", "-i", path, "-fps_mode", "passthrough"]
    raw = run_ffmpeg([*decoding, "-f", "rawvideo", "-pix_fmt", pixel_format, "-"])
    n_samples = width * height + (2 * (width // 2) * (height // 2) if chroma_format == "420" else 0)
    n_bytes = n_samples * (2 if bit_depth > 8 else 1)
    assert raw
    assert len(raw) % n_bytes == 0
    return Piece(name, tuple(units), format, tuple(raw[i : i + n_bytes] for i in range(0, len(raw), n_bytes)))


def cut_at_cra(units):
    """The units up to the access unit of the second random access point, and those from it on."""
    slices = [i for i, (kind, _) in enumerate(units) if kind < 12]
    second = next(i for i in slices[1:] if units[i][0] in (7, 8, 9))
    begin = max(i for i in range(second) if units[i][0] == AUD)
    return units[:begin], units[begin:]


WINDOWS = [
    # size, window left, right, top, bottom in luma samples, parameters, bit depth, chroma format, hash
    ((64, 64), (8, 0, 16, 0), "", 10, "420", "md5"),
    ((64, 48), (2, 6, 4, 10), "", 10, "420", "crc"),
    ((48, 64), (0, 0, 30, 2), "", 10, "420", "checksum"),
    ((32, 40), (10, 20, 2, 4), "", 10, "420", "off"),
    ((64, 32), (6, 4, 2, 8), "ChromaFormatIDC=400", 10, "400", "md5"),
    ((40, 40), (5, 1, 3, 7), "ChromaFormatIDC=400", 10, "400", "checksum"),
    ((72, 64), (14, 12, 22, 24), "InternalBitDepth=8", 8, "420", "md5"),
]
SIZES = [(16, 16), (34, 26), (50, 18), (96, 64)]
GOPS = [("open", OPEN_GOP), ("closed", CLOSED_GOP), ("no leading", NO_LEADING)]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    found = []
    for (width, height), (left, right, top, bottom), params, bit_depth, chroma_format, hash_type in WINDOWS:
        window = (
            f"ConformanceWindowMode=3:ConfWinLeft={left}:ConfWinRight={right}:ConfWinTop={top}:ConfWinBottom={bottom}"
        )
        settings = ":".join(filter(None, (ALL_INTRA, window, params)))
        stream = encoded(folder, width, height, 2, settings, hash_type)
        shown = (width - left - right, height - top - bottom, bit_depth, chroma_format)
        found.append(piece(folder, f"window {window}", units_of(stream), shown))
    for width, height in SIZES:
        stream = encoded(folder, width, height, 3, ALL_INTRA)
        found.append(piece(folder, f"{width}x{height}", units_of(stream), (width, height, 10, "420")))
    for name, gop in GOPS:
        units = units_of(encoded(folder, 48, 32, 40, gop))
        format = (48, 32, 10, "420")
        first, rest = cut_at_cra(units)
        for part, chosen in (("whole", units), ("first", first), ("rest", rest)):
            found.append(piece(folder, f"{name} {part}", chosen, format))
    return found


def test_the_pieces_are_what_they_are_meant_to_be(pieces):
    kinds = {kind for p in pieces for kind, _ in p.units if kind < 12}
    assert {2, RASL, 7, 8, CRA} <= kinds
    cut = next(p for p in pieces if p.name == "open rest")
    n_slices = sum(kind < 12 for kind, _ in cut.units)
    n_rasl = sum(kind == RASL for kind, _ in cut.units)
    assert cut.begins_with_cra
    assert n_rasl > 0
    assert len(cut.pictures) == n_slices - n_rasl


# ---------------------------------------------------------------- edits that change no sample


def nal(kind, payload, temporal_id=0):
    return kind, bytes((0, kind << 3 | temporal_id + 1)) + payload


def user_data(rng, kind):
    text = bytes(rng.randrange(4, 256) for _ in range(rng.randrange(1, 20)))
    return nal(kind, bytes((5, 16 + len(text))) + bytes(range(10, 26)) + text + b"\x80")


def capability_information(units):
    """A DCI with the profile and level of the units' sequence parameter set, without its sublayers."""
    sps = next(data for kind, data in units if kind == SPS)[2:]
    return nal(DCI, b"\x00" + sps[2:4] + bytes((sps[4] & 0xC0, 0, 0x40)))


def without(*kinds):
    return lambda units, rng: [unit for unit in units if unit[0] not in kinds]


def drop_repeated_sets(units, rng):
    seen, kept = set(), []
    for unit in units:
        if unit[0] not in PARAMETER_SETS or unit not in seen:
            kept.append(unit)
        seen.add(unit)
    return kept


def before_slices(make):
    """Puts what `make` gives before the first slice of some pictures."""

    def edit(units, rng):
        out = []
        for i, unit in enumerate(units):
            if unit[0] < 12 and rng.random() < 0.5:
                out += make(units[:i], rng)
            out.append(unit)
        return out

    return edit


def after_slices(make):
    def edit(units, rng):
        out = []
        for unit in units:
            out.append(unit)
            if unit[0] < 12 and rng.random() < 0.5:
                out += make(units, rng)
        return out

    return edit


def at_the_beginning(make):
    def edit(units, rng):
        n_delimiters = int(units[0][0] == AUD)
        return [*units[:n_delimiters], *make(units, rng), *units[n_delimiters:]]

    return edit


EDITS = {
    "no delimiters": without(AUD),
    "no hashes": without(SUFFIX_SEI),
    "sets once": drop_repeated_sets,
    "sets again": before_slices(lambda units, rng: list(dict.fromkeys(u for u in units if u[0] in PARAMETER_SETS))),
    "PPS again": before_slices(lambda units, rng: [next(u for u in reversed(units) if u[0] == PPS)]),
    "prefix SEI": before_slices(lambda units, rng: [user_data(rng, PREFIX_SEI)]),
    "suffix SEI": after_slices(lambda units, rng: [user_data(rng, SUFFIX_SEI)]),
    "filler": after_slices(lambda units, rng: [nal(FILLER, b"\xff" * rng.randrange(1, 9) + b"\x80")]),
    "of no meaning, before": before_slices(
        lambda units, rng: [nal(rng.choice((26, 28, 29)), rng.randbytes(2) + b"\x81")]
    ),
    "of no meaning, behind": after_slices(lambda units, rng: [nal(rng.choice((27, 30, 31)), b"\x07\x80")]),
    "DCI": at_the_beginning(lambda units, rng: [capability_information(units)]),
    "OPI": at_the_beginning(lambda units, rng: [nal(OPI, b"\x10")]),
    "end of sequence": lambda units, rng: [*units, nal(EOS, b"")],
    "end of bitstream": lambda units, rng: [*units, nal(EOS, b""), nal(EOB, b"")],
}


def serialised(units, rng):
    """The units with start codes of three or four bytes, and zero bytes before and after them."""
    out = bytearray(rng.choice((0, 0, 1, 2, 5)))
    for _, data in units:
        out += b"\x00" * rng.choice((0, 1)) + b"\x00\x00\x01" + data + bytes(rng.choice((0, 0, 0, 1, 2)))
    return bytes(out)


def a_case(pieces, rng):
    """A stream, the format and samples of each picture it holds, and its story."""
    chosen = rng.choices(pieces, k=rng.choice((1, 1, 2, 2, 3)))
    units, expected, story = [], [], []
    for i, p in enumerate(chosen):
        edits = rng.sample(list(EDITS), k=rng.choice((0, 1, 1, 2, 3)))
        if (
            i + 1 < len(chosen)
            and chosen[i + 1].begins_with_cra
            and not {"end of sequence", "end of bitstream"} & {*edits}
        ):
            edits.append("end of sequence")
        edits.sort(key=list(EDITS).index)
        if {"end of sequence", "end of bitstream"} <= {*edits}:
            edits.remove("end of sequence")
        changed = list(p.units)
        for edit in edits:
            changed = EDITS[edit](changed, rng)
        units += changed
        expected += [(p.format, picture) for picture in p.pictures]
        story.append((p.name, edits))
    return serialised(units, rng), expected, story


def check_cases(pieces, seed, n_cases):
    for number in range(n_cases):
        rng = random.Random(f"{seed}:{number}")
        stream, expected, story = a_case(pieces, rng)
        print(f"seed {seed}:{number}", story)
        frames = list(decode_vvc(stream))
        assert [(f.width, f.height, f.bit_depth, f.chroma_format) for f in frames] == [format for format, _ in expected]
        assert all(frame.tobytes() == picture for frame, (_, picture) in zip(frames, expected, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_edited_and_joined_streams_give_the_samples_of_their_pieces(pieces, seed):
    check_cases(pieces, seed, 60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_more_edited_and_joined_streams(pieces, seed):
    check_cases(pieces, seed, 200)


@pytest.mark.parametrize("seed", range(3))
def test_ffmpeg_reads_edited_streams_as_their_pieces(pieces, tmp_path, seed):
    """That the edits are legal: FFmpeg gives the same samples for a piece before and after them."""
    rng = random.Random(seed)
    for p in rng.sample(pieces, k=3):
        names = [name for name in EDITS if name != "no hashes"]
        units = list(p.units)
        for name in names:
            units = EDITS[name](units, rng)
        assert piece(tmp_path, p.name, units, p.format).pictures == p.pictures


@pytest.mark.parametrize("edit", [*EDITS])
def test_each_edit_alone_changes_no_sample(pieces, edit):
    for p in pieces:
        rng = random.Random(edit)
        stream = serialised(EDITS[edit](list(p.units), rng), rng)
        assert [frame.tobytes() for frame in decode_vvc(stream)] == list(p.pictures), p.name


def test_pictures_know_whether_they_are_verified(pieces):
    kinds = {kind for p in pieces for kind in read_vvc_stream(written(p.units)).hash_types}
    assert kinds == {"md5", "crc", "checksum", None}
