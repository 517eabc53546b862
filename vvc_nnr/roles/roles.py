"""What each tensor of a network is, and what it may lose when it is coded.

    role                coded by                            never
    weight              FLOAT, step of `qp`
    direction           FLOAT, step of `qp`, or finer:  has a slice of zeros
                        2**-5 of the slice that is smallest
    bias                FLOAT, step of `nonweight_qp`
    norm scale, shift   FLOAT, step of `nonweight_qp`
    running mean        FLOAT, step of `nonweight_qp`
    running variance    FLOAT, 2**-8 of its smallest value  becomes zero or changes sign
    divisor             FLOAT, 2**-8 of its smallest value  becomes zero or changes sign
    quantisation scale  FLOAT, 2**-7 of its smallest value, becomes zero or changes sign
                        at least 2**-11 of its largest
    gdn                 FLOAT, 2**-8 of its smallest value, becomes zero or changes sign
                        at least 2**-10 of its largest
    entropy parameter   FLOAT, 2**-9 of its largest value   becomes zero or changes sign
    entropy table       exact
    constant            exact
    counter             exact

A direction is a weight whose scale is taken away by what uses it, as of weight and spectral norms: a row of zeros there
is 0 / 0. A divisor is what an operator divides by. A quantisation scale multiplies integers, which are exact.
The last three, integers and bools come back bit for bit. (An entropy model's parameters are what its tables were made
of; the coder works by the tables.) A step of 2**-8 of the smallest value is a relative error of
0.2 % at most, however many decades the values span; where no step of the format is that fine, the tensor is exact.
Exact float tensors are FLOAT where levels of some step give every bit (other decoders then see their values), else the
integers that their bits are. Values on a coarse grid, such as all ones, are exact at no cost in every role but weight.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args

from vvc_nnr.errors import InputError
from vvc_nnr.roles.gates import Candidate

RoleMode = Literal["auto", "off"]
StepSource = Literal["qp", "nonweight_qp", "values", "exact"]


class Role(StrEnum):
    """What a tensor is."""

    WEIGHT = "weight"
    BIAS = "bias"
    NORM_SCALE = "norm scale"
    NORM_SHIFT = "norm shift"
    MEAN = "running mean"
    VARIANCE = "running variance"
    DIVISOR = "divisor"
    DIRECTION = "direction"
    QUANTISATION_SCALE = "quantisation scale"
    GDN = "gdn"
    CONSTANT = "constant"
    ENTROPY_PARAMETER = "entropy parameter"
    ENTROPY_TABLE = "entropy table"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a float tensor may lose.

    Args:
        step: Where its quantisation step comes from: an option, its values, or nowhere since it is exact.
        of_smallest: The step as a share of the smallest absolute value but zero; of "values" only.
        of_largest: The step is not finer than this share of the largest absolute value; of "values" only.
        keeps_sign: No value but zero becomes zero or changes its sign.
        of_smallest_slice: The step is at most this share of the least peak of all slices along the first two axes;
            slices of zeros do not count; of "qp" only.
        qp_offset: Added to the option's QP; of "qp" only.
        is_added: It is added to something, so that what its values share says nothing of what they differ by.
        candidate: Which of its values make the new state of a recurrent layer, so that its step follows theirs.
        is_gate: It makes gates of channels and nothing else.
        copies: Names of tensors that it stands for, which the steps follow from too.
    """

    step: StepSource
    of_smallest: float = 0.0
    of_largest: float = 0.0
    keeps_sign: bool = False
    of_smallest_slice: float = 0.0
    qp_offset: int = 0
    is_added: bool = False
    candidate: Candidate | None = None
    is_gate: bool = False
    copies: tuple[str, ...] = field(default=(), compare=False)


EXACT = Rule("exact")
RULES: Mapping[Role, Rule] = {
    Role.WEIGHT: Rule("qp"),
    Role.DIRECTION: Rule("qp", of_smallest_slice=2.0**-5),
    Role.BIAS: Rule("nonweight_qp", is_added=True),
    Role.NORM_SCALE: Rule("nonweight_qp"),
    Role.NORM_SHIFT: Rule("nonweight_qp", is_added=True),
    Role.MEAN: Rule("nonweight_qp", is_added=True),
    Role.VARIANCE: Rule("values", of_smallest=2.0**-8, keeps_sign=True),
    Role.DIVISOR: Rule("values", of_smallest=2.0**-8, keeps_sign=True),
    Role.QUANTISATION_SCALE: Rule("values", of_smallest=2.0**-7, of_largest=2.0**-11, keeps_sign=True),
    Role.GDN: Rule("values", of_smallest=2.0**-8, of_largest=2.0**-10, keeps_sign=True),
    Role.CONSTANT: EXACT,
    Role.ENTROPY_PARAMETER: Rule("values", of_largest=2.0**-9, keeps_sign=True),
    Role.ENTROPY_TABLE: EXACT,
    Role.COUNTER: EXACT,
}


_STRICTER: tuple[StepSource, ...] = ("qp", "nonweight_qp", "values", "exact")


def strictest_rule(rules: Sequence[Rule]) -> Rule:
    """What a tensor may lose that several rules are for: no more than by any of them."""
    step = max((rule.step for rule in rules), key=_STRICTER.index)
    if step == "exact":
        return EXACT
    alike = [rule for rule in rules if rule.step == step]
    slices = [rule.of_smallest_slice for rule in alike if rule.of_smallest_slice]
    candidates = [rule.candidate for rule in alike if rule.candidate]
    return Rule(
        step,
        of_smallest=min(rule.of_smallest for rule in alike),
        of_largest=min(rule.of_largest for rule in alike),
        keeps_sign=any(rule.keeps_sign for rule in rules),
        of_smallest_slice=min(slices, default=0.0),
        qp_offset=min(rule.qp_offset for rule in alike),
        is_added=any(rule.is_added for rule in alike),
        candidate=candidates[0] if candidates else None,
        is_gate=all(rule.is_gate for rule in alike),
    )


@dataclass(frozen=True, slots=True)
class TensorRole:
    """What a tensor is.

    Args:
        role: Its role.
        reason: What that was told by, such as "name" or "module BatchNorm2d".
        candidate: Which of its values make the new state of a recurrent layer, where an operator tells.
        is_gate: Whether it makes gates of channels and nothing else, where a graph tells.
    """

    role: Role
    reason: str
    candidate: Candidate | None = None
    is_gate: bool = False


def exact_names(roles: Mapping[str, TensorRole]) -> frozenset[str]:
    """Names of the tensors that must come back bit for bit, whatever codes them."""
    return frozenset(name for name, found in roles.items() if RULES[found.role] is EXACT)


def override_roles(roles: Mapping[str, TensorRole], patterns: Mapping[str, str]) -> dict[str, TensorRole]:
    """The roles, those of names that fit a pattern replaced; of several patterns the last one counts.

    Args:
        roles: Name to role.
        patterns: Shell patterns (`*`, `?`, `[...]`) of names to roles.

    Raises:
        InputError: If there is no such role, or no name fits a pattern.
    """
    changed = dict(roles)
    for pattern, text in patterns.items():
        role = as_role(text, pattern)
        fitting = [name for name in roles if fnmatch.fnmatchcase(name, pattern)]
        if not fitting:
            raise InputError(f"role_of: no tensor has a name like {pattern!r}")
        changed |= dict.fromkeys(fitting, TensorRole(role, f"pattern {pattern}"))
    return changed


def as_role(text: str, pattern: str) -> Role:
    """The role of that name; `-` and `_` count as spaces.

    Raises:
        InputError: If there is none, or the pattern is no text.
    """
    if not isinstance(pattern, str):
        raise InputError(f"role_of: {pattern!r} is no text; must be a pattern of names")
    try:
        return Role(text.replace("-", " ").replace("_", " "))
    except (ValueError, AttributeError):
        known = ", ".join(role.replace(" ", "-") for role in Role)
        raise InputError(f"role_of: {text!r} for {pattern!r}; must be one of {known}") from None


def check_role_mode(mode: str) -> None:
    """Raises InputError unless it is a way to find roles."""
    if mode not in get_args(RoleMode):
        raise InputError(f"roles: {mode!r}; must be one of {', '.join(get_args(RoleMode))}")
