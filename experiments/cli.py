"""The command line: `vvc-nnr <command>`.

Results go to standard output (as JSON with --json), progress to standard error. Exit code 0 is success, 2 is bad
input or options with one line that says what to do, 130 is Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import vvc_nnr
from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.experiments import cli_codec, cli_experiment, cli_network, cli_train
from vvc_nnr.experiments.cli_common import Outcome

Command = Callable[[argparse.Namespace], Outcome]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        arguments = build_parser().parse_args(argv)
        outcome = arguments.run(arguments)
        text = json.dumps(outcome.data, indent=2) if arguments.json else outcome.text
        if text:
            print(text)
        sys.stdout.flush()
    except VvcNnrError as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        return _refused("interrupted; run the same command again to go on", exit_code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _refused(f"{error.filename or 'input or output'}: {error.strerror or error}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="vvc-nnr",
        description="Compress the CNNs inside video and image codecs, and see what that does to pictures.",
        epilog="example: vvc-nnr demo",
    )
    parser.add_argument("--version", action="version", version=f"vvc-nnr {vvc_nnr.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in (cli_experiment, cli_network, cli_codec, cli_train):
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
