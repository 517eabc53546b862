"""`python -m vvc_nnr.experiments.cli`: the same as `vvc-nnr`."""

import sys

from vvc_nnr.experiments.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
