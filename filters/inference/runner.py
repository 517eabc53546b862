"""A network made ready once, to filter many pictures on all cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.inference.choice import BackendChoice, Precision, chosen_backend, make_backend
from vvc_nnr.filters.inference.tiles import (
    Tile,
    check_format,
    empty_like,
    half_side,
    read_planes,
    tiles_of,
    write_samples,
)
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.sequences.frame import Frame

DEFAULT_TILE = 2048
MAX_QP = 63


class Runner:
    """A filter on a backend, kept between pictures. The QP and the size may differ from picture to picture.

    Pictures of a sequence are filtered side by side, each by one thread, which is faster than all threads on one
    picture; a single picture is cut into as many tiles as there are threads.

    Args:
        network: The filter. Its weights must not change while the runner is in use.
        backend: What computes; "auto" is the fastest that is installed.
        precision: What it computes in.
        n_threads: Threads in all, None for one per core (torch: for its own setting).
        tile: Side of the tiles in luma samples, None for whole pictures. Memory grows with the tile and the threads;
            the output is the same up to float rounding.
        device: "cpu", or with torch "cuda" or "auto".

    Raises:
        InputError: If the backend, precision or device is not there, or the tile is too small.
        VvcNnrError: If a weight is NaN or infinite, which some backends would hide.
    """

    def __init__(
        self,
        network: InLoopNetwork,
        *,
        backend: BackendChoice = "auto",
        precision: Precision = "float32",
        n_threads: int | None = None,
        tile: int | None = DEFAULT_TILE,
        device: str = "cpu",
    ) -> None:
        half_side(tile, 1, 1)
        if not all(bool(torch.isfinite(weights).all()) for weights in network.parameters()):
            raise VvcNnrError("the network's weights are not finite: they are damaged")
        self.backend = chosen_backend(backend, precision, device)
        self.precision = precision
        self._tile = tile
        self._radius = network.receptive_radius
        self._compute = make_backend(network, self.backend, precision, n_threads, device)
        self._pool = ThreadPoolExecutor(self._compute.n_parallel, "filter")

    @property
    def description(self) -> str:
        """What computes and in which precision, for the record of a run."""
        return f"{self._compute.description}, {self.precision}"

    def filter_frame(self, frame: Frame, qp: int) -> Frame:
        """The filtered picture, in the size, depth and chroma format of the input.

        Args:
            frame: A decoded 4:2:0 or 4:0:0 picture of 8 to 16 bit, any size.
            qp: The QP that it was coded with, 0 to 63.

        Raises:
            UnsupportedError: For 4:2:2 and 4:4:4.
            InputError: If the QP is out of range.
            VvcNnrError: If the network gives NaN or infinity.
        """
        tiles = self._tiles(frame, qp, at_least=self._compute.n_parallel)
        out = empty_like(frame)
        if len(tiles) == 1 or self._compute.n_parallel == 1:
            self._fill(out, frame, qp, tiles)
        else:
            for done in [self._pool.submit(self._fill, out, frame, qp, [tile]) for tile in tiles]:
                done.result()
        return out

    def filter_planes(
        self, packed: NDArray[np.uint16], scale: float, qp: int
    ) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
        """Yields the network's real-valued output tile by tile.

        Args:
            packed: A picture from `packing.pack`, (6, H, W).
            scale: The sample value that the network sees as 1.
            qp: The picture's QP.

        Yields:
            The tile's rows and columns, and the values (6, h, w) there, about 0..1, valid until the next are asked for.
        """
        _, height, width = packed.shape
        for tile in tiles_of(height, width, half_side(self._tile, height, width), self._radius):
            rows, columns = _slices(*tile.read)
            planes = packed[:, rows, columns].astype(np.float32) / np.float32(scale)
            inner = _slices(*tile.place, *tile.written[2:])
            yield _slices(*tile.written), self._compute.run(planes, qp)[:, *inner]

    def filter_frames(self, pictures: Iterable[tuple[Frame, int]]) -> Iterator[Frame]:
        """Yields the filtered pictures in order, with a few of them in work at a time; raises as `filter_frame`.

        Args:
            pictures: Each picture with its QP.
        """
        waiting: deque[Future[Frame]] = deque()
        try:
            for frame, qp in pictures:
                waiting.append(self._pool.submit(self._filter_alone, frame, qp))
                if len(waiting) > self._compute.n_parallel:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _filter_alone(self, frame: Frame, qp: int) -> Frame:
        out = empty_like(frame)
        self._fill(out, frame, qp, self._tiles(frame, qp))
        return out

    def _fill(self, out: Frame, frame: Frame, qp: int, tiles: list[Tile]) -> None:
        for tile in tiles:
            write_samples(self._compute.run(read_planes(frame, tile.read), qp), tile, out)

    def _tiles(self, frame: Frame, qp: int, at_least: int = 1) -> list[Tile]:
        check_picture_qp(qp)
        check_format(frame)
        height, width = -(-frame.height // 2), -(-frame.width // 2)
        return tiles_of(height, width, half_side(self._tile, height, width), self._radius, at_least=at_least)


def _slices(top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
    return slice(top, top + height), slice(left, left + width)


def check_picture_qp(qp: int) -> None:
    """Raises InputError for a QP out of range."""
    if not 0 <= qp <= MAX_QP:
        raise InputError(f"QP {qp}: must be 0 to {MAX_QP}")


def filter_frame(
    network: InLoopNetwork, frame: Frame, qp: int, *, tile: int | None = DEFAULT_TILE, device: str = "cpu"
) -> Frame:
    """The filtered picture, in the size, depth and chroma format of the input; for many pictures see `Runner`.

    Args:
        network: The filter.
        frame: A decoded 4:2:0 or 4:0:0 picture of 8 to 16 bit, any size.
        qp: The QP that it was coded with, 0 to 63.
        tile: Side of the tiles in luma samples, None for the whole picture at once. Memory grows with the tile, not
            with the picture; the output is the same up to float rounding.
        device: Where to compute: "cpu", "cuda" or "auto".

    Raises:
        UnsupportedError: For 4:2:2 and 4:4:4.
        InputError: If the QP or the tile is out of range, or the device is not there.
        VvcNnrError: If the network gives NaN or infinity.
    """
    return Runner(network, backend="torch", tile=tile, device=device).filter_frame(frame, qp)
