"""torchvision's own operators, declared without kernels: its CUDA build then imports beside a torch without CUDA.

Workers that run under the Python of the reference software import this file by its folder; it needs torch alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def declare_operators() -> Any:
    """Declares the operators for as long as the process lives: the cache keeps what holds them."""
    import torch

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)
    return library
