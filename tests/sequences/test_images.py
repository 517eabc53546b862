from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from skimage import data

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import (
    _meetings,
    frame_to_rgb,
    grown,
    image_files,
    read_image,
    read_image_size,
    rgb_to_frame,
    shrunk,
)

rgb_images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@pytest.mark.parametrize(
    ("rgb", "yuv_8", "yuv_10"),
    [
        ((0, 0, 0), (16, 128, 128), (64, 512, 512)),
        ((255, 255, 255), (235, 128, 128), (940, 512, 512)),
        ((255, 0, 0), (63, 102, 240), (250, 409, 960)),
        ((0, 255, 0), (173, 42, 26), (691, 167, 105)),
        ((0, 0, 255), (32, 240, 118), (127, 960, 471)),
        ((0, 255, 255), (188, 154, 16), (754, 615, 64)),
        ((255, 0, 255), (78, 214, 230), (313, 857, 919)),
        ((255, 255, 0), (219, 16, 138), (877, 64, 553)),
    ],
)
def test_colour_bars_have_the_published_values(rgb, yuv_8, yuv_10):
    """The well-known values of 100 % bars in BT.709."""
    image = np.full((2, 2, 3), rgb, np.uint8)
    for bit_depth, expected in [(8, yuv_8), (10, yuv_10)]:
        frame = rgb_to_frame(image, "444", bit_depth)
        assert tuple(int(plane[0, 0]) for plane in frame.planes) == expected


def test_chroma_filter_down():
    """One blue column: an even column's sample takes half of it, its odd neighbours' a quarter."""
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2, 2] = 255
    image[:2, 5, 2] = 255
    blue = rgb_to_frame(image, "420").planes[1].astype(int) - 128
    assert blue.tolist() == [[0, 56, 28, 28], [0, 56, 0, 0]]
    assert (rgb_to_frame(image, "422").planes[1][:2] == blue[0] + 128).all()
    assert (rgb_to_frame(image, "422").planes[1][2:] == blue[1] + 128).all()


def test_chroma_filter_up():
    luma = np.full((4, 4), 126, np.uint8)
    red = np.array([[128, 160], [192, 128]], np.uint8)
    rgb = frame_to_rgb(Frame((luma, np.full((2, 2), 128, np.uint8), red), 8, "420"))
    across = np.array([[128, 144, 160, 160], [192, 160, 128, 128]])
    expected = np.array([across[0], (3 * across[0] + across[1]) / 4, (across[0] + 3 * across[1]) / 4, across[1]])
    scale = 2 * (1 - 0.2126) * 255 / 224
    got = (rgb[..., 0] - 110 * 255 / 219) / scale + 128
    assert np.abs(got - expected).max() <= 0.5 / scale + 1e-3


@settings(max_examples=60)
@given(rgb=rgb_images, bit_depth=st.integers(8, 16))
def test_444_comes_back_within_a_level_or_two(rgb, bit_depth):
    again = frame_to_rgb(rgb_to_frame(rgb, "444", bit_depth)).astype(int)
    assert np.abs(again - rgb).max() <= (2 if bit_depth == 8 else 1 if bit_depth == 9 else 0)


@given(
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    chroma_format=st.sampled_from(["420", "422", "444"]),
)
def test_flat_colour_survives_any_size_and_chroma_format(colour, size, chroma_format):
    rgb = np.full((*size, 3), colour, np.uint8)
    frame = rgb_to_frame(rgb, chroma_format, 10)
    assert (frame_to_rgb(frame) == rgb).all()
    assert all((plane == plane[0, 0]).all() for plane in frame.planes)


def test_photograph_through_420_stays_close():
    rgb = data.astronaut()[:255, :255]
    error = frame_to_rgb(rgb_to_frame(rgb, "420", 10)).astype(float) - rgb
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 35


def test_444_agrees_with_ffmpeg(ffmpeg, tmp_path):
    rgb = np.ascontiguousarray(data.astronaut()[:128, :128])
    Image.fromarray(rgb).save(tmp_path / "x.png")
    scale = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
    raw = np.frombuffer(
        ffmpeg("-i", tmp_path / "x.png", "-vf", scale, "-pix_fmt", "yuv444p", "-f", "rawvideo", "-"), np.uint8
    ).reshape(3, 128, 128)
    ours = rgb_to_frame(rgb, "444")
    for plane, theirs in zip(ours.planes, raw, strict=True):
        assert np.abs(plane.astype(int) - theirs).max() <= 1


@given(grey=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_grey_image_has_neutral_chroma_or_none(grey):
    coloured, bare = rgb_to_frame(grey, "420"), rgb_to_frame(grey, "400")
    assert all((plane == 128).all() for plane in coloured.planes[1:])
    assert len(bare.planes) == 1
    assert (bare.planes[0] == coloured.planes[0]).all()
    assert np.abs(frame_to_rgb(bare).astype(int) - grey[..., None]).max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4),
    ],
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ShapeError, match="want uint8"):
        rgb_to_frame(wrong)


def test_other_options_are_refused():
    for options in [{"chroma_format": "411"}, {"bit_depth": 7}, {"bit_depth": 17}]:
        with pytest.raises(InputError):
            rgb_to_frame(np.zeros((4, 4, 3), np.uint8), **options)


def save(image: Image.Image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA", "YCbCr"])
def test_kinds_of_images_become_rgb(tmp_path, mode):
    image = Image.fromarray(data.astronaut()[:20, :30]).convert(mode)
    path = save(image, tmp_path / ("x.tif" if mode == "YCbCr" else "x.png"))
    rgb = read_image(path)
    assert rgb.shape == (20, 30, 3)
    assert (rgb == np.array(image.convert("RGB"))).all()
    assert read_image_size(path) == (30, 20)


def test_image_is_turned_upright(tmp_path):
    image = Image.fromarray(data.astronaut()[:20, :30])
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(image, tmp_path / "x.png", exif=exif)
    assert read_image(path).shape == (30, 20, 3)
    assert (read_image(path) == np.rot90(np.array(image), -1)).all()
    assert read_image_size(path) == (20, 30)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


UPRIGHT = {
    **{1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)},
    **{6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90},
}


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif", "deflate.tif", "lzw.tif", "xmp.jpg"])
def test_every_orientation_in_every_format(tmp_path, name, orientation):
    image = Image.fromarray(data.astronaut()[:20, :30])
    path = tmp_path / name
    if name in ("deflate.tif", "lzw.tif") and orientation not in UPRIGHT:
        pytest.skip("libtiff writes no such tag")
    if name == "xmp.jpg":
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'
        image.save(path, quality=100, xmp=xmp.encode())
    elif name.endswith("tif"):
        options = {"deflate.tif": {"compression": "tiff_deflate"}, "lzw.tif": {"compression": "tiff_lzw"}}
        image.save(path, tiffinfo={274: orientation}, **options.get(name, {}))
    else:
        image.save(path, exif=exif_of(orientation), **({"lossless": True} if name == "x.webp" else {"quality": 100}))
    stored = np.array(Image.open(path).convert("RGB")) if name.endswith("jpg") else np.array(image)
    expected = UPRIGHT.get(orientation, UPRIGHT[1])(stored)
    assert np.array_equal(read_image(path), expected)
    assert read_image_size(path) == expected.shape[1::-1]


def test_exif_goes_before_xmp(tmp_path):
    image = Image.fromarray(data.astronaut()[:20, :30])
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="3"/></x:xmpmeta>'
    for name in ("x.jpg", "x.webp", "x.tif"):
        path = tmp_path / name
        image.save(path, exif=exif_of(6), **({"tiffinfo": {274: 6, 700: xmp}} if name == "x.tif" else {"xmp": xmp}))
        assert read_image_size(path) == (20, 30) == read_image(path).shape[1::-1]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_transparent_samples_are_not_lost_silently(tmp_path, mode):
    image = Image.fromarray(data.astronaut()[:20, :30]).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(np.full((20, 30), 254, np.uint8)))
        save(image, tmp_path / "x.png")
    else:
        transparent = {"P": image.getpixel((3, 3)), "L": image.getpixel((3, 3)), "RGB": image.getpixel((3, 3))}[mode]
        save(image, tmp_path / "x.png", transparency=transparent)
    with pytest.raises(UnsupportedError, match="transparent samples"):
        read_image(tmp_path / "x.png")


def test_colours_for_print_are_refused(tmp_path):
    image = Image.fromarray(data.astronaut()[:20, :30]).convert("CMYK")
    for name in ("x.jpg", "x.tif"):
        for read in (read_image, read_image_size):
            with pytest.raises(UnsupportedError, match="CMYK"):
                read(save(image, tmp_path / name))


@pytest.mark.parametrize(
    ("name", "kind"), [("x.png", "AVIF"), ("x.jpg", "JPEG2000"), ("x.bmp", "ICO"), ("x.tif", "TGA")]
)
def test_other_formats_are_refused_by_name(tmp_path, name, kind):
    Image.fromarray(data.astronaut()[:32, :32]).save(tmp_path / name, kind)
    with pytest.raises(UnsupportedError, match=f"image format {kind}; "):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif", "gif.png", "x.jpg"])
def test_several_pictures_in_one_file_are_refused(tmp_path, name):
    first, second = (Image.fromarray(data.astronaut()[at : at + 20, :30]) for at in (0, 40))
    kind = {"gif.png": "GIF", "x.jpg": "MPO"}.get(name)
    first.save(tmp_path / name, kind, save_all=True, append_images=[second])
    if name == "x.jpg":  # a phone's JPEG with more behind it is still that picture
        assert read_image(tmp_path / name).shape == (20, 30, 3)
        return
    for read in (read_image, read_image_size):
        with pytest.raises(UnsupportedError, match="holds 2 pictures"):
            read(tmp_path / name)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_netpbm_files_of_several_pictures_are_refused(tmp_path, mode):
    """FFmpeg's image2pipe and netpbm's tools write them; one picture with something else behind it is one."""
    path = tmp_path / "x.pnm"
    image = Image.fromarray(data.astronaut()[:20, :29]).convert(mode)
    image.save(path, "PPM")
    one = path.read_bytes()
    path.write_bytes(one + b"\nPixels")
    assert np.array_equal(read_image(path), np.array(image.convert("RGB")))
    path.write_bytes(one * 2)
    for read in (read_image, read_image_size):
        with pytest.raises(UnsupportedError, match="holds 2 pictures or more; write each"):
            read(path)


def test_a_thumbnail_page_is_no_second_picture(tmp_path):
    whole, small = Image.fromarray(data.astronaut()[:20, :30]), Image.fromarray(data.astronaut()[:10, :15])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    whole.save(tmp_path / "x.tif", save_all=True, append_images=[small])
    assert np.array_equal(read_image(tmp_path / "x.tif"), np.array(whole))


def test_a_volume_of_pictures_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    Image.fromarray(data.astronaut()[:9, :11]).save(path, tiffinfo={32997: 16})
    with pytest.raises(UnsupportedError, match="holds 16 pictures"):
        read_image(path)


@pytest.mark.parametrize("kind", ["png", "bmp", "gif"])
def test_colours_that_the_palette_lacks_are_not_made_black(tmp_path, kind):
    image = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5) % 5, "P")
    image.putpalette([value for i in range(5) for value in (i, 2 * i, 3 * i)])
    path = tmp_path / f"x.{kind}"
    image.save(path, bits=8)
    np.testing.assert_array_equal(read_image(path)[0, :, 2], [0, 3, 6, 9, 12])
    if kind == "png":
        whole = path.read_bytes()
        at = whole.index(b"PLTE") - 4
        colours = whole[at + 8 : at + 8 + 12]
        chunk = b"PLTE" + colours
        chunk = struct.pack(">I", 12) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(whole[:at] + chunk + whole[at + 12 + int.from_bytes(whole[at : at + 4]) :])
        with pytest.raises(BitstreamError, match=r"x\.png: .*colour 4, its palette has 4 colours"):
            read_image(path)


@pytest.mark.parametrize("content", [b"P7\nWIDTH 1\n", b"\0" * 99])
def test_what_is_no_image_is_told_without_pythons_objects(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(BitstreamError, match=r"x\.png: no image of a known kind \(PNG, .*\), or damaged$"):
        read_image(path)


def test_signed_samples_are_refused(tmp_path):
    Image.fromarray(data.astronaut()[:20, :30, 0]).save(tmp_path / "x.tif", tiffinfo={339: 2})
    with pytest.raises(UnsupportedError, match="signed"):
        read_image(tmp_path / "x.tif")


def test_a_png_whose_checksum_fails_is_damaged(tmp_path):
    """Stored blocks: every flipped bit would be a legal, other picture."""
    path = save(Image.fromarray(data.astronaut()[:20, :30]), tmp_path / "x.png", compress_level=0)
    good = path.read_bytes()
    for at in range(good.index(b"IDAT") + 30, len(good) - 30, 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        for read in (read_image, read_image_size):  # its size may be given by Exif behind the samples
            with pytest.raises(BitstreamError):
                read(path)


def test_deep_and_float_images_are_refused_by_name(tmp_path):
    for name, array in (("x.tif", np.zeros((4, 4), np.float32)), ("y.tif", np.zeros((4, 4), np.int32))):
        with pytest.raises(UnsupportedError, match=r"mode [FI]"):
            read_image(save(Image.fromarray(array), tmp_path / name))


def test_16_bit_image_is_not_clipped_silently(tmp_path):
    path = save(Image.fromarray(np.full((4, 4), 40000, np.uint16)), tmp_path / "x.png")
    with pytest.raises(UnsupportedError, match="8 bits"):
        read_image(path)


@pytest.mark.parametrize(("name", "channels"), [("x.png", 3), ("x.png", 4), ("x.tif", 3), ("x.tif", 4), ("x.ppm", 3)])
def test_16_bit_colours_are_not_cut_silently(tmp_path, name, channels):
    path = tmp_path / name
    assert cv2.imwrite(str(path), np.full((4, 4, channels), 40000, np.uint16))
    for read in (read_image, read_image_size):
        with pytest.raises(UnsupportedError, match="8 bits"):
            read(path)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.ppm", "x.bmp"])
def test_8_bit_colours_of_the_same_kinds_are_read(tmp_path, name):
    bgr = np.arange(768, dtype=np.uint8).reshape(16, 16, 3)
    assert cv2.imwrite(str(tmp_path / name), bgr)
    assert (read_image(tmp_path / name) == bgr[..., ::-1]).all()


def test_missing_file_and_folder_without_images(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "x.png")
    with pytest.raises(InputError, match="holds no image"):
        image_files(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        image_files(tmp_path / "no")


def test_image_files_are_sorted_and_others_left_out(tmp_path):
    for name in ["b.PNG", "a.jpg", "c.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.jpg", "b.PNG"]


def test_decompression_bomb_is_refused_before_it_unpacks(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))
    (tmp_path / "x.png").write_bytes(bomb + chunk(b"IEND", b""))
    with pytest.raises(BitstreamError):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("form", ["lossy", "lossless", "extended"])
def test_a_webp_that_states_a_huge_picture_is_refused_before_pillow_reserves_it(tmp_path, monkeypatch, form):
    path, picture = tmp_path / "x.webp", Image.fromarray(data.astronaut()[:9, :11])
    picture.save(path, lossless=form == "lossless", exif=b"Exif\0\0MM" if form == "extended" else b"")
    head = bytearray(path.read_bytes())
    match form:
        case "lossy":
            head[26:30] = struct.pack("<HH", 10_000, 9000)
        case "lossless":
            head[21:25] = struct.pack("<I", 9_999 | 8_999 << 14)
        case _:
            head[24:30] = (9_999).to_bytes(3, "little") + (8_999).to_bytes(3, "little")
    path.write_bytes(head)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("opened"))
    for read in (read_image, read_image_size):
        with pytest.raises(BitstreamError, match=r"x\.webp: .* its header states 10000x9000 pixels, must be at most"):
            read(path)


@pytest.mark.parametrize(("kind", "place", "packed"), [("bmp", 18, "<"), ("ppm", 0, ""), ("png", 16, ">")])
def test_an_image_of_more_pixels_than_its_bytes_can_stand_for(tmp_path, kind, place, packed):
    """Before memory is asked for them; below the size from which a header counts as a bomb."""
    path = save(Image.fromarray(data.astronaut()[:9, :11]), tmp_path / f"x.{kind}")
    good = path.read_bytes()
    if kind == "ppm":
        path.write_bytes(good.replace(b"11 9", b"7000 9000"))
    else:
        head = good[:place] + struct.pack(f"{packed}II", 7000, 9000) + good[place + 8 :]
        if kind == "png":
            head = head[:29] + struct.pack(">I", zlib.crc32(head[12:29])) + head[33:]
        path.write_bytes(head)
    for read in (read_image, read_image_size):
        with pytest.raises(BitstreamError, match="bytes are too few for 7000x9000 pixels"):
            read(path)


@settings(max_examples=150)
@given(kind=st.sampled_from(["png", "jpeg", "webp", "tiff", "ppm"]), cut=st.integers(0, 3000), data=st.data())
def test_damaged_images_end_in_an_image_or_a_stated_error(tmp_path_factory, kind, cut, data):
    stream = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(stream, kind)
    damaged = bytearray(stream.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
        damaged[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(damaged[: max(0, len(damaged) - cut)])
    try:
        rgb = read_image(path)
    except (BitstreamError, UnsupportedError):
        return
    assert rgb.dtype == np.uint8
    assert rgb.shape[2] == 3


@pytest.mark.parametrize(("tag", "is_refused"), [(258, True), (262, True), (305, True), (37500, False)])
def test_a_tiff_whose_tag_lies_beyond_its_end(tmp_path, tag, is_refused):
    path = tmp_path / "x.tif"
    path.write_bytes(np_tiff(tag))
    if is_refused:
        with pytest.raises(BitstreamError, match=f"Skipping tag {tag}"):
            read_image(path)
    else:
        assert read_image(path).shape == (2, 3, 3)


def np_tiff(tag):
    """A grey TIFF of 3x2 with one more entry, or another in its place, that points beyond the end of the file."""
    entries = {256: (3, 1, 3), 257: (3, 1, 2), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 200)}
    entries |= {277: (3, 1, 1), 278: (3, 1, 2), 279: (4, 1, 6), tag: (2, 1000, 1 << 20)}
    packed = b"".join(struct.pack("<HHII", number, *entry) for number, entry in sorted(entries.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)
    return head.ljust(200, b"\0") + bytes(6)


def test_chroma_lies_as_own_networks_md_says() -> None:
    """On the left of two columns and between two rows: bilinear up, 1-2-1 and the mean of two rows down."""
    plane = np.array([[0, 8], [16, 24]], np.float32)
    assert grown(plane, 1, 0).tolist() == [[0, 4, 8, 8], [16, 20, 24, 24]]
    assert grown(plane, 0, 1)[:, 0].tolist() == [0, 4, 12, 16]
    columns = [shrunk(np.eye(6, dtype=np.float32)[[place]], 1, 0)[0].tolist() for place in (2, 3)]
    assert columns == [[0, 0.5, 0], [0, 0.25, 0.25]]
    assert shrunk(plane, 0, 1).tolist() == [[8, 16]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P5 2 1 100\n\x64\x65", "a sample of 101, its header says at most 100"),
        (b"P6 1 1 15\n\x01\x02\x10", "a sample of 16, its header says at most 15"),
        (b"P5\n# 3 3\n2 1\n254\n\x00\xff", "a sample of 255, its header says at most 254"),
        (b"P2 2 1 100\n100 101\n", "101"),
        (b"P3 1 1 100\n1 2 101\n", "101"),
        (b"P2 2 1 255\n255 256", "256"),
        (b"P1 2 1\n12\n", "token"),
        (b"P2 2 1 15\n15 1 2 3", "has 4 samples, a picture of its size 2"),
        (b"P3 1 1 255\n7 8 9\nP3 1 1 255\n7 8 9", "has 10 samples, a picture of its size 3"),
        (b"P1 2 1\n101\n", "has 3 samples, a picture of its size 2"),
    ],
)
def test_pnm_samples_beyond_the_header_are_damage(tmp_path, data, message):
    (tmp_path / "x.pnm").write_bytes(data)
    with pytest.raises(BitstreamError, match=message):
        read_image(tmp_path / "x.pnm")


@pytest.mark.parametrize(
    "data", [b"P5 2 1 1000\n\x03\xe8\x03\xe9", b"P2 2 1 1000\n1000 1001", b"P6 1 1 999\n" + bytes(6)]
)
def test_deep_pnm_samples_are_refused_whatever_they_are(tmp_path, data):
    (tmp_path / "x.pnm").write_bytes(data)
    with pytest.raises(UnsupportedError, match="only 8 bits per sample"):
        read_image(tmp_path / "x.pnm")


@pytest.mark.parametrize("data", [b"P2 2 1 100\n# 7 8\n100 50 # 9", b"P5 2 1 100\n\x64\x32", b"P3 1 1 3 1 2 3\n"])
def test_pnm_samples_up_to_the_largest_are_read(tmp_path, data):
    (tmp_path / "x.pnm").write_bytes(data)
    assert read_image(tmp_path / "x.pnm").max() == 255


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.png: the file is empty"),
        (b"hello", "no image of a known kind"),
        (b"II*\0\x08\0\0\0\0\0", "begins as a TIFF and cannot be read: damaged, or of unusual samples"),
    ],
)
def test_files_that_are_no_image_say_what_they_are(tmp_path, data, message):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(BitstreamError, match=message) as caught:
        read_image(tmp_path / "x.png")
    assert "object at" not in str(caught.value)


def test_lab_is_refused_for_its_colours(tmp_path):
    Image.frombytes("LAB", (8, 8), bytes(192)).save(tmp_path / "x.tif")
    with pytest.raises(UnsupportedError, match=r"CIE L\*a\*b\* colours, which are no RGB: convert it"):
        read_image(tmp_path / "x.tif")


def swapped_srgb() -> bytes:
    """A legal profile whose red is green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"----", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"----", b"gXYZ", 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_profile_that_is_not_srgb_is_said_once(tmp_path, caplog, suffix):
    _meetings.cache_clear()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (8, 8))
    image.save(tmp_path / f"srgb.{suffix}", icc_profile=srgb)
    image.save(tmp_path / f"other.{suffix}", icc_profile=swapped_srgb())
    image.save(tmp_path / f"broken.{suffix}", icc_profile=b"nothing")
    read_image(tmp_path / f"srgb.{suffix}")
    assert caplog.messages == []
    for name in ("other", "other", "broken"):
        read_image(tmp_path / f"{name}.{suffix}")
    first, second = caplog.messages
    assert "has the colour profile 'sRGB built-in', which is not applied" in first
    assert f"broken.{suffix}: has a colour profile that cannot be read" in second


def test_other_colours_in_the_chunks_of_a_png_are_said(tmp_path, caplog):
    _meetings.cache_clear()
    chunks = PngInfo()
    chunks.add(b"gAMA", (100000).to_bytes(4, "big"))
    Image.new("RGB", (8, 8)).save(tmp_path / "linear.png", pnginfo=chunks)
    read_image(tmp_path / "linear.png")
    assert "states a gamma of 1 (sRGB: 0.45455), which is not applied" in caplog.text
