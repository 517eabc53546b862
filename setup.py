"""The one part of the build that is not declarative: the C++ kernels, for a compiler with C++17 (GCC or Clang)."""

from __future__ import annotations

from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

# No -march: the kernels choose their instruction set when they run. No contraction and no traps: every instruction
# set computes the same bits, and loops over floats may be vectorised.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno", "-Wno-psabi", "-pthread"]


def kernels(package: str, folder: str) -> Pybind11Extension:
    """The compiled module `_kernels` of a package, from `_native` in its folder."""
    return Pybind11Extension(
        f"{package}._kernels",
        [f"{folder}/_native/bindings.cpp"],
        depends=sorted(glob("*/_native/*.hpp")),
        cxx_std=17,
        extra_compile_args=FLAGS,
        extra_link_args=["-pthread"],
    )


setup(ext_modules=[kernels("vvc_nnr", "vvc_nnr"), kernels("vvc_nnr.filters", "filters")])
