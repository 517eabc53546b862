"""How the C++ kernels are built: the compiler, its flags, and a build backend that brings one where there is none.

The backend is setuptools'; on a machine without a C++ compiler it asks for `ziglang` too, which is one in a wheel.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that are not written here)
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

Settings = Mapping[str, Any] | None

COMPILER_IN_A_WHEEL = "ziglang>=0.13"
USUAL_COMPILERS = ("c++", "g++", "clang++")

# GCC and Clang know all of these. No -march: the kernels choose their instruction set when they run. No contraction and
# no traps: every instruction set computes the same bits, and loops over floats may be vectorised.
GNU_FLAGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno", "-Wno-psabi", "-pthread"]
# Zig adds checks that end the process by itself, and debug information.
ZIG_FLAGS = [*GNU_FLAGS, "-fno-sanitize=undefined", "-g0"]
# C++17 and exceptions are asked for by pybind11, in the words of each compiler.
MSVC_FLAGS = ["/O2", "/fp:precise"]


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """What a wheel's build needs beside `build-system.requires` (PEP 517)."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *missing_compiler()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """What an editable install's build needs beside `build-system.requires` (PEP 660)."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *missing_compiler()]


def missing_compiler() -> list[str]:
    """The requirement that brings a compiler; none where one is, or setuptools looks for it (Windows)."""
    return [] if sys.platform == "win32" or installed_compiler() else [COMPILER_IN_A_WHEEL]


def installed_compiler(
    environment: Mapping[str, str] = os.environ,
    configured: str | None = sysconfig.get_config_var("CXX"),
    which: Callable[[str], str | None] = shutil.which,
) -> list[str]:
    """The command of a C++ compiler on this machine; empty without one.

    Args:
        environment: The process's; its CXX comes first.
        configured: What Python was built with, which comes next, before the usual names.
        which: Finds a program on the PATH.
    """
    for command in (environment.get("CXX"), configured, *USUAL_COMPILERS):
        words = shlex.split(command or "")
        if words and which(words[0]):
            return words
    return []


def zig_compiler(machine: str, libc: str) -> list[str]:
    """Zig's C++ compiler, for any processor of this kind (its default is this very one) and a C library not too new.

    Args:
        machine: `platform.machine()`.
        libc: `platform.libc_ver()[0]`, which is "glibc" or, with musl, empty; "darwin" on macOS.
    """
    system = {"glibc": "linux-gnu.2.28", "darwin": "macos"}.get(libc, "linux-musl")
    return [sys.executable, "-m", "ziglang", "c++", "-target", f"{machine.replace('arm64', 'aarch64')}-{system}"]


def flags_of(compiler: str) -> tuple[list[str], list[str]]:
    """Flags to compile and to link with.

    Args:
        compiler: "msvc", "zig", or any other for a compiler with GCC's flags.
    """
    if compiler == "msvc":
        return MSVC_FLAGS, []
    if compiler == "zig":
        return ZIG_FLAGS, ["-pthread", "-s"]
    return GNU_FLAGS, ["-pthread"]


class BuildKernels(build_ext):
    """Compiles by the compiler that setuptools chose, or if it is not there by another one, or by Zig."""

    def build_extensions(self) -> None:
        """Compiles all extensions.

        Raises:
            PlatformError: If there is no compiler.
        """
        name = self.compiler.compiler_type
        if name == "unix" and not shutil.which(self.compiler.compiler_so_cxx[0]):
            name = self._take_another_compiler()
        compile_flags, link_flags = flags_of(name)
        for extension in self.extensions:
            if name == "zig":
                # Its C++ library is a part of each module: one cannot catch what another throws, so each one has its
                # own pybind11.
                extension.define_macros.append(("PYBIND11_BUILD_ABI", f'"_{extension.name}"'))
            extension.extra_compile_args += compile_flags
            extension.extra_link_args += link_flags
        super().build_extensions()

    def _take_another_compiler(self) -> str:
        """Puts another compiler into the place of one that is not there; its name for `flags_of`."""
        name, command, is_mac = "unix", installed_compiler(), sys.platform == "darwin"
        if not command:
            if not find_spec("ziglang"):
                raise PlatformError(
                    f"no C++ compiler: none of {', '.join(USUAL_COMPILERS)} is on the PATH; "
                    "install g++ or clang, or `pip install ziglang`"
                )
            name = "zig"
            command = zig_compiler(platform.machine(), "darwin" if is_mac else platform.libc_ver()[0])
        shared = ["-bundle", "-undefined", "dynamic_lookup"] if is_mac else ["-shared"]
        self.compiler.set_executables(
            compiler_so_cxx=[*command, "-fPIC"], linker_so_cxx=[*command, *shared], linker_exe_cxx=command
        )
        self.compiler.set_executables(compiler_cxx=command)
        return name
