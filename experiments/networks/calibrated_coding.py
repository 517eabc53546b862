"""A network compressed by what it does to pictures, measured as the codecs' processes are, but for memory."""

from __future__ import annotations

import time

import torch
from torch import nn

from vvc_nnr.calibrate.calibration import Calibration
from vvc_nnr.calibrate.compress_calibrated import compress_calibrated
from vvc_nnr.compress import decompress
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.networks.codec_process import Coded
from vvc_nnr.experiments.networks.row import NotHereError
from vvc_nnr.options import CompressOptions


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
