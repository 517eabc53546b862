"""The model zoo: every network of the NNCodec evaluation and those that run everywhere, before and after coding.

Source: Henssler et al., Analise de Desempenho do Software NNCodec, whose seven networks and columns these are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

from vvc_nnr.bitstream.number_formats import FloatBits, shape_of
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.provenance import IMAGE_AVERAGING, IMAGE_RATE, Conventions, Provenance
from vvc_nnr.experiments.records.rows import ZooCoding, ZooRow
from vvc_nnr.experiments.records.settings import Plan, RunIdentity, files_digest, known_inputs
from vvc_nnr.experiments.records.tsv import RowWriter, read_rows
from vvc_nnr.experiments.records.unit_rows import UnitRows, places_of, unit_key
from vvc_nnr.experiments.runs.run_folder import open_run, write_results
from vvc_nnr.experiments.tables.stored import ZOO_FILES, read_zoo
from vvc_nnr.experiments.tables.table import Table
from vvc_nnr.experiments.zoo.bundled import AutoencoderRow, DeblockingRow, DenoisingRow, InLoopRow
from vvc_nnr.experiments.zoo.codec_process import Coded, code_by_pictures, code_with_ours, code_with_peer
from vvc_nnr.experiments.zoo.learned_codecs import PublishedCodecRow, SmallCodecRow
from vvc_nnr.experiments.zoo.row import (
    DATA_SETS,
    CalibratedRow,
    Metrics,
    NotHereError,
    Row,
    Subject,
    colour_files,
    data_set_here,
)
from vvc_nnr.experiments.zoo.text_recognition import TextRow
from vvc_nnr.experiments.zoo.torchvision import ClassificationRow, DeepLabRow, YoloRow
from vvc_nnr.experiments.zoo.unet import CarvanaRow, PastedRow
from vvc_nnr.filters.inference.torch import torch_threads
from vvc_nnr.network_file import plain_bytes
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, share_of

OUR_QPS, PEER_QP = (-32, -36), -38
"""This package's default QP and one whose files are smaller than those of the reference software at its default."""
_ABSENT = "absent"
_TITLE = "networks"
_CODING_S = 5.0
MAX_LOSS_DB = 0.02
"""Of calibrated compression."""
ROWS: tuple[Row, ...] = (
    ClassificationRow("AlexNet", "alexnet", "alexnet*.pth", 256, 224),
    ClassificationRow("Inception v3", "inception_v3", "inception_v3*.pth", 342, 299),
    PublishedCodecRow("bmshj2018-factorized", (128, 192)),
    PublishedCodecRow("cheng2020-anchor", (128,)),
    YoloRow(),
    DeepLabRow(),
    CarvanaRow(),
    DenoisingRow(),
    DeblockingRow(),
    InLoopRow("inloop-replacement", "none"),
    InLoopRow("inloop-postfilter", "all"),
    AutoencoderRow("autoencoder-1.8bpp"),
    AutoencoderRow("autoencoder-4.2bpp"),
    SmallCodecRow("bmshj2018-factorized"),
    SmallCodecRow("cheng2020-anchor"),
    PastedRow(),
    TextRow(),
)
"""The paper's seven in its order, then those that run everywhere."""


@dataclass(frozen=True, slots=True)
class ZooOptions:
    """What to run.

    Args:
        rows: Names of rows, empty for all.
        folder: The user's folder of published weights and data sets.
        peer: The Python of an environment with the reference software, "" for none.
        qps: QPs of this codec.
        max_loss_db: Loss of PSNR that calibrated compression keeps to; None (0 on the command line): without it.
    """

    rows: tuple[str, ...] = ()
    folder: Path | None = None
    peer: str = ""
    qps: tuple[int, ...] = OUR_QPS
    max_loss_db: float | None = MAX_LOSS_DB


def chosen_rows(options: ZooOptions) -> list[Row]:
    """The rows to run; raises InputError if one that is asked for is none of them."""
    known = [row.name for row in ROWS]
    if unknown := [name for name in options.rows if name not in known]:
        raise InputError(f"no row is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [row for row in ROWS if not options.rows or row.name in options.rows]


def zoo_inputs(folder: Path | None) -> dict[str, tuple[str, ...]]:
    """A digest of each thing that rows are made from: published weights, data sets, pictures.

    Args:
        folder: The user's folder of weights and data sets.

    Raises:
        InputError: If a file cannot be read.
    """
    own = {} if folder is None else {path.name: path for path in sorted(folder.iterdir())}
    sets = {f"data set {name}": data_set_here(name) for name in DATA_SETS}
    places = own | {name: path for name, path in sets.items() if path is not None}
    return {"colour pictures": files_digest(colour_files()[0])} | {
        name: files_digest([path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()))
        for name, path in places.items()
    }


@dataclass(frozen=True, slots=True)
class ZooUnit:
    """One network, original and through codecs.

    Attributes:
        row: The network.
        codings: How it is coded.
        key: A digest of all that its rows follow from; empty while that is not known.
    """

    row: Row
    codings: tuple[ZooCoding, ...]
    key: str = ""

    @property
    def name(self) -> str:
        """The network's name."""
        return self.row.name

    @property
    def cost_s(self) -> float:
        """About how many seconds it takes; large networks take longer."""
        return _CODING_S * len(self.codings)

    def plan(self) -> dict[str, object]:
        """What a plan says of it, for JSON."""
        return {"unit": self.name, "codings": [each.label for each in self.codings], "cost_s": self.cost_s}


def zoo_units(
    rows: Sequence[Row], options: ZooOptions, context: str = "", done: Collection[tuple[str | int | float, ...]] = ()
) -> list[ZooUnit]:
    """The units of a run, without what is measured already.

    Args:
        rows: The networks.
        options: What to run.
        context: All that their rows follow from besides, as text.
        done: Keys of the rows that are there.
    """
    units = []
    for row in rows:
        wanted = tuple(coding for coding in _codings(row, options) if (row.name, *coding.key) not in done)
        key = unit_key(context, row.name, [coding.key for coding in wanted])
        units += [ZooUnit(row, wanted, key)] if wanted else []
    return units


def plan_model_zoo(options: ZooOptions, execution: ExecutorOptions = IN_THIS_PROCESS) -> list[ZooUnit]:
    """The units of work that `run_model_zoo` makes in an empty folder, in their order; nothing runs.

    Args:
        options: What to run.
        execution: Of which share.

    Raises:
        InputError: If there is no such row.
    """
    return share_of(zoo_units(chosen_rows(options), options), execution.shard)


def run_model_zoo(
    folder: Path, options: ZooOptions, provenance: Provenance, execution: ExecutorOptions = IN_THIS_PROCESS
) -> dict[str, Table]:
    """Runs what is missing in a folder and writes rows and table there.

    Args:
        folder: Where the results are and go.
        options: What to run.
        provenance: Where this run comes from.
        execution: Where networks are measured, by default in this process.

    Returns:
        The table by its file name; none of a shard.

    Raises:
        InputError: If there is no such row, or the folder cannot be used.
        UnitsError: If networks failed: weights or pictures that cannot be read, a codec's process; all others are done.
    """
    chosen = chosen_rows(options)
    conventions = Conventions(averaging=IMAGE_AVERAGING, rate=IMAGE_RATE).to_header()
    settings = {"qps": list(options.qps), "peer": bool(options.peer), "order": [row.name for row in ROWS]}
    identity = RunIdentity(settings, ("qps", "peer", "order", "absent"), zoo_inputs(options.folder))
    header = provenance.to_header() | conventions
    context = json.dumps([identity.inputs, options.peer, header["version"]])
    if execution.shard is not None:
        known_inputs(folder / ZOO_FILES.settings, identity)
        rows = UnitRows.of(folder, ZOO_FILES.rows, ZooRow, header)
        units = zoo_units(chosen, options, context, {row.key for row in rows.existing()})
        rows.run(_work(rows, options), share_of(units, execution.shard), execution, title=_TITLE)
        return {}
    plan = Plan({"networks": tuple(row.name for row in chosen)})
    with open_run(folder, ZOO_FILES, ZooRow, identity, plan, provenance, conventions) as run:
        absent = run_zoo(chosen, options, run.writer, execution, context)
        run = run.noting({"absent": absent})
        stored = read_zoo(folder)
        found = {row.network for row in stored.rows}
        here = tuple(row.name for row in chosen if row.name in found or row.name not in absent)
        run = run.measured(stored.rows, Plan({"networks": here}))
        tables = stored.tables()
        write_results(folder, tables, {})
        run.end()
    return tables


def run_zoo(
    rows: Sequence[Row],
    options: ZooOptions,
    writer: RowWriter[ZooRow],
    execution: ExecutorOptions = IN_THIS_PROCESS,
    context: str = "",
) -> dict[str, str]:
    """Measures what the writer does not hold yet.

    Args:
        rows: The networks.
        options: What to run.
        writer: Where the results go.
        execution: Where networks are measured.
        context: All that rows follow from besides, as text.

    Returns:
        Name to reason of what cannot run here.

    Raises:
        UnitsError: As `run_model_zoo`.
    """
    place = UnitRows.of(writer.path.parent, writer.path.name, ZooRow, writer.header)
    units = zoo_units(rows, options, context, {row.key for row in writer.existing})
    try:
        place.run(_work(place, options), units, execution, title=_TITLE)
        absent = [json.loads(read_rows(place.path(unit), ZooRow).header[_ABSENT]) for unit in units]
    finally:
        keys = ((row.name, *coding.key) for row in rows for coding in _codings(row, options))
        place.merge(writer, units, places_of(keys))
    return {name: reason for each in absent for name, reason in each.items()}


def _work(rows: UnitRows[ZooRow], options: ZooOptions) -> Callable[[ZooUnit], None]:
    """What measures a unit in whichever process."""
    return partial(run_zoo_unit, rows, replace(options, folder=options.folder and options.folder.absolute()))


def run_zoo_unit(place: UnitRows[ZooRow], options: ZooOptions, unit: ZooUnit) -> None:
    """Measures a network in whichever process, and writes its rows and what is not there.

    Raises:
        InputError, BitstreamError: If weights or pictures cannot be read.
        ExternalToolError: If a codec's process fails.
    """
    rows: list[ZooRow] = []
    absent: dict[str, str] = {}
    with torch_threads(None):
        try:
            subject = unit.row.load(options.folder)
            for coding in unit.codings:
                try:
                    rows.append(_measured(unit.row, coding, subject, options))
                except NotHereError as error:
                    absent[f"{unit.row.name}: {coding.label}"] = str(error)
        except NotHereError as error:
            absent[unit.row.name] = str(error)
    place.write(unit, rows, {_ABSENT: json.dumps(absent)})


def _codings(row: Row, options: ZooOptions) -> list[ZooCoding]:
    found = [ZooCoding("original"), *(ZooCoding("vvc_nnr", qp) for qp in options.qps)]
    if options.max_loss_db is not None and isinstance(row, CalibratedRow):
        found.append(ZooCoding("calibrated", max_loss_db=options.max_loss_db))
    return [*found, ZooCoding("nncodec", PEER_QP)] if options.peer else found


def _measured(row: Row, coding: ZooCoding, subject: Subject, options: ZooOptions) -> ZooRow:
    """One network, original or through one codec."""
    coded = _coded(row, coding, subject, options)
    arrays = coded.arrays if coded else subject.arrays
    scores = subject.evaluate(arrays) if subject.evaluate else Metrics()
    faults = [field.name for field in fields(Metrics) if not _is_number(getattr(scores, field.name))]
    scores = replace(scores, **dict.fromkeys(faults))
    return ZooRow(
        network=row.name,
        method=coding.method,
        qp=coding.qp,
        max_loss_db=coding.max_loss_db,
        weights=subject.weights,
        data=subject.data,
        n_parameters=sum(math.prod(shape_of(array)) for array in subject.arrays.values()),
        original_bytes=plain_bytes(subject.arrays),
        n_bytes=coded.n_bytes if coded else None,
        encode_s=coded.encode_s if coded else None,
        decode_s=coded.decode_s if coded else None,
        memory_mib=coded.peak_bytes / 2**20 if coded and coded.peak_bytes is not None else None,
        **asdict(scores),
        fault=" ".join(faults),
    )


def _is_number(score: float | None) -> bool:
    return score is None or math.isfinite(score)


def _coded(row: Row, coding: ZooCoding, subject: Subject, options: ZooOptions) -> Coded | None:
    if coding.method == "original":
        return None
    if coding.method == "calibrated":
        assert isinstance(row, CalibratedRow)
        assert subject.module is not None
        assert coding.max_loss_db is not None
        return code_by_pictures(subject.module, row.calibration(options.folder), coding.max_loss_db)
    arrays = {name: array for name, array in subject.arrays.items() if not isinstance(array, FloatBits)}
    assert len(arrays) == len(subject.arrays)  # no network of the zoo has bfloat16
    if coding.method == "nncodec":
        return code_with_peer(options.peer, arrays, {"qp": coding.qp})
    roles = subject.roles or named_roles(subject.arrays)
    return code_with_ours(arrays, roles, {"qp": coding.qp, "qp_by_size": True})
