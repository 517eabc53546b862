"""codec."""

if __name__ != "vvc_nnr.codec":
    raise ImportError("import vvc_nnr.codec, not codec (run: pip install -e .)")
