"""Work on many tensors by several threads: the largest first, small ones in batches, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress: TypeAlias = Callable[[int, int], None]

# Elements that are worth a task of their own.
BATCH_ELEMENTS = 1 << 16


def run_all(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    n_elements: Sequence[int],
    n_threads: int,
    progress: Progress | None = None,
) -> list[Result]:
    """The results of all items, in their order.

    Only `n_threads` items are in work at a time, so memory for at most the `n_threads` largest is in use. The first
    error ends the work.

    Args:
        work: Makes a result; several threads call it.
        items: What it is called with.
        n_elements: How much work each item is.
        n_threads: Threads, at least 1.
        progress: Called in this thread with the elements done so far and their total.
    """
    found: dict[int, Result] = {}
    n_done, n_total = 0, sum(n_elements)
    for batch, results in _run_batches(work, items, _batches(n_elements), n_threads):
        found.update(zip(batch, results, strict=True))
        n_done += sum(n_elements[place] for place in batch)
        if progress:
            progress(n_done, n_total)
    return [found[place] for place in range(len(items))]


def _batches(n_elements: Sequence[int]) -> list[list[int]]:
    """Places of items, the largest first, small ones together."""
    batches: list[list[int]] = []
    n_in_last = 0
    for place in sorted(range(len(n_elements)), key=lambda place: -n_elements[place]):
        if not batches or n_in_last + n_elements[place] > BATCH_ELEMENTS:
            batches.append([])
            n_in_last = 0
        batches[-1].append(place)
        n_in_last += max(n_elements[place], BATCH_ELEMENTS >> 10)
    return batches


def _run_batches(
    work: Callable[[Item], Result], items: Sequence[Item], batches: list[list[int]], n_threads: int
) -> Iterator[tuple[list[int], list[Result]]]:
    """Each batch with its results, in the order in which they are ready."""

    def run(batch: list[int]) -> tuple[list[int], list[Result]]:
        return batch, [work(items[place]) for place in batch]

    if n_threads == 1 or len(batches) < 2:
        yield from map(run, batches)
        return
    pool = ThreadPoolExecutor(min(n_threads, len(batches)), "tensors")
    try:
        waiting: set[Future[tuple[list[int], list[Result]]]] = {pool.submit(run, batch) for batch in batches}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BaseException as error:
        # An interrupt does not wait for tensors in work, which may take minutes.
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()
