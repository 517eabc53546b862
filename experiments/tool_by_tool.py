"""The tool-by-tool experiment: a CNN in the place of, or after, the in-loop filters of VVC intra pictures.

```
 picture ─ encode ─┬─ filters "all" ─────────── decode ─┬─ anchor "all"
                   │                                    └─ post-filter network, original and reconstructed
                   ├─ filters "deblock-sao" ─── decode ─── anchor "deblock-sao"
                   └─ filters "none" ────────── decode ─┬─ anchor "none"
                                                        └─ replacement network, original and reconstructed
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from vvc_nnr.codec.vvc import (
    CODED_BIT_DEPTH,
    EncodedSequence,
    LoopFilters,
    Preset,
    VvcEncoder,
    VvcOptions,
    decode_vvc,
)
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.provenance import PsnrPeak
from vvc_nnr.experiments.rows import SizeRow, ToolMethod, ToolRow
from vvc_nnr.experiments.tsv import RowWriter
from vvc_nnr.filters.infer import DEFAULT_TILE, filter_frame
from vvc_nnr.filters.inloop import InLoopFilter
from vvc_nnr.filters.zoo import load_inloop_filter, n_parameters, reconstruct
from vvc_nnr.model.uniform_metadata import Biases
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db, frame_ssim
from vvc_nnr.sequences.source import Source

NETWORK_OF: dict[LoopFilters, str] = {"none": "inloop-replacement", "all": "inloop-postfilter"}
"""The bundled network for each in-loop filter set of the codec."""
LOOP_FILTER_SETS: tuple[LoopFilters, ...] = ("all", "deblock-sao", "none")


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What the experiment runs.

    Attributes:
        qps: QPs to encode at.
        preset: libvvenc's preset.
        max_pictures: Pictures per sequence at most, from the first on; None for all.
        replacement: Network (zoo name or file) for pictures without in-loop filters.
        postfilter: Network for pictures with all in-loop filters.
        bits: Bits per weight of the reconstructed networks.
        biases: Whether biases are quantised.
        psnr_peak: Peak of PSNR.
        tile: Side of the filter's tiles in luma samples.
        device: Where the networks run.
        n_threads: Threads of the encoder.
    """

    qps: Sequence[int] = (22, 27, 32, 37)
    preset: Preset = "faster"
    max_pictures: int | None = None
    replacement: str = NETWORK_OF["none"]
    postfilter: str = NETWORK_OF["all"]
    bits: int = 8
    biases: Biases = "quantised"
    psnr_peak: PsnrPeak = "vtm"
    tile: int | None = DEFAULT_TILE
    device: str = "cpu"
    n_threads: int = 2

    def __post_init__(self) -> None:
        if not self.qps or len(set(self.qps)) != len(self.qps):
            raise InputError(f"QPs {list(self.qps)}: want at least one, each once")
        if self.max_pictures is not None and self.max_pictures < 1:
            raise InputError(f"at most {self.max_pictures} pictures: must be at least 1")


@dataclass(frozen=True, slots=True)
class _Variant:
    """One way to get the final picture: which network runs, if any."""

    method: ToolMethod
    network_name: str
    network: InLoopFilter | None


class ToolExperiment:
    """Both networks, before and after compression, ready to run over sequences.

    Args:
        options: What to run.
        cache: Folder of finished encodings.

    Raises:
        InputError: If a network cannot be loaded.
    """

    def __init__(self, options: ToolOptions, cache: Path) -> None:
        self._options = options
        self._cache = cache
        self.sizes: list[SizeRow] = []
        self.networks_sha256: dict[str, str] = {}
        self._variants: dict[LoopFilters, list[_Variant]] = {
            "all": self._with_network(options.postfilter),
            "deblock-sao": [_Variant("anchor", "", None)],
            "none": self._with_network(options.replacement),
        }

    def run(self, sources: Sequence[Source], writer: RowWriter[ToolRow]) -> None:
        """Measures what the writer does not hold yet, and appends a picture's rows as soon as they are known.

        Raises:
            UnsupportedError: If a sequence is not 4:2:0 or 4:0:0.
            InputError: If a sequence cannot be read.
            BitstreamError: If a sequence is damaged.
            ExternalToolError: If the encoder fails.
        """
        done = {row.key for row in writer.existing}
        jobs = [(s, qp, filters) for s in sources for qp in self._options.qps for filters in LOOP_FILTER_SETS]
        bar = tqdm(jobs, unit="encoding", desc="tool-by-tool")
        for source, qp, loop_filters in bar:
            bar.set_postfix_str(f"{source.name} QP {qp} {loop_filters}")
            if not self._is_done(source, qp, loop_filters, done):
                for rows in self._measure(source, qp, loop_filters):
                    writer.append(row for row in rows if row.key not in done)

    def _with_network(self, name_or_path: str) -> list[_Variant]:
        options = self._options
        name = Path(name_or_path).stem if Path(name_or_path).is_file() else name_or_path
        original = load_inloop_filter(name_or_path)
        coded = reconstruct(original, options.bits, options.biases)
        self.networks_sha256[name] = coded.original_sha256
        assert isinstance(coded.network, InLoopFilter)
        method = f"uniform{options.bits}"
        self.sizes.append(
            SizeRow(
                name,
                coded.original_bytes,
                coded.compressed_bytes,
                method,
                options.bits,
                n_parameters(original),
            )
        )
        return [
            _Variant("anchor", "", None),
            _Variant("original", name, original),
            _Variant("reconstructed", name, coded.network),
        ]

    def _is_done(self, source: Source, qp: int, loop_filters: LoopFilters, done: set[tuple[str | int, ...]]) -> bool:
        n = _n_pictures(source, self._options.max_pictures)
        return n is not None and all(
            (source.name, i, qp, loop_filters, v.method, v.network_name) in done
            for i in range(n)
            for v in self._variants[loop_filters]
        )

    def _measure(self, source: Source, qp: int, loop_filters: LoopFilters) -> Iterator[list[ToolRow]]:
        o = self._options
        encoder = VvcEncoder(VvcOptions(qp, o.preset, loop_filters, o.n_threads), self._cache)
        coded = encoder.encode(source.frames(count=o.max_pictures), source.format.fps)
        decoded = decode_vvc(coded.stream, width=source.format.width, height=source.format.height)
        pairs = zip(source.frames(count=o.max_pictures), decoded, strict=True)
        for index, (original, picture) in enumerate(pairs):
            reference = original.to_bit_depth(CODED_BIT_DEPTH)
            yield [
                self._row(source, index, coded, loop_filters, variant, reference, _like(picture, reference))
                for variant in self._variants[loop_filters]
            ]

    def _row(
        self,
        source: Source,
        index: int,
        coded: EncodedSequence,
        loop_filters: LoopFilters,
        variant: _Variant,
        reference: Frame,
        picture: Frame,
    ) -> ToolRow:
        o, qp = self._options, coded.pictures[index].qp
        if variant.network is not None:
            picture = filter_frame(variant.network, picture, qp, tile=o.tile, device=o.device)
        psnr = frame_psnr_db(reference, picture, peak=o.psnr_peak)
        ssim = frame_ssim(reference, picture)
        return ToolRow(
            sequence=source.name,
            ctc_class=source.ctc_class,
            picture=index,
            width=reference.width,
            height=reference.height,
            bit_depth=reference.bit_depth,
            qp=qp,
            loop_filters=loop_filters,
            method=variant.method,
            network=variant.network_name,
            n_bits=coded.pictures[index].n_bits,
            psnr_y_db=psnr.y,
            psnr_cb_db=psnr.cb,
            psnr_cr_db=psnr.cr,
            ssim_y=ssim.y,
            ssim_cb=ssim.cb,
            ssim_cr=ssim.cr,
        )


def _n_pictures(source: Source, limit: int | None) -> int | None:
    if source.n_pictures is None:
        return None
    return source.n_pictures if limit is None else min(limit, source.n_pictures)


def _like(picture: Frame, reference: Frame) -> Frame:
    """The decoded picture in the reference's chroma format: 4:0:0 was coded as 4:2:0 with flat chroma."""
    if reference.chroma_format == "400":
        return Frame(picture.planes[:1], picture.bit_depth, "400")
    return picture
