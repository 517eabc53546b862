"""Batch norms folded into the layers before them, in torch modules and ONNX graphs."""
