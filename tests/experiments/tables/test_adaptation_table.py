"""What adapting a filter gave, as a table and as BD-rates."""

from __future__ import annotations

import math

import pytest

from vvc_nnr.experiments.tables.adaptation_table import adaptation_bd_rates
from vvc_nnr.filters.adaptation.stream import AdaptedStream, MadeUpdate, MeasuredPictures
from vvc_nnr.filters.adaptation.tuning import TunedUpdate


def stream(n_bytes: int, psnr_db: float) -> AdaptedStream:
    """A stream whose filter gives 0.1 dB of luma, with its update 0.2, each for a hundredth of its bytes."""
    decoded, base, adapted = (MeasuredPictures((psnr_db + gain_db, 40, 40), b"") for gain_db in (0, 0.1, 0.2))
    added = {"nothing": 0, "base": n_bytes // 100, "update": n_bytes // 100}
    net = dict.fromkeys(added, 0.0)
    made = MadeUpdate(TunedUpdate(b"", 0, 0), 0.0, (0,))
    return AdaptedStream("a.266", 9, n_bytes, 0.2, decoded, base, adapted, added, net, "nothing", b"", made)


def test_bd_rates_with_and_without_what_is_added() -> None:
    """The rate doubles every 5 dB, so that 0.2 dB are worth a factor of 2**-0.04."""
    found = adaptation_bd_rates([stream(10_000 * 2**i, 30 + 5 * i) for i in range(4)])
    assert found["with the update, not counted"] == pytest.approx(100 * (2**-0.04 - 1), abs=1e-6)
    assert found["with the update, counted"] == pytest.approx(100 * (1.01 * 2**-0.04 - 1), abs=1e-6)
    assert found["the filter as it is, not counted"] == pytest.approx(100 * (math.exp(-math.log(2) / 50) - 1), abs=1e-6)
    assert found["as sent"] == pytest.approx(0, abs=1e-9)
    assert adaptation_bd_rates([stream(10_000, 30), stream(20_000, 35)]) == {}
