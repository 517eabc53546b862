"""Units, headers and manifests of NNC bitstreams (ISO/IEC 15938-17), read and written; knows no tensor values."""
