"""The command line: `vvc-nnr <command>`.

Results go to standard output (as JSON with --json), progress to standard error where that is a terminal. Exit code 0
is success, 2 is bad input or options with one line that says what to do, 130 is Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import vvc_nnr
from vvc_nnr.errors import InputError, VvcNnrError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        _print(_run(argv))
    except VvcNnrError as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        return _refused("interrupted; experiments and training go on where they stopped when run again", exit_code=130)
    except BrokenPipeError:
        _give_up_output()  # the reader has seen enough, as in `vvc-nnr inspect ... | head`
    except OSError as error:
        return _refused(f"{error.filename or 'input or output'}: {error.strerror or error}")
    return 0


def _run(argv: Sequence[str] | None) -> str:
    from vvc_nnr.experiments.cli_common import json_text

    words = sys.argv[1:] if argv is None else list(argv)
    if words[:2] == ["experiment", "in-loop"]:
        raise InputError("experiment in-loop is now experiment tool-by-tool --decisions wiener (see its --help)")
    arguments = build_parser().parse_args(words)
    outcome = arguments.run(arguments)
    return json_text(outcome.data) if arguments.json else str(outcome.text)


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise InputError(f"standard output: cannot be written: {error.strerror}") from error


def _give_up_output() -> None:
    """Keeps the interpreter from failing once more when it flushes standard output at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    # Here and not above: these import torch for seconds, and Ctrl-C is to end in one line by then.
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


class _Parser(argparse.ArgumentParser):
    """Reports wrong options as every other bad input: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _refused(message: str, exit_code: int = 2) -> int:
    one_line = " ".join(message.split())
    print(f"vvc-nnr: error: {one_line}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
