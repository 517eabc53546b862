"""The roles of all tensors of a network, by whatever is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vvc_nnr.model.role_modules import module_roles
from vvc_nnr.model.role_names import named_roles
from vvc_nnr.model.roles import TensorRole, override_roles
from vvc_nnr.model.torch import is_module
from vvc_nnr.number_formats import NamedArrays


def tensor_roles(model: Any, arrays: NamedArrays, role_of: Mapping[str, str] | None = None) -> dict[str, TensorRole]:
    """The role of each tensor: of a torch module by the types of its parts, else by names, shapes and values.

    Args:
        model: A torch module, or anything else.
        arrays: Its tensors by name.
        role_of: Patterns of names to roles that count above all others.

    Raises:
        InputError: If a pattern fits no name, or there is no such role.
    """
    found = module_roles(model, arrays) if is_module(model) else named_roles(arrays)
    return override_roles(found, role_of or {})
