"""The command line: `vvc-nnr <command>`.

Results go to standard output (as JSON with --json), or to standard error where standard output is the output file
(`-o -`); progress to standard error where that is a terminal. Exit code 0 is success, 2 is bad input or options with
one line that says what to do, 1 units of work that failed for other reasons, 130 is Ctrl-C, 143 SIGTERM (128 + the
signal's number), 141 an output file that is a pipe whose reader has gone.

A command's module is imported when the command is asked for, and no other: help and version need none of them.

Signals that end a command (Ctrl-C, kill, a batch system's time limit) come as an exception, so that all is tidied up.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import logging
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, TypeVar

import vvc_nnr
from vvc_nnr.errors import InputError, VvcNnrError, shown_name
from vvc_nnr.experiments.cli.common import Command, example_lines, is_standard_output, json_text

Result = TypeVar("Result")

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
_RETRY_S = 0.05
_MAX_WAITS = 20
_IMPORTING = "<frozen importlib._bootstrap"
_TIDYING = ("__enter__", "__exit__")


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command.

    Args:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        super().__init__(f"{what}; experiments, training and adapt go on where they stopped when run again")
        self.exit_code = 128 + number


def run_interruptible(work: Callable[[], Result]) -> Result:
    """What `work` returns; a signal makes it raise `Interrupted`. Signals that are ignored (nohup) stay so.

    An exception at the wrong moment is lost, or leaves something behind. So while a module is imported it waits for the
    end of that (native modules abort), it waits a second for `with` blocks to begin or end, and it is raised again if
    some code has swallowed it (such as `__del__`).

    Raises:
        Interrupted: If a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # Python brings signals to the main thread alone
    return _Run().of(work)


class _Run:
    """One call of `run_interruptible`."""

    def __init__(self) -> None:
        self._pending: Interrupted | None = None
        self._n_waits = 0
        self._floor: FrameType | None = None
        self._is_over = False
        self._late: int | None = None
        self._told_elsewhere = sys.unraisablehook

    def of(self, work: Callable[[], Result]) -> Result:
        self._floor = sys._getframe()
        before = {number: signal.getsignal(number) for number in _numbers()}
        self._told_elsewhere, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        try:
            for number in before:
                signal.signal(number, self._on_signal)
            result = work()
            if self._pending is not None:
                raise self._pending
            return result
        except BaseException:
            if self._pending is not None:
                raise self._pending from None
            raise
        finally:
            self._is_over = True
            sys.unraisablehook = self._told_elsewhere
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._late is not None:
                signal.raise_signal(self._late)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raises what the first signal brought, now or when it is time."""
        if self._is_over:
            self._late = number if number in _ending() else self._late
            return
        if self._pending is None and number in _ending():
            self._pending = Interrupted(number)
        if self._pending is None or self._is_under_way():
            return
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
            if self._must_wait(frame):
                return
        raise self._pending

    def _on_unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """Says nothing of the exception that is raised again; what else is lost is told as ever."""
        if self._pending is None or lost.exc_value is not self._pending:
            self._told_elsewhere(lost)

    def _is_under_way(self) -> bool:
        """Whether the exception was raised and is being handled, so that all is tidied up."""
        error = sys.exception()
        while error is not None and error is not self._pending:
            error = error.__context__
        return error is not None

    def _must_wait(self, frame: FrameType | None) -> bool:
        self._n_waits += 1
        while frame is not None and frame is not self._floor:
            if frame.f_code.co_filename.startswith(_IMPORTING):
                return True
            if frame.f_code.co_name in _TIDYING and self._n_waits <= _MAX_WAITS:
                return True
            frame = frame.f_back
        return False


def _ending() -> list[int]:
    """The signals of this system that end a command, unless they are ignored."""
    found = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


def _numbers() -> list[int]:
    return [*_ending(), *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]


PROGRAM = "vvc-nnr"
DESCRIPTION = "Compress the CNNs inside video and image codecs, and see what that does to pictures."
_BACKEND = "MPLBACKEND"
_BROKEN_PIPE = 128 + 13


@dataclass(frozen=True, slots=True)
class Entry:
    """One command in the list of them.

    Attributes:
        summary: One line.
        place: Module of `vvc_nnr.experiments.cli` and dataclass.
        examples: Command lines that work.
    """

    summary: str
    place: str
    examples: tuple[str, ...]


COMMANDS: Mapping[str, Entry] = {
    "demo": Entry(
        "run both use cases on bundled pictures and print the paper's four tables",
        "experiment:Demo",
        ("vvc-nnr demo --out demo_results",),
    ),
    "experiment tool-by-tool": Entry(
        "CNNs in the place of, or after, VVC's in-loop filters: Tables 1 to 3, BD-rate",
        "experiment:ToolByTool",
        (
            "vvc-nnr experiment tool-by-tool --sequences jvet/ --pictures 4 --out results/",
            "vvc-nnr experiment tool-by-tool --compress uniform8,nnc:-32 --decisions wiener --out results/",
            "vvc-nnr experiment tool-by-tool --config ai,ra,ldb --networks inloop-lop --out results/",
        ),
    ),
    "experiment end-to-end": Entry(
        "autoencoders against JPEG, WebP, AVIF ...: Table 4",
        "experiment:EndToEnd",
        (
            "vvc-nnr experiment end-to-end --images cifar-10-python.tar.gz --count 1000 --out results/",
            "vvc-nnr experiment end-to-end --networks nets.py:make --images photographs/ --out results/",
        ),
    ),
    "experiment model-zoo": Entry(
        "networks of many kinds before and after coding, the reference software beside",
        "experiment:ModelZoo",
        ("vvc-nnr experiment model-zoo --out results/",),
    ),
    "report": Entry(
        "a folder of results as one web page that stands alone, or as tables",
        "report:Report",
        ("vvc-nnr report results/ -o report.html", "vvc-nnr report results/ -o tables.xlsx"),
    ),
    "compress": Entry(
        "quantise or code a network file",
        "networks.compress:Compress",
        (
            "vvc-nnr compress model.safetensors -o small.nnc --qp -32",
            "vvc-nnr compress model.onnx -o small.nnc --sensitivity inputs.npz",
            "vvc-nnr compress inloop-postfilter -o small.nnc --calibrate photographs/ --max-loss-db 0.02",
        ),
    ),
    "decompress": Entry(
        "turn a quantised or coded network file into a plain one",
        "networks.compress:Decompress",
        ("vvc-nnr decompress small.nnc -o model.safetensors",),
    ),
    "inspect": Entry(
        "list the tensors of a network file",
        "networks.inspect:Inspect",
        ("vvc-nnr inspect inloop-postfilter", "vvc-nnr inspect small.nnc --bins --original model.safetensors"),
    ),
    "update make": Entry(
        "code what turns one state of a network into another",
        "networks.update:MakeUpdate",
        (
            "vvc-nnr update make base.safetensors new.safetensors -o one.nnc --qp -40",
            "vvc-nnr update make base.safetensors newer.safetensors -o two.nnc --after one.nnc",
        ),
    ),
    "update apply": Entry(
        "write the network that updates make of another",
        "networks.update:ApplyUpdate",
        ("vvc-nnr update apply base.safetensors one.nnc two.nnc -o newer.safetensors",),
    ),
    "encode": Entry(
        "code pictures as VVC",
        "codec:Encode",
        ("vvc-nnr encode in.y4m --qp 32 -o out.266", "vvc-nnr encode in.y4m --qp 32 --config ra -o out.266"),
    ),
    "decode": Entry(
        "decode a VVC byte stream and check every picture against its hash",
        "codec:Decode",
        ("vvc-nnr decode out.266 -o out.y4m",),
    ),
    "image encode": Entry(
        "code images by an autoencoder, into one file",
        "codec:ImageEncode",
        ("vvc-nnr image encode a.png b.png --network context-autoencoder --rate 3 -o pictures.vnae",),
    ),
    "image decode": Entry(
        "decode the images of such a file",
        "codec:ImageDecode",
        (
            "vvc-nnr image decode pictures.vnae --out-dir decoded/",
            "vvc-nnr image decode one.vnae -o one.png --network my.nnc",
        ),
    ),
    "filter": Entry(
        "run a CNN filter over any decoder's output",
        "filter:Filter",
        (
            "vvc-nnr filter decoded.y4m --model inloop-postfilter --qp 32 -o filtered.y4m",
            "vvc-nnr filter a_qp22.y4m a_qp37.y4m --model inloop-postfilter --out-dir filtered/ --original a.y4m",
            "vvc-nnr filter out.266 --model inloop-lop --qp 32 -o filtered.y4m --decisions decisions.bin",
            "vvc-nnr filter self.266 -o filtered.y4m",
        ),
    ),
    "score": Entry(
        "print PSNR, SSIM and MS-SSIM of decoded pictures against their originals",
        "score:Score",
        (
            "vvc-nnr score original.y4m decoded.y4m filtered.y4m",
            "vvc-nnr score orig_416x240_8bit.yuv dec_416x240_10bit.yuv --per-picture --json",
        ),
    ),
    "sei list": Entry(
        "list the SEI messages of a stream",
        "sei:SeiList",
        ("vvc-nnr sei list filtered.266 --filters",),
    ),
    "sei insert": Entry(
        "put a neural-network filter into a finished stream",
        "sei:SeiInsert",
        (
            "vvc-nnr sei insert out.266 --network inloop-lop -o self.266",
            "vvc-nnr sei insert out.266 --network inloop-lop --decisions decisions.bin --at once -o self.266",
        ),
    ),
    "sei extract": Entry(
        "take the network of a filter, or its decisions, out of a stream into a file",
        "sei:SeiExtract",
        ("vvc-nnr sei extract self.266 -o network.nnc",),
    ),
    "sei remove": Entry(
        "take filters, or SEI messages of a type, out of a stream",
        "sei:SeiRemove",
        ("vvc-nnr sei remove self.266 -o out.266",),
    ),
    "train inloop": Entry(
        "an in-loop filter, on pairs made by the real codec",
        "train:TrainInLoop",
        ("vvc-nnr train inloop --data photographs/ --out runs/replacement --loop-filters none",),
    ),
    "train autoencoder": Entry(
        "an autoencoder for small RGB pictures, on patches of reduced photographs",
        "train:TrainAutoencoder",
        ("vvc-nnr train autoencoder --data photographs/ --cifar cifar-10-python.tar.gz --out runs/autoencoder",),
    ),
    "train context-autoencoder": Entry(
        "one whose prior follows the picture, at several rates, from one with a factorised prior",
        "train:TrainContextAutoencoder",
        ("vvc-nnr train context-autoencoder --data photographs/ --cifar cifar-10-python.tar.gz --out runs/context",),
    ),
    "adapt": Entry(
        "tune a filter to one sequence and send what changes in its stream",
        "train:Adapt",
        (
            "vvc-nnr adapt out.266 --original in.y4m --model inloop-lop -o adapted.266",
            "vvc-nnr adapt a_22.266 a_37.266 --original a.y4m --model inloop-vlop -o b_22.266 -o b_37.266 --budget 5",
        ),
    ),
    "fetch": Entry(
        "download public test pictures, checked by SHA-256; goes on where it was cut off",
        "pictures:Fetch",
        ("vvc-nnr fetch kodak data/kodak",),
    ),
}
FAMILIES: Mapping[str, str] = {
    "experiment": "run an experiment and print its tables",
    "update": "updates of a network: make one, apply some",
    "image": "images coded by an autoencoder",
    "sei": "messages in a coded stream: neural-network filters put in, listed, taken out",
    "train": "train a network on your own pictures; resumes where it was cut off",
}
MOVED: Mapping[str, str] = {
    "experiment in-loop": "experiment in-loop is now experiment tool-by-tool --decisions wiener (see --help of that)",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A command whose module is there, and what was typed after its name.

    Attributes:
        name: Such as "train inloop".
        kind: Its dataclass.
        words: The rest of the command line.
    """

    name: str
    kind: type[Command]
    words: tuple[str, ...]


class _OneLine(logging.Formatter):
    """A line for each message, whatever the names in it hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown_name(super().formatMessage(record))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        argv: The words after the program's name; None: those of this process.
    """
    warnings_here = logging.StreamHandler()
    warnings_here.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[warnings_here])
    try:
        asked = asked_command(sys.argv[1:] if argv is None else argv)
        if isinstance(asked, str):
            _print(asked, sys.stdout)
        else:
            _print(*run_interruptible(lambda: _outcome(asked)))
    except VvcNnrError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            return _BROKEN_PIPE  # as other programs end whose output nobody reads any more
        return _refused(str(error), error.cli_exit_code)
    except Interrupted as error:
        return _refused(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refused("interrupted", 130)
    except BrokenPipeError:
        _give_up_output()  # the reader has seen enough, as in `vvc-nnr inspect ... | head`
    except ModuleNotFoundError as error:
        if not _is_of_a_package(error):
            raise
        return _refused(
            f"this command needs the Python module {error.name}, which is not installed; install what vvc-nnr asks for "
            "(compress, decompress, inspect and update do without torch)"
        )
    except OSError as error:
        return _refused(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        return _refused("not enough memory for this size")
    return 0


def asked_command(words: Sequence[str]) -> Asked | str:
    """The command that is asked for, its module imported; or a text to print: help or version.

    Raises:
        InputError: If there is no such command.
    """
    if words and words[0] in ("-h", "--help"):
        return program_help()
    if list(words) == ["--version"]:
        return f"{PROGRAM} {vvc_nnr.__version__}"
    if not words:
        raise InputError(f"a command is missing (see {PROGRAM} --help)")
    name, n_words = words[0], 1
    if name in FAMILIES:
        if len(words) > 1 and words[1] in ("-h", "--help"):
            return family_help(name)
        if len(words) == 1:
            kinds = ", ".join(kind.split()[1] for kind in COMMANDS if kind.startswith(f"{name} "))
            raise InputError(f"{name}: its kind is missing: {kinds} (see {PROGRAM} {name} --help)")
        name, n_words = f"{name} {words[1]}", 2
    if name in MOVED:
        raise InputError(MOVED[name])
    if name not in COMMANDS:
        raise InputError(f"{' '.join(words[:n_words])!r} is no command{_nearest(name)} (see {PROGRAM} --help)")
    return Asked(name, command_class(name), tuple(words[n_words:]))


def command_class(name: str) -> type[Command]:
    """The dataclass of a command, from its module, which is imported."""
    module, _, kind = COMMANDS[name].place.partition(":")
    with _plots_without_window():
        found: type[Command] = getattr(importlib.import_module(f"vvc_nnr.experiments.cli.{module}"), kind)
    return found


def parsed(asked: Asked) -> Command:
    """The command with what was typed.

    Raises:
        HelpAsked: If help was.
        InputError: If a word is no option, or no value for its option.
    """
    from vvc_nnr.experiments.cli.flags import parse  # here: --help and --version do without

    return parse(asked.kind, asked.words, prog=f"{PROGRAM} {asked.name}", examples=COMMANDS[asked.name].examples)


def program_help() -> str:
    """All commands with a line for each."""
    one_word = {name: entry.summary for name, entry in COMMANDS.items() if " " not in name}
    listed = {"demo": one_word.pop("demo"), **FAMILIES, **one_word}
    options = {"-h, --help": "show this help message and exit", "--version": "show the version and exit"}
    return (
        f"usage: {PROGRAM} [-h] [--version] command ...\n\n{textwrap.fill(DESCRIPTION, 79)}\n\n"
        f"commands:\n{_table(listed)}\n\noptions:\n{_table(options)}\n\n{example_lines([f'{PROGRAM} demo'])}"
    )


def family_help(family: str) -> str:
    """The commands of a family with a line for each."""
    kinds = {name: entry for name, entry in COMMANDS.items() if name.startswith(f"{family} ")}
    listed = {name.split()[1]: entry.summary for name, entry in kinds.items()}
    examples = example_lines([entry.examples[0] for entry in kinds.values()])
    summary = FAMILIES[family]
    return (
        f"usage: {PROGRAM} {family} [-h] kind ...\n\n{summary[0].upper()}{summary[1:]}.\n\n"
        f"kinds:\n{_table(listed)}\n\n{examples}"
    )


def _table(rows: Mapping[str, str]) -> str:
    left = max(map(len, rows)) + 4
    width = max(shutil.get_terminal_size().columns, left + 20)
    lines = []
    for name, text in rows.items():
        first, *others = textwrap.wrap(text, width - left) or [""]
        lines += [f"  {name:{left - 2}}{first}", *(" " * left + other for other in others)]
    return "\n".join(lines)


def _nearest(name: str) -> str:
    known = [*COMMANDS, *FAMILIES]
    near = difflib.get_close_matches(name, known, n=1)
    return f"; perhaps {near[0]} was meant" if near else ""


def _outcome(asked: Asked) -> tuple[str, TextIO | None]:
    """What a command says, and where it goes: not to standard output if that is its output file; None: nowhere."""
    from vvc_nnr.experiments.cli.flags import HelpAsked

    try:
        command = parsed(asked)
    except HelpAsked as help_:
        return help_.text, sys.stdout
    outcome = command.run()
    stream = sys.stderr if any(map(is_standard_output, _paths(command))) else sys.stdout
    return json_text(outcome.data) if command.json else outcome.text, stream


def _paths(options: Any) -> Iterator[Path]:
    """All paths among the values of options and of options inside them."""
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path):
            yield value
        elif isinstance(value, tuple):
            yield from (each for each in value if isinstance(each, Path))
        elif is_dataclass(value):
            yield from _paths(value)


def _is_of_a_package(error: ModuleNotFoundError) -> bool:
    """Whether the module that is missing is of another package: not every machine has a wheel of each."""
    return error.name is not None and error.name.partition(".")[0] != "vvc_nnr"


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether memory is missing; torch says so by a plain RuntimeError."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


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


def _refused(message: str, exit_code: int = 2) -> int:
    one_line = printable(" ".join(message.split()), getattr(sys.stderr, "encoding", None))
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: error: {one_line}", file=sys.stderr)
    return exit_code
