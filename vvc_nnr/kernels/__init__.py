"""The checked door in front of the C++ kernels: arrays in, levels and payloads out."""
