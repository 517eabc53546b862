"""A network through this codec or the reference software, each in a process of its own, measured alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vvc_nnr.bitstream.number_formats import Array, NamedArrays
from vvc_nnr.calibrate.compress_calibrated import compress_calibrated
from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.children import run_child
from vvc_nnr.compress import decompress
from vvc_nnr.errors import ExternalToolError, InputError
from vvc_nnr.experiments.zoo.row import NotHereError
from vvc_nnr.files import temporary_folder
from vvc_nnr.options import CompressOptions
from vvc_nnr.roles.roles import TensorRole

WORKER = Path(__file__).with_name("codec_worker.py")
PEER_VARIABLE = "VVC_NNR_PEER"
"""The Python of an environment with the reference software."""
TIMEOUT_S = 3600


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """What a codec made of a network.

    Attributes:
        arrays: The tensors that came back, in the number formats and shapes that they had.
        n_bytes: Size of the stream.
        encode_s: Processor time of encoding, one thread.
        decode_s: Processor time of decoding, one thread.
        peak_bytes: Memory beyond what was in use before; None where the system does not tell.
    """

    arrays: NamedArrays
    n_bytes: int
    encode_s: float
    decode_s: float
    peak_bytes: int | None


def code_with_ours(arrays: Mapping[str, Array], roles: Mapping[str, TensorRole], options: Mapping[str, Any]) -> Coded:
    """A network through this codec.

    Raises:
        ExternalToolError: If the process fails.
    """
    told = {name: str(role.role) for name, role in roles.items()}
    request = {"codec": "ours", "options": dict(options), "roles": told}
    return _run(sys.executable, arrays, request)


def code_with_peer(python: str, arrays: Mapping[str, Array], options: Mapping[str, Any]) -> Coded:
    """A network through the reference software, which takes float32 and int32 tensors with values in them.

    float16 and float64 are handed over as float32, scalars as one value; other integers, bools and empty tensors are
    not handed over and stay as they are, which is the best that its user can do.

    Raises:
        ExternalToolError: If the process fails.
    """
    given = {name: _for_peer(a) for name, a in arrays.items() if a.size and (a.dtype.kind == "f" or a.dtype == "int32")}
    coded = _run(python, given, {"codec": "peer", "options": dict(options), "roles": {}})
    found: NamedArrays = {}
    for name, array in arrays.items():
        back = coded.arrays.get(name, array)
        assert isinstance(back, np.ndarray)
        with np.errstate(over="ignore"):
            found[name] = back.astype(array.dtype).reshape(array.shape)
    return Coded(found, coded.n_bytes, coded.encode_s, coded.decode_s, coded.peak_bytes)


def _for_peer(array: Array) -> Array:
    with np.errstate(over="ignore"):
        plain = array.astype(np.float32) if array.dtype.kind == "f" else array
    return plain.reshape(plain.shape or (1,))


def _run(python: str, arrays: Mapping[str, Array], request: dict[str, Any]) -> Coded:
    with temporary_folder() as folder:
        network, decoded = folder / "network.npz", folder / "decoded.npz"
        _save(network, arrays)
        paths = {"network": str(network), "decoded": str(decoded)}
        command = [python, str(WORKER)]
        environment = os.environ | ({"PYTHONPATH": ""} if request["codec"] == "peer" else {})
        try:
            asked = json.dumps(request | paths).encode()
            done = run_child(command, input=asked, timeout_s=TIMEOUT_S, environment=environment)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExternalToolError(f"{python}: {error}", command=command) from error
        if done.returncode != 0 or not done.stdout:
            log = done.stderr.decode(errors="replace")
            failure = f"the {request['codec']} codec failed"
            raise ExternalToolError(failure, command=command, exit_code=done.returncode, log=log)
        with np.load(decoded) as file:
            found: NamedArrays = {name: file[name] for name in file.files}
        return Coded(found, **json.loads(done.stdout))


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    """An .npz file of arrays with names of any kind."""
    with zipfile.ZipFile(path, "w") as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def code_by_pictures(network: nn.Module, pictures: Calibration, max_loss_db: float) -> Coded:
    """The smallest file whose network loses no more than a PSNR on the pictures that are held out; one thread.

    Raises:
        NotHereError: If the pictures cannot be used, or the loss cannot be kept.
    """
    options = CompressOptions(n_threads=1)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.process_time()
        data = compress_calibrated(network, pictures, max_loss_db=max_loss_db, options=options).data
        middle = time.process_time()
        arrays = decompress(data, n_threads=1)
        end = time.process_time()
    except InputError as error:
        raise NotHereError(str(error)) from error
    finally:
        torch.set_num_threads(n_threads)
    return Coded(dict(arrays), len(data), middle - start, end - middle, None)
