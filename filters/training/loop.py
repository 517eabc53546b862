"""The training loop that all networks of this package share: resumable, seeded, on CPU or GPU.

Or on several GPUs, each with a process: `torchrun --nproc-per-node 4 --no-python vvc-nnr train ...`.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.files import make_folder, open_input, read_bytes, write_file
from vvc_nnr.filters.inference.torch import choose_device, training_precision
from vvc_nnr.filters.training.optimiser import Optimiser, OptimiserName, check_optimiser
from vvc_nnr.model.torch_file import check_records

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: the first one may be making training pairs."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those that train one network together.

    Attributes:
        rank: Its number, from 0; number 0 writes files.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def batch_number(self, step: int) -> int:
        """A number that no other process and no other step has, from which a batch is drawn."""
        return step * self.size + self.rank

    def average_gradients(self, network: nn.Module) -> None:
        """Replaces each gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def worker_group() -> Iterator[Workers]:
    """Joins the processes that torchrun started; outside torchrun this process is alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Workers()
        return
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if has_gpus else "gloo", timeout=PATIENCE)
    try:
        yield Workers(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


ALONE = Workers()

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How long and how to train.

    Attributes:
        n_steps: Optimiser steps in all.
        batch_size: Samples per step.
        learning_rate: Peak rate; a linear warm-up, then a cosine down to zero.
        warmup_steps: Steps of the warm-up.
        weight_decay: Decay of weights, times the rate.
        ema_decay: Decay per step of the averaged weights, which are the result.
        max_grad_norm: Gradients are scaled down to this norm.
        quantised_share: For this last share of the steps the loss is that of the weights as the min/max quantiser
            leaves them (straight-through gradients), so that the network learns to bear it; 0 for never.
        quantised_bits: Bits per weight of that quantiser.
        seed: Fixes the initial weights and, with the step number, every random choice of the data.
        checkpoint_every: Steps between checkpoints.
        device: "cpu", "cuda" or "auto" (a GPU when there is one).
        channels_last: Keep weights and activations in that layout, which is faster for most networks; some masked
            convolutions crash torch's backward pass in it.
        optimiser: "adamw", or "muon" for the kernels of convolutions with AdamW for the rest.
    """

    n_steps: int
    batch_size: int = 8
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    quantised_share: float = 0.0
    quantised_bits: int = 8
    seed: int = 0
    checkpoint_every: int = 1000
    device: str = "auto"
    channels_last: bool = True
    optimiser: OptimiserName = "adamw"

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.batch_size < 1 or self.checkpoint_every < 1:
            raise InputError("steps, batch size and checkpoint interval must each be at least 1")
        if not 0 <= self.quantised_share <= 1 or not 1 <= self.quantised_bits <= 16:
            raise InputError("the share of quantised steps must be 0 to 1, the bits per weight 1 to 16")
        check_optimiser(self.optimiser)


class TrainingTask(Protocol):
    """What a network learns: the loop asks for a loss, and now and then for figures to show."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """The loss of one batch; all its random choices follow from the task's seed and the step number."""

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Figures of the network as it stands, on pictures that it is not trained on."""


@dataclass(slots=True)
class _State:
    step: int
    optimiser: Optimiser
    average: dict[str, Tensor]


Identity: TypeAlias = Mapping[str, object]
"""What determines the result of a training besides `TrainOptions`: texts, numbers, lists and maps of them, by name."""


def train(
    task: TrainingTask,
    options: TrainOptions,
    checkpoint: Path,
    workers: Workers = ALONE,
    identity: Identity | None = None,
    history: Path | None = None,
) -> Mapping[str, float]:
    """Trains the task's network in place and leaves the averaged weights in it.

    A run that was cut off goes on from its checkpoint and ends with the same weights as an uncut one
    (same machine, same number of threads and processes).

    Args:
        task: The network and its loss.
        options: Length, rates, seed.
        checkpoint: File to save to and, when it exists, to go on from.
        workers: The processes that train together: each takes a batch of its own per step.
        identity: What determines the result besides the options, such as the pictures; a checkpoint of another
            identity is refused.
        history: File of a line for each checkpoint: step, mean loss since the one before, validation figures (TSV).

    Returns:
        The last validation figures.

    Raises:
        InputError: If the checkpoint is damaged, belongs to another network or other options, or cannot be written.
        VvcNnrError: If the loss becomes NaN or infinite.
    """
    device = choose_device(options.device)
    noted = _as_json({**(identity or {}), "n_processes": workers.size})
    network = task.network.to(device=device)
    if options.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = Optimiser(options.optimiser, network, options.weight_decay)
    state = _State(0, optimiser, {k: v.detach().clone() for k, v in network.state_dict().items()})
    if checkpoint.exists():
        _load(checkpoint, network, state, options, noted, device)
    figures: Mapping[str, float] = {}
    past = [] if history is None else read_history(history, state.step)
    losses: list[float] = []
    with tqdm(
        total=options.n_steps,
        initial=state.step,
        unit="step",
        desc=checkpoint.stem,
        mininterval=1.0,
        disable=True if workers.rank else None,
    ) as bar:
        while state.step < options.n_steps:
            losses.append(_step(task, network, state, options, device, workers))
            bar.update()
            if state.step % options.checkpoint_every == 0 or state.step == options.n_steps:
                if workers.rank == 0:
                    _save(checkpoint, network, state, options, noted)
                figures = _validate_average(task, network, state.average, device)
                past.append({"step": state.step, "loss": sum(losses) / len(losses), **figures})
                losses.clear()
                if history is not None and workers.rank == 0:
                    _write_history(history, past)
                bar.set_postfix({k: f"{v:.3f}" for k, v in figures.items()})
                _log.info("step %d: %s", state.step, " ".join(f"{k}={v:.4f}" for k, v in figures.items()))
    network.load_state_dict(state.average)
    return figures or _validate_average(task, network, state.average, device)


def check_checkpoint(checkpoint: Path, identity: Identity, options: TrainOptions | None = None) -> None:
    """Refuses a checkpoint that a training could not go on from, before anything is written.

    Args:
        checkpoint: The file; where there is none, nothing is wrong with it.
        identity: As of `train`, or what is known of it by now.
        options: Those of the training; None if they are not known yet.

    Raises:
        InputError: If the checkpoint is damaged, or of other options or another identity.
    """
    if not checkpoint.exists():
        return
    content = _content(checkpoint, torch.device("cpu"))
    _check_same_run(content, options, _as_json(identity), checkpoint)


def learning_rate_at(step: int, options: TrainOptions) -> float:
    """The rate of one step: a linear warm-up, then half a cosine down to zero."""
    warmup = min(1.0, (step + 1) / max(1, options.warmup_steps))
    return options.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / options.n_steps))


@contextmanager
def quantised_weights(network: nn.Module, bits: int) -> Iterator[None]:
    """Inside the block every parameter is what a min/max quantiser of so many bits makes of it, then as before."""
    parameters = list(network.parameters())
    exact = [parameter.data for parameter in parameters]
    try:
        for parameter in parameters:
            low, high = parameter.data.aminmax()
            step = ((high - low) / ((1 << bits) - 1)).clamp_min(1e-30)
            parameter.data = low + torch.round((parameter.data - low) / step) * step
        yield
    finally:
        for parameter, data in zip(parameters, exact, strict=True):
            parameter.data = data


def _step(
    task: TrainingTask,
    network: nn.Module,
    state: _State,
    options: TrainOptions,
    device: torch.device,
    workers: Workers,
) -> float:
    """Trains one step; returns its loss."""
    network.train()
    state.optimiser.clear()
    is_quantised = state.step >= options.n_steps * (1 - options.quantised_share)
    with quantised_weights(network, options.quantised_bits) if is_quantised else nullcontext():
        with training_precision(device):
            loss = task.loss(workers.batch_number(state.step), options.batch_size, device)
        if not torch.isfinite(loss):
            raise VvcNnrError(f"the loss is {float(loss.detach())} at step {state.step}: try a lower learning rate")
        loss.backward()  # type: ignore[no-untyped-call]
    workers.average_gradients(network)
    nn.utils.clip_grad_norm_(network.parameters(), options.max_grad_norm)
    state.optimiser.step(learning_rate_at(state.step, options))
    state.step += 1
    decay = min(options.ema_decay, (1 + state.step) / (10 + state.step))
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            state.average[name].lerp_(value, 1 - decay)
        else:
            state.average[name].copy_(value)
    return float(loss.detach())


def read_history(path: Path, step: float = math.inf) -> list[dict[str, float]]:
    """The lines of a history up to a step: those after it are of a run that was cut off before its checkpoint.

    Raises:
        InputError: If the file is no history.
    """
    if not path.exists() or step == 0:
        return []
    try:
        heads, *lines = (line.split("\t") for line in read_bytes(path).decode().splitlines())
        rows = [{head: float(word) for head, word in zip(heads, line, strict=True)} for line in lines]
        return [{**row, "step": int(row["step"])} for row in rows if row["step"] <= step]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: no history of a training ({error}); remove it") from error


def _write_history(path: Path, rows: list[dict[str, float]]) -> None:
    lines = ["\t".join(rows[-1]), *("\t".join(f"{value:.6g}" for value in row.values()) for row in rows)]
    write_file(path, "".join(f"{line}\n" for line in lines).encode())


def _validate_average(
    task: TrainingTask, network: nn.Module, average: dict[str, Tensor], device: torch.device
) -> Mapping[str, float]:
    """Validates the averaged weights, then puts the current ones back."""
    current = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    with torch.no_grad():
        figures = task.validate(device)
    network.load_state_dict(current)
    return figures


def _save(path: Path, network: nn.Module, state: _State, options: TrainOptions, identity: Identity) -> None:
    content = {
        "step": state.step,
        "network": network.state_dict(),
        "average": state.average,
        "optimiser": state.optimiser.state_dict(),
        "options": asdict(options),
        "identity": dict(identity),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    make_folder(path.parent)
    write_file(path, buffer.getbuffer())


def _load(
    path: Path, network: nn.Module, state: _State, options: TrainOptions, identity: Identity, device: torch.device
) -> None:
    content = _content(path, device)
    try:
        _check_same_run(content, options, identity, path)
        network.load_state_dict(content["network"])
        state.optimiser.load_state_dict(content["optimiser"])
        state.average = _average(content["average"], network, device)
        state.step = int(content["step"])
        if not 0 < state.step <= options.n_steps:
            raise ValueError(f"step {state.step} of {options.n_steps}")
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint of this network: {error}") from error


def _average(saved: Mapping[str, Tensor], network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint; raises ValueError or another error unless they are the network's."""
    own = network.state_dict()
    if saved.keys() != own.keys():
        raise ValueError(f"the averaged weights lack or have too many of {sorted(saved.keys() ^ own.keys())[:3]}")
    for name, value in own.items():
        if saved[name].shape != value.shape or saved[name].dtype != value.dtype:
            raise ValueError(f"the averaged {name} is {saved[name].dtype} {tuple(saved[name].shape)}")
    return {name: saved[name].to(device) for name in own}


def _content(path: Path, device: torch.device) -> dict[str, Any]:
    """What a checkpoint file holds; torch's own words on a damaged one would advise to trust it."""
    with open_input(path) as file:
        try:
            check_records(file)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on the protocol of a pickle
                content = torch.load(file, map_location=device, weights_only=True)
        except Exception as error:
            raise InputError(f"{path}: not a checkpoint, or damaged; remove it to train anew") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a checkpoint but a {type(content).__name__}; remove it to train anew")
    return content


def _check_same_run(content: dict[str, Any], options: TrainOptions | None, identity: Identity, path: Path) -> None:
    """Holds a checkpoint against what is asked for."""
    saved, noted = content.get("options"), content.get("identity")
    if not isinstance(saved, dict):
        raise InputError(f"{path}: not a checkpoint of a training: it notes no options; remove it to train anew")
    free = ("device", "checkpoint_every", "channels_last")
    asked = {} if options is None else asdict(options)
    wanted = {key: value for key, value in asked.items() if key not in free}
    if type(saved.get("n_steps")) is int and asked.get("n_steps", 0) > saved["n_steps"]:
        del wanted["n_steps"]  # a longer run goes on, with the learning rate of its own plan
    different = _differences(saved, wanted)
    if not different and not isinstance(noted, dict):
        names = ", ".join(identity)
        raise InputError(f"{path}: a checkpoint of an older version, which does not note {names}; use another folder")
    different = different or _differences(cast(dict[str, Any], noted), identity)
    if different:
        detail = ", ".join(different)
        what_to_do = "use the same options or another folder, or delete this one"
        raise InputError(f"{path}: a checkpoint of another run ({detail}); {what_to_do}")


def _differences(there: Mapping[str, object], asked: Identity) -> list[str]:
    """What differs, in words; of a map only the first of its names."""
    found = []
    for key, value in asked.items():
        old = there.get(key)
        if old == value:
            continue
        if isinstance(old, dict) and isinstance(value, dict):
            name = next(name for name in sorted({*old, *value}) if old.get(name) != value.get(name))
            how = "is new" if name not in old else "is missing" if name not in value else "has changed"
            found.append(f"{key}: {name} {how}")
        else:
            found.append(f"{key} {old} there, {value} asked for")
    return found


def _as_json(identity: Identity) -> dict[str, Any]:
    """The identity as a checkpoint gives it back: tuples are lists, and there is nothing but data."""
    return cast(dict[str, Any], json.loads(json.dumps(identity, default=list)))
