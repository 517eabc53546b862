"""Units that tune networks to sequences in tool-by-tool: an update for one QP of a sequence, or for all.

```
 pictures ─ encoded at each QP ─ decoded ─┐                       ┌─ the adapted network filters the pictures, as any
 original ────────────────────────────────┴─ tuning ─ update.nnc ─┤  other (`tool_units`)
                                                                  └─ SEI messages: their bytes are in the tables
```
Encodings are in the cache by then. An update is a file in the folder of coded networks, under a name by all that it
follows from: the pictures, how they are coded, the network, the options of tuning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean

import vvc_nnr
from vvc_nnr.codec.configuration import ConfigName
from vvc_nnr.codec.sei import inserted_units
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.codec.stream_filters import MD5_BYTES, FilterSettings
from vvc_nnr.experiments.records.rows import UpdateRow
from vvc_nnr.experiments.records.settings import InputDigests
from vvc_nnr.experiments.records.unit_rows import unit_key
from vvc_nnr.experiments.records.weights import ADAPTED, ADAPTED_EACH
from vvc_nnr.experiments.runs.decoded_pictures import DecodedPictures, PictureMaker
from vvc_nnr.experiments.runs.networks import GivenNetwork, NetworkState, adapted_base, plain_name
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.experiments.runs.tool_units import (
    StateName,
    ToolExperiment,
    ToolSetup,
    Update,
    experiment_of,
    filter_s,
    padded_like,
)
from vvc_nnr.files import naming, read_bytes, temporary_folder, write_file
from vvc_nnr.filters.adaptation.measured_pictures import learning_stride
from vvc_nnr.filters.adaptation.net_effect import loss_per_bit, measured_db, rate_slopes
from vvc_nnr.filters.adaptation.tuned_filter import LearningPicture
from vvc_nnr.filters.adaptation.tuning import TunedUpdate, tune
from vvc_nnr.filters.adaptation.written_stream import FILTER_ID, is_same_on_machines
from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.inference.torch import torch_threads
from vvc_nnr.sequences.metrics import comparable, frame_psnr_db
from vvc_nnr.sequences.source import Source

_KMAC_STEP_S = 0.014
"""Seconds of a step of tuning on one core for a thousand multiplications per luma sample, measured."""
_MAX_LETTERS = 80
"""Of a network's and a sequence's name in the name of a file, which may have 255 in all."""
_READ_S = 0.1
"""Decoding and scoring a million luma samples."""


@dataclass(frozen=True, slots=True)
class AdaptationUnit:
    """A network that is tuned to a sequence in one configuration, at one QP or at all.

    Attributes:
        source: The sequence.
        count: How many of its pictures, from the first on.
        config: The coding configuration.
        loop_filters: The codec's in-loop filters.
        network: The network, and which of its weights are tuned.
        makers: What makes the decoded pictures at each QP of the sequence.
        qp: The QP that it is tuned to; None: all, by one update.
        cost_s: About how many seconds it takes on one core.
        path: Where the update goes; empty while that is not known.
    """

    source: Source
    count: int
    config: ConfigName
    loop_filters: LoopFilters
    network: StateName
    makers: tuple[tuple[int, PictureMaker], ...]
    qp: int | None
    cost_s: float
    path: Path = Path()

    @property
    def name(self) -> str:
        """Such as "bikes, ra, inloop-lop tuned", or "bikes, ra, QP 22, inloop-lop tuned"."""
        qp = "" if self.qp is None else f", QP {self.qp}"
        return f"{self.source.name}, {self.config}{qp}, {self.network[0]} tuned"

    @property
    def weights(self) -> str:
        """What rows call the weights that it makes."""
        return ADAPTED if self.qp is None else ADAPTED_EACH

    @property
    def tuned_qps(self) -> tuple[int, ...]:
        """The QPs whose pictures are learnt on, and that the update is for."""
        return tuple(qp for qp, _ in self.makers) if self.qp is None else (self.qp,)

    def plan(self) -> dict[str, object]:
        """What a plan says of it, for JSON."""
        return {
            "unit": self.name,
            "sequence": self.source.name,
            "config": self.config,
            "qps": [*self.tuned_qps],
            "loop_filters": self.loop_filters,
            "first_picture": 0,
            "n_pictures": self.count,
            "networks": [" ".join(self.network)],
            "cost_s": round(self.cost_s, 3),
        }

    def elsewhere(self) -> AdaptationUnit:
        """The same for a process that may be in another folder."""
        source = replace(self.source, path=self.source.path.absolute())
        return replace(self, source=source, makers=tuple((qp, maker.elsewhere()) for qp, maker in self.makers))

    def keyed(
        self, setup: ToolSetup, folder: Path, context: str, inputs: InputDigests, decoded: DecodedPictures
    ) -> AdaptationUnit:
        """The unit with the file of its update.

        Args:
            setup: What all units of the run share.
            folder: Of coded networks.
            context: How pictures are coded, as text.
            inputs: Of `DecodedPictures.digests`.
            decoded: Where the decoded pictures come from.
        """
        (sha256,) = (row.network_sha256 for row in setup.base.networks if (row.network, row.weights) == self.network)
        coding = (self.config, self.loop_filters)
        made = [inputs.get(decoded.decoded_name(self.source, qp, coding), ())[: self.count] for qp, _ in self.makers]
        about = [[*inputs[self.source.name][: self.count]], [[*each] for each in made], [qp for qp, _ in self.makers]]
        options = {**asdict(setup.base.options.adaptation), "updates": self.tuned_qps}
        key = unit_key(vvc_nnr.__version__, context, *coding, *self.network, sha256, about, options)
        network, sequence = (plain_name(name)[:_MAX_LETTERS] for name in (self.network[0], self.source.name))
        qp = "" if self.qp is None else f"_{self.qp}"
        name = f"{network}_adapted_{self.config}_{sequence}{qp}_{key[:12]}.nnc"
        return replace(self, path=folder.absolute() / name)


def adaptation_units(
    sources: Sequence[Source],
    n_pictures: Mapping[str, int],
    options: ToolOptions,
    decoded: DecodedPictures,
    networks: Sequence[GivenNetwork],
) -> list[AdaptationUnit]:
    """A unit for each sequence, configuration, network in its place and update; arguments as for `tool_units`.

    Their cost has that of the adapted network's units in it: both are of one share.

    Raises:
        InputError: If a network cannot be adapted.
    """
    if not options.adapt:
        return []
    bases = {network.name: (network.name, adapted_base(network, options.compressions)) for network in networks}
    network_s = {network.name: filter_s(network, options) for network in networks}
    tuning_s = {network.name: _tuning_s(network, options) for network in networks}
    qps, found = sorted(options.qps), []
    for source, coding, network in product(sources, decoded.codings, networks):
        config, loop_filters = coding
        if network.place == loop_filters:
            count = n_pictures[source.name]
            n_millions = count * source.format.width * source.format.height / 1e6
            makers = tuple((qp, decoded.maker(source, qp, coding)) for qp in qps)
            about = (source, count, config, loop_filters, bases[network.name], makers)
            own: list[int | None] = [*qps] if ADAPTED_EACH in options.adapted_weights else []
            for qp in (*own, *([None] if ADAPTED in options.adapted_weights else [])):
                n_filtered = len(qps) if qp is None else 1
                read_s = n_millions * (len(qps) * _READ_S + n_filtered * network_s[network.name])
                found.append(AdaptationUnit(*about, qp, tuning_s[network.name] + read_s))
    return found


def _tuning_s(network: GivenNetwork, options: ToolOptions) -> float:
    """About how many seconds the steps of tuning take."""
    state = network.any_state
    kmac = complexity(state.network, state.layout).kmac_per_luma_sample
    return (options.adaptation.n_steps or 0) * kmac * _KMAC_STEP_S


def run_adaptation_unit(setup: ToolSetup, unit: AdaptationUnit) -> None:
    """Tunes a network in whichever process; raises as `write_update`, and InputError for another network here."""
    write_update(experiment_of(setup), unit)


def write_update(experiment: ToolExperiment, unit: AdaptationUnit) -> None:
    """Tunes a network and writes the update.

    Raises:
        InputError, BitstreamError, UnsupportedError, ExternalToolError: If pictures cannot be had, or a file not be
            written.
        VvcNnrError: If the loss becomes NaN.
    """
    with naming(unit.source.path):
        write_file(unit.path, _tuned(experiment.state(unit.network), experiment.options, unit).data)


def is_tuned(unit: AdaptationUnit) -> bool:
    """Whether the update is there."""
    return unit.path.exists()


def _tuned(state: NetworkState, options: ToolOptions, unit: AdaptationUnit) -> TunedUpdate:
    """The update, the same in every process of one machine: a fixed number of steps on one thread."""
    base = state.adapted_base()
    layout = base.layout
    format, how = unit.source.format, options.adaptation
    if format.chroma_format == "400":
        how = replace(how, measure="luma", chroma_weight=0.0)
    if layout.planes == "y":
        how = replace(how, chroma_weight=0.0)
    stride = learning_stride(unit.count, format.width * format.height, len(unit.makers))
    learnt: list[LearningPicture] = []
    sizes, psnrs_db = [], []
    for qp, maker in unit.makers:
        scores_db, n_bits = [], 0
        pictures = maker.pictures(0, unit.count, options.threads)
        for number, (original, made) in enumerate(zip(unit.source.frames(0, unit.count), pictures, strict=True)):
            reference, frame = comparable(original, made.frame)
            scores = frame_psnr_db(reference, frame)
            components = [value for value in (scores.y, scores.cb, scores.cr) if value is not None]
            scores_db.append(measured_db(components, how.measure))
            n_bits += made.n_bits
            if qp in unit.tuned_qps and number % stride == 0:
                whole = padded_like(frame, made) or frame
                learnt.append(LearningPicture.of(reference, whole, layout.qp_rule.qp(made.qps), layout))
        sizes.append(n_bits / 8)
        psnrs_db.append(fmean(scores_db))
    own = [place for place, (qp, _) in enumerate(unit.makers) if qp in unit.tuned_qps]
    slopes = rate_slopes(sizes, psnrs_db)
    worth = [sizes[place] * (how.n_pictures or unit.count) / unit.count for place in own]
    lambda_rd = loss_per_bit(worth, [slopes[place] for place in own], how.learnt_chroma_weight, how.measure)
    with torch_threads(1), temporary_folder() as folder:
        return tune(base.network(), base.arrays(), learnt, how, lambda_rd, folder, layout)


def made_update(experiment: ToolExperiment, unit: AdaptationUnit) -> Update:
    """The update of a unit that is done."""
    own = experiment.state(unit.network).row.network_sha256
    digest = hashlib.sha256(own.encode() + read_bytes(unit.path)).hexdigest()
    return Update(unit.path, unit.network, unit.weights, digest[:16])


def update_rows(experiment: ToolExperiment, unit: AdaptationUnit) -> list[UpdateRow]:
    """What the update of a unit that is done costs a stream of each of its QPs."""
    precision, state = experiment.options.precision, experiment.state(unit.network)
    base = state.adapted_base()
    digest = b"\xff" * MD5_BYTES if is_same_on_machines(state.network, precision) else None
    settings = FilterSettings(filter_id=FILTER_ID, is_kept=True, precision=precision, output_md5=digest)
    n_filter, n_both = (
        len(inserted_units(base.messages(settings, update, unit.source.format.chroma_format)))
        for update in (None, read_bytes(unit.path))
    )
    update = made_update(experiment, unit)
    return [
        UpdateRow(
            config=unit.config,
            sequence=unit.source.name,
            network=unit.network[0],
            weights=unit.weights,
            qp=qp,
            measure=experiment.options.adaptation.measure,
            network_sha256=update.sha256,
            base=unit.network[1],
            n_pictures=unit.count,
            n_filter_bytes=n_filter,
            n_update_bytes=n_both - n_filter,
            file=unit.path.name,
        )
        for qp in unit.tuned_qps
    ]
