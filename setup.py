"""The one part of the build that is not declarative: the C++ kernels, for a compiler with C++17 (GCC or Clang)."""

from __future__ import annotations

from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

# No -march: the kernels choose their instruction set when they run. No contraction and no traps: every instruction
# set computes the same bits, and loops over floats may be vectorised.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno", "-Wno-psabi", "-pthread"]

setup(
    ext_modules=[
        Pybind11Extension(
            "vvc_nnr._kernels",
            ["vvc_nnr/_native/bindings.cpp"],
            depends=sorted(glob("vvc_nnr/_native/*.hpp")),
            cxx_std=17,
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
        )
    ]
)
