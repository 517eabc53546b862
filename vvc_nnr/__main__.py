"""`python -m vvc_nnr`: the command `vvc-nnr`, which the installed package names, and this room does not know."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points


def main() -> int:
    """Runs the command of `sys.argv` and returns its exit code; 2 if the package is not installed."""
    for command in entry_points(group="console_scripts", name="vvc-nnr"):
        return int(command.load()())
    print("vvc-nnr: error: the package is not installed: run pip install -e . in its folder", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
