"""Questions to tables: the two use cases with their rows, tables and plots, and the command line."""

if __name__ != "vvc_nnr.experiments":
    raise ImportError("import vvc_nnr.experiments, not experiments (run: pip install -e .)")
