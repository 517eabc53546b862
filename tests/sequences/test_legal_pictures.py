"""Legal files of every kind, made at random and read against an independent reader, sample for sample.

The independent readers: numpy on the bytes that were written, Pillow with a transposition by hand, FFmpeg's
rawvideo. What this package cannot do must be refused. Quick: over 2,000 files; `-m slow`: ten times as many.
"""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.images import read_image, read_image_size, rgb_to_frame
from vvc_nnr.sequences.source import open_source, open_writer

SEED = 15
SHIFTS = {"420": (1, 1), "422": (1, 0), "444": (0, 0)}
many = pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])


def cases(kind: int, n_cases: int):
    """Generators of random numbers, one for each file; the seed of each is printed, pytest shows the last one."""
    for case in range(n_cases):
        print(f"seed {(SEED, kind, case)}")
        yield np.random.default_rng((SEED, kind, case))


def pick(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


def random_planes(rng, width, height, bit_depth, chroma_format):
    shapes = [(height, width)]
    if chroma_format != "400":
        across, down = SHIFTS[chroma_format]
        shapes += [((height + (1 << down) - 1) >> down, (width + (1 << across) - 1) >> across)] * 2
    dtype = np.uint8 if bit_depth == 8 else np.dtype("<u2")
    return [rng.integers(0, 1 << bit_depth, shape).astype(dtype) for shape in shapes]


def raw(pictures) -> bytes:
    return b"".join(plane.tobytes() for planes in pictures for plane in planes)


def samples(source) -> bytes:
    return b"".join(frame.tobytes() for frame in source.frames())


# Y4M

Y4M_CHROMA = {
    **{"420jpeg": ("420", 8, "center"), "420mpeg2": ("420", 8, "left"), "420paldv": ("420", 8, "top_left")},
    **{"420": ("420", 8, None), "422": ("422", 8, None), "444": ("444", 8, None), "mono": ("400", 8, None)},
    **{f"{name}p{bits}": (name, bits, None) for name in SHIFTS for bits in (9, 10, 12, 14, 16)},
    **{f"mono{bits}": ("400", bits, None) for bits in (9, 10, 12, 14, 16)},
}
Y4M_REFUSED = ("It", "Ib", "Im", "C411", "C444alpha", "C410", "C440", "C420p10be", "C444ph", "XYSCSS=411", "R90")


@many
def test_y4m(tmp_path, ffmpeg, times):
    for case, rng in enumerate(cases(1, 900 * times)):
        tag = pick(rng, *Y4M_CHROMA)
        chroma_format, bit_depth, location = Y4M_CHROMA[tag]
        width, height, n_pictures = (int(rng.integers(1, 20)), int(rng.integers(1, 20)), int(rng.integers(1, 4)))
        words = [f"W{width}", f"H{height}"]
        written_as_old = bool(rng.integers(6) == 0) and "420" in tag and bit_depth == 8 and tag != "420"
        no_tag = tag == "420" and bool(rng.integers(2))
        if written_as_old:
            words.append(f"XYSCSS={tag.upper()}")
        elif not no_tag:
            words.append(f"C{tag}")
        fps = pick(rng, None, Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(100))
        words += [f"F{fps.numerator}:{fps.denominator}"] if fps else [pick(rng, "F0:0", "XNORATE")]
        aspect = pick(rng, None, (1, 1), (4, 3), (128, 117), (0, 0), (10, 11))
        words += [f"A{aspect[0]}:{aspect[1]}"] if aspect else []
        colour_range = pick(rng, None, "limited", "full")
        words += [f"XCOLORRANGE={colour_range.upper()}"] if colour_range else []
        words += [pick(rng, "Ip", "I?", "XNOINTERLACE")]
        words += [pick(rng, "XLENGTH=7", "Xwritten_by=me", "X", "XYZ") for _ in range(int(rng.integers(3)))]
        refused = pick(rng, *Y4M_REFUSED) if rng.integers(10) == 0 else None
        if refused:
            words = [word for word in words if word[0] != refused[0] or word[0] == "X"]
            words = [word for word in words if not refused.startswith("XYSCSS") or word[0] != "C"]
            words = [word for word in words if word[:6] != refused[:6]] + [refused]
        words = list(dict.fromkeys(str(word) for word in rng.permutation(words)))
        pictures = [random_planes(rng, width, height, bit_depth, chroma_format) for _ in range(n_pictures)]
        lines = [pick(rng, b"FRAME\n", b"FRAME\n", b"FRAME Xtime=3\n", b"FRAME I1pp\n") for _ in pictures]
        path = tmp_path / "x.y4m"
        body = b"".join(line + raw([planes]) for line, planes in zip(lines, pictures, strict=True))
        path.write_bytes(f"YUV4MPEG2 {' '.join(words)}\n".encode() + body)
        if refused:
            with pytest.raises(UnsupportedError, match=r"x\.y4m"):
                open_source(path)
            continue
        source = open_source(path)
        stated = source.format
        assert (stated.width, stated.height, stated.bit_depth, stated.chroma_format) == (
            *(width, height, bit_depth, chroma_format),
        )
        assert (stated.colour_range, stated.chroma_location) == (colour_range, location)
        assert stated.pixel_aspect == (Fraction(*aspect) if aspect and all(aspect) else None)
        assert (stated.fps, source.n_pictures) == (fps or 30, n_pictures)
        assert samples(source) == raw(pictures)
        with open_writer(tmp_path / "again.y4m", stated) as writer:
            for frame in source.frames():
                writer.write(frame)
        again = open_source(tmp_path / "again.y4m")
        assert again.format == stated
        assert samples(again) == raw(pictures)
        if case % 40 == 0 and tag not in ("mono14", "mono16"):
            assert ffmpeg("-i", path, "-f", "rawvideo", "-fps_mode", "passthrough", "-") == raw(pictures)


# .yuv names

FREE_WORDS = ("Foreman", "seq1", "v2", "rev3", "HLG", "pq", "709", "crf20", "QP37", "take7", "SDR", "bt2020", "x264")
OTHER_LAYOUTS = ("nv12", "nv21", "yv12", "p010le", "uyvy422", "v210", "rgb24", "gbrp", "10be", "yuva420p", "yuv411p")


def name_of(rng, width, height, bit_depth, chroma_format, fps) -> str:
    """A name that states the format in one of the usual ways."""
    rate = {Fraction(30000, 1001): "29.97", Fraction(60000, 1001): "59.94"}.get(fps, str(fps))
    size = f"{width}{pick(rng, 'x', 'X')}{height}"
    grey = chroma_format == "400"
    behind = pick(
        rng, f"_{rate}fps", f"_{rate}", f"-{rate}Hz", f"p{rate}", f"_{rate}p", f"p_{rate}", f"_{rate}_fps"[:-4]
    )
    depth_words = (f"{bit_depth}bit", f"{bit_depth}b", f"{bit_depth}bits", f"{bit_depth}bpc")
    if bit_depth > 8:
        depth_words += (f"{bit_depth}le",)
    joint = [f"yuv{chroma_format}p{'' if bit_depth == 8 else f'{bit_depth}le'}", f"{bit_depth}b{chroma_format}"]
    joint += [f"{chroma_format}p{bit_depth}", f"YUV{chroma_format}P{bit_depth}", f"{bit_depth}bit{chroma_format}"]
    if grey:
        joint = [f"gray{'' if bit_depth == 8 else f'{bit_depth}le'}", f"{bit_depth}b400"]
    chroma_words = (chroma_format, *(() if grey else (f"yuv{chroma_format}", f"P{chroma_format}", f"i{chroma_format}")))
    words = [pick(rng, *depth_words), pick(rng, *chroma_words)] if rng.integers(2) else [pick(rng, *joint)]
    if bit_depth == 8 and chroma_format == "420" and rng.integers(3) == 0:
        words = []  # what is not said is 8 bit 4:2:0
    free = [pick(rng, *FREE_WORDS) for _ in range(int(rng.integers(3)))]
    tail = [str(word) for word in rng.permutation(words + free)] if words + free else []
    strong = [word for word in words if not word.isdecimal()]
    front = strong.pop() if strong and rng.integers(4) == 0 else ""
    if front:
        tail.remove(front)
    separator = pick(rng, "_", "-", ".", "__")
    return separator.join(filter(None, [pick(rng, *FREE_WORDS), front, size + behind, *tail])) + pick(
        rng, ".yuv", ".YUV"
    )


@many
def test_names_of_raw_files(tmp_path, times):
    for case, rng in enumerate(cases(2, 800 * times)):
        width, height = int(rng.integers(16, 40)), int(rng.integers(16, 40))
        bit_depth, chroma_format = pick(rng, 8, 8, 9, 10, 12, 16), pick(rng, "400", "420", "420", "422", "444")
        fps = pick(
            rng, Fraction(24), Fraction(25), Fraction(50), Fraction(60), Fraction(30000, 1001), Fraction(60000, 1001)
        )
        name = name_of(rng, width, height, bit_depth, chroma_format, fps)
        pictures = [random_planes(rng, width, height, bit_depth, chroma_format) for _ in range(int(rng.integers(1, 4)))]
        folder = tmp_path / str(case)
        folder.mkdir()
        fault = int(rng.integers(12))
        if fault == 0:
            stem, _, suffix = name.rpartition(".")
            name = f"{stem}_{pick(rng, *OTHER_LAYOUTS)}.{suffix}"
        elif fault == 1:
            name = f"{width + 8}x{height}_{name}"
        path = folder / name
        path.write_bytes(raw(pictures))
        print(name)
        if fault == 0:
            with pytest.raises(UnsupportedError, match="its name says"):
                open_source(path)
        elif fault == 1:
            with pytest.raises(InputError, match=r"2 picture sizes .* give width and height"):
                open_source(path)
            assert samples(open_source(path, width=width, height=height)) == raw(pictures)
        else:
            source = open_source(path)
            stated = source.format
            assert (stated.width, stated.height, stated.fps) == (width, height, fps)
            assert (stated.bit_depth, stated.chroma_format) == (bit_depth, chroma_format)
            assert samples(source) == raw(pictures)


# Images

TURNS = {
    **{1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)},
    **{6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90},
}
IMAGE_MODES = ("RGB", "L", "RGBA", "LA", "P", "1")


def deep_png(samples_16: np.ndarray) -> bytes:
    """A PNG of 16 bits per sample, grey or RGB, put together by hand."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = samples_16.shape[:2]
    colour = 2 if samples_16.ndim == 3 else 0
    rows = samples_16.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def saved(rng, image: Image.Image, suffix: str, orientation: int | None) -> bytes:
    """The file of an image, by one of the ways in which its format can be written."""
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    options: dict[str, object] = {"exif": exif} if orientation else {}
    kind = {"jpg": "JPEG", "tif": "TIFF", "bmp": "BMP", "ppm": "PPM"}.get(suffix, suffix.upper())
    if suffix == "tif":
        lossless = ("raw", "tiff_lzw", "tiff_deflate", "packbits")
        options = {"compression": pick(rng, *lossless), "tiffinfo": {274: orientation} if orientation else {}}
    if suffix == "webp":
        options |= {"lossless": True, "exact": True}
    if suffix == "jpg":
        options |= {"quality": int(rng.integers(30, 101)), "progressive": bool(rng.integers(2))}
        options |= {"subsampling": int(rng.integers(3))}
    if suffix == "png":
        options |= {"compress_level": int(rng.integers(10)), "icc_profile": pick(rng, None, b"\0" * 128)}
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@many
def test_images(tmp_path, times):
    for rng in cases(3, 600 * times):
        suffix = pick(rng, "png", "jpg", "webp", "tif", "bmp", "ppm")
        width, height = int(rng.integers(1, 40)), int(rng.integers(1, 40))
        path = tmp_path / f"x.{suffix}"
        rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
        trouble = int(rng.integers(12))
        if trouble == 0:
            path = path.with_suffix(".png")
            path.write_bytes(deep_png(rng.integers(0, 65536, (height, width, 3)[: pick(rng, 2, 3)])))
        elif trouble == 1:
            path = path.with_suffix(pick(rng, ".png", ".webp", ".tif"))
            image = Image.fromarray(rgb, "RGB") if rng.integers(2) else Image.fromarray(rgb[..., 0])
            second = Image.fromarray(255 - np.array(image))
            image.save(path, save_all=True, append_images=[second])
        elif trouble == 2:
            path = path.with_suffix(pick(rng, ".png", ".webp", ".tif"))
            alpha = rng.integers(0, 255, (height, width, 1), np.uint8)
            Image.fromarray(np.concatenate([rgb, alpha], 2)).save(
                path, **({"lossless": True} if path.suffix == ".webp" else {})
            )
        elif trouble == 3:
            path = path.with_suffix(pick(rng, ".jpg", ".tif"))
            Image.fromarray(rgb).convert("CMYK").save(path)
        if trouble <= 3:
            for read in (read_image, read_image_size)[: 1 if trouble == 2 else 2]:
                with pytest.raises(UnsupportedError, match=r"x\."):
                    read(path)
            continue
        mode = pick(rng, *IMAGE_MODES)
        mode = {"jpg": "L" if mode in ("L", "LA") else "RGB", "ppm": "RGB", "bmp": "P"}.get(suffix, mode)
        mode = "RGB" if suffix == "webp" and mode in ("P", "LA", "1", "L") else mode
        image = Image.fromarray(rgb).convert(mode)
        turned = suffix not in ("bmp", "ppm") and not (suffix == "tif" and mode == "LA")
        orientation = pick(rng, None, *range(1, 9)) if turned else None
        path.write_bytes(saved(rng, image, suffix, orientation))
        stored = np.array((Image.open(path) if suffix == "jpg" else image).convert("RGB"))
        expected = TURNS[orientation or 1](stored)
        assert np.array_equal(read_image(path), expected)
        assert read_image_size(path) == expected.shape[1::-1]
        source = open_source(path, chroma_format=pick(rng, "420", "444"), bit_depth=pick(rng, 8, 10))
        (frame,) = source.frames()
        assert source.format.holding(frame) == source.format
        other = rgb_to_frame(np.ascontiguousarray(expected), source.format.chroma_format, source.format.bit_depth)
        assert frame.tobytes() == other.tobytes()


# Videos

CODECS = (
    *(("libx264", "yuv420p", ".mp4"), ("libx264", "yuv422p10le", ".mkv"), ("libx264", "yuv444p", ".mov")),
    *(("libx264", "yuvj420p", ".mp4"), ("libx264", "gray", ".mkv"), ("libx264", "yuv420p", ".ts")),
    *(("libx264", "yuv420p", ".264"), ("mpeg4", "yuv420p", ".avi"), ("mpeg2video", "yuv420p", ".mpg")),
    *(("mpeg2video", "yuv422p", ".ts"), ("mjpeg", "yuvj422p", ".mov"), ("mjpeg", "yuvj444p", ".avi")),
    *(("libvpx", "yuv420p", ".webm"), ("libvpx-vp9", "yuv420p", ".webm"), ("libvpx-vp9", "yuv444p12le", ".mkv")),
    *(("ffv1", "yuv420p16le", ".mkv"), ("ffv1", "gray12le", ".mkv"), ("ffv1", "yuv422p9le", ".avi")),
    *(("prores_ks", "yuv422p10le", ".mov"), ("ffvhuff", "yuv420p", ".avi"), ("utvideo", "yuv444p", ".avi")),
    *(("rawvideo", "yuyv422", ".mov"), ("v210", "yuv422p10le", ".mov"), ("libx265", "yuv420p10le", ".mp4")),
    *(("libsvtav1", "yuv420p10le", ".mp4"), ("libtheora", "yuv444p", ".mkv"), ("libx264", "yuv420p10le", ".m4v")),
)


def coded_video(rng, ffmpeg, folder: Path) -> tuple[Path, int | None, str]:
    """A video with a random layout of tracks; the index of the one to read if there are several, and its format."""
    codec, pixel_format, suffix = pick(rng, *CODECS)
    width, height = 2 * int(rng.integers(16, 40)), 2 * int(rng.integers(16, 40))
    rate = pick(rng, "25", "30000/1001", "50")
    if codec.startswith("mpeg2"):
        rate = "25"
    if codec in ("libsvtav1", "libx265"):  # they fail on smaller ones
        width, height = max(width, 64), max(height, 64)
    path, plain = folder / f"x{suffix}", folder / f"plain{suffix}"
    quiet = {"libx265": ("-x265-params", "log-level=none"), "libsvtav1": ("-preset", "12")}.get(codec, ())
    coding = ("-c:v", codec, "-pix_fmt", pixel_format, *quiet, "-strict", "-1")
    n_pictures = int(rng.integers(1, 7))
    picture = ("-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={rate}")
    aspect = pick(rng, "1", "4/3", "40/33")
    ffmpeg(*picture, "-frames:v", n_pictures, "-vf", f"setsar={aspect}", *coding, plain)
    index = None
    layouts = ["plain"]
    if suffix in (".mp4", ".mov", ".mkv", ".m4v"):
        layouts += ["turned", "sound first", "cover", "two videos", "subtitles"]
    if suffix in (".mp4", ".mov") and codec.startswith("libx26"):
        layouts += ["cut"]
    layout = pick(rng, *layouts)
    sound = ("-f", "lavfi", "-i", "sine=duration=0.2")
    copy = ("-c:v", "copy", "-c:a", "aac")
    if layout == "turned":
        turns = ((90,), (180,), (-90,), (0, "-display_hflip")) if "422" not in pixel_format else ((180,),)
        ffmpeg("-display_rotation", *pick(rng, *turns), "-i", plain, "-c", "copy", path)
    elif layout == "sound first":
        ffmpeg(*sound, "-i", plain, "-map", 0, "-map", 1, *copy, path)
    elif layout == "cover":
        Image.new("RGB", (16, 16), (9, 200, 9)).save(folder / "cover.jpg")
        if suffix == ".mkv":
            ffmpeg(
                "-i", plain, "-attach", folder / "cover.jpg", "-metadata:s:t", "mimetype=image/jpeg", "-c", "copy", path
            )
        else:
            cover = ("-map", 1, "-map", 0, "-disposition:v:0", "attached_pic", "-disposition:v:1", "default")
            ffmpeg("-i", plain, "-i", folder / "cover.jpg", *cover, "-c", "copy", path)
    elif layout == "two videos":
        index = int(rng.integers(2))
        maps = ("-map", 1, "-map", 0) if index else ("-map", 0, "-map", 1)
        ffmpeg(
            "-i", plain, *picture, *maps, "-c:v", "copy", f"-c:v:{1 - index}", "mpeg4", "-frames:v", n_pictures, path
        )
    elif layout == "subtitles":
        (folder / "x.srt").write_text("1\n00:00:00,000 --> 00:00:00,100\nhello\n")
        codec_of_text = "srt" if suffix == ".mkv" else "mov_text"
        maps = ("-map", 0, "-map", 1, "-c:v", "copy", "-c:s", codec_of_text)
        ffmpeg("-i", folder / "x.srt", "-i", plain, *maps, path)
    elif layout == "cut":
        ffmpeg("-ss", 0.05, "-i", plain, "-c", "copy", path)
    else:
        plain.rename(path)
    print(codec, pixel_format, suffix, layout)
    if codec == "libx264" and pixel_format == "gray":  # FFmpeg's decoder gives flat chroma
        pixel_format = "yuv420p"
    return path, index, {"yuyv422": "yuv422p"}.get(pixel_format, pixel_format)


@many
def test_videos(tmp_path, ffmpeg, times):
    for case, rng in enumerate(cases(4, 100 * times)):
        folder = tmp_path / str(case)
        folder.mkdir()
        path, index, pixel_format = coded_video(rng, ffmpeg, folder)
        chosen = ("-map", "0:v:0" if index is None else f"0:{index}")
        if path.suffix in (".mp4", ".mov", ".m4v") and index is None:
            chosen = ("-map", "0:V:0")  # V: without cover pictures
        if index is not None:
            with pytest.raises(InputError, match=r"holds 2 videos .* give stream"):
                open_source(path)
        raw_video = ("-fps_mode", "passthrough", "-pix_fmt", pixel_format, "-f", "rawvideo", "-")
        theirs = ffmpeg("-i", path, *chosen, *raw_video)
        if not theirs:  # the edit list has cut everything off
            with pytest.raises(BitstreamError, match="no picture"):
                open_source(path)
            continue
        source = open_source(path, stream=index)
        got = samples(source)
        assert len(got) == len(theirs)
        assert got == theirs
        assert len(got) % source.format.picture_bytes == 0
