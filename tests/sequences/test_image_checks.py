"""Files that state more than they hold, or hold more than Pillow gives: each is made by hand, byte by byte."""

from __future__ import annotations

import io
import itertools
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from skimage import data

from vvc_nnr.errors import BitstreamError, UnsupportedError
from vvc_nnr.sequences.images import IMAGE_SUFFIXES, read_image, read_image_size
from vvc_nnr.sequences.source import open_source

PHOTOGRAPH = np.ascontiguousarray(data.astronaut()[50:82, 100:140])
HEIGHT, WIDTH, _ = PHOTOGRAPH.shape


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(rows, width, depth_bits, colour_type, *more, height=None, interlaced=0):
    header = struct.pack(">IIBBBBB", width, height or len(rows), depth_bits, colour_type, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = (chunk(b"IHDR", header), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("high_bits", [0, 0x4000], ids=["plain", "bits beyond the depth"])
@pytest.mark.parametrize("depth_bits", [1, 2, 4, 8])
def test_each_transparent_grey_of_a_png(tmp_path, depth_bits, high_bits):
    """A grey that is there makes the picture transparent, one that is not there makes nothing of it."""
    row = np.packbits(np.unpackbits(np.uint8([[0], [1]]), axis=1)[:, 8 - depth_bits :]).tobytes()  # greys 0 and 1
    for grey in range(min(1 << depth_bits, 16)):
        key = chunk(b"tRNS", struct.pack(">H", grey | high_bits))
        path = written(tmp_path / "x.png", png([row], 2, depth_bits, 0, key))
        if grey < 2:
            with pytest.raises(UnsupportedError, match=r"x\.png: has transparent samples"):
                read_image(path)
        else:
            assert read_image(path)[0, :, 0].tolist() == [0, 255 // ((1 << depth_bits) - 1)]


@pytest.mark.parametrize("depth_bits", [1, 2, 4, 8])
def test_transparent_colours_of_a_palette(tmp_path, depth_bits):
    row = np.packbits(np.unpackbits(np.uint8([[0], [1]]), axis=1)[:, 8 - depth_bits :]).tobytes()
    palette = chunk(b"PLTE", bytes(range(3 * min(1 << depth_bits, 16))))
    used = written(tmp_path / "used.png", png([row], 2, depth_bits, 3, palette, chunk(b"tRNS", b"\xff\x7f")))
    with pytest.raises(UnsupportedError, match="transparent"):
        read_image(used)
    opaque = written(tmp_path / "opaque.png", png([row], 2, depth_bits, 3, palette, chunk(b"tRNS", b"\xff\xff")))
    assert read_image(opaque).tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize(("key", "is_used"), [((1, 2, 3), True), ((0x701, 0x702, 0x703), True), ((1, 2, 4), False)])
def test_the_transparent_colour_of_rgb(tmp_path, key, is_used):
    path = written(
        tmp_path / "x.png", png([bytes((1, 2, 3, 9, 9, 9))], 2, 8, 2, chunk(b"tRNS", struct.pack(">HHH", *key)))
    )
    if is_used:
        with pytest.raises(UnsupportedError, match="transparent"):
            read_image(path)
    else:
        assert read_image(path).tolist() == [[[1, 2, 3], [9, 9, 9]]]


def passes_of(picture):
    """Rows of an interlaced picture, uint8 (H, W, 3)."""
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        part = picture[top::down, left::across]
        yield from (row.tobytes() for row in part if row.size)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (5, 9), (8, 8), (13, 7)])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_a_png_of_fewer_rows_than_its_header_says(tmp_path, interlaced, height, width):
    picture = PHOTOGRAPH[:height, :width]
    rows = list(passes_of(picture)) if interlaced else [row.tobytes() for row in picture]
    whole = written(tmp_path / "whole.png", png(rows, width, 8, 2, height=height, interlaced=interlaced))
    assert (read_image(whole) == picture).all()
    longer = written(tmp_path / "longer.png", png([*rows, rows[0]], width, 8, 2, height=height, interlaced=interlaced))
    assert (read_image(longer) == picture).all()
    rows[-1] = rows[-1][:-1]
    short = written(tmp_path / "short.png", png(rows, width, 8, 2, height=height, interlaced=interlaced))
    for read in (read_image, read_image_size):
        with pytest.raises(BitstreamError, match=rf"short\.png: .* 1 bytes too few for {width}x{height}"):
            read(short)


def test_a_png_with_a_critical_chunk_that_is_not_known(tmp_path):
    path = written(tmp_path / "x.png", png([b"\1\2\3"], 1, 8, 2, chunk(b"ABCD", b"")))
    with pytest.raises(UnsupportedError, match=r"x\.png: has a chunk 'ABCD'"):
        read_image(path)
    assert read_image(written(path, png([b"\1\2\3"], 1, 8, 2, chunk(b"abCd", b"")))).tolist() == [[[1, 2, 3]]]


def jpeg(**options):
    stream = io.BytesIO()
    Image.fromarray(PHOTOGRAPH).save(stream, "JPEG", **options)
    return stream.getvalue()


JPEGS = [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_blocks": 2}, {"optimize": True}]


@pytest.mark.parametrize("options", JPEGS, ids=str)
def test_a_jpeg_whose_scan_ends_early(tmp_path, options):
    """libjpeg makes up the rest, whatever says that the scan ends: EOI, a restart or another scan."""
    good = jpeg(quality=90, **options)
    path = written(tmp_path / "x.jpg", good)
    assert (read_image(path) == np.array(Image.open(path))).all()
    written(path, good + b"junk" + good)
    read_image(path)
    start = good.index(b"\xff\xda") + 20
    end = next(at for at in range(start, len(good)) if good[at] == 0xFF and good[at + 1] != 0)
    for cut in (start + 8, (start + end) // 2, end - 4):
        cut -= good[cut - 1] == 0xFF
        with pytest.raises(BitstreamError, match=r"x\.jpg: .*its scans hold fewer samples than its header states"):
            read_image(written(path, good[:cut] + good[end:]))


def test_a_jpeg_of_more_rows_than_it_holds(tmp_path):
    good = jpeg()
    at = good.index(b"\xff\xc0") + 5
    path = written(tmp_path / "x.jpg", good[:at] + struct.pack(">H", HEIGHT + 24) + good[at + 2 :])
    with pytest.raises(BitstreamError, match="fewer samples"):
        read_image(path)


def test_a_progressive_jpeg_that_lacks_its_last_scans(tmp_path):
    good = jpeg(progressive=True)
    scans = [at for at in range(len(good)) if good[at : at + 2] == b"\xff\xda"]
    for scan in scans[1:]:
        path = written(tmp_path / "x.jpg", good[:scan] + b"\xff\xd9")
        with pytest.raises(BitstreamError, match=r"component \d is not whole"):
            read_image(path)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"\xff\xc1\0\x0b\x0c\0\x08\0\x08\1\1\x11\0", "12 bits per sample"),
        (b"\xff\xf7\0\x0b\x08\0\x08\0\x08\1\1\x11\0", "JPEG-LS coding"),
        (b"\xff\xc0\0\x0b\x08\0\0\0\x08\1\1\x11\0", "a height that only its end states"),
    ],
)
def test_jpegs_of_a_kind_that_is_not_read_say_which(tmp_path, frame, words):
    path = written(tmp_path / "x.jpg", b"\xff\xd8" + frame + b"\xff\xd9")
    with pytest.raises(UnsupportedError, match=rf"x\.jpg: is a JPEG of {words}"):
        read_image(path)


def tiff(pages, data=b""):
    """A TIFF of pages of tags (values: one or several numbers) in little endian, with the data from byte 8 on."""
    content = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    for number, tags in enumerate(pages):
        start, outside, entries = len(content), b"", []
        after = start + 2 + 12 * len(tags) + 4
        for tag, value in sorted(tags.items()):
            values = value if isinstance(value, tuple) else (value,)
            packed = struct.pack(f"<{len(values)}I", *values)
            if len(values) > 1:
                outside, packed = outside + packed, struct.pack("<I", after + len(outside))
            entries.append(struct.pack("<HHI", tag, 4, len(values)) + packed)
        following = after + len(outside) if number + 1 < len(pages) else 0
        content += struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following) + outside
    return content


def rgb_page(height=HEIGHT, offset=8, **changed):
    """Tags of RGB rows without compression in one strip; `changed` are others by `t` and their number."""
    page = {256: WIDTH, 257: height, 258: (8, 8, 8), 259: 1, 262: 2, 273: offset, 277: 3, 278: height}
    return page | {279: 3 * WIDTH * height} | {int(name[1:]): value for name, value in changed.items()}


def test_the_tiffs_of_these_tests_are_read(tmp_path):
    path = written(tmp_path / "x.tif", tiff([rgb_page()], PHOTOGRAPH.tobytes()))
    assert (read_image(path) == PHOTOGRAPH).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"t257": HEIGHT + 8}, "1 of the 2 strips"),
        ({"t279": 100}, r"strip 0 has 100 bytes; must be at least 3840 for its 32 rows"),
        ({"t279": 0}, "strip 0 has 0 bytes"),
        ({"t278": 16}, "1 of the 2 strips"),
        ({"t278": 16, "t273": (8, 1928), "t279": (1920, 1919)}, "strip 1 has 1919 bytes"),
    ],
    ids=str,
)
def test_a_tiff_of_more_rows_than_its_strips_hold(tmp_path, changed, words):
    path = written(tmp_path / "x.tif", tiff([rgb_page(**changed)], PHOTOGRAPH.tobytes() + bytes(9999)))
    with pytest.raises(BitstreamError, match=rf"x\.tif: .*{words}"):
        read_image(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_compressed_tiff_of_more_rows_than_its_strips_hold(tmp_path, compression):
    path = tmp_path / "x.tif"
    Image.fromarray(PHOTOGRAPH).save(path, compression=compression)
    read_image(path)
    good = path.read_bytes()
    with Image.open(path) as image:
        strips = {tag: image.tag_v2[tag] for tag in (257, 278)}
    assert strips == {257: HEIGHT, 278: HEIGHT}
    for entry in (struct.pack("<HHIH", tag, 3, 1, HEIGHT) for tag in strips):
        assert good.count(entry) == 1
        good = good.replace(entry, entry[:-2] + struct.pack("<H", HEIGHT + 16))
    with pytest.raises(BitstreamError):
        read_image(written(path, good))


@pytest.mark.parametrize(
    ("kinds", "is_read"), [((0,), False), ((2,), True), ((0, 0), False), ((2, 0), False), (None, False)], ids=str
)
def test_more_samples_of_a_tiff_than_colours_and_alpha(tmp_path, kinds, is_read):
    """Two of no known meaning, one, one of alpha (opaque here), and one of which nothing is said."""
    n_more = len(kinds or (0,))
    samples = np.dstack([PHOTOGRAPH, *[np.full((HEIGHT, WIDTH), 255, np.uint8)] * n_more])
    changed = {"t258": (8,) * (3 + n_more), "t277": 3 + n_more, "t279": samples.size}
    if kinds:
        changed["t338"] = kinds
    path = written(tmp_path / "x.tif", tiff([rgb_page(**changed)], samples.tobytes()))
    if is_read:
        assert (read_image(path) == PHOTOGRAPH).all()
    else:
        with pytest.raises(UnsupportedError, match=rf"x\.tif: has {n_more} more samples? per pixel"):
            read_image(path)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", [{"t254": 1}, {"t255": 2}], ids=str)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_picture_of_a_tiff_is_read_wherever_its_thumbnails_are(tmp_path, kind, order, orientation):
    pixels = PHOTOGRAPH.tobytes()
    small = rgb_page(height=4, **kind)
    pages = (rgb_page(t274=orientation), small, small)
    path = written(tmp_path / "x.tif", tiff([pages[number] for number in order], pixels))
    expected = np.rot90(PHOTOGRAPH, -1) if orientation == 6 else PHOTOGRAPH
    assert (read_image(path) == expected).all()
    assert read_image_size(path) == expected.shape[1::-1]


def test_two_pictures_or_a_mask_in_a_tiff_are_refused(tmp_path):
    pixels = PHOTOGRAPH.tobytes()
    path = written(tmp_path / "x.tif", tiff([rgb_page(height=4, t254=1), rgb_page(), rgb_page()], pixels))
    with pytest.raises(UnsupportedError, match="holds 2 pictures"):
        read_image(path)
    mask = {256: WIDTH, 257: HEIGHT, 254: 4, 258: 1, 259: 1, 262: 4, 273: 8, 277: 1, 278: HEIGHT, 279: 160}
    with pytest.raises(UnsupportedError, match="has a transparency mask"):
        read_image(written(path, tiff([rgb_page(), mask], pixels)))
    with pytest.raises(UnsupportedError, match="a mask"):
        read_image(written(path, tiff([mask], pixels)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"t339": (3, 3, 3), "t258": (32, 32, 32)}, "32-bit float samples"),
        ({"t339": (3, 3, 3), "t258": (16, 16, 16)}, "16-bit float samples"),
        ({"t258": (6, 6, 6)}, "6 bits per sample"),
        ({"t262": 9}, r"ICC L\*a\*b\* colours"),
        ({"t259": 34933}, "PNG compression"),
        ({"t259": 50002}, "JPEG XL compression"),
        ({"t259": 34712}, "JPEG 2000 compression"),
        ({"t259": 12345}, "compression 12345"),
        ({"t262": 32803}, "a camera's raw samples"),
    ],
)
def test_tiffs_of_a_kind_that_is_not_read_say_which(tmp_path, changed, words):
    path = written(tmp_path / "x.tif", tiff([rgb_page(**changed)], PHOTOGRAPH.tobytes() * 4))
    with pytest.raises(UnsupportedError, match=rf"x\.tif: is a TIFF of {words}, which is not read; convert it"):
        read_image(path)


def test_a_tiff_whose_colour_map_may_have_8_bits(tmp_path):
    grey = PHOTOGRAPH[..., 0]
    for step, is_read in ((257, True), (1, False)):
        colours = tuple(step * (i % 256) for i in range(768))
        page = rgb_page(t258=8, t262=3, t277=1, t279=grey.size, t320=colours)
        path = written(tmp_path / "x.tif", tiff([page], grey.tobytes()))
        if is_read:
            assert (read_image(path) == grey[..., None]).all()
        else:
            with pytest.raises(UnsupportedError, match="colour map of values up to 255"):
                read_image(path)


def test_what_libtiff_says_is_in_the_error_and_not_before_it(tmp_path, capfd):
    path = tmp_path / "x.tif"
    Image.fromarray(PHOTOGRAPH).save(path, compression="tiff_lzw")
    with Image.open(path) as image:
        start, n_bytes = image.tag_v2[TiffImagePlugin.STRIPOFFSETS][0], image.tag_v2[TiffImagePlugin.STRIPBYTECOUNTS][0]
    good = path.read_bytes()
    written(path, good[: start + n_bytes // 2] + bytes(n_bytes // 2) + good[start + n_bytes // 2 * 2 :])
    with pytest.raises(BitstreamError, match=r"x\.tif: cannot be decoded as an image: LZWDecode"):
        read_image(path)
    assert capfd.readouterr().err == ""
    written(path, good)
    read_image(path)
    os.write(2, b"still open\n")
    assert capfd.readouterr().err == "still open\n"


def test_a_gif_whose_picture_covers_a_part_of_its_canvas(tmp_path):
    path = tmp_path / "x.gif"
    Image.fromarray(PHOTOGRAPH[..., 0]).save(path)
    assert (read_image(path) == PHOTOGRAPH[..., :1]).all()
    good = path.read_bytes()
    written(path, good[:6] + struct.pack("<HH", WIDTH + 1, HEIGHT) + good[10:])
    with pytest.raises(UnsupportedError, match="covers only a part of its canvas"):
        read_image(path)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_kind_that_is_read_has_its_suffixes(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    kinds = {".pgm": "L", ".pbm": "1", ".gif": "L"}
    Image.fromarray(PHOTOGRAPH).convert(kinds.get(suffix, "RGB")).save(path, "JPEG" if suffix == ".jpe" else None)
    assert (open_source(path).format.width, len(list(open_source(path).frames()))) == (WIDTH, 1)


@pytest.mark.parametrize(
    ("begin", "name"),
    [(b"P7\n", "PAM"), (b"PF\n", "PFM"), (b"v/1\x01", "OpenEXR"), (b"\xff\x0a", "JPEG XL"), (b"PAR1", "parquet")],
)
def test_other_formats_that_pillow_does_not_know_are_named(tmp_path, begin, name):
    with pytest.raises(UnsupportedError, match=rf"x\.png: format {name}; PNG, .* are read: convert it"):
        read_image(written(tmp_path / "x.png", begin + bytes(99)))
