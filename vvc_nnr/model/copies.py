"""Copies of torch modules, also of those that keep what they computed in attributes, as the old weight norms do."""

from __future__ import annotations

import copy
from typing import Any

from vvc_nnr.errors import UnsupportedError
from vvc_nnr.model.torch import is_tensor


def copied_module(module: Any) -> Any:
    """A deep copy of a torch module; tensors in its attributes that hang on a graph of gradients are cut off there.

    Raises:
        UnsupportedError: If it holds something that cannot be copied.
    """
    computed = [v for part in module.modules() for v in vars(part).values() if is_tensor(v) and not v.is_leaf]
    try:
        return copy.deepcopy(module, {id(value): value.detach().clone() for value in computed})
    except Exception as error:  # whatever the module's own parts raise
        raise UnsupportedError(f"the module cannot be copied: {' '.join(str(error).split())[:300]}") from error
