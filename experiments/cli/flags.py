"""Flags from documented dataclasses, by tyro: what is typed becomes an instance, or one line says what is wrong."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import PrimitiveConstructorSpec

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.experiments.cli.common import example_lines
from vvc_nnr.experiments.cli.kinds import checked_types, path
from vvc_nnr.options import default_of

_SUPPRESSED: Any = tyro.conf.Suppress
MAX_HELP_COLUMNS = 80
_OTHER_NAMES = {"-o": "--output"}
HIDDEN = object()
"""For a field of a library's options that has no flag."""

_CONFIG = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
    tyro.conf.PositionalMetavarFromFieldName,
)
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_TOP = re.compile(r"╭─ (.+?) ─*╮")
_INSIDE = re.compile(r"│ (.*) │")
_RULE = re.compile(r"─{3,}")
_DEFAULT = re.compile(r"\s*\(default(?:\s+if\s+used)?:\s+(?:None|False|True|)\)")
_SENTENCE = re.compile(r"(?<=[^.][.])\s+(?=[A-Z2\"(])")
_NO_PARSE = re.compile(r"(.+?): Could not find valid parse for arguments: (\[.*\])")
_IF_USED = re.compile(r"\(default\s+if\s+used:")
_Options = TypeVar("_Options")


class _Captured(io.StringIO):
    """What tyro prints, in the boxes that it draws where letters of all kinds can be shown."""

    encoding = "utf-8"


class _OutOfRange(Exception):
    """What a library's options say of values; tyro lets it through."""


class HelpAsked(Exception):
    """The user asked for help.

    Args:
        text: The help.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def parse(kind: type[_Options], words: Sequence[str], *, prog: str, examples: Sequence[str]) -> _Options:
    """The instance of a command's dataclass that the words after the command's name make.

    Args:
        kind: The dataclass; its fields are the flags, its docstring is their help.
        words: What was typed.
        prog: The command, such as "vvc-nnr encode".
        examples: Command lines that end its help.

    Raises:
        HelpAsked: If -h or --help is among the words.
        InputError: If a word is no option, or no value for its option, or an option is there twice and only
            one of them counts.
    """
    try:
        made = _made(kind, words, prog, examples)
    except InputError as error:
        hint = _of_one_value(kind, words, prog, examples, str(error))
        raise InputError(str(error).replace(" (see", f"{hint} (see", 1)) from error
    for option, others in _without_repeated(words):
        if _is_made(made, others, prog, examples):
            raise InputError(f"{option}: is there twice, and one would be lost; give it once (see {prog} --help)")
    return made


def _of_one_value(kind: type[Any], words: Sequence[str], prog: str, examples: Sequence[str], refusal: str) -> str:
    """What to say where an option of one value has several behind it, of which the second is refused; else empty."""
    said = (f"unknown: {word}" for word in words)
    place = next((at for at, text in enumerate(said) if refusal.startswith((f"{text} (", f"{text}, ", f"{text};"))), 0)
    option = next((word for word in reversed(words[:place]) if word.startswith("--")), "").partition("=")[0]
    if not option:
        return ""
    end = next((end for end in range(place, len(words)) if words[end].startswith("-")), len(words))
    again = [each for word in words[place:end] for each in (option, word)]
    repaired = [*words[:place], *again, *words[end:]]
    try:
        made = _made(kind, repaired, prog, examples)
        is_lost = any(_is_made(made, others, prog, examples) for _, others in _without_repeated(repaired))
    except (InputError, HelpAsked):
        is_lost = True
    if not is_lost:
        return f"; {option} takes one value: repeat it before each other one"
    is_behind_a_value = words[place - 2].partition("=")[0] == option and place > 1
    return f"; {option} takes one value" if is_behind_a_value else ""


def _without_repeated(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Options that come again, with the words that are left without the first of them and some words behind it."""
    options = [_OTHER_NAMES.get(name, name) for name in (word.partition("=")[0] for word in words)]
    for option in dict.fromkeys(each for each in options if each.startswith("--") and options.count(each) > 1):
        first = options.index(option)
        ends = (place for place in range(first + 1, len(words)) if options[place].startswith("--"))
        for end in range(first + 1, next(ends) + 1):
            yield option, [*words[:first], *words[end:]]


def _is_made(made: object, words: Sequence[str], prog: str, examples: Sequence[str]) -> bool:
    """Whether words make an instance that is equal to another."""
    try:
        return _made(type(made), words, prog, examples) == made
    except InputError:
        return False


def _made(kind: type[_Options], words: Sequence[str], prog: str, examples: Sequence[str]) -> _Options:
    is_help = any(word in ("-h", "--help") for word in words)
    said, refused = _Captured(), _Captured()
    with _terminal_width(_help_columns() if is_help else 10**5), contextlib.redirect_stderr(refused):
        try:
            with contextlib.redirect_stdout(said):
                return tyro.cli(kind, prog=prog, args=list(words), config=_CONFIG, registry=checked_types())
        except _OutOfRange as error:
            raise InputError(f"{error} (see {prog} --help)") from error
        except SystemExit:
            pass
    if said.getvalue():
        stripped = (
            "\n\nnote: python -OO takes away what is said of the options; run without it" if _is_stripped() else ""
        )
        raise HelpAsked(f"{_plain_help(said.getvalue())}\n\n{example_lines(examples)}{stripped}")
    raise InputError(f"{_refusal(refused.getvalue())} (see {prog} --help)")


class Flags(Generic[_Options]):
    """The flags of a library's options: one for each field, with the first sentence of its documentation as help.

    Args:
        kind: The library's dataclass.
        names: Flags that are called other than their fields.
        kinds: What tyro takes in the place of a field's type: a door, an annotation, or HIDDEN.
        converted: Makes the field's value from what its door gave.
        defaults: Defaults that differ on the command line.
    """

    def __init__(
        self,
        kind: type[_Options],
        *,
        names: Mapping[str, str] | None = None,
        kinds: Mapping[str, Any] | None = None,
        converted: Mapping[str, Callable[[Any], Any]] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._kind = kind
        asked_of = kinds or {}
        self._converted = {name: make for name, make in (converted or {}).items() if asked_of.get(name) is not HIDDEN}
        called = dict(names or {})
        self._flags = {field.name: f"--{called.get(field.name, field.name).replace('_', '-')}" for field in _of(kind)}
        hints, helps = get_type_hints(kind, include_extras=True), _help_of_fields(kind)
        parameters = []
        for field in _of(kind):
            asked = asked_of.get(field.name, hints[field.name])
            annotation: Any = asked
            if asked is HIDDEN:
                annotation = _SUPPRESSED[hints[field.name]]
            elif isinstance(asked, PrimitiveConstructorSpec):
                annotation = Annotated[hints[field.name], asked]
            default = (defaults or {}).get(field.name, self._default(field, is_hidden=asked is HIDDEN))
            said = self._with_flags(helps.get(field.name, ""))
            said = f"Do without: {said[0].lower()}{said[1:]}" if default is True and said else said
            asked_with = Annotated[annotation, tyro.conf.arg(name=called.get(field.name), help=said)]
            parameters.append(inspect.Parameter(field.name, _KEYWORD, default=default, annotation=asked_with))

        def constructor(**values: Any) -> _Options:
            try:
                return kind(**{name: self._converted.get(name, _same)(value) for name, value in values.items()})
            except InputError as error:
                raise _OutOfRange(self.in_flags(str(error))) from error

        constructor.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        constructor.__annotations__ = {each.name: each.annotation for each in parameters}
        self.arg = tyro.conf.arg(constructor=constructor)

    @contextlib.contextmanager
    def as_typed(self) -> Iterator[None]:
        """Inside the block an error that names one of the fields names its flag instead."""
        try:
            yield
        except VvcNnrError as error:
            error.args = (self.in_flags(str(error)),)
            raise

    def in_flags(self, message: str) -> str:
        """A message with flags in the place of fields: where it begins with one, and where names have several words."""
        head, colon, rest = message.partition(":")
        if re.match(rf"(?:{'|'.join(self._flags)})(?![\w./-])", head):
            for name, flag in self._flags.items():
                head = re.sub(rf"(?<![\w./-]){name}(?![\w./-])", flag, head)
        return self._with_flags(head) + colon + self._with_flags(rest)

    def _with_flags(self, text: str) -> str:
        """A text with flags in the place of fields whose names have several words."""
        for name, flag in self._flags.items():
            text = re.sub(rf"\b{name}=False\b", f"--no-{flag[2:]}", text)
            text = re.sub(rf'\b{name}="(\w+)"', rf"{flag} \1", text)
            text = re.sub(rf"(?<![\w*./-]){name}(?![\w/-]|\.\w)", flag, text) if "_" in name else text
        return text

    def first_given(self, options: _Options) -> str | None:
        """The first flag whose value is not its default; None if all are defaults."""
        changed = [field for field in _of(self._kind) if getattr(options, field.name) != default_of(field)]
        return self._flags[changed[0].name] if changed else None

    def _default(self, field: Field[Any], *, is_hidden: bool) -> Any:
        plain = default_of(field)
        if isinstance(plain, Mapping) and not is_hidden:
            return tuple(plain.items())
        return inspect.Parameter.empty if plain is MISSING else plain


def _same(value: Any) -> Any:
    return value


def _of(kind: type[Any]) -> tuple[Field[Any], ...]:
    assert is_dataclass(kind)
    return fields(kind)


def _help_of_fields(kind: type[Any]) -> dict[str, str]:
    """What a line of help says of each field, from the docstrings of the class and its bases."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if is_dataclass(each):
            for field in docstring_parser.parse(inspect.cleandoc(each.__doc__ or "")).params:
                found[field.arg_name] = _short_help(field.description or "")
    return found


def _is_stripped() -> bool:
    """Whether Python took away docstrings, from which help is made."""
    return sys.flags.optimize > 1


def _short_help(text: str) -> str:
    """The first sentence, and the one about the default if there is one."""
    text = re.sub(r"\s*\(vvc_nnr[\w.]*\)", "", " ".join(text.replace("`", "").split()))
    first, *others = _SENTENCE.split(text.replace("None: ", "Default: "))
    return " ".join([first, *(each for each in others if each.startswith("Default: "))])


@contextlib.contextmanager
def _terminal_width(n_columns: int) -> Iterator[None]:
    """Lets tyro lay its text out for a terminal of some width."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(n_columns)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        os.environ.update({} if before is None else {"COLUMNS": before})


def _help_columns() -> int:
    """Columns of help: on wider terminals tyro puts its boxes side by side, and lines are long to read."""
    return min(shutil.get_terminal_size().columns, MAX_HELP_COLUMNS)


def _plain_help(text: str) -> str:
    """Help without boxes: headings, and the lines of each group below its own."""
    width = _help_columns() - 1
    lines: list[str] = []
    group: list[str] = []
    for line in text.splitlines():
        if top := _TOP.fullmatch(line):
            group = ["", f"{top[1]}:"]
        elif not group:
            indent = "  " if line.startswith("usage:") else ""
            lines += textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
        elif inside := _INSIDE.fullmatch(line):
            if _RULE.fullmatch(inside[1].strip()):
                group = ["", " ".join(each.strip() for each in group[2:]).rstrip(".") + ":"]  # said in words
            else:
                group.append(f"  {inside[1]}".rstrip())
        else:
            lines += group
            group = []
    plain = re.sub(r"\n{3,}", "\n\n", "\n".join([*lines, *group]).strip())
    return _IF_USED.sub("(default:", _DEFAULT.sub("", plain))


def _refusal(text: str) -> str:
    """The one line that matters of tyro's box of words."""
    found: list[str] = []
    suggestion = ""
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        inside = _INSIDE.fullmatch(line)
        if inside and _RULE.fullmatch(inside[1].strip()):
            parts.append([])
        elif inside:
            parts[-1].append(inside[1].strip())
    for part in parts:
        if part and part[0].startswith("Perhaps you meant"):
            near = re.search(r"--[\w-]+", part[1])
            suggestion = f"; perhaps {near[0]} was meant" if near else ""
        elif part and part[0].startswith("Missing from"):
            found.append(f"missing: {', '.join(each for each in part[1:] if re.match(r'-|[A-Z_-]+$', each))}")
        elif (part and part[0].startswith("Unrecognized options:")) or not found:
            found.append(" ".join(part))
    message = _with_cause("; ".join(found).removeprefix("Error parsing "))
    return message.replace("Unrecognized options: ", "unknown: ", 1) + suggestion


def _with_cause(message: str) -> str:
    """A refusal with what is wrong with one of several names, of which tyro only says that it cannot parse them."""
    refused = _NO_PARSE.fullmatch(message)
    for name in ast.literal_eval(refused[2]) if refused else ():
        try:
            path(name)
        except ValueError as error:
            return f"{refused[1].strip('[]')}: {error}" if refused else message
    return message
