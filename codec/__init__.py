"""Pictures to streams and back, and what streams carry beside pictures.

| module | what it knows |
| --- | --- |
| `configuration` | all intra, random access and low delay, as JVET has them |
| `sequence`, `encoders` | one loop over any VVC encoder, and the encoders as rows: libvvenc, VTM, vvencapp |
| `decoder`, `programs`, `encoder_logs` | decoding; other people's programs and what their logs say |
| `nal`, `vvc_sps`, `vvc_pps`, `vvc_stream`, `slice_qp` | the syntax of VVC streams, as far as pictures need it |
| `sei`, `nnpf`, `stream_filters` | SEI messages, those of neural-network filters, and the filters of a stream |
| `image_formats` | still pictures as JPEG, WebP, AVIF, JPEG 2000, JPEG XL, and which of their bytes count |
"""

if __name__ != "vvc_nnr.codec":
    raise ImportError("import vvc_nnr.codec, not codec (run: pip install -e .)")
