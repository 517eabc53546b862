"""filters."""

if __name__ != "vvc_nnr.filters":
    raise ImportError("import vvc_nnr.filters, not filters (run: pip install -e .)")
