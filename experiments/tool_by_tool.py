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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vvc_nnr.codec.encoders import encoder_identity
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.rows import SizeRow, ToolMethod, ToolRow
from vvc_nnr.experiments.sweep import Place, SweepOptions, SweptPicture, sweep
from vvc_nnr.experiments.tsv import RowWriter
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.zoo import load_inloop_filter, n_parameters, reconstruct
from vvc_nnr.model.uniform_metadata import Biases
from vvc_nnr.sequences.metrics import frame_psnr_db, frame_ssim
from vvc_nnr.sequences.source import Source

NETWORK_OF: dict[LoopFilters, str] = {"none": "inloop-replacement", "all": "inloop-postfilter"}
"""The bundled network for each in-loop filter set of the codec."""
LOOP_FILTER_SETS: tuple[LoopFilters, ...] = ("all", "deblock-sao", "none")


@dataclass(frozen=True, slots=True)
class ToolOptions(SweepOptions):
    """What the experiment runs, besides what every sweep has to know.

    Attributes:
        replacement: Network (zoo name or file) for pictures without in-loop filters.
        postfilter: Network for pictures with all in-loop filters.
        bits: Bits per weight of the reconstructed networks.
        biases: Whether biases are quantised.
    """

    replacement: str = NETWORK_OF["none"]
    postfilter: str = NETWORK_OF["all"]
    bits: int = 8
    biases: Biases = "quantised"


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

        def is_missing(place: Place) -> bool:
            return any(_key(place, variant) not in done for variant in self._variants[place.loop_filters])

        for picture in sweep(sources, LOOP_FILTER_SETS, self._options, self._cache, is_missing, "tool-by-tool"):
            variants = self._variants[picture.place.loop_filters]
            with naming(picture.place.source.path):
                rows = [self._row(picture, each) for each in variants if _key(picture.place, each) not in done]
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
            _Variant("original", name, options.runner(original)),
            _Variant("reconstructed", name, options.runner(coded.network)),
        ]

    @property
    def inference(self) -> str:
        """What computes the networks, and in which precision."""
        return next(v.runner.description for v in self._variants["all"] if v.runner is not None)

    def _row(self, picture: SweptPicture, variant: _Variant) -> ToolRow:
        place, output = picture.place, picture.decoded
        if variant.runner is not None:
            output = variant.runner.filter_frame(output, place.qp)
        psnr = frame_psnr_db(picture.reference, output, peak=self._options.psnr_peak)
        ssim = frame_ssim(picture.reference, output)
        return ToolRow(
            sequence=place.source.name,
            ctc_class=place.source.ctc_class,
            picture=place.index,
            width=picture.reference.width,
            height=picture.reference.height,
            bit_depth=picture.reference.bit_depth,
            qp=place.qp,
            loop_filters=place.loop_filters,
            method=variant.method,
            network=variant.network_name,
            n_bits=picture.n_bits,
            psnr_y_db=psnr.y,
            psnr_cb_db=psnr.cb,
            psnr_cr_db=psnr.cr,
            ssim_y=ssim.y,
            ssim_cb=ssim.cb,
            ssim_cr=ssim.cr,
        )


def _key(place: Place, variant: _Variant) -> tuple[str | int, ...]:
    """The key of the row (`ToolRow.key`) that a variant of a picture gets."""
    return (place.source.name, place.index, place.qp, place.loop_filters, variant.method, variant.network_name)
