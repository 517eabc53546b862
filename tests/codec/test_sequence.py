from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vvc_nnr.codec.sequence import CODED_BIT_DEPTH, VvcOptions, check_encodable, coded_picture, encode
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat


def flat(width, height, bit_depth=8, chroma_format="420", value=7):
    format = VideoFormat(width, height, bit_depth, chroma_format)
    return Frame(tuple(np.full(s, value, format.dtype) for s in format.plane_shapes), bit_depth, chroma_format)


@pytest.mark.parametrize("bit_depth", [8, 9, 10])
@pytest.mark.parametrize("chroma_format", ["400", "420"])
def test_what_the_encoder_takes(bit_depth, chroma_format):
    frame = flat(17, 3, bit_depth, chroma_format)
    check_encodable(frame, frame.format(Fraction(25)))


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (flat(16, 16, chroma_format="422"), "4:2:2"),
        (flat(16, 16, chroma_format="444"), "4:4:4"),
        (flat(16, 16, 12), "12 bit"),
        (flat(16, 16, 16), "16 bit"),
    ],
)
def test_what_it_does_not_take(frame, named):
    with pytest.raises(UnsupportedError, match=named):
        check_encodable(frame, frame.format(30))


@pytest.mark.parametrize("other", [flat(18, 16), flat(16, 18), flat(16, 16, 10), flat(16, 16, chroma_format="400")])
def test_a_picture_of_another_format_than_the_first(other):
    with pytest.raises(InputError, match="pictures differ in format"):
        check_encodable(other, flat(16, 16).format(30))


def test_8_bit_samples_are_shifted_to_10_bit():
    coded = coded_picture(flat(16, 16, value=255))
    assert coded.bit_depth == CODED_BIT_DEPTH
    assert all((p == 1020).all() for p in coded.planes)


def test_10_bit_pictures_of_a_fitting_size_stay_as_they_are():
    frame = flat(18, 16, 10, value=1023)
    assert coded_picture(frame).tobytes() == frame.tobytes()


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_grey_pictures_get_flat_chroma(bit_depth):
    coded = coded_picture(flat(19, 17, bit_depth, "400", value=1))
    assert coded.format(30) == VideoFormat(20, 18, 10, "420")
    assert all((p == 512).all() for p in coded.planes[1:])


@pytest.mark.parametrize(
    ("width", "height", "coded_size"),
    [(1, 1, (16, 16)), (15, 17, (16, 18)), (16, 16, (16, 16)), (33, 5, (34, 16)), (418, 269, (418, 270))],
)
def test_sizes_become_even_and_at_least_16_by_repeating_the_border(width, height, coded_size):
    rng = np.random.default_rng(0)
    format = VideoFormat(width, height, 10)
    frame = Frame(tuple(rng.integers(0, 1024, s).astype(np.uint16) for s in format.plane_shapes), 10, "420")
    coded = coded_picture(frame)
    assert (coded.width, coded.height) == coded_size
    assert coded.cropped(width, height).tobytes() == frame.tobytes()
    assert (coded.planes[0][height - 1 :, :width] == frame.planes[0][-1]).all()
    assert (coded.planes[0][:height, width - 1 :] == frame.planes[0][:, -1:]).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"qp": -1}, "QP -1"),
        ({"qp": 64}, "QP 64"),
        ({"qp": 32.5}, "QP 32.5: must be a whole number, 0 to 63"),
        ({"qp": "32"}, "QP '32': must be a whole number, 0 to 63"),
        ({"preset": "fastest"}, "preset 'fastest'"),
        ({"loop_filters": "some"}, "loop filters 'some'"),
        ({"n_threads": 0}, "0 threads"),
        ({"sao": "off"}, "SAO 'off'"),
    ],
)
def test_options_out_of_range(change, named):
    with pytest.raises(InputError, match=named):
        VvcOptions(**{"qp": 32, **change})


@pytest.mark.parametrize(
    ("fps", "stated", "expected"),
    [
        (None, VideoFormat(16, 16, fps=Fraction(50)), 50),
        (Fraction(25), VideoFormat(16, 16, fps=Fraction(50)), 25),
        (None, None, 30),
    ],
)
def test_the_rate_is_that_of_the_source(fps, stated, expected):
    class Recorder:
        max_pictures, fails_silently = None, False

        def run(self, options, job):
            raise InputError(f"at {job.fps}")

    with pytest.raises(InputError, match=f"^at {expected}$"):
        encode(Recorder(), VvcOptions(32), [flat(16, 16)], fps, stated=stated)
