"""The model zoo: every network of the NNCodec evaluation and those that run everywhere, before and after coding.

Source: Henssler et al., Analise de Desempenho do Software NNCodec, whose seven networks and columns these are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from vvc_nnr.bitstream.number_formats import Bfloat16Bits, shape_of
from vvc_nnr.experiments.records.rows import ZooCoding, ZooRow
from vvc_nnr.experiments.records.settings import files_digest
from vvc_nnr.experiments.records.tsv import RowWriter, read_rows, write_rows
from vvc_nnr.experiments.records.unit_rows import logs_folder, merge_units, units_folder
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
from vvc_nnr.files import make_folder
from vvc_nnr.network_file import plain_bytes
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions, run_units

OUR_QPS, PEER_QP = (-32, -36), -38
"""This package's default QP and one whose files are smaller than those of the reference software at its default."""
_ABSENT = "absent"
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
        max_loss_db: Loss of PSNR that calibrated compression keeps to, None to do without it.
    """

    rows: tuple[str, ...] = ()
    folder: Path | None = None
    peer: str = ""
    qps: tuple[int, ...] = OUR_QPS
    max_loss_db: float | None = MAX_LOSS_DB


def chosen_rows(options: ZooOptions) -> list[Row]:
    """The rows to run."""
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
        options: What to run.
        path: Where its rows go.
        header: Of the file of rows.
    """

    row: Row
    codings: tuple[ZooCoding, ...]
    options: ZooOptions
    path: Path
    header: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The network's name."""
        return self.row.name

    @property
    def cost_s(self) -> float:
        """About how many seconds it takes; large networks take longer."""
        return _CODING_S * len(self.codings)

    @property
    def is_made(self) -> bool:
        """Whether its rows are there."""
        return self.path.exists()

    def plan(self) -> dict[str, object]:
        """What a plan says of it, for JSON."""
        return {"unit": self.name, "codings": [each.label for each in self.codings], "cost_s": self.cost_s}


def zoo_units(
    rows: Sequence[Row],
    options: ZooOptions,
    folder: Path,
    header: Mapping[str, str],
    context: str = "",
    done: Collection[tuple[str | int | float, ...]] = (),
) -> list[ZooUnit]:
    """The units of a run, without what is measured already.

    Args:
        rows: The networks.
        options: What to run.
        folder: Where units leave their rows.
        header: Of files of rows.
        context: All that their rows follow from besides, as text.
        done: Keys of the rows that are there.
    """
    whole = replace(options, folder=options.folder and options.folder.absolute())
    units = []
    for row in rows:
        wanted = tuple(coding for coding in _codings(row, options) if (row.name, *coding.key) not in done)
        said = json.dumps([context, row.name, [coding.key for coding in wanted]])
        path = folder.absolute() / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.tsv"
        units += [ZooUnit(row, wanted, whole, path, tuple(header.items()))] if wanted else []
    return units


def run_zoo_unit(unit: ZooUnit) -> None:
    """Measures a network in whichever process, and writes its rows and what is not there.

    Raises:
        InputError, BitstreamError: If weights or pictures cannot be read.
        ExternalToolError: If a codec's process fails.
    """
    rows: list[ZooRow] = []
    absent: dict[str, str] = {}
    threads = torch.get_num_threads()
    try:
        subject = unit.row.load(unit.options.folder)
        for coding in unit.codings:
            try:
                rows.append(_measured(unit.row, coding, subject, unit.options))
            except NotHereError as error:
                absent[f"{unit.row.name}: {coding.label}"] = str(error)
    except NotHereError as error:
        absent[unit.row.name] = str(error)
    finally:
        torch.set_num_threads(threads)
    write_rows(unit.path, ZooRow, {**dict(unit.header), _ABSENT: json.dumps(absent)}, rows)


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
        UnitsError: If networks failed: weights or pictures that cannot be read, a codec's process; all others are done.
    """
    folder = make_folder(units_folder(writer.path.parent, writer.path.name))
    units = zoo_units(rows, options, folder, writer.header, context, {row.key for row in writer.existing})
    keys = [(row.name, *coding.key) for row in rows for coding in _codings(row, options)]
    try:
        run_zoo_units(units, writer.path, execution)
        absent = [json.loads(read_rows(unit.path, ZooRow).header[_ABSENT]) for unit in units]
    finally:
        merge_units(writer, [unit.path for unit in units], keys)
    return {name: reason for each in absent for name, reason in each.items()}


def run_zoo_units(units: Sequence[ZooUnit], rows: Path, execution: ExecutorOptions) -> None:
    """Runs units of a file of rows; raises as `run_zoo`."""
    logs = logs_folder(rows.parent.absolute(), rows.name)
    run_units(run_zoo_unit, units, lambda unit: unit.is_made, execution, logs, title="networks")


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
    arrays = {name: array for name, array in subject.arrays.items() if not isinstance(array, Bfloat16Bits)}
    assert len(arrays) == len(subject.arrays)  # no network of the zoo has bfloat16
    if coding.method == "nncodec":
        return code_with_peer(options.peer, arrays, {"qp": coding.qp})
    roles = subject.roles or named_roles(subject.arrays)
    return code_with_ours(arrays, roles, {"qp": coding.qp, "qp_by_size": True})
