"""experiments."""

if __name__ != "vvc_nnr.experiments":
    raise ImportError("import vvc_nnr.experiments, not experiments (run: pip install -e .)")
