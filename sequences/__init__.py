"""Pictures in and out, and how alike they are.

A sequence is a `source.Source`: a name, a `frame.VideoFormat` and an iterator of `frame.Frame` that keeps one
picture in memory. `source.open_source` makes one from a `.yuv`, `.y4m`, video or image file,
`source.open_sources` from all files of a folder, and `source.open_writer` writes `.yuv` and `.y4m`.

| module | what it knows |
| --- | --- |
| `frame` | one uncompressed picture and the format that a sequence shares |
| `source` | any file or folder as sequences; writers by suffix |
| `yuv`, `y4m`, `video`, `images` | one kind of file each |
| `containers`, `pixel_formats` | what a video's container says; what its pictures become |
| `catalogue` | the sequences of the JVET common test conditions and their classes |
| `listing` | the files of a folder that a command takes, and those in an archive |
| `cifar` | CIFAR-10 from each of its forms; `download` fetches it and the Kodak images |
| `metrics` | PSNR, SSIM and MS-SSIM of planes, pictures and sequences against their originals |

Sample values are never changed on reading or writing. RGB becomes BT.709 limited-range YUV; `images` states
the chroma filters. Bad files and options raise the errors of `vvc_nnr.errors`.
"""

if __name__ != "vvc_nnr.sequences":
    raise ImportError("import vvc_nnr.sequences, not sequences (run: pip install -e .)")
