"""QPs that networks are told of the pictures of a stream."""

from __future__ import annotations

import pytest
from test_slice_qp import RANDOM_ACCESS, coded_by_libvvenc

from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.filters.in_stream import strength_qps


def test_inter_pictures_are_told_little_more_than_their_access_point(real_pictures, tmp_path):
    stream, _ = coded_by_libvvenc(real_pictures(17, 64, 48), tmp_path, RANDOM_ACCESS)
    known = read_vvc_stream(stream)
    own, expected = picture_qps(known), [0] * 17
    for place, index in enumerate(known.output_order):
        is_point = known.pictures[index].unit.nal_unit_type in (7, 8, 9)
        assert is_point == (own[index] == own[0])
        expected[place] = own[0] if is_point else min(own[index], own[0] + 3)
    assert max(own) > own[0] + 3
    assert strength_qps(known) == expected
    assert len(set(expected)) > 1
    assert strength_qps(known, 30) == [30] * 17


@pytest.mark.parametrize("qp", [22, 37])
def test_intra_pictures_are_told_their_own(real_pictures, qp):
    coded = VvcEncoder(VvcOptions(qp, n_threads=1)).encode(real_pictures(3))
    assert strength_qps(read_vvc_stream(coded.stream)) == [qp] * 3
