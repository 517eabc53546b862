"""The commands update make and update apply: the difference of two states of a network, and what it makes of one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from vvc_nnr.coding.update import BaseState, apply_update, compress_update
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.common import Command, Outcome
from vvc_nnr.experiments.cli.compress import NNC_FLAGS, ProgressBar
from vvc_nnr.experiments.cli.kinds import OutputPath
from vvc_nnr.experiments.cli.outputs import check_outputs
from vvc_nnr.files import AtomicFile, naming, read_bytes
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.network_file import (
    NNC_SUFFIX,
    NetworkArrays,
    check_plain_suffix,
    is_nnc,
    is_special,
    plain_bytes,
    read_arrays,
    write_arrays,
)
from vvc_nnr.options import CompressOptions


@dataclass(frozen=True, kw_only=True)
class MakeUpdate(Command):
    """Code what turns one state of a network into another.

    Attributes:
        base: Network file that the receiver has, of any kind that compress reads, or the name of a bundled network.
        new: Network file that it should have: the same names, shapes and number formats.
        output: .nnc to write.
        after: Updates that the receiver has applied to the base, in order; give it once for each.
        coding: As of compress; QPs are those of differences, roles play no part.
    """

    base: Positional[str]
    new: Positional[str]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    after: UseAppendAction[tuple[Path, ...]] = ()
    coding: Annotated[CompressOptions, NNC_FLAGS.arg] = field(default_factory=CompressOptions)

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If a file or an option cannot be used, the states do not fit, or the file cannot be written.
            BitstreamError, UnsupportedError: If a file cannot be read.
        """
        base, new = network_path(self.base), network_path(self.new)
        if not is_nnc(self.output) and not is_special(self.output):
            raise InputError(f"{self.output}: an update is a {NNC_SUFFIX} file; change the name")
        check_outputs([base, new, *self.after], [self.output])
        state, wanted = _state_after(read_arrays(base), self.after), read_arrays(new)
        with naming(new), NNC_FLAGS.as_typed(), ProgressBar(wanted.arrays) as progress:
            data, _ = compress_update(state, wanted.arrays, options=self.coding, progress=progress.report)
        with AtomicFile(self.output) as file:
            file.write(data)
        n_bytes = plain_bytes(wanted.arrays)
        text = f"{self.output}: {len(data)} bytes, an update of a network of {n_bytes}"
        return Outcome(text, {"output": str(self.output), "n_bytes": len(data), "network_bytes": n_bytes})


@dataclass(frozen=True, kw_only=True)
class ApplyUpdate(Command):
    """Write the network that updates make of another.

    Attributes:
        base: Network file that they are for, or the name of a bundled network.
        updates: Updates in order.
        output: .safetensors, .pt, .pth or .onnx to write.
    """

    base: Positional[str]
    updates: Positional[tuple[Path, ...]]
    output: Annotated[OutputPath, arg(aliases=["-o"])]

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If a file cannot be used or written.
            BitstreamError, UnsupportedError: If a file cannot be read, or an update is not for the network.
        """
        base = network_path(self.base)
        check_plain_suffix(self.output)
        check_outputs([base, *self.updates], [self.output])
        network = read_arrays(base)
        state = _state_after(network, self.updates)
        n_bytes = write_arrays(self.output, replace(network, arrays=state.exact_arrays))
        text = f"{self.output}: {n_bytes} bytes after {len(self.updates)} updates"
        return Outcome(text, {"output": str(self.output), "n_bytes": n_bytes, "updates": len(self.updates)})


def _state_after(network: NetworkArrays, updates: tuple[Path, ...]) -> BaseState:
    """The state of a network after updates.

    Raises:
        InputError: If a file cannot be read.
        BitstreamError, UnsupportedError: If one is damaged, or not for this state.
    """
    state = BaseState.of(network.arrays)
    for path in updates:
        data = read_bytes(path)
        with naming(path):
            state = apply_update(state, data)
    return state
