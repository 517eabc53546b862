"""What torchvision's Python looks for beside a torch that its own kernels were not built for (a CPU wheel, say).

Needs torch alone, so that workers in other environments can import it too, from its folder.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def declare_operators() -> Any:
    """Declares the operators without kernels, for as long as the process lives: the cache keeps what holds them."""
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)
    return library
