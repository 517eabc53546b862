"""The CNNs that filter or code pictures: their modules, weights, training, and what an encoder decides about them.

| folder or module | what it knows |
| --- | --- |
| `networks` | the modules, how pictures go into them, modules and ONNX models of the user's own |
| `zoo`, `zoo/` | any network by its name or file; the trained ones with a card each |
| `inference` | a network over a picture, by any backend, integers included |
| `decisions` | where to filter and how strongly, by block; Wiener filters; both as bits |
| `in_stream` | filters that travel in a coded video |
| `picture_codecs` | autoencoders, whoever made them, as codecs of pictures |
| `picture_file` | pictures that they coded, as a file |
| `training`, `compress` | pairs from the real codec, the loop, fine-tuning; files coded by what they do to pictures |
"""

if __name__ != "vvc_nnr.filters":
    raise ImportError("import vvc_nnr.filters, not filters (run: pip install -e .)")
