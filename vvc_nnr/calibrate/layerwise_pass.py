"""Forward passes of a torch module that stop at one layer after another.

Weights that are coded layer by layer change what later layers see. Instead of running the network anew for each layer,
every picture has a pass of its own that waits in front of a layer until that layer's weight is coded, and then goes on
with it. The passes are threads, of which one runs at a time; what a waiting pass keeps is what the network itself
still needs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from vvc_nnr.calibrate.layers import MatrixLayer, Run, failed_run, layer_input
from vvc_nnr.errors import VvcNnrError


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
