"""The commands update make and update apply: what turns one state of a network into another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.update import BaseState, code_update, difference_snrs_db
from vvc_nnr.compress import apply_update
from vvc_nnr.errors import InputError, shown_name
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.kinds import OutputPath
from vvc_nnr.experiments.cli.networks.coding import UPDATE_FLAGS, CodingBar, with_lost_graph, with_notes, with_quality
from vvc_nnr.files import naming, read_bytes, write_file
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.network_file import (
    NNC_SUFFIX,
    NetworkArrays,
    all_tensors,
    check_plain_suffix,
    is_nnc,
    is_special,
    plain_bytes,
    read_arrays,
    read_states,
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
        key: Where the state dict is, keys joined by dots, in those of the two files that are checkpoints of torch.
        strip_prefix: Prefix that is taken off names of both, such as module.
        coding: As of compress; QPs are those of differences, roles play no part.
    """

    base: Positional[str]
    new: Positional[str]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    after: UseAppendAction[tuple[Path, ...]] = ()
    key: str | None = None
    strip_prefix: str = ""
    coding: Annotated[CompressOptions, UPDATE_FLAGS.arg] = field(default_factory=CompressOptions)

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
        before, wanted = read_states(base, new, key=self.key, strip_prefix=self.strip_prefix)
        state, _ = _state_after(before, self.after)
        with naming(new), UPDATE_FLAGS.as_typed(), CodingBar(wanted.arrays) as progress:
            made, after = code_update(state, wanted.arrays, self.coding, progress=progress.report)
            found_db = difference_snrs_db(state, after, wanted.arrays)
        write_file(self.output, made.data)
        n_bytes = plain_bytes(wanted.arrays)
        told = f"{len(made.data)} bytes, an update of a network of {n_bytes} bytes"
        text = f"{self.output}: {told}{_least_line(found_db)}"
        snrs_db = {name: ratio_db if math.isfinite(ratio_db) else None for name, ratio_db in found_db.items()}
        data = {"output": str(self.output), "n_bytes": len(made.data), "network_bytes": n_bytes, "snr_db": snrs_db}
        return with_notes(with_quality(Outcome(text, data), made), wanted.left_out, wanted.arrays)


@dataclass(frozen=True, kw_only=True)
class ApplyUpdate(Command):
    """Write the network that updates make of another.

    Attributes:
        base: Network file that they are for, or the name of a bundled network.
        updates: Updates in order, all since the base.
        output: .safetensors, .pt, .pth or .onnx to write.
        key: Where in a checkpoint of torch the base's state dict is, keys joined by dots; default: where it usually is.
        strip_prefix: Prefix that is taken off the base's names, such as module.
    """

    base: Positional[str]
    updates: Annotated[Positional[tuple[Path, ...]], arg(metavar="UPDATES ...")]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    key: str | None = None
    strip_prefix: str = ""

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If a file cannot be used or written.
            BitstreamError, UnsupportedError: If a file cannot be read, or an update is not for the network.
        """
        base = network_path(self.base)
        check_plain_suffix(self.output)
        check_outputs([base, *self.updates], [self.output])
        with naming(base):
            network = all_tensors(read_arrays(base, key=self.key, strip_prefix=self.strip_prefix))
        state, unchecked = _state_after(network, self.updates)
        n_bytes = write_arrays(self.output, replace(network, arrays=state.exact_arrays))
        n_updates = len(self.updates)
        text = f"{self.output}: {n_bytes} bytes after {n_updates} {'update' if n_updates == 1 else 'updates'}"
        outcome = Outcome(text, {"output": str(self.output), "n_bytes": n_bytes, "updates": n_updates})
        outcome = with_notes(outcome, network.left_out, network.arrays)
        outcome = _with_unchecked(outcome, unchecked)
        return with_lost_graph(outcome, network, self.output)


def _state_after(network: NetworkArrays, updates: tuple[Path, ...]) -> tuple[BaseState, list[str]]:
    """The state of a network after updates, and those that do not tell whether they are whole and for it.

    Raises:
        InputError: If a file cannot be read.
        BitstreamError, UnsupportedError: If one is damaged, or not for this state.
    """
    state, unchecked = BaseState.of(network.arrays), []
    for path in updates:
        data = read_bytes(path)
        with naming(path):
            state = apply_update(state, data)
            if not read_stream(data).is_verifiable:
                unchecked.append(str(path))
    return state, unchecked


def _least_line(found_db: Mapping[str, float]) -> str:
    """Which differences come back least well, of those that are not exact."""
    lossy = {name: ratio_db for name, ratio_db in found_db.items() if math.isfinite(ratio_db)}
    if not lossy:
        return ""
    least = min(lossy, key=lossy.__getitem__)
    return f"\nsignal-to-noise ratio of the differences: at least {lossy[least]:.1f} dB ({shown_name(least)})"


def _with_unchecked(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """The outcome with a note of updates that do not say what they are for, as brief ones do not."""
    if not names:
        return outcome
    note = f"note: not checked to be whole and for this network, since brief updates do not tell: {', '.join(names)}"
    return Outcome(f"{outcome.text}\n{note}", outcome.data | {"not_checked": [*names]})
