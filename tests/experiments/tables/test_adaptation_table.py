"""What adapting a filter gave, as a table and as BD-rates."""

from __future__ import annotations

import math

import pytest

from vvc_nnr.experiments.tables.adaptation_table import adaptation_bd_rates, adaptation_table
from vvc_nnr.filters.adaptation.measured_pictures import MeasuredPictures
from vvc_nnr.filters.adaptation.results import Adaptation, AdaptedStream, MadeUpdate
from vvc_nnr.filters.adaptation.tuning import TunedUpdate


def stream(n_bytes: int, psnr_db: float, counted_pictures: int = 9, with_update_db: float = 0.2) -> AdaptedStream:
    """9 pictures whose filter gives 0.1 dB of luma, with its update 0.2, each for a hundredth of the stream's bytes."""
    gains_db = (0, 0.1, with_update_db)
    decoded, base, adapted = (MeasuredPictures((psnr_db + gain_db, 40, 40), b"") for gain_db in gains_db)
    added = {"nothing": 0, "base": n_bytes // 100, "update": n_bytes // 100}
    net = dict.fromkeys(added, 0.0)
    made = MadeUpdate(TunedUpdate(b"", 0, 0), 0.0, (0,))
    return AdaptedStream(
        "a.266", 9, n_bytes, counted_pictures, 0.2, decoded, base, adapted, added, net, "nothing", b"", made
    )


def test_bd_rates_with_and_without_what_is_added() -> None:
    """The rate doubles every 5 dB, so that 0.2 dB are worth a factor of 2**-0.04."""
    found = adaptation_bd_rates([stream(10_000 * 2**i, 30 + 5 * i) for i in range(4)])
    assert found["with the update, not counted"] == pytest.approx(100 * (2**-0.04 - 1), abs=1e-6)
    assert found["with the update, counted"] == pytest.approx(100 * (1.01 * 2**-0.04 - 1), abs=1e-6)
    assert found["the filter as it is, not counted"] == pytest.approx(100 * (math.exp(-math.log(2) / 50) - 1), abs=1e-6)
    assert found["as sent"] == pytest.approx(0, abs=1e-9)
    assert adaptation_bd_rates([stream(10_000, 30), stream(20_000, 35)]) == {}


def test_bytes_are_counted_in_the_pictures_that_the_update_is_for() -> None:
    """As they are in what is sent: in ten times as many pictures they are a tenth of the rate's share."""
    streams = tuple(stream(10_000 * 2**i, 30 + 5 * i, 90) for i in range(4))
    rates = adaptation_bd_rates(streams)
    assert rates["with the update, counted"] == pytest.approx(100 * (1.001 * 2**-0.04 - 1), abs=1e-6)
    assert rates["with the update, not counted"] == pytest.approx(100 * (2**-0.04 - 1), abs=1e-6)
    note = "Net and BD-rates are of 90 pictures of the same rate and gain."
    assert note in adaptation_table(Adaptation((streams[0].made,), streams, "torch", 0, "luma")).notes
    of_these = tuple(stream(10_000 * 2**i, 30 + 5 * i) for i in range(4))
    assert note not in adaptation_table(Adaptation((streams[0].made,), of_these, "torch", 0, "luma")).notes


def test_a_stream_that_an_update_of_all_harms_is_named() -> None:
    streams = (stream(10_000, 30), stream(20_000, 35, with_update_db=0.07))
    made = MadeUpdate(TunedUpdate(b"", 0, 0), 0.0, (0, 1))
    notes = adaptation_table(Adaptation((made,), streams, "torch", 0, "luma")).notes
    (warning,) = (note for note in notes if "WARNING" in note)
    assert "worse with the update than with the filter as it is (luma -0.0300 dB)" in warning


def test_what_was_not_free_is_said_once() -> None:
    streams = (stream(10_000, 30), stream(20_000, 35))
    made = [MadeUpdate(TunedUpdate(b"", 0, 0, fixed=("low", "high")), 0.0, (place,)) for place in range(2)]
    notes = adaptation_table(Adaptation(tuple(made), streams, "torch", 0, "luma")).notes
    (said,) = (note for note in notes if "Not free" in note)
    assert "left as they are: low, high (bounds" in said
    assert not any(
        "Not free" in note for note in adaptation_table(Adaptation((streams[0].made,), streams, "x", 0, "luma")).notes
    )


def test_a_bd_rate_says_what_is_wrong_with_its_curves() -> None:
    streams = tuple(stream(10_000 * 2**i, 30 + 5 * i) for i in range(3))
    notes = adaptation_table(Adaptation((streams[0].made,), streams, "torch", 0, "luma")).notes
    rates = [note for note in notes if "BD-rate" in note and "%" in note]
    assert rates
    assert all("Warning: anchor: 3 points, fewer than 4; test: 3 points, fewer than 4." in note for note in rates)
