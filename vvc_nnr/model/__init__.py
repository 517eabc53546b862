"""Adaptors between model files and named tensors."""
