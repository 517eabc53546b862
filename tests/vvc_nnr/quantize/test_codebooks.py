"""What codebooks take, before and after they are made."""

from __future__ import annotations

import numpy as np
import pytest

from vvc_nnr.bitstream.bits import BitWriter
from vvc_nnr.bitstream.data_unit import Codebook
from vvc_nnr.bitstream.data_unit_syntax import write_codebook
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.quantize.codebooks import codebook_bits, exact_codebook, least_codebook_bits
from vvc_nnr.quantize.step_choice import on_finest_grid


def written_bits(codebook: Codebook) -> int:
    writer = BitWriter()
    write_codebook(writer, codebook)
    return writer.position_bits


@pytest.mark.parametrize("egk", [0, 3, 9, 15])
def test_bits_are_those_that_are_written_whatever_the_order_of_gaps(egk: int) -> None:
    random = np.random.default_rng(egk)
    for spread in (2, 40, 3000):
        values = tuple(int(each) for each in np.unique(random.integers(-spread, spread, 60)))
        codebook = Codebook(egk, len(values) // 2, values)
        assert codebook_bits(codebook) == written_bits(codebook)


@pytest.mark.parametrize("n_different", [2, 5, 40, 200])
@pytest.mark.parametrize("decimals", [3, 5, None])
def test_no_codebook_takes_less_than_is_told(n_different: int, decimals: int | None) -> None:
    random = np.random.default_rng(n_different)
    members = random.standard_normal(n_different) * 10.0 ** random.integers(-3, 3)
    values = random.choice(members if decimals is None else members.round(decimals), (20, 30)).astype(np.float32)
    near, _ = on_finest_grid(values, 2)
    found = exact_codebook(near + np.float32(0), 2, 4096)
    assert found is not None
    qp, codebook, _ = found
    least = least_codebook_bits(near, step_size(qp, 2))
    assert 0 < least <= codebook_bits(codebook)
    gaps = np.diff(codebook.values) - 1
    assert least == pytest.approx(np.log2(gaps + 1).sum())
