"""The one part of the build that is not declarative: the C++ kernels."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent / "building"))  # for `python setup.py`, which has no backend's path
from kernel_backend import BuildKernels, kernels

setup(
    ext_modules=[kernels("vvc_nnr", "vvc_nnr"), kernels("vvc_nnr.filters", "filters")],
    cmdclass={"build_ext": BuildKernels},
)
