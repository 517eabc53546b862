from __future__ import annotations

import contextlib
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.layout import RUNS, Layout, parse_layout
from vvc_nnr.filters.networks.planes import (
    corrected,
    corrections,
    filtered_values,
    grids_of,
    network_input,
    network_target,
)
from vvc_nnr.sequences.frame import Frame

RANGES = ("unit", "unit10", "signed", "code", "code8")


@pytest.mark.parametrize(
    "layout",
    [
        Layout("y"),
        Layout("rgb", range="signed", qp="scalar", qp_offset=32, qp_scale=10.5, output="noise"),
        Layout("yuv420-packed", qp="plane", qp_value=1.0, patch=(72, 72), overlap=4),
        Layout("each", align=8, reach=13, keep=("cb", "cr"), output="residual"),
        Layout("yuv444", reach=math.inf, patch=(96, 64), align=32),
    ],
)
def test_a_text_gives_the_layout_again(layout):
    assert parse_layout(layout.text) == layout
    assert parse_layout(f" {layout.text.replace(',', ' , ')}") == layout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be NAME=VALUE"),
        ("y", "must be NAME=VALUE"),
        ("range=unit", "has no planes; say planes="),
        ("planes=yuv", "planes 'yuv': must be y, each, yuv444"),
        ("planes=y,planes=rgb", "planes is there twice"),
        ("planes=y,range=bits", "range 'bits': must be unit"),
        ("planes=y,qp=on", "qp 'on': must be none, plane, scalar"),
        ("planes=y,output=sum", "output 'sum': must be picture, residual, noise"),
        ("planes=y,strength=3", "'strength=3': must be NAME=VALUE, with planes"),
        ("planes=y,qp-scale=63", "there is no QP input; say qp=plane"),
        ("planes=y,qp=plane,qp-scale=0", "must be finite, not 0"),
        ("planes=y,qp=plane,qp-scale=nan", "must be a number"),
        ("planes=y,align=0", "align 0: must be a whole number of at least 1"),
        ("planes=y,align=1.5", "align 1.5: must be a whole number"),
        ("planes=y,reach=-1", "reach -1: must be a whole number of at least 0"),
        ("planes=y,patch=8,overlap=4", "patch 8 with overlap 4: nothing is left"),
        ("planes=y,patch=a", "must be a side such as 72, or WIDTHxHEIGHT"),
        ("planes=y,patch=66,align=4", "patch 66: must be a multiple of align 4"),
        ("planes=y,overlap=3,align=4", "twice that must be a multiple of align 4"),
        ("planes=y,keep=u", "keep u: must be one or two of y, cb and cr"),
        ("planes=y,keep=y+cb+cr", "must be one or two of"),
        ("planes=y" + "," * 2000, "a text of 2008 characters"),
    ],
)
def test_what_is_no_layout(text, message):
    with pytest.raises(InputError, match="layout") as caught:
        parse_layout(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_layout_or_refused(text):
    with contextlib.suppress(InputError):
        assert parse_layout(parse_layout(text).text)


def test_every_field_is_in_the_text():
    assert {each.name for each in fields(Layout)} >= {"planes", "range", "qp", "output", "align", "reach", "keep"}


@pytest.mark.parametrize("planes", RUNS)
@pytest.mark.parametrize("range", RANGES)
@pytest.mark.parametrize(("bit_depth", "chroma_format"), [(8, "420"), (10, "420"), (10, "400"), (10, "444")])
@pytest.mark.parametrize(("width", "height"), [(18, 12), (17, 11)])
def test_a_network_that_changes_nothing_changes_nothing(
    random_frame, planes, range, bit_depth, chroma_format, width, height
):
    if planes == "yuv420-packed" and chroma_format == "444":
        pytest.skip("no such picture")
    frame = random_frame(width, height, bit_depth, chroma_format)
    layout = Layout(planes, range=range, qp="plane", qp_scale=63)
    grids = grids_of(frame, layout)
    outputs = []
    for grid in grids:
        values = grid.read((0, 0, grid.height, grid.width))
        given = network_input(layout, values, 21)
        assert given.shape == (layout.n_inputs, grid.height, grid.width)
        assert given.dtype == np.float32
        assert (given[-1] == np.float32(21 / 63)).all()
        outputs.append(filtered_values(layout, values, given[:-1]))
    same = corrected(frame, corrections(frame, layout, grids, outputs))
    assert same.format(30) == frame.format(30)
    for a, b in zip(same.planes, frame.planes, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("output", ["picture", "residual", "noise"])
@pytest.mark.parametrize("range", RANGES)
def test_the_target_is_what_a_perfect_network_returns(output, range):
    layout = Layout("y", range=range, output=output)
    rng = np.random.default_rng(0)
    original, decoded = rng.random((2, 1, 6, 5)).astype(np.float32)
    target = network_target(layout, original, decoded)
    assert np.abs(filtered_values(layout, decoded, target) - original).max() < 1e-6


@pytest.mark.parametrize(
    ("range", "expected"), [("unit", 1.0), ("signed", 1.0), ("code", 1023.0), ("code8", 255.75), ("unit10", 1.0)]
)
def test_the_largest_sample_in_each_range(random_frame, range, expected):
    frame = random_frame(8, 8)
    frame.planes[0][:] = 1023
    layout = Layout("y", range=range)
    (grid,) = grids_of(frame, layout)
    assert network_input(layout, grid.read((0, 0, 1, 1)), 0)[0, 0, 0] == expected
    assert layout.peak(10) == (2.0 if range == "signed" else expected)


def test_kept_components_stay(random_frame):
    frame = random_frame(16, 8)
    layout = Layout("yuv444", keep=("cb", "y"))
    grids = grids_of(frame, layout)
    outputs = [grid.read((0, 0, 8, 16)) + 0.25 for grid in grids]
    y, cb, cr = corrections(frame, layout, grids, outputs)
    assert not y.any()
    assert not cb.any()
    assert np.abs(cr - 0.25 * 1023).max() < 0.01
    assert corrections(frame, replace(layout, keep=()), grids, outputs)[0].any()


def test_rgb_is_what_the_package_makes_of_a_picture(photographs):
    from vvc_nnr.sequences.images import frame_to_rgb

    (frame,) = photographs(1, 32, 24)
    (grid,) = grids_of(frame, Layout("rgb"))
    rgb = np.rint(grid.read((0, 0, 24, 32)).clip(0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(rgb.transpose(1, 2, 0), frame_to_rgb(frame))


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_rgb_of_full_range_is_made_and_taken_back_as_h273_has_it(bit_depth):
    """Y = peak E'Y, Cb = peak E'PB + half, Cr = peak E'PR + half: by hand, of red, white and a grey."""
    from vvc_nnr.sequences.images import frame_to_rgb

    peak, half = (1 << bit_depth) - 1, 1 << (bit_depth - 1)
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    red = (0.2126 * peak, half - 0.2126 / 1.8556 * peak, half + 0.5 * peak - 0.5)
    samples = np.array([red, (peak, half, half), (0.25 * peak, half, half)]).round().astype(dtype)
    frame = Frame(tuple(samples.T[:, None, :].copy()), bit_depth, "444")
    (grid,) = grids_of(frame, Layout("rgb"), "full")
    rgb = grid.read((0, 0, 1, 3))[:, 0].T
    assert np.abs(rgb - [(1, 0, 0), (1, 1, 1), (0.25, 0.25, 0.25)]).max() < 1.2 / (1 << (bit_depth - 1))
    assert np.abs(frame_to_rgb(frame, "full")[0].astype(int) - [(255, 0, 0), (255,) * 3, (64,) * 3]).max() <= 2
    added = np.full((3, 1, 3), 0.1, np.float32)
    y, cb, cr = corrections(frame, Layout("rgb"), [grid], [grid.read((0, 0, 1, 3)) + added], "full")
    assert np.abs(y - 0.1 * peak).max() < 1e-2
    assert max(np.abs(cb).max(), np.abs(cr).max()) < 1e-2
    assert grids_of(frame, Layout("rgb"))[0].read((0, 0, 1, 3)).max() > 1.05  # limited, where no range is said
