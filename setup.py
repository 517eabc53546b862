"""The one part of the build that is not declarative: the C++ kernels."""

from __future__ import annotations

import sys
from glob import glob
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent / "building"))  # for `python setup.py`, which has no backend's path
from kernel_backend import BuildKernels


def kernels(package: str, folder: str) -> Pybind11Extension:
    """The compiled module `_kernels` of a package, from `_native` in its folder."""
    return Pybind11Extension(
        f"{package}._kernels",
        [f"{folder}/_native/bindings.cpp"],
        depends=sorted(glob("*/_native/*.hpp")),
        cxx_std=17,
    )


setup(
    ext_modules=[kernels("vvc_nnr", "vvc_nnr"), kernels("vvc_nnr.filters", "filters")],
    cmdclass={"build_ext": BuildKernels},
)
