"""The in-loop experiment: networks in or after the loop of VVC intra pictures, with the encoder's decisions.

```
 picture ─ encode ─┬─ filters "all" ──── decode ─┬─ anchor
                   │                             └─ post-filter networks ─┬─ full strength everywhere
                   │                                                      ├─ decided, coded, decoded, applied
                   │                                                      └─ so, and Wiener filters fitted
                   ├─ filters "deblock-sao" ──── the codec alone  ┐
                   └─ filters "none" ─── decode ─┬─ codec alone   ├ only where a network replaces the filters
                                                 └─ replacements  ┘ (all ways, as above)
```
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vvc_nnr.codec.encoders import encoder_identity
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.in_loop_rows import DECIDED_METHODS, InLoopMethod, InLoopRow, NetworkRow
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.placed_networks import PlacedNetwork, place_networks
from vvc_nnr.experiments.sweep import Place, SweepOptions, SweptPicture, sweep
from vvc_nnr.experiments.tool_by_tool import LOOP_FILTER_SETS
from vvc_nnr.experiments.tsv import RowWriter
from vvc_nnr.experiments.viewer_pictures import decoded_name, filtered_name, original_name, store_picture
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
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db
from vvc_nnr.sequences.source import Source

LADDER = ("inloop-vlop", "inloop-lop", "inloop-hop", "inloop-lop-replacement", "inloop-hop-replacement")
"""The bundled networks of rising complexity after all in-loop filters, and in their place."""
NETWORK_METHODS: tuple[InLoopMethod, ...] = ("full", *DECIDED_METHODS)


@dataclass(frozen=True, slots=True)
class InLoopOptions(SweepOptions):
    """What the experiment runs, besides what every sweep has to know.

    Attributes:
        networks: Names of the zoo, or files.
        replacements: Those that take the place of the codec's in-loop filters, see `placed_networks`.
        originals: Float networks that some of the files were coded from, see there.
        viewer_picture: Number of the picture of each sequence that is kept for a viewer.
    """

    networks: Sequence[str] = LADDER
    replacements: Sequence[str] = ()
    originals: Sequence[str] = ()
    viewer_picture: int = 0

    def __post_init__(self) -> None:
        SweepOptions.__post_init__(self)
        if self.viewer_picture < 0:
            raise InputError(f"picture {self.viewer_picture} for the viewer: must be at least 0")


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    """A picture as one way of filtering leaves it, and what that costs beyond the codec."""

    method: InLoopMethod
    frame: Frame
    n_decision_bits: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0


class InLoopExperiment:
    """All networks in their places, ready to run over sequences.

    Args:
        options: What to run.
        cache: Folder of finished encodings.
        pictures: Folder of the viewer's pictures.

    Attributes:
        encoder: What tells this encoder from another.
        networks: What each network costs.

    Raises:
        InputError: If a network cannot be used, or the backend, the precision or the device is not there.
    """

    def __init__(self, options: InLoopOptions, cache: Path, pictures: Path) -> None:
        self.encoder = encoder_identity(options.encoder, options.encoder_config)
        self._options = options
        self._cache = cache
        self._pictures = pictures
        self._placed = place_networks(options.networks, options.replacements, options.originals)
        self.networks: list[NetworkRow] = [placed.row for placed in self._placed]
        self._runners = [options.runner(placed.network) for placed in self._placed]
        self._ready_for: list[tuple[int, int] | None] = [None] * len(self._runners)

    def run(self, sources: Sequence[Source], writer: RowWriter[InLoopRow]) -> None:
        """Measures what the writer does not hold yet, and appends a picture's rows as soon as they are known.

        Raises:
            UnsupportedError: If a sequence is not 4:2:0 or 4:0:0.
            InputError: If a sequence cannot be read.
            BitstreamError: If a sequence is damaged.
            ExternalToolError: If the encoder fails.
        """
        done = {row.key for row in writer.existing}

        def has(place: Place, placed: PlacedNetwork | None) -> bool:
            is_kept = all(path.exists() for path in self._viewer_files(place, placed))
            return is_kept and done.issuperset(_keys(place, placed))

        def is_missing(place: Place) -> bool:
            return not all(has(place, placed) for placed in (None, *self._at(place)))

        replaces = any(row.loop_filters == "none" for row in self.networks)
        filter_sets: tuple[LoopFilters, ...] = LOOP_FILTER_SETS if replaces else ("all",)
        for picture in sweep(sources, filter_sets, self._options, self._cache, is_missing, "in-loop"):
            place = picture.place
            for placed in (None, *self._at(place)):
                if not has(place, placed):
                    with naming(place.source.path):
                        rows = self._measure(picture, placed)
                    writer.append(row for row in rows if row.key not in done)

    @property
    def inference(self) -> str:
        """What computes the networks, and in which precision."""
        return self._runners[0].description

    def _at(self, place: Place) -> Iterator[PlacedNetwork]:
        return (placed for placed in self._placed if placed.row.loop_filters == place.loop_filters)

    def _measure(self, picture: SweptPicture, placed: PlacedNetwork | None) -> list[InLoopRow]:
        """The rows of the codec alone, or of a network; keeps the picture for the viewer."""
        outputs = self._filtered(picture, placed) if placed else [_Output("codec", picture.decoded)]
        shown = [outputs[-1].frame] if placed else [picture.reference, picture.decoded]
        for path, frame in zip(self._viewer_files(picture.place, placed), shown, strict=False):
            store_picture(path, frame)
        return [self._row(picture, placed, output) for output in outputs]

    def _filtered(self, picture: SweptPicture, placed: PlacedNetwork) -> list[_Output]:
        """The network's three ways; what is decided is measured as it is decoded from its bytes."""
        runner, qp, decoded = self._ready_runner(picture, placed), picture.place.qp, picture.decoded
        start_s = time.process_time()
        correction = correction_by(runner, decoded, qp)
        network_s = time.process_time() - start_s
        full, full_s = _timed_application(decoded, correction, None)
        outputs = [_Output("full", full, 0, network_s + full_s, network_s + full_s)]
        start_s = time.process_time()
        decisions = decide(picture.reference, decoded, correction, qp)
        decide_s = time.process_time() - start_s
        with_filters = with_wiener_filters(decisions, picture.reference, decoded, correction, qp)
        fit_s = time.process_time() - start_s
        searched: tuple[tuple[InLoopMethod, Decisions, float], ...] = (
            ("decisions", decisions, decide_s),
            ("wiener", with_filters, fit_s),
        )
        for method, found, search_s in searched:
            start_s = time.process_time()
            data = encode_decisions(found)
            code_s = time.process_time() - start_s
            output, apply_s = _timed_application(decoded, correction, data)
            decode_s = network_s + apply_s
            outputs.append(_Output(method, output, 8 * len(data), decode_s + search_s + code_s, decode_s))
        return outputs

    def _ready_runner(self, picture: SweptPicture, placed: PlacedNetwork) -> Runner:
        """The network's runner, after a picture of this size: some backends compile for each size, which is loading."""
        index, size = self._placed.index(placed), (picture.decoded.width, picture.decoded.height)
        if self._ready_for[index] != size:
            correction_by(self._runners[index], picture.decoded, picture.place.qp)
            self._ready_for[index] = size
        return self._runners[index]

    def _row(self, picture: SweptPicture, placed: PlacedNetwork | None, output: _Output) -> InLoopRow:
        psnr = frame_psnr_db(picture.reference, output.frame, peak=self._options.psnr_peak)
        return InLoopRow(
            sequence=picture.place.source.name,
            ctc_class=picture.place.source.ctc_class,
            picture=picture.place.index,
            width=picture.reference.width,
            height=picture.reference.height,
            bit_depth=picture.reference.bit_depth,
            qp=picture.place.qp,
            loop_filters=picture.place.loop_filters,
            method=output.method,
            network=placed.row.network if placed else "",
            weights=placed.row.weights if placed else "none",
            network_sha256=placed.row.network_sha256 if placed else "",
            n_bits=picture.n_bits,
            n_decision_bits=output.n_decision_bits,
            psnr_y_db=psnr.y,
            psnr_cb_db=psnr.cb,
            psnr_cr_db=psnr.cr,
            encode_s=None if picture.encode_s is None else picture.encode_s + output.encode_s,
            decode_s=picture.decode_s + output.decode_s,
        )

    def _viewer_files(self, place: Place, placed: PlacedNetwork | None) -> list[Path]:
        """What a viewer gets of the codec (original, decoded), or of a network as its file has it; often nothing."""
        where = (place.source.name, place.index)
        is_viewed = place.index == self._options.viewer_picture and any(self._at(place))
        if not is_viewed or (placed and placed.row.weights != "file"):
            return []
        if placed is None:
            names = [original_name(*where), decoded_name(*where, place.qp, place.loop_filters)]
        else:
            names = [filtered_name(*where, place.qp, placed.row.network, placed.row.network_sha256)]
        return [self._pictures / name for name in names]


def _keys(place: Place, placed: PlacedNetwork | None) -> set[tuple[str | int, ...]]:
    """The keys (`InLoopRow.key`) of the rows that the codec alone, or a network, leads to."""
    picture = (place.source.name, place.index, place.qp, place.loop_filters)
    if placed is None:
        return {(*picture, "codec", "", "none", "")}
    row = placed.row
    return {(*picture, method, row.network, row.weights, row.network_sha256) for method in NETWORK_METHODS}


def _timed_application(decoded: Frame, correction: Correction, data: bytes | None) -> tuple[Frame, float]:
    """The picture as a decoder makes it from coded decisions, None for full strength, and its processor time."""
    start_s = time.process_time()
    decisions = _full_strength(decoded) if data is None else decode_decisions(data, decoded.format())
    output = apply_decisions(decoded, correction, decisions)
    return output, time.process_time() - start_s


def _full_strength(decoded: Frame) -> Decisions:
    """The decisions of a picture to which the correction is added as it is."""
    block_size, n_planes = max(BLOCK_SIZES), len(decoded.planes)
    choices = np.full(block_grid(decoded.width, decoded.height, block_size), UNIT_CHOICE, np.uint8)
    return Decisions(block_size, (round(1 / STRENGTH_UNIT),) * n_planes, (choices,) * n_planes)
