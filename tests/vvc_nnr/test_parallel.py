from __future__ import annotations

import os
import signal
import threading

import pytest

from vvc_nnr.parallel import BATCH_ELEMENTS, run_all


def test_an_interrupt_does_not_wait_for_the_work_of_threads():
    released = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            os.kill(os.getpid(), signal.SIGINT)
        released.wait(60)
        return item

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all(work, [0, 1, 2, 3], [BATCH_ELEMENTS] * 4, 2)
        assert not released.is_set()
    finally:
        signal.signal(signal.SIGINT, before)
        released.set()


def test_an_error_ends_the_work_and_its_threads():
    before = threading.active_count()

    def work(item: int) -> int:
        if item == 1:
            raise ValueError("item 1")
        return item

    with pytest.raises(ValueError, match="item 1"):
        run_all(work, [0, 1, 2, 3], [BATCH_ELEMENTS] * 4, 2)
    assert threading.active_count() <= before
    assert run_all(lambda item: -item, [1, 2, 3], [BATCH_ELEMENTS] * 3, 2) == [-1, -2, -3]
    assert threading.active_count() <= before
