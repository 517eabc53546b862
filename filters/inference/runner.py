"""A network made ready once, to filter many pictures on all cores.

The backend that computes it is, of those that may, the fastest one whose samples are torch's.
"""

from __future__ import annotations

import copy
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.codec.configuration import MAX_QP, check_qp
from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.inference.choice import (
    FASTEST_FIRST,
    Backend,
    BackendChoice,
    BackendName,
    Precision,
    chosen_backend,
    make_backend,
    missing_for,
)
from vvc_nnr.filters.inference.tiles import Tile, check_tile, empty_like, measured_reach, tiles_for, write_samples
from vvc_nnr.filters.inference.torch import TorchBackend
from vvc_nnr.filters.networks.factory import class_name
from vvc_nnr.filters.networks.foreign import check_finite, check_output, declared_layout, misfit, said_by
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import (
    Grid,
    Values,
    corrected,
    corrections,
    filtered_values,
    grids_of,
    network_input,
    read_extended,
)
from vvc_nnr.sequences.frame import ColourRange, Frame
from vvc_nnr.sequences.images import rgb_to_frame


def ready_backend(
    network: nn.Module,
    layout: Layout,
    choice: BackendChoice,
    precision: Precision,
    n_threads: int | None,
    device: str,
) -> tuple[BackendName, Backend, str]:
    """The backend of a choice, made ready; what is not torch has to agree with torch on a test picture.

    Args:
        network: The filter.
        layout: How pictures go into it.
        choice: The backend; with "auto" the next one is taken where a faster one cannot run the network.
        precision: What it computes in.
        n_threads: Threads in all; None for torch's own setting, else for all cores.
        device: Where torch computes.

    Returns:
        Its name, the backend, and one line that says why no faster one computes; empty if this is the fastest.

    Raises:
        InputError: If the backend is not there, the one that was asked for cannot run the network, or the network
            keeps something between pictures.
    """
    _check_forgets(network, layout)
    name = chosen_backend(choice, precision, device)
    order = FASTEST_FIRST[precision]
    others = order[order.index(name) + 1 :] if choice == "auto" else ()
    why_not: list[str] = []
    for each in (name, *(other for other in others if not missing_for(other))):
        backend, fault = _tried(network, layout, each, precision, n_threads, device)
        if backend is not None:
            return each, backend, f"computed by {each}, since {'; '.join(why_not)}" if why_not else ""
        why_not.append(f"{each} {fault}")
    raise InputError(f"backend {'; '.join(why_not)}")


def _tried(
    network: nn.Module, layout: Layout, name: BackendName, precision: Precision, n_threads: int | None, device: str
) -> tuple[Backend | None, str]:
    """A backend, or why it cannot run a network."""
    if name == "native" and not isinstance(network, InLoopNetwork):
        return None, "computes filters of the bundled architectures alone; choose precision float32 or bfloat16"
    if name == "torch":
        return make_backend(network, name, precision, n_threads, device, layout), ""
    backend: Backend | None = None
    for sides, picture_qp in _TESTS:
        values, qp = _test_input(layout, sides, picture_qp)
        expected = _output(network, layout, values, qp)
        if not np.isfinite(expected).all():
            raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
        try:
            backend = backend or make_backend(network, name, precision, n_threads, device, layout)
            found = backend.run(values, qp)
        except Exception as error:  # of the exporter, or of the runtime, which have many kinds
            return None, f"cannot run it ({' '.join(str(error).split())[:160]})"
        limit = TOLERANCES[precision] * layout.peak(10) / 1023
        if found.shape != expected.shape or not np.abs(found - expected).max() <= limit:
            again = TorchBackend(network).run(values, qp)
            if again.shape != expected.shape or not np.abs(again - expected).max() <= limit:
                return None, "cannot be held against torch, whose own two runs differ: the network draws random numbers"
            return None, "gives other samples than torch"
    return backend, ""


def check_fits(network: nn.Module, layout: Layout) -> None:
    """Runs a network once on a test picture, so that a layout that does not fit is known before anything begins.

    Args:
        network: The filter.
        layout: How pictures go into it.

    Raises:
        InputError: If it cannot be run so, its output has another shape, or it keeps something between pictures.
    """
    _output(network, layout, *_test_input(layout, _LARGER_SIDES))
    _check_forgets(network, layout)


def _check_forgets(network: nn.Module, layout: Layout) -> None:
    """Raises InputError for a network whose output follows from what it was given before.

    Tiles, threads and other backends would each see other pictures before. Networks that draw random numbers get the
    same ones each time here. One that fails, or gives another shape, is left to who runs it.
    """
    if isinstance(network, InLoopNetwork):
        return
    values, qp = _test_input(layout, _TEST_SIDES)
    backend, found = TorchBackend(network), []
    for given in (values, np.ascontiguousarray(values[:, ::-1]), values):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                found.append(backend.run(given, qp))
            except Exception:  # of the user's module
                return
    first, _, again = found
    if first.shape != again.shape or not np.allclose(
        first, again, rtol=1e-4, atol=1e-5 * layout.peak(10), equal_nan=True
    ):
        raise InputError(
            f"{class_name(network)}: gives another output for the same picture once it has seen another one: it keeps "
            "something between calls; a filter gets each picture by itself, so forward must begin anew each time"
        )


def _output(network: nn.Module, layout: Layout, values: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
    """What torch gives, checked for its shape."""
    sides = (values.shape[1], values.shape[2])
    try:
        output = TorchBackend(network).run(values, qp)
    except Exception as error:  # of the user's module
        raise misfit(network, layout, sides, said_by(error)) from error
    check_output(network, layout, sides, output.shape)
    return output


TOLERANCES: dict[Precision, float] = {"float32": 0.05, "bfloat16": 8.0, "int8": 32.0}
"""How far from torch's float32 a backend may be on the test picture, in code values of 10 bit."""
_TEST_SIDES, _LARGER_SIDES = (32, 48), (64, 64)
_TESTS = ((_TEST_SIDES, 32), (_LARGER_SIDES, 22))
"""Least sides and QPs of the pictures on which a backend has to agree with torch."""


def _test_input(layout: Layout, least: tuple[int, int], qp: int = 32) -> tuple[NDArray[np.float32], float | None]:
    """Part of a photograph as the network takes it, of at least some height and width, and its second input."""
    picture = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    frame = rgb_to_frame(picture[:128, 128:320], bit_depth=10)
    grid = grids_of(frame, layout)[0]
    height, width = layout.patch or (layout.align * -(-side // layout.align) + 2 * layout.overlap for side in least)
    values = network_input(layout, read_extended(grid, (0, 0, height, width)), qp)
    return np.ascontiguousarray(values), layout.qp_input(qp) if layout.qp == "scalar" else None


DEFAULT_TILE = 2048
NOT_FINITE = "the network's output is not finite: its weights are damaged or overflow"


class Runner:
    """A filter on a backend, kept between pictures. The QP and the size may differ from picture to picture.

    Pictures of a sequence are filtered side by side, each by one thread, which is faster than all threads on one
    picture; a single picture is cut into as many tiles as there are threads.

    Args:
        network: The filter, any torch module. It is left in the mode (training or evaluation) that it is in.
            Pictures are refused once its weights have changed: some backends would not see that.
        layout: How pictures go into it and come out, or the text of that; None: as its attribute `layout` says.
        backend: What computes; "auto" is the fastest that is installed and agrees with torch.
        precision: What it computes in.
        n_threads: Threads in all, None for one per core (torch: for its own setting).
        tile: Side of the tiles in luma samples, None for whole pictures. Memory grows with the tile and the threads;
            the output is the same up to float rounding.
        device: "cpu", or with torch "cuda" or "auto".
        output_bit_depth: Bits per sample of the filtered pictures, 8 to 16, at least those of each picture, whose
            samples are shifted left by the difference: the network's real numbers are rounded to these. None: those of
            the picture.
        colour_range: Of the pictures' samples, by which a network of R, G and B (BT.709) gets them; None: limited.

    Attributes:
        layout: The layout.
        backend: What computes.
        precision: What it computes in.
        output_bit_depth: Bits per sample of filtered pictures; None: those of the picture.
        colour_range: Of the pictures' samples.
        remark: Why no faster backend computes, in one line; empty if this is the fastest.

    Raises:
        InputError: If no one says the layout, the backend, precision or device is not there or cannot run the network,
            a weight is NaN or infinite, the tile is too small, or the bit depth out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        layout: Layout | str | None = None,
        backend: BackendChoice = "auto",
        precision: Precision = "float32",
        n_threads: int | None = None,
        tile: int | None = DEFAULT_TILE,
        device: str = "cpu",
        output_bit_depth: int | None = None,
        colour_range: ColourRange | None = None,
    ) -> None:
        check_tile(tile)
        if output_bit_depth is not None and not 8 <= output_bit_depth <= 16:
            raise InputError(f"output_bit_depth: {output_bit_depth}; must be 8 to 16")
        if not isinstance(network, nn.Module):
            raise InputError(
                f"network: is a {type(network).__name__}, must be a torch module; of what load_filter returns: "
                "Runner(loaded.network, layout=loaded.layout)"
            )
        check_finite(network, class_name(network))
        self.layout = declared_layout(network, layout)
        self.precision = precision
        self.output_bit_depth = output_bit_depth
        self.colour_range = colour_range
        self._tile = tile
        self._network = network
        self._reach = self.layout.reach
        self._has_run = False
        self.backend, self._compute, self.remark = ready_backend(
            network, self.layout, backend, precision, n_threads, device
        )
        self._weights = _checksums(network)
        self._pool = ThreadPoolExecutor(self._compute.n_parallel, "filter")

    @property
    def description(self) -> str:
        """What computes and in which precision, for the record of a run."""
        return f"{self._compute.description}, {self.precision}"

    def in_range(self, colour_range: ColourRange | None) -> Runner:
        """The same for pictures of another colour range; both share the backend and its threads."""
        if colour_range == self.colour_range:
            return self
        found = copy.copy(self)
        found.colour_range = colour_range
        return found

    def filter_frame(self, frame: Frame, qp: int | None = None) -> Frame:
        """The filtered picture, in the size and chroma format of the input, and its depth but for `output_bit_depth`.

        Args:
            frame: A decoded picture of 8 to 16 bit, any size; 4:2:0 or 4:0:0 where the layout's planes are packed.
            qp: The QP that it was coded with, 0 to 63; None where the layout does not take it.

        Raises:
            UnsupportedError: For a chroma format that the layout does not go with.
            InputError: If the QP is no whole number or out of range, the layout does not fit the network, its weights
                have changed, a network that looks at whole pictures would need tiles, or the output is to have fewer
                bits per sample.
            VvcNnrError: If the network gives NaN or infinity.
        """
        return self._filtered(frame, self._known_qp(qp), self._side_by_side, at_least=self._compute.n_parallel)

    def corrections(self, frame: Frame, qp: int | None = None) -> tuple[Values, ...]:
        """What the network adds to each component, real-valued, in sample values; else as `filter_frame`."""
        return self._corrections(frame, self._known_qp(qp), self._side_by_side)

    def filter_frames(self, pictures: Iterable[tuple[Frame, int | None]]) -> Iterator[Frame]:
        """Yields the filtered pictures in order, with a few of them in work at a time; raises as `filter_frame`.

        Args:
            pictures: Each picture with its QP.
        """
        waiting: deque[Future[Frame]] = deque()
        try:
            for frame, qp in pictures:
                waiting.append(self._pool.submit(self._filtered, frame, self._known_qp(qp), _one_by_one))
                if len(waiting) > self._compute.n_parallel:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _known_qp(self, qp: int | None) -> int:
        """The QP of a picture; any where none is given and the network does not get it."""
        if qp is None and self.layout.takes_qp:
            raise InputError(f"layout {self.layout.text}: the network takes the QP of the picture, and none is given")
        return 0 if qp is None else qp

    def _check_unchanged(self) -> None:
        if _checksums(self._network) != self._weights:
            raise InputError("the network's weights have changed since this Runner was made; make a new one")

    def _filtered(self, frame: Frame, qp: int, run_all: _RunAll, at_least: int = 1) -> Frame:
        depth = self._depth_of(frame)
        if self.layout.planes != "yuv420-packed" or self.layout.keep:
            return corrected(frame, self._corrections(frame, qp, run_all), depth)
        check_qp(qp)
        self._check_unchanged()
        (grid,) = grids_of(frame, self.layout)
        out, scale = empty_like(frame, depth), self.layout.scale(frame.bit_depth) * (1 << (depth - frame.bit_depth))
        tiles = self._tiles(frame, grid, at_least)
        run_all(lambda tile: write_samples(self._values(grid, tile, qp), tile, out, scale), tiles)
        return out

    def _depth_of(self, frame: Frame) -> int:
        """Bits per sample of a picture when it is filtered."""
        if self.output_bit_depth is None:
            return frame.bit_depth
        if self.output_bit_depth < frame.bit_depth:
            raise InputError(
                f"output_bit_depth: {self.output_bit_depth}; must be at least the picture's {frame.bit_depth}"
            )
        return self.output_bit_depth

    def _corrections(self, frame: Frame, qp: int, run_all: _RunAll) -> tuple[Values, ...]:
        check_qp(qp)
        self._check_unchanged()
        grids = grids_of(frame, self.layout, self.colour_range)
        outputs = [self._output(frame, grid, qp, run_all) for grid in grids]
        found = corrections(frame, self.layout, grids, outputs, self.colour_range)
        if not all(np.isfinite(values).all() for values in found):
            raise VvcNnrError(NOT_FINITE)
        return found

    def _output(self, frame: Frame, grid: Grid, qp: int, run_all: _RunAll) -> Values:
        output = np.empty((self.layout.n_planes, grid.height, grid.width), np.float32)

        def fill(tile: Tile) -> None:
            inner = _slices(*tile.place, *tile.written[2:])
            output[:, *_slices(*tile.written)] = self._values(grid, tile, qp)[:, *inner]

        run_all(fill, self._tiles(frame, grid))
        return output

    def _tiles(self, frame: Frame, grid: Grid, at_least: int = 1) -> list[Tile]:
        height, width = grid.height, grid.width
        luma_per_sample = -(-frame.width // width)
        full = self.layout.align * -(-max(height, width) // self.layout.align)
        side = full if self._tile is None else max(1, self._tile // luma_per_sample)
        is_whole = at_least == 1 and side >= full
        reach = 0 if is_whole or self.layout.patch else self.reach
        return tiles_for(self.layout, reach, height, width, side, at_least=at_least)

    @property
    def reach(self) -> float:
        """How many samples of its planes away an input changes the output, as declared, else as measured."""
        if self._reach is None:
            compute, qp = TorchBackend(self._network), self._second_input(MAX_QP // 2)
            margin = self.layout.overlap

            def run(values: NDArray[np.float32]) -> NDArray[np.floating]:
                extended = np.pad(values, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
                return _without_margin(compute.run(extended, qp), extended.shape[1:], margin)

            self._reach = measured_reach(run, self.layout.n_inputs, self.layout.align)
        return self._reach

    def _second_input(self, qp: float) -> float | None:
        return self.layout.qp_input(qp) if self.layout.qp == "scalar" else None

    def _values(self, grid: Grid, tile: Tile, qp: int) -> Values:
        """The filtered planes where a tile reads."""
        margin = self.layout.overlap
        top, left, height, width = tile.read
        values = read_extended(grid, (top - margin, left - margin, height + 2 * margin, width + 2 * margin))
        output = self._run(network_input(self.layout, values, qp), qp)
        sides = (values.shape[1], values.shape[2])
        check_output(self._network, self.layout, sides, output.shape)
        inner = values[:, margin : sides[0] - margin, margin : sides[1] - margin]
        return filtered_values(self.layout, inner, _without_margin(output, sides, margin))

    def _run(self, values: Values, qp: int) -> Values:
        if self._has_run:
            return self._compute.run(values, self._second_input(qp))
        try:
            output = self._compute.run(values, self._second_input(qp))
        except Exception as error:  # of the user's module, or of a runtime
            raise misfit(self._network, self.layout, (values.shape[1], values.shape[2]), said_by(error)) from error
        self._has_run = True
        return output

    def _side_by_side(self, work: Callable[[Tile], None], tiles: list[Tile]) -> None:
        if len(tiles) == 1 or self._compute.n_parallel == 1:
            _one_by_one(work, tiles)
        else:
            for done in [self._pool.submit(work, tile) for tile in tiles]:
                done.result()


def _checksums(network: nn.Module) -> list[int]:
    """One number for each tensor of weights."""
    weights = (each.detach().cpu().contiguous().reshape(-1) for each in network.parameters())
    return [zlib.crc32(each.view(torch.uint8).numpy().data) for each in weights]


_RunAll = Callable[[Callable[[Tile], None], list[Tile]], None]


def _one_by_one(work: Callable[[Tile], None], tiles: list[Tile]) -> None:
    for tile in tiles:
        work(tile)


def _without_margin(output: Values, sides: tuple[int, ...], margin: int) -> Values:
    """The output without the margin of an input of such sides, if it has it."""
    if output.shape[1:] != sides or not margin:
        return output
    return np.ascontiguousarray(output[:, margin : sides[0] - margin, margin : sides[1] - margin])


def _slices(top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
    return slice(top, top + height), slice(left, left + width)


def filter_frame(
    network: nn.Module,
    frame: Frame,
    qp: int | None = None,
    *,
    layout: Layout | str | None = None,
    tile: int | None = DEFAULT_TILE,
    device: str = "cpu",
) -> Frame:
    """The filtered picture, in the size, depth and chroma format of the input; for many pictures see `Runner`.

    Args:
        network: The filter.
        frame: A decoded picture of 8 to 16 bit, any size.
        qp: The QP that it was coded with, 0 to 63; None where the layout does not take it.
        layout: How pictures go into the network; None: as its attribute `layout` says.
        tile: Side of the tiles in luma samples, None for the whole picture at once. Memory grows with the tile, not
            with the picture; the output is the same up to float rounding.
        device: Where to compute: "cpu", "cuda" or "auto".

    Raises:
        UnsupportedError: For a chroma format that the layout does not go with.
        InputError: If the QP is no whole number, QP or tile is out of range, the layout does not fit, or the device is
            not there.
        VvcNnrError: If the network gives NaN or infinity.
    """
    return Runner(network, layout=layout, backend="torch", tile=tile, device=device).filter_frame(frame, qp)
