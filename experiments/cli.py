"""The command line: `vvc-nnr <command>`.

Results go to standard output (as JSON with --json), or to standard error where standard output is the output file
(`-o -`); progress to standard error where that is a terminal. Exit code 0 is success, 2 is bad input or options with
one line that says what to do, 130 is Ctrl-C, 143 SIGTERM (128 + the signal's number).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import vvc_nnr
from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.experiments.interrupts import Interrupted, run_interruptible
from vvc_nnr.experiments.outputs import is_standard_output

_BACKEND = "MPLBACKEND"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return run(build_parser(), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """As `main`, with the parser of `build_parser`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        _print(*run_interruptible(lambda: _outcome(parser, argv)))
    except VvcNnrError as error:
        return _refused(str(error))
    except Interrupted as error:
        return _refused(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refused("interrupted", 130)
    except BrokenPipeError:
        _give_up_output()  # the reader has seen enough, as in `vvc-nnr inspect ... | head`
    except OSError as error:
        return _refused(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        return _refused("not enough memory for this size")
    return 0


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether memory is missing; torch says so by a plain RuntimeError."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def _outcome(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[str, TextIO | None]:
    """What a command says, and where it goes: not to standard output if that is its output file; None: nowhere."""
    from vvc_nnr.experiments.cli_common import json_text

    words = sys.argv[1:] if argv is None else list(argv)
    if words[:2] == ["experiment", "in-loop"]:
        raise InputError("experiment in-loop is now experiment tool-by-tool --decisions wiener (see its --help)")
    arguments = parser.parse_args(words)
    outcome = arguments.run(arguments)
    paths = [value for value in vars(arguments).values() if isinstance(value, Path)]
    stream = sys.stderr if any(map(is_standard_output, paths)) else sys.stdout
    return json_text(outcome.data) if arguments.json else str(outcome.text), stream


def _print(text: str, stream: TextIO | None) -> None:
    try:
        if stream is not None:
            print(printable(text, stream.encoding), file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise InputError(f"standard output: cannot be written: {error.strerror}") from error


def printable(text: str, encoding: str | None) -> str:
    r"""The text with what an encoding lacks, and what would command a terminal, as escapes such as \xe4 and \x1b."""
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else _escaped(letter) for letter in text)
    return shown.encode(encoding or "ascii", "backslashreplace").decode(encoding or "ascii")


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode() if ord(letter) < 0xA0 else letter


def _give_up_output() -> None:
    """Keeps the interpreter from failing once more when it flushes standard output at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    with _plots_without_window():  # and not above: these import torch for seconds
        from vvc_nnr.experiments import cli_codec, cli_experiment, cli_fetch, cli_network, cli_report, cli_train

    parser = _Parser(
        prog="vvc-nnr",
        description="Compress the CNNs inside video and image codecs, and see what that does to pictures.",
        epilog="example: vvc-nnr demo",
    )
    parser.add_argument("--version", action="version", version=f"vvc-nnr {vvc_nnr.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in (cli_experiment, cli_report, cli_network, cli_codec, cli_train, cli_fetch):
        module.add_commands(commands)
    return parser


@contextlib.contextmanager
def _plots_without_window() -> Iterator[None]:
    """Lets matplotlib be imported where MPLBACKEND names what is not installed here, as a notebook's does."""
    before = os.environ.get(_BACKEND)
    os.environ[_BACKEND] = "agg"
    try:
        yield
    finally:
        del os.environ[_BACKEND]
        if before is not None:
            os.environ[_BACKEND] = before


class _Parser(argparse.ArgumentParser):
    """Checks all names and numbers, and reports wrong ones as every other bad input: one line, exit code 2."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        from vvc_nnr.experiments.cli_common import path, real, whole_number

        super().__init__(*arguments, **named)
        for plain, checked in ((Path, path), (int, whole_number), (float, real)):
            self.register("type", plain, checked)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _refused(message: str, exit_code: int = 2) -> int:
    one_line = printable(" ".join(message.split()), getattr(sys.stderr, "encoding", None))
    with contextlib.suppress(OSError):
        print(f"vvc-nnr: error: {one_line}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
