"""Units of the tool-by-tool experiment: CNNs in the place of, or after, the in-loop filters of VVC pictures.

```
 picture ─ encode ─┬─ filters "all" ─────────── decode ─┬─ the codec alone (anchor)
                   │                                    └─ post-filters, with each of their weights ─┐
                   ├─ filters "deblock-sao" ─── decode ─── the codec alone (VTM 1.0's filters)       │
                   └─ filters "none" ────────── decode ─┬─ the codec alone                           │
                                                        └─ replacements, with each of their weights ─┤
                                     full strength everywhere / as the encoder decides, from coded   │
                                     decisions / so, with Wiener filters fitted to the picture   ◀───┘
```

A unit is a few pictures of a sequence, coded one way at one QP, and all that filters them; units are independent of
each other. Pictures are encoded and decoded here (`CodedHere`), or were so elsewhere (`manifest.ListedPictures`); from
there on there is one path. Inter pictures are coded with all filters alone: what took a filter's place would have to
run inside the encoder, since other pictures are predicted from what it makes. Networks that are tuned to the sequence
(`adaptation_units`) filter in units of their own, once there is the update.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeAlias

import numpy as np
from tqdm import tqdm

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.sequence import CodedPicture, LoopFilters
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import DECIDED_WAYS, ToolRow, Way
from vvc_nnr.experiments.records.settings import InputDigests
from vvc_nnr.experiments.records.unit_rows import unit_key
from vvc_nnr.experiments.records.viewer_pictures import (
    PICTURES_FOLDER,
    decoded_name,
    filtered_name,
    original_name,
    store_picture,
)
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, is_adapted
from vvc_nnr.experiments.runs.decoded_pictures import (
    ANCHOR_FILTERS,
    Coding,
    DecodedPicture,
    DecodedPictures,
    PictureMaker,
)
from vvc_nnr.experiments.runs.joint_ways import JointWays
from vvc_nnr.experiments.runs.network_units import UnitSetup
from vvc_nnr.experiments.runs.networks import GivenNetwork, NetworkState
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.files import naming, read_bytes
from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    STRENGTH_UNIT,
    UNIT_CHOICE,
    Correction,
    Decisions,
    apply_decisions,
    block_grid,
    correction_by,
)
from vvc_nnr.filters.decisions.coding import decode_decisions, encode_decisions
from vvc_nnr.filters.decisions.search import decide, with_wiener_filters
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.inference.torch import torch_threads
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, PictureQps
from vvc_nnr.sequences.frame import DEFAULT_FPS, Frame
from vvc_nnr.sequences.metrics import comparable, picture_scores
from vvc_nnr.sequences.source import VIDEO_SUFFIXES, Source

UNIT_S = 10.0
"""At least so long a unit takes, where a sequence has as many pictures."""
MAX_UNITS_OF_A_VIDEO = 8
"""A video is decoded from its first picture on for each unit."""
_MAC_S, _PLANES_S = 1 / 72e9, 0.14
_SCORE_S, _DECIDE_S, _WIENER_S = 0.6, 0.8, 1.3
"""For a million luma samples on one core, measured: a network, and what reads its planes; a way with its scores."""
StateName: TypeAlias = tuple[str, str]
"""A network and which of its weights."""
Key: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """What tunes a network to a sequence.

    Attributes:
        path: Its file.
        base: The network, and which of its weights it changes.
        weights: What rows call the weights that it makes.
        sha256: The first 16 hex digits of the SHA-256 of the base's digest and the file.
    """

    path: Path
    base: StateName
    weights: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ToolUnit:
    """Some pictures of a sequence, coded one way at one QP, and what is measured of them.

    Attributes:
        source: The sequence.
        start: The first picture.
        count: How many.
        qp: The QP that they are coded with.
        config: The coding configuration.
        loop_filters: The codec's in-loop filters.
        maker: What makes the decoded pictures.
        networks: Name and weights of the networks that filter them, in the order of the tables.
        cost_s: About how many seconds that takes on one core.
        is_with_codec: Whether the codec alone is measured.
        update: What the network, there is one then, is tuned by; None: networks are as they are.
        key: A digest of all that its rows follow from; empty while that is not known.
    """

    source: Source
    start: int
    count: int
    qp: int
    config: ConfigName
    loop_filters: LoopFilters
    maker: PictureMaker
    networks: tuple[StateName, ...]
    cost_s: float
    is_with_codec: bool = True
    update: Update | None = None
    key: str = ""

    @property
    def name(self) -> str:
        """Such as "kodim01, ai, QP 22, all, picture 0 to 3"."""
        last = self.start + self.count - 1
        pictures = f"picture {self.start}" + (f" to {last}" if self.count > 1 else "")
        adapted = "".join(f", {name} {weights}" for name, weights in self.networks if is_adapted(weights))
        return f"{self.source.name}, {self.config}, QP {self.qp}, {self.loop_filters}, {pictures}{adapted}"

    @property
    def coding(self) -> Coding:
        """How the pictures are coded."""
        return self.config, self.loop_filters

    def plan(self) -> dict[str, object]:
        """What a plan says of it, for JSON."""
        return {
            "unit": self.name,
            "sequence": self.source.name,
            "config": self.config,
            "qp": self.qp,
            "loop_filters": self.loop_filters,
            "first_picture": self.start,
            "n_pictures": self.count,
            "networks": [f"{name} {weights}" for name, weights in self.networks],
            "cost_s": round(self.cost_s, 3),
        }

    def elsewhere(self) -> ToolUnit:
        """The same for a process that may be in another folder."""
        source = replace(self.source, path=self.source.path.absolute())
        return replace(self, source=source, maker=self.maker.elsewhere())

    def adapted(
        self, network: GivenNetwork, weights: str, options: ToolOptions, update: Update | None = None
    ) -> ToolUnit:
        """The same pictures, filtered by a network as an update tunes it, and nothing else."""
        n_millions = self.count * self.source.format.width * self.source.format.height / 1e6
        cost_s = n_millions * filter_s(network, options)
        networks = ((network.name, weights),)
        return replace(self, networks=networks, cost_s=cost_s, is_with_codec=False, update=update)


def tool_units(
    sources: Sequence[Source],
    n_pictures: Mapping[str, int],
    options: ToolOptions,
    decoded: DecodedPictures,
    networks: Sequence[GivenNetwork],
) -> list[ToolUnit]:
    """All units of an experiment, in the order of its rows.

    Args:
        sources: The sequences.
        n_pictures: How many pictures of each are used, by name.
        options: What to run.
        decoded: Where the decoded pictures come from.
        networks: The networks.
    """
    network_s = {network.name: filter_s(network, options) for network in networks}
    found = []
    for source, qp, (config, loop_filters) in product(sources, options.qps, decoded.codings):
        maker = decoded.maker(source, qp, (config, loop_filters))
        placed = [network for network in networks if network.place == loop_filters]
        names = tuple((each.name, weights) for each in placed for weights in each.weights(options.compressions))
        n_millions = source.format.width * source.format.height / 1e6
        picture_s = maker.picture_s + n_millions * (_SCORE_S + sum(network_s[name] for name, _ in names))
        is_video = source.path.suffix.lower() in VIDEO_SUFFIXES
        # decisions that are coded together follow from those of the pictures before
        step = None if options.are_joint(config) else maker.step
        for start, count in _chunks(n_pictures[source.name], step, picture_s, is_video=is_video):
            place = (source, start, count, qp, config, loop_filters)
            found.append(ToolUnit(*place, maker, names, picture_s * count))
    return found


def filter_s(network: GivenNetwork, options: ToolOptions) -> float:
    """About how many seconds a network with one kind of weights takes for a million luma samples, scores included."""
    state = network.any_state
    kmac = complexity(state.network, state.layout).kmac_per_luma_sample
    ways_s = {"full": _SCORE_S, "decisions": _DECIDE_S, "wiener": _WIENER_S}
    return float(kmac * 1e9 * _MAC_S + _PLANES_S + sum(ways_s[way] for way in options.ways))


def _chunks(n_pictures: int, step: int | None, picture_s: float, *, is_video: bool) -> Iterator[tuple[int, int]]:
    """First picture and number of pictures of each unit."""
    if step is None:
        step = max(1, n_pictures)
    n_steps = max(1, round(UNIT_S / max(step * picture_s, 1e-9)))
    if is_video:
        n_steps = max(n_steps, -(-n_pictures // (MAX_UNITS_OF_A_VIDEO * step)))
    size = min(n_steps, -(-n_pictures // step)) * step
    for start in range(0, n_pictures, size or 1):
        yield start, min(size, n_pictures - start)


@dataclass(frozen=True, slots=True)
class ToolSetup:
    """What all units of a run share, for whichever process.

    Attributes:
        base: Options, networks and where rows go.
        backends: What computes each network, by name.
    """

    base: UnitSetup[ToolOptions, ToolRow]
    backends: tuple[tuple[str, str], ...]

    def keyed(self, unit: ToolUnit, context: str, inputs: InputDigests, decoded: DecodedPictures) -> ToolUnit:
        """The unit with its key.

        Args:
            unit: The unit.
            context: All else that its rows follow from, as text.
            inputs: Of `DecodedPictures.digests`.
            decoded: Where the decoded pictures come from.
        """
        made = inputs.get(decoded.decoded_name(unit.source, unit.qp, unit.coding), ())
        pictures = slice(unit.start, unit.start + unit.count)
        sha256 = {(row.network, row.weights): row.network_sha256 for row in self.base.networks}
        if unit.update is not None:
            sha256 |= dict.fromkeys(unit.networks, unit.update.sha256)
        said = [
            *(context, unit.name, unit.is_with_codec, self.base.options.viewer_picture),
            [*inputs[unit.source.name][pictures]],
            [*made[pictures]],
            [(*name, sha256[name]) for name in unit.networks],
        ]
        return replace(unit, key=unit_key(*said))


class ToolExperiment:
    """All networks in their places, ready to run over pictures.

    Args:
        options: What to run.
        states: The networks with each of their weights.
        pictures: Folder of the viewer's pictures.
        backends: What must compute each network, as `check` of the experiment that planned the run found it; None: any.
    """

    def __init__(
        self,
        options: ToolOptions,
        states: Sequence[NetworkState],
        pictures: Path,
        backends: Mapping[str, str] | None = None,
    ) -> None:
        self.options = options
        self._backends = backends
        self._pictures = pictures
        self._states = {(state.row.network, state.row.weights): state for state in states}
        self._runners: dict[StateName, Runner] = {}
        # the last of each: decoded weights
        self._viewed = {
            state.row.network: options.adapted_weights[-1] if options.adapt else state.row.weights for state in states
        }
        self._ready_for: dict[StateName, tuple[int, int]] = {}
        self._joint: dict[StateName, JointWays] = {}
        self._updates: dict[StateName, Update] = {}

    def state(self, name: StateName) -> NetworkState:
        """A network with one of its weights."""
        return self._states[name]

    def check(self) -> dict[str, str]:
        """Makes a runner for each network, with one of its weights, and tells what is slower than it might be.

        Returns:
            What computes each network, by name.

        Raises:
            InputError: If the backend, the precision or the device is not there for one of them.
        """
        firsts = {name: (name, weights) for name, weights in reversed(self._states)}
        runners = {name: self._runner(first) for name, first in sorted(firsts.items())}
        for name, runner in runners.items():
            if runner.remark:
                tqdm.write(f"{name}: {runner.remark}", file=sys.stderr)
        return {name: runner.description for name, runner in runners.items()}

    def missing(self, unit: ToolUnit, done: Collection[Key]) -> ToolUnit | None:
        """The unit without what is measured and kept already; None if nothing is left.

        Args:
            unit: The unit.
            done: Keys of the rows that are there.
        """

        def has(name: StateName | None) -> bool:
            files = (path for place in _places(unit) for path in self._viewer_files(place, name))
            return all(map(done.__contains__, self.keys(unit, name))) and all(path.exists() for path in files)

        names = tuple(name for name in unit.networks if not has(name))
        has_codec = not unit.is_with_codec or has(None)
        return None if has_codec and not names else replace(unit, networks=names, is_with_codec=not has_codec)

    def keys(self, unit: ToolUnit, name: StateName | None) -> Iterator[Key]:
        """The keys (`ToolRow.key`) of the rows of a unit about the codec alone, or about a network."""
        for place in _places(unit):
            yield from self._keys(place, name)

    def all_keys(self, unit: ToolUnit) -> Iterator[Key]:
        """The keys of all rows of a unit, in the order of the rows."""
        for place in _places(unit):
            for name in _names(unit):
                yield from self._keys(place, name)

    def measure(self, unit: ToolUnit) -> list[ToolRow]:
        """The rows of a unit, picture by picture; keeps pictures for the viewer.

        Raises:
            UnsupportedError: If the sequence is not 4:2:0 or 4:0:0.
            InputError: If it cannot be read, or the encoder is not the one that it is planned with.
            BitstreamError: If it is damaged.
            ExternalToolError: If the encoder fails.
        """
        if unit.update is not None:
            self._take(unit.update)
        names = _names(unit)
        with naming(unit.source.path), torch_threads(self.options.threads):
            return [row for picture in self._made(unit) for name in names for row in self._measured(picture, name)]

    def _take(self, update: Update) -> None:
        """Brings the adapted weights of a network in the place of those for another sequence."""
        name = (update.base[0], update.weights)
        if self._updates.get(name) != update:
            base = self._states[update.base]
            network = base.adapted_base().network(read_bytes(update.path))
            self._states[name] = replace(base, network=network)
            self._updates[name] = update
            self._runners.pop(name, None)
            self._ready_for.pop(name, None)

    def _made(self, unit: ToolUnit) -> Iterator[MadePicture]:
        """The decoded pictures of a unit with their originals."""
        originals = unit.source.frames(unit.start, unit.count)
        pictures = unit.maker.pictures(unit.start, unit.count, self.options.threads)
        for place, original, each in zip(_places(unit), originals, pictures, strict=True):
            reference, frame = comparable(original, each.frame, has_ssim=True)
            costs = (each.n_bits, each.encode_s, each.decode_s)
            yield MadePicture(place, reference, frame, *costs, each.qps, each.coded, padded_like(frame, each))

    def _measured(self, picture: MadePicture, name: StateName | None) -> list[ToolRow]:
        """The rows of the codec alone, or of a network; keeps the picture for the viewer."""
        outputs = self._filtered(picture, name) if name else [_Output("codec", picture.decoded)]
        shown = [outputs[-1].frame] if name else [picture.reference, picture.decoded]
        for path, frame in zip(self._viewer_files(picture.place, name), shown, strict=False):
            store_picture(path, frame, picture.place.source.format.colour_range)
        return [self._row(picture, name, output) for output in outputs]

    def _filtered(self, picture: MadePicture, name: StateName) -> list[_Output]:
        """The network in each of its ways; what is decided is measured as it is decoded from its bytes."""
        decoded, whole = picture.decoded, picture.padded or picture.decoded
        correction, network_s = self._timed_correction(picture, name, whole)
        full, full_s = _timed_application(whole, correction, None)
        full = full.cropped(decoded.width, decoded.height)
        outputs = [_Output("full", full, 0, network_s + full_s, network_s + full_s)]
        if whole is not decoded and set(DECIDED_WAYS) & set(
            self.options.ways
        ):  # decisions are of the size that is shown
            correction, network_s = self._timed_correction(picture, name, decoded)
        if self.options.are_joint(picture.place.config):
            return [*outputs, *self._jointly(picture, name, correction, network_s)]
        for way, decisions, search_s in _searched(picture, correction, self.options.ways):
            start_s = time.process_time()
            data = encode_decisions(decisions)
            code_s = time.process_time() - start_s
            output, apply_s = _timed_application(decoded, correction, data)
            decode_s = network_s + apply_s
            outputs.append(_Output(way, output, 8 * len(data), decode_s + search_s + code_s, decode_s))
        return outputs

    def _jointly(
        self, picture: MadePicture, name: StateName, correction: Correction, network_s: float
    ) -> Iterator[_Output]:
        """The network in each decided way, its decisions coded together with those of the pictures before."""
        runner, decoded = self._runner_for(picture, name), picture.decoded
        own = self._told_qp(picture, name)
        told = [own, *(rule.qp(picture.qps, own) for rule in self.options.candidates)]
        if picture.place.index == 0:
            self._joint[name] = JointWays(decoded.format(DEFAULT_FPS), self.options.ways, len(told))
        start_s = time.process_time()
        corrections = [correction, *(correction_by(runner, decoded, qp) for qp in told[1:])]
        candidates_s = network_s + time.process_time() - start_s
        for each in self._joint[name].decided(picture.reference, decoded, corrections, picture.own_qp):
            start_s = time.process_time()
            output = apply_decisions(decoded, corrections[each.decisions.qp_candidate], each.decisions)
            apply_s = time.process_time() - start_s
            costs_s = (candidates_s + each.search_s + apply_s, network_s + apply_s)
            yield _Output(each.way, output, each.n_bits, *costs_s, told[each.decisions.qp_candidate])

    def _told_qp(self, picture: MadePicture, name: StateName) -> int:
        """The QP that a network is told of a picture, by its own rule."""
        layout = self._states[name].layout
        return (DEFAULT_RULE if layout is None else layout.qp_rule).qp(picture.qps)

    def _runner_for(self, picture: MadePicture, name: StateName) -> Runner:
        """A network for pictures of the colour range that a sequence states."""
        return self._runner(name).in_range(picture.place.source.format.colour_range)

    def _runner(self, name: StateName) -> Runner:
        if name not in self._runners:
            state = self._states[name]
            runner = self.options.runner(state.network, state.layout)
            planned = runner.description if self._backends is None else self._backends[name[0]]
            if runner.description != planned:
                raise InputError(
                    f"{name[0]}: is computed by {runner.description} in this process, and by {planned} where the run "
                    "was planned: install the same on each machine, or name another backend"
                )
            self._runners[name] = runner
        return self._runners[name]

    def _timed_correction(self, picture: MadePicture, name: StateName, frame: Frame) -> tuple[Correction, float]:
        """What the network changes of a picture, with or without its padding, and its processor time.

        It has run on a picture of this size by then: some backends compile for each size, which is loading.
        """
        runner, qp, size = self._runner_for(picture, name), self._told_qp(picture, name), (frame.width, frame.height)
        if self._ready_for.get(name) != size:
            correction_by(runner, frame, qp)
            self._ready_for[name] = size
        start_s = time.process_time()
        correction = correction_by(runner, frame, qp)
        return correction, time.process_time() - start_s

    def _row(self, picture: MadePicture, name: StateName | None, output: _Output) -> ToolRow:
        scores, coded = picture_scores(picture.reference, output.frame, peak=self.options.psnr_peak), picture.coded
        place = picture.place
        return ToolRow(
            sequence=place.source.name,
            ctc_class=place.source.ctc_class,
            picture=place.index,
            width=picture.reference.width,
            height=picture.reference.height,
            bit_depth=picture.reference.bit_depth,
            qp=place.qp,
            loop_filters=place.loop_filters,
            way=output.way,
            network=name[0] if name else "",
            weights=name[1] if name else NO_WEIGHTS,
            network_sha256=self._sha256(place, name) if name else "",
            n_bits=picture.n_bits,
            n_decision_bits=output.n_decision_bits,
            **scores.by_column(),
            encode_s=None if picture.encode_s is None else picture.encode_s + output.encode_s,
            decode_s=None if picture.decode_s is None else picture.decode_s + output.decode_s,
            config=place.config,
            slice_type=coded.slice_type if coded else "",
            temporal_layer=coded.temporal_layer if coded else None,
            slice_qp=coded.qp if coded else None,
            network_qp=None if name is None else self._told_qp(picture, name) if output.qp is None else output.qp,
        )

    def _viewer_files(self, place: Place, name: StateName | None) -> list[Path]:
        """What a viewer gets of the codec (original, decoded), or of a network with its last weights; often nothing."""
        where = (place.source.name, place.index)
        is_viewed = place.index == self.options.viewer_picture and self._is_filtered(place)
        if not is_viewed or (name and name[1] != self._viewed[name[0]]):
            return []
        if name is None:
            names = [original_name(*where), decoded_name(*where, place.qp, place.loop_filters, place.config)]
        else:
            way, sha256 = self.options.ways[-1], self._sha256(place, name)
            names = [filtered_name(*where, place.qp, way, name[0], sha256, place.config)]
        return [self._pictures / each for each in names]

    def _is_filtered(self, place: Place) -> bool:
        return any(state.row.place == place.loop_filters for state in self._states.values())

    def _keys(self, place: Place, name: StateName | None) -> Iterator[Key]:
        picture = (place.config, place.source.name, place.index, place.qp, place.loop_filters)
        if name is None:
            yield (*picture, "codec", "", NO_WEIGHTS, "")
            return
        for way in self.options.ways:
            yield (*picture, way, *name, self._sha256(place, name))

    def _sha256(self, place: Place, name: StateName) -> str:
        return self._states[name].row.network_sha256 if place.update is None else place.update.sha256


def run_tool_unit(setup: ToolSetup, unit: ToolUnit) -> None:
    """Measures a unit in whichever process, and writes its rows.

    Raises:
        InputError: If networks or encoder are not those that the run was planned with, or as `ToolExperiment.measure`.
        BitstreamError, UnsupportedError, ExternalToolError: As `ToolExperiment.measure`.
    """
    write_unit(setup, experiment_of(setup), unit)


def write_unit(setup: ToolSetup, experiment: ToolExperiment, unit: ToolUnit) -> None:
    """Measures a unit by an experiment that is ready, and writes its rows; raises as `ToolExperiment.measure`."""
    setup.base.rows.write(unit, experiment.measure(unit))


def experiment_of(setup: ToolSetup) -> ToolExperiment:
    """The experiment of a run in this process and thread.

    Raises:
        InputError: If networks are not those that the run was planned with.
    """
    return _experiment(setup, threading.get_ident())


@functools.lru_cache(maxsize=4)
def _experiment(setup: ToolSetup, thread: int) -> ToolExperiment:
    """The experiment of a run in this process, made once for each of its threads."""
    pictures = setup.base.rows.folder / PICTURES_FOLDER
    return ToolExperiment(setup.base.options, setup.base.states(), pictures, dict(setup.backends))


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    """A picture as one way of filtering leaves it, what that costs beyond the codec, and another QP if one was told."""

    way: Way
    frame: Frame
    n_decision_bits: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0
    qp: int | None = None


def check_places(networks: Sequence[GivenNetwork], codings: Sequence[Coding]) -> None:
    """Refuses networks for whose place there are no decoded pictures.

    Raises:
        InputError: Naming the first such network.
    """
    inter = [config for config, _ in codings if CONFIGURATIONS[config].is_inter]
    loop_filter_sets = [loop_filters for _, loop_filters in codings]
    for network in networks:
        if inter and network.place != ANCHOR_FILTERS:
            title = CONFIGURATIONS[inter[0]].title
            raise InputError(
                f"{network.name}: stands in the place of the codec's in-loop filters, and in {title} other "
                "pictures are predicted from what it makes: run behind the decoder it would drift from the "
                "encoder. Name networks that filter after all in-loop filters (--networks inloop-lop), or --config ai"
            )
        if network.place not in loop_filter_sets:
            there = ", ".join(dict.fromkeys(loop_filter_sets))
            raise InputError(
                f"{network.name}: filters pictures that are decoded with loop_filters {network.place}, and there are "
                f"only such with {there}; list those too, or name other networks"
            )


def _searched(
    picture: MadePicture, correction: Correction, ways: Sequence[Way]
) -> Iterator[tuple[Way, Decisions, float]]:
    """Yields each way that is decided, its decisions, and the processor time of their search."""
    if "decisions" not in ways:
        return
    qp, decoded = picture.own_qp, picture.decoded
    start_s = time.process_time()
    decisions = decide(picture.reference, decoded, correction, qp)
    decide_s = time.process_time() - start_s
    yield "decisions", decisions, decide_s
    if "wiener" in ways:
        start_s = time.process_time()
        with_filters = with_wiener_filters(decisions, picture.reference, decoded, correction, qp)
        yield "wiener", with_filters, decide_s + time.process_time() - start_s


def _timed_application(decoded: Frame, correction: Correction, data: bytes | None) -> tuple[Frame, float]:
    """The picture as a decoder makes it from coded decisions, None for full strength, and its processor time."""
    start_s = time.process_time()
    decisions = _full_strength(decoded) if data is None else decode_decisions(data, decoded.format(DEFAULT_FPS))
    output = apply_decisions(decoded, correction, decisions)
    return output, time.process_time() - start_s


def _full_strength(decoded: Frame) -> Decisions:
    """The decisions of a picture to which the correction is added as it is."""
    block_size, n_planes = max(BLOCK_SIZES), len(decoded.planes)
    choices = np.full(block_grid(decoded.width, decoded.height, block_size), UNIT_CHOICE, np.uint8)
    return Decisions(block_size, (round(1 / STRENGTH_UNIT),) * n_planes, (choices,) * n_planes)


@dataclass(frozen=True, slots=True)
class Place:
    """One picture of an experiment.

    Attributes:
        source: Its sequence.
        index: Its number in the sequence, from 0.
        qp: The QP that it is coded with.
        loop_filters: The codec's in-loop filters.
        config: The coding configuration.
        update: What its network is tuned by, if it is.
    """

    source: Source
    index: int
    qp: int
    loop_filters: LoopFilters
    config: ConfigName
    update: Update | None = None


def padded_like(frame: Frame, decoded: DecodedPicture) -> Frame | None:
    """A decoded picture with its padding, in the chroma format of what is compared with the original; None: without."""
    padded = decoded.padded
    return padded and Frame(padded.planes[: len(frame.planes)], padded.bit_depth, frame.chroma_format)


def _names(unit: ToolUnit) -> list[StateName | None]:
    """What is measured of each picture: None is the codec alone."""
    return [*([None] if unit.is_with_codec else []), *unit.networks]


def _places(unit: ToolUnit) -> Iterator[Place]:
    for index in range(unit.start, unit.start + unit.count):
        yield Place(unit.source, index, unit.qp, unit.loop_filters, unit.config, unit.update)


@dataclass(frozen=True, slots=True, eq=False)
class MadePicture:
    """One picture before and after coding.

    Attributes:
        place: Which one.
        reference: The original at the depth of the decoded picture.
        decoded: What the codec made of it, in the same format.
        n_bits: Its size in the stream.
        encode_s: Its share of the encoder's processor time, None where a cached encoding does not know it.
        decode_s: Processor time of its decoding with the check of its MD5, None where that is not known.
        qps: Its QPs, by which networks are told theirs.
        coded: What its headers say of it, None where it was decoded elsewhere.
        padded: The decoded picture with what odd or small sides were padded with; None: there is no such.
    """

    place: Place
    reference: Frame
    decoded: Frame
    n_bits: int
    encode_s: float | None
    decode_s: float | None
    qps: PictureQps
    coded: CodedPicture | None = None
    padded: Frame | None = None

    @property
    def own_qp(self) -> int:
        """The QP that it was coded with, 0 to 63, which says what a bit is worth in it; else that of the encoding."""
        return self.place.qp if self.coded is None else max(0, self.coded.qp)
