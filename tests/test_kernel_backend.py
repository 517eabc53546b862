"""How the kernels are built: the compiler that is chosen, its flags, and the one that is brought along."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import kernel_backend
import pytest
from kernel_backend import BuildKernels, flags_of, installed_compiler, missing_compiler, zig_compiler
from setuptools import Distribution
from setuptools.errors import PlatformError
from setuptools.extension import Extension

ROOT = Path(__file__).resolve().parents[1]


def having(*programs: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in programs else None


@pytest.mark.parametrize("compiler", ["unix", "mingw32", "zig"])
def test_compilers_with_the_flags_of_gcc_never_fuse_operations(compiler: str) -> None:
    compile_flags, link_flags = flags_of(compiler)
    assert {"-O3", "-ffp-contract=off", "-pthread"} <= set(compile_flags)
    assert "-pthread" in link_flags
    assert not any(flag.startswith(("/", "-march", "-ffast", "-mfma")) for flag in compile_flags)


def test_msvc_gets_its_own_flags_and_none_of_gcc() -> None:
    compile_flags, link_flags = flags_of("msvc")
    assert {"/O2", "/fp:precise"} <= set(compile_flags)
    assert all(flag.startswith("/") for flag in compile_flags)
    assert link_flags == []


@pytest.mark.parametrize(
    ("cxx", "configured", "programs", "found"),
    [
        ("ccache g++-13", "g++", ("ccache", "g++"), ["ccache", "g++-13"]),
        (None, "g++ -pthread", ("g++", "c++"), ["g++", "-pthread"]),
        (None, "/build/machine/clang++", ("c++", "clang++"), ["c++"]),
        ("not-there", None, ("clang++",), ["clang++"]),
        ("", None, ("cc", "gcc"), []),
        (None, "g++", (), []),
    ],
)
def test_the_compiler_is_the_users_then_pythons_then_any(
    cxx: str | None, configured: str | None, programs: tuple[str, ...], found: list[str]
) -> None:
    environment = {} if cxx is None else {"CXX": cxx}
    assert installed_compiler(environment, configured, having(*programs)) == found


@pytest.mark.parametrize(
    ("machine", "libc", "target"),
    [
        ("x86_64", "glibc", "x86_64-linux-gnu.2.28"),
        ("aarch64", "glibc", "aarch64-linux-gnu.2.28"),
        ("x86_64", "", "x86_64-linux-musl"),
        ("arm64", "darwin", "aarch64-macos"),
    ],
)
def test_zig_compiles_for_any_processor_of_the_kind(machine: str, libc: str, target: str) -> None:
    assert zig_compiler(machine, libc) == [sys.executable, "-m", "ziglang", "c++", "-target", target]


def test_a_compiler_in_a_wheel_is_asked_for_only_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(kernel_backend, "installed_compiler", lambda: ["g++"])
    assert missing_compiler() == []
    monkeypatch.setattr(kernel_backend, "installed_compiler", list)
    assert missing_compiler() == [kernel_backend.COMPILER_IN_A_WHEEL]
    for hook in (kernel_backend.get_requires_for_build_wheel, kernel_backend.get_requires_for_build_editable):
        monkeypatch.setattr(kernel_backend.build_meta, hook.__name__, lambda settings: ["a"])
        assert hook() == ["a", kernel_backend.COMPILER_IN_A_WHEEL]
    monkeypatch.setattr(sys, "platform", "win32")
    assert missing_compiler() == []


class Compiler:
    """Stands for setuptools' own, which names a program that is not there."""

    compiler_type = "unix"

    def __init__(self) -> None:
        self.compiler_so_cxx = ["no-such-g++"]

    def set_executables(self, **commands: list[str]) -> None:
        vars(self).update(commands)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> BuildKernels:
    monkeypatch.setattr(kernel_backend.build_ext, "build_extensions", lambda self: None)
    command = BuildKernels(Distribution())
    command.compiler = Compiler()
    command.extensions = [Extension("a._kernels", []), Extension("b._kernels", [])]
    return command


def test_without_any_compiler_the_build_says_what_to_install(
    build: BuildKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_backend, "installed_compiler", list)
    monkeypatch.setattr(kernel_backend, "find_spec", lambda name: None)
    with pytest.raises(PlatformError, match=r"no C\+\+ compiler: .*install g\+\+ or clang, or `pip install ziglang`"):
        build.build_extensions()


@pytest.mark.skipif(sys.platform != "linux", reason="links as on Linux")
def test_zig_takes_the_place_of_a_compiler_that_is_not_there(
    build: BuildKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_backend, "installed_compiler", list)
    monkeypatch.setattr(kernel_backend, "find_spec", lambda name: name)
    build.build_extensions()
    assert build.compiler.compiler_so_cxx[1:4] == ["-m", "ziglang", "c++"]
    assert build.compiler.linker_so_cxx[-1] == "-shared"
    # Each module has its own C++ library, so none may take part in another's pybind11.
    assert [extension.define_macros for extension in build.extensions] == [
        [("PYBIND11_BUILD_ABI", '"_a._kernels"')],
        [("PYBIND11_BUILD_ABI", '"_b._kernels"')],
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="links as on Linux")
def test_another_compiler_takes_the_place_of_one_that_is_not_there(
    build: BuildKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_backend, "installed_compiler", lambda: ["clang++"])
    build.build_extensions()
    assert build.compiler.compiler_so_cxx == ["clang++", "-fPIC"]
    assert build.extensions[0].extra_compile_args == flags_of("unix")[0]
    assert build.extensions[0].define_macros == []


def test_each_wheel_is_tested_by_files_that_are_there() -> None:
    wheels = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    for table in (wheels, *wheels["overrides"]):
        program, *tests = table["test-command"].split()
        assert program == "pytest"
        assert all((ROOT / test.removeprefix("{project}/")).is_file() for test in tests)
