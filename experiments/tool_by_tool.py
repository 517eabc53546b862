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

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tqdm import tqdm

from vvc_nnr.codec.encoders import EncoderName, encoder_identity, make_encoder
from vvc_nnr.codec.pictures import CODED_BIT_DEPTH
from vvc_nnr.codec.vvc import (
    EncodedSequence,
    LoopFilters,
    Preset,
    Sao,
    VvcOptions,
    decode_vvc,
)
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.provenance import PsnrPeak
from vvc_nnr.experiments.rows import SizeRow, ToolMethod, ToolRow
from vvc_nnr.experiments.tsv import RowWriter
from vvc_nnr.filters.backends.backend import Precision
from vvc_nnr.filters.backends.choice import BackendChoice
from vvc_nnr.filters.ladder import InLoopNetwork
from vvc_nnr.filters.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.zoo import load_inloop_filter, n_parameters, reconstruct
from vvc_nnr.model.uniform_metadata import Biases
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import frame_psnr_db, frame_ssim
from vvc_nnr.sequences.source import VIDEO_SUFFIXES, Source

NETWORK_OF: dict[LoopFilters, str] = {"none": "inloop-replacement", "all": "inloop-postfilter"}
"""The bundled network for each in-loop filter set of the codec."""
LOOP_FILTER_SETS: tuple[LoopFilters, ...] = ("all", "deblock-sao", "none")

_Key: TypeAlias = tuple[str | int, ...]


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
        backend: What computes them.
        precision: What they are computed in.
        n_threads: Threads of the encoder, and of the networks.
        sao: Whether the filter sets "all" and "deblock-sao" have SAO, or as the preset has it.
        encoder: Which VVC encoder.
        encoder_config: VTM's configuration file.
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
    backend: BackendChoice = "auto"
    precision: Precision = "float32"
    n_threads: int = 2
    sao: Sao = "on"
    encoder: EncoderName = "libvvenc"
    encoder_config: Path | None = None

    def __post_init__(self) -> None:
        if not self.qps or len(set(self.qps)) != len(self.qps):
            raise InputError(f"QPs {list(self.qps)}: want at least one, each once")
        if not all(0 <= qp <= 63 for qp in self.qps):
            raise InputError(f"QPs {list(self.qps)}: must each be 0 to 63")
        if self.max_pictures is not None and self.max_pictures < 1:
            raise InputError(f"at most {self.max_pictures} pictures: must be at least 1")


@dataclass(frozen=True, slots=True)
class _Variant:
    """One way to get the final picture: which network runs, if any."""

    method: ToolMethod
    network_name: str
    runner: Runner | None


class ToolExperiment:
    """Both networks, before and after compression, ready to run over sequences.

    Args:
        options: What to run.
        cache: Folder of finished encodings.

    Raises:
        InputError: If a network cannot be loaded, two different ones have one name, or the backend, the precision or
            the device is not there.
    """

    def __init__(self, options: ToolOptions, cache: Path) -> None:
        self.encoder = encoder_identity(options.encoder, options.encoder_config)
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
        n_pictures = {s.name: self._n_pictures(s) for s in sources if any(key[0] == s.name for key in done)}
        bar = tqdm(jobs, unit="encoding", desc="tool-by-tool", disable=None)
        for source, qp, loop_filters in bar:
            bar.set_postfix_str(f"{source.name} QP {qp} {loop_filters}")
            wanted = self._keys(source, n_pictures.get(source.name, 0), qp, loop_filters)
            if not wanted or not wanted <= done:
                with naming(source.path):
                    for rows in self._measure(source, qp, loop_filters, done):
                        writer.append(rows)

    def _with_network(self, name_or_path: str) -> list[_Variant]:
        options = self._options
        name = Path(name_or_path).stem if Path(name_or_path).is_file() else name_or_path
        original = load_inloop_filter(name_or_path)
        coded = reconstruct(original, options.bits, options.biases)
        if self.networks_sha256.setdefault(name, coded.original_sha256) != coded.original_sha256:
            raise InputError(f"{name_or_path}: another network is called {name} too; rename one of the files")
        assert isinstance(coded.network, InLoopNetwork)
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
            _Variant("original", name, self._runner(original)),
            _Variant("reconstructed", name, self._runner(coded.network)),
        ]

    def _runner(self, network: InLoopNetwork) -> Runner:
        o = self._options
        return Runner(
            network, backend=o.backend, precision=o.precision, n_threads=o.n_threads, tile=o.tile, device=o.device
        )

    @property
    def inference(self) -> str:
        """What computes the networks, and in which precision."""
        return next(v.runner.description for v in self._variants["all"] if v.runner is not None)

    def _n_pictures(self, source: Source) -> int:
        """How many pictures of a sequence are wanted; counted where the file only claims a number."""
        limit = self._options.max_pictures
        if source.n_pictures is None or source.path.suffix.lower() in VIDEO_SUFFIXES:
            return sum(1 for _ in source.frames(count=limit))
        return source.n_pictures if limit is None else min(limit, source.n_pictures)

    def _keys(self, source: Source, n_pictures: int, qp: int, loop_filters: LoopFilters) -> set[_Key]:
        """The keys of all rows that one encoding leads to."""
        variants = self._variants[loop_filters]
        return {_key(source, index, qp, loop_filters, variant) for index in range(n_pictures) for variant in variants}

    def _measure(
        self, source: Source, qp: int, loop_filters: LoopFilters, done: Collection[_Key]
    ) -> Iterator[list[ToolRow]]:
        """Yields the rows of each picture that are not done yet."""
        o = self._options
        options = VvcOptions(qp, o.preset, loop_filters, o.n_threads, o.sao)
        encoder = make_encoder(o.encoder, options, config=o.encoder_config, cache=self._cache)
        coded = encoder.encode(source.frames(count=o.max_pictures), source.format.fps)
        decoded = decode_vvc(coded.stream, width=source.format.width, height=source.format.height)
        pairs = zip(source.frames(count=o.max_pictures), decoded, strict=True)
        for index, (original, picture) in enumerate(pairs):
            reference = original.to_bit_depth(CODED_BIT_DEPTH)
            yield [
                self._row(source, index, coded, loop_filters, variant, reference, _like(picture, reference))
                for variant in self._variants[loop_filters]
                if _key(source, index, qp, loop_filters, variant) not in done
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
        if variant.runner is not None:
            picture = variant.runner.filter_frame(picture, qp)
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


def _key(source: Source, picture: int, qp: int, loop_filters: LoopFilters, variant: _Variant) -> _Key:
    """The key of the row (`ToolRow.key`) that a variant of a picture gets."""
    return (source.name, picture, qp, loop_filters, variant.method, variant.network_name)


def _like(picture: Frame, reference: Frame) -> Frame:
    """The decoded picture in the reference's chroma format: 4:0:0 was coded as 4:2:0 with flat chroma."""
    if reference.chroma_format == "400":
        return Frame(picture.planes[:1], picture.bit_depth, "400")
    return picture
