"""Second moments of what the layers of a torch module see and of what their outputs do, over calibration pictures.

Moments are summed where the data comes by, so that their memory is that of the largest layer.

Weights that are coded layer by layer change what later layers see. Instead of running the network anew for each layer,
every picture has a pass of its own that waits in front of a layer until that layer's weight is coded, and then goes on
with it. The passes are threads, of which one runs at a time; what a waiting pass keeps is what the network itself
still needs.

The weight of a transposed convolution is coded as an (n_in, n_out x n_taps) matrix, a row for an input channel, and
used as the matrices of its phases. Each phase of the output is patches times its taps, an (n_out, n_taps_of_phase x
n_in) matrix. With G the moment of the output's gradients and H that of a phase's patches, an error costs the sum over
phases of share x tr(G E H E^T). To be weighed row by row, H has to be a product: of a moment A between input channels
and one K between taps, each the mean of H over the other. Then rows of the coded matrix go by A, and its columns by G
(x) K.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.calibrate.layers import (
    DirectModule,
    MatrixLayer,
    TransposedModule,
    Windows,
    checked_output,
    failed_run,
    layer_input,
    n_groups,
    phase_windows,
    phases,
    rows_of,
    straight_through,
    weight_order,
    windows,
)
from vvc_nnr.calibrate.samples import Run
from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.quantize.rate_distortion import DEAD_SHARE

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PhaseMoments:
    """What one phase sees; means over its places, float64.

    Attributes:
        taps: Its taps by their numbers in the kernel.
        share: Of all places of the output.
        columns: Covariance of the changed network's patches, (n_groups, n_taps x n_in, same), by tap, then channel.
        crossed: Of the original network's patches (first axis) with the changed one's.
        mean: The changed network's mean patch, (n_groups, n_taps x n_in).
        original_mean: The original network's.
    """

    taps: Sequence[int]
    share: float
    columns: Floats
    crossed: Floats
    mean: Floats
    original_mean: Floats

    def seen(self, *, has_bias: bool) -> PhaseMoments:
        """What counts: moments about zero, less what a bias makes up for.

        It makes up for the mean error of all phases together, of which this one's share is its part.
        """
        left = 1 - self.share if has_bias else 1.0
        outer = self.mean[:, :, None] * self.mean[:, None, :]
        crossed = self.original_mean[:, :, None] * self.mean[:, None, :]
        return replace(self, columns=self.columns + left * outer, crossed=self.crossed + left * crossed)


def phase_matrix(weight: Floats, taps: Sequence[int], n_groups: int) -> Floats:
    """The matrix of a phase, (n_groups, n_out, n_taps x n_in), channels of one group.

    Args:
        weight: (n_groups x n_in, n_out, n_taps of the kernel).
        taps: Those of the phase.
        n_groups: Groups of channels.
    """
    grouped = weight.reshape(n_groups, -1, *weight.shape[1:])[..., list(taps)]
    matrix: Floats = grouped.transpose(0, 2, 3, 1).reshape(n_groups, weight.shape[1], -1)
    return matrix


def put_phase_matrix(weight: Floats, matrix: Floats, taps: Sequence[int], n_groups: int) -> None:
    """Writes the matrix of a phase into a weight; the reverse of `phase_matrix`."""
    grouped = weight.reshape(n_groups, -1, *weight.shape[1:])
    n_in = grouped.shape[1]
    grouped[..., list(taps)] = matrix.reshape(n_groups, weight.shape[1], len(taps), n_in).transpose(0, 3, 1, 2)


def mean_outputs(weight: Floats, phases: Sequence[PhaseMoments], n_groups: int, *, of_original: bool) -> Floats:
    """Mean output of each channel over all phases, (n_groups x n_out,), without the bias."""
    total = np.zeros(n_groups * weight.shape[1])
    for phase in phases:
        mean = phase.original_mean if of_original else phase.mean
        total += phase.share * np.einsum("goc,gc->go", phase_matrix(weight, phase.taps, n_groups), mean).reshape(-1)
    return total


def factors(phases: Sequence[PhaseMoments], gradients: Floats, n_taps: int, n_groups: int) -> tuple[Floats, Floats]:
    """What weighs the coded matrix: columns (n_groups, n_out x n_taps, n_out x n_taps), rows (n_groups x n_in, same).

    Args:
        phases: What the phases see.
        gradients: Moment of the output's gradients, (n_groups x n_out, n_groups x n_out).
        n_taps: Of the kernel.
        n_groups: Groups of channels.
    """
    n_out = len(gradients) // n_groups
    n_in = phases[0].mean.shape[1] // len(phases[0].taps)
    rows = np.zeros((n_groups * n_in, n_groups * n_in))
    columns = np.zeros((n_groups, n_out * n_taps, n_out * n_taps))
    for group in range(n_groups):
        channels, taps = np.zeros((n_in, n_in)), np.zeros((n_taps, n_taps))
        for phase in phases:
            n = len(phase.taps)
            moment = phase.share * phase.columns[group].reshape(n, n_in, n, n_in)
            channels += np.einsum("tctd->cd", moment)
            taps[np.ix_(phase.taps, phase.taps)] += np.einsum("tcuc->tu", moment)
        total = np.trace(channels)
        own = slice(group * n_in, (group + 1) * n_in)
        rows[own, own] = channels
        of_outputs = gradients[group * n_out : (group + 1) * n_out, group * n_out : (group + 1) * n_out]
        columns[group] = np.kron(of_outputs, taps / total if total > 0 else taps)
    return columns, rows


class _CancelledError(Exception):
    """The pass is not needed any more."""


class _Pass:
    """One pass, as a thread that runs between `advance` and the next layer."""

    def __init__(self, model: nn.Module, run: Run, inputs: Sequence[Tensor]) -> None:
        self.at: str | None = None  # name of the layer that it waits in front of, None at the end
        self.seen: Tensor | None = None  # input of that layer
        self.error: VvcNnrError | None = None
        self._is_cancelled = False
        self._passed: set[str] = set()
        self._may_go, self._has_stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(model, run, inputs), daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Goes on to the next layer, or to the end.

        Raises:
            InputError: If the network fails.
        """
        self.seen = None
        self._may_go.release()
        self._has_stopped.acquire()
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        """Ends the pass where it is."""
        self._is_cancelled = True
        self._may_go.release()
        self._thread.join()

    def stop_at(self, name: str, seen: Tensor) -> None:
        """Called by the pass itself in front of a layer; only the first call of a layer counts."""
        if name in self._passed:
            return
        self._passed.add(name)
        self.at, self.seen = name, seen
        self._has_stopped.release()
        self._wait()

    def _wait(self) -> None:
        self._may_go.acquire()
        if self._is_cancelled:
            raise _CancelledError

    def _run(self, model: nn.Module, run: Run, inputs: Sequence[Tensor]) -> None:
        _running.current = self
        try:
            self._wait()
            with torch.no_grad():
                run(model, *inputs)
        except _CancelledError:
            pass
        except Exception as error:  # whatever the network's own code raises
            self.error = failed_run(error, inputs)
        self.at, self.seen = None, None
        self._has_stopped.release()


_running = threading.local()


class PausedPasses:
    """Passes over several pictures; use it in a `with` block.

    Args:
        model: The network. Its weights may change while the passes wait.
        layers: Where they wait, in the order of the network.
        samples: The inputs of each pass.
        run: Calls the network.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[MatrixLayer], samples: Sequence[Sequence[Tensor]], run: Run
    ) -> None:
        self._handles = [
            layer.module(model).register_forward_pre_hook(_stopper(layer.name), with_kwargs=True) for layer in layers
        ]
        self._passes = [_Pass(model, run, inputs) for inputs in samples]

    def __enter__(self) -> PausedPasses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for one in self._passes:
            one.cancel()

    def inputs_of(self, place: int, layer: MatrixLayer) -> Tensor | None:
        """What a layer gets in the pass over one picture; None if it never comes there.

        Args:
            place: Which pass.
            layer: The layer; those before it have had their turn.
        """
        one = self._passes[place]
        if one.at != layer.name:
            one.advance()
        return one.seen if one.at == layer.name else None


def _stopper(name: str) -> Any:
    def hook(_: nn.Module, arguments: Any, by_keyword: Any) -> None:
        current = getattr(_running, "current", None)
        if current is not None:
            current.stop_at(name, layer_input(arguments, by_keyword))

    return hook


Inputs: TypeAlias = Sequence[Tensor]
# Moments of n columns are over this many times n places, within limits, if the pictures have as many.
PLACES_PER_COLUMN = 256
MIN_PLACES, MAX_PLACES = 1 << 15, 1 << 17
# Wider matrices are weighed in blocks of columns, of whole channels where that can be: time goes by the square of the
# width, and so few pictures tell little of what lies between. No block is narrower than the second.
MAX_BLOCK_COLUMNS, MIN_BLOCK_COLUMNS = 1152, 256
CACHED_VALUES = 1 << 16
# A standard deviation of a smaller share of the mean is rounding.
ROUNDING_SHARE = 2.0**-20


@dataclass(frozen=True, slots=True, eq=False)
class InputMoments:
    """Means over places, float64.

    Attributes:
        columns: Covariance of the changed network's patches: what counts where a bias makes up for the mean error. Of
            each block of columns, (n_groups * n_blocks, n, n) with n = n_columns / n_blocks.
        crossed: Of the original network's patches (first axis) with the changed one's.
        mean: The changed network's mean patch, (n_groups, n_columns).
        original_mean: The original network's.
    """

    columns: NDArray[np.float64]
    crossed: NDArray[np.float64]
    mean: NDArray[np.float64]
    original_mean: NDArray[np.float64]

    def about_zero(self) -> InputMoments:
        """The moments about zero: what counts where there is no bias."""
        mean, original_mean = (each.reshape(len(self.columns), -1) for each in (self.mean, self.original_mean))
        columns = self.columns + _outer(mean, mean)
        return replace(self, columns=columns, crossed=self.crossed + _outer(original_mean, mean))


def _outer(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, :, None] * b[:, None, :]


@dataclass(frozen=True, slots=True, eq=False)
class BothPasses:
    """The passes of a network and of a copy in which layers that run earlier may have other weights.

    Attributes:
        original: Passes of the network.
        changed: Passes of its copy.
        n_samples: How many passes there are in each.
        generator: Which places count, if there are more than enough.
    """

    original: PausedPasses
    changed: PausedPasses
    n_samples: int
    generator: torch.Generator


def input_moments(layer: MatrixLayer, module: DirectModule, passes: BothPasses) -> InputMoments | None:
    """What a layer sees in a network and in a changed copy of it; None if no pass comes to it.

    Args:
        layer: The layer.
        module: It, in either network.
        passes: Those of both networks.
    """
    n_columns = module.weight[0].numel()
    sums = _Sums(n_groups(module), n_columns, block_count(n_columns), weight_order(module).numpy())
    _add(sums, layer, layer.n_places, lambda x: windows(module, x), passes)
    return sums.moments() if sums.n_places else None


def block_count(n_columns: int) -> int:
    """In how many blocks of equal width a matrix is weighed."""
    least = -(-n_columns // MAX_BLOCK_COLUMNS)
    possible = range(least, n_columns // MIN_BLOCK_COLUMNS + 1)
    return next((n_blocks for n_blocks in possible if n_columns % n_blocks == 0), 1)


def phase_moments(layer: MatrixLayer, module: TransposedModule, passes: BothPasses) -> list[PhaseMoments] | None:
    """What each phase of a transposed convolution sees; None if no pass comes to it.

    Args:
        layer: The layer.
        module: It, in either network.
        passes: Those of both networks.
    """
    found = []
    n_phases = math.prod(module.stride)
    n_inputs = len(module.weight) // module.groups
    for phase in phases(module):
        taps = phase.flat_taps(module.kernel_size[-1])
        n_columns = len(taps) * n_inputs
        sums = _Sums(module.groups, n_columns, 1, np.arange(n_columns))
        _add(sums, layer, layer.n_places // n_phases, partial(phase_windows, module, phase=phase), passes)
        if not sums.n_places:
            return None
        seen = sums.moments()
        found.append(PhaseMoments(taps, 1 / n_phases, seen.columns, seen.crossed, seen.mean, seen.original_mean))
    return found


def _add(
    sums: _Sums, layer: MatrixLayer, n_places: int, windows_of: Callable[[Tensor], Windows], passes: BothPasses
) -> None:
    """Adds what a layer sees in all passes, at so many of its places (of one pass) as are enough."""
    wanted = min(max(MIN_PLACES, PLACES_PER_COLUMN * sums.n_columns), MAX_PLACES)
    share = min(1.0, wanted / (n_places * passes.n_samples))
    for place in range(passes.n_samples):
        before, after = passes.original.inputs_of(place, layer), passes.changed.inputs_of(place, layer)
        if before is None or after is None:
            continue
        seen, seen_after = windows_of(before), windows_of(after)
        chosen = None
        if share < 1:
            n_chosen = max(1, round(share * seen.n_places))
            chosen = torch.randperm(seen.n_places, generator=passes.generator)[:n_chosen]
        sums.add(seen.patches(chosen).numpy(), seen_after.patches(chosen).numpy())


class Evidence:
    """What of second moments is to be believed, by how alike they are in every picture.

    Beside the diagonal, correlations are shrunk to none by the share at which their expected squared error is least.
    The scales of inputs are no matter, nor that pictures differ in contrast: each counts by its shape alone.

    Source: O. Ledoit and M. Wolf, Journal of Multivariate Analysis 88(2), 2004.
    """

    def __init__(self) -> None:
        self.n_pictures = 0
        self._sums: NDArray[np.float64] = np.zeros(1)
        self._squares: NDArray[np.float64] = np.zeros(1)
        self._first: NDArray[np.float64] = np.zeros(1)

    def add(self, products: NDArray[np.floating[Any]]) -> None:
        """The sums of products of one picture, (n_groups, n, n)."""
        own = np.diagonal(products, axis1=1, axis2=2).astype(np.float64)
        if not self.n_pictures:
            self._first = np.where(own > DEAD_SHARE * own.mean(), own, np.inf)
            self._sums, self._squares = np.zeros(products.shape), np.zeros(products.shape)
        contrast = float((own / self._first).mean())
        if not contrast > 0:
            return
        n = products.shape[-1]
        parts = (each.reshape(-1, n) for each in (products, self._sums, self._squares))
        for part, sums, squares in zip(*map(_row_parts, parts), strict=True):
            even = part.astype(np.float64) / contrast
            sums += even
            squares += np.square(even, out=even)
        self.n_pictures += 1

    def shares(self) -> NDArray[np.float64]:
        """What is kept of each moment, (n_groups, n, n), 1 on the diagonal; all of it if there is but one picture."""
        if self.n_pictures < 2:
            return np.ones_like(np.atleast_3d(self._sums))
        n_pictures, shares = self.n_pictures, np.empty(self._sums.shape)
        for sums, squares, kept in zip(self._sums, self._squares, shares, strict=True):
            own = np.diagonal(sums)
            weight = np.where(own > DEAD_SHARE * own.mean(), 1 / np.maximum(own, 1e-300), 0.0)
            found = _weighed_beside(np.square(sums), weight)
            noise = (_weighed_beside(squares, weight) - found / n_pictures) * n_pictures / (n_pictures - 1)
            kept[:] = 1 - min(noise / found, 1.0) if found > 0 else 1.0
            np.fill_diagonal(kept, 1.0)
        return shares


def _weighed_beside(matrix: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """The sum beside the diagonal, weighed by row and column."""
    return float(weight @ matrix @ weight - np.square(weight) @ np.diagonal(matrix))


def _row_parts(matrix: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of rows of a matrix that stay in the processor's caches."""
    n = max(1, CACHED_VALUES // matrix.shape[1])
    return (matrix[first : first + n] for first in range(0, len(matrix), n))


class _Sums:
    """Sums of products in float32 and of those in float64, about the means of the first picture.

    About zero, float32 would lose what is left after the means are taken off. Of an input that is constant but for
    rounding nothing is left, and its moments with other inputs are rounding too.
    """

    def __init__(self, n_groups: int, n_columns: int, n_blocks: int, order: NDArray[np.int64]) -> None:
        self.n_places, self.n_columns = 0, n_columns
        self._n_groups, self._n_blocks, self._order = n_groups, n_blocks, order
        self._evidence = Evidence()
        n, n_parts = n_columns // n_blocks, n_groups * n_blocks
        self._columns, self._crossed = np.zeros((n_parts, n, n)), np.zeros((n_parts, n, n))
        self._product = np.empty((n_parts, n, n), np.float32)  # one for all pictures: new memory takes longer than sums
        self._after, self._before = np.zeros((n_parts, n)), np.zeros((n_parts, n))
        self._origins: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def _blocks(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches by block, (n_groups * n_blocks, n_places, n): where there are several, of columns in their order."""
        if self._n_blocks == 1:
            return patches
        n_places = patches.shape[1]
        parts = patches[:, :, self._order].reshape(self._n_groups, n_places, self._n_blocks, -1)
        return np.ascontiguousarray(parts.transpose(0, 2, 1, 3)).reshape(-1, n_places, parts.shape[-1])

    def add(self, u: NDArray[np.float32], v: NDArray[np.float32]) -> None:
        """Patches (n_groups, n_places, n_columns) of the original network and of the changed one; both are changed."""
        u, v = self._blocks(u), self._blocks(v)
        if self._origins is None:
            self._origins = u.mean(1, keepdims=True), v.mean(1, keepdims=True)
        u -= self._origins[0]
        v -= self._origins[1]
        # numpy knows a matrix times its own transpose, and computes half of it.
        products = np.matmul(v.transpose(0, 2, 1), v, out=self._product)
        self._columns += products
        self._evidence.add(products)
        self._crossed += np.matmul(u.transpose(0, 2, 1), v, out=self._product)
        self._after += v.sum(1, dtype=np.float64)
        self._before += u.sum(1, dtype=np.float64)
        self.n_places += v.shape[1]

    def moments(self) -> InputMoments:
        """The means, with columns in their order."""
        assert self._origins is not None
        n = self.n_places
        after, before = self._after / n, self._before / n
        columns = self._columns / n - _outer(after, after)
        crossed = self._crossed / n - _outer(before, after)
        kept = self._evidence.shares()
        origin, original_origin = (each[:, 0].astype(np.float64) for each in reversed(self._origins))
        mean, original_mean = origin + after, original_origin + before
        varies = np.diagonal(columns, axis1=1, axis2=2) > np.square(ROUNDING_SHARE * mean)
        columns = columns * kept * varies[:, None, :] * varies[:, :, None]
        crossed = crossed * kept * varies[:, None, :]
        if self._n_blocks > 1:
            mean, original_mean = (each.reshape(self._n_groups, -1) for each in (mean, original_mean))
            return InputMoments(columns, crossed, mean, original_mean)
        order = self._order
        square = np.ix_(np.arange(len(columns)), order, order)
        return InputMoments(columns[square], crossed[square], mean[:, order], original_mean[:, order])


def output_moments(
    model: nn.Module,
    layers: Sequence[MatrixLayer],
    samples: Sequence[Inputs],
    weights: Sequence[float],
    run: Run,
    generator: torch.Generator,
) -> dict[str, NDArray[np.float64]]:
    """What errors of each layer's output rows cost, by the layer's name: (n_rows, n_rows), float64.

    An error of e (n_rows) at every place changes the network's output by e^T G e on average, in weighted squared error
    per value, as long as errors at different places do not add up. G is the second moment of the gradient of a sum of
    the network's outputs with random signs.

    Args:
        model: The network; its weights have gradients.
        layers: Its layers.
        samples: Inputs of the pictures.
        weights: What a squared error counts in each picture.
        run: Calls the network.
        generator: Of the signs.

    Raises:
        InputError: If the network cannot be run, or its output depends on no weight that a gradient tells.

    Source: Hutchinson's estimator of the Gauss-Newton matrix; a Kronecker factor of it (Martens and Grosse 2015).
    """
    sums = {layer.name: _GradientSums() for layer in layers}
    n_outputs = 0
    with _gradients(model, layers, sums):
        for inputs, weight in zip(samples, weights, strict=True):
            with straight_through():
                output = checked_output(model, run, inputs)
            if not output.requires_grad:
                raise InputError(
                    "calibration: the network's output is cut from its weights (made of integers, or by detach or "
                    "no_grad), so that what their errors do is not known; rounding by torch.round is no hindrance"
                )
            signs = torch.randint(0, 2, output.shape, generator=generator) * 2 - 1
            (output * signs).sum().mul(weight**0.5).backward()  # type: ignore[no-untyped-call]
            n_outputs += output.numel()
            model.zero_grad()
    return {name: total.moments(n_outputs) for name, total in sums.items()}


class _GradientSums:
    """Sums over pictures of the products of a layer's gradients, float64."""

    def __init__(self) -> None:
        self._products = np.zeros((1, 1))
        self._evidence = Evidence()
        self._own: list[NDArray[np.float64]] = []  # diagonals of the products of each call
        self._n_places, self._outputs, self._squares = 0, np.zeros(1), np.zeros(1)

    def see(self, rows: Tensor) -> None:
        """Outputs of one call by place and row, (n_places, n_rows)."""
        self._n_places += len(rows)
        self._outputs = self._outputs + rows.sum(0, dtype=torch.float64).numpy()
        self._squares = self._squares + rows.double().square().sum(0).numpy()

    def add(self, rows: Tensor) -> None:
        """Gradients of one call by place and row, (n_places, n_rows)."""
        products = (rows.T @ rows).double().numpy()
        self._products = self._products + products
        self._own.append(np.diagonal(products).copy())
        self._evidence.add(products[None])

    def moments(self, n_outputs: int) -> NDArray[np.float64]:
        """What is to be believed of their sum per output value, (n_rows, n_rows); (1, 1) without any call.

        Rows that few pictures need look useless in most others. So what a relative error of each row costs, whatever
        its scale, is drawn to the mean of all rows by the share of its spread that the pictures' disagreement explains.
        """
        found: NDArray[np.float64] = self._products * self._evidence.shares()[0] / n_outputs
        if len(self._own) < 2:
            return found
        mean = self._outputs / self._n_places
        variance = self._squares / self._n_places - mean**2
        varies = variance > np.square(ROUNDING_SHARE * mean)
        variance = np.where(varies, variance, 0.0)
        drawn = _disagreement(np.array(self._own) * variance)
        costs = np.diagonal(found) * variance
        even = np.where(varies, costs.sum() / max(int(varies.sum()), 1) / np.where(varies, variance, 1.0), 0.0)
        drawn_by_row = np.where(varies, drawn, 0.0)  # a row that is constant has no scale
        kept = np.sqrt(1 - drawn_by_row)
        moments: NDArray[np.float64] = found * kept[:, None] * kept + np.diag(drawn_by_row * even)
        return moments


def _disagreement(costs: NDArray[np.float64]) -> float:
    """Which share of the spread of the rows' mean costs, (n_pictures, n_rows), is that of pictures; each counts alike.

    Source: the estimator of W. James and C. Stein, Proc. 4th Berkeley Symposium 1, 1961.
    """
    means = costs.mean(axis=1, keepdims=True)
    even = costs[means[:, 0] > 0] / means[means[:, 0] > 0]
    if len(even) < 2:
        return 0.0
    spread = float(np.square(even.mean(axis=0) - 1).sum())
    noise = float(even.var(axis=0, ddof=1).sum()) / len(even)
    return min(noise / spread, 1.0) if spread > 0 else 0.0


@contextmanager
def _gradients(model: nn.Module, layers: Sequence[MatrixLayer], sums: dict[str, _GradientSums]) -> Iterator[None]:
    """Within it the second moments of the gradients of the layers' outputs are added up."""

    def watch(layer: MatrixLayer) -> Callable[..., None]:
        def add(gradient: Tensor) -> None:
            sums[layer.name].add(rows_of(layer.module(model), gradient))

        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            if output.requires_grad:
                sums[layer.name].see(rows_of(layer.module(model), output.detach()))
                output.register_hook(add)  # type: ignore[no-untyped-call]

        return hook

    handles = [layer.module(model).register_forward_hook(watch(layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
