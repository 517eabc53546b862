"""Networks that a user's Python file makes, named as `FILE.py:NAME`: a function or class that takes no arguments.

Such a file is run only where the user names it; what a network file says of itself is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from vvc_nnr.errors import InputError
from vvc_nnr.files import naming, read_bytes

_FORM = "FILE.py:NAME, NAME a function or class without arguments"


def is_factory(text: str) -> bool:
    """Whether a text has the form FILE.py:NAME; the file need not be there.

    >>> is_factory("nets/mine.py:make"), is_factory("mine.pt"), is_factory("mine.py")
    (True, False, False)
    """
    file, _, name = text.rpartition(":")
    return file.lower().endswith(".py") and name.isidentifier()


def factory_file(text: str) -> Path:
    """The file of a factory, such as mine.py of mine.py:make.

    Raises:
        InputError: If the text has another form, or there is no such file.
    """
    if not is_factory(text):
        raise InputError(f"{text}: must be {_FORM}")
    path = Path(text.rpartition(":")[0])
    if not path.is_file():
        raise InputError(f"{text}: no such file {path}")
    return path


def made_by(text: str) -> object:
    """What a factory makes, a new object each time.

    The file is run as Python runs a script: what lies in its folder can be imported. What it prints goes to standard
    error. It is code of the user's own: nothing guards against what it does.

    Args:
        text: FILE.py:NAME.

    Raises:
        InputError: If there is no such file or name, the file or the function fails, or the function makes nothing.
    """
    path, name = factory_file(text), text.rpartition(":")[2]
    factory = _factory(text, path, name)
    with _own_errors(text, path), contextlib.redirect_stdout(sys.stderr):
        made: object = factory()
    if made is None:
        raise InputError(f"{text}: returns nothing; must return a network")
    return made


def module_made_by(text: str) -> nn.Module:
    """What a factory makes as a torch module in evaluation mode; raises as `made_by` and `as_module`."""
    with naming(text):
        return as_module(made_by(text)).eval()


def as_module(network: object) -> nn.Module:
    """A torch module as it is; of an exported program its module; of an object around modules, one with their weights.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(network, torch.export.ExportedProgram):
        network = network.module()
    if isinstance(network, nn.Module):
        for name in ("train", "eval"):  # of exported programs, whose mode is fixed, these raise
            vars(network).pop(name, None)
        return network
    own = vars(network) if hasattr(network, "__dict__") else {}
    if not any(isinstance(value, nn.Module) for value in own.values()):
        raise InputError(f"is a {type(network).__name__}; must be a torch module, or have some as attributes")
    return Around(network)


class Around(nn.Module):
    """An object around torch modules, such as an encoder and a decoder, as one module with their weights.

    What else the object has, its methods and numbers, is found here too. A deep copy has copies of all of it.

    Args:
        own: The object; its modules are called by the names of its attributes.
    """

    def __init__(self, own: Any) -> None:
        super().__init__()
        for name, value in vars(own).items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)
        self.wrapped_object = own

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "wrapped_object":  # while it is being copied
                raise
            return getattr(self.wrapped_object, name)

    def forward(self, *inputs: Any) -> Any:
        """The object's own forward pass.

        Raises:
            InputError: If it has none.
        """
        if callable(self.wrapped_object):
            return self.wrapped_object(*inputs)
        if not hasattr(self.wrapped_object, "forward"):
            raise InputError(
                f"a {type(self.wrapped_object).__name__} has no forward(pictures) that gradients could go back through"
            )
        return self.wrapped_object.forward(*inputs)


def class_name(network: nn.Module) -> str:
    """Name of a module's class, or of that of the object that it stands for."""
    return type(network.wrapped_object if isinstance(network, Around) else network).__name__


def _factory(text: str, path: Path, name: str) -> Callable[[], Any]:
    with _own_errors(text, path):
        module = _run(path)
    if not hasattr(module, name):
        own = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise InputError(f"{text}: {path} has no {name}; it has {', '.join(own[:5]) or 'no function'}")
    factory = getattr(module, name)
    if not callable(factory) or isinstance(factory, nn.Module):
        raise InputError(f"{text}: {name} is a {type(factory).__name__}; must be {_FORM}")
    found: Callable[[], Any] = factory
    return found


def _run(path: Path) -> ModuleType:
    """The module of a file, run when its content is new; kept among the loaded ones, where data classes look for it."""
    content = read_bytes(path)
    where = str(path.resolve())
    name = f"{path.stem}_{hashlib.sha256(where.encode('utf-8', 'surrogateescape') + content).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, where)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _folder_on_path(path.resolve().parent), contextlib.redirect_stdout(sys.stderr):
            exec(compile(content, where, "exec"), module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    """Within it, modules beside the file can be imported."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


@contextlib.contextmanager
def _own_errors(text: str, path: Path) -> Iterator[None]:
    """Tells what goes wrong in the user's code by the line of the file."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _is(frame.filename, path)]
        if isinstance(error, SyntaxError) and error.filename and _is(error.filename, path):
            lines = [error.lineno]
        where = f" in line {lines[-1]}" if lines else ""
        said = f"{type(error).__name__}{where}: {' '.join(str(error).split())}{_remedy(error)}"
        raise InputError(f"{text}: {said}") from error


def _remedy(error: BaseException) -> str:
    """What to do about a torchvision that does not import, which others such as CompressAI ask for."""
    if isinstance(error, RuntimeError) and "operator torchvision::" in str(error):
        return (
            "; torchvision is built for another torch than the one here: pip install --no-deps --force-reinstall "
            "torchvision from where torch came from (its CPU build: --index-url https://download.pytorch.org/whl/cpu), "
            "or declare its operators first (docs/model-zoo.md)"
        )
    if isinstance(error, ModuleNotFoundError) and error.name == "torchvision":
        return "; pip install --no-deps torchvision from where torch came from (docs/model-zoo.md)"
    return ""


def _is(name: str, path: Path) -> bool:
    return Path(name) == path.resolve()
