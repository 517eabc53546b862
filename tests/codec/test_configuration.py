"""Random access and low delay: which pictures are intra, chunks that decode alone, what each picture was coded with."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from stand_ins import calls_of, frames

from vvc_nnr.codec import configuration
from vvc_nnr.codec.configuration import ALL_INTRA, CONFIGURATIONS, LOW_DELAY_B, RANDOM_ACCESS
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder, vtm_arguments, vvencapp_arguments
from vvc_nnr.codec.programs import parse_encoder_log
from vvc_nnr.codec.sequence import EncoderJob, VvcOptions, coded_pictures
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import ExternalToolError, InputError
from vvc_nnr.sequences.frame import Frame

RA, LDB = (VvcOptions(37, n_threads=1, config=config) for config in ("ra", "ldb"))


def moving(n_pictures: int, width: int = 64, height: int = 48, step: int = 1) -> list[Frame]:
    """A window that moves over a smooth picture with noise."""
    rng = np.random.default_rng(5)
    wide = np.add.outer(np.arange(height), np.arange(width + step * n_pictures)) % 128 + 64
    wide = (wide + rng.integers(0, 24, wide.shape)).astype(np.uint8)
    grey = np.full((height // 2, width // 2), 128, np.uint8)
    return [Frame((wide[:, i * step : i * step + width], grey, grey), 8, "420") for i in range(n_pictures)]


@pytest.mark.parametrize(
    ("fps", "period"),
    [("24", 32), ("25", 32), ("30000/1001", 32), ("47", 32), ("50", 64), ("60000/1001", 64), ("60", 64), ("120", 128),
     ("1", 32)],
)  # fmt: skip
def test_intra_periods_are_the_multiples_of_the_group_nearest_to_a_second(fps, period):
    assert RANDOM_ACCESS.intra_period(Fraction(fps)) == period
    assert RANDOM_ACCESS.chunk_pictures(Fraction(fps), 4) == configuration.PERIODS_OF_A_CHUNK * period
    assert (ALL_INTRA.intra_period(Fraction(fps)), LOW_DELAY_B.intra_period(Fraction(fps))) == (1, None)
    assert (ALL_INTRA.chunk_pictures(Fraction(fps), 4), LOW_DELAY_B.chunk_pictures(Fraction(fps), 4)) == (4, None)


def ahead_by(gop_size: int, n_pictures: int) -> list[int]:
    """Number in the order of coding of each picture: the last of each group first, as far as there are pictures."""
    coded = [0]
    for first in range(1, n_pictures, gop_size):
        group = range(first, min(first + gop_size, n_pictures))
        coded += [group[-1], *group[:-1]]
    return [coded.index(place) for place in range(n_pictures)]


@pytest.mark.parametrize(
    ("name", "types", "order", "fault"),
    [
        ("ai", "IIB", range(3), "it coded inter pictures"),
        ("ai", "III", range(3), None),
        ("ra", "I" + "B" * 32, [0, *range(2, 33), 1], "no intra picture every 32 pictures"),
        ("ra", "I" + "B" * 31 + "I", [0, *range(2, 33), 1], None),
        ("ra", "I" + "B" * 31 + "I", ahead_by(16, 33), "it coded groups of 16 pictures, must be 32"),
        ("ra", "I" + "B" * 31 + "I", ahead_by(32, 33), None),
        ("ra", "I" + "B" * 31 + "IB", ahead_by(32, 34), None),
        ("ra", "I" + "B" * 31, ahead_by(16, 32), None),
        ("ra", "I" + ("B" * 31 + "I") * 2, ahead_by(64, 65), "it coded groups of 64 pictures, must be 32"),
        ("ra", "I" + "B" * 31 + "IB", [*range(1, 32), 0, 32, 33], None),  # led by an IDR picture, as vvencapp begins
        ("ra", "I" * 33, range(33), "it coded intra pictures only"),
        ("ra", "I" + "B" * 31 + "I", range(33), "it coded pictures in their order"),
        ("ra", "IBB", [0, 2, 1], None),
        ("ra", "IBB", range(3), "it coded pictures in their order"),
        ("ra", "I" + "B" * 9, range(10), "it coded pictures in their order"),
        ("ra", "IPB", [0, 2, 1], "it coded P pictures"),
        ("ra", "IB", range(2), None),
        ("ra", "IP", range(2), "it coded P pictures"),
        ("ra", "II", range(2), "it coded intra pictures only"),
        ("ra", "I", range(1), None),
        ("ldb", "BB", range(2), "its first is no intra picture"),
        ("ldb", "I", range(1), None),
        ("ldb", "IB", range(2), None),
        ("ldb", "IPP", range(3), "it coded P pictures"),
        ("ldb", "I" + "B" * 8 + "P", range(10), "it coded P pictures"),
        ("ldb", "III", range(3), "it coded intra pictures only"),
        ("ldb", "IBB", [0, 2, 1], "it coded pictures out of their order"),
        ("ldb", "I" + "B" * 8, range(9), None),
        ("ldb", "I" + "B" * 8, [0, 2, 1, *range(3, 9)], "it coded pictures out of their order"),
    ],
)
def test_another_configuration_is_noticed(name, types, order, fault):
    assert CONFIGURATIONS[name].fault(types, order, Fraction(30)) == fault


def test_an_unknown_configuration():
    with pytest.raises(InputError, match="configuration 'rb': must be one of ai, ra, ldb"):
        VvcOptions(32, config="rb")


@pytest.mark.parametrize("options", [RA, LDB])
def test_each_picture_has_its_own_qp_type_and_layer(options):
    source = moving(35, step=4)
    coded = VvcEncoder(replace(options, qp=22)).encode(source, Fraction(30))
    known = read_vvc_stream(coded.stream)
    is_ra = options.config == "ra"
    types = "".join(picture.slice_type for picture in coded.pictures)
    assert types == ("I" + "B" * 31 + "I" + "B" * 2 if is_ra else "I" + "B" * 34)
    assert [picture.poc for picture in coded.pictures] == list(range(35))
    qps = picture_qps(known)
    assert [picture.qp for picture in coded.pictures] == [qps[index] for index in known.output_order]
    assert len({picture.qp for picture in coded.pictures}) > 2
    assert {picture.temporal_layer for picture in coded.pictures} == ({0, 1, 2, 3, 4, 5} if is_ra else {0})
    assert (known.output_order != tuple(range(35))) == is_ra
    decoded = list(decode_vvc(coded.stream))
    errors = [[np.abs(d.planes[0] - 4.0 * s.planes[0]).mean() for s in source] for d in decoded]
    assert np.argmin(errors, axis=1).tolist() == list(range(35))


def test_chunks_of_whole_periods_are_coded_alone_and_kept(monkeypatch, tmp_path):
    """A run that was cut off codes what is missing, and the stream is the same."""
    monkeypatch.setattr(configuration, "PERIODS_OF_A_CHUNK", 1)
    source = moving(34, 32, 32)
    first = VvcEncoder(RA, tmp_path).encode(source[:32], Fraction(25))
    whole = VvcEncoder(RA, tmp_path).encode(iter(source), Fraction(25))
    assert len(list(tmp_path.glob("*/*.266"))) == 2
    last = VvcEncoder(RA).encode(source[32:], Fraction(25))
    assert whole.stream == first.stream + last.stream
    assert VvcEncoder(RA, tmp_path).encode(source, Fraction(25)).cached
    known = read_vvc_stream(whole.stream)
    assert [known.pictures[index].sequence for index in known.output_order] == [0] * 32 + [1] * 2
    assert [picture.poc for picture in whole.pictures] == list(range(34))
    parts = [frame.tobytes() for each in (first, last) for frame in decode_vvc(each.stream)]
    assert [frame.tobytes() for frame in decode_vvc(whole.stream)] == parts


@pytest.mark.parametrize("config", ["ai", "ra"])
def test_threads_change_no_bit(config):
    """From eight threads on vvenc codes otherwise, if it is not told to leave that."""
    source = moving(2 if config == "ai" else 12, 160, 96)
    streams = {VvcEncoder(VvcOptions(32, n_threads=n, config=config)).encode(source).stream for n in (1, 8)}
    assert len(streams) == 1


def test_no_picture_is_lost_without_in_loop_filters():
    """Where it codes several intra pictures at once, libvvenc loses them in every third run."""
    source = moving(4, 160, 96)
    for qp in range(30, 38):
        coded = VvcEncoder(VvcOptions(qp, loop_filters="none", n_threads=1)).encode(source)
        assert len(coded.pictures) == 4


def test_noise_at_a_low_qp_is_coded_on_a_canvas():
    rng = np.random.default_rng(3)
    shapes = ((32, 48), (16, 24), (16, 24))
    source = [Frame(tuple(rng.integers(0, 1024, s).astype(np.uint16) for s in shapes), 10, "420") for _ in range(3)]
    coded = VvcEncoder(replace(RA, qp=0)).encode(source)
    known = read_vvc_stream(coded.stream)
    assert known.first.coded_height > known.first.format.height == 32
    assert [(frame.width, frame.height) for frame in decode_vvc(known)] == [(48, 32)] * 3


def test_a_log_of_other_pictures_is_refused():
    coded = VvcEncoder(RA).encode(moving(3))
    known = read_vvc_stream(coded.stream)
    lines = [
        f"POC {p.poc} TId: 0 ( TRAIL, B-SLICE, QP {qp} ) 8 bits [Y"
        for p, qp in zip(known.pictures, picture_qps(known), strict=True)
    ]
    logged = parse_encoder_log("\n".join(lines))
    assert len(coded_pictures(known, logged)) == 3
    for other in (logged[:2], [*logged[:2], replace(logged[2], qp=9)], logged[::-1]):
        with pytest.raises(InputError, match=r"picture \(POC, QP\) .* in the stream, .* in the log"):
            coded_pictures(known, other)


def test_command_lines_of_programs():
    job = EncoderJob(Path("in.yuv"), Path("out.266"), 416, 240, Fraction(60000, 1001), 9)
    random_access, low_delay = (vtm_arguments(VvcOptions(22, config=config), job) for config in ("ra", "ldb"))
    assert random_access[random_access.index("-fr") + 1] == "60000:1001"
    assert "--IntraPeriod=64" in random_access
    assert "--IntraPeriod=-1" in low_delay
    assert not [word for word in vtm_arguments(VvcOptions(22), job) if "IntraPeriod" in word]
    random_access, low_delay = (vvencapp_arguments(VvcOptions(22, config=config), job) for config in ("ra", "ldb"))
    assert random_access[random_access.index("--intraperiod") + 1] == "64"
    assert low_delay[low_delay.index("--refreshtype") + 1] == "none"
    assert "PicReordering=0" in low_delay[-1]


PICTURES = """
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.yuv import read_yuv
format = VideoFormat(int(value("-wdt")), int(value("-hgt")), 10, "420", Fraction(value("-fr")))
coded = VvcEncoder(VvcOptions(int(value("-q")), n_threads=1, config={config!r})).encode(
    list(read_yuv(Path(value("-i")), format)), format.fps)
Path(value("-b")).write_bytes(coded.stream)
from vvc_nnr.codec.vvc_stream import read_vvc_stream
known = read_vvc_stream(coded.stream)
for place, index in sorted(enumerate(known.output_order), key=lambda pair: pair[1]):
    p, poc = coded.pictures[place], known.pictures[index].poc
    print(f"POC {{poc}} TId: 0 ( TRAIL, {{p.slice_type}}-SLICE, QP {{p.qp}} ) {{p.n_bits}} bits [Y")
"""


def test_a_program_that_codes_in_another_configuration_is_refused(programs, config):
    source = frames(33, 16, 16)
    programs("EncoderApp", PICTURES, config="ldb")
    with pytest.raises(ExternalToolError, match="no intra picture every 32 pictures: give it a"):
        VvcEncoder(RA, encoder="vtm", config=config).encode(source)
    calls = programs("EncoderApp", PICTURES, config="ra")
    coded = VvcEncoder(RA, encoder="vtm", config=config).encode(source)
    assert len(calls_of(calls)) == 2
    assert coded.pictures == VvcEncoder(RA).encode(source).pictures
    with pytest.raises(ExternalToolError, match=r"it coded pictures out of their order: give it .* low delay B"):
        VvcEncoder(LDB, encoder="vtm", config=config).encode(source)


@pytest.mark.parametrize(
    ("asked", "coded", "slice_type", "fault"),
    [
        ("ra", "ldb", "B", "it coded pictures in their order"),
        ("ldb", "ra", "B", "it coded pictures out of their order"),
        ("ldb", "ldb", "P", "it coded P pictures"),
    ],
)
def test_three_pictures_tell_the_configuration(programs, config, asked, coded, slice_type, fault):
    body = PICTURES.replace("{{p.slice_type}}-SLICE", f"{{{{p.slice_type.replace('B', '{slice_type}')}}}}-SLICE")
    programs("EncoderApp", body, config=coded)
    with pytest.raises(ExternalToolError, match=f"{fault}: give it a configuration for {CONFIGURATIONS[asked].title}"):
        VvcEncoder(VvcOptions(37, n_threads=1, config=asked), encoder="vtm", config=config).encode(frames(3, 16, 16))


def test_the_configuration_file_that_vtm_lacks_is_named(programs):
    programs("EncoderApp", "")
    with pytest.raises(InputError, match=r"name its cfg/encoder_randomaccess_vtm\.cfg"):
        VvcEncoder(RA, encoder="vtm")
